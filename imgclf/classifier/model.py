"""Inference with a classifier.onnx: from pixels to scores and probabilities, after a self-test."""

import base64
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
from google.protobuf.message import DecodeError

from imgclf import ImgclfError, engines, files
from imgclf.engines import pipeline
from imgclf.images.loading import Skipped, Source
from imgclf.images.preprocessing import Preprocessing

SELF_TEST_SIDE = 16  # pixels; small enough to travel inside the file, enlarged by repetition
# Of the largest score. bf16 keeps 8 bits; engines round the integers of int8 differently.
TOLERANCE = {"f32": 1e-4, "bf16": 5e-2, "int8": 0.1}

KINDS = {  # of the metadata; all but labels and self_test may be missing
    "labels": list[str],
    "self_test": dict[str, Any],
    "parameters": dict[str, Any],
    "metrics": dict[str, float | None],
    "familiarity": dict[str, float],
    "training_images": int,
    "imgclf_version": str,
}


@dataclass(frozen=True)
class SelfTest:
    """Small images and their outputs by the training code, which check a runtime.

    Attributes
    ----------
    images : (n, 16, 16, 3) uint8, RGB. scores : (n, k) float32.
    precision : numeric precision of the training code's inference, "f32", "bf16" or "int8".
    familiarity : (n,) float32; None if the classifier has no such output.
    """

    images: np.ndarray
    scores: np.ndarray
    precision: str = "f32"
    familiarity: np.ndarray | None = None

    def enlarged(self, input_size: int) -> np.ndarray:
        """Return the images at the network's size, each pixel repeated; (n, S, S, 3) uint8."""
        source = np.arange(input_size) * SELF_TEST_SIDE // input_size
        return self.images[:, source][:, :, source]

    def difference(self, found: "Outputs") -> float:
        """Return the largest difference from the expected outputs; see `largest_difference`."""
        return largest_difference(found, Outputs(self.scores, np.empty(0), self.familiarity))


class Outputs(NamedTuple):
    """What a classifier computes of n images.

    Attributes
    ----------
    scores, probabilities : (n, k) float32. familiarity : (n,) float32; None in files of older versions.
    """

    scores: np.ndarray
    probabilities: np.ndarray
    familiarity: np.ndarray | None = None


def largest_difference(found: Outputs, expected: Outputs) -> float:
    """Return the largest difference in scores or in familiarity, see `largest_relative_difference`."""
    differences = [largest_relative_difference(found.scores, expected.scores)]
    if expected.familiarity is not None:
        compared = np.empty(0) if found.familiarity is None else found.familiarity
        differences.append(largest_relative_difference(compared, expected.familiarity))
    return max(differences)


def largest_relative_difference(scores: np.ndarray, expected: np.ndarray) -> float:
    """Return the largest difference between two arrays of scores, as a share of the largest expected score.

    The largest expected score counts as at least 1. The result is inf if the shapes differ.
    """
    if scores.shape != expected.shape:
        return float("inf")
    return float(np.abs(scores - expected).max() / max(1.0, np.abs(expected).max()))


@dataclass(frozen=True)
class Prediction:
    """The prediction for one image; `scores` and `probabilities` are (k,) in the order of the labels.

    `familiarity` is 0 to 1, see `familiarity.Familiarity`; None with files of older versions.
    """

    path: str
    label: str
    score: float
    scores: np.ndarray
    probabilities: np.ndarray
    familiarity: float | None = None


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
        self.familiar_from = familiar_from(metadata)
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

        Parameters
        ----------
        precision : see `engines.start`; "auto": that of the training code, or f32 where this processor or the
            engine does not support it. A classifier in int8 stays so with any precision.

        Raises
        ------
        ImgclfError : the file is missing or no classifier of imgclf, or this runtime's scores of the
            self-test images differ from those of the training code by more than the tolerance.
        """
        metadata = read_metadata(path)
        if precision == "auto":
            precision = _supported(engine, metadata["self_test"]["precision"])
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
        """Tolerance of the self-test, as a share of the largest score; larger for bf16 and int8."""
        return max(TOLERANCE[self._network.precision], TOLERANCE[self.self_test.precision])

    def check_familiarity(self) -> None:
        """Raise an error if the classifier cannot tell unfamiliar images; see the function of this name."""
        check_familiarity(self.path, self.metadata)

    def self_test_difference(self) -> float:
        """Return the largest difference from the training code on the self-test images."""
        return self.self_test.difference(self.outputs(self.self_test.enlarged(self.preprocessing.input_size)))

    def outputs(self, pixels: np.ndarray) -> Outputs:
        """Return what the classifier computes of preprocessed images (n, S, S, 3) uint8, RGB."""
        batches = list(self._network.run(engines.batches(pixels, self._batch_size)))
        return Outputs(*(np.concatenate(parts) for parts in zip(*batches, strict=True)))

    def scores(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return scores and probabilities, (n, k) float32, of preprocessed images (n, S, S, 3) uint8, RGB."""
        found = self.outputs(pixels)
        return found.scores, found.probabilities

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
            scores, probabilities, familiarity = Outputs(*found)
            best = int(scores.argmax())
            familiar = None if familiarity is None else float(familiarity)
            yield (
                i,
                Prediction(
                    str(path), self.labels[best], float(scores[best]), scores, probabilities, familiar
                ),
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


def familiar_from(metadata: dict[str, Any]) -> float | None:
    """Return the threshold of unfamiliar images; 0: none is; None: of an older version, or converted."""
    return metadata.get("familiarity", {}).get("threshold")


def check_familiarity(path: Path, metadata: dict[str, Any]) -> None:
    """Raise an error if the classifier at `path` cannot tell unfamiliar images.

    Raises
    ------
    ImgclfError : it is of an older version, or was trained on too few images to choose a threshold.
    """
    threshold = familiar_from(metadata)
    if threshold is None:
        raise ImgclfError(
            f"{path}: does not know which images are unfamiliar, since it is of an earlier version "
            "or a converted model; run 04_train_svm to make one that does"
        )
    if threshold == 0:
        raise ImgclfError(
            f"{path}: calls no image unfamiliar, since unfamiliar_rate was 0, or too few training "
            "images were held out to choose a threshold; train with more images, or a larger rate"
        )


def _supported(engine: str, precision: str) -> str:
    try:
        return engines.resolved_precision(engine, precision)
    except ImgclfError:
        return "f32"


def _self_test(metadata: dict[str, Any]) -> SelfTest:
    stored = metadata["self_test"]
    pixels = np.frombuffer(base64.b64decode(stored["images"]), np.uint8).reshape(
        -1, SELF_TEST_SIDE, SELF_TEST_SIDE, 3
    )
    familiarity = np.array(stored["familiarity"], np.float32) if "familiarity" in stored else None
    return SelfTest(pixels, np.array(stored["scores"], np.float32), stored["precision"], familiarity)
