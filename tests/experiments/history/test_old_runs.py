"""Runs of version 0.1.0: executed notebooks in folders named by time, taken over when the history is listed."""

import json
import os
import shutil
from datetime import datetime
from pathlib import Path

import nbformat
import pytest
from nbformat import v4

from imgclf import ImgclfError, files
from imgclf.evaluation import report
from imgclf.experiments import notebooks, provenance
from imgclf.experiments.history import old_runs, runs
from support.evaluations import by_hand, evaluated
from support.project import ROOT

FOLDER = "2026-11-25_17-04-02"


def executed(name: str, *, text: str = "", error: str = "", **values) -> Path:
    """Write an executed notebook of 0.1.0 into the folder: parameters cell, papermill's cell below, one output."""
    number, folder = name[:2], runs.root() / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    injected = "# Parameters\n" + "\n".join(f"{key} = {value!r}" for key, value in values.items())
    last = v4.new_code_cell("print(1)")
    if text:
        last.outputs.append(v4.new_output("stream", text=text))
    if error:
        last.outputs.append(v4.new_output("error", ename="ImgclfError", evalue=error))
    cells = [
        v4.new_code_cell(notebooks.cell_source(number), metadata={"tags": ["parameters"]}),
        v4.new_code_cell(injected, metadata={"tags": ["injected-parameters"]}),
        last,
    ]
    nbformat.write(v4.new_notebook(cells=cells), folder / f"{name}.ipynb")
    return folder


def evaluation_table(evaluation) -> str:
    """The table that notebook 05 of version 0.1.0 printed."""
    figures = report.summary(evaluation)
    rows = [
        (label, row["images"], row["accuracy"], row["accuracy_interval"], f"{row['roc_auc']:9.2f}")
        for label, row in figures["classes"].items()
    ]
    for name, key in (
        ("overall accuracy", "overall_accuracy"),
        ("overall class-averaged accuracy", "class_averaged_accuracy"),
    ):
        rows.append((name, figures["images"], figures[key], figures[f"{key}_interval"], ""))
    lines = [
        f"{name:<32.32}{images:>6}  {value:5.0%}   {low:4.0%} to {high:4.0%}{area}"
        for name, images, value, (low, high), area in rows
    ]
    head = f"{'':<32}{'images':>6}  {'accuracy':>8} {'95 % interval':>13}{'ROC area':>9}"
    chance = f"{'chance level, class-averaged':<40}{figures['chance_level']:5.0%}"
    return "\n".join(["10 test images, none of them used in training", head, *lines, chance]) + "\n"


def test_a_finished_run_has_its_time_parameters_and_the_figures_that_were_printed():
    executed("04_train_svm", dataset_name="fruit", svm_c=[0.5])
    folder = executed("05_evaluate", dataset_name="fruit", text=evaluation_table(by_hand()))
    before = {path: path.read_bytes() for path in folder.iterdir()}
    (run,) = runs.all_runs("fruit")
    assert (run.kind, run.status, run.name) == (runs.IMPORTED, runs.FINISHED, FOLDER)
    assert run.time.replace(tzinfo=None) == datetime(2026, 11, 25, 17, 4, 2) and run.time.tzinfo
    assert run.parameters["svm_c"] == [0.5] and run.parameters["evaluate_on"] == "test"
    assert (
        run.metrics.items()
        >= {
            "overall accuracy": 0.7,
            "overall accuracy low": 0.35,
            "overall accuracy high": 0.93,
            "accuracy of class a": 0.75,
            "test images": 10.0,
        }.items()
    )
    assert run.metrics.keys() >= {"class-averaged accuracy low", "ROC area of class c"}
    assert run.about == {"figures": "as printed, in whole percent"}
    assert {path: path.read_bytes() for path in folder.iterdir() if path.name != "run.json"} == before


def test_long_labels_and_many_are_read():
    executed("05_evaluate", dataset_name="x", text=evaluation_table(evaluated(50)))
    metrics = runs.all_runs()[0].metrics
    assert (
        len([name for name in metrics if name.startswith("accuracy of class") and name[-1].isdigit()]) == 50
    )
    long = "a label of many letters, cut to a column"
    shutil.rmtree(runs.root())
    executed(
        "05_evaluate",
        dataset_name="x",
        text=evaluation_table(by_hand([long] * 3 + ["b"], [long] * 4, [long, "b"])),
    )
    assert f"accuracy of class {long[:32].strip()}" in runs.all_runs()[0].metrics


def test_it_is_imported_once_and_keeps_what_a_person_says(tmp_path):
    executed("05_evaluate", dataset_name="fruit", text=evaluation_table(by_hand()))
    (run,) = runs.all_runs()
    runs.change(run, note="the first")
    (again,) = runs.all_runs()
    assert (again.id, again.note) == (run.id, "the first")


def test_in_a_folder_that_cannot_be_written_it_has_one_id(monkeypatch):
    executed("05_evaluate", dataset_name="fruit", text=evaluation_table(by_hand()))

    def refuse(*_):
        raise PermissionError(13, "no permission")

    monkeypatch.setattr(runs, "write", refuse)
    assert runs.all_runs()[0].id == runs.all_runs()[0].id


def test_a_run_with_an_error_in_a_cell_failed():
    executed("01_prepare_data", dataset_name="fruit")
    executed("02_refine_dnn", dataset_name="fruit", error="no usable images")
    (run,) = runs.all_runs()
    assert (run.status, run.error) == (runs.FAILED, "ImgclfError: no usable images")
    assert run.metrics == {} and run.about == {}


def test_a_run_that_ended_before_the_evaluation_failed():
    executed("03_run_dnn", dataset_name="fruit")
    (run,) = runs.all_runs()
    assert (run.status, run.error) == (runs.FAILED, "ended after 03_run_dnn")


def test_a_trial_of_a_sweep_is_of_its_data_set():
    executed("02_refine_dnn", dataset_name="fruit@epochs=5,seed=1", epochs=5)
    (run,) = runs.all_runs("fruit")
    assert run.parameters["epochs"] == 5


@pytest.mark.parametrize("content", ["", "[]", '{"cells": 3}', '{"nbformat": 4, "cells": [1]}', "\0"])
def test_a_damaged_notebook_is_a_failed_run(content):
    folder = executed("01_prepare_data", dataset_name="fruit")
    (folder / "02_refine_dnn.ipynb").write_text(content)
    (run,) = runs.all_runs()
    assert run.status == runs.FAILED and run.error.startswith("02_refine_dnn.ipynb: cannot be read")


def test_other_folders_get_no_record(tmp_path):
    for name in ("2026-11-25_17-04-02_x", "2026-11-26_17-04-02", "mine"):
        (runs.root() / name).mkdir(parents=True)
    executed("07_compare_runs", dataset_name="fruit").rename(runs.root() / "2026-11-25_17-04-03")
    assert runs.listing() == ([], [])
    assert not list(runs.root().rglob("run.json"))


def test_scores_and_classifier_of_an_imported_run_are_refused(tmp_path):
    executed("05_evaluate", dataset_name="fruit", text=evaluation_table(by_hand()))
    (run,) = runs.all_runs()
    with pytest.raises(ImgclfError, match="has no scores, since version 0.1.0 kept only the executed"):
        runs.evaluation(run)
    assert json.loads((run.folder / "run.json").read_text())["kind"] == "imported"


@pytest.fixture
def evaluated_by_0_1_0(data_dir: Path) -> Path:
    """proc/colours with what version 0.1.0 evaluated at noon."""
    shutil.copytree(ROOT / "tests" / "samples" / "data_folder_0.1.0", data_dir)
    proc = files.proc_dir("colours")
    noon = datetime(2026, 11, 25, 12).timestamp()
    for name in (files.CLASSIFIER, files.EVALUATION):
        os.utime(proc / name, (noon, noon))
    return proc


def test_what_0_1_0_evaluated_becomes_a_run_once_before_it_is_overwritten(evaluated_by_0_1_0):
    for _ in range(2):
        provenance.begin("01", {"dataset_name": "colours"})
    (run,) = runs.all_runs()
    assert (run.kind, run.status, run.time.hour, run.name) == (
        runs.IMPORTED,
        runs.FINISHED,
        12,
        "2026-11-25 1200 colours svm 100 %",
    )
    assert run.metrics["overall accuracy"] == 1 and run.metrics["test images"] == 6
    assert run.parameters["svm_c"] == [0.01, 1.0, 100.0] and run.about["imgclf version"] == "0.1.0"
    assert runs.classifier(run).read_bytes() == (evaluated_by_0_1_0 / files.CLASSIFIER).read_bytes()
    assert runs.evaluation(run).paths == report.read_scores(evaluated_by_0_1_0 / files.SCORES).paths


def test_a_classifier_newer_than_the_evaluation_of_0_1_0_is_not_its_own(evaluated_by_0_1_0):
    os.utime(evaluated_by_0_1_0 / files.CLASSIFIER)
    old_runs.keep_evaluation("colours")
    (run,) = runs.all_runs()
    assert "classifier sha256" not in run.about and len(runs.evaluation(run).truth) == 6


def test_a_damaged_evaluation_of_0_1_0_becomes_no_run(evaluated_by_0_1_0):
    (evaluated_by_0_1_0 / files.EVALUATION).write_text("{")
    old_runs.keep_evaluation("colours")
    assert runs.all_runs() == []
