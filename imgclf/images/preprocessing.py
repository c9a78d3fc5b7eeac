"""Preprocessing: the letterbox, which turns an image into the square input of a network.

Training and serving read the same settings from the network's file, so they cannot differ.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from imgclf import ImgclfError
from imgclf.images import decoding, kinds

KEY = "preprocessing"  # key in the metadata of an ONNX file; the value is JSON
PADDING_GREY = 114  # the tutorial subtracted 114 from every channel, so its network saw the padding as 0


@dataclass(frozen=True)
class Preprocessing:
    """The preprocessing settings, stored in the metadata of every network that imgclf writes.

    Attributes
    ----------
    input_size : width and height of the network's input, pixels.
    padding_colour : red, green, blue of the letterbox bars beside an image that is not square, 0 to 255.
    """

    input_size: int
    padding_colour: tuple[int, int, int] = (PADDING_GREY,) * 3

    def letterbox(self, pixels: np.ndarray) -> np.ndarray:
        """Return the letterboxed image: scaled, centred in a square, the rest filled with the padding colour.

        Parameters
        ----------
        pixels : (H, W, 3) uint8 array, RGB. An odd pixel of padding goes right or below.

        Returns
        -------
        (S, S, 3) uint8 array, RGB; S is `input_size`.
        """
        square = np.full((self.input_size, self.input_size, 3), self.padding_colour, np.uint8)
        square[self.inside(*pixels.shape[:2])] = decoding.scale(pixels, self.input_size)
        return square

    def inside(self, height: int, width: int) -> tuple[slice, slice]:
        """Return the rows and columns of the letterbox that an image of this size fills."""
        rows, columns = decoding.scaled_size(height, width, self.input_size)
        top, left = (self.input_size - rows) // 2, (self.input_size - columns) // 2
        return slice(top, top + rows), slice(left, left + columns)

    def apply(self, encoded: bytes, name: str = "image", *, max_pixels: int = kinds.MAX_PIXELS) -> np.ndarray:
        """Return the content of an image file decoded and letterboxed; (S, S, 3) uint8, RGB.

        Raises
        ------
        ImgclfError : see `decoding.decode`.
        """
        return self.letterbox(decoding.decode(encoded, name, side=self.input_size, max_pixels=max_pixels))

    def as_json(self) -> dict[str, Any]:
        """Return the settings as JSON values."""
        return {**asdict(self), "padding_colour": list(self.padding_colour)}

    def __str__(self) -> str:
        return f"images of {self.input_size} x {self.input_size} pixels"


def from_json(stored: Any, name: str) -> Preprocessing:
    """Return the settings that `Preprocessing.as_json` wrote; `name` is the file that they were read from.

    Raises
    ------
    ImgclfError : a setting is missing, out of range, or unknown to this version.
    """
    try:
        red, green, blue = map(int, stored["padding_colour"])
        settings = Preprocessing(int(stored["input_size"]), (red, green, blue))
        is_colour = all(0 <= level <= 255 for level in settings.padding_colour)
        if not is_colour or settings.input_size < 1 or settings.as_json() != stored:
            raise ValueError("out of range, or unknown")
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ImgclfError(
            f"{name}: its metadata '{KEY}' is not understood ({stored}); "
            "export it again with this version of imgclf"
        ) from error
    return settings
