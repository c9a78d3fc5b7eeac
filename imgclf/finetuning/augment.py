"""Data augmentation: random views of training images, for invariance to framing, light and flips."""

from dataclasses import dataclass

import cv2
import numpy as np

MIN_CROP = 0.9  # of the side of the square
MAX_CHANGE = 0.2  # of brightness, contrast and saturation
GREY_OF_RGB = (0.299, 0.587, 0.114)  # ITU-R BT.601: luma of red, green and blue


@dataclass(frozen=True)
class View:
    """The transformation of an image; the default changes nothing.

    Attributes
    ----------
    crop : side of the square that is kept, as a share of the whole.
    left, top : position of the crop, as a share of the room there is, 0 to 1.
    brightness : added, as a share of the image's mean.
    contrast, saturation : relative change; above 0 is more, below 0 less.
    is_mirrored : whether it is flipped horizontally.
    """

    crop: float = 1.0
    left: float = 0.5
    top: float = 0.5
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    is_mirrored: bool = False


def draw(*seed: int) -> View:
    """Return a random view, with the tutorial's ranges.

    A square crop of 0.9 to 1 of the side; brightness, contrast and saturation changed by up to 0.2; half of
    the views are flipped.

    Parameters
    ----------
    seed : whole numbers; the same ones draw the same view.
    """
    random = np.random.default_rng(seed)
    crop, (left, top) = random.uniform(MIN_CROP, 1), random.uniform(0, 1, 2)
    brightness, contrast, saturation = random.uniform(-MAX_CHANGE, MAX_CHANGE, 3)
    return View(crop, left, top, brightness, contrast, saturation, bool(random.random() < 0.5))


def apply(pixels: np.ndarray, view: View, size: int) -> np.ndarray:
    """Return the view of an image, `size` pixels wide and high.

    Parameters
    ----------
    pixels : (S, S, 3) uint8, RGB.

    Returns
    -------
    (size, size, 3) uint8, RGB.
    """
    side = round(view.crop * len(pixels))
    left, top = (round(share * (len(pixels) - side)) for share in (view.left, view.top))
    square = pixels[top : top + side, left : left + side]
    if side != size:
        square = cv2.resize(
            square, (size, size), interpolation=cv2.INTER_AREA if size < side else cv2.INTER_LINEAR_EXACT
        )
    if view.brightness or view.contrast or view.saturation:
        square = cv2.transform(square, _colour_matrix(view, float(square.mean())))
    return np.ascontiguousarray(square[:, ::-1] if view.is_mirrored else square)


def _colour_matrix(view: View, mean: float) -> np.ndarray:
    """Return saturation, contrast and brightness as one affine map of RGB; (3, 4).

    The result is clipped to 0 to 255.
    """
    grey = np.tile(GREY_OF_RGB, (3, 1))
    saturated = (1 + view.saturation) * np.eye(3) - view.saturation * grey
    offset = (view.brightness - view.contrast) * mean
    return np.column_stack([(1 + view.contrast) * saturated, np.full(3, offset)])
