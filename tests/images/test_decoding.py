import hashlib
import io
import os
import subprocess
import sys
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from PIL import Image as PillowImage
from PIL.Image import Transpose
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from imgclf import ImgclfError
from imgclf.images import decoding
from imgclf.images.preprocessing import Preprocessing
from support.pictures import AS_STORED, BLUE, GREEN, RED, corners, encoded, picture, rotated


def difference(one, other):
    return int(np.abs(one.astype(int) - other.astype(int)).max())


@pytest.mark.parametrize("orientation", AS_STORED)
@pytest.mark.parametrize(
    ("format", "options"),
    [("JPEG", {"quality": 95, "subsampling": 0}), ("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {})],
    ids=["JPEG", "PNG", "WebP", "TIFF"],
)
def test_every_exif_orientation_is_upright(orientation, format, options):
    decoded = decoding.decode(rotated(orientation, format, corners(), **options))
    assert difference(decoded, corners()) <= (4 if format == "JPEG" else 0)


@pytest.mark.parametrize("orientation", AS_STORED)
def test_every_exif_orientation_is_upright_at_reduced_scale_too(orientation):
    decoded = decoding.decode(rotated(orientation, "JPEG", corners(320, 480), quality=95), side=60)
    assert difference(decoded, corners(80, 120)) <= 4


@pytest.mark.parametrize(
    ("side", "width"), [(50, 100), (51, 200), (100, 200), (101, 400), (200, 400), (201, 800), (None, 800)]
)
def test_reduced_scale_leaves_at_least_twice_the_side(side, width):
    assert decoding.decode(decoding.jpeg(corners(600, 800)), side=side).shape == (width * 3 // 4, width, 3)


def test_mpo_of_a_phone_is_decoded_at_reduced_scale_too():
    pair = encoded(
        corners(640, 800), "MPO", save_all=True, append_images=[PillowImage.new("RGB", (80, 60))], quality=95
    )
    decoded = decoding.decode(pair, side=50)
    assert difference(decoded, corners(80, 100)) <= 4


def test_truncated_mpo_of_a_phone_is_refused():
    pair = encoded(
        picture(RED, 0, width=320, height=240),
        "MPO",
        save_all=True,
        append_images=[PillowImage.new("RGB", (8, 8))],
    )
    with pytest.raises(ImgclfError, match="^a.jpg: the JPEG is truncated; fetch or copy it again$"):
        decoding.decode(pair[: len(pair) // 2], "a.jpg")


def test_only_jpegs_are_decoded_at_reduced_scale():
    assert decoding.decode(encoded(corners(600, 800), "PNG"), side=50).shape == (600, 800, 3)


def test_grey_becomes_rgb():
    grey = corners()[:, :, 0]
    assert difference(decoding.decode(encoded(grey, "JPEG", quality=95)), grey[:, :, None].repeat(3, 2)) <= 3
    assert difference(decoding.decode(encoded(grey, "PNG")), grey[:, :, None].repeat(3, 2)) == 0


def test_cmyk_becomes_rgb():
    cmyk = PillowImage.fromarray(corners()).convert("CMYK")
    assert difference(decoding.decode(encoded(cmyk, "JPEG", quality=95)), corners()) <= 6


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_and_not_clipped(format):
    ramp = np.linspace(0, 65535, 256).round().astype(np.uint16)[None, :].repeat(4, 0)
    assert difference(decoding.decode(encoded(ramp, format))[0, :, 1], np.arange(256)) == 0


def test_floating_point_grey_with_gaps_is_scaled():
    grey = np.array([[0, 50, 200, np.nan, np.inf]], np.float32)
    assert decoding.decode(encoded(grey, "TIFF"))[0, :, 0].tolist() == [0, 64, 255, 0, 0]


def test_transparency_is_composited_over_grey_114():
    clear = np.dstack([corners(), np.zeros((64, 96), np.uint8)])
    clear[:32, :, 3] = 255
    for format in ("PNG", "WEBP"):
        decoded = decoding.decode(encoded(clear, format, **({"lossless": True} if format == "WEBP" else {})))
        assert (decoded[32:] == 114).all() and (decoded[:32] == corners()[:32]).all()


def test_transparent_palette_is_composited_over_grey_114():
    palette = PillowImage.new("P", (8, 8), 1)
    palette.putpalette([200, 0, 0, 0, 200, 0])
    palette.putpixel((0, 0), 0)
    decoded = decoding.decode(encoded(palette, "PNG", transparency=0))
    assert decoded[0, 0].tolist() == [114] * 3 and decoded[7, 7].tolist() == [0, 200, 0]


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "TIFF"])
def test_first_frame_of_an_animation_is_taken(format):
    first, second = (PillowImage.new("RGB", (16, 16), colour) for colour in (RED, BLUE))
    decoded = decoding.decode(encoded(first, format, save_all=True, append_images=[second], lossless=True))
    assert difference(decoded, np.full((16, 16, 3), RED, np.uint8)) <= 4


def test_mpo_of_a_phone_is_decoded_as_its_first_picture():
    exif = PillowImage.Exif()
    exif[0x112] = 6
    first = PillowImage.fromarray(corners()).transpose(Transpose.ROTATE_90)
    decoded = decoding.decode(
        encoded(
            first,
            "MPO",
            save_all=True,
            append_images=[PillowImage.new("RGB", (8, 8))],
            exif=exif,
            subsampling=0,
        )
    )
    assert difference(decoded, corners()) <= 6


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
def test_format_is_detected_by_the_first_bytes_and_not_by_the_name(format):
    assert decoding.decode(encoded(corners(), format), "misnamed.jpg").shape == (64, 96, 3)


def test_empty_file_is_named():
    with pytest.raises(ImgclfError, match="^a.jpg: the file is empty; replace or delete it$"):
        decoding.decode(b"", "a.jpg")


def test_text_is_not_an_image():
    with pytest.raises(ImgclfError, match="^a.jpg: not an image that can be read; replace or delete it$"):
        decoding.decode(b"<html>404</html>", "a.jpg")


@pytest.mark.parametrize("options", [{}, {"progressive": True}], ids=["baseline", "progressive"])
@pytest.mark.parametrize("after", [b"", b"\0" * 100_000], ids=["cut", "filled with zeros"])
def test_truncated_jpeg_is_refused(options, after):
    whole = encoded(picture(RED, 0, width=320, height=240), "JPEG", **options)
    for share in (0.3, 0.6, 0.95):
        with pytest.raises(ImgclfError, match="^a.jpg: the JPEG is truncated; fetch or copy it again$"):
            decoding.decode(whole[: int(share * len(whole))] + after, "a.jpg")


@pytest.mark.parametrize("after", [b"", b"\0\0", b"\r\n", b"a note of the camera", b"\0" * 100_000])
def test_bytes_after_the_end_of_a_jpeg_are_ignored(after):
    whole = encoded(corners(), "JPEG")
    assert difference(decoding.decode(whole + after), decoding.decode(whole)) == 0


@pytest.mark.parametrize("format", ["PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
def test_truncated_file_of_another_format_is_refused(format):
    whole = encoded(picture(RED, 0, width=320, height=240), format)
    with pytest.raises(
        ImgclfError,
        match=r"^a: the \w+ is damaged(; | or of an unusual kind; .*, else )replace or delete it$",
    ):
        decoding.decode(whole[: len(whole) // 2], "a")


def test_tiff_that_points_far_behind_its_end_is_refused():
    whole = encoded(PillowImage.fromarray(corners()), "TIFF", tiffinfo={0x10F: "a maker"})
    start = whole.index(
        b"\x0f\x01\x02\0"
    )  # the entry becomes that of the EXIF data, as an integer of 64 bits
    entry = b"\x69\x87\x10\0" + (1).to_bytes(4, "little") + len(whole).to_bytes(4, "little")
    whole = whole[:start] + entry + whole[start + 12 :] + (2**63 + 8).to_bytes(8, "little")
    with pytest.raises(ImgclfError, match="^a.tif: the TIFF is damaged; replace or delete it$"):
        decoding.decode(whole, "a.tif")


def test_png_without_its_palette_is_refused():
    whole = encoded(PillowImage.fromarray(corners()).convert("P"), "PNG")
    start = whole.index(b"PLTE") - 4
    without = whole[:start] + whole[start + 12 + int.from_bytes(whole[start : start + 4]) :]
    with pytest.raises(ImgclfError, match="^a.png: the PNG is damaged; replace or delete it$"):
        decoding.decode(without, "a.png")


def test_more_than_two_hundred_million_pixels_are_refused_before_decoding():
    header = encoded(PillowImage.new("1", (1, 1)), "PNG")
    huge = header[:16] + (20_000).to_bytes(4) + (10_001).to_bytes(4) + header[24:]
    huge = huge[:29] + zlib.crc32(huge[12:29]).to_bytes(4) + huge[33:]
    with pytest.raises(ImgclfError, match="^a.png: 20000 x 10001 pixels, more than 200,000,000; shrink it$"):
        decoding.decode(huge, "a.png")


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "MPO"])
def test_damaged_bytes_return_pixels_or_raise_an_imgclf_error(format):
    exif = PillowImage.Exif()
    exif[0x112], exif[0x10F] = 6, "a maker"
    whole = np.frombuffer(
        encoded(corners(), format, **({"exif": exif} if format not in ("GIF", "BMP") else {})), np.uint8
    )
    draws = np.random.default_rng(0)
    for _ in range(60):
        damaged = whole.copy()
        damaged[draws.integers(0, min(len(whole), 300), 4)] = draws.integers(0, 256, 4)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's about broken EXIF, which don't name the file
            try:
                assert decoding.decode(damaged.tobytes(), "a").dtype == np.uint8
            except ImgclfError as error:
                assert str(error).startswith("a: ")


@pytest.fixture
def no_heif(monkeypatch):
    """As if pillow-heif were not installed."""
    monkeypatch.setitem(sys.modules, "pillow_heif", None)


def heic(pixels, **options):
    pillow_heif = pytest.importorskip("pillow_heif")
    file = io.BytesIO()
    pillow_heif.from_pillow(PillowImage.fromarray(pixels)).save(file, quality=95, **options)
    return file.getvalue()


def test_heic_of_a_phone_is_decoded_whatever_its_name():
    assert difference(decoding.decode(heic(corners()), "a.jpg"), corners()) <= 12
    found = decoding.header(heic(corners()))
    assert (found.format.suffixes[0], found.width, found.height) == (".heic", 96, 64)


@pytest.mark.parametrize("orientation", AS_STORED)
def test_heic_is_upright(orientation):
    """Its own transformation decides, as the standard says; its EXIF repeats it."""
    pytest.importorskip("pillow_heif").register_heif_opener()
    stored, exif = PillowImage.fromarray(corners()), PillowImage.Exif()
    exif[0x112] = orientation
    if AS_STORED[orientation] is not None:
        stored = stored.transpose(AS_STORED[orientation])
    content = encoded(stored, "HEIF", quality=95, exif=exif.tobytes())
    assert (b"irot" in content or b"imir" in content) == (orientation > 1)
    assert difference(decoding.decode(content), corners()) <= 12


def test_of_several_pictures_in_a_heic_the_primary_one_is_decoded():
    pillow_heif = pytest.importorskip("pillow_heif")
    pictures, file = pillow_heif.from_pillow(PillowImage.new("RGB", (64, 64), BLUE)), io.BytesIO()
    pictures.add_from_pillow(PillowImage.new("RGB", (64, 64), RED))
    pictures.save(file, primary_index=1)
    assert difference(decoding.decode(file.getvalue()), np.full((64, 64, 3), RED, np.uint8)) <= 12


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.95])
def test_truncated_heic_is_refused(share):
    whole = heic(picture(RED, 0, width=320, height=240))
    with pytest.raises(ImgclfError, match="^a: the HEIF is damaged"):
        decoding.decode(whole[: int(share * len(whole))], "a")


def test_without_pillow_heif_a_heic_is_named_with_what_to_install(no_heif):
    with pytest.raises(
        ImgclfError,
        match=r"^a.heic: a HEIC photograph, and pillow-heif is not installed; pip install 'imgclf\[heif\]', or convert it to JPEG$",
    ):
        decoding.decode(HEIC_START, "a.heic")


def test_pillow_heif_is_imported_for_a_heic_only():
    program = (
        "import sys; from imgclf.images import decoding; import numpy\n"
        "decoding.decode(decoding.jpeg(numpy.zeros((8, 8, 3), 'uint8'))); sys.exit('pillow_heif' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


HEIC_START = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(50)


@pytest.mark.parametrize(
    "name",
    [
        "a.jpg",
        "a.JPEG",
        "a.jpe",
        "a.jfif",
        "a.pjpeg",
        "a.PJP",
        "a.png",
        "a.heic",
        "a.HEIF",
        "a.hif",
        "a.tiff",
    ],
)
def test_file_is_an_image_by_its_suffix(tmp_path, name):
    assert decoding.is_image(tmp_path / name)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "MPO"])
def test_file_without_a_suffix_is_an_image_by_its_first_bytes(tmp_path, format):
    (tmp_path / "IMG_0001").write_bytes(encoded(corners(), format))
    assert decoding.is_image(tmp_path / "IMG_0001")
    assert decoding.read(tmp_path / "IMG_0001").shape == (64, 96, 3)


def test_heic_without_a_suffix_is_an_image_even_where_it_cannot_be_decoded(tmp_path, no_heif):
    (tmp_path / "IMG_0001").write_bytes(HEIC_START)
    assert decoding.is_image(tmp_path / "IMG_0001")


@pytest.mark.parametrize("content", [b"", b"BM", b"BMW, Audi and others\n", b"all: run\n", b"%PDF-1.7"])
def test_other_file_without_a_suffix_is_no_image(tmp_path, content):
    (tmp_path / "Makefile").write_bytes(content)
    assert not decoding.is_image(tmp_path / "Makefile")


def test_what_cannot_be_read_is_no_image_without_a_suffix(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/zero")
    for name in ("pipe", "device", "gone"):
        assert not decoding.is_image(tmp_path / name)


def test_header_is_known_before_decoding():
    found = decoding.header(encoded(corners(640, 960), "JPEG"))
    assert (found.format, found.width, found.height, found.is_reducible) == (decoding.JPEG, 960, 640, True)
    assert (found.reduction(100), found.reduction(60), found.reduction(None)) == (4, 8, 1)
    other = decoding.header(encoded(corners(), "PNG"))
    assert (other.format.name, other.is_reducible, other.reduction(1)) == ("PNG", False, 1)


def test_memory_of_a_jpeg_with_several_scans_is_more():
    one, more = (encoded(corners(), "JPEG", subsampling=0, progressive=several) for several in (False, True))
    assert decoding.memory_needed(more) == decoding.memory_needed(one) + 3 * 96 * 64


def riff(*chunks):
    padded = (
        kind + len(content).to_bytes(4, "little") + content + bytes(len(content) % 2)
        for kind, content in chunks
    )
    body = b"WEBP" + b"".join(padded)
    return b"RIFF" + len(body).to_bytes(4, "little") + body


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize(
    ("flags", "kind"), [(8, b"EXIF"), (4, b"XMP "), (32, b"ICCP"), (0, b"abcd"), (44, b"abcd")]
)
def test_webp_with_odd_metadata_is_read(flags, kind):
    whole = encoded(corners(), "WEBP", lossless=True)
    size = bytes([flags, 0, 0, 0]) + (95).to_bytes(3, "little") + (63).to_bytes(3, "little")
    pixels = (b"VP8L", whole[20 : 20 + int.from_bytes(whole[16:20], "little")])
    for content in (b"\xff" * 30, b""):
        parts = (
            [(b"VP8X", size), (kind, content), pixels]
            if kind == b"ICCP"
            else [(b"VP8X", size), pixels, (kind, content)]
        )
        assert (decoding.decode(riff(*parts)) == corners()).all()


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize(
    ("number", "value", "kind"),
    [
        (34675, b"\xff" * 20, 7),
        (700, b"\xff" * 9, 1),
        (34665, 10**8, 4),
        (282, 0.0, 5),
        (296, 77, 3),
        (33723, b"\xff", 7),
        (274, 99, 3),
        (281, float("inf"), 11),
    ],
    ids=["colour profile", "XMP", "EXIF", "resolution", "unit", "IPTC", "orientation", "maximum"],
)
def test_tiff_with_an_odd_tag_is_read(number, value, kind):
    directory = ImageFileDirectory_v2()
    directory.tagtype[number] = kind
    directory[number] = value
    assert (decoding.decode(encoded(corners(), "TIFF", tiffinfo=directory)) == corners()).all()


MEMORY_PROGRAM = """
import re, resource, sys
from pathlib import Path
from PIL import AvifImagePlugin
from imgclf.images import decoding
AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # the stack of a thread counts as memory
encoded, side = Path(sys.argv[1]).read_bytes(), int(sys.argv[2]) or None
needed = decoding.memory_needed(encoded, side=side)
taken = 1024 * int(re.search(r"VmData:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
resource.setrlimit(resource.RLIMIT_DATA, (taken + needed, taken + needed))
print(decoding.decode(encoded, side=side).shape)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is limited in another way here")
@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_image_that_is_too_large_for_the_memory_is_not_called_damaged(tmp_path, format):
    (tmp_path / "image").write_bytes(encoded(corners(4000, 6000), format))
    program = MEMORY_PROGRAM.replace("taken + needed, taken + needed", "taken + 2**24, -1").replace(
        "print(decoding.decode(encoded, side=side).shape)",
        "try: decoding.decode(encoded, 'a')\nexcept Exception as error: print(repr(error))",
    )
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "image", "0"], capture_output=True, text=True, check=False
    )
    assert done.stdout == "ImgclfError('a: too little memory for 6000 x 4000 pixels; shrink it')\n", (
        done.stderr
    )


LARGE = {
    "baseline JPEG": ("JPEG", "RGB", {}),
    "progressive JPEG": ("JPEG", "RGB", {"progressive": True, "subsampling": 0}),
    "progressive JPEG of colours at half the size": ("JPEG", "RGB", {"progressive": True, "subsampling": 2}),
    "CMYK JPEG": ("JPEG", "CMYK", {"progressive": True}),
    "PNG": ("PNG", "RGBA", {"compress_level": 1}),
    "lossless WebP": ("WEBP", "RGBA", {"lossless": True, "method": 0, "quality": 0}),
    "lossy WebP": ("WEBP", "RGB", {"method": 0}),
    "GIF": ("GIF", "P", {}),
    "BMP": ("BMP", "RGB", {}),
    "TIFF": ("TIFF", "RGBA", {"compression": "tiff_lzw"}),
    "floating-point TIFF": ("TIFF", "F", {}),
    "AVIF": ("AVIF", "RGBA", {"speed": 10, "quality": 20}),
    "HEIC": ("HEIF", "RGB", {"quality": 20}),
    "PPM": ("PPM", "RGB", {}),
    "JPEG 2000": ("JPEG2000", "RGB", {"irreversible": True, "quality_layers": [50]}),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "side"),
    [(kind, 0) for kind in (*LARGE, "PNG of 16 bits", "TIFF of 16 bits")]
    + [(kind, 240) for kind in LARGE if LARGE[kind][0] == "JPEG"],
)
def test_decoding_takes_no_more_memory_than_the_header_says(tmp_path, kind, side):
    if not sys.platform.startswith("linux"):
        pytest.skip("memory is limited in another way here")
    if kind == "HEIC":
        pytest.importorskip("pillow_heif").register_heif_opener()
    if kind in LARGE:
        format, mode, options = LARGE[kind]
        content = encoded(PillowImage.fromarray(corners(4000, 4000)).convert(mode), format, **options)
    else:
        deep = np.dstack([corners(4000, 4000), corners(4000, 4000)[:, :, :1]]).astype(np.uint16)
        content = cv2.imencode(".png" if "PNG" in kind else ".tif", 16 * deep)[1].tobytes()
    (tmp_path / "image").write_bytes(content)
    done = subprocess.run(
        [sys.executable, "-c", MEMORY_PROGRAM, tmp_path / "image", str(side)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_large_images_are_decoded_one_at_a_time_and_others_together(monkeypatch):
    content = encoded(corners(640, 960), "JPEG")
    monkeypatch.setattr(decoding, "LARGE_BYTES", decoding.memory_needed(content) - 1)
    with ThreadPoolExecutor(1) as pool:
        with decoding.ONE_LARGE:  # while another thread decodes a large one
            assert pool.submit(decoding.decode, encoded(corners(), "PNG")).result(60).shape == (64, 96, 3)
            assert pool.submit(decoding.decode, content, side=48).result(60).shape == (80, 120, 3)
            waiting = pool.submit(decoding.decode, content)
            with pytest.raises(TimeoutError):
                waiting.result(0.5)
        assert waiting.result(60).shape == (640, 960, 3)


def test_large_files_are_held_one_at_a_time_and_others_together(tmp_path, monkeypatch):
    monkeypatch.setattr(decoding, "LARGE_FILE_BYTES", 1000)
    for name, size in [("small", 1000), ("large", 1001)]:
        (tmp_path / name).write_bytes(bytes(size))

    def size(name):
        with decoding.content(tmp_path / name) as content:
            return len(content)

    with ThreadPoolExecutor(1) as pool:
        with decoding.content(tmp_path / "large"):
            assert pool.submit(size, "small").result(60) == 1000
            waiting = pool.submit(size, "large")
            with pytest.raises(TimeoutError):
                waiting.result(0.5)
        assert waiting.result(60) == 1001


@pytest.mark.parametrize("made_number", [b"\1\x06", b"\1\x1a"], ids=["one odd tag", "another"])
def test_odd_exif_tags_beside_the_orientation_are_ignored(made_number):
    exif = PillowImage.Exif()
    exif[0x112], exif[0x10F] = 6, "a maker"
    whole = encoded(
        PillowImage.fromarray(corners()).transpose(AS_STORED[6]), "WEBP", exif=exif, lossless=True
    )
    odd = whole.replace(
        b"\1\x0f\0\2", made_number + b"\0\2"
    )  # the maker's text under the number of another tag
    assert odd != whole and difference(decoding.decode(odd), corners()) == 0


sides = some.integers(1, 64)
shapes = some.tuples(some.integers(1, 50), some.integers(1, 4000)).flatmap(
    lambda shape: some.sampled_from([shape, shape[::-1]])
)


@settings(max_examples=150, deadline=None)
@given(shape=shapes, side=sides)
def test_letterbox_centres_the_whole_image_on_grey_114(shape, side):
    square = Preprocessing(side).letterbox(np.full((*shape, 3), 255, np.uint8))
    inside = (square == 255).all(axis=2)
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    assert square.shape == (side, side, 3) and (square[~inside] == 114).all()
    assert inside.sum() == len(rows) * len(columns)  # one rectangle
    assert (rows[0], columns[0]) == (
        (side - len(rows)) // 2,
        (side - len(columns)) // 2,
    )  # the extra pixel is below, right
    assert (len(rows), len(columns))[int(np.argmax(shape))] == side
    for found, wanted in zip((len(rows), len(columns)), np.array(shape) * side / max(shape), strict=True):
        assert abs(found - wanted) < 1


def test_letterbox_of_the_right_size_changes_nothing():
    assert (
        Preprocessing(32).letterbox(picture(RED, 0, width=32, height=32))
        == picture(RED, 0, width=32, height=32)
    ).all()


def test_letterbox_downscales_by_area_averaging():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 200
    assert (Preprocessing(16).letterbox(stripes) == 100).all()


def test_apply_is_decode_then_letterbox():
    whole = decoding.jpeg(picture(GREEN, 1, width=300, height=200))
    assert (
        Preprocessing(24).apply(whole) == Preprocessing(24).letterbox(decoding.decode(whole, side=24))
    ).all()
    assert Preprocessing(24).apply(whole).shape == (24, 24, 3)


def test_shrink_never_enlarges():
    assert (
        decoding.shrink(corners(64, 96), 96).shape
        == decoding.shrink(corners(64, 96), 500).shape
        == (64, 96, 3)
    )
    assert decoding.shrink(corners(64, 96), 48).shape == (32, 48, 3)


def test_jpeg_round_trip_keeps_the_colours():
    again = decoding.decode(decoding.jpeg(corners()))
    assert (
        difference(again[8::16, 8::16], corners()[8::16, 8::16]) <= 2
    )  # away from the edges between the colours


def test_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(
        ImgclfError,
        match=r"gone.jpg: No such file or directory; check that it exists and that you may read it$",
    ):
        decoding.read(tmp_path / "gone.jpg")


def fingerprint(folder: Path) -> str:
    """A hash of the pixels of the JPEGs in a folder, downscaled and upscaled, of odd and even sizes."""
    found = hashlib.sha256()
    for path in sorted(folder.glob("*.jpg")):
        for side in (None, 7, 32, 60, 120, 240):
            pixels = decoding.read(path, side=side)
            found.update(pixels.tobytes())
            found.update(Preprocessing(side or 33).letterbox(pixels).tobytes())
    return found.hexdigest()


def test_decoding_is_bit_identical_without_vector_instructions(tmp_path):
    """A second process runs with every instruction set switched off that the libraries can do without."""
    for i, (height, width) in enumerate([(480, 640), (481, 333), (240, 240), (97, 55), (30, 45), (5, 3)]):
        pixels = cv2.resize(
            np.random.default_rng(i).integers(0, 256, (height // 2 + 1, width // 3 + 1, 3)).astype(np.uint8),
            (width, height),
        )
        (tmp_path / f"{i}.jpg").write_bytes(
            encoded(pixels, "JPEG", quality=92, subsampling=2 * (i % 2), progressive=i > 3)
        )
    better = [name.strip("*?") for name in cv2.getCPUFeaturesLine().split() if name.startswith("*")]
    lesser = {
        "OPENCV_CPU_DISABLE": ",".join(better),
        "OPENCV_IPP": "disabled",
        "JSIMD_FORCENONE": "1",
        "NPY_DISABLE_CPU_FEATURES": " ".join(np.show_config("dicts")["SIMD Extensions"].get("found", [])),
    }
    program = (
        "import sys; sys.path[:0] = [sys.argv[1], sys.argv[2]]; import cv2, pathlib, test_decoding\n"
        "print(cv2.getCPUFeaturesLine()); print(test_decoding.fingerprint(pathlib.Path(sys.argv[3])))"
    )
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            program,
            str(Path(__file__).parent),
            str(Path(__file__).parents[1]),
            str(tmp_path),
        ],
        env=os.environ | lesser,
        capture_output=True,
        text=True,
        check=True,
    )
    features, found = done.stdout.splitlines()
    assert all(f"*{name}?" in features.split() or f"*{name}" not in features.split() for name in better)
    assert found == fingerprint(tmp_path)
