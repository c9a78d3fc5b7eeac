"""Inference with a classifier.onnx: from pixels to scores and probabilities, after a self-test."""

import base64
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError

from imgclf import ImgclfError, engines, files
from imgclf.engines import pipeline
from imgclf.images.loading import Skipped, Source
from imgclf.images.preprocessing import Preprocessing

SELF_TEST_SIDE = 16  # pixels; small enough to travel inside the file, enlarged by repetition
TOLERANCE = {"f32": 1e-4, "bf16": 5e-2}  # of the largest score; bf16 keeps 8 bits

KINDS = {  # of the metadata; all but labels and self_test may be missing
    "labels": list[str],
    "self_test": dict[str, Any],
    "parameters": dict[str, Any],
    "metrics": dict[str, float | None],
    "training_images": int,
    "imgclf_version": str,
}


@dataclass(frozen=True)
class SelfTest:
    """Small images and their scores by the training code, which check a runtime.

    Attributes
    ----------
    images : (n, 16, 16, 3) uint8, RGB. scores : (n, k) float32.
    precision : numeric precision of the training code's inference, "f32" or "bf16".
    """

    images: np.ndarray
    scores: np.ndarray
    precision: str = "f32"

    def enlarged(self, input_size: int) -> np.ndarray:
        """Return the images at the network's size, each pixel repeated; (n, S, S, 3) uint8."""
        source = np.arange(input_size) * SELF_TEST_SIDE // input_size
        return self.images[:, source][:, :, source]

    def difference(self, scores: np.ndarray) -> float:
        """Return the largest difference from the expected scores, as a share of the largest score."""
        return largest_relative_difference(scores, self.scores)


def largest_relative_difference(scores: np.ndarray, expected: np.ndarray) -> float:
    """Return the largest difference between two arrays of scores, as a share of the largest expected score.

    The largest expected score counts as at least 1. The result is inf if the shapes differ.
    """
    if scores.shape != expected.shape:
        return float("inf")
    return float(np.abs(scores - expected).max() / max(1.0, np.abs(expected).max()))


@dataclass(frozen=True)
class Prediction:
    """The prediction for one image; `scores` and `probabilities` are (k,) in the order of the labels."""

    path: str
    label: str
    score: float
    scores: np.ndarray
    probabilities: np.ndarray


class Classifier:
    """A `classifier.onnx` loaded into a runtime that reproduces the scores of the training code.

    A context manager that frees memory and threads at the end of the block, as the end of its last reference
    does.
    """

    def __init__(
        self,
        path: Path,
        network: engines.Engine,
        metadata: dict[str, Any],
        preprocessing: Preprocessing,
        *,
        batch_size: int,
    ) -> None:
        self.path = path
        self.metadata = metadata
        self.labels: list[str] = metadata["labels"]
        self.preprocessing = preprocessing
        self.self_test = _self_test(metadata)
        self._network = network
        self._batch_size = batch_size

    @classmethod
    def load(
        cls,
        path: Path,
        *,
        engine: str = "openvino",
        precision: str = "f32",
        batch_size: int = engines.BATCH_SIZE,
    ) -> "Classifier":
        """Load a classifier and run its self-test.

        Raises
        ------
        ImgclfError : the file is missing or no classifier of imgclf, or this runtime's scores of the
            self-test images differ from those of the training code by more than the tolerance.
        """
        metadata = read_metadata(path)
        network = engines.start(path, engine=engine, precision=precision, batch_size=batch_size)
        classifier = cls(path, network, metadata, engines.preprocessing(path), batch_size=batch_size)
        found, tolerance = classifier.self_test_difference(), classifier.tolerance
        if not found <= tolerance:  # also refuses NaN
            raise ImgclfError(
                f"{path}: {engine} computes other scores for the self-test images than the training code "
                f"(relative difference {found:.2g}, tolerance {tolerance:g}); "
                "use another engine or version, or export the classifier again"
            )
        return classifier

    @property
    def tolerance(self) -> float:
        """Tolerance of the self-test, as a share of the largest score; larger if either side is in bf16."""
        return max(TOLERANCE[self._network.precision], TOLERANCE[self.self_test.precision])

    def self_test_difference(self) -> float:
        """Return the largest difference from the training code on the self-test, as a share of the scores."""
        return self.self_test.difference(
            self.scores(self.self_test.enlarged(self.preprocessing.input_size))[0]
        )

    def scores(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return scores and probabilities, (n, k) float32, of preprocessed images (n, S, S, 3) uint8, RGB."""
        outputs = list(self._network.run(engines.batches(pixels, self._batch_size)))
        scores, probabilities = (np.concatenate(parts) for parts in zip(*outputs, strict=True))
        return scores, probabilities

    def predict(self, sources: Iterable[Source]) -> Iterator[tuple[int, Prediction | Skipped]]:
        """Yield (i, prediction) for each image file, or (i, reason) for one that cannot be read."""
        paths: dict[int, Path] = {}  # of the images in the pipeline

        def started() -> Iterator[Source]:
            for i, source in enumerate(sources):
                paths[i] = source.path
                yield source

        for i, found in pipeline.run(
            self._network, started(), self.preprocessing, batch_size=self._batch_size
        ):
            path = paths.pop(i)
            if isinstance(found, Skipped):
                yield i, found
                continue
            scores, probabilities = found
            best = int(scores.argmax())
            yield (
                i,
                Prediction(str(path), self.labels[best], float(scores[best]), scores, probabilities),
            )

    def close(self) -> None:
        """Free memory and threads; it cannot score afterwards."""
        self._network.close()

    def __enter__(self) -> "Classifier":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __str__(self) -> str:
        return f"{self.path.name}: {len(self.labels)} labels, {self.preprocessing}"


def read_metadata(path: Path) -> dict[str, Any]:
    """Return the metadata of a classifier: labels, preprocessing, parameters, metrics, self-test.

    Raises
    ------
    ImgclfError : the file is missing, or was not written by `export.write`.
    """
    if path.is_dir():
        raise ImgclfError(f"{path}: is a folder; name the classifier.onnx in it")
    if not path.is_file():
        raise ImgclfError(f"{path}: no classifier there; run 04_train_svm first")
    try:
        metadata = {entry.key: json.loads(entry.value) for entry in onnx.load(path).metadata_props}
        if wrong := [key for key, kind in KINDS.items() if not files.is_of(metadata.get(key, kind()), kind)]:
            raise ValueError(f"{', '.join(wrong)} of another type")
        labels, test = metadata["labels"], _self_test(metadata)
        if not len(test.images) or test.scores.shape != (len(test.images), len(set(labels))):
            raise ValueError("not a score for each image of the self-test and each label")
        if len(set(labels)) < len(labels) or test.precision not in TOLERANCE:
            raise ValueError("a label is there twice, or the precision is unknown")
        return metadata
    except (DecodeError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise ImgclfError(
            f"{path}: not a classifier that imgclf wrote, or damaged; run 04_train_svm again"
        ) from error


def _self_test(metadata: dict[str, Any]) -> SelfTest:
    stored = metadata["self_test"]
    pixels = np.frombuffer(base64.b64decode(stored["images"]), np.uint8).reshape(
        -1, SELF_TEST_SIDE, SELF_TEST_SIDE, 3
    )
    return SelfTest(pixels, np.array(stored["scores"], np.float32), stored["precision"])
