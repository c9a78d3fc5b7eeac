"""The search over C of the SVM: processor time, how much of it runs in parallel, and peak memory.

`python benchmarks/svm_grid.py [FILE.npz | IMAGES ...]`; by default 3,000 images. The features are drawn: 1280 of them, from 200 latent
ones of ten labels that overlap, with 2 % wrong labels; or come from an npz file with `matrix`, `labels` and `clusters`. Up to 10,000 images
are compared with scikit-learn's LinearSVC on the same folds, from 20,000 to 60,000 with the search that tries each C on all images.
"""

import resource
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from joblib import cpu_count

from imgclf import parameters, svm
from imgclf.svm import folds

FEATURES, LATENT, LABELS, WRONG = 1280, 200, 10, 0.02
GRID: list[float] = parameters.PARAMETERS["svm_c"].default
MOST_FOR_LINEAR_SVC, MOST_FOR_ALL = 10_000, 60_000
CHUNK = 10_000


@dataclass(frozen=True)
class Used:
    """Processor seconds of the main thread, and of the threads that run side by side; what was returned."""

    main: float
    others: float
    result: svm.CSearch

    def __str__(self) -> str:
        total = self.main + self.others
        wall = (self.main + self.others / cpu_count()) / total
        return f"{total:.1f} processor s, {wall:.2f} of that by the clock on {cpu_count()} free cores"


def measured(work: Callable[[], svm.CSearch]) -> Used:
    """Run `work`, and measure it."""
    main, every = time.thread_time(), time.process_time()
    result = work()
    main, every = time.thread_time() - main, time.process_time() - every
    return Used(main, every - main, result)


def drawn(images: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return features, labels and clusters of images."""
    draws = np.random.default_rng(0)
    mixing = draws.normal(size=(LATENT, FEATURES)) / np.sqrt(np.arange(1, LATENT + 1))[:, None]
    centres, y = draws.normal(0, 0.3, (LABELS, LATENT)), draws.integers(0, LABELS, images)
    matrix = np.empty((images, FEATURES), np.float32)
    for first in range(0, images, CHUNK):
        rows = slice(first, first + CHUNK)
        latent = draws.normal(size=(len(y[rows]), LATENT)) + centres[y[rows]]
        noise = draws.normal(0, 0.3, matrix[rows].shape)
        matrix[rows] = np.maximum(0, latent @ mixing + noise)
    wrong = draws.random(images) < WRONG
    y[wrong] = draws.integers(0, LABELS, wrong.sum())
    return matrix, y.astype(str), np.arange(images).astype(str)


def linear_svc(matrix: np.ndarray, labels: np.ndarray, clusters: np.ndarray) -> float:
    """Return the processor seconds of the same estimators by LinearSVC."""
    from sklearn.svm import LinearSVC

    vectors, y = svm.normalized(matrix), np.unique(labels, return_inverse=True)[1]
    rows = [*(trained for trained, _ in svm.folds_of(y, clusters, 0)), np.arange(len(y))]
    start = time.process_time()
    for c in GRID:
        for some in rows:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                LinearSVC(C=c, class_weight="balanced", random_state=0, max_iter=3000).fit(
                    vectors[some], y[some]
                )
    return time.process_time() - start


def main() -> None:
    svm.train(*drawn(300), c_values=GRID)  # loads the libraries
    for argument in sys.argv[1:] or ["3000"]:
        if argument.endswith(".npz"):
            stored = np.load(argument)
            arrays = stored["matrix"], stored["labels"], stored["clusters"]
        else:
            arrays = drawn(int(argument))
        report(*arrays)


def report(matrix: np.ndarray, labels: np.ndarray, clusters: np.ndarray) -> None:
    """Print what the search takes."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    used = measured(lambda: svm.train(matrix, labels, clusters, c_values=GRID))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(
        f"{matrix.shape[0]} images x {matrix.shape[1]} features, {len(set(labels.tolist()))} labels: {used}"
    )
    print(f"  {used.result}")
    print(f"  peak memory {peak:.2f} GB; {matrix.nbytes / 1e9:.2f} GB of features, {before:.2f} GB before")
    if len(labels) <= MOST_FOR_LINEAR_SVC:
        seconds = linear_svc(matrix, labels, clusters)
        print(
            f"  LinearSVC: {seconds:.1f} processor s, {seconds / (used.main + used.others):.1f} times as much"
        )
    if len(set(used.result.images)) > 1 and len(labels) <= MOST_FOR_ALL:
        fewest, folds.FEWEST = folds.FEWEST, len(labels)
        every = measured(lambda: svm.train(matrix, labels, clusters, c_values=GRID))
        folds.FEWEST = fewest
        print(f"  each C on all images: {every}\n  {every.result}", flush=True)


if __name__ == "__main__":
    main()
