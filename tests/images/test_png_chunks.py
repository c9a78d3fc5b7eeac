"""PNGs whose pixels are good are read, whatever is wrong with their other chunks."""

import zlib

import pytest
from PIL import Image as PillowImage

from imgclf import ImgclfError
from imgclf.images import decoding, png_chunks
from support.pictures import AS_STORED, corners, encoded, png_chunk, rotated

AFTER_HEADER = 8 + 25
COMPRESSED_200_MB = zlib.compress(bytes(200_000_000))
EXIF = bytes.fromhex("4d4d002a00000008000101120003000000010006000000000000")  # orientation 6


def with_chunks(*chunks, content=None):
    content = content or encoded(corners(), "PNG")
    return content[:AFTER_HEADER] + b"".join(chunks) + content[AFTER_HEADER:]


def wrong_checksum(kind, content):
    chunk = png_chunk(kind, content)
    return chunk[:-1] + bytes([chunk[-1] ^ 1])


HARMLESS = {
    "a text of 2 MB, compressed": png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"x" * 2_000_000)),
    "a text of 200 MB, compressed": png_chunk(b"zTXt", b"Comment\0\0" + COMPRESSED_200_MB),
    "an international text of 200 MB": png_chunk(b"iTXt", b"Comment\0\1\0\0\0" + COMPRESSED_200_MB),
    "an orientation of 200 MB": png_chunk(b"zTXt", b"Raw profile type exif\0\0" + COMPRESSED_200_MB),
    "XMP of 200 MB": png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + COMPRESSED_200_MB),
    "a text that is not compressed as it says": png_chunk(b"zTXt", b"Raw profile type exif\0\0no zlib"),
    "a text without a keyword's end": png_chunk(b"iTXt", b"XML:com.adobe.xmp"),
    "an orientation that is none": png_chunk(b"tEXt", b"Raw profile type exif\0\nexif\n 4\nxyz!"),
    "70 texts of 1 MB": png_chunk(b"zTXt", b"XML\0\0" + zlib.compress(bytes(1_000_000))) * 70,
    "a colour profile of 200 MB": png_chunk(b"iCCP", b"icc\0\0" + COMPRESSED_200_MB),
    "a colour profile of another compression": png_chunk(b"iCCP", b"icc\0\7x"),
    "an empty colour profile": png_chunk(b"iCCP", b""),
    "a short density": png_chunk(b"pHYs", b"\0"),
    "a short gamma": png_chunk(b"gAMA", b"\0"),
    "short chromaticities": png_chunk(b"cHRM", b"\0"),
    "an empty intent": png_chunk(b"sRGB", b""),
    "damaged EXIF": png_chunk(b"eXIf", b"MM\0*\0\0\0\xff\xff"),
    "a frame control that is too short": png_chunk(b"acTL", b"\0\0\0\2\0\0\0\0") + png_chunk(b"fcTL", b"\0"),
    "an unknown chunk": png_chunk(b"prVt", b"\xff" * 100),
    **{
        f"a wrong checksum in {kind.decode()}": wrong_checksum(kind, content)
        for kind, content in {
            b"tEXt": b"Comment\0hello",
            b"iCCP": b"icc\0\0" + zlib.compress(b"x"),
            b"gAMA": b"\0\0\xb1\x8f",
            b"pHYs": bytes(9),
            b"eXIf": EXIF,
            b"tIME": bytes(7),
        }.items()
    },
}


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("kind", HARMLESS)
def test_png_with_an_odd_chunk_beside_its_pixels_is_read(kind):
    assert (decoding.decode(with_chunks(HARMLESS[kind])) == corners()).all()
    whole = encoded(corners(), "PNG")
    assert (decoding.decode(whole[:-12] + HARMLESS[kind] + whole[-12:]) == corners()).all()


@pytest.mark.parametrize(
    "after", [b"\0" * 100, b"a note", b"PK\3\4" + bytes(1000), encoded(corners(), "JPEG")]
)
def test_bytes_after_the_end_of_a_png_are_ignored(after):
    assert (decoding.decode(encoded(corners(), "PNG") + after) == corners()).all()


@pytest.mark.parametrize("kind", [b"IHDR", b"PLTE", b"tRNS"])
def test_wrong_checksum_of_what_pixels_depend_on_is_refused(kind):
    palette = PillowImage.fromarray(corners()).convert("P")
    whole = bytearray(encoded(palette, "PNG", transparency=0))
    end = next(end for found, _, end in png_chunks.chunks(whole) if found == kind)
    whole[end - 1] ^= 1
    with pytest.raises(ImgclfError, match="^a: the PNG is damaged"):
        decoding.decode(bytes(whole), "a")


@pytest.mark.parametrize("orientation", AS_STORED)
@pytest.mark.parametrize(
    "chunk",
    [
        lambda exif: png_chunk(b"eXIf", exif),
        lambda exif: png_chunk(b"tEXt", b"Raw profile type exif\0" + imagemagick(exif)),
        lambda exif: png_chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(imagemagick(exif))),
        lambda exif: png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp(exif)),
        lambda exif: png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(xmp(exif))),
    ],
    ids=["EXIF", "ImageMagick", "ImageMagick, compressed", "XMP", "XMP, compressed"],
)
def test_orientation_is_kept_wherever_a_png_has_it(orientation, chunk):
    stored = stored_as(orientation)
    exif = EXIF.replace(b"\0\6\0\0\0\0", bytes([0, orientation, 0, 0, 0, 0]))
    decoded = decoding.decode(with_chunks(chunk(exif), content=encoded(stored, "PNG")))
    assert decoded.shape == corners().shape and (decoded == corners()).all()


def stored_as(orientation):
    picture = PillowImage.fromarray(corners())
    return picture if AS_STORED[orientation] is None else picture.transpose(AS_STORED[orientation])


def imagemagick(exif):
    return b"\nexif\n%8d\n" % (len(exif) + 6) + (b"Exif\0\0" + exif).hex().encode()


def xmp(exif):
    return b'<x:xmpmeta><rdf:Description tiff:Orientation="%d"/></x:xmpmeta>' % exif[19]


def test_a_png_is_reduced_to_what_pixels_depend_on():
    whole = rotated(6, "PNG", corners(), icc_profile=b"x" * 500)
    kept = png_chunks.without_metadata(with_chunks(png_chunk(b"tEXt", b"a\0b"), content=whole))
    assert [kind for kind, _, _ in png_chunks.chunks(kept)] == [b"IHDR", b"eXIf", b"IDAT", b"IEND"]


def test_first_frame_of_an_animated_png_is_its_default_picture():
    frames = [PillowImage.new("RGB", (16, 16), colour) for colour in ("red", "blue", "green")]
    for has_default in (False, True):
        content = encoded(
            frames[0], "PNG", save_all=True, append_images=frames[1:], default_image=has_default
        )
        assert decoding.decode(content)[0, 0].tolist() == [255, 0, 0]
