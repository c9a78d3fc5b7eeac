"""Arithmetic on arrays that is bit-identical on every machine.

The manifest lists the sha256 of every image, so rendering must be reproducible to the bit on any processor
and with any version of numpy. In float32, `+ - * /`, sqrt, floor, abs, comparisons, minimum and maximum are
fixed to the bit by IEEE 754. numpy's sin, exp and power and the order of its sums depend on the vector unit,
so nothing here or in the modules that build on it uses them: curves are polynomials, sums are of integers,
and nothing goes through a float filter of OpenCV.
"""

from functools import lru_cache
from typing import TypeVar

import cv2
import numpy as np

Turns = TypeVar("Turns", float, np.ndarray)


def sine(turns: Turns) -> Turns:
    """The sine of an angle in turns (1 is a full circle), to about 0.001."""
    turns = turns - (np.floor(turns) if isinstance(turns, np.ndarray) else turns // 1)
    folded = 1.0 - 2.0 * turns
    parabola = 4.0 * folded * (1.0 - abs(folded))
    return parabola + 0.225 * (parabola * abs(parabola) - parabola)


def cosine(turns: Turns) -> Turns:
    """The cosine of an angle in turns, to about 0.001."""
    return sine(turns + 0.25)


def clipped(values: np.ndarray, low: float = 0.0, high: float = 1.0) -> np.ndarray:
    """`values` clipped to the range from `low` to `high`."""
    return values.clip(low, high)  # a quarter of the time of `minimum` and `maximum` with numbers


def smooth_step(values: np.ndarray) -> np.ndarray:
    """0 below 0, 1 above 1, and a cubic (smoothstep) between."""
    return _eased(clipped(values))


def _eased(values: np.ndarray) -> np.ndarray:
    return values * values * (3.0 - 2.0 * values)


def coverage(distance: np.ndarray, pixel: float) -> np.ndarray:
    """Fraction of a pixel that a shape covers, 0 to 1.

    `distance` is that to its edge, negative inside, in the unit of `pixel`.
    """
    return clipped(0.5 - distance * (1.0 / pixel))


def coarse_nodes(start: int, length: int, step: int) -> np.ndarray:
    """Positions, in pixels, of the nodes from which `refine` interpolates `length` pixels from `start` on."""
    return (np.arange(-(-length // step) + 3, dtype=np.float32) - 1.0) * step + float(start)


def refine(coarse: np.ndarray, shape: tuple[int, int], step: int) -> np.ndarray:
    """Maps of `shape` interpolated by cubic B-splines from nodes every `step` pixels.

    Linear maps stay linear.

    Parameters
    ----------
    coarse : (h, w) or, for several maps, (h, maps, w) float32, at `coarse_nodes` of both axes.
    shape : rows and columns of the result, in pixels.
    """
    return _refine_rows(_refine_rows(coarse.T, shape[1], step).T, shape[0], step)


def _refine_rows(coarse: np.ndarray, rows: int, step: int) -> np.ndarray:
    # In flat arrays: numpy is slow where rows are short, and where they have gaps between them.
    width, nodes = coarse[0].size, coarse.reshape(-1)
    weights, numbers = _spline_weights(step)
    terms = weights * nodes
    length = nodes.size - 3 * width
    fine = np.empty((step, length), np.float32)
    for total, (first, second, third, fourth) in zip(fine, numbers, strict=True):
        np.add(terms[first, :length], terms[second, width : width + length], out=total)
        total += terms[third, 2 * width : 2 * width + length]
        if fourth:  # not of weight 0
            total += terms[fourth, 3 * width :]
    return fine.reshape(step, -1, width).swapaxes(0, 1).reshape(-1, *coarse.shape[1:])[:rows]


@lru_cache
def _spline_weights(step: int) -> tuple[np.ndarray, list[list[int]]]:
    """The different weights, (n, 1) float32, and which of them the four nodes around each pixel have."""
    t = np.arange(step) / step
    s = 1.0 - t
    weights = [
        s * s * s / 6,
        (3 * t * t * t - 6 * t * t + 4) / 6,
        (3 * s * s * s - 6 * s * s + 4) / 6,
        t * t * t / 6,
    ]
    different, numbers = np.unique(np.array(weights, np.float32), return_inverse=True)
    return different[:, None], numbers.T.tolist()


def soften(mask: np.ndarray, step: int) -> np.ndarray:
    """`mask` blurred over about `step` pixels; padded with zeros.

    Parameters
    ----------
    mask : (h, w) uint8, 0 to 255.

    Returns
    -------
    (h, w) float32, 0 to 1.
    """
    nodes = [-(-length // step) + 3 for length in mask.shape]
    padded = np.zeros([count * step for count in nodes], np.uint8)
    margin = step + step // 2  # puts the middle of block 1 on pixel 0
    padded[margin : margin + mask.shape[0], margin : margin + mask.shape[1]] = mask
    above = cv2.integral(padded)[::step, ::step]  # the sum of all pixels up left of each block's corner
    rows = above[1:] - above[:-1]
    sums = rows[:, 1:] - rows[:, :-1]
    return refine(sums.astype(np.float32) * (1.0 / (255 * step * step)), mask.shape, step)


def noise_at(grid: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Value noise, 0 to 1; its period is 64, and details have about the size 1.

    Parameters
    ----------
    grid : as `Draws.noise_grid` returns it.
    points : (2, …) float32, x and y.
    """
    column, row = cells = np.floor(points)
    near, side = _eased(points - cells), len(grid)
    (right, bottom), (left, top) = near, 1.0 - near
    values, corner = grid.reshape(-1), wrapped_index(column, row, side - 1, side)
    upper = values.take(corner) * left + values[1:].take(corner) * right
    lower = values[side:].take(corner) * left + values[side + 1 :].take(corner) * right
    return upper * top + lower * bottom


def wrapped_index(column: np.ndarray, row: np.ndarray, period: int, stride: int) -> np.ndarray:
    """Index of cells in a flat table with rows of `stride`; cells repeat after `period`, a power of two."""
    column, row = column.astype(np.int32), row.astype(np.int32)  # faster than int64
    return ((row & (period - 1)) * stride + (column & (period - 1))).astype(np.intp)
