"""Random views of training images, so that the network learns what does not change a label: framing, light, side."""

from dataclasses import dataclass

import cv2
import numpy as np

LEAST_CROP = 0.9  # of the side of the square
MOST_CHANGE = 0.2  # of brightness, contrast and saturation
GREY_OF_RGB = (0.299, 0.587, 0.114)  # ITU-R BT.601: how bright red, green and blue look


@dataclass(frozen=True)
class View:
    """How an image is changed; by default not at all.

    Attributes
    ----------
    crop : side of the square that is kept, as a share of the whole; left, top : where it lies, as a share of the room there is.
    brightness : added, as a share of the image's mean. contrast, saturation : more (above 0) or less.
    is_mirrored : whether left and right change places.
    """

    crop: float = 1.0
    left: float = 0.5
    top: float = 0.5
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    is_mirrored: bool = False


def draw(*seed: int) -> View:
    """A random view as the tutorial took them: a square of 0.9 to 1, light and colour changed by up to 0.2, half of them mirrored.

    Parameters
    ----------
    seed : whole numbers; the same ones give the same view.
    """
    random = np.random.default_rng(seed)
    crop, (left, top) = random.uniform(LEAST_CROP, 1), random.uniform(0, 1, 2)
    brightness, contrast, saturation = random.uniform(-MOST_CHANGE, MOST_CHANGE, 3)
    return View(crop, left, top, brightness, contrast, saturation, bool(random.random() < 0.5))


def seen(pixels: np.ndarray, view: View, size: int) -> np.ndarray:
    """An image in a view, `size` pixels wide and high.

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
        square = cv2.transform(square, _colour_change(view, float(square.mean())))
    return np.ascontiguousarray(square[:, ::-1] if view.is_mirrored else square)


def _colour_change(view: View, mean: float) -> np.ndarray:
    """Saturation, contrast and brightness as one affine map of a pixel's colours; (3, 4). What leaves 0 to 255 is clipped."""
    grey = np.tile(GREY_OF_RGB, (3, 1))
    saturated = (1 + view.saturation) * np.eye(3) - view.saturation * grey
    offset = (view.brightness - view.contrast) * mean
    return np.column_stack([(1 + view.contrast) * saturated, np.full(3, offset)])
