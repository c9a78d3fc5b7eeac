"""Rejected images and the accuracy of the rest, counted by eye."""

import numpy as np
import pytest

from imgclf import ImgclfError
from imgclf.evaluation import metrics, rejection
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


def test_a_rejection_is_printed_in_a_line():
    assert (
        str(rejection.at(FOUR, 0.65))
        == "below 0.65: 1 of 4 images rejected (25%); accuracy of the rest: 67% (9% to 99%, 3 images)"
    )
    assert (
        str(rejection.at(FOUR, 1))
        == "below 1.00: 4 of 4 images rejected (100%); accuracy of the rest: no images"
    )


def test_a_threshold_of_0_rejects_no_image():
    assert rejection.at(by_hand(), 0).accuracy == by_hand().overall_accuracy


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan")])
def test_a_threshold_that_is_no_probability_is_refused(threshold):
    with pytest.raises(ImgclfError, match=r"threshold=.*: not a probability; choose .* between 0 and 1"):
        rejection.at(FOUR, threshold)


@pytest.mark.parametrize("seed", range(3))
def test_the_curve_agrees_with_the_rejection_at_each_threshold(seed):
    evaluation = drawn(seed)
    curve = rejection.curve(evaluation)
    for i, threshold in enumerate(curve.threshold):
        rest = rejection.at(evaluation, threshold)
        assert curve.rejected[i] == rest.share
        np.testing.assert_array_equal(
            [curve.accuracy[i], *curve.interval[i]], [rest.accuracy.value, *rest.accuracy.interval]
        )


def test_the_curve_changes_only_at_its_thresholds():
    curve = rejection.curve(drawn(0))
    assert (curve.threshold[0], curve.threshold[-1]) == (0, 1)
    for i, between in enumerate((curve.threshold[1:] + curve.threshold[:-1]) / 2, start=1):
        assert rejection.at(drawn(0), float(between)).share == curve.rejected[i]


def test_images_with_a_probability_of_1_are_never_rejected():
    curve = rejection.curve(certain([1, 1], [True, True]))
    assert (curve.rejected.tolist(), curve.accuracy.tolist()) == ([0, 0], [1, 1])


def test_a_curve_of_many_images_is_thinned_evenly_and_keeps_its_ends():
    probabilities = np.random.default_rng(0).dirichlet(np.ones(3), 2000)
    evaluation = metrics.evaluate(
        ["a", "b", "c"], [str(i) for i in range(2000)], ["a"] * 2000, probabilities, probabilities
    )
    curve = rejection.curve(evaluation)
    assert len(curve.threshold) == rejection.MOST_THRESHOLDS and (
        curve.threshold[0],
        curve.threshold[-1],
    ) == (0, 1)
    for k in (1, 250, 450):
        rest = rejection.at(evaluation, curve.threshold[k])
        assert curve.rejected[k] == pytest.approx(rest.share) and tuple(curve.interval[k]) == pytest.approx(
            rest.accuracy.interval
        )
