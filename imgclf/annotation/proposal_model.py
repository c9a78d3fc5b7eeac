"""The model behind proposed labels: logistic regression on feature vectors."""

import warnings
from dataclasses import dataclass

import numpy as np

C = 10.0  # inverse regularization strength; the best of 1 to 100 for 100 to 3,000 labels of photographs
TOLERANCE = 1e-3  # of the gradient; a smaller one changes no label
MAX_ITERATIONS = 200
MOST_ROWS = 5_000  # trained on; more would take seconds, and a copy of the matrix


@dataclass(frozen=True)
class Vectors:
    """Feature vectors that are scaled to Euclidean length 1 where they are used, without a copy of them.

    Attributes
    ----------
    matrix : (n, d) float32.
    lengths : (n,) float32, of the rows; 1 for a row of zeros.
    """

    matrix: np.ndarray
    lengths: np.ndarray

    @classmethod
    def of(cls, matrix: np.ndarray) -> "Vectors":
        lengths = np.sqrt(np.einsum("ij,ij->i", matrix, matrix))
        return cls(matrix, np.where(lengths > 0, lengths, 1).astype(np.float32))

    def __len__(self) -> int:
        return len(self.matrix)

    def rows(self, rows: np.ndarray) -> np.ndarray:
        """Return some rows, each of length 1; (m, d) float32."""
        return self.matrix[rows] / self.lengths[rows, None]

    def subset(self, rows: np.ndarray) -> "Vectors":
        """Return some of the vectors."""
        return Vectors(self.matrix[rows], self.lengths[rows])

    def products(self, others: np.ndarray) -> np.ndarray:
        """Return the scalar products with other vectors (k, d); (n, k) float32."""
        return (self.matrix @ others.T) / self.lengths[:, None]


@dataclass(frozen=True)
class Model:
    """A linear classifier.

    Attributes
    ----------
    classes : (k,) int, ascending; the columns of the probabilities.
    weights : (k, d) float32. offsets : (k,) float32.
    """

    classes: np.ndarray
    weights: np.ndarray
    offsets: np.ndarray

    def logits(self, vectors: Vectors) -> np.ndarray:
        """Return logits (n, k) float32."""
        return vectors.products(self.weights) + self.offsets

    def probabilities(self, vectors: Vectors, *, temperature: float = 1.0) -> np.ndarray:
        """Return probabilities (n, k) float32, 0 to 1."""
        from scipy.special import softmax

        return softmax(self.logits(vectors) / np.float32(temperature), axis=1)


def fit(vectors: Vectors, rows: np.ndarray, classes: np.ndarray) -> Model | None:
    """Return a model trained on some rows; None if they are of fewer than two classes.

    Each class weighs the same, however many images it has.

    Parameters
    ----------
    rows : (m,) int, the training images; of more than `MOST_ROWS`, the first of each class.
    classes : (m,) int, of each of them.

    Source: scikit-learn's LogisticRegression, multinomial, L2 penalty.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    rows, classes = _first_of_each_class(rows, classes)
    if len(np.unique(classes)) < 2:
        return None
    estimator = LogisticRegression(
        C=C, class_weight="balanced", tol=TOLERANCE, max_iter=MAX_ITERATIONS, solver="lbfgs"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        # Most labels have one image at first.
        warnings.filterwarnings("ignore", "The number of unique classes", UserWarning)
        estimator.fit(vectors.rows(rows), classes)
    weights, offsets = estimator.coef_, estimator.intercept_
    if len(weights) == 1:  # of two classes it has one row: the logit of the second against the first
        weights, offsets = np.vstack([0 * weights, weights]), np.concatenate([0 * offsets, offsets])
    return Model(estimator.classes_, weights.astype(np.float32), offsets.astype(np.float32))


def _first_of_each_class(rows: np.ndarray, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return at most `MOST_ROWS` rows, as evenly over the classes as there are images."""
    if len(rows) <= MOST_ROWS:
        return rows, classes
    order = np.argsort(classes, kind="stable")
    counts = np.bincount(classes)
    rank = np.empty(len(rows), np.int64)  # of each row within its class
    rank[order] = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    kept = np.sort(np.argsort(rank, kind="stable")[:MOST_ROWS])
    return rows[kept], classes[kept]
