"""An evaluation as files and as text."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from imgclf import ImgclfError, files
from imgclf.evaluation import Evaluation


def notice(evaluated_on: str, evaluation: Evaluation) -> str:
    """What was evaluated, in a sentence; loud if it is the images that the classifier learned from."""
    if evaluated_on == "train":
        return f"CAREFUL: these {len(evaluation.truth)} images are those it LEARNED FROM; the figures below flatter and say nothing about new images"
    return f"{len(evaluation.truth)} test images, none of which it learned from"


def write(evaluation: Evaluation, folder: Path, **about: Any) -> None:
    """Write `evaluation.json` (all figures, and what `about` adds) and `scores.npz` (the arrays) into `folder`."""
    files.write_json(folder / "evaluation.json", {**about, **evaluation.summary()})
    with files.replace_file(folder / "scores.npz") as file:
        np.savez(file, labels=np.array(evaluation.labels), paths=np.array(evaluation.paths), truth=evaluation.truth,
                 scores=evaluation.scores, probabilities=evaluation.probabilities)


def read(folder: Path) -> dict[str, Any]:
    """The figures that `write` wrote.

    Raises
    ------
    ImgclfError : there is no `evaluation.json` in the folder.
    """
    path = folder / "evaluation.json"
    if not path.exists():
        raise ImgclfError(f"{path}: no evaluation yet; run 05_evaluate first")
    return json.loads(path.read_text(encoding="utf-8"))


def table(figures: dict[str, Any]) -> str:
    """The accuracies of an `evaluation.json` as lines of text, whole percent."""
    def line(name: str, images: int, value: float | None, interval: list[float] | None, area: float | None = None) -> str:
        accuracy = f"{value:5.0%}   {interval[0]:4.0%} to {interval[1]:4.0%}" if value is not None else "    no test images"
        return f"{name:<32.32}{images:>6}  {accuracy}" + (f"{area:9.2f}" if area is not None else "")

    flatters = ["CAREFUL: of the images it LEARNED FROM, which says nothing about new ones"] if figures.get("evaluated_on") == "train" else []
    lines = [*flatters, f"{'':<32}{'images':>6}  {'accuracy':>8} {'95 % interval':>13}{'ROC area':>9}"]
    lines += [line(label, row["images"], row["accuracy"], row["accuracy_interval"], row["roc_auc"]) for label, row in figures["classes"].items()]
    lines += [line(name, figures["images"], figures[key], figures[f"{key}_interval"]) for name, key in
              (("overall accuracy", "overall_accuracy"), ("overall class-averaged accuracy", "class_averaged_accuracy"))]
    chances = (("chance level, class-averaged", "chance_level"), ("always the commonest label, overall", "largest_share"))
    return "\n".join([*lines, *(f"{name:<40}{figures[key]:5.0%}" for name, key in chances)])
