"""Runs of the history with real scores, without running a notebook."""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from imgclf import files
from imgclf.evaluation import metrics, report
from imgclf.evaluation.metrics import Evaluation
from imgclf.experiments.history import runs
from imgclf.experiments.history.runs import Run

LABELS = ["apple", "pear"]


def run(number: int = 1, *, scored: Evaluation | None = None, **changes: Any) -> Run:
    """Return the finished run of the hour `number`, in `$IMGCLF_DATA/runs`; `scored` are its scores of test images."""
    folder = files.data_dir() / "runs" / f"run {number}"
    given = {
        "name": f"2026-11-25 {number:02d}04 fruit svm",
        "kind": runs.BY_HAND,
        "dataset_name": "fruit",
        "started": f"2026-11-25T{number:02d}:04:05+00:00",
        "status": runs.FINISHED,
        "parameters": {"dataset_name": "fruit", "images_dir": "", "classifier": "svm", "input_size": 240},
        "metrics": {},
        "about": {"evaluated_on": "test"},
        "seconds": {"02": 4.0, "05": 1.5},
    } | changes
    if scored:
        given["metrics"] = measured(scored) | given["metrics"]
        report.write_scores(scored, folder / files.SCORES)
    return Run(folder=folder, id=hashlib.md5(str(number).encode()).hexdigest(), **given)


def recorded(scored: Evaluation, *, name: str, dataset_name: str = "colours", **parameters: Any) -> Run:
    """Record a finished run of 05 by hand in the history, as that notebook does, and return it."""
    given = {"dataset_name": dataset_name, "images_dir": "", "classifier": "svm", **parameters}
    started = runs.start(runs.BY_HAND, dataset_name, given)
    report.write_scores(scored, started.folder / files.SCORES)
    finished = runs.finish(
        started, metrics=measured(scored), seconds={"05": 1.5}, about={"evaluated_on": "test"}
    )
    return runs.change(finished, name=name)


def measured(evaluation: Evaluation) -> dict[str, float]:
    """Return the two accuracies of an evaluation and its number of images, as metrics of a run."""
    found: dict[str, float] = {}
    for name, accuracy in (
        ("overall accuracy", evaluation.overall_accuracy),
        ("class-averaged accuracy", evaluation.class_averaged_accuracy),
    ):
        found |= {
            name: accuracy.value,
            f"{name} low": accuracy.interval[0],
            f"{name} high": accuracy.interval[1],
        }
    return found | {"test images": float(len(evaluation.truth))}


def scored(of_pear: Mapping[str, float]) -> Evaluation:
    """Return an evaluation of images named LABEL/NAME, given the probability of "pear" of each; the rest is of "apple"."""
    pear = np.array([*of_pear.values()], dtype=np.float32)
    probabilities = np.stack([1 - pear, pear], axis=1)
    return metrics.evaluate(
        LABELS,
        list(of_pear),
        [path.partition("/")[0] for path in of_pear],
        probabilities,
        probabilities,
        sha256=[hashlib.sha256(path.partition("/")[2].encode()).hexdigest() for path in of_pear],
    )
