"""Inspection and cutting of ONNX graphs of networks for images."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, helper, numpy_helper, shape_inference

from imgclf import files

# Operators that may follow the last dense layer.
HEAD_OPERATORS = {
    "Softmax",
    "LogSoftmax",
    "Sigmoid",
    "Identity",
    "Cast",
    "Flatten",
    "Reshape",
    "Squeeze",
    "Dropout",
    "Add",
    "Sub",
    "Mul",
    "Div",
}
ARITHMETIC = {"Sub", "Add", "Mul", "Div"}
MAX_CONSTANT_SIZE = 16  # elements; larger constants are not read


def shape(entry: onnx.ValueInfoProto) -> list[int | str]:
    """The shape of a tensor: lengths, or names of dynamic axes."""
    return [
        axis.dim_value if axis.dim_value > 0 else axis.dim_param or "?"
        for axis in entry.type.tensor_type.shape.dim
    ]


def _constants(graph: onnx.GraphProto) -> dict[str, np.ndarray]:
    """The small constants of a graph, by name."""
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    tensors |= {
        node.output[0]: a.t
        for node in graph.node
        if node.op_type == "Constant"
        for a in node.attribute
        if a.name == "value"
    }
    return {
        name: numpy_helper.to_array(tensor)
        for name, tensor in tensors.items()
        if np.prod(tensor.dims, dtype=int) <= MAX_CONSTANT_SIZE
    }


def max_pixel_value(graph: onnx.GraphProto, name: str) -> int:
    """The value of white, 255 or 1, that a network expects which normalizes its input itself.

    It follows from the constants of the first arithmetic on the input `name`; 0 if there is none.
    """
    constants = _constants(graph)
    while len(users := [node for node in graph.node if name in node.input]) == 1:
        (user,) = users
        if user.op_type in ARITHMETIC:
            magnitudes = [
                np.abs(constants[i]).max() for i in user.input if i in constants and constants[i].size <= 3
            ]
            if not magnitudes:
                return 0
            # Grey levels are multiplied by numbers such as 1/255, or reduced by such as 123.7.
            has_levels = magnitudes[0] < 0.1 if user.op_type == "Mul" else magnitudes[0] > 2
            return 255 if has_levels else 1
        if user.op_type not in ("Cast", "Transpose", "Identity"):
            return 0
        name = user.output[0]
    return 0


def _constant_names(graph: onnx.GraphProto) -> set[str]:
    """Names of tensors that do not depend on the input: weights, and functions of weights alone."""
    fixed = {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        if all(name in fixed for name in node.input if name):
            fixed |= set(node.output)
    return fixed


def last_dense_layer(graph: onnx.GraphProto) -> NodeProto | None:
    """The dense layer that computes the first output, if only `HEAD_OPERATORS` follow it; else None."""
    producers = {output: node for node in graph.node for output in node.output}
    fixed = _constant_names(graph)
    name = graph.output[0].name
    while node := producers.get(name):
        if node.op_type in ("Gemm", "MatMul") and node.input[1] in fixed:
            return node
        computed = (
            node.input[:1]
            if node.op_type in ("Reshape", "Squeeze")
            else [i for i in node.input if i and i not in fixed]
        )
        if node.op_type not in HEAD_OPERATORS or len(computed) != 1:
            return None
        (name,) = computed
    return None


def make_batch_dynamic(graph: onnx.GraphProto, batch_size: int) -> None:
    """Make the batch axis dynamic in a graph that was exported for `batch_size` images.

    Each `Reshape` to a fixed batch size keeps its first axis instead.
    """
    constants, fixed = _constants(graph), _constant_names(graph)
    for k, node in enumerate(graph.node):
        if node.op_type != "Reshape" or node.input[0] in fixed or node.input[1] not in constants:
            continue
        axes = constants[node.input[1]]
        if batch_size > 0 and len(axes) > 1 and axes[0] == batch_size:
            graph.initializer.append(
                numpy_helper.from_array(np.array([0, *axes[1:]], np.int64), f"images_shape_{k}")
            )
            node.input[1] = f"images_shape_{k}"
            del node.attribute[:]  # with allowzero, 0 would not mean "unchanged"


def referenced_names(nodes: Iterable[NodeProto]) -> set[str]:
    """Names of all tensors that nodes take as inputs, also within subgraphs of branches and loops."""
    used: set[str] = set()
    for node in nodes:
        used |= set(node.input)
        for attribute in node.attribute:
            used |= referenced_names(attribute.g.node) | {output.name for output in attribute.g.output}
    return used


def ancestors(graph: onnx.GraphProto, output: str) -> list[NodeProto]:
    """The nodes that compute the tensor `output`, in order."""
    used, kept = {output}, []
    for node in reversed(graph.node):
        if used & set(node.output):
            used |= referenced_names([node])
            kept.append(node)
    return kept[::-1]


def convolutions(model: onnx.ModelProto) -> Iterator[tuple[int, int, int]]:
    """Kernel size, output channels and side of the feature maps of each convolution, in order.

    Convolutions whose shapes cannot be inferred are left out.
    """
    graph = shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = {value.name: shape(value) for value in graph.value_info}
    weights = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for node in graph.node:
        match node.op_type, shapes.get(node.output[0]):
            case "Conv", [_, int(channels), _, int(side)]:
                kernel = (
                    next((a.ints for a in node.attribute if a.name == "kernel_shape"), ())
                    or weights.get(node.input[1], ())[2:]
                )
                yield max(kernel, default=0), channels, side


def with_metadata(content: bytes, metadata: Mapping[str, Any]) -> bytes:
    """The content of an ONNX file with `metadata` added, as JSON; entries under other keys stay."""
    model = onnx.load_model_from_string(content)
    entries = {entry.key: entry.value for entry in model.metadata_props}
    entries |= {key: files.to_json(value) for key, value in metadata.items()}
    helper.set_model_props(model, entries)
    return model.SerializeToString(deterministic=True)
