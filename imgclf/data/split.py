"""Which images train and which test: decided by their content, so that the same images split alike everywhere."""

import csv
import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from imgclf import ImgclfError, files
from imgclf.data import test_list
from imgclf.data.dataset import Dataset, Image, read_table, write_table

FEW = 20  # training images of a label below which we warn, and a quarter of it for test images


@dataclass(frozen=True)
class Split:
    """The images of the two sides, and for each path the cluster (images that belong together) it is in."""

    train: tuple[Image, ...]
    test: tuple[Image, ...]
    cluster: dict[str, str]
    left_out: tuple[Image, ...] = ()  # training images that would give a dedicated test image away
    not_found: tuple[str, ...] = ()  # dedicated test images that the list names and the folder lacks
    train_fraction: float = 0.75  # how it was made
    split_by: str = "image"
    seed: int = 0

    def counts(self) -> pd.DataFrame:
        """Images of each label (rows) in train and test (columns)."""
        sides = {"train": self.train, "test": self.test}
        table = pd.DataFrame(
            {
                side: pd.Series([i.label for i in images], dtype=str).value_counts()
                for side, images in sides.items()
            }
        )
        return table.fillna(0).astype(int).sort_index().rename_axis("label")

    def side(self, name: str) -> tuple[Image, ...]:
        """The images of "train" or "test"."""
        return {"train": self.train, "test": self.test}[name]

    def caution(self) -> str:
        """A sentence about labels with so few images that little can be learned or measured; empty if there are none."""
        thin = [
            f"{label} ({row.train} train, {row.test} test)"
            for label, row in self.counts().iterrows()
            if row.train < FEW or row.test < FEW // 4
        ]
        return (
            f"CAREFUL: few images of {', '.join(thin)}; expect little of these labels, and of the figures about them"
            if thin
            else ""
        )

    def clusters_of(self, images: Iterable[Image]) -> np.ndarray:
        """(n,) array of the names of the images' clusters."""
        return np.array([self.cluster[image.path] for image in images])

    def __str__(self) -> str:
        text = f"{len(self.train)} images train, {len(self.test)} test"
        if self.left_out:
            text += f"; {len(self.left_out)} left out of training, as copies of dedicated test images"
        if self.not_found:
            text += f"; {len(self.not_found)} dedicated test images are not there, the first is {self.not_found[0]}"
        return f"{text}\n{caution}" if (caution := self.caution()) else text


def clusters(dataset: Dataset, *, split_by: str = "image") -> dict[str, str]:
    """For each path the name of its cluster: images that show the same picture and, with `split_by="group"`,
    images in subfolders of one name, whatever their label. The name is the smallest sha256 in the cluster.
    Images that are left out are in it too: a copy of theirs may stand under another label."""
    from scipy.cluster.hierarchy import DisjointSet

    pairs = [(pair.kept.path, pair.other.path) for pair in dataset.duplicates]
    if split_by == "group":
        first: dict[str, str] = {}
        pairs += [
            (first.setdefault(image.group, image.path), image.path) for image in dataset.files if image.group
        ]
    together = DisjointSet({path for pair in pairs for path in pair})
    for one, other in pairs:
        together.merge(one, other)
    name = {image.path: image.sha256 for image in dataset.files}
    return name | {
        path: min(map(name.__getitem__, subset)) for subset in together.subsets() for path in subset
    }


def split(dataset: Dataset, *, train_fraction: float = 0.75, split_by: str = "image", seed: int = 0) -> Split:
    """Divide the images of each label into train and test.

    The clusters of a label are put in the order of sha256(seed, name of the cluster), and the first of them
    train, until the count is nearest to `train_fraction`. So the same images give the same split on every machine, and new
    images move few of the old ones. A cluster with several labels counts for the label of the image that
    names it. A label with at least two clusters of its own has at least one on each side; one cluster alone trains.
    A list of dedicated test images in the data set's folder overrides all this.

    Raises
    ------
    ImgclfError : a label would have no image to train.
    """
    cluster = clusters(dataset, split_by=split_by)
    how = {"train_fraction": train_fraction, "split_by": split_by, "seed": seed}
    if listed := test_list.read(dataset.folder):
        return replace(_split_as_listed(dataset, cluster, listed), **how)
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
    sides = Split(
        train=tuple(i for i in dataset.images if cluster[i.path] in train),
        test=tuple(i for i in dataset.images if cluster[i.path] not in train),
        cluster=cluster,
        **how,
    )
    if untaught := sorted(set(dataset.labels) - {image.label for image in sides.train}):
        raise ImgclfError(
            f"{dataset.folder}: all images of {', '.join(untaught)} would test and none train, since they belong together with images of "
            "other labels (copies, or groups of one name); add images, or take another train_fraction or seed"
        )
    return sides


def _nearest(sizes: list[int], fraction: float) -> int:
    """How many of the first clusters hold the count nearest to `fraction` of all; fewer in a tie."""
    target, so_far, misses = fraction * sum(sizes), 0, []
    for size in sizes:
        so_far += size
        misses.append(abs(so_far - target))
    most = max(1, len(sizes) - 1)
    return 1 + min(range(most), key=misses.__getitem__)


def _split_as_listed(dataset: Dataset, cluster: dict[str, str], listed: set[str]) -> Split:
    listed_as = {
        image.path: dataset.origins.get(image.path, image.path).lower() for image in dataset.files
    }  # the list has the names before relabelling
    found = [image for image in dataset.files if listed & {listed_as[image.path], image.path.lower()}]
    # A listed file that was left out as a copy is tested by the copy that was kept.
    copies = {(cluster[image.path], image.label) for image in found if image.excluded and image.width}
    named = {image.path for image in found}
    test = tuple(i for i in dataset.images if i.path in named or (cluster[i.path], i.label) in copies)
    tested = {image.path for image in test}
    rest = [image for image in dataset.images if image.path not in tested]
    given_away = {cluster[image.path] for image in test}
    train = tuple(image for image in rest if cluster[image.path] not in given_away)
    if not test or len({image.label for image in train}) < len(dataset.labels):
        raise ImgclfError(
            f"{dataset.folder}: the list of dedicated test images ({' or '.join(test_list.NAMES)}) names {len(test)} of the "
            f"{len(dataset.images)} images; it must name some, and leave some of each label to train"
        )
    return Split(
        train=train,
        test=test,
        cluster=cluster,
        left_out=tuple(i for i in rest if cluster[i.path] in given_away),
        not_found=tuple(
            sorted(
                listed - {image.path.lower() for image in found} - {listed_as[image.path] for image in found}
            )
        ),
    )


def shared(split: Split) -> int:
    """How many files, contents or clusters stand on both sides; 0 in a good split."""

    def marks(images: Iterable[Image]) -> set[str]:
        return {
            mark
            for image in images
            for mark in (image.path, image.sha256, "cluster " + split.cluster[image.path])
        }

    return len(marks(split.train) & marks(split.test))


def _table(dataset_name: str) -> Path:
    return files.proc_dir(dataset_name) / "split.tsv"


def _how(dataset_name: str) -> Path:
    return files.proc_dir(dataset_name) / "split.json"


def _read_how(dataset_name: str) -> dict:
    try:
        how = json.loads(_how(dataset_name).read_text(encoding="utf-8"))
        return {name: how[name] for name in ("train_fraction", "split_by", "seed")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ImgclfError(f"{_how(dataset_name)}: missing or damaged; run 01_prepare_data again") from error


def write(dataset: Dataset, split: Split) -> Path:
    """Write `split.tsv` (path; train, test or left out; cluster; sha256), one line an image, and `split.json`, how it was made; gives the path of the table."""
    sides = {"train": split.train, "test": split.test, "left out": split.left_out}
    rows = [
        {"path": image.path, "split": side, "cluster": split.cluster[image.path], "sha256": image.sha256}
        for side, images in sides.items()
        for image in images
    ]
    write_table(_table(dataset.name), rows, ["path", "split", "cluster", "sha256"])
    files.write_json(
        _how(dataset.name),
        {"train_fraction": split.train_fraction, "split_by": split.split_by, "seed": split.seed},
    )
    return _table(dataset.name)


def read(dataset: Dataset) -> Split:
    """The split that `write` wrote.

    Raises
    ------
    ImgclfError : `split.tsv` is not there yet, or does not fit `images.tsv`.
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
    sides = {name: tuple(i for i, side, _ in rows if side == name) for name in ("train", "test", "left out")}
    return Split(
        sides["train"],
        sides["test"],
        {i.path: name for i, _, name in rows},
        sides["left out"],
        **_read_how(dataset.name),
    )


@dataclass(frozen=True)
class Moved:
    """Images that stand on another side than before, by their present paths."""

    to_test: tuple[str, ...]
    to_train: tuple[str, ...]

    def __str__(self) -> str:
        paths = [
            f"{path} (to {side})"
            for side, moved in (("test", self.to_test), ("train", self.to_train))
            for path in moved
        ]
        more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
        return (
            f"{len(paths)} images changed sides: {', '.join(paths[:3])}{more}"
            if paths
            else "no image changed sides"
        )


@dataclass(frozen=True)
class Sides:
    """What is left of a split when labels have changed since: the side of each content, and how the split was made.

    Attributes
    ----------
    side : "train", "test" or "left out" for the sha256 of each image; empty if there was no split.
    """

    side: dict[str, str]
    train_fraction: float = 0.75
    split_by: str = "image"
    seed: int = 0

    def again(self, dataset: Dataset) -> Split:
        """Divide a data set in the same way."""
        return split(dataset, train_fraction=self.train_fraction, split_by=self.split_by, seed=self.seed)

    def moved(self, after: Split) -> Moved:
        """Which images are on another side in a later split."""
        return Moved(
            to_test=tuple(image.path for image in after.test if self.side.get(image.sha256) == "train"),
            to_train=tuple(image.path for image in after.train if self.side.get(image.sha256) == "test"),
        )


def last(dataset_name: str) -> Sides:
    """The sides of the split that was written last, whatever was relabelled since; empty if there is none that can be read."""
    try:
        return Sides(
            {row["sha256"]: row["split"] for row in read_table(_table(dataset_name))},
            **_read_how(dataset_name),
        )
    except (ImgclfError, OSError, KeyError, ValueError, csv.Error):
        return Sides({})  # it is computed, and 01 makes it anew
