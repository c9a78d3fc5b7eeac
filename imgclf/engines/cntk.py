"""CNTK 2.7, in a process of its own with Python 3.6: for comparison with old results, and for those who still must."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError

from imgclf import ImgclfError, files
from imgclf.cntk import Process, translation


class CntkEngine:
    """One network on the CPU, in float32, built anew from CNTK's own layers with the weights of the ONNX file.

    A network `dnn_fixed.onnx` is also saved as `cntk_fixed.model` beside it, in CNTK's own format, as the tutorial did; it takes RGB, 0 to 255, (S, S, 3).
    """

    def __init__(self, network: Path | bytes) -> None:
        name = network.name if isinstance(network, Path) else "the network"
        try:
            model = onnx.load_model_from_string(
                network.read_bytes() if isinstance(network, Path) else network
            )
            if not model.graph.node:
                raise ValueError("an empty graph")
        except (DecodeError, ValueError) as error:
            raise ImgclfError(
                f"{network if isinstance(network, Path) else name}: not an ONNX network that can be read; write it again"
            ) from error
        self.precision = "f32"
        steps = translation.steps(model, name)
        self._process = Process()
        steps.build(self._process, name=name)
        if isinstance(network, Path) and network.name.startswith("dnn_"):
            save(self._process, network.with_name(f"cntk_{network.stem.removeprefix('dnn_')}.model"))

    def run(self, batches: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, ...]]:
        """See `Engine.run`. Each reply is checked for its shape and for finite numbers."""
        for batch in batches:
            _, found = self._process.ask("run", {"images": batch})
            outputs = tuple(found[str(k)] for k in range(len(found)))
            if not outputs or any(
                len(output) != len(batch) or not np.isfinite(output).all() for output in outputs
            ):
                raise ImgclfError(
                    f"CNTK gave {[output.shape for output in outputs]} for {len(batch)} images, or numbers that are not finite; use another engine"
                )
            yield outputs


def save(process: Process, path: Path) -> None:
    """Write what a worker holds in CNTK's own format, whole."""
    with files.replace_file(path) as file:
        process.ask("save", path=file.name)
