"""The three textures of cloth: dotted, leopard, striped.

A texture is a function of (u, v), the position on the flat cloth in half shoulder widths, and of the size of
a pixel there; it returns the colour planes. The label is true of every texture, however hard it is to see.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from .draws import Draws
from .palette import Colour, cloth_colours, luminance, mixed
from .portable_math import cosine, coverage, sine, wrapped_index

CELLS = 16  # the random properties of dots and rosettes repeat after this many cells, a power of two
PERIOD_SAMPLES = 2048  # samples of one period of stripes

Bands = tuple[tuple[float, Colour], ...]
Texture = Callable[[np.ndarray, np.ndarray, float], np.ndarray]


@dataclass(frozen=True)
class TextureSettings:
    """Settings of any texture: scale, contrast, and whether it resembles another class."""

    pitch: float  # from mark to mark, in half shoulder widths
    contrast: float  # difference in lightness, 0 to 255
    is_ambiguous: bool  # resembles another class, e.g. dots in rows


def make_texture(label: str, draws: Draws, settings: TextureSettings) -> tuple[Texture, list[Colour]]:
    """A texture of the class `label` and its colours, the ground first."""
    colours = cloth_colours(
        draws, settings.contrast, {"leopard": 0.5, "dotted": 0.15, "striped": 0.15}[label]
    )
    return {"dotted": dotted, "leopard": leopard, "striped": striped}[label](
        draws, settings, colours
    ), colours


def dotted(draws: Draws, settings: TextureSettings, colours: list[Colour]) -> Texture:
    """Round dots: in a lattice, or scattered in several sizes, or (ambiguous) in close rows or elongated."""
    if settings.is_ambiguous:
        return draws.choice([_dots_in_rows, _long_dots, _scattered_dots])(draws, settings, colours)
    return draws.weighted_choice({_lattice_dots: 5, _scattered_dots: 3, _confetti: 2})(
        draws, settings, colours
    )


def _lattice_dots(draws: Draws, settings: TextureSettings, colours: list[Colour]) -> Texture:
    marks = colours[1 : 1 + draws.weighted_choice({1: 4, 2: 1, 3: 1})]
    turn = draws.choice([0.0, 0.0, 0.125, draws.uniform(0, 0.25)])
    lattice = Lattice(settings.pitch, settings.pitch, turn, draws.bernoulli(0.6))
    radius = draws.uniform(0.17, 0.37)
    return _dots(lattice, _radii(draws, radius, radius), colours[0], marks)


def _dots_in_rows(draws: Draws, settings: TextureSettings, colours: list[Colour]) -> Texture:
    lattice = Lattice(
        settings.pitch * 0.5,
        settings.pitch * draws.uniform(1.1, 1.5),
        draws.choice([0.0, 0.25, 0.125]),
        False,
    )
    return _dots(lattice, _radii(draws, 0.37, 0.46), colours[0], colours[1:2])


def _long_dots(draws: Draws, settings: TextureSettings, colours: list[Colour]) -> Texture:
    lattice = Lattice(
        settings.pitch * draws.uniform(0.6, 0.75), settings.pitch * 1.2, draws.choice([0.0, 0.25, 0.12]), True
    )
    return _dots(lattice, _radii(draws, 0.25, 0.33), colours[0], colours[1:2], squash=0.6)


def _scattered_dots(draws: Draws, settings: TextureSettings, colours: list[Colour]) -> Texture:
    marks, table = colours[1 : 1 + draws.choice([1, 1, 2, 3])], draws.uniform_array(3, CELLS * CELLS)
    smallest = draws.uniform(0.12, 0.24)
    radii = smallest + (draws.uniform(0.28, 0.36) - smallest) * table[2]

    points = ScatteredPoints(table[0], table[1], 0.34)

    def texture(u: np.ndarray, v: np.ndarray, pixel: float) -> np.ndarray:
        nearest, _, cell = points.nearest(u * (1 / settings.pitch), v * (1 / settings.pitch))
        cover = coverage(nearest - radii.take(cell), pixel / settings.pitch)
        return _with_marks(colours[0], marks, cover, cell, 7)

    return texture


def _confetti(draws: Draws, settings: TextureSettings, colours: list[Colour]) -> Texture:
    sizes = (settings.pitch, settings.pitch * draws.uniform(0.55, 0.8))
    layers = [
        (
            Lattice(size, size, draws.uniform(0, 0.25), True, draws.uniform(0, 1)),
            draws.uniform_array(CELLS * CELLS),
            mark,
        )
        for size, mark in zip(sizes, (colours[1], draws.choice(colours[1:3])), strict=True)
    ]

    def texture(u: np.ndarray, v: np.ndarray, pixel: float) -> np.ndarray:
        planes = _uniform(colours[0], u.shape)
        for lattice, table, mark in layers:
            x, y, cell = lattice.cells(u, v)
            radius = np.where(table < 0.3, 0.0, 0.14 + 0.22 * table).astype(np.float32).take(cell)
            distance = (np.sqrt(x * x + y * y) - radius) * lattice.pitch
            _blend(planes, coverage(distance, pixel) * (radius > 0), mark)
        return planes

    return texture


@dataclass(frozen=True)
class Lattice:
    """Cells on the cloth, `pitch` by `row_pitch`, rotated by `turn` (turns); odd rows may be shifted."""

    pitch: float
    row_pitch: float
    turn: float
    is_staggered: bool
    shift: float = 0.0

    def cells(self, u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Position from the middle of the cell, in units of `pitch`, and index of the cell (below 256)."""
        c, s = cosine(self.turn), sine(self.turn)
        y = (v * c - u * s) * (1 / self.row_pitch) + self.shift
        row = np.floor(y)
        x = (u * c + v * s) * (1 / self.pitch)
        if self.is_staggered:
            x = x + (row * 0.5 - np.floor(row * 0.5))
        column = np.floor(x)
        cell = wrapped_index(column, row, CELLS, CELLS)
        return x - column - 0.5, (y - row - 0.5) * (self.row_pitch / self.pitch), cell


class ScatteredPoints:
    """Points on the cloth, one in each cell of side 1, up to `reach` from its middle.

    Parameters
    ----------
    jitter_x, jitter_y : (256,) float32, 0 to 1: where each point lies in its cell.
    """

    def __init__(self, jitter_x: np.ndarray, jitter_y: np.ndarray, reach: float) -> None:
        tables = (jitter_x - 0.5) * (2 * reach), (jitter_y - 0.5) * (2 * reach), np.arange(CELLS * CELLS)
        # With the cells around them, so that the neighbours of a cell are at fixed distances in the table.
        self._x, self._y, self._number = (
            np.pad(table.reshape(CELLS, CELLS), 1, mode="wrap").reshape(-1) for table in tables
        )

    def nearest(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Distance to the nearest and the second nearest point, and the index of the nearest.

        The eight cells around are searched too (Worley noise).
        """
        column, row = np.floor(x), np.floor(y)
        x, y = x - column - 0.5, y - row - 0.5
        corner = wrapped_index(column, row, CELLS, CELLS + 2)  # of the cell up left
        nearest, second = np.full(x.shape, 9.0, np.float32), np.full(x.shape, 9.0, np.float32)
        ahead = np.zeros(x.shape, np.uint8)
        for down in (-1, 0, 1):
            for right in (-1, 0, 1):
                step = (down + 1) * (CELLS + 2) + right + 1
                dx = (self._x[step:] + right).take(corner) - x
                dy = (self._y[step:] + down).take(corner) - y
                square = dx * dx + dy * dy
                ahead = np.maximum(ahead, (square < nearest) * np.uint8(step))
                second = np.minimum(second, np.maximum(nearest, square))
                nearest = np.minimum(nearest, square)
        return np.sqrt(nearest), np.sqrt(second), self._number.take(corner + ahead)


def _dots(
    lattice: Lattice, sizes: np.ndarray, ground: Colour, marks: list[Colour], *, squash: float = 1.0
) -> Texture:
    """Dots of radius `sizes` (one for each cell) on `lattice`; a `squash` below 1 elongates them."""

    def texture(u: np.ndarray, v: np.ndarray, pixel: float) -> np.ndarray:
        x, y, cell = lattice.cells(u, v)
        distance = np.sqrt(x * x + y * y * (squash * squash)) - sizes.take(cell)
        return _with_marks(ground, marks, coverage(distance, pixel / lattice.pitch), cell, 5)

    return texture


def _radii(draws: Draws, low: float, high: float) -> np.ndarray:
    return low + (high - low) * draws.uniform_array(CELLS * CELLS)


def striped(draws: Draws, settings: TextureSettings, colours: list[Colour]) -> Texture:
    """Parallel stripes in any direction, of two to four colours; ambiguous ones are broken or wavy."""
    turn = draws.weighted_choice({0.0: 4, 0.25: 3, 0.125: 1, -0.125: 1, draws.uniform(0, 0.5): 1})
    bands = _bands(draws, colours)
    wave = (
        draws.uniform(0.1, 0.3) * settings.pitch
        if draws.bernoulli(0.4 if settings.is_ambiguous else 0.06)
        else 0.0
    )
    gap = draws.uniform(0.1, 0.2) if settings.is_ambiguous and not wave else 0.0
    c, s = cosine(turn), sine(turn)

    def texture(u: np.ndarray, v: np.ndarray, pixel: float) -> np.ndarray:
        along, across = u * c + v * s, v * c - u * s
        if wave:
            across = across + wave * sine(along * (0.4 / settings.pitch))
        phase = across * (1 / settings.pitch)
        planes = _banded(bands, phase, pixel / settings.pitch)
        if gap:
            place = along * (0.24 / settings.pitch) + 0.37 * np.floor(phase)
            place = place - np.floor(place) - 0.5
            _blend(planes, coverage(abs(place) - 0.5 * gap, 0.24 * pixel / settings.pitch), colours[0])
        return planes

    return texture


def _bands(draws: Draws, colours: list[Colour]) -> Bands:
    """One period of stripes: fraction of the period and colour of each band."""
    kind = draws.weighted_choice({"even": 4, "thin": 2, "group": 2, "many": 2})
    ground, first, second, third = colours
    if kind == "even":
        width = draws.uniform(0.35, 0.6)
        return (1 - width, ground), (width, first)
    if kind == "thin":
        width = draws.uniform(0.14, 0.3)
        return (1 - width, ground), (width, first)
    if kind == "group":
        return (0.4, ground), (0.25, first), (0.12, ground), (0.11, second), (0.12, ground)
    return (0.3, ground), (0.25, first), (0.2, second), (0.25, third)


def _banded(bands: Bands, phase: np.ndarray, pixel: float) -> np.ndarray:
    """Stripes at `phase` (1 is a period), box-filtered over `pixel` against aliasing."""
    table = _period(bands, pixel)
    index = ((phase - np.floor(phase)) * table.shape[1]).astype(np.int32).astype(np.intp)
    return np.stack([channel.take(index, mode="clip") for channel in table])


@lru_cache(maxsize=1)  # a texture is painted a few rows at a time
def _period(bands: Bands, pixel: float) -> np.ndarray:
    """One period of stripes, (3, samples) float32."""
    table = np.concatenate(
        [np.full((int(share * PERIOD_SAMPLES + 0.5), 3), colour, np.float32) for share, colour in bands]
    )
    reach = max(1, min(int(pixel * len(table)), len(table)))
    sums = np.cumsum(np.concatenate([table, table]).astype(np.int64), axis=0)
    soft = (sums[reach : reach + len(table)] - sums[: len(table)]) // reach
    return np.ascontiguousarray(soft.T, np.float32)


def leopard(draws: Draws, settings: TextureSettings, colours: list[Colour]) -> Texture:
    """Rosettes: broken dark rings around a darker ground, with solid spots between.

    Ambiguous ones are mostly spots. Rings follow the borders of the Voronoi cells around scattered points,
    so neighbours make room for each other as on a hide.
    """
    solid = draws.uniform(0.55, 0.8) if settings.is_ambiguous else draws.uniform(0.1, 0.35)
    table = draws.uniform_array(3, CELLS * CELLS)
    rosettes = LeopardMarks(
        points=ScatteredPoints(table[0], table[1], 0.36),
        kinds=table[2],
        phases=tuple(draws.uniform_array(7).tolist()),
        stretch=draws.uniform(0.75, 1.25),
        turn=draws.uniform(0, 1),
        solid=solid,
        width=draws.uniform(0.13, 0.2),
        gap=draws.uniform(-0.1, 0.35),
    )
    ring, ground = sorted(
        colours[:2], key=luminance
    )  # light marks on a dark ground look like a cow's, not a leopard's
    inside = (
        mixed(ground, ring, draws.uniform(0.2, 0.5))
        if draws.bernoulli(0.7)
        else mixed(colours[2], ground, 0.4)
    )

    def texture(u: np.ndarray, v: np.ndarray, pixel: float) -> np.ndarray:
        rings, insides = rosettes.marks(
            u * (1 / settings.pitch), v * (1 / settings.pitch), 1.5 * pixel / settings.pitch
        )
        planes = _blended(ground, insides, inside)
        _blend(planes, rings, ring)
        return planes

    return texture


@dataclass(frozen=True)
class LeopardMarks:
    """Shape of the marks of a leopard; the unit of length is the distance from rosette to rosette."""

    points: ScatteredPoints  # the middles of the rosettes
    kinds: np.ndarray  # (256,) float32, 0 to 1
    phases: tuple[float, ...]  # of the waves that warp outlines
    stretch: float  # of the marks along `turn`
    turn: float
    solid: float  # fraction of marks that are spots without a ring
    width: float  # of the rings
    gap: float  # the larger, the more of each ring is missing

    def marks(self, u: np.ndarray, v: np.ndarray, pixel: float) -> tuple[np.ndarray, np.ndarray]:
        """Fraction of each pixel that is covered by rings and spots, and by the insides of rings."""
        x, y = self._warped(u, v)
        nearest, second, cell = self.points.nearest(x, y)
        p, is_solid = self.phases, self.kinds < self.solid
        sizes = np.where(is_solid, 0.2 + 0.16 * self.kinds, 0.4 + 0.12 * self.kinds)
        kind, size, ring = (table.take(cell) for table in (self.kinds, sizes, (~is_solid).astype(np.float32)))
        ragged = (
            sine(x * 1.9 + y * 1.1 + p[4])
            + sine(y * 2.1 - x * 0.8 + p[5])
            + 0.7 * sine(x * 3.7 - y * 3.1 + p[6])
        )
        depth = np.minimum(second - nearest - 0.12, size - nearest) + 0.032 * ragged
        shape, hole = coverage(-depth, pixel), coverage(self.width - depth, pixel) * ring
        opening = sine(kind * 9.0 + x * 1.15 - y * 0.6) + 0.35 * ragged
        is_open = coverage((1.0 - self.gap - opening) * 0.25, pixel) * ring
        return shape * (1.0 - hole) * (1.0 - is_open), hole

    def _warped(self, u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        c, s, p = cosine(self.turn), sine(self.turn), self.phases
        x, y = (u * c + v * s) * (1 / self.stretch), (v * c - u * s) * self.stretch
        return (
            x + 0.13 * sine(y * 0.83 + p[0]) + 0.04 * sine(y * 2.3 + x + p[1]),
            y + 0.13 * sine(x * 0.71 + p[2]) + 0.04 * sine(x * 2.7 - y + p[3]),
        )


def _uniform(colour: Colour, shape: tuple[int, int]) -> np.ndarray:
    planes = np.empty((3, *shape), np.float32)
    for plane, value in zip(planes, colour, strict=True):
        plane[...] = value
    return planes


def _blend(planes: np.ndarray, cover: np.ndarray, colour: Colour) -> None:
    for plane, value in zip(planes, colour, strict=True):
        plane += (value - plane) * cover


def _blended(ground: Colour, cover: np.ndarray, colour: Colour) -> np.ndarray:
    """Planes of the colour `ground` with another blended in."""
    below, above = np.array([ground, colour], np.float32)
    planes = (above - below)[:, None, None] * cover
    planes += below[:, None, None]
    return planes


def _with_marks(
    ground: Colour, marks: list[Colour], cover: np.ndarray, cell: np.ndarray, step: int
) -> np.ndarray:
    """Planes of the colour `ground` with marks blended in, of a colour for each cell."""
    if len(marks) == 1:
        return _blended(ground, cover, marks[0])
    below, above = np.array(ground, np.float32), np.array(marks, np.float32)
    table = (above - below)[np.arange(CELLS * CELLS) * step % len(marks)]
    return np.stack([table[:, channel].take(cell) * cover + below[channel] for channel in range(3)])
