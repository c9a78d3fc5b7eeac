"""The learning curve of a fine-tuning, and its diagnosis: underfitting, overfitting, or not converged yet."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from imgclf.files import shipped
from imgclf.finetuning.recipe import Recipe

SMALL_ERROR = 0.02  # share of images; a training error above it is not "near zero"
WIDE_GAP = 0.08  # between training and validation error
EXAMPLE = shipped("notebooks") / "example_learning_curve.json"
FEW_VALIDATION_IMAGES = 100  # below, one wrong image more or less is a large step in the curve
STILL_FALLING = (
    0.95  # ratio of a validation loss to the lowest before, below which it has not reached a plateau
)


@dataclass(frozen=True)
class Epoch:
    """The measurements of one epoch. Errors are shares of images, 0 to 1; NaN where nothing was measured.

    Attributes
    ----------
    number : from 1; 0 is the start, where only the new last layer has been trained.
    loss, train_error : mean over the epoch's batches, with data augmentation and dropout, while the weights
        change.
    validation_error : of the validation images, after the epoch.
    validation_loss : their cross-entropy, after temperature scaling.
    """

    number: int
    loss: float
    train_error: float
    validation_error: float
    validation_loss: float

    def __str__(self) -> str:
        if not self.number:
            return f"start: validation error {self.validation_error:.1%}"
        return (
            f"epoch {self.number}: loss {self.loss:.2f}, training error {self.train_error:.1%}, "
            f"validation error {self.validation_error:.1%}"
        )


def from_json(values: Mapping[str, Any]) -> Epoch:
    """Return an epoch from the plain values of its attributes, where null stands for NaN."""
    known: dict[str, Any] = {name: float("nan") if value is None else value for name, value in values.items()}
    return Epoch(**known)


def example() -> tuple[Epoch, ...]:
    """Return the learning curve of one fine-tuning on the demo set, which is stored beside the notebooks."""
    stored = json.loads(EXAMPLE.read_text(encoding="utf-8"))
    return tuple(from_json(values) for values in stored["epochs"])


def best(epochs: Sequence[Epoch]) -> Epoch:
    """Return the epoch with the smallest validation loss; without validation images, the last.

    Not the smallest error: of thirty images one more or less that is right is chance, while the loss also
    weighs the confidence in each prediction.
    """
    measured = [epoch for epoch in epochs if not math.isnan(epoch.validation_loss)]
    return min(measured, key=lambda epoch: epoch.validation_loss) if measured else epochs[-1]


def summary(epochs: Sequence[Epoch], *, validation_images: int) -> str:
    """Return the improvement by the epoch that is kept, as a sentence without a full stop.

    Parameters
    ----------
    validation_images : their number.
    """
    start, kept = epochs[0], best(epochs)
    first = f"validation error {_with_interval(start, validation_images)} with a new last layer only"
    if kept.number:
        found = f"{first}, {_with_interval(kept, validation_images)} after epoch {kept.number}, which is kept"
    else:
        found = f"{first}; no later epoch was better, so that is kept"
    if validation_images:
        found += f" (in parentheses the 95 % intervals of {validation_images} independent images)"
    return found


def _with_interval(epoch: Epoch, images: int) -> str:
    """Return the validation error with the interval of C. Clopper and E. Pearson (1934)."""
    from scipy.stats import binomtest

    error = f"{epoch.validation_error:.1%}"
    if not images:
        return error
    low, high = binomtest(round(epoch.validation_error * images), images).proportion_ci(method="exact")
    return f"{error} ({low:.0%} to {high:.0%})"


def diagnose(epochs: Sequence[Epoch], recipe: Recipe, *, validation_images: int) -> list[str]:
    """Return sentences about underfitting, overfitting and convergence; empty if there were no epochs.

    Parameters
    ----------
    validation_images : their number.
    """
    trained = [epoch for epoch in epochs if epoch.number > 0]
    if not trained:
        return []
    last, found = trained[-1], []
    gap = last.validation_error - last.train_error
    if last.train_error > SMALL_ERROR:
        rate = recipe.learning_rate[0]
        found.append(
            f"Underfitting: the training error ends at {last.train_error:.0%}, not near zero. "
            f"Try more epochs, or another learning_rate ({rate * 3:g} or {rate / 3:g})."
        )
    if gap > WIDE_GAP:
        found.append(
            f"Overfitting: the validation error is {gap:.0%} above the training error, a wide gap. "
            "More images help most; then more dropout or weight_decay."
        )
    if is_still_falling(trained):
        found.append(
            "No plateau yet: the validation loss was still falling at the end "
            f"({trained[-2].validation_loss:.2f}, then {last.validation_loss:.2f}). More epochs may help."
        )
    if best(epochs).number == 0:
        found.append(
            "No epoch was better than the start, so the network is left as it was: with these images and "
            "settings fine-tuning does not help. A smaller learning_rate may, or more images."
        )
    if validation_images < FEW_VALIDATION_IMAGES:
        found.append(
            f"There are only {validation_images} validation images, so the validation error has a resolution "
            f"of {1 / max(validation_images, 1):.0%}: smaller differences mean nothing."
        )
    return found or [
        "Training error near zero, no wide gap, and the validation loss has reached a plateau: "
        "the settings suit these images."
    ]


def is_still_falling(trained: Sequence[Epoch]) -> bool:
    """Whether the last epoch lowered the validation loss by more than a twentieth of the lowest before."""
    losses = [epoch.validation_loss for epoch in trained]
    return len(losses) > 1 and losses[-1] < STILL_FALLING * min(losses[:-1])
