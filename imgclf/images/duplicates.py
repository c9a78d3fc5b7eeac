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

PIECES = 11  # of a hash; with NEAR_BITS < 2 * PIECES one of them differs in at most one bit
PIECE_BITS = -(-256 // PIECES)
CROWDED = 256  # hashes that are equal in a table of the index; of more, all are compared with each other hash


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
    """Yield each picture i that has close hashes after it, and which they are: an (m,) int array, ascending.

    Close hashes have a Hamming distance of at most `NEAR_BITS`. Hashes with fewer than `FEWEST_BITS` set or
    unset bits say nothing about the picture and are close to none. All close pairs are found: by an index,
    and those of crowded hashes, which are alike by hundreds, by comparison with each other hash.
    """
    words = np.frombuffer(bytes.fromhex("".join(hashes)), np.uint64).reshape(-1, 4)
    set_bits = np.bitwise_count(words).sum(axis=1)
    usable = np.flatnonzero((set_bits >= FEWEST_BITS) & (set_bits <= 256 - FEWEST_BITS))
    words = words[usable]
    close, is_crowded = _close_by_index(words)
    ends = np.searchsorted(close[:, 0], np.arange(len(words) + 1))
    crowded = np.flatnonzero(is_crowded)
    # By column, as one word of all hashes is compared at a time.
    columns, crowded_columns = np.ascontiguousarray(words.T), np.ascontiguousarray(words[crowded].T)
    for i in range(len(words)) if len(crowded) else np.unique(close[:, 0]).tolist():
        near = close[ends[i] : ends[i + 1], 1]
        if is_crowded[i]:
            near = i + 1 + _close_columns(columns[:, i + 1 :], words[i])
        elif len(crowded):
            first = np.searchsorted(crowded, i)
            others = crowded[first + _close_columns(crowded_columns[:, first:], words[i])]
            near = np.union1d(near, others) if len(others) else near
        if len(near):
            yield int(usable[i]), usable[near]


def _close_columns(columns: np.ndarray, hash_words: np.ndarray) -> np.ndarray:
    """Return which of the hashes, (4, n) uint64, are close to one, (4,); the middle of the picture first."""
    distance = np.bitwise_count(columns[1] ^ hash_words[1])
    distance += np.bitwise_count(columns[2] ^ hash_words[2])
    found = np.flatnonzero(distance <= NEAR_BITS)
    return found[np.bitwise_count(columns[:, found] ^ hash_words[:, None]).sum(axis=0) <= NEAR_BITS]


def _close_by_index(words: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the close pairs i < j of hashes, sorted, and which hashes are crowded; their pairs may lack.

    Of hashes within 20 bits of each other, one of `PIECES` pieces differs in at most one bit. So they are
    equal in one of the tables, each of which holds a piece without one of its bits.

    Parameters
    ----------
    words : (n, 4) uint64.

    Returns
    -------
    (m, 2) int64 array, and (n,) bool array.

    Source: M. Norouzi, A. Punjani and D. Fleet, "Fast Search in Hamming Space with Multi-Index Hashing",
    CVPR 2012.
    """
    found, is_crowded = [np.empty(0, np.int64)], np.zeros(len(words), bool)
    for piece in _pieces(words):
        for bit in range(PIECE_BITS):
            rows = np.flatnonzero(~is_crowded)
            masked = piece[rows] & ~np.uint32(1 << bit)
            order = np.argsort(masked)
            rows, values = rows[order], masked[order]
            several = values[CROWDED:][values[CROWDED:] == values[:-CROWDED]]
            if len(several):
                in_crowd = np.isin(values, several)
                is_crowded[rows[in_crowd]] = True
                rows, values = rows[~in_crowd], values[~in_crowd]
            found += _close_neighbours(words, rows, values)
    codes = np.unique(np.concatenate(found))
    return np.stack(np.divmod(codes, max(1, len(words))), axis=1), is_crowded


def _close_neighbours(words: np.ndarray, rows: np.ndarray, values: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the close pairs i < j among hashes of one value in a table, each as i * n + j.

    Parameters
    ----------
    words : (n, 4) uint64. rows : (m,) int, in the order of their ascending values, (m,) uint32.
    """
    first, step = np.arange(len(rows)), 1
    while len(first):
        first = first[first < len(rows) - step]
        first = first[values[first] == values[first + step]]
        one, other = rows[first], rows[first + step]
        is_close = np.bitwise_count(words[one] ^ words[other]).sum(axis=1) <= NEAR_BITS
        one, other = one[is_close], other[is_close]
        yield np.minimum(one, other) * len(words) + np.maximum(one, other)
        step += 1


def _pieces(words: np.ndarray) -> Iterator[np.ndarray]:
    """Yield pieces of hashes, (n,) uint32; the bits of each are spread over the picture, so they vary."""
    bits = np.unpackbits(words.view(np.uint8), axis=1)
    for number in range(PIECES):
        some = bits[:, number::PIECES]
        yield some @ (np.uint32(1) << np.arange(some.shape[1], dtype=np.uint32))


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
    members: dict[int, list[int]] = {}  # of clusters with several pictures
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
            _join(cluster, members, [int(cluster[j]) for j in (i, *near)])
        pairs += [(i, int(j)) for j in near]
    return pairs


def _join(cluster: np.ndarray, members: dict[int, list[int]], numbers: Sequence[int]) -> None:
    """Give pictures of several clusters the number of the largest; so each one changes only log2(n) times."""
    parts = {number: members.pop(number, [number]) for number in numbers}
    largest = max(parts, key=lambda number: len(parts[number]))
    members[largest] = parts.pop(largest)
    for part in parts.values():
        cluster[part] = largest
        members[largest] += part
