"""A tiny network, and the export of a real one that tests share."""

import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from imgclf.networks import backbones
from imgclf.networks.backbones import BACKBONES


def write_tiny_network(path: Path, *, size: int = 32, seed: int = 0) -> Path:
    """An ONNX network for images of `size` pixels: one convolution of random weights, 8 features."""
    weights = np.random.default_rng(seed).normal(size=(8, 3, 5, 5)).astype(np.float32) / 255
    nodes = [
        helper.make_node("Cast", ["images"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "weights"], ["maps"], strides=[2, 2]),
        helper.make_node("Relu", ["maps"], ["positive"]),
        helper.make_node("ReduceMean", ["positive", "axes"], ["features"], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", size, size, 3])],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", 8])],
        [numpy_helper.from_array(weights, "weights"), numpy_helper.from_array(np.array([2, 3]), "axes")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path


def with_max_pooling(path: Path) -> Path:
    """The tiny network with maxima over the positions in place of averages: it has no activation maps."""
    model = onnx.load(write_tiny_network(path))
    (pooling,) = (node for node in model.graph.node if node.output[0] == "features")
    pooling.op_type = "ReduceMax"
    onnx.save(model, path)
    return path


LITE0, LITE1 = BACKBONES["efficientnet_lite0"], BACKBONES["efficientnet_lite1"]


SIZE = 64


@cache
def exported() -> bytes:
    """EfficientNet-Lite0 for images of 64 pixels as ONNX; it takes seconds, so all tests share it."""
    with tempfile.TemporaryDirectory() as folder:
        backbones.export(LITE0, SIZE, Path(folder, "lite0.onnx"))
        return Path(folder, "lite0.onnx").read_bytes()


def noise(count: int, size: int = SIZE) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, size, size, 3), np.uint8)
