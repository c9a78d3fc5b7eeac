"""Folds and growing subsets: clusters undivided, labels in the same shares, fast for many clusters."""

from itertools import pairwise

import numpy as np

from imgclf.svm import folds


class TestPlaces:
    Y = np.array([0] * 40 + [1] * 160)

    def test_each_part_has_the_same_share_of_each_label(self):
        place = folds.places(self.Y, np.arange(200), np.random.default_rng(0))
        for part in range(8):
            rows = (place * 8).astype(int) == part
            assert np.bincount(self.Y[rows]).tolist() == [5, 20]

    def test_a_cluster_lies_in_one_part(self):
        cluster = np.arange(200) // 4
        place = folds.places(self.Y, cluster, np.random.default_rng(0))
        assert all(len(np.unique(place[cluster == one])) == 1 for one in range(50))

    def test_the_smallest_part_has_an_image_of_a_rare_label(self):
        y = np.array([0] * 500 + [1] * 2)
        place = folds.places(y, np.arange(502), np.random.default_rng(0))
        assert set(y[place < 1 / 16]) == {0, 1}


def many(images: int = 12_000) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and clusters of which every fifth has two images."""
    return np.arange(images) % 3, np.minimum(np.arange(images), np.arange(images) // 5 * 5 + 3)


class TestFolds:
    def test_many_clusters_are_divided_into_three_folds_that_hold_out_each_image_once(self):
        y, clusters = many(14_000)
        assert len(np.unique(clusters)) > folds.MANY_CLUSTERS
        found = folds.folds_of(y, clusters, 0)
        assert sorted(np.concatenate([held_out for _, held_out in found])) == list(range(14_000))
        for trained, held_out in found:
            assert not set(clusters[trained]) & set(clusters[held_out])
            np.testing.assert_allclose(np.bincount(y[held_out]), 14_000 / 9, rtol=0.03)

    def test_another_seed_gives_other_folds(self):
        y, clusters = many(14_000)
        first, same, other = (folds.folds_of(y, clusters, seed)[0][1] for seed in (0, 0, 1))
        assert (first == same).all() and set(first) != set(other)


class TestSubsets:
    def test_they_grow_nested_to_all_images_and_keep_clusters_and_shares_of_labels(self, monkeypatch):
        monkeypatch.setattr(folds, "FEWEST", 700)
        y, clusters = many()
        found = folds.subsets(y, clusters, 0)
        np.testing.assert_allclose([len(rows) for rows in found], [750, 3000, 12_000], rtol=0.01)
        for rows, more in pairwise(found):
            assert set(rows) < set(more)
            assert set(np.flatnonzero(np.isin(clusters, clusters[rows]))) == set(rows)
            np.testing.assert_allclose(np.bincount(y[rows]), len(rows) / 3, rtol=0.05)

    def test_few_images_are_not_sampled(self):
        (rows,) = folds.subsets(*many(), 0)
        assert rows.tolist() == list(range(12_000))

    def test_a_sample_has_enough_images_of_each_label_on_average(self):
        y = np.arange(20_000) % 101
        assert [len(rows) for rows in folds.subsets(y, np.arange(20_000), 0)] == [20_000]
        assert len(folds.subsets(y % 100, np.arange(20_000), 0)) == 2
