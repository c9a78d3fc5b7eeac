"""The vectors by which a network describes images, computed once for each image content and kept."""

import hashlib
import time
import zipfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from joblib import cpu_count

from imgclf import ImgclfError, engines, files, images
from imgclf.dataset import Dataset, Image

SHARD_IMAGES = 512  # written to disk at once: what a killed run loses at most
MOST_ABSENT = 0.05  # share of images without features that 04 goes on with
LOOK_AHEAD = 32  # images decoded before they are needed


@dataclass(frozen=True)
class Features:
    """One vector for each image.

    Attributes
    ----------
    matrix : (n, d) float32 array, row i describes `images[i]`.
    images : the n images.
    """

    matrix: np.ndarray
    images: tuple[Image, ...]

    @property
    def labels(self) -> np.ndarray:
        """(n,) array of the images' labels."""
        return np.array([image.label for image in self.images])

    def of(self, subset: Iterable[Image]) -> "Features":
        """The features of some of the images."""
        row = {image.path: i for i, image in enumerate(self.images)}
        chosen = tuple(image for image in subset if image.path in row)
        return Features(self.matrix[[row[image.path] for image in chosen]], chosen)

    def __str__(self) -> str:
        return f"{self.matrix.shape[0]} images x {self.matrix.shape[1]} features"


@dataclass(frozen=True)
class Skipped:
    """An image that could not be used, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class Source:
    """An image file to be read, and the sha256 that its content must have; "" if any will do."""

    path: Path
    sha256: str = ""

    def pixels(self, input_size: int) -> np.ndarray:
        """Decoded and letterboxed; (S, S, 3) uint8, RGB."""
        encoded = images.read_bytes(self.path)
        if self.sha256 and hashlib.sha256(encoded).hexdigest() != self.sha256:
            raise ImgclfError(f"{self.path.name}: is another picture than 01_prepare_data saw; run 01_prepare_data again")
        return images.prepare(encoded, input_size, self.path.name)


def sources(dataset: Dataset, wanted: Iterable[Image]) -> list[Source]:
    """The files of images of a data set, with the content that they had when they were looked through."""
    return [Source(dataset.file(image), image.sha256) for image in wanted]


def prepared(wanted: Iterable[Source], input_size: int, *, skipped: list[Skipped]) -> Iterator[tuple[int, np.ndarray]]:
    """Pixels of image files, decoded and letterboxed a little ahead in threads, in order.

    Yields (i, pixels) with i the position in `wanted`; images that cannot be read are added to `skipped`.
    """
    def load(source: Source) -> np.ndarray | ImgclfError:
        try:
            return source.pixels(input_size)
        except ImgclfError as error:
            return error

    with ThreadPoolExecutor(cpu_count()) as pool:
        coming = iter(wanted)
        ahead = deque((source.path, pool.submit(load, source)) for source in islice(coming, LOOK_AHEAD))
        position = 0
        while ahead:
            path, future = ahead.popleft()
            ahead.extend((source.path, pool.submit(load, source)) for source in islice(coming, 1))
            pixels = future.result()
            if isinstance(pixels, ImgclfError):
                skipped.append(Skipped(str(path), str(pixels)))
            else:
                yield position, pixels
            position += 1


def run_network(network: engines.Engine, wanted: Sequence[Source], input_size: int, *, batch_size: int,
                skipped: list[Skipped]) -> Iterator[tuple[int, tuple[np.ndarray, ...]]]:
    """(i, outputs of the network) for each image file, while decoding and the network overlap."""
    positions: deque[tuple[int, ...]] = deque()

    def batches() -> Iterator[np.ndarray]:
        coming = prepared(wanted, input_size, skipped=skipped)
        while batch := list(islice(coming, batch_size)):
            positions.append(tuple(i for i, _ in batch))
            yield np.stack([pixels for _, pixels in batch])

    for outputs in network.run(batches()):
        for row, i in enumerate(positions.popleft()):
            yield i, tuple(output[row] for output in outputs)


@dataclass(frozen=True)
class Cache:
    """Features on disk, by content: a folder for each network and precision, in it shards of (sha256, features).

    Changing a label, the split or the SVM recomputes nothing; one new image costs one image.
    """

    folder: Path

    @classmethod
    def of(cls, dataset_name: str, network: Path, *, engine: str = "openvino", precision: str = "f32") -> "Cache":
        """The features of a data set by this network; "auto" is what it means on this machine."""
        precision = engines.resolved_precision(engine, precision)
        fingerprint = hashlib.sha256(network.read_bytes()).hexdigest()[:16]
        return cls(files.proc_dir(dataset_name) / "features" / f"{network.stem}-{fingerprint}-{precision}")

    def _shards(self) -> list[Path]:
        return sorted(self.folder.glob("*.npz"))

    def known(self) -> set[str]:
        """The sha256 of the images whose features are here."""
        return {sha256 for shard in self._shards() for sha256 in _read_shard(shard, "sha256").tolist()}

    def add(self, sha256: Sequence[str], matrix: np.ndarray) -> None:
        """Write features as one more shard, whole."""
        name = hashlib.sha256("".join(sha256).encode()).hexdigest()[:16]  # so that two runs never write the same shard differently
        with files.replace_file(self.folder / f"{name}.npz") as file:
            np.savez(file, sha256=np.array(sha256), features=matrix.astype(np.float32, copy=False))

    def features(self, wanted: Sequence[Image]) -> Features:
        """The features of those of the `wanted` images that are here."""
        known = self.known()
        found = tuple(image for image in wanted if image.sha256 in known)
        rows: dict[str, list[int]] = {}
        for row, image in enumerate(found):
            rows.setdefault(image.sha256, []).append(row)
        matrix = None
        for shard in self._shards():
            part = _read_shard(shard, "features")
            if matrix is None:
                matrix = np.empty((len(found), part.shape[1]), np.float32)
            for vector, sha256 in zip(part, _read_shard(shard, "sha256").tolist(), strict=True):
                matrix[rows.get(sha256, [])] = vector
        if not found:
            raise ImgclfError(f"{self.folder}: no features of these images yet; run 03_run_dnn first")
        return Features(matrix, found)


def _read_shard(shard: Path, name: str) -> np.ndarray:
    try:
        with shard.open("rb") as file, np.load(file, allow_pickle=False) as arrays:  # opened here: np.load leaves a damaged file open
            return arrays[name]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ImgclfError(f"{shard}: damaged; delete it and run 03_run_dnn again") from error


def compute(dataset: Dataset, network: Path, cache: Cache, *, subset: Sequence[Image] | None = None, engine: str = "openvino",
            precision: str = "f32", batch_size: int = engines.BATCH_SIZE, shard_images: int = SHARD_IMAGES,
            progress: Callable[[int], None] | None = None) -> list[Skipped]:
    """Compute what is missing of the features of a data set, and write it to `cache` as it comes.

    Parameters
    ----------
    network : an ONNX network that `backbones.export` wrote; its input tells the image size.
    subset : only these images; all by default.
    shard_images : images written to disk at once: what a killed run loses at most.
    progress : called with the number of images that are done, of those that were missing.

    Returns
    -------
    The images that could not be read. They are skipped, the rest goes on.
    """
    todo = list(missing(subset if subset is not None else dataset.images, cache))
    skipped: list[Skipped] = []
    if not todo:
        return skipped
    ready = engines.start(network, engine=engine, precision=precision, batch_size=batch_size)
    results = run_network(ready, sources(dataset, todo), engines.input_size(network),
                          batch_size=batch_size, skipped=skipped)
    done = 0
    while shard := list(islice(results, shard_images)):
        cache.add([todo[i].sha256 for i, _ in shard], np.stack([vector for _, (vector,) in shard]))
        done += len(shard)
        if progress:
            progress(done)
    return skipped


def coverage(features: Features, wanted: Sequence[Image]) -> str:
    """How many of the wanted images have features, in words.

    Raises
    ------
    ImgclfError : more than `MOST_ABSENT` of them have none; 03 was stopped, or left out after new images came.
    """
    absent = len(wanted) - len(features.images)
    note = f"{features}; {absent} of {len(wanted)} images have none, run 03_run_dnn (it names those that cannot be read)"
    if absent > MOST_ABSENT * len(wanted):
        raise ImgclfError(note)
    return note if absent else str(features)


def skipped_note(skipped: Sequence[Skipped]) -> str:
    """A sentence about images that could not be read, with the reasons of the first three."""
    return "; ".join([f"{len(skipped)} images could not be read", *(image.reason for image in skipped[:3])])


def missing(wanted: Iterable[Image], cache: Cache) -> Iterator[Image]:
    """The images without features in the cache, each content once."""
    seen = cache.known()
    for image in wanted:
        if image.sha256 not in seen:
            seen.add(image.sha256)
            yield image


def forecast(dataset: Dataset, network: Path, cache: Cache, *, few: int = 32, **options: str | int) -> str:
    """How long the missing features will take, in words; a few are computed (and kept) to tell."""
    todo = list(missing(dataset.images, cache))
    if not todo:
        return f"the features of all {len(dataset.images)} images are here already"
    times: list[float] = []
    compute(dataset, network, cache, subset=todo[:few], shard_images=few // 4, progress=lambda done: times.append(time.perf_counter()), **options)
    if len(times) < 2:
        return f"there are only {len(todo)} new images; they are done"
    per_second = (len(times) - 1) * (few // 4) / (times[-1] - times[0])  # the first part also starts the engine
    return f"{per_second:.0f} images a second; the remaining {len(todo[few:])} will take about {len(todo[few:]) / per_second:.0f} seconds"


def nearest(features: Features, image: Image, *, most: int) -> list[tuple[Image, float]]:
    """The images whose features point most nearly the same way as those of `image`, with the cosine (-1 to 1), nearest first."""
    from sklearn.preprocessing import normalize
    directions = normalize(features.matrix)
    here = [i.path for i in features.images].index(image.path)
    cosine = directions @ directions[here]
    order = [i for i in np.argsort(-cosine, kind="stable") if i != here][:most]
    return [(features.images[i], float(cosine[i])) for i in order]


def flat_map(features: Features) -> np.ndarray:
    """The two directions in which the L2-normalized features vary most; (n, 2) float array.

    Source: principal component analysis; signs are fixed such that the largest entry of each direction is positive.
    """
    from sklearn.decomposition import PCA
    from sklearn.preprocessing import normalize
    return PCA(2, random_state=0).fit_transform(normalize(features.matrix))
