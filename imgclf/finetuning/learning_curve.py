"""How a refinement went, epoch by epoch, and what that says of its settings."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imgclf.finetuning.recipe import Recipe

SMALL_ERROR = 0.02  # share of images; a training error above it is not "near zero"
WIDE_GAP = 0.08  # between training and validation error
EXAMPLE = Path(__file__).parents[2] / "notebooks" / "example_learning_curve.json"
FEW_VALIDATE = 100  # images; below, one of them more or less is a large step in the curve


@dataclass(frozen=True)
class Epoch:
    """What an epoch gave. Errors are shares of images, 0 to 1; NaN where nothing was measured.

    Attributes
    ----------
    number : from 1; 0 is the start, where only the new last layer has learned.
    loss, train_error : mean over the epoch, of changed images and with dropout, while the network still learned.
    validation_error : afterwards, of images that were not learned from. validation_loss : of the same, with the temperature that fits them best.
    """

    number: int
    loss: float
    train_error: float
    validation_error: float
    validation_loss: float

    def __str__(self) -> str:
        if not self.number:
            return f"start: validation error {self.validation_error:.1%}"
        return f"epoch {self.number}: loss {self.loss:.2f}, training error {self.train_error:.1%}, validation error {self.validation_error:.1%}"


def from_json(values: Mapping[str, Any]) -> Epoch:
    """An epoch from the plain values of its attributes, where null stands for NaN."""
    return Epoch(**{name: float("nan") if value is None else value for name, value in values.items()})


def example() -> tuple[Epoch, ...]:
    """Return the learning curve of one fine-tuning on the demo set, which is stored beside the notebooks."""
    stored = json.loads(EXAMPLE.read_text(encoding="utf-8"))
    return tuple(from_json(values) for values in stored["epochs"])


def best(epochs: Sequence[Epoch]) -> Epoch:
    """The epoch with the smallest validation loss; where nothing validates, the last.

    Not the smallest error: of thirty images one more or less that is right is luck, while the loss weighs how sure of each image it was.
    """
    measured = [epoch for epoch in epochs if not math.isnan(epoch.validation_loss)]
    return min(measured, key=lambda epoch: epoch.validation_loss) if measured else epochs[-1]


def gained(epochs: Sequence[Epoch]) -> str:
    """What the epoch that is kept is worth, in a sentence without an end."""
    start, kept = epochs[0], best(epochs)
    first = f"validation error {start.validation_error:.1%} with a new last layer only"
    return (
        f"{first}, {kept.validation_error:.1%} after epoch {kept.number}, which is kept"
        if kept.number
        else f"{first}; no later epoch was better, so that is kept"
    )


def diagnoses(epochs: Sequence[Epoch], recipe: Recipe, *, validate: int) -> list[str]:
    """What the curve says, in sentences; empty if there were no epochs.

    Parameters
    ----------
    validate : number of images that validated.
    """
    trained = [epoch for epoch in epochs if epoch.number > 0]
    if not trained:
        return []
    last, found = trained[-1], []
    if last.train_error > SMALL_ERROR:
        found.append(
            f"The training error ends at {last.train_error:.0%}, not near zero: the network has not learned its own images yet. "
            f"Try more epochs, or another learning_rate ({recipe.learning_rate[0] * 3:g} or {recipe.learning_rate[0] / 3:g})."
        )
    if last.validation_error - last.train_error > WIDE_GAP:
        found.append(
            f"The validation error is {last.validation_error - last.train_error:.0%} above the training error, a wide gap: it learns images by heart. "
            "More images help most; then more dropout or weight_decay."
        )
    if is_still_falling(trained):
        found.append(
            f"The validation loss was still falling at the end ({trained[-2].validation_loss:.2f}, then {last.validation_loss:.2f}): "
            "more epochs may help."
        )
    if best(epochs).number == 0:
        found.append(
            "No epoch was better than the start, so the network is left as it was: with these images and settings refining does not help. "
            "A smaller learning_rate may, or more images."
        )
    if validate < FEW_VALIDATE:
        found.append(
            f"Only {validate} images validate, so the validation error moves in steps of {1 / max(validate, 1):.0%}: read no more into it than that."
        )
    return found or [
        "Training error near zero, no wide gap, nothing falling any more: the settings suit these images."
    ]


def is_still_falling(trained: Sequence[Epoch]) -> bool:
    """Whether the last epoch brought the validation loss down by more than a twentieth, and lower than any before."""
    losses = [epoch.validation_loss for epoch in trained]
    return len(losses) > 1 and losses[-1] < 0.95 * min(losses[:-1])
