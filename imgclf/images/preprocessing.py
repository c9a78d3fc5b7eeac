"""Preprocessing: how an image becomes the square of pixels that a network takes. Training and serving read the same settings."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from imgclf import ImgclfError
from imgclf.images import decoding

KEY = "preprocessing"  # of the metadata of an ONNX file; the value is JSON
PADDING_GREY = 114  # the tutorial subtracted 114 from every channel, so padding of 114 was 0 to its network


@dataclass(frozen=True)
class Preprocessing:
    """The settings, stored in the metadata of every network that imgclf writes.

    Attributes
    ----------
    input_size : width and height of the network's input, pixels.
    padding_colour : red, green, blue of the bars beside an image that is not square, 0 to 255.
    """

    input_size: int
    padding_colour: tuple[int, int, int] = (PADDING_GREY,) * 3

    def letterbox(self, pixels: np.ndarray) -> np.ndarray:
        """The whole image, scaled and centred in a square; the rest has the padding colour.

        Parameters
        ----------
        pixels : (H, W, 3) uint8 array, RGB. An odd pixel of padding goes right or below.

        Returns
        -------
        (S, S, 3) uint8 array, RGB; S is `input_size`.
        """
        scaled = decoding.scale(pixels, self.input_size)
        height, width = scaled.shape[:2]
        square = np.full((self.input_size, self.input_size, 3), self.padding_colour, np.uint8)
        top, left = (self.input_size - height) // 2, (self.input_size - width) // 2
        square[top : top + height, left : left + width] = scaled
        return square

    def apply(
        self, encoded: bytes, name: str = "image", *, max_pixels: int = decoding.MAX_PIXELS
    ) -> np.ndarray:
        """Decode and letterbox the content of an image file; (S, S, 3) uint8, RGB.

        Raises
        ------
        ImgclfError : see `decoding.decode`.
        """
        return self.letterbox(decoding.decode(encoded, name, side=self.input_size, max_pixels=max_pixels))

    def as_json(self) -> dict[str, Any]:
        """The settings as plain values."""
        return {**asdict(self), "padding_colour": list(self.padding_colour)}

    def __str__(self) -> str:
        return f"images of {self.input_size} x {self.input_size} pixels"


def from_json(stored: Any, name: str) -> Preprocessing:
    """The settings that `Preprocessing.as_json` gave; `name` is the file that they were read from.

    Raises
    ------
    ImgclfError : a setting is missing, out of range, or unknown to this version.
    """
    try:
        found = Preprocessing(
            int(stored["input_size"]), tuple(int(level) for level in stored["padding_colour"])
        )
        is_valid = len(found.padding_colour) == 3 and all(0 <= level <= 255 for level in found.padding_colour)
        if not is_valid or found.input_size < 1 or found.as_json() != stored:
            raise ValueError("out of range, or unknown")
    except (KeyError, TypeError, ValueError) as error:
        raise ImgclfError(
            f"{name}: its metadata '{KEY}' is not understood ({stored}); export it again with this version of imgclf"
        ) from error
    return found
