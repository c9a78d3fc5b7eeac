"""Choice of the tensor of an ONNX network that holds the features of an image: by name, then by shape."""

from collections.abc import Mapping
from dataclasses import dataclass

import onnx
from onnx import NodeProto, TensorProto, helper

from imgclf.networks import onnx_graph
from imgclf.networks.onnx_graph import PREFIX

TOKENS = "last_hidden_state"  # an output of transformers
POOLED = "pooler_output"  # an output of transformers
# Outputs that are features, the preferred first: those of transformers, then what others call them.
FEATURE_NAMES = (
    "image_embeds",
    POOLED,
    TOKENS,
    "features",
    "image_features",
    "image_embeddings",
    "embeddings",
    "embedding",
)
SCORES = "logits"
PROBABILITIES = {"Softmax", "LogSoftmax", "Sigmoid"}
# Operators that may follow the last layer of a classifier; before probabilities, those for pooling too.
HEAD_OPERATORS = {
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
    "QuantizeLinear",
    "DequantizeLinear",
}
POOLING_OPERATORS = {"Relu", "GlobalAveragePool", "AveragePool", "ReduceMean", "Transpose"}
FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)
# Classification tokens, with a distillation token, with four registers (arXiv 2012.12877, 2309.16588).
EXTRA_TOKENS = (1, 2, 5)


@dataclass(frozen=True)
class FeatureTensor:
    """The tensor `name` of a graph, and in words which one it is."""

    name: str
    note: str


def keep_numbers(graph: onnx.GraphProto) -> None:
    """Reduce the outputs of a graph to tensors of floats; probabilities by label become the probabilities.

    Classifiers of Azure Custom Vision have an output of strings and one of maps from label to probability.
    """
    maps = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "ZipMap"}
    kept = [
        helper.make_tensor_value_info(maps[output.name], TensorProto.FLOAT, None)
        if output.name in maps
        else output
        for output in graph.output
        if output.name in maps or output.type.tensor_type.elem_type in FLOATS
    ]
    del graph.output[:]
    graph.output.extend(kept)
    used = {node.output[0] for output in kept for node in onnx_graph.ancestors(graph, output.name)}
    nodes = [node for node in graph.node if node.output and node.output[0] in used]
    del graph.node[:]
    graph.node.extend(nodes)


def feature_tensor(graph: onnx.GraphProto) -> FeatureTensor:
    """The features in a graph with names that begin with `PREFIX`: an output, or the input of a last layer.

    Beside an output of tokens, a dense layer without bias is a projection, as in CLIP: its output is the
    feature vector. A `pooler_output` after tanh belongs to ViT, and many published weights leave its layer
    untrained: there the tokens are taken.
    """
    ranks = {o.name.removeprefix(PREFIX): len(o.type.tensor_type.shape.dim) for o in graph.output}
    producers = {output: node for node in graph.node for output in node.output}
    tokens = TOKENS if TOKENS in ranks else next((n for n, rank in ranks.items() if rank == 3), "")
    name = next((known for known in (*FEATURE_NAMES, SCORES) if known in ranks), "")
    if name in ("", SCORES):
        is_scores = bool(name)
        names = [name] if name else sorted(ranks, key=lambda output: ranks[output] != 2)
        for output in names:
            layer = _last_layer(graph, producers, PREFIX + output, is_scores)
            may_project = bool(tokens) and not is_scores
            if layer and ranks[output] != 3 and not (may_project and _is_projection(layer, PREFIX + output)):
                kind = "dense layer" if layer.op_type != "Conv" else "layer, a convolution"
                return FeatureTensor(layer.input[0], f"input of its last {kind}")
        name = names[0]
    last = producers.get(PREFIX + name)
    while last and last.op_type in ("Cast", "Identity"):
        last = producers.get(last.input[0])
    if tokens and last and last.op_type == "Tanh":
        name = tokens
    if name in FEATURE_NAMES or len(ranks) > 1:
        return FeatureTensor(PREFIX + name, f"its output {name}")
    return FeatureTensor(PREFIX + name, "its output, as it has no last dense layer")


def _is_projection(layer: NodeProto, output: str) -> bool:
    """Whether the last layer has no bias and nothing comes after it."""
    return layer.output[0] == output and len(layer.input) == 2


def _last_layer(
    graph: onnx.GraphProto, producers: Mapping[str, NodeProto], name: str, is_scores: bool
) -> NodeProto | None:
    """The last layer of a classifier, dense or a convolution of one pixel, that computes `name`; else None.

    Parameters
    ----------
    is_scores : whether `name` is known to be the scores of classes.
    """
    fixed = onnx_graph.constant_names(graph)
    kernels = {tensor.name: tensor.dims[2:] for tensor in graph.initializer}
    while node := producers.get(name):
        operator = node.op_type
        if operator in ("Gemm", "MatMul") and node.input[1] in fixed:
            return node
        if operator == "Conv" and is_scores and list(kernels.get(node.input[1], ())) == [1, 1]:
            return node
        is_scores |= operator in PROBABILITIES
        allowed = HEAD_OPERATORS | PROBABILITIES | (POOLING_OPERATORS if is_scores else set())
        computed = [i for i in node.input if i and i not in fixed]
        if operator in ("Reshape", "Squeeze"):  # their shape may be computed too
            computed = computed[:1]
        if operator not in allowed or len(computed) != 1:
            return None
        (name,) = computed
    return None


@dataclass(frozen=True)
class Pooling:
    """How a tensor becomes one vector for each image.

    Attributes
    ----------
    axes : the axes to average over; none : no average.
    takes_first : whether the vector is the first along axis 1, the classification token.
    note : in words, "" for a vector.
    """

    axes: tuple[int, ...] = ()
    takes_first: bool = False
    note: str = ""


def pooling(shape: tuple[int, ...], has_channels_first: bool) -> Pooling | None:
    """The pooling of features of this shape, for images in the given layout; None if they are no features.

    Feature maps are averaged. Tokens (N, T, d) are those of a square grid of patches, which are averaged, or
    of a grid with a classification token before it, which is taken.
    """
    if len(shape) == 2:
        return Pooling()
    if len(shape) == 4:
        if shape[1] == shape[2] != shape[3]:
            has_channels_first = False
        elif shape[2] == shape[3]:
            has_channels_first = True
        return Pooling((2, 3) if has_channels_first else (1, 2), note="average of its feature maps")
    if len(shape) == 3 and shape[1]:
        if _is_square(shape[1]):
            return Pooling((1,), note=f"mean of its {shape[1]} tokens")
        if any(_is_square(shape[1] - extra) for extra in EXTRA_TOKENS):
            note = f"first of its {shape[1]} tokens, the classification token"
            return Pooling(takes_first=True, note=note)
    return None


def _is_square(count: int) -> bool:
    return count > 0 and round(count**0.5) ** 2 == count
