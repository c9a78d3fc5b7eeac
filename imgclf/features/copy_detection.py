"""Copy detection: images that are altered copies of others, such as crops, mirror images or watermarked ones.

Each image's nearest neighbours by a network's features are its candidates; alignment by keypoints decides.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from imgclf import files
from imgclf.data import copies, scan
from imgclf.data.dataset import IGNORED, TOGETHER, Dataset, Image
from imgclf.features import Cache, compute
from imgclf.features.copy_comparison import UNKNOWN, Progress, Verdicts, compared, pair_keys
from imgclf.features.neighbours import neighbours
from imgclf.images.preprocessing import KEY, Preprocessing
from imgclf.images.workers import HERE, Workers
from imgclf.networks import backbones, exporting

BACKBONE = backbones.BACKBONES["efficientnet_lite0"]  # installed with imgclf
INPUT_SIZE = 128  # pixels; at 96, a tenth of the copies with text across them is no near neighbour
VERDICTS = 50_000  # written to disk at once: what a killed comparison loses at most, beside its keypoints

FOLDER = "copies"  # below proc/NAME, for descriptors and verdicts; safe to delete


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
    images, pairs = list(described.images), neighbours(described.matrix)
    del described  # of 300,000 images 1.5 GB
    return _copies(dataset, images, pairs, list(known), folder / "compared.npz", progress)


def _copies(
    dataset: Dataset,
    images: Sequence[Image],
    pairs: np.ndarray,
    known: Sequence[tuple[str, str]],
    file: Path,
    progress: Progress | None,
) -> set[tuple[str, str]]:
    """Return those of the pairs (n, 2) of images that are copies, by their sha256; verdicts are kept on disk.

    They are those that connect each cluster, or all if near-duplicates are left out.
    """
    from scipy.cluster.hierarchy import DisjointSet

    def joined(copies: np.ndarray) -> DisjointSet:
        clusters = DisjointSet(range(len(images)))
        for one, other in known:
            if one in place and other in place:
                clusters.merge(place[one], place[other])
        for i, j in pairs[copies].tolist():
            clusters.merge(i, j)
        return clusters

    def is_wanted(i: int, j: int) -> bool:
        return not is_connecting or not clusters.connected(i, j)

    place = {image.sha256: i for i, image in enumerate(images)}
    is_connecting, kept = dataset.near_duplicates == TOGETHER, Verdicts(file)
    keys = pair_keys(images, pairs)
    verdicts = kept.known(keys)
    clusters = joined(verdicts == 1)
    new = np.flatnonzero(verdicts == UNKNOWN)
    new = new[[is_wanted(i, j) for i, j in pairs[new].tolist()]] if len(new) else new
    done = 0
    try:
        for rows, some in compared(dataset, images, pairs[new], is_wanted, progress):
            verdicts[new[rows]] = some
            kept.add(keys[new[rows]], some)
            for i, j in pairs[new[rows[some == 1]]].tolist():
                clusters.merge(i, j)
            done += len(rows)
            if done >= VERDICTS:
                kept.write()
                done = 0
    finally:
        if len(new):
            kept.write()
    # From the first pair on: the same verdicts give the same pairs. The clusters are the same in any case.
    clusters = joined(np.empty(0, np.int64))
    found = pairs[verdicts == 1].tolist()
    chosen = [pair for pair in found if clusters.merge(*pair)] if is_connecting else found
    return {(images[i].sha256, images[j].sha256) for i, j in chosen}


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
