"""A linear support vector machine (SVM) on feature vectors, with C chosen by cross-validation."""

import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from imgclf import ImgclfError, files

if TYPE_CHECKING:
    from sklearn.svm import LinearSVC

FOLDS = 3
MAX_ITERATIONS = 3000
ROUNDING = 1e-9  # accuracies that differ by less are equal
LOG_TEMPERATURE_BOUNDS = (-5.0, 5.0)
BY_C = "accuracy_over_c"  # in the metadata of a classifier
FITTING = threading.Lock()
Fold = tuple[np.ndarray, np.ndarray]  # the rows that are trained on, and those that are held out


@dataclass(frozen=True)
class Head:
    """A linear classifier on feature vectors: scores = normalized features @ weights.T + offsets.

    Attributes
    ----------
    labels : the k labels, sorted; the order of all scores.
    weights : (k, d) float32, the coefficients. offsets : (k,) float32, the intercepts.
    l2_normalize : whether each feature vector is first scaled to Euclidean length 1.
    c : the inverse regularization strength that was chosen; a smaller C regularizes more.
    temperature : of the calibration; probabilities are softmax(scores / temperature).
    """

    labels: tuple[str, ...]
    weights: np.ndarray
    offsets: np.ndarray
    l2_normalize: bool
    c: float
    temperature: float

    def scores(self, matrix: np.ndarray) -> np.ndarray:
        """Return decision values (n, k) float32 of features (n, d); the largest wins. No probabilities."""
        vectors = normalized(matrix) if self.l2_normalize else matrix
        return vectors @ self.weights.T + self.offsets

    def probabilities(self, matrix: np.ndarray) -> np.ndarray:
        """Return calibrated probabilities (n, k) of features (n, d)."""
        return probabilities(self.scores(matrix), self.temperature)


@dataclass(frozen=True)
class CSearch:
    """A head, and the evaluation of each candidate C on images that its estimator was not trained on.

    The images are scored out of fold (cross-validation) or are a validation set. A head whose C was not
    searched has empty tuples.

    Attributes
    ----------
    head : of the chosen C, trained on all rows.
    oof_scores : (n, k) out-of-fold scores of the chosen C, in the order of the training images; -inf for a
        label without training images in that fold, and in all columns for an image that was never held out.
    c : the candidates, ascending. The four tuples below have a value for each.
    train_accuracy : class-averaged accuracy on the training images, 0 to 1.
    cv_accuracy : class-averaged accuracy on the held-out images, 0 to 1; NaN if there were none.
    correct : number of held-out images predicted right.
    cross_entropy : mean cross-entropy of the held-out images after temperature scaling, in nats.
    best : position of the chosen C in `c`; see `select_c`.
    most_accurate : position of the C of the highest `cv_accuracy`; of equal ones, the chosen one if it is
        among them, else that of the smallest cross-entropy.
    """

    head: Head
    oof_scores: np.ndarray
    c: tuple[float, ...] = ()
    train_accuracy: tuple[float, ...] = ()
    cv_accuracy: tuple[float, ...] = ()
    correct: tuple[int, ...] = ()
    cross_entropy: tuple[float, ...] = ()
    best: int = 0
    most_accurate: int = 0

    @property
    def held_out(self) -> np.ndarray:
        """(m,) int, rows of the images that were held out, so that their scores are out of fold."""
        return np.flatnonzero(np.isfinite(self.oof_scores).any(axis=1))

    @property
    def by_c(self) -> dict[str, list[float]]:
        """The candidates as plain values, for the metadata of a classifier under `BY_C`."""
        return {
            "C": list(self.c),
            "training accuracy": list(self.train_accuracy),
            "out-of-fold accuracy": list(self.cv_accuracy),
        }

    @property
    def is_by_accuracy(self) -> bool:
        """Whether the C was chosen by its accuracy on held-out images."""
        return bool(self.cv_accuracy) and not np.isnan(self.cv_accuracy[self.best])

    @property
    def comparison(self) -> str:
        """Why the chosen C was preferred to the one of the highest accuracy; "" if they are the same."""
        if self.best == self.most_accurate or not self.is_by_accuracy:
            return ""
        difference = self.correct[self.most_accurate] - self.correct[self.best]
        count = f"{abs(difference)} {'more' if difference > 0 else 'fewer'}" if difference else "as many"
        largest = f"C = {self.c[self.most_accurate]:g}"
        found = f"{largest} classifies {count} of {len(self.held_out)} images correctly"
        if (
            difference <= 0
            and round(self.cv_accuracy[self.most_accurate] - self.cv_accuracy[self.best], 2) > 0
        ):
            found += f" and a class-averaged accuracy of {self.cv_accuracy[self.most_accurate]:.2f}"
        if self.best < self.most_accurate:
            return f"{found}, within one standard error, and the smaller C regularizes more"
        losses = f"{self.cross_entropy[self.most_accurate]:.2f}, not {self.cross_entropy[self.best]:.2f}"
        return f"{found}, but its probabilities are clearly worse: cross-entropy {losses}"

    @property
    def warning(self) -> str:
        """What to do if the best C, or the most accurate one, lies at the border of the grid; else ""."""
        if not self.is_by_accuracy or len(self.c) == 1:
            return ""
        smallest, largest = self.c[0], self.c[-1]
        if self.head.c == largest:
            return f"warning: the best C is the largest tried, {largest:g}; extend svm_c with larger values"
        if self.head.c == smallest:
            return (
                f"warning: the chosen C is the smallest tried, {smallest:g}; extend svm_c with smaller values"
            )
        if self.c[self.most_accurate] == largest:
            return (
                f"note: the C of the highest accuracy is the largest tried, {largest:g}; "
                "extend svm_c with larger values to see whether the accuracy still rises"
            )
        return ""

    def __str__(self) -> str:
        if not self.c:
            return "no C was searched"
        if not self.is_by_accuracy:
            return (
                f"C = {self.head.c:g}: no image could be held out, so C was not chosen by accuracy; "
                "more images of each label would allow cross-validation"
            )
        found = f"C = {self.head.c:g}: out-of-fold class-averaged accuracy {self.cv_accuracy[self.best]:.2f}"
        return "; ".join(filter(None, [found, self.comparison]))


def train(
    matrix: np.ndarray,
    labels: np.ndarray,
    clusters: np.ndarray,
    *,
    c_values: list[float],
    l2_normalize: bool = True,
    seed: int = 0,
    validation: np.ndarray | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> CSearch:
    """Fit a class-balanced linear SVM for each C, and choose the C by its out-of-fold predictions.

    Parameters
    ----------
    matrix : (n, d) float32 features. labels : (n,) label of each row.
    clusters : (n,) names; rows of one cluster are never divided between folds.
    c_values : the candidates; see `select_c`. Where too few images are there to hold any out, the accuracy is
        NaN and the C nearest to 1 is taken.
    validation : (n,) bool mask; if given, C and temperature are chosen on these rows alone, scored by
        estimators that were trained on the others, instead of by cross-validation. The head is trained on all
        rows.
    progress : called with the number of estimators that are trained and of all.

    Raises
    ------
    ImgclfError : fewer than two labels, or no C.

    Source: scikit-learn's LinearSVC (one against the rest, squared hinge loss); temperature: C. Guo et al.,
    "On Calibration of Modern Neural Networks", arXiv 1706.04599, section 4.2.
    """
    names, y = np.unique(labels, return_inverse=True)
    if len(names) < 2:
        raise ImgclfError(
            f"all training images have the label '{', '.join(names)}'; a classifier needs at least two labels"
        )
    if not c_values or min(c_values) <= 0:
        raise ImgclfError(f"svm_c={list(c_values)}: give at least one C, all above 0")
    c_values = sorted(c_values)
    progress(0, len(c_values) * (FOLDS + 1))  # already to divide many images into folds takes seconds
    vectors = normalized(matrix) if l2_normalize else matrix
    folds = folds_of(y, clusters, seed) if validation is None else _single_fold(validation)
    total = len(c_values) * (len(folds) + 1)
    oof_by_c, estimator_of = {}, {}
    for number, c in enumerate(
        reversed(c_values)
    ):  # a large C takes longest, so the time left is no surprise
        progress(number * (len(folds) + 1), total)
        estimator_of[c] = _fit(vectors, y, c, seed)
        progress(number * (len(folds) + 1) + 1, total)
        oof_by_c[c] = out_of_fold_scores(vectors, y, folds, c, seed)
    oof_scores, estimators = ([by_c[c] for c in c_values] for by_c in (oof_by_c, estimator_of))
    cv_accuracy = [_balanced_accuracy(y, scores) for scores in oof_scores]
    if np.isnan(cv_accuracy).any():
        best = most_accurate = int(np.argmin(np.abs(np.log(c_values))))
    else:
        best, most_accurate = select_c(y, oof_scores)
    weights, offsets = _coefficients(estimators[best])
    temperature = fit_temperature(oof_scores[best], y)
    return CSearch(
        Head(tuple(names.tolist()), weights, offsets, l2_normalize, c_values[best], temperature),
        oof_scores[best],
        tuple(c_values),
        tuple(_balanced_accuracy(y, _scores(estimator, vectors)) for estimator in estimators),
        tuple(cv_accuracy),
        tuple(int(_is_right(y, scores)[1].sum()) for scores in oof_scores),
        tuple(float(_calibrated_losses(scores, y).mean()) for scores in oof_scores),
        best,
        most_accurate,
    )


def select_c(y: np.ndarray, oof_scores: list[np.ndarray]) -> tuple[int, int]:
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
    y : (n,) int, positions of the true labels.
    oof_scores : for each C, ascending, (n, k) out-of-fold scores; see `CSearch.oof_scores`.

    Source: L. Breiman et al., "Classification and Regression Trees", 1984, section 3.4.3; T. Hastie et al.,
    "The Elements of Statistical Learning", 2nd ed., section 7.10.
    """
    accuracy = np.array([_balanced_accuracy(y, scores) for scores in oof_scores])
    losses = np.stack([_calibrated_losses(scores, y) for scores in oof_scores])
    cross_entropy = losses.mean(axis=1)
    equal = np.flatnonzero(accuracy > accuracy.max() - ROUNDING)
    most_accurate = int(equal[cross_entropy[equal].argmin()])
    least = accuracy[most_accurate] - _standard_error(y, oof_scores[most_accurate])
    accurate = np.flatnonzero(accuracy > least - ROUNDING)
    reference = accurate[cross_entropy[accurate].argmin()]
    best = next(int(k) for k in accurate if not _is_clearly_larger(losses[k], losses[reference]))
    return best, best if best in equal else most_accurate


def _is_right(y: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows that have scores, and whether the largest score of each is that of its label."""
    rows = np.flatnonzero(np.isfinite(scores).any(axis=1))
    return rows, scores[rows].argmax(axis=1) == y[rows]


def _balanced_accuracy(y: np.ndarray, scores: np.ndarray) -> float:
    """Return the class-averaged accuracy of the rows that have scores; NaN if none has."""
    rows, right = _is_right(y, scores)
    if not len(rows):
        return float("nan")
    return float(np.mean([right[y[rows] == k].mean() for k in np.unique(y[rows])]))


def _standard_error(y: np.ndarray, scores: np.ndarray) -> float:
    """Return the standard error of `_balanced_accuracy`: of a mean over labels of binomial shares."""
    rows, right = _is_right(y, scores)
    variances = [right[y[rows] == k].var() / (y[rows] == k).sum() for k in np.unique(y[rows])]
    return float(np.sqrt(np.sum(variances)) / len(variances))


def _is_clearly_larger(losses: np.ndarray, others: np.ndarray) -> bool:
    """Whether losses exceed others, of the same images, by more than one standard error on average."""
    differences = losses - others
    error = differences.std(ddof=1) / np.sqrt(len(differences)) if len(differences) > 1 else 0.0
    return bool(differences.mean() > error + ROUNDING)


def normalized(matrix: np.ndarray) -> np.ndarray:
    """Return the rows scaled to Euclidean length 1; rows of zeros stay."""
    from sklearn.preprocessing import normalize

    return normalize(matrix)


def _fit(vectors: np.ndarray, y: np.ndarray, c: float, seed: int) -> "LinearSVC":
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.svm import LinearSVC

    estimator = LinearSVC(C=c, class_weight="balanced", random_state=seed, max_iter=MAX_ITERATIONS)

    def fit() -> None:
        # One at a time: liblinear has one random generator, and one may still run after an interruption.
        with FITTING, warnings.catch_warnings():
            # At large C it stops before the last digit of the optimum; the accuracies show if that mattered.
            warnings.simplefilter("ignore", ConvergenceWarning)
            estimator.fit(vectors, y)

    _run_interruptibly(fit)
    return estimator


def _run_interruptibly(work: Callable[[], object]) -> None:
    """Run work that ignores Ctrl-C, since it is one call of C code, so that Ctrl-C is answered at once."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(0.2)  # on Windows, a wait without a timeout ignores Ctrl-C
    if errors:
        raise errors[0]


def _coefficients(estimator: "LinearSVC") -> tuple[np.ndarray, np.ndarray]:
    """Return weights and offsets with a row per label; for two labels LinearSVC has a single one."""
    weights, offsets = estimator.coef_, estimator.intercept_
    if len(weights) == 1:
        weights, offsets = np.vstack([-weights, weights]), np.concatenate([-offsets, offsets])
    return weights.astype(np.float32), offsets.astype(np.float32)


def _scores(estimator: "LinearSVC", vectors: np.ndarray) -> np.ndarray:
    weights, offsets = _coefficients(estimator)
    return vectors @ weights.T + offsets


def out_of_fold_scores(
    vectors: np.ndarray, y: np.ndarray, folds: list[Fold], c: float, seed: int
) -> np.ndarray:
    """Return the out-of-fold scores (n, k) float32; -inf for a label without training images in the fold.

    Parameters
    ----------
    vectors : (n, d) float32 features, as the estimator is to see them: see `normalized`.
    y : (n,) int, positions of the labels.
    """
    scores = np.full((len(vectors), y.max() + 1), -np.inf, np.float32)
    for train_rows, held_out in folds:
        present = np.unique(y[train_rows])
        if len(present) == 1:
            scores[held_out, present] = 0  # the only label that could be predicted
        else:
            estimator = _fit(vectors[train_rows], np.searchsorted(present, y[train_rows]), c, seed)
            scores[np.ix_(held_out, present)] = _scores(estimator, vectors[held_out])
    return scores


def folds_of(y: np.ndarray, clusters: np.ndarray, seed: int) -> list[Fold]:
    """Return the folds of the cross-validation; none where nothing can be held out.

    Parameters
    ----------
    y : (n,) int, positions of the labels. clusters : (n,) names; none is divided between folds.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    folds = min(FOLDS, len(np.unique(clusters)), np.bincount(y).max())
    if folds < 2:
        return []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a label with fewer images than folds
        splits = list(StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(y, y, clusters))
    return [(train_rows, held_out) for train_rows, held_out in splits if len(held_out) and len(train_rows)]


def _single_fold(validation: np.ndarray) -> list[Fold]:
    """Return the one fold that holds out the validation rows; none if nothing or everything validates."""
    if not 0 < validation.sum() < len(validation):
        return []
    return [(np.flatnonzero(~validation), np.flatnonzero(validation))]


def probabilities(scores: np.ndarray, temperature: float) -> np.ndarray:
    """Return softmax(scores / temperature), (n, k); a score of -inf has a probability of 0."""
    from scipy.special import softmax

    return np.asarray(softmax(scores / temperature, axis=1))


def fit_temperature(scores: np.ndarray, y: np.ndarray) -> float:
    """Return the temperature that maximizes the likelihood of held-out scores; 1 where there are none.

    With Laplace's rule of succession, as in J. Platt, "Probabilistic outputs for support vector machines",
    1999, section 2.2: as if one more image of each label had been held out and scored evenly. Without this
    smoothing, error-free held-out predictions drive the probabilities to 0 and 1, which few images do not
    justify.

    Parameters
    ----------
    scores : (n, k), -inf for a label that was not trained on. y : (n,) int, positions of the true labels.
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    rows = _calibration_rows(scores, y)
    if not len(rows):
        return 1.0
    scores, y = scores[rows], y[rows]
    images, k = scores.shape
    targets = (np.eye(k)[y] * images + 1) / (images + k)

    def loss(log_temperature: float) -> float:
        log_probabilities = log_softmax(scores / np.exp(log_temperature), axis=1)
        return -(targets * np.where(np.isfinite(scores), log_probabilities, 0)).sum(axis=1).mean()

    return float(np.exp(minimize_scalar(loss, bounds=LOG_TEMPERATURE_BOUNDS, method="bounded").x))


def _calibration_rows(scores: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the rows whose label, and at least one other, was known to the estimator that scored them."""
    is_known = np.isfinite(scores[np.arange(len(y)), y]) & (np.isfinite(scores).sum(axis=1) > 1)
    return np.flatnonzero(is_known)


def _calibrated_losses(scores: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the cross-entropy of each calibration row after temperature scaling; a 0 if there is none."""
    rows = _calibration_rows(scores, y)
    return cross_entropy(scores[rows] / fit_temperature(scores, y), y[rows]) if len(rows) else np.zeros(1)


def cross_entropy(logits: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the cross-entropy (n,) of logits (n, k), in nats; `y` : (n,) int, the true labels."""
    from scipy.special import log_softmax

    return -log_softmax(logits, axis=1)[np.arange(len(y)), y]


def write(head: Head, path: Path) -> None:
    """Write the head as numpy arrays, by an atomic write; no pickle inside."""
    files.write_npz(path, {**vars(head), "labels": np.array(head.labels)})


def read(path: Path) -> Head:
    """Return the head that `write` wrote.

    Raises
    ------
    ImgclfError : the file is damaged.
    """
    try:
        arrays = files.read_npz(path)
        k, d = arrays["weights"].shape
        if not (k and d) or arrays["labels"].shape != (k,) or arrays["offsets"].shape != (k,):
            raise ValueError("the arrays differ in length")
        if [arrays[name].dtype.kind for name in ("weights", "offsets", "labels")] != ["f", "f", "U"]:
            raise ValueError("an array has another type")
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
