"""What is recorded of an evaluation: its figures to the last digit, its files, and its classifier."""

import json
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import nbformat
import numpy as np
import pytest

from imgclf import files, svm
from imgclf.classifier import storage
from imgclf.classifier.model import Classifier
from imgclf.data import dataset, split
from imgclf.evaluation import metrics, report
from imgclf.experiments import execution, notebooks, provenance
from imgclf.experiments.history import environment, recording, runs
from imgclf.finetuning import record as finetuning
from imgclf.finetuning.learning_curve import Epoch
from support.classifiers import trained_as
from support.evaluations import by_hand
from support.in_process import Folder
from support.pictures import COLOURS

LINE = "recorded in the run history"


@pytest.fixture
def folder(folder: Folder) -> Folder:
    """The data folder in which all notebooks have run, without their history."""
    shutil.rmtree(runs.root())
    return folder


def record(folder: Folder, capsys: pytest.CaptureFixture, **others) -> str:
    """Record the evaluation by hand; return the line that is printed."""
    recording.record(folder.values | others)
    return capsys.readouterr().out


def test_metrics_are_those_of_the_evaluation_to_the_last_digit(folder, capsys):
    assert record(folder, capsys).startswith(LINE)
    (run,) = runs.all_runs()
    figures = json.loads((folder.proc / "evaluation.json").read_text())
    for name in ("overall accuracy", "class-averaged accuracy"):
        key = name.replace(" ", "_").replace("-", "_")
        assert run.metrics[name] == figures[key]
        assert [run.metrics[f"{name} low"], run.metrics[f"{name} high"]] == figures[f"{key}_interval"]
    for label, row in figures["classes"].items():
        for name, key in (("accuracy", "accuracy"), ("ROC area", "roc_auc")):
            found = [run.metrics[f"{name} of class {label}{end}"] for end in ("", " low", " high")]
            assert found == [row[key], *row[f"{key}_interval"]]
    assert run.metrics["test images"] == figures["images"]
    error = figures["calibration"]["expected_calibration_error"]
    assert run.metrics["expected calibration error"] == error
    held_out = report.read_scores(folder.proc / files.HELD_OUT).overall_accuracy
    assert run.metrics["held-out accuracy"] == held_out.value
    assert run.metrics["held-out accuracy high"] == held_out.interval[1]


def test_the_share_of_unfamiliar_images_is_a_metric_where_it_was_measured(tmp_path):
    figures = {
        "evaluated_on": "test",
        "familiarity": {"unfamiliar": 0.04, "unfamiliar_interval": [0.02, 0.07]},
    }
    report.write(by_hand(), tmp_path, **figures)
    found = recording.metrics(report.read(tmp_path))
    assert [found[f"share unfamiliar{end}"] for end in ("", " low", " high")] == [0.04, 0.02, 0.07]
    report.write(by_hand(), tmp_path, evaluated_on="test", familiarity=None)
    assert not any("unfamiliar" in name for name in recording.metrics(report.read(tmp_path)))


def test_parameters_counts_curves_and_circumstances_are_recorded(folder, capsys):
    record(folder, capsys)
    (run,) = runs.all_runs("colours")
    assert (run.kind, run.status, run.dataset_name) == (runs.BY_HAND, runs.FINISHED, "colours")
    assert run.parameters.items() >= {**folder.values, "train_fraction": 0.75, "evaluate_on": "test"}.items()
    assert run.counts == {"train": dict.fromkeys(COLOURS, 9), "test": dict.fromkeys(COLOURS, 3)}
    scanned = dataset.read("colours")
    parts = split.read(scanned)
    assert run.about["fingerprint of the images"] == dataset.fingerprint(scanned.images)
    assert run.about["fingerprint of the training images"] == dataset.fingerprint(parts.train)
    assert run.about["fingerprint of the test images"] == dataset.fingerprint(parts.test)
    assert run.about["classifier sha256"] == files.sha256(folder.proc / files.CLASSIFIER)
    assert run.about["numpy version"] == np.__version__ and run.about["processor"]
    assert [c for c, _ in run.curves["out-of-fold accuracy over C"]] == [0.1, 1.0]
    assert {accuracy for _, accuracy in run.curves["training accuracy over C"]} <= {1.0}
    assert set(run.seconds) == set(run.peak_memory_mb) == {"01", "02", "03", "04", "05"}
    assert run.seconds["03"] == provenance.read("colours", "03").seconds > 0


def test_the_learning_curve_of_a_fine_tuned_network_is_recorded_and_not_with_an_svm(colour_folder):
    proc = trained_as("dnn", colour_folder).parent
    nan = float("nan")
    epochs = (Epoch(0, nan, nan, 0.5, 0.7), Epoch(1, 0.4, 0.3, 0.25, 0.6))
    finetuned = replace(finetuning.read(proc), epochs=epochs)
    finetuning.write(proc, svm.read(proc / files.DNN_HEAD), finetuned)
    curves = recording._curves(proc, "dnn")
    run = runs.finish(runs.start(runs.BY_HAND, "colours", {}), curves=curves)
    assert run.curves == {
        "training loss": [[1.0, 0.4]],
        "training error": [[1.0, 0.3]],
        "validation loss": [[0.0, 0.7], [1.0, 0.6]],
        "validation error": [[0.0, 0.5], [1.0, 0.25]],
    }
    assert recording._curves(proc, "svm") == {}


def test_files_of_the_evaluation_and_the_executed_notebook_are_copied(folder, capsys):
    (folder.proc / "roc.png").write_bytes(b"a picture")
    (folder.proc / "dnn_training.png").write_bytes(b"of an earlier fine-tuned network")
    (folder.proc / "trials.png").write_bytes(b"of a sweep")
    record(folder, capsys)
    (run,) = runs.all_runs()
    for name in ("evaluation.json", "scores.npz", "roc.png", "images.tsv", "images.json"):
        assert (run.folder / name).read_bytes() == (folder.proc / name).read_bytes()
    assert not (run.folder / "dnn_training.png").exists() and not (run.folder / "trials.png").exists()
    assert notebooks.read(run.folder / "05_evaluate.ipynb").keys() >= {"evaluate_on"}
    assert run.folder.name.endswith(f" colours svm {run.metrics['overall accuracy']:.0%}".replace("%", " %"))


def test_the_classifier_of_a_run_gives_its_scores_exactly_after_proc_was_overwritten(folder, capsys):
    record(folder, capsys)
    (run,) = runs.all_runs()
    before = (folder.proc / files.CLASSIFIER).read_bytes()
    folder.run("04", "05", l2_normalize=False, svm_c=[0.5])
    assert (folder.proc / files.CLASSIFIER).read_bytes() != before
    assert runs.classifier(run).read_bytes() == before
    kept = runs.evaluation(run)
    scanned = dataset.read("colours")
    loaded = Classifier.load(runs.classifier(run), batch_size=2)  # as 05 by default
    again, _ = metrics.score(loaded, scanned, split.read(scanned).test)
    assert again.paths == kept.paths and np.array_equal(again.scores, kept.scores)
    assert np.array_equal(again.probabilities, kept.probabilities)
    assert kept.overall_accuracy.value == run.metrics["overall accuracy"]


def test_the_same_evaluation_by_hand_is_one_run_and_keeps_what_a_person_said(folder, capsys):
    record(folder, capsys)
    (first,) = runs.all_runs()
    runs.change(first, name="mine", note="good", tags=["a"])
    assert record(folder, capsys).startswith(LINE)
    (again,) = runs.all_runs()
    assert (again.id, again.name, again.note, again.tags) == (first.id, "mine", "good", ("a",))
    assert again.folder == first.folder


@pytest.mark.parametrize("kind", [runs.BY_RUN, runs.BY_HAND])
def test_the_same_evaluation_by_hand_changes_nothing_in_the_run_that_has_it(folder, capsys, kind):
    run = runs.start(kind, "colours", {})
    (run.folder / "05_evaluate.ipynb").write_text("as executed")
    (run.folder / "report.html").write_text("of that run")
    run = recording.finish(run, folder.values)
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in run.folder.iterdir()}
    assert record(folder, capsys) == f"{LINE}; report: proc/colours/report.html\n"
    assert runs.all_runs() == [run]
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in run.folder.iterdir()} == before


def test_another_classifier_and_other_images_to_evaluate_are_other_runs(folder, capsys):
    record(folder, capsys)
    folder.run("04", "05", svm_c=[1e-4])
    record(folder, capsys, svm_c=[1e-4])
    folder.run("05", svm_c=[1e-4], evaluate_on="train")
    record(folder, capsys, svm_c=[1e-4], evaluate_on="train")
    first, second, training = sorted(runs.all_runs(), key=lambda run: len(run.folder.name))
    assert first.about["classifier sha256"] != second.about["classifier sha256"]
    assert " on training images " in training.name and training.metrics["training images"] == 27
    assert "test images" not in training.metrics


def test_five_runs_on_one_network_store_its_weights_once_and_deleting_all_removes_them(folder, capsys):
    for k in range(5):
        folder.run("04", "05", svm_c=[0.1 + k])
        record(folder, capsys)
    weights, now = runs.root() / runs.WEIGHTS, files.sha256(folder.proc / files.CLASSIFIER)
    found = sorted(runs.all_runs(), key=lambda run: run.about["classifier sha256"] == now)
    assert len(found) == 5 and len(list(weights.iterdir())) == 1
    for run in found[:4]:
        runs.delete(run)
    assert files.sha256(runs.classifier(found[4])) == now
    assert len(list(weights.iterdir())) == 1
    runs.delete(found[4])
    assert list(weights.iterdir()) == [] and runs.all_runs() == []


@pytest.mark.notebooks
@pytest.mark.slow
def test_stepping_through_05_in_a_kernel_records_a_run_with_the_notebook_and_its_outputs(folder, tmp_path):
    path = notebooks.path("05")
    execution.execute(path, tmp_path, {"dataset_name": "colours"})
    printed = "".join(
        output.get("text", "")
        for cell in nbformat.read(tmp_path / path.name, as_version=4).cells
        for output in cell.get("outputs", ())
    )
    assert f"{LINE}; report: proc/colours/report.html\n" in printed
    (run,) = runs.all_runs()
    assert run.kind == runs.BY_HAND and run.seconds["05"] > 0 and run.peak_memory_mb["05"] > 50
    kept = nbformat.read(run.folder / path.name, as_version=4)
    assert any(
        "image/png" in output.get("data", {}) for cell in kept.cells for output in cell.get("outputs", ())
    )
    assert (run.folder / "report.html").read_bytes() == (folder.proc / "report.html").read_bytes()


def test_a_notebook_that_a_run_executes_writes_into_it(folder, capsys):
    run = runs.start(runs.BY_RUN, "fruit", {"classifier": "svm", "epochs": 5})
    with runs.executing(run):
        record(folder, capsys)
    (now,) = runs.all_runs()
    assert now.id == run.id and now.status == runs.RUNNING and now.folder == run.folder
    assert now.parameters.items() >= {"epochs": 5, "dataset_name": "fruit", "input_size": 32}.items()
    assert not (run.folder / "05_evaluate.ipynb").exists()  # papermill writes it
    done = recording.finish(now, folder.values)
    assert done.status == runs.FINISHED and set(done.seconds) == {"01", "02", "03", "04", "05"}
    assert done.name.endswith(" %") and done.metrics == now.metrics


def test_a_run_that_ended_before_05_records_the_evaluation_that_was_up_to_date(folder):
    run = runs.start(runs.BY_RUN, "colours", {"classifier": "svm"})
    done = recording.finish(run, folder.values)
    figures = json.loads((folder.proc / "evaluation.json").read_text())
    assert done.metrics["overall accuracy"] == figures["overall_accuracy"]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(28, "No space left on device"), "the disk is full"),
        (PermissionError(13, "x"), "no permission"),
    ],
)
def test_a_disk_that_takes_nothing_leaves_the_evaluation_and_is_told(
    folder, capsys, monkeypatch, error, said
):
    def refuse(*_, **__):
        raise error

    monkeypatch.setattr(storage, "store", refuse)
    line = record(folder, capsys)
    assert line.startswith("not recorded in the run history: cannot write") and said in line
    (run,) = runs.all_runs()
    assert run.status == runs.FAILED and said in run.error


def test_a_folder_of_runs_that_cannot_be_made_is_told(folder, capsys):
    (folder.data / "runs").write_text("a file")
    assert record(folder, capsys).startswith("not recorded in the run history: ")


@pytest.mark.parametrize("content", ["", "{}", '{"cells": 3, "nbformat": 4}', None])
def test_a_damaged_notebook_leaves_the_evaluation_and_its_run(folder, capsys, tmp_path, monkeypatch, content):
    path = tmp_path / "05_evaluate.ipynb"
    if content is not None:
        path.write_text(content)
    monkeypatch.setattr(notebooks, "paths", lambda: [path])
    said = "no report: the file of notebook 05_evaluate is damaged or gone; save it, and run it again"
    assert record(folder, capsys) == f"{LINE}; {said}\n"
    (run,) = runs.all_runs()
    assert run.status == runs.FINISHED and run.metrics and not (run.folder / path.name).exists()


def test_a_defect_is_not_hidden(folder, monkeypatch):
    def defect(*_):
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(recording, "_curves", defect)
    with pytest.raises(ZeroDivisionError):
        recording.record(folder.values)


def test_an_evaluation_that_is_gone_is_told(folder, capsys):
    (folder.proc / "evaluation.json").unlink()
    assert "no evaluation yet; run 05_evaluate first" in record(folder, capsys)
    assert runs.all_runs() == []


class TestCircumstances:
    def git(self, folder: Path, *arguments: str) -> str:
        own = ["-c", "user.name=a", "-c", "user.email=a@b"]
        return subprocess.run(
            ["git", "-C", folder, *own, *arguments], check=True, capture_output=True, text=True
        ).stdout.strip()

    def test_the_commit_of_the_clone_and_whether_it_was_changed(self, tmp_path, monkeypatch):
        monkeypatch.setattr(files, "CLONE", None)
        assert "git commit" not in environment.described()  # installed
        monkeypatch.setattr(files, "CLONE", tmp_path)
        assert "git commit" not in environment.described()
        (tmp_path / "notebooks").mkdir()
        (tmp_path / "notebooks" / "a.ipynb").write_text("1")
        self.git(tmp_path, "init", "-q")
        assert "git commit" not in environment.described()  # there is none yet
        self.git(tmp_path, "add", "-A")
        self.git(tmp_path, "commit", "-qm", "first")
        found = environment.described()
        assert found["git commit"] == self.git(tmp_path, "rev-parse", "HEAD")
        assert found["git state"] == "as committed"
        (tmp_path / "notebooks" / "a.ipynb").write_text("2")
        assert environment.described()["git state"] == "changed since"

    def test_no_program_that_a_repository_names_is_started(self, tmp_path, monkeypatch):
        monkeypatch.setattr(files, "CLONE", tmp_path)
        (tmp_path / "notebooks").mkdir()
        (tmp_path / "hook").write_text(f"#!/bin/sh\ntouch '{tmp_path}/started'\n")
        (tmp_path / "hook").chmod(0o755)
        self.git(tmp_path, "init", "-q")
        self.git(tmp_path, "add", "-A")
        self.git(tmp_path, "commit", "-qm", "first")
        self.git(tmp_path, "config", "core.fsmonitor", str(tmp_path / "hook"))
        shutil.copy(tmp_path / "hook", tmp_path / ".git" / "hooks" / "post-index-change")
        os.utime(tmp_path / "hook", (1, 1))  # the index is refreshed
        assert environment.described()["git state"] == "as committed"
        assert not (tmp_path / "started").exists()

    def test_a_repository_with_filters_has_no_state_and_none_is_started(self, tmp_path, monkeypatch):
        monkeypatch.setattr(files, "CLONE", tmp_path)
        (tmp_path / "a").write_text("1")
        (tmp_path / ".gitattributes").write_text("* filter=own")
        self.git(tmp_path, "init", "-q")
        self.git(tmp_path, "add", "-A")
        self.git(tmp_path, "commit", "-qm", "first")
        self.git(tmp_path, "config", "filter.own.clean", f"touch '{tmp_path}/started'; cat")
        (tmp_path / "a").write_text("2")
        found = environment.described()
        assert found["git commit"] and "git state" not in found
        assert not (tmp_path / "started").exists()

    def test_the_commit_of_a_project_and_not_of_the_clone(self, data_dir, monkeypatch):
        (data_dir / "sub").mkdir(parents=True)
        (data_dir / "imgclf.toml").touch()
        monkeypatch.chdir(data_dir)
        assert "git commit" not in environment.described()
        self.git(data_dir, "init", "-q")
        self.git(data_dir, "add", "-A")
        self.git(data_dir, "commit", "-qm", "first")
        monkeypatch.chdir(data_dir / "sub")
        assert environment.described()["git commit"] == self.git(data_dir, "rev-parse", "HEAD")

    def test_without_git_nothing_is_said(self, monkeypatch):
        monkeypatch.setenv("PATH", "/nowhere")
        assert "git commit" not in environment.described()


def test_a_run_whose_evaluation_is_missing_says_so_and_fails(folder, capsys):
    run = runs.start(runs.BY_RUN, "other", {})
    failed = recording.finish(run, {**folder.values, "dataset_name": "other"})
    assert failed.status == runs.FAILED and "other/evaluation.json: no evaluation yet" in failed.error
    assert capsys.readouterr().out.startswith("not recorded in the run history: ")
