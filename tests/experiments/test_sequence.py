"""`imgclf run`: the notebooks through papermill on a small data set, and the failure of one."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
from click.testing import CliRunner

from imgclf import ImgclfError, cli, files, parameters
from imgclf.data import dataset, scan, split
from imgclf.evaluation import report
from imgclf.experiments import notebooks, sequence
from imgclf.images import decoding
from support import cells
from support.evaluations import by_hand
from support.pictures import picture, write_colours

IMGCLF = Path(sys.executable).parent / "imgclf"
FINE_TUNING = {
    "dataset_name": "colours",
    "input_size": 32,
    "svm_c": "0.1,1",
    "backbone": "efficientnet_lite0",
    "epochs": 2,
    "batch_size": 8,
    "trainable_stages": 1,
}


def imgclf_run(start: str, data: Path, timeout: int = 300, **values: Any) -> subprocess.CompletedProcess:
    assignments = [word for name, value in values.items() for word in ("-p", f"{name}={value}")]
    return subprocess.run(
        [IMGCLF, "run", "--from", start, *assignments],
        env={**os.environ, "IMGCLF_DATA": str(data)},
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def figures(data: Path, dataset_name: str = "colours") -> dict[str, Any]:
    return json.loads((data / "proc" / dataset_name / "evaluation.json").read_text())


@dataclass
class Run:
    """The colours after all notebooks, with a fine-tuned network.

    Attributes
    ----------
    images : the files of the data set before the run. data : the data folder after it.
    """

    folder: Path
    images: list[Path]
    data: Path
    command: subprocess.CompletedProcess


@pytest.fixture(scope="module")
def fine_tuned(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One run for several tests; a test that continues it takes `continued`."""
    folder, data = write_colours(tmp_path_factory.mktemp("own") / "colours"), tmp_path_factory.mktemp("data")
    (folder / "unfamiliar").mkdir()  # other things, counted and trained on nowhere
    (folder / "unfamiliar" / "toy.jpg").write_bytes(decoding.jpeg(picture((220, 210, 40), seed=900)))
    images = sorted(folder.rglob("*"))
    command = imgclf_run("01", data, **FINE_TUNING, images_dir=folder, classifier="svmDnnRefined")
    assert command.returncode == 0, command.stderr
    return Run(folder, images, data, command)


@pytest.fixture
def continued(fine_tuned: Run, data_dir: Path) -> Path:
    """$IMGCLF_DATA, a copy of the data folder of the run."""
    return shutil.copytree(fine_tuned.data, data_dir)


@pytest.mark.parametrize(
    ("cells", "given", "warns"),
    [
        ({"images_dir": "/a"}, {"dataset_name": "x"}, True),
        ({"images_dir": "/a"}, {"dataset_name": "x", "images_dir": "/b"}, False),
        ({"images_dir": "/a"}, {}, False),
        ({"images_dir": "/a"}, {"dataset_name": "fashion_texture"}, False),
        ({"images_dir": ""}, {"dataset_name": "x"}, False),
    ],
)
def test_a_run_of_another_data_set_in_the_folder_of_the_cells_is_announced(cells, given, warns):
    usual = {"dataset_name": "fashion_texture"}
    lines = sequence._other_folder({**usual, **cells, **given}, given, usual=usual)
    assert [
        line.startswith("CAREFUL: images_dir is still /a, and its images are called") for line in lines
    ] == [True] * warns


@pytest.mark.notebooks
@pytest.mark.slow
class TestFineTunedNetwork:
    def test_a_run_on_an_image_folder_finishes_and_writes_nothing_into_it(self, fine_tuned):
        header, _, rest = fine_tuned.command.stdout.partition("\n\n")
        assert header.splitlines()[:3] == [
            f"36 images in {fine_tuned.folder}",
            'dataset_name = "colours" (-p)',
            f'images_dir = "{fine_tuned.folder}" (-p)',
        ]
        assert 'classifier = "svm_dnn_refined" (-p)' in header and "seed" not in header
        assert [line.split()[0] for line in rest.splitlines()[:5]] == [
            "01_prepare_data",
            "02_refine_dnn",
            "03_run_dnn",
            "04_train_svm",
            "05_evaluate",
        ]
        assert sorted(fine_tuned.folder.rglob("*")) == fine_tuned.images

    def test_a_run_writes_metrics_pictures_and_the_classifier_and_says_where(self, fine_tuned):
        found = figures(fine_tuned.data)
        assert found["classifier"] == "svm_dnn_refined" and found["images"] == 9
        assert found["overall_accuracy"] > 0.6 and "class_averaged_accuracy_interval" in found
        assert set(found["classes"]) == {"blue", "green", "red"} and "familiarity" in found
        proc = fine_tuned.data / "proc" / "colours"
        written = {
            "classifier.onnx",
            "roc.png",
            "confusion.png",
            "mistakes.jpg",
            "scores.npz",
            "dnn_training.png",
        }
        assert written <= {path.name for path in proc.iterdir()}
        printed = fine_tuned.command.stdout
        assert "overall accuracy" in printed and str(proc / "classifier.onnx") in printed
        assert "fine-tuning, validated on" in printed

    @pytest.mark.parametrize("name", [files.SCORES, files.HELD_OUT, files.LABEL_SCORES])
    def test_scores_keep_the_cluster_of_each_image(self, fine_tuned, name):
        scores = report.read_scores(fine_tuned.data / "proc" / "colours" / name)
        assert len(scores.cluster) == len(scores.paths) > 0

    def test_a_second_run_with_another_classifier_does_not_train_the_network_again(
        self, fine_tuned, continued
    ):
        network = continued / "proc" / "colours" / "dnn_refined.onnx"
        before = network.stat().st_mtime_ns
        again = imgclf_run("02", continued, **FINE_TUNING, images_dir=fine_tuned.folder, classifier="dnn")
        assert again.returncode == 0, again.stderr
        assert network.stat().st_mtime_ns == before
        assert "fine-tuning, validated on" in again.stdout
        found = figures(continued)
        assert found["classifier"] == "dnn" and found["overall_accuracy"] > 0.6

    def test_an_evaluation_on_training_images_leaves_that_of_the_test_images_alone(
        self, fine_tuned, continued
    ):
        proc = continued / "proc" / "colours"
        before = {path.name: path.stat().st_mtime_ns for path in proc.glob("*.*")}
        values = {"dataset_name": "colours", "images_dir": fine_tuned.folder, "classifier": "svm_dnn_refined"}
        run = imgclf_run("05", continued, **values, evaluate_on="train")
        assert run.returncode == 0, run.stderr
        assert {path.name: path.stat().st_mtime_ns for path in proc.glob("*.*")} == before
        written = {path.name for path in (proc / "on_training_images").iterdir()}
        assert {"evaluation.json", "scores.npz", "confusion.png", "roc.png", "mistakes.jpg"} <= written
        assert "CAREFUL: on the TRAINING IMAGES" in run.stdout
        assert "27  " in run.stdout and str(proc / "on_training_images") in run.stdout

    def test_the_report_is_about_the_data_set_set_in_the_notebooks(
        self, fine_tuned, continued, tmp_path, monkeypatch
    ):
        copies = shutil.copytree(notebooks.NOTEBOOKS, tmp_path / "notebooks")
        monkeypatch.setattr(notebooks, "NOTEBOOKS", copies)
        changes = {"images_dir": str(fine_tuned.folder), "classifier": "svm_dnn_refined"}
        cells.edit(dataset_name="colours", **changes)
        name, folder = sequence.run({"svm_c": [1.0]}, start_from="04")
        assert name == "colours" and (folder / "05_evaluate.ipynb").exists()
        printed = sequence.closing_report(name, folder)
        assert "overall accuracy" in printed and str(continued / "proc" / "colours") in printed


def test_the_report_names_labels_without_usable_images_and_near_duplicates_in_both_sets(tmp_path, data_dir):
    for path in ("hat/0.jpg", "hat/1.jpg", "pants/0.jpg", "pants/1.jpg", "shoes/0.xyz"):
        (tmp_path / "fruit" / path).parent.mkdir(parents=True, exist_ok=True)
        frame = picture((120, 120, 120), len(path)).astype(np.int16) + int(path[-5])
        (tmp_path / "fruit" / path).write_bytes(decoding.jpeg(frame.clip(0, 255).astype(np.uint8)))
    scanned = scan.scan_folder("fruit", tmp_path / "fruit")
    dataset.write(scanned)
    split.write(scanned, split.split(scanned), lost_test=["hat/9.jpg (gone)"])
    report.write(by_hand(), data_dir / "proc" / "fruit", classifier="svm")
    printed = sequence.closing_report("fruit", tmp_path)
    assert "CAREFUL: the classifier will not know: shoes (1 .xyz)" in printed
    assert "CAREFUL: near-duplicates of hat, pants are in both training and test set" in printed
    assert "CAREFUL: 1 test images of the split before are not in this one: hat/9.jpg (gone)" in printed


@pytest.mark.notebooks
def test_a_failing_cell_stops_the_run_and_is_named(tmp_path, data_dir):
    (tmp_path / "one" / "apple").mkdir(parents=True)
    run = imgclf_run("01", data_dir, dataset_name="one", images_dir=tmp_path / "one")
    assert run.returncode == 1 and "Traceback" not in run.stderr
    (line,) = (line for line in run.stderr.splitlines() if line.startswith("imgclf: "))
    assert "no usable images" in line
    executed = Path(line.removesuffix(")").rpartition("] of ")[2])
    assert nbformat.read(executed, as_version=4).cells and "02_refine_dnn" not in run.stdout


def test_parameters_that_are_not_default_are_listed_before_a_run_begins(tmp_path, monkeypatch):
    copies = shutil.copytree(notebooks.NOTEBOOKS, tmp_path / "notebooks", ignore=shutil.ignore_patterns(".*"))
    monkeypatch.setattr(notebooks, "NOTEBOOKS", copies)
    chosen = [path for path in notebooks.paths() if path.name[:2] in ("01", "02", "03")]
    assert sequence.changed_parameters(chosen, {}) == []
    cells.edit(images_dir="/garments", epochs=9)
    assert sequence.changed_parameters(chosen, {"dataset_name": "fruit", "seed": 0, "grid": "x"}) == [
        'dataset_name = "fruit" (-p)',
        'images_dir = "/garments" (the cell of 01, 02, 03)',
        "epochs = 9 (the cell of 02)",
    ]
    edited = (copies / "02_refine_dnn.ipynb").read_text(encoding="utf-8").replace("/garments", "/coats")
    (copies / "02_refine_dnn.ipynb").write_text(edited, encoding="utf-8")
    assert sequence.changed_parameters(chosen, {}) == [
        'images_dir = "/garments" (the cell of 01, 03)',
        'images_dir = "/coats" (the cell of 02)',
        "epochs = 9 (the cell of 02)",
    ]


@pytest.mark.parametrize(
    ("given", "without_effect"),
    [
        ({"epochs": 5}, ["epochs"]),  # given, although it is the default
        ({"epochs": 5, "classifier": "dnn"}, []),
        ({"svm_c": [1.0], "classifier": "dnn", "epochs": 0, "batch_size": 8}, ["batch_size", "svm_c"]),
        ({}, []),
    ],
)
def test_a_run_says_which_parameters_have_no_effect(given, without_effect):
    lines = sequence.without_effect(notebooks.paths()[1:6], given)
    assert [line.split()[0] for line in lines] == without_effect
    assert all(" has no effect on the classifier with " in line for line in lines)


def test_the_command_that_goes_on_gives_the_same_parameters(tmp_path):
    values = {"dataset_name": "two words; 'x'", "svm_c": [0.1, 1.0], "augment": False, "grid": "seed: 1, 2"}
    program, run, *words = shlex.split(sequence.command("02", values))
    assert [program, run, *words[:2]] == ["imgclf", "run", "--from", "02"]
    assert parameters.parse(words[3::2]) == values and set(words[2::2]) == {"-p"}


def test_progress_overwrites_the_line_of_the_notebook_on_a_terminal_alone(monkeypatch, capsys):
    assert sequence._progress_line("02_refine_dnn") is None
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "40")
    sequence._progress_line("02_refine_dnn")("3 of 10 images, and more than fits")
    sequence._end_line("02_refine_dnn", "   4.0 s")
    assert capsys.readouterr().out == (
        "\r\x1b[K02_refine_dnn     3 of 10 images, and \r\x1b[K02_refine_dnn        4.0 s\n"
    )


def test_a_command_whose_output_is_shown_elsewhere_overwrites_its_lines_too(monkeypatch, capsys):
    monkeypatch.setenv(sequence.LIVE, "1")
    print("02_refine_dnn     ", end="")
    sequence._progress_line("02_refine_dnn")("3 of 10 images")
    assert sequence.as_shown(text := capsys.readouterr().out) == "02_refine_dnn     3 of 10 images"
    sequence._end_line("02_refine_dnn", "   4.0 s")
    assert sequence.as_shown(text + capsys.readouterr().out) == "02_refine_dnn        4.0 s\n"


def test_unknown_notebook_is_refused():
    run = CliRunner().invoke(cli.main, ["run", "--from", "9"])
    assert (run.exit_code, run.stdout) == (1, "")
    assert "there are 00_get_images, 01_prepare_data, " in run.stderr


@pytest.mark.notebooks
@pytest.mark.slow
def test_photographs_reach_the_documented_accuracy(shared_data, data_dir):
    run = imgclf_run(
        "01", data_dir, timeout=900, dataset_name="clothing", images_dir=shared_data / "clothing"
    )
    assert run.returncode == 0, run.stderr
    found = figures(data_dir, "clothing")
    assert found["images"] == 341 and found["overall_accuracy"] >= 0.89


def test_a_run_counts_the_images_that_the_scan_reads(colour_folder, data_dir, monkeypatch, capsys):
    shutil.copy(colour_folder / "red/00.jpg", colour_folder / "loose.jpg")  # in no label folder
    shutil.copy(colour_folder / "red/01.jpg", colour_folder / "red/IMG_0001")

    def refuse(*_, **__):
        raise ImgclfError("no kernel in this test")

    monkeypatch.setattr(sequence, "execute", refuse)
    with pytest.raises(ImgclfError, match="no kernel"):
        sequence.run({"dataset_name": "colours", "images_dir": str(colour_folder)}, start_from="01")
    assert capsys.readouterr().out.startswith(f"37 images in {colour_folder}\n")
    assert len(scan.scan_folder("colours", colour_folder).files) == 37


def test_a_folder_from_the_last_scan_is_not_shown_as_given(colour_folder, data_dir, monkeypatch, capsys):
    dataset.write(scan.scan_folder("colours", colour_folder))
    monkeypatch.setattr(sequence, "_execute", lambda *_, **__: None)
    sequence.run({"dataset_name": "colours"}, start_from="01")
    printed = capsys.readouterr().out
    assert 'dataset_name = "colours" (-p)\n' in printed
    assert f'images_dir = "{colour_folder}" (last scan)\n' in printed
