"""Cloth in light: folds displace the texture and shade it, parts cast shadows on what is below them."""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from .draws import Draws
from .garment import Part
from .outline import Point, View
from .palette import Colour
from .portable_math import NOISE_SIZE, clipped, coarse_nodes, noise_at, refine, sine, smooth_step, soften
from .textures import Texture

STEP = 4  # pixels between the nodes where folds are computed
ROWS = 32  # painted at once, so that their arrays stay in the processor's cache
MARGIN = 24  # pixels around a part that its shadow may reach

Box = tuple[int, int, int, int]  # left, top, right, bottom, in pixels


@dataclass(frozen=True)
class Light:
    """Direction towards the light (y down), fraction of ambient light, and gloss of the cloth."""

    x: float
    y: float
    ambient: float
    gloss: float


@dataclass(frozen=True)
class Folds:
    """Random folds: a noise grid and the heights of three kinds of fold, in half shoulder widths."""

    noise: np.ndarray  # (64, 64) float32, 0 to 1
    hanging: float
    pulled: float
    crumpled: float

    def height(self, share: np.ndarray, across: np.ndarray, along: np.ndarray) -> np.ndarray:
        """Height of the cloth over its tube, at coordinates as `Tube.unrolled` returns them."""
        hanging = noise_at(self.noise, across * 3.2 + 7.0, along * 0.55 + across * 0.3)
        falling = (
            2.0
            * noise_at(self.noise, (across + 0.7 * along) * 1.9 + 20.0, (along - 0.6 * across) * 0.9 + 31.0)
            - 1.0
        )
        rising = (
            2.0
            * noise_at(self.noise, (across - 0.8 * along) * 2.3 + 40.0, (along + 0.6 * across) * 0.8 + 11.0)
            - 1.0
        )
        small = noise_at(self.noise, across * 5.0 + along * 2.0, along * 4.5 - across + 50.0)
        return (
            hanging * self.hanging * (0.4 + 0.35 * along)
            - (falling * falling + rising * rising) * self.pulled
            + small * self.crumpled
        )


def random_folds(draws: Draws) -> Folds:
    """Random folds of a garment, from ironed to crumpled."""
    amount = draws.uniform(0.4, 1.3)
    return Folds(
        draws.uniform_array(NOISE_SIZE, NOISE_SIZE),
        amount * draws.uniform(0.03, 0.1),
        amount * draws.uniform(0.02, 0.07),
        amount * draws.uniform(0.005, 0.025),
    )


@dataclass
class Draped:
    """Maps of the pixels of a box: texture coordinates, shade, coverage, and coverage by plain trimming."""

    box: Box
    u: np.ndarray
    v: np.ndarray
    shade: np.ndarray
    cover: np.ndarray
    plain: np.ndarray


class Canvas:
    """The image as three planes (red, green, blue), float32, 0 to 255."""

    def __init__(self, planes: np.ndarray, view: View, light: Light) -> None:
        self.planes, self.view, self.light = planes, view, light

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns, in pixels."""
        _, rows, columns = self.planes.shape
        return rows, columns

    def box(self, outlines: list[list[Point]], margin: int = 2) -> Box | None:
        """Bounding box of the outlines within the image; None if they are outside of it."""
        points = [point for outline in outlines for point in outline]
        if not points:
            return None
        pixels = self.view.pixels(points)
        left, top = (max(int(low) - margin, 0) for low in pixels.min(axis=0))
        right, bottom = (
            min(int(high) + margin, side)
            for high, side in zip(pixels.max(axis=0), self.shape[::-1], strict=True)
        )
        return (left, top, right, bottom) if right - left > 2 and bottom - top > 2 else None

    def mask(self, outline: list[Point], box: Box) -> np.ndarray:
        """Coverage of each pixel of `box` by `outline`, uint8, 0 to 255."""
        mask = np.zeros((box[3] - box[1], box[2] - box[0]), np.uint8)
        cv2.fillPoly(mask, [self.view.polygon(outline, box[:2])], 255, lineType=cv2.LINE_AA, shift=4)
        return mask

    def fill(self, outline: list[Point], colour: Colour, opacity: float = 1.0) -> None:
        """Paint an outline in one colour."""
        box = self.box([outline])
        if box is not None:
            left, top, right, bottom = box
            cover = self.mask(outline, box) * np.float32(opacity / 255)
            for plane, value in zip(self.planes, colour, strict=True):
                below = plane[top:bottom, left:right]
                below += (value - below) * cover

    def shadow(self, outlines: list[list[Point]], offset: Point, step: int, darkness: float) -> None:
        """Cast a shadow of the outlines; `offset` in pixels, `step` the softness in pixels."""
        box = self.box(outlines, 3 * step)
        if box is None:
            return
        mask = np.zeros((box[3] - box[1], box[2] - box[0]), np.uint8)
        for outline in outlines:
            cv2.fillPoly(
                mask, [self.view.polygon(outline, (box[0] - offset[0], box[1] - offset[1]))], 255, shift=4
            )
        left, top, right, bottom = box
        self.planes[:, top:bottom, left:right] *= 1.0 - darkness * soften(mask, step)

    def draw_parts(
        self,
        parts: list[Part],
        folds: Folds,
        texture: Texture | None,
        trimming: Colour,
        softness: float = 0.0,
    ) -> None:
        """Paint pieces of cloth in the texture or, if None, in the colour `trimming`."""
        draped = self._drape(parts, folds, texture is not None)
        if draped is None:
            return
        for top in range(0, len(draped.cover), ROWS):
            covered = np.flatnonzero(draped.cover[top : top + ROWS].any(axis=0))
            if covered.size:
                here = np.s_[top : top + ROWS, covered[0] : covered[-1] + 1]
                self._paint(draped, here, texture, trimming, softness)

    def _paint(
        self,
        draped: Draped,
        here: tuple[slice, slice],
        texture: Texture | None,
        trimming: Colour,
        softness: float,
    ) -> None:
        """Paint some rows and columns of a box."""
        colours: Colour | np.ndarray = trimming
        if texture is not None:
            colours = texture(draped.u[here], draped.v[here], (1.0 + softness) / self.view.scale)
            for colour, value in zip(colours, trimming, strict=True):
                colour += (value - colour) * draped.plain[here]
        shade, (left, top, right, bottom) = draped.shade[here], draped.box
        glare = np.maximum(shade - 1.0, 0.0) * 70.0
        for plane, colour in zip(self.planes, colours, strict=True):
            below = plane[top:bottom, left:right][here]
            below += (np.minimum(colour * shade + glare, 255.0) - below) * draped.cover[here]

    def _drape(self, parts: list[Part], folds: Folds, is_textured: bool) -> Draped | None:
        box = self.box([part.outline for part in parts], MARGIN)
        if box is None:
            return None
        shape = (box[3] - box[1], box[2] - box[0])
        maps = Draped(box, *(np.zeros(shape, np.float32) for _ in range(5)))
        for part in parts:
            self._add(part, maps, folds, is_textured)
        return maps

    def _add(self, part: Part, maps: Draped, folds: Folds, is_textured: bool) -> None:
        box = self.box([part.outline], MARGIN)
        if box is None:
            return
        mask = self.mask(part.outline, box)
        near, soft = mask * np.float32(1 / 255), soften(mask, 6)
        u, v, shade = self._light_part(part, box, folds)
        here = np.s_[box[1] - maps.box[1] : box[3] - maps.box[1], box[0] - maps.box[0] : box[2] - maps.box[0]]
        maps.shade[here] *= 1.0 - part.lift * soft
        shade *= 0.78 + 0.22 * smooth_step(2.0 * soft - 0.9)
        maps.shade[here] += (shade - maps.shade[here]) * near
        maps.cover[here] = np.maximum(maps.cover[here], near)
        maps.plain[here] += (float(part.is_plain) - maps.plain[here]) * near
        if is_textured and not part.is_plain:
            is_inside = mask > 96
            np.copyto(maps.u[here], u(), where=is_inside)
            np.copyto(maps.v[here], v(), where=is_inside)

    def _light_part(
        self, part: Part, box: Box, folds: Folds
    ) -> tuple[Callable[[], np.ndarray], Callable[[], np.ndarray], np.ndarray]:
        """Functions that compute u and v, the texture coordinates, and the shade, over `box`."""
        shape = (box[3] - box[1], box[2] - box[0])
        x, y = self.view.points(coarse_nodes(box[0], shape[1], STEP), coarse_nodes(box[1], shape[0], STEP))
        share, across, along = part.tube.unrolled(x, y)
        share = clipped(share, -1.1, 1.1)
        height = folds.height(share, across, along)
        slope_x, slope_y = _slopes(height, self.view.scale / (2 * STEP))
        shade = _shade(part, share, slope_x, slope_y, self.light)
        if part.is_ribbed:
            shade *= 1.0 + 0.1 * sine(across * 16.0)
        u = across * (1.0 + 0.25 * part.tube.roundness * share * share) + part.tube.shift[0] + 0.14 * slope_x
        v = along + part.tube.shift[1] + 0.14 * slope_y
        if part.tube.turn:
            c, s = sine(part.tube.turn + 0.25), sine(part.tube.turn)
            u, v = u * c - v * s, v * c + u * s
        return (lambda: refine(u, shape, STEP)), (lambda: refine(v, shape, STEP)), refine(shade, shape, STEP)


class GarmentMask(Canvas):
    """A canvas that keeps where the garment is, one plane from 0 to 1, and nothing else of the image."""

    def __init__(self, planes: np.ndarray, view: View, light: Light) -> None:
        super().__init__(np.zeros_like(planes[:1]), view, light)

    def fill(self, outline: list[Point], colour: Colour, opacity: float = 1.0) -> None:
        """Ignore seams and buttons, which are on the garment, and a face, which is not."""

    def shadow(self, outlines: list[list[Point]], offset: Point, step: int, darkness: float) -> None:
        """Ignore shadows."""

    def draw_parts(
        self,
        parts: list[Part],
        folds: Folds,
        texture: Texture | None,
        trimming: Colour,
        softness: float = 0.0,
    ) -> None:
        """Add pieces with a texture; those without one are the figure or in front, and cover the garment."""
        draped = self._drape(parts, folds, False)
        if draped is not None:
            left, top, right, bottom = draped.box
            below = self.planes[0, top:bottom, left:right]
            below += (float(texture is not None) - below) * draped.cover


def _slopes(height: np.ndarray, per_node: float) -> tuple[np.ndarray, np.ndarray]:
    """Slopes of the cloth to the right and downwards, dimensionless."""
    slope_x, slope_y = np.zeros_like(height), np.zeros_like(height)
    slope_x[:, 1:-1] = (height[:, 2:] - height[:, :-2]) * per_node
    slope_y[1:-1] = (height[2:] - height[:-2]) * per_node
    slope_x[:, 0], slope_x[:, -1], slope_y[0], slope_y[-1] = (
        slope_x[:, 1],
        slope_x[:, -2],
        slope_y[1],
        slope_y[-2],
    )
    return slope_x, slope_y


def _shade(
    part: Part, share: np.ndarray, slope_x: np.ndarray, slope_y: np.ndarray, light: Light
) -> np.ndarray:
    """Reflected light at each point: 1 where flat cloth faces the camera, more on glossy ridges."""
    ax, ay = part.tube.axis
    tilt = share * share * share * part.tube.roundness
    x, y = tilt * ay - 2.3 * slope_x, -tilt * ax - 2.3 * slope_y
    facing = (1.0 + x * light.x + y * light.y) / np.sqrt(1.0 + x * x + y * y)
    diffuse = np.maximum(facing, 0.0)
    gleam = clipped(1.0 - (x - light.x) * (x - light.x) - (y - light.y) * (y - light.y))
    return part.tone * (light.ambient + (1.0 - light.ambient) * diffuse + light.gloss * gleam * gleam)
