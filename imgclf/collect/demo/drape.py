"""Cloth in light: folds displace the texture and shade it, parts cast shadows on what is below them."""

from dataclasses import dataclass

import cv2
import numpy as np

from .draws import Draws
from .garment import Part
from .outline import Point, View
from .palette import Colour
from .portable_math import clipped, coarse_nodes, noise_at, refine, sine, smooth_step, soften
from .textures import Texture

STEP = 4  # pixels between the nodes where folds are computed
ROWS = 64  # painted at once, so that their arrays stay in the processor's cache
SOFTNESS = 6  # pixels over which shadows are blurred
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

    noise: np.ndarray  # as `Draws.noise_grid` returns it
    hanging: float
    pulled: float
    crumpled: float

    def height(self, share: np.ndarray, across: np.ndarray, along: np.ndarray) -> np.ndarray:
        """Height of the cloth over its tube, at coordinates as `Tube.unrolled` returns them."""
        x, y = [across * 3.2 + 7.0], [along * 0.55 + across * 0.3]
        if self.pulled:
            x += [(across + 0.7 * along) * 1.9 + 20.0, (across - 0.8 * along) * 2.3 + 40.0]
            y += [(along - 0.6 * across) * 0.9 + 31.0, (along + 0.6 * across) * 0.8 + 11.0]
        if self.crumpled:
            x += [across * 5.0 + along * 2.0]
            y += [along * 4.5 - across + 50.0]
        noise = noise_at(self.noise, np.array([x, y]))
        height = noise[0] * self.hanging * (0.4 + 0.35 * along)
        if self.pulled:
            falling, rising = 2.0 * noise[1:3] - 1.0
            height -= (falling * falling + rising * rising) * self.pulled
        if self.crumpled:
            height += noise[-1] * self.crumpled
        return height


def random_folds(draws: Draws) -> Folds:
    """Random folds of a garment, from ironed to crumpled."""
    amount = draws.uniform(0.4, 1.3)
    return Folds(
        draws.noise_grid(),
        amount * draws.uniform(0.03, 0.1),
        amount * draws.uniform(0.02, 0.07),
        amount * draws.uniform(0.005, 0.025),
    )


@dataclass
class Draped:
    """Maps of the pixels of a box: shade and coverage; for a texture, also coverage by trimming, u and v."""

    box: Box
    planes: np.ndarray  # (2 or 5, h, w) float32


class Canvas:
    """The image as three planes (red, green, blue), float32, 0 to 255."""

    def __init__(self, planes: np.ndarray, view: View, light: Light) -> None:
        self.planes, self.view, self.light = planes, view, light

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns, in pixels."""
        _, rows, columns = self.planes.shape
        return rows, columns

    def box(self, pixels: np.ndarray, margin: int = 2) -> Box | None:
        """Bounding box within the image of an outline in pixels; None if it is outside of the image."""
        (left, top), (right, bottom) = pixels.min(axis=0).tolist(), pixels.max(axis=0).tolist()
        left, top = max(int(left) - margin, 0), max(int(top) - margin, 0)
        right, bottom = min(int(right) + margin, self.shape[1]), min(int(bottom) + margin, self.shape[0])
        return (left, top, right, bottom) if right - left > 2 and bottom - top > 2 else None

    def fill(self, outline: list[Point], colour: Colour, opacity: float = 1.0) -> None:
        """Paint an outline in one colour."""
        pixels = self.view.pixels(outline)
        box = self.box(pixels)
        if box is not None:
            left, top, right, bottom = box
            cover = _mask(pixels, box) * np.float32(opacity / 255)
            for plane, value in zip(self.planes, colour, strict=True):
                below = plane[top:bottom, left:right]
                below += (value - below) * cover

    def shadow(self, outlines: list[list[Point]], offset: Point, step: int, darkness: float) -> None:
        """Cast a shadow of the outlines; `offset` in pixels, `step` the softness in pixels."""
        pixels = [self.view.pixels(outline) for outline in outlines]
        box = self.box(np.concatenate(pixels), 3 * step)
        if box is None:
            return
        left, top, right, bottom = box
        mask = np.zeros((bottom - top, right - left), np.uint8)
        for polygon in pixels:
            cv2.fillPoly(mask, [_sixteenths(polygon, (left - offset[0], top - offset[1]))], 255, shift=4)
        self.planes[:, top:bottom, left:right] *= 1.0 - darkness * soften(mask, step)

    def draw_parts(
        self,
        parts: list[Part],
        folds: Folds,
        texture: Texture | None,
        trimming: Colour,
    ) -> None:
        """Paint pieces of cloth in the texture or, if None, in the colour `trimming`."""
        draped = self._drape(parts, folds, texture is not None)
        if draped is None:
            return
        left, top, right, bottom = draped.box
        image, (_, cover, *_) = self.planes[:, top:bottom, left:right], draped.planes
        for row in range(0, len(cover), ROWS):
            covered = np.flatnonzero(cover[row : row + ROWS].max(axis=0))
            if covered.size:
                here = np.s_[:, row : row + ROWS, covered[0] : covered[-1] + 1]
                # A copy has no gaps between its rows, for which numpy would take two or three times as long.
                self._paint(image[here], draped.planes[here].copy(), texture, trimming)

    def _paint(
        self, image: np.ndarray, draped: np.ndarray, texture: Texture | None, trimming: Colour
    ) -> None:
        """Paint some rows and columns of a box."""
        shade, cover, *cloth = draped
        colours: Colour | np.ndarray = trimming
        if texture is not None:
            plain, u, v = cloth
            colours = texture(u, v, 1.0 / self.view.scale)
            if plain.any():
                for colour, value in zip(colours, trimming, strict=True):
                    colour += (value - colour) * plain
        glare = clipped(shade - 1.0) * 70.0
        for plane, colour in zip(image, colours, strict=True):
            below, lit = plane.copy(), clipped(colour * shade + glare, 0.0, 255.0)
            lit -= below
            lit *= cover
            plane[...] = below + lit

    def _drape(self, parts: list[Part], folds: Folds, is_textured: bool) -> Draped | None:
        outlines = [self.view.pixels(part.outline) for part in parts]
        box = self.box(np.concatenate(outlines), MARGIN) if outlines else None
        if box is None:
            return None
        shape = (5 if is_textured else 2, box[3] - box[1], box[2] - box[0])
        draped = Draped(box, np.zeros(shape, np.float32))
        for part, pixels in zip(parts, outlines, strict=True):
            self._add(part, pixels, draped, folds, is_textured)
        return draped

    def _add(self, part: Part, pixels: np.ndarray, draped: Draped, folds: Folds, is_textured: bool) -> None:
        box = self.box(pixels, MARGIN)
        if box is None:
            return
        mask = _mask(pixels, box)
        around, cloth = _covered(mask, box, SOFTNESS, 3), _covered(mask, box, STEP, 1)
        soft = soften(mask[_within(around, box)], SOFTNESS)
        draped.planes[0][_within(around, draped.box)] *= 1.0 - part.lift * soft
        mask, soft = mask[_within(cloth, box)], soft[_within(cloth, around)]
        shade, cover, *rest = (plane[_within(cloth, draped.box)] for plane in draped.planes)
        near = mask * np.float32(1 / 255)
        nodes = self._light_part(part, cloth, folds, is_textured and not part.is_plain)
        lit, *coordinates = refine(nodes, mask.shape, STEP).swapaxes(0, 1)
        lit = lit * (0.78 + 0.22 * smooth_step(2.0 * soft - 0.9))
        lit -= shade
        lit *= near
        shade += lit
        np.maximum(cover, near, out=cover)
        if is_textured:
            plain, u, v = rest
            if part.is_plain or plain.any():
                plain += (float(part.is_plain) - plain) * near
            is_inside = mask > 96
            for plane, values in zip((u, v), coordinates, strict=False):  # none if the part is plain
                np.copyto(plane, values, where=is_inside)

    def _light_part(self, part: Part, box: Box, folds: Folds, has_texture: bool) -> np.ndarray:
        """The shade and, for a texture, its coordinates u and v, at the nodes of `box`; (h, 1 or 3, w)."""
        left, top, right, bottom = box
        columns, rows = coarse_nodes(left, right - left, STEP), coarse_nodes(top, bottom - top, STEP)
        x, y = self.view.points(columns, rows)
        share, across, along = part.tube.unrolled(x, y)
        share = clipped(share, -1.1, 1.1)
        height = folds.height(share, across, along)
        slope_x, slope_y = _slopes(height, self.view.scale / (2 * STEP))
        shade = _shade(part, share, slope_x, slope_y, self.light)
        if part.is_ribbed:
            shade *= 1.0 + 0.1 * sine(across * 16.0)
        if not has_texture:
            return shade[:, None]
        u = across * (1.0 + 0.25 * part.tube.roundness * share * share) + part.tube.shift[0] + 0.14 * slope_x
        v = along + part.tube.shift[1] + 0.14 * slope_y
        if part.tube.turn:
            c, s = sine(part.tube.turn + 0.25), sine(part.tube.turn)
            u, v = u * c - v * s, v * c + u * s
        return np.stack([shade, u, v], axis=1)


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
    ) -> None:
        """Add pieces with a texture; those without one are the figure or in front, and cover the garment."""
        draped = self._drape(parts, folds, False)
        if draped is not None:
            left, top, right, bottom = draped.box
            below = self.planes[0, top:bottom, left:right]
            below += (float(texture is not None) - below) * draped.planes[1]


def _mask(pixels: np.ndarray, box: Box) -> np.ndarray:
    """Coverage of each pixel of `box` by an outline in pixels, uint8, 0 to 255."""
    mask = np.zeros((box[3] - box[1], box[2] - box[0]), np.uint8)
    cv2.fillPoly(mask, [_sixteenths(pixels, box[:2])], 255, lineType=cv2.LINE_AA, shift=4)
    return mask


def _sixteenths(pixels: np.ndarray, origin: Point) -> np.ndarray:
    """An outline in 1/16 pixels from `origin` on, for `cv2.fillPoly`."""
    return np.floor((pixels - origin) * 16.0 + 0.5).astype(np.int32)


def _covered(mask: np.ndarray, box: Box, step: int, margin: int) -> Box:
    """What `mask` covers of `box` and `margin` steps around it, from a whole number of steps on."""
    x, y, width, height = cv2.boundingRect(mask)
    left, top = box[0] + max(x // step - margin, 0) * step, box[1] + max(y // step - margin, 0) * step
    right, bottom = box[0] + x + width + margin * step, box[1] + y + height + margin * step
    return left, top, min(right, box[2]), min(bottom, box[3])


def _within(box: Box, outer: Box) -> tuple[slice, slice]:
    """Rows and columns of `box` in an array that holds the pixels of `outer`."""
    return np.s_[box[1] - outer[1] : box[3] - outer[1], box[0] - outer[0] : box[2] - outer[0]]


def _slopes(height: np.ndarray, per_node: float) -> tuple[np.ndarray, np.ndarray]:
    """Slopes of the cloth to the right and downwards, dimensionless."""
    slope_x, slope_y = np.empty_like(height), np.empty_like(height)
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
