"""A linear support vector machine on features, one score for each label."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from imgclf import ImgclfError, files

if TYPE_CHECKING:
    from sklearn.svm import LinearSVC

FOLDS = 3
MOST_ITERATIONS = 3000


@dataclass(frozen=True)
class Head:
    """The linear classifier: scores = normalized features @ weights.T + offsets.

    Attributes
    ----------
    labels : the k labels, sorted; the order of all scores.
    weights : (k, d) float32. offsets : (k,) float32.
    l2_normalize : whether each feature vector is first scaled to length 1.
    c : the regularization that was chosen; smaller is smoother.
    temperature : probabilities are softmax(scores / temperature).
    """

    labels: tuple[str, ...]
    weights: np.ndarray
    offsets: np.ndarray
    l2_normalize: bool
    c: float
    temperature: float

    def scores(self, matrix: np.ndarray) -> np.ndarray:
        """Decision values of features (n, d), as (n, k) float32; the largest wins. Not probabilities."""
        vectors = _directions(matrix) if self.l2_normalize else matrix
        return vectors @ self.weights.T + self.offsets


@dataclass(frozen=True)
class Search:
    """What each C gave: class-averaged accuracy, 0 to 1, on the images it learned from and on held-out folds.

    `held_out` holds the out-of-fold scores (n, k) of the C that was chosen, in the order of the training images;
    -inf for a label that was not among the images learned from.
    """

    c: tuple[float, ...]
    train_accuracy: tuple[float, ...]
    cv_accuracy: tuple[float, ...]
    best: int  # position in `c`
    held_out: np.ndarray
    head: Head

    def __str__(self) -> str:
        if np.isnan(self.cv_accuracy[self.best]):
            return f"C = {self.head.c:g}: nothing could be held out, so C was not chosen by accuracy; more images of each label would tell"
        return (
            f"C = {self.head.c:g}: cross-validated class-averaged accuracy {self.cv_accuracy[self.best]:.2f}"
        )


def train(
    matrix: np.ndarray,
    labels: np.ndarray,
    clusters: np.ndarray,
    *,
    c_values: list[float],
    l2_normalize: bool = True,
    seed: int = 0,
    held_back: np.ndarray | None = None,
) -> Search:
    """Fit a class-balanced linear SVM for each C and keep the C that does best on held-out training images.

    Parameters
    ----------
    matrix : (n, d) float32 features. labels : (n,) label of each row.
    clusters : (n,) names; rows of one cluster are never divided between folds.
    c_values : the C to try. Best is the highest cross-validated class-averaged accuracy; of equal ones, that whose probabilities fit the
        held-out images best (with few images many C are equal, and the smallest of them are sure of nothing). Where too few images are there to hold any out, that accuracy is NaN and the C nearest to 1 is taken.
    held_back : (n,) bool; if given, C and temperature are chosen on these rows alone, scored by machines that learned from the others,
        instead of by cross-validation. The machine that is kept has learned from all rows.

    Raises
    ------
    ImgclfError : fewer than two labels, or no C.

    Source: scikit-learn's LinearSVC (one against the rest, squared hinge loss); temperature: C. Guo et al.,
    "On Calibration of Modern Neural Networks", arXiv 1706.04599, section 4.2.
    """
    names, truth = np.unique(labels, return_inverse=True)
    if len(names) < 2:
        raise ImgclfError(
            f"all training images have the label '{', '.join(names)}'; a classifier needs at least two labels"
        )
    if not c_values or min(c_values) <= 0:
        raise ImgclfError(f"svm_c={list(c_values)}: give at least one C, all above 0")
    c_values = sorted(c_values)
    vectors = _directions(matrix) if l2_normalize else matrix
    folds = _folds(truth, clusters, seed) if held_back is None else _one_fold(held_back)
    held_out = [_held_out_scores(vectors, truth, folds, c, seed) for c in c_values]
    cv_accuracy = [_accuracy(truth, scores) for scores in held_out]
    machines = [_fit(vectors, truth, c, seed) for c in c_values]
    train_accuracy = [_accuracy(truth, _scores(machine, vectors)) for machine in machines]
    unknown = np.isnan(cv_accuracy).any()
    best = (
        int(np.argmin(np.abs(np.log(c_values))))
        if unknown
        else _best(np.round(cv_accuracy, 6), held_out, truth)
    )
    weights, offsets = _columns(machines[best])
    head = Head(
        tuple(names.tolist()),
        weights,
        offsets,
        l2_normalize,
        c_values[best],
        temperature(held_out[best], truth),
    )
    return Search(tuple(c_values), tuple(train_accuracy), tuple(cv_accuracy), best, held_out[best], head)


def _best(accuracy: np.ndarray, held_out: list[np.ndarray], truth: np.ndarray) -> int:
    """The position of the highest accuracy; of equal ones, that with the smallest cross-entropy on the held-out images."""
    equal = np.flatnonzero(accuracy == accuracy.max()).tolist()
    return min(equal, key=lambda k: _fitted(held_out[k], truth)[1])


def _directions(matrix: np.ndarray) -> np.ndarray:
    """Each row scaled to length 1; rows of zeros stay."""
    from sklearn.preprocessing import normalize

    return normalize(matrix)


def _fit(vectors: np.ndarray, truth: np.ndarray, c: float, seed: int) -> "LinearSVC":
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.svm import LinearSVC

    machine = LinearSVC(C=c, class_weight="balanced", random_state=seed, max_iter=MOST_ITERATIONS)
    with warnings.catch_warnings():
        # At large C it stops before the last digit of the optimum; the accuracies show whether that mattered.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return machine.fit(vectors, truth)


def _columns(machine: "LinearSVC") -> tuple[np.ndarray, np.ndarray]:
    """Weights and offsets with a row for each label, also for two labels, where LinearSVC has a single one."""
    weights, offsets = machine.coef_, machine.intercept_
    if len(weights) == 1:
        weights, offsets = np.vstack([-weights, weights]), np.concatenate([-offsets, offsets])
    return weights.astype(np.float32), offsets.astype(np.float32)


def _scores(machine: "LinearSVC", vectors: np.ndarray) -> np.ndarray:
    weights, offsets = _columns(machine)
    return vectors @ weights.T + offsets


def _held_out_scores(
    vectors: np.ndarray, truth: np.ndarray, folds: list[tuple[np.ndarray, np.ndarray]], c: float, seed: int
) -> np.ndarray:
    """Scores (n, k) of each image by a machine that did not learn from it; -inf for a label that its fold did not teach."""
    scores = np.full((len(vectors), truth.max() + 1), -np.inf, np.float32)
    for learned, held_out in folds:
        present = np.unique(truth[learned])
        if len(present) == 1:
            scores[held_out, present] = 0  # it knows one label only, and answers with it
        else:
            machine = _fit(vectors[learned], np.searchsorted(present, truth[learned]), c, seed)
            scores[np.ix_(held_out, present)] = _scores(machine, vectors[held_out])
    return scores


def _folds(truth: np.ndarray, clusters: np.ndarray, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rows to learn from and rows held out, for each fold; none where nothing can be held out."""
    from sklearn.model_selection import StratifiedGroupKFold

    folds = min(FOLDS, len(np.unique(clusters)), np.bincount(truth).max())
    if folds < 2:
        return []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a label with fewer images than folds
        cut = list(StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(truth, truth, clusters))
    return [(learned, held_out) for learned, held_out in cut if len(held_out) and len(learned)]


def _one_fold(held_back: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    return (
        [(np.flatnonzero(~held_back), np.flatnonzero(held_back))]
        if 0 < held_back.sum() < len(held_back)
        else []
    )


def _accuracy(truth: np.ndarray, scores: np.ndarray) -> float:
    """Class-averaged, of the rows that have scores; NaN if none has."""
    from sklearn.metrics import balanced_accuracy_score

    rows = np.isfinite(scores).any(axis=1)
    return (
        float(balanced_accuracy_score(truth[rows], scores[rows].argmax(axis=1)))
        if rows.any()
        else float("nan")
    )


def temperature(scores: np.ndarray, truth: np.ndarray) -> float:
    """The temperature that makes the softmax of held-out scores likeliest; 1 where none can tell.

    As if one more image of each label had been held out and scored evenly (Laplace's rule, as in J. Platt, "Probabilistic
    outputs for support vector machines", 1999, section 2.2): without mistakes to learn from, nothing else keeps the
    probabilities from 0 and 1, of which so few images cannot make sure.
    """
    return _fitted(scores, truth)[0]


def _fitted(scores: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """The temperature, and the cross-entropy with it; 1 and 0 where none can tell."""
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    taught = np.isfinite(scores[np.arange(len(truth)), truth]) & (np.isfinite(scores).sum(axis=1) > 1)
    if not taught.any():
        return 1.0, 0.0
    scores, truth = scores[taught], truth[taught]
    images, k = scores.shape
    wanted = (np.eye(k)[truth] * images + 1) / (images + k)

    def loss(log_temperature: float) -> float:
        log_probabilities = log_softmax(scores / np.exp(log_temperature), axis=1)
        return -(wanted * np.where(np.isfinite(scores), log_probabilities, 0)).sum(axis=1).mean()

    found = minimize_scalar(loss, bounds=(-5, 5), method="bounded")
    return float(np.exp(found.x)), float(found.fun)


def write(head: Head, path: Path) -> None:
    """Write the head as numpy arrays, whole; no pickle inside."""
    files.write_npz(path, {**vars(head), "labels": np.array(head.labels)})


def read(path: Path) -> Head:
    """The head that `write` wrote.

    Raises
    ------
    ImgclfError : the file is damaged.
    """
    try:
        arrays = files.read_npz(path)
        return Head(
            tuple(arrays["labels"].tolist()),
            arrays["weights"],
            arrays["offsets"],
            bool(arrays["l2_normalize"]),
            float(arrays["c"]),
            float(arrays["temperature"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ImgclfError(f"{path}: damaged; run 04_train_svm again") from error
