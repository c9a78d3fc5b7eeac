"""The parameters, and that the notebooks hold exactly those of the list."""

import re
import subprocess
import sys
from pathlib import Path

import nbformat
import papermill
import pytest

from imgclf import ImgclfError, parameters
from imgclf.experiments import notebooks
from imgclf.finetuning.recipe import Recipe
from imgclf.parameters import PARAMETERS

NOTEBOOKS = notebooks.paths()
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def notebook(folder: Path, source: str, *, tag: str = notebooks.TAG) -> Path:
    """A notebook whose only cell is this one, tagged."""
    cell = nbformat.v4.new_code_cell(source, metadata={"tags": [tag]})
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), folder / "07_own.ipynb")
    return folder / "07_own.ipynb"


def test_there_are_notebooks_for_all_numbers():
    assert [path.name[:2] for path in NOTEBOOKS] == list(parameters.ALL)


@each_notebook
def test_second_cell_of_each_notebook_is_its_parameters_cell(path):
    cells = nbformat.read(path, as_version=4).cells
    tagged = [i for i, cell in enumerate(cells) if notebooks.TAG in cell.metadata.get("tags", [])]
    assert tagged == [1]
    assert cells[1].source == notebooks.cell_source(path.name[:2])


@each_notebook
def test_papermill_shows_each_parameter_with_its_meaning(path):
    shown = papermill.inspect_notebook(path)
    taken = parameters.for_notebook(path.name[:2])
    assert {name: row["help"] for name, row in shown.items()} == {p.name: p.meaning for p in taken}
    assert {name: row["inferred_type_name"] for name, row in shown.items()} == {p.name: p.type for p in taken}


@pytest.mark.parametrize("parameter", PARAMETERS.values(), ids=lambda parameter: parameter.name)
def test_each_default_is_allowed_and_has_a_meaning_on_one_line(parameter):
    assert parameters.check(parameter.name, parameter.default) == parameter.default
    assert parameter.meaning
    assert "\n" not in parameter.meaning
    assert set(parameter.notebooks) <= set(parameters.ALL)


@pytest.mark.parametrize(
    ("assignment", "value"),
    [
        ("dataset_name=my fruit", "my fruit"),
        ("train_fraction=0.8", 0.8),
        ("seed=3", 3),
        ("l2_normalize=False", False),
        ("l2_normalize=true", True),
        ("svm_c=0.1,1", [0.1, 1]),
        ("svm_c=[1, 10]", [1, 10]),
        ("svm_c=5", [5]),
        ("learning_rate=[0.01]*2 + [0.001]*1+[0.0001]", [0.01, 0.01, 0.001, 0.0001]),
        ("classifier=svmDnnRefined", "svm_dnn_refined"),
        ("evaluate_on=train", "train"),
        ("near_duplicates=left out", "left out"),
        ("images_dir=", ""),
    ],
)
def test_parse_returns_values_of_the_right_type(assignment, value):
    (found,) = parameters.parse([assignment]).values()
    assert found == value
    assert type(found) is type(value)


def test_a_value_may_hold_an_equals_sign():
    assert parameters.parse(["dataset_name=a=b"]) == {"dataset_name": "a=b"}


def test_images_dir_becomes_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert parameters.parse(["images_dir=fruit"]) == {"images_dir": str(tmp_path / "fruit")}


@pytest.mark.parametrize("name", ["own.onnx", "my nets/own.pth"])
def test_path_of_a_backbone_becomes_absolute_and_a_name_stays(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert parameters.parse([f"backbone={name}"]) == {"backbone": str(tmp_path / name)}
    assert parameters.parse(["backbone=resnet18"]) == {"backbone": "resnet18"}


@pytest.mark.parametrize(
    "name",
    [
        "hf/facebook/dinov2-small",
        "hf/google/siglip2-base-patch16-224@main",
        "hf/timm/vit_small_patch16_224.augreg_in21k",
        "hf/a/b@refs/pr/12",
        "hf/a/b@v1.0#mean",
        "hf/0x/1-2_3.4@75baac5eabd5e0e1b3a3d2ba1b0e1e6b3f1c2d4e",
    ],
)
def test_a_model_of_the_hub_is_a_backbone(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert parameters.parse([f"backbone={name}"]) == {"backbone": name}


@pytest.mark.parametrize(
    "name",
    [
        "hf/",
        "hf/onlyname",
        "hf/../..",
        "hf/a/..",
        "hf/a/b/c",
        "hf/a/b c",
        " hf/a/b",
        "hf/a/b ",
        "hf/a/b\n",
        "hf/a/b@",
        "hf/a/b@../c",
        "hf/a/b@v/../c",
        "hf/a/b@/c",
        "hf/a/b#",
        "hf/a/b#max",
        "hf/a\\b/c",
        "hf//b",
        "hf/a/ü",
        "HF/a/b",
        "hf/.git/b",
        "https://huggingface.co/a/b",
    ],
)
def test_a_wrong_name_of_a_model_of_the_hub_is_refused_with_the_right_form(name):
    expected = "or a model of the Hugging Face Hub as hf/OWNER/NAME, hf/OWNER/NAME@REVISION, or one of them with #mean"
    with pytest.raises(
        ImgclfError, match=f"^backbone={re.escape(repr(name))}: must be one of .*, {expected}"
    ):
        parameters.check("backbone", name)


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        (
            "backbone=alexnet",
            "backbone='alexnet': must be one of efficientnet_lite0, efficientnet_lite1, resnet18, resnet34, resnet50, mobilenet_v3_large, efficientnet_v2_s, convnext_tiny, or a path ending in .onnx or .pth or .model, or a model of the Hugging Face Hub as hf/OWNER/NAME, hf/OWNER/NAME@REVISION, or one of them with #mean",
        ),
        ("engine=own.onnx", "engine='own.onnx': must be one of openvino, onnxruntime, cntk"),
        (
            "epocs=3",
            "unknown parameter 'epocs' (did you mean epochs?); the parameters are dataset_name, images_dir",
        ),
        ("walk=3", "unknown parameter 'walk'; the parameters are dataset_name, images_dir, objects"),
        ("train_fraction", "'train_fraction' is not NAME=VALUE"),
        ("train_fraction=much", "train_fraction='much': must be a number at least 0.01 and at most 0.99"),
        ("train_fraction=1.5", "train_fraction=1.5: must be a number at least 0.01 and at most 0.99"),
        ("seed=-1", "seed=-1: must be a whole number at least 0"),
        ("seed=1.5", "seed=1.5: must be a whole number at least 0"),
        ("seed=True", "seed=True: must be a whole number at least 0"),
        ("l2_normalize=yes", "l2_normalize='yes': must be True or False"),
        ("engine=torch", "engine='torch': must be one of openvino, onnxruntime"),
        ("svm_c=", "svm_c=[]: must be comma-separated numbers above 0"),
        ("svm_c=1,x", "svm_c='1,x': must be comma-separated numbers above 0"),
        ("learning_rate=[0.1]*100000", "learning_rate='[0.1]*100000': must be comma-separated numbers"),
        ("learning_rate=[0.1]*[2]", "learning_rate='[0.1]*[2]': must be comma-separated numbers"),
        ("learning_rate=0", "learning_rate=[0]: must be comma-separated numbers above 0"),
        ("svm_c=1,-1", "svm_c=[1, -1]: must be comma-separated numbers above 0"),
        ("input_size=16", "input_size=16: must be 0, or a whole number at least 32 and at most 2048"),
    ],
)
def test_a_wrong_assignment_is_refused_with_the_allowed_values(assignment, message):
    with pytest.raises(ImgclfError, match=re.escape(message)):
        parameters.parse([assignment])


def test_a_parameter_that_is_given_twice_is_refused():
    with pytest.raises(
        ImgclfError, match=r"^seed is given twice, the second time as 'seed=2'; give it once$"
    ):
        parameters.parse(["seed=1", "epochs=3", "seed=2"])


@pytest.mark.parametrize(
    ("name", "value"),
    [("dataset_name", 3), ("svm_c", 1.0), ("svm_c", ["1"]), ("l2_normalize", 1), ("seed", None)],
)
def test_check_refuses_a_wrong_type(name, value):
    with pytest.raises(ImgclfError, match=f"{name}=.*: must be "):
        parameters.check(name, value)


def test_announce_prints_what_differs_from_the_defaults(capsys):
    parameters.announce({"seed": 3, "train_fraction": 0.75, "dataset_name": "fruit", "other": object()})
    assert capsys.readouterr().out == "dataset_name = 'fruit' (this notebook)\nseed = 3 (this notebook)\n"
    parameters.announce({"seed": 0})
    assert capsys.readouterr().out == "all parameters have their defaults\n"


def test_announce_replaces_the_tutorials_synonyms(capsys):
    namespace = {"classifier": "svmDnnRefined"}
    parameters.announce(namespace)
    assert (
        namespace["classifier"] == "svm_dnn_refined"
        and capsys.readouterr().out == "classifier = 'svm_dnn_refined' (this notebook)\n"
    )


def test_announce_refuses_values_that_are_not_allowed():
    with pytest.raises(ImgclfError, match="precision='f16': must be one of f32, bf16, int8, auto"):
        parameters.announce({"precision": "f16"})


@pytest.mark.parametrize("text", ["fruit", 'a "quoted" name', "back\\slash", "two\nlines", "äpfel 緑", ""])
def test_parameters_cell_round_trip_of_any_text(text, tmp_path):
    source = notebooks.cell_source("00", {"dataset_name": text})
    assert notebooks.read(notebook(tmp_path, source))["dataset_name"] == text
    assert len(source.splitlines()) == len(parameters.for_notebook("00"))


def test_parameters_cell_is_read_with_or_without_types(tmp_path):
    path = notebook(
        tmp_path, "# mine\nseed = 3\nsvm_c: list[float] = [0.1, 1]  # more\n\ndataset_name = 'fruit'"
    )
    assert notebooks.read(path) == {"seed": 3, "svm_c": [0.1, 1], "dataset_name": "fruit"}


def test_a_learning_rate_schedule_written_as_in_the_tutorial_is_read(tmp_path):
    path = notebook(tmp_path, "learning_rate = [0.001]*2 + [0.0001]*2 + [0.00001]")
    assert notebooks.read(path) == {"learning_rate": [0.001, 0.001, 0.0001, 0.0001, 0.00001]}


@pytest.mark.parametrize(
    "line",
    [
        "seed: int = 1 + other",
        "seed: int",
        "seed, other = 1, 2",
        "seed = other = 1",
        "print(3)",
        "seed = = 3",
        "seed += 1",
        "seed = max(1, 2)",
        "import os",
        "%autoreload",
    ],
)
def test_a_cell_with_another_line_names_the_notebook(line, tmp_path):
    with pytest.raises(
        ImgclfError,
        match=r"^07_own\.ipynb: its parameters cell has a line that is not NAME = VALUE; write each parameter as NAME = VALUE$",
    ):
        notebooks.read(notebook(tmp_path, f"dataset_name = 'fruit'\n{line}"))


def test_a_notebook_without_a_parameters_cell_is_named(tmp_path):
    with pytest.raises(ImgclfError, match=r"^07_own\.ipynb: no cell has the tag 'parameters'; "):
        notebooks.read(notebook(tmp_path, "seed = 3", tag="another"))


def test_from_namespace_can_omit_one_parameter():
    namespace = {"seed": 3, "dataset_name": "fruit", "other": object()}
    assert parameters.from_namespace(namespace) == {"seed": 3, "dataset_name": "fruit"}
    assert parameters.from_namespace(namespace, without="seed") == {"dataset_name": "fruit"}


def test_images_dir_with_the_name_of_the_demo_set_is_refused():
    with pytest.raises(
        ImgclfError,
        match="images_dir is given, but dataset_name is still 'fashion_texture', the demo set; give your images a name: dataset_name=fruit",
    ):
        parameters.announce({"dataset_name": "fashion_texture", "images_dir": "/pictures/fruit"})
    parameters.announce({"dataset_name": "fruit", "images_dir": "/pictures/fruit"})


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("epocs", "epochs"),
        ("dataset-name", "dataset_name"),
        ("Dataset_Name", "dataset_name"),
        ("datasetName", "dataset_name"),  # in the tutorial
        ("rf_maxEpochs", "epochs"),
        ("lerning_rate", "learning_rate"),
        ("image_dir", "images_dir"),
    ],
)
def test_a_mistyped_parameter_is_answered_with_the_nearest(typed, meant):
    with pytest.raises(
        ImgclfError, match=rf"unknown parameter '{typed}' \(did you mean {meant}\?\); the para"
    ):
        parameters.check(typed, 1)


@pytest.mark.parametrize(
    ("name", "typed", "meant"),
    [("engine", "openvno", "openvino"), ("classifier", "SVM", "svm"), ("backbone", "resnet-18", "resnet18")],
)
def test_a_mistyped_value_is_answered_with_the_nearest(name, typed, meant):
    with pytest.raises(
        ImgclfError, match=rf"{name}='{typed}': must be one of .* \(did you mean {meant}\?\)$"
    ):
        parameters.check(name, typed)


@pytest.mark.parametrize(
    ("name", "value", "remedy"),
    [
        ("dataset_name", 2024, "must be text; with papermill, -r dataset_name 2024 gives it as text"),
        ("trainable_stages", 2, "; with papermill, -r trainable_stages 2 gives it as text"),
        ("svm_c", 0.1, 'above 0; with papermill, -y "svm_c: [0.1]" gives a list'),
    ],
)
def test_a_value_that_papermill_took_for_a_number_has_a_remedy(name, value, remedy):
    with pytest.raises(ImgclfError) as caught:
        parameters.check(name, value)
    assert str(caught.value).startswith(f"{name}={value}: must be ") and str(caught.value).endswith(remedy)


def test_the_remedies_work_in_papermill(tmp_path):
    path = next(path for path in notebooks.paths() if path.name.startswith("01"))
    command = [sys.executable, "-m", "papermill", "--prepare-only", path, tmp_path / "01.ipynb"]
    subprocess.run([*command, "-r", "dataset_name", "2024"], check=True, capture_output=True)
    assert 'dataset_name = \\"2024\\"' in (tmp_path / "01.ipynb").read_text()


@pytest.mark.parametrize(
    ("name", "value", "others", "why"),
    [
        ("epochs", 9, {"classifier": "svm"}, "classifier = 'svm'"),
        ("epochs", 9, {"classifier": "dnn"}, ""),
        ("dropout", 0.5, {"classifier": "svm_dnn_refined", "epochs": 0}, "epochs = 0"),
        ("dropout", 0.5, {"classifier": "svm_dnn_refined", "epochs": 3}, ""),
        ("momentum", 0.5, {"classifier": "dnn", "epochs": 1, "optimizer": "adamw"}, ""),
        ("svm_c", [1.0], {"classifier": "dnn"}, "classifier = 'dnn'"),
        ("l2_normalize", False, {"classifier": "svm"}, ""),
        ("seed", 4, {"classifier": "svm", "epochs": 0}, ""),
        ("epochs", 9, {}, ""),
    ],
)
def test_a_parameter_without_effect_is_said_to_have_none(name, value, others, why, capsys):
    values = {name: value, **others}
    sentence = f"{name} = {value!r} has no effect on the classifier with {why}" if why else ""
    assert parameters.idle(name, values) == sentence
    parameters.announce(values)
    shown = f"{name} = {value!r} (this notebook)" + sentence.removeprefix(f"{name} = {value!r}")
    assert shown in capsys.readouterr().out.splitlines()


def test_parameters_of_fine_tuning_need_a_fine_tuned_network():
    fine_tuning = set(Recipe.__dataclass_fields__) & set(PARAMETERS) - {"seed"}
    assert {p.name for p in PARAMETERS.values() if "svm" in p.idle_with.get("classifier", ())} == fine_tuning


def injected(tmp_path: Path, number: str, **values) -> dict:
    """The globals of a notebook when it announces its parameters, after papermill has prepared it."""
    path = next(path for path in notebooks.paths() if path.name.startswith(number))
    prepared = papermill.execute_notebook(path, tmp_path / "out.ipynb", values, prepare_only=True)
    cells = [cell.source for cell in prepared.cells if cell.cell_type == "code"]
    namespace: dict = {}
    exec("\n".join(cells[:2]), namespace)
    return namespace | {"In": ["", *cells[:3]]}


@pytest.mark.filterwarnings("ignore:Passed unknown parameter")
@pytest.mark.parametrize(
    ("number", "values", "message"),
    [
        (
            "02",
            {"epoch": 3},
            r"parameter 'epoch': this notebook has none of that name \(did you mean epochs\?\); it",
        ),
        ("02", {"walk": 3}, r"parameter 'walk': this notebook has none of that name; it has dataset_name, "),
        (
            "05",
            {"epochs": 3},
            r"parameter 'epochs': this notebook has none of that name \(it is one of 02\); it",
        ),
    ],
)
def test_a_name_that_papermill_injects_in_vain_is_refused(tmp_path, number, values, message):
    with pytest.raises(ImgclfError, match=f"^{message}"):
        parameters.announce(injected(tmp_path, number, **values))


def test_names_that_papermill_injects_and_cells_that_ran_are_accepted(tmp_path, capsys):
    namespace = injected(tmp_path, "02", epochs=3, classifier="dnn")
    namespace["In"] += [
        "%matplotlib inline",
        "dataset_name = 'x'\nprint(1)",
        "sizes = [1]",
        "parameters.announce()",
    ]
    parameters.announce(namespace)
    assert capsys.readouterr().out == "classifier = 'dnn' (-p)\nepochs = 3 (-p)\n"


def test_a_misspelt_name_in_the_parameters_cell_is_refused():
    cell = notebooks.cell_source("02") + "\nepoch = 3"
    with pytest.raises(ImgclfError, match=r"^parameter 'epoch': .* \(did you mean epochs\?\)"):
        parameters.announce({"epoch": 3, "epochs": 5, "In": ["", cell]})


def test_a_corrected_parameters_cell_is_accepted_in_the_same_kernel():
    cell = notebooks.cell_source("02")
    injected = ["# Parameters\nepoch = 3\n", "# Parameters\nepochs = 3\n"]
    parameters.announce({"In": ["", cell + "\nepoch = 3", cell]})
    parameters.announce({"In": ["", cell, injected[0], cell, injected[1]]})
    with pytest.raises(ImgclfError, match="^parameter 'epoch'"):
        parameters.announce({"In": ["", cell, cell + "\nepoch = 3"]})


def test_a_scratch_cell_that_sets_the_name_of_a_data_set_is_accepted():
    parameters.announce({"In": ["", notebooks.cell_source("02"), 'dataset_name = "x"; folder = 3']})


@pytest.mark.parametrize("value", ["", "local:12", "tcp://10.0.0.1:8786", "tls://node-1.example.org:8786"])
def test_a_cluster_is_an_address_or_a_number_of_processes(value):
    assert parameters.check("cluster", value) == value


@pytest.mark.parametrize(
    "value", ["10.0.0.1:8786", "local:0", "local:", "tcp://host", "http://host:8786", "tcp://a b:1"]
)
def test_what_is_no_cluster_is_refused_with_the_forms_that_are_allowed(value):
    with pytest.raises(
        ImgclfError, match=r"^cluster='.*': must be empty, local:N for N processes, or tcp://HOST:PORT"
    ):
        parameters.check("cluster", value)
