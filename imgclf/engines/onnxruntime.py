"""ONNX Runtime: the reference that other engines and the finished classifier are checked against."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from joblib import cpu_count

from imgclf import ImgclfError

# Read once, at the import: without it ONNX Runtime writes a device id into the home folder and sends events.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import onnxruntime  # noqa: E402


class OnnxRuntimeEngine:
    """One network on the CPU, in float32."""

    def __init__(self, network: Path | bytes, precision: str) -> None:
        if precision == "bf16":
            raise ImgclfError("precision='bf16': ONNX Runtime computes in f32 on the CPU; use engine='openvino'")
        onnxruntime.disable_telemetry_events()
        options = onnxruntime.SessionOptions()
        # By itself it starts a thread for every processor of the machine, also those it may not use.
        options.intra_op_num_threads = cpu_count()
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(network, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its exceptions have no common base but this
            name = network if isinstance(network, Path) else "the network"
            raise ImgclfError(f"{name}: not an ONNX network that ONNX Runtime can read; write it again") from error
        self.precision = "f32"
        self.outputs = tuple(output.name for output in self._session.get_outputs())
        self._input = self._session.get_inputs()[0].name

    def run(self, batches: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, ...]]:
        """See `Engine.run`."""
        for batch in batches:
            yield tuple(self._session.run(None, {self._input: batch}))
