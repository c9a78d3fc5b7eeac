"""An engine runs one ONNX network over batches of uint8 images and gives float32 arrays; all else is above it."""

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

CNTK = "cntk"  # installed only where somebody ran `make cntk`
ENGINES = tuple(name for name in PARAMETERS["engine"].allowed if name != CNTK)
LETTERBOX_COLOUR = "letterbox_colour"  # where version 0.1.0 kept the padding colour
PREPROCESSING_KEYS = (KEY, LETTERBOX_COLOUR)
BATCH_SIZE = 2  # the fastest on CPUs whose cache holds the maps of few images; see benchmarks/RESULTS.md


class Engine(Protocol):
    """A network made ready to run."""

    precision: str  # what it computes in: "f32" or "bf16"

    def run(self, batches: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, ...]]:
        """For each batch, uint8 (n, S, S, 3) RGB with n at most the batch size, the network's outputs, in order."""


def start(
    network: Path | bytes, *, engine: str = "openvino", precision: str = "f32", batch_size: int = BATCH_SIZE
) -> Engine:
    """Make an ONNX network ready to run.

    Parameters
    ----------
    network : path or content of the ONNX file; input uint8 (N, S, S, 3).
    engine : one of `ENGINES`, or "cntk" where it is installed.
    precision : "f32"; "bf16", faster and good to about 2 digits, where the processor has it; "auto", bf16 if it has it.
    batch_size : images computed at once, at most.

    Raises
    ------
    ImgclfError : the file is missing or no network, the engine cannot do that precision here, or is not installed.
    """
    if isinstance(network, Path) and not network.exists():
        raise ImgclfError(f"{network}: no such network; run the notebook that writes it first")
    if engine == "openvino":
        from imgclf.engines.openvino import OpenVinoEngine

        return OpenVinoEngine(network, precision, batch_size)
    if engine == "onnxruntime":
        from imgclf.engines.onnxruntime import OnnxRuntimeEngine

        resolved_precision(engine, precision)
        return OnnxRuntimeEngine(network)
    if engine == CNTK:
        from imgclf.engines.cntk import CntkEngine

        resolved_precision(engine, precision)
        return CntkEngine(network)
    raise ImgclfError(f"engine '{engine}' is not one of {', '.join(PARAMETERS['engine'].allowed)}")


def resolved_precision(engine: str, precision: str) -> str:
    """What `precision` means for an engine on this machine: "f32" or "bf16".

    Raises
    ------
    ImgclfError : "bf16" where it cannot be had.
    """
    if engine == "openvino":
        from imgclf.engines.openvino import resolve_precision

        return resolve_precision(precision)
    if precision == "bf16":
        raise ImgclfError(f"precision='bf16': {engine} computes in f32; use engine='openvino'")
    return "f32"


def preprocessing(network: Path) -> Preprocessing:
    """How images are prepared for a network: what its metadata say; for files of version 0.1.0, its input size and their padding colour.

    Raises
    ------
    ImgclfError : missing, not ONNX, its input isn't (N, S, S, 3), or its metadata say something else.
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
        raise ImgclfError(f"{network}: no such network; run the notebook that writes it first") from None
    except (DecodeError, IndexError, ValueError) as error:
        raise ImgclfError(f"{network}: not an ONNX network for images; write it again") from error
    if height != width or channels != 3 or not height:
        raise ImgclfError(f"{network}: its input is {shape}, not (N, S, S, 3)")
    found = stored_preprocessing(metadata, height, network.name)
    if found.input_size != height:
        raise ImgclfError(f"{network}: its input is {shape}, but its metadata say {found}; export it again")
    return found


def stored_preprocessing(metadata: Mapping[str, Any], input_size: int, name: str) -> Preprocessing:
    """The settings in the metadata of a network with inputs of `input_size` pixels.

    Raises
    ------
    ImgclfError : they are not understood.
    """
    if KEY in metadata:
        return from_json(metadata[KEY], name)
    if LETTERBOX_COLOUR in metadata:
        return from_json({"input_size": input_size, "padding_colour": metadata[LETTERBOX_COLOUR]}, name)
    return Preprocessing(input_size)


def batches(images: np.ndarray, batch_size: int) -> Iterator[np.ndarray]:
    """An array in parts of at most `batch_size` rows."""
    return (images[start : start + batch_size] for start in range(0, len(images), batch_size))
