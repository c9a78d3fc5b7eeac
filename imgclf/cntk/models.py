"""Models in CNTK's own format, as the tutorial of 2017 wrote them, brought to ONNX; CNTK is needed for that once.

Two shapes are known. A refined one takes images as they are, blue first, 0 to 255, and subtracts 114 itself; its output is called `prediction`.
A pretrained one takes images from which 114 was subtracted; its output is called `z`. Features are what goes into the last dense layer.
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
from imgclf.cntk.process import Process

PIXEL_MEAN = 114  # what the tutorial's networks subtract from every channel


@dataclass(frozen=True, eq=False)
class OldModel:
    """A model, opened in a worker, cut into features and last layer.

    Attributes
    ----------
    side : of the images that it takes, pixels. subtracts : whether it takes 0 to 255; otherwise 114 is to be subtracted before.
    weights : (d, k) float32, offsets : (k,) float32; of the last layer.
    """

    path: Path
    process: Process
    side: int
    subtracts: bool
    weights: np.ndarray
    offsets: np.ndarray

    def outputs(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Features (n, d) and class scores (n, k), computed by CNTK, of images (n, S, S, 3) uint8, RGB."""
        planes = images[..., ::-1].transpose(0, 3, 1, 2).astype(np.float32) - (
            0 if self.subtracts else PIXEL_MEAN
        )
        _, found = self.process.ask("run", {"images": planes})
        return found["0"].reshape(len(images), -1), found["1"].reshape(len(images), -1)

    def export(self, path: Path) -> None:
        """Write the features as an ONNX file whose metadata tell what pixels it takes; as CNTK exports it, for one image at a time.

        Raises
        ------
        ImgclfError : CNTK cannot export this network.
        """
        with tempfile.TemporaryDirectory() as folder:
            exported = Path(folder) / "features.onnx"
            self.process.ask("export", path=str(exported))
            model = onnx.load(exported)
        mean, deviation = (0 if self.subtracts else PIXEL_MEAN) / 255, 1 / 255
        helper.set_model_props(
            model,
            {
                "pixel_mean": json.dumps([mean] * 3),
                "pixel_std": json.dumps([deviation] * 3),
                "pixel_order": '"BGR"',
            },
        )
        with files.replace_file(path) as file:
            file.write(model.SerializeToString(deterministic=True))

    def __str__(self) -> str:
        taken = "0 to 255" if self.subtracts else f"0 to 255 less {PIXEL_MEAN}"
        return (
            f"{self.path.name}: takes images of {self.side} x {self.side} pixels, blue first, {taken}; {self.weights.shape[0]} features, "
            f"{self.weights.shape[1]} classes"
        )


@contextmanager
def opened(path: Path) -> Iterator[OldModel]:
    """An old model in a worker of its own, for a while.

    Raises
    ------
    ImgclfError : there is no such file, it is damaged or of another kind, or CNTK is not installed.
    """
    if not path.is_file():
        raise ImgclfError(f"{path}: no such file; give the path of a .model file")
    with Process() as process:
        try:
            about, arrays = process.ask("cut", path=os.path.abspath(path))
        except ImgclfError as error:
            raise ImgclfError(
                f"{path}: cannot be read as a model for images that CNTK wrote, perhaps damaged ({error}); copy it again from where it was made"
            ) from error
        yield OldModel(path, process, about["side"], about["subtracts"], arrays["weights"], arrays["offsets"])


def as_onnx(path: Path) -> Path:
    """The features of an old model as an ONNX file, which is kept, so that CNTK is needed for it once.

    Raises
    ------
    ImgclfError : see `opened`.
    """
    if not path.is_file():
        raise ImgclfError(f"{path}: no such file; give the path of a .model file")
    kept = (
        files.data_dir() / "networks" / f"{path.stem}-{files.sha256(path)[:16]}-cntk-imgclf{__version__}.onnx"
    )
    if not kept.exists():
        with opened(path) as old:
            old.export(kept)
    return kept
