"""Refining in CNTK, as the tutorial did: a new last layer on features that stay, or the whole network."""

import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from imgclf import ImgclfError, engines, features, files
from imgclf.cntk import WorkerProcess
from imgclf.cntk.translation import NetworkSpec, translate
from imgclf.data.dataset import Dataset
from imgclf.engines.cntk import save
from imgclf.files import FIXED_NETWORK, REFINED_NETWORK
from imgclf.finetuning import learning_curve, training_set
from imgclf.finetuning.learning_curve import Epoch
from imgclf.finetuning.loop import Progress, batches, measured
from imgclf.finetuning.recipe import ALL, Recipe
from imgclf.finetuning.training_set import TrainingSet
from imgclf.svm import Head

MODEL = "cntk_refined.model"
LEARNING = {
    "Conv": (1, 2),
    "Gemm": (1, 2),
    "MatMul": (1,),
    "BatchNormalization": (1, 2),
}  # which inputs of an operator may learn
FEW_STEPS = 3  # from which the time of all is told
AT_ONCE = 16  # images that are only looked at


class CntkTraining:
    """A network in a worker, with a new last layer, and what it was after the best epoch so far.

    The normalizations keep their statistics: they are built as plain scales and offsets, so what is frozen gives the same in training and later.

    Parameters
    ----------
    begin : the last layer as it begins; None : zeros.

    Raises
    ------
    ImgclfError : CNTK is not installed, or `trainable_stages` is neither 0 nor all.
    """

    def __init__(self, found: Dataset, examples: TrainingSet, recipe: Recipe, *, begin: Head | None) -> None:
        if recipe.trainable_stages not in (0, ALL):
            raise ImgclfError(
                f"trainable_stages={recipe.trainable_stages}: engine='cntk' learns the new last layer alone (0) or the whole network (all); set one of them"
            )
        self.recipe, self.examples, self.epochs = replace(recipe, average=0.0), examples, []
        self.proc = files.proc_dir(found.name)
        self.network = translate(onnx.load(self.proc / FIXED_NETWORK), FIXED_NETWORK)
        self.learns_all = recipe.trainable_stages == ALL
        self.process = WorkerProcess()
        self._features = None if self.learns_all else _features(found, examples)
        learns = _learned(self.network) if self.learns_all else ()
        (self.network if self.learns_all else _nothing(self._features.shape[1])).build(
            self.process, name=FIXED_NETWORK, trainable=learns
        )
        self._head = self._first_head(begin)
        self._attach([name for name in learns if self.network.weights[name].ndim > 1])
        self.best = self._values()
        self.steps_an_epoch = len(batches(examples, recipe, 1))

    def _first_head(self, begin: Head | None) -> dict[str, np.ndarray]:
        classes = len(self.examples.labels)
        if begin is not None:
            return {"head.weights": begin.weights.T, "head.offsets": begin.offsets}
        return {
            "head.weights": np.zeros((self._features.shape[1], classes), np.float32),
            "head.offsets": np.zeros(classes, np.float32),
        }

    def _attach(self, decayed: list[str]) -> None:
        """Put the last layer behind the network."""
        self.process.request(
            "start_training",
            self._head,
            optimizer=self.recipe.optimizer,
            momentum=self.recipe.momentum,
            weight_decay=self.recipe.weight_decay,
            dropout=self.recipe.dropout,
            seed=self.recipe.seed + 1,
            decayed=[*decayed, "head.weights"],
        )

    def start(self) -> None:
        """Measure what the last layer does before the first step: epoch 0 of the curve."""
        if not self.epochs:
            self._note(0, float("nan"), float("nan"))

    def epoch(self, progress: Progress) -> Epoch:
        """Show all images once, learn from them, and validate. In the first epoch it prints how long all of them will take."""
        number = len(self.epochs)
        rows = batches(self.examples, self.recipe, number)
        losses, wrong, done, total = 0.0, 0, 0, sum(map(len, rows))
        begun = time.perf_counter()
        for k, (batch, images) in enumerate(zip(rows, self._views(rows, number), strict=True)):
            rate = self.recipe.rate((number - 1) * self.steps_an_epoch + k, self.steps_an_epoch)
            told, _ = self.process.request(
                "train_step",
                {"images": images, "labels": self.examples.truth[batch].astype(np.int64)},
                rate=rate,
            )
            losses, wrong, done = (
                losses + told["loss"] * len(batch),
                wrong + told["errors"],
                done + len(batch),
            )
            progress(done, total)
            if number == 1 and k + 1 == FEW_STEPS:
                print(forecast(done / (time.perf_counter() - begun), total, self.recipe.epochs), flush=True)
        if not np.isfinite(losses):
            raise ImgclfError(
                f"learning_rate={list(self.recipe.learning_rate)}: the loss is no number any more in epoch {number}; set a smaller one"
            )
        return self._note(number, losses / total, wrong / total)

    def _views(self, rows: list[list[int]], number: int) -> Iterator[np.ndarray]:
        """What the worker is shown: features, or images in another view each time."""
        if not self.learns_all:
            return (self._features[batch] for batch in rows)
        return training_set.views(
            self.examples, rows, self.recipe, epoch=number, size=self.examples.pixels.side
        )

    def _note(self, number: int, loss: float, train_error: float) -> Epoch:
        rows = self.examples.held_back
        self.epochs.append(measured(number, loss, train_error, self.scores(rows), self.examples.truth[rows]))
        if learning_curve.best(self.epochs) is self.epochs[-1]:
            self.best = self._values()
        return self.epochs[-1]

    def scores(self, rows: np.ndarray) -> np.ndarray:
        """Scores (n, k) of some of the images, as they are seen later."""
        if not len(rows):
            return np.empty((0, len(self.examples.labels)), np.float32)
        shown = (
            training_set.unchanged(self.examples, rows, batch_size=AT_ONCE)
            if self.learns_all
            else engines.batches(self._features[rows], 4096)
        )
        return np.concatenate([self.process.request("run", {"images": part})[1]["0"] for part in shown])

    def _values(self) -> dict[str, np.ndarray]:
        return self.process.request("get_weights")[1]

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Everything that the next epoch depends on but for the dropout's luck, as arrays and as plain values."""
        _, kept = self.process.request("checkpoint")
        return {
            **{f"cntk {name}": value for name, value in kept.items()},
            **{f"best {name}": value for name, value in self.best.items()},
        }, {"epochs": [asdict(epoch) for epoch in self.epochs]}

    def restore(self, arrays: dict[str, np.ndarray], about: dict[str, Any]) -> None:
        """Go on from a `state`."""
        self.process.request(
            "restore",
            {name.removeprefix("cntk "): value for name, value in arrays.items() if name.startswith("cntk ")},
        )
        self.best = {
            name.removeprefix("best "): value for name, value in arrays.items() if name.startswith("best ")
        }
        self.epochs = [learning_curve.from_json(values) for values in about["epochs"]]

    def finish(self) -> tuple[np.ndarray, np.ndarray]:
        """Write the network of the best epoch as `dnn_refined.onnx` and `cntk_refined.model`; its last layer, (k, d) and (k,)."""
        self.process.close()  # an interrupt may have ended it in the middle of a step
        self.process = WorkerProcess()
        self.network.build(
            self.process,
            name=FIXED_NETWORK,
            trainable=tuple(name for name in self.best if name in self.network.weights),
        )
        self._attach([])
        self.process.request("set_weights", self.best)
        save(self.process, self.proc / MODEL)
        self.process.close()
        write_weights(self.proc / FIXED_NETWORK, self.best, self.proc / REFINED_NETWORK)
        return np.ascontiguousarray(self.best["head.weights"].T), self.best["head.offsets"]


def _features(found: Dataset, examples: TrainingSet) -> np.ndarray:
    """The features of all training images, (n, d), computed in CNTK and kept where 03_run_dnn keeps them."""
    network = files.proc_dir(found.name) / FIXED_NETWORK
    cache = features.Cache.of(found.name, network, engine=engines.CNTK)
    features.compute(found, network, cache, subset=examples.images, engine=engines.CNTK, batch_size=AT_ONCE)
    return cache.features(examples.images).matrix


def _nothing(length: int) -> NetworkSpec:
    """A network that gives features as it takes them."""
    return NetworkSpec(
        "features",
        (length,),
        ({"operator": "Identity", "inputs": ["features"], "output": "same", "attributes": {}},),
        ("same",),
        {},
    )


def _learned(network: NetworkSpec) -> tuple[str, ...]:
    """The names of the weights of a network that may learn."""
    names = [
        node["inputs"][k]
        for node in network.nodes
        for k in LEARNING.get(node["operator"], ())
        if k < len(node["inputs"])
    ]
    return tuple(dict.fromkeys(name for name in names if name in network.weights))


def write_weights(network: Path, values: dict[str, np.ndarray], path: Path) -> None:
    """Write an ONNX network again with other values of some of its weights."""
    model = onnx.load(network)
    for tensor in model.graph.initializer:
        if tensor.name in values:
            tensor.CopyFrom(
                numpy_helper.from_array(values[tensor.name].reshape(tuple(tensor.dims)), tensor.name)
            )
    with files.replace_file(path) as file:
        file.write(model.SerializeToString(deterministic=True))


def forecast(per_second: float, images: int, epochs: int) -> str:
    """How long learning will take, in words."""
    minutes = images / per_second / 60
    return f"CNTK learns from {per_second:.3g} images a second: an epoch takes about {minutes:.1f} minutes, {epochs} epochs {minutes * epochs:.0f}"
