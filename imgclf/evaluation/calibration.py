"""Calibration: whether 80 % of the images that are predicted with a probability of 80 % are correct."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from imgclf.evaluation import intervals
from imgclf.evaluation.intervals import TAIL, Interval
from imgclf.evaluation.metrics import Accuracy, Evaluation

SIMULATIONS = 1000  # of exact probabilities
BINS = 10  # of equal width; with some hundred images, more would hold a handful each


@dataclass(frozen=True)
class Bin:
    """The images whose confidence is above `low` and at most `high`, 0 to 1.

    The confidence of an image is the probability of its predicted label.
    """

    low: float
    high: float
    confidence: float  # mean of the images
    accuracy: Accuracy

    @property
    def gap(self) -> float:
        """Accuracy minus confidence, -1 to 1; below 0 the classifier is overconfident."""
        return self.accuracy.value - self.confidence


@dataclass(frozen=True)
class Reliability:
    """Confidence compared with accuracy: the reliability diagram as numbers.

    Attributes
    ----------
    bins : those that hold images, lowest confidence first.
    confidence : mean over all images, 0 to 1.
    accuracy : of all images.
    expected_calibration_error : mean over the images of the absolute gap between confidence and accuracy
        in the image's bin, 0 to 1; 0 is best.
    expected_calibration_error_by_chance : its 95 % range on as many images if every probability were exact.

    Source: C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger, "On calibration of modern neural networks", ICML 2017
    (arXiv 1706.04599), section 2; for `expected_calibration_error_by_chance` J. Bröcker, L. A. Smith,
    "Increasing the reliability of reliability diagrams", Weather and Forecasting 22 (2007), p. 651.
    """

    bins: tuple[Bin, ...]
    confidence: float
    accuracy: Accuracy
    expected_calibration_error: float
    expected_calibration_error_by_chance: Interval

    @property
    def verdict(self) -> str:
        """No miscalibration detected, overconfident or underconfident, in a sentence."""
        _, high = self.expected_calibration_error_by_chance
        if self.expected_calibration_error <= high:
            return (
                "no miscalibration detected: the error is in the range of exact probabilities on this number "
                "of images (detecting a smaller miscalibration takes more images)"
            )
        return f"{self._direction} (calibration error above what chance explains in 95 of 100 cases)"

    @property
    def _direction(self) -> str:
        low, high = self.accuracy.interval
        gaps = [one.gap for one in self.bins]
        if self.confidence > high or max(gaps) <= 0:
            return "overconfident: on average the probabilities are higher than the accuracy"
        if self.confidence < low or min(gaps) >= 0:
            return "underconfident: on average the probabilities are lower than the accuracy"
        return "overconfident in some bins, underconfident in others; no bias on average"

    def summary(self) -> dict[str, Any]:
        """All figures as plain values, for JSON."""
        bins = [
            {
                "above": b.low,
                "to": b.high,
                "images": b.accuracy.images,
                "confidence": b.confidence,
                "accuracy": b.accuracy.value,
                "accuracy_interval": list(b.accuracy.interval),
            }
            for b in self.bins
        ]
        return {
            "expected_calibration_error": self.expected_calibration_error,
            "expected_calibration_error_by_chance": list(self.expected_calibration_error_by_chance),
            "mean_confidence": self.confidence,
            "bin_width": 1 / BINS,
            "bins": bins,
        }

    def __str__(self) -> str:
        low, high = self.expected_calibration_error_by_chance
        return (
            f"mean confidence {self.confidence:.0%}, accuracy {self.accuracy}\n"
            f"expected calibration error {self.expected_calibration_error:.3f}; "
            f"exact probabilities show {low:.3f} to {high:.3f} by chance"
        )


def reliability(evaluation: Evaluation) -> Reliability:
    """Compare the confidence of the images with their accuracy, in `BINS` bins of equal width.

    The expected calibration error is biased upwards on few images: within a bin the accuracy deviates by
    chance even from exact probabilities, and every deviation counts. There is no bootstrap interval, because
    resampling adds such deviations a second time: in simulations with exact probabilities it never covered
    the true error, 0, with 30 images or with 2,000. `expected_calibration_error_by_chance` answers instead
    whether the error is larger than chance explains.
    """
    confidence = evaluation.confidence
    position = np.searchsorted((np.arange(1, BINS + 1) / BINS).astype(confidence.dtype), confidence)
    bins = tuple(
        Bin(
            k / BINS,
            (k + 1) / BINS,
            float(confidence[position == k].mean(dtype=float)),
            evaluation.accuracy(position == k),
        )
        for k in np.unique(position).tolist()
    )
    return Reliability(
        bins,
        float(confidence.mean(dtype=float)),
        evaluation.overall_accuracy,
        _expected_calibration_error(position, evaluation.correct - confidence.astype(float)),
        _by_chance(position, confidence.astype(float), evaluation),
    )


def _expected_calibration_error(position: np.ndarray, deviation: np.ndarray) -> float:
    """The absolute sum of `deviation` in each bin, added up over the bins and divided by n.

    `deviation` is (n,): 1 for a correct image or 0, minus its confidence.
    """
    return float(np.abs(np.bincount(position, deviation)).sum() / len(deviation))


def _by_chance(position: np.ndarray, confidence: np.ndarray, evaluation: Evaluation) -> Interval:
    """95 % range of the error if each image is correct with exactly the probability `confidence`.

    Images of a cluster are correct together as often as those of the evaluation: an image takes the random
    number of its cluster, or one of its own, so that the probabilities remain exact. That all are too low or
    too high is no correlation within clusters: the mean deviation is subtracted.
    """
    cluster, draws = evaluation.cluster_number, np.random.default_rng(evaluation.seed)
    deviation = evaluation.correct - confidence
    shared = intervals.intraclass_correlation(deviation - deviation.mean(), cluster) ** 0.5
    errors = np.empty(SIMULATIONS)
    for i in range(SIMULATIONS):
        numbers = draws.random(len(confidence))
        if shared:
            is_shared = draws.random(len(confidence)) < shared
            numbers = np.where(is_shared, draws.random(len(confidence))[cluster], numbers)
        errors[i] = _expected_calibration_error(position, (numbers < confidence) - confidence)
    low, high = np.quantile(errors, [TAIL, 1 - TAIL])
    return float(low), float(high)
