"""JPEGs whose pixels are good are read, whatever is wrong with their other segments."""

import numpy as np
import pytest
from PIL import Image as PillowImage

from imgclf import ImgclfError
from imgclf.images import decoding, jpeg_segments
from support.pictures import corners, encoded

WHOLE = encoded(corners(), "JPEG", quality=95)
AFTER_JFIF = 2 + 18


def segment(marker, content):
    return bytes([0xFF, marker]) + (len(content) + 2).to_bytes(2) + content


ODD = {
    "EXIF that is none": segment(0xE1, b"Exif\0\0" + b"\xff" * 50),
    "empty EXIF": segment(0xE1, b"Exif\0\0"),
    "EXIF that points behind its end": segment(0xE1, b"Exif\0\0MM\0*\xff\xff\xff\xff"),
    "EXIF that contains itself": segment(
        0xE1, b"Exif\0\0" + bytes.fromhex("4d4d002a0000000800018769000400000001000000080000000000")
    ),
    "orientation 9": segment(
        0xE1, b"Exif\0\0" + bytes.fromhex("4d4d002a00000008000101120003000000010009000000000000")
    ),
    "a colour profile of half a header": segment(0xE2, b"ICC_PROFILE\0"),
    "a colour profile that lacks parts": segment(0xE2, b"ICC_PROFILE\0\1\5abc"),
    "a short record of Photoshop": segment(0xED, b"Photoshop 3.0\0008BIM\x03\xed"),
    "a short Adobe marker": segment(0xEE, b"Adobe"),
    "a list of pictures that is none": segment(0xE2, b"MPF\0II*\0\x08\0\0\0\xff\xff"),
    "empty segments": b"".join(segment(marker, b"") for marker in range(0xE0, 0xF0)),
    "3 MB of comments": 50 * segment(0xFE, b"x" * 65_000),
    "bytes that fill up": b"\xff" * 100,
}


@pytest.mark.parametrize("kind", ODD)
def test_jpeg_with_an_odd_segment_beside_its_pixels_is_read(kind):
    odd = WHOLE[:AFTER_JFIF] + ODD[kind] + WHOLE[AFTER_JFIF:]
    assert (decoding.decode(odd) == decoding.decode(WHOLE)).all()
    assert (decoding.decode(odd + b"a note of the camera") == decoding.decode(WHOLE)).all()


def test_short_jfif_is_read():
    assert decoding.decode(WHOLE[:2] + segment(0xE0, b"JFIF\0") + WHOLE[AFTER_JFIF:]).shape == (64, 96, 3)


@pytest.mark.parametrize("kept", [3, 4, 10, 100, 300])
def test_jpeg_that_ends_in_its_segments_is_refused(kept):
    with pytest.raises(ImgclfError, match="^a: the JPEG is (damaged|truncated)"):
        decoding.decode(WHOLE[:kept], "a")


def test_memory_of_coefficients_is_needed_for_several_scans_alone():
    assert jpeg_segments.coefficient_bytes(WHOLE) == 0
    assert jpeg_segments.coefficient_bytes(encoded(corners()[:, :, 0], "JPEG")) == 0
    one_component_a_scan = WHOLE.replace(b"\xff\xda\0\x0c\3", b"\xff\xda\0\x08\1")
    assert jpeg_segments.coefficient_bytes(one_component_a_scan) == 3
    assert jpeg_segments.coefficient_bytes(WHOLE[:30]) == 8


@pytest.mark.parametrize(("subsampling", "needed"), [(0, 6), (1, 4), (2, 3)], ids=["4:4:4", "4:2:2", "4:2:0"])
def test_memory_of_coefficients_depends_on_the_subsampling(subsampling, needed):
    progressive = encoded(corners(), "JPEG", progressive=True, subsampling=subsampling)
    assert jpeg_segments.coefficient_bytes(progressive) == needed


def test_memory_of_coefficients_in_grey_and_cmyk():
    grey = encoded(corners()[:, :, 0], "JPEG", progressive=True)
    cmyk = encoded(PillowImage.fromarray(corners()).convert("CMYK"), "JPEG", progressive=True)
    assert (jpeg_segments.coefficient_bytes(grey), jpeg_segments.coefficient_bytes(cmyk)) == (2, 8)


def test_colours_do_not_depend_on_what_pillow_is_shown():
    """The Adobe marker says that a JPEG holds red, green and blue; without it the colours would be wrong."""
    content = encoded(corners(), "JPEG", quality=95, keep_rgb=True)
    assert b"Adobe" in content
    assert int(np.abs(decoding.decode(content)[8, 8].astype(int) - corners()[8, 8]).max()) <= 3


@pytest.mark.parametrize(
    ("options", "scans"),
    [({}, 1), ({"progressive": True}, 10), ({"exif": b"Exif\0\0" + b"\xff\xda" * 50}, 1)],
    ids=["baseline", "progressive", "markers in the EXIF data"],
)
def test_scans_of_a_jpeg_are_counted_without_those_of_other_parts(options, scans):
    content = encoded(corners(), "JPEG", **options)
    again = content[content.rindex(b"\xff\xda") :]
    for whole, most in [(content, scans), (content + content * 20, scans), (content[:-2] + again, scans + 1)]:
        assert not jpeg_segments.has_more_scans(whole, most)
        assert jpeg_segments.has_more_scans(whole, most - 1)
    assert jpeg_segments.has_more_scans(content[:-2] + b"\xff\xda\0\2" * 500, 100)


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xd8", b"\xff\xd8\xff", b"\xff\xd8" + b"\xff\xc4" * 9, b"GIF89a\xff\xda"]
)
def test_what_is_no_jpeg_has_no_scans(content):
    assert not jpeg_segments.has_more_scans(content, 0)
