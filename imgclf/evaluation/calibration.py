"""Whether a probability means what it says: of the images labelled with 80 %, are 80 % labelled right?"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from imgclf.evaluation.metrics import CONFIDENCE, RESAMPLES, Accuracy, Evaluation, Interval, wilson

BINS = 10  # of equal width; with some hundred images, more would hold a handful each


@dataclass(frozen=True)
class Bin:
    """The images whose confidence, the probability of the label they were given, is above `low` and at most `high` (0 to 1)."""

    low: float
    high: float
    confidence: float  # their mean
    accuracy: Accuracy

    @property
    def gap(self) -> float:
        """Accuracy less confidence, -1 to 1; below 0 the classifier is surer than it may be."""
        return self.accuracy.value - self.confidence


@dataclass(frozen=True)
class Reliability:
    """Confidence against accuracy.

    Attributes
    ----------
    bins : those that hold images, the least confident first.
    confidence : mean over all images, 0 to 1.
    accuracy : of all images.
    expected_error : the expected calibration error, 0 to 1: the mean over the images of how far apart, without the sign,
        confidence and accuracy are in the image's bin. 0 is best.
    expected_error_by_chance : what it would be on as many images if every probability were exactly right, in 95 of 100 cases.

    Source: C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger, "On calibration of modern neural networks", ICML 2017
    (arXiv 1706.04599), section 2; for `expected_error_by_chance` J. Bröcker, L. A. Smith, "Increasing the reliability of
    reliability diagrams", Weather and Forecasting 22 (2007), p. 651.
    """

    bins: tuple[Bin, ...]
    confidence: float
    accuracy: Accuracy
    expected_error: float
    expected_error_by_chance: Interval

    @property
    def verdict(self) -> str:
        """What the figures allow to be said of the probabilities, in a sentence."""
        low, high = self.expected_error_by_chance
        if self.expected_error <= high:
            return "these images show no fault of the probabilities, which does not prove them right: fewer images would hide a larger fault"
        return f"the probabilities are off by more than chance would explain in 95 of 100 cases: {self._direction}"

    @property
    def _direction(self) -> str:
        low, high = self.accuracy.interval
        if self.confidence > high:
            return "on average the classifier is surer than it is right"
        if self.confidence < low:
            return "on average the classifier is less sure than it is right"
        return "it is too sure in some bins and not sure enough in others, and on average neither"

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
            "expected_calibration_error": self.expected_error,
            "expected_calibration_error_by_chance": list(self.expected_error_by_chance),
            "mean_confidence": self.confidence,
            "bin_width": 1 / BINS,
            "bins": bins,
        }

    def __str__(self) -> str:
        low, high = self.expected_error_by_chance
        return (
            f"mean confidence {self.confidence:.0%}, accuracy {self.accuracy}\n"
            f"expected calibration error {self.expected_error:.3f}; exact probabilities would show {low:.3f} to {high:.3f} on so many images"
        )


def reliability(evaluation: Evaluation) -> Reliability:
    """How the confidence of the images compares with how often they are right, in `BINS` bins of equal width.

    The expected calibration error of a few images is too large: within a bin even exact probabilities miss the share of right
    images by chance, and the error counts every miss. No bootstrap interval is given, because drawing the images again adds such
    misses a second time: in simulations with exact probabilities it never held the true error, 0, with 30 images or with
    2,000. `expected_error_by_chance` answers instead whether more than chance is seen.
    """
    confidence = evaluation.probabilities.max(axis=1).clip(
        0, 1
    )  # a softmax in float32 may exceed 1 by rounding
    position = np.searchsorted((np.arange(1, BINS + 1) / BINS).astype(confidence.dtype), confidence)
    found = tuple(
        _bin(k, confidence[position == k], evaluation.right[position == k])
        for k in np.unique(position).tolist()
    )
    error = _expected_error(position, evaluation.right - confidence.astype(float))
    return Reliability(
        found,
        float(confidence.mean(dtype=float)),
        evaluation.overall_accuracy,
        error,
        _by_chance(position, confidence.astype(float), evaluation.seed),
    )


def _bin(k: int, confidence: np.ndarray, right: np.ndarray) -> Bin:
    return Bin(k / BINS, (k + 1) / BINS, float(confidence.mean(dtype=float)), wilson(right))


def _expected_error(position: np.ndarray, misses: np.ndarray) -> float:
    """Sum over the bins of the absolute sum of `misses`, (n,) right (1 or 0) less confidence, by image."""
    return float(np.abs(np.bincount(position, misses)).sum() / len(misses))


def _by_chance(position: np.ndarray, confidence: np.ndarray, seed: int) -> Interval:
    """The 95 % range of the error where each image is right with exactly its probability."""
    draws = np.random.default_rng(seed)
    errors = [
        _expected_error(position, (draws.random(len(confidence)) < confidence) - confidence)
        for _ in range(RESAMPLES)
    ]
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(errors, [tail, 1 - tail])
    return float(low), float(high)
