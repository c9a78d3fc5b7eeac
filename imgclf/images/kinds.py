"""Kinds of files that hold pictures but are not read: recognized by suffix and first bytes, to name them."""

import re
from dataclasses import dataclass

AS_IMAGE = "convert it to JPEG or PNG"
MAX_PIXELS = 200_000_000  # an image of more is not decoded


@dataclass(frozen=True)
class Kind:
    """A kind of file that is not read.

    Attributes
    ----------
    name : as in "is a PDF". remedy : what to do with it.
    start : regular expression of the first bytes; None if they do not tell.
    """

    name: str
    suffixes: tuple[str, ...]
    start: bytes | None = None
    remedy: str = AS_IMAGE


# A TIFF inside; Pillow would decode the thumbnail, its first frame.
RAW = Kind(
    "a raw photograph of a camera",
    (
        *(".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dng", ".erf", ".iiq", ".kdc", ".mrw", ".nef", ".nrw"),
        *(".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f"),
    ),
    rb"II\*\0.{4}CR|....ftypcrx |FUJIFILMCCD-RAW|IIR[OS]|IIU\0|FOVb|\0MRM",
)
VIDEO = Kind(
    "a video",
    (
        *(".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts"),
        *(".ogv", ".webm", ".wmv"),
    ),
    rb"....ftyp(3g|avc1|dash|f4v|iso|M4V|mp4|MSNV|qt  )|....(moov|mdat|wide)|RIFF....AVI |\x1aE\xdf\xa3|"
    rb"\0\0\x01[\xb3\xba]|FLV\x01|OggS|0&\xb2u\x8ef\xcf\x11",
    "save its frames as JPEG or PNG",
)
SVG = rb"(\xef\xbb\xbf)?\s*(<\?xml[^>]*>\s*)?(<!--((?!-->).)*-->\s*)*(<!DOCTYPE svg[^>]*>\s*)?<svg[\s>]"
NOT_READ = (
    RAW,
    VIDEO,
    Kind("a Photoshop document", (".psd", ".psb"), rb"8BPS"),
    Kind("an SVG drawing", (".svg", ".svgz"), SVG),
    Kind("a PDF", (".pdf",), rb"%PDF-"),
    Kind("a JPEG XL", (".jxl",), rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n"),
    Kind("a JPEG 2000", (".j2c", ".j2k", ".jp2", ".jpf", ".jpx")),
    Kind("a PPM", (".pbm", ".pgm", ".pnm", ".ppm")),
    Kind("an OpenEXR image", (".exr",), rb"v/1\x01"),
    Kind("a Radiance image", (".hdr",), rb"#\?RADIANCE|#\?RGBE"),
    Kind("a DICOM image", (".dcm", ".dicom"), rb".{128}DICM"),
    Kind("a FITS image", (".fit", ".fits", ".fts"), rb"SIMPLE  ="),
    Kind("a GIMP image", (".xcf",), rb"gimp xcf"),
    Kind("a PostScript drawing", (".ai", ".eps", ".ps"), rb"%!PS|\xc5\xd0\xd3\xc6"),
    Kind("a Targa image", (".tga",)),
    Kind("an icon", (".cur", ".icns", ".ico"), rb"\0\0[\x01\x02]\0[^\0]\0|icns"),
    Kind("a PNG of Xcode, which only Apple's programs read", (), rb"\x89PNG\r\n\x1a\n\0\0\0\x04CgBI"),
)
START_BYTES = 256  # of a file; enough for each `start`


def by_suffix(suffix: str) -> str:
    """Return the name of the kind of file that has a suffix and is not read, .nef; "" for any other."""
    return next((kind.name for kind in NOT_READ if suffix.lower() in kind.suffixes), "")


def named(suffix: str) -> str:
    """Return a suffix, with the kind of file if it is known: ".nef (a raw photograph of a camera)"."""
    return f"{suffix} ({kind})" if (kind := by_suffix(suffix)) else suffix or "no suffix"


def by_content(encoded: bytes) -> Kind | None:
    """Return the kind of file that begins like this and is not read; None for any other."""
    start = encoded[:START_BYTES]
    return next((kind for kind in NOT_READ if kind.start and re.match(kind.start, start, re.DOTALL)), None)
