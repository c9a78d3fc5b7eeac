"""The training of a tail: steps, running average, validation, and the state that a later run goes on from."""

import copy
from collections.abc import Callable, Sequence
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
    """A tail with its new last layer, what it was after the best epoch so far, and what the optimizer remembers.

    Parameters
    ----------
    model : the tail, then dropout, then the last layer; changed in place.
    front : gives the maps of images as they are shown in training.
    held_back : the maps of the images that validate, as they will be seen later, in batches.
    """

    def __init__(
        self,
        model: "torch.nn.Sequential",
        examples: TrainingSet,
        recipe: Recipe,
        *,
        front: frozen.Front,
        held_back: Sequence["torch.Tensor"],
        device: str,
    ) -> None:
        import torch

        self.model = model.to(device, memory_format=torch.channels_last)
        self.examples, self.recipe, self.front, self.held_back, self.device = (
            examples,
            recipe,
            front,
            held_back,
            device,
        )
        self.average = copy.deepcopy(model)
        self.optimizer = _optimizer(model, recipe)
        self.epochs: list[Epoch] = []
        self.best = self._weights(self.average)
        self.steps_an_epoch = len(self._batches(1))

    def _batches(self, number: int) -> list[list[int]]:
        return batches(self.examples, self.recipe, number)

    def start(self) -> None:
        """Measure what the new last layer does before anything else has learned: epoch 0 of the curve."""
        if not self.epochs:
            self._note(0, float("nan"), float("nan"))

    def epoch(self, progress: Progress) -> Epoch:
        """Show all images once, learn from them, and validate."""
        import torch

        number = len(self.epochs)
        rows = self._batches(number)
        views = training_set.views(
            self.examples,
            rows,
            self.recipe,
            epoch=number,
            size=self.recipe.train_size(self.examples.pixels.side),
        )
        devices = [self.device] if self.device != "cpu" else []
        losses, wrong, done, total = [], 0, 0, sum(map(len, rows))
        with torch.random.fork_rng(devices):  # dropout draws from the generator of all
            torch.manual_seed(self.recipe.seed * 100_003 + number)
            for step, (batch, maps) in enumerate(
                zip(rows, self.front(views), strict=True), start=(number - 1) * self.steps_an_epoch
            ):
                truth = torch.from_numpy(self.examples.truth[batch]).to(self.device)
                loss, mistakes = self._step(maps, truth, step)
                losses.append(loss * len(batch))
                wrong, done = wrong + mistakes, done + len(batch)
                progress(done, total)
        return self._note(number, sum(losses) / total, wrong / total)

    def _step(self, maps: "torch.Tensor", truth: "torch.Tensor", step: int) -> tuple[float, int]:
        """Learn from a batch; its loss and the number of mistakes in it."""
        import torch

        rate = self.recipe.rate(step, self.steps_an_epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.model[-2].train()  # only the dropout: the normalizations keep their statistics
        with frozen.mixed_precision(self.device):
            scores = self.model(_channels_last(maps)).float()
        loss = torch.nn.functional.cross_entropy(scores, truth)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self._follow(step)
        return loss.item(), int((scores.argmax(1) != truth).sum())

    def _follow(self, step: int) -> None:
        """Let the average follow the weights: at first closely, later over `recipe.average` of all steps."""
        import torch

        steps = max(1.0, self.recipe.average * self.recipe.epochs * self.steps_an_epoch)
        share = max(1 / steps, 9 / (10 + step)) if self.recipe.average else 1.0
        with torch.no_grad():
            torch._foreach_lerp_(
                list(self.average.parameters()), list(self.model.parameters()), min(1.0, share)
            )

    def _note(self, number: int, loss: float, train_error: float) -> Epoch:
        """Validate, keep the weights if they are the best so far, and write the epoch into the curve."""
        scores, truth = self.validation_scores(), self.examples.truth[self.examples.held_back]
        epoch = measured(number, loss, train_error, scores, truth)
        self.epochs.append(epoch)
        if learning_curve.best(self.epochs) is epoch:
            self.best = self._weights(self.average)
        return epoch

    def validation_scores(self) -> np.ndarray:
        """Scores (n, k) of the images that validate, by the average."""
        self.average.eval()
        maps = map(_channels_last, self.held_back)
        return (
            frozen.features(lambda batches: batches, self.average, maps, device=self.device)
            if self.held_back
            else np.empty((0, len(self.examples.labels)))
        )

    @staticmethod
    def _weights(model: "torch.nn.Module") -> dict[str, np.ndarray]:
        """A copy of the weights that learn."""
        return {
            name: weight.detach().cpu().numpy().copy()
            for name, weight in model.named_parameters()
            if weight.requires_grad
        }

    def finish(self) -> None:
        """Give the model the weights of the best epoch."""
        _load(self.model, self.best)
        self.model.eval()

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Everything that the next epoch depends on, as arrays and as plain values."""
        arrays = {
            f"{kind} {name}": weight
            for kind, weights in (
                ("model", self._weights(self.model)),
                ("average", self._weights(self.average)),
                ("best", self.best),
            )
            for name, weight in weights.items()
        }
        memory = self.optimizer.state_dict()["state"]
        arrays |= {
            f"optimizer {i} {name}": value.cpu().numpy()
            for i, of in memory.items()
            for name, value in of.items()
            if value is not None
        }
        return arrays, {"epochs": [asdict(epoch) for epoch in self.epochs]}

    def restore(self, arrays: dict[str, np.ndarray], about: dict[str, Any]) -> None:
        """Go on from a `state`."""
        import torch

        parts: dict[str, dict[str, np.ndarray]] = {"model": {}, "average": {}, "best": {}}
        memory: dict[int, dict[str, torch.Tensor]] = {}
        for key, array in arrays.items():
            kind, name = key.split(" ", 1)
            if kind == "optimizer":
                i, of = name.split(" ")
                memory.setdefault(int(i), {})[of] = torch.from_numpy(array)
            else:
                parts[kind][name] = array
        _load(self.model, parts["model"])
        _load(self.average, parts["average"])
        self.best = parts["best"]
        self.optimizer.load_state_dict(
            {"state": memory, "param_groups": self.optimizer.state_dict()["param_groups"]}
        )
        self.epochs = [learning_curve.from_json(values) for values in about["epochs"]]


def _load(model: "torch.nn.Module", weights: dict[str, np.ndarray]) -> None:
    import torch

    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name in weights:
                weight.copy_(torch.from_numpy(weights[name]))


def _channels_last(maps: "torch.Tensor") -> "torch.Tensor":
    """Maps with the channels of a pixel side by side, which is how convolutions are fast; anything else as it is."""
    import torch

    is_maps = maps.ndim == 4 and maps.is_floating_point()
    return maps.contiguous(memory_format=torch.channels_last) if is_maps else maps


def _optimizer(model: "torch.nn.Sequential", recipe: Recipe) -> "torch.optim.Optimizer":
    """The optimizer; weight decay leaves out the normalizations and all biases."""
    import torch

    learning = [weight for weight in model.parameters() if weight.requires_grad]
    groups = [
        {"params": [weight for weight in learning if weight.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [weight for weight in learning if weight.ndim <= 1], "weight_decay": 0.0},
    ]
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=recipe.learning_rate[0], momentum=recipe.momentum)
    return torch.optim.AdamW(groups, lr=recipe.learning_rate[0], betas=(recipe.momentum, 0.999), fused=True)


def batches(examples: TrainingSet, recipe: Recipe, number: int) -> list[list[int]]:
    """The rows of an epoch in batches; a last one of less than half the size is left out, since its gradient is mostly chance."""
    found = list(frozen.batches(training_set.order(examples, recipe, number), recipe.batch_size))
    return found if len(found) == 1 or len(found[-1]) * 2 >= recipe.batch_size else found[:-1]


def measured(number: int, loss: float, train_error: float, scores: np.ndarray, truth: np.ndarray) -> Epoch:
    """An epoch with the validation by `scores` (n, k) of images whose labels are `truth` (n,)."""
    error = float((scores.argmax(1) != truth).mean()) if len(truth) else float("nan")
    return Epoch(
        number, loss, train_error, error, cross_entropy(scores / svm.temperature(scores, truth), truth)
    )


def cross_entropy(scores: np.ndarray, truth: np.ndarray) -> float:
    """Mean of -log of the probability of the true label; NaN of no images. `scores` (n, k), `truth` (n,) int."""
    from scipy.special import log_softmax

    return (
        float(-log_softmax(scores, axis=1)[np.arange(len(truth)), truth].mean())
        if len(truth)
        else float("nan")
    )
