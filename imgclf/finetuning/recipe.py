"""The hyperparameters of fine-tuning, and the learning rate schedule that follows from them."""

import math
from dataclasses import asdict, dataclass
from typing import Any

from imgclf import ImgclfError

ALL = "all"
WARM_UP = 0.1  # share of the steps in which a single learning rate grows to its full value
TRAIN_SIZE_RATIO = 7 / 8  # of the input size; see `Recipe.train_size`
SIZE_MULTIPLE = 16  # pixels; sides that are multiples of it divide evenly at each stride


@dataclass(frozen=True)
class Recipe:
    """The hyperparameters.

    Attributes
    ----------
    epochs : passes over the training images. 0 : only the new last layer is trained, on the features of the
        network as it is.
    batch_size : images per gradient step.
    dropout : dropout rate before the last layer, 0 to 1: share of the features set to 0, drawn anew for each
        image.
    learning_rate : one value: linear warm-up over the first tenth of the steps, then a cosine schedule to 0.
        Several values: one per epoch, the last repeats, as in the tutorial; values beyond the last epoch are
        not used. CNTK's momentum was "unit gain", so its 0.01 is 0.001 here.
    optimizer : "adamw", or "sgd" as in the tutorial.
    momentum : momentum of the optimizer (Adam: beta 1), 0 to 1.
    weight_decay : weight decay of the optimizer; more of it regularizes more.
    trainable_stages : number of stages at the end of the network that are trained with the new last layer,
        while those before are frozen; "all" : the whole network is trained.
    balance : class balancing: whether images of rare labels are oversampled until all labels are equally
        frequent.
    max_train_images : images per epoch at most, drawn anew for each; 0 : all.
    augment : data augmentation: whether each image is shown in another random view each time; see `augment`.
    average : weight averaging: share of all steps that the running average of the weights covers. The average
        is what is validated and written. 0 : no averaging.
    seed : random seed of the order, the data augmentation, the dropout, and the choice of validation images.
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

    def learning_rate_at(self, step: int, steps_per_epoch: int) -> float:
        """Return the learning rate of a step, counted from 0 over all epochs."""
        if len(self.learning_rate) > 1:
            return self.learning_rate[min(step // steps_per_epoch, len(self.learning_rate) - 1)]
        steps = self.epochs * steps_per_epoch
        warm_up = max(1, round(WARM_UP * steps))
        if step < warm_up:
            return self.learning_rate[0] * (step + 1) / warm_up
        return self.learning_rate[0] * (1 + math.cos(math.pi * (step - warm_up) / (steps - warm_up))) / 2

    def train_size(self, input_size: int) -> int:
        """Return width and height of the training images, pixels: about 7/8 of the input size.

        Training at this size takes a quarter less time. A crop that is scaled up to the full size shows
        objects larger than they appear at inference; a network that is trained at a smaller size and used
        at a larger one does better (H. Touvron et al., "Fixing the train-test resolution discrepancy",
        arXiv 1906.06423).
        """
        size = SIZE_MULTIPLE * round(TRAIN_SIZE_RATIO * input_size / SIZE_MULTIPLE)
        return min(input_size, max(2 * SIZE_MULTIPLE, size))

    def as_json(self) -> dict[str, Any]:
        """Return the hyperparameters as plain values."""
        return {**asdict(self), "learning_rate": list(self.learning_rate)}


def from_parameters(values: dict[str, Any]) -> Recipe:
    """Return the recipe that the parameters of 02_refine_dnn specify; other names in `values` are ignored.

    Raises
    ------
    ImgclfError : no learning rate, or one that is not above 0.
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
    """Return a sentence if the learning rates are more or fewer than the epochs; "" if they fit."""
    rates = recipe.learning_rate
    if len(rates) in (1, recipe.epochs):
        return ""
    note = f"learning_rate has {len(rates)} numbers for {recipe.epochs} epochs; "
    if len(rates) < recipe.epochs:
        return f"{note}the last, {rates[-1]:g}, is used for the rest"
    return f"{note}the last {len(rates) - recipe.epochs} are not used"
