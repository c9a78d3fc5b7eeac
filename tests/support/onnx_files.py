"""Small ONNX files of others, the features that torch computes for them, and those of the imported file."""

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from imgclf import engines
from imgclf.images.preprocessing import Preprocessing
from imgclf.networks import backbones

SIDE = 32
MEAN, DEVIATION = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
RANDOM = np.random.default_rng(0)
WEIGHTS = {
    "kernel": RANDOM.normal(size=(8, 3, 3, 3)).astype(np.float32),
    "dense": RANDOM.normal(size=(8, 5)).astype(np.float32),
    "offset": RANDOM.normal(size=5).astype(np.float32),
    "keep": np.array([1, -1]),
    "zero": np.array([0]),
    "levels": np.float32([127.5]),
    "share": np.float32([1 / 255]),
    "places": RANDOM.normal(size=(1, 8, 15, 15)).astype(np.float32),
    "pointwise": RANDOM.normal(size=(5, 8, 1, 1)).astype(np.float32),
    "mean": MEAN.astype(np.float32).reshape(1, 3, 1, 1),
}
BODY = (
    ("Conv", "pixels kernel", "maps", {"strides": [2, 2]}),
    ("Relu", "maps", "positive"),
    ("GlobalAveragePool", "positive", "means"),
)
DENSE = (
    ("Flatten", "means", "vector"),
    ("Gemm", "vector dense offset", "classes"),
    ("Softmax", "classes", "out"),
)


def made(
    path: Path,
    *nodes: tuple,
    shape=("N", 3, SIDE, SIDE),
    kind=TensorProto.FLOAT,
    entry="pixels",
    opset=18,
    **metadata: str,
) -> Path:
    """An ONNX file of these nodes (operator, inputs, output, attributes); its output is `out`."""
    used = {name for _, inputs, *_ in nodes for name in inputs.split()}
    graph = helper.make_graph(
        [
            helper.make_node(op, inputs.split(), [output], **(more[0] if more else {}))
            for op, inputs, output, *more in nodes
        ],
        "theirs",
        [helper.make_tensor_value_info(entry, kind, shape)],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in WEIGHTS.items() if name in used],
        doc_string="/home/somebody/net.py",
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    helper.set_model_props(model, metadata)
    onnx.save(model, path)
    return path


def noise(count: int, side: int = SIDE) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, side, side, 3), np.uint8)


def planes(images: np.ndarray, mean=MEAN, deviation=DEVIATION) -> np.ndarray:
    """Normalized pixels, float32 (N, 3, S, S)."""
    return ((images / 255 - mean) / deviation).astype(np.float32).transpose(0, 3, 1, 2)


def expected(images: np.ndarray, mean=MEAN, deviation=DEVIATION) -> np.ndarray:
    """The features of images, computed by torch."""
    pixels = torch.from_numpy(planes(images, mean, deviation))
    return torch.conv2d(pixels, torch.from_numpy(WEIGHTS["kernel"]), stride=2).relu().mean(dim=(2, 3)).numpy()


def features(path: Path, images: np.ndarray, *, engine: str = "onnxruntime") -> np.ndarray:
    """The features of images by the file, written as a backbone."""
    written = path.with_name("dnn_fixed.onnx")
    backbones.write(backbones.choose(str(path)), Preprocessing(images.shape[1]), written)
    return np.concatenate(
        [found for (found,) in engines.start(written, engine=engine, batch_size=len(images)).run([images])]
    )


def close(found: np.ndarray, wanted: np.ndarray) -> None:
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-3 * np.abs(wanted).max())
