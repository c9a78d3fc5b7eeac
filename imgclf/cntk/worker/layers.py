"""ONNX operators, built with CNTK's layers. Python 3.6 runs this; its import does not need CNTK."""

import numpy as np


class Graph:
    """A network under construction, from nodes in topological order: operator, inputs, output.

    Attributes
    ----------
    arrays : the weights of the ONNX file, by name. trainable : names of those that are trained.
    tensors : CNTK's variables and functions, by name. weights : CNTK's parameters and constants, by name.
    """

    def __init__(self, arrays, trainable):
        self.arrays, self.trainable, self.tensors, self.weights = arrays, set(trainable), {}, {}

    def is_weight(self, name):
        return name in self.arrays

    def weight(self, name, shape=None):
        """Weights as a parameter if they are trainable, else as a constant; CNTK may need another `shape`."""
        import cntk

        if name not in self.weights:
            value = self.arrays[name].astype(np.float32)
            value = np.ascontiguousarray(value.reshape(value.shape if shape is None else shape))
            make = (
                (lambda v: cntk.parameter(init=v, name=name))
                if name in self.trainable
                else (lambda v: cntk.constant(v, name=name))
            )
            self.weights[name] = make(value)
        return self.weights[name]

    def operand(self, name, rank):
        """An operand of elementwise arithmetic: a tensor, or weights with `rank` axes, without batch axis."""
        if not self.is_weight(name):
            return self.tensors[name]
        shape = self.arrays[name].shape
        if len(shape) > rank:
            if shape[0] != 1 or len(shape) > rank + 1:
                raise ValueError("%s has shape %s, but an image has %d axes here" % (name, shape, rank))
            shape = shape[1:]
        return self.weight(name, (1,) * (rank - len(shape)) + tuple(shape))


def _arithmetic(function):
    def built(graph, inputs, attributes):
        import cntk

        rank = max(len(graph.tensors[name].shape) for name in inputs if not graph.is_weight(name))
        return getattr(cntk, function)(*[graph.operand(name, rank) for name in inputs])

    return built


def _elementwise(function):
    return lambda graph, inputs, attributes: getattr(__import__("cntk"), function)(graph.tensors[inputs[0]])


def _identity(graph, inputs, attributes):
    return graph.tensors[inputs[0]]


def _transpose(graph, inputs, attributes):
    import cntk

    return cntk.transpose(graph.tensors[inputs[0]], [axis - 1 for axis in attributes["perm"][1:]])


def padding(sides, kernel, strides, pads):
    """Padding in CNTK: (whether automatic, explicit padding before and after each axis or None).

    Automatic padding centres an odd kernel on the first pixel. It is faster than explicit zeros by half, so
    it is used wherever it is equivalent, but for a kernel that is larger than the feature maps, which CNTK
    rejects.
    """
    before, after = pads[: len(sides)], pads[len(sides) :]
    if not any(pads):
        return False, None
    expected = [
        (side + b + e - k) // s + 1 for side, b, e, k, s in zip(sides, before, after, kernel, strides)
    ]
    automatic = [-(-side // s) for side, s in zip(sides, strides)]
    if expected == automatic and all(
        k % 2 and b == k // 2 and k <= side for b, k, side in zip(before, kernel, sides)
    ):
        return True, None
    return False, list(zip(before, after))


def _check_window(attributes):
    if any(d != 1 for d in attributes.get("dilations", [])) or attributes.get("auto_pad", "NOTSET") not in (
        "NOTSET",
        "VALID",
    ):
        raise ValueError("dilations and automatic padding are not supported")


def _convolution(graph, inputs, attributes):
    import cntk

    _check_window(attributes)
    x, weights = graph.tensors[inputs[0]], graph.weight(inputs[1])
    kernel = list(weights.shape[2:])
    strides = attributes.get("strides", [1] * len(kernel))
    is_automatic, explicit = padding(
        x.shape[1:], kernel, strides, attributes.get("pads", [0] * 2 * len(kernel))
    )
    if explicit:
        x = cntk.pad(x, [(0, 0), *explicit])
    maps = cntk.convolution(
        weights,
        x,
        strides=tuple(strides),
        auto_padding=[False] + [is_automatic] * len(kernel),
        groups=attributes.get("group", 1),
    )
    return (
        maps + graph.weight(inputs[2], (-1,) + (1,) * len(kernel)) if len(inputs) > 2 and inputs[2] else maps
    )


def _pooling(kind):
    def built(graph, inputs, attributes):
        import cntk

        _check_window(attributes)
        x, kernel = graph.tensors[inputs[0]], attributes["kernel_shape"]
        strides = attributes.get("strides", [1] * len(kernel))
        is_automatic, explicit = padding(
            x.shape[1:], kernel, strides, attributes.get("pads", [0] * 2 * len(kernel))
        )
        if explicit or attributes.get("ceil_mode") or (is_automatic and kind == "AVG_POOLING"):
            raise ValueError("pooling with this padding is not supported")
        return cntk.pooling(
            x,
            getattr(cntk, kind),
            tuple(kernel),
            tuple(strides),
            auto_padding=[False] + [is_automatic] * len(kernel),
        )

    return built


def _reduce_mean(graph, inputs, attributes):
    x = graph.tensors[inputs[0]]
    axes = attributes.get("axes") or (
        graph.arrays[inputs[1]].tolist() if len(inputs) > 1 else list(range(1, len(x.shape) + 1))
    )
    return _reduce("reduce_mean", x, axes, attributes.get("keepdims", 1))


def _global_average_pool(graph, inputs, attributes):
    x = graph.tensors[inputs[0]]
    return _reduce("reduce_mean", x, list(range(2, len(x.shape) + 1)), True)


def _reduction(function):
    def built(graph, inputs, attributes):
        x = graph.tensors[inputs[0]]
        axes = attributes.get("axes") or graph.arrays[inputs[1]].tolist()
        return _reduce(function, x, axes, attributes.get("keepdims", 1))

    return built


def _reduce(function, x, axes, keepdims):
    """Reduction over axes that are numbered with the batch axis."""
    import cntk

    axes = sorted((axis if axis >= 0 else axis + len(x.shape) + 1) - 1 for axis in axes)
    if axes[0] < 0:
        raise ValueError("a reduction over the batch axis is not supported")
    for axis in axes:
        x = getattr(cntk, function)(x, axis=axis)
    kept = [side for axis, side in enumerate(x.shape) if axis not in axes]
    return x if keepdims else cntk.reshape(x, tuple(kept))


def _clip(graph, inputs, attributes):
    import cntk

    bounds = [float(graph.arrays[name].reshape(())) if name else None for name in inputs[1:]] or [
        attributes["min"],
        attributes["max"],
    ]
    return cntk.clip(graph.tensors[inputs[0]], *bounds)


def _flatten(graph, inputs, attributes):
    import cntk

    if attributes.get("axis", 1) != 1:
        raise ValueError("Flatten with another axis than 1 is not supported")
    return cntk.reshape(graph.tensors[inputs[0]], (-1,))


def _reshape(graph, inputs, attributes):
    import cntk

    first, *shape = graph.arrays[inputs[1]].tolist()
    x = graph.tensors[inputs[0]]
    if first not in (0, -1) or (first == -1 and -1 in shape):
        raise ValueError("a Reshape that changes the batch axis is not supported")
    return cntk.reshape(x, tuple(x.shape[axis] if side == 0 else side for axis, side in enumerate(shape)))


def _dense(graph, inputs, attributes):
    import cntk

    if attributes.get("transA") or attributes.get("alpha", 1) != 1 or attributes.get("beta", 1) != 1:
        raise ValueError("a Gemm with transA, alpha or beta is not supported")
    weights = graph.weight(inputs[1])
    if attributes.get("transB"):
        weights = cntk.transpose(weights, (1, 0))
    product = cntk.times(graph.tensors[inputs[0]], weights)
    return product + graph.weight(inputs[2], (-1,)) if len(inputs) > 2 and inputs[2] else product


def _batch_normalization(graph, inputs, attributes):
    """Batch normalization as a scale and an offset of each feature map.

    CNTK's own layer uses and updates batch statistics while anything else is trained, even in a frozen clone.
    """
    x = graph.tensors[inputs[0]]
    shape = (-1,) + (1,) * (len(x.shape) - 1)
    mean, variance = (graph.arrays[name].astype(np.float64).reshape(shape) for name in inputs[3:5])
    std = np.sqrt(variance + attributes.get("epsilon", 1e-5))
    if not {inputs[1], inputs[2]} & graph.trainable:
        scale, offset = (graph.arrays[name].astype(np.float64).reshape(shape) for name in inputs[1:3])
        return x * (scale / std).astype(np.float32) + (offset - mean * scale / std).astype(np.float32)
    centred = (x - mean.astype(np.float32)) / std.astype(np.float32)
    return centred * graph.weight(inputs[1], shape) + graph.weight(inputs[2], shape)


def _gather(graph, inputs, attributes):
    """Elements along an axis in another order, as from RGB to BGR."""
    import cntk

    x, indices = graph.tensors[inputs[0]], graph.arrays[inputs[1]].reshape(-1).tolist()
    axis = attributes.get("axis", 0)
    axis = (axis if axis >= 0 else axis + len(x.shape) + 1) - 1
    return cntk.splice(*[cntk.slice(x, axis, index, index + 1) for index in indices], axis=axis)


OPERATORS = {
    "Cast": _identity,
    "Identity": _identity,
    "Dropout": _identity,
    "Transpose": _transpose,
    "Gather": _gather,
    "Add": _arithmetic("plus"),
    "Sub": _arithmetic("minus"),
    "Mul": _arithmetic("element_times"),
    "Div": _arithmetic("element_divide"),
    "Max": _arithmetic("element_max"),
    "Pow": _arithmetic("pow"),
    "Relu": _elementwise("relu"),
    "Sigmoid": _elementwise("sigmoid"),
    "Tanh": _elementwise("tanh"),
    "Softmax": _elementwise("softmax"),
    "Clip": _clip,
    "Conv": _convolution,
    "MaxPool": _pooling("MAX_POOLING"),
    "AveragePool": _pooling("AVG_POOLING"),
    "GlobalAveragePool": _global_average_pool,
    "ReduceMean": _reduce_mean,
    "ReduceL2": _reduction("reduce_l2"),
    "ReduceMax": _reduction("reduce_max"),
    "Flatten": _flatten,
    "Reshape": _reshape,
    "Gemm": _dense,
    "MatMul": _dense,
    "BatchNormalization": _batch_normalization,
}
