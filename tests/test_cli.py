"""The command line: short start-up time, errors as one line, and documented exit codes."""

import contextlib
import csv
import fcntl
import json
import os
import pty
import shutil
import struct
import subprocess
import sys
import termios
from dataclasses import replace

import pytest
from click.testing import CliRunner, Result

from imgclf import __version__, cli, parameters, svm
from imgclf.experiments import notebooks
from imgclf.images import decoding
from imgclf.service import server
from imgclf.service.limits import Limits
from support.classifiers import trained
from support.pictures import COLOURS, picture

HEAVY = (
    "torch",
    "openvino",
    "onnxruntime",
    "onnx",
    "sklearn",
    "bqplot",
    "ipywidgets",
    "mlflow",
    "cv2",
    "pandas",
    "matplotlib",
    "dask",
    "papermill",
)


MAIN = "from imgclf.cli import main; main()"


def imgclf(*arguments: object) -> Result:
    return CliRunner().invoke(cli.main, list(map(str, arguments)))


def error_line(*arguments: object) -> str:
    """Return the error line on stderr of a command that exits with code 1; `predict` also prints the classifier."""
    result = imgclf(*arguments)
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    (line,) = (line for line in result.stderr.splitlines() if not line.startswith("using "))
    assert line.startswith("imgclf: ")
    return line


@pytest.fixture
def model(tiny_network, colour_folder):
    return trained(tiny_network, colour_folder)


def test_help_takes_less_than_a_second_of_processor_time():
    before = os.times()
    shown = subprocess.run(
        [shutil.which("imgclf", path=sys.prefix + "/bin") or "imgclf", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    after = os.times()
    assert "Run the notebooks in order." in shown.stdout
    assert after.children_user + after.children_system - before.children_user - before.children_system < 1


@pytest.mark.parametrize("module", ["imgclf", "imgclf.cli"])
def test_import_loads_nothing_heavy(module):
    code = f"import sys, {module}; print([name for name in {HEAVY} if name in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        == "[]\n"
    )


@pytest.mark.parametrize("name", cli.main.commands)
def test_help_of_each_command_has_an_example(name):
    shown = imgclf(name, "--help")
    assert shown.exit_code == 0
    assert f"Example: imgclf {name}" in " ".join(shown.stdout.split())


def test_the_documented_commands_exist():
    assert {"run", "set", "parameters", "predict", "verify"} <= set(cli.main.commands)


def test_version_is_printed():
    assert imgclf("--version").stdout.strip().endswith(__version__)


@pytest.mark.parametrize("command", [["run", "-p"], ["set"]])
def test_unknown_parameter_is_refused_with_a_list_of_the_parameters(command):
    line = error_line(*command, "epocs=3")
    assert line.startswith("imgclf: unknown parameter 'epocs' (did you mean epochs?); the parameters are ")
    assert all(name in line for name in parameters.PARAMETERS)


def test_unknown_parameter_prints_no_traceback_in_a_real_process():
    code = "import sys; sys.argv = ['imgclf', 'set', 'epocs=3']; from imgclf.cli import main; main()"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (process.returncode, process.stdout, process.stderr.count("\n")) == (1, "", 1)


@pytest.mark.parametrize(
    "arguments",
    [["set", "seed"], ["set", "seed=much"], ["run", "-p", "train_fraction=2"], ["run", "--from", "42"]],
)
def test_wrong_values_give_one_line_and_exit_code_1(arguments):
    error_line(*arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        ["walk"],
        ["run", "--fast"],
        ["set"],
        ["set", "--defaults", "seed=1"],
        ["predict"],
        ["verify"],
        ["verify", "x.onnx"],
        ["run", "-p"],
        ["parameters", "seed"],
    ],
)
def test_wrong_usage_gives_exit_code_2(arguments):
    result = imgclf(*arguments)
    assert result.exit_code == 2
    assert "Error: " in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize("start", ["42", "03_run", "3_run_dnn", "003", "run_dnn", "-1"])
def test_from_an_unknown_notebook_lists_the_notebooks(start):
    assert error_line("run", f"--from={start}") == (
        f"imgclf: --from {start}: no such notebook; there are 00_get_images, 01_prepare_data, "
        "02_refine_dnn, 03_run_dnn, 04_train_svm, 05_evaluate"
    )


@pytest.mark.parametrize("start", ["3", "03", "03_run_dnn", "03_run_dnn.ipynb"])
def test_from_accepts_the_number_or_the_name_of_a_notebook(start, tmp_path, monkeypatch):
    copies = shutil.copytree(notebooks.NOTEBOOKS, tmp_path / "notebooks", ignore=shutil.ignore_patterns(".*"))
    monkeypatch.setattr(notebooks, "NOTEBOOKS", copies)
    edited = (
        (copies / "03_run_dnn.ipynb")
        .read_text(encoding="utf-8")
        .replace("dataset_name: str =", "dataset_name: str +")
    )
    (copies / "03_run_dnn.ipynb").write_text(edited, encoding="utf-8")
    assert error_line("run", "--from", start) == (
        "imgclf: 03_run_dnn.ipynb: its parameters cell has a line that is not NAME = VALUE; write each parameter as NAME = VALUE"
    )


def test_parameters_are_listed_with_their_allowed_values():
    lines = imgclf("parameters").stdout.splitlines()
    assert [line.split()[0] for line in lines] == list(parameters.PARAMETERS)
    assert "one of openvino, onnxruntime, cntk" in next(line for line in lines if line.startswith("engine"))


def test_predict_prints_one_line_per_image(model, colour_folder):
    result = imgclf("predict", "--model", model, colour_folder / "red" / "00.jpg")
    header, line = result.stdout.splitlines()
    label, score, probability, familiarity, path = line.split("\t")
    assert header == "label\tscore\tprobability\tfamiliarity\timage"
    assert (result.exit_code, label, path) == (0, "red", str(colour_folder / "red" / "00.jpg"))
    assert float(score) > 0 and 0 < float(familiarity) <= 1
    assert probability.endswith("%")


def test_predict_json_prints_a_list_with_all_scores(model, colour_folder):
    paths = [colour_folder / "red" / "00.jpg", colour_folder / "blue" / "01.jpg"]
    rows = json.loads(imgclf("predict", "--json", "--model", model, *paths).stdout)
    assert [(row["image"], row["label"]) for row in rows] == [(str(paths[0]), "red"), (str(paths[1]), "blue")]
    for row in rows:
        assert set(row["scores"]) == {"blue", "green", "red"}
        assert row["score"] == row["scores"][row["label"]] == max(row["scores"].values())


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"LC_ALL": "C"},
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "latin-1"},
        {"PYTHONUTF8": "1"},
    ],
    ids=str,
)
def test_no_name_and_no_locale_keeps_predict_from_printing_all_images(model, tmp_path, environment):
    folder = tmp_path / "new"
    folder.mkdir()
    names = [b"a.jpg", "größe 图.jpg".encode(), b"gr\xfcn.jpg", b"line\nbreak.jpg", b"z.jpg"]
    for name in names:
        (folder / os.fsdecode(name)).write_bytes(decoding.jpeg(picture(COLOURS["green"], seed=7)))
    process = subprocess.run(
        [sys.executable, "-c", MAIN, "predict", "--csv", tmp_path / "labels.csv", "--model", model, folder],
        env={**os.environ, **environment},
        capture_output=True,
        check=False,
        timeout=120,
    )
    assert process.returncode == 0 and b"Traceback" not in process.stderr
    assert [line.split(b"\t")[0] for line in process.stdout.splitlines()[1:]] == [b"green"] * len(names)
    with (tmp_path / "labels.csv").open(encoding="utf-8", newline="") as file:
        assert [row["label"] for row in csv.DictReader(file)] == ["green"] * len(names)


def test_predict_ends_quietly_when_the_reader_of_its_output_has_seen_enough(model, colour_folder):
    pipe = subprocess.Popen(
        [sys.executable, "-c", MAIN, "predict", "--model", model, colour_folder],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert pipe.stdout.readline() == b"label\tscore\tprobability\tfamiliarity\timage\n"
    pipe.stdout.close()
    assert b"Traceback" not in pipe.stderr.read() and pipe.wait(timeout=60) in (0, 1)
    pipe.stderr.close()


def test_predict_overwrites_a_csv_file_only_with_replace(model, colour_folder, tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("old")
    line = error_line("predict", "--csv", path, "--model", model, colour_folder / "red")
    assert line == f"imgclf: {path}: exists already; name another file, or overwrite it with --replace"
    assert path.read_text() == "old"
    assert (
        imgclf("predict", "--replace", "--csv", path, "--model", model, colour_folder / "red").exit_code == 0
    )
    assert len(path.read_text().splitlines()) == 13


def test_predict_sorts_copies_into_folders_of_labels_again_and_again(model, colour_folder):
    before = sorted(colour_folder.rglob("*"))
    inside = colour_folder / "sorted"
    for _ in range(2):
        result = imgclf("predict", "--sort-into", inside, "--model", model, colour_folder)
        assert (result.exit_code, len(result.stdout.splitlines())) == (0, 37)
        names = {path.parent.name for path in inside.rglob("*.jpg")}
        assert names == {"blue", "green", "red"} and len(list(inside.rglob("*.jpg"))) == 36
    assert [
        path for path in sorted(colour_folder.rglob("*")) if inside not in (path, *path.parents)
    ] == before


def test_predict_sorts_images_below_the_threshold_apart(model, colour_folder, tmp_path):
    result = imgclf(
        "predict",
        "--reject-below",
        1,
        "--sort-into",
        tmp_path / "out",
        "--model",
        model,
        colour_folder / "red",
    )
    assert {line.split("\t")[0] for line in result.stdout.splitlines()[1:]} == {"unsure"}
    assert {path.parent.name for path in (tmp_path / "out").rglob("*.jpg")} == {"unsure"}


def test_predict_uses_the_newest_classifier_by_default(model, colour_folder, data_dir):
    (data_dir / "proc" / "colours").mkdir(parents=True, exist_ok=True)
    shutil.copy(model, data_dir / "proc" / "colours" / "classifier.onnx")
    result = imgclf("predict", colour_folder / "red" / "00.jpg")
    assert result.stdout.splitlines()[1].startswith("red\t")
    assert result.stderr == f"using {data_dir / 'proc' / 'colours' / 'classifier.onnx'}\n"


def test_predict_skips_an_unreadable_image_in_a_folder_and_prints_the_reason(model, tmp_path):
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "bad.jpg").write_bytes(b"this is no image")
    (tmp_path / "new" / "good.jpg").write_bytes(decoding.jpeg(picture(COLOURS["green"], seed=7)))
    result = imgclf("predict", "--json", "--model", model, tmp_path / "new")
    assert result.exit_code == 0
    assert [row["label"] for row in json.loads(result.stdout)] == ["green"]
    assert (
        result.stderr
        == f"using {model}\nskipped {tmp_path / 'new' / 'bad.jpg'}: not an image that can be read; replace or delete it\n"
    )


def test_predict_names_the_kinds_of_files_that_it_leaves_out(model, colour_folder):
    for name in ("a.CR2", "b.cr2", "c.mp4", "Thumbs.db", "without"):
        (colour_folder / "red" / name).write_bytes(b"no image")
    result = CliRunner().invoke(cli.main, ["predict", "--model", str(model), str(colour_folder / "red")])
    assert result.exit_code == 0 and len(result.stdout.splitlines()) == 13
    assert result.stderr.splitlines()[-1] == (
        "left out: 2 x .cr2 (a raw photograph of a camera), 1 x .mp4 (a video), 1 x no suffix; "
        "no images that are read"
    )


def test_predict_with_unreadable_images_only_gives_exit_code_1(model, tmp_path):
    (tmp_path / "bad.jpg").write_bytes(b"this is no image")
    result = imgclf("predict", "--json", "--model", model, tmp_path / "bad.jpg")
    assert (result.exit_code, json.loads(result.stdout)) == (1, [])
    assert result.stderr.splitlines()[-1] == "imgclf: none of the images could be read"


def test_predict_without_a_classifier_is_refused(colour_folder):
    assert "no classifier.onnx yet; run the notebooks first, or give the path of one" in error_line(
        "predict", colour_folder
    )


def test_predict_with_another_onnx_file_is_refused(tiny_network, colour_folder):
    assert "not a classifier that imgclf wrote" in error_line(
        "predict", "--model", tiny_network, colour_folder
    )


def test_predict_on_a_missing_path_is_refused(model, tmp_path):
    assert (
        error_line("predict", "--model", model, tmp_path / "gone")
        == f"imgclf: {tmp_path / 'gone'}: no such file or folder"
    )


def test_verify_gives_exit_code_0_if_all_scores_agree(model, colour_folder):
    result = imgclf("verify", model, colour_folder)
    assert result.exit_code == 0
    assert [line.split(":")[0] for line in result.stdout.splitlines()] == ["agrees"] * 5


def test_verify_gives_exit_code_1_if_scores_disagree(model, colour_folder):
    head = svm.read(model.with_name("svm.npz"))
    svm.write(replace(head, weights=head.weights * 2), model.with_name("svm.npz"))
    result = imgclf("verify", model, colour_folder / "red")
    assert result.exit_code == 1
    assert [line.split(":")[0] for line in result.stdout.splitlines()] == ["agrees"] * 3 + ["DISAGREES"] * 2
    disagreeing = "; ".join(result.stdout.splitlines()[3:])
    assert result.stderr == f"imgclf: {model}: {disagreeing}; export it again with 04_train_svm\n"


@pytest.mark.parametrize(
    "command", [["run"], ["run", "--from", "01", "-p", "images_dir=.", "-p", "dataset_name=x"]]
)
def test_an_error_of_the_system_is_one_line(command, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("IMGCLF_DATA", str(tmp_path / "file"))
    assert error_line(*command).endswith("Not a directory; check the path, the disk and your permissions")


@pytest.mark.parametrize(
    ("typed", "meant"), [("predit", "predict"), ("sweeep", "sweep"), ("verfy", "verify")]
)
def test_a_mistyped_command_is_answered_with_the_nearest(typed, meant):
    result = imgclf(typed)
    assert result.exit_code == 2 and f"Did you mean '{meant}'?" in result.stderr


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_parameters_fit_the_terminal_and_are_not_cut(columns):
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}  # pytest sets it
    terminal, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    process = subprocess.Popen([sys.executable, "-c", MAIN, "parameters"], stdout=child, env=environment)
    os.close(child)
    shown = b""
    with contextlib.suppress(OSError):  # EIO: the child has closed its side
        while part := os.read(terminal, 4096):
            shown += part
    os.close(terminal)
    assert process.wait(timeout=60) == 0
    shown_letters = "".join(shown.decode().split())  # without the breaks of lines
    for p in parameters.PARAMETERS.values():
        row = f"{p.name} = {parameters.code(p.default)} {p.meaning}; {p.expected}"
        assert "".join(row.split()) in shown_letters
    widths = [len(line) for line in shown.decode().splitlines() if not line.startswith("svm_c = ")]
    assert max(widths) <= columns


def test_defaults_are_not_cut_when_the_list_is_piped():
    line = next(line for line in imgclf("parameters").stdout.splitlines() if line.startswith("svm_c "))
    assert "[0.0001, 0.001, 0.01, 0.1, 1.0, 10.0, 100.0]" in line


def test_serve_without_options_has_the_limits_of_the_service(model, monkeypatch):
    used = []
    monkeypatch.setattr(server, "serve", lambda *arguments, limits, **settings: used.append(limits))
    assert imgclf("serve", model).exit_code == 0
    assert imgclf("serve", "--max-memory", "160", "--max-megabytes", "64", model).exit_code == 0
    assert used[0] == Limits()
    assert used[1] == replace(
        Limits(), memory_bytes=160_000_000, body_bytes=64_000_000, held_bytes=128_000_000
    )
    assert "159 is not in the range x>=160" in imgclf("serve", "--max-memory", "159", model).stderr


@pytest.mark.parametrize("letter", ["\x1b", "\u202e", "\n"])
def test_a_name_in_an_error_does_not_steer_the_terminal(letter):
    result = CliRunner().invoke(cli.main, ["runs", "show", f"a{letter}]0;title"])
    assert result.exit_code == 1 and letter not in result.stderr.removesuffix("\n")
