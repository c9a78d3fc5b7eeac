"""ROC and precision-recall curves: counted by eye, and against scikit-learn."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

from imgclf import ImgclfError
from imgclf.evaluation import curves, metrics
from imgclf.evaluation.metrics import Evaluation
from support.evaluations import by_hand, certain, drawn

FOUR = certain([0.6, 0.7, 0.7, 0.9], [False, True, False, True])


def with_scores(is_label: list[bool], score: list[float], *, seed: int = 0) -> Evaluation:
    """Two labels, "no" and "yes"; `score` is that of "yes"."""
    scores = np.stack([-np.array(score), score], axis=1)
    return Evaluation(
        ("no", "yes"), tuple(map(str, range(len(score)))), np.array(is_label, int), scores, scores, seed
    )


def with_ties(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Whether each of 60 images has the label, and its score, of which many are equal."""
    draws = np.random.default_rng(seed)
    return draws.random(60) < 0.4, np.round(draws.normal(size=60), 1)


def few_with_ties() -> tuple[np.ndarray, np.ndarray]:
    """Of 30 images the first 12 have the label; their scores are whole numbers."""
    is_label = np.arange(30) < 12
    return is_label, np.round(np.random.default_rng(1).normal(size=30) + is_label)


class TestRoc:
    def test_auc_is_the_probability_that_an_image_of_the_label_scores_higher(self):
        roc = curves.roc(with_scores([True, True, False, False], [0.9, 0.4, 0.5, 0.1]), "yes")
        assert roc.auc == 0.75  # 3 of the 4 pairs are in order
        assert (roc.false_positive_rate[-1], roc.true_positive_rate[-1]) == (1, 1)

    @pytest.mark.parametrize("seed", range(3))
    def test_auc_is_that_of_scikit_learn_also_with_ties(self, seed):
        is_label, score = with_ties(seed)
        evaluation = with_scores(is_label, score)
        assert curves.roc(evaluation, "yes").auc == pytest.approx(roc_auc_score(is_label, score))
        assert curves.roc(evaluation, "no").auc == pytest.approx(roc_auc_score(~is_label, -score))

    def test_its_interval_is_wider_for_images_in_clusters(self):
        evaluation = with_scores(*few_with_ties())
        clustered = replace(evaluation, cluster=tuple(str(row // 3) for row in range(30)))
        for curve in (curves.roc, curves.precision_recall):
            alone, together = curve(evaluation, "yes").interval, curve(clustered, "yes").interval
            assert together[0] < alone[0] < alone[1] < together[1]

    def test_a_score_of_minus_infinity_counts_as_the_lowest(self):
        unknown = with_scores([True, False, True, False], [0.9, -np.inf, 0.4, 0.5])
        low = with_scores([True, False, True, False], [0.9, -99, 0.4, 0.5])
        assert curves.roc(unknown, "yes").auc == curves.roc(low, "yes").auc == 0.75
        assert curves.roc(unknown, "yes").interval == curves.roc(low, "yes").interval
        assert curves.average_auc(unknown, "micro") == curves.average_auc(low, "micro")

    def test_average_auc_is_over_the_labels_or_over_all_decisions(self):
        evaluation = by_hand()
        macro = np.mean([curves.roc(evaluation, label).auc for label in "abc"])
        assert curves.average_auc(evaluation, "macro") == pytest.approx(macro)
        # (7/10 + 17/20) / 2: one step of the curve
        assert curves.average_auc(evaluation, "micro") == pytest.approx(0.775)

    def test_a_label_that_all_images_or_none_have_has_no_curve(self):
        assert curves.roc(by_hand(truth=list("aab"), predicted=list("aab")), "c") is None
        assert curves.roc(by_hand(truth=list("aa"), predicted=list("ab")), "a") is None


class TestRocByProbability:
    def test_images_that_reach_a_threshold_are_positive(self):
        curve = curves.roc_by_probability(FOUR, "a")
        assert curve.threshold.tolist() == [np.inf, *np.array([0.9, 0.7, 0.6], np.float32)]
        assert curve.true_positive_rate.tolist() == [0, 0.5, 1, 1]
        assert curve.false_positive_rate.tolist() == [0, 0, 0.5, 1]

    def test_it_differs_from_the_curve_by_score(self):
        # The first image has the higher score for "a", the second the higher probability of it.
        scores = np.array([[2.0, 1.9], [1.0, -5.0]])
        evaluation = metrics.evaluate(["a", "b"], ["1", "2"], ["b", "a"], scores, softmax(scores, axis=1))
        assert curves.roc(evaluation, "a").auc == 0
        assert curves.roc_by_probability(evaluation, "a").true_positive_rate.tolist() == [0, 1, 1]
        assert curves.roc_by_probability(evaluation, "a").false_positive_rate.tolist() == [0, 0, 1]

    @pytest.mark.parametrize("seed", range(3))
    def test_it_has_the_points_of_scikit_learn(self, seed):
        evaluation = drawn(seed)
        false, true, threshold = roc_curve(
            evaluation.truth == 2, evaluation.probabilities[:, 2], drop_intermediate=False
        )
        curve = curves.roc_by_probability(evaluation, "label 2")
        np.testing.assert_array_equal(
            [curve.false_positive_rate, curve.true_positive_rate, curve.threshold], [false, true, threshold]
        )

    @pytest.mark.parametrize("threshold", [0, 0.1, 0.25, 0.5, 0.7, 0.999, 1])
    @pytest.mark.parametrize("seed", range(3))
    def test_operating_points_lie_exactly_on_the_curves(self, seed, threshold):
        evaluation = drawn(seed)
        points = curves.operating_points(evaluation, threshold).tolist()
        for label, point in zip(evaluation.labels, points, strict=True):
            curve = curves.roc_by_probability(evaluation, label)
            on_curve = list(
                zip(curve.false_positive_rate.tolist(), curve.true_positive_rate.tolist(), strict=True)
            )
            assert tuple(point) == on_curve[(curve.threshold >= threshold).sum() - 1]

    def test_above_one_half_the_operating_points_are_the_rates_of_the_predicted_labels(self):
        evaluation, threshold = drawn(1), 0.6
        is_accepted = evaluation.probabilities.max(axis=1) >= threshold
        predicted = np.where(is_accepted, evaluation.predicted, -1)
        for k, (false, true) in enumerate(curves.operating_points(evaluation, threshold)):
            assert true == (predicted[evaluation.truth == k] == k).mean()
            assert false == (predicted[evaluation.truth != k] == k).mean()

    def test_a_label_that_all_images_or_none_have_has_no_curve_and_no_point(self):
        evaluation = by_hand(truth=list("aab"), predicted=list("aab"))
        assert curves.roc_by_probability(evaluation, "c") is None
        assert np.isnan(curves.operating_points(evaluation, 0.5)).tolist() == [
            [False] * 2,
            [False] * 2,
            [True] * 2,
        ]
        assert curves.roc_by_probability(by_hand(truth=list("aa"), predicted=list("ab")), "a") is None

    @pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan")])
    def test_a_threshold_that_is_no_probability_is_refused(self, threshold):
        with pytest.raises(ImgclfError, match=r"threshold=.*: not a probability; choose .* between 0 and 1"):
            curves.operating_points(FOUR, threshold)


class TestPrecisionRecall:
    def test_points_are_counted_from_the_highest_score_down(self):
        curve = curves.precision_recall(with_scores([True, False, True, False], [0.9, 0.5, 0.4, 0.1]), "yes")
        assert curve.precision.tolist() == [1 / 2, 2 / 3, 1 / 2, 1, 1]
        assert curve.recall.tolist() == [1, 1, 1 / 2, 1 / 2, 0]
        assert curve.average_precision == pytest.approx(1 / 2 * 1 + 1 / 2 * 2 / 3)

    def test_images_of_equal_score_are_one_point(self):
        curve = curves.precision_recall(with_scores([True, False, True], [0.5, 0.5, 0.2]), "yes")
        assert curve.precision.tolist() == [2 / 3, 1 / 2, 1]
        assert curve.recall.tolist() == [1, 1 / 2, 0]
        assert curve.average_precision == pytest.approx(1 / 2 * 1 / 2 + 1 / 2 * 2 / 3)

    @pytest.mark.parametrize("seed", range(3))
    def test_it_is_that_of_scikit_learn_also_with_ties(self, seed):
        is_label, score = with_ties(seed)
        evaluation = with_scores(is_label, score)
        for label, truth, by in (("yes", is_label, score), ("no", ~is_label, -score)):
            curve = curves.precision_recall(evaluation, label)
            precision, recall, _ = precision_recall_curve(truth, by)
            np.testing.assert_array_equal([curve.precision, curve.recall], [precision, recall])
            assert curve.average_precision == pytest.approx(average_precision_score(truth, by))

    @pytest.mark.parametrize("seed", range(3))
    def test_several_labels_are_each_compared_with_the_rest(self, seed):
        evaluation = drawn(seed)
        for k, label in enumerate(evaluation.labels):
            curve = curves.precision_recall(evaluation, label)
            expected = average_precision_score(evaluation.truth == k, evaluation.scores[:, k])
            assert curve.average_precision == pytest.approx(expected)

    def test_interval_contains_the_average_precision(self):
        curve = curves.precision_recall(with_scores(*with_ties(0)), "yes")
        assert 0 < curve.interval[0] < curve.average_precision < curve.interval[1] < 1

    def test_baseline_is_the_share_of_the_label_which_equal_scores_reach(self):
        curve = curves.precision_recall(with_scores([True, False, False, False], [0.5] * 4), "yes")
        assert curve.baseline == curve.average_precision == 0.25

    @pytest.mark.parametrize(
        "images", [2, 9, 25, 57]
    )  # of the last three, scikit-learn's sum is 1.0000000000000002
    def test_a_perfect_ranking_has_an_average_precision_of_exactly_1(self, images):
        is_label = np.arange(images + 1) > 0
        curve = curves.precision_recall(with_scores(is_label, np.arange(images + 1)), "yes")
        assert curve.average_precision == curve.interval[1] == 1
        assert curve.interval[0] == pytest.approx(0.025 ** (1 / images))  # as after as many hits in a row

    def test_the_baseline_of_a_perfect_ranking_is_the_share_of_the_label(self):
        curve = curves.precision_recall(with_scores([True, True, False], [3, 2, 1]), "yes")
        assert curve.average_precision == 1
        assert curve.baseline == pytest.approx(2 / 3)

    def test_a_score_of_minus_infinity_counts_as_the_lowest(self):
        unknown = with_scores([True, False, True, False], [0.9, -np.inf, 0.4, 0.5])
        low = with_scores([True, False, True, False], [0.9, -99, 0.4, 0.5])
        one, other = (curves.precision_recall(evaluation, "yes") for evaluation in (unknown, low))
        assert (one.average_precision, one.interval) == (other.average_precision, other.interval)

    def test_a_label_that_all_images_or_none_have_has_no_curve(self):
        assert curves.precision_recall(by_hand(truth=list("aab"), predicted=list("aab")), "c") is None
        assert curves.precision_recall(by_hand(truth=list("aa"), predicted=list("ab")), "a") is None


def test_the_average_of_curves_has_the_areas_of_the_labels_and_their_mean():
    found = drawn(0, labels=4)
    areas = {label: curves.roc(found, label).auc for label in found.labels}
    average = curves.average_roc(found)
    assert average.areas == pytest.approx(areas)
    assert np.trapezoid(average.mean, average.x) == pytest.approx(np.mean(list(areas.values())), abs=0.01)
    assert (average.low <= average.high).all() and average.mean[-1] == 1
    assert average.worst(2) == sorted(areas, key=areas.get)[:2]
    precise = {label: curves.precision_recall(found, label).average_precision for label in found.labels}
    assert curves.average_precision_recall(found).areas == pytest.approx(precise)


def test_labels_without_a_curve_are_in_no_average():
    found = metrics.evaluate(list("abc"), ["1", "2"], ["a", "b"], np.eye(3)[:2], np.eye(3)[:2])
    assert list(curves.average_roc(found).areas) == ["a", "b"]
    alone = metrics.evaluate(list("ab"), ["1"], ["a"], np.eye(2)[:1], np.eye(2)[:1])
    assert curves.average_roc(alone) is None and curves.average_precision_recall(alone) is None


@pytest.mark.parametrize("seed", range(5))
def test_both_averages_are_those_of_scikit_learn(seed):
    evaluation = drawn(seed, images=200, labels=5)
    is_label = np.eye(5)[evaluation.truth]
    for average in ("macro", "micro"):
        expected = roc_auc_score(is_label, evaluation.scores, average=average)
        assert curves.average_auc(evaluation, average) == pytest.approx(expected, abs=1e-12)


def test_the_average_over_all_decisions_takes_little_more_than_a_copy_of_the_scores():
    draws = np.random.default_rng(0)
    truth, scores = draws.integers(0, 50, 4000), draws.normal(size=(4000, 50)).astype(np.float32)
    evaluation = Evaluation(tuple(map(str, range(50))), tuple(map(str, range(4000))), truth, scores, scores)
    tracemalloc.start()
    curves.average_auc(evaluation, "micro")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * scores.nbytes
