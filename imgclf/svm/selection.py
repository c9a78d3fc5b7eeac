"""The choice between candidates for C by their scores of held-out images."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from imgclf.svm.temperature import calibrated_losses

ROUNDING = 1e-9  # accuracies that differ by less are equal
CLEARLY_WORSE = 3.0  # standard errors, by which a C is dropped before it is tried on all images


@dataclass(frozen=True)
class HeldOut:
    """What the scores of held-out images are worth.

    Attributes
    ----------
    accuracy : class-averaged, 0 to 1; NaN if no image was held out. error : its standard error.
    correct : number of images predicted right.
    losses : of each image that can be calibrated, the cross-entropy after temperature scaling, in nats.
    """

    accuracy: float
    error: float
    correct: int
    losses: np.ndarray


def class_averaged(y: np.ndarray, scores: np.ndarray) -> tuple[float, float, int]:
    """Return the class-averaged accuracy, its standard error, and the number of rows that are right.

    The standard error is that of a mean over labels of binomial shares.

    Parameters
    ----------
    y : (n,) int, positions of the true labels.
    scores : (n, k); rows without a finite score are left out. If that is true of all, the accuracy is NaN.
    """
    rows = np.flatnonzero(np.isfinite(scores).any(axis=1))
    if not len(rows):
        return float("nan"), float("nan"), 0
    right, images = scores[rows].argmax(axis=1) == y[rows], np.bincount(y[rows])
    present = images > 0
    share = np.bincount(y[rows], right)[present] / images[present]
    error = np.sqrt((share * (1 - share) / images[present]).sum()) / len(share)
    return float(share.mean()), float(error), int(right.sum())


def held_out(y: np.ndarray, scores: np.ndarray) -> HeldOut:
    """Return what scores (n, k) are worth; see `class_averaged` and `temperature.calibrated_losses`."""
    return HeldOut(*class_averaged(y, scores), calibrated_losses(scores, y))


def select_c(tried: Sequence[HeldOut]) -> tuple[int, int]:
    """Return the positions of the best C, by the one-standard-error rule, and of the most accurate C.

    The best C is the smallest one that is within one standard error of the best in both measures: in
    class-averaged accuracy and, among those, in cross-entropy after temperature scaling. Accuracies near the
    best differ by chance, and a smaller C regularizes more. But at a very small C the scores are so small
    that no temperature calibrates them, although on few images their accuracy can equal that of a larger C.

    The standard errors are those over images. Over folds they would rest on three numbers, and a validation
    set is one fold only. That of the cross-entropy is of the difference between two C on the same images
    (paired), since most of what makes an image easy or hard is common to both and cancels.

    Parameters
    ----------
    tried : of each C, ascending, on the same images.

    Source: L. Breiman et al., "Classification and Regression Trees", 1984, section 3.4.3; T. Hastie et al.,
    "The Elements of Statistical Learning", 2nd ed., section 7.10.
    """
    accuracy = np.array([each.accuracy for each in tried])
    most_accurate, reference = _best_of_each_measure(tried)
    best = next(k for k in range(len(tried)) if not _is_worse(tried, k, most_accurate, reference, errors=1))
    return best, best if accuracy[best] > accuracy.max() - ROUNDING else most_accurate


def promising(tried: Sequence[HeldOut]) -> list[int]:
    """Return the positions of the C to try on more images: those not clearly worse, and one smaller one.

    A C is clearly worse if it is `CLEARLY_WORSE` standard errors below the best in a measure of `select_c`.
    The sum of the losses grows with the images, so that a smaller C suffices: the next smaller one stays in.

    Source: O. Maron, A. Moore, "Hoeffding races", NIPS 6 (1994), p. 59.
    """
    if any(np.isnan(each.accuracy) for each in tried):
        return list(range(len(tried)))
    best = _best_of_each_measure(tried)
    kept = [k for k in range(len(tried)) if not _is_worse(tried, k, *best, errors=CLEARLY_WORSE)]
    return [kept[0] - 1, *kept] if kept[0] else kept


def _best_of_each_measure(tried: Sequence[HeldOut]) -> tuple[int, int]:
    """Return the most accurate C, and that of the least cross-entropy within one standard error of it."""
    accuracy = np.array([each.accuracy for each in tried])
    cross_entropy = np.array([each.losses.mean() for each in tried])
    equal = np.flatnonzero(accuracy > accuracy.max() - ROUNDING)
    most_accurate = int(equal[cross_entropy[equal].argmin()])
    accurate = np.flatnonzero(accuracy > accuracy[most_accurate] - tried[most_accurate].error - ROUNDING)
    return most_accurate, int(accurate[cross_entropy[accurate].argmin()])


def _is_worse(tried: Sequence[HeldOut], k: int, most_accurate: int, reference: int, *, errors: float) -> bool:
    """Whether a C is worse than the best of either measure by more than a number of standard errors."""
    best = tried[most_accurate]
    if tried[k].accuracy <= best.accuracy - errors * best.error - ROUNDING:
        return True
    differences = tried[k].losses - tried[reference].losses
    error = differences.std(ddof=1) / np.sqrt(len(differences)) if len(differences) > 1 else 0.0
    return bool(differences.mean() > errors * error + ROUNDING)
