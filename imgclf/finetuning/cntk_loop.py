"""The training loop in CNTK, as in the tutorial: a new last layer on fixed features, or the whole network."""

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
from imgclf.finetuning.loop import Progress, epoch_batches, validated_epoch
from imgclf.finetuning.recipe import ALL, Recipe
from imgclf.finetuning.training_set import TrainingSet
from imgclf.svm import Head

MODEL = "cntk_refined.model"
TRAINABLE_INPUTS = {  # of the operators that have trainable weights
    "Conv": (1, 2),
    "Gemm": (1, 2),
    "MatMul": (1,),
    "BatchNormalization": (1, 2),
}
TIMED_STEPS = 3  # after which the time of all epochs is estimated
INFERENCE_BATCH_SIZE = 16  # of batches without gradients
FEATURES_BATCH_SIZE = 4096  # of batches of feature vectors


class CntkTraining:
    """A network with a new last layer in training, in a CNTK process, and its weights of the best epoch.

    Batch normalizations keep their running statistics: they are built as plain scales and offsets, so that a
    frozen layer computes the same in training and at inference.

    Parameters
    ----------
    initial_head : the initial weights of the last layer; None : zeros.

    Raises
    ------
    ImgclfError : CNTK is not installed, or `trainable_stages` is neither 0 nor all.
    """

    def __init__(
        self, dataset: Dataset, examples: TrainingSet, recipe: Recipe, *, initial_head: Head | None
    ) -> None:
        if recipe.trainable_stages not in (0, ALL):
            raise ImgclfError(
                f"trainable_stages={recipe.trainable_stages}: engine='cntk' trains the new last layer "
                "alone (0) or the whole network (all); set one of them"
            )
        self.recipe, self.examples = replace(recipe, average=0.0), examples
        self.epochs: list[Epoch] = []
        self.proc = files.proc_dir(dataset.name)
        self.network = translate(onnx.load(self.proc / FIXED_NETWORK), FIXED_NETWORK)
        self.trains_all = recipe.trainable_stages == ALL
        self.process = WorkerProcess()
        if self.trains_all:
            trainable = _trainable_weights(self.network)
            self.network.build(self.process, name=FIXED_NETWORK, trainable=trainable)
        else:
            trainable = ()
            self._features = _features(dataset, examples)
            _identity(self._features.shape[1]).build(self.process, name=FIXED_NETWORK, trainable=trainable)
        self._head = self._initial_weights(initial_head)
        self._attach_head([name for name in trainable if self.network.weights[name].ndim > 1])
        self.best_weights = self._weights()
        self.steps_per_epoch = len(epoch_batches(examples, recipe, 1))

    def _initial_weights(self, head: Head | None) -> dict[str, np.ndarray]:
        if head is not None:
            return {"head.weights": head.weights.T, "head.offsets": head.offsets}
        classes = len(self.examples.labels)
        return {
            "head.weights": np.zeros((self._features.shape[1], classes), np.float32),
            "head.offsets": np.zeros(classes, np.float32),
        }

    def _attach_head(self, decayed: list[str]) -> None:
        """Append the last layer to the network; `decayed` : other weights that have weight decay."""
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
        """Validate the initial last layer before the first step: epoch 0 of the learning curve."""
        if not self.epochs:
            self._validate(0, float("nan"), float("nan"))

    def train_epoch(self, progress: Progress) -> Epoch:
        """Train on all training images once, and validate; the first epoch prints a time estimate."""
        number = len(self.epochs)
        rows = epoch_batches(self.examples, self.recipe, number)
        losses, wrong, done, total = 0.0, 0, 0, sum(map(len, rows))
        begun = time.perf_counter()
        for k, (batch, inputs) in enumerate(zip(rows, self._training_inputs(rows, number), strict=True)):
            rate = self.recipe.learning_rate_at((number - 1) * self.steps_per_epoch + k, self.steps_per_epoch)
            targets = self.examples.targets[batch].astype(np.int64)
            reply, _ = self.process.request("train_step", {"images": inputs, "labels": targets}, rate=rate)
            losses += reply["loss"] * len(batch)
            wrong, done = wrong + reply["errors"], done + len(batch)
            progress(done, total)
            if number == 1 and k + 1 == TIMED_STEPS:
                per_second = done / (time.perf_counter() - begun)
                print(time_estimate(per_second, total, self.recipe.epochs), flush=True)
        if not np.isfinite(losses):
            raise ImgclfError(
                f"learning_rate={list(self.recipe.learning_rate)}: the training diverges, the loss of epoch "
                f"{number} is not finite; set a smaller learning rate"
            )
        return self._validate(number, losses / total, wrong / total)

    def _training_inputs(self, rows: list[list[int]], number: int) -> Iterator[np.ndarray]:
        """Return the batches of an epoch: features, or augmented images."""
        if not self.trains_all:
            return (self._features[batch] for batch in rows)
        return training_set.augmented_batches(
            self.examples, rows, self.recipe, epoch=number, size=self.examples.pixels.side
        )

    def _validate(self, number: int, loss: float, train_error: float) -> Epoch:
        """Validate, keep the weights if they are the best so far, and extend the learning curve."""
        rows = self.examples.validation_rows
        epoch = validated_epoch(number, loss, train_error, self.scores(rows), self.examples.targets[rows])
        self.epochs.append(epoch)
        if learning_curve.best(self.epochs) is epoch:
            self.best_weights = self._weights()
        return epoch

    def scores(self, rows: np.ndarray) -> np.ndarray:
        """Return the scores (n, k) of some of the images, without data augmentation."""
        if not len(rows):
            return np.empty((0, len(self.examples.labels)), np.float32)
        if self.trains_all:
            inputs = training_set.plain_batches(self.examples, rows, batch_size=INFERENCE_BATCH_SIZE)
        else:
            inputs = engines.batches(self._features[rows], FEATURES_BATCH_SIZE)
        return np.concatenate([self.process.request("run", {"images": batch})[1]["0"] for batch in inputs])

    def _weights(self) -> dict[str, np.ndarray]:
        return self.process.request("get_weights")[1]

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Return all that the next epoch depends on except the dropout's random state, for a checkpoint."""
        _, arrays = self.process.request("checkpoint")
        return {
            **{f"cntk {name}": value for name, value in arrays.items()},
            **{f"best {name}": value for name, value in self.best_weights.items()},
        }, {"epochs": [asdict(epoch) for epoch in self.epochs]}

    def restore(self, arrays: dict[str, np.ndarray], about: dict[str, Any]) -> None:
        """Resume from a `state`."""
        self.process.request("restore", _with_prefix("cntk ", arrays))
        self.best_weights = _with_prefix("best ", arrays)
        self.epochs = [learning_curve.from_json(values) for values in about["epochs"]]

    def finish(self) -> tuple[np.ndarray, np.ndarray]:
        """Write the network of the best epoch; return its last layer, (k, d) weights and (k,) offsets.

        Written are `dnn_refined.onnx` and `cntk_refined.model`.
        """
        self.process.close()  # an interrupt may have ended it in the middle of a step
        self.process = WorkerProcess()
        self.network.build(
            self.process,
            name=FIXED_NETWORK,
            trainable=tuple(name for name in self.best_weights if name in self.network.weights),
        )
        self._attach_head([])
        self.process.request("set_weights", self.best_weights)
        save(self.process, self.proc / MODEL)
        self.process.close()
        write_weights(self.proc / FIXED_NETWORK, self.best_weights, self.proc / REFINED_NETWORK)
        return np.ascontiguousarray(self.best_weights["head.weights"].T), self.best_weights["head.offsets"]


def _with_prefix(prefix: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the arrays whose name has a prefix, without it."""
    return {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}


def _features(dataset: Dataset, examples: TrainingSet) -> np.ndarray:
    """Return the features (n, d) of all training images, computed in CNTK, in the cache of 03_run_dnn."""
    network = files.proc_dir(dataset.name) / FIXED_NETWORK
    cache = features.Cache.for_network(dataset.name, network, engine=engines.CNTK)
    features.compute(
        dataset,
        network,
        cache,
        subset=examples.images,
        engine=engines.CNTK,
        batch_size=INFERENCE_BATCH_SIZE,
    )
    return cache.features(examples.images).matrix


def _identity(length: int) -> NetworkSpec:
    """Return a network whose output is its input, feature vectors."""
    return NetworkSpec(
        "features",
        (length,),
        ({"operator": "Identity", "inputs": ["features"], "output": "same", "attributes": {}},),
        ("same",),
        {},
    )


def _trainable_weights(network: NetworkSpec) -> tuple[str, ...]:
    """Return the names of the trainable weights of a network."""
    names = [
        node["inputs"][k]
        for node in network.nodes
        for k in TRAINABLE_INPUTS.get(node["operator"], ())
        if k < len(node["inputs"])
    ]
    return tuple(dict.fromkeys(name for name in names if name in network.weights))


def write_weights(network: Path, values: dict[str, np.ndarray], path: Path) -> None:
    """Write a copy of an ONNX network with other values of some of its weights."""
    model = onnx.load(network)
    for tensor in model.graph.initializer:
        if tensor.name in values:
            tensor.CopyFrom(
                numpy_helper.from_array(values[tensor.name].reshape(tuple(tensor.dims)), tensor.name)
            )
    with files.replace_file(path) as file:
        file.write(model.SerializeToString(deterministic=True))


def time_estimate(images_per_second: float, images: int, epochs: int) -> str:
    """Return a sentence about the time that the training will take."""
    minutes = images / images_per_second / 60
    return (
        f"CNTK trains on {images_per_second:.3g} images a second: an epoch takes about "
        f"{minutes:.1f} minutes, {epochs} epochs {minutes * epochs:.0f}"
    )
