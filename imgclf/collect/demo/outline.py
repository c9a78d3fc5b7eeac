"""Curves, tubes of cloth, and the view that projects them onto the image.

Garments are drawn in half shoulder widths: x to the right from the middle, y down from the base of the neck.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .portable_math import clipped, cosine, sine

Point = tuple[float, float]


def curve(points: list[Point], pieces: int = 8) -> list[Point]:
    """A Catmull-Rom spline through `points`, as `pieces` line segments from point to point."""
    padded = np.array([points[0], *points, points[-1]])[:, None]
    before, start, end, after = padded[:-3], padded[1:-2], padded[2:-1], padded[3:]
    t = np.arange(pieces)[:, None] / pieces
    bend = (2 * before - 5 * start + 4 * end - after) + (3 * (start - end) + after - before) * t
    line = start + 0.5 * t * ((end - before) + t * bend)
    x, y = line.reshape(-1, 2).T.tolist()
    return [*zip(x, y, strict=True), points[-1]]


def mirrored(points: list[Point]) -> list[Point]:
    """`points` reflected left to right, in reverse order, to complete a half outline."""
    return [(-x, y) for x, y in reversed(points)]


def oval(centre: Point, width: float, height: float) -> list[Point]:
    """The outline of an ellipse; `width` and `height` are its half axes."""
    turns = np.arange(40) / 40
    x, y = centre[0] + width * cosine(turns), centre[1] + height * sine(turns)
    return list(zip(x.tolist(), y.tolist(), strict=True))


def ribbon(line: list[Point], start_width: float, end_width: float | None = None) -> list[Point]:
    """The outline of a band along `line`; its width goes from `start_width` to `end_width`."""
    end_width = start_width if end_width is None else end_width
    left, right = [], []
    for step, (x, y) in enumerate(line):
        (x0, y0), (x1, y1) = line[max(step - 1, 0)], line[min(step + 1, len(line) - 1)]
        length = max(_length(x1 - x0, y1 - y0), 1e-6)
        half = 0.5 * (start_width + (end_width - start_width) * step / (len(line) - 1)) / length
        left.append((x - (y1 - y0) * half, y + (x1 - x0) * half))
        right.append((x + (y1 - y0) * half, y - (x1 - x0) * half))
    return left + right[::-1]


def _length(x: float, y: float) -> float:
    return math.sqrt(x * x + y * y)


@dataclass(frozen=True)
class Tube:
    """A piece of cloth around a limb or the trunk: maps each point to a position on the flat cloth.

    The axis starts at `origin`, runs `length` in `direction` (turns; 0 is down, positive to the right) and is
    displaced sideways by `bend` in its middle. `widths` are half widths at even distances along it.
    """

    origin: Point
    direction: float
    length: float
    widths: tuple[float, ...]
    bend: float = 0.0
    roundness: float = 0.6
    shift: Point = (0.0, 0.0)  # where on the cloth it was cut from
    turn: float = 0.0  # of the texture against the axis, in turns

    @cached_property
    def axis(self) -> Point:
        """Unit vector along the tube."""
        return sine(self.direction), cosine(self.direction)

    def point(self, along: float, across: float) -> Point:
        """The point at `along` (0 to 1) of the axis and `across` (-1 to 1) of the half width there."""
        return self._line(np.array([along]), across)[0]

    def _line(self, along: np.ndarray, across: float) -> list[Point]:
        x, y = self.axis
        side = across * self.width(along) + self.bend * 4 * along * (1 - along)
        origin_x, origin_y = self.origin
        columns = origin_x + x * along * self.length + y * side
        rows = origin_y + y * along * self.length - x * side
        return list(zip(columns.tolist(), rows.tolist(), strict=True))

    def width(self, along: np.ndarray) -> np.ndarray:
        """Half widths at `along` (0 to 1), float64."""
        widths = np.array(self.widths)
        place = along.clip(0.0, 1.0) * (len(widths) - 1)
        left = np.minimum(place.astype(np.intp), len(widths) - 2)
        return widths[left] + (widths[left + 1] - widths[left]) * (place - left)

    def outline(self, start: float = 0.0, end: float = 1.0) -> list[Point]:
        """The visible border from `start` to `end` of the axis."""
        steps = start + (end - start) * np.arange(13) / 12
        return curve(self._line(steps, -1.0), 2) + curve(self._line(steps[::-1], 1.0), 2)

    def unrolled(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Fraction of the half width (-1 to 1 within the tube), and distances across and along the axis."""
        ax, ay = self.axis
        along = (x - self.origin[0]) * ax + (y - self.origin[1]) * ay
        across = (x - self.origin[0]) * ay - (y - self.origin[1]) * ax
        share = clipped(along * (1 / self.length))
        across = across - share * (1.0 - share) * (4 * self.bend)
        return across / self._half_widths.take((share * 64.0).astype(np.intp)), across, along

    @cached_property
    def _half_widths(self) -> np.ndarray:
        """At 65 even distances along the axis, float32."""
        return self.width(np.arange(65) / 64).astype(np.float32)


@dataclass(frozen=True)
class View:
    """The camera: projects garment points to pixels and back.

    pixel = centre + scale * turned(point - focus) / (1 + slant . turned(point - focus))
    """

    centre: Point  # pixels
    focus: Point  # the point of the garment that lies at `centre`
    scale: float  # pixels per half shoulder width
    turn: float  # turns
    slant: Point  # per half shoulder width

    def pixels(self, points: list[Point]) -> np.ndarray:
        """Positions of points of the garment in the image, in pixels; (n, 2) float64, x and y."""
        c, s = cosine(self.turn), sine(self.turn)
        x, y = (np.array(points) - self.focus).T
        x, y = x * c - y * s, x * s + y * c
        depth = np.maximum(1.0 + self.slant[0] * x + self.slant[1] * y, 0.2)
        return np.array([self.centre[i] + self.scale * turned / depth for i, turned in enumerate((x, y))]).T

    def points(self, columns: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Points of the garment seen at the pixels of `columns` (w) and `rows` (h); two arrays (h, w)."""
        x = (columns[None, :] - self.centre[0]) * (1 / self.scale)
        y = (rows[:, None] - self.centre[1]) * (1 / self.scale)
        depth = 1.0 - self.slant[0] * x - self.slant[1] * y
        depth = np.maximum(depth, np.float32(0.2))
        x, y = x / depth, y / depth
        c, s = cosine(self.turn), sine(self.turn)
        return x * c + y * s + self.focus[0], y * c - x * s + self.focus[1]
