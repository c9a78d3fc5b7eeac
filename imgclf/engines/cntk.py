"""CNTK 2.7, in a worker process with Python 3.6: for comparison with old results."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError

from imgclf import ImgclfError, files
from imgclf.cntk import WorkerProcess, translation


class CntkEngine:
    """A network on the CPU, in float32, rebuilt from CNTK's layers with the weights of the ONNX file.

    A network `dnn_fixed.onnx` is also saved as `cntk_fixed.model` beside it, in CNTK's format, as the
    tutorial did; its input is RGB, 0 to 255, (S, S, 3).
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
                f"{network if isinstance(network, Path) else name}: not an ONNX network that can be read; "
                "write it again"
            ) from error
        self.precision = "f32"
        spec = translation.translate(model, name)
        self._is_number = [len(output.type.tensor_type.shape.dim) == 1 for output in model.graph.output]
        self._process = WorkerProcess()
        spec.build(self._process, name=name)
        if isinstance(network, Path) and network.name.startswith("dnn_"):
            save(self._process, network.with_name(f"cntk_{network.stem.removeprefix('dnn_')}.model"))

    def run(self, batches: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, ...]]:
        """See `Engine.run`. Each reply is validated: its shape, and that all numbers are finite."""
        for batch in batches:
            _, results = self._process.request("run", {"images": batch})
            outputs = tuple(results[str(k)] for k in range(len(results)))
            if not outputs or any(
                len(output) != len(batch) or not np.isfinite(output).all() for output in outputs
            ):
                raise ImgclfError(
                    f"CNTK returned outputs of shape {[output.shape for output in outputs]} for {len(batch)} "
                    "images, or numbers that are not finite; use another engine"
                )
            # CNTK returns a column where ONNX has one number per image.
            numbers = zip(outputs, self._is_number, strict=True)
            yield tuple(output.reshape(len(batch)) if one else output for output, one in numbers)

    def close(self) -> None:
        """See `Engine.close`; ends the worker process."""
        self._process.close()


def save(process: WorkerProcess, path: Path) -> None:
    """Write the network of a worker in CNTK's format, atomically."""
    with files.replace_file(path) as file:
        process.request("save", path=file.name)
