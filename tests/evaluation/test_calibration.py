"""Confidence against accuracy: counted by eye, against scikit-learn, and in simulations of known calibration."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from imgclf.evaluation import calibration
from imgclf.evaluation.metrics import Evaluation
from support.evaluations import certain, drawn


def simulated(seed: int, *, images: int, off: float) -> Evaluation:
    """Images whose prediction is correct with their probability minus `off`."""
    draws = np.random.default_rng(seed)
    confidence = draws.uniform(0.5 + max(off, 0), 1, images)
    return certain(confidence.tolist(), (draws.random(images) < confidence - off).tolist())


def test_bins_are_closed_above_and_those_without_images_are_left_out():
    result = calibration.reliability(certain([0.55, 0.6, 0.65, 1], [False, True, True, True]))
    assert [(b.low, b.high, b.accuracy.images) for b in result.bins] == [
        (0.5, 0.6, 2),
        (0.6, 0.7, 1),
        (0.9, 1, 1),
    ]
    assert [b.confidence for b in result.bins] == pytest.approx([0.575, 0.65, 1])
    assert (result.bins[0].accuracy.value, result.bins[0].accuracy.images) == (0.5, 2)
    assert result.bins[0].accuracy.interval == pytest.approx((0.0126, 0.9874), abs=1e-4)


def test_expected_calibration_error_is_the_mean_gap_weighted_by_images():
    result = calibration.reliability(certain([0.55, 0.59, 0.8, 0.8], [True, True, True, False]))
    assert [b.gap for b in result.bins] == pytest.approx([1 - 0.57, 0.5 - 0.8])
    assert result.expected_calibration_error == pytest.approx((2 * 0.43 + 2 * 0.3) / 4)


def test_deviations_of_opposite_sign_in_one_bin_cancel():
    assert (
        calibration.reliability(certain([0.75] * 4, [True, True, True, False])).expected_calibration_error
        == 0
    )


@pytest.mark.parametrize("seed", range(3))
def test_points_of_the_diagram_are_those_of_scikit_learn(seed):
    evaluation = drawn(seed, images=500)
    accuracy, confidence = calibration_curve(
        evaluation.correct, evaluation.probabilities.max(axis=1), n_bins=calibration.BINS
    )
    result = calibration.reliability(evaluation)
    np.testing.assert_allclose([b.accuracy.value for b in result.bins], accuracy)
    np.testing.assert_allclose([b.confidence for b in result.bins], confidence, rtol=1e-6)


def test_rounding_above_one_stays_in_the_last_bin():
    result = calibration.reliability(certain([np.nextafter(np.float32(1), np.float32(2)), 1], [True, True]))
    assert (
        [b.accuracy.images for b in result.bins],
        result.expected_calibration_error,
        result.expected_calibration_error_by_chance,
    ) == ([2], 0, (0, 0))


@pytest.mark.parametrize("images", [30, 1000])
def test_exact_probabilities_are_called_calibrated_in_nearly_all_cases(images):
    """Of 100 sets with exact probabilities some 2.5 % lie above the range; 8 or more would be a fault (p < 0.005)."""
    verdicts = [calibration.reliability(simulated(seed, images=images, off=0)).verdict for seed in range(100)]
    assert sum(not verdict.startswith("no miscalibration detected:") for verdict in verdicts) < 8


def test_the_error_is_biased_upwards_on_few_images_and_lies_in_the_range_by_chance():
    few, many = (
        np.mean(
            [
                calibration.reliability(simulated(seed, images=images, off=0)).expected_calibration_error
                for seed in range(20)
            ]
        )
        for images in (50, 5000)
    )
    low, high = calibration.reliability(simulated(0, images=50, off=0)).expected_calibration_error_by_chance
    assert few > 5 * many and low < few < high


@pytest.mark.parametrize(("off", "verdict"), [(0.2, "overconfident: "), (-0.2, "underconfident: ")])
def test_overconfidence_and_underconfidence_are_detected_and_named(off, verdict):
    result = calibration.reliability(simulated(1, images=2000, off=off))
    assert result.verdict.startswith(verdict)
    assert result.expected_calibration_error == pytest.approx(abs(off), abs=0.07)


def test_images_that_are_correct_together_widen_the_range_by_chance():
    # 20 clusters of 10 images each with a probability of 80 %: of 16 clusters all images are correct.
    evaluation = certain([0.8] * 200, [True] * 160 + [False] * 40)
    clustered = replace(evaluation, cluster=tuple(str(row // 10) for row in range(200)))
    independent, together = (
        calibration.reliability(one).expected_calibration_error_by_chance for one in (evaluation, clustered)
    )
    # Exact probabilities miss by up to 1.96 standard deviations of a share of 200 images, or of 20.
    assert independent[1] == pytest.approx(1.96 * (0.16 / 200) ** 0.5, rel=0.2)
    assert together[1] == pytest.approx(1.96 * (0.16 / 20) ** 0.5, rel=0.2)


def test_underconfidence_is_no_correlation_within_clusters():
    evaluation = simulated(1, images=200, off=-0.1)
    paired = replace(evaluation, cluster=tuple(str(row // 5) for row in range(200)))
    independent, together = (
        calibration.reliability(one).expected_calibration_error_by_chance for one in (evaluation, paired)
    )
    assert together[1] == pytest.approx(independent[1], rel=0.1)


def test_gaps_that_cancel_over_all_images_are_named_as_such():
    result = calibration.reliability(
        certain([0.7] * 200 + [0.9] * 200, ([True] * 9 + [False]) * 20 + ([True] * 7 + [False] * 3) * 20)
    )
    assert (result.confidence, result.accuracy.value) == (pytest.approx(0.8), 0.8)
    assert result.verdict == (
        "overconfident in some bins, underconfident in others; no bias on average "
        "(calibration error above what chance explains in 95 of 100 cases)"
    )


def test_bins_that_all_lie_on_one_side_are_never_called_mixed():
    # 950 of 1,000 images are correct. The 95 % interval holds the mean confidence, 96.15 %; but chance does not
    # explain the error, since 900 images have a confidence of 1.
    is_correct = [True] * 900 + [True] * 50 + [False] * 50
    result = calibration.reliability(certain([1.0] * 900 + [0.615] * 100, is_correct))
    assert result.accuracy.interval[0] < result.confidence < result.accuracy.interval[1]
    assert result.verdict.startswith("overconfident: ")


def test_it_is_printed_in_two_lines():
    result = calibration.reliability(certain([0.75] * 4, [True, True, True, False]))
    assert str(result).splitlines() == [
        "mean confidence 75%, accuracy 75% (19% to 99%, 4 images)",
        "expected calibration error 0.000; exact probabilities show 0.000 to 0.500 by chance",
    ]


def test_the_same_images_have_the_same_calibration():
    assert calibration.reliability(drawn(0)) == calibration.reliability(drawn(0))
