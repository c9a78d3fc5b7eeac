"""The training set of a fine-tuning: decoded images, their validation split, and the order of each epoch."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from joblib import cpu_count

from imgclf import ImgclfError, files
from imgclf.data.dataset import Dataset, Image
from imgclf.features import image_sources
from imgclf.finetuning import augment
from imgclf.finetuning.recipe import Recipe
from imgclf.images.loading import Skipped, load
from imgclf.images.preprocessing import Preprocessing

VALIDATION_SHARE = 0.1  # of the training images of each label
UNCHANGED = augment.View()


@dataclass(frozen=True)
class Pixels:
    """Decoded images of `side` x `side` pixels, concatenated in a file.

    They are read from disk as they are needed, so that ten thousand images take no memory.
    """

    path: Path
    side: int

    def __getitem__(self, row: int) -> np.ndarray:
        """Return an image; (side, side, 3) uint8, RGB."""
        count = self.side * self.side * 3
        return np.fromfile(self.path, np.uint8, count, offset=int(row) * count).reshape(
            self.side, self.side, 3
        )

    def batch(self, rows: Iterable[int]) -> np.ndarray:
        """Return some images; (m, side, side, 3) uint8, RGB."""
        return np.stack([self[row] for row in rows])


@dataclass(frozen=True)
class TrainingSet:
    """Training images, ready for training.

    Attributes
    ----------
    pixels : of the n images, letterboxed.
    images : the n images. labels : the k labels, sorted.
    targets : (n,) int, position of each image's label in `labels`.
    is_validation : (n,) bool, whether an image is held out to select the best epoch.
    """

    pixels: Pixels
    images: tuple[Image, ...]
    labels: tuple[str, ...]
    targets: np.ndarray
    is_validation: np.ndarray

    @property
    def train_rows(self) -> np.ndarray:
        """(m,) int, rows of the images that the network is trained on."""
        return np.flatnonzero(~self.is_validation)

    @property
    def validation_rows(self) -> np.ndarray:
        """(n - m,) int, rows of the validation images."""
        return np.flatnonzero(self.is_validation)

    def __str__(self) -> str:
        return split_note(len(self.train_rows), len(self.validation_rows))


def split_note(train: int, validation: int) -> str:
    """Return the sizes of the two parts of a training set, in words."""
    return f"{train} training images, and {validation} validation images to select the best epoch"


def prepare(
    dataset: Dataset,
    images: Sequence[Image],
    clusters: Sequence[str],
    *,
    preprocessing: Preprocessing,
    folder: Path,
    seed: int,
) -> tuple[TrainingSet, list[Skipped]]:
    """Decode the training images once, into a file in `folder`, and choose the validation images among them.

    Parameters
    ----------
    clusters : the cluster of each image.

    Returns
    -------
    The training set, and the images that cannot be read.

    Raises
    ------
    ImgclfError : fewer than two labels, or no image can be read.
    """
    if len({image.label for image in images}) < 2:
        raise ImgclfError(
            f"all training images have the label '{''.join({image.label for image in images})}'; "
            "a classifier needs at least two labels"
        )
    pixels, rows, skipped = _decode(dataset, images, preprocessing, folder)
    readable = [images[i] for i in rows]
    if not readable:
        raise ImgclfError(
            f"none of the {len(images)} training images can be read; the first: {skipped[0].reason}"
        )
    labels, targets = np.unique([image.label for image in readable], return_inverse=True)
    is_validation = validation_split(targets, [clusters[i] for i in rows], seed=seed)
    return TrainingSet(pixels, tuple(readable), tuple(labels.tolist()), targets, is_validation), skipped


def _decode(
    dataset: Dataset, images: Sequence[Image], preprocessing: Preprocessing, folder: Path
) -> tuple[Pixels, list[int], list[Skipped]]:
    """Return the decoded pixels, the rows of the images that could be read, and the other images.

    The file of pixels is reused if an earlier run has written it.
    """
    key = " ".join([files.to_json(preprocessing.as_json()), *(image.sha256 for image in images)])
    path = folder / f"decoded-{hashlib.sha256(key.encode()).hexdigest()[:16]}.bin"
    if path.exists():
        return Pixels(path, preprocessing.input_size), list(range(len(images))), []
    rows, skipped = [], []
    with files.replace_file(path) as file:
        for i, loaded in enumerate(load(image_sources(dataset, images), preprocessing)):
            if isinstance(loaded, Skipped):
                skipped.append(loaded)
            else:
                file.write(loaded.tobytes())
                rows.append(i)
    if skipped:  # another name, so that the next run tries again to read those that could not be read
        path = path.replace(path.with_suffix(".some"))
    return Pixels(path, preprocessing.input_size), rows, skipped


def validation_split(targets: np.ndarray, clusters: Sequence[str], *, seed: int) -> np.ndarray:
    """Return which training images are for validation.

    They are, of each label, the clusters that come first by sha256(seed, name), until a tenth is reached. At
    least one cluster of a label is trained on, so a label with a single cluster has no validation images; and
    a cluster with several labels is always trained on.

    Parameters
    ----------
    targets : (n,) int. clusters : n names.

    Returns
    -------
    (n,) bool.
    """
    rows, of_label = defaultdict(list), defaultdict(set)
    for row, (label, cluster) in enumerate(zip(targets.tolist(), clusters, strict=True)):
        rows[cluster].append(row)
        of_label[label].add(cluster)
    chosen = np.zeros(len(targets), bool)
    for label, names in of_label.items():
        wanted = round(VALIDATION_SHARE * int((targets == label).sum()))
        ordered = sorted(names, key=lambda name: hashlib.sha256(f"{seed} {name}".encode()).digest())
        for name in ordered[:-1]:
            own = [row for row in rows[name] if targets[row] == label]
            if len(own) == len(rows[name]) and chosen[targets == label].sum() + len(own) <= max(wanted, 1):
                chosen[own] = True
    return chosen


def epoch_rows(examples: TrainingSet, recipe: Recipe, epoch: int) -> list[int]:
    """Return the shuffled rows of an epoch; with `balance`, those of rare labels are oversampled."""
    random = np.random.default_rng([recipe.seed, epoch])
    rows = examples.train_rows
    if recipe.balance:
        of_label = [rows[examples.targets[rows] == k] for k in range(len(examples.labels))]
        most = max(map(len, of_label))
        rows = np.concatenate(
            [np.concatenate([own, random.choice(own, most - len(own))]) for own in of_label]
        )
    rows = random.permutation(rows)
    return rows[: recipe.max_train_images or None].tolist()


def augmented_batches(
    examples: TrainingSet, rows: Sequence[Sequence[int]], recipe: Recipe, *, epoch: int, size: int
) -> Iterator[np.ndarray]:
    """Yield batches of images as the network is trained on them in an epoch; each (m, size, size, 3) uint8.

    Threads prepare one batch ahead.
    """

    def view(row: int) -> np.ndarray:
        drawn = augment.draw(recipe.seed, epoch, row) if recipe.augment else UNCHANGED
        return augment.apply(examples.pixels[row], drawn, size)

    with ThreadPoolExecutor(cpu_count()) as pool:
        ahead = [pool.map(view, batch) for batch in rows[:1]]
        for following in [*rows[1:], []]:
            batch = np.stack(list(ahead.pop()))
            ahead.append(pool.map(view, following))
            yield batch


def plain_batches(examples: TrainingSet, rows: np.ndarray, *, batch_size: int) -> Iterator[np.ndarray]:
    """Return batches of images without data augmentation, as at inference."""
    starts = range(0, len(rows), batch_size)
    return (examples.pixels.batch(rows[start : start + batch_size]) for start in starts)
