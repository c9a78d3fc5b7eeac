"""The background, and the effects of camera and JPEG compression on the image."""

import cv2
import numpy as np

from .draws import Draws
from .palette import Colour, from_hue, mixed, random_colour
from .portable_math import clipped, coarse_nodes, noise_at, refine, smooth_step
from .textures import TextureSettings, make_texture

BACKGROUNDS = {
    "studio": 5,
    "gradient": 2,
    "wall": 2,
    "bricks": 1,
    "boards": 1.5,
    "leaves": 1,
    "lights": 1,
    "room": 1.5,
    "paper": 1,
}
STEP = 8  # pixels between the nodes where smooth backgrounds are computed


class Ground:
    """The empty image: its size, its noise grid, and smooth maps over it."""

    def __init__(self, shape: tuple[int, int], draws: Draws) -> None:
        self.shape, self.draws = shape, draws
        self.noise = draws.noise_grid()
        self.unit = 1.0 / min(shape)

    def axes(self, step: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """Columns (1, w) and rows (h, 1), as fractions of the shorter side."""
        if step == 1:
            x, y = (np.arange(length, dtype=np.float32) for length in self.shape[::-1])
        else:
            x, y = (coarse_nodes(0, length, step) for length in self.shape[::-1])
        return x[None, :] * self.unit, y[:, None] * self.unit

    def cloud(self, across: float, down: float, step: int = STEP, *, skew: float = 0.0) -> np.ndarray:
        """Noise from 0 to 1 with `across` and `down` details along the shorter side.

        `skew` hides its square grid.
        """
        x, y = self.axes(step)
        points = np.stack([(x + skew * y) * across, (y - skew * x) * down])
        return refine(noise_at(self.noise, points), self.shape, step)

    def tinted(self, amount: np.ndarray, low: Colour, high: Colour) -> np.ndarray:
        """Planes interpolated from `low` to `high` by `amount` (0 to 1)."""
        dark, light = (np.array(colour)[:, None, None] for colour in (low, high))
        planes = (light - dark).astype(np.float32) * amount
        planes += dark.astype(np.float32)
        return planes


def background(kind: str, shape: tuple[int, int], draws: Draws) -> np.ndarray:
    """Planes (3, h, w) of one of BACKGROUNDS."""
    painters = {
        "studio": _studio,
        "gradient": _gradient,
        "wall": _wall,
        "bricks": _bricks,
        "boards": _boards,
        "leaves": _leaves,
        "lights": _lights,
        "room": _room,
        "paper": _paper,
    }
    return np.ascontiguousarray(painters[kind](Ground(shape, draws), draws), np.float32)


def _studio(ground: Ground, draws: Draws) -> np.ndarray:
    value = draws.choice([1.0, 1.0, draws.uniform(0.85, 1.0), draws.uniform(0.4, 0.9)])
    light = from_hue(draws.uniform(0, 1), draws.uniform(0, 0.06), value)
    x, y = ground.axes(STEP)
    far = (x - draws.uniform(0.3, 0.7)) * (x - 0.5) + (y - draws.uniform(0.2, 0.6)) * (y - 0.4)
    amount = refine(clipped(far * 0.9), ground.shape, STEP)
    return ground.tinted(amount, light, mixed(light, (60, 60, 70), draws.uniform(0.0, 0.35)))


def _gradient(ground: Ground, draws: Draws) -> np.ndarray:
    first, tilt = random_colour(draws), draws.uniform(-0.5, 0.5)
    x, y = ground.axes()
    return ground.tinted(
        smooth_step(y * 0.8 + x * tilt + 0.1),
        first,
        mixed(first, random_colour(draws), draws.uniform(0.3, 0.8)),
    )


def _wall(ground: Ground, draws: Draws) -> np.ndarray:
    colour = mixed(random_colour(draws), (225, 220, 212), draws.uniform(0.3, 0.8))
    amount = 0.55 * ground.cloud(3, 3) + 0.3 * ground.cloud(11, 13) + 0.15 * ground.cloud(40, 60, 2)
    planes = ground.tinted(amount, mixed(colour, (0, 0, 0), 0.22), colour)
    skirting = int(ground.shape[0] * draws.uniform(0.75, 1.2))
    planes[:, skirting:] = planes[:, skirting:] * 0.25 + 165.0
    planes[:, skirting : skirting + 3] *= 0.6
    return planes


def _bricks(ground: Ground, draws: Draws) -> np.ndarray:
    x, y = ground.axes()
    rows = draws.uniform(9, 16)
    row = np.floor(y * rows)
    place = x * (rows * 0.42) + 0.5 * (row - 2 * np.floor(row * 0.5))
    column = np.floor(place)
    edge = np.minimum(
        np.minimum(y * rows - row, 1 - (y * rows - row)),
        2.4 * np.minimum(place - column, 1 - (place - column)),
    )
    tone = ground.noise[row.astype(np.int64) & 63, column.astype(np.int64) & 63]
    brick = draws.choice([(150, 84, 62), (168, 120, 96), (205, 200, 192), (110, 104, 100)])
    planes = ground.tinted(0.5 * tone + 0.5 * ground.cloud(30, 40, 4), mixed(brick, (0, 0, 0), 0.3), brick)
    return planes + (
        np.array(mixed(brick, (220, 215, 205), 0.6), np.float32)[:, None, None] - planes
    ) * smooth_step(1.0 - edge * 11.0)


def _boards(ground: Ground, draws: Draws) -> np.ndarray:
    x, y = ground.axes()
    across, along = (x, y) if draws.bernoulli(0.6) else (y, x)
    place = across * draws.uniform(4, 9) + along * draws.uniform(-0.2, 0.2)
    board = np.floor(place)
    wood = mixed(
        draws.choice([(186, 140, 96), (126, 88, 60), (206, 178, 140), (150, 146, 140)]),
        random_colour(draws),
        0.1,
    )
    grain = ground.cloud(60, 4, 2) if across is x else ground.cloud(4, 60, 2)
    amount = 0.55 * grain + 0.45 * ground.noise[board.astype(np.int64) & 63, 5]
    planes = ground.tinted(amount, mixed(wood, (30, 18, 8), 0.42), wood)
    gap = np.minimum(place - board, 1 - (place - board))
    return planes * (1.0 - 0.6 * smooth_step(1.0 - gap * 25.0))


def _leaves(ground: Ground, draws: Draws) -> np.ndarray:
    size = draws.uniform(6, 16)
    leaves = (
        ground.cloud(size, size * 0.8, 4, skew=0.5)
        + 0.7 * ground.cloud(2.1 * size, 1.7 * size, 4, skew=-0.7)
        + 0.5 * ground.cloud(4.3 * size, 3.1 * size, 2, skew=0.3)
    )
    green = from_hue(draws.uniform(0.2, 0.4), draws.uniform(0.3, 0.6), draws.uniform(0.4, 0.75))
    planes = ground.tinted(smooth_step(leaves * 1.3 - 0.85), mixed(green, (10, 20, 12), 0.8), green)
    bright = smooth_step((ground.cloud(size * 1.4, size, 4, skew=-0.4) - 0.62) * 4)
    return planes + (np.array([215, 225, 175], np.float32)[:, None, None] - planes) * (bright * 0.45)


def _lights(ground: Ground, draws: Draws) -> np.ndarray:
    """A street at night or a shop, out of focus: discs of light (bokeh)."""
    dark = mixed(random_colour(draws), (20, 22, 34), 0.75)
    planes = ground.tinted(ground.cloud(3, 3), dark, mixed(dark, (130, 110, 100), 0.4))
    height, width = ground.shape
    discs = np.zeros((height, width), np.uint8)
    for _ in range(int(draws.uniform(10, 40))):
        centre = (int(draws.uniform(0, width)), int(draws.uniform(0, height)))
        cv2.circle(
            discs,
            centre,
            int(min(width, height) * draws.uniform(0.015, 0.05)),
            int(draws.uniform(60, 230)),
            -1,
        )
    cover = discs * np.float32(1 / 255)
    for plane, value in zip(planes, mixed((255, 225, 170), random_colour(draws), 0.3), strict=True):
        plane += (value - plane) * cover
    return planes


def _room(ground: Ground, draws: Draws) -> np.ndarray:
    """Wall, floor and some furniture, as rectangles."""
    height, width = ground.shape
    wall = mixed(random_colour(draws), (215, 210, 205), 0.6)
    planes = ground.tinted(ground.cloud(2, 2), mixed(wall, (0, 0, 0), 0.25), wall)
    for _ in range(draws.choice([2, 3, 4])):
        left, top = int(draws.uniform(-0.2, 0.9) * width), int(draws.uniform(-0.1, 0.7) * height)
        right, bottom = (
            max(left, 0) + int(draws.uniform(0.1, 0.4) * width),
            max(top, 0) + int(draws.uniform(0.15, 0.6) * height),
        )
        colour = np.array(mixed(random_colour(draws), wall, 0.35), np.float32)[:, None, None]
        planes[:, max(top, 0) : bottom, max(left, 0) : right] = colour * 0.75
        planes[:, max(top, 0) + 5 : bottom - 5, max(left, 0) + 5 : right - 5] = colour
    floor = int(height * draws.uniform(0.8, 1.0))
    planes[:, floor:] = np.array(mixed(random_colour(draws), (120, 95, 75), 0.6), np.float32)[:, None, None]
    return planes


def _paper(ground: Ground, draws: Draws) -> np.ndarray:
    """Wallpaper with a faint texture of its own, dotted or striped: it must not decide the label."""
    settings = TextureSettings(draws.uniform(0.1, 0.3), draws.uniform(12, 40), False)
    texture, _ = make_texture(draws.choice(["dotted", "striped", "striped"]), draws, settings)
    x, y = np.broadcast_arrays(*ground.axes())
    planes = texture(x * 2.5, y * 2.5, 5.0 * ground.unit)
    return (
        planes * 0.6
        + 0.4 * np.array(mixed(random_colour(draws), (230, 226, 220), 0.7), np.float32)[:, None, None]
    )


def camera_effects(planes: np.ndarray, draws: Draws, *, blur: float, grain: float) -> np.ndarray:
    """The image with the effects of a camera: colour cast, vignette, blur and grain.

    Parameters
    ----------
    planes : (3, h, w) float32, red, green, blue, 0 to 255; changed in place.
    blur : pixels.
    grain : 0 to 255.

    Returns
    -------
    (h, w, 3) uint8, blue, green, red, as OpenCV writes it.
    """
    shape = planes.shape[1:]
    x, y = (coarse_nodes(0, length, STEP) * (1 / length) - 0.5 for length in shape[::-1])
    edge = refine(1.0 - draws.uniform(0.0, 0.35) * (x * x + (y * y)[:, None]), shape, STEP)
    gain, lift = draws.uniform(0.88, 1.06), draws.uniform(0.0, 14.0)
    noise = (draws.uniform_array(128, 128) - 0.5) * (2 * grain) + lift
    noise = np.tile(noise, (shape[0] // 128 + 1, shape[1] // 128 + 1))[: shape[0], : shape[1]]
    for plane in planes:
        plane *= edge * (gain * draws.uniform(0.96, 1.04))
        plane += noise
    image = cv2.merge([clipped(plane, 0.0, 255.0).astype(np.uint8) for plane in planes[::-1]])
    # With the accurate hint OpenCV's result does not depend on the processor.
    return image if blur < 0.3 else cv2.GaussianBlur(image, (0, 0), blur, hint=cv2.ALGO_HINT_ACCURATE)


def jpeg(image: np.ndarray, quality: int) -> bytes:
    """Content of a JPEG file of `image`."""
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
