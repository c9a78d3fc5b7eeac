import sys

import cv2
import numpy as np
import pytest
from scipy.cluster.hierarchy import DisjointSet

from imgclf.images import decoding, duplicates


def scene(seed, *, height=480, width=640):
    """A smooth picture of 7 x 6 soft patches; (height, width, 3) uint8."""
    patches = np.random.default_rng(seed).integers(0, 256, (6, 7, 3)).astype(np.uint8)
    return cv2.resize(patches, (width, height), interpolation=cv2.INTER_CUBIC)


def on_white(colour, *, round_corners=False):
    """A large object in the middle of a white square: a box, or a disc."""
    pixels = np.full((300, 300, 3), 255, np.uint8)
    if round_corners:
        return cv2.circle(pixels, (150, 150), 110, colour, -1)
    return cv2.rectangle(pixels, (40, 40), (260, 260), colour, -1)


def near(*pictures):
    return duplicates.near_duplicates(
        [duplicates.dhash(one) for one in pictures], lambda i: duplicates.signature(pictures[i])
    )


def of_one_signature(hashes):
    """The near-duplicates if only the hashes tell pictures apart."""
    signature = np.zeros(duplicates.SIGNATURE_LENGTH, np.int16)
    return duplicates.near_duplicates(hashes, lambda i: signature)


def a_third(pixels):
    return cv2.resize(pixels, None, fx=1 / 3, fy=1 / 3, interpolation=cv2.INTER_AREA)


def recompressed(pixels):
    return decoding.decode(decoding.jpeg(pixels, quality=40))


def test_dhash_has_a_bit_for_each_pixel_that_is_darker_than_its_right_neighbour():
    ramp = np.repeat(np.linspace(0, 255, 170).astype(np.uint8)[None, :, None], 160, axis=0).repeat(3, axis=2)
    assert duplicates.dhash(ramp) == "f" * 64
    assert duplicates.dhash(ramp[:, ::-1].copy()) == "0" * 64


@pytest.mark.parametrize(
    "change",
    [np.copy, a_third, recompressed, lambda pixels: recompressed(a_third(pixels))],
    ids=["copied", "a third of the size", "recompressed", "both"],
)
@pytest.mark.parametrize("seed", range(5))
def test_changed_copy_is_a_near_duplicate(change, seed):
    assert near(scene(seed), change(scene(seed))) == [(0, 1)]


def test_mirrored_picture_is_not_a_near_duplicate():
    assert near(scene(0), scene(0)[:, ::-1].copy()) == []


def test_unrelated_pictures_are_not_near_duplicates():
    assert near(*(scene(seed) for seed in range(40))) == []


def test_flat_pictures_are_not_near_duplicates():
    assert near(*(np.full((60, 80, 3), grey, np.uint8) for grey in (0, 128, 128, 255))) == []


def test_different_shapes_at_one_place_on_white_are_not_near_duplicates():
    one, other = on_white((90, 90, 90)), on_white((90, 90, 90), round_corners=True)
    assert not duplicates.signatures_match(duplicates.signature(one), duplicates.signature(other))
    assert near(one, other) == []


def test_one_shape_in_two_colours_of_the_same_grey_is_not_a_near_duplicate():
    red, green = on_white((200, 40, 40)), on_white((20, 126, 80))  # both are grey 88
    assert duplicates.dhash(red) == duplicates.dhash(green)
    assert near(red, green) == []


def test_close_hashes_are_those_within_20_of_256_bits():
    first = "ff00" * 16
    others = ["ff00" * 15 + "ff0f", "00ff" * 16, "0f0f" * 3 + "ff00" * 13]  # 4, all and 24 bits from it
    at_20, at_21 = (f"{int(first, 16) ^ (2**bits - 1):064x}" for bits in (20, 21))
    assert of_one_signature([first, *others]) == [(0, 1)]
    assert of_one_signature([first, at_20]) == [(0, 1)] and of_one_signature([first, at_21]) == []
    assert of_one_signature([]) == []


def test_hashes_with_fewer_than_eight_set_or_unset_bits_are_in_no_pair():
    for bits in ("7f", "ff"):
        few = bits.rjust(64, "0")
        many = f"{int(few, 16) ^ (2**256 - 1):064x}"
        assert of_one_signature([few, few]) == ([(0, 1)] if bits == "ff" else [])
        assert of_one_signature([many, many]) == ([(0, 1)] if bits == "ff" else [])


def lines_run(function, *arguments):
    """What a function of duplicates.py returns, and how many lines of that module ran."""
    count = 0

    def trace(frame, event, argument):
        nonlocal count
        if frame.f_code.co_filename != duplicates.__file__:
            return None
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        return function(*arguments), count
    finally:
        sys.settrace(before)


def test_close_hashes_across_blocks_are_found_among_20_000_without_a_loop_over_pairs():
    rows = np.random.default_rng(0).integers(0, 256, (20_000, 32), dtype=np.uint8)
    rows[19_999] = rows[3]
    rows[19_999, 0] ^= 1
    pairs, lines = lines_run(of_one_signature, [row.tobytes().hex() for row in rows])
    assert pairs == [(3, 19_999)]
    assert lines < 5 * len(rows)  # work in Python grows with the hashes; of pairs there are 200 million


def planted(count, *, crowd=0):
    """Random hashes, a twentieth of them 0 to 24 bits from another, and `crowd` of one scene."""
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 256, (count, 32), dtype=np.uint8)
    for i in (*rng.choice(count, count // 20, replace=False), *range(crowd)):
        bits = np.zeros(256, np.uint8)
        bits[rng.choice(256, rng.integers(0, 25), replace=False)] = 1
        rows[i] = rows[0 if i < crowd else rng.integers(count)] ^ np.packbits(bits)
    return rows


def close_by_comparing_all(rows):
    bits = np.unpackbits(rows, axis=1).astype(np.int32)
    distances = bits @ (1 - bits).T + (1 - bits) @ bits.T
    return {(int(i), int(j)) for i, j in np.argwhere(np.triu(distances <= 20, k=1))}


@pytest.mark.parametrize("crowd", [0, 150], ids=["spread", "a crowd of one scene"])
def test_the_index_finds_the_close_hashes_that_a_comparison_of_all_finds(crowd, monkeypatch):
    monkeypatch.setattr(duplicates, "CROWDED", 40)
    rows = planted(1200, crowd=crowd)
    found = list(duplicates.close_to_each([row.tobytes().hex() for row in rows]))
    assert [i for i, _ in found] == sorted({i for i, _ in found})
    assert all(list(near) == sorted({*near}) for _, near in found)
    assert {(i, int(j)) for i, near in found for j in near} == close_by_comparing_all(rows)


def test_the_work_for_a_hash_does_not_grow_with_their_number(monkeypatch):
    counted, count_bits = [], np.bitwise_count
    monkeypatch.setattr(np, "bitwise_count", lambda words: counted.append(words.size) or count_bits(words))
    work = []
    for count in (1_000, 8_000):
        list(duplicates.close_to_each([row.tobytes().hex() for row in planted(count)]))
        work.append(sum(counted) / count)
        counted.clear()
    assert work[1] < 1.5 * work[0] and work[1] < 100  # words; a comparison of all would count 4,000 each


def test_signatures_are_computed_once_and_only_for_pictures_with_a_close_hash():
    computed = []
    hashes = ["ff00" * 16, "00ff" * 16, "ff00" * 16, "ff00" * 16]
    pairs = duplicates.near_duplicates(hashes, lambda i: computed.append(i) or duplicates.signature(scene(0)))
    assert (pairs, computed) == ([(0, 2), (0, 3), (2, 3)], [0, 2, 3])


@pytest.mark.parametrize("kinds", [1, 2], ids=["one scene", "two scenes with close hashes"])
def test_frames_of_a_fixed_camera_are_connected_by_fewer_pairs_than_there_are_frames(kinds):
    rng = np.random.default_rng(0)
    still = [scene(0), cv2.rectangle(scene(0), (100, 100), (140, 120), (255, 255, 255), -1)]
    frames = [
        (still[i % kinds] * rng.uniform(0.95, 1.05) + rng.normal(0, 3, scene(0).shape))
        .clip(0, 255)
        .astype(np.uint8)
        for i in range(24)
    ]
    hashes, signatures = (
        [duplicates.dhash(one) for one in frames],
        [duplicates.signature(one) for one in frames],
    )
    pairs = duplicates.near_duplicates(hashes, signatures.__getitem__, connecting=True)
    clusters = DisjointSet(range(24))
    for one, other in pairs:
        clusters.merge(one, other)
    assert len(pairs) == 24 - kinds and clusters.n_subsets == kinds
    assert {*pairs} < {*duplicates.near_duplicates(hashes, signatures.__getitem__)}


def test_photographs_and_their_small_copies_are_near_duplicates(shared_data):
    photographs = [decoding.read(path) for path in sorted((shared_data / "clothing").rglob("*.jpg"))[::100]]
    found = near(*photographs, *map(a_third, photographs))
    assert all(j == i + len(photographs) for i, j in found) and len(found) >= 0.9 * len(photographs)
