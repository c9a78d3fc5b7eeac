"""Batches for ONNX networks that were exported with a fixed batch size."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, compose, helper, numpy_helper

from imgclf.networks import onnx_graph

BODY = "one/"  # prefix of the names in the loop over images

Shapes = Mapping[str, Sequence[int | str]]


def free(graph: onnx.GraphProto, shapes: Shapes) -> None:
    """Let a graph that was exported for a fixed number of images take any number.

    Wherever it names that number, the first axis of the result follows from the input instead. A network that
    keeps its images along another axis computes something else afterwards: compare it with the original.

    Parameters
    ----------
    shapes : of the tensors of the graph with its fixed number of images.
    """
    fixed = onnx_graph.constant_names(graph)
    nodes: list[NodeProto] = []
    for k, node in enumerate(graph.node):
        computed = [name for name in node.input if name and name not in fixed]
        wanted = shapes.get(node.output[0], ()) if node.output else ()
        is_known = len(wanted) > 1 and all(isinstance(length, int) for length in wanted[1:])
        if node.op_type in ("Reshape", "Expand") and computed == [node.input[0]] and is_known:
            # For Reshape, -1 is "what remains"; for Expand, 1 is "as the input".
            target = [-1 if node.op_type == "Reshape" else 1, *wanted[1:]]
            graph.initializer.append(numpy_helper.from_array(np.array(target, np.int64), f"batch_shape_{k}"))
            node.input[1] = f"batch_shape_{k}"
            del node.attribute[:]  # `allowzero` is not needed for these
        elif node.op_type == "Concat" and computed and len(computed) < len(node.input):
            axis = next(a.i for a in node.attribute if a.name == "axis")
            rank = len(wanted)
            if rank and axis % rank:
                nodes += _repeated(graph, node, computed[0], fixed, rank, f"batch_{k}")
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)


def _repeated(
    graph: onnx.GraphProto, node: NodeProto, pattern: str, fixed: set[str], rank: int, name: str
) -> Iterator[NodeProto]:
    """Nodes that repeat the constant inputs of a `Concat`, such as a classification token, for each image."""
    graph.initializer.extend(
        numpy_helper.from_array(np.array(value, np.int64), f"{name}_{what}")
        for what, value in (("ones", [1] * (rank - 1)), ("begin", [0]), ("end", [1]))
    )
    yield helper.make_node("Shape", [pattern], [f"{name}_count"], start=0, end=1)
    yield helper.make_node("Concat", [f"{name}_count", f"{name}_ones"], [f"{name}_shape"], axis=0)
    for i, constant in enumerate(node.input):
        if constant in fixed:
            first, repeated = f"{name}_first_{i}", f"{name}_repeated_{i}"
            yield helper.make_node("Slice", [constant, f"{name}_begin", f"{name}_end"], [first])
            yield helper.make_node("Expand", [first, f"{name}_shape"], [repeated])
            node.input[i] = repeated


def one_by_one(graph: onnx.GraphProto, batch_size: int, features: int) -> onnx.GraphProto:
    """A graph that runs `graph` once for each image.

    Parameters
    ----------
    graph : input `images`, uint8 (batch_size, S, S, 3); output `features`, float32 (batch_size, d). The image
        takes all places of its batch.
    features : d.
    """
    _, *image_shape = onnx_graph.shape(graph.input[0])
    # Names in the body must differ from those outside. The weights are in the body too, since OpenVINO does
    # not fold constants from outside of it.
    body = compose.add_prefix_graph(graph, BODY)
    del body.input[:], body.output[:]
    body.input.append(helper.make_tensor_value_info("image", TensorProto.UINT8, image_shape))
    body.output.append(helper.make_tensor_value_info("image_features", TensorProto.FLOAT, [features]))
    body.initializer.extend(
        numpy_helper.from_array(np.array(value, np.int64), name)
        for name, value in (("image_shape", [batch_size, *image_shape]), ("image_first", 0))
    )
    body.node.insert(0, helper.make_node("Expand", ["image", "image_shape"], [f"{BODY}images"]))
    body.node.append(
        helper.make_node("Gather", [f"{BODY}features", "image_first"], ["image_features"], axis=0)
    )
    scan = helper.make_node("Scan", ["images"], ["features"], body=body, num_scan_inputs=1)
    images = helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", *image_shape])
    output = helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", features])
    return helper.make_graph([scan], graph.name, [images], [output])
