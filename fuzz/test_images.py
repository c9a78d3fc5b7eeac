"""Any bytes decode to pixels or raise an ImgclfError, in time and memory that the limit of pixels bounds."""

import struct
import zlib

import numpy as np
import pytest
from hypothesis import strategies as st
from PIL import Image as PillowImage

from imgclf.images import decoding
from support.mutations import NUMBERS, damaged
from support.pictures import COLOURS, corners, encoded, picture, rotated

pytestmark = pytest.mark.filterwarnings("ignore")  # Pillow's, about damaged tags
MOST_PIXELS = 1_000_000
MODES = ("RGB", "L", "1", "LA", "P", "PA", "RGBA", "CMYK", "I", "I;16", "F", "YCbCr")
OPTIONS: dict[str, list[dict]] = {
    "JPEG": [{"progressive": True}, {"quality": 10, "comment": b"x"}],
    "PNG": [{"interlace": True}, {"bits": 4}],
    "WEBP": [{"lossless": True}],
    "TIFF": [
        {"compression": name} for name in ("tiff_lzw", "jpeg", "tiff_adobe_deflate", "packbits", "group4")
    ],
}


def samples() -> dict[str, list[bytes]]:
    """Real files of each format that is read, in all modes that it takes."""
    pixels = picture(COLOURS["red"], 0, width=40, height=32)
    found: dict[str, list[bytes]] = {known.name: [] for known in decoding.FORMATS}
    for name, contents in found.items():
        for mode in MODES:
            for options in ({}, *OPTIONS.get(name, ())):
                try:
                    contents.append(encoded(in_mode(pixels, mode), name, **options))
                except (OSError, ValueError, KeyError, TypeError):  # this format has no such mode
                    continue
    frames = [PillowImage.fromarray(pixels[::-1].copy()), PillowImage.fromarray(255 - pixels)]
    for name in ("GIF", "WEBP", "PNG", "TIFF", "AVIF"):
        found[name].append(encoded(pixels, name, save_all=True, append_images=frames))
    found["JPEG"].append(encoded(pixels, "MPO", save_all=True, append_images=frames))
    for name in ("JPEG", "PNG", "WEBP", "TIFF"):
        found[name].append(rotated(6, name, corners()))
    return {
        name: contents for name, contents in found.items() if contents
    }  # Pillow may read one and not write it


def in_mode(pixels: np.ndarray, mode: str) -> PillowImage.Image:
    """A Pillow image of any mode."""
    if mode in ("I", "I;16", "F"):
        return PillowImage.fromarray(
            pixels[:, :, 0].astype({"I": np.int32, "I;16": np.uint16, "F": np.float32}[mode])
        )
    return PillowImage.fromarray(pixels).convert(mode)


def is_decoded(files: dict[str, bytes]) -> None:
    (content,) = files.values()
    for side in (None, 8):
        pixels = decoding.decode(content, "image.jpg", side=side, max_pixels=MOST_PIXELS)
        height, width, channels = pixels.shape
        assert (channels, pixels.dtype) == (3, np.uint8) and 0 < height * width <= MOST_PIXELS


def named(contents: st.SearchStrategy[bytes]) -> st.SearchStrategy[dict[str, bytes]]:
    return contents.map(lambda content: {"image": content})


def test_damaged_files_of_each_format(fuzz):
    everything = [damaged(contents) for contents in samples().values()]
    fuzz(named(st.one_of(everything)), is_decoded)


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def test_png_of_random_chunks_with_the_right_checksums(fuzz):
    side = st.sampled_from([1, 7, 32, 32, 32, 1000, 100_000, 2**31 - 1])
    choices = ([8, 8, 8, 16, 4, 2, 1, 3], [0, 2, 2, 3, 4, 6, 1], [0, 0, 0, 1], [0, 0, 0, 1], [0, 0, 1, 2])
    header = st.builds(
        lambda *values: struct.pack(">IIBBBBB", *values), side, side, *map(st.sampled_from, choices)
    )
    kinds = st.sampled_from(
        b"PLTE tRNS gAMA cHRM iCCP sRGB tEXt zTXt iTXt eXIf pHYs acTL fcTL fdAT IDAT IHDR IEND abcd".split()
    )
    bomb = st.integers(0, 26).map(lambda k: b"Comment\0\0" + zlib.compress(bytes(1 << k)))
    content = st.binary(max_size=64) | bomb | damaged([bytes(768), b"II*\0\x08\0\0\0" + bytes(30)])
    others = st.lists(st.builds(chunk, kinds, content), max_size=2).map(b"".join)
    pixels = st.builds(
        lambda count, byte: chunk(b"IDAT", zlib.compress(bytes([byte]) * count)),
        st.sampled_from([10_000, 10_000, 0, 100, 10_000_000]),
        st.integers(0, 4),
    )
    end = st.just(chunk(b"IEND", b""))
    parts = st.tuples(
        st.just(b"\x89PNG\r\n\x1a\n"),
        header.map(lambda values: chunk(b"IHDR", values)),
        others,
        pixels,
        others,
        end,
    )
    fuzz(named(parts.map(b"".join)), is_decoded)


def segments(content: bytes) -> list[bytes]:
    """The segments of a JPEG, each with its marker; a scan has its data with it."""
    parts, at = [], 2
    while at < len(content) - 2:
        end = at + 2 + int.from_bytes(content[at + 2 : at + 4])
        if content[at + 1] == 0xDA:
            while not (content[end] == 0xFF and content[end + 1] not in (0, *range(0xD0, 0xD8))):
                end += 1
        parts.append(content[at:end])
        at = end
    return parts


def test_jpeg_of_shuffled_and_repeated_segments(fuzz):
    parts = [part for content in samples()["JPEG"] for part in segments(content)]
    real = st.sampled_from(samples()["JPEG"]).map(segments)
    some = st.lists(
        st.builds(
            lambda part, times: part * times,
            st.sampled_from(parts) | damaged(parts),
            st.sampled_from([1, 1, 1, 2, 300]),
        ),
        max_size=4,
    )
    whole = st.builds(
        lambda real, at, some: b"\xff\xd8" + b"".join([*real[:at], *some, *real[at:]]) + b"\xff\xd9",
        real,
        st.integers(0, 12),
        some,
    )
    fuzz(named(whole), is_decoded)


TAGS = (254, 256, 257, 258, 259, 262, 266, 273, 274, 277, 278, 279, 284, 292, 317, 320, 322, 323, 324, 325, 330, 332, 338, 339, 347, 513, 514, 530, 34665, 34675)  # fmt: skip


def test_tiff_of_random_tags(fuzz):
    right = {
        256: 32,
        257: 32,
        258: 8,
        259: 1,
        262: 1,
        273: 1000,
        277: 1,
        278: 32,
        279: 1024,
    }  # a grey image of 32 x 32
    value = st.sampled_from([*range(10), 32773, 34712, *NUMBERS]) | st.integers(0, 2**32 - 1)
    kind, count = (
        st.sampled_from([1, 2, 3, 4, 4, 4, 5, 7, 11, 12, 16, 99]),
        st.sampled_from([1, 1, 1, 1, 3, 2**20, 2**32 - 1]),
    )
    other = st.dictionaries(st.sampled_from(TAGS), st.tuples(kind, count, value), max_size=4)

    def tiff(other: dict[int, tuple[int, int, int]], follows: int, pixels: bytes) -> bytes:
        tags = {tag: (4, 1, value) for tag, value in right.items()} | other
        entries = [struct.pack("<HHII", tag, *tags[tag]) for tag in sorted(tags)]
        directory = struct.pack("<H", len(tags)) + b"".join(entries) + struct.pack("<I", follows)
        return (b"II*\0" + struct.pack("<I", 8) + directory).ljust(1000, b"\0") + pixels.ljust(1024, b"\x80")

    fuzz(
        named(
            st.builds(tiff, other, st.sampled_from([0, 0, 0, 8, 100, 2**32 - 1]), st.binary(max_size=1024))
        ),
        is_decoded,
    )
