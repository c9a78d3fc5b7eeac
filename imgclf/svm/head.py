"""The last layer of a classifier: a linear function of the features, and its file."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from imgclf import ImgclfError, files
from imgclf.svm.temperature import probabilities


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


def normalized(matrix: np.ndarray) -> np.ndarray:
    """Return the rows scaled to Euclidean length 1; rows of zeros stay."""
    from sklearn.preprocessing import normalize

    return normalize(matrix)


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
