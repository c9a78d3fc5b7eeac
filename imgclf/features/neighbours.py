"""Nearest neighbours of all images of a data set, by the whitened descriptors of copy detection."""

from collections.abc import Iterator

import numpy as np

from imgclf.images.loading import in_parallel

NEIGHBOURS = 24  # of each image that are looked at
CLOSEST = 4  # of them that also count if they have closer neighbours themselves, such as other copies
DIMENSIONS = 512  # of the whitened descriptors
IMAGES_PER_DIMENSION = 4  # at least; whitening fewer makes all distances equal
PCA_IMAGES = 5_000  # enough for the principal components
BLOCK = 256  # images whitened, or compared with all others, at once

ALL = 16_384  # images of which each is compared with all others; of more, with those of its nearest clusters
CLUSTER = 500  # images, on average; twice as many at most
CLUSTERS = 12  # compared with each image
SAMPLE = 50  # images of each cluster that its centre is computed from
STEPS = 6  # of k-means
ROWS = 2_048  # images compared with a cluster at once


def neighbours(descriptors: np.ndarray) -> np.ndarray:
    """Return the pairs of images that are near neighbours.

    Two images are, if each is among the other's `NEIGHBOURS` nearest, or one is among the other's `CLOSEST`.

    Up to `ALL` images each is compared with all others. More are divided into clusters, and each is compared
    with the images of its nearest ones: the time for each image stays the same, and near neighbours in other
    clusters are missed, or replaced by farther ones.

    Parameters
    ----------
    descriptors : (n, d) float32.

    Returns
    -------
    (m, 2) int32 array of i < j, sorted.
    """
    from threadpoolctl import threadpool_limits

    if len(descriptors) < 2:
        return np.empty((0, 2), np.int32)
    with threadpool_limits(1):  # each thread has a part of its own
        return _neighbours(whitened(descriptors))


def _neighbours(vectors: np.ndarray) -> np.ndarray:
    """Return the `neighbours` by whitened descriptors."""
    count = len(vectors)
    if count <= ALL:
        everything = np.arange(count)
        parts: Iterator[tuple[np.ndarray, np.ndarray]] = (
            (everything[start : start + BLOCK], everything) for start in range(0, count, BLOCK)
        )
    else:
        parts = _parts(vectors)
    most = min(NEIGHBOURS, count - 1)
    nearest = np.full((count, most), -1, np.int32)
    cosines = np.full((count, most), -np.inf, np.float32)
    for rows, found, cosine in in_parallel(lambda part: _nearest(vectors, *part, most), parts):
        both = np.concatenate([nearest[rows], found], axis=1)
        both_cosines = np.concatenate([cosines[rows], cosine], axis=1)
        best = np.argpartition(both_cosines, -most, axis=1)[:, -most:]
        nearest[rows] = np.take_along_axis(both, best, axis=1)
        cosines[rows] = np.take_along_axis(both_cosines, best, axis=1)
    return _pairs(nearest, cosines)


def _pairs(nearest: np.ndarray, cosines: np.ndarray) -> np.ndarray:
    """Return the pairs that `neighbours` describes.

    Cosines decide, as of two images perhaps only one was compared with the cluster of the other.

    Parameters
    ----------
    nearest : (n, k) int32, the images nearest to each; -1 is none. cosines : (n, k) float32, with these.
    """
    count, most = nearest.shape
    closest = np.partition(cosines, max(0, most - CLOSEST), axis=1)[:, max(0, most - CLOSEST), None]
    is_pair = (cosines >= closest) | (cosines >= cosines.min(axis=1)[nearest])
    own = np.arange(count)[:, None]
    codes = np.minimum(own, nearest) * count + np.maximum(own, nearest)
    codes = np.unique(codes[is_pair & (nearest >= 0)])
    return np.stack(np.divmod(codes, count), axis=1).astype(np.int32)


def _nearest(
    vectors: np.ndarray, rows: np.ndarray, members: np.ndarray, most: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the rows, the up to `most` members nearest to each, and their cosines; no row is its own.

    Parameters
    ----------
    vectors : (n, d) float32. rows : (r,) int. members : (m,) int, ascending.
    """
    cosines = vectors[rows] @ (vectors if len(members) == len(vectors) else vectors[members]).T
    place = np.minimum(np.searchsorted(members, rows), len(members) - 1)
    own = np.flatnonzero(members[place] == rows)
    cosines[own, place[own]] = -np.inf
    most = min(most, len(members))
    best = np.argpartition(cosines, -most, axis=1)[:, -most:]
    cosines = np.take_along_axis(cosines, best, axis=1)
    return rows, np.where(np.isfinite(cosines), members[best], -1), cosines


def _parts(vectors: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield images, and the members of a cluster that is one of their `CLUSTERS` nearest; (n,) int each."""
    centres = _centres(vectors)
    cluster = np.concatenate([(block @ centres.T).argmax(axis=1) for block in _blocks(vectors)])
    order = np.argsort(cluster, kind="stable")
    starts = np.searchsorted(cluster[order], np.arange(len(centres)))
    ends = np.append(starts[1:], len(vectors))
    # A crowded cluster, as of one picture a thousand times, becomes several.
    pieces = [
        (number, order[start : min(start + 2 * CLUSTER, end)])
        for number, (first, end) in enumerate(zip(starts, ends, strict=True))
        for start in range(first, end, 2 * CLUSTER)
    ]
    centres = centres[[number for number, _ in pieces]]
    near = [
        np.argpartition(-(block @ centres.T), CLUSTERS, axis=1)[:, :CLUSTERS].astype(np.int32)
        for block in _blocks(vectors)
    ]
    piece = np.concatenate(near).ravel()
    images = np.argsort(piece, kind="stable") // CLUSTERS
    ends = np.searchsorted(np.sort(piece), np.arange(len(pieces) + 1))
    for (_, members), start, end in zip(pieces, ends[:-1], ends[1:], strict=True):
        for first in range(start, end, ROWS):
            yield images[first : min(first + ROWS, end)], members


def _centres(vectors: np.ndarray) -> np.ndarray:
    """Return centres of clusters, (k, d) float32 of length 1, by k-means on a sample of the images."""
    from sklearn.cluster import MiniBatchKMeans

    count = len(vectors) // CLUSTER
    sample = vectors[:: max(1, len(vectors) // (SAMPLE * count))]
    fitted = MiniBatchKMeans(count, init="random", n_init=1, max_iter=STEPS, random_state=0).fit(sample)
    return _unit(fitted.cluster_centers_)


def whitened(descriptors: np.ndarray) -> np.ndarray:
    """Return descriptors by their principal components, each with the same variance; of length 1.

    What all images of a data set share then weighs no more than what tells them apart.

    Parameters
    ----------
    descriptors : (n, d) float32.

    Returns
    -------
    (n, m) float32 array; m is at most `DIMENSIONS`, and at most a quarter of n. Fewer than 8 are only scaled.

    Source: H. Jegou and O. Chum, "Negative evidences and co-occurences in image retrieval", ECCV 2012.
    """
    from sklearn.decomposition import PCA

    some = _unit(descriptors[:: -(-len(descriptors) // PCA_IMAGES)])
    dimensions = min(DIMENSIONS, some.shape[1], len(some) // IMAGES_PER_DIMENSION)
    if dimensions < 2:
        return _unit(descriptors)
    solver = "covariance_eigh" if len(some) > some.shape[1] else "full"
    components = PCA(dimensions, whiten=True, svd_solver=solver).fit(some)
    result = np.empty((len(descriptors), dimensions), np.float32)
    blocks = in_parallel(lambda block: _unit(components.transform(_unit(block))), _blocks(descriptors))
    for start, block in zip(range(0, len(result), BLOCK), blocks, strict=True):
        result[start : start + BLOCK] = block
    return result


def _blocks(vectors: np.ndarray) -> Iterator[np.ndarray]:
    return (vectors[start : start + BLOCK] for start in range(0, len(vectors), BLOCK))


def _unit(vectors: np.ndarray) -> np.ndarray:
    """Return vectors (n, d) of length 1; those without a length as they are."""
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))[:, None]
    return vectors / np.where(lengths > 0, lengths, 1)
