"""Which rows are held out, and growing subsets of many rows; clusters are never divided."""

import warnings

import numpy as np

FOLDS = 3
MANY_CLUSTERS = 10_000  # for scikit-learn's division, which takes a fifth of a millisecond for each
FEWEST, FEWEST_OF_LABEL = 5_000, 50  # rows in a subset; of a label on average
GROWTH = 4
Fold = tuple[np.ndarray, np.ndarray]  # the rows that are trained on, and those that are held out


def folds_of(y: np.ndarray, clusters: np.ndarray, seed: int) -> list[Fold]:
    """Return the folds of the cross-validation; none where nothing can be held out.

    Parameters
    ----------
    y : (n,) int, positions of the labels. clusters : (n,) names; none is divided between folds.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    groups = len(np.unique(clusters))
    folds = min(FOLDS, groups, np.bincount(y).max())
    if folds < 2:
        return []
    if groups > MANY_CLUSTERS:
        fold = (places(y, clusters, np.random.default_rng(seed)) * folds).astype(int)
        splits = [(np.flatnonzero(fold != number), np.flatnonzero(fold == number)) for number in range(folds)]
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # a label with fewer images than folds
            splits = list(StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(y, y, clusters))
    return [(train_rows, held_out) for train_rows, held_out in splits if len(held_out) and len(train_rows)]


def single_fold(validation: np.ndarray) -> list[Fold]:
    """Return the one fold that holds out the validation rows; none if nothing or everything validates."""
    if not 0 < validation.sum() < len(validation):
        return []
    return [(np.flatnonzero(~validation), np.flatnonzero(validation))]


def subsets(y: np.ndarray, clusters: np.ndarray, seed: int) -> list[np.ndarray]:
    """Return the rows of samples, each about `GROWTH` times as large as the last, and those of all.

    The samples are nested, and have the same share of each label. The first has at least `FEWEST` rows.
    """
    size, fractions = float(len(y)), [1.0]
    while size / GROWTH >= max(FEWEST, FEWEST_OF_LABEL * (y.max() + 1)):
        size, fractions = size / GROWTH, [fractions[0] / GROWTH, *fractions]
    if len(fractions) == 1:
        return [np.arange(len(y))]
    place = places(y, clusters, np.random.default_rng([seed, 1]))  # others than those of the folds
    return [np.flatnonzero(place < fraction) for fraction in fractions]


def places(y: np.ndarray, clusters: np.ndarray, draws: np.random.Generator) -> np.ndarray:
    """Return a place for each image, (n,), 0 to 1: those of an interval are a stratified sample.

    Images of one cluster have the same place. The clusters of each label lie in random order, each as far
    from the last as it has images; a cluster with several labels lies where that of its first image does.
    """
    _, first, cluster, images = np.unique(
        clusters, return_index=True, return_inverse=True, return_counts=True
    )
    shuffled, label, place = draws.permutation(len(first)), y[first], np.empty(len(first))
    for k in np.unique(label):
        own = shuffled[label[shuffled] == k]
        end = np.cumsum(images[own])
        place[own] = (end - images[own]) / end[-1]
    return place[cluster]
