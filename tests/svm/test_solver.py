"""The solver: LIBLINEAR's solution, run to convergence, is the reference."""

import threading
import warnings

import numpy as np
import pytest
from sklearn.svm import LinearSVC

from imgclf.svm import solver
from imgclf.svm.solver import Problem

CONVERGED = 5e-5  # relative difference of the objectives


def overlapping(images: int, features: int, labels: int) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of length 1, and labels of which the first is the rarest."""
    draws = np.random.default_rng(0)
    y = np.sort(draws.integers(0, labels, images))[draws.permutation(images)]
    y[: images // (2 * labels)] = labels - 1
    matrix = np.maximum(
        0, draws.normal(size=(images, features)) + draws.normal(0, 0.5, (labels, features))[y]
    )
    return (matrix / np.linalg.norm(matrix, axis=1, keepdims=True)).astype(np.float32), y


def reference(vectors: np.ndarray, y: np.ndarray, c: float) -> np.ndarray:
    """Weights (m, d + 1) of LinearSVC at convergence."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = LinearSVC(C=c, class_weight="balanced", dual=False, tol=1e-8, max_iter=100_000).fit(
            vectors, y
        )
    return np.hstack([found.coef_, found.intercept_[:, None]])


def objective(weights: np.ndarray, vectors: np.ndarray, y: np.ndarray, c: float) -> np.ndarray:
    """LIBLINEAR's objective of each label, (m,), in double precision."""
    names, count = np.unique(y, return_counts=True)
    balanced = (len(y) / (len(names) * count))[np.searchsorted(names, y)]
    of_label = (y[:, None] == names)[:, -len(weights) :]
    cost = np.where(of_label | (len(names) == 2), balanced[:, None], 1)
    scores = vectors.astype(float) @ weights[:, :-1].T + weights[:, -1]
    losses = np.maximum(0, 1 - np.where(of_label, 1, -1) * scores) ** 2
    return 0.5 * (weights**2).sum(axis=1) + c * (cost * losses).sum(axis=0)


@pytest.mark.parametrize("c", [1e-4, 1.0, 100.0])
@pytest.mark.parametrize(("images", "features", "labels"), [(600, 40, 4), (150, 300, 3), (700, 60, 2)])
def test_the_solution_is_that_of_linear_svc_at_convergence(images, features, labels, c):
    vectors, y = overlapping(images, features, labels)
    exact = reference(vectors, y, c)
    weights, scores = Problem(vectors, y, [np.arange(images)]).solve(c)
    found, best = (objective(each, vectors, y, c) for each in (weights, exact))
    assert (np.abs(found - best) < CONVERGED * best).all()
    expected = vectors @ exact[:, :-1].T + exact[:, -1]
    np.testing.assert_allclose(scores, expected, atol=0.02 * max(0.1, np.abs(expected).max()))


def test_estimators_that_are_trained_together_are_those_that_are_trained_alone():
    vectors, y = overlapping(600, 40, 4)
    fits = [np.flatnonzero(np.arange(600) % 3 != part) for part in range(3)]
    together = Problem(vectors, y, fits)
    weights, scores = together.solve(1.0)
    for number, rows in enumerate(fits):
        own = weights[together.fit == number]
        np.testing.assert_allclose(own, reference(vectors[rows], y[rows], 1.0), atol=0.02)
        expected = vectors @ own[:, :-1].T + own[:, -1]
        np.testing.assert_allclose(scores[:, together.fit == number], expected, atol=1e-4)


def test_a_solution_is_the_same_from_any_start_and_in_blocks_of_columns(monkeypatch):
    vectors, y = overlapping(600, 40, 4)
    problem = Problem(vectors, y, [np.arange(600)])
    expected = problem.solve(1.0)[0]
    np.testing.assert_allclose(problem.solve(1.0, problem.solve(100.0)[0])[0], expected, atol=0.02)
    monkeypatch.setattr(solver, "MOST_COLUMNS", 3)
    np.testing.assert_allclose(problem.solve(1.0)[0], expected, atol=0.02)


@pytest.mark.parametrize("threads", [1, 3])
def test_the_number_of_threads_changes_no_bit(monkeypatch, threads):
    vectors, y = overlapping(3000, 30, 3)
    expected = Problem(vectors, y, [np.arange(3000)]).solve(10.0)
    monkeypatch.setattr(solver, "cpu_count", lambda: threads)
    found = Problem(vectors, y, [np.arange(3000)]).solve(10.0)
    assert (found[0] == expected[0]).all() and (found[1] == expected[1]).all()


def test_no_thread_is_left():
    before = threading.active_count()
    vectors, y = overlapping(3000, 30, 3)
    Problem(vectors, y, [np.arange(3000)]).solve(1.0)
    assert threading.active_count() == before


def test_labels_that_an_estimator_does_not_know_have_no_score():
    vectors, y = overlapping(300, 20, 4)
    fits = [np.flatnonzero(y < 3), np.flatnonzero(y < 2), np.flatnonzero(y == 1)]
    problem = Problem(vectors, y, fits)
    assert (problem.fit.tolist(), problem.label.tolist()) == ([0, 0, 0, 1], [0, 1, 2, 1])
    weights, scores = problem.solve(1.0)
    of_three, of_two, of_one = (problem.by_label(scores, fit, 4) for fit in range(3))
    assert np.isfinite(of_three[:, :3]).all() and np.isneginf(of_three[:, 3]).all()
    assert (of_two[:, 0] == -of_two[:, 1]).all() and np.isneginf(of_two[:, 2:]).all()
    assert (of_one[:, 1] == 0).all() and np.isneginf(of_one[:, [0, 2, 3]]).all()
    np.testing.assert_allclose(weights[3:], reference(vectors[y < 2], y[y < 2], 1.0), atol=0.02)


def test_features_that_are_not_normalized_are_no_obstacle():
    vectors, y = overlapping(600, 40, 4)
    lengths = np.random.default_rng(1).uniform(1, 30, (600, 1)).astype(np.float32)
    exact = reference(vectors * lengths, y, 1.0)
    weights, _ = Problem(vectors * lengths, y, [np.arange(600)]).solve(1.0)
    found, best = (objective(each, vectors * lengths, y, 1.0) for each in (weights, exact))
    assert (np.abs(found - best) < CONVERGED * best).all()


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_a_feature_that_is_no_number_is_refused(wrong):
    with pytest.raises(ValueError, match="NaN|infinity"):
        Problem(np.array([[0, 1], [wrong, 0]], np.float32), np.array([0, 1]), [np.arange(2)])
