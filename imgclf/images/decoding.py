"""Decoding: from the bytes of an image file to RGB pixels.

Every stage, every engine and the service decode with these functions, so all see the same pixels.
"""

import io
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import cv2
import numpy as np
from PIL import Image as PillowImage
from PIL.Image import Transpose

from imgclf import ImgclfError


@dataclass(frozen=True)
class ImageFormat:
    """A file format that images are decoded from.

    Attributes
    ----------
    name : what Pillow calls it.
    media_type : its Content-Type; "" for a format that the service does not offer.
    suffixes : of the files of a data set, the first for a file that is written; none for a format that
        comes from the web alone and is stored as JPEG.
    """

    name: str
    media_type: str = ""
    suffixes: tuple[str, ...] = ()


JPEG = ImageFormat("JPEG", "image/jpeg", (".jpg", ".jpeg"))
# All that Pillow may open. It knows forty more; one of them (EPS) runs a program that writes temporary files.
FORMATS = (
    JPEG,
    ImageFormat("PNG", "image/png", (".png",)),
    ImageFormat("WEBP", "image/webp", (".webp",)),
    ImageFormat("GIF", "image/gif", (".gif",)),
    ImageFormat("BMP", "image/bmp", (".bmp",)),
    ImageFormat("TIFF", "image/tiff", (".tif", ".tiff")),
    ImageFormat("AVIF", "image/avif", (".avif",)),
    ImageFormat("PPM"),
    ImageFormat("JPEG2000"),
)
SUFFIXES = tuple(suffix for known in FORMATS for suffix in known.suffixes)
# MPO: a JPEG with more pictures behind it, as phones write. Pillow detects it in what is opened as JPEG.
BY_PILLOW_NAME = {"MPO": JPEG, **{known.name: known for known in FORMATS}}

MAX_PIXELS = 100_000_000
TRANSPARENCY_GREY = 114  # grey level of the background under a transparent image

# What Pillow's readers raise for a damaged file, by format.
DAMAGED = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    RuntimeError,
    IndexError,
    TypeError,
    AssertionError,
    struct.error,
)

PILLOW_LIMIT = Lock()  # Pillow's limit of pixels is one for the whole process

JPEG_END = b"\xff\xd9"
EXIF_ORIENTATION = 0x112
UPRIGHT = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}
REDUCED = {8: cv2.IMREAD_REDUCED_COLOR_8, 4: cv2.IMREAD_REDUCED_COLOR_4, 2: cv2.IMREAD_REDUCED_COLOR_2}


def decode(
    encoded: bytes, name: str = "image", *, side: int | None = None, max_pixels: int = MAX_PIXELS
) -> np.ndarray:
    """Return the pixels of an image file, upright, in colour.

    The EXIF orientation is applied, grey and CMYK become RGB, 16 bits are scaled to 8, transparency is
    composited over grey 114, and of an animation the first frame is taken. The format is detected by the
    file's first bytes, not by its name.

    Parameters
    ----------
    encoded : the content of the file.
    name : the image's name in error messages.
    side : if given, a JPEG whose longer side is at least 4 times `side` pixels is decoded at reduced scale,
        1/2, 1/4 or 1/8, such that at least twice `side` is left.
    max_pixels : an image of more pixels is refused before it is decoded.

    Returns
    -------
    (H, W, 3) uint8 array, RGB.

    Raises
    ------
    ImgclfError : the file is empty, not an image, truncated, or has more than `max_pixels` pixels.
    """
    if not encoded:
        raise ImgclfError(f"{name}: the file is empty; replace or delete it")
    with _open(encoded, name, max_pixels) as picture:
        if BY_PILLOW_NAME[str(picture.format)] is JPEG:
            _check_complete(encoded, name)
            return _decode_jpeg(encoded, name, _reduction(picture.size, side))
        return _decode_other(picture, name)


def detected_format(encoded: bytes, name: str = "image") -> ImageFormat:
    """The format of an image file by its content, whatever its name says.

    Raises
    ------
    ImgclfError : not an image, or more than `MAX_PIXELS` pixels.
    """
    with _open(encoded, name) as picture:
        return BY_PILLOW_NAME[str(picture.format)]


def _open(encoded: bytes, name: str, max_pixels: int = MAX_PIXELS) -> PillowImage.Image:
    """Return the image with its header read and nothing decoded yet."""
    try:
        with _without_pillow_limit():
            picture = PillowImage.open(io.BytesIO(encoded), formats=[known.name for known in FORMATS])
    except DAMAGED as error:
        raise ImgclfError(f"{name}: not an image that can be read; replace or delete it") from error
    width, height = picture.size
    if width * height > max_pixels:
        raise ImgclfError(f"{name}: {width} x {height} pixels, more than {max_pixels:,}; shrink it")
    return picture


@contextmanager
def _without_pillow_limit() -> Iterator[None]:
    """Switch off Pillow's own limit of pixels: it warns, and warnings cannot be caught in threads."""
    with PILLOW_LIMIT:
        limit, PillowImage.MAX_IMAGE_PIXELS = PillowImage.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            PillowImage.MAX_IMAGE_PIXELS = limit


def _check_complete(encoded: bytes, name: str) -> None:
    """Refuse a truncated JPEG; OpenCV would fill the missing part with grey and say nothing."""
    if encoded.rstrip(b"\0\r\n ").endswith(JPEG_END):
        return
    try:  # slower, but strict: some cameras write other bytes after the end
        content = encoded.rstrip(b"\0")  # zeros, which an interrupted copy leaves, would be decoded as grey
        _open(content, name).load()
    except DAMAGED as error:
        raise ImgclfError(f"{name}: the JPEG is truncated; fetch or copy it again") from error


def _reduction(size: tuple[int, int], side: int | None) -> int:
    """Return the largest of 8, 4, 2 that leaves at least twice `side` pixels on the longer side; else 1."""
    return next((factor for factor in REDUCED if side and max(size) >= 2 * side * factor), 1)


def _decode_jpeg(encoded: bytes, name: str, factor: int) -> np.ndarray:
    try:
        pixels = cv2.imdecode(np.frombuffer(encoded, np.uint8), REDUCED.get(factor, cv2.IMREAD_COLOR))
    except cv2.error as error:
        raise ImgclfError(f"{name}: the JPEG cannot be decoded; replace or delete it") from error
    if pixels is None:
        raise ImgclfError(f"{name}: the JPEG cannot be decoded; replace or delete it")
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB, dst=pixels)


def _decode_other(picture: PillowImage.Image, name: str) -> np.ndarray:
    try:
        picture.seek(0)
        picture.load()  # before the orientation is read: this rotates TIFFs
        # Pillow's exif_transpose would write the other EXIF tags again, and fail on an odd one.
        orientation = picture.getexif().get(EXIF_ORIENTATION)
        return _rgb(picture.transpose(UPRIGHT[orientation]) if orientation in UPRIGHT else picture)
    except DAMAGED as error:
        raise ImgclfError(f"{name}: the {picture.format} is damaged; replace or delete it") from error


def _rgb(picture: PillowImage.Image) -> np.ndarray:
    """Return any Pillow mode as (H, W, 3) uint8; 16-bit grey is scaled, since Pillow would clip it."""
    if picture.mode.startswith("I") or picture.mode == "F":
        grey = np.nan_to_num(np.asarray(picture, dtype=np.float64), posinf=0, neginf=0)
        full = 65535 if picture.mode.startswith("I") else max(grey.max(), 1)
        grey = np.rint(grey.clip(0, full) * 255 / full).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if picture.has_transparency_data:
        colour = picture.convert("RGBA")
        grey_level = TRANSPARENCY_GREY
        background = PillowImage.new("RGBA", colour.size, (grey_level, grey_level, grey_level, 255))
        return np.array(PillowImage.alpha_composite(background, colour).convert("RGB"))
    return np.array(picture.convert("RGB"))


def shrink(pixels: np.ndarray, side: int) -> np.ndarray:
    """Return `pixels` scaled down to a longer side of at most `side`; smaller images stay as they are."""
    height, width = pixels.shape[:2]
    if max(height, width) <= side:
        return pixels
    return scale(pixels, side)


def scale(pixels: np.ndarray, side: int) -> np.ndarray:
    """Return `pixels` with a longer side of `side`: area averaging down, linear interpolation up."""
    height, width = pixels.shape[:2]
    longer = max(height, width)
    size = (max(1, round(width * side / longer)), max(1, round(height * side / longer)))
    shrinks = longer > side
    # INTER_LINEAR would alias when it shrinks; the "exact" one returns the same bits on every processor.
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR_EXACT)


def read(path: Path, *, side: int | None = None) -> np.ndarray:
    """Return the pixels of the file at `path`; see `decode`."""
    return decode(read_bytes(path), path.name, side=side)


def read_bytes(path: Path) -> bytes:
    """Return the content of an image file.

    Raises
    ------
    ImgclfError : the file cannot be read, with the reason.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise ImgclfError(
            f"{path}: {error.strerror}; check that it exists and that you may read it"
        ) from error


def jpeg(pixels: np.ndarray, *, quality: int = 95) -> bytes:
    """Return (H, W, 3) uint8 RGB pixels encoded as a JPEG file; quality 0 to 100."""
    bgr = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    _, encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return encoded.tobytes()
