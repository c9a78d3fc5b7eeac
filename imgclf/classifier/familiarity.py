"""Familiarity: how like the training images an image is, and below which value it counts as unfamiliar."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from imgclf import ImgclfError, files, svm
from imgclf.svm import CSearch

RATE = 0.05  # of the unfamiliar_rate
CERTAINTY_POWER = 0.2
MAX_DIMENSIONS = 128
MAX_IMAGES = 2**14  # 4 MB in the file
MAX_HELD_OUT = 5000
FOLDS = 10


@dataclass(frozen=True)
class Familiarity:
    """Compares feature vectors with those of training images.

    The familiarity of an image is the cosine of its features with those of the nearest training image, times
    the power 0.2 of its largest probability: 1 for a training image that the classifier is certain of. The
    cosine finds images of other things, the probability those between two labels.

    Attributes
    ----------
    projection : (d, p) float16, orthonormal columns; the directions in which the training images differ most
        from zero (truncated singular value decomposition).
    images : (m, p) float16, the projected features of training images, which had Euclidean length 1 before.
    threshold : an image is unfamiliar if its familiarity is below; 0: none is.
    rate : share of images like the training images that may be called unfamiliar, 0 to 1.
    held_out : number of training images that the threshold was chosen on.

    Source: nearest neighbour: Y. Sun et al., "Out-of-Distribution Detection with Deep Nearest Neighbors",
    ICML 2022, section 3; times the confidence: J. Park et al., "Nearest Neighbor Guidance for
    Out-of-Distribution Detection", ICCV 2023, section 3.2 (there the energy). The power was chosen on the
    clothing photographs; see `benchmarks/familiarity.py`.
    """

    projection: np.ndarray
    images: np.ndarray
    threshold: float
    rate: float
    held_out: int

    def of(self, matrix: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
        """Return the familiarity (n,) float32, 0 to 1, of features (n, d) with probabilities (n, k)."""
        projected = svm.normalized(matrix) @ self.projection.astype(np.float32)
        return value(projected @ self.images.T.astype(np.float32), probabilities)

    def __str__(self) -> str:
        if not self.threshold:
            return (
                f"no image is called unfamiliar: unfamiliar_rate={self.rate:g} needs more held-out training "
                f"images than {self.held_out}"
                if self.rate
                else "no image is called unfamiliar, as unfamiliar_rate=0 asks"
            )
        return (
            f"an image whose familiarity is below {self.threshold:.2f} is unfamiliar, as are {self.rate:.0%} "
            f"of {self.held_out} training images, each compared with those of other folds"
        )

    @property
    def about(self) -> dict[str, float | int]:
        """What the metadata of a classifier say of it."""
        return {
            "threshold": self.threshold,
            "unfamiliar_rate": self.rate,
            "held_out_images": self.held_out,
            "compared_images": len(self.images),
        }


def fit(
    search: CSearch,
    matrix: np.ndarray,
    labels: np.ndarray,
    clusters: np.ndarray,
    *,
    rate: float = RATE,
    seed: int = 0,
) -> tuple[Familiarity, np.ndarray]:
    """Choose the training images to compare with, and the threshold.

    The threshold is a quantile of the familiarity of held-out images. Each is compared with the images of
    the other folds (10-fold cross-validation), and has the out-of-fold probability of `search`. The images
    that a network was fine-tuned on are not held out, since its features of them are too alike.

    Parameters
    ----------
    matrix : (n, d) float32, features of the training images. labels : (n,) of theirs.
    clusters : (n,) names of theirs; images of a cluster are in one fold.
    rate : see `Familiarity`. Fewer than 1 / rate - 1 held-out images choose no threshold: it is 0.

    Returns
    -------
    And (n,) float32, the familiarity of the training images that were held out; NaN for the others.

    Source of the quantile: S. Bates et al., "Testing for outliers with conformal p-values", Annals of
    Statistics 51 (1), 2023, section 2.1.
    """
    draws = np.random.default_rng(seed)
    kept = _compared(labels, draws)
    held_out = draws.permutation(search.held_out)[:MAX_HELD_OUT]
    names, cluster = np.unique(clusters, return_inverse=True)
    fold = (draws.permutation(len(names)) % FOLDS)[cluster]
    found = np.full(len(matrix), np.nan, np.float32)
    for rows, values in _of_folds(search, matrix, held_out, kept, fold, seed):
        found[rows] = values
    known = found[~np.isnan(found)]
    vectors = svm.normalized(matrix[kept])
    projection = _projection(vectors, seed)
    familiarity = Familiarity(
        projection.astype(np.float16),
        (vectors @ projection).astype(np.float16),
        threshold(known, rate),
        rate,
        len(known),
    )
    return familiarity, found


def _compared(labels: np.ndarray, draws: np.random.Generator) -> np.ndarray:
    """Return the rows to compare with, at most `MAX_IMAGES`: as many of each label, where it has so many."""
    order = draws.permutation(len(labels))
    _, label, count = np.unique(labels[order], return_inverse=True, return_counts=True)
    place = np.empty(len(labels), int)  # of a row among those of its label
    place[np.argsort(label, kind="stable")] = np.concatenate([np.arange(images) for images in count])
    return np.sort(order[np.argsort(place, kind="stable")[:MAX_IMAGES]])


def threshold(values: np.ndarray, rate: float) -> float:
    """Return the value that a share `rate` of new ones falls below; 0 with fewer than 1 / rate - 1 values."""
    chosen = rank(len(values), rate)
    return float(np.sort(values)[chosen - 1]) if chosen else 0.0


def rank(values: int, rate: float) -> int:
    """Return which of so many values is their threshold: 1 for the lowest; 0 if they are too few."""
    return int(rate * (values + 1))


def _of_folds(
    search: CSearch, matrix: np.ndarray, held_out: np.ndarray, kept: np.ndarray, fold: np.ndarray, seed: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the held-out rows of each fold, and their familiarity to the kept images of the other folds."""
    for number in range(FOLDS):
        rows, others = held_out[fold[held_out] == number], kept[fold[kept] != number]
        if not (len(rows) and len(others)):
            continue
        vectors = svm.normalized(matrix[others])
        projection = _projection(vectors, seed)
        cosines = (svm.normalized(matrix[rows]) @ projection) @ (vectors @ projection).T
        yield rows, value(cosines, svm.probabilities(search.oof_scores[rows], search.head.temperature))


def _projection(vectors: np.ndarray, seed: int) -> np.ndarray:
    """Return the first right singular vectors (d, p) of vectors (n, d) that are not centred."""
    from sklearn.decomposition import TruncatedSVD

    dimensions = min(MAX_DIMENSIONS, *vectors.shape)
    with svm.one_blas_thread():
        return np.asarray(TruncatedSVD(dimensions, n_iter=2, random_state=seed).fit(vectors).components_.T)


def value(cosines: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Return the familiarity (n,) of images with cosines (n, m) to training images; see `Familiarity`."""
    nearest = cosines.max(axis=1).clip(0, 1)
    return np.asarray(nearest * probabilities.max(axis=1) ** CERTAINTY_POWER, np.float32)


def write(familiarity: Familiarity, path: Path) -> None:
    """Write it as numpy arrays, by an atomic write; no pickle inside."""
    files.write_npz(path, vars(familiarity))


def read(path: Path) -> Familiarity:
    """Return what `write` wrote.

    Raises
    ------
    ImgclfError : the file is damaged.
    """
    try:
        arrays = files.read_npz(path)
        projection, images = arrays["projection"], arrays["images"]
        if projection.ndim != 2 or images.ndim != 2 or projection.shape[1] != images.shape[1]:
            raise ValueError("the arrays differ in shape")
        return Familiarity(
            projection,
            images,
            float(arrays["threshold"]),
            float(arrays["rate"]),
            int(arrays["held_out"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ImgclfError(f"{path}: damaged; run 04_train_svm again") from error
