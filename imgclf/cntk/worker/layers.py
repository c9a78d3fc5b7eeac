"""Operators of ONNX, built with CNTK's own layers. Python 3.6 runs this; nothing of CNTK is needed to import it."""

import numpy as np


class Graph:
    """A network while it is built, from steps in the order of computing: an operator of ONNX, what it takes, what it gives."""

    def __init__(self, arrays, learns):
        self.arrays, self.learns, self.made, self.weights = arrays, set(learns), {}, {}

    def of(self, name):
        """What has been computed under a name."""
        return self.made[name]

    def is_fixed(self, name):
        return name in self.arrays

    def weight(self, name, shape=None):
        """Weights as a parameter if they learn, else as a constant; `shape` is that which CNTK wants."""
        import cntk

        if name not in self.weights:
            value = self.arrays[name].astype(np.float32)
            value = np.ascontiguousarray(value.reshape(value.shape if shape is None else shape))
            make = (
                (lambda v: cntk.parameter(init=v, name=name))
                if name in self.learns
                else (lambda v: cntk.constant(v, name=name))
            )
            self.weights[name] = make(value)
        return self.weights[name]

    def operand(self, name, rank):
        """One side of a sum or product: computed, or weights brought to as many axes, without that of the batch."""
        if not self.is_fixed(name):
            return self.of(name)
        shape = self.arrays[name].shape
        if len(shape) > rank:
            if shape[0] != 1 or len(shape) > rank + 1:
                raise ValueError("%s has the shape %s, and each image one of %d axes" % (name, shape, rank))
            shape = shape[1:]
        return self.weight(name, (1,) * (rank - len(shape)) + tuple(shape))


def _arithmetic(function):
    def built(graph, inputs, attributes):
        import cntk

        rank = max(len(graph.of(name).shape) for name in inputs if not graph.is_fixed(name))
        return getattr(cntk, function)(*[graph.operand(name, rank) for name in inputs])

    return built


def _elementwise(function):
    return lambda graph, inputs, attributes: getattr(__import__("cntk"), function)(graph.of(inputs[0]))


def _same(graph, inputs, attributes):
    return graph.of(inputs[0])


def _transpose(graph, inputs, attributes):
    import cntk

    return cntk.transpose(graph.of(inputs[0]), [axis - 1 for axis in attributes["perm"][1:]])


def padding(sides, kernel, strides, pads):
    """How CNTK is to pad: (by itself, explicitly before and behind each axis).

    By itself it centres an odd kernel on the first pixel, which is faster than explicit zeros by half; so that is used wherever it means the same,
    but for a kernel that is larger than the maps, which CNTK refuses.
    """
    before, behind = pads[: len(sides)], pads[len(sides) :]
    if not any(pads):
        return False, None
    counted = [
        (side + b + e - k) // s + 1 for side, b, e, k, s in zip(sides, before, behind, kernel, strides)
    ]
    centred = [-(-side // s) for side, s in zip(sides, strides)]
    if counted == centred and all(
        k % 2 and b == k // 2 and k <= side for b, k, side in zip(before, kernel, sides)
    ):
        return True, None
    return False, list(zip(before, behind))


def _check_window(attributes):
    if any(d != 1 for d in attributes.get("dilations", [])) or attributes.get("auto_pad", "NOTSET") not in (
        "NOTSET",
        "VALID",
    ):
        raise ValueError("dilations and automatic padding are not known here")


def _convolution(graph, inputs, attributes):
    import cntk

    _check_window(attributes)
    x, weights = graph.of(inputs[0]), graph.weight(inputs[1])
    kernel = list(weights.shape[2:])
    strides = attributes.get("strides", [1] * len(kernel))
    by_itself, explicit = padding(x.shape[1:], kernel, strides, attributes.get("pads", [0] * 2 * len(kernel)))
    if explicit:
        x = cntk.pad(x, [(0, 0)] + explicit)
    maps = cntk.convolution(
        weights,
        x,
        strides=tuple(strides),
        auto_padding=[False] + [by_itself] * len(kernel),
        groups=attributes.get("group", 1),
    )
    return (
        maps + graph.weight(inputs[2], (-1,) + (1,) * len(kernel)) if len(inputs) > 2 and inputs[2] else maps
    )


def _pooling(kind):
    def built(graph, inputs, attributes):
        import cntk

        _check_window(attributes)
        x, kernel = graph.of(inputs[0]), attributes["kernel_shape"]
        strides = attributes.get("strides", [1] * len(kernel))
        by_itself, explicit = padding(
            x.shape[1:], kernel, strides, attributes.get("pads", [0] * 2 * len(kernel))
        )
        if explicit or attributes.get("ceil_mode") or (by_itself and kind == "AVG_POOLING"):
            raise ValueError("pooling with such a border is not known here")
        return cntk.pooling(
            x,
            getattr(cntk, kind),
            tuple(kernel),
            tuple(strides),
            auto_padding=[False] + [by_itself] * len(kernel),
        )

    return built


def _means(graph, inputs, attributes):
    x = graph.of(inputs[0])
    axes = attributes.get("axes") or (
        graph.arrays[inputs[1]].tolist() if len(inputs) > 1 else list(range(1, len(x.shape) + 1))
    )
    return _reduced("reduce_mean", x, axes, attributes.get("keepdims", 1))


def _global_means(graph, inputs, attributes):
    x = graph.of(inputs[0])
    return _reduced("reduce_mean", x, list(range(2, len(x.shape) + 1)), True)


def _length(graph, inputs, attributes):
    x = graph.of(inputs[0])
    axes = attributes.get("axes") or graph.arrays[inputs[1]].tolist()
    return _reduced("reduce_l2", x, axes, attributes.get("keepdims", 1))


def _reduced(function, x, axes, keepdims):
    """Over axes that are counted with the batch."""
    import cntk

    axes = sorted((axis if axis >= 0 else axis + len(x.shape) + 1) - 1 for axis in axes)
    if axes[0] < 0:
        raise ValueError("a mean over images is not known here")
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
    return cntk.clip(graph.of(inputs[0]), *bounds)


def _flatten(graph, inputs, attributes):
    import cntk

    if attributes.get("axis", 1) != 1:
        raise ValueError("Flatten along another axis than 1 is not known here")
    return cntk.reshape(graph.of(inputs[0]), (-1,))


def _reshape(graph, inputs, attributes):
    import cntk

    first, *shape = graph.arrays[inputs[1]].tolist()
    x = graph.of(inputs[0])
    if first not in (0, -1) or (first == -1 and -1 in shape):
        raise ValueError("a Reshape that mixes images is not known here")
    return cntk.reshape(x, tuple(x.shape[axis] if side == 0 else side for axis, side in enumerate(shape)))


def _dense(graph, inputs, attributes):
    import cntk

    if attributes.get("transA") or attributes.get("alpha", 1) != 1 or attributes.get("beta", 1) != 1:
        raise ValueError("a Gemm that is transposed or scaled is not known here")
    weights = graph.weight(inputs[1])
    if attributes.get("transB"):
        weights = cntk.transpose(weights, (1, 0))
    product = cntk.times(graph.of(inputs[0]), weights)
    return product + graph.weight(inputs[2], (-1,)) if len(inputs) > 2 and inputs[2] else product


def _normalization(graph, inputs, attributes):
    """Batch normalization as a scale and an offset of each map.

    With CNTK's own one, the statistics of each batch are used and learned while anything else is trained, even where it was cloned to be frozen.
    """
    x = graph.of(inputs[0])
    shape = (-1,) + (1,) * (len(x.shape) - 1)
    mean, variance = (graph.arrays[name].astype(np.float64).reshape(shape) for name in inputs[3:5])
    deviation = np.sqrt(variance + attributes.get("epsilon", 1e-5))
    if not {inputs[1], inputs[2]} & graph.learns:
        scale, offset = (graph.arrays[name].astype(np.float64).reshape(shape) for name in inputs[1:3])
        return x * (scale / deviation).astype(np.float32) + (offset - mean * scale / deviation).astype(
            np.float32
        )
    centred = (x - mean.astype(np.float32)) / deviation.astype(np.float32)
    return centred * graph.weight(inputs[1], shape) + graph.weight(inputs[2], shape)


def _gather(graph, inputs, attributes):
    """Some places along an axis, in another order: how blue, green, red become red, green, blue."""
    import cntk

    x, places = graph.of(inputs[0]), graph.arrays[inputs[1]].reshape(-1).tolist()
    axis = attributes.get("axis", 0)
    axis = (axis if axis >= 0 else axis + len(x.shape) + 1) - 1
    return cntk.splice(*[cntk.slice(x, axis, place, place + 1) for place in places], axis=axis)


OPERATORS = {
    "Cast": _same,
    "Identity": _same,
    "Dropout": _same,
    "Transpose": _transpose,
    "Gather": _gather,
    "Add": _arithmetic("plus"),
    "Sub": _arithmetic("minus"),
    "Mul": _arithmetic("element_times"),
    "Div": _arithmetic("element_divide"),
    "Max": _arithmetic("element_max"),
    "Relu": _elementwise("relu"),
    "Sigmoid": _elementwise("sigmoid"),
    "Tanh": _elementwise("tanh"),
    "Softmax": _elementwise("softmax"),
    "Clip": _clip,
    "Conv": _convolution,
    "MaxPool": _pooling("MAX_POOLING"),
    "AveragePool": _pooling("AVG_POOLING"),
    "GlobalAveragePool": _global_means,
    "ReduceMean": _means,
    "ReduceL2": _length,
    "Flatten": _flatten,
    "Reshape": _reshape,
    "Gemm": _dense,
    "MatMul": _dense,
    "BatchNormalization": _normalization,
}
