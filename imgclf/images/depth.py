"""Bit depth: samples of more than 8 bits are scaled to 8 by the range that the file uses.

The range depends on the file alone, never on other images, so that training and serving scale alike: what the
file declares, if its samples fit; else the smallest of `BITS` that holds its largest sample; else its minimum
to its maximum.
"""

import math

import cv2
import numpy as np
from PIL import Image as PillowImage

from imgclf.images import png_chunks

BITS = (8, 10, 12, 14, 16)
OWN_RANGE = "own range"
STRIP_PIXELS = 2**20  # scaled at once, as 64-bit floating point

# Tags of TIFF.
BITS_PER_SAMPLE, PHOTOMETRIC, MAX_SAMPLE_VALUE, PLANAR, SAMPLE_FORMAT = 258, 262, 281, 284, 339
UNSIGNED, WHITE_IS_ZERO, SEPARATE = 1, 0, 2  # values of SAMPLE_FORMAT, PHOTOMETRIC, PLANAR
SMALLEST_SAMPLE, LARGEST_SAMPLE = 340, 341  # SMinSampleValue, SMaxSampleValue


def eight_bits(picture: PillowImage.Image, encoded: bytes) -> tuple[PillowImage.Image, str]:
    """Return a picture of 8 bits a sample, and by what it was scaled.

    Parameters
    ----------
    picture : loaded. encoded : the content of its file.

    Returns
    -------
    The picture, and "12 bits" or the like; `OWN_RANGE` for minimum to maximum; "" if it has 8 bits or fewer.
    """
    if picture.mode.startswith("I") or picture.mode == "F":
        return _scaled_grey(picture, encoded)
    if is_deep_colour(picture, encoded):
        return _scaled_colour(picture, encoded)
    return picture, ""


def is_deep_colour(picture: PillowImage.Image, encoded: bytes) -> bool:
    """Whether a picture has colour of more than 8 bits a sample; it needs not to be loaded."""
    is_grey = picture.mode.startswith("I") or picture.mode == "F"
    return not is_grey and _stored_bits(picture, encoded) > 8


def is_misread(picture: PillowImage.Image, encoded: bytes) -> bool:
    """Whether Pillow and OpenCV would return wrong pixels: 16 bits a sample in a plane for each colour."""
    return tag(picture, PLANAR, 1) == SEPARATE and is_deep_colour(picture, encoded)


def _stored_bits(picture: PillowImage.Image, encoded: bytes) -> int:
    if picture.format == "PNG":
        return encoded[24]
    return int(tag(picture, BITS_PER_SAMPLE, 8)) if picture.format == "TIFF" else 8


def tag(picture: PillowImage.Image, number: int, default: float) -> float:
    """Return a number in the tags of a TIFF, of several the largest; the default if there is none."""
    value = getattr(picture, "tag_v2", {}).get(number, default)
    try:
        found = float(max(value) if isinstance(value, tuple) else value)
    except (TypeError, ValueError):
        return default
    return found if math.isfinite(found) else default


def _scaled_grey(picture: PillowImage.Image, encoded: bytes) -> tuple[PillowImage.Image, str]:
    samples, is_tiff = np.asarray(picture), picture.format == "TIFF"
    is_unsigned = is_tiff and tag(picture, SAMPLE_FORMAT, UNSIGNED) == UNSIGNED
    if is_unsigned and samples.dtype == np.int32:
        samples = samples.view(np.uint32)  # Pillow has no mode for it
    low, high, by = (_float_range if picture.mode == "F" else _integer_range)(samples, picture, encoded)
    grey = _scaled(samples, low, high)
    if is_tiff and tag(picture, PHOTOMETRIC, 1) == WHITE_IS_ZERO:  # Pillow inverts 8 bits only
        grey = 255 - grey
    return PillowImage.fromarray(grey), by


def _scaled_colour(picture: PillowImage.Image, encoded: bytes) -> tuple[PillowImage.Image, str]:
    """Scale samples of fewer than 16 bits; of 16, Pillow has taken the upper 8 already."""
    samples = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_UNCHANGED)
    if (
        picture.mode not in ("RGB", "RGBA")
        or samples is None
        or samples.dtype != np.uint16
        or samples.shape not in [(*picture.size[::-1], channels) for channels in (3, 4)]
    ):
        return picture, "16 bits"
    low, high, by = _integer_range(samples[:, :, :3], picture, encoded)
    if high == 65535:
        return picture, by
    colour = _scaled(samples[:, :, 2::-1], low, high)
    if samples.shape[2] == 3 or not picture.has_transparency_data:
        return PillowImage.fromarray(colour), by
    alpha = samples[:, :, 3]
    alpha_bits = _smallest_bits(int(alpha.max()))
    return PillowImage.fromarray(np.dstack([colour, _scaled(alpha, 0, 2**alpha_bits - 1)])), by


def _integer_range(
    samples: np.ndarray, picture: PillowImage.Image, encoded: bytes
) -> tuple[float, float, str]:
    """Return the samples that become 0 and 255, and their description."""
    low, high = int(samples.min()), int(samples.max())
    declared = _declared_maximum(picture, encoded)
    if low >= 0 and high <= declared:
        return 0, declared, f"{declared.bit_length()} bits"
    if low >= 0 and (bits := _smallest_bits(high)):
        return 0, 2**bits - 1, f"{bits} bits"
    return min(low, 0), high, OWN_RANGE


def _smallest_bits(largest: int) -> int:
    return next((bits for bits in BITS if largest < 2**bits), 0)


def _declared_maximum(picture: PillowImage.Image, encoded: bytes) -> int:
    """Return the largest sample that the file declares; 0 if it declares no more than its bit depth."""
    if picture.format == "PNG":
        bits = png_chunks.significant_bits(encoded)
        return 2**bits - 1 if 8 <= bits < 16 else 0
    if picture.format == "TIFF":
        largest = 2 ** _stored_bits(picture, encoded) - 1
        declared = int(tag(picture, MAX_SAMPLE_VALUE, largest))
        return declared if 0 < declared < largest or largest < 65535 else 0
    return 65535  # Pillow scales those of PPM and JPEG 2000


def _float_range(samples: np.ndarray, picture: PillowImage.Image, encoded: bytes) -> tuple[float, float, str]:
    """Return the samples that become 0 and 255, and their description; 0 to 1 if all are within."""
    finite = np.isfinite(samples)
    low = float(np.min(samples, where=finite, initial=0))
    high = float(np.max(samples, where=finite, initial=low if low < 0 else 1))
    declared = (tag(picture, SMALLEST_SAMPLE, low), tag(picture, LARGEST_SAMPLE, high))
    if declared[0] <= low and high <= declared[1]:
        low, high = declared
    return low, high, OWN_RANGE


def _scaled(samples: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return samples scaled from `low` and `high` to 0 and 255, uint8; not-a-number and infinity become 0."""
    scaled = np.empty(samples.shape, np.uint8)
    rows = max(1, STRIP_PIXELS // max(1, samples[0].size))
    for top in range(0, len(samples), rows):
        part = samples[top : top + rows].astype(np.float64)
        np.nan_to_num(part, copy=False, nan=low, posinf=low, neginf=low)
        part = (part.clip(low, high) - low) * 255 / max(high - low, np.finfo(np.float64).tiny)
        scaled[top : top + rows] = np.rint(part)
    return scaled
