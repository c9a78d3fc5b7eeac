"""Accuracy over the number of training images: measured by cross-validation, predicted beyond by a power law.

In each fold of the cross-validation, SVMs are trained on growing parts of the training images and predict the
held-out ones. A part of half the size is one half of the larger part (nested), with the same share of each
label (stratified), and clusters of images that are alike are not divided.

Source: J. Hestness et al., "Deep learning scaling is predictable, empirically", arXiv 1712.00409 (2017): the
error falls as a power of the number of images, towards a constant; T. Viering, M. Loog, "The shape of
learning curves: a review", IEEE TPAMI 45 (2023), p. 7799, arXiv 2103.10948.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from imgclf import svm
from imgclf.evaluation import intervals
from imgclf.evaluation.intervals import Interval
from imgclf.evaluation.metrics import Accuracy
from imgclf.svm import CSearch, Fold

SMALLEST = 16  # the smallest part is this fraction of a fold's training images
FEWEST_OF_LABEL = (
    4  # images on average in the smallest part; below, the error does not follow a power law yet
)
FEWEST_SIZES = 3  # for the three parameters of the power law
CLEARLY_SMALLER = 0.8  # of the next larger size, which is about twice as large
MOST_PARTS, MOST_PARTS_OF_MANY = 4, 2  # of one size
MANY = 10_000  # images
DRAWS = 400  # of the bootstrap
EXPONENTS = np.geomspace(0.1, 1.5, 28)
USUAL, SPREAD = 0.3, 0.7  # prior of the exponent: its median, and the standard deviation of its logarithm
WIDEST = 0.2  # interval of a forecast, above which it says nothing
BEYOND = (2, 4)  # times the images
MOST_NAMED = 3  # labels that may gain most
ENDS = (100 * intervals.TAIL, 50, 100 * (1 - intervals.TAIL))  # percentiles


@dataclass(frozen=True)
class Point:
    """The accuracy of SVMs that were trained on a number of images, on the held-out images of all folds.

    Attributes
    ----------
    images : number of training images, the mean over folds and parts.
    accuracy : overall accuracy. of_label : accuracy on the images of each label.
    """

    images: int
    accuracy: Accuracy
    of_label: tuple[Accuracy, ...]


@dataclass(frozen=True)
class Forecast:
    """The overall accuracy that the power law predicts for a number of training images.

    Attributes
    ----------
    images : number of training images, with the same share of each label as now.
    accuracy : 0 to 1, with its 95 % `interval`.
    gain : 95 % interval of the gain over the prediction for the images that there are now, 0 to 1.
    of_label : (k, 3), gain of each label's accuracy: lower end, median and upper end.
    gains_most : (k,) share of the bootstrap in which the label gains most.
    """

    images: int
    accuracy: float
    interval: Interval
    gain: Interval
    of_label: np.ndarray
    gains_most: np.ndarray


@dataclass(frozen=True)
class Curve:
    """A learning curve over the number of training images.

    Attributes
    ----------
    labels : the k labels. images : number of training images that there are now.
    points : what was measured, ascending; empty if no image could be held out.
    sizes : (g,) numbers of images, from the first point to the last forecast; empty without a forecast.
    fitted : (3, g), lower end, median and upper end of the predicted accuracy.
    of_label : (k, g), median of the predicted accuracy of each label.
    forecasts : for twice and four times the images; empty if the points bear none, for the `reason`.
    """

    labels: tuple[str, ...]
    images: int
    points: tuple[Point, ...] = ()
    sizes: np.ndarray = field(default_factory=lambda: np.empty(0))
    fitted: np.ndarray = field(default_factory=lambda: np.empty((3, 0)))
    of_label: np.ndarray = field(default_factory=lambda: np.empty((0, 0)))
    forecasts: tuple[Forecast, ...] = ()
    reason: str = ""

    @property
    def gain_most(self) -> tuple[int, ...]:
        """Positions of the labels of which one gains most from twice the images, with 95 % confidence.

        They are in the order of their gains. Empty if there are more than `MOST_NAMED`, or more than half of
        the labels, so that chance decides; or if the gains round to zero.
        """
        if not self.forecasts:
            return ()
        twice = self.forecasts[0]
        order = np.argsort(-twice.gains_most, kind="stable")
        enough = 1 + int((np.cumsum(twice.gains_most[order]) < intervals.CONFIDENCE_LEVEL).sum())
        named = sorted(order[:enough].tolist(), key=lambda k: -twice.of_label[k, 1])
        is_clear = enough <= min(MOST_NAMED, len(self.labels) // 2) and twice.of_label[named[0], 1] >= 0.01
        return tuple(named) if is_clear else ()

    def __str__(self) -> str:
        if not self.forecasts:
            return f"no forecast: {self.reason}"
        twice = self.forecasts[0]
        return (
            f"twice the training images ({twice.images}) would bring about {_span(twice.interval)} overall "
            f"accuracy, {_points(twice.gain)} more than {self.images} images do; {self._gains}"
        )

    @property
    def _gains(self) -> str:
        if not self.gain_most:
            return "which label would gain most is within chance"
        names = [self.labels[k] for k in self.gain_most]
        low, _, high = self.forecasts[0].of_label[self.gain_most[0]].tolist()
        gain = _points((low, high))
        if len(names) == 1:
            return f"{names[0]} would gain most, {gain}"
        return f"{', '.join(names[:-1])} or {names[-1]} would gain most ({names[0]} {gain})"


def curve(
    matrix: np.ndarray,
    labels: np.ndarray,
    clusters: np.ndarray,
    search: CSearch,
    *,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Curve:
    """Measure the learning curve of an SVM, and extend it to four times the images.

    The largest part of the images is that of the search's own cross-validation. The smaller parts together
    take about as long as three such cross-validations of one C, of more than `MANY` images as half as many.
    C is that of the search for all parts.

    Parameters
    ----------
    matrix : (n, d) float32 features. labels : (n,) label of each row.
    clusters : (n,) names; rows of one cluster are never divided between folds or parts.
    search : of `svm.train` by cross-validation on these rows, with this seed.
    progress : called with the number of parts that are done and of all.
    """
    names, y = np.unique(labels, return_inverse=True)
    folds = svm.folds_of(y, clusters, seed)
    if not folds:
        return Curve(tuple(names.tolist()), len(y), reason="too few images to hold any out")
    sizes, right = _measure(matrix, y, clusters, folds, search, seed, progress)
    rows = search.held_out
    _, cluster = np.unique(clusters[rows], return_inverse=True)
    right = [of_size[rows] for of_size in right]
    return extended(tuple(names.tolist()), len(y), sizes, right, y[rows], cluster, seed=seed)


def extended(
    labels: tuple[str, ...],
    images: int,
    sizes: np.ndarray,
    right: Sequence[np.ndarray],
    y: np.ndarray,
    cluster: np.ndarray,
    *,
    seed: int = 0,
) -> Curve:
    """Return the learning curve of measurements, extended by power laws.

    The error is a * size**-b + c, with a and c at least 0, fitted with weights by the standard errors of the
    points. All labels have the exponent b of the overall error: the errors of a single label are too few for
    one of its own. Its prior is lognormal around 0.3 (Hestness found 0.07 to 0.35), since few points alone
    hardly tell a slow decline from a constant.

    The intervals are those of the Bayesian bootstrap of the clusters, each draw with power laws of its own,
    with the pseudo-images of Jeffreys' prior (half an image that is right, and half of one that is wrong).
    Other training images would have given other points, too: see `_training_noise`.

    Parameters
    ----------
    sizes : (s,) numbers of training images, ascending.
    right : for each size (n, p) bool, whether the SVMs of each of its p parts predict a held-out image
        correctly.
    y : (n,) int, positions of the true labels. cluster : (n,) int, from 0.

    Source: D. Rubin, "The Bayesian bootstrap", Ann. Stat. 9 (1981), p. 130; for the prior L. Brown, T. Cai,
    A. DasGupta, "Interval estimation for a binomial proportion", Stat. Sci. 16 (2001), p. 101.
    """
    share = np.stack([of_size.mean(axis=1) for of_size in right], axis=1)
    points = _points_of(sizes, share, y, cluster, len(labels))
    if len(sizes) < FEWEST_SIZES:
        needed = FEWEST_OF_LABEL * 2 ** (FEWEST_SIZES - 1) * svm.FOLDS // (svm.FOLDS - 1)
        reason = f"too few independent images; a forecast takes about {needed} of each label on average"
        return Curve(labels, images, points, reason=reason)
    measured = _bootstrap(share, y, cluster, _training_noise(sizes, right, y, len(labels)), seed)
    at = np.geomspace(sizes[0], BEYOND[-1] * images, 30)
    at = np.unique(np.concatenate([at, sizes, [images], np.multiply(BEYOND, images)]))
    accuracy = _power_laws(measured, sizes, at)
    fitted = np.percentile(accuracy[:, -1], ENDS, axis=0)
    forecasts = tuple(_forecast(at, accuracy, images, factor * images) for factor in BEYOND)
    low, high = forecasts[0].interval
    if high - low > WIDEST:
        reason = (
            f"too few images for their noise; with twice as many the accuracy would be {_span((low, high))}"
        )
        return Curve(labels, images, points, reason=reason)
    return Curve(labels, images, points, at, fitted, np.median(accuracy[:, :-1], axis=0), forecasts)


def sizes_of(images: int, labels: int) -> list[tuple[int, int]]:
    """Return for each size, the largest first, which fraction of the images a part is; and how many parts."""
    found, fraction = [], 1
    while fraction <= SMALLEST and (fraction == 1 or images / fraction >= FEWEST_OF_LABEL * labels):
        parts = min(fraction, MOST_PARTS)
        if images > MANY:
            parts = min(fraction // 2, MOST_PARTS_OF_MANY)
        found.append((fraction, max(1, parts)))
        fraction *= 2
    return found


def _measure(
    matrix: np.ndarray,
    y: np.ndarray,
    clusters: np.ndarray,
    folds: list[Fold],
    search: CSearch,
    seed: int,
    progress: Callable[[int, int], None],
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return the sizes, (s,) ascending; and for each (n, p), whether each of p parts predicts an image."""
    vectors = svm.normalized(matrix) if search.head.l2_normalize else matrix
    draws = np.random.default_rng(seed)
    place = [svm.places(y[rows], clusters[rows], draws) for rows, _ in folds]
    smaller = sizes_of(min(len(rows) for rows, _ in folds), len(search.head.labels))[1:]
    sizes = [float(np.mean([len(rows) for rows, _ in folds]))]
    right = [(search.oof_scores.argmax(axis=1) == y)[:, None]]
    done, total = 0, sum(parts for _, parts in smaller)
    progress(0, total)
    for fraction, parts in smaller:
        of_size, images = [], []
        for part in range(parts):
            chosen = [
                (rows[(of * fraction).astype(int) == part], held_out)
                for (rows, held_out), of in zip(folds, place, strict=True)
            ]
            done += 1
            if all(len(rows) for rows, _ in chosen):  # a large cluster may leave a part empty
                scores = svm.out_of_fold_scores(vectors, y, chosen, search.head.c)
                of_size.append(scores.argmax(axis=1) == y)
                images.append(np.mean([len(rows) for rows, _ in chosen]))
            progress(done, total)
        if np.mean(images) < CLEARLY_SMALLER * sizes[-1]:  # not with few large clusters
            sizes.append(float(np.mean(images)))
            right.append(np.stack(of_size, axis=1))
    return np.array(sizes[::-1]), right[::-1]


def _points_of(
    sizes: np.ndarray, share: np.ndarray, y: np.ndarray, cluster: np.ndarray, labels: int
) -> tuple[Point, ...]:
    def accuracy(of_size: np.ndarray, rows: np.ndarray) -> Accuracy:
        value = float(of_size[rows].mean()) if len(rows) else float("nan")
        return Accuracy(value, intervals.accuracy(of_size[rows], cluster[rows]), len(rows))

    every = np.arange(len(y))
    of_label = np.split(np.argsort(y, kind="stable"), np.bincount(y, minlength=labels).cumsum()[:-1])
    return tuple(
        Point(round(size), accuracy(of_size, every), tuple(accuracy(of_size, rows) for rows in of_label))
        for size, of_size in zip(sizes.tolist(), share.T, strict=True)
    )


def _training_noise(sizes: np.ndarray, right: Sequence[np.ndarray], y: np.ndarray, labels: int) -> np.ndarray:
    """Return the standard deviation of each point by the choice of training images: (k + 1, s), overall last.

    The variance between parts of one size, pooled over the sizes as if it were inversely proportional to the
    number of images: so it is known for the largest size, too, of which there is a single part.
    """
    squares, freedom = np.zeros(labels + 1), 0
    for size, of_size in zip(sizes.tolist(), right, strict=True):
        parts = of_size.shape[1]
        if parts > 1:
            accuracy = _accuracies(np.ones(len(y)), of_size, y, labels)
            squares += size * (parts - 1) * np.nan_to_num(accuracy.var(axis=1, ddof=1))
            freedom += parts - 1
    parts_of = np.array([of_size.shape[1] for of_size in right])
    return np.sqrt(squares[:, None] / max(1, freedom) / sizes / parts_of)


def _accuracies(
    weight: np.ndarray, right: np.ndarray, y: np.ndarray, labels: int, prior: np.ndarray | None = None
) -> np.ndarray:
    """Return the accuracy of weighted images, for each column of `right`: (k + 1, columns), overall last.

    Parameters
    ----------
    prior : (2, k + 1, 1), weights of pseudo-images that are right, and wrong.
    """
    prior = np.full((2, labels + 1, 1), 1e-12) if prior is None else prior
    images = np.bincount(y, weight, labels)[:, None]
    correct = np.stack([np.bincount(y, weight * column, labels) for column in right.T], axis=1)
    correct, images = (np.concatenate([each, each.sum(axis=0, keepdims=True)]) for each in (correct, images))
    return (correct + prior[0]) / (images + prior.sum(axis=0))


def _bootstrap(
    share: np.ndarray, y: np.ndarray, cluster: np.ndarray, noise: np.ndarray, seed: int
) -> np.ndarray:
    """Return draws of the accuracy of each label and overall at each size, (DRAWS, k + 1, s)."""
    draws, labels = np.random.default_rng(seed), len(noise) - 1
    found = np.empty((DRAWS, *noise.shape))
    for number in range(DRAWS):
        weight = draws.exponential(size=cluster.max() + 1)[cluster]
        prior = draws.gamma(0.5, size=(2, labels + 1, 1))
        found[number] = _accuracies(weight, share, y, labels, prior) + noise * draws.normal(size=noise.shape)
    return found


def _power_laws(accuracy: np.ndarray, sizes: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Return the accuracy at g sizes for each draw of those at s sizes: (DRAWS, k + 1, g), overall last."""
    errors = 1 - accuracy
    # Hard or easy held-out images move all points alike, and leave the shape of the curve.
    deviation = errors[:, -1] - errors[:, -1].mean(axis=1, keepdims=True)
    weight = 1 / np.maximum(deviation.var(axis=0), 1e-9)
    powers = (sizes / sizes[-1]) ** -EXPONENTS[:, None]
    a, c = _least_squares(powers, errors[:, -1:], weight)
    misfit = (a[..., None] * powers + c[..., None] - errors[:, -1:]) ** 2 @ weight
    best = (misfit + (np.log(EXPONENTS / USUAL) / SPREAD) ** 2).argmin(axis=1)
    a, c = _least_squares(powers[best, None], errors, weight)
    beyond = (at / sizes[-1]) ** -EXPONENTS[best, None, None]
    return np.clip(1 - a[..., None] * beyond - c[..., None], 0, 1)


def _least_squares(
    powers: np.ndarray, errors: np.ndarray, weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return a and c, at least 0, for which a * powers + c is nearest to the errors, along the last axis."""
    weight = weight / weight.sum()
    power, error = powers @ weight, errors @ weight
    centred = powers - power[..., None]
    a = np.maximum(0, (centred * errors) @ weight / (centred**2 @ weight))
    c = error - a * power
    through_zero = (powers * errors) @ weight / (powers**2 @ weight)
    return np.where(c < 0, through_zero, a), np.maximum(c, 0)


def _forecast(at: np.ndarray, accuracy: np.ndarray, now: int, images: int) -> Forecast:
    then, today = accuracy[..., at == images][..., 0], accuracy[..., at == now][..., 0]
    low, middle, high = np.percentile(then[:, -1], ENDS).tolist()
    *gains, (least, _, most) = np.percentile(then - today, ENDS, axis=0).T.tolist()
    first = np.bincount((then - today)[:, :-1].argmax(axis=1), minlength=len(gains)) / len(then)
    return Forecast(images, middle, (low, high), (least, most), np.array(gains), first)


def _span(interval: Interval) -> str:
    low, high = (round(100 * end) for end in interval)
    return f"{low} to {high}%" if low < high else f"{low}%"


def _points(interval: Interval) -> str:
    low, high = (round(100 * end) for end in interval)
    return f"{low} to {high} points" if low < high else f"{low} point{'s' if low != 1 else ''}"
