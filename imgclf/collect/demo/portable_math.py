"""Arithmetic on arrays that is bit-identical on every machine.

The manifest lists the sha256 of every image, so rendering must be reproducible to the bit on any processor
and with any version of numpy. In float32, `+ - * /`, sqrt, floor, abs, comparisons, minimum and maximum are
fixed to the bit by IEEE 754. numpy's sin, exp and power and the order of its sums depend on the vector unit,
so nothing here or in the modules that build on it uses them: curves are polynomials, sums are of integers,
and nothing goes through a float filter of OpenCV.
"""

from typing import TypeVar

import numpy as np

NOISE_SIZE = 64  # side of a grid of random values; a power of two, so that it wraps by `&`
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
    return np.minimum(np.maximum(values, low), high)


def smooth_step(values: np.ndarray) -> np.ndarray:
    """0 below 0, 1 above 1, and a cubic (smoothstep) between."""
    values = clipped(values)
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
    """A map of `shape` interpolated by cubic B-splines from nodes every `step` pixels.

    Linear maps stay linear.

    Parameters
    ----------
    coarse : (h, w) float32, at `coarse_nodes` of both axes.
    shape : rows and columns of the result, in pixels.
    """
    across = _refine_rows(np.ascontiguousarray(coarse.T), shape[1], step)
    return _refine_rows(np.ascontiguousarray(across.T), shape[0], step)


def _refine_rows(coarse: np.ndarray, rows: int, step: int) -> np.ndarray:
    whole = len(coarse) - 3
    fine = np.empty((whole, step, coarse.shape[1]), np.float32)
    # Sums are made in an array without gaps, which stays in the cache: twice as fast as in `fine`.
    total, term = (np.empty((whole, coarse.shape[1]), np.float32) for _ in range(2))
    for phase in range(step):
        weights = _spline_weights(phase / step)
        np.multiply(coarse[:whole], weights[0], out=total)
        for node in (1, 2, 3):
            np.multiply(coarse[node : node + whole], weights[node], out=term)
            np.add(total, term, out=total if node < 3 else fine[:, phase])
    return fine.reshape(whole * step, -1)[:rows]


def _spline_weights(t: float) -> tuple[float, float, float, float]:
    s = 1.0 - t
    return (
        s * s * s / 6,
        (3 * t * t * t - 6 * t * t + 4) / 6,
        (3 * s * s * s - 6 * s * s + 4) / 6,
        t * t * t / 6,
    )


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
    blocks = padded.reshape(nodes[0], step, nodes[1], step)
    sums = blocks.sum(axis=1, dtype=np.int32).sum(axis=2, dtype=np.int32)
    return refine(sums.astype(np.float32) * (1.0 / (255 * step * step)), mask.shape, step)


def noise_at(grid: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Value noise, 0 to 1, at the points (`x`, `y`); its period is 64, and details have about the size 1.

    Parameters
    ----------
    grid : (64, 64) float32, random values from 0 to 1.
    """
    column, row = np.floor(x), np.floor(y)
    across, down = smooth_step(x - column), smooth_step(y - row)
    wrap = NOISE_SIZE - 1
    left, top = column.astype(np.int64) & wrap, (row.astype(np.int64) & wrap) * NOISE_SIZE
    right, bottom = (left + 1) & wrap, (top + NOISE_SIZE) & (NOISE_SIZE * wrap)
    values = grid.reshape(-1)
    upper = values[top + left] * (1.0 - across) + values[top + right] * across
    lower = values[bottom + left] * (1.0 - across) + values[bottom + right] * across
    return upper * (1.0 - down) + lower * down
