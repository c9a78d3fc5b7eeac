"""How good a classifier is, with the uncertainty that the number of test images leaves."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from imgclf import ImgclfError
from imgclf.classifier.model import Classifier, Prediction
from imgclf.data.dataset import Dataset, Image
from imgclf.features import image_sources
from imgclf.images.loading import Skipped

CONFIDENCE = 0.95
RESAMPLES = 1000  # of a bootstrap
DRAWS = 20_000

Interval = tuple[float, float]


@dataclass(frozen=True)
class Accuracy:
    """A share of images that were classified right, 0 to 1, with its 95 % interval. NaN where there are no images."""

    value: float
    interval: Interval
    images: int

    def __str__(self) -> str:
        if not self.images:
            return "no images"
        return f"{self.value:.0%} ({self.interval[0]:.0%} to {self.interval[1]:.0%}, {self.images} images)"


@dataclass(frozen=True)
class Mistake:
    """One way the classifier goes wrong: images of label `true` taken for `predicted`."""

    true: str
    predicted: str
    images: int
    share: float  # of all images of `true`, 0 to 1


@dataclass(frozen=True)
class Evaluation:
    """Scores of images whose labels are known.

    Attributes
    ----------
    labels : the k labels, in the order of the columns.
    paths : the n images.
    truth : (n,) int, position of each image's label in `labels`.
    scores, probabilities : (n, k) float32. A score is -inf where the label was not known to what scored the image.
    seed : of the bootstrap.
    sha256 : of the n images' contents, by which they are found again when they stand under another label; or empty.
    """

    labels: tuple[str, ...]
    paths: tuple[str, ...]
    truth: np.ndarray
    scores: np.ndarray
    probabilities: np.ndarray
    seed: int = 0
    sha256: tuple[str, ...] = ()

    @cached_property
    def predicted(self) -> np.ndarray:
        """(n,) int, position of the label with the largest score."""
        return self.scores.argmax(axis=1)

    @cached_property
    def right(self) -> np.ndarray:
        """(n,) bool."""
        return self.predicted == self.truth

    @cached_property
    def confusion(self) -> np.ndarray:
        """(k, k) int, images; row: true label, column: predicted label."""
        from sklearn.metrics import confusion_matrix

        return confusion_matrix(self.truth, self.predicted, labels=range(len(self.labels)))

    def class_accuracy(self, label: str) -> Accuracy:
        """Share of the images of `label` that were given it (recall), with its Wilson interval."""
        return wilson(self.right[self.truth == self.labels.index(label)])

    @cached_property
    def overall_accuracy(self) -> Accuracy:
        """Share of all images that were given the right label, with its Wilson interval."""
        return wilson(self.right)

    @cached_property
    def class_averaged_accuracy(self) -> Accuracy:
        """Mean of the class accuracies, so that rare labels count as much.

        Its interval combines Jeffreys' beta distributions of the labels. Drawing the images again would call an
        accuracy of 100 % on eight images certain, since it knows no other outcome than those seen.

        Source: L. Brown, T. Cai, A. DasGupta, "Interval estimation for a binomial proportion", Stat. Sci. 16 (2001), p. 108.
        """
        draws = np.random.default_rng(self.seed)
        groups = [self.right[self.truth == k] for k in np.unique(self.truth)]
        value = float(np.mean([right.mean() for right in groups]))
        samples = [draws.beta(right.sum() + 0.5, (~right).sum() + 0.5, size=DRAWS) for right in groups]
        low, high = percentile_interval(np.mean(samples, axis=0))
        return Accuracy(value, (min(low, value), max(high, value)), len(self.truth))

    @property
    def chance_level(self) -> float:
        """Class-averaged accuracy of guessing: 1 / k."""
        return 1 / len(self.labels)

    @property
    def largest_share(self) -> float:
        """Overall accuracy of always answering with the commonest label."""
        return float(np.bincount(self.truth).max() / len(self.truth))

    def worst(self, most: int) -> np.ndarray:
        """Rows of the wrong images, the most confident mistake first (by the probability of the wrong label)."""
        wrong = np.flatnonzero(~self.right)
        confidence = self.probabilities[wrong, self.predicted[wrong]]
        return wrong[np.argsort(-confidence, kind="stable")][:most]

    def captions(self, rows: Sequence[int]) -> list[str]:
        """For each row: true label, predicted label and its probability, to stand above the image."""
        return [
            f"{self.labels[self.truth[row]]}\npredicted {self.labels[self.predicted[row]]} {self.probabilities[row].max():.2f}"
            for row in rows
        ]

    def __str__(self) -> str:
        return f"{len(self.truth)} images: overall accuracy {self.overall_accuracy}"


def score(
    classifier: Classifier,
    dataset: Dataset,
    images: Sequence[Image],
    *,
    seed: int = 0,
    progress: Callable[[int], None] = lambda done: None,
) -> tuple[Evaluation, list[Skipped]]:
    """Score images through a classifier; gives also those that cannot be read any more.

    Raises
    ------
    ImgclfError : no image is left, or one has a label that the classifier does not know.
    """
    scored: list[tuple[Image, Prediction]] = []
    skipped: list[Skipped] = []
    for done, (i, found) in enumerate(classifier.predict(image_sources(dataset, images)), start=1):
        if isinstance(found, Skipped):
            skipped.append(found)
        else:
            scored.append((images[i], found))
        progress(done)
    evaluation = evaluate(
        classifier.labels,
        [image.path for image, _ in scored],
        [image.label for image, _ in scored],
        np.array([found.scores for _, found in scored]),
        np.array([found.probabilities for _, found in scored]),
        seed=seed,
        sha256=[image.sha256 for image, _ in scored],
    )
    return evaluation, skipped


def evaluate(
    labels: list[str],
    paths: list[str],
    truth: list[str],
    scores: np.ndarray,
    probabilities: np.ndarray,
    *,
    seed: int = 0,
    sha256: Sequence[str] = (),
) -> Evaluation:
    """An evaluation of images with labels `truth` and contents `sha256`, whose scores are (n, k) in the order of `labels`.

    Raises
    ------
    ImgclfError : no images, or a true label that the classifier does not know.
    """
    if not paths:
        raise ImgclfError(
            "there is no test image to evaluate; lower train_fraction, or add images, and run 01_prepare_data again"
        )
    unknown = sorted(set(truth) - set(labels))
    if unknown:
        raise ImgclfError(
            f"the classifier does not know the label{'s' * (len(unknown) > 1)} {', '.join(unknown)}; run 04_train_svm again"
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
    )


def worst_confusions(evaluation: Evaluation, *, most: int) -> list[Mistake]:
    """The pairs of labels that are mistaken for each other, most images first; ties in the order of the labels."""
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


def wilson(right: np.ndarray) -> Accuracy:
    """The share of True in `right`, with Wilson's 95 % interval."""
    value = float(right.mean()) if len(right) else float("nan")
    return Accuracy(value, wilson_interval(int(right.sum()), len(right)), len(right))


def wilson_interval(right: int, images: int) -> Interval:
    """Lower and upper end of Wilson's 95 % interval of the share `right` / `images`, 0 to 1; NaN if there are no images.

    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927), p. 209.
    """
    if not images:
        return float("nan"), float("nan")
    from scipy.stats import binomtest

    interval = binomtest(right, images).proportion_ci(CONFIDENCE, method="wilson")
    return float(interval.low), float(interval.high)


def percentile_interval(samples: np.ndarray) -> Interval:
    """Lower and upper end of the middle 95 % of samples."""
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(samples, [tail, 100 - tail])
    return float(low), float(high)
