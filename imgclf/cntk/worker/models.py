"""Old models: what a `.model` file of the tutorial takes and gives, and its last layer apart. Python 3.6 runs this."""

import numpy as np

USUAL_NAMES = ("prediction", "z")  # of the output, in refined and in pretrained models
PASSED = (
    "Dropout",
    "Combine",
    "NoOp",
    "Alias",
    "StopGradient",
)  # through which values go unchanged when nothing is trained
OWN_ARITHMETIC = ("Minus", "Plus", "ElementTimes")


class OldModel:
    """A model cut into features and last layer.

    Attributes
    ----------
    image : the input, (3, S, S), blue, green, red. features, scores : functions of it.
    weights, offsets : of the last layer, (d, k) and (k,).
    subtracts : whether it takes 0 to 255 and does its own arithmetic on that; otherwise 114 was subtracted before.
    """

    def __init__(self, path):
        import cntk

        found = cntk.load_model(path)
        last = _output(found)
        self.features, weights, offsets = _last_dense(
            last, {weight.uid: weight.value for weight in found.parameters + found.constants}
        )
        images = [entry for entry in self.features.arguments if len(entry.shape) == 3 and entry.shape[0] == 3]
        if len(images) != 1 or len(self.features.arguments) != 1 or images[0].shape[1] != images[0].shape[2]:
            raise ValueError(
                "it takes %s, and must take one square image, (3, S, S)"
                % [entry.shape for entry in self.features.arguments]
            )
        self.image, self.scores = images[0], cntk.combine([last])
        self.offsets = np.asarray(offsets, np.float32).reshape(-1)
        self.weights = np.asarray(weights, np.float32).reshape(-1, len(self.offsets))
        self.subtracts = _begins_with_arithmetic(self.features, self.image)

    def about(self):
        """What the parent is told."""
        return {"side": self.image.shape[1], "subtracts": self.subtracts, "name": self.features.name}


def _output(found):
    """The function whose output is the scores; of several outputs that with a usual name."""
    outputs = found.outputs
    for name in USUAL_NAMES:
        outputs = [output for output in outputs if output.name == name] or outputs
    if len(outputs) != 1:
        raise ValueError(
            "it has the outputs %s; none of them is called %s"
            % ([o.name for o in outputs], " or ".join(USUAL_NAMES))
        )
    return outputs[0].owner


def _last_dense(function, values):
    """What goes into the last layer, as a function, and the layer's weights and offsets; `values` are those of all weights."""
    import cntk

    offsets = 0.0
    while True:
        computed = [entry for entry in function.inputs if entry.is_output]
        fixed = [values[entry.uid] for entry in function.inputs if entry.uid in values]
        if len(computed) == 1 and fixed and _is_dense(function):
            weights = max(fixed, key=np.ndim)
            offsets = (
                offsets
                + sum(value for value in fixed if value is not weights)
                + np.zeros(weights.shape[-1], np.float32)
            )  # a layer may have none
            return cntk.combine([_unchanged(computed[0]).owner]), weights, offsets
        if (
            len(computed) != 1
            or (function.op_name == "Plus" and not fixed)
            or (function.op_name != "Plus" and function.op_name not in PASSED)
        ):
            raise ValueError("it ends with %s, and not with a dense layer" % function.op_name)
        if function.op_name == "Plus":
            offsets = offsets + fixed[0]
        function = computed[0].owner


def _is_dense(function):
    return function.op_name == "Times" or (
        function.op_name == "Dense" and function.block_root.op_name in ("Plus", "Times")
    )


def _unchanged(variable):
    """The same values before what only passes them on."""
    while variable.owner.op_name in PASSED:
        before = [entry for entry in variable.owner.inputs if entry.is_output]
        if len(before) != 1:
            break
        variable = before[0]
    return variable


def _begins_with_arithmetic(features, image):
    import cntk

    every = cntk.logging.graph.depth_first_search(
        features, lambda node: isinstance(node, cntk.Function), depth=0
    )
    first = [function for function in every if any(entry.uid == image.uid for entry in function.inputs)]
    return bool(first) and all(function.op_name in OWN_ARITHMETIC for function in first)
