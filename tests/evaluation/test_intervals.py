"""Intervals: published values, limits that can be worked out by hand, and simulated coverage."""

import numpy as np
import pytest
from scipy.special import ndtri
from scipy.stats import beta, binom, binomtest
from sklearn.metrics import roc_auc_score

from imgclf.evaluation import intervals

LEAST = 0.93  # coverage of every 95 % interval
SETS = 1500  # simulated sets of test images; a coverage of 0.945 is measured below 0.925 once in 1,000 times
ERROR = 0.005  # allowed for the simulation: one standard error at 0.95 is 0.0056


def alone(count: int) -> np.ndarray:
    """Each image is its own cluster."""
    return np.arange(count)


def correct_in_clusters(
    draws: np.random.Generator, accuracy: np.ndarray, correlation: float, cluster: np.ndarray
) -> np.ndarray:
    """Whether each image is correct, by a probability of its cluster that is drawn from a beta distribution."""
    if correlation == 0:
        return draws.random(len(cluster)) < accuracy[cluster]
    if correlation == 1:
        return (draws.random(len(accuracy)) < accuracy)[cluster]
    size = (1 - correlation) / correlation
    return draws.random(len(cluster)) < draws.beta(accuracy * size, (1 - accuracy) * size)[cluster]


def coverage(interval, truth: float) -> float:
    """Share of `SETS` intervals that contain the truth; `interval` draws one set of images and returns its interval."""
    found = np.array([interval() for _ in range(SETS)])
    return float(((found[:, 0] <= truth + 1e-9) & (truth - 1e-9 <= found[:, 1])).mean())


def test_every_interval_contains_its_figure():
    draws = np.random.default_rng(0)
    for _ in range(1000):
        n = int(draws.integers(1, 40))
        is_correct, label = draws.random(n) < draws.choice([0, 0.5, 0.95, 1]), draws.geometric(0.4, n)
        cluster, score = draws.integers(0, draws.choice([1, 3, 100]), n), np.round(draws.normal(size=n), 1)
        of_labels = [is_correct[label == one].mean() for one in np.unique(label)]
        found = [
            (is_correct.mean(), intervals.accuracy(is_correct, cluster)),
            (np.mean(of_labels), intervals.average(is_correct, label, cluster)),
        ]
        if 0 < is_correct.sum() < n:
            area = roc_auc_score(is_correct, score)
            found.append((area, intervals.roc_area(score, is_correct, cluster)))
        for value, (low, high) in found:
            assert -1e-9 < low <= value + 1e-9 and value - 1e-9 <= high < 1 + 1e-9 and low < high


class TestProportion:
    @pytest.mark.parametrize(
        ("right", "images", "low", "high"),
        [  # R. G. Newcombe, Statistics in Medicine 17 (1998), table I, method 5
            (81, 263, 0.2527, 0.3676),
            (15, 148, 0.0578, 0.1617),
            (0, 20, 0.0, 0.1684),
            (1, 29, 0.0009, 0.1776),
        ],
    )
    def test_it_is_the_published_interval_of_clopper_and_pearson(self, right, images, low, high):
        found = intervals.accuracy(np.arange(images) < right, alone(images))
        assert found == pytest.approx((low, high), abs=5e-5)

    @pytest.mark.parametrize("images", [8, 17, 50, 200, 500])
    def test_it_contains_every_accuracy_at_least_95_times_in_100(self, images):
        count, truth = np.arange(images + 1), np.linspace(0.5, 0.99, 50)
        low, high = np.array([intervals.proportion(k / images, images) for k in count]).T[:, :, None]
        assert (binom.pmf(count[:, None], images, truth) * ((low <= truth) & (truth <= high))).sum(
            axis=0
        ).min() > 0.95 - 1e-9

    def test_without_images_it_is_unknown(self):
        assert np.isnan(intervals.accuracy(np.zeros(0, bool), alone(0))).all()


class TestClusters:
    def test_images_that_are_copies_count_once(self):
        once = np.arange(20) < 17
        low, high = intervals.accuracy(once.repeat(5), alone(20).repeat(5))
        expected = intervals.accuracy(once, alone(20))
        assert low < expected[0] < expected[1] < high and high - low < 1.35 * (expected[1] - expected[0])

    def test_clusters_of_one_image_change_nothing(self):
        is_correct, shuffled = np.arange(50) < 44, np.random.default_rng(0).permutation(70)[:50]
        label = np.arange(50) % 3
        for interval in (
            lambda cluster: intervals.accuracy(is_correct, cluster),
            lambda cluster: intervals.average(is_correct, label, cluster),
            lambda cluster: intervals.roc_area(np.sin(np.arange(50)), label == 1, cluster),
            lambda cluster: intervals.average_precision(0.7, np.linspace(0.4, 1, 50), cluster),
        ):
            assert interval(shuffled) == interval(alone(50))

    def test_a_single_cluster_says_nothing_about_others(self):
        one, label = np.zeros(30, int), np.arange(30) % 2
        assert intervals.accuracy(np.arange(30) < 28, one) == (0, 1)
        assert intervals.average(np.arange(30) < 28, label, one) == (0, 1)
        assert intervals.roc_area(np.arange(30.0), label == 1, one) == (0, 1)

    def test_all_correct_in_clusters_is_as_many_correct_images_as_clusters(self):
        effect = intervals.design_effect(np.zeros(40), alone(8).repeat(5))
        few = (intervals.design_effect(np.tile([1.0, -1, 1, -1, 0], 8), alone(8).repeat(5))) ** 0.5
        assert effect == pytest.approx(5 * few**2)
        assert few == pytest.approx(2.3646 / 2.0227, abs=1e-4)  # Student's t with 7 and 39 degrees of freedom

    def test_correlation_within_clusters_is_found(self):
        draws, cluster = np.random.default_rng(0), alone(400).repeat(5)
        for correlation in (0, 0.3, 0.6, 1):
            is_correct = correct_in_clusters(draws, np.full(400, 0.8), correlation, cluster)
            found = intervals.intraclass_correlation(is_correct - is_correct.mean(), cluster)
            assert found == pytest.approx(correlation, abs=0.06)

    @pytest.mark.parametrize("correlation", [0, 0.3, 1])
    @pytest.mark.parametrize("size", [5, 10, 20])
    @pytest.mark.parametrize("accuracy", [0.7, 0.95])
    def test_the_interval_of_an_accuracy_covers(self, accuracy, size, correlation):
        draws, cluster = np.random.default_rng(0), np.arange(107) // size
        of_cluster = np.full(cluster[-1] + 1, accuracy)

        def interval():
            return intervals.accuracy(correct_in_clusters(draws, of_cluster, correlation, cluster), cluster)

        assert coverage(interval, accuracy) > LEAST - ERROR

    @pytest.mark.parametrize(("together", "single"), [(60, 60), (30, 90)])
    @pytest.mark.parametrize("accuracy", [0.8, 0.9])
    def test_it_covers_with_one_group_beside_single_images(self, accuracy, together, single):
        draws, cluster = np.random.default_rng(0), np.append(np.zeros(together, int), 1 + alone(single))
        of_cluster = np.full(single + 1, accuracy)

        def interval():
            return intervals.accuracy(correct_in_clusters(draws, of_cluster, 0.3, cluster), cluster)

        assert coverage(interval, accuracy) > LEAST - ERROR

    def test_images_without_a_cluster_do_not_hide_a_correlation(self):
        groups, cluster = np.tile([0.4, -0.6], 10).repeat(5), alone(20).repeat(5)
        singles = np.zeros(300)
        together = intervals.intraclass_correlation(groups, cluster)
        beside = intervals.intraclass_correlation(
            np.append(groups, singles), np.append(cluster, 20 + alone(300))
        )
        assert beside == together == 1


class TestAverage:
    @pytest.mark.parametrize("right", [0, 3, 7, 8])
    def test_it_is_the_interval_of_the_accuracy_for_a_single_label(self, right):
        is_correct, label = np.arange(8) < right, np.full(8, 3)
        for cluster in (alone(8), alone(4).repeat(2)):
            expected = intervals.accuracy(is_correct, cluster)
            assert intervals.average(is_correct, label, cluster) == pytest.approx(expected)

    def test_it_is_the_interval_of_the_accuracy_if_all_labels_have_as_many_images(self):
        is_correct = np.arange(80) < 76
        expected = intervals.accuracy(is_correct, alone(80))
        assert intervals.average(is_correct, np.arange(80) % 10, alone(80)) == pytest.approx(expected)

    @pytest.mark.parametrize(
        ("images", "accuracy"),
        [
            ([31, 28, 48], [0.84, 0.89, 0.98]),
            ([8] * 10, [0.95] * 10),
            ([10, 10], [0.99, 0.99]),
            ([2, 3] * 100, [0.95] * 200),
            ([2, 3] * 100, [0.99, 0.99, 0.5, 0.5] * 50),
            ([50] * 9 + [2], [0.98] * 9 + [0.5]),  # the rare label is hard
            ([98, 2], [0.8, 0.99]),  # it is easy
        ],
    )
    def test_it_covers(self, images, accuracy):
        draws, label = np.random.default_rng(0), np.arange(len(images)).repeat(images)
        probability, cluster = np.repeat(accuracy, images), alone(sum(images))

        def interval():
            return intervals.average(draws.random(len(label)) < probability, label, cluster)

        assert coverage(interval, np.mean(accuracy)) > LEAST - ERROR

    def test_a_rare_hard_label_beside_large_easy_ones_gives_the_width(self):
        images = np.array([100] + [1000] * 9)
        label, is_correct = alone(10).repeat(images), np.arange(images.sum()) >= 10
        low, high = intervals.average(is_correct, label, alone(len(label)))
        of_hard_label = intervals.accuracy(is_correct[:100], alone(100))
        assert high - low > 0.95 * (of_hard_label[1] - of_hard_label[0]) / 10

    @pytest.mark.parametrize("correlation", [0, 0.3, 1])
    def test_it_covers_with_clusters_of_five_in_ten_labels_of_20(self, correlation):
        draws, cluster = np.random.default_rng(0), alone(40).repeat(5)
        of_label = np.array([0.99, 0.7] * 5)

        def interval():
            is_correct = correct_in_clusters(draws, of_label.repeat(4), correlation, cluster)
            return intervals.average(is_correct, alone(10).repeat(20), cluster)

        assert coverage(interval, of_label.mean()) > LEAST - ERROR

    @pytest.mark.parametrize("sizes", [[20] * 3, [10] * 6, [40] + [1] * 20])
    def test_it_covers_where_only_the_hard_label_has_groups(self, sizes):
        draws, cluster = np.random.default_rng(0), alone(len(sizes) + 120).repeat(sizes + [1] * 120)
        of_label, label = np.array([0.8, 0.9, 0.95]), alone(3).repeat(60)
        of_cluster = of_label[label[np.unique(cluster, return_index=True)[1]]]

        def interval():
            is_correct = correct_in_clusters(draws, of_cluster, 0.3, cluster)
            return intervals.average(is_correct, label, cluster)

        assert coverage(interval, of_label.mean()) > LEAST - ERROR


class TestRocArea:
    def test_equal_scores_count_half(self):
        low, high = intervals.roc_area(np.zeros(20), np.arange(20) < 10, alone(20))
        assert low + high == pytest.approx(1) and 0.2 < low < 0.3

    def test_a_perfect_ranking_is_not_certain(self):
        low, high = intervals.roc_area(np.arange(16.0), np.arange(16) > 7, alone(16))
        assert high == 1 and 0.6 < low < 0.8
        low, high = intervals.roc_area(-np.arange(16.0), np.arange(16) > 7, alone(16))
        assert low == 0 and 0.2 < high < 0.4

    @pytest.mark.parametrize("area", [0.86, 0.98])
    @pytest.mark.parametrize(("positive", "negative"), [(8, 8), (5, 30), (30, 76)])
    @pytest.mark.parametrize("spread", [0.5, 1, 2])
    def test_it_covers(self, positive, negative, area, spread):
        draws, is_label = np.random.default_rng(0), np.arange(positive + negative) < positive
        shift, width = ndtri(area) * np.sqrt(1 + spread**2), np.where(is_label, spread, 1)

        def interval():
            score = draws.normal(size=len(is_label)) * width + shift * is_label
            return intervals.roc_area(score, is_label, alone(len(is_label)))

        assert coverage(interval, area) > LEAST - ERROR

    @pytest.mark.parametrize("groups", [20, 40])
    def test_it_covers_with_groups_of_both_sides(self, groups):
        draws, cluster = np.random.default_rng(0), alone(groups).repeat(10)
        is_label = np.arange(10 * groups) % 2 == 0

        def scores(ease, is_label):  # an easy group moves both sides apart
            return np.where(is_label, 1, -1) * np.maximum(0, ease) + draws.normal(size=len(is_label))

        many = np.arange(200_000) % 2 == 0
        truth = roc_auc_score(many, scores(draws.normal(0.7, 1, len(many)), many))

        def interval():
            score = scores(draws.normal(0.7, 1, groups)[cluster], is_label)
            return intervals.roc_area(score, is_label, cluster)

        assert coverage(interval, truth) > LEAST - ERROR


def test_an_average_precision_is_a_share_of_the_images_with_the_label():
    precision = np.linspace(0.5, 1, 30)
    expected = binomtest(24, 30).proportion_ci(method="exact")
    assert intervals.average_precision(0.8, precision, alone(30)) == pytest.approx(tuple(expected))
    assert intervals.average_precision(1.0, np.ones(30), alone(30)) == pytest.approx(
        (beta.ppf(0.025, 30, 1), 1)
    )


@pytest.mark.parametrize(
    ("gained", "lost", "images", "expected"),
    [(0, 0, 98, (-0.0277, 0.0277)), (8, 0, 98, (0.0200, 0.1400)), (0, 8, 98, (-0.1400, -0.0200))],
)
def test_the_interval_of_a_paired_difference_follows_the_formula_of_the_paper(gained, lost, images, expected):
    # by hand: 0.08 more or less 1.96 sqrt((0.09 + 0.01 - 0.08²) / 100)
    np.testing.assert_allclose(intervals.paired_difference(gained, lost, images), expected, atol=1e-4)


def test_clusters_widen_the_interval_of_a_paired_difference():
    low, high = intervals.paired_difference(5, 5, 98)
    wider_low, wider_high = intervals.paired_difference(5, 5, 98, design_effect=4)
    assert (wider_high - wider_low) / (high - low) == pytest.approx(2)
