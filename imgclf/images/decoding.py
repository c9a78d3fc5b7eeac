"""Decoding: from the bytes of an image file to RGB pixels.

Every stage, every engine and the service decode with these functions, so all see the same pixels.
"""

import io
import math
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock, RLock

import cv2
import numpy as np
from PIL import Image as PillowImage

from imgclf import ImgclfError
from imgclf.images import depth, jpeg_segments, kinds, png_chunks, pointers


@dataclass(frozen=True)
class ImageFormat:
    """A file format that images are decoded from.

    Attributes
    ----------
    name : what Pillow calls it.
    media_type : its Content-Type; "" for a format that the service does not offer.
    suffixes : of the files of a data set, the first for a file that is written; none for a format that
        comes from the web alone and is stored as JPEG.
    start : regular expression of the first bytes.
    """

    name: str
    media_type: str = ""
    suffixes: tuple[str, ...] = ()
    start: bytes = b"(?!)"


JPEG = ImageFormat(
    "JPEG", "image/jpeg", (".jpg", ".jpeg", ".jpe", ".jfif", ".pjpeg", ".pjp"), rb"\xff\xd8\xff"
)
PNG = ImageFormat("PNG", "image/png", (".png",), rb"\x89PNG\r\n\x1a\n")
TIFF = ImageFormat("TIFF", "image/tiff", (".tif", ".tiff"), rb"II[*+]\0|MM\0[*+]")
HEIF_BRANDS = rb"....ftyp(hei[cxms]|hev[cxms]|(mif1|msf1)(?!.{0,80}avi[fs]).{0,80}he[iv][cxms])"
# Photographs of iPhones; needs pillow-heif.
HEIF = ImageFormat("HEIF", "image/heic", (".heic", ".heif", ".hif"), HEIF_BRANDS)
# All that Pillow may open. It knows forty more; one of them (EPS) runs a program that writes temporary files.
FORMATS = (
    JPEG,
    PNG,
    ImageFormat("WEBP", "image/webp", (".webp",), rb"RIFF....WEBP"),
    ImageFormat("GIF", "image/gif", (".gif",), rb"GIF8[79]a"),
    ImageFormat("BMP", "image/bmp", (".bmp",), rb"BM.{4}\0{4}"),
    TIFF,
    ImageFormat("AVIF", "image/avif", (".avif",), rb"....ftyp(avi[fs]|(mif1|msf1).{0,80}avi[fs])"),
    HEIF,
    ImageFormat("PPM"),
    ImageFormat("JPEG2000"),
)
SUFFIXES = tuple(suffix for known in FORMATS for suffix in known.suffixes)
ENDINGS = f"{', '.join(SUFFIXES)}; without a suffix, the content decides"  # `is_image` in words
# MPO: a JPEG with more pictures behind it, as phones write. Pillow detects it in what is opened as JPEG.
BY_PILLOW_NAME = {"MPO": JPEG, **{known.name: known for known in FORMATS}}

LARGE_BYTES = 300_000_000  # images that need more are decoded one at a time, which bounds the memory
LARGE_FILE_BYTES = 100_000_000  # so are files of more
ONE_LARGE = RLock()
STRIP_PIXELS = 2**20  # converted at once
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
    OverflowError,
    struct.error,
)

UNUSUAL = (
    "is damaged or of an unusual kind; "
    "save it again as PNG if other programs show it, else replace or delete it"
)

PILLOW_LIMIT = Lock()  # Pillow's limit of pixels is one for the whole process

JPEG_END = b"\xff\xd9"
EXIF_ORIENTATION = 0x112
SUB_IMAGES, SUBFILE_TYPE, DNG_VERSION = 330, 254, 50706  # tags of TIFF
# The most memory that decoding takes, bytes for each pixel as stored; a test measures it.
MEMORY = {"PNG": 14, "WEBP": 20, "GIF": 12, "BMP": 12, "TIFF": 16, "AVIF": 20, "HEIF": 20, "JPEG2000": 26}
MEMORY_OF_DEEP_COLOUR = 14  # more for colour of 16 bits a sample
MEMORY_BESIDE = 2**25  # of any image: strips, tables; half of it is needed
CV2_NO_MEMORY = -4
REDUCED = {8: cv2.IMREAD_REDUCED_COLOR_8, 4: cv2.IMREAD_REDUCED_COLOR_4, 2: cv2.IMREAD_REDUCED_COLOR_2}


@dataclass(frozen=True)
class Header:
    """What is known of an image before it is decoded.

    Attributes
    ----------
    width, height : pixels, as stored.
    held_bytes : memory that decoding takes for each pixel, at whatever scale, bytes.
    """

    format: ImageFormat
    width: int
    height: int
    held_bytes: float

    @property
    def is_reducible(self) -> bool:
        """Whether it can be decoded at reduced scale."""
        return self.format is JPEG

    def reduction(self, side: int | None) -> int:
        """Return 8, 4 or 2 if decoding at that reduced scale leaves `side` twice, see `decode`; else 1."""
        longest = max(self.width, self.height) if self.is_reducible else 0
        return next((factor for factor in REDUCED if side and longest >= 2 * side * factor), 1)

    def memory_needed(self, side: int | None = None) -> int:
        """Return the most memory that `decode` takes for it beside the file, bytes."""
        pixels = self.width * self.height
        held = math.ceil(pixels * self.held_bytes)
        if self.is_reducible:
            decoded = 3 * pixels // self.reduction(side) ** 2
            held = decoded + max(held, decoded)  # OpenCV copies what it has decoded
        return held + MEMORY_BESIDE


def header(encoded: bytes, name: str = "image", *, max_pixels: int = kinds.MAX_PIXELS) -> Header:
    """Return what the first bytes of an image file say, whatever its name says; nothing is decoded.

    Raises
    ------
    ImgclfError : the file is empty, not an image that is read, or has more than `max_pixels` pixels.
    """
    with _open(encoded, name, max_pixels) as picture:
        return _header(picture, encoded)


def memory_needed(
    encoded: bytes, name: str = "image", *, side: int | None = None, max_pixels: int = kinds.MAX_PIXELS
) -> int:
    """Return the most memory that `decode` takes for an image beside its file, by its header; bytes.

    Raises
    ------
    ImgclfError : see `header`.
    """
    return header(encoded, name, max_pixels=max_pixels).memory_needed(side)


def decode(
    encoded: bytes, name: str = "image", *, side: int | None = None, max_pixels: int = kinds.MAX_PIXELS
) -> np.ndarray:
    """Return the pixels of an image file, upright, in colour.

    The EXIF orientation is applied, grey and CMYK become RGB, more than 8 bits are scaled to 8 (see `depth`),
    transparency is composited over grey 114, and of an animation the first frame is taken. The format is
    detected by the file's first bytes, not by its name.

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
    ImgclfError : the file is empty, not an image that is read, truncated, or has more than `max_pixels`
        pixels.
    """
    return decode_with_size(encoded, name, side=side, max_pixels=max_pixels).pixels


@dataclass(frozen=True)
class Decoded:
    """A decoded image.

    Attributes
    ----------
    pixels : (h, w, 3) uint8, RGB; perhaps at reduced scale.
    width, height : of the whole image, upright, pixels.
    depth : by what it was scaled to 8 bits, see `depth.eight_bits`; empty if it has 8.
    """

    pixels: np.ndarray
    width: int
    height: int
    depth: str = ""


def decode_with_size(
    encoded: bytes, name: str = "image", *, side: int | None = None, max_pixels: int = kinds.MAX_PIXELS
) -> Decoded:
    """Return the pixels, see `decode`, the size, and by what they were scaled to 8 bits."""
    with _open(encoded, name, max_pixels) as picture:
        found = _header(picture, encoded)
        factor = found.reduction(side)
        try:
            with ONE_LARGE if found.memory_needed(side) > LARGE_BYTES else nullcontext():
                if found.format is not JPEG:
                    pixels, by = _decode_other(picture, encoded, name)
                    return Decoded(pixels, pixels.shape[1], pixels.shape[0], by)
                _check_complete(encoded, name, max_pixels)
                pixels = _decode_jpeg(encoded, name, factor)
                return Decoded(pixels, *_upright_size(found, pixels))
        except MemoryError as error:
            size = f"{found.width} x {found.height} pixels"
            raise ImgclfError(f"{name}: too little memory for {size}; shrink it") from error


def _upright_size(stored: Header, pixels: np.ndarray) -> tuple[int, int]:
    """Return width and height of a JPEG of which `pixels` are upright, perhaps at reduced scale."""
    height, width = pixels.shape[:2]
    is_turned = (width > height) != (stored.width > stored.height) and width != height
    return (stored.height, stored.width) if is_turned else (stored.width, stored.height)


def is_image(path: Path) -> bool:
    """Whether a file is read as an image by the suffix of its name; without a suffix, by its first bytes."""
    if path.suffix:
        return path.suffix.lower() in SUFFIXES
    return _format_by_content(pointers.read_start(path)) is not None


def _format_by_content(encoded: bytes) -> ImageFormat | None:
    start = encoded[: kinds.START_BYTES]
    return next((known for known in FORMATS if re.match(known.start, start, re.DOTALL)), None)


def _open(encoded: bytes, name: str, max_pixels: int = kinds.MAX_PIXELS) -> PillowImage.Image:
    """Return the image with its header read and nothing decoded yet."""
    if not encoded:
        raise ImgclfError(f"{name}: the file is empty; replace or delete it")
    if unread := kinds.by_content(encoded):
        raise ImgclfError(f"{name}: {unread.name}, which is not read; {unread.remedy}")
    known = _format_by_content(encoded)
    if known is HEIF:
        _register_heif(name)
    elif known is PNG:
        encoded = png_chunks.without_metadata(encoded)
    elif known is JPEG:
        encoded = jpeg_segments.without_metadata(encoded)
    try:
        with _without_pillow_limit():
            picture = PillowImage.open(io.BytesIO(encoded), formats=[known.name for known in _available()])
    except DAMAGED as error:
        if known:
            raise ImgclfError(f"{name}: the {known.name} {UNUSUAL}") from error
        if kind := kinds.by_suffix(Path(name).suffix):
            raise ImgclfError(f"{name}: by its name {kind}, which is not read; {kinds.AS_IMAGE}") from error
        raise ImgclfError(f"{name}: not an image that can be read; replace or delete it") from error
    if _is_raw(picture):
        raise ImgclfError(f"{name}: {kinds.RAW.name}, which is not read; {kinds.RAW.remedy}")
    if depth.is_misread(picture, encoded):
        raise ImgclfError(f"{name}: the {picture.format} {UNUSUAL}")
    width, height = picture.size
    if width * height > max_pixels:
        raise ImgclfError(f"{name}: {width} x {height} pixels, more than {max_pixels:,}; shrink it")
    return picture


def _is_raw(picture: PillowImage.Image) -> bool:
    """Whether a TIFF is that of a camera: its first frame is a thumbnail, the photograph is in another."""
    tags = getattr(picture, "tag_v2", {})
    is_thumbnail = int(depth.tag(picture, SUBFILE_TYPE, 0)) & 1
    return DNG_VERSION in tags or (SUB_IMAGES in tags and bool(is_thumbnail))


def _header(picture: PillowImage.Image, encoded: bytes) -> Header:
    known = BY_PILLOW_NAME[str(picture.format)]
    if known is JPEG:
        return Header(known, *picture.size, jpeg_segments.coefficient_bytes(encoded))
    more = MEMORY_OF_DEEP_COLOUR if depth.is_deep_colour(picture, encoded) else 0
    return Header(known, *picture.size, MEMORY.get(known.name, 12) + more)


def _available() -> Iterator[ImageFormat]:
    """Yield the formats that Pillow can open now: it refuses the name of a plugin that is not registered."""
    return (known for known in FORMATS if known is not HEIF or HEIF.name in PillowImage.OPEN)


def _register_heif(name: str) -> None:
    """Let Pillow read HEIF, through pillow-heif, which is imported for the first such file only."""
    try:
        import pillow_heif
    except ImportError as error:
        raise ImgclfError(
            f"{name}: a HEIC photograph, and pillow-heif is not installed; "
            "pip install 'imgclf[heif]', or convert it to JPEG"
        ) from error
    pillow_heif.register_heif_opener(decode_threads=1)  # images are decoded in parallel already


@contextmanager
def _without_pillow_limit() -> Iterator[None]:
    """Switch off Pillow's own limit of pixels: it warns, and warnings cannot be caught in threads."""
    with PILLOW_LIMIT:
        limit, PillowImage.MAX_IMAGE_PIXELS = PillowImage.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            PillowImage.MAX_IMAGE_PIXELS = limit


def _check_complete(encoded: bytes, name: str, max_pixels: int) -> None:
    """Refuse a truncated JPEG; OpenCV would fill the missing part with grey and say nothing."""
    if encoded.rstrip(b"\0\r\n ").endswith(JPEG_END):
        return
    try:  # slower, but strict: some cameras write other bytes after the end
        # Zeros at the end, which an interrupted copy leaves, would be decoded as grey.
        without_zeros = encoded.rstrip(b"\0")
        with _open(without_zeros, name, max_pixels) as picture:
            picture.draft(None, (1, 1))  # reads all, at an eighth of the scale
            picture.load()
    except DAMAGED as error:
        raise ImgclfError(f"{name}: the JPEG is truncated; fetch or copy it again") from error


def _decode_jpeg(encoded: bytes, name: str, factor: int) -> np.ndarray:
    try:
        pixels = cv2.imdecode(np.frombuffer(encoded, np.uint8), REDUCED.get(factor, cv2.IMREAD_COLOR))
    except cv2.error as error:
        if error.code == CV2_NO_MEMORY:
            raise MemoryError from error
        raise ImgclfError(f"{name}: the JPEG {UNUSUAL}") from error
    if pixels is None:
        raise ImgclfError(f"{name}: the JPEG {UNUSUAL}")
    for rows in _strips(*pixels.shape[:2]):  # in place OpenCV would copy the whole picture first
        cv2.cvtColor(pixels[rows], cv2.COLOR_BGR2RGB, dst=pixels[rows])
    return pixels


def _decode_other(picture: PillowImage.Image, encoded: bytes, name: str) -> tuple[np.ndarray, str]:
    try:
        if picture.format != HEIF.name:  # that one is opened at its primary image
            picture.seek(0)
        picture.load()  # before the orientation is read: this rotates TIFFs
        if picture.mode.startswith("P") and picture.palette is None:
            raise ValueError("no palette")  # cropping would add a black one
        eight_bits, by = depth.eight_bits(picture, encoded)
        return upright(_rgb(eight_bits), _orientation(picture)), by
    except DAMAGED as error:
        raise ImgclfError(f"{name}: the {picture.format} is damaged; replace or delete it") from error


def _orientation(picture: PillowImage.Image) -> int:
    """Return the EXIF orientation; 1 if there is none, or if it is damaged, as in browsers."""
    try:
        # Pillow's exif_transpose would write the other EXIF tags again, and fail on an odd one.
        return int(picture.getexif().get(EXIF_ORIENTATION, 1))
    except DAMAGED:
        return 1


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Return pixels (H, W, 3) turned upright by their EXIF orientation, 1 to 8; unchanged for any other."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _rgb(picture: PillowImage.Image) -> np.ndarray:
    """Return a picture of 8 bits in any Pillow mode as (H, W, 3) uint8, by strips, which saves memory."""
    width, height = picture.size
    pixels = np.empty((height, width, 3), np.uint8)
    for rows in _strips(height, width):
        pixels[rows] = _rgb_strip(picture.crop((0, rows.start, width, rows.stop)))
    return pixels


def _strips(height: int, width: int) -> Iterator[slice]:
    """Yield the rows of a picture in slices of some `STRIP_PIXELS`."""
    rows = max(1, STRIP_PIXELS // max(1, width))
    return (slice(top, min(top + rows, height)) for top in range(0, height, rows))


def _rgb_strip(picture: PillowImage.Image) -> np.ndarray:
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


def scaled_size(height: int, width: int, side: int) -> tuple[int, int]:
    """Return height and width with a longer side of `side`, pixels."""
    longer = max(height, width)
    return max(1, round(height * side / longer)), max(1, round(width * side / longer))


def scale(pixels: np.ndarray, side: int) -> np.ndarray:
    """Return `pixels` with a longer side of `side`: area averaging down, linear interpolation up."""
    height, width = pixels.shape[:2]
    size = scaled_size(height, width, side)[::-1]
    shrinks = max(height, width) > side
    # INTER_LINEAR would alias when it shrinks; the "exact" one returns the same bits on every processor.
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR_EXACT)


def read(path: Path, *, side: int | None = None) -> np.ndarray:
    """Return the pixels of the file at `path`; see `decode`."""
    with content(path) as encoded:
        return decode(encoded, path.name, side=side)


@contextmanager
def content(path: Path) -> Iterator[bytes]:
    """Yield the content of an image file. Large files are held one at a time, which bounds the memory.

    Raises
    ------
    ImgclfError : see `pointers.read_bytes`.
    """
    size = 0
    with suppress(OSError):  # reading names the reason
        size = pointers.size(path)
    with ONE_LARGE if size > LARGE_FILE_BYTES else nullcontext():
        yield pointers.read_bytes(path)


def jpeg(pixels: np.ndarray, *, quality: int = 95) -> bytes:
    """Return (H, W, 3) uint8 RGB pixels encoded as a JPEG file; quality 0 to 100."""
    bgr = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    _, encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return encoded.tobytes()
