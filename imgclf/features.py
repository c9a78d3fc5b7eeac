"""The vectors by which a network describes images, computed once for each image content and kept."""

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from imgclf import ImgclfError, engines, files
from imgclf.data.dataset import Dataset, Image
from imgclf.engines import pipeline
from imgclf.images.loading import Skipped, Source

SHARD_IMAGES = 512  # written to disk at once: what a killed run loses at most
MOST_ABSENT = 0.05  # share of images without features that 04 goes on with


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


def sources(dataset: Dataset, wanted: Iterable[Image]) -> list[Source]:
    """The files of images of a data set, with the content that they had when they were looked through."""
    return [Source(dataset.file(image), image.sha256) for image in wanted]


@dataclass(frozen=True)
class Cache:
    """Features on disk, by content: a folder for each network and precision, in it shards of (sha256, features).

    Changing a label, the split or the SVM recomputes nothing; one new image costs one image.
    """

    folder: Path

    @classmethod
    def of(
        cls, dataset_name: str, network: Path, *, engine: str = "openvino", precision: str = "f32"
    ) -> "Cache":
        """The features of a data set by this network; "auto" is what it means on this machine."""
        precision = engines.resolved_precision(engine, precision)
        fingerprint = files.sha256(network)[:16]
        return cls(files.proc_dir(dataset_name) / "features" / f"{network.stem}-{fingerprint}-{precision}")

    def _shards(self) -> list[Path]:
        return sorted(self.folder.glob("*.npz"))

    def known(self) -> set[str]:
        """The sha256 of the images whose features are here."""
        return {
            sha256 for shard in self._shards() for sha256 in _read_shard(shard, "sha256")["sha256"].tolist()
        }

    def add(self, sha256: Sequence[str], matrix: np.ndarray) -> None:
        """Write features as one more shard, whole."""
        name = hashlib.sha256("".join(sha256).encode()).hexdigest()[
            :16
        ]  # so that two runs never write the same shard differently
        files.write_npz(
            self.folder / f"{name}.npz",
            {"sha256": np.array(sha256), "features": matrix.astype(np.float32, copy=False)},
        )

    def features(self, wanted: Sequence[Image]) -> Features:
        """The features of those of the `wanted` images that are here."""
        known = self.known()
        found = tuple(image for image in wanted if image.sha256 in known)
        rows: dict[str, list[int]] = {}
        for row, image in enumerate(found):
            rows.setdefault(image.sha256, []).append(row)
        matrix = None
        for shard in self._shards():
            arrays = _read_shard(shard)
            part = arrays["features"]
            if matrix is None:
                matrix = np.empty((len(found), part.shape[1]), np.float32)
            for vector, sha256 in zip(part, arrays["sha256"].tolist(), strict=True):
                matrix[rows.get(sha256, [])] = vector
        if not found:
            raise ImgclfError(f"{self.folder}: no features of these images yet; run 03_run_dnn first")
        return Features(matrix, found)


def _read_shard(shard: Path, *names: str) -> dict[str, np.ndarray]:
    try:
        return files.read_npz(shard, *(names or ("sha256", "features")))
    except (OSError, ValueError) as error:
        raise ImgclfError(f"{shard}: damaged; delete it and run 03_run_dnn again") from error


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
    progress: Callable[[int], None] | None = None,
) -> list[Skipped]:
    """Compute what is missing of the features of a data set, and write it to `cache` as it comes.

    Parameters
    ----------
    network : an ONNX network that `backbones.write` wrote; its metadata hold the preprocessing.
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
    done = 0
    results = pipeline.run(
        ready, sources(dataset, todo), engines.preprocessing(network), batch_size=batch_size
    )
    while shard := list(islice(results, shard_images)):
        found = {i: outputs[0] for i, outputs in shard if not isinstance(outputs, Skipped)}
        skipped += [outputs for _, outputs in shard if isinstance(outputs, Skipped)]
        if found:
            cache.add([todo[i].sha256 for i in found], np.stack(list(found.values())))
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
    compute(
        dataset,
        network,
        cache,
        subset=todo[:few],
        shard_images=few // 4,
        progress=lambda done: times.append(time.perf_counter()),
        **options,
    )
    if len(times) < 2:
        return f"there are only {len(todo)} new images; they are done"
    per_second = (
        (len(times) - 1) * (few // 4) / (times[-1] - times[0])
    )  # the first part also starts the engine
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


def of_pixels(
    network: Path, pixels: np.ndarray, *, engine: str = "openvino", precision: str = "f32"
) -> np.ndarray:
    """The features (n, d) of prepared images (n, S, S, 3) uint8, RGB, by a network; nothing is kept."""
    ready = engines.start(network, engine=engine, precision=precision)
    return np.concatenate([vectors for (vectors,) in ready.run(engines.batches(pixels, engines.BATCH_SIZE))])
