"""Photographs of fabric as a search for garments finds them: dotted, striped and leopard, quick to make."""

from functools import cache

import cv2
import numpy as np

from support.pictures import encoded

TEXTURES = ("dotted", "striped", "leopard")
LONGEST, SHORTEST = 160, 112  # sides, pixels


def texture(label: str, seed: int) -> np.ndarray:
    """A fabric in random colours, scale, direction and light; (height, width, 3) uint8, RGB."""
    random = np.random.default_rng([seed, TEXTURES.index(label)])
    height, width = (int(side) for side in random.integers(SHORTEST, LONGEST, 2))
    y, x = np.mgrid[:height, :width].astype(np.float32)
    x += 12 * _noise(random, height, width, cells=5)  # folds, and no two places alike
    y += 12 * _noise(random, height, width, cells=5)
    angle, period = random.uniform(0, np.pi), random.uniform(12, 22)
    along = (x * np.cos(angle) + y * np.sin(angle)) / period + 50
    across = (y * np.cos(angle) - x * np.sin(angle)) / period + 50
    match label:
        case "dotted":
            column, row = along.astype(int), across.astype(int)
            move = random.uniform(-0.15, 0.15, (2, 100, 100))[:, row, column]
            is_pattern = np.hypot(along % 1 - 0.5 + move[0], across % 1 - 0.5 + move[1]) < random.uniform(
                0.2, 0.3
            )
        case "striped":
            is_pattern = along % 1 < random.uniform(0.25, 0.75, 100)[along.astype(int)]
        case "leopard":
            spots = _noise(random, height, width, cells=int(random.integers(9, 15)))
            is_pattern = (spots > 0.12) & (spots < 0.45)
    ground, print_ = _colours(random, label)
    light = 1 + 0.35 * _noise(random, height, width, cells=4)[..., None]
    pixels = np.where(is_pattern[..., None], print_, ground) * light
    grain = random.integers(-8, 9, pixels.shape, np.int8)
    return (pixels + grain).clip(0, 255).astype(np.uint8)


@cache
def file(label: str, seed: int, format: str = "jpeg") -> bytes:
    """The content of an image file with a texture."""
    return encoded(texture(label, seed), format, **({} if format == "png" else {"quality": 90}))


def _colours(random: np.random.Generator, label: str) -> tuple[np.ndarray, np.ndarray]:
    """Two colours with a contrast: of a leopard tan and brown, of others any."""
    if label == "leopard":
        return random.uniform((170, 120, 60), (240, 190, 120)), random.uniform((20, 10, 0), (80, 50, 30))
    light, dark = random.uniform(150, 255, 3), random.uniform(0, 100, 3)
    return (light, dark) if random.uniform() < 0.5 else (dark, light)


def _noise(random: np.random.Generator, height: int, width: int, *, cells: int) -> np.ndarray:
    """Smooth noise about 0, mostly between -1 and 1; (height, width) float32."""
    return cv2.resize(
        random.uniform(-1, 1, (cells, cells)).astype(np.float32),
        (width, height),
        interpolation=cv2.INTER_CUBIC,
    )
