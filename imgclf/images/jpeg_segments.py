"""JPEG: a file without its metadata, which Pillow may refuse it for; its scans, and their memory."""

import re
from collections.abc import Iterator

START_OF_FRAME = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})  # SOF0 to SOF15
SEQUENTIAL = (0xC0, 0xC1)  # SOF0, SOF1
START_OF_SCAN = 0xDA
MOST_COEFFICIENT_BYTES = 8  # of a pixel: four components
MAX_SCANS = 100  # of an untrusted JPEG; progressive ones have about ten, and each may take seconds
MARKER = re.compile(rb"\xff+([\x01\xc0-\xcf\xd8-\xfe])")
END_OF_IMAGE = 0xD9
WITHOUT_LENGTH = (0x01, 0xD8)
METADATA = frozenset({*range(0xE0, 0xF0), 0xFE})  # APP0 to APP15, comment


def without_metadata(encoded: bytes) -> bytes:
    """Return a JPEG without application segments and comments; Pillow reads its size and checks it whole.

    Not to be decoded: one of the segments says how colours are encoded.
    """
    kept, end = [encoded[:2]], 2
    for marker, start, end in segments(encoded):
        if marker not in METADATA:
            kept.append(encoded[start:end])
    return b"".join([*kept, encoded[end:]])


def segments(encoded: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield marker, start and end of each complete segment up to the first scan; the scan's header too."""
    start = 2
    while start + 4 <= len(encoded) and encoded[start] == 0xFF:
        marker = encoded[start + 1]
        if marker == 0xFF:  # fills up
            start += 1
            continue
        end = start + 2 + int.from_bytes(encoded[start + 2 : start + 4])
        if end > len(encoded):
            return
        yield marker, start, end
        if marker == START_OF_SCAN:
            return
        start = end


def coefficient_bytes(encoded: bytes) -> float:
    """Return the memory that libjpeg holds for each pixel until all scans are decoded, bytes.

    For a JPEG of several scans these are its coefficients, 2 bytes a sample, at whatever scale it is decoded;
    0 for one of a single scan; the most there can be if the header is not understood.
    """
    factors: list[tuple[int, int]] = []  # horizontal and vertical sampling of each component
    is_sequential = True
    for marker, start, end in segments(encoded):
        if marker in START_OF_FRAME:
            factors = [divmod(byte, 16) for byte in encoded[start + 11 : end : 3]]
            is_sequential = marker in SEQUENTIAL
        if marker == START_OF_SCAN and is_sequential and encoded[start + 4] >= len(factors):
            return 0
    if not factors or not all(across and down for across, down in factors):
        return MOST_COEFFICIENT_BYTES
    most = max(across for across, _ in factors) * max(down for _, down in factors)
    return 2 * sum(across * down for across, down in factors) / most


def has_more_scans(encoded: bytes, most: int) -> bool:
    """Whether a JPEG has more than `most` scans; False for another format.

    Scans of a thumbnail in its EXIF data, and of what follows the image in the file, are not counted.
    """
    scans, position = 0, 2
    # Counting bytes is fast, but those after the image may contain the marker too.
    if not encoded.startswith(b"\xff\xd8") or encoded.count(b"\xff\xda") <= most:
        return False
    while scans <= most and (found := MARKER.search(encoded, position)):
        marker, position = found[1][0], found.end()
        if marker == END_OF_IMAGE:
            break
        if marker not in WITHOUT_LENGTH:
            scans += marker == START_OF_SCAN
            position += int.from_bytes(encoded[position : position + 2])
    return scans > most
