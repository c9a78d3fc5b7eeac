import numpy as np
import pytest

from imgclf.features import neighbours as nearest
from imgclf.features.neighbours import CLOSEST, NEIGHBOURS, neighbours


def drawn(count: int, *, dimensions: int = 64) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, dimensions)).astype(np.float32) + 3


def test_neighbours_are_pairs_of_the_closest_descriptors():
    descriptors = drawn(600)
    descriptors[599] = descriptors[0] * 2
    pairs = neighbours(descriptors)
    assert [0, 599] in pairs.tolist()
    vectors = nearest.whitened(descriptors)
    cosines = vectors @ vectors.T - 2 * np.eye(600)
    nearest_first = np.argsort(-cosines, axis=1).tolist()
    is_near = [set(row[:NEIGHBOURS]) for row in nearest_first]
    is_closest = [set(row[:CLOSEST]) for row in nearest_first]
    assert pairs.tolist() == [
        [i, j]
        for i in range(600)
        for j in range(i + 1, 600)
        if (j in is_near[i] and i in is_near[j]) or j in is_closest[i] or i in is_closest[j]
    ]
    assert neighbours(descriptors[:3]).tolist() == [[0, 1], [0, 2], [1, 2]]
    assert [neighbours(descriptors[:count]).shape for count in (0, 1, 2)] == [(0, 2), (0, 2), (1, 2)]


def test_whitened_descriptors_have_the_same_variance_in_all_directions():
    pytest.importorskip("sklearn")
    from sklearn.decomposition import PCA
    from sklearn.preprocessing import normalize

    for count in (100, 400):  # fewer and more than there are dimensions
        descriptors = drawn(count, dimensions=200)
        expected = normalize(PCA(count // 4, whiten=True).fit_transform(normalize(descriptors)))
        found = nearest.whitened(descriptors)
        assert np.abs(found @ found.T - expected @ expected.T).max() < 1e-3


def test_two_images_are_a_pair_though_only_one_was_compared_with_the_other(monkeypatch):
    monkeypatch.setattr(nearest, "CLOSEST", 1)
    found = np.array([[3, 1], [2, 4], [1, 4], [0, 2], [2, -1]], np.int32)
    cosines = np.array([[0.95, 0.9], [0.97, 0.3], [0.97, 0.5], [0.95, 0.4], [0.5, -np.inf]], np.float32)
    # 1 was not compared with 0, which is closer than 4. 2 is near 3, but two others are closer to 2.
    assert nearest._pairs(found, cosines).tolist() == [[0, 1], [0, 3], [1, 2], [1, 4], [2, 4]]


def test_near_copies_among_many_images_are_found_by_clusters(monkeypatch):
    descriptors = drawn(4000)
    descriptors[2000:2500] = descriptors[:500] + 0.3 * drawn(500)[::-1]
    exact = {tuple(pair) for pair in neighbours(descriptors).tolist()}
    monkeypatch.setattr(nearest, "ALL", 1000)
    monkeypatch.setattr(nearest, "CLUSTER", 50)
    found = neighbours(descriptors)
    assert (found[:, 0] < found[:, 1]).all() and found.tolist() == neighbours(descriptors).tolist()
    planted = {(i, 2000 + i) for i in range(500)}
    assert len(planted & {tuple(pair) for pair in found.tolist()}) >= 0.98 * len(planted & exact)


def test_the_comparisons_of_many_images_that_look_the_same_stay_few(monkeypatch):
    monkeypatch.setattr(nearest, "CLUSTER", 50)
    same = np.ones((4000, 8), np.float32)
    parts = list(nearest._parts(same))
    assert max(len(members) for _, members in parts) <= 100
    assert sum(len(rows) for rows, _ in parts) == 4000 * nearest.CLUSTERS
