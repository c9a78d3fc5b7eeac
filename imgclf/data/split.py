"""The split into training and test set: by content, so that the same images are split alike everywhere."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from imgclf import ImgclfError, files, first_few, parameters
from imgclf.data import split_check, tables, test_list
from imgclf.data.dataset import UNLABELLED, Dataset, Image, location
from imgclf.data.split_check import EXCLUDED, TEST, TRAIN

FEW = 20  # a label with fewer training images, or a quarter of it in test images, is warned about
MOST_NAMED = 12  # labels in that warning
COLUMNS = ["path", "split", "cluster", "sha256"]
SETTINGS = {  # the keys of split.json
    "train_fraction": float,
    "split_by": str,
    "seed": int,
    "not_found": list[str],
    "lost_test": list[str],
}


@dataclass(frozen=True)
class Split:
    """The images of the training and the test set.

    Attributes
    ----------
    cluster : for each path the name of its cluster, images that are in one set together.
    excluded : training images that are duplicates of dedicated test images, which would be data leakage.
    not_found : dedicated test images that the list names and the folder lacks.
    divided : labels whose near-duplicates are in both sets, since otherwise one label would have no images in
        one set.
    lost_test : test images of the split before that are in none of the sets, each with the reason.
    idle : sentences about settings that were changed and have no effect on these images.
    """

    train: tuple[Image, ...]
    test: tuple[Image, ...]
    cluster: dict[str, str]
    excluded: tuple[Image, ...] = ()
    not_found: tuple[str, ...] = ()
    train_fraction: float = 0.75
    split_by: str = "image"
    seed: int = 0
    divided: tuple[str, ...] = ()
    lost_test: tuple[str, ...] = ()
    idle: tuple[str, ...] = ()

    def counts(self) -> pd.DataFrame:
        """Return the number of images of each label (rows) in train and test (columns)."""
        table = pd.DataFrame(
            {
                name: pd.Series([i.label for i in self.subset(name)], dtype=str).value_counts()
                for name in (TRAIN, TEST)
            }
        )
        return table.fillna(0).astype(int).sort_index().rename_axis("label")

    def subset(self, name: str) -> tuple[Image, ...]:
        """Return the images of "train", "test" or "left out"."""
        return {TRAIN: self.train, TEST: self.test, EXCLUDED: self.excluded}[name]

    def caution(self) -> str:
        """Return sentences about what makes the split or its figures doubtful; empty without any.

        Labels with too few images, or whose images are near-duplicates; dedicated test images not found.
        """
        sentences = (self._not_found(), self._few(), self._losses(), self._large_clusters(), self.division())
        return "\n".join(filter(None, (*self.idle, self._lost(), *sentences)))

    def _lost(self) -> str:
        if not self.lost_test:
            return ""
        return (
            f"CAREFUL: {len(self.lost_test)} test images of the split before are not in this one: "
            f"{first_few(self.lost_test)}; without images that the classifier mistook, the test "
            "accuracy is too high"
        )

    def _not_found(self) -> str:
        if not self.not_found:
            return ""
        return (
            f"CAREFUL: {len(self.not_found)} dedicated test images not found, the first is "
            f"{self.not_found[0]}; correct the list, since under another name they are trained on"
        )

    def _few(self) -> str:
        few = [
            f"{label} ({row.train} train, {row.test} test)"
            for label, row in self.counts().iterrows()
            if row.train < FEW or row.test < FEW // 4
        ]
        if not few:
            return ""
        more = f" and {len(few) - MOST_NAMED} more labels" if len(few) > MOST_NAMED else ""
        return (
            f"CAREFUL: few images of {', '.join(few[:MOST_NAMED])}{more}; "
            "expect little of these labels, and of the figures about them"
        )

    def _losses(self) -> str:
        used = Counter(image.label for image in self.train)
        lost = [
            f"{count} of the {count + used[label]} training images of {label}"
            for label, count in sorted(Counter(image.label for image in self.excluded).items())
            if count >= used[label] / 3
        ]
        if not lost:
            return ""
        return (
            f"CAREFUL: {', '.join(lost)} are excluded, as duplicates of dedicated test images; "
            "near_duplicates=ignored keeps near-duplicates, which makes the test accuracy too high"
        )

    def _large_clusters(self) -> str:
        images = [*self.train, *self.test, *self.excluded]
        total = Counter(image.label for image in images)
        sizes = Counter((image.label, self.cluster[image.path]) for image in images)
        large = [
            f"{size} of the {total[label]} images of {label}"
            for (label, _), size in sorted(sizes.items())
            if size > max(2, total[label] / 2)
        ]
        if not large:
            return ""
        same, remedy = "near-duplicates", "near_duplicates=ignored divides them"
        if self.split_by == "group":
            same = "one group or near-duplicates"
            remedy = "split_by=image divides groups, and near_duplicates=ignored near-duplicates"
        return (
            f"CAREFUL: {', '.join(large)} are {same} (of one another, as frames of a fixed camera are) and "
            f"stay in one set; the other set has only the rest. {remedy}"
        )

    def division(self) -> str:
        """Return a sentence about near-duplicates in both sets; empty if there are none."""
        if not self.divided:
            return ""
        return (
            f"CAREFUL: near-duplicates of {', '.join(self.divided)} are in both training and test set: a "
            "label has nothing else, as with frames of a fixed camera. The test accuracy holds for further "
            "frames of the same scenes, not for other scenes"
        )

    def test_caution(self) -> str:
        """Return what makes the test figures doubtful: lost test images, near-duplicates in both sets."""
        return "\n".join(filter(None, (self._lost(), self.division())))

    def clusters_of(self, images: Iterable[Image]) -> np.ndarray:
        """Return the names of the images' clusters; (n,) array."""
        return np.array([self.cluster[image.path] for image in images])

    def __str__(self) -> str:
        if not self.train and not self.test:
            return "nothing to split: no image has a label yet"
        text = f"{len(self.train)} images train, {len(self.test)} test"
        if self.excluded:
            text += f"; {len(self.excluded)} excluded from training, as duplicates of dedicated test images"
        return f"{text}\n{caution}" if (caution := self.caution()) else text


def clusters(
    dataset: Dataset, *, split_by: str = "image", divided: Container[str] = frozenset()
) -> dict[str, str]:
    """Return for each path the name of its cluster, the smallest sha256 of its images with a label.

    Duplicates and near-duplicates form a cluster and, with `split_by="group"`, so do images in subfolders of
    one name, whatever their label. Excluded images have clusters too, since their duplicates may have another
    label.

    Parameters
    ----------
    divided : paths of images that are in no cluster with their near-duplicates.
    """
    from scipy.cluster.hierarchy import DisjointSet

    pairs = [
        (pair.kept.path, pair.other.path)
        for pair in dataset.duplicates
        if pair.is_exact or pair.kept.path not in divided
    ]
    if split_by == "group":
        first: dict[str, str] = {}
        pairs += [
            (first.setdefault(image.group, image.path), image.path) for image in dataset.files if image.group
        ]
    connected = DisjointSet({path for pair in pairs for path in pair})
    for one, other in pairs:
        connected.merge(one, other)
    name = {image.path: image.sha256 for image in dataset.files}
    # Last those without a label, so that they move no other image to the other side.
    rank = {image.path: (image.label == UNLABELLED, image.sha256) for image in dataset.files}
    for subset in connected.subsets():
        name |= dict.fromkeys(subset, min(map(rank.__getitem__, subset))[1])
    return name


def split(dataset: Dataset, *, train_fraction: float = 0.75, split_by: str = "image", seed: int = 0) -> Split:
    """Split the images of each label into training and test set.

    The clusters of a label are ordered by sha256(seed, name of the cluster), one with more than half of its
    images first. The first of them are the training set, until its size is nearest to `train_fraction`. So
    the same images have the same split on every computer, and new images move few of the old ones. A cluster
    with several labels counts for the label of the image that names it. A label with at least two clusters of
    its own has at least one in each set. A list of dedicated test images in the data set's folder overrides
    this.

    Where a label would have no image in one of the sets, the near-duplicates in its clusters are divided
    between the sets, and `Split.divided` names the labels. A single image or group is in the training set.

    Raises
    ------
    ImgclfError : a label would have no training images.
    """
    parts = _parts(dataset, clusters(dataset, split_by=split_by), train_fraction=train_fraction, seed=seed)
    if divided := _to_be_divided(dataset, parts):
        before = parts.cluster
        cluster = clusters(dataset, split_by=split_by, divided=divided)
        parts = _parts(dataset, cluster, train_fraction=train_fraction, seed=seed)
        parts = replace(parts, divided=_labels_in_both(dataset.images, parts, before))
    _check(dataset, parts)
    return _with_idle(dataset, replace(parts, train_fraction=train_fraction, split_by=split_by, seed=seed))


def _with_idle(dataset: Dataset, parts: Split) -> Split:
    """Return the split with sentences about settings that were changed in vain."""
    reasons = split_check.idle_settings(dataset, split_by=parts.split_by)
    sentences = (
        f"CAREFUL: {name}={getattr(parts, name)} has no effect: {reason}"
        for name, reason in reasons.items()
        if getattr(parts, name) != parameters.PARAMETERS[name].default
    )
    return replace(parts, idle=tuple(sentences))


def _given(dataset: Dataset) -> list[Image]:
    """Return the images in the folders of test images, as test/."""
    return [image for image in dataset.files if image.path.partition("/")[0] in dataset.layout.test]


def _parts(dataset: Dataset, cluster: dict[str, str], *, train_fraction: float, seed: int) -> Split:
    """Return the sets: as a list of test images or folders of the data set say, else by content."""
    if listed := test_list.read(dataset.folder):
        return _split_as_listed(dataset, cluster, listed)
    if given := _given(dataset):
        return _split_as_given(dataset, cluster, given)
    return _split_by_content(dataset, cluster, train_fraction=train_fraction, seed=seed)


def _to_be_divided(dataset: Dataset, parts: Split) -> set[str]:
    """Return the paths in clusters of near-duplicates that leave a label without images in one of the sets.

    Parameters
    ----------
    parts : the split that keeps all clusters together.
    """
    without = set(dataset.classes) - _labels(parts.train)
    if not test_list.read(dataset.folder) and not _given(dataset):
        contents = {(image.label, image.sha256) for image in dataset.images}
        several = {label for label, count in Counter(label for label, _ in contents).items() if count > 1}
        without |= several - _labels(parts.test)
    broken = {parts.cluster[image.path] for image in dataset.images if image.label in without}
    divided = {path for path, name in parts.cluster.items() if name in broken}
    is_near = any(not pair.is_exact and pair.kept.path in divided for pair in dataset.duplicates)
    return divided if is_near else set()


def _labels_in_both(images: Iterable[Image], parts: Split, cluster: Mapping[str, str]) -> tuple[str, ...]:
    """Return the sorted labels of the images in clusters that are in both sets."""
    both = {cluster[i.path] for i in parts.train} & {cluster[i.path] for i in parts.test}
    return tuple(sorted(_labels(image for image in images if cluster[image.path] in both)))


def _labels(images: Iterable[Image]) -> set[str]:
    return {image.label for image in images}


def _split_by_content(
    dataset: Dataset, cluster: dict[str, str], *, train_fraction: float, seed: int
) -> Split:
    members = defaultdict(list)
    for image in dataset.images:
        members[cluster[image.path]].append(image)
    home = defaultdict(list)
    for name, images in members.items():
        home[min(images, key=lambda image: (image.sha256, image.path)).label].append(name)
    train = set()
    for names in home.values():
        sizes = {name: len(members[name]) for name in names}
        half = sum(sizes.values()) / 2
        ordered = sorted(
            names, key=lambda name: (sizes[name] <= half, hashlib.sha256(f"{seed} {name}".encode()).digest())
        )
        train.update(ordered[: _nearest([sizes[name] for name in ordered], train_fraction)])
    return Split(
        train=tuple(i for i in dataset.images if cluster[i.path] in train),
        test=tuple(i for i in dataset.images if cluster[i.path] not in train),
        cluster=cluster,
    )


def _check(dataset: Dataset, parts: Split) -> None:
    place, is_listed = location(dataset.folder), bool(test_list.read(dataset.folder))
    untrained = sorted(set(dataset.classes) - _labels(parts.train))
    if (is_listed or _given(dataset)) and (untrained or not parts.test):
        source = f"the list of dedicated test images ({' or '.join(test_list.NAMES)}) names"
        if not is_listed:
            source = f"{' and '.join(dataset.layout.test)} has"
        example = f" ({parts.not_found[0]} was not found)" if parts.not_found else ""
        raise ImgclfError(
            f"{place}: {source} {len(parts.test)} of the {len(dataset.images)} images{example}; "
            "it must name some, and leave some of each label to train"
        )
    if untrained:
        raise ImgclfError(
            f"{place}: no image of {', '.join(untrained)} would be in the training set, since "
            "all are in clusters with test images of other labels (duplicates, or groups of one name); "
            "add images, or choose another train_fraction or seed"
        )


def _nearest(sizes: list[int], fraction: float) -> int:
    """Return how many of the first clusters hold nearest to `fraction` of all images; fewer in a tie."""
    target, total, errors = fraction * sum(sizes), 0, []
    for size in sizes:
        total += size
        errors.append(abs(total - target))
    most = max(1, len(sizes) - 1)
    return 1 + min(range(most), key=errors.__getitem__)


def _split_as_listed(dataset: Dataset, cluster: dict[str, str], listed: set[str]) -> Split:
    names = defaultdict(set)  # the list has the names before relabelling, or those of now
    without_set = defaultdict(set)  # LABEL/FILE, although the file is train/LABEL/FILE
    for image in dataset.files:
        for name in (image.path, dataset.origins.get(image.path, image.path)):
            names[name].add(image.path)
            without_set[dataset.layout.without_set(name)].add(image.path)
    several = {name: paths for name, paths in without_set.items() if len(paths) > 1 and name not in names}
    found, not_found = test_list.find(listed, (without_set | names).keys() - several.keys())
    not_found = [
        f"{name} (it may mean {' or '.join(sorted(several[name]))})" if name in several else name
        for name in not_found
    ]
    names = without_set | names
    paths = {path for name in found for path in names[name]}
    parts = _split_as_given(dataset, cluster, [image for image in dataset.files if image.path in paths])
    return replace(parts, not_found=tuple(not_found))


def _split_as_given(dataset: Dataset, cluster: dict[str, str], given: list[Image]) -> Split:
    """Return the split with these test images; what is a duplicate of one of them is not trained on."""
    named, excluded = {image.path for image in given}, {image.path for image in given if image.excluded}
    # For a given file that is excluded as a duplicate, the copy that was kept is in the test set.
    named |= {p.kept.path for p in dataset.duplicates if p.other.path in excluded and not p.disagree}
    test = tuple(image for image in dataset.images if image.path in named)
    test_paths = {image.path for image in test}
    rest = [image for image in dataset.images if image.path not in test_paths]
    test_clusters = {cluster[image.path] for image in test}
    return Split(
        train=tuple(image for image in rest if cluster[image.path] not in test_clusters),
        test=test,
        cluster=cluster,
        excluded=tuple(image for image in rest if cluster[image.path] in test_clusters),
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


def table(dataset_name: str) -> Path:
    """Return the path of `split.tsv`."""
    return files.proc_dir(dataset_name) / "split.tsv"


def _settings_file(dataset_name: str) -> Path:
    return files.proc_dir(dataset_name) / "split.json"


def write(dataset: Dataset, split: Split, *, lost_test: Iterable[str] = ()) -> Path:
    """Write `split.tsv`, one line an image, and `split.json`, the settings of the split.

    Parameters
    ----------
    lost_test : see `Split`; a split that is read says so.

    Returns
    -------
    The path of `split.tsv`. Its columns are path, split (train, test or left out), cluster and sha256.
    """
    rows = [
        {"path": image.path, "split": name, "cluster": split.cluster[image.path], "sha256": image.sha256}
        for name in split_check.SUBSETS
        for image in split.subset(name)
    ]
    tables.write(table(dataset.name), rows, COLUMNS)
    settings = {name: getattr(split, name) for name in SETTINGS}
    files.write_json(_settings_file(dataset.name), {**settings, "lost_test": list(lost_test)})
    return table(dataset.name)


def read(dataset: Dataset) -> Split:
    """Return the split that `write` wrote, or that a person made or edited.

    Near-duplicates and groups, and `divided`, are found in the data set again. The clusters of the file may
    hold more images together.

    Raises
    ------
    ImgclfError : `split.tsv` is missing, does not fit `images.tsv`, or has clusters in both sets that
        `split` would not divide.
    """
    path = table(dataset.name)
    if not path.exists():
        raise ImgclfError(f"no split of {dataset.name} yet ({path}); run 01_prepare_data first")
    settings, image = read_settings(dataset.name), {i.path: i for i in dataset.images}
    try:
        rows = tables.read(path)
        fault = split_check.row_fault(rows, image) or split_check.label_fault(rows, image)
    except (KeyError, ValueError) as error:
        raise ImgclfError(f"{path}: does not fit images.tsv ({error}); run 01_prepare_data again") from error
    undivided = clusters(dataset, split_by=settings["split_by"])
    if not fault and (fault := split_check.cluster_fault(rows, image, undivided)):
        divided = _divided_clusters(dataset, undivided, settings)
        fault = split_check.cluster_fault(rows, image, divided) if divided else fault
    if fault:
        raise ImgclfError(f"{path}: {fault}; correct the row, or run 01_prepare_data again")
    train, test, left_out = (
        tuple(image[row["path"]] for row in rows if row["split"] == name) for name in (TRAIN, TEST, EXCLUDED)
    )
    parts = Split(train, test, {row["path"]: row["cluster"] for row in rows}, left_out, **settings)
    return _with_idle(dataset, replace(parts, divided=_labels_in_both(dataset.images, parts, undivided)))


def read_settings(dataset_name: str) -> dict[str, Any]:
    """Return how the split was made that was written last: attributes of `Split`, by the names in `SETTINGS`.

    Raises
    ------
    ImgclfError : `split.json` is missing or damaged, or has a value that is not allowed.
    """
    path = _settings_file(dataset_name)
    try:
        stored = files.read_json(path, SETTINGS, defaults={"not_found": [], "lost_test": []})  # as in 0.1.0
        for name in ("train_fraction", "split_by", "seed"):
            parameters.check(name, stored[name])
    except (OSError, ValueError) as error:
        raise ImgclfError(f"{path}: missing or damaged; run 01_prepare_data again") from error
    except ImgclfError as error:
        raise ImgclfError(f"{path}: {error}; run 01_prepare_data again") from error
    return {
        name: tuple(stored[name]) if kind == list[str] else stored[name] for name, kind in SETTINGS.items()
    }


def _divided_clusters(
    dataset: Dataset, undivided: dict[str, str], settings: Mapping[str, Any]
) -> dict[str, str]:
    """Return the clusters if some have to be divided, as `split` does it; empty if none has."""
    parts = _parts(dataset, undivided, train_fraction=settings["train_fraction"], seed=settings["seed"])
    divided = _to_be_divided(dataset, parts)
    return clusters(dataset, split_by=settings["split_by"], divided=divided) if divided else {}
