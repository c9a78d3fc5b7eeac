"""What happens if a label is given only where its probability reaches a threshold, and the image is rejected elsewhere."""

from dataclasses import dataclass

import numpy as np

from imgclf import ImgclfError
from imgclf.evaluation.metrics import Accuracy, Evaluation, wilson, wilson_interval

MOST_THRESHOLDS = 500  # of a curve: a picture shows no more, and each takes an interval


@dataclass(frozen=True)
class Rejection:
    """What a threshold on the probability leaves: how many images are rejected, and how often the rest is right."""

    threshold: float  # 0 to 1
    rejected: int  # images
    accuracy: Accuracy  # of the rest

    @property
    def share(self) -> float:
        """Share of all images that is rejected, 0 to 1; NaN if there are no images."""
        images = self.rejected + self.accuracy.images
        return self.rejected / images if images else float("nan")

    def __str__(self) -> str:
        if not self.rejected + self.accuracy.images:
            return "no images"
        return (
            f"below {self.threshold:.2f}: {self.rejected} of {self.rejected + self.accuracy.images} images rejected ({self.share:.0%}); "
            f"the rest: {self.accuracy}"
        )


@dataclass(frozen=True)
class RejectionCurve:
    """What every threshold leaves, by m rising thresholds between which nothing changes; of many, `MOST_THRESHOLDS` evenly spaced ones.

    Attributes
    ----------
    threshold : (m,), from 0 to 1. Entry i holds for all thresholds above that of entry i - 1, and up to its own.
    rejected : (m,) share of all images, 0 to 1.
    accuracy : (m,) share of the rest that is right, 0 to 1; NaN where nothing is left.
    interval : (m, 2), lower and upper end of its 95 % interval.
    """

    threshold: np.ndarray
    rejected: np.ndarray
    accuracy: np.ndarray
    interval: np.ndarray


def at(evaluation: Evaluation, threshold: float) -> Rejection:
    """What is left if images are rejected whose largest probability is below `threshold`.

    Raises
    ------
    ImgclfError : the threshold is not between 0 and 1.
    """
    is_kept = evaluation.probabilities.max(axis=1) >= checked_threshold(threshold)
    return Rejection(float(threshold), int((~is_kept).sum()), wilson(evaluation.right[is_kept]))


def curve(evaluation: Evaluation) -> RejectionCurve:
    """What all thresholds leave, in the sense of `at`; one entry for each largest probability that an image has, and 0 and 1."""
    largest = evaluation.probabilities.max(axis=1)
    order = np.argsort(largest)
    threshold = np.unique(np.concatenate([largest, np.array([0, 1], largest.dtype)]).clip(0, 1))
    threshold = threshold[
        np.unique(
            np.linspace(0, len(threshold) - 1, min(len(threshold), MOST_THRESHOLDS)).round().astype(int)
        )
    ]
    rejected = np.searchsorted(largest[order], threshold)
    right_above = np.append(
        evaluation.right[order][::-1].cumsum()[::-1], 0
    )  # right ones among the images from the i-th on
    kept, right = len(order) - rejected, right_above[rejected]
    with np.errstate(invalid="ignore"):
        accuracy, share = right / kept, rejected / len(order)
    return RejectionCurve(
        threshold,
        share,
        accuracy,
        np.array([wilson_interval(*counts) for counts in zip(right.tolist(), kept.tolist(), strict=True)]),
    )


def checked_threshold(threshold: float) -> float:
    """A threshold between 0 and 1.

    Raises
    ------
    ImgclfError : it is not.
    """
    # As a plain float it is compared in the precision of the probabilities: 0.7 in float32 reaches 0.7.
    if not 0 <= threshold <= 1:
        raise ImgclfError(f"threshold={threshold}: must be a probability, between 0 and 1")
    return float(threshold)
