"""What a network is shown while it is refined: the decoded images, which of them validate, and the order of each epoch."""

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from joblib import cpu_count

from imgclf import ImgclfError, files
from imgclf.data.dataset import Dataset, Image
from imgclf.features import sources
from imgclf.finetuning import augment
from imgclf.finetuning.recipe import Recipe
from imgclf.images.loading import Skipped, load
from imgclf.images.preprocessing import Preprocessing

VALIDATION_SHARE = 0.1  # of the training images of each label
UNCHANGED = augment.View()


@dataclass(frozen=True)
class Pixels:
    """Decoded images of `side` x `side` pixels one behind the other in a file, read as they are needed, so that ten thousand take no memory."""

    path: Path
    side: int

    def __getitem__(self, row: int) -> np.ndarray:
        """An image; (side, side, 3) uint8, RGB."""
        count = self.side * self.side * 3
        return np.fromfile(self.path, np.uint8, count, offset=int(row) * count).reshape(
            self.side, self.side, 3
        )

    def of(self, rows: Sequence[int]) -> np.ndarray:
        """Some images; (m, side, side, 3) uint8, RGB."""
        return np.stack([self[row] for row in rows])


@dataclass(frozen=True)
class TrainingSet:
    """Training images, ready to be shown.

    Attributes
    ----------
    pixels : of the n images, letterboxed.
    images : the n images. labels : the k labels, sorted. truth : (n,) int, position of each image's label.
    validates : (n,) bool, whether an image is held back to tell which epoch was best.
    """

    pixels: Pixels
    images: tuple[Image, ...]
    labels: tuple[str, ...]
    truth: np.ndarray
    validates: np.ndarray

    @property
    def learned(self) -> np.ndarray:
        """Rows of the images that are learned from."""
        return np.flatnonzero(~self.validates)

    @property
    def held_back(self) -> np.ndarray:
        """Rows of the images that validate."""
        return np.flatnonzero(self.validates)

    def __str__(self) -> str:
        return f"{len(self.learned)} images to learn from, {len(self.held_back)} to tell which epoch is best"


def prepare(
    dataset: Dataset,
    images: Sequence[Image],
    clusters: Sequence[str],
    *,
    preprocessing: Preprocessing,
    folder: Path,
    seed: int,
) -> tuple[TrainingSet, list[Skipped]]:
    """Decode the training images, once, into a file in `folder`, and choose those that validate; gives also those that cannot be read.

    Parameters
    ----------
    clusters : the cluster of each image.

    Raises
    ------
    ImgclfError : fewer than two labels, or no image can be read.
    """
    if len(set(image.label for image in images)) < 2:
        raise ImgclfError(
            f"all training images have the label '{''.join({image.label for image in images})}'; a classifier needs at least two labels"
        )
    pixels, rows, skipped = _decoded(dataset, images, preprocessing, folder)
    shown = [images[i] for i in rows]
    if not shown:
        raise ImgclfError(
            f"none of the {len(images)} training images can be read; the first: {skipped[0].reason}"
        )
    labels, truth = np.unique([image.label for image in shown], return_inverse=True)
    validates = validation(truth, [clusters[i] for i in rows], seed=seed)
    return TrainingSet(pixels, tuple(shown), tuple(labels.tolist()), truth, validates), skipped


def _decoded(
    dataset: Dataset, images: Sequence[Image], preprocessing: Preprocessing, folder: Path
) -> tuple[Pixels, list[int], list[Skipped]]:
    """The pixels in a file that a run before may have left, the rows of the images that could be read, and the others."""
    key = " ".join([files.to_json(preprocessing.as_json()), *(image.sha256 for image in images)])
    path = folder / f"decoded-{hashlib.sha256(key.encode()).hexdigest()[:16]}.bin"
    if path.exists():
        return Pixels(path, preprocessing.input_size), list(range(len(images))), []
    rows, skipped = [], []
    with files.replace_file(path) as file:
        for i, found in enumerate(load(sources(dataset, images), preprocessing)):
            if isinstance(found, Skipped):
                skipped.append(found)
            else:
                file.write(found.tobytes())
                rows.append(i)
    if skipped:  # the next run is to try those again that could not be read
        path = path.replace(path.with_suffix(".some"))
    return Pixels(path, preprocessing.input_size), rows, skipped


def validation(truth: np.ndarray, clusters: Sequence[str], *, seed: int) -> np.ndarray:
    """Which training images validate: of each label the clusters that come first by sha256(seed, name), until a tenth is reached.

    A label keeps at least one cluster to learn from, so one with a single cluster validates nothing; nor does a cluster with several labels.

    Parameters
    ----------
    truth : (n,) int. clusters : n names.

    Returns
    -------
    (n,) bool.
    """
    rows, of_label = defaultdict(list), defaultdict(set)
    for row, (label, cluster) in enumerate(zip(truth.tolist(), clusters, strict=True)):
        rows[cluster].append(row)
        of_label[label].add(cluster)
    chosen = np.zeros(len(truth), bool)
    for label, names in of_label.items():
        wanted = round(VALIDATION_SHARE * int((truth == label).sum()))
        ordered = sorted(names, key=lambda name: hashlib.sha256(f"{seed} {name}".encode()).digest())
        for name in ordered[:-1]:
            mine = [row for row in rows[name] if truth[row] == label]
            if len(mine) == len(rows[name]) and chosen[truth == label].sum() + len(mine) <= max(wanted, 1):
                chosen[mine] = True
    return chosen


def order(examples: TrainingSet, recipe: Recipe, epoch: int) -> list[int]:
    """The rows that an epoch shows, in a random order of its own; with `balance` those of rare labels several times."""
    random = np.random.default_rng([recipe.seed, epoch])
    rows = examples.learned
    if recipe.balance:
        of_label = [rows[examples.truth[rows] == k] for k in range(len(examples.labels))]
        most = max(map(len, of_label))
        rows = np.concatenate(
            [np.concatenate([mine, random.choice(mine, most - len(mine))]) for mine in of_label]
        )
    rows = random.permutation(rows)
    return rows[: recipe.max_train_images or None].tolist()


def views(
    examples: TrainingSet, rows: Sequence[Sequence[int]], recipe: Recipe, *, epoch: int, size: int
) -> Iterator[np.ndarray]:
    """Batches of rows as the network sees them in an epoch; each (m, size, size, 3) uint8. One batch is made ahead, in threads."""

    def view(row: int) -> np.ndarray:
        changed = augment.draw(recipe.seed, epoch, row) if recipe.augment else UNCHANGED
        return augment.seen(examples.pixels[row], changed, size)

    with ThreadPoolExecutor(cpu_count()) as pool:
        ahead = [pool.map(view, batch) for batch in rows[:1]]
        for following in [*rows[1:], []]:
            batch = np.stack(list(ahead.pop()))
            ahead.append(pool.map(view, following))
            yield batch


def unchanged(examples: TrainingSet, rows: Sequence[int], *, batch_size: int) -> Iterator[np.ndarray]:
    """The images of some rows as they will be seen later, in batches."""
    return (examples.pixels.of(rows[start : start + batch_size]) for start in range(0, len(rows), batch_size))
