"""Image quality: how dark, how bright and how sharp a picture is, at the size at which networks see it."""

from dataclasses import dataclass

import cv2
import numpy as np

SIDE = 256  # pixels of the longer side; blur that is not seen at this size does not matter to a network
PERCENTILE = 0.01  # of the grey levels at each end
DETAIL = 0.005  # share of the pixels, those with the strongest edges
LEAST_CONTRAST = 8  # grey levels added to the contrast, so that noise in a flat picture is no detail


@dataclass(frozen=True)
class Quality:
    """Measures of a picture.

    Attributes
    ----------
    shadows, highlights : the first and the 99th percentile of the grey levels, 0 to 255.
    sharpness : strength of the strongest edges by the contrast, 0 and more; about 0.5 in sharp photographs.
    """

    shadows: int
    highlights: int
    sharpness: float


def measure(grey: np.ndarray) -> Quality:
    """Return the measures of a picture.

    Sharpness is the absolute Laplacian that 0.5 % of the pixels exceed, divided by the difference between
    highlights and shadows: neither large plain areas nor a dark exposure count as blur.

    Parameters
    ----------
    grey : (H, W) uint8 array, see `small_grey`.

    Source: the Laplacian as a measure of focus is in J. L. Pech-Pacheco et al., "Diatom autofocusing in
    brightfield microscopy", ICPR 2000; the percentile in place of the variance is our own, compared in
    docs/findings.md.
    """
    levels = cv2.calcHist([halved(grey)], [0], None, [256], [0, 256]).ravel()
    edges = cv2.convertScaleAbs(cv2.Laplacian(grey, cv2.CV_16S))
    strengths = cv2.calcHist([edges], [0], None, [256], [0, 256]).ravel()
    shadows, highlights = _level(levels, PERCENTILE), _level(levels, 1 - PERCENTILE)
    strongest = _level(strengths, 1 - DETAIL)
    return Quality(shadows, highlights, round(strongest / (highlights - shadows + LEAST_CONTRAST), 3))


def _level(histogram: np.ndarray, share: float) -> int:
    """Return the level that a share of the pixels does not exceed."""
    cumulated = histogram.cumsum(dtype=np.float64)
    return int(np.searchsorted(cumulated, share * cumulated[-1]))


def small_grey(pixels: np.ndarray) -> np.ndarray:
    """Return a picture in grey, with a longer side of at most `SIDE` pixels; (h, w) uint8.

    By area averaging at a whole factor and then linearly, which takes a fifth of the time of area averaging
    at once.

    Parameters
    ----------
    pixels : (H, W, 3) uint8 array, RGB.
    """
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    longer = max(grey.shape)
    if (factor := longer // SIDE) > 1:
        grey = _resized(grey, 1 / factor, cv2.INTER_AREA)
    if max(grey.shape) > SIDE:
        grey = _resized(grey, SIDE / max(grey.shape), cv2.INTER_LINEAR_EXACT)
    return grey


def halved(grey: np.ndarray) -> np.ndarray:
    """Return a picture at half the size; (h, w) uint8."""
    return _resized(grey, 0.5, cv2.INTER_AREA)


def _resized(grey: np.ndarray, scale: float, interpolation: int) -> np.ndarray:
    height, width = grey.shape
    return cv2.resize(
        grey, (max(1, round(width * scale)), max(1, round(height * scale))), interpolation=interpolation
    )
