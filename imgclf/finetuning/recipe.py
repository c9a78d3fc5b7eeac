"""How a network is refined: every knob, and the learning rate that follows from them."""

import math
from dataclasses import asdict, dataclass
from typing import Any

from imgclf import ImgclfError

ALL = "all"
WARM_UP = 0.1  # share of the steps in which a single learning rate grows to its full value
TRAINED_AT = (
    7 / 8
)  # of the input size: images are shown smaller while training than later (see `Recipe.train_size`)
GRAIN = 16  # pixels; sides that are multiples of it divide well on their way through the network


@dataclass(frozen=True)
class Recipe:
    """The knobs.

    Attributes
    ----------
    epochs : times that all images are shown. 0 : the new last layer only, learned from the features of the network as it is.
    batch_size : images a step.
    dropout : share of the features that the last layer does without, drawn anew for each image, 0 to 1.
    learning_rate : one number: it grows to that over the first tenth of the steps, then falls along a cosine to 0. Several: one an epoch, the last
        repeats, as in the tutorial; numbers beyond the last epoch are not used. CNTK's momentum was "unit gain", so its 0.01 is 0.001 here.
    optimizer : "adamw", or "sgd" as the tutorial had it.
    momentum : share of the last step that the next one keeps (of Adam: its beta 1).
    weight_decay : how strongly weights are drawn towards 0.
    trainable_stages : how many of the last stages learn beside the new last layer; "all" : the whole network.
    balance : whether images of rare labels are shown more often, until all labels are shown equally often.
    max_train_images : images an epoch at most, drawn anew for each; 0 : all.
    augment : whether each image is shown in another random view each time.
    average : share of all steps over which the weights are averaged; what is tested and written is the average. 0 : no average.
    seed : of the order, the views, the dropout, and which images validate.
    """

    epochs: int = 5
    batch_size: int = 32
    dropout: float = 0.2
    learning_rate: tuple[float, ...] = (4e-4,)
    optimizer: str = "adamw"
    momentum: float = 0.9
    weight_decay: float = 0.05
    trainable_stages: int | str = 3
    balance: bool = False
    max_train_images: int = 0
    augment: bool = True
    average: float = 0.2
    seed: int = 0

    def rate(self, step: int, steps_an_epoch: int) -> float:
        """The learning rate of a step, counted from 0 over all epochs."""
        if len(self.learning_rate) > 1:
            return self.learning_rate[min(step // steps_an_epoch, len(self.learning_rate) - 1)]
        steps = self.epochs * steps_an_epoch
        warm_up = max(1, round(WARM_UP * steps))
        if step < warm_up:
            return self.learning_rate[0] * (step + 1) / warm_up
        return self.learning_rate[0] * (1 + math.cos(math.pi * (step - warm_up) / (steps - warm_up))) / 2

    def train_size(self, input_size: int) -> int:
        """Width and height of the images that it is trained with, pixels: about 7/8 of the input size.

        It is faster by a quarter. And a crop that is scaled up to the full size shows things larger than they are later seen; trained smaller
        and used larger, a network does better (H. Touvron et al., "Fixing the train-test resolution discrepancy", arXiv 1906.06423).
        """
        return min(input_size, max(2 * GRAIN, GRAIN * round(TRAINED_AT * input_size / GRAIN)))

    def about(self) -> dict[str, Any]:
        """The knobs as plain values, for JSON."""
        return {**asdict(self), "learning_rate": list(self.learning_rate)}


def of_parameters(values: dict[str, Any]) -> Recipe:
    """The recipe that the parameters of 02_refine_dnn ask for; others that `values` holds are left alone.

    Raises
    ------
    ImgclfError : parameters that cannot go together, or a number that makes no sense.
    """
    known = {name: values[name] for name in Recipe.__dataclass_fields__ if name in values}
    stages = known.get("trainable_stages", ALL)
    known["trainable_stages"] = int(stages) if str(stages).isdecimal() else ALL
    if "learning_rate" in known:
        known["learning_rate"] = tuple(known["learning_rate"])
        if not known["learning_rate"] or min(known["learning_rate"]) <= 0:
            raise ImgclfError(
                f"learning_rate={list(known['learning_rate'])}: give at least one number, all above 0"
            )
    return Recipe(**known)


def schedule_note(recipe: Recipe) -> str:
    """A sentence about a list of learning rates that is longer or shorter than the epochs; empty if it fits."""
    rates = recipe.learning_rate
    if len(rates) in (1, recipe.epochs):
        return ""
    if len(rates) < recipe.epochs:
        return f"learning_rate has {len(rates)} numbers for {recipe.epochs} epochs; the last, {rates[-1]:g}, is used for the rest"
    return f"learning_rate has {len(rates)} numbers for {recipe.epochs} epochs; the last {len(rates) - recipe.epochs} are not used"
