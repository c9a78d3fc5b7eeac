"""The one file that is the result: from pixels to scores and probabilities, with a test of itself inside."""

import base64
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper, numpy_helper

from imgclf import ImgclfError, __version__, engines, files
from imgclf.dataset import Dataset, Image, fingerprint
from imgclf.features import Skipped, Source, prepared, run_network
from imgclf.images import GREY, letterbox, read
from imgclf.svm import Head

SELF_TEST_SIDE = 16  # pixels; small enough to travel inside the file, enlarged by repetition
TOLERANCE = {"f32": 1e-4, "bf16": 5e-2}  # of the largest score; bf16 keeps 8 bits
SHORTEST = 1e-12  # features of this length are not scaled up


@dataclass(frozen=True)
class SelfTest:
    """Small images and the scores that the training code gave them, by which a runtime is checked.

    Attributes
    ----------
    images : (n, 16, 16, 3) uint8, RGB. scores : (n, k) float32.
    precision : what the training code computed in, "f32" or "bf16".
    """

    images: np.ndarray
    scores: np.ndarray
    precision: str = "f32"

    def enlarged(self, input_size: int) -> np.ndarray:
        """The images at the network's size, each pixel repeated; (n, S, S, 3) uint8."""
        source = np.arange(input_size) * SELF_TEST_SIDE // input_size
        return self.images[:, source][:, :, source]

    def disagreement(self, scores: np.ndarray) -> float:
        """The largest difference to the expected scores, as a share of the largest score."""
        return disagreement(scores, self.scores)


def make_self_test(dataset: Dataset, train_images: Sequence[Image], network: Path, head: Head, *, engine: str = "openvino",
                   precision: str = "f32") -> SelfTest:
    """Three training images, made small, with the scores that the training code gives them.

    Raises
    ------
    ImgclfError : the images cannot be read any more.
    """
    chosen = [train_images[i * (len(train_images) - 1) // 2] for i in range(3)]
    small = np.stack([letterbox(read(dataset.file(image), side=SELF_TEST_SIDE), SELF_TEST_SIDE) for image in chosen])
    enlarged = SelfTest(small, np.empty(0)).enlarged(engines.input_size(network))
    scores = head.scores(features_of(network, enlarged, engine=engine, precision=precision))
    return SelfTest(small, scores, engines.resolved_precision(engine, precision))


def disagreement(scores: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference between two arrays of scores, as a share of the largest expected score (at least 1); inf if their shapes differ."""
    if scores.shape != expected.shape:
        return float("inf")
    return float(np.abs(scores - expected).max() / max(1.0, np.abs(expected).max()))


@dataclass(frozen=True)
class Prediction:
    """What the classifier says of one image; `scores` and `probabilities` are (k,) in the order of the labels."""

    path: str
    label: str
    score: float
    scores: np.ndarray
    probabilities: np.ndarray


def write(path: Path, network: Path, head: Head, self_test: SelfTest, *, metadata: dict[str, Any]) -> None:
    """Join a network and a linear head into one ONNX file.

    Input `images`: uint8 (N, S, S, 3), RGB, letterboxed. Outputs `scores`: float32 (N, k), decision values, and
    `probabilities`: float32 (N, k), softmax(scores / temperature).

    Parameters
    ----------
    network : ONNX file with output `features`.
    metadata : what else a person wants to know later; anything that JSON can hold.
    """
    model = onnx.load(network)
    _add_head(model.graph, head)
    stored_test = {"images": base64.b64encode(self_test.images.tobytes()).decode(), "scores": self_test.scores.tolist(),
                   "precision": self_test.precision}
    brought = {entry.key: json.loads(entry.value) for entry in model.metadata_props}  # the name of the backbone
    about = {**brought, "labels": list(head.labels), "input_size": engines.input_size(network), "letterbox_colour": [GREY] * 3,
             "network_sha256": sha256(network), "imgclf_version": __version__, **metadata, "self_test": stored_test}
    helper.set_model_props(model, {key: json.dumps(value) for key, value in about.items()})
    model.producer_name, model.producer_version = "imgclf", __version__
    onnx.checker.check_model(model)
    with files.replace_file(path) as file:
        file.write(model.SerializeToString(deterministic=True))


def sha256(path: Path) -> str:
    """The sha256 of a file, in hexadecimal digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _add_head(graph: onnx.GraphProto, head: Head) -> None:
    """Append normalization, linear layer and softmax behind the output `features`."""
    constants = {"head_weights": head.weights.T.astype(np.float32), "head_offsets": head.offsets.astype(np.float32),
                 "head_temperature": np.float32(head.temperature), "head_shortest": np.float32(SHORTEST)}
    graph.initializer.extend(numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in constants.items())
    vectors = "features"
    if head.l2_normalize:
        axes = numpy_helper.from_array(np.array([1], np.int64), "head_axes")
        graph.initializer.append(axes)
        graph.node.extend([helper.make_node("ReduceL2", ["features", "head_axes"], ["head_length"], keepdims=1),
                           helper.make_node("Max", ["head_length", "head_shortest"], ["head_divisor"]),
                           helper.make_node("Div", ["features", "head_divisor"], ["head_vectors"])])
        vectors = "head_vectors"
    graph.node.extend([helper.make_node("Gemm", [vectors, "head_weights", "head_offsets"], ["scores"]),
                       helper.make_node("Div", ["scores", "head_temperature"], ["head_scaled"]),
                       helper.make_node("Softmax", ["head_scaled"], ["probabilities"], axis=1)])
    del graph.output[:]
    graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", len(head.labels)])
                        for name in ("scores", "probabilities"))


class Classifier:
    """A `classifier.onnx`, opened, and checked to score here as it did where it was trained."""

    def __init__(self, path: Path, network: engines.Engine, metadata: dict[str, Any], *, batch_size: int) -> None:
        self.path = path
        self.metadata = metadata
        self.labels: list[str] = metadata["labels"]
        self.input_size: int = metadata["input_size"]
        self.self_test = _self_test(metadata)
        self._network = network
        self._batch_size = batch_size

    @classmethod
    def load(cls, path: Path, *, engine: str = "openvino", precision: str = "f32", batch_size: int = engines.BATCH_SIZE) -> "Classifier":
        """Open a classifier and run its self-test.

        Raises
        ------
        ImgclfError : the file is missing or no classifier of ours, or this runtime scores the self-test's images
            otherwise than the training code did.
        """
        metadata = read_metadata(path)
        network = engines.start(path, engine=engine, precision=precision, batch_size=batch_size)
        classifier = cls(path, network, metadata, batch_size=batch_size)
        found, tolerance = classifier.self_test_disagreement(), classifier.tolerance
        if not found <= tolerance:  # also refuses NaN
            raise ImgclfError(f"{path}: {engine} scores the self-test images otherwise than the training code did (by {found:.2g} of the "
                              f"largest score, allowed {tolerance:g}); use another engine or version, or export the classifier again")
        return classifier

    @property
    def tolerance(self) -> float:
        """How far scores may be from the self-test's, as a share of the largest; more where either side computes in bf16."""
        return max(TOLERANCE[self._network.precision], TOLERANCE[self.self_test.precision])

    def self_test_disagreement(self) -> float:
        """How far this runtime is from the training code on the self-test images, as a share of the largest score."""
        return self.self_test.disagreement(self.scores(self.self_test.enlarged(self.input_size))[0])

    def check_trained_on(self, train_images: Sequence[Image], network: Path, kind: str) -> None:
        """Refuse to be evaluated beside another split, other labels, another network or as another kind than it was trained with.

        Parameters
        ----------
        kind : the value of the parameter `classifier`; what does not tell its kind passes.

        Raises
        ------
        ImgclfError : the training images, their labels, the network or the kind are not those of the training.
        """
        trained_as = self.metadata.get("parameters", {}).get("classifier", kind)
        if trained_as != kind:
            raise ImgclfError(f"{self.path}: was written with classifier='{trained_as}', not '{kind}'; run 04_train_svm with classifier='{kind}' first")
        if self.metadata.get("network_sha256") != sha256(network):
            raise ImgclfError(f"{self.path}: was trained with another network than {network.name} is now; run 03_run_dnn and 04_train_svm again")
        if self.metadata.get("data_fingerprint") != fingerprint(train_images):
            raise ImgclfError(f"{self.path}: was trained on other images or labels than split.tsv names now, so test images may be "
                              "among those it learned from; run 04_train_svm again")

    def scores(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Scores and probabilities, each (n, k) float32, of prepared images (n, S, S, 3) uint8, RGB."""
        outputs = list(self._network.run(chunks(pixels, self._batch_size)))
        scores, probabilities = (np.concatenate(parts) for parts in zip(*outputs, strict=True))
        return scores, probabilities

    def predict(self, wanted: Sequence[Source], *, skipped: list[Skipped]) -> Iterator[tuple[int, Prediction]]:
        """(i, prediction) for each image file, in order; those that cannot be read are added to `skipped`."""
        results = run_network(self._network, wanted, self.input_size, batch_size=self._batch_size, skipped=skipped)
        for i, (scores, probabilities) in results:
            best = int(scores.argmax())
            yield i, Prediction(str(wanted[i].path), self.labels[best], float(scores[best]), scores, probabilities)

    def __str__(self) -> str:
        return f"{self.path.name}: {len(self.labels)} labels, images of {self.input_size} x {self.input_size} pixels"


def read_metadata(path: Path) -> dict[str, Any]:
    """What a classifier says of itself: labels, input size, parameters, metrics, self-test.

    Raises
    ------
    ImgclfError : the file is missing, or was not written by `write`.
    """
    if path.is_dir():
        raise ImgclfError(f"{path}: is a folder; name the classifier.onnx in it")
    if not path.is_file():
        raise ImgclfError(f"{path}: no classifier there; run 04_train_svm first")
    try:
        metadata = {entry.key: json.loads(entry.value) for entry in onnx.load(path).metadata_props}
        _self_test(metadata)
        if not {"labels", "input_size"} <= metadata.keys():
            raise KeyError("labels or input_size")
        return metadata
    except (DecodeError, ValueError, KeyError, TypeError) as error:
        raise ImgclfError(f"{path}: not a classifier that imgclf wrote, or damaged; run 04_train_svm again") from error


def _self_test(metadata: dict[str, Any]) -> SelfTest:
    stored = metadata["self_test"]
    pixels = np.frombuffer(base64.b64decode(stored["images"]), np.uint8).reshape(-1, SELF_TEST_SIDE, SELF_TEST_SIDE, 3)
    return SelfTest(pixels, np.array(stored["scores"], np.float32), stored["precision"])


def features_of(network: Path, pixels: np.ndarray, *, engine: str = "openvino", precision: str = "f32") -> np.ndarray:
    """The features (n, d) of prepared images (n, S, S, 3), as the training code computes them."""
    ready = engines.start(network, engine=engine, precision=precision)
    return np.concatenate([vectors for vectors, in ready.run(chunks(pixels, engines.BATCH_SIZE))])


def chunks(pixels: np.ndarray, batch_size: int) -> Iterator[np.ndarray]:
    """Images in batches of at most `batch_size`."""
    return (pixels[start:start + batch_size] for start in range(0, len(pixels), batch_size))


def prepared_pixels(paths: Sequence[Path], input_size: int) -> np.ndarray:
    """The pixels of image files as a network sees them; (n, S, S, 3) uint8, RGB.

    Raises
    ------
    ImgclfError : none of the images can be read.
    """
    skipped: list[Skipped] = []
    pixels = [p for _, p in prepared(map(Source, paths), input_size, skipped=skipped)]
    if not pixels:
        raise ImgclfError(f"none of the {len(paths)} images could be read; the first: {skipped[0].reason}" if skipped else "no images were given")
    return np.stack(pixels)
