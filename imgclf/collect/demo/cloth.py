"""The three textures of cloth: dotted, leopard, striped.

A cloth is a function of (u, v), the position on the flat cloth in half shoulder widths, and of the size of a pixel
there; it gives the colour planes. What the label says is true of every cloth, however hard it is to see.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .chance import Draws
from .field import cosine, coverage, sine
from .palette import Colour, cloth_colours, luminance, mixed

CELLS = 16  # the random properties of dots and rosettes repeat after this many cells, a power of two
TABLE = 2048  # samples of one period of stripes

Cloth = Callable[[np.ndarray, np.ndarray, float], np.ndarray]


@dataclass(frozen=True)
class Weave:
    """What all cloths share: size of the pattern, contrast, and whether it is one of the doubtful kind."""

    pitch: float  # from mark to mark, in half shoulder widths
    contrast: float  # difference in lightness, 0 to 255
    is_between: bool  # near another class, e.g. dots in rows


def weave_cloth(label: str, draws: Draws, weave: Weave) -> tuple[Cloth, list[Colour]]:
    """A cloth of the class `label` and its colours, the ground first."""
    colours = cloth_colours(draws, weave.contrast, {"leopard": 0.5, "dotted": 0.15, "striped": 0.15}[label])
    return {"dotted": dotted, "leopard": leopard, "striped": striped}[label](draws, weave, colours), colours


def dotted(draws: Draws, weave: Weave, colours: list[Colour]) -> Cloth:
    """Round dots: in a lattice, or scattered in several sizes, or (doubtful) in close rows or drawn long."""
    if weave.is_between:
        return draws.pick([_dots_in_rows, _long_dots, _scattered_dots])(draws, weave, colours)
    return draws.weighted({_lattice_dots: 5, _scattered_dots: 3, _confetti: 2})(draws, weave, colours)


def _lattice_dots(draws: Draws, weave: Weave, colours: list[Colour]) -> Cloth:
    marks = colours[1 : 1 + draws.weighted({1: 4, 2: 1, 3: 1})]
    turn = draws.pick([0.0, 0.0, 0.125, draws.between(0, 0.25)])
    lattice = Lattice(weave.pitch, weave.pitch, turn, draws.chance(0.6))
    radius = draws.between(0.17, 0.37)
    return _dots(lattice, _radii(draws, radius, radius), colours[0], marks)


def _dots_in_rows(draws: Draws, weave: Weave, colours: list[Colour]) -> Cloth:
    lattice = Lattice(
        weave.pitch * 0.5, weave.pitch * draws.between(1.1, 1.5), draws.pick([0.0, 0.25, 0.125]), False
    )
    return _dots(lattice, _radii(draws, 0.37, 0.46), colours[0], colours[1:2])


def _long_dots(draws: Draws, weave: Weave, colours: list[Colour]) -> Cloth:
    lattice = Lattice(
        weave.pitch * draws.between(0.6, 0.75), weave.pitch * 1.2, draws.pick([0.0, 0.25, 0.12]), True
    )
    return _dots(lattice, _radii(draws, 0.25, 0.33), colours[0], colours[1:2], squash=0.6)


def _scattered_dots(draws: Draws, weave: Weave, colours: list[Colour]) -> Cloth:
    marks, table = colours[1 : 1 + draws.pick([1, 1, 2, 3])], draws.table(3, CELLS * CELLS)
    smallest = draws.between(0.12, 0.24)
    radii = smallest + (draws.between(0.28, 0.36) - smallest) * table[2]

    def cloth(u, v, pixel):
        nearest, _, cell = _nearest_cells(
            u * (1 / weave.pitch), v * (1 / weave.pitch), table[0], table[1], 0.34
        )
        cover = coverage(nearest - radii[cell], pixel / weave.pitch)
        return _tinted(colours[0], marks, cover, (cell * 7) % len(marks))

    return cloth


def _confetti(draws: Draws, weave: Weave, colours: list[Colour]) -> Cloth:
    sizes = (weave.pitch, weave.pitch * draws.between(0.55, 0.8))
    layers = [
        (
            Lattice(size, size, draws.between(0, 0.25), True, draws.between(0, 1)),
            draws.table(CELLS * CELLS),
            mark,
        )
        for size, mark in zip(sizes, (colours[1], draws.pick(colours[1:3])))
    ]

    def cloth(u, v, pixel):
        planes = _flat(colours[0], u.shape)
        for lattice, table, mark in layers:
            x, y, cell = lattice.cells(u, v)
            radius = np.where(table < 0.3, 0.0, 0.14 + 0.22 * table).astype(np.float32)[cell]
            distance = (np.sqrt(x * x + y * y) - radius) * lattice.pitch
            _lay(planes, coverage(distance, pixel) * (radius > 0), mark)
        return planes

    return cloth


@dataclass(frozen=True)
class Lattice:
    """Cells on the cloth, `pitch` by `row_pitch`, turned by `turn` (in turns); every other row may be shifted."""

    pitch: float
    row_pitch: float
    turn: float
    is_staggered: bool
    shift: float = 0.0

    def cells(self, u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Position from the middle of the cell, both in units of `pitch`, and number of the cell (below 256)."""
        c, s = cosine(self.turn), sine(self.turn)
        y = (v * c - u * s) * (1 / self.row_pitch) + self.shift
        row = np.floor(y)
        x = (u * c + v * s) * (1 / self.pitch)
        if self.is_staggered:
            x = x + (row * 0.5 - np.floor(row * 0.5))
        column = np.floor(x)
        return x - column - 0.5, (y - row - 0.5) * (self.row_pitch / self.pitch), _cell_number(column, row)


def _cell_number(column: np.ndarray, row: np.ndarray) -> np.ndarray:
    return (row.astype(np.int64) & (CELLS - 1)) * CELLS + (column.astype(np.int64) & (CELLS - 1))


def _dots(
    lattice: Lattice, sizes: np.ndarray, ground: Colour, marks: list[Colour], *, squash: float = 1.0
) -> Cloth:
    """Dots of radius `sizes` (one of each cell) on `lattice`; a `squash` below 1 draws them long."""

    def cloth(u, v, pixel):
        x, y, cell = lattice.cells(u, v)
        distance = np.sqrt(x * x + y * y * (squash * squash)) - sizes[cell]
        return _tinted(ground, marks, coverage(distance, pixel / lattice.pitch), (cell * 5) % len(marks))

    return cloth


def _radii(draws: Draws, low: float, high: float) -> np.ndarray:
    return low + (high - low) * draws.table(CELLS * CELLS)


def striped(draws: Draws, weave: Weave, colours: list[Colour]) -> Cloth:
    """Parallel stripes in any direction, thin or wide, of two to four colours; doubtful ones are broken or wavy."""
    turn = draws.weighted({0.0: 4, 0.25: 3, 0.125: 1, -0.125: 1, draws.between(0, 0.5): 1})
    bands = _bands(draws, colours)
    wave = draws.between(0.1, 0.3) * weave.pitch if draws.chance(0.4 if weave.is_between else 0.06) else 0.0
    gap = draws.between(0.1, 0.2) if weave.is_between and not wave else 0.0
    c, s = cosine(turn), sine(turn)

    def cloth(u, v, pixel):
        along, across = u * c + v * s, v * c - u * s
        if wave:
            across = across + wave * sine(along * (0.4 / weave.pitch))
        phase = across * (1 / weave.pitch)
        planes = _banded(bands, phase, pixel / weave.pitch)
        if gap:
            place = along * (0.24 / weave.pitch) + 0.37 * np.floor(phase)
            place = place - np.floor(place) - 0.5
            _lay(planes, coverage(abs(place) - 0.5 * gap, 0.24 * pixel / weave.pitch), colours[0])
        return planes

    return cloth


def _bands(draws: Draws, colours: list[Colour]) -> list[tuple[float, Colour]]:
    """One period of stripes: share of the period and colour of each band."""
    kind = draws.weighted({"even": 4, "thin": 2, "group": 2, "many": 2})
    ground, first, second, third = colours
    if kind == "even":
        width = draws.between(0.35, 0.6)
        return [(1 - width, ground), (width, first)]
    if kind == "thin":
        width = draws.between(0.14, 0.3)
        return [(1 - width, ground), (width, first)]
    if kind == "group":
        return [(0.4, ground), (0.25, first), (0.12, ground), (0.11, second), (0.12, ground)]
    return [(0.3, ground), (0.25, first), (0.2, second), (0.25, third)]


def _banded(bands: list[tuple[float, Colour]], phase: np.ndarray, pixel: float) -> np.ndarray:
    """Stripes at `phase` (1 is a period), their edges softened over `pixel` so that fine ones don't flicker."""
    table = np.concatenate(
        [np.full((int(share * TABLE + 0.5), 3), colour, np.float32) for share, colour in bands]
    )
    index = ((phase - np.floor(phase)) * len(table)).astype(np.int64)
    reach = max(1, min(int(pixel * len(table)), len(table)))
    sums = np.cumsum(np.concatenate([table, table]).astype(np.int64), axis=0)
    soft = ((sums[reach : reach + len(table)] - sums[: len(table)]) // reach).astype(np.float32)
    return np.stack([np.take(soft[:, channel], index, mode="clip") for channel in range(3)])


def leopard(draws: Draws, weave: Weave, colours: list[Colour]) -> Cloth:
    """Rosettes: broken dark rings around a darker ground, with solid spots between; doubtful ones are mostly spots.

    Rings follow the borders of the cells around scattered points, so neighbours make room for each other as on a hide.
    """
    solid = draws.between(0.55, 0.8) if weave.is_between else draws.between(0.1, 0.35)
    hide = Hide(
        table=draws.table(3, CELLS * CELLS),
        phases=tuple(draws.table(7).tolist()),
        stretch=draws.between(0.75, 1.25),
        turn=draws.between(0, 1),
        solid=solid,
        width=draws.between(0.13, 0.2),
        gap=draws.between(-0.1, 0.35),
    )
    ring, ground = sorted(
        colours[:2], key=luminance
    )  # light marks on a dark ground look like a cow's, not a leopard's
    inside = (
        mixed(ground, ring, draws.between(0.2, 0.5)) if draws.chance(0.7) else mixed(colours[2], ground, 0.4)
    )

    def cloth(u, v, pixel):
        rings, insides = hide.marks(u * (1 / weave.pitch), v * (1 / weave.pitch), 1.5 * pixel / weave.pitch)
        planes = _flat(ground, u.shape)
        _lay(planes, insides, inside)
        _lay(planes, rings, ring)
        return planes

    return cloth


@dataclass(frozen=True)
class Hide:
    """Shape of the marks of a leopard; lengths are in distances from rosette to rosette."""

    table: np.ndarray  # (3, 256): place in the cell, and kind, of each rosette
    phases: tuple[float, ...]  # of the waves that make outlines ragged
    stretch: float  # of the marks along `turn`
    turn: float
    solid: float  # share of marks that are spots without a ring
    width: float  # of the rings
    gap: float  # the larger, the more of each ring is missing

    def marks(self, u: np.ndarray, v: np.ndarray, pixel: float) -> tuple[np.ndarray, np.ndarray]:
        """Share of each pixel covered by rings and spots, and by the insides of rings."""
        x, y = self._bent(u, v)
        nearest, second, cell = _nearest_cells(x, y, self.table[0], self.table[1], 0.36)
        p, kind = self.phases, self.table[2][cell]
        ragged = (
            sine(x * 1.9 + y * 1.1 + p[4])
            + sine(y * 2.1 - x * 0.8 + p[5])
            + 0.7 * sine(x * 3.7 - y * 3.1 + p[6])
        )
        is_solid = kind < self.solid
        size = np.where(is_solid, 0.2 + 0.16 * kind, 0.4 + 0.12 * kind)
        depth = np.minimum(second - nearest - 0.12, size - nearest) + 0.032 * ragged
        shape, hole = coverage(-depth, pixel), coverage(self.width - depth, pixel) * ~is_solid
        opening = sine(kind * 9.0 + x * 1.15 - y * 0.6) + 0.35 * ragged
        is_open = coverage((1.0 - self.gap - opening) * 0.25, pixel) * ~is_solid
        return shape * (1.0 - hole) * (1.0 - is_open), hole

    def _bent(self, u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        c, s, p = cosine(self.turn), sine(self.turn), self.phases
        x, y = (u * c + v * s) * (1 / self.stretch), (v * c - u * s) * self.stretch
        return (
            x + 0.13 * sine(y * 0.83 + p[0]) + 0.04 * sine(y * 2.3 + x + p[1]),
            y + 0.13 * sine(x * 0.71 + p[2]) + 0.04 * sine(x * 2.7 - y + p[3]),
        )


def _nearest_cells(x, y, jitter_x, jitter_y, reach: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distance to the nearest and the second nearest of scattered points, and the number of the nearest.

    One point lies in each cell of side 1, up to `reach` from its middle; the eight cells around are searched too.
    """
    column, row = np.floor(x), np.floor(y)
    x, y = x - column - 0.5, y - row - 0.5
    column, row = column.astype(np.int64), row.astype(np.int64)
    shift_x, shift_y = (jitter_x - 0.5) * (2 * reach), (jitter_y - 0.5) * (2 * reach)
    nearest, second = np.full(x.shape, 9.0, np.float32), np.full(x.shape, 9.0, np.float32)
    number = np.zeros(x.shape, np.int64)
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            cell = ((row + down) & (CELLS - 1)) * CELLS + ((column + right) & (CELLS - 1))
            dx, dy = shift_x[cell] + right - x, shift_y[cell] + down - y
            square = dx * dx + dy * dy
            is_nearest = square < nearest
            second = np.where(is_nearest, nearest, np.minimum(second, square))
            nearest = np.minimum(nearest, square)
            number = np.where(is_nearest, cell, number)
    return np.sqrt(nearest), np.sqrt(second), number


def _flat(colour: Colour, shape: tuple[int, int]) -> np.ndarray:
    planes = np.empty((3, *shape), np.float32)
    for plane, value in zip(planes, colour):
        plane[...] = value
    return planes


def _lay(planes: np.ndarray, cover: np.ndarray, colour: Colour) -> None:
    for plane, value in zip(planes, colour):
        plane += (value - plane) * cover


def _tinted(ground: Colour, marks: list[Colour], cover: np.ndarray, which: np.ndarray) -> np.ndarray:
    """`ground` with marks laid on it; `which` mark each pixel belongs to, where there are several."""
    planes = _flat(ground, cover.shape)
    if len(marks) == 1:
        _lay(planes, cover, marks[0])
        return planes
    table = np.array(marks, np.float32)
    for channel, plane in enumerate(planes):
        plane += (table[:, channel][which] - plane) * cover
    return planes
