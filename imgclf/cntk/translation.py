"""An ONNX network as the steps that the worker builds with CNTK's own layers."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, helper, numpy_helper

from imgclf import ImgclfError
from imgclf.cntk.process import Process
from imgclf.cntk.worker import layers


@dataclass(frozen=True, eq=False)
class Steps:
    """A network for the worker.

    Attributes
    ----------
    entry : name of the input. shape : of one image, (S, S, 3). outputs : names.
    nodes : in the order of computing. arrays : the weights, by name, with their shapes in ONNX.
    """

    entry: str
    shape: tuple[int, ...]
    nodes: tuple[dict[str, Any], ...]
    outputs: tuple[str, ...]
    arrays: dict[str, np.ndarray]

    def build(self, process: Process, *, name: str, learns: tuple[str, ...] = ()) -> None:
        """Make the network in a worker; `learns` names the weights that may change, `name` is what messages call the network.

        Raises
        ------
        ImgclfError : CNTK cannot build it, most often since the images are too small.
        """
        try:
            process.ask(
                "build",
                self.arrays,
                input=self.entry,
                shape=self.shape,
                steps=self.nodes,
                outputs=self.outputs,
                learns=learns,
            )
        except ImgclfError as error:
            raise ImgclfError(
                f"{name}: cannot be built for images of {' x '.join(map(str, self.shape[:2]))} pixels ({error}); "
                "set a larger input_size, or use another engine"
            ) from error


def steps(model: onnx.ModelProto, name: str) -> Steps:
    """The steps of an ONNX network with one input of known shape but for its first axis.

    Raises
    ------
    ImgclfError : it uses an operator that the worker does not know.
    """
    graph = model.graph
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    arrays |= {node.output[0]: _constant(node) for node in graph.node if node.op_type == "Constant"}
    nodes = [node for node in graph.node if node.op_type != "Constant"]
    if unknown := sorted({node.op_type for node in nodes} - layers.OPERATORS.keys()):
        raise ImgclfError(
            f"{name}: uses {', '.join(unknown)}, which engine='cntk' does not know; use engine='openvino'"
        )
    (entry,) = [entry for entry in graph.input if entry.name not in arrays]
    shape = tuple(axis.dim_value for axis in entry.type.tensor_type.shape.dim)[1:]
    return Steps(
        entry.name, shape, tuple(map(_step, nodes)), tuple(output.name for output in graph.output), arrays
    )


def _constant(node: NodeProto) -> np.ndarray:
    return np.asarray(
        next(
            numpy_helper.to_array(a.t) if a.name == "value" else helper.get_attribute_value(a)
            for a in node.attribute
        )
    )


def _step(node: NodeProto) -> dict[str, Any]:
    values = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    plain = {
        name: value.decode() if isinstance(value, bytes) else value
        for name, value in values.items()
        if isinstance(value, (bytes, int, float, list))
    }
    return {
        "operator": node.op_type,
        "inputs": list(node.input),
        "output": node.output[0],
        "attributes": plain,
    }
