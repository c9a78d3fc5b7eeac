"""Old models of the tutorial, split into features and last layer. Python 3.6 runs this."""

import numpy as np

OUTPUT_NAMES = ("prediction", "z")  # in fine-tuned and in pretrained models
# Operators that do not change values in inference.
PASS_THROUGH = (
    "Dropout",
    "Combine",
    "NoOp",
    "Alias",
    "StopGradient",
)
ARITHMETIC = ("Minus", "Plus", "ElementTimes")


class OldModel:
    """A model split into features and last layer.

    Attributes
    ----------
    image : the input, (3, S, S), blue, green, red. features, scores : functions of it.
    weights, offsets : of the last layer, (d, k) and (k,).
    subtracts_mean : whether its input is 0 to 255 and it normalizes it; otherwise 114 is subtracted before.
    """

    def __init__(self, path):
        import cntk

        model = cntk.load_model(path)
        output = _output(model)
        self.features, weights, offsets = _split_at_last_dense(
            output, {weight.uid: weight.value for weight in model.parameters + model.constants}
        )
        images = [entry for entry in self.features.arguments if len(entry.shape) == 3 and entry.shape[0] == 3]
        if len(images) != 1 or len(self.features.arguments) != 1 or images[0].shape[1] != images[0].shape[2]:
            raise ValueError(
                "its input is %s; it must be one square image, (3, S, S)"
                % [entry.shape for entry in self.features.arguments]
            )
        self.image, self.scores = images[0], cntk.combine([output])
        self.offsets = np.asarray(offsets, np.float32).reshape(-1)
        self.weights = np.asarray(weights, np.float32).reshape(-1, len(self.offsets))
        self.subtracts_mean = _begins_with_arithmetic(self.features, self.image)

    def description(self):
        """Values for the parent."""
        return {"input_size": self.image.shape[1], "subtracts_mean": self.subtracts_mean}


def _output(model):
    """The function whose output is the scores; of several outputs the one with a usual name."""
    outputs = model.outputs
    for name in OUTPUT_NAMES:
        outputs = [output for output in outputs if output.name == name] or outputs
    if len(outputs) != 1:
        raise ValueError(
            "it has the outputs %s; none of them is called %s"
            % ([o.name for o in outputs], " or ".join(OUTPUT_NAMES))
        )
    return outputs[0].owner


def _split_at_last_dense(function, values):
    """The input of the last dense layer, as a function, and the layer's weights and offsets.

    `values` are those of all weights, by uid.
    """
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
            return cntk.combine([_skip_pass_through(computed[0]).owner]), weights, offsets
        if (
            len(computed) != 1
            or (function.op_name == "Plus" and not fixed)
            or (function.op_name != "Plus" and function.op_name not in PASS_THROUGH)
        ):
            raise ValueError("it ends with %s, and not with a dense layer" % function.op_name)
        if function.op_name == "Plus":
            offsets = offsets + fixed[0]
        function = computed[0].owner


def _is_dense(function):
    return function.op_name == "Times" or (
        function.op_name == "Dense" and function.block_root.op_name in ("Plus", "Times")
    )


def _skip_pass_through(variable):
    """The variable before all `PASS_THROUGH` operators; it has the same values."""
    while variable.owner.op_name in PASS_THROUGH:
        before = [entry for entry in variable.owner.inputs if entry.is_output]
        if len(before) != 1:
            break
        variable = before[0]
    return variable


def _begins_with_arithmetic(features, image):
    import cntk

    functions = cntk.logging.graph.depth_first_search(
        features, lambda node: isinstance(node, cntk.Function), depth=0
    )
    first = [function for function in functions if any(entry.uid == image.uid for entry in function.inputs)]
    return bool(first) and all(function.op_name in ARITHMETIC for function in first)
