"""Confidence intervals of proportions, of their averages and of areas under curves, with or without clusters.

Images of one cluster (near-duplicates, photographs of one group) tend to be right or wrong together, so they
say less than as many independent images. n images in clusters are taken as n / `design_effect` independent
ones. Where every image is its own cluster, the design effect is 1.

`cluster` is (n,) int, the number of each image's cluster, from 0.

`benchmarks/coverage.py` simulates how often each interval contains the truth.
"""

import numpy as np

CONFIDENCE_LEVEL = 0.95  # of every interval
TAIL = (1 - CONFIDENCE_LEVEL) / 2
TOLERANCE = 1e-12  # a sum of shares differs from 1 by rounding

Interval = tuple[float, float]


def intraclass_correlation(deviation: np.ndarray, cluster: np.ndarray) -> float:
    """Return the correlation between two images of a cluster, 0 to 1.

    It is one minus the variance within clusters as a share of the whole variance, both of the images that are
    in clusters of two or more: the others may be easier, and say nothing about a correlation. The largest
    deviation is counted once more, as if its whole cluster shared it: a few mistakes cannot exclude a
    correlation. Without any deviation the correlation is 1.

    Parameters
    ----------
    deviation : (n,), -1 to 1, of each image from what is expected of it.

    Source: M. Ridout, C. Demétrio, D. Firth, "Estimating intraclass correlation for binary data", Biometrics
    55 (1999), p. 137 (the estimator by analysis of variance).
    """
    size = np.bincount(cluster)
    n, clusters = len(cluster), np.count_nonzero(size)
    if clusters == n:
        return 0.0
    within = deviation - (np.bincount(cluster, deviation) / np.maximum(size, 1))[cluster]
    deviation = deviation[size[cluster] > 1]
    whole = (deviation @ deviation + (deviation**2).max()) / len(deviation)
    return float(max(0.0, 1 - within @ within / (n - clusters) / whole)) if whole else 1.0


def design_effect(deviation: np.ndarray, cluster: np.ndarray, weight: np.ndarray | None = None) -> float:
    """Return how many images in clusters say as much as one independent image, at least 1.

    Few clusters count for still less, by Student's t distribution; a single one says nothing about others,
    and the effect is infinite. One cluster much larger than the others leaves few, too: counted is the
    effective number of clusters, of equal size.

    Parameters
    ----------
    deviation : (n,), -1 to 1, of each image from what is expected of it.
    weight : (n,), of each image in the figure; equal by default.

    Source: L. Kish, "Survey sampling", 1965, section 5.4; for Student's t E. Korn, B. Graubard, "Confidence
    intervals for proportions with small expected number of positive counts estimated from survey data",
    Survey Methodology 24 (1998), p. 193; for clusters of unequal size A. Carter, K. Schnepel, D. Steigerwald,
    "Asymptotic behavior of a t-test robust to cluster heterogeneity", Rev. Econ. Stat. 99 (2017), p. 698.
    """
    from scipy.special import stdtrit

    weight = np.ones(len(cluster)) if weight is None else weight
    n, clusters = len(cluster), np.count_nonzero(np.bincount(cluster))
    if clusters == n:
        return 1.0
    if clusters == 1:
        return float("inf")
    squares = np.array([(np.bincount(cluster, weight) ** 2).sum(), weight @ weight])
    images_per_cluster = squares[0] / squares[1]
    of_clusters, of_images = stdtrit(np.maximum(1, weight.sum() ** 2 / squares - 1), TAIL)
    few = of_clusters / of_images
    return float((1 + intraclass_correlation(deviation, cluster) * (images_per_cluster - 1)) * few**2)


def proportion(value: float, images: float) -> Interval:
    """Return the interval of a proportion, 0 to 1, of independent images; their number may be a fraction.

    Source: C. Clopper, E. Pearson, "The use of confidence or fiducial limits illustrated in the case of the
    binomial", Biometrika 26 (1934), p. 404.
    """
    from scipy.special import betaincinv

    right, wrong = value * images, (1 - value) * images
    low = betaincinv(right, wrong + 1, TAIL) if right > TOLERANCE else 0.0
    high = betaincinv(right + 1, wrong, 1 - TAIL) if wrong > TOLERANCE else 1.0
    return float(low), float(high)


def below_threshold(rank: int, held_out: int, images: float) -> Interval:
    """Return the interval of the share of new images below a threshold that was chosen on held-out images.

    The share of all images below the threshold has a beta distribution, and the number of some new images
    below it a beta-binomial one.

    Parameters
    ----------
    rank : of the threshold among the values of the `held_out` images, ascending, from 1.
    images : number of new images that are independent; it may be a fraction.

    Source: V. Vovk, "Conditional validity of inductive conformal predictors", ACML 2012, p. 475.
    """
    from scipy.stats import betabinom

    n = max(1, int(images))
    low, high = betabinom.ppf([TAIL, 1 - TAIL], n, rank, held_out + 1 - rank) / n
    return float(low), float(high)


def accuracy(is_correct: np.ndarray, cluster: np.ndarray) -> Interval:
    """Return the interval of the share of correct images, (n,) bool; NaN without images."""
    if not len(is_correct):
        return float("nan"), float("nan")
    value = float(is_correct.mean())
    return proportion(value, len(is_correct) / design_effect(is_correct - value, cluster))


def average(is_correct: np.ndarray, label: np.ndarray, cluster: np.ndarray) -> Interval:
    """Return the interval of the mean over the labels of their shares of correct images, n at least 1.

    An end is the quantile of a beta distribution that has the mean and the variance of the average after one
    more image, a wrong one for the lower end and a correct one for the upper; its weight is near that of an
    image of a rare label. With a single label this is the interval of `accuracy`.

    Parameters
    ----------
    is_correct : (n,) bool. label : (n,) int.

    Source: M. Fay, E. Feuer, "Confidence intervals for directly standardized rates: a method based on the
    gamma distribution", Stat. Med. 16 (1997), p. 791 (here with the beta distribution, since an accuracy is
    at most 1); for the weight R. Tiwari, L. Clegg, Z. Zou, "Efficient interval estimation for age-adjusted
    cancer rates", Stat. Methods Med. Res. 15 (2006), p. 547.
    """
    _, label, images = np.unique(label, return_inverse=True, return_counts=True)
    correct = np.bincount(label, is_correct)
    weight = 1 / (len(images) * images)
    expected = _expected(correct / images, is_correct.mean(), label, cluster)
    # Images of hard labels vary more than those of easy ones; their clusters count for more, too.
    spread = np.sqrt(expected * (1 - expected)) + TOLERANCE
    weights = weight[label], weight[label] * spread
    effect = max(design_effect(is_correct - expected, cluster, one) for one in weights)
    if np.isinf(effect):
        return 0.0, 1.0
    right, wrong = float(weight @ correct), float(weight @ (images - correct))
    # Of the same share of correct images for all labels, or of each label's own where that is larger.
    pooled = weight**2 @ (wrong * correct + right * (images - correct)) / 2
    variance = effect * float(max(pooled, weight**2 @ (correct * (images - correct) / images)))
    one_more = float(effect * (weight @ weight) / weight.sum())
    return 1 - _upper_end(wrong, variance, one_more), _upper_end(right, variance, one_more)


def _expected(of_label: np.ndarray, overall: float, label: np.ndarray, cluster: np.ndarray) -> np.ndarray:
    """Return the expected share for each image, (n,): that of its label, nearer `overall` for few clusters.

    With a single cluster of a label, an easy label and an easy cluster cannot be told apart.
    """
    clusters = np.bincount(np.unique(np.stack([label, cluster]), axis=1)[0])
    return (overall + (clusters - 1) / (clusters + 1) * (of_label - overall))[label]


def _upper_end(value: float, variance: float, one_more: float) -> float:
    from scipy.special import betaincinv

    if value > 1 - TOLERANCE:
        return 1.0
    mean = (value + one_more) / (1 + one_more)
    variance = (variance + one_more**2 * (1 - value)) / ((1 + one_more) ** 2 * (1 + 2 * one_more))
    size = mean * (1 - mean) / variance - 1
    return float(betaincinv(mean * size, (1 - mean) * size, 1 - TAIL))


def roc_area(score: np.ndarray, is_label: np.ndarray, cluster: np.ndarray) -> Interval:
    """Return the interval of the area under the ROC curve, of images of which some have a label.

    It is a score interval: the areas from which the measured one is not further than Student's t distribution
    allows, in standard errors. The standard error is Newcombe's, scaled up where DeLong's is larger.

    Parameters
    ----------
    score : (n,), -inf allowed. is_label : (n,) bool, neither all nor none.

    Source: R. Newcombe, "Confidence intervals for an effect size measure based on the Mann-Whitney
    statistic. Part 2", Stat. Med. 25 (2006), p. 559 (method 5); E. DeLong, D. DeLong, D. Clarke-Pearson,
    "Comparing the areas under two or more correlated receiver operating characteristic curves", Biometrics 44
    (1988), p. 837; for clusters N. Obuchowski, "Nonparametric analysis of clustered ROC curve data",
    Biometrics 53 (1997), p. 567.
    """
    from scipy.optimize import brentq
    from scipy.special import stdtrit

    placement = _placements(score, is_label)
    area = float(placement[is_label].mean())
    deviation, sides = placement - area, (is_label, ~is_label)
    images = np.array([side.sum() for side in sides])
    effects = np.array([design_effect(deviation[side], cluster[side]) for side in sides])
    if np.isinf(effects).any():
        return 0.0, 1.0
    # DeLong's variances, with the largest deviation counted once more.
    squares = [deviation[side] ** 2 for side in sides]
    delong = np.array([one.sum() + one.max() for one in squares]) / images**2

    def newcombe(theta: float) -> float:
        others = (images.sum() / 2 - 1) * ((1 - theta) / (2 - theta) + theta / (1 + theta))
        return float(theta * (1 - theta) * (1 + others) / images.prod())

    scale = effects.max()
    if delong.any():
        # A cluster with images of both sides: its sums of both deviate together.
        sums = [np.bincount(cluster[side], deviation[side], cluster.max() + 1) / side.sum() for side in sides]
        variance = delong @ effects + 2 * max(0.0, float(sums[0] @ sums[1]))
        scale = variance / delong.sum() * max(1.0, delong.sum() / newcombe(area))
    scale *= stdtrit(max(images.sum() - 2, 1), TAIL) ** 2

    def excess(theta: float) -> float:
        return (area - theta) ** 2 - scale * newcombe(theta)

    low = brentq(excess, 0, area - TOLERANCE) if area > TOLERANCE else 0.0
    high = brentq(excess, area + TOLERANCE, 1) if area < 1 - TOLERANCE else 1.0
    return float(low), float(high)


def _placements(score: np.ndarray, is_label: np.ndarray) -> np.ndarray:
    """Return for each image the share of the other side's images that it is in order with; a tie is half."""
    placement = np.empty(len(score))
    for side in (is_label, ~is_label):
        others = np.sort(score[~side])
        below = np.searchsorted(others, score[side]) + np.searchsorted(others, score[side], side="right")
        placement[side] = below / 2 / len(others)
    placement[~is_label] = 1 - placement[~is_label]
    return placement


def average_precision(value: float, precision: np.ndarray, cluster: np.ndarray) -> Interval:
    """Return the interval of an average precision, taken for a share of the images that have the label.

    Parameters
    ----------
    precision : (p,), at the score of each image that has the label. cluster : (p,) int.

    Source: K. Boyd, K. Eng, C. Page, "Area under the precision-recall curve: point estimates and confidence
    intervals", ECML PKDD 2013, p. 451 (the binomial interval).
    """
    return proportion(value, len(precision) / design_effect(precision - value, cluster))


def paired_difference(gained: int, lost: int, images: int, *, design_effect: float = 1.0) -> Interval:
    """Return the interval of the difference of two accuracies on the same images, later minus earlier.

    Parameters
    ----------
    gained, lost : images that only the later, only the earlier classifier predicts correctly; of `images`.

    Source: D. Bonett, R. Price, "Adjusted Wald confidence interval for a difference of binomial proportions
    based on paired data", Journal of Educational and Behavioral Statistics 37 (2012), p. 479.
    """
    from scipy.special import ndtri

    first, second = (gained + 1) / (images + 2), (lost + 1) / (images + 2)
    difference = first - second
    error = np.sqrt((first + second - difference**2) / (images + 2) * design_effect) * ndtri(1 - TAIL)
    return max(-1.0, float(difference - error)), min(1.0, float(difference + error))
