"""Pictures that are the same picture: proposed by a perceptual hash, decided by a second look."""

from collections.abc import Callable, Sequence

import cv2
import imagehash
import numpy as np
from PIL import Image as PillowImage

HASH_SIDE = 16  # 256 bits, as the tutorial advises
NEAR_BITS = 20  # of 256; unrelated photographs stand 30 and more apart, and the second look decides
UNKNOWN_BITS = 8  # flat pictures and small objects on white share a hash with next to no set bits
GLANCE_SIDE = 32
TINT_SIDE = 8  # colours survive recompression only at a coarse scale
GLANCE_LEVELS = 24  # largest difference of a glance that recompression and resizing make

HASHES_AT_ONCE = 512


def dhash(pixels: np.ndarray) -> str:
    """The difference hash of a picture: 256 bits as 64 hexadecimal digits.

    Each bit says whether a pixel of the picture, at 17 x 16, is darker than its right neighbour.

    Parameters
    ----------
    pixels : (H, W, 3) uint8 array, RGB, upright.

    Source: N. Krawetz, "Kind of Like That", hackerfactor.com, 2013; the `imagehash` package.
    """
    return str(imagehash.dhash(PillowImage.fromarray(pixels), hash_size=HASH_SIDE))


def glance(pixels: np.ndarray) -> np.ndarray:
    """The picture as the second look sees it, as one row of int16.

    First 32 x 32 grey levels around their median, then the RGB of 8 x 8 tiles around the mean of each tile's three.
    The picture must not be decoded at reduced scale: that alone moves sharp edges by up to 70 grey levels.
    """
    grey = cv2.resize(
        cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), (GLANCE_SIDE, GLANCE_SIDE), interpolation=cv2.INTER_AREA
    ).astype(np.int16)
    tiles = cv2.resize(pixels, (TINT_SIDE, TINT_SIDE), interpolation=cv2.INTER_AREA).astype(np.int16)
    tints = tiles - tiles.sum(axis=2, dtype=np.int16, keepdims=True) // 3
    return np.concatenate([(grey - np.int16(np.median(grey))).ravel(), tints.ravel()])


def look_same(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two glances differ nowhere by more than recompression and resizing do."""
    return int(np.abs(one - other).max()) <= GLANCE_LEVELS


def close_hashes(hashes: Sequence[str], *, most_bits: int = NEAR_BITS) -> list[tuple[int, int]]:
    """Pairs (i, j), i < j, of hashes that differ in at most `most_bits` of 256 bits.

    Hashes with fewer than `UNKNOWN_BITS` set or unset bits say nothing about the picture and are in no pair.
    Every pair is compared: 100,000 hashes take some ten seconds and need no index.
    """
    words = np.array([list(bytes.fromhex(text)) for text in hashes], np.uint8).reshape(-1, 32).view(np.uint64)
    set_bits = np.bitwise_count(words).sum(axis=1)
    known = np.flatnonzero((set_bits >= UNKNOWN_BITS) & (set_bits <= 256 - UNKNOWN_BITS))
    words = words[known]
    pairs = []
    for start in range(0, len(words), HASHES_AT_ONCE):
        rows = words[start : start + HASHES_AT_ONCE]
        distance = sum(
            np.bitwise_count(rows[:, None, k] ^ words[None, start:, k]).astype(np.uint16) for k in range(4)
        )
        near = np.argwhere(np.triu(distance <= most_bits, k=1))
        pairs += [(int(known[start + i]), int(known[start + j])) for i, j in near]
    return pairs


def near_duplicates(hashes: Sequence[str], glance_of: Callable[[int], np.ndarray]) -> list[tuple[int, int]]:
    """Pairs (i, j), i < j, of near-duplicates: close hashes whose glances look the same.

    Parameters
    ----------
    hashes : `dhash` of each picture.
    glance_of : gives the `glance` of picture i; asked only for pictures with a close hash, once each.
    """
    pairs = close_hashes(hashes)
    glances = {i: glance_of(i) for i in sorted({i for pair in pairs for i in pair})}
    return [(i, j) for i, j in pairs if look_same(glances[i], glances[j])]
