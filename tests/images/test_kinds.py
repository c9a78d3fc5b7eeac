"""Good files of a kind that is not read are named as that kind, never as damaged."""

import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image as PillowImage
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from imgclf import ImgclfError
from imgclf.images import decoding, kinds
from support.pictures import corners, encoded

STARTS = {
    "raw photograph": [
        b"II*\0\x10\0\0\0CR\2\0",
        b"\0\0\0\x18ftypcrx \0\0\0\1",
        b"FUJIFILMCCD-RAW 0201",
        b"IIRO\x08\0\0\0",
        b"IIU\0\x18\0\0\0",
    ],
    "video": [
        b"\0\0\0\x20ftypisom\0\0\2\0",
        b"\0\0\0\x14ftypqt  ",
        b"\0\0\0\x1cftypmp42",
        b"RIFF\0\0\1\0AVI LIST",
        b"\x1aE\xdf\xa3\x01\0\0\0",
        b"\0\0\x01\xba\x44",
    ],
    "Photoshop document": [b"8BPS\0\1"],
    "SVG drawing": [
        b"<svg xmlns=''>",
        b"\xef\xbb\xbf<?xml version='1.0'?>\n<!-- made by a program -->\n<svg >",
        b'<?xml version="1.0"?><!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "http://www.w3.org/x.dtd"><svg>',
    ],
    "PDF": [b"%PDF-1.7\n"],
    "JPEG XL": [b"\xff\x0a\xfa\x1f", b"\0\0\0\x0cJXL \r\n\x87\n"],
    "OpenEXR image": [b"v/1\x01\2\0"],
    "DICOM image": [bytes(128) + b"DICM"],
    "PostScript drawing": [b"%!PS-Adobe-3.0 EPSF-3.0"],
    "PNG of Xcode": [b"\x89PNG\r\n\x1a\n\0\0\0\x04CgBI\x50\0\x20\x02"],
}


@pytest.mark.parametrize(("kind", "start"), [(kind, start) for kind in STARTS for start in STARTS[kind]])
def test_good_file_of_a_kind_that_is_not_read_is_named(kind, start):
    remedy = "save its frames as JPEG or PNG" if kind == "video" else "convert it to JPEG or PNG"
    with pytest.raises(ImgclfError, match=rf"^a\.jpg: an? {kind}.*, which is not read; {remedy}$"):
        decoding.decode(start + bytes(300), "a.jpg")


def tiff(**tags):
    directory = ImageFileDirectory_v2()
    for number, value in tags.items():
        directory[int(number.strip("t"))] = value
    return encoded(PillowImage.fromarray(corners()), "TIFF", tiffinfo=directory)


def test_raw_photograph_that_begins_as_a_tiff_is_not_taken_for_its_thumbnail():
    for content in (tiff(t50706=b"\1\4\0\0"), tiff(t254=1, t330=8)):
        with pytest.raises(ImgclfError, match="^a: a raw photograph of a camera, which is not read"):
            decoding.decode(content, "a")
    assert (decoding.decode(tiff(t254=1)) == corners()).all()


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("DSC_1.NEF", "a raw photograph of a camera"),
        ("a.mov", "a video"),
        ("a.psd", "a Photoshop document"),
        ("a.jp2", "a JPEG 2000"),
        ("a.jpg", ""),
        ("a.txt", ""),
        ("Makefile", ""),
    ],
)
def test_kind_is_known_by_the_suffix(name, kind):
    assert kinds.by_suffix(Path(name).suffix) == kind


def test_no_suffix_is_both_read_and_not_read():
    not_read = [suffix for kind in kinds.NOT_READ for suffix in kind.suffixes]
    assert not set(not_read) & set(decoding.SUFFIXES) and len(not_read) == len(set(not_read))


@pytest.mark.parametrize("known", [known for known in decoding.FORMATS if known.suffixes])
def test_images_are_of_no_other_kind(known):
    if known is decoding.HEIF:
        pytest.importorskip("pillow_heif").register_heif_opener()
    assert kinds.by_content(encoded(corners(), known.name)) is None


def test_unusual_tiff_is_not_called_damaged_alone():
    pixels = np.zeros((8, 8, 3), np.float32)
    content = cv2.imencode(".tif", pixels)[1].tobytes()
    with pytest.raises(
        ImgclfError,
        match="^a.tif: the TIFF is damaged or of an unusual kind; "
        "save it again as PNG if other programs show it, else replace or delete it$",
    ):
        decoding.decode(content, "a.tif")


def test_many_comments_are_searched_in_linear_time():
    start = time.process_time()
    assert kinds.by_content(b"<!---->" * 36 + b"<svg>") is None  # the first bytes hold comments alone
    assert kinds.by_content(b"<?xml version='1.0'?><!-- a --> <!-- <b> --><svg>").name == "an SVG drawing"
    assert time.process_time() - start < 10  # it was 41 s for 22 comments


def test_file_of_unknown_content_is_named_by_its_suffix():
    with pytest.raises(
        ImgclfError, match="^a.CR2: by its name a raw photograph of a camera, which is not read"
    ):
        decoding.decode(bytes(100), "a.CR2")
