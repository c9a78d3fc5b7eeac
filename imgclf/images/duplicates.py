"""Near-duplicates: candidates by a perceptual hash, confirmed by comparing image signatures."""

from collections.abc import Callable, Iterator, Sequence

import cv2
import numpy as np
from PIL import Image as PillowImage

from imgclf.images import quality

HASH_SIDE = 16  # 256 bits, as the tutorial advises
HALVED_SIDE = 192  # pixels of the longer side; larger pictures are halved before they are hashed
NEAR_BITS = 20  # Hamming distance, of 256; unrelated photographs have 30 and more, and the signatures decide
FEWEST_BITS = 8  # flat pictures and small objects on white share a hash with next to no set bits
SIGNATURE_SIDE = 32
TINT_SIDE = 8  # colours survive recompression only at a coarse scale
SIGNATURE_LENGTH = SIGNATURE_SIDE**2 + 3 * TINT_SIDE**2
EVERY = 32  # of a signature each 32nd value is compared first
SIGNATURE_LEVELS = 24  # largest difference between signatures that recompression and resizing cause

BLOCK_HASHES = 256  # compared with all others at once


def dhash(pixels: np.ndarray) -> str:
    """Return the difference hash of a picture, a perceptual hash: 256 bits as 64 hexadecimal digits.

    Each bit says whether a pixel of the picture, at 17 x 16, is darker than its right neighbour.

    Parameters
    ----------
    pixels : (H, W, 3) uint8 array, RGB, upright.

    Source: N. Krawetz, "Kind of Like That", hackerfactor.com, 2013.
    """
    return dhash_of_grey(quality.small_grey(pixels))


def dhash_of_grey(grey: np.ndarray) -> str:
    """Return the `dhash` of a picture whose `quality.small_grey` is known."""
    # Lanczos at once takes three times as long, and finds no more copies.
    picture = PillowImage.fromarray(quality.halved(grey) if max(grey.shape) >= HALVED_SIDE else grey)
    columns = np.asarray(picture.resize((HASH_SIDE + 1, HASH_SIDE), PillowImage.Resampling.LANCZOS))
    return np.packbits(columns[:, 1:] > columns[:, :-1]).tobytes().hex()


def signature(pixels: np.ndarray) -> np.ndarray:
    """Return a small version of the picture, by which near-duplicates are confirmed.

    Parameters
    ----------
    pixels : (H, W, 3) uint8 array, RGB, upright; not decoded at reduced scale, which alone moves sharp edges
        by up to 70 grey levels.

    Returns
    -------
    (1216,) int16 array: 32 x 32 grey levels minus their median, then the RGB of 8 x 8 tiles minus the mean of
    each tile's three.
    """
    grey = cv2.resize(
        cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY),
        (SIGNATURE_SIDE, SIGNATURE_SIDE),
        interpolation=cv2.INTER_AREA,
    ).astype(np.int16)
    tiles = cv2.resize(pixels, (TINT_SIDE, TINT_SIDE), interpolation=cv2.INTER_AREA).astype(np.int16)
    tints = tiles - tiles.sum(axis=2, dtype=np.int16, keepdims=True) // 3
    return np.concatenate([(grey - np.int16(np.median(grey))).ravel(), tints.ravel()])


def signatures_match(one: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Whether a signature differs from others nowhere by more than recompression and resizing cause.

    Parameters
    ----------
    one : (n,) int16, all values of a signature or some. others : (..., n) int16.

    Returns
    -------
    (...) bool array.
    """
    return np.abs(others - one).max(axis=-1) <= SIGNATURE_LEVELS


def close_to_each(hashes: Sequence[str]) -> Iterator[tuple[int, np.ndarray]]:
    """Yield each picture i that has close hashes after it, and which they are: an (m,) int array.

    Close hashes have a Hamming distance of at most `NEAR_BITS`. Hashes with fewer than `FEWEST_BITS` set or
    unset bits say nothing about the picture and are close to none. Every pair is compared, first by the half
    of the bits that describe the middle of the picture: 50,000 hashes take some ten seconds and no index.
    """
    words = np.array([list(bytes.fromhex(text)) for text in hashes], np.uint8).reshape(-1, 32).view(np.uint64)
    set_bits = np.bitwise_count(words).sum(axis=1)
    usable = np.flatnonzero((set_bits >= FEWEST_BITS) & (set_bits <= 256 - FEWEST_BITS))
    words = words[usable]
    middle = np.ascontiguousarray(words[:, 1:3].T)
    for start in range(0, len(words), BLOCK_HASHES):
        rows = slice(start, start + BLOCK_HASHES)
        distance = np.bitwise_count(middle[0, rows, None] ^ middle[0, start:])
        distance += np.bitwise_count(middle[1, rows, None] ^ middle[1, start:])
        may_be_near = np.triu(distance <= NEAR_BITS, k=1)
        for i in np.flatnonzero(may_be_near.any(axis=1)):
            others = start + np.flatnonzero(may_be_near[i])
            near = others[np.bitwise_count(words[others] ^ words[start + i]).sum(axis=1) <= NEAR_BITS]
            if len(near):
                yield int(usable[start + i]), usable[near]


def near_duplicates(
    hashes: Sequence[str], signature_of: Callable[[int], np.ndarray], *, connecting: bool = False
) -> list[tuple[int, int]]:
    """Return the pairs (i, j), i < j, of near-duplicates: close hashes whose signatures match.

    Parameters
    ----------
    hashes : `dhash` of each picture.
    signature_of : returns the `signature` of picture i; called at most once for each picture.
    connecting : only the pairs that connect each cluster, fewer than there are pictures: 10,000 frames of a
        fixed camera have 50 million pairs.
    """
    signatures = np.empty((len(hashes), SIGNATURE_LENGTH), np.int16)
    is_known = np.zeros(len(hashes), bool)
    cluster = np.arange(len(hashes))  # pictures that are connected so far have the same number
    pairs = []
    for i, near in close_to_each(hashes):
        near = near[cluster[near] != cluster[i]] if connecting else near
        if not len(near):
            continue
        for j in (i, *near[~is_known[near]]):
            if not is_known[j]:
                signatures[j], is_known[j] = signature_of(int(j)), True
        for step in (EVERY, 1):  # few values suffice to tell most pictures apart
            near = near[signatures_match(signatures[i, ::step], signatures[near, ::step])]
        if connecting:
            near = near[np.sort(np.unique(cluster[near], return_index=True)[1])]  # one of each cluster
            cluster[np.isin(cluster, cluster[near])] = cluster[i]
        pairs += [(i, int(j)) for j in near]
    return pairs
