"""Training of a linear support vector machine (SVM) on feature vectors, with C chosen on held-out images."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from imgclf import ImgclfError
from imgclf.svm import selection
from imgclf.svm.folds import FOLDS, Fold, folds_of, single_fold, subsets
from imgclf.svm.head import Head, normalized
from imgclf.svm.search import CSearch
from imgclf.svm.selection import HeldOut
from imgclf.svm.solver import Problem
from imgclf.svm.temperature import fit_temperature


@dataclass(frozen=True)
class _Trial:
    """What was found with one C on some of the images.

    Attributes
    ----------
    images : how many. weights : (k, d + 1), trained on all of them; the offset is last.
    train_accuracy : class-averaged, of these weights on the images they were trained on.
    scores : (n, k) out-of-fold scores. held_out : what they are worth.
    """

    images: int
    weights: np.ndarray
    train_accuracy: float
    scores: np.ndarray
    held_out: HeldOut


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

    From 20,000 images on, all C are first tried on a sample, and only those that are not clearly worse there
    on a larger one, and at last on all images.

    Parameters
    ----------
    matrix : (n, d) float32 features. labels : (n,) label of each row.
    clusters : (n,) names; rows of one cluster are never divided between folds.
    c_values : the candidates; see `select_c`. Where too few images are there to hold any out, the accuracy is
        NaN and the C nearest to 1 is taken.
    validation : (n,) bool mask; if given, C and temperature are chosen on these rows alone, scored by
        estimators that were trained on the others, instead of by cross-validation. The head is trained on all
        rows.
    progress : called with the number of estimators that are trained and of all, those of a C that is dropped
        included.

    Raises
    ------
    ImgclfError : fewer than two labels, or no C.

    Source: the estimators are those of scikit-learn's LinearSVC (one against the rest, squared hinge loss).
    Growing samples: K. Jamieson, A. Talwalkar, "Non-stochastic best arm identification and hyperparameter
    optimization", AISTATS 2016, arXiv 1502.07943; which C are dropped: see `selection.promising`.
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
    folds = folds_of(y, clusters, seed) if validation is None else single_fold(validation)
    samples = subsets(y, clusters, seed) if folds else [np.arange(len(y))]
    tried = _race(vectors, y, folds, samples, c_values, progress)
    best, most_accurate = _choice(c_values, tried, len(y))
    chosen = tried[c_values[best]]
    *weights, offsets = chosen.weights.T
    temperature = fit_temperature(chosen.scores, y)
    head = Head(
        tuple(names.tolist()), np.stack(weights, axis=1), offsets, l2_normalize, c_values[best], temperature
    )
    in_order = [tried[c] for c in c_values]
    return CSearch(
        head,
        chosen.scores,
        tuple(c_values),
        tuple(trial.train_accuracy for trial in in_order),
        tuple(trial.held_out.accuracy for trial in in_order),
        tuple(trial.held_out.correct for trial in in_order),
        tuple(float(trial.held_out.losses.mean()) for trial in in_order),
        best,
        most_accurate,
        tuple(trial.images for trial in in_order),
    )


def _race(
    vectors: np.ndarray,
    y: np.ndarray,
    folds: Sequence[Fold],
    samples: Sequence[np.ndarray],
    c_values: list[float],
    progress: Callable[[int, int], None],
) -> dict[float, _Trial]:
    """Return for each C what was found on the largest of the samples that it was tried on."""
    tried: dict[float, _Trial] = {}
    left, estimators = c_values, len(folds) + 1
    for number, rows in enumerate(samples):
        if len(left) == 1 and len(rows) < len(y):
            continue  # there is nothing to choose
        done = (number * len(c_values) + len(c_values) - len(left)) * estimators
        for c, trial in _trials(vectors, y, folds, rows, left):
            tried[c] = trial
            done += estimators
            progress(done, len(samples) * len(c_values) * estimators)
        left = [left[k] for k in selection.promising([tried[c].held_out for c in left])]
    return tried


def _trials(
    vectors: np.ndarray, y: np.ndarray, folds: Sequence[Fold], rows: np.ndarray, c_values: list[float]
) -> Iterator[tuple[float, _Trial]]:
    """Yield each C, the largest first, and what is found with it on some rows."""
    is_in, position = np.zeros(len(y), bool), np.empty(len(y), int)
    is_in[rows], position[rows] = True, np.arange(len(rows))
    inside = [[position[part[is_in[part]]] for part in fold] for fold in folds]
    inside = [fold for fold in inside if all(len(part) for part in fold)]
    k, y = int(y.max()) + 1, y[rows]
    every = np.arange(len(rows))
    vectors = vectors if is_in.all() else vectors[rows]
    problem, weights = Problem(vectors, y, [*(trained for trained, _ in inside), every]), None
    for c in reversed(c_values):  # a large C takes longest, so the time left is no surprise
        weights, scores = problem.solve(c, weights)
        out_of_fold = np.full((len(rows), k), -np.inf, np.float32)
        for number, (_, held_out) in enumerate(inside):
            out_of_fold[held_out] = problem.by_label(scores[held_out], number, k)
        yield (
            c,
            _Trial(
                len(rows),
                problem.by_label(weights.T, len(inside), k).T,
                selection.class_averaged(y, problem.by_label(scores, len(inside), k))[0],
                out_of_fold,
                selection.held_out(y, out_of_fold),
            ),
        )


def _choice(c_values: list[float], tried: dict[float, _Trial], images: int) -> tuple[int, int]:
    """Return the positions of the best and of the most accurate C, of those that were tried on all images."""
    finalists = [k for k, c in enumerate(c_values) if tried[c].images == images]
    held_out = [tried[c_values[k]].held_out for k in finalists]
    if any(np.isnan(each.accuracy) for each in held_out):
        nearest = int(np.argmin(np.abs(np.log(c_values))))
        return nearest, nearest
    best, most_accurate = selection.select_c(held_out)
    return finalists[best], finalists[most_accurate]


def out_of_fold_scores(vectors: np.ndarray, y: np.ndarray, folds: Sequence[Fold], c: float) -> np.ndarray:
    """Return the out-of-fold scores (n, k) float32; -inf for a label without training images in the fold.

    Parameters
    ----------
    vectors : (n, d) float32 features, as the estimator is to see them: see `normalized`.
    y : (n,) int, positions of the labels.
    """
    k = int(y.max()) + 1
    scores = np.full((len(vectors), k), -np.inf, np.float32)
    for rows, held_out in folds:
        problem = Problem(vectors[rows], y[rows], [np.arange(len(rows))])
        weights = problem.solve(c)[0].astype(np.float32)
        columns = vectors[held_out] @ weights[:, :-1].T + weights[:, -1]
        scores[held_out] = problem.by_label(columns, 0, k)
    return scores
