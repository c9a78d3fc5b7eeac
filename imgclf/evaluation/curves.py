"""ROC and precision-recall curves, each label against the rest."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from imgclf.evaluation import intervals
from imgclf.evaluation.intervals import Interval
from imgclf.evaluation.metrics import Evaluation
from imgclf.evaluation.rejection import checked_threshold

GRID = np.linspace(0, 1, 101)  # of the mean of curves


@dataclass(frozen=True)
class Roc:
    """ROC curve of one label, by its score.

    Attributes
    ----------
    false_positive_rate, true_positive_rate : arrays over falling thresholds, 0 to 1.
    auc : area under the curve, 0 to 1; 0.5 is chance. interval : its 95 % interval.
    """

    false_positive_rate: np.ndarray
    true_positive_rate: np.ndarray
    auc: float
    interval: Interval


@dataclass(frozen=True)
class ProbabilityRoc:
    """ROC curve of one label, by its probability; one point for each threshold that makes a difference.

    Attributes
    ----------
    threshold : (m,), falling, the first infinite; an image is positive if the label's probability reaches it.
    false_positive_rate, true_positive_rate : (m,), 0 to 1, rising.
    """

    threshold: np.ndarray
    false_positive_rate: np.ndarray
    true_positive_rate: np.ndarray


@dataclass(frozen=True)
class PrecisionRecall:
    """Precision-recall curve of one label, by its score.

    Attributes
    ----------
    precision : (m,), 0 to 1, over rising thresholds: of the images whose score reaches the threshold, the
        share that has the label. The last point, precision 1 at recall 0, belongs to no threshold.
    recall : (m,), 0 to 1, falling: of the images that have the label, the share whose score reaches it.
    average_precision : mean of the precision, weighted by the steps of the recall, 0 to 1.
    interval : 95 % interval of the average precision.
    baseline : average precision of random scores: the label's share of the images, 0 to 1.
    """

    precision: np.ndarray
    recall: np.ndarray
    average_precision: float
    interval: Interval
    baseline: float


@dataclass(frozen=True)
class AverageCurve:
    """Mean and spread of the curves of many labels, each label against the rest.

    Attributes
    ----------
    x : (m,), 0 to 1, rising: false positive rate, or recall.
    mean, low, high : (m,), 0 to 1: mean, 10th and 90th percentile of the labels' curves at `x`.
    areas : for each label with a curve, its ROC area or average precision, 0 to 1.
    """

    x: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    areas: dict[str, float]

    def worst(self, most: int) -> list[str]:
        """Return at most `most` labels, the smallest area first."""
        return sorted(self.areas, key=self.areas.__getitem__)[:most]


def average_roc(evaluation: Evaluation) -> AverageCurve | None:
    """Return the mean of the labels' ROC curves by score (vertical averaging); None if no label has one.

    Unlike `roc`, it computes no interval of each label, so it takes many labels.

    Source: T. Fawcett, "An introduction to ROC analysis", Pattern Recognition Letters 27 (2006), section 8.1.
    """

    def points(positive: np.ndarray, negative: np.ndarray) -> np.ndarray:
        false, true = (np.append(0, counts.cumsum()) / counts.sum() for counts in (negative, positive))
        return np.interp(GRID, false, true)

    return _average(evaluation, points, _auc)


def average_precision_recall(evaluation: Evaluation) -> AverageCurve | None:
    """Return the mean of the labels' precision-recall curves by score; None if no label has one."""

    def points(positive: np.ndarray, negative: np.ndarray) -> np.ndarray:
        found, predicted = positive.cumsum(), (positive + negative).cumsum()
        return (found / predicted)[np.searchsorted(found / found[-1], GRID)]

    return _average(evaluation, points, _average_precision)


def _average(
    evaluation: Evaluation,
    points: Callable[[np.ndarray, np.ndarray], np.ndarray],
    area: Callable[[np.ndarray, np.ndarray], float],
) -> AverageCurve | None:
    """Average over the labels.

    `points` takes the number of positive and of negative images at each score, the highest first, and returns
    the curve at `GRID`; `area` takes them the lowest first.
    """
    lines, areas = [], {}
    for label in evaluation.labels:
        if one := _one_against_rest(evaluation, label):
            is_label, ranks = one
            positive, negative = (_counts(ranks[rows], ranks.max() + 1) for rows in (is_label, ~is_label))
            areas[label] = area(positive, negative)
            lines.append(points(positive[::-1], negative[::-1]))
    if not lines:
        return None
    low, high = np.percentile(lines, [10, 90], axis=0)
    return AverageCurve(GRID, np.mean(lines, axis=0), low, high, areas)


def roc(evaluation: Evaluation, label: str) -> Roc | None:
    """Return the ROC curve of `label` by score; None if all images or none have the label."""
    from sklearn.metrics import auc, roc_curve

    if (one := _one_against_rest(evaluation, label)) is None:
        return None
    is_label, ranks = one
    false, true, _ = roc_curve(is_label, ranks)
    interval = intervals.roc_area(ranks, is_label, evaluation.cluster_number)
    return Roc(false, true, float(auc(false, true)), interval)


def precision_recall(evaluation: Evaluation, label: str) -> PrecisionRecall | None:
    """Return the precision-recall curve of `label` by score; None if all images or none have the label.

    Source: J. Davis, M. Goadrich, "The relationship between precision-recall and ROC curves", ICML 2006.
    """
    from sklearn.metrics import precision_recall_curve

    if (one := _one_against_rest(evaluation, label)) is None:
        return None
    is_label, ranks = one
    precision, recall, _ = precision_recall_curve(is_label, ranks)
    levels, cluster = ranks.max() + 1, evaluation.cluster_number[is_label]
    positive, negative = _counts(ranks[is_label], levels), _counts(ranks[~is_label], levels)
    area = _average_precision(positive, negative)
    at_each_image = _precision(positive, negative)[ranks[is_label]]
    interval = intervals.average_precision(area, at_each_image, cluster)
    return PrecisionRecall(precision, recall, area, interval, float(is_label.mean()))


def average_auc(evaluation: Evaluation, average: str) -> float:
    """Return the area under the ROC curve over all labels, 0 to 1.

    Parameters
    ----------
    average : "macro": the mean of the labels' areas, NaN if no label has a curve; "micro": the area of one
        curve over all decisions (image, label) together.
    """
    if average == "micro":
        return _micro_auc(evaluation)
    areas = [
        _auc(_counts(ranks[is_label], ranks.max() + 1), _counts(ranks[~is_label], ranks.max() + 1))
        for is_label, ranks in filter(None, (_one_against_rest(evaluation, one) for one in evaluation.labels))
    ]
    return float(np.mean(areas)) if areas else float("nan")


def _micro_auc(evaluation: Evaluation) -> float:
    """Area under one curve over all decisions; a sorted copy of the scores is all that it takes."""
    scores, n = np.sort(evaluation.scores, axis=None), len(evaluation.truth)
    own = np.sort(evaluation.scores[np.arange(n), evaluation.truth])
    # Twice the number of scores below, ties counted half, in all scores and in those of the true labels.
    below, own_below = (
        int(np.searchsorted(some, own).sum() + np.searchsorted(some, own, side="right").sum())
        for some in (scores, own)
    )
    return (below - own_below) / 2 / (n * (len(scores) - n))


def _one_against_rest(evaluation: Evaluation, label: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Whether each image has the label, and the ranks of its scores; None if all images or none have it."""
    column = evaluation.labels.index(label)
    is_label = evaluation.truth == column
    return None if is_label.all() or not is_label.any() else (is_label, _ranks(evaluation.scores[:, column]))


def _ranks(scores: np.ndarray) -> np.ndarray:
    """Rank of each score from 0, equal scores sharing one; finite, since scikit-learn refuses -inf."""
    return np.unique(scores, return_inverse=True)[1]


def _counts(ranks: np.ndarray, levels: int) -> np.ndarray:
    """Number of images at each rank, (levels,) int."""
    return np.bincount(ranks, minlength=levels)


def _auc(positive: np.ndarray, negative: np.ndarray) -> float:
    """Probability that a positive image scores above a negative one; ties count half."""
    return float(positive @ (negative.cumsum() - negative / 2) / (positive.sum() * negative.sum()))


def _average_precision(positive: np.ndarray, negative: np.ndarray) -> float:
    """Mean over the positive images of the precision at their rank.

    From counts it is exactly 1 for a perfect ranking; scikit-learn's sum of differences may round above 1.
    """
    return float(positive @ _precision(positive, negative) / positive.sum())


def _precision(positive: np.ndarray, negative: np.ndarray) -> np.ndarray:
    """Share of positive images among those of each rank and above, (levels,); 0 where there are none."""
    true_positives, predicted = positive[::-1].cumsum(), (positive + negative)[::-1].cumsum()
    return (true_positives / np.maximum(predicted, 1))[::-1]


def roc_by_probability(evaluation: Evaluation, label: str) -> ProbabilityRoc | None:
    """Return the ROC curve of `label` by probability; None if all images or none have the label.

    `roc` is by score. The softmax relates a score to those of the other labels, and so it may change the
    order of the images: a threshold on the probability is a point of this curve, in general not of that one.
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


def operating_points(
    evaluation: Evaluation, threshold: float, labels: Sequence[str] | None = None
) -> np.ndarray:
    """Return the point of each label's `roc_by_probability` at `threshold`; of the m `labels` if given.

    Returns
    -------
    (m, 2) float: false and true positive rate, 0 to 1; NaN for a label without a curve.

    Raises
    ------
    ImgclfError : the threshold is not between 0 and 1.
    """
    limit = np.array([checked_threshold(threshold)], evaluation.probabilities.dtype)
    columns = range(len(evaluation.labels)) if labels is None else map(evaluation.labels.index, labels)
    points = np.full((len(evaluation.labels if labels is None else labels), 2), np.nan)
    for row, k in enumerate(columns):
        is_label, probability = evaluation.truth == k, evaluation.probabilities[:, k]
        if is_label.any() and not is_label.all():
            points[row] = (
                _share_reaching(probability[~is_label], limit)[0],
                _share_reaching(probability[is_label], limit)[0],
            )
    return points


def _share_reaching(probability: np.ndarray, threshold: np.ndarray) -> np.ndarray:
    """For each threshold, the share of the images whose probability is at least the threshold."""
    return (len(probability) - np.searchsorted(np.sort(probability), threshold)) / len(probability)
