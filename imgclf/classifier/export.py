"""Export of a classifier.onnx: network, head and softmax in one graph, with metadata and a self-test."""

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from imgclf import __version__, engines, features, files
from imgclf.classifier.familiarity import CERTAINTY_POWER, Familiarity
from imgclf.classifier.model import SELF_TEST_SIDE, SelfTest
from imgclf.data.dataset import Dataset, Image
from imgclf.images import decoding
from imgclf.images.loading import existing
from imgclf.images.preprocessing import KEY, Preprocessing
from imgclf.networks import onnx_graph
from imgclf.svm import Head

MIN_LENGTH = 1e-12  # shorter feature vectors are not scaled up to length 1


def make_self_test(
    dataset: Dataset,
    train_images: Sequence[Image],
    network: Path,
    head: Head,
    *,
    familiarity: Familiarity | None = None,
    engine: str = "openvino",
    precision: str = "f32",
) -> SelfTest:
    """Return three downscaled training images, and the outputs that the training code computes for them.

    Raises
    ------
    ImgclfError : none of the images is there any more, or a chosen one cannot be read.
    """
    paths = existing([dataset.file(image) for image in train_images])
    chosen = [paths[i * (len(paths) - 1) // 2] for i in range(3)]
    small = np.stack(
        [Preprocessing(SELF_TEST_SIDE).letterbox(decoding.read(path, side=SELF_TEST_SIDE)) for path in chosen]
    )
    enlarged = SelfTest(small, np.empty(0)).enlarged(engines.preprocessing(network).input_size)
    matrix = features.extract(network, enlarged, engine=engine, precision=precision)
    familiar = familiarity.of(matrix, head.probabilities(matrix)) if familiarity else None
    return SelfTest(small, head.scores(matrix), engines.resolved_precision(engine, precision), familiar)


def write(
    path: Path,
    network: Path,
    head: Head,
    self_test: SelfTest,
    *,
    familiarity: Familiarity | None = None,
    metadata: dict[str, Any],
) -> None:
    """Write a network and a linear head as one ONNX file.

    Input `images`: uint8 (N, S, S, 3), RGB, letterboxed. Outputs `scores`: float32 (N, k), decision values;
    `probabilities`: float32 (N, k), softmax(scores / temperature); and `familiarity`: float32 (N,), 0 to 1.

    Parameters
    ----------
    network : ONNX file with output `features`.
    familiarity : None: the file has no such output.
    metadata : further entries, such as the parameters of the training; anything that JSON can hold.
    """
    model = onnx.load(network)  # its metadata hold the backbone and the preprocessing
    _add_head(model.graph, head)
    if familiarity:
        _add_familiarity(model.graph, familiarity)
    model.producer_name, model.producer_version = "imgclf", __version__
    onnx.checker.check_model(model)
    stored_test = {
        "images": base64.b64encode(self_test.images.tobytes()).decode(),
        "scores": self_test.scores.tolist(),
        "precision": self_test.precision,
    }
    if familiarity and self_test.familiarity is not None:
        stored_test["familiarity"] = self_test.familiarity.tolist()
        metadata = {**metadata, "familiarity": familiarity.about}
    about = {
        "labels": list(head.labels),
        KEY: engines.preprocessing(network).as_json(),
        "network_sha256": files.sha256(network),
        "imgclf_version": __version__,
        **metadata,
        "self_test": stored_test,
    }
    with files.replace_file(path) as file:
        file.write(onnx_graph.with_metadata(model.SerializeToString(), about))


def _add_head(graph: onnx.GraphProto, head: Head) -> None:
    """Append normalization, linear layer and softmax to the output `features`."""
    constants = {
        "head_weights": head.weights.T.astype(np.float32),
        "head_offsets": head.offsets.astype(np.float32),
        "head_temperature": np.float32(head.temperature),
        "head_shortest": np.float32(MIN_LENGTH),
        "head_axes": np.array([1], np.int64),
    }
    _add_constants(graph, constants)
    vectors = "head_vectors" if head.l2_normalize else "features"
    graph.node.extend(
        [
            helper.make_node("ReduceL2", ["features", "head_axes"], ["head_length"], keepdims=1),
            helper.make_node("Max", ["head_length", "head_shortest"], ["head_divisor"]),
            helper.make_node("Div", ["features", "head_divisor"], ["head_vectors"]),
            helper.make_node("Gemm", [vectors, "head_weights", "head_offsets"], ["scores"]),
            helper.make_node("Div", ["scores", "head_temperature"], ["head_scaled"]),
            helper.make_node("Softmax", ["head_scaled"], ["probabilities"], axis=1),
        ]
    )
    del graph.output[:]
    graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", len(head.labels)])
        for name in ("scores", "probabilities")
    )


def _add_familiarity(graph: onnx.GraphProto, familiarity: Familiarity) -> None:
    """Append the output `familiarity`; see `Familiarity`. In float16 the file is 4 MB smaller."""
    constants = {
        "head_projection": familiarity.projection,
        "head_images": familiarity.images.T,
        "head_power": np.float32(CERTAINTY_POWER),
        "head_least": np.float32(0),
        "head_most": np.float32(1),
    }
    _add_constants(graph, constants)
    graph.node.extend(
        [
            helper.make_node("Cast", ["head_projection"], ["head_projection_f32"], to=TensorProto.FLOAT),
            helper.make_node("Cast", ["head_images"], ["head_images_f32"], to=TensorProto.FLOAT),
            helper.make_node("MatMul", ["head_vectors", "head_projection_f32"], ["head_projected"]),
            helper.make_node("MatMul", ["head_projected", "head_images_f32"], ["head_cosines"]),
            helper.make_node("ReduceMax", ["head_cosines", "head_axes"], ["head_nearest"], keepdims=0),
            helper.make_node("Clip", ["head_nearest", "head_least", "head_most"], ["head_clipped"]),
            helper.make_node("ReduceMax", ["probabilities", "head_axes"], ["head_largest"], keepdims=0),
            helper.make_node("Pow", ["head_largest", "head_power"], ["head_certainty"]),
            helper.make_node("Mul", ["head_clipped", "head_certainty"], ["familiarity"]),
        ]
    )
    graph.output.append(helper.make_tensor_value_info("familiarity", TensorProto.FLOAT, ["N"]))


def _add_constants(graph: onnx.GraphProto, constants: dict[str, Any]) -> None:
    graph.initializer.extend(
        numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in constants.items()
    )
