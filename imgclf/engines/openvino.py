"""OpenVINO: the fastest engine on the processors that people have."""

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
    """OpenVINO itself, started once."""
    return openvino.Core()


def has_bf16() -> bool:
    """Whether this processor computes in bfloat16 itself."""
    return "BF16" in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def resolve_precision(precision: str) -> str:
    """ "auto" as "bf16" or "f32", what this processor is best at."""
    if precision == "auto":
        return "bf16" if has_bf16() else "f32"
    if precision == "bf16" and not has_bf16():
        raise ImgclfError("precision='bf16': this processor has no bfloat16; use 'f32' or 'auto'")
    return precision


def _thread_settings() -> dict[str, Any]:
    """As many threads as processors are granted, where that is fewer than the machine has.

    OpenVINO itself doesn't see a container's quota (openvinotoolkit/openvino#37838): it would start threads for the whole machine, which
    then wait for each other. With a number of threads given it would also tie them to the first processors, in every container to the same.
    """
    granted = cpu_count()
    return (
        {"INFERENCE_NUM_THREADS": granted, "ENABLE_CPU_PINNING": False}
        if granted < (os.cpu_count() or 1)
        else {}
    )


class OpenVinoEngine:
    """One network on the CPU: small batches of a fixed size, several at a time, one for each stream."""

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
        # Without the precision hint OpenVINO takes bf16 by itself where the processor has it.
        compiled = core().compile_model(
            model,
            "CPU",
            {
                "PERFORMANCE_HINT": "THROUGHPUT",
                "INFERENCE_PRECISION_HINT": self.precision,
                **_thread_settings(),
            },
        )
        self.threads: int = compiled.get_property("INFERENCE_NUM_THREADS")
        self._queue = openvino.AsyncInferQueue(compiled)
        self._done: dict[int, tuple[np.ndarray, ...]] = {}
        self._queue.set_callback(self._keep)

    def _keep(self, request: openvino.InferRequest, number_and_count: tuple[int, int]) -> None:
        number, count = number_and_count
        self._done[number] = tuple(tensor.data[:count].copy() for tensor in request.output_tensors)

    def run(self, batches: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, ...]]:
        """See `Engine.run`. While one batch is computed the next ones are taken from `batches`."""
        following = 0
        try:
            for number, batch in enumerate(batches):
                self._queue.start_async({0: self._filled(batch)}, (number, len(batch)))
                while following in self._done:
                    yield self._done.pop(following)
                    following += 1
            self._queue.wait_all()
            while following in self._done:
                yield self._done.pop(following)
                following += 1
        finally:
            self._queue.wait_all()
            self._done.clear()

    def _filled(self, batch: np.ndarray) -> np.ndarray:
        """A short last batch, filled up to the fixed size."""
        missing = self.batch_size - len(batch)
        return np.pad(batch, ((0, missing), (0, 0), (0, 0), (0, 0))) if missing else batch
