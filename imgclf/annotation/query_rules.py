"""Query rules of active learning: in which order a person is asked for labels."""

import hashlib
from collections.abc import Callable, Sequence

import numpy as np

from imgclf.annotation.proposal_model import Vectors

BATCH = 10  # images from different clusters, asked one after another
CANDIDATES = 10  # of the smallest margins, for each image of a batch
STARTING = 40  # images asked first, which are cluster centres
MOST_CLUSTERED = 4_000  # images among which the first cluster centres are looked for
RANDOM_EVERY = 6  # of the images asked, one in so many is drawn at random: the accuracy is estimated on these


class Queue:
    """The rows to ask, one after another: some at random, the others in batches of an order by usefulness."""

    def __init__(self, random_order: np.ndarray) -> None:
        self._random_order = random_order
        self._batch: list[int] = []

    def next(self, is_open: np.ndarray, answered: int, order: Callable[[], np.ndarray | None]) -> int | None:
        """Return the next row that is open; None if none is.

        Parameters
        ----------
        is_open : (n,) bool, whether a row can be asked.
        answered : number of labels given so far; after each `RANDOM_EVERY` of them, the row is a random one.
        order : gives the rows, the most useful first, or None; called when a batch is used up. A batch is
            kept whole, since a new one could begin with an image like the last one.
        """
        while self._batch and not is_open[self._batch[0]]:
            del self._batch[0]
        if answered % RANDOM_EVERY and not self._batch:
            rows = rows if (rows := order()) is not None else self._random_order
            self._batch = rows[is_open[rows]][:BATCH].tolist()
        if answered % RANDOM_EVERY and self._batch:
            return self._batch.pop(0)
        rows = self._random_order[is_open[self._random_order]]
        return int(rows[0]) if len(rows) else None

    def put_back(self, row: int) -> None:
        """Let a row be the next one of the batch."""
        self._batch.insert(0, row)

    def upcoming(self, is_open: np.ndarray, most: int, order: np.ndarray | None) -> list[int]:
        """Return rows of which one is the next: the random one, the batch, and the first of `order`."""
        random = self._random_order[is_open[self._random_order]][:1].tolist()
        rows = self._random_order if order is None else order
        later = rows[is_open[rows]][:most].tolist()
        return list(dict.fromkeys([*random, *(row for row in self._batch if is_open[row]), *later]))[:most]


def random_order(contents: Sequence[str], seed: int) -> np.ndarray:
    """Return the positions of images in a random order that depends on their contents and the seed alone.

    Parameters
    ----------
    contents : sha256 of each image.
    """
    keys = [hashlib.sha256(f"{seed} {content}".encode()).digest() for content in contents]
    return np.array(sorted(range(len(keys)), key=keys.__getitem__), np.int64)


def cluster_centres(vectors: Vectors, rows: np.ndarray, most: int, *, seed: int) -> np.ndarray:
    """Return diverse rows: of each k-means cluster, the row nearest to its centre; the largest cluster first.

    Parameters
    ----------
    rows : (m,) int, to choose from. most : number of clusters.

    Source: G. Hacohen, A. Dekel, D. Weinshall, "Active learning on a budget: opposite strategies suit high
    and low budgets", ICML 2022 (typical images of clusters, for few labels).
    """
    rows = rows[:MOST_CLUSTERED]
    if len(rows) <= most:
        return rows
    points = vectors.rows(rows)
    of_row, distance = _clusters(points, most, seed)
    sizes = np.bincount(of_row, minlength=most)
    order = np.lexsort((distance, of_row))
    nearest = order[np.unique(of_row[order], return_index=True)[1]]
    return rows[nearest[np.argsort(-sizes[of_row[nearest]], kind="stable")]]


def smallest_margins(
    vectors: Vectors, rows: np.ndarray, probabilities: np.ndarray, *, batch: int = BATCH, seed: int
) -> np.ndarray:
    """Return all rows by ascending margin; at the front a batch of diverse ones.

    The margin is the difference between the two largest probabilities. The images of the smallest margins are
    clustered by k-means, and the batch has the smallest margin of each cluster: images that are alike do not
    follow each other.

    Parameters
    ----------
    rows : (m,) int, to choose from. probabilities : (m, k), of these rows.

    Source: T. Scheffer, C. Decomain, S. Wrobel, "Active hidden Markov models for information extraction",
    IDA 2001 (margin); G. Citovsky et al., "Batch active learning at scale", NeurIPS 2021 (clusters of the
    smallest margins).
    """
    two = np.partition(probabilities, -2, axis=1)[:, -2:]
    order = np.argsort(two[:, 1] - two[:, 0], kind="stable")
    candidates = order[: CANDIDATES * batch]
    if len(candidates) <= batch:
        return rows[order]
    of_candidate, _ = _clusters(vectors.rows(rows[candidates]), batch, seed)
    first = np.sort(np.unique(of_candidate, return_index=True)[1])  # candidates are sorted by margin
    return rows[np.concatenate([order[first], np.delete(order, first)])]


def _clusters(points: np.ndarray, clusters: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the cluster of each point and its squared distance from the centre."""
    from sklearn.cluster import KMeans

    clusters = min(clusters, len(np.unique(points, axis=0)))
    model = KMeans(clusters, n_init=1, max_iter=20, random_state=seed).fit(points)
    return model.labels_, ((points - model.cluster_centers_[model.labels_]) ** 2).sum(axis=1)
