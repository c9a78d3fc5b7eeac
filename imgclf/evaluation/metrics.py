"""Accuracy of a classifier with confidence intervals, its confusion matrix and its mistakes."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from imgclf import ImgclfError, first_few
from imgclf.classifier.model import Classifier, Prediction
from imgclf.data.dataset import Dataset, Image
from imgclf.evaluation import intervals
from imgclf.evaluation.intervals import Interval
from imgclf.features import MAX_MISSING, image_sources
from imgclf.images.loading import Skipped


@dataclass(frozen=True)
class Accuracy:
    """Share of correctly classified images, 0 to 1, with its 95 % interval; NaN where there are no images."""

    value: float
    interval: Interval
    images: int

    def __str__(self) -> str:
        if not self.images:
            return "no images"
        return f"{self.value:.0%} ({self.interval[0]:.0%} to {self.interval[1]:.0%}, {self.images} images)"


@dataclass(frozen=True)
class Mistake:
    """A pair of labels that the classifier confuses: images of label `true` predicted as `predicted`."""

    true: str
    predicted: str
    images: int
    share: float  # of all images of `true`, 0 to 1


@dataclass(frozen=True)
class Evaluation:
    """Scores of images whose true labels are known.

    Attributes
    ----------
    labels : the k labels, in the order of the columns.
    paths : the n images.
    truth : (n,) int, true label of each image, as its position in `labels`.
    scores, probabilities : (n, k) float32. A score is -inf if the estimator was trained without that label.
    seed : of simulations.
    sha256 : of the n images' contents, which identify an image after it was moved to another label; or empty.
    cluster : name of each image's cluster, images that are alike (`Split.cluster`); empty if all are
        independent.
    missing : paths of images that were to be evaluated too, and are gone, changed or unreadable.
    missing_labels : their true labels.
    familiarity : (n,) float32, 0 to 1, see `classifier.familiarity`; NaN for an image that was compared with
        none; empty with classifiers of older versions.
    """

    labels: tuple[str, ...]
    paths: tuple[str, ...]
    truth: np.ndarray
    scores: np.ndarray
    probabilities: np.ndarray
    seed: int = 0
    sha256: tuple[str, ...] = ()
    cluster: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    missing_labels: tuple[str, ...] = ()
    familiarity: np.ndarray = field(default_factory=lambda: np.empty(0, np.float32))

    @cached_property
    def cluster_number(self) -> np.ndarray:
        """Number of each image's cluster, (n,) int from 0."""
        if not self.cluster:
            return np.arange(len(self.truth))
        return np.unique(self.cluster, return_inverse=True)[1]

    @property
    def clusters(self) -> int:
        """Number of independent clusters of the images; as many as images if each is independent."""
        return len(np.unique(self.cluster_number))

    @cached_property
    def predicted(self) -> np.ndarray:
        """Predicted label of each image, (n,) int: the position of the largest score in `labels`."""
        return self.scores.argmax(axis=1)

    @cached_property
    def correct(self) -> np.ndarray:
        """Whether the prediction of each image is correct, (n,) bool."""
        return self.predicted == self.truth

    @cached_property
    def confusion(self) -> np.ndarray:
        """Confusion matrix, (k, k) int, in images; row: true label, column: predicted label."""
        from sklearn.metrics import confusion_matrix

        return confusion_matrix(self.truth, self.predicted, labels=range(len(self.labels)))

    @cached_property
    def confidence(self) -> np.ndarray:
        """Largest probability of each image, (n,), 0 to 1."""
        return self.probabilities.max(axis=1).clip(0, 1)  # a softmax in float32 may exceed 1 by rounding

    def accuracy(self, rows: np.ndarray) -> Accuracy:
        """Accuracy on some of the images; `rows` is (n,) bool."""
        correct = self.correct[rows]
        value = float(correct.mean()) if len(correct) else float("nan")
        return Accuracy(value, intervals.accuracy(correct, self.cluster_number[rows]), len(correct))

    def class_accuracy(self, label: str) -> Accuracy:
        """Accuracy on the images of `label` (its recall)."""
        return self.accuracy(self.truth == self.labels.index(label))

    @cached_property
    def overall_accuracy(self) -> Accuracy:
        """Accuracy on all images."""
        return self.accuracy(np.ones(len(self.truth), bool))

    @property
    def overall_accuracy_bounds(self) -> Interval:
        """Overall accuracy if all `missing` images were misclassified, and if all were correct."""
        return _bounds([self.correct.sum()], [len(self.truth)], [len(self.missing)])

    @property
    def class_averaged_accuracy_bounds(self) -> Interval:
        """Class-averaged accuracy if all `missing` images were misclassified, and if all were correct."""
        missing = [self.missing_labels.count(label) for label in self.labels]
        return _bounds(self.confusion.diagonal(), self.confusion.sum(axis=1), missing)

    @cached_property
    def class_averaged_accuracy(self) -> Accuracy:
        """Mean of the class accuracies (balanced accuracy); rare labels count as much as frequent ones."""
        value = np.mean([self.correct[self.truth == k].mean() for k in np.unique(self.truth)])
        interval = intervals.average(self.correct, self.truth, self.cluster_number)
        return Accuracy(float(value), interval, len(self.truth))

    @property
    def chance_level(self) -> float:
        """Class-averaged accuracy of random guessing: 1 / k."""
        return 1 / len(self.labels)

    @property
    def majority_class_baseline(self) -> float:
        """Overall accuracy of always predicting the most frequent label: its share of the images."""
        return float(np.bincount(self.truth).max() / len(self.truth))

    def worst(self, most: int) -> np.ndarray:
        """Rows of at most `most` misclassified images, the largest probability of the wrong label first."""
        wrong = np.flatnonzero(~self.correct)
        confidence = self.probabilities[wrong, self.predicted[wrong]]
        return wrong[np.argsort(-confidence, kind="stable")][:most]

    def captions(self, rows: Sequence[int]) -> list[str]:
        """Captions of the images: true label, predicted label and the largest probability."""
        return [
            f"{self.labels[self.truth[row]]}\n"
            f"predicted {self.labels[self.predicted[row]]} {self.probabilities[row].max():.2f}"
            for row in rows
        ]

    def __str__(self) -> str:
        return f"{len(self.truth)} images: overall accuracy {self.overall_accuracy}"


def score(
    classifier: Classifier,
    dataset: Dataset,
    images: Sequence[Image],
    *,
    cluster: Mapping[str, str] | None = None,
    seed: int = 0,
    progress: Callable[[int], None] = lambda done: None,
) -> tuple[Evaluation, list[Skipped]]:
    """Evaluate a classifier on images; return also the images that can no longer be read.

    Parameters
    ----------
    cluster : name of the cluster of each path (`Split.cluster`); None if all images are independent.

    Raises
    ------
    ImgclfError : no image is left of a label, or more than `MAX_MISSING` of all are missing; or an image has
        a label that the classifier was not trained on.
    """
    scored: list[tuple[Image, Prediction]] = []
    skipped: list[Skipped] = []
    missing: list[Image] = []
    for done, (i, prediction) in enumerate(classifier.predict(image_sources(dataset, images)), start=1):
        if isinstance(prediction, Skipped):
            skipped.append(prediction)
            missing.append(images[i])
        else:
            scored.append((images[i], prediction))
        progress(done)
    _check_missing(images, missing, skipped)
    evaluation = evaluate(
        classifier.labels,
        [image.path for image, _ in scored],
        [image.label for image, _ in scored],
        np.array([prediction.scores for _, prediction in scored]),
        np.array([prediction.probabilities for _, prediction in scored]),
        seed=seed,
        sha256=[image.sha256 for image, _ in scored],
        cluster=[cluster[image.path] for image, _ in scored] if cluster else (),
    )
    familiarity = [one.familiarity for _, one in scored if one.familiarity is not None]
    return replace(
        evaluation,
        familiarity=np.array(familiarity, np.float32),
        missing=tuple(image.path for image in missing),
        missing_labels=tuple(image.label for image in missing),
    ), skipped


def _check_missing(images: Sequence[Image], missing: Sequence[Image], skipped: Sequence[Skipped]) -> None:
    """Refuse an accuracy without images that may have been wrong; `skipped` has the reasons."""
    of_label = Counter(image.label for image in images)
    lost = sorted((of_label & Counter(image.label for image in missing)).items())
    whole = [label for label, count in lost if count == of_label[label]]
    if len(missing) > MAX_MISSING * len(images) or whole:
        of_whole = f", among them all of {', '.join(whole)}" if whole else ""
        raise ImgclfError(
            f"{len(missing)} of the {len(images)} images to evaluate are gone, changed or unreadable"
            f"{of_whole} ({first_few([image.path for image in missing])}; the first: {skipped[0].reason}); "
            "restore them, or run 01_prepare_data to 05_evaluate again"
        )


def _bounds(correct: ArrayLike, images: ArrayLike, missing: ArrayLike) -> Interval:
    """Mean accuracy of groups of images if all missing ones were misclassified, and if all were correct."""
    sizes = np.add(images, missing)
    used = sizes > 0
    low, high = ((np.add(correct, right)[used] / sizes[used]).mean() for right in (0, missing))
    return float(low), float(high)


def evaluate(
    labels: Sequence[str],
    paths: Sequence[str],
    truth: Sequence[str],
    scores: np.ndarray,
    probabilities: np.ndarray,
    *,
    seed: int = 0,
    sha256: Sequence[str] = (),
    cluster: Sequence[str] = (),
) -> Evaluation:
    """Return the evaluation of n images, from their true labels and their scores.

    Parameters
    ----------
    labels : the k labels, in the order of the columns of `scores` and `probabilities`, (n, k).
    paths, truth, sha256, cluster : path, true label, content and cluster of each image.

    Raises
    ------
    ImgclfError : there are no images, or a true label is not one of `labels`.
    """
    if not paths:
        raise ImgclfError(
            "there is no test image to evaluate: each label has one image or, with split_by=group, one "
            "group, which is trained on; add other images, and run 01_prepare_data again"
        )
    unknown = sorted(set(truth) - set(labels))
    if unknown:
        noun = "label" if len(unknown) == 1 else "labels"
        raise ImgclfError(
            f"the classifier was not trained on the {noun} {', '.join(unknown)}; run 04_train_svm again"
        )
    position = {label: k for k, label in enumerate(labels)}
    return Evaluation(
        tuple(labels),
        tuple(paths),
        np.array([position[label] for label in truth]),
        scores,
        probabilities,
        seed,
        tuple(sha256),
        tuple(cluster),
    )


def condensed_confusion(evaluation: Evaluation, *, most: int) -> tuple[list[str], np.ndarray]:
    """Return the confusion matrix of the labels with the most mistakes; the others have one row and column.

    A mistake counts for its true and for its predicted label. Up to `most` labels, it is the whole matrix.

    Returns
    -------
    The m labels of the rows, the last of which names how many others it sums, and (m, m) int, in images; the
    sum is the number of all images.
    """
    counts, labels = evaluation.confusion, list(evaluation.labels)
    if len(labels) <= most:
        return labels, counts
    wrong = counts - np.diag(counts.diagonal())
    worst = np.sort(np.argsort(-(wrong.sum(axis=0) + wrong.sum(axis=1)), kind="stable")[:most])
    place = np.full(len(labels), most)
    place[worst] = range(most)
    condensed = np.zeros((most + 1, most + 1), counts.dtype)
    np.add.at(condensed, (place[:, None], place[None, :]), counts)
    return [*(labels[k] for k in worst), f"{len(labels) - most} others"], condensed


def worst_confusions(evaluation: Evaluation, *, most: int) -> list[Mistake]:
    """The pairs of labels that are confused, most images first; ties in the order of the labels."""
    wrong = evaluation.confusion - np.diag(evaluation.confusion.diagonal())
    pairs = np.argwhere(wrong)
    pairs = pairs[np.argsort(-wrong[tuple(pairs.T)], kind="stable")][:most]
    of_label = evaluation.confusion.sum(axis=1)
    return [
        Mistake(
            evaluation.labels[t], evaluation.labels[p], int(wrong[t, p]), float(wrong[t, p] / of_label[t])
        )
        for t, p in pairs
    ]
