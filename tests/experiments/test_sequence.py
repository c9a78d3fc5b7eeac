"""`imgclf run`: the notebooks through papermill on a small data set, and the failure of one."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat

from imgclf.experiments import notebooks, sequence

IMGCLF = Path(sys.executable).parent / "imgclf"
SMALL = ("-p", "dataset_name=colours", "-p", "input_size=32", "-p", "svm_c=0.1,1")


def imgclf(*arguments: str | Path, timeout: int = 300) -> subprocess.CompletedProcess:
    return subprocess.run([IMGCLF, *arguments], capture_output=True, text=True, timeout=timeout)


def test_a_run_on_an_image_folder_finishes_and_writes_nothing_into_it(colour_folder, data_dir):
    before = sorted(colour_folder.rglob("*"))
    run = imgclf("run", "--from", "01", *SMALL, "-p", f"images_dir={colour_folder}")
    assert run.returncode == 0, run.stderr
    assert [line.split()[0] for line in run.stdout.splitlines()[:5]] == [
        "01_prepare_data",
        "02_refine_dnn",
        "03_run_dnn",
        "04_train_svm",
        "05_evaluate",
    ]
    assert sorted(colour_folder.rglob("*")) == before
    figures = json.loads((data_dir / "proc" / "colours" / "evaluation.json").read_text())
    assert (
        figures["overall_accuracy"] > 0.6
        and figures["images"] == 9
        and "class_averaged_accuracy_interval" in figures
    )
    assert {"classifier.onnx", "roc.png", "confusion.png", "mistakes.png", "scores.npz"} <= {
        p.name for p in (data_dir / "proc" / "colours").iterdir()
    }
    assert (
        "overall accuracy" in run.stdout
        and str(data_dir / "proc" / "colours" / "classifier.onnx") in run.stdout
    )


def test_a_failing_cell_stops_the_run_and_is_named(tmp_path, data_dir):
    (tmp_path / "one" / "apple").mkdir(parents=True)
    run = imgclf("run", "--from", "01", "-p", "dataset_name=one", "-p", f"images_dir={tmp_path / 'one'}")
    assert run.returncode == 1 and "Traceback" not in run.stderr
    assert run.stderr.startswith("imgclf: ") and "no usable images" in run.stderr
    executed = Path(run.stderr.strip().removesuffix(")").rpartition("] of ")[2])
    assert nbformat.read(executed, as_version=4).cells and "02_refine_dnn" not in run.stdout


def test_unknown_notebook_is_refused(data_dir):
    run = imgclf("run", "--from", "9")
    assert (run.returncode, run.stdout) == (
        1,
        "",
    ) and "there are 00_get_images, 01_prepare_data, " in run.stderr


def test_photographs_reach_the_documented_accuracy(shared_data, data_dir):
    folder = shared_data / "clothing"
    run = imgclf(
        "run", "--from", "01", "-p", "dataset_name=clothing", "-p", f"images_dir={folder}", timeout=900
    )
    assert run.returncode == 0, run.stderr
    figures = json.loads((data_dir / "proc" / "clothing" / "evaluation.json").read_text())
    assert figures["images"] == 341 and figures["overall_accuracy"] >= 0.89


def test_the_report_is_about_the_data_set_set_in_the_notebooks(
    colour_folder, data_dir, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(
        notebooks, "NOTEBOOKS", Path(shutil.copytree(notebooks.NOTEBOOKS, tmp_path / "notebooks"))
    )
    notebooks.change_defaults({"dataset_name": "colours", "images_dir": str(colour_folder)})
    name, folder = sequence.run({"input_size": 32, "svm_c": [1.0]}, start_from="01")
    assert name == "colours" and (folder / "05_evaluate.ipynb").exists()
    report = sequence.closing_report(name, folder)
    assert "overall accuracy" in report and str(data_dir / "proc" / "colours") in report


def test_a_fine_tuned_network_goes_through_all_notebooks_and_is_trained_once(colour_folder, data_dir):
    refining = (
        *SMALL,
        "-p",
        f"images_dir={colour_folder}",
        "-p",
        "backbone=efficientnet_lite0",
        "-p",
        "epochs=2",
        "-p",
        "batch_size=8",
        "-p",
        "trainable_stages=1",
    )
    proc, written = data_dir / "proc" / "colours", []
    for start, given, classifier in (("01", "svmDnnRefined", "svm_dnn_refined"), ("02", "dnn", "dnn")):
        run = imgclf("run", "--from", start, *refining, "-p", f"classifier={given}")
        assert run.returncode == 0, run.stderr
        figures = json.loads((proc / "evaluation.json").read_text())
        assert (
            figures["classifier"] == classifier
            and figures["overall_accuracy"] > 0.6
            and "fine-tuning, validated on" in run.stdout
        )
        written.append((proc / "dnn_refined.onnx").stat().st_mtime_ns)
    assert written[0] == written[1] and (proc / "dnn_training.png").exists()
