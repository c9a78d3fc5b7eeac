"""Alterations of a picture that shops, social media and augmentation tools make, each saved again as a JPEG."""

from collections.abc import Callable

import cv2
import numpy as np

from imgclf.images import decoding

QUALITY = 90
Alteration = Callable[[np.ndarray], np.ndarray]


def cropped(left: float = 0, top: float = 0, right: float = 0, bottom: float = 0) -> Alteration:
    """Cut off these shares of the width or height."""

    def crop(pixels: np.ndarray) -> np.ndarray:
        height, width = pixels.shape[:2]
        rows = slice(round(height * top), height - round(height * bottom))
        return pixels[rows, round(width * left) : width - round(width * right)]

    return crop


def turned(angle: float, *, corners: bool) -> Alteration:
    """Turn by some degrees, with black corners, or cropped to the part without any."""

    def turn(pixels: np.ndarray) -> np.ndarray:
        height, width = pixels.shape[:2]
        around = cv2.getRotationMatrix2D((width / 2 - 0.5, height / 2 - 0.5), angle, 1)
        whole = cv2.warpAffine(pixels, around, (width, height))
        sine = abs(np.sin(np.deg2rad(angle)))
        x, y = int(np.ceil(height / 2 * sine)), int(np.ceil(width / 2 * sine))
        return whole if corners else whole[y : height - y, x : width - x]

    return turn


def framed(width: int) -> Alteration:
    """Put a white frame of `width` pixels around the picture."""
    return lambda pixels: cv2.copyMakeBorder(pixels, *[width] * 4, cv2.BORDER_CONSTANT, value=(255, 255, 255))


def written(text: str, *, x: float, y: float, size: float, thickness: int) -> Alteration:
    """Write outlined text; x, y, size are shares of the picture's width and height."""

    def write(pixels: np.ndarray) -> np.ndarray:
        height, width = pixels.shape[:2]
        changed = pixels.copy()
        for colour, thick in (((0, 0, 0), thickness + 2), ((255, 255, 255), thickness)):
            place = (int(width * x), int(height * y))
            cv2.putText(changed, text, place, 0, width * size, colour, thick, cv2.LINE_AA)
        return changed

    return write


def lit(factor: float) -> Alteration:
    """Multiply all levels by `factor`."""
    return lambda pixels: cv2.convertScaleAbs(pixels, alpha=factor)


def shifted(pixels: np.ndarray) -> np.ndarray:
    """Shift by 3 pixels, with black edges."""
    height, width = pixels.shape[:2]
    return cv2.warpAffine(pixels, np.array([[1.0, 0, 3], [0, 1, 3]]), (width, height))


def mirrored(pixels: np.ndarray) -> np.ndarray:
    """Mirror left and right."""
    return pixels[:, ::-1]


def grey(pixels: np.ndarray) -> np.ndarray:
    """Take the colour away."""
    return cv2.cvtColor(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)


def halved(pixels: np.ndarray) -> np.ndarray:
    """Scale to half the size."""
    return cv2.resize(pixels, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)


def both(*alterations: Alteration) -> Alteration:
    """Apply several alterations, the first one first."""

    def change(pixels: np.ndarray) -> np.ndarray:
        for alteration in alterations:
            pixels = np.ascontiguousarray(alteration(pixels))
        return pixels

    return change


WATERMARK = written("SHOP.COM", x=0.6, y=0.95, size=1 / 450, thickness=2)
ACROSS = written("SALE 50% OFF", x=0.04, y=0.55, size=1 / 230, thickness=3)

ALTERATIONS: dict[str, Alteration] = {
    "saved again, quality 90": np.copy,
    "half size": halved,
    "blurred, sigma 2": lambda pixels: cv2.GaussianBlur(pixels, (0, 0), 2),
    "20 % brighter": lit(1.2),
    "20 % darker": lit(0.8),
    "shifted by 3 pixels": shifted,
    "cropped by 2 %, one side": cropped(left=0.02),
    "cropped by 5 %, one side": cropped(top=0.05),
    "cropped by 10 %, one side": cropped(right=0.1),
    "cropped by 2 %, all sides": cropped(*[0.02] * 4),
    "cropped by 5 %, all sides": cropped(*[0.05] * 4),
    "cropped by 10 %, all sides": cropped(*[0.1] * 4),
    "mirrored": mirrored,
    "turned by 90 degrees": lambda pixels: np.rot90(pixels),
    "turned by 180 degrees": lambda pixels: np.rot90(pixels, 2),
    "turned by 270 degrees": lambda pixels: np.rot90(pixels, 3),
    "turned by 1 degree, black corners": turned(1, corners=True),
    "turned by 1 degree, cropped": turned(1, corners=False),
    "turned by 3 degrees, black corners": turned(-3, corners=True),
    "turned by 3 degrees, cropped": turned(3, corners=False),
    "frame of 4 pixels": framed(4),
    "frame of 20 pixels": framed(20),
    "watermark in a corner": WATERMARK,
    "text across": ACROSS,
    "grey": grey,
    "mirrored, cropped by 10 %": both(mirrored, cropped(*[0.1] * 4)),
    "turned by 90 degrees, watermark": both(np.rot90, WATERMARK),
    "grey, mirrored, frame of 20 pixels": both(grey, mirrored, framed(20)),
    "turned by 3 degrees, cropped by 5 %, half size": both(
        turned(3, corners=False), cropped(*[0.05] * 4), halved
    ),
    "mirrored, turned by 3 degrees, text across": both(mirrored, turned(3, corners=True), ACROSS),
}


def altered(name: str, pixels: np.ndarray, *, quality: int = QUALITY) -> bytes:
    """Return a picture altered and saved as a JPEG file."""
    return decoding.jpeg(np.ascontiguousarray(ALTERATIONS[name](pixels)), quality=quality)
