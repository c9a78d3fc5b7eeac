"""PNG: a file without the chunks that no pixel depends on, which Pillow would refuse the whole image for."""

import zlib
from collections.abc import Iterator

SIGNATURE = b"\x89PNG\r\n\x1a\n"
ORIENTATION_TEXTS = (
    b"Raw profile type exif",
    b"XML:com.adobe.xmp",
)  # keywords, as ImageMagick and Adobe write
MAX_TEXT_BYTES = 2**20  # Pillow's limit of a text, uncompressed


def without_metadata(encoded: bytes) -> bytes:
    """Return a PNG with nothing but the pixels of its first frame and the EXIF orientation.

    Pillow refuses an image for a text or colour profile above its limits, for a wrong checksum in any chunk,
    and for a malformed one. Colour profiles, texts and further frames change no pixel here. As in libpng, a
    chunk with a wrong checksum is dropped if it is not critical. What follows the end of the image goes too.
    """
    kept: list[bytes] = [SIGNATURE]
    seen: set[bytes] = set()
    end = len(SIGNATURE)
    for kind, start, end in chunks(encoded):
        is_critical = kind[:1].isupper() or kind == b"tRNS"
        content = encoded[start + 8 : end - 4]
        if is_critical or (_is_orientation(kind, content, seen) and _checksum_is_right(encoded, start, end)):
            kept.append(encoded[start:end])
        if kind == b"IEND":
            return b"".join(kept)
    return b"".join([*kept, encoded[end:]])  # truncated: Pillow says so


def chunks(encoded: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield type, start and end of each complete chunk; `encoded` begins with `SIGNATURE`."""
    start = len(SIGNATURE)
    while start + 12 <= len(encoded):
        end = start + 12 + int.from_bytes(encoded[start : start + 4])
        if end > len(encoded):
            return
        yield encoded[start + 4 : start + 8], start, end
        start = end


def significant_bits(encoded: bytes) -> int:
    """Return the largest number of bits that the chunk sBIT names; 0 without one."""
    for kind, start, end in chunks(encoded):
        if kind == b"sBIT":
            return max(encoded[start + 8 : end - 4], default=0)
        if kind == b"IDAT":
            break
    return 0


def _checksum_is_right(encoded: bytes, start: int, end: int) -> bool:
    return zlib.crc32(encoded[start + 4 : end - 4]) == int.from_bytes(encoded[end - 4 : end])


def _is_orientation(kind: bytes, content: bytes, seen: set[bytes]) -> bool:
    """Whether a chunk may hold the orientation: EXIF, or the first text of a keyword, within the limit."""
    if kind == b"eXIf":
        return True
    keyword, _, text = content.partition(b"\0")
    if kind not in (b"tEXt", b"zTXt", b"iTXt") or keyword not in ORIENTATION_TEXTS or keyword in seen:
        return False
    seen.add(keyword)
    if kind == b"zTXt":
        return _inflates_within_limit(text[1:])
    if kind == b"iTXt" and text[:1] == b"\1":
        return _inflates_within_limit(text[2:].split(b"\0", 2)[-1])
    return len(text) <= MAX_TEXT_BYTES


def _inflates_within_limit(compressed: bytes) -> bool:
    inflater = zlib.decompressobj()
    try:
        inflater.decompress(compressed, MAX_TEXT_BYTES)
    except zlib.error:
        return False
    return not inflater.unconsumed_tail
