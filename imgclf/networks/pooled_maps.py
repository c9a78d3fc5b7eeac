"""The feature maps, or patch tokens, whose average over positions gives the features of a network."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from imgclf import ImgclfError
from imgclf.networks import onnx_graph

OPSET = 18  # of the networks that imgclf writes
MAPS = "pooled_maps"  # the output that `add_output` adds
POOLING = {"GlobalAveragePool", "AveragePool", "ReduceMean"}
RESHAPING = {"Flatten", "Reshape", "Squeeze", "Unsqueeze", "Gather"}
# Operators that keep the values as they are, but for the rounding of a quantized network. Gather may be part
# of a change of shape; one that takes a token is found out when the maps are compared with the scores.
UNCHANGED = {
    *RESHAPING,
    *("Cast", "Identity", "Dropout", "QuantizeLinear", "DequantizeLinear"),
}


@dataclass(frozen=True, eq=False)
class PooledMaps:
    """How the features of a network follow from its last feature maps.

    Attributes
    ----------
    name : of the tensor that is averaged. axes : over which, as the graph states them.
    nodes : what follows the average, in order.
    constants : the weights that the nodes use.
    """

    name: str
    axes: tuple[int, ...]
    nodes: tuple[NodeProto, ...]
    constants: Mapping[str, np.ndarray]

    def features(self, maps: np.ndarray) -> np.ndarray:
        """Return the features of each position, whose mean over the positions is the feature vector.

        A dense layer is linear, so it can follow the average or come before it. A normalization or a ReLU is
        linear, too, with its divisor or its sign fixed at that of the whole image.

        Parameters
        ----------
        maps : the tensor `name`, (n, c, h, w), (n, h, w, c) or (n, t, c); t tokens of a square grid.

        Returns
        -------
        (n, h, w, d) float32.

        Raises
        ------
        ImgclfError : the average is not over all positions of an image.
        """
        positions = sorted(axis % maps.ndim for axis in self.axes) or list(range(2, maps.ndim))
        grid = tuple(maps.shape[axis] for axis in positions)
        count = math.prod(grid)
        if len(grid) != 2 or min(grid) == 1:
            grid = (math.isqrt(count),) * 2
        if grid[0] * grid[1] != count:
            raise ImgclfError(f"its features are an average of {count} values, which are no square grid")
        x = np.moveaxis(maps, positions, range(1, 1 + len(positions)))
        x = x.reshape(len(maps), count, -1).astype(np.float64)
        for node in self.nodes:
            x = OPERATORS[node.op_type](node, x, self.constants)
        return x.reshape(len(x), *grid, -1).astype(np.float32)


def find(graph: onnx.GraphProto, output: str = "features") -> PooledMaps:
    """Return the maps whose average gives the tensor `output`.

    Raises
    ------
    ImgclfError : it does not follow from an average over positions, or what follows the average is not
        linear.
    """
    producers = {name: node for node in graph.node for name in node.output}
    constants, nodes, name = onnx_graph.constant_names(graph), list[NodeProto](), output
    while node := producers.get(name):
        computed = [i for i in node.input if i and i not in constants]
        if node.op_type in POOLING:
            used = {i: _constant(graph, i) for n in nodes for i in n.input if i in constants}
            return PooledMaps(*_averaged(graph, producers, node), tuple(nodes[::-1]), used)
        is_first = computed[:1] == list(node.input[:1])
        is_alone = len(computed) == 1 and (is_first or node.op_type in ("Add", "Mul"))
        if node.op_type in UNCHANGED:
            computed = computed[:1]  # the new shape may be computed, too
        elif node.op_type not in OPERATORS or not is_alone:
            break
        nodes.append(node)
        name = computed[0]
    raise _no_average(node.op_type if node else "nothing")


def _no_average(operator: str) -> ImgclfError:
    return ImgclfError(
        f"its features are no average over the positions of an image, but computed by {operator}"
    )


def add_output(graph: onnx.GraphProto, maps: PooledMaps) -> None:
    """Let a graph return the maps, as float32, in a further output `MAPS`."""
    graph.node.append(helper.make_node("Cast", [maps.name], [MAPS], to=TensorProto.FLOAT))
    graph.output.append(helper.make_tensor_value_info(MAPS, TensorProto.FLOAT, None))


def _averaged(
    graph: onnx.GraphProto, producers: Mapping[str, NodeProto], node: NodeProto
) -> tuple[str, tuple[int, ...]]:
    """Return the tensor that a node averages, and over which axes.

    An average over columns may follow one over rows: then it is the tensor before both, and the axes of both.

    Raises
    ------
    ImgclfError : it averages another average in a way that is not known.
    """
    name = source = node.input[0]
    axes, is_reshaped = _axes(graph, node), False
    while (before := producers.get(name)) and before.op_type in UNCHANGED | POOLING:
        if before.op_type in UNCHANGED:
            is_reshaped |= before.op_type in RESHAPING
        elif before.op_type == "AveragePool" and len(set(_integers(before, "kernel_shape"))) == 1:
            break  # it makes maps smaller
        else:
            earlier = _axes(graph, before)
            signs = {axis < 0 for axis in (*axes, *earlier)}
            if is_reshaped or not (axes and earlier) or len(signs) > 1:
                raise _no_average("an average of averages")
            if not _attribute(before, "keepdims", 1):
                axes = _with_removed(axes, earlier)
            source, axes = before.input[0], tuple({*axes, *earlier})
        name = before.input[0]
    return source, axes


def _with_removed(axes: Sequence[int], removed: Sequence[int]) -> tuple[int, ...]:
    """Return the numbers that axes have before others are removed; all count from the same end."""
    if removed[0] < 0:
        return tuple(~axis for axis in _with_removed([~a for a in axes], [~a for a in removed]))
    found = []
    for axis in axes:
        for other in sorted(removed):
            axis += other <= axis
        found.append(axis)
    return tuple(found)


def _integers(node: NodeProto, name: str) -> tuple[int, ...]:
    return tuple(next((a.ints for a in node.attribute if a.name == name), ()))


def _axes(graph: onnx.GraphProto, node: NodeProto) -> tuple[int, ...]:
    """The axes that a node averages over; none: all behind the first two."""
    if node.op_type != "ReduceMean":
        return ()
    if len(node.input) > 1 and node.input[1]:
        return tuple(map(int, _constant(graph, node.input[1])))
    return _integers(node, "axes")


def _constant(graph: onnx.GraphProto, name: str) -> np.ndarray:
    """The value of a tensor that does not depend on the input."""
    from onnx.reference import ReferenceEvaluator

    stored = {tensor.name: tensor for tensor in graph.initializer}
    if name in stored:
        return numpy_helper.to_array(stored[name])
    nodes = onnx_graph.ancestors(graph, name)
    used = onnx_graph.referenced_names(nodes)
    output = helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None)
    weights = [stored[i] for i in used if i in stored]
    part = helper.make_model(
        helper.make_graph(nodes, "constant", [], [output], weights),
        opset_imports=[helper.make_opsetid("", OPSET)],
    )
    (value,) = ReferenceEvaluator(part).run(None, {})
    return np.asarray(value)


Values = Mapping[str, np.ndarray]


def _attribute(node: NodeProto, name: str, default: float) -> float:
    return next((float(helper.get_attribute_value(a)) for a in node.attribute if a.name == name), default)


def _same(node: NodeProto, x: np.ndarray, constants: Values) -> np.ndarray:
    return x


def _arithmetic(node: NodeProto, x: np.ndarray, constants: Values) -> np.ndarray:
    constant = next(constants[i] for i in node.input if i in constants).reshape(-1)
    function = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide}[node.op_type]
    result: np.ndarray = function(x, constant)
    return result


def _dense(node: NodeProto, x: np.ndarray, constants: Values) -> np.ndarray:
    weights, *bias = (constants[i] for i in node.input[1:] if i)
    if _attribute(node, "transB", 0):
        weights = weights.T
    y: np.ndarray = x @ weights.astype(np.float64) * _attribute(node, "alpha", 1)
    return y + bias[0].reshape(-1) * _attribute(node, "beta", 1) if bias else y


def _relu(node: NodeProto, x: np.ndarray, constants: Values) -> np.ndarray:
    return np.where(x.mean(axis=1, keepdims=True) > 0, x, 0)


def _layer_normalization(node: NodeProto, x: np.ndarray, constants: Values) -> np.ndarray:
    scale, *bias = (constants[i].reshape(-1) for i in node.input[1:] if i)
    centred = x - x.mean(axis=2, keepdims=True)
    variance = np.square(centred.mean(axis=1, keepdims=True)).mean(axis=2, keepdims=True)
    y: np.ndarray = centred / np.sqrt(variance + _attribute(node, "epsilon", 1e-5)) * scale
    return y + bias[0] if bias else y


def _batch_normalization(node: NodeProto, x: np.ndarray, constants: Values) -> np.ndarray:
    scale, bias, mean, variance = (constants[i] for i in node.input[1:])
    y: np.ndarray = (x - mean) / np.sqrt(variance + _attribute(node, "epsilon", 1e-5)) * scale + bias
    return y


# What may follow the average: each takes (n, positions, channels) and the weights.
OPERATORS: dict[str, Callable[[NodeProto, np.ndarray, Values], np.ndarray]] = {
    **dict.fromkeys(UNCHANGED, _same),
    **dict.fromkeys(("Add", "Sub", "Mul", "Div"), _arithmetic),
    **dict.fromkeys(("Gemm", "MatMul"), _dense),
    "Relu": _relu,
    "LayerNormalization": _layer_normalization,
    "BatchNormalization": _batch_normalization,
}
