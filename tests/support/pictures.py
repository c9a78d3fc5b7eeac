"""Pictures of one colour, in all formats and orientations."""

import io
import zlib
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage
from PIL.Image import Transpose

from imgclf.images import decoding

COLOURS = {"red": (200, 40, 40), "green": (40, 180, 60), "blue": (50, 60, 210)}


def picture(colour: tuple[int, int, int], seed: int, *, width: int = 64, height: int = 48) -> np.ndarray:
    """A picture of one main colour, with blotches that differ by seed; (height, width, 3) uint8."""
    random = np.random.default_rng(seed)
    blotches = (
        random.integers(-60, 60, (6, 8, 3))
        .repeat(-(-height // 6), 0)
        .repeat(-(-width // 8), 1)[:height, :width]
    )
    return (np.array(colour) + blotches).clip(0, 255).astype(np.uint8)


def write_colours(folder: Path) -> Path:
    """Write a data set that is easy to learn: 12 JPEGs of each of three colours, in label folders."""
    for k, (label, colour) in enumerate(COLOURS.items()):
        (folder / label).mkdir(parents=True)
        for i in range(12):
            (folder / label / f"{i:02d}.jpg").write_bytes(decoding.jpeg(picture(colour, seed=100 * k + i)))
    return folder


AS_STORED = {
    1: None,
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_90,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_270,
}


RED, GREEN, BLUE, WHITE = (220, 30, 30), (30, 200, 60), (40, 40, 210), (250, 250, 250)


def corners(height=64, width=96):
    """Red, green in the upper corners, blue, white in the lower ones; (height, width, 3) uint8."""
    return np.array([[RED, GREEN], [BLUE, WHITE]], np.uint8).repeat(height // 2, 0).repeat(width // 2, 1)


def encoded(picture, format, **options):
    """An array or Pillow image as the content of a file."""
    file = io.BytesIO()
    (picture if isinstance(picture, PillowImage.Image) else PillowImage.fromarray(picture)).save(
        file, format, **options
    )
    return file.getvalue()


def rotated(orientation, format, pixels, **options):
    """A file that is upright only if its EXIF orientation is applied."""
    stored, exif = PillowImage.fromarray(pixels), PillowImage.Exif()
    exif[0x112] = orientation
    if AS_STORED[orientation] is not None:
        stored = stored.transpose(AS_STORED[orientation])
    return encoded(stored, format, exif=exif, **options)


def png_chunk(kind, content):
    return len(content).to_bytes(4) + kind + content + zlib.crc32(kind + content).to_bytes(4)


def png(width, height):
    """A real black-and-white PNG, written row by row."""
    deflate, row = zlib.compressobj(1), bytes(1 + -(-width // 8))
    content = b"".join(deflate.compress(row * 1000) for _ in range(height // 1000)) + deflate.flush()
    header = width.to_bytes(4) + height.to_bytes(4) + bytes([1, 0, 0, 0, 0])
    chunks = ((b"IHDR", header), (b"IDAT", content), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(kind, content) for kind, content in chunks)


def jpeg(colour: str, seed: int = 4242) -> bytes:
    """A JPEG that the model labels as `colour`."""
    return decoding.jpeg(picture(COLOURS[colour], seed=seed))
