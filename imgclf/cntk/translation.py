"""Translation of an ONNX network to nodes that the worker builds with CNTK's layers."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, helper, numpy_helper

from imgclf import ImgclfError
from imgclf.cntk.process import WorkerProcess
from imgclf.cntk.worker import layers


@dataclass(frozen=True, eq=False)
class NetworkSpec:
    """A network for the worker.

    Attributes
    ----------
    input_name : of its input. input_shape : of one image, (S, S, 3).
    nodes : operator, inputs, output, attributes of each, in topological order.
    output_names : of its outputs.
    weights : by name, with their shapes in ONNX.
    """

    input_name: str
    input_shape: tuple[int, ...]
    nodes: tuple[dict[str, Any], ...]
    output_names: tuple[str, ...]
    weights: dict[str, np.ndarray]

    def build(self, process: WorkerProcess, *, name: str, trainable: tuple[str, ...] = ()) -> None:
        """Build the network in a worker.

        Parameters
        ----------
        name : of the network, for error messages.
        trainable : names of the weights that training may change.

        Raises
        ------
        ImgclfError : CNTK cannot build it, most often because the images are too small.
        """
        try:
            process.request(
                "build",
                self.weights,
                input=self.input_name,
                shape=self.input_shape,
                nodes=self.nodes,
                outputs=self.output_names,
                trainable=trainable,
            )
        except ImgclfError as error:
            size = " x ".join(map(str, self.input_shape[:2]))
            raise ImgclfError(
                f"{name}: cannot be built for images of {size} pixels ({error}); "
                "set a larger input_size, or use another engine"
            ) from error


def translate(model: onnx.ModelProto, name: str) -> NetworkSpec:
    """Translate an ONNX network with one input, whose shape is fixed but for the batch axis.

    Raises
    ------
    ImgclfError : it uses an operator that the worker does not support.
    """
    graph = model.graph
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    weights |= {node.output[0]: _constant(node) for node in graph.node if node.op_type == "Constant"}
    casts = [node for node in graph.node if node.op_type == "Cast" and node.input[0] in weights]
    weights |= {node.output[0]: weights[node.input[0]] for node in casts}  # the worker casts all to float32
    nodes = [node for node in graph.node if node.op_type != "Constant" and node not in casts]
    if unsupported := sorted({node.op_type for node in nodes} - layers.OPERATORS.keys()):
        raise ImgclfError(
            f"{name}: uses {', '.join(unsupported)}, which engine='cntk' does not support; "
            "use engine='openvino'"
        )
    (entry,) = [entry for entry in graph.input if entry.name not in weights]
    shape = tuple(axis.dim_value for axis in entry.type.tensor_type.shape.dim)[1:]
    outputs = tuple(output.name for output in graph.output)
    return NetworkSpec(entry.name, shape, tuple(map(_node, nodes)), outputs, weights)


def _constant(node: NodeProto) -> np.ndarray:
    return np.asarray(
        next(
            numpy_helper.to_array(a.t) if a.name == "value" else helper.get_attribute_value(a)
            for a in node.attribute
        )
    )


def _node(node: NodeProto) -> dict[str, Any]:
    values = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    attributes = {
        name: value.decode() if isinstance(value, bytes) else value
        for name, value in values.items()
        if isinstance(value, (bytes, int, float, list))
    }
    return {
        "operator": node.op_type,
        "inputs": list(node.input),
        "output": node.output[0],
        "attributes": attributes,
    }
