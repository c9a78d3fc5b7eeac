"""The split into training and test set: by content, so that the same images are split alike everywhere."""

import csv
import hashlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypedDict

import numpy as np
import pandas as pd

from imgclf import ImgclfError, files
from imgclf.data import test_list
from imgclf.data.dataset import Dataset, Image, read_table, write_table

FEW = 20  # a label with fewer training images, or a quarter of it in test images, is warned about
EXCLUDED = "left out"  # the subset of excluded images in split.tsv, as version 0.1.0 wrote it
COLUMNS = ["path", "split", "cluster", "sha256"]


class Settings(TypedDict):
    """How a split was made."""

    train_fraction: float
    split_by: str
    seed: int


@dataclass(frozen=True)
class Split:
    """The images of the training and the test set.

    Attributes
    ----------
    cluster : for each path the name of its cluster, images that are in one set together.
    excluded : training images that are duplicates of dedicated test images, which would be data leakage.
    not_found : dedicated test images that the list names and the folder lacks.
    """

    train: tuple[Image, ...]
    test: tuple[Image, ...]
    cluster: dict[str, str]
    excluded: tuple[Image, ...] = ()
    not_found: tuple[str, ...] = ()
    train_fraction: float = 0.75
    split_by: str = "image"
    seed: int = 0

    def counts(self) -> pd.DataFrame:
        """Return the number of images of each label (rows) in train and test (columns)."""
        table = pd.DataFrame(
            {
                name: pd.Series([i.label for i in self.subset(name)], dtype=str).value_counts()
                for name in ("train", "test")
            }
        )
        return table.fillna(0).astype(int).sort_index().rename_axis("label")

    def subset(self, name: str) -> tuple[Image, ...]:
        """Return the images of "train" or "test"."""
        return {"train": self.train, "test": self.test}[name]

    def caution(self) -> str:
        """Return a sentence about labels with too few images to train or evaluate on; empty without any."""
        few = [
            f"{label} ({row.train} train, {row.test} test)"
            for label, row in self.counts().iterrows()
            if row.train < FEW or row.test < FEW // 4
        ]
        if not few:
            return ""
        return (
            f"CAREFUL: few images of {', '.join(few)}; "
            "expect little of these labels, and of the figures about them"
        )

    def clusters_of(self, images: Iterable[Image]) -> np.ndarray:
        """Return the names of the images' clusters; (n,) array."""
        return np.array([self.cluster[image.path] for image in images])

    def __str__(self) -> str:
        text = f"{len(self.train)} images train, {len(self.test)} test"
        if self.excluded:
            text += f"; {len(self.excluded)} excluded from training, as duplicates of dedicated test images"
        if self.not_found:
            text += (
                f"; {len(self.not_found)} dedicated test images not found, the first is {self.not_found[0]}"
            )
        return f"{text}\n{caution}" if (caution := self.caution()) else text


def clusters(dataset: Dataset, *, split_by: str = "image") -> dict[str, str]:
    """Return for each path the name of its cluster, the smallest sha256 in it.

    Duplicates form a cluster and, with `split_by="group"`, so do images in subfolders of one name, whatever
    their label. Excluded images have clusters too, since their duplicates may have another label.
    """
    from scipy.cluster.hierarchy import DisjointSet

    pairs = [(pair.kept.path, pair.other.path) for pair in dataset.duplicates]
    if split_by == "group":
        first: dict[str, str] = {}
        pairs += [
            (first.setdefault(image.group, image.path), image.path) for image in dataset.files if image.group
        ]
    connected = DisjointSet({path for pair in pairs for path in pair})
    for one, other in pairs:
        connected.merge(one, other)
    name = {image.path: image.sha256 for image in dataset.files}
    return name | {
        path: min(map(name.__getitem__, subset)) for subset in connected.subsets() for path in subset
    }


def split(dataset: Dataset, *, train_fraction: float = 0.75, split_by: str = "image", seed: int = 0) -> Split:
    """Split the images of each label into training and test set.

    The clusters of a label are ordered by sha256(seed, name of the cluster), and the first of them are the
    training set, until its size is nearest to `train_fraction`. So the same images have the same split on
    every computer, and new images move few of the old ones. A cluster with several labels counts for the
    label of the image that names it. A label with at least two clusters of its own has at least one in each
    set; a single cluster is in the training set. A list of dedicated test images in the data set's folder
    overrides all this.

    Raises
    ------
    ImgclfError : a label would have no training images.
    """
    cluster = clusters(dataset, split_by=split_by)
    settings = Settings(train_fraction=train_fraction, split_by=split_by, seed=seed)
    if listed := test_list.read(dataset.folder):
        return replace(_split_as_listed(dataset, cluster, listed), **settings)
    members = defaultdict(list)
    for image in dataset.images:
        members[cluster[image.path]].append(image)
    home = defaultdict(list)
    for name, images in members.items():
        home[min(images, key=lambda image: (image.sha256, image.path)).label].append(name)
    train = set()
    for names in home.values():
        ordered = sorted(names, key=lambda name: hashlib.sha256(f"{seed} {name}".encode()).digest())
        train.update(ordered[: _nearest([len(members[name]) for name in ordered], train_fraction)])
    parts = Split(
        train=tuple(i for i in dataset.images if cluster[i.path] in train),
        test=tuple(i for i in dataset.images if cluster[i.path] not in train),
        cluster=cluster,
        **settings,
    )
    if untrained := sorted(set(dataset.labels) - {image.label for image in parts.train}):
        raise ImgclfError(
            f"{dataset.folder}: no image of {', '.join(untrained)} would be in the training set, since "
            "all are in clusters with test images of other labels (duplicates, or groups of one name); "
            "add images, or choose another train_fraction or seed"
        )
    return parts


def _nearest(sizes: list[int], fraction: float) -> int:
    """Return how many of the first clusters hold nearest to `fraction` of all images; fewer in a tie."""
    target, total, errors = fraction * sum(sizes), 0, []
    for size in sizes:
        total += size
        errors.append(abs(total - target))
    most = max(1, len(sizes) - 1)
    return 1 + min(range(most), key=errors.__getitem__)


def _split_as_listed(dataset: Dataset, cluster: dict[str, str], listed: set[str]) -> Split:
    listed_as = {
        image.path: dataset.origins.get(image.path, image.path).lower() for image in dataset.files
    }  # the list has the names before relabelling
    found = [image for image in dataset.files if listed & {listed_as[image.path], image.path.lower()}]
    # For a listed file that is excluded as a duplicate, the copy that was kept is in the test set.
    copies = {(cluster[image.path], image.label) for image in found if image.excluded and image.width}
    named = {image.path for image in found}
    test = tuple(i for i in dataset.images if i.path in named or (cluster[i.path], i.label) in copies)
    test_paths = {image.path for image in test}
    rest = [image for image in dataset.images if image.path not in test_paths]
    test_clusters = {cluster[image.path] for image in test}
    train = tuple(image for image in rest if cluster[image.path] not in test_clusters)
    if not test or len({image.label for image in train}) < len(dataset.labels):
        raise ImgclfError(
            f"{dataset.folder}: the list of dedicated test images ({' or '.join(test_list.NAMES)}) names "
            f"{len(test)} of the {len(dataset.images)} images; it must name some, and leave some of each "
            "label to train"
        )
    return Split(
        train=train,
        test=test,
        cluster=cluster,
        excluded=tuple(i for i in rest if cluster[i.path] in test_clusters),
        not_found=tuple(
            sorted(
                listed - {image.path.lower() for image in found} - {listed_as[image.path] for image in found}
            )
        ),
    )


def overlap(split: Split) -> int:
    """Return how many files, contents or clusters are in both sets; 0 without data leakage."""

    def marks(images: Iterable[Image]) -> set[str]:
        return {
            mark
            for image in images
            for mark in (image.path, image.sha256, "cluster " + split.cluster[image.path])
        }

    return len(marks(split.train) & marks(split.test))


def _table(dataset_name: str) -> Path:
    return files.proc_dir(dataset_name) / "split.tsv"


def _settings(dataset_name: str) -> Path:
    return files.proc_dir(dataset_name) / "split.json"


def _read_settings(dataset_name: str) -> Settings:
    try:
        stored = files.read_json(
            _settings(dataset_name), {"train_fraction": float, "split_by": str, "seed": int}
        )
        return Settings(
            train_fraction=stored["train_fraction"], split_by=stored["split_by"], seed=stored["seed"]
        )
    except (OSError, ValueError) as error:
        raise ImgclfError(
            f"{_settings(dataset_name)}: missing or damaged; run 01_prepare_data again"
        ) from error


def write(dataset: Dataset, split: Split) -> Path:
    """Write `split.tsv`, one line an image, and `split.json`, the settings of the split.

    Returns
    -------
    The path of `split.tsv`. Its columns are path, split (train, test or left out), cluster and sha256.
    """
    subsets = {"train": split.train, "test": split.test, EXCLUDED: split.excluded}
    rows = [
        {"path": image.path, "split": subset, "cluster": split.cluster[image.path], "sha256": image.sha256}
        for subset, images in subsets.items()
        for image in images
    ]
    write_table(_table(dataset.name), rows, COLUMNS)
    settings = Settings(train_fraction=split.train_fraction, split_by=split.split_by, seed=split.seed)
    files.write_json(_settings(dataset.name), settings)
    return _table(dataset.name)


def read(dataset: Dataset) -> Split:
    """Return the split that `write` wrote.

    Raises
    ------
    ImgclfError : `split.tsv` is missing, or does not fit `images.tsv`.
    """
    table = _table(dataset.name)
    if not table.exists():
        raise ImgclfError(f"no split of {dataset.name} yet ({table}); run 01_prepare_data first")
    image = {i.path: i for i in dataset.images}
    try:
        rows = [(image[row["path"]], row["split"], row["cluster"]) for row in read_table(table)]
    except (KeyError, ValueError, csv.Error) as error:
        raise ImgclfError(f"{table}: does not fit images.tsv ({error}); run 01_prepare_data again") from error
    if len(rows) != len(image):
        raise ImgclfError(
            f"{table}: has {len(rows)} images, images.tsv {len(image)}; run 01_prepare_data again"
        )
    train, test, excluded = (
        tuple(i for i, subset, _ in rows if subset == name) for name in ("train", "test", EXCLUDED)
    )
    cluster = {i.path: name for i, _, name in rows}
    return Split(train, test, cluster, excluded, **_read_settings(dataset.name))


@dataclass(frozen=True)
class Moved:
    """Images that are in another set than in the previous split, by their present paths."""

    to_test: tuple[str, ...]
    to_train: tuple[str, ...]

    def __str__(self) -> str:
        paths = [
            *(f"{path} (to test)" for path in self.to_test),
            *(f"{path} (to train)" for path in self.to_train),
        ]
        if not paths:
            return "no image changed its set"
        more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
        return f"{len(paths)} images changed their set: {', '.join(paths[:3])}{more}"


@dataclass(frozen=True)
class PreviousSplit:
    """The split that was written last, by the contents of the images, so that changed labels do not matter.

    Attributes
    ----------
    subset_of : for the sha256 of each image, "train", "test" or "left out"; empty if there was no split.
    """

    subset_of: dict[str, str]
    train_fraction: float = 0.75
    split_by: str = "image"
    seed: int = 0

    def repeat(self, dataset: Dataset) -> Split:
        """Split a data set with the same settings."""
        return split(dataset, train_fraction=self.train_fraction, split_by=self.split_by, seed=self.seed)

    def moved(self, after: Split) -> Moved:
        """Return the images that are in another set in a later split."""
        subset = self.subset_of.get
        return Moved(
            to_test=tuple(image.path for image in after.test if subset(image.sha256) == "train"),
            to_train=tuple(image.path for image in after.train if subset(image.sha256) == "test"),
        )


def read_previous(dataset_name: str) -> PreviousSplit:
    """Return the split that was written last; empty if there is none that can be read."""
    try:
        subset_of = {row["sha256"]: row["split"] for row in read_table(_table(dataset_name))}
        return PreviousSplit(subset_of, **_read_settings(dataset_name))
    except (ImgclfError, OSError, KeyError, ValueError, csv.Error):
        return PreviousSplit({})  # 01_prepare_data computes the split again
