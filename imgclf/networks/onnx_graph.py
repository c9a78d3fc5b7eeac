"""What an ONNX graph tells of a network for images, and how it is cut."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, helper, numpy_helper, shape_inference

from imgclf import files

# What may stand between the last dense layer and the output.
CLOSING = {
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
SMALL = 16  # numbers in a constant that is looked at


def shape(entry: onnx.ValueInfoProto) -> list[int | str]:
    """The axes of a tensor: lengths, or names where they are open."""
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
        if np.prod(tensor.dims, dtype=int) <= SMALL
    }


def highest_pixel(graph: onnx.GraphProto, name: str) -> int:
    """255 or 1, what white must be for a network that begins with arithmetic on its pixels; 0 if it does not begin so."""
    constants = _constants(graph)
    while len(users := [node for node in graph.node if name in node.input]) == 1:
        (user,) = users
        if user.op_type in ARITHMETIC:
            numbers = [
                np.abs(constants[i]).max() for i in user.input if i in constants and constants[i].size <= 3
            ]
            if not numbers:
                return 0
            has_levels = (
                numbers[0] < 0.1 if user.op_type == "Mul" else numbers[0] > 2
            )  # such as times 1/255, or less 123.7
            return 255 if has_levels else 1
        if user.op_type not in ("Cast", "Transpose", "Identity"):
            return 0
        name = user.output[0]
    return 0


def _fixed(graph: onnx.GraphProto) -> set[str]:
    """The names of all that does not depend on the images: weights, and what is computed from weights alone."""
    fixed = {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        if all(name in fixed for name in node.input if name):
            fixed |= set(node.output)
    return fixed


def last_dense(graph: onnx.GraphProto) -> NodeProto | None:
    """The dense layer that makes the first output, if nothing but sums, scales and a softmax come behind it."""
    makers = {output: node for node in graph.node for output in node.output}
    fixed = _fixed(graph)
    name = graph.output[0].name
    while node := makers.get(name):
        if node.op_type in ("Gemm", "MatMul") and node.input[1] in fixed:
            return node
        computed = (
            node.input[:1]
            if node.op_type in ("Reshape", "Squeeze")
            else [i for i in node.input if i and i not in fixed]
        )
        if node.op_type not in CLOSING or len(computed) != 1:
            return None
        (name,) = computed
    return None


def free_batch(graph: onnx.GraphProto, count: int) -> None:
    """Let a network that was exported for `count` images take any number: what is reshaped keeps its first axis."""
    constants, fixed = _constants(graph), _fixed(graph)
    for k, node in enumerate(graph.node):
        if node.op_type != "Reshape" or node.input[0] in fixed or node.input[1] not in constants:
            continue
        axes = constants[node.input[1]]
        if count > 0 and len(axes) > 1 and axes[0] == count:
            graph.initializer.append(
                numpy_helper.from_array(np.array([0, *axes[1:]], np.int64), f"images_shape_{k}")
            )
            node.input[1] = f"images_shape_{k}"
            del node.attribute[:]  # allowzero, by which 0 would not mean "as it is"


def names_used(nodes: Iterable[NodeProto]) -> set[str]:
    """The names of all that nodes take, also inside their branches and loops."""
    used: set[str] = set()
    for node in nodes:
        used |= set(node.input)
        for attribute in node.attribute:
            used |= names_used(attribute.g.node) | {output.name for output in attribute.g.output}
    return used


def needed(graph: onnx.GraphProto, end: str) -> list[NodeProto]:
    """The nodes that `end` is computed by, in order; what came behind it is cut off."""
    used, kept = {end}, []
    for node in reversed(graph.node):
        if used & set(node.output):
            used |= names_used([node])
            kept.append(node)
    return kept[::-1]


def convolutions(model: onnx.ModelProto) -> Iterator[tuple[int, int, int]]:
    """Of each convolution in order whose maps can be told: kernel, channels, side of its maps."""
    graph = shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = {value.name: shape(value) for value in graph.value_info}
    weights = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for node in graph.node:
        maps = shapes.get(node.output[0], [])
        if node.op_type == "Conv" and len(maps) == 4 and isinstance(maps[3], int):
            told = (
                next((a.ints for a in node.attribute if a.name == "kernel_shape"), ())
                or weights.get(node.input[1], ())[2:]
            )
            yield max(told, default=0), maps[1], maps[3]


def with_metadata(content: bytes, more: Mapping[str, Any]) -> bytes:
    """The content of an ONNX file with more metadata, as JSON; what is there under other names stays."""
    model = onnx.load_model_from_string(content)
    there = {entry.key: entry.value for entry in model.metadata_props}
    helper.set_model_props(model, {**there, **{key: files.to_json(value) for key, value in more.items()}})
    return model.SerializeToString(deterministic=True)
