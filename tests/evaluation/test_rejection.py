"""What a threshold rejects and leaves, counted by eye, and that its points lie on the curves."""

import numpy as np
import pytest
from scipy.special import softmax

from imgclf import ImgclfError
from imgclf.evaluation import curves, metrics, rejection
from support.evaluations import by_hand, certain, drawn

FOUR = certain([0.6, 0.7, 0.7, 0.9], [False, True, False, True])


@pytest.mark.parametrize(
    ("threshold", "rejected", "right"),
    [(0, 0, 2 / 4), (0.6, 0, 2 / 4), (0.61, 1, 2 / 3), (0.7, 1, 2 / 3), (0.71, 3, 1), (0.9, 3, 1)],
)
def test_images_below_the_threshold_are_rejected_and_those_that_reach_it_are_not(threshold, rejected, right):
    rest = rejection.at(FOUR, threshold)
    assert (rest.rejected, rest.accuracy.images, rest.share) == (rejected, 4 - rejected, rejected / 4)
    assert rest.accuracy.value == pytest.approx(right)


def test_the_rest_is_told_in_a_line():
    assert (
        str(rejection.at(FOUR, 0.65))
        == "below 0.65: 1 of 4 images rejected (25%); the rest: 67% (21% to 94%, 3 images)"
    )
    assert str(rejection.at(FOUR, 1)) == "below 1.00: 4 of 4 images rejected (100%); the rest: no images"


def test_without_a_threshold_the_rest_is_the_evaluation():
    assert rejection.at(by_hand(), 0).accuracy == by_hand().overall_accuracy


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan")])
@pytest.mark.parametrize("function", [rejection.at, curves.operating_points])
def test_a_threshold_that_is_no_probability_is_refused(function, threshold):
    with pytest.raises(ImgclfError, match=r"threshold=.*: must be a probability, between 0 and 1"):
        function(FOUR, threshold)


@pytest.mark.parametrize("seed", range(3))
def test_the_curve_is_what_each_threshold_leaves(seed):
    found = drawn(seed)
    curve = rejection.curve(found)
    for i, threshold in enumerate(curve.threshold):
        rest = rejection.at(found, threshold)
        assert curve.rejected[i] == rest.share
        np.testing.assert_array_equal(
            [curve.accuracy[i], *curve.interval[i]], [rest.accuracy.value, *rest.accuracy.interval]
        )


def test_the_curve_changes_only_at_its_thresholds():
    curve = rejection.curve(drawn(0))
    assert (curve.threshold[0], curve.threshold[-1]) == (0, 1)
    for i, between in enumerate((curve.threshold[1:] + curve.threshold[:-1]) / 2, start=1):
        assert rejection.at(drawn(0), float(between)).share == curve.rejected[i]


def test_the_curve_of_images_that_are_all_certain_never_rejects():
    curve = rejection.curve(certain([1, 1], [True, True]))
    assert (curve.rejected.tolist(), curve.accuracy.tolist()) == ([0, 0], [1, 1])


def test_roc_counts_the_images_whose_probability_reaches_each_threshold():
    curve = curves.roc_by_probability(FOUR, "a")
    assert curve.threshold.tolist() == [np.inf, *np.array([0.9, 0.7, 0.6], np.float32)]
    assert curve.true_positive_rate.tolist() == [0, 0.5, 1, 1]
    assert curve.false_positive_rate.tolist() == [0, 0, 0.5, 1]


def test_roc_by_probability_is_another_than_by_score():
    scores = np.array([[2.0, 1.9], [1.0, -5.0]])  # the first scores higher for "a", the second is surer of it
    found = metrics.evaluate(["a", "b"], ["1", "2"], ["b", "a"], scores, softmax(scores, axis=1))
    assert curves.roc(found, "a").area == 0
    assert curves.roc_by_probability(found, "a").true_positive_rate.tolist() == [0, 1, 1]
    assert curves.roc_by_probability(found, "a").false_positive_rate.tolist() == [0, 0, 1]


@pytest.mark.parametrize("seed", range(3))
def test_roc_by_probability_has_the_points_of_scikit_learn(seed):
    from sklearn.metrics import roc_curve

    found = drawn(seed)
    false, true, threshold = roc_curve(found.truth == 2, found.probabilities[:, 2], drop_intermediate=False)
    curve = curves.roc_by_probability(found, "label 2")
    np.testing.assert_array_equal(
        [curve.false_positive_rate, curve.true_positive_rate, curve.threshold], [false, true, threshold]
    )


@pytest.mark.parametrize("threshold", [0, 0.1, 0.25, 0.5, 0.7, 0.999, 1])
@pytest.mark.parametrize("seed", range(3))
def test_operating_points_lie_exactly_on_the_curves(seed, threshold):
    found = drawn(seed)
    for label, point in zip(found.labels, curves.operating_points(found, threshold).tolist(), strict=True):
        curve = curves.roc_by_probability(found, label)
        on_curve = list(
            zip(curve.false_positive_rate.tolist(), curve.true_positive_rate.tolist(), strict=True)
        )
        assert tuple(point) == on_curve[(curve.threshold >= threshold).sum() - 1]


def test_above_a_half_the_operating_points_are_those_of_the_labels_that_are_given():
    found, threshold = drawn(1), 0.6
    given = np.where(found.probabilities.max(axis=1) >= threshold, found.predicted, -1)
    for k, (false, true) in enumerate(curves.operating_points(found, threshold)):
        assert true == (given[found.truth == k] == k).mean()
        assert false == (given[found.truth != k] == k).mean()


def test_a_label_that_all_images_or_none_have_has_no_curve_and_no_point():
    found = by_hand(truth=list("aab"), predicted=list("aab"))
    assert curves.roc_by_probability(found, "c") is None
    assert np.isnan(curves.operating_points(found, 0.5)).tolist() == [[False] * 2, [False] * 2, [True] * 2]
    assert curves.roc_by_probability(by_hand(truth=list("aa"), predicted=list("ab")), "a") is None


def test_a_curve_of_many_images_is_thinned_evenly_and_keeps_its_ends():
    probabilities = np.random.default_rng(0).dirichlet(np.ones(3), 2000)
    found = metrics.evaluate(
        ["a", "b", "c"], [str(i) for i in range(2000)], ["a"] * 2000, probabilities, probabilities
    )
    curve = rejection.curve(found)
    assert len(curve.threshold) == rejection.MOST_THRESHOLDS and (
        curve.threshold[0],
        curve.threshold[-1],
    ) == (0, 1)
    for k in (1, 250, 450):
        rest = rejection.at(found, curve.threshold[k])
        assert curve.rejected[k] == pytest.approx(rest.share) and tuple(curve.interval[k]) == pytest.approx(
            rest.accuracy.interval
        )
