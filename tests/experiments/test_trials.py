"""Grids of parameters, and what is told of the trials that came of them."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from imgclf import ImgclfError, files
from imgclf.classifier import predict
from imgclf.evaluation import metrics, report
from imgclf.experiments import trials
from imgclf.experiments.trials import Trial


def write_trial(
    seconds: float,
    right: int,
    *,
    held_out: int,
    images: int = 100,
    others: bool = False,
    **values: trials.Value,
) -> Trial:
    """A trial that has so many of 100 test images right, and so many of 50 held-out ones; `others`: of other test images."""
    trial = Trial(
        trials.name_of("fruit", values), values, "", {"02": seconds, "03": 1.0, "04": 2.0, "05": 3.0}, 12.5
    )
    folder = files.proc_dir(trial.name)
    trials.write(trial)
    write_scores(folder / files.SCORES, images, right, prefix="new" * others)
    write_scores(folder / files.HELD_OUT, 50, held_out)
    return trial


def write_scores(path: Path, count: int, right: int, *, prefix: str = "") -> None:
    """Scores of images of two labels, the first ones right."""
    truth = ["apple", "pear"] * (count // 2)
    scores = np.where(
        (np.arange(count) < right)[:, None] == (np.array(truth)[:, None] == ["apple", "pear"]), 1, 0
    ).astype(np.float32)
    report.write_scores(
        metrics.evaluate(["apple", "pear"], [f"{prefix}{i}" for i in range(count)], truth, scores, scores),
        path,
    )


def test_a_grid_is_read():
    found = trials.choices(
        "input_size: 224, 320; dropout=0.5,0,0.5; learning_rate: 0.01, [0.01, 0.001], [0.1]*2 + [0.01]; augment:true;classifier = svmDnnRefined;"
    )
    assert found == {
        "input_size": [224, 320],
        "dropout": [0.5, 0.0],
        "learning_rate": [[0.01], [0.01, 0.001], [0.1, 0.1, 0.01]],
        "augment": [True],
        "classifier": ["svm_dnn_refined"],
    }
    assert trials.choices(trials.as_grid(found)) == found


def test_a_path_becomes_whole(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = trials.choices("backbone: my networks/a.onnx, resnet18")
    assert found == {"backbone": [f"{tmp_path}/my networks/a.onnx", "resnet18"]}
    assert trials.choices(trials.as_grid(found)) == found


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ("", "nothing to try"),
        (" ; ", "nothing to try"),
        ("dropout: 0.1; dropout: 0.2", "dropout stands there twice"),
        ("dropout", "'dropout' names no values"),
        ("evaluate_on: train", "evaluate_on cannot be tried"),
        ("learning_rate: 0.1, [0.1, 0.2", "a bracket or a comma too many or too few"),
        ("dropout: 0.1,,0.2", "a bracket or a comma too many or too few"),
        ("dropout:", "'dropout:' names no values"),
        (": 3", "unknown parameter ''"),
        ("dropout: 0.1 0.2", "must be a number"),
        ("dropout=0.1,7", "dropout=7.0: must be a number at least 0 and at most 0.99"),
        ("dropuot=1", "unknown parameter 'dropuot'"),
        ("dataset_name=a,b", "dataset_name cannot be tried"),
        ("max_images=10,20", "max_images cannot be tried"),
        ("grid=a", "grid cannot be tried"),
    ],
)
def test_a_grid_that_makes_no_sense_is_refused(grid, message):
    with pytest.raises(ImgclfError, match=message):
        trials.choices(grid)


def test_every_value_goes_with_every_other_the_last_changing_fastest():
    assert trials.combinations({"epochs": [5, 10], "augment": [True, False]}) == [
        {"epochs": 5, "augment": True},
        {"epochs": 5, "augment": False},
        {"epochs": 10, "augment": True},
        {"epochs": 10, "augment": False},
    ]


def test_names_are_the_same_in_any_order_and_fit_to_be_folders():
    assert (
        trials.name_of("fruit", {"epochs": 5, "dropout": 0.2})
        == trials.name_of("fruit", {"dropout": 0.2, "epochs": 5})
        == "fruit@dropout=0.2,epochs=5"
    )
    long = [trials.name_of("fruit", {"backbone": f"/home/{'deep/' * 60}{name}.onnx"}) for name in "ab"]
    assert long[0] != long[1] and all("/" not in name and len(name.encode()) < 255 for name in long)


def test_the_table_has_the_best_on_held_out_images_first():
    low, high = (
        write_trial(20, 90, held_out=40, epochs=5, seed=0),
        write_trial(60, 80, held_out=45, epochs=10, seed=0),
    )
    failed = Trial("fruit@epochs=20", {"epochs": 20, "seed": 0}, "", {}, error="the disk is full")
    table = trials.table([low, failed, high])
    assert list(table.index) == [1, 2] and list(table.columns) == [
        "epochs",
        "held-out accuracy",
        "test accuracy",
        "95 % interval",
        "p",
    ]
    assert list(table["epochs"]) == ["10", "5"] and list(table["held-out accuracy"]) == [
        "90.0% of 50",
        "80.0% of 50",
    ]
    assert list(table["test accuracy"]) == ["80.0%", "90.0%"] and list(table["95 % interval"]) == [
        "71% to 87%",
        "83% to 94%",
    ]
    assert list(table["p"]) == [
        "",
        f"{2 * 0.5**10:.2f}",
    ]  # ten images differ, all one way: a coin that falls ten times alike, either side
    times = trials.times([low, failed, high])
    assert list(times["all, s"]) == [66, 26] and list(times["ms an image"]) == [12.5, 12.5]
    assert "seed" not in table and str(failed) == "failed: the disk is full"


def test_few_right_of_few_stand_behind_nearly_all_of_many():
    few, many = write_trial(1, 90, held_out=12, epochs=5), write_trial(1, 90, held_out=49, epochs=10)
    write_scores(files.proc_dir(few.name) / files.HELD_OUT, 12, 12)
    assert list(trials.table([few, many])["held-out accuracy"]) == ["98.0% of 50", "100.0% of 12"]


def test_other_test_images_are_not_compared():
    table = trials.table(
        [write_trial(1, 90, held_out=45, seed=0), write_trial(1, 80, held_out=40, others=True, seed=1)]
    )
    assert list(table["p"]) == ["", ""]


def test_no_trial_and_none_that_worked_give_an_empty_table():
    assert trials.table([]).empty and trials.times([Trial("a@b", {}, "", {}, error="x")]).empty


def test_a_record_is_read_as_it_was_written():
    trial = write_trial(3, 70, held_out=25, learning_rate=[0.1, 0.01])
    assert trials.read(trial.name) == trial
    failed = replace(trial, error="no", milliseconds=math.nan)
    trials.write(failed)
    assert trials.read(trial.name).error == "no" and math.isnan(trials.read(trial.name).milliseconds)


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / files.TRIAL_RECORD).write_text("{"),
        lambda folder: (folder / files.TRIAL_RECORD).write_text("[]"),
        lambda folder: (folder / files.SCORES).unlink(),
        lambda folder: (folder / files.HELD_OUT).write_bytes(b"PK"),
    ],
)
def test_a_damaged_trial_counts_as_none(damage):
    trial = write_trial(3, 70, held_out=25, epochs=5)
    damage(files.proc_dir(trial.name))
    assert trials.read(trial.name) is None


def test_predict_takes_no_classifier_of_a_trial(data_dir):
    trial = write_trial(1, 60, held_out=30, epochs=5)
    (files.proc_dir(trial.name) / "classifier.onnx").touch()
    with pytest.raises(ImgclfError, match=r"no classifier\.onnx yet"):
        predict.newest_classifier()
    own: Path = data_dir / "proc" / "fruit" / "classifier.onnx"
    own.parent.mkdir()
    own.touch()
    assert predict.newest_classifier() == own
