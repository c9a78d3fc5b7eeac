"""Decoding: from the bytes of an image file to RGB pixels, the one way that every stage, engine and service uses."""

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
TRANSPARENCY_GREY = 114  # grey level of what lies below a transparent image

DAMAGED = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    RuntimeError,
    IndexError,
    TypeError,
    struct.error,
)  # what Pillow's readers raise, by format

PILLOW_LIMIT = Lock()  # Pillow's limit belongs to the whole process

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
    """The pixels of an image file, upright, in colour.

    EXIF rotation is applied, grey and CMYK become RGB, 16 bits are scaled to 8, transparency is laid
    over grey 114, of an animation the first frame is taken. The file's first bytes decide what it is, not its name.

    Parameters
    ----------
    encoded : the content of the file.
    name : what error messages call the image.
    side : if given, a JPEG whose longer side is at least 4 times `side` pixels is decoded at 1/2, 1/4 or
        1/8 of its size, such that at least twice `side` is left.
    max_pixels : an image of more pixels is refused before it is decoded.

    Returns
    -------
    (H, W, 3) uint8 array, RGB.

    Raises
    ------
    ImgclfError : empty, not an image, truncated, or more than `max_pixels` pixels.
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
    """The image with its header read and nothing decoded yet."""
    try:
        with _without_limit_of_pillow():
            picture = PillowImage.open(io.BytesIO(encoded), formats=[known.name for known in FORMATS])
    except DAMAGED as error:
        raise ImgclfError(f"{name}: not an image that can be read; replace or delete it") from error
    width, height = picture.size
    if width * height > max_pixels:
        raise ImgclfError(f"{name}: {width} x {height} pixels, more than {max_pixels:,}; shrink it")
    return picture


@contextmanager
def _without_limit_of_pillow() -> Iterator[None]:
    """Read a header without Pillow's own limit: it warns, and warnings cannot be caught in threads. `max_pixels` is checked instead."""
    with PILLOW_LIMIT:
        limit, PillowImage.MAX_IMAGE_PIXELS = PillowImage.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            PillowImage.MAX_IMAGE_PIXELS = limit


def _check_complete(encoded: bytes, name: str) -> None:
    """Refuse a truncated JPEG, whose missing part OpenCV fills with grey in silence."""
    if encoded.rstrip(b"\0\r\n ").endswith(JPEG_END):
        return
    try:  # slower, but strict: some cameras write other bytes after the end
        _open(
            encoded.rstrip(b"\0"), name
        ).load()  # zeros, as a broken-off copy leaves them, would be decoded as grey
    except DAMAGED as error:
        raise ImgclfError(f"{name}: the JPEG is truncated; fetch or copy it again") from error


def _reduction(size: tuple[int, int], side: int | None) -> int:
    """The largest factor of 8, 4, 2 that leaves at least twice `side` pixels on the longer side; else 1."""
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
        picture.load()  # before the orientation is asked for: TIFFs are turned by this
        # Pillow's exif_transpose would write the other EXIF tags anew, and fail on an odd one.
        turn = UPRIGHT.get(picture.getexif().get(EXIF_ORIENTATION))
        return _rgb(picture if turn is None else picture.transpose(turn))
    except DAMAGED as error:
        raise ImgclfError(f"{name}: the {picture.format} is damaged; replace or delete it") from error


def _rgb(picture: PillowImage.Image) -> np.ndarray:
    """Any Pillow mode as (H, W, 3) uint8; 16-bit grey is scaled, since Pillow's own conversion clips it."""
    if picture.mode.startswith("I") or picture.mode == "F":
        grey = np.nan_to_num(np.asarray(picture, dtype=np.float64), posinf=0, neginf=0)
        full = 65535 if picture.mode.startswith("I") else max(grey.max(), 1)
        grey = np.rint(grey.clip(0, full) * 255 / full).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if picture.has_transparency_data:
        colour = picture.convert("RGBA")
        ground = PillowImage.new(
            "RGBA", colour.size, (TRANSPARENCY_GREY, TRANSPARENCY_GREY, TRANSPARENCY_GREY, 255)
        )
        return np.array(PillowImage.alpha_composite(ground, colour).convert("RGB"))
    return np.array(picture.convert("RGB"))


def shrink(pixels: np.ndarray, side: int) -> np.ndarray:
    """`pixels` scaled such that the longer side is at most `side` pixels; smaller ones are returned as they are."""
    height, width = pixels.shape[:2]
    if max(height, width) <= side:
        return pixels
    return scale(pixels, side)


def scale(pixels: np.ndarray, side: int) -> np.ndarray:
    """The longer side becomes `side`: area averaging downwards, linear interpolation upwards."""
    height, width = pixels.shape[:2]
    longer = max(height, width)
    size = (max(1, round(width * side / longer)), max(1, round(height * side / longer)))
    shrinks = longer > side
    # INTER_LINEAR would alias when it shrinks; the "exact" one gives the same bits on every processor.
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR_EXACT)


def read(path: Path, *, side: int | None = None) -> np.ndarray:
    """The pixels of the file at `path`, as `decode` gives them."""
    return decode(read_bytes(path), path.name, side=side)


def read_bytes(path: Path) -> bytes:
    """The content of an image file.

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
    """(H, W, 3) uint8 RGB pixels as the content of a JPEG file."""
    return cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])[
        1
    ].tobytes()
