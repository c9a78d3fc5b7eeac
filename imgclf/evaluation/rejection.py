"""Reject option: images whose largest probability is below a threshold get no label.

A higher threshold raises the accuracy of the accepted images and lowers the coverage, their share of all.
"""

from dataclasses import dataclass

import numpy as np

from imgclf import ImgclfError
from imgclf.evaluation.metrics import Accuracy, Evaluation

MOST_THRESHOLDS = 500  # of a curve: a plot shows no more, and each takes an interval


@dataclass(frozen=True)
class Rejection:
    """Images rejected by a threshold on the probability, and the accuracy of the accepted ones."""

    threshold: float  # 0 to 1
    rejected: int  # images
    accuracy: Accuracy  # of the accepted images

    @property
    def share(self) -> float:
        """Share of all images that is rejected (1 - coverage), 0 to 1; NaN if there are no images."""
        images = self.rejected + self.accuracy.images
        return self.rejected / images if images else float("nan")

    def __str__(self) -> str:
        images = self.rejected + self.accuracy.images
        if not images:
            return "no images"
        return (
            f"below {self.threshold:.2f}: {self.rejected} of {images} images rejected ({self.share:.0%}); "
            f"accuracy of the rest: {self.accuracy}"
        )


@dataclass(frozen=True)
class RejectionCurve:
    """Rejected share and accuracy of the rest, over m rising thresholds between which nothing changes.

    Of more than `MOST_THRESHOLDS`, that many evenly spaced ones are kept.

    Attributes
    ----------
    threshold : (m,), 0 to 1. Entry i holds for all thresholds above that of entry i - 1, up to its own.
    rejected : (m,) share of all images that is rejected (1 - coverage), 0 to 1.
    accuracy : (m,) accuracy of the accepted images, 0 to 1; NaN where none is accepted.
    interval : (m, 2), lower and upper end of its 95 % interval.
    """

    threshold: np.ndarray
    rejected: np.ndarray
    accuracy: np.ndarray
    interval: np.ndarray


def at(evaluation: Evaluation, threshold: float) -> Rejection:
    """Reject the images whose largest probability is below `threshold`.

    Raises
    ------
    ImgclfError : the threshold is not between 0 and 1.
    """
    is_accepted = evaluation.confidence >= checked_threshold(threshold)
    return Rejection(float(threshold), int((~is_accepted).sum()), evaluation.accuracy(is_accepted))


def curve(evaluation: Evaluation) -> RejectionCurve:
    """Return what `at` returns for every threshold that makes a difference.

    These are the largest probabilities of the images, 0 and 1.
    """
    confidence = evaluation.confidence
    threshold = np.unique(np.append(confidence, np.array([0, 1], confidence.dtype)))
    kept = np.linspace(0, len(threshold) - 1, min(len(threshold), MOST_THRESHOLDS))
    threshold = threshold[np.unique(kept.round().astype(int))]
    found = [at(evaluation, one) for one in threshold.tolist()]
    return RejectionCurve(
        threshold,
        np.array([one.share for one in found]),
        np.array([one.accuracy.value for one in found]),
        np.array([one.accuracy.interval for one in found]),
    )


def checked_threshold(threshold: float) -> float:
    """Return a threshold that is between 0 and 1, as a plain float.

    Raises
    ------
    ImgclfError : the threshold is not between 0 and 1.
    """
    if not 0 <= threshold <= 1:
        raise ImgclfError(f"threshold={threshold}: not a probability; choose a threshold between 0 and 1")
    # A plain float is compared in the precision of the probabilities: 0.7 in float32 reaches 0.7.
    return float(threshold)
