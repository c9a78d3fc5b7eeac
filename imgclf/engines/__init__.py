"""Inference engines: each runs an ONNX network over batches of uint8 images and returns float32 arrays."""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnx
from google.protobuf.message import DecodeError

from imgclf import ImgclfError
from imgclf.images.preprocessing import KEY, Preprocessing, from_json
from imgclf.parameters import PARAMETERS

CNTK = "cntk"  # installed only by `make cntk`
ENGINES = tuple(name for name in PARAMETERS["engine"].allowed if name != CNTK)
LETTERBOX_COLOUR = "letterbox_colour"  # key of the padding colour in files of version 0.1.0
PREPROCESSING_KEYS = (KEY, LETTERBOX_COLOUR)
# The fastest on CPUs whose cache holds the feature maps of few images; see benchmarks/RESULTS.md.
BATCH_SIZE = 2


class Engine(Protocol):
    """A network that is loaded for inference."""

    precision: str  # "f32", "bf16" or "int8"

    def run(self, batches: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, ...]]:
        """Yield the network's outputs for each batch, in order.

        Parameters
        ----------
        batches : uint8 (n, S, S, 3), RGB; n at most the batch size of `start`.
        """

    def close(self) -> None:
        """Free memory and threads; the engine cannot run afterwards. `contextlib.closing` calls it."""


def start(
    network: Path | bytes, *, engine: str = "openvino", precision: str = "f32", batch_size: int = BATCH_SIZE
) -> Engine:
    """Load an ONNX network for inference.

    Parameters
    ----------
    network : path or content of the ONNX file; input uint8 (N, S, S, 3).
    engine : one of `ENGINES`, or "cntk" if it is installed.
    precision : "f32"; "bf16", faster and exact to about 2 digits, if the processor supports it; "auto": bf16
        if supported, else f32; "int8": the network is a quantized one, and the rest is f32. A quantized
        network computes its layers in int8 with any precision.
    batch_size : maximum number of images in a batch.

    Raises
    ------
    ImgclfError : the file is missing or not a network, or the engine is not installed or does not support
        the precision on this processor.
    """
    if isinstance(network, Path) and not network.exists():
        raise ImgclfError(f"{network}: no such file; run the notebook that writes this network first")
    if precision == "int8" and not is_quantized(network):
        name = network.name if isinstance(network, Path) else "the network"
        raise ImgclfError(
            f"precision='int8': {name} is not quantized; run 03_run_dnn and 04_train_svm with that precision"
        )
    if engine == "openvino":
        from imgclf.engines.openvino import OpenVinoEngine

        return OpenVinoEngine(network, precision, batch_size)
    if engine == "onnxruntime":
        from imgclf.engines.onnxruntime import OnnxRuntimeEngine

        return OnnxRuntimeEngine(network, resolved_precision(engine, precision))
    if engine == CNTK:
        from imgclf.engines.cntk import CntkEngine

        resolved_precision(engine, precision)
        return CntkEngine(network)
    raise ImgclfError(
        f"engine='{engine}': must be one of {', '.join(PARAMETERS['engine'].allowed)}; set one of them"
    )


def resolved_precision(engine: str, precision: str) -> str:
    """The precision that an engine uses on this machine: "f32", "bf16" or "int8"; resolves "auto".

    Raises
    ------
    ImgclfError : "bf16" or "int8" is not supported.
    """
    if engine == "openvino":
        from imgclf.engines.openvino import resolve_precision

        return resolve_precision(precision)
    if precision == "bf16":
        raise ImgclfError(f"precision='bf16': {engine} computes in f32; use engine='openvino'")
    if precision == "int8" and engine == CNTK:
        raise ImgclfError(f"precision='int8': {engine} computes in f32; use engine='openvino'")
    return "int8" if precision == "int8" else "f32"


def is_quantized(network: Path | bytes) -> bool:
    """Whether a network is quantized: whether it has weights or activations in 8-bit integers."""
    try:
        content = network.read_bytes() if isinstance(network, Path) else network
        nodes = onnx.load_model_from_string(content).graph.node
    except DecodeError:
        return False
    return any(node.op_type == "DequantizeLinear" for node in nodes)


def preprocessing(network: Path) -> Preprocessing:
    """The preprocessing of images for a network, from its metadata.

    For files of version 0.1.0 it follows from the input size and the padding colour that they store.

    Raises
    ------
    ImgclfError : the file is missing or not ONNX, or its input is not (N, S, S, 3) or contradicts its
        metadata.
    """
    try:
        model = onnx.load(network)
        shape = [axis.dim_value for axis in model.graph.input[0].type.tensor_type.shape.dim]
        _, height, width, channels = shape
        metadata = {
            entry.key: json.loads(entry.value)
            for entry in model.metadata_props
            if entry.key in PREPROCESSING_KEYS
        }
    except FileNotFoundError:
        raise ImgclfError(
            f"{network}: no such file; run the notebook that writes this network first"
        ) from None
    except (DecodeError, IndexError, ValueError) as error:
        raise ImgclfError(f"{network}: not an ONNX network for images; write it again") from error
    if height != width or channels != 3 or not height:
        raise ImgclfError(f"{network}: its input is {shape}, not (N, S, S, 3); export it again")
    stored = stored_preprocessing(metadata, height, network.name)
    if stored.input_size != height:
        raise ImgclfError(f"{network}: its input is {shape}, but its metadata say {stored}; export it again")
    return stored


def stored_preprocessing(metadata: Mapping[str, Any], input_size: int, name: str) -> Preprocessing:
    """The preprocessing in the metadata of a network with inputs of `input_size` pixels.

    Raises
    ------
    ImgclfError : the metadata are invalid.
    """
    if KEY in metadata:
        return from_json(metadata[KEY], name)
    if LETTERBOX_COLOUR in metadata:
        return from_json({"input_size": input_size, "padding_colour": metadata[LETTERBOX_COLOUR]}, name)
    return Preprocessing(input_size)


def batches(images: np.ndarray, batch_size: int) -> Iterator[np.ndarray]:
    """Iterate over an array in batches of at most `batch_size` rows."""
    return (images[start : start + batch_size] for start in range(0, len(images), batch_size))
