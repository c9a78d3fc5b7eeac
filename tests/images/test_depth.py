"""More than 8 bits a sample: what the file declares, else the bits that hold its samples, else its own range."""

import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image as PillowImage
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from imgclf import ImgclfError
from imgclf.images import decoding
from support.pictures import AS_STORED, corners, encoded, png_chunk

RAMP = np.arange(256)
MAX_SAMPLE_VALUE, SMALLEST, LARGEST = 281, 340, 341


def with_depth(content):
    """The pixels of an image file, and by what they were scaled to 8 bits."""
    decoded = decoding.decode_with_size(content)
    return decoded.pixels, decoded.depth


def ramp(largest, dtype=np.uint16, *, smallest=0):
    """Samples that grow evenly along 256 columns; (4, 256)."""
    return np.linspace(smallest, largest, 256).round().astype(dtype)[None].repeat(4, 0)


def tiff(samples, **tags):
    directory = ImageFileDirectory_v2()
    for number, value in tags.pop("numbers", {}).items():
        directory[number] = value
    return encoded(PillowImage.fromarray(samples), "TIFF", tiffinfo=directory, **tags)


def opencv(suffix, samples):
    return cv2.imencode(suffix, samples)[1].tobytes()


def grey_and_depth(content):
    pixels, by = with_depth(content)
    assert (pixels == pixels[:1, :, :1]).all()
    return pixels[0, :, 0].astype(int), by


def assert_even(grey, tolerance=1):
    np.testing.assert_allclose(grey, RAMP, atol=tolerance)


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_fewer_bits_in_a_file_of_sixteen_use_the_whole_range(bits, format):
    grey, by = grey_and_depth(encoded(ramp(2**bits - 1), format))
    assert_even(grey)
    assert by == f"{bits} bits"


def test_eight_bits_in_a_file_of_sixteen_stay_as_they_are():
    grey, by = grey_and_depth(encoded(ramp(200), "PNG"))
    assert (grey == ramp(200)[0]).all() and by == "8 bits"


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_colour_of_fewer_bits_is_scaled_like_grey(bits, suffix):
    colour = np.dstack([ramp(2**bits - 1), ramp(0), ramp(2**bits - 1)[:, ::-1]])  # blue, green, red
    pixels, by = with_depth(opencv(suffix, colour))
    assert_even(pixels[0, :, 2])
    assert_even(pixels[0, ::-1, 0])
    assert not pixels[:, :, 1].any() and by == f"{bits} bits"


def test_transparency_of_fewer_bits_is_scaled_too():
    colour = np.dstack([ramp(4095)] * 3 + [np.full((4, 256), 4095, np.uint16)])
    colour[:, :10, 3] = 0
    pixels, by = with_depth(opencv(".png", colour))
    assert (pixels[:, :10] == 114).all() and by == "12 bits"
    np.testing.assert_allclose(pixels[0, 10:, 1], RAMP[10:], atol=1)


def test_tiff_of_twelve_bits_is_scaled_by_its_bit_depth_however_dark_it_is():
    grey, by = grey_and_depth(tiff_of_twelve_bits(100))
    assert grey.max() == round(100 * 255 / 4095) and by == "12 bits"


def tiff_of_twelve_bits(largest):
    """A TIFF whose samples are packed: three bytes hold two of them."""
    samples = ramp(largest).reshape(-1, 2).astype(int)
    packed = np.stack(
        [samples[:, 0] >> 4, (samples[:, 0] & 15) << 4 | samples[:, 1] >> 8, samples[:, 1] & 255], 1
    )
    return tiff_of(packed.astype(np.uint8).tobytes(), (4, 256), bits=12)


def tiff_of(pixels, shape, *, bits=16, order="<", tags=()):
    """A TIFF of one strip, written byte by byte: Pillow and OpenCV write few kinds."""
    height, width, *channels = shape
    values = {256: width, 257: height, 258: bits, 259: 1, 262: 2 if channels else 1, 273: 0}
    values |= {277: channels[0] if channels else 1, 278: height, 279: len(pixels), **dict(tags)}
    start = 8 + 2 + 12 * len(values) + 4
    table = bytes(0)
    for number, value in sorted((values | {273: start}).items()):
        kind, many = ("I", value) if value > 65535 else ("H", value)
        table += struct.pack(f"{order}HHI", number, 4 if kind == "I" else 3, 1)
        table += struct.pack(order + kind, many).ljust(4, b"\0")
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, len(values))
    return head + table + bytes(4) + pixels


def test_declared_maximum_of_a_tiff_decides():
    grey, by = grey_and_depth(tiff(ramp(1000), numbers={MAX_SAMPLE_VALUE: 4095}))
    assert grey.max() == round(1000 * 255 / 4095) and by == "12 bits"
    grey, _ = grey_and_depth(tiff(ramp(1000), numbers={MAX_SAMPLE_VALUE: 1000}))
    assert_even(grey)


@pytest.mark.parametrize(
    "declared", [0, 5, 65535], ids=["none", "below the samples", "that of the bit depth"]
)
def test_declared_maximum_that_says_nothing_is_ignored(declared):
    grey, by = grey_and_depth(tiff(ramp(4095), numbers={MAX_SAMPLE_VALUE: declared}))
    assert_even(grey)
    assert by == "12 bits"


def with_significant_bits(content, bits):
    after_header = 8 + 25
    return content[:after_header] + png_chunk(b"sBIT", bytes([bits])) + content[after_header:]


def test_significant_bits_of_a_png_decide_if_its_samples_fit():
    grey, by = grey_and_depth(with_significant_bits(encoded(ramp(1000), "PNG"), 12))
    assert grey.max() == round(1000 * 255 / 4095) and by == "12 bits"


def test_samples_that_a_png_has_scaled_to_sixteen_bits_are_not_scaled_again():
    """As the standard demands of 12 significant bits."""
    grey, by = grey_and_depth(with_significant_bits(encoded(ramp(65535), "PNG"), 12))
    assert_even(grey)
    assert by == "16 bits"


@pytest.mark.parametrize(
    ("sample_format", "bits"), [*((1, bits) for bits in (8, 12, 16, 24, 31, 32)), (2, 8), (2, 16), (2, 31)]
)
def test_integers_of_32_bits_are_scaled_by_the_bits_or_the_largest(sample_format, bits):
    content = tiff(ramp(2**bits - 1, np.int64).astype(np.uint32).view(np.int32), numbers={339: sample_format})
    content = content.replace(
        (339).to_bytes(2, "little") + b"\3\0\1\0\0\0\2\0",
        (339).to_bytes(2, "little") + b"\3\0\1\0\0\0" + bytes([sample_format, 0]),
    )
    grey, by = grey_and_depth(content)
    assert_even(grey)
    assert by == (f"{bits} bits" if bits <= 16 else "own range")


def test_negative_integers_are_scaled_from_the_minimum():
    """As in computed tomography."""
    grey, by = grey_and_depth(tiff(ramp(3071, np.int32, smallest=-1024)))
    assert_even(grey)
    assert by == "own range"


@pytest.mark.parametrize(("smallest", "largest"), [(-1, 1), (-10, 3000), (0, 1), (0, 700), (-5, -3)])
def test_floating_point_is_scaled_from_zero_or_the_minimum(smallest, largest):
    grey, by = grey_and_depth(tiff(np.linspace(smallest, largest, 256, dtype=np.float32)[None].repeat(4, 0)))
    assert_even(grey)
    assert by == "own range"


def test_floating_point_between_0_and_1_is_not_stretched():
    half = np.linspace(0, 0.5, 256, dtype=np.float32)[None].repeat(4, 0)
    assert grey_and_depth(tiff(half))[0].max() == 128


def test_declared_range_of_floating_point_decides():
    half = np.linspace(0, 5, 256, dtype=np.float32)[None].repeat(4, 0)
    assert grey_and_depth(tiff(half, numbers={SMALLEST: 0.0, LARGEST: 10.0}))[0].max() == 128


def test_gaps_in_floating_point_are_black():
    grey = np.array([[np.nan, -1, np.inf, 1, -np.inf]], np.float32)
    assert decoding.decode(tiff(grey))[0, :, 0].tolist() == [0, 0, 0, 255, 0]


def test_flat_picture_of_each_kind_is_decoded():
    for value in (0, 7, 65535):
        for dtype in (np.uint16, np.int32, np.float32):
            assert decoding.decode(tiff(np.full((4, 4), value, dtype))).shape == (4, 4, 3)
    assert decoding.decode(tiff(np.full((4, 4), -7, np.float32))).shape == (4, 4, 3)


def test_white_is_zero_is_inverted():
    content = tiff(ramp(65535))
    photometric = (262).to_bytes(2, "little") + b"\3\0\1\0\0\0"
    assert photometric + b"\1\0" in content
    assert_even(255 - grey_and_depth(content.replace(photometric + b"\1\0", photometric + b"\0\0"))[0])


@pytest.mark.parametrize("format", ["PPM", "JPEG2000"])
def test_formats_that_pillow_scales_to_sixteen_bits_are_not_stretched(format):
    pixels, by = with_depth(encoded(ramp(1000), format))
    assert pixels.max() == 4 and by == "16 bits"


@pytest.mark.parametrize("format", ["PNG", "TIFF", "JPEG", "WEBP", "BMP"])
def test_eight_bits_are_not_scaled(format):
    assert with_depth(encoded(ramp(255, np.uint8), format))[1] == ""


def tiff_of_colour(samples, *, order="<", tags=()):
    """A TIFF of 16 bits a sample and several channels, whose bit depths are listed behind the pixels."""
    content = tiff_of(samples.astype(f"{order}u2").tobytes(), samples.shape, order=order, tags=tags)
    channels = samples.shape[2]
    one = struct.pack(f"{order}HHIH", 258, 3, 1, 16) + b"\0\0"
    assert one in content
    listed = content.replace(one, struct.pack(f"{order}HHII", 258, 3, channels, len(content)))
    return listed + struct.pack(f"{order}{channels}H", *[16] * channels)


TWELVE_BITS = corners().astype(np.uint16) * 16


@pytest.mark.parametrize("orientation", AS_STORED)
@pytest.mark.parametrize("order", ["<", ">"], ids=["little-endian", "big-endian"])
def test_tiff_of_deep_colour_is_upright_in_both_byte_orders(orientation, order):
    stored = TWELVE_BITS
    if (turn := AS_STORED[orientation]) is not None:
        channels = [PillowImage.fromarray(stored[:, :, i]).transpose(turn) for i in range(3)]
        stored = np.dstack([np.asarray(channel) for channel in channels])
    pixels, by = with_depth(tiff_of_colour(stored, order=order, tags={274: orientation}))
    np.testing.assert_allclose(pixels.astype(int), corners(), atol=1)
    assert by == "12 bits"


def test_fourth_channel_of_a_tiff_that_is_no_transparency_is_ignored():
    more = np.dstack([TWELVE_BITS, np.zeros((64, 96), np.uint16)])
    pixels, by = with_depth(tiff_of_colour(more, tags={338: 0}))
    np.testing.assert_allclose(pixels.astype(int), corners(), atol=1)
    assert by == "12 bits"


def test_tiff_of_deep_colour_in_planes_is_refused():
    """Pillow and OpenCV return wrong pixels of it."""
    planes = tiff_of_colour(TWELVE_BITS, tags={284: 2})
    with pytest.raises(
        ImgclfError, match="^a: the TIFF is damaged or of an unusual kind; save it again as PNG"
    ):
        decoding.decode(planes, "a")


def test_deep_grey_with_transparency_and_a_transparent_colour_are_scaled():
    half = np.full((64, 96), 4095, np.uint16)
    half[:32] = 0
    pixels, by = with_depth(png_of(4, np.dstack([TWELVE_BITS[:, :, 0], half])))
    assert (pixels[:32] == 114).all() and by == "12 bits"
    np.testing.assert_allclose(pixels[32:, :, 1].astype(int), corners()[32:, :, 0], atol=1)
    transparent = png_chunk(b"tRNS", TWELVE_BITS[0, 0].astype(">u2").tobytes())
    pixels, by = with_depth(png_of(2, TWELVE_BITS, transparent))
    assert (pixels[:32, :48] == 114).all() and by == "12 bits"
    np.testing.assert_allclose(pixels[32:].astype(int), corners()[32:], atol=1)


def png_of(colour_type, samples, *more):
    rows = samples.astype(">u2").reshape(len(samples), -1)
    pixels = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    header = struct.pack(">IIBBBBB", samples.shape[1], samples.shape[0], 16, colour_type, 0, 0, 0)
    chunks = [png_chunk(b"IHDR", header), *more, png_chunk(b"IDAT", pixels), png_chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def test_orientation_is_applied_to_deep_colour():
    colour = np.zeros((32, 48, 3), np.uint16)
    colour[:, :24, 2] = 4095  # the left half is red
    exif = PillowImage.Exif()
    exif[0x112] = 6  # upright when it is turned clockwise: then red is above
    content = opencv(".png", colour)
    rotated = content[:33] + png_chunk(b"eXIf", exif.tobytes()[6:]) + content[33:]
    pixels = decoding.decode(rotated)
    assert pixels.shape == (48, 32, 3)
    assert pixels[0, 0].tolist() == [255, 0, 0] and pixels[-1, 0].tolist() == [0, 0, 0]
