"""Inspection and cutting of ONNX graphs of networks for images."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, helper, numpy_helper, shape_inference

from imgclf import files

PREFIX = "net/"  # of all names in an imported graph
ARITHMETIC = {"Sub", "Add", "Mul", "Div"}
UNCHANGED = {"Cast", "Transpose", "Identity", "QuantizeLinear", "DequantizeLinear"}
MAX_CONSTANT_SIZE = 16  # elements; larger constants are not read


def shape(entry: onnx.ValueInfoProto) -> list[int | str]:
    """The shape of a tensor: lengths, or names of dynamic axes."""
    return [
        axis.dim_value if axis.dim_value > 0 else axis.dim_param or "?"
        for axis in entry.type.tensor_type.shape.dim
    ]


def _constants(graph: onnx.GraphProto) -> dict[str, np.ndarray]:
    """The small constants of a graph, by name."""
    values = {tensor.name: tensor for tensor in graph.initializer}
    values |= {
        node.output[0]: helper.get_attribute_value(a)
        for node in graph.node
        if node.op_type == "Constant"
        for a in node.attribute
        if a.name.startswith("value") and "string" not in a.name
    }
    return {
        name: numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else np.asarray(value)
        for name, value in values.items()
        if not isinstance(value, onnx.TensorProto) or np.prod(value.dims, dtype=int) <= MAX_CONSTANT_SIZE
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
        if user.op_type not in UNCHANGED:
            return 0
        name = user.output[0]
    return 0


def is_incomplete(tensor: onnx.TensorProto) -> bool:
    """Whether a tensor holds fewer bytes than its shape and type need."""
    count = float(np.prod(tensor.dims, dtype=float))
    if tensor.HasField("raw_data"):
        is_half_byte = tensor.data_type in (onnx.TensorProto.INT4, onnx.TensorProto.UINT4)
        size = 0.5 if is_half_byte else helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
        return len(tensor.raw_data) < int(count * size)
    return count > 2 * tensor.ByteSize()  # half a byte is the least that a number takes


def is_ordered(graph: onnx.GraphProto) -> bool:
    """Whether each node uses only what is there before it; a graph with a cycle is not ordered."""
    known = {"", *(entry.name for entry in graph.input), *(tensor.name for tensor in graph.initializer)}
    known |= {tensor.values.name for tensor in graph.sparse_initializer}
    for node in graph.node:
        if not known.issuperset(node.input):
            return False
        known.update(node.output)
    return True


def tensor_shapes(model: onnx.ModelProto) -> dict[str, list[int | str]]:
    """The shapes of the tensors of a model, as far as they can be inferred; see `shape`."""
    graph = shape_inference.infer_shapes(model, data_prop=True).graph
    return {
        value.name: shape(value)
        for value in (*graph.input, *graph.value_info, *graph.output)
        if value.type.tensor_type.HasField("shape")
    }


def constant_names(graph: onnx.GraphProto) -> set[str]:
    """Names of tensors that do not depend on the input: weights, and functions of weights alone."""
    fixed = {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        has_subgraph = any(attribute.HasField("g") for attribute in node.attribute)
        if not has_subgraph and all(name in fixed for name in node.input if name):
            fixed |= set(node.output)
    return fixed


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
    graph, shapes = model.graph, tensor_shapes(model)
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
