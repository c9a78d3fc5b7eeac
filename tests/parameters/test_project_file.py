"""imgclf.toml: values are checked, comments stay, and damage is named with its line."""

import threading
import tomllib
from pathlib import Path

import pytest

from imgclf import ImgclfError, files
from imgclf.parameters import PARAMETERS, project_file


@pytest.fixture
def toml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The imgclf.toml of a new project, which is the working directory."""
    path = tmp_path / "fruit" / files.PROJECT_FILE
    path.parent.mkdir()
    path.write_text(project_file.new({"dataset_name": "fruit"}), encoding="utf-8")
    monkeypatch.chdir(path.parent)
    return path


def test_without_a_project_there_are_no_values(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert project_file.read() == {}
    with pytest.raises(
        ImgclfError,
        match=r"^no imgclf\.toml in this folder or above it; make a project with imgclf new FOLDER",
    ):
        project_file.change({"seed": 3})


def test_a_new_file_names_each_parameter_with_meaning_and_default_and_sets_what_is_given(toml):
    text = toml.read_text()
    assert project_file.read() == {"dataset_name": "fruit"}
    for parameter in PARAMETERS.values():
        assert f"# {parameter.meaning}\n" in text
    everything = "".join(f"{line.removeprefix('# ')}\n" for line in text.splitlines() if " = " in line)
    assert tomllib.loads(everything) == {
        **{name: parameter.default for name, parameter in PARAMETERS.items()},
        "dataset_name": "fruit",
    }


def test_a_value_is_set_where_its_comment_stands_and_all_other_lines_stay(toml):
    before = toml.read_text().splitlines()
    assert project_file.change({"epochs": 9, "svm_c": [0.5, 2.0], "augment": False, "optimizer": "sgd"})
    after = toml.read_text().splitlines()
    assert [(old, new) for old, new in zip(before, after, strict=True) if old != new] == [
        ("# epochs = 5", "epochs = 9"),
        ('# optimizer = "adamw"', 'optimizer = "sgd"'),
        ("# augment = true", "augment = false"),
        ("# svm_c = [0.0001, 0.001, 0.01, 0.1, 1.0, 10.0, 100.0]", "svm_c = [0.5, 2.0]"),
    ]
    assert not project_file.change({"epochs": 9})


def test_comments_of_a_person_stay(toml):
    toml.write_text(
        "# mine\ndataset_name = 'fruit' # ours\n\n#epochs = 7  # Anna\n"
        "learning_rate = [  # schedule\n  0.1,\n  0.01,\n] # rates\n"
    )
    project_file.change({"epochs": 9, "learning_rate": [0.5], "dataset_name": 'a "b" ü'})
    assert toml.read_text() == (
        '# mine\ndataset_name = "a \\"b\\" ü" # ours\n\nepochs = 9  # Anna\nlearning_rate = [0.5] # rates\n'
    )
    project_file.change({"seed": 4})
    assert toml.read_text().splitlines()[-1] == "seed = 4"


def test_defaults_make_comments_of_all_values_but_those_that_name_the_images(toml):
    before = toml.read_text()
    project_file.change({"epochs": 9, "svm_c": [0.5], "grid": "seed: 1, 2"})
    project_file.change(None)
    assert toml.read_text() == before


def test_lines_of_windows_and_a_byte_order_mark_are_read(toml):
    toml.write_bytes(b"\xef\xbb\xbf# mine\r\n# epochs = 5\r\nseed = 3\r\n")
    assert project_file.read() == {"seed": 3}
    project_file.change({"epochs": 9})
    assert toml.read_bytes() == b"# mine\r\nepochs = 9\r\nseed = 3\r\n"


def test_relative_paths_are_those_from_the_project(toml, monkeypatch, tmp_path):
    (toml.parent / "pictures").mkdir()
    toml.write_text('dataset_name = "fruit"\nimages_dir = "pictures"\nbackbone = "~/net.onnx"\n')
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(toml.parent / "pictures")
    assert project_file.read() == {
        "dataset_name": "fruit",
        "images_dir": str(toml.parent / "pictures"),
        "backbone": str(tmp_path / "net.onnx"),
    }
    project_file.change({"images_dir": str(toml.parent / "pictures" / "new")})
    assert tomllib.loads(toml.read_text())["images_dir"] == "pictures/new"


def test_a_model_of_the_hub_keeps_its_name(toml):
    project_file.change({"backbone": "hf/facebook/dinov2-small@main#mean"})
    assert project_file.read()["backbone"] == "hf/facebook/dinov2-small@main#mean"


def test_a_number_stands_for_a_list_a_text_or_a_float(toml):
    toml.write_text("learning_rate = 0.001\ntrainable_stages = 2\ndropout = 0\ndataset_name = 2024\n")
    values = project_file.read()
    assert values == {
        "learning_rate": [0.001],
        "trainable_stages": "2",
        "dropout": 0.0,
        "dataset_name": "2024",
    }
    assert isinstance(values["dropout"], float)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"seed = 1\nepoch = 3", r", line 2: unknown parameter 'epoch' \(did you mean epochs\?\); "),
        (b"\n\nseed = 'x'", r", line 3: seed='x': must be a whole number at least 0; correct it there"),
        (b"seed = 1.5", r", line 1: seed=1\.5: must be a whole number"),
        (b"seed = 2000-01-01", r", line 1: seed=datetime\.date"),
        (b"epochs = -1", r", line 1: epochs=-1: must be a whole number at least 0 and at most 1000"),
        (b"weight_decay = inf", r", line 1: weight_decay=inf: must be a number at least 0"),
        (b"dropout = nan", r", line 1: dropout=nan: must be a number"),
        (b"dropout = 1" + b"0" * 400, r", line 1: .*too large.*; correct it there"),
        (b"[training]\nepochs = 3", r", line 1: unknown parameter 'training'"),
        (b"a.b = 3", r": unknown parameter 'a'"),
        (
            b"learning_rate = 0,1",
            r": Expected newline .*at line 1, column 18\); .* numbers with a decimal point",
        ),
        (
            b"classifier = dnn",
            r": Invalid value \(at line 1, column 14\); correct it there: .*quotation marks",
        ),
        (b"seed = 1\nseed = 2", r": Cannot overwrite a value"),
        (b"dataset_name = '\xfc'", r": not UTF-8 at byte 16; save it as UTF-8"),
        (b"\xff\xfes\0e\0", r": not UTF-8 at byte 0"),
        (b"seed = " + b"1" * 5000, r": .*digits"),
        (b"x = " + b"[" * 5000, r"imgclf\.toml: "),
        (b"dataset_name = 'a/b'", r", line 1: dataset_name='a/b': must be the name of one folder"),
    ],
)
def test_damage_is_named_with_file_and_line_and_nothing_is_written(toml, content, message):
    toml.write_bytes(content)
    for use in (project_file.read, lambda: project_file.change({"classifier": "svm_dnn_refined"})):
        with pytest.raises(ImgclfError, match=message):
            use()
    assert toml.read_bytes() == content


def test_set_corrects_a_wrong_value(toml):
    toml.write_text("seed = 'x'\n")
    project_file.change({"seed": 3})
    assert toml.read_text() == "seed = 3\n"


def test_a_pipe_or_a_large_file_is_refused(toml):
    toml.write_bytes(b"#" * 2 * project_file.MOST_BYTES)
    with pytest.raises(ImgclfError, match="more than 1,048,576 bytes"):
        project_file.read()


def test_images_with_the_name_of_the_demo_set_are_refused(toml):
    toml.write_text("")
    with pytest.raises(ImgclfError, match="dataset_name is still 'fashion_texture', the demo set"):
        project_file.change({"images_dir": "/pictures/fruit"})


def test_a_file_that_lacks_parameters_gets_them_as_comments(toml):
    whole = toml.read_text()
    start = whole.index("\n# passes over the training images")
    toml.write_text(whole[:start] + whole[whole.index("\n# images per gradient step") :])
    assert project_file.add_missing(toml.parent) == ["epochs"]
    assert toml.read_text().endswith("; default 5\n# epochs = 5\n")
    assert project_file.add_missing(toml.parent) == []
    assert project_file.read() == {"dataset_name": "fruit"}


@pytest.mark.parametrize(
    "change", [lambda: project_file.change({"seed": 3}), lambda: project_file.add_missing(Path())]
)
def test_a_change_waits_for_another_one_and_keeps_it(toml, change):
    toml.write_text("epochs = 5\n")
    held = files.acquire(toml.parent / ".imgclf.toml.lock", seconds=0)
    thread = threading.Thread(target=change)
    thread.start()
    thread.join(0.3)
    is_waiting = thread.is_alive()
    toml.write_text("epochs = 9\n")
    held.release()
    thread.join()
    assert is_waiting
    assert toml.read_text().startswith("epochs = 9\n") and "seed = " in toml.read_text()
