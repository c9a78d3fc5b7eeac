"""An evaluation as files and as text."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from imgclf import ImgclfError, files
from imgclf.evaluation import calibration, curves
from imgclf.evaluation.metrics import Evaluation

VERSION = 1  # of the layout of evaluation.json; docs/evaluation.schema.json describes it
WRITERS = {files.HELD_OUT: "04_train_svm", files.SCORES: "05_evaluate"}  # the notebooks


def notice(evaluated_on: str, evaluation: Evaluation) -> str:
    """What was evaluated, in a sentence; loud if it is the images that the classifier learned from."""
    if evaluated_on == "train":
        return f"CAREFUL: these {len(evaluation.truth)} images are those it LEARNED FROM; the figures below flatter and say nothing about new images"
    return f"{len(evaluation.truth)} test images, none of which it learned from"


def write(evaluation: Evaluation, folder: Path, **about: Any) -> None:
    """Write `evaluation.json` (all figures, and what `about` adds) and `scores.npz` (the arrays) into `folder`."""
    files.write_json(folder / files.EVALUATION, {"version": VERSION, **about, **summary(evaluation)})
    write_scores(evaluation, folder / files.SCORES)


def summary(evaluation: Evaluation) -> dict[str, Any]:
    """All figures as plain values, for JSON; None where a label has no test images."""
    return {
        "images": len(evaluation.truth),
        "overall_accuracy": evaluation.overall_accuracy.value,
        "overall_accuracy_interval": list(evaluation.overall_accuracy.interval),
        "class_averaged_accuracy": evaluation.class_averaged_accuracy.value,
        "class_averaged_accuracy_interval": list(evaluation.class_averaged_accuracy.interval),
        "chance_level": evaluation.chance_level,
        "largest_share": evaluation.largest_share,
        "classes": {label: _class_summary(evaluation, label) for label in evaluation.labels},
        "confusion": evaluation.confusion.tolist(),
        "calibration": calibration.reliability(evaluation).summary(),
    }


def _class_summary(evaluation: Evaluation, label: str) -> dict[str, Any]:
    accuracy, roc, precision_recall = (
        evaluation.class_accuracy(label),
        curves.roc(evaluation, label),
        curves.precision_recall(evaluation, label),
    )
    return {
        "images": accuracy.images,
        "accuracy": accuracy.value if accuracy.images else None,
        "accuracy_interval": list(accuracy.interval) if accuracy.images else None,
        "roc_auc": roc.area if roc else None,
        "roc_auc_interval": list(roc.interval) if roc else None,
        "average_precision": precision_recall.average_precision if precision_recall else None,
        "average_precision_interval": list(precision_recall.interval) if precision_recall else None,
    }


def write_scores(evaluation: Evaluation, path: Path) -> None:
    """Write the arrays of an evaluation, whole; no pickle inside."""
    texts = {name: np.array(getattr(evaluation, name), dtype=str) for name in ("labels", "paths", "sha256")}
    numbers = {name: getattr(evaluation, name) for name in ("truth", "scores", "probabilities", "seed")}
    files.write_npz(path, {**numbers, **texts})


def read_scores(path: Path) -> Evaluation:
    """The evaluation that `write_scores` wrote.

    Raises
    ------
    ImgclfError : the file is not there yet, or damaged; names the notebook that writes it.
    """
    notebook = WRITERS.get(path.name, "the notebook that writes it")
    try:
        return _evaluation(files.read_npz(path))
    except FileNotFoundError as error:
        raise ImgclfError(f"{path}: no scores yet; run {notebook} first") from error
    except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise ImgclfError(f"{path}: damaged, or from an earlier version; run {notebook} again") from error


def _evaluation(arrays: dict[str, np.ndarray]) -> Evaluation:
    """An evaluation of arrays from a file; a ValueError, KeyError or TypeError where they do not fit together."""
    labels, paths, sha256 = (
        tuple(arrays[name].astype(str).tolist()) for name in ("labels", "paths", "sha256")
    )
    truth, scores, probabilities = (arrays[name] for name in ("truth", "scores", "probabilities"))
    shape = len(paths), len(labels)
    if not (
        truth.shape == shape[:1]
        and scores.shape == probabilities.shape == shape
        and len(sha256) in (0, shape[0])
    ):
        raise ValueError("the arrays differ in length")
    if (
        truth.dtype.kind not in "iu"
        or not np.isin(truth, range(len(labels))).all()
        or not (probabilities >= 0).all()
        or np.isnan(scores).any()
    ):
        raise ValueError("a label or a number is out of range")
    return Evaluation(labels, paths, truth, scores, probabilities, int(arrays["seed"]), sha256)


def read(folder: Path) -> dict[str, Any]:
    """The figures that `write` wrote.

    Raises
    ------
    ImgclfError : there is no `evaluation.json` in the folder, or it is damaged.
    """
    path = folder / files.EVALUATION
    if not path.exists():
        raise ImgclfError(f"{path}: no evaluation yet; run 05_evaluate first")
    try:
        figures = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ImgclfError(f"{path}: damaged; run 05_evaluate again") from error
    if not isinstance(figures, dict):
        raise ImgclfError(f"{path}: damaged; run 05_evaluate again")
    return figures


def table(figures: dict[str, Any]) -> str:
    """The accuracies of an `evaluation.json` as lines of text, whole percent."""

    def line(
        name: str, images: int, value: float | None, interval: list[float] | None, area: float | None = None
    ) -> str:
        accuracy = (
            f"{value:5.0%}   {interval[0]:4.0%} to {interval[1]:4.0%}"
            if value is not None
            else "    no test images"
        )
        return f"{name:<32.32}{images:>6}  {accuracy}" + (f"{area:9.2f}" if area is not None else "")

    flatters = (
        ["CAREFUL: of the images it LEARNED FROM, which says nothing about new ones"]
        if figures.get("evaluated_on") == "train"
        else []
    )
    lines = [*flatters, f"{'':<32}{'images':>6}  {'accuracy':>8} {'95 % interval':>13}{'ROC area':>9}"]
    lines += [
        line(label, row["images"], row["accuracy"], row["accuracy_interval"], row["roc_auc"])
        for label, row in figures["classes"].items()
    ]
    lines += [
        line(name, figures["images"], figures[key], figures[f"{key}_interval"])
        for name, key in (
            ("overall accuracy", "overall_accuracy"),
            ("overall class-averaged accuracy", "class_averaged_accuracy"),
        )
    ]
    chances = (
        ("chance level, class-averaged", "chance_level"),
        ("always the commonest label, overall", "largest_share"),
    )
    return "\n".join([*lines, *(f"{name:<40}{figures[key]:5.0%}" for name, key in chances)])
