"""The layout of a data set's folder: label folders at the top, or in folders for training and test images."""

import hashlib
import os
import re
import shlex
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from imgclf import ImgclfError, first_few
from imgclf.data import folders
from imgclf.data.folders import is_system
from imgclf.data.labels import NO_LABELS, UNFAMILIAR, UNLABELLED
from imgclf.images import decoding, pointers

TRAIN, VALIDATION, TEST = "train", "validation", "test"
# As Kaggle, Keras and Ultralytics name them: train, Test, training_set, seg_train, test1.
ROLES = {
    TRAIN: r"train(ing)?",
    VALIDATION: r"val(id|idation|idate)?|dev|eval(uation)?",
    TEST: r"test(ing)?",
}
ROLE = r"([a-z]+[_-])?(%s)\d*([_-]?(set|data|dataset|images))?"


@dataclass(frozen=True)
class Layout:
    """Where the label folders of a data set are.

    Attributes
    ----------
    folders : paths of the label folders and of `unlabelled`, sorted.
    sets : the folders that hold label folders, such as train, val and test, in this order; empty if these are
        at the top.
    test : those of `sets` whose images are the test images: of test, or of val if there is no test.
    """

    folders: tuple[str, ...] = ()
    sets: tuple[str, ...] = ()
    test: tuple[str, ...] = ()

    @property
    def labels(self) -> list[str]:
        """The names of the label folders, sorted, without `unlabelled` and `none_of_these`."""
        return sorted({folder.rpartition("/")[2] for folder in self.folders} - {*NO_LABELS})

    def label_of(self, path: str) -> str:
        """Return the label of an image by its path."""
        return path.split("/")[self._depth(path)]

    def group_of(self, path: str) -> str:
        """Return the folders between the label folder and the image."""
        return "/".join(path.split("/")[self._depth(path) + 1 : -1])

    def is_in_label(self, path: str) -> bool:
        """Whether a file lies in a label folder."""
        return path.count("/") > self._depth(path)

    def relabelled(self, path: str, label: str) -> str:
        """Return the path of an image after it gets another label; it stays in its set."""
        parts, depth = path.split("/"), self._depth(path)
        parts[depth] = label
        if self.sets and not depth and label != UNLABELLED:
            parts.insert(0, self.sets[0])
        return "/".join(parts)

    def fault(self, path: str, label: str, group: str) -> str:
        """Return what is wrong with a stored path, or with the label and group stored with it; else ""."""
        if not self.is_in_label(path) or {"", ".", ".."} & set(path.split("/")):
            return f"{path} is in no label folder"
        if (label, group) != (self.label_of(path), self.group_of(path)):
            return f"{path}: label '{label}' and group '{group}' are not those of its folder"
        return ""

    def without_set(self, path: str) -> str:
        """Return the path of an image below its set's folder: LABEL/.../name.jpg."""
        return "/".join(path.split("/")[self._depth(path) :])

    def new_folders(self, label: str) -> list[str]:
        """Return the folders that a new label needs: one in each set."""
        return [f"{name}/{label}" for name in self.sets] or [label]

    def _depth(self, path: str) -> int:
        return int(path.partition("/")[0] in self.sets)

    def __str__(self) -> str:
        if not self.sets:
            return ""
        train = [name for name in self.sets if name not in self.test]
        return (
            f"the label folders are in {_and(self.sets)}: test images are those in {_and(self.test)}, "
            f"training images those in {_and(train)}, unless a list of dedicated test images names others"
        )


def role(name: str) -> str:
    """Return "train", "validation" or "test" for a folder that is named like such a set; else empty."""
    return next(
        (role for role, names in ROLES.items() if re.fullmatch(ROLE % names, name, re.IGNORECASE)), ""
    )


def find(folder: Path) -> Layout:
    """Return the layout of a data set's folder. System folders and hidden ones are left out.

    Raises
    ------
    ImgclfError : the folder is missing or has no label folders; or the sets have different label folders.
    """
    if not folder.is_dir():
        raise ImgclfError(
            f"{folder}: no such folder{folders.nearest(folder)}; "
            "correct images_dir or dataset_name, or run 00_get_images first"
        )
    top = _folders(folder)
    if not top:
        file = (
            "; or import their labels from a file: imgclf labels import FILE" if flat_images(folder) else ""
        )
        raise ImgclfError(
            f"{pointers.location(folder)}: no label folders in it; "
            f"put the images of each label into a folder of that name{file}"
        )
    sets = [name for kind in ROLES for name in top if role(name) == kind]
    others = [name for name in top if name not in (*sets, UNLABELLED)]
    train = next((name for name in sets if role(name) == TRAIN), "")
    if len({role(name) for name in sets}) < 2:
        return Layout(tuple(top))
    if others and (not train or not _folders(folder / train) or _has_files(folder / train)):
        return Layout(tuple(top))  # labels that only sound like sets: train, test, bus
    _check_sets(folder, sets, others, train)
    test = [name for name in sets if role(name) == TEST]
    test = test or [name for name in sets if role(name) == VALIDATION]
    below = [f"{name}/{label}" for name in sets for label in _folders(folder / name)]
    return Layout(tuple(below + [UNLABELLED] * (UNLABELLED in top)), tuple(sets), tuple(test))


def flat_images(folder: Path) -> list[str]:
    """Return the names of the images that lie directly in a folder, sorted."""
    return sorted(
        path.name
        for path in folder.iterdir()
        if not is_system(path.name) and path.is_file() and decoding.is_image(path)
    )


def has_folders(folder: Path) -> bool:
    """Whether a folder has folders that may be label folders."""
    return bool(_folders(folder))


def other_things(folder: Path, layout: Layout) -> list[Path]:
    """Return the image files in the folders `unfamiliar`, which are no part of the data set, sorted.

    There is one beside the label folders; with sets, there may be one at the top and one in each.
    """
    if UNFAMILIAR in layout.labels:  # images.tsv of an earlier version, to which it was a label
        return []
    parts = [part for name in ("", *layout.sets) if (part := folder / name).is_dir()]
    there = [each for part in parts for each in part.iterdir() if _is_of_other_things(each.name)]
    paths = (path for each in there for path in folders.walk(each, set(), lambda error: None))
    return sorted(path for path in paths if decoding.is_image(path))


def _is_of_other_things(name: str) -> bool:
    return name.casefold() == UNFAMILIAR  # some disks do not tell capitals from small letters


def other_things_note(folder: Path, layout: Layout) -> str:
    """Return a sentence about the images in the folders `unfamiliar`; empty without any."""
    count = len(other_things(folder, layout))
    return (
        f"{count:,} images in {UNFAMILIAR}/ are of other things: no label, and in no training; 05 measures "
        f"how many are caught. If {UNFAMILIAR} is a label, rename the folder"
        if count
        else ""
    )


def doubts(images: Iterable[tuple[str, str]]) -> str:
    """Return sentences about labels that may be none; empty without any.

    Parameters
    ----------
    images : label and group of each image.
    """
    groups: dict[str, set[str]] = defaultdict(set)
    alike: dict[str, set[str]] = defaultdict(set)
    for label, group in images:
        groups[label].add(group.partition("/")[0])
        alike[" ".join(unicodedata.normalize("NFKC", label).casefold().split())].add(label)
    sentences = [
        f"CAREFUL: the labels {' and '.join(map(repr, sorted(labels)))} are written almost alike; "
        "if they are one, put their images into one folder"
        for labels in alike.values()
        if len(labels) > 1
    ]
    first, *others = groups.values() or [{""}]
    if others and len(first) > 1 and "" not in first and all(other == first for other in others):
        sentences.append(
            f"the label folders {_and(sorted(groups)[:3])} hold the same folders {_and(sorted(first)[:3])}: "
            "these are read as groups; if they are the labels, put the images of each into one folder"
        )
    return "\n".join(sentences)


def _check_sets(folder: Path, sets: list[str], others: list[str], train: str) -> None:
    """Refuse sets that cannot be used as the split."""
    place, one = pointers.location(folder), shlex.quote(pointers.location(folder / train))
    like = f"{place}: {_and(sets)} look like training and test images with label folders in each"
    remedy = f"correct that, or use the images of one with images_dir={one}"
    if not train:
        raise ImgclfError(f"{like}, but there is no folder train/; add it")
    if others:
        raise ImgclfError(
            f"{like}, but {_and(others)} is beside them; move it elsewhere, or, "
            f"if {_and(sets)} are labels, rename them"
        )
    labels = {name: {*_folders(folder / name)} - {*NO_LABELS} for name in sets}
    every = sorted(set().union(*labels.values()))
    for name in sets:
        if not labels[name]:
            raise ImgclfError(f"{like}, but {name}/ has no label folders; {remedy}")
        missing = [label for label in every if label not in labels[name]]
        # What a removed label leaves, such as a text file, needs no folder in the other sets.
        missing = [label for label in missing if any(_has_image(folder / each / label) for each in sets)]
        if missing:
            raise ImgclfError(f"{like}, but {name}/ has no folder {first_few(missing)}; {remedy}")


def _folders(folder: Path) -> list[str]:
    """Return the names of the folders in a folder, sorted; those that hold no label are left out."""
    try:
        names = [each.name for each in folder.iterdir() if each.is_dir()]
        return sorted(name for name in names if not _is_of_other_things(name) and not is_system(name))
    except OSError as error:
        raise ImgclfError(f"{folder}: {error.strerror}; make it readable") from error


def _has_files(folder: Path) -> bool:
    return any(entry.is_file() and not is_system(entry.name) for entry in os.scandir(folder))


def _has_image(folder: Path) -> bool:
    return any(
        not is_system(name) and decoding.is_image(Path(here, name))
        for here, _, names in os.walk(folder)
        for name in names
    )


def inner_folder(folder: Path, layout: Layout, images: Sequence[str]) -> str:
    """Return what to do if the only label is a folder around the label folders; empty if it is none.

    Parameters
    ----------
    images : the paths of all images, below the data set's folder.
    """
    if layout.sets:
        return ""
    paths = list(map(Path, images))
    around = Path(os.path.commonpath([path.parent for path in paths]))
    inner = sorted({path.relative_to(around).parts[0] for path in paths if path.parent != around})
    if len(inner) < 2 or any(path.parent == around for path in paths):
        return ""
    what = "its folders are the sets" if all(map(role, inner)) else "its folders are the labels"
    return (
        f"if {what} ({first_few(inner)}), set images_dir={shlex.quote(pointers.location(folder / around))}; "
        "if not, add a folder for at least one more label"
    )


def _and(folders: Iterable[str]) -> str:
    *rest, last = (f"{name}/" for name in folders)
    return f"{', '.join(rest)} and {last}" if rest else last


def images_state(folder: Path) -> str:
    """Return a hash of path, size and time of each file in a folder of images, and of its label folders.

    Those of other things do not count.
    """
    if not folder.is_dir():
        return ""
    above = {str(path) for path in folder.resolve().parents}  # a link to one of these would never end
    found = find(folder)
    others = set(other_things(folder, found))
    paths = (path for path in folders.walk(folder, above, lambda error: None) if path not in others)
    return _state(folder, paths, repr(found))


def other_things_state(folder: Path) -> str:
    """Return a hash of path, size and time of each image of other things; empty without any."""
    paths = other_things(folder, find(folder)) if folder.is_dir() else []
    return _state(folder, paths) if paths else ""


def _state(folder: Path, paths: Iterable[Path], *lines: str) -> str:
    states = [*lines]
    for path in paths:
        name = str(path)[len(str(folder)) :]
        with suppress(OSError):  # of a link to nothing
            found = path.stat()
            name += f"\t{found.st_size}\t{found.st_mtime_ns}"
        states.append(name)
    return hashlib.sha256("\n".join(states).encode(errors="surrogateescape")).hexdigest()
