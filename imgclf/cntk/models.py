"""Models in CNTK's format, as the tutorial of 2017 wrote them, converted to ONNX; CNTK is needed once.

Two kinds are supported. A fine-tuned model takes images BGR, 0 to 255, and subtracts 114 itself; its output
is called `prediction`. A pretrained model takes images from which 114 was subtracted; its output is called
`z`. Features are the input of the last dense layer.
"""

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import helper

from imgclf import ImgclfError, __version__, files
from imgclf.cntk.process import WorkerProcess

PIXEL_MEAN = 114  # grey level that the tutorial's networks subtract from every channel


@dataclass(frozen=True, eq=False)
class OldModel:
    """A model, loaded in a worker, split into features and last layer.

    Attributes
    ----------
    input_size : width and height of its input, pixels.
    subtracts_mean : whether its input is 0 to 255; otherwise `PIXEL_MEAN` is to be subtracted before.
    weights : (d, k) float32, offsets : (k,) float32; of the last layer.
    """

    path: Path
    process: WorkerProcess
    input_size: int
    subtracts_mean: bool
    weights: np.ndarray
    offsets: np.ndarray

    @property
    def _mean(self) -> int:
        """Grey level to subtract from pixels before."""
        return 0 if self.subtracts_mean else PIXEL_MEAN

    def outputs(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Features (n, d) and scores (n, k), computed by CNTK, of images (n, S, S, 3) uint8, RGB."""
        planes = images[..., ::-1].transpose(0, 3, 1, 2).astype(np.float32) - self._mean
        _, results = self.process.request("run", {"images": planes})
        return results["0"].reshape(len(images), -1), results["1"].reshape(len(images), -1)

    def export(self, path: Path) -> None:
        """Write the features as an ONNX file with the normalization of pixels in its metadata.

        CNTK exports it with batch size 1.

        Raises
        ------
        ImgclfError : CNTK cannot export this network.
        """
        with tempfile.TemporaryDirectory() as folder:
            exported = Path(folder) / "features.onnx"
            self.process.request("export", path=str(exported))
            model = onnx.load(exported)
        helper.set_model_props(
            model,
            {
                "pixel_mean": json.dumps([self._mean / 255] * 3),
                "pixel_std": json.dumps([1 / 255] * 3),
                "pixel_order": '"BGR"',
            },
        )
        with files.replace_file(path) as file:
            file.write(model.SerializeToString(deterministic=True))

    def __str__(self) -> str:
        levels = "0 to 255" if self.subtracts_mean else f"0 to 255 minus {PIXEL_MEAN}"
        return (
            f"{self.path.name}: takes images of {self.input_size} x {self.input_size} pixels, BGR, {levels}; "
            f"{self.weights.shape[0]} features, {self.weights.shape[1]} classes"
        )


@contextmanager
def opened(path: Path) -> Iterator[OldModel]:
    """An old model in a worker of its own, which ends with the context.

    Raises
    ------
    ImgclfError : there is no such file, it is damaged or of another kind, or CNTK is not installed.
    """
    if not path.is_file():
        raise ImgclfError(f"{path}: no such file; give the path of a .model file")
    with WorkerProcess() as process:
        try:
            values, arrays = process.request("load", path=os.path.abspath(path))
        except ImgclfError as error:
            raise ImgclfError(
                f"{path}: cannot be read as a model for images in CNTK's format, perhaps damaged ({error}); "
                "copy it again from where it was written"
            ) from error
        yield OldModel(
            path,
            process,
            values["input_size"],
            values["subtracts_mean"],
            arrays["weights"],
            arrays["offsets"],
        )


def as_onnx(path: Path) -> Path:
    """The features of an old model as an ONNX file. The file is cached, so that CNTK is needed once.

    Raises
    ------
    ImgclfError : see `opened`.
    """
    if not path.is_file():
        raise ImgclfError(f"{path}: no such file; give the path of a .model file")
    cached = (
        files.data_dir() / "networks" / f"{path.stem}-{files.sha256(path)[:16]}-cntk-imgclf{__version__}.onnx"
    )
    if not cached.exists():
        with opened(path) as old:
            old.export(cached)
    return cached
