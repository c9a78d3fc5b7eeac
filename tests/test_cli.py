"""The command line: quick to answer, one line for what a person can mend, and the promised exit codes."""

import json
import shutil
import subprocess
import sys
import time
from dataclasses import replace

import pytest
from click.testing import CliRunner, Result

from imgclf import __version__, cli, parameters, svm
from imgclf.experiments import notebooks
from imgclf.images import decoding
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


def imgclf(*arguments: object) -> Result:
    return CliRunner().invoke(cli.main, list(map(str, arguments)))


def refusal(*arguments: object) -> str:
    """The one line on stderr of a command that ends with exit code 1; `predict` says before with which classifier."""
    result = imgclf(*arguments)
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    (line,) = (line for line in result.stderr.splitlines() if not line.startswith("with "))
    assert line.startswith("imgclf: ")
    return line


@pytest.fixture
def model(tiny_network, colour_folder):
    return trained(tiny_network, colour_folder)


def test_help_comes_in_less_than_a_second():
    seconds = []
    for _ in range(4):  # the quickest: other processes may be at work
        start = time.perf_counter()
        shown = subprocess.run(
            [shutil.which("imgclf", path=sys.prefix + "/bin") or "imgclf", "--help"],
            capture_output=True,
            text=True,
            check=True,
        )
        seconds.append(time.perf_counter() - start)
        if seconds[-1] < 1:
            break
    assert min(seconds) < 1
    assert "Run the notebooks in order." in shown.stdout


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


def test_there_are_the_promised_commands():
    assert {"run", "set", "parameters", "predict", "verify"} <= set(cli.main.commands)


def test_version_is_told():
    assert imgclf("--version").stdout.strip().endswith(__version__)


@pytest.mark.parametrize("command", [["run", "-p"], ["set"]])
def test_unknown_parameter_is_refused_and_the_known_are_listed(command):
    line = refusal(*command, "epocs=3")
    assert line.startswith("imgclf: unknown parameter 'epocs'; the parameters are ")
    assert all(name in line for name in parameters.PARAMETERS)


def test_unknown_parameter_leaves_no_traceback_in_a_real_process():
    code = "import sys; sys.argv = ['imgclf', 'set', 'epocs=3']; from imgclf.cli import main; main()"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (1, "", 1)


@pytest.mark.parametrize(
    "arguments",
    [["set", "seed"], ["set", "seed=much"], ["run", "-p", "train_fraction=2"], ["run", "--from", "42"]],
)
def test_wrong_values_end_with_one_line_and_exit_code_1(arguments):
    refusal(*arguments)


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
def test_wrong_use_ends_with_exit_code_2(arguments):
    result = imgclf(*arguments)
    assert result.exit_code == 2
    assert "Error: " in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize("start", ["42", "03_run", "3_run_dnn", "003", "run_dnn", "-1"])
def test_from_a_notebook_that_there_is_not_lists_those_there_are(start):
    assert refusal("run", f"--from={start}") == (
        f"imgclf: --from {start}: no such notebook; there are 00_get_images, 01_prepare_data, "
        "02_refine_dnn, 03_run_dnn, 04_train_svm, 05_evaluate"
    )


@pytest.mark.parametrize("start", ["3", "03", "03_run_dnn", "03_run_dnn.ipynb"])
def test_from_takes_the_number_or_the_name_and_starts_there(start, tmp_path, monkeypatch):
    copies = shutil.copytree(notebooks.NOTEBOOKS, tmp_path / "notebooks", ignore=shutil.ignore_patterns(".*"))
    monkeypatch.setattr(notebooks, "NOTEBOOKS", copies)
    edited = (
        (copies / "03_run_dnn.ipynb")
        .read_text(encoding="utf-8")
        .replace("dataset_name: str =", "dataset_name: str +")
    )
    (copies / "03_run_dnn.ipynb").write_text(edited, encoding="utf-8")
    assert refusal("run", "--from", start) == (
        "imgclf: 03_run_dnn.ipynb: its parameters cell has a line that is not NAME = VALUE; fix it, or run imgclf set --defaults"
    )


def test_parameters_are_listed_with_what_they_may_be():
    lines = imgclf("parameters").stdout.splitlines()
    assert [line.split()[0] for line in lines] == list(parameters.PARAMETERS)
    assert "one of openvino, onnxruntime, cntk" in next(line for line in lines if line.startswith("engine"))


def test_set_tells_what_it_changed_and_defaults_put_it_back(tmp_path, monkeypatch):
    copies = shutil.copytree(notebooks.NOTEBOOKS, tmp_path / "notebooks", ignore=shutil.ignore_patterns(".*"))
    monkeypatch.setattr(notebooks, "NOTEBOOKS", copies)
    assert imgclf("set", "max_images=12").stdout == "changed 00_get_images.ipynb\n"
    assert imgclf("set", "max_images=12").stdout == "nothing to change\n"
    assert imgclf("set", "--defaults").stdout == "changed 00_get_images.ipynb\n"


def test_predict_prints_a_line_an_image(model, colour_folder):
    result = imgclf("predict", "--model", model, colour_folder / "red" / "00.jpg")
    label, score, probability, path = result.stdout.rstrip("\n").split("\t")
    assert (result.exit_code, label, path) == (0, "red", str(colour_folder / "red" / "00.jpg"))
    assert float(score) > 0
    assert probability.endswith("%")


def test_predict_json_is_a_list_with_all_scores(model, colour_folder):
    paths = [colour_folder / "red" / "00.jpg", colour_folder / "blue" / "01.jpg"]
    rows = json.loads(imgclf("predict", "--json", "--model", model, *paths).stdout)
    assert [(row["image"], row["label"]) for row in rows] == [(str(paths[0]), "red"), (str(paths[1]), "blue")]
    for row in rows:
        assert set(row["scores"]) == {"blue", "green", "red"}
        assert row["score"] == row["scores"][row["label"]] == max(row["scores"].values())


def test_predict_takes_the_newest_classifier_by_itself(model, colour_folder, data_dir):
    (data_dir / "proc" / "colours").mkdir(parents=True, exist_ok=True)
    shutil.copy(model, data_dir / "proc" / "colours" / "classifier.onnx")
    result = imgclf("predict", colour_folder / "red" / "00.jpg")
    assert result.stdout.startswith("red\t")
    assert result.stderr == f"with {data_dir / 'proc' / 'colours' / 'classifier.onnx'}\n"


def test_predict_on_a_folder_skips_a_bad_image_and_says_so(model, tmp_path):
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "bad.jpg").write_bytes(b"this is no image")
    (tmp_path / "new" / "good.jpg").write_bytes(decoding.jpeg(picture(COLOURS["green"], seed=7)))
    result = imgclf("predict", "--json", "--model", model, tmp_path / "new")
    assert result.exit_code == 0
    assert [row["label"] for row in json.loads(result.stdout)] == ["green"]
    assert (
        result.stderr
        == f"with {model}\nskipped {tmp_path / 'new' / 'bad.jpg'}: not an image that can be read; replace or delete it\n"
    )


def test_predict_with_bad_images_only_ends_with_exit_code_1(model, tmp_path):
    (tmp_path / "bad.jpg").write_bytes(b"this is no image")
    result = imgclf("predict", "--json", "--model", model, tmp_path / "bad.jpg")
    assert (result.exit_code, json.loads(result.stdout)) == (1, [])
    assert result.stderr.splitlines()[-1] == "imgclf: none of the images could be read"


def test_predict_without_a_classifier_says_what_to_do(colour_folder):
    assert "no classifier.onnx yet; run the notebooks first, or name one with --model" in refusal(
        "predict", colour_folder
    )


def test_predict_with_a_file_that_is_no_classifier_is_refused(tiny_network, colour_folder):
    assert "not a classifier that imgclf wrote" in refusal("predict", "--model", tiny_network, colour_folder)


def test_predict_on_a_path_that_is_not_there_is_refused(model, tmp_path):
    assert (
        refusal("predict", "--model", model, tmp_path / "gone")
        == f"imgclf: {tmp_path / 'gone'}: no such file or folder"
    )


def test_verify_agrees_with_exit_code_0(model, colour_folder):
    result = imgclf("verify", model, colour_folder)
    assert result.exit_code == 0
    assert [line.split(":")[0] for line in result.stdout.splitlines()] == ["agrees"] * 5


def test_verify_disagrees_with_exit_code_1(model, colour_folder):
    head = svm.read(model.with_name("svm.npz"))
    svm.write(replace(head, weights=head.weights * 2), model.with_name("svm.npz"))
    result = imgclf("verify", model, colour_folder / "red")
    assert result.exit_code == 1
    assert [line.split(":")[0] for line in result.stdout.splitlines()] == ["agrees"] * 3 + ["DISAGREES"] * 2
    disagreeing = "; ".join(result.stdout.splitlines()[3:])
    assert result.stderr == f"imgclf: {model}: {disagreeing}; export it again with 04_train_svm\n"
