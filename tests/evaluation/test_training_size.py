"""The learning curve over the number of training images: what is measured, what is predicted, and when nothing can be."""

import tracemalloc

import numpy as np
import pytest

from imgclf import svm
from imgclf.evaluation import training_size
from imgclf.evaluation.training_size import Curve

SIZES = np.array([50.0, 100, 200, 400, 800])
LABELS = ("dress", "hat", "shirt", "skirt")


def overlapping(
    images: int, *, labels: int = 3, copies: int = 1, spread: float = 0.6
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, labels and clusters; each image is there `copies` times, in one cluster."""
    draws, y = np.random.default_rng(0), np.arange(images) % labels
    matrix = np.eye(labels, 12)[y] + draws.normal(0, spread, (images, 12))
    names = np.array([f"label {k}" for k in range(labels)])[y]
    return tuple(each.repeat(copies, 0) for each in (matrix.astype(np.float32), names, np.arange(images)))


def measured(matrix: np.ndarray, labels: np.ndarray, clusters: np.ndarray, *, seed: int = 0) -> Curve:
    clusters = clusters.astype(str)
    search = svm.train(matrix, labels, clusters, c_values=[1.0], seed=seed)
    return training_size.curve(matrix, labels, clusters, search, seed=seed)


def right_by(errors: np.ndarray, y: np.ndarray, *, parts: int = 2, seed: int = 0) -> list[np.ndarray]:
    """Whether images are predicted right, (n, parts) for each size, with errors (k, s) of each label.

    An image that is hard for few training images is hard for many, too.
    """
    draws = np.random.default_rng(seed)
    hard = draws.random(len(y))[:, None]
    noisy = [np.clip(hard + draws.normal(0, 0.02, (len(y), parts)), 0, 1) for _ in range(errors.shape[1])]
    return [one >= error[y, None] for one, error in zip(noisy, errors.T, strict=True)]


def by_power_law(a: list[float], c: list[float], at: np.ndarray) -> np.ndarray:
    return np.array(a)[:, None] * (at / SIZES[0]) ** -0.5 + np.array(c)[:, None]


def test_the_accuracies_of_many_labels_take_little_memory():
    y = np.random.default_rng(0).integers(
        0, 998, 20_000
    )  # the last label, and one in between, without images
    y[y == 3] = 4
    right = np.random.default_rng(1).random((20_000, 1))
    tracemalloc.start()
    (point,) = training_size._points_of(np.array([20_000.0]), right, y, np.arange(20_000), 999)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 10_000_000  # a mask of each label takes 20 MB
    for k in (0, 4, 997):
        assert point.of_label[k].value == right[y == k].mean() and point.of_label[k].images == (y == k).sum()
    assert [point.of_label[k].images for k in (3, 998)] == [0, 0] and len(point.of_label) == 999


def extended(
    a: list[float], c: list[float] = [0.05] * 4, *, images: int = 1200, of_each: int = 300, **options: int
) -> Curve:
    y = np.arange(len(a)).repeat(of_each)
    right = right_by(by_power_law(a, c, SIZES), y, **options)
    return training_size.extended(LABELS[: len(a)], images, SIZES, right, y, np.arange(len(y)))


class TestForecast:
    def test_nearly_all_intervals_contain_the_accuracy_of_a_power_law(self):
        found = [extended([0.4] * 4, seed=seed) for seed in range(12)]
        for number, images in enumerate((2400, 4800)):
            truth = 1 - by_power_law([0.4], [0.05], np.array([images])).item()
            forecasts = [curve.forecasts[number] for curve in found]
            assert {forecast.images for forecast in forecasts} == {images}
            hits = [forecast.interval[0] < truth < forecast.interval[1] for forecast in forecasts]
            assert sum(hits) >= 10  # of 40 seeds, 94 % are
            assert max(high - low for low, high in (forecast.interval for forecast in forecasts)) < 0.1

    def test_a_flat_curve_gains_nothing(self):
        found = extended([0.0] * 4, [0.2] * 4)
        assert found.forecasts[0].gain[1] < 0.01 and not found.gain_most
        assert "0 points more than 1200 images do; which label would gain most is within chance" in str(found)

    def test_images_without_any_error_leave_an_interval(self):
        low, high = extended([0.0] * 4, [0.0] * 4, of_each=20).forecasts[0].interval
        assert 0.9 < low < 0.99 and high <= 1

    def test_few_images_have_a_wider_interval_than_many(self):
        few, many = (extended([0.4] * 4, of_each=each).forecasts[0].interval for each in (60, 600))
        assert few[1] - few[0] > 2 * (many[1] - many[0])

    def test_images_in_clusters_have_a_wider_interval(self):
        y = np.arange(4).repeat(100)
        right = [one.repeat(5, 0) for one in right_by(by_power_law([0.4] * 4, [0.05] * 4, SIZES), y)]
        alone, together = (
            training_size.extended(LABELS, 1200, SIZES, right, y.repeat(5), cluster).forecasts[0].interval
            for cluster in (np.arange(2000), np.arange(400).repeat(5))
        )
        assert together[1] - together[0] > 1.5 * (alone[1] - alone[0])

    def test_parts_that_differ_much_widen_the_interval(self):
        y, errors = np.arange(4).repeat(300), by_power_law([0.4] * 4, [0.05] * 4, SIZES)
        alike = right_by(errors, y)
        different = [one.copy() for one in alike]
        for one in different:
            one[:, 0] |= np.random.default_rng(0).random(len(y)) < 0.3
        widths = [
            np.diff(training_size.extended(LABELS, 1200, SIZES, right, y, np.arange(1200)).forecasts[0].gain)
            for right in (alike, different)
        ]
        assert widths[1] > 1.5 * widths[0]

    def test_it_never_leaves_0_to_1_and_never_falls(self):
        found = extended([0.9, 0.5, 0.1, 0.0], [0.0] * 4)
        curves = np.vstack([found.fitted, found.of_label])
        assert curves.min() >= 0 and curves.max() <= 1
        assert (np.diff(found.of_label) >= 0).all() and (np.diff(found.fitted[1]) >= 0).all()


class TestTheLabelThatGainsMost:
    def test_the_one_that_is_still_rising_is_named(self):
        found = extended([0.1, 0.1, 0.1, 0.9], of_each=500)
        assert found.gain_most == (3,)
        assert "; skirt would gain most, " in str(found)

    def test_two_that_rise_alike_are_both_named(self):
        found = extended([0.9, 0.1, 0.1, 0.9], of_each=500)
        assert sorted(found.gain_most) == [0, 3]
        assert "dress or skirt would gain most" in str(found) or "skirt or dress would gain most" in str(
            found
        )

    def test_none_is_named_where_all_rise_alike(self):
        assert extended([0.5] * 4).gain_most == ()

    def test_of_two_labels_one_is_named_or_none(self):
        assert extended([0.1, 0.9], [0.05] * 2, of_each=500).gain_most == (1,)

    def test_of_two_that_rise_alike_one_is_rarely_named(self):
        named = [bool(extended([0.5, 0.5], [0.05] * 2, seed=seed).gain_most) for seed in range(12)]
        assert sum(named) <= 3  # 10 % are expected: either may be wrong with 5 %


class TestWithoutAForecast:
    def test_five_images_of_each_label_are_measured_and_not_extended(self):
        found = measured(*overlapping(15))
        assert len(found.points) == 1 and not found.forecasts and not found.sizes.size
        assert str(found) == (
            "no forecast: too few independent images; a forecast takes about 24 of each label on average"
        )

    def test_a_single_image_of_each_label_holds_nothing_out(self):
        found = measured(*overlapping(3))
        assert found.points == () and str(found) == "no forecast: too few images to hold any out"

    def test_an_interval_that_says_nothing_is_no_forecast(self):
        found = extended([0.5] * 4, [0.1] * 4, of_each=8)
        assert len(found.points) == 5 and not found.forecasts
        assert str(found).startswith("no forecast: too few images for their noise; with twice as many the ")


class TestMeasuring:
    def test_the_largest_part_is_that_of_the_search_for_c(self):
        matrix, labels, clusters = overlapping(180)
        search = svm.train(matrix, labels, clusters.astype(str), c_values=[1.0])
        found = training_size.curve(matrix, labels, clusters.astype(str), search)
        predicted = np.array(search.head.labels)[search.oof_scores.argmax(axis=1)]
        assert found.points[-1].accuracy.value == (predicted == labels).mean()
        assert found.points[-1].images == 120 and found.images == 180
        assert [point.images for point in found.points] == [15, 30, 60, 120]
        for k, label in enumerate(found.labels):
            recall = (predicted == labels)[labels == label].mean()
            assert found.points[-1].of_label[k].value == recall

    def test_more_images_of_overlapping_labels_are_measured_to_help(self):
        found = measured(*overlapping(400))
        accuracy = [point.accuracy.value for point in found.points]
        assert accuracy[0] + 0.03 < accuracy[-1]
        assert found.forecasts[0].accuracy > accuracy[-1]

    def test_copies_of_an_image_are_never_trained_on_for_one_another(self):
        matrix, labels, clusters = overlapping(150, copies=3)
        labels = np.random.default_rng(0).permutation(labels[::3]).repeat(3)
        accuracy = [point.accuracy.value for point in measured(matrix, labels, clusters).points]
        assert max(accuracy) < 0.45  # chance; with a copy in the training images nearly 1

    def test_the_same_seed_gives_the_same_forecast_and_another_one_another(self):
        images = overlapping(180)
        one, again, other = (measured(*images, seed=seed).forecasts[0].interval for seed in (0, 0, 1))
        assert one == again != other

    def test_a_cluster_of_most_images_of_a_label_leaves_a_curve(self):
        matrix, labels, clusters = overlapping(180)
        clusters[(labels == "label 0") & (clusters < 150)] = 0
        found = measured(matrix, labels, clusters)
        assert found.points and all(np.isfinite(point.accuracy.value) for point in found.points)

    def test_a_few_large_clusters_are_measured_and_not_extended(self):
        matrix, labels, clusters = overlapping(180)
        found = measured(matrix, labels, clusters % 3 + 3 * (clusters // 90))
        assert len(found.points) < 3 and str(found).startswith("no forecast: too few independent images")

    def test_progress_reaches_the_number_of_parts(self):
        matrix, labels, clusters = overlapping(180)
        search, seen = svm.train(matrix, labels, clusters.astype(str), c_values=[1.0]), []
        training_size.curve(
            matrix, labels, clusters.astype(str), search, progress=lambda *at: seen.append(at)
        )
        assert seen == [(done, 10) for done in range(11)]

    @pytest.mark.parametrize("images, fits", [(200, 14), (100_000, 7)])
    def test_many_images_have_fewer_parts(self, images, fits):
        parts = training_size.sizes_of(images, 3)
        assert sum(count for _, count in parts[1:]) == fits
        assert sum(count / fraction for fraction, count in parts[1:]) <= 3  # of the time of the largest
