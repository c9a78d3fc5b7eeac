"""Copy detection: images that are altered copies of others, such as crops, mirror images or watermarked ones.

Each image's nearest neighbours by a network's features are its candidates; alignment by keypoints decides.
"""

import hashlib
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from imgclf import ImgclfError, __version__, files
from imgclf.data import copies, scan
from imgclf.data.dataset import IGNORED, TOGETHER, Dataset, Image
from imgclf.features import Cache, compute
from imgclf.images import alignment, decoding
from imgclf.images.loading import in_parallel
from imgclf.images.preprocessing import KEY, Preprocessing
from imgclf.networks import backbones

BACKBONE = backbones.BACKBONES["efficientnet_lite0"]  # installed with imgclf
INPUT_SIZE = 128  # pixels; at 96, a tenth of the copies with text across them is no near neighbour
NEIGHBOURS = 16  # of each image that are looked at
DIMENSIONS = 512  # of the whitened descriptors
IMAGES_PER_DIMENSION = 4  # at least; whitening fewer makes all distances equal
PCA_IMAGES = 5_000  # enough for the principal components
BLOCK = 256  # images compared with all others at once
GREY_PICTURES = 512  # held in memory
ALGORITHM = "1"  # of `alignment`; another one decides anew

Progress = Callable[[int], None]


def scan_folder(
    name: str, folder: Path, *, near_duplicates: str = TOGETHER, progress: Progress | None = None
) -> Dataset:
    """Scan all images of a folder, as `scan.scan_folder` does, and find altered copies too.

    Parameters
    ----------
    name, near_duplicates : see `scan.scan_folder`; "ignored" looks for no altered copies.
    progress : called with how many images have been scanned, then with how many have been described and
        compared.

    Raises
    ------
    ImgclfError : see `scan.scan_folder`; or the package of the network is missing.
    """
    scanned = scan.scan_folder(name, folder, near_duplicates=near_duplicates, progress=progress)
    if near_duplicates == IGNORED:
        return scanned
    known = {(p.kept.sha256, p.other.sha256) for p in scanned.duplicates if not p.is_exact}
    found = altered_copies(scanned, known, progress=progress)
    return copies.exclude_duplicates(scanned, known | found) if found else scanned


def altered_copies(
    dataset: Dataset, known: Iterable[tuple[str, str]] = (), *, progress: Progress | None = None
) -> set[tuple[str, str]]:
    """Return pairs of images of which one is an altered copy of the other, by the sha256 of their contents.

    Parameters
    ----------
    known : pairs of near-duplicates, by sha256; images that these connect are not compared.
    progress : called after each image that was described, or compared with its neighbours.

    Raises
    ------
    ImgclfError : the package of the network is missing.
    """
    images = list({image.sha256: image for image in copies.largest_first(dataset.images)}.values())
    if len(images) < 2:
        return set()
    describing = network()
    cache = Cache.for_network(dataset.name, describing)
    compute(dataset, describing, cache, subset=images, progress=progress)
    described = cache.features(images)
    return _Comparison(dataset, described.images, known).copies(neighbours(described.matrix), progress)


def network() -> Path:
    """Return the network that describes images; exported once for all data sets.

    Raises
    ------
    ImgclfError : the package with its weights is missing.
    """
    name = f"{backbones.cache_name(BACKBONE)}-copies-{INPUT_SIZE}-opset{backbones.OPSET}-imgclf{__version__}"
    path = files.data_dir() / "networks" / f"{name}.onnx"
    if not path.exists():
        from imgclf.networks.copy_descriptor import CopyDescriptor

        metadata = {KEY: Preprocessing(INPUT_SIZE).as_json()}
        backbones.export_network(
            CopyDescriptor(backbones.build(BACKBONE)), INPUT_SIZE, path, metadata=metadata
        )
    return path


def neighbours(descriptors: np.ndarray) -> list[tuple[int, int]]:
    """Return the pairs (i, j), i < j, of which one is among the other's `NEIGHBOURS` nearest.

    Every descriptor is compared with all others, in blocks.

    Parameters
    ----------
    descriptors : (n, d) float32.
    """
    vectors = whitened(descriptors)
    most = min(NEIGHBOURS, len(vectors) - 1)
    pairs: set[tuple[int, int]] = set()
    for start in range(0, len(vectors), BLOCK):
        cosines = vectors[start : start + BLOCK] @ vectors.T
        rows = np.arange(len(cosines))
        cosines[rows, start + rows] = -np.inf
        nearest = np.argpartition(cosines, -most, axis=1)[:, -most:]
        pairs.update(
            (min(start + i, j), max(start + i, j)) for i, row in enumerate(nearest.tolist()) for j in row
        )
    return sorted(pairs)


def whitened(descriptors: np.ndarray) -> np.ndarray:
    """Return descriptors by their principal components, each with the same variance; of length 1.

    What all images of a data set share then weighs no more than what tells them apart.

    Parameters
    ----------
    descriptors : (n, d) float32.

    Returns
    -------
    (n, m) float32 array; m is at most `DIMENSIONS`, and at most a quarter of n.

    Source: H. Jegou and O. Chum, "Negative evidences and co-occurences in image retrieval", ECCV 2012.
    """
    from sklearn.decomposition import PCA
    from sklearn.preprocessing import normalize

    some = normalize(descriptors[:: -(-len(descriptors) // PCA_IMAGES)])
    dimensions = min(DIMENSIONS, some.shape[1], len(some) // IMAGES_PER_DIMENSION)
    if dimensions < 2:
        return normalize(descriptors)
    solver = "covariance_eigh" if len(some) > some.shape[1] else "full"
    components = PCA(dimensions, whiten=True, svd_solver=solver).fit(some)
    blocks = (descriptors[start : start + BLOCK] for start in range(0, len(descriptors), BLOCK))
    return np.concatenate([normalize(components.transform(normalize(block))) for block in blocks])


class _Comparison:
    """The comparison of pairs of images by alignment; decided pairs are kept on disk."""

    def __init__(self, dataset: Dataset, images: Sequence[Image], known: Iterable[tuple[str, str]]) -> None:
        from scipy.cluster.hierarchy import DisjointSet

        self.dataset, self.images = dataset, images
        self.file = files.proc_dir(dataset.name) / "compared.npz"
        self.grey = lru_cache(GREY_PICTURES)(self._grey)
        self.clusters = DisjointSet(image.sha256 for image in images)
        for one, other in known:
            if one in self.clusters and other in self.clusters:
                self.clusters.merge(one, other)

    def copies(self, pairs: Sequence[tuple[int, int]], progress: Progress | None) -> set[tuple[str, str]]:
        """Return those of the pairs (i, j) of images that are copies, by their sha256.

        They are those that connect each cluster, or all if near-duplicates are left out.
        """
        verdicts = _read_verdicts(self.file)
        keys = [self._key(pair) for pair in pairs]
        found = {pair for pair, key in zip(pairs, keys, strict=True) if verdicts.get(key)}
        found = {pair for pair in sorted(found) if self._connects(pair)}
        new = {pair: key for pair, key in zip(pairs, keys, strict=True) if key not in verdicts}
        for pair, is_copy in self._compared(list(new), progress):
            verdicts[new[pair]] = is_copy
            if is_copy and self._connects(pair):
                found.add(pair)
        if new:
            _write_verdicts(self.file, verdicts)
        return {(self.images[i].sha256, self.images[j].sha256) for i, j in found}

    def _connects(self, pair: tuple[int, int]) -> bool:
        """Whether a pair of copies is wanted; it connects its clusters."""
        merged = self.clusters.merge(*(self.images[i].sha256 for i in pair))
        return merged or self.dataset.near_duplicates != TOGETHER

    def _compared(
        self, pairs: Sequence[tuple[int, int]], progress: Progress | None
    ) -> Iterator[tuple[tuple[int, int], bool]]:
        """Yield pairs, and whether they are copies; without those that copies found meanwhile connect."""
        with tempfile.TemporaryFile() as file:  # of 50,000 images 700 MB, too many for memory
            shape = (max(1, len(self.images)),)
            points = np.memmap(file, alignment.KEYPOINTS, "w+", shape=shape)
            needed = sorted({i for pair in pairs for i in pair})
            described = in_parallel(lambda i: alignment.keypoints(self._grey(i)), needed)
            for done, (i, record) in enumerate(zip(needed, described, strict=True), start=1):
                points[i] = record
                if progress:
                    progress(done)

            def wanted() -> Iterator[tuple[int, int]]:
                for done, (i, j) in enumerate(pairs, start=1):
                    if progress:
                        progress(len(self.images) * done // len(pairs))
                    if self.dataset.near_duplicates != TOGETHER or not self.clusters.connected(
                        self.images[i].sha256, self.images[j].sha256
                    ):
                        yield i, j

            yield from in_parallel(lambda pair: (pair, self._is_copy(points, *pair)), wanted())

    def _is_copy(self, points: np.ndarray, i: int, j: int) -> bool:
        transform = alignment.alignment(points[i], points[j])
        return transform is not None and alignment.is_copy(self.grey(i), self.grey(j), transform)

    def _grey(self, i: int) -> np.ndarray:
        try:
            pixels = decoding.read(self.dataset.file(self.images[i]), side=alignment.SIDE)
        except ImgclfError:  # it vanished after the scan; later stages name it
            return np.zeros((alignment.SIDE, alignment.SIDE), np.uint8)
        return alignment.grey(pixels)

    def _key(self, pair: tuple[int, int]) -> int:
        """Return 63 bits that identify the contents of two images and how they are compared."""
        one, other = sorted(self.images[i].sha256 for i in pair)
        digest = hashlib.sha256(f"{ALGORITHM} {one} {other}".encode()).digest()
        return int.from_bytes(digest[:8]) >> 1


def _read_verdicts(file: Path) -> dict[int, bool]:
    """Return for each pair that was compared, by its key, whether it is a copy; empty if there are none."""
    try:
        arrays = files.read_npz(file, "keys", "is_copy")
        keys, verdicts = arrays["keys"], arrays["is_copy"]
        if keys.dtype != np.int64 or verdicts.dtype != bool or keys.shape != verdicts.shape or keys.ndim != 1:
            raise ValueError("not a verdict for each pair")
        return dict(zip(keys.tolist(), verdicts.tolist(), strict=True))
    except (OSError, ValueError):  # damaged: all are compared again
        return {}


def _write_verdicts(file: Path, verdicts: dict[int, bool]) -> None:
    keys = np.array(list(verdicts), np.int64)
    files.write_npz(file, {"keys": keys, "is_copy": np.array(list(verdicts.values()), bool)})
