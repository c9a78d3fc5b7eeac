"""Confidence against accuracy: counted by eye, against scikit-learn, and in simulations whose truth is known."""

import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from imgclf.evaluation import calibration
from imgclf.evaluation.metrics import Evaluation, wilson
from support.evaluations import certain, drawn


def simulated(seed: int, *, images: int, off: float) -> Evaluation:
    """Images that are right with their probability less `off`."""
    draws = np.random.default_rng(seed)
    confidence = draws.uniform(0.5 + max(off, 0), 1, images)
    return certain(confidence.tolist(), (draws.random(images) < confidence - off).tolist())


def test_bins_are_closed_above_and_those_without_images_are_left_out():
    found = calibration.reliability(certain([0.55, 0.6, 0.65, 1], [False, True, True, True]))
    assert [(b.low, b.high, b.accuracy.images) for b in found.bins] == [
        (0.5, 0.6, 2),
        (0.6, 0.7, 1),
        (0.9, 1, 1),
    ]
    assert [b.confidence for b in found.bins] == pytest.approx([0.575, 0.65, 1])
    assert found.bins[0].accuracy == wilson(np.array([False, True]))


def test_expected_calibration_error_is_the_mean_gap_weighted_by_images():
    found = calibration.reliability(certain([0.55, 0.59, 0.8, 0.8], [True, True, True, False]))
    assert [b.gap for b in found.bins] == pytest.approx([1 - 0.57, 0.5 - 0.8])
    assert found.expected_error == pytest.approx((2 * 0.43 + 2 * 0.3) / 4)


def test_misses_on_both_sides_in_one_bin_cancel():
    assert calibration.reliability(certain([0.75] * 4, [True, True, True, False])).expected_error == 0


@pytest.mark.parametrize("seed", range(3))
def test_points_of_the_diagram_are_those_of_scikit_learn(seed):
    evaluation = drawn(seed, images=500)
    accuracy, confidence = calibration_curve(
        evaluation.right, evaluation.probabilities.max(axis=1), n_bins=calibration.BINS
    )
    found = calibration.reliability(evaluation)
    np.testing.assert_allclose([b.accuracy.value for b in found.bins], accuracy)
    np.testing.assert_allclose([b.confidence for b in found.bins], confidence, rtol=1e-6)


def test_rounding_above_one_stays_in_the_last_bin():
    found = calibration.reliability(certain([np.nextafter(np.float32(1), np.float32(2)), 1], [True, True]))
    assert (
        [b.accuracy.images for b in found.bins],
        found.expected_error,
        found.expected_error_by_chance,
    ) == ([2], 0, (0, 0))


@pytest.mark.parametrize("images", [30, 1000])
def test_exact_probabilities_are_called_faulty_in_few_cases(images):
    """Of 100 sets of images with exact probabilities some 2.5 % lie above the range; 8 or more would be a fault (p < 0.005)."""
    verdicts = [calibration.reliability(simulated(seed, images=images, off=0)).verdict for seed in range(100)]
    assert sum("off by more than chance would explain" in verdict for verdict in verdicts) < 8


def test_the_error_of_a_few_images_is_too_large_and_the_range_by_chance_says_so():
    few, many = (
        np.mean(
            [
                calibration.reliability(simulated(seed, images=images, off=0)).expected_error
                for seed in range(20)
            ]
        )
        for images in (50, 5000)
    )
    low, high = calibration.reliability(simulated(0, images=50, off=0)).expected_error_by_chance
    assert few > 5 * many and low < few < high


@pytest.mark.parametrize(
    ("off", "said"), [(0.2, "surer than it is right"), (-0.2, "less sure than it is right")]
)
def test_a_fault_of_the_probabilities_is_found_and_told(off, said):
    found = calibration.reliability(simulated(1, images=2000, off=off))
    assert said in found.verdict
    assert found.expected_error == pytest.approx(abs(off), abs=0.07)


def test_faults_that_cancel_over_all_images_are_told_as_such():
    found = calibration.reliability(
        certain([0.7] * 200 + [0.9] * 200, ([True] * 9 + [False]) * 20 + ([True] * 7 + [False] * 3) * 20)
    )
    assert (found.confidence, found.accuracy.value) == (pytest.approx(0.8), 0.8)
    assert found.verdict.endswith(
        "too sure in some bins and not sure enough in others, and on average neither"
    )


def test_it_is_told_in_two_lines():
    found = calibration.reliability(certain([0.75] * 4, [True, True, True, False]))
    assert str(found).splitlines() == [
        "mean confidence 75%, accuracy 75% (30% to 95%, 4 images)",
        "expected calibration error 0.000; exact probabilities would show 0.000 to 0.500 on so many images",
    ]


def test_the_same_images_give_the_same_figures():
    assert calibration.reliability(drawn(0)) == calibration.reliability(drawn(0))
