"""The primal problem of the linear SVM, minimized for all pairs of a label and a fold at once.

Such a pair, one label against the rest on the rows that one estimator is trained on, is a column. Its weights
w and its offset b minimize LIBLINEAR's objective with the squared hinge loss,

    1/2 (|w|**2 + b**2) + C * sum of cost_i * max(0, 1 - y_i (w x_i + b))**2

by conjugate gradients. All columns share the features, so that their products are one matrix product, and one
preconditioner, made of the second moments of the features. A row that an estimator is not trained on has no
cost.

Source: R.-E. Fan et al., "LIBLINEAR", JMLR 9 (2008), p. 1871, for the objective; S. Keerthi, D. DeCoste, "A
modified finite Newton method for fast solution of large scale linear SVMs", JMLR 6 (2005), p. 341, for the
exact line search; J. Nocedal, S. Wright, "Numerical optimization", 2nd ed. (2006), sections 5.1 and 5.2, for
preconditioned conjugate gradients with the rule of Polak and Ribière.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from joblib import cpu_count

ROWS = 512  # that a thread works on at once; with 1280 features 2.6 MB, which caches hold
MOST_COLUMNS = 128  # at once, since (n, columns) scores and directions are in memory
TOLERANCE = 1e-6  # of the decrease still expected, relative to the objective and to the decrease so far
MAX_ITERATIONS = 1000
REFACTOR = 4  # the preconditioner is made anew when the cost of the rows with a loss changed by this factor
NEWTON_STEPS, LENGTH_TOLERANCE = 4, 0.1  # of a line search; relative
Each = Callable[[Callable[[slice], tuple[Any, ...]]], Iterator[tuple[Any, ...]]]


class Problem:
    """The estimators to train: one for each set of rows, with a column for each label.

    Attributes
    ----------
    fit, label : (m,) int, of each column: the position of its estimator, and the label whose scores are
        positive. An estimator of two labels has one column, one of a single label none.
    labels : of each estimator, those of its rows, ascending.
    """

    def __init__(self, vectors: np.ndarray, y: np.ndarray, fits: Sequence[np.ndarray]) -> None:
        """Prepare the columns.

        Parameters
        ----------
        vectors : (n, d) features, without a copy if they are float32. y : (n,) int, the labels.
        fits : of each estimator, the rows that it is trained on.

        Raises
        ------
        ValueError : a feature is NaN or infinite.
        """
        from sklearn.utils import assert_all_finite

        assert_all_finite(vectors)
        with one_blas_thread():
            self._vectors, self._basis = _reduced(np.ascontiguousarray(vectors, np.float32))
        self.labels = [np.unique(y[rows]) for rows in fits]
        own = [labels if len(labels) > 2 else labels[1:] for labels in self.labels]
        self.fit = np.repeat(np.arange(len(fits)), [len(labels) for labels in own])
        self.label = np.concatenate(own)
        self._group, self._signs, self._costs = _tables(y, fits, self.fit, self.label)
        with _threads(self._vectors) as each:
            self._moments = _moments(self._vectors, each)

    def solve(self, c: float, start: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Return weights, (m, d + 1) with the offset last, and scores, (n, m) float32, for one C.

        The same input gives the same solution to the last bit, with any number of threads. A row's score of
        an estimator that was not trained on it is out of sample.

        Parameters
        ----------
        start : weights to start from, such as those of another C.
        """
        weights = np.zeros((len(self.fit), len(self._moments)))
        if start is not None:
            weights[:] = _times(start, self._basis)
        scores = np.empty((len(self._vectors), len(self.fit)), np.float32)
        with _threads(self._vectors) as each:
            for first in range(0, len(self.fit), MOST_COLUMNS):
                some = slice(first, first + MOST_COLUMNS)
                block = _Block(
                    self._vectors, self._group, self._signs[:, some], self._costs[:, some], c, each
                )
                weights[some], scores[:, some] = _minimize(block, self._moments, weights[some])
        return _times(weights, None if self._basis is None else self._basis.T), scores

    def by_label(self, values: np.ndarray, fit: int, k: int) -> np.ndarray:
        """Return values of the columns (..., m) of one estimator by label, (..., k) float32.

        Two labels have opposite values. A label that the estimator was not trained on has -inf; if there is a
        single one that it was, the value of that is 0.
        """
        found = np.full((*values.shape[:-1], k), -np.inf, np.float32)
        own, labels = values[..., self.fit == fit], self.labels[fit]
        if len(labels) == 1:
            found[..., labels] = 0
        else:
            found[..., labels] = np.concatenate([-own, own], axis=-1) if len(labels) == 2 else own
        return found


def _reduced(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Return vectors (n, d) in an orthonormal basis (d, n) of their span, and this; if n >= d as they are.

    The weights of the solution lie in the span, since they are a sum of the vectors.
    """
    if len(vectors) >= vectors.shape[1]:
        return vectors, None
    basis, coordinates = np.linalg.qr(vectors.T)
    return np.ascontiguousarray(coordinates.T), basis


def _times(weights: np.ndarray, matrix: np.ndarray | None) -> np.ndarray:
    """Return weights (m, d + 1) times a matrix, except for the offsets; unchanged without one."""
    return weights if matrix is None else np.hstack([weights[:, :-1] @ matrix, weights[:, -1:]])


def _tables(
    y: np.ndarray, fits: Sequence[np.ndarray], fit: np.ndarray, label: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the group of each row, (n,), and sign and cost of each group in each column, (g, m) float32.

    A group has one label and takes part in the same fits. The costs are those of scikit-learn's LinearSVC
    with class_weight="balanced": n / (k * rows of the label), but 1 for the rest if there are three labels or
    more.
    """
    is_in = np.zeros((len(y), len(fits)), bool)
    for number, rows in enumerate(fits):
        is_in[rows, number] = True
    kind = y + (y.max() + 1) * (is_in @ (1 << np.arange(len(fits))))
    _, first, group = np.unique(kind, return_index=True, return_inverse=True)
    of_label = y[first][:, None] == label
    costs = np.zeros(of_label.shape, np.float32)
    for number, rows in enumerate(fits):
        count = np.bincount(y[rows], minlength=y.max() + 1)
        balanced = len(rows) / ((count > 0).sum() * np.maximum(count, 1))
        is_weighted = of_label if (count > 0).sum() > 2 else np.ones_like(of_label)
        columns = fit == number
        costs[:, columns] = np.where(is_weighted, balanced[y[first]][:, None], 1)[:, columns]
    return group, np.where(of_label, 1, -1).astype(np.float32), costs * is_in[first][:, fit]


@cache
def _libraries() -> Any:
    """Return the controller of the threads of libraries; to find them takes longer than a small fit."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def one_blas_thread() -> AbstractContextManager[None]:
    """Return a context in which products and decompositions of matrices take one thread.

    Those of the BLAS library wait for each other after each step of a small one, and where another process
    takes a core, for that.
    """
    context: AbstractContextManager[None] = _libraries().limit(limits=1, user_api="blas")
    return context


@contextmanager
def _threads(vectors: np.ndarray) -> Iterator[Each]:
    """Yield a function that calls another with slices of the rows in threads, and yields results in order.

    One thread for each core.
    """
    chunks = [slice(first, first + ROWS) for first in range(0, len(vectors), ROWS)]
    with one_blas_thread():
        if len(chunks) == 1:  # to start threads takes longer than the work
            yield lambda work: map(work, chunks)
        else:
            with ThreadPoolExecutor(cpu_count()) as pool:
                yield lambda work: pool.map(work, chunks)


def _moments(vectors: np.ndarray, each: Each) -> np.ndarray:
    """Return the mean outer product of the rows, to which a 1 is appended: (d + 1, d + 1).

    Its diagonal is raised by the rounding error of the products, so that it is positive definite.
    """
    d = vectors.shape[1]
    sums = np.zeros((d + 1, d + 1))
    sums[d, d] = len(vectors)
    for products, total in each(lambda rows: (vectors[rows].T @ vectors[rows], vectors[rows].sum(axis=0))):
        sums[:d, :d] += products
        sums[d, :d] += total
    sums[:d, d] = sums[d, :d]
    sums.flat[:: d + 2] += np.finfo(np.float32).eps * sums.trace()
    return sums / len(vectors)


@dataclass(frozen=True)
class _Block:
    """Some columns, and the sums over rows that their minimization needs; arrays as in `_tables`."""

    vectors: np.ndarray
    group: np.ndarray
    signs: np.ndarray
    costs: np.ndarray
    c: float
    each: Each

    def subset(self, columns: np.ndarray) -> "_Block":
        return replace(self, signs=self.signs[:, columns], costs=self.costs[:, columns])

    def scores(self, weights: np.ndarray) -> np.ndarray:
        """Return the scores (n, m) float32 of weights (m, d + 1)."""
        found = np.empty((len(self.vectors), len(weights)), np.float32)
        w, b = weights[:, :-1].T.astype(np.float32), weights[:, -1].astype(np.float32)

        def multiply(rows: slice) -> tuple[()]:
            np.matmul(self.vectors[rows], w, out=found[rows])
            found[rows] += b
            return ()

        for _ in self.each(multiply):
            pass
        return found

    def descent(self, weights: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return of each column objective, gradient (m, d + 1), and the cost of the rows with a loss."""

        def sums(rows: slice) -> tuple[np.ndarray, ...]:
            missing, costs = self._missing(rows, scores[rows])
            losses = costs * missing
            return (
                np.einsum("ij,ij->j", losses, missing),
                losses.T @ self.vectors[rows],
                losses.sum(axis=0),
                costs.sum(axis=0),
            )

        objective, gradient, cost = 0.5 * (weights**2).sum(axis=1), weights.copy(), np.zeros(len(weights))
        for squares, products, totals, costs in self.each(sums):
            objective += self.c * squares
            gradient[:, :-1] -= 2 * self.c * products
            gradient[:, -1] -= 2 * self.c * totals
            cost += costs
        return objective, gradient, cost

    def _missing(self, rows: slice, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return what is missing to the margins, sign - score, and the costs, 0 where nothing is missing."""
        signs = self.signs[self.group[rows]]
        missing = signs - scores
        return missing, self.costs[self.group[rows]] * (signs * missing > 0)

    def length(
        self, weights: np.ndarray, scores: np.ndarray, direction: np.ndarray, along: np.ndarray
    ) -> np.ndarray:
        """Return of each column (m,) how far to go in a direction (m, d + 1), whose scores are `along`.

        The objective along a line is convex and piecewise quadratic, so Newton's method finds its minimum.
        """
        length = np.zeros(len(weights))
        slope, curvature = (weights * direction).sum(axis=1), (direction**2).sum(axis=1)
        for _ in range(NEWTON_STEPS):
            at = length.astype(np.float32)

            def sums(rows: slice, at: np.ndarray = at) -> tuple[np.ndarray, ...]:
                missing, costs = self._missing(rows, scores[rows] + at * along[rows])
                costs *= along[rows]
                return (
                    np.einsum("ij,ij->j", costs, missing),
                    np.einsum("ij,ij->j", costs, along[rows]),
                )

            first, second = (2 * self.c * sum(parts) for parts in zip(*self.each(sums), strict=True))
            step = (first - slope - length * curvature) / (second + curvature)
            length += step
            if (np.abs(step) < LENGTH_TOLERANCE * np.abs(length)).all():
                break
        return length


def _minimize(block: _Block, moments: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return weights (m, d + 1) that minimize the objective of each column, and their scores (n, m).

    The preconditioner is the Cholesky factor of 1 + 2 C * cost * moments: of the Hessian, if the rows with a
    loss were like all rows. A column is done once the decrease that its gradient promises is small.
    """
    from scipy.linalg import cho_factor, cho_solve

    solution, solved = weights.copy(), block.scores(weights)
    columns, scores, before = np.arange(len(weights)), solved.copy(), None
    at_zero = block.c * (np.bincount(block.group) @ block.costs)  # the objective without weights
    factor, factor_cost = np.empty(0), np.inf
    for _ in range(MAX_ITERATIONS):
        objective, gradient, cost = block.descent(weights, scores)
        cost = np.maximum(cost, np.finfo(np.float32).tiny)  # no row has a loss far beyond the margins
        if not 1 / REFACTOR <= cost.mean() / factor_cost <= REFACTOR:
            factor_cost, before = cost.mean(), None
            hessian = np.eye(len(moments)) + 2 * block.c * factor_cost * moments
            factor = cho_factor(hessian, lower=True, overwrite_a=True)[0].astype(np.float32)
        step = cho_solve((factor, True), gradient.T.astype(np.float32), check_finite=False).T
        promised = (gradient * step).sum(axis=1)
        direction = _direction(step, gradient, before)
        is_open = promised * np.maximum(1, factor_cost / cost) > 2 * TOLERANCE * np.minimum(
            objective, at_zero - objective
        )
        if not is_open.all():
            done = columns[~is_open]
            solution[done], solved[:, done] = weights[~is_open], scores[:, ~is_open]
            columns, weights, gradient = columns[is_open], weights[is_open], gradient[is_open]
            promised, direction, at_zero = promised[is_open], direction[is_open], at_zero[is_open]
            block, scores = block.subset(is_open), scores[:, is_open]
        if not len(columns):
            break
        along = block.scores(direction)
        length = block.length(weights, scores, direction, along)
        weights = weights + length[:, None] * direction
        scores += length.astype(np.float32) * along
        before = direction, gradient, promised
    solution[columns], solved[:, columns] = weights, scores
    return solution, solved


def _direction(
    step: np.ndarray, gradient: np.ndarray, before: tuple[np.ndarray, np.ndarray, np.ndarray] | None
) -> np.ndarray:
    """Return the next directions, (m, d + 1): conjugate to the last, or else the steepest descent.

    Parameters
    ----------
    before : the directions before, the gradients there, and the products of gradient and step.
    """
    if before is None:
        return np.negative(step, dtype=np.float64)
    last, last_gradient, last_promised = before
    beta = np.maximum(0, (step * (gradient - last_gradient)).sum(axis=1) / last_promised)
    direction = beta[:, None] * last - step
    is_descent = (direction * gradient).sum(axis=1) < 0
    return np.where(is_descent[:, None], direction, -step)
