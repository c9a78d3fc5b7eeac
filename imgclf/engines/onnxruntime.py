"""ONNX Runtime: the reference for other engines and the exported classifier."""

import warnings
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import onnxruntime
from joblib import cpu_count

from imgclf import ImgclfError, engines

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


def is_for_gpu() -> bool:
    """Whether the installed ONNX Runtime is that for NVIDIA GPUs, also where there is none."""
    return CUDA in onnxruntime.get_available_providers()


def gpu() -> str:
    """Return the GPU that it computes on, as PyTorch names it; "" without `is_for_gpu`."""
    if not is_for_gpu():
        return ""
    import torch

    with suppress(RuntimeError):  # another process has the GPU for itself
        return torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU known to PyTorch"
    return "a GPU"


def providers(network: Path | bytes) -> list[tuple[str, dict[str, str]]]:
    """Return what ONNX Runtime shall compute with, first choice first, with options.

    That is an NVIDIA GPU if the package onnxruntime-gpu is installed in place of onnxruntime, but for
    quantized networks the CPU: CUDA has no kernels for most of their layers.
    """
    found = [(CPU, dict[str, str]())]
    if is_for_gpu() and not engines.is_quantized(network):
        onnxruntime.preload_dlls()  # of the packages of CUDA
        found.insert(0, (CUDA, {"use_tf32": "0"}))  # TF32 rounds the factors of products to 10 bits
    return found


class OnnxRuntimeEngine:
    """A network in float32 on a GPU if there is one, else on the CPU; the layers of a quantized one in int8.

    Attributes
    ----------
    device : "cuda" or "cpu".
    """

    def __init__(self, network: Path | bytes, precision: str = "f32") -> None:
        onnxruntime.disable_telemetry_events()
        options = onnxruntime.SessionOptions()
        # The default is a thread for every processor of the machine, also those that the process may not use.
        options.intra_op_num_threads = cpu_count()
        options.log_severity_level = 4  # errors are raised; the log would print them too
        wanted = providers(network)
        try:
            self._session = onnxruntime.InferenceSession(network, options, providers=wanted)
        except Exception as error:  # its exceptions have no common base but this
            name = network if isinstance(network, Path) else "the network"
            raise ImgclfError(
                f"{name}: not an ONNX network that ONNX Runtime can read; write it again"
            ) from error
        self.precision = precision
        self.device = "cuda" if CUDA in self._session.get_providers() else "cpu"
        if self.device == "cpu" and len(wanted) > 1:
            warnings.warn("ONNX Runtime cannot use the GPU, and computes on the processor", stacklevel=2)
        self._input = self._session.get_inputs()[0].name

    def run(self, batches: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, ...]]:
        """See `Engine.run`."""
        for batch in batches:
            yield tuple(self._session.run(None, {self._input: batch}))

    def close(self) -> None:
        """See `Engine.close`."""
        del self._session
