"""ROC and precision-recall curves, each label against the rest."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from imgclf.evaluation.metrics import RESAMPLES, Evaluation, Interval, percentile_interval
from imgclf.evaluation.rejection import checked_threshold


@dataclass(frozen=True)
class Roc:
    """The ROC curve of one label by its score.

    Attributes
    ----------
    false_positive_rate, true_positive_rate : arrays over falling thresholds, 0 to 1.
    area : under the curve; 0.5 is chance. interval : its 95 % interval.
    """

    false_positive_rate: np.ndarray
    true_positive_rate: np.ndarray
    area: float
    interval: Interval


@dataclass(frozen=True)
class ProbabilityRoc:
    """One label against the rest, by its probability: a point for each threshold that makes a difference.

    Attributes
    ----------
    threshold : (m,), falling, the first infinite; an image counts as positive where the label's probability is at least this.
    false_positive_rate, true_positive_rate : (m,), 0 to 1, rising.
    """

    threshold: np.ndarray
    false_positive_rate: np.ndarray
    true_positive_rate: np.ndarray


@dataclass(frozen=True)
class PrecisionRecall:
    """The precision-recall curve of one label by its score.

    Attributes
    ----------
    precision : (m,) over rising thresholds, 0 to 1: of the images that are given the label, the share that has it.
    recall : (m,) of the images that have the label, the share that is given it.
    average_precision : the mean of the precision, weighted by the steps of the recall. interval : its 95 % interval.
    baseline : average precision of chance: the label's share of the images.
    """

    precision: np.ndarray
    recall: np.ndarray
    average_precision: float
    interval: Interval
    baseline: float


def roc(evaluation: Evaluation, label: str) -> Roc | None:
    """The ROC curve of `label` against the rest by score, with a bootstrap interval of its area; None if all images or none have the label."""
    from sklearn.metrics import auc, roc_curve

    if (one := _one_against_rest(evaluation, label)) is None:
        return None
    is_label, ranks = one
    false, true, _ = roc_curve(is_label, ranks)
    return Roc(false, true, float(auc(false, true)), _bootstrap(ranks, is_label, evaluation.seed, _area))


def precision_recall(evaluation: Evaluation, label: str) -> PrecisionRecall | None:
    """The precision-recall curve of `label` against the rest by score, with a bootstrap interval of its average precision; None if all images or none have it.

    Source: J. Davis, M. Goadrich, "The relationship between precision-recall and ROC curves", ICML 2006.
    """
    from sklearn.metrics import average_precision_score, precision_recall_curve

    if (one := _one_against_rest(evaluation, label)) is None:
        return None
    is_label, ranks = one
    precision, recall, _ = precision_recall_curve(is_label, ranks)
    return PrecisionRecall(
        precision,
        recall,
        float(average_precision_score(is_label, ranks)),
        _bootstrap(ranks, is_label, evaluation.seed, _average_precision),
        float(is_label.mean()),
    )


def average_area(evaluation: Evaluation, average: str) -> float:
    """Area under the ROC curve over all labels: "macro", their mean (NaN if none has a curve), or "micro", all decisions as one curve."""
    from sklearn.metrics import roc_auc_score

    if average == "micro":
        return float(
            roc_auc_score(
                np.eye(len(evaluation.labels))[evaluation.truth].ravel(), _ranks(evaluation.scores.ravel())
            )
        )
    areas = [
        roc_auc_score(*one) for label in evaluation.labels if (one := _one_against_rest(evaluation, label))
    ]
    return float(np.mean(areas)) if areas else float("nan")


def _one_against_rest(evaluation: Evaluation, label: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Whether each image has the label, and the ranks of its scores; None if all images or none have it."""
    column = evaluation.labels.index(label)
    is_label = evaluation.truth == column
    return None if is_label.all() or not is_label.any() else (is_label, _ranks(evaluation.scores[:, column]))


def _ranks(scores: np.ndarray) -> np.ndarray:
    """Whole numbers in the order of the scores, equal for equal scores; unlike these never infinite, which scikit-learn refuses."""
    return np.unique(scores, return_inverse=True)[1]


def _bootstrap(
    ranks: np.ndarray, is_label: np.ndarray, seed: int, statistic: Callable[[np.ndarray, np.ndarray], float]
) -> Interval:
    """The 95 % percentile interval of a statistic, with the images of each side drawn again.

    `statistic` is given the number of images at each rank, with the label and without: a thousand curves are not needed.
    """
    positive, negative, levels = ranks[is_label], ranks[~is_label], ranks.max() + 1
    draws = np.random.default_rng(seed)
    samples = np.empty(RESAMPLES)
    for i in range(RESAMPLES):
        samples[i] = statistic(
            np.bincount(draws.choice(positive, len(positive)), minlength=levels),
            np.bincount(draws.choice(negative, len(negative)), minlength=levels),
        )
    return percentile_interval(samples)


def _area(positive: np.ndarray, negative: np.ndarray) -> float:
    """The chance that an image of the label scores above one of the rest; ties count half."""
    return positive @ (negative.cumsum() - negative / 2) / (positive.sum() * negative.sum())


def _average_precision(positive: np.ndarray, negative: np.ndarray) -> float:
    """Precision at each rank from the highest down, weighted by the images of the label there."""
    found, given = positive[::-1].cumsum(), (positive + negative)[::-1].cumsum()
    return positive[::-1] @ (found / np.maximum(given, 1)) / positive.sum()


def roc_by_probability(evaluation: Evaluation, label: str) -> ProbabilityRoc | None:
    """The ROC curve of `label` against the rest by probability; None if all images or none have it.

    `roc` is by score. The softmax sets a score against those of the other labels, and so does not keep the order of the
    images: a threshold on the probability has its point on this curve, and in general not on that one.
    """
    column = evaluation.labels.index(label)
    is_label, probability = evaluation.truth == column, evaluation.probabilities[:, column]
    if is_label.all() or not is_label.any():
        return None
    threshold = np.append(np.inf, np.unique(probability)[::-1])
    return ProbabilityRoc(
        threshold,
        _share_reaching(probability[~is_label], threshold),
        _share_reaching(probability[is_label], threshold),
    )


def operating_points(evaluation: Evaluation, threshold: float) -> np.ndarray:
    """Where `threshold` lies on the `roc_by_probability` of each label: (k, 2) float, false and true positive rate, 0 to 1; NaN for a label without a curve.

    Raises
    ------
    ImgclfError : the threshold is not between 0 and 1.
    """
    limit = np.array([checked_threshold(threshold)], evaluation.probabilities.dtype)
    points = np.full((len(evaluation.labels), 2), np.nan)
    for k in range(len(evaluation.labels)):
        is_label, probability = evaluation.truth == k, evaluation.probabilities[:, k]
        if is_label.any() and not is_label.all():
            points[k] = (
                _share_reaching(probability[~is_label], limit)[0],
                _share_reaching(probability[is_label], limit)[0],
            )
    return points


def _share_reaching(probability: np.ndarray, threshold: np.ndarray) -> np.ndarray:
    """For each threshold the share of the images whose probability is at least that."""
    return (len(probability) - np.searchsorted(np.sort(probability), threshold)) / len(probability)
