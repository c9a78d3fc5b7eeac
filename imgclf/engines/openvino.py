"""OpenVINO: the default inference engine, the fastest on common processors (benchmarks/RESULTS.md)."""

import os
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import openvino
from joblib import cpu_count

from imgclf import ImgclfError


@cache
def core() -> openvino.Core:
    """The OpenVINO runtime, created once."""
    return openvino.Core()


def has_bf16() -> bool:
    """Whether this processor supports bfloat16."""
    return "BF16" in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def resolve_precision(precision: str) -> str:
    """The precision with "auto" resolved: "bf16" if this processor supports it, else "f32".

    Raises
    ------
    ImgclfError : "bf16" is not supported.
    """
    if precision == "auto":
        return "bf16" if has_bf16() else "f32"
    if precision == "bf16" and not has_bf16():
        raise ImgclfError("precision='bf16': this processor does not support bfloat16; use 'f32' or 'auto'")
    return precision


def _thread_settings() -> dict[str, Any]:
    """Settings that limit the threads to the CPU quota, if that is smaller than the machine.

    OpenVINO ignores a container's CPU quota (openvinotoolkit/openvino#37838): it would start threads for the
    whole machine, which then wait for each other. With a number of threads set, it would also pin them to the
    first processors, which are the same ones in every container.
    """
    quota = cpu_count()
    return (
        {"INFERENCE_NUM_THREADS": quota, "ENABLE_CPU_PINNING": False} if quota < (os.cpu_count() or 1) else {}
    )


class OpenVinoEngine:
    """A network on the CPU: small batches of a fixed size, several in parallel, one for each stream."""

    def __init__(self, network: Path | bytes, precision: str, batch_size: int) -> None:
        self.precision = resolve_precision(precision)
        self.batch_size = batch_size
        try:
            model = core().read_model(network)
        except RuntimeError as error:
            name = network if isinstance(network, Path) else "the network"
            raise ImgclfError(
                f"{name}: not an ONNX network that OpenVINO can read; write it again"
            ) from error
        model.reshape([batch_size, *list(model.input().partial_shape)[1:]])
        # Without the precision hint OpenVINO uses bf16 if the processor supports it.
        compiled = core().compile_model(
            model,
            "CPU",
            {
                "PERFORMANCE_HINT": "THROUGHPUT",
                "INFERENCE_PRECISION_HINT": "bf16" if self.precision == "bf16" else "f32",
                **_thread_settings(),
            },
        )
        self.threads: int = compiled.get_property("INFERENCE_NUM_THREADS")
        self._queue = openvino.AsyncInferQueue(compiled)
        results: dict[int, tuple[np.ndarray, ...]] = {}

        def store(request: openvino.InferRequest, number_and_count: tuple[int, int]) -> None:
            number, count = number_and_count
            results[number] = tuple(tensor.data[:count].copy() for tensor in request.output_tensors)

        # Not a method: the queue would keep this object for ever, in a cycle that Python cannot see.
        self._queue.set_callback(store)
        self._results = results

    def run(self, batches: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, ...]]:
        """See `Engine.run`. The next batches are read while one is computed."""
        next_number = 0
        try:
            for number, batch in enumerate(batches):
                self._queue.start_async({0: self._padded(batch)}, (number, len(batch)))
                while next_number in self._results:
                    yield self._results.pop(next_number)
                    next_number += 1
            self._queue.wait_all()
            while next_number in self._results:
                yield self._results.pop(next_number)
                next_number += 1
        finally:
            self._queue.wait_all()
            self._results.clear()

    def close(self) -> None:
        """See `Engine.close`."""
        self._queue.wait_all()
        del self._queue

    def _padded(self, batch: np.ndarray) -> np.ndarray:
        """A short last batch, padded to the fixed batch size."""
        missing = self.batch_size - len(batch)
        return np.pad(batch, ((0, missing), (0, 0), (0, 0), (0, 0))) if missing else batch
