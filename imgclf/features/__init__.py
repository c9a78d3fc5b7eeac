"""Feature vectors of images by a network, computed once per image content and cached on disk."""

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from imgclf import ImgclfError, engines, files
from imgclf.data.dataset import Dataset, Image
from imgclf.engines import pipeline
from imgclf.images.loading import Skipped, Source
from imgclf.images.preprocessing import Preprocessing
from imgclf.images.workers import HERE, Workers

SHARD_IMAGES = 512  # written to disk at once: what a killed run loses at most
CHECKSUM = "checksum"  # array of a shard
BLOCK_ROWS = 4096  # of a matrix, copied at once
PCA_ROWS = 2**14  # images that principal components are computed of; more would take copies of all features
MAX_MISSING = 0.05  # share of images that 04 and 05 may lack: those without features, or gone


@dataclass(frozen=True)
class Features:
    """One feature vector per image.

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

    def subset(self, images: Iterable[Image]) -> "Features":
        """Return the features of some of the images, in their order; images without features are left out."""
        row = {image.path: i for i, image in enumerate(self.images)}
        chosen = tuple(image for image in images if image.path in row)
        rows = [row[image.path] for image in chosen]
        is_whole = rows == list(range(len(self.matrix)))  # then no copy is made
        return Features(self.matrix if is_whole else self.matrix[rows], chosen)

    def __str__(self) -> str:
        return f"{self.matrix.shape[0]} images x {self.matrix.shape[1]} features"


def image_sources(dataset: Dataset, images: Iterable[Image]) -> list[Source]:
    """Return the files of images of a data set, with the sha256 of their content when it was scanned."""
    return [Source(dataset.file(image), image.sha256) for image in images]


@dataclass(frozen=True)
class Cache:
    """Features on disk: a folder per network and precision, and in it shards of (key, features).

    The key of a feature vector is all that it depends on: the pixels of the image (`Image.pixels_key`), the
    network (sha256 of the ONNX file, whose metadata hold the preprocessing: input size and padding colour)
    and the precision of inference, in int8 also the engine. So a change of label, split or SVM recomputes
    nothing, and one new image costs one image; another network, input size or precision has a folder of its
    own.
    """

    folder: Path

    @classmethod
    def for_network(
        cls, dataset_name: str, network: Path, *, engine: str = "openvino", precision: str = "f32"
    ) -> "Cache":
        """Return the cache of a data set's features by a network; "auto" is resolved for this machine."""
        resolved = engines.resolved_precision(engine, precision)
        name = cls.name(network, files.sha256(network), resolved, engine=engine)
        return cls(files.proc_dir(dataset_name) / "features" / name)

    @staticmethod
    def name(network: Path, sha256: str, resolved_precision: str, *, engine: str = "openvino") -> str:
        """Return the name of the folder of features by a network; with "int8" the engine is part of it.

        The engines round integers differently: features in int8 differ by up to 6 % between them.
        """
        name = f"{network.stem}-{sha256[:16]}-{resolved_precision}"
        return f"{name}-{engine}" if resolved_precision == "int8" else name

    def _shards(self) -> list[Path]:
        return sorted(self.folder.glob("*.npz"))

    def known(self) -> set[str]:
        """Return the keys of the images whose features are cached, see `Image.pixels_key`."""
        return {key for shard in self._shards() for key in self._keys(shard)}

    @staticmethod
    def _keys(shard: Path) -> list[str]:
        """Return the keys of a shard, without reading its features: a thousandth of its bytes."""
        return _read_shard(shard, "sha256")["sha256"].tolist()

    def add(self, keys: Sequence[str], matrix: np.ndarray) -> None:
        """Write features as one more shard, by an atomic write."""
        # Named by its images, so that two runs never write the same shard differently.
        name = hashlib.sha256("".join(keys).encode()).hexdigest()[:16]
        shard = self.folder / f"{name}.npz"
        arrays = {"sha256": np.array(keys), "features": matrix.astype(np.float32, copy=False)}
        files.write_npz(shard, {**arrays, CHECKSUM: np.array(_checksum(shard, arrays))})

    def features(self, images: Sequence[Image]) -> Features:
        """Return the features of those of the images that are cached, in the order of `images`.

        Raises
        ------
        ImgclfError : none of them is cached, or a shard is damaged.
        """
        wanted = {image.pixels_key for image in images}
        keys = {shard: self._keys(shard) for shard in self._shards()}
        holding = [shard for shard, some in keys.items() if not wanted.isdisjoint(some)]
        known = {key for shard in holding for key in keys[shard]}
        found = tuple(image for image in images if image.pixels_key in known)
        if not found:
            raise ImgclfError(f"{self.folder}: no features of these images yet; run 03_run_dnn first")
        rows: dict[str, list[int]] = {}
        for row, image in enumerate(found):
            rows.setdefault(image.pixels_key, []).append(row)
        matrix = np.empty((0, 0), np.float32)
        for shard in holding:
            vectors = _read_shard(shard)["features"]
            if not len(matrix):
                matrix = np.empty((len(found), *vectors.shape[1:]), np.float32)
            if vectors.shape[1:] != matrix.shape[1:] or vectors.ndim != 2:
                raise _damaged(shard)
            places = [(row, k) for k, key in enumerate(keys[shard]) for row in rows.get(key, ())]
            into, taken = np.array(places).T
            matrix[into] = vectors[taken]
        return Features(matrix, found)


def is_whole(shard: Path) -> bool:
    """Whether a shard can be read and holds what was written, for the network that its folder names."""
    try:
        return bool(_read_shard(shard))
    except ImgclfError:
        return False


def _checksum(shard: Path, arrays: Mapping[str, np.ndarray]) -> str:
    """Return a hash of the features, their keys, and the network and precision: the name of the folder."""
    content = hashlib.sha256("\n".join([shard.parent.name, *arrays["sha256"].tolist()]).encode())
    content.update(np.ascontiguousarray(arrays["features"]).data)
    return content.hexdigest()


def _read_shard(shard: Path, *names: str) -> dict[str, np.ndarray]:
    """Return arrays of a shard; all are checked against its checksum, which version 0.1.0 did not write."""
    try:
        arrays = files.read_npz(shard, *names)
        sha256, vectors = arrays["sha256"], arrays.get("features")
        if sha256.dtype.kind != "U" or sha256.ndim != 1:
            raise ValueError("sha256 is no list of texts")
        if vectors is not None and (vectors.dtype != np.float32 or vectors.shape[:1] != sha256.shape):
            raise ValueError("not a vector for each sha256")
        if CHECKSUM in arrays and arrays[CHECKSUM].item() != _checksum(shard, arrays):
            raise ValueError("not as it was written")
        return arrays
    except (OSError, ValueError, KeyError) as error:
        raise _damaged(shard) from error


def _damaged(shard: Path) -> ImgclfError:
    return ImgclfError(f"{shard}: damaged; delete it and run 03_run_dnn again")


def compute(
    dataset: Dataset,
    network: Path,
    cache: Cache,
    *,
    subset: Sequence[Image] | None = None,
    engine: str = "openvino",
    precision: str = "f32",
    batch_size: int = engines.BATCH_SIZE,
    shard_images: int = SHARD_IMAGES,
    workers: Workers = HERE,
    progress: Callable[[int], None] | None = None,
) -> list[Skipped]:
    """Compute the missing features of a data set and write them to `cache`; return the skipped images.

    Parameters
    ----------
    network : an ONNX network that `backbones.write` wrote; its metadata hold the preprocessing.
    subset : only these images; all by default.
    shard_images : images written to disk at once: what a killed run loses at most. An interrupted run loses
        none.
    workers : compute them, see `workers.connected`; by default this process.
    progress : called after each image with the number that are done, of those that were missing.

    Returns
    -------
    The images that cannot be read, with the reasons. The others are computed.
    """
    todo = list(missing(subset if subset is not None else dataset.images, cache))
    skipped: list[Skipped] = []
    if not todo:
        return skipped
    by_path = {dataset.file(image): image for image in todo}
    function = partial(_outputs, engines.preprocessing(network), engine, precision, batch_size)
    shared = network.read_bytes() if workers.cluster else network
    shard: dict[str, np.ndarray] = {}
    with closing(workers.stream(function, image_sources(dataset, todo), shared=shared)) as results:
        try:
            for done, (path, outputs) in enumerate(results, start=1):
                if isinstance(outputs, Skipped):
                    skipped.append(outputs)
                else:
                    shard[by_path[path].pixels_key] = outputs[0]
                if len(shard) == shard_images:
                    cache.add(list(shard), np.stack(list(shard.values())))
                    shard = {}
                if progress:
                    progress(done)
        finally:  # also what was computed before an interruption
            if shard:
                cache.add(list(shard), np.stack(list(shard.values())))
    return skipped


def _outputs(
    preprocessing: Preprocessing,
    engine: str,
    precision: str,
    batch_size: int,
    network: Path | bytes,
    sources: Sequence[Source],
) -> Iterator[tuple[Path, pipeline.Outputs | Skipped]]:
    """Yield the path of each image, and the outputs of the network for it or why it cannot be read."""
    with (
        _started(network, engine, precision, batch_size) as ready,
        closing(pipeline.run(ready, sources, preprocessing, batch_size=batch_size)) as results,
    ):
        for i, outputs in results:
            yield sources[i].path, outputs


@contextmanager
def _started(network: Path | bytes, engine: str, precision: str, batch_size: int) -> Iterator[engines.Engine]:
    if isinstance(network, Path):
        with closing(
            engines.start(network, engine=engine, precision=precision, batch_size=batch_size)
        ) as ready:
            yield ready
    else:
        yield _kept(network, engine, precision, batch_size)


@lru_cache(1)
def _kept(network: bytes, engine: str, precision: str, batch_size: int) -> engines.Engine:
    """Return a network that a worker of a cluster keeps for the next piece of work."""
    return engines.start(network, engine=engine, precision=precision, batch_size=batch_size)


def coverage(features: Features, images: Sequence[Image]) -> str:
    """Return a sentence about how many of the images have features.

    Raises
    ------
    ImgclfError : more than `MAX_MISSING` of them have none; 03 was stopped, or not run after new images came.
    """
    absent = len(images) - len(features.images)
    if not absent:
        return str(features)
    note = (
        f"{features}; {absent} of {len(images)} images have none, "
        "run 03_run_dnn (it names those that cannot be read)"
    )
    if absent > MAX_MISSING * len(images):
        raise ImgclfError(note)
    return note


def missing(images: Iterable[Image], cache: Cache) -> Iterator[Image]:
    """Yield the images without features in the cache, each content once."""
    seen = cache.known()
    for image in images:
        if image.pixels_key not in seen:
            seen.add(image.pixels_key)
            yield image


def estimate_time(
    dataset: Dataset,
    network: Path,
    cache: Cache,
    *,
    few: int = 32,
    engine: str = "openvino",
    precision: str = "f32",
    batch_size: int = engines.BATCH_SIZE,
    cluster: str = "",
) -> str:
    """Return a sentence about the time that the missing features will take.

    Parameters
    ----------
    few : images whose features are computed, and kept, to measure the speed.
    cluster : parameter of that name; with a cluster nothing is measured.
    """
    todo = list(missing(dataset.images, cache))
    if not todo:
        return f"the features of all {len(dataset.images)} images are cached already"
    if cluster:
        return f"{len(todo)} images, whose features cluster='{cluster}' computes"
    times: list[float] = []
    compute(
        dataset,
        network,
        cache,
        subset=todo[:few],
        engine=engine,
        precision=precision,
        batch_size=batch_size,
        progress=lambda done: times.append(time.perf_counter()),
    )
    first = few // 4  # left out, since they also start the engine
    if len(times) < 2 * first:
        return f"there are only {len(todo)} new images; they are done"
    per_second = (len(times) - first) / (times[-1] - times[first - 1])
    left = len(todo[few:])
    return (
        f"{per_second:.0f} images a second; "
        f"the remaining {left} will take about {left / per_second:.0f} seconds"
    )


def nearest_neighbours(features: Features, image: Image, *, most: int) -> list[tuple[Image, float]]:
    """Return the images whose feature vectors have the largest cosine (-1 to 1) with that of `image`.

    The largest comes first; `image` itself is left out. An image whose features are all 0 has a cosine of 0.
    """
    row = next(k for k, other in enumerate(features.images) if other.path == image.path)
    vector = next(normalized_blocks(features.matrix[row : row + 1]))[0]
    cosine = np.concatenate([block @ vector for block in normalized_blocks(features.matrix)])
    order = [i for i in np.argsort(-cosine, kind="stable")[: most + 1].tolist() if i != row][:most]
    return [(features.images[i], float(cosine[i])) for i in order]


def normalized_blocks(matrix: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the L2-normalized rows of a matrix, some thousand at a time; a copy of all may be too large.

    Parameters
    ----------
    matrix : (n, d) float32.
    """
    from sklearn.preprocessing import normalize

    for start in range(0, len(matrix), BLOCK_ROWS):
        yield normalize(matrix[start : start + BLOCK_ROWS])


def pca_projection(features: Features, dimensions: int = 2) -> np.ndarray:
    """Return the L2-normalized features along their first principal components; (n, dimensions) float array.

    Of more than `PCA_ROWS` images, evenly spaced ones decide the components.

    Source: principal component analysis; signs are fixed such that the largest entry of each component is
    positive.
    """
    from sklearn.decomposition import PCA
    from sklearn.preprocessing import normalize

    fitted = features.matrix[:: -(-len(features.matrix) // PCA_ROWS)]
    components = PCA(min(dimensions, *fitted.shape), random_state=0).fit(normalize(fitted))
    return np.concatenate([components.transform(block) for block in normalized_blocks(features.matrix)])


def extract(
    network: Path, pixels: np.ndarray, *, engine: str = "openvino", precision: str = "f32"
) -> np.ndarray:
    """Return the features (n, d) of preprocessed images (n, S, S, 3) uint8, RGB; nothing is cached."""
    with closing(engines.start(network, engine=engine, precision=precision)) as ready:
        batches = engines.batches(pixels, engines.BATCH_SIZE)
        return np.concatenate([vectors for (vectors,) in ready.run(batches)])
