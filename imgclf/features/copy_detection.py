"""Copy detection: images that are altered copies of others, such as crops, mirror images or watermarked ones.

Each image's nearest neighbours by a network's features are its candidates; alignment by keypoints decides.
"""

import hashlib
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from imgclf import ImgclfError, files
from imgclf.data import copies, scan
from imgclf.data.dataset import IGNORED, TOGETHER, Dataset, Image
from imgclf.features import Cache, compute
from imgclf.images import alignment, decoding
from imgclf.images.loading import in_parallel
from imgclf.images.preprocessing import KEY, Preprocessing
from imgclf.images.stores import StoreError
from imgclf.images.workers import HERE, Workers
from imgclf.networks import backbones, exporting

BACKBONE = backbones.BACKBONES["efficientnet_lite0"]  # installed with imgclf
INPUT_SIZE = 128  # pixels; at 96, a tenth of the copies with text across them is no near neighbour
NEIGHBOURS = 16  # of each image that are looked at
DIMENSIONS = 512  # of the whitened descriptors
IMAGES_PER_DIMENSION = 4  # at least; whitening fewer makes all distances equal
PCA_IMAGES = 5_000  # enough for the principal components
BLOCK = 256  # images compared with all others at once
GREY_PICTURES = 512  # held in memory
VERDICTS = 10_000  # written to disk at once: what a killed comparison loses at most, about a minute
ALGORITHM = "1"  # of `alignment`; another one decides anew

FOLDER = "copies"  # below proc/NAME, for descriptors and verdicts; safe to delete

Progress = Callable[[int], None]


def scan_folder(
    name: str,
    folder: Path,
    *,
    near_duplicates: str = TOGETHER,
    workers: Workers = HERE,
    progress: Progress | None = None,
) -> Dataset:
    """Scan all images of a folder, as `scan.scan_folder` does, and find altered copies too.

    Parameters
    ----------
    name, near_duplicates, workers : see `scan.scan_folder`; "ignored" looks for no altered copies. The
        workers scan and describe the images; this process compares them.
    progress : called with how many images have been scanned, then with how many have been described and
        compared.

    Raises
    ------
    ImgclfError : see `scan.scan_folder`; or the package of the network is missing.
    """
    scanned = scan.scan_folder(
        name, folder, near_duplicates=near_duplicates, workers=workers, progress=progress
    )
    if near_duplicates == IGNORED:
        return scanned
    known = {(p.kept.sha256, p.other.sha256) for p in scanned.duplicates if not p.is_exact}
    found = altered_copies(scanned, known, workers=workers, progress=progress)
    return copies.exclude_duplicates(scanned, known | found) if found else scanned


def altered_copies(
    dataset: Dataset,
    known: Iterable[tuple[str, str]] = (),
    *,
    workers: Workers = HERE,
    progress: Progress | None = None,
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
    images = list({image.sha256: image for image in copies.largest_first(dataset.readable)}.values())
    if len(images) < 2:
        return set()
    describing, folder = network(), files.proc_dir(dataset.name) / FOLDER
    cache = Cache(folder / Cache.name(describing, files.sha256(describing), "f32"))
    compute(dataset, describing, cache, subset=images, workers=workers, progress=progress)
    described = cache.features(images)
    pairs = neighbours(described.matrix)
    return _copies(dataset, described.images, pairs, list(known), folder / "compared.npz", progress)


def _copies(
    dataset: Dataset,
    images: Sequence[Image],
    pairs: Sequence[tuple[int, int]],
    known: Sequence[tuple[str, str]],
    file: Path,
    progress: Progress | None,
) -> set[tuple[str, str]]:
    """Return those of the pairs (i, j) of images that are copies, by their sha256; verdicts are kept on disk.

    They are those that connect each cluster, or all if near-duplicates are left out.
    """
    from scipy.cluster.hierarchy import DisjointSet

    def joined(some: Iterable[tuple[str, str]]) -> DisjointSet:
        clusters = DisjointSet(image.sha256 for image in images)
        for one, other in some:
            if one in clusters and other in clusters:
                clusters.merge(one, other)
        return clusters

    def is_wanted(i: int, j: int) -> bool:
        return not is_connecting or not clusters.connected(images[i].sha256, images[j].sha256)

    is_connecting, verdicts = dataset.near_duplicates == TOGETHER, _read_verdicts(file)
    contents = {(i, j): (images[i].sha256, images[j].sha256) for i, j in pairs}
    keys = {pair: _key(*both) for pair, both in contents.items()}
    clusters = joined([*known, *(contents[pair] for pair in pairs if verdicts.get(keys[pair]))])
    new = [pair for pair in pairs if keys[pair] not in verdicts and is_wanted(*pair)]
    try:
        for done, (pair, is_copy) in enumerate(_compared(dataset, images, new, is_wanted, progress), start=1):
            if is_copy is not None:
                verdicts[keys[pair]] = is_copy
            if is_copy:
                clusters.merge(*contents[pair])
            if done % VERDICTS == 0:
                _write_verdicts(file, verdicts)
    finally:
        if new:
            _write_verdicts(file, verdicts)
    found = [contents[pair] for pair in pairs if verdicts.get(keys[pair])]
    # From the first pair on, so that the same images always have the same pairs.
    clusters = joined(known)
    return {pair for pair in found if clusters.merge(*pair)} if is_connecting else set(found)


def network() -> Path:
    """Return the network that describes images; exported once for all data sets.

    Raises
    ------
    ImgclfError : the package with its weights is missing.
    """
    return exporting.exported(network_name(), _export)


def network_name() -> str:
    """Return the name of its cached export, see `exporting.cached`.

    Raises
    ------
    ImgclfError : the package with its weights is missing.
    """
    return f"{backbones.cache_name(BACKBONE)}-copies-{INPUT_SIZE}"


def _export(path: Path) -> None:
    from imgclf.networks.copy_descriptor import CopyDescriptor

    metadata = {KEY: Preprocessing(INPUT_SIZE).as_json()}
    exporting.export_network(CopyDescriptor(backbones.build(BACKBONE)), INPUT_SIZE, path, metadata=metadata)


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


def _compared(
    dataset: Dataset,
    images: Sequence[Image],
    pairs: Sequence[tuple[int, int]],
    is_wanted: Callable[[int, int], bool],
    progress: Progress | None,
) -> Iterator[tuple[tuple[int, int], bool | None]]:
    """Yield pairs (i, j) of images, in order, and whether they are copies; None if one cannot be read now.

    Parameters
    ----------
    is_wanted : whether a pair is still to be compared when its turn comes.
    """

    def grey(i: int) -> np.ndarray | None:
        try:
            return alignment.grey(decoding.read(dataset.file(images[i]), side=alignment.SIDE))
        except StoreError:
            raise
        except ImgclfError:  # it vanished after the scan; later stages name it
            return None

    def keypoints(i: int) -> np.ndarray:
        picture = grey(i)
        if picture is None:
            unreadable.add(i)
            return np.zeros((), alignment.KEYPOINTS)
        return alignment.keypoints(picture)

    def is_copy(i: int, j: int) -> bool | None:
        if not unreadable.isdisjoint((i, j)):
            return None
        transform = alignment.alignment(points[i], points[j])
        if transform is None:
            return False
        one, other = kept(i), kept(j)
        return None if one is None or other is None else alignment.is_copy(one, other, transform)

    unreadable: set[int] = set()
    kept = lru_cache(GREY_PICTURES)(grey)  # most pairs do not align, and need no pictures

    def wanted() -> Iterator[tuple[int, int]]:
        for done, pair in enumerate(pairs, start=1):
            if progress:
                progress(len(images) * done // len(pairs))
            if is_wanted(*pair):
                yield pair

    with tempfile.TemporaryFile() as file:  # of 50,000 images 700 MB, too many for memory
        points = np.memmap(file, alignment.KEYPOINTS, "w+", shape=(len(images),))
        needed = sorted({i for pair in pairs for i in pair})
        for done, (i, record) in enumerate(zip(needed, in_parallel(keypoints, needed), strict=True), start=1):
            points[i] = record
            if progress:
                progress(done)
        yield from in_parallel(lambda pair: (pair, is_copy(*pair)), wanted())


def _key(one: str, other: str) -> int:
    """Return 63 bits that identify two contents, by their sha256, and how they are compared."""
    one, other = sorted((one, other))
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
