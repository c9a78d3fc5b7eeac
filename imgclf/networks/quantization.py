"""Post-training quantization: networks whose weights and activations are 8-bit integers, by NNCF."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partialmethod
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from imgclf import ImgclfError
from imgclf.networks import onnx_graph

INSTALL = "pip install 'imgclf[int8]'"
KEY = "quantized"  # in the metadata of the file: what it was made from
METHOD = "nncf performance, activations per tensor, 7-bit weights"
SIGNED_TO_UNSIGNED = 128


def is_installed() -> bool:
    """Whether NNCF is there."""
    return find_spec("nncf") is not None


def quantize(network: Path, pixels: np.ndarray, *, made_from: str) -> bytes:
    """Return the network in int8, as the content of an ONNX file.

    The weights of convolutions and matrix products are integers of 7 bits, with a scale for each output
    channel; the activations between them have 8 bits, with one scale for each tensor, whose range is that of
    the calibration images. The same images give the same bytes on one machine; on another processor the
    ranges differ by rounding.

    Parameters
    ----------
    pixels : (n, S, S, 3) uint8, RGB; the calibration images, preprocessed.
    made_from : stored in the metadata, under `KEY`.

    Raises
    ------
    ImgclfError : NNCF is not installed, or cannot quantize the network.

    Source: B. Jacob and others, "Quantization and training of neural networks for efficient
    integer-arithmetic-only inference", CVPR 2018; bias correction: M. Nagel and others,
    "Data-free quantization through weight equalization and bias correction", ICCV 2019, section 4.2.
    """
    if not is_installed():
        raise ImgclfError(f"precision='int8': the package nncf is missing; {INSTALL}, or use 'f32'")
    model = onnx.load(network)
    metadata = list(model.metadata_props)
    _end_without_cast(model.graph)
    try:
        quantized = _by_nncf(model, pixels)
    except Exception as error:  # it raises whatever its three backends do
        raise ImgclfError(
            f"{network.name}: NNCF cannot quantize it ({_first_line(error)}); use precision='f32'"
        ) from error
    _make_activations_unsigned(quantized.graph)
    del quantized.metadata_props[:]
    quantized.metadata_props.extend(metadata)
    return onnx_graph.with_metadata(quantized.SerializeToString(), {KEY: made_from})


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]


def _by_nncf(model: onnx.ModelProto, pixels: np.ndarray) -> onnx.ModelProto:
    with _silenced():
        import nncf
        from nncf.quantization.advanced_parameters import (
            AdvancedQuantizationParameters,
            OverflowFix,
            QuantizationParameters,
        )

        # Attention needs its own scheme; else ViTs lose their accuracy.
        has_attention = any(node.op_type == "Softmax" for node in model.graph.node)
        name = model.graph.input[0].name
        return nncf.quantize(
            model,
            nncf.Dataset(list(pixels), lambda image: {name: image[None]}),
            preset=nncf.QuantizationPreset.PERFORMANCE,
            subset_size=len(pixels),
            model_type=nncf.ModelType.TRANSFORMER if has_attention else None,
            # Sums of two products of 8-bit numbers overflow 16 bits on processors without VNNI: the mean
            # cosine to f32 was 0.943 there, and is 0.986 everywhere with weights of 7 bits. One scale per
            # channel of the activations is no more accurate, and ONNX Runtime cannot run it in integers.
            advanced_parameters=AdvancedQuantizationParameters(
                overflow_fix=OverflowFix.ENABLE,
                activations_quantization_params=QuantizationParameters(per_channel=False),
            ),
        )


def _end_without_cast(graph: onnx.GraphProto) -> None:
    """Let another node than a Cast compute the output: NNCF removes those without effect, and fails there."""
    for node in [node for node in graph.node if node.op_type == "Cast"]:
        if node.output[0] in {output.name for output in graph.output}:
            name = node.output[0]
            node.output[0] = f"{name}_before_output"
            graph.node.append(onnx.helper.make_node("Identity", [node.output[0]], [name]))


def _make_activations_unsigned(graph: onnx.GraphProto) -> None:
    """Shift signed activations to unsigned ones with the zero point 128, which changes no value.

    ONNX Runtime runs a layer in integers only if its input and output have the same type; those after a ReLU
    are unsigned.
    """
    zero_points = {node.input[2] for node in graph.node if node.op_type == "QuantizeLinear"}
    for tensor in graph.initializer:
        if tensor.name in zero_points and tensor.data_type == onnx.TensorProto.INT8:
            shifted = numpy_helper.to_array(tensor).astype(np.int16) + SIGNED_TO_UNSIGNED
            tensor.CopyFrom(numpy_helper.from_array(shifted.astype(np.uint8), tensor.name))
    del graph.value_info[:]  # it holds the old types


@contextmanager
def _silenced() -> Iterator[None]:
    """Suppress NNCF's logs, progress bars and warnings. Its telemetry is off: see `imgclf/__init__.py`."""
    logger_class = logging.getLoggerClass()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from nncf.common.logging.track_progress import track

        logging.setLoggerClass(logger_class)  # its import sets its own, for all loggers
        logging.getLogger("nncf").setLevel(logging.ERROR)
        shown = track.__init__
        track.__init__ = partialmethod(shown, disable=True)
        try:
            yield
        finally:
            track.__init__ = shown
