"""Comparing images with their neighbours by keypoints; verdicts are kept on disk."""

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

import numpy as np
from joblib import cpu_count

from imgclf import ImgclfError, files
from imgclf.data.dataset import Dataset, Image
from imgclf.images import alignment, decoding
from imgclf.images.loading import in_parallel
from imgclf.images.stores import StoreError

GREY_PICTURES = 512  # held in memory
PARTNERS = 128  # of an image, compared at once; 16 MB
ALGORITHM = np.uint64(2)  # of `alignment`; another one decides anew
RECORD_BYTES = alignment.KEYPOINTS.itemsize  # of an image, in a temporary file; of 100,000 images 2.7 GB
UNKNOWN = -1  # not compared, or an image cannot be read now

Progress = Callable[[int], None]


class Verdicts:
    """Which pairs of images were compared, and whether they are copies; 9 bytes each.

    Parameters
    ----------
    file : an .npz file. A missing or damaged one holds no verdicts, so all pairs are compared.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        keys, is_copy = _read(file)
        order = np.argsort(keys)
        self._keys, self._is_copy = [keys[order]], [is_copy[order]]

    def known(self, keys: np.ndarray) -> np.ndarray:
        """Return for each key (n,) of a pair 1 if it is a copy, 0 if not, or `UNKNOWN`; int8, as read."""
        result = np.full(len(keys), UNKNOWN, np.int8)
        if len(self._keys[0]):
            places = np.minimum(np.searchsorted(self._keys[0], keys), len(self._keys[0]) - 1)
            found = self._keys[0][places] == keys
            result[found] = self._is_copy[0][places[found]]
        return result

    def add(self, keys: np.ndarray, verdicts: np.ndarray) -> None:
        """Add verdicts, int8 as `known` returns them; those that are unknown are not kept."""
        is_known = verdicts != UNKNOWN
        self._keys.append(keys[is_known])
        self._is_copy.append(verdicts[is_known].astype(bool))

    def write(self) -> None:
        """Write all verdicts, atomically."""
        arrays = {"keys": np.concatenate(self._keys), "is_copy": np.concatenate(self._is_copy)}
        files.write_npz(self._file, arrays)


def _read(file: Path) -> tuple[np.ndarray, np.ndarray]:
    try:
        arrays = files.read_npz(file, "keys", "is_copy")
        keys, verdicts = arrays["keys"], arrays["is_copy"]
        if keys.dtype != np.int64 or verdicts.dtype != bool or keys.shape != verdicts.shape or keys.ndim != 1:
            raise ValueError("not a verdict for each pair")
        return keys, verdicts
    except (OSError, ValueError):
        return np.empty(0, np.int64), np.empty(0, bool)


def pair_keys(images: Sequence[Image], pairs: np.ndarray) -> np.ndarray:
    """Return 64 bits for each pair that identify two contents, by their sha256, and how they are compared.

    Parameters
    ----------
    pairs : (n, 2) int, places in `images`.

    Returns
    -------
    (n,) int64 array.
    """
    contents = np.frombuffer(bytes.fromhex("".join(image.sha256[:16] for image in images)), np.uint64)
    some = contents[pairs]
    mixed = (some.min(axis=1) + ALGORITHM) * np.uint64(0x9E3779B97F4A7C15) + some.max(axis=1)
    return mixed.view(np.int64)


def compared(
    dataset: Dataset,
    images: Sequence[Image],
    pairs: np.ndarray,
    is_wanted: Callable[[int, int], bool],
    progress: Progress | None,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield places in `pairs`, (n,) int, and whether these are copies, int8: 1, 0 or `UNKNOWN`; in order.

    Parameters
    ----------
    pairs : (m, 2) int, sorted; places in `images`.
    is_wanted : whether a pair is still to be compared when its turn comes.

    Raises
    ------
    ImgclfError : the keypoints, 27 KB of each image, cannot be written into a temporary file in `proc/NAME`.
    """
    from threadpoolctl import threadpool_limits

    def grey(i: int) -> np.ndarray | None:
        return _grey(dataset.file(images[i]))

    def verdict(i: int, j: int, points: np.ndarray) -> int:
        transform = alignment.alignment(*points)
        if transform is None:
            return False
        one, other = kept(i), kept(j)
        return UNKNOWN if one is None or other is None else alignment.is_copy(one, other, transform)

    def verdicts(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        i, others = int(pairs[rows[0], 0]), pairs[rows, 1].tolist()
        points = _read_keypoints(file, [place[i], *(place[j] for j in others)])
        is_there = points["width"] > 0  # none of an image that cannot be read
        result = np.where(is_there[0] & is_there[1:], 0, UNKNOWN).astype(np.int8)
        may_align = alignment.may_align(points[0], points[1:])
        for k in np.flatnonzero((result == 0) & may_align).tolist():
            result[k] = verdict(i, others[k], points[[0, k + 1]])
        return rows, result

    def wanted() -> Iterator[np.ndarray]:
        starts = np.flatnonzero(np.diff(pairs[:, 0], prepend=-1))
        for start, end in pairwise([*starts.tolist(), len(pairs)]):
            if progress:
                progress(len(images) * end // len(pairs))
            for first in range(start, end, PARTNERS):
                is_open = [is_wanted(i, j) for i, j in pairs[first : min(first + PARTNERS, end)].tolist()]
                if any(is_open):
                    yield first + np.flatnonzero(is_open)

    kept = lru_cache(GREY_PICTURES)(grey)  # most pairs do not align, and need no pictures
    if not len(pairs):
        return
    place = {int(i): number for number, i in enumerate(np.unique(pairs))}  # in the file
    with _temporary_file(files.proc_dir(dataset.name)) as file, threadpool_limits(1):
        _write_keypoints(file, [dataset.file(images[i]) for i in place], progress)
        yield from in_parallel(verdicts, wanted(), ahead=2 * cpu_count())


@contextmanager
def _temporary_file(folder: Path) -> Iterator[BinaryIO]:
    """Yield a new file in a folder, that vanishes; not in /tmp, which may be memory.

    Raises
    ------
    ImgclfError : see `files.writable`.
    """
    with files.writable(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            yield file


def _grey(path: Path) -> np.ndarray | None:
    """Return the picture that is compared; None if it cannot be read."""
    try:
        return alignment.grey(decoding.read(path, side=alignment.SIDE))
    except StoreError:
        raise
    except ImgclfError:  # it vanished after the scan; later stages name it
        return None


def _write_keypoints(file: BinaryIO, paths: Sequence[Path], progress: Progress | None) -> None:
    """Write the keypoints of images into a file, one after the other; zeros for one that cannot be read."""

    def described(path: Path) -> np.ndarray | None:
        picture = _grey(path)
        return None if picture is None else alignment.keypoints(picture)

    for done, record in enumerate(in_parallel(described, paths), start=1):
        file.write(bytes(RECORD_BYTES) if record is None else record.tobytes())
        if progress:
            progress(done)
    file.flush()


def _read_keypoints(file: BinaryIO, places: Sequence[int]) -> np.ndarray:
    """Return the keypoints of images at these places of a file.

    It is not mapped: pages of a mapped file count as memory of the process.
    """
    found = (os.pread(file.fileno(), RECORD_BYTES, RECORD_BYTES * place) for place in places)
    return np.frombuffer(b"".join(found), alignment.KEYPOINTS)
