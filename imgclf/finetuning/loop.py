"""The training loop in torch: gradient steps, weight averaging, validation, and the state of a checkpoint."""

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from imgclf import svm
from imgclf.finetuning import frozen, learning_curve, training_set
from imgclf.finetuning.learning_curve import Epoch
from imgclf.finetuning.recipe import Recipe
from imgclf.finetuning.training_set import TrainingSet

if TYPE_CHECKING:
    import torch

Progress = Callable[[int, int], None]  # images done and images in all, of an epoch


class Training:
    """A model in training: its weights, their running average, those of the best epoch, and the optimizer.

    Parameters
    ----------
    model : the trainable part, then dropout, then the last layer; changed in place.
    frozen_part : from augmented images to feature maps. train_size : of those images, pixels.
    validation_maps : the feature maps of the validation images, without data augmentation, in batches.
    frozen_weights : those of the frozen part, which the parts of a model of the Hub refer to.
    """

    def __init__(
        self,
        model: "torch.nn.Sequential",
        examples: TrainingSet,
        recipe: Recipe,
        *,
        frozen_part: frozen.FrozenPart,
        train_size: int,
        validation_maps: Sequence["torch.Tensor"],
        device: str,
        frozen_weights: Iterable["torch.Tensor"] = (),
    ) -> None:
        import torch

        self.model: torch.nn.Sequential = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.examples = examples
        self.recipe = recipe
        self.frozen_part = frozen_part
        self.train_size = train_size
        self.validation_maps = validation_maps
        self.device = device
        self.average = copy.deepcopy(model, {id(weight): weight for weight in frozen_weights})
        self.optimizer = _optimizer(model, recipe)
        self.epochs: list[Epoch] = []
        self.best_weights = self._trainable_weights(self.average)
        self.steps_per_epoch = len(epoch_batches(examples, recipe, 1))

    def start(self) -> None:
        """Validate the new last layer before anything else is trained: epoch 0 of the learning curve."""
        if not self.epochs:
            self._validate(0, float("nan"), float("nan"))

    def train_epoch(self, progress: Progress) -> Epoch:
        """Train on all training images once, and validate."""
        import torch

        number = len(self.epochs)
        rows = epoch_batches(self.examples, self.recipe, number)
        views = training_set.augmented_batches(
            self.examples,
            rows,
            self.recipe,
            epoch=number,
            size=self.train_size,
        )
        devices = [self.device] if self.device != "cpu" else []
        losses, wrong, done, total = [], 0, 0, sum(map(len, rows))
        with torch.random.fork_rng(devices):  # dropout draws from the global generator
            torch.manual_seed(self.recipe.seed * 100_003 + number)
            for step, (batch, maps) in enumerate(
                zip(rows, self.frozen_part(views), strict=True), start=(number - 1) * self.steps_per_epoch
            ):
                targets = torch.from_numpy(self.examples.targets[batch]).to(self.device)
                loss, mistakes = self._step(maps, targets, step)
                losses.append(loss * len(batch))
                wrong, done = wrong + mistakes, done + len(batch)
                progress(done, total)
        return self._validate(number, sum(losses) / total, wrong / total)

    def _step(self, maps: "torch.Tensor", targets: "torch.Tensor", step: int) -> tuple[float, int]:
        """Take a gradient step on a batch; return its loss and its number of wrong predictions."""
        import torch

        learning_rate = self.recipe.learning_rate_at(step, self.steps_per_epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.model[-2].train()  # only the dropout: the normalizations keep their running statistics
        with frozen.mixed_precision(self.device):
            scores = self.model(_channels_last(maps)).float()
        loss = torch.nn.functional.cross_entropy(scores, targets)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self._update_average(step)
        return loss.item(), int((scores.argmax(1) != targets).sum())

    def _update_average(self, step: int) -> None:
        """Update the exponential moving average of the weights.

        Its window grows with the number of steps, up to `recipe.average` of all steps.
        """
        import torch

        steps = max(1.0, self.recipe.average * self.recipe.epochs * self.steps_per_epoch)
        share = max(1 / steps, 9 / (10 + step)) if self.recipe.average else 1.0
        with torch.no_grad():
            torch._foreach_lerp_(
                list(self.average.parameters()), list(self.model.parameters()), min(1.0, share)
            )

    def _validate(self, number: int, loss: float, train_error: float) -> Epoch:
        """Validate, keep the weights if they are the best so far, and extend the learning curve."""
        targets = self.examples.targets[self.examples.validation_rows]
        epoch = validated_epoch(number, loss, train_error, self.validation_scores(), targets)
        self.epochs.append(epoch)
        if learning_curve.best(self.epochs) is epoch:
            self.best_weights = self._trainable_weights(self.average)
        return epoch

    def validation_scores(self) -> np.ndarray:
        """Return the scores (n, k) of the validation images by the averaged weights."""
        if not self.validation_maps:
            return np.empty((0, len(self.examples.labels)))
        self.average.eval()
        return frozen.run(self.average, map(_channels_last, self.validation_maps), device=self.device)

    @staticmethod
    def _trainable_weights(model: "torch.nn.Module") -> dict[str, np.ndarray]:
        """Return a copy of the weights that have gradients."""
        return {
            name: weight.detach().cpu().numpy().copy()
            for name, weight in model.named_parameters()
            if weight.requires_grad
        }

    def finish(self) -> tuple[np.ndarray, np.ndarray]:
        """Load the weights of the best epoch; return its last layer, (k, d) weights and (k,) offsets."""
        _load(self.model, self.best_weights)
        self.model.eval()
        weights, offsets = (values.detach().cpu().numpy() for values in self.model[-1].parameters())
        return weights, offsets

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Return everything that the next epoch depends on, as arrays and as plain values."""
        arrays = {
            f"{kind} {name}": weight
            for kind, weights in (
                ("model", self._trainable_weights(self.model)),
                ("average", self._trainable_weights(self.average)),
                ("best", self.best_weights),
            )
            for name, weight in weights.items()
        }
        moments = self.optimizer.state_dict()["state"]
        arrays |= {
            f"optimizer {i} {name}": value.cpu().numpy()
            for i, values in moments.items()
            for name, value in values.items()
            if value is not None
        }
        return arrays, {"epochs": [asdict(epoch) for epoch in self.epochs]}

    def restore(self, arrays: dict[str, np.ndarray], about: dict[str, Any]) -> None:
        """Resume from a `state`."""
        import torch

        weights: dict[str, dict[str, np.ndarray]] = {"model": {}, "average": {}, "best": {}}
        moments: dict[int, dict[str, torch.Tensor]] = {}
        for key, array in arrays.items():
            kind, name = key.split(" ", 1)
            if kind == "optimizer":
                i, moment = name.split(" ")
                moments.setdefault(int(i), {})[moment] = torch.from_numpy(array)
            else:
                weights[kind][name] = array
        _load(self.model, weights["model"])
        _load(self.average, weights["average"])
        self.best_weights = weights["best"]
        # In the memory format of the weights, which the fused optimizer takes for granted.
        parameters = [weight for group in self.optimizer.param_groups for weight in group["params"]]
        for position, moments_of in moments.items():
            for moment, value in moments_of.items():
                if value.shape == parameters[position].shape:
                    moments_of[moment] = torch.empty_like(parameters[position]).copy_(value)
        self.optimizer.load_state_dict(
            {"state": moments, "param_groups": self.optimizer.state_dict()["param_groups"]}
        )
        self.epochs = [learning_curve.from_json(values) for values in about["epochs"]]


def _load(model: "torch.nn.Module", weights: dict[str, np.ndarray]) -> None:
    import torch

    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name in weights:
                weight.copy_(torch.from_numpy(weights[name]))


def _channels_last(maps: "torch.Tensor") -> "torch.Tensor":
    """Return feature maps in memory format channels_last, where convolutions are fast; others as is."""
    import torch

    is_maps = maps.ndim == 4 and maps.is_floating_point()
    return maps.contiguous(memory_format=torch.channels_last) if is_maps else maps


def _optimizer(model: "torch.nn.Sequential", recipe: Recipe) -> "torch.optim.Optimizer":
    """Return the optimizer; weight decay leaves out what scales or shifts channels, such as all biases."""
    import torch

    weights = [weight for weight in model.parameters() if weight.requires_grad]
    groups = [
        {
            "params": [weight for weight in weights if not _is_vector(weight)],
            "weight_decay": recipe.weight_decay,
        },
        {"params": [weight for weight in weights if _is_vector(weight)], "weight_decay": 0.0},
    ]
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=recipe.learning_rate[0], momentum=recipe.momentum)
    return torch.optim.AdamW(groups, lr=recipe.learning_rate[0], betas=(recipe.momentum, 0.999), fused=True)


def _is_vector(weight: "torch.Tensor") -> bool:
    """Whether at most one axis is longer than 1: also the layer scale (d, 1, 1) of ConvNeXt."""
    return sum(length > 1 for length in weight.shape) <= 1


def epoch_batches(examples: TrainingSet, recipe: Recipe, number: int) -> list[list[int]]:
    """Return the rows of an epoch in batches.

    A last batch of less than half the batch size is left out, since its gradient is mostly noise.
    """
    rows = training_set.epoch_rows(examples, recipe, number)
    batches = list(frozen.batches(rows, recipe.batch_size))
    return batches if len(batches) == 1 or len(batches[-1]) * 2 >= recipe.batch_size else batches[:-1]


def validated_epoch(
    number: int, loss: float, train_error: float, scores: np.ndarray, targets: np.ndarray
) -> Epoch:
    """Return an epoch with the validation error and loss of scores (n, k) and targets (n,) int."""
    if not len(targets):
        return Epoch(number, loss, train_error, float("nan"), float("nan"))
    logits = scores / svm.fit_temperature(scores, targets)
    return Epoch(
        number,
        loss,
        train_error,
        validation_error=float((scores.argmax(1) != targets).mean()),
        validation_loss=float(svm.cross_entropy(logits, targets).mean()),
    )
