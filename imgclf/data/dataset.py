"""A folder of images: the folder an image lies in is its label."""

import csv
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from imgclf import ImgclfError, files
from imgclf.data.journal import Journal
from imgclf.images import decoding

UNLABELLED = "unlabelled"  # the folder of images that have no label yet
NO_LABEL = "no label yet"  # why later stages skip those
DUPLICATES = "twins"  # the key of the pairs of duplicates in images.json, as version 0.1.0 wrote it
BY_HAND = "excluded by hand"
COPY = ("duplicate of ", "near-duplicate of ")


@dataclass(frozen=True)
class Image:
    """One image file and what was found when it was looked at."""

    path: str  # below the data set's folder, with forward slashes: LABEL/.../name.jpg
    label: str
    sha256: str  # of the file's content
    dhash: str  # 64 hexadecimal digits
    width: int  # pixels, upright
    height: int
    group: str = ""  # the folders between LABEL and the file
    excluded: str = ""  # why later stages skip it; empty if they don't


@dataclass(frozen=True)
class DuplicatePair:
    """Two files that show the same picture."""

    kept: Image
    other: Image

    @property
    def is_exact(self) -> bool:
        return self.kept.sha256 == self.other.sha256

    @property
    def kind(self) -> str:
        return "exact" if self.is_exact else "near"

    @property
    def disagree(self) -> bool:
        """Whether the two stand under different labels, so that one of them is wrong."""
        return self.kept.label != self.other.label


@dataclass(frozen=True)
class Dataset:
    """All images of a folder, with those that are left out marked as such."""

    name: str
    folder: Path
    files: tuple[Image, ...]
    duplicates: tuple[DuplicatePair, ...] = ()
    other_files: tuple[
        str, ...
    ] = ()  # files whose suffix is none of images.SUFFIXES, and images that lie in no label folder
    last_change: int = 0  # number of the latest change in the journal, when the folder was looked through
    journal_state: str = ""  # the journal's fingerprint then
    origins: dict[str, str] = field(
        default_factory=dict
    )  # path and path before relabelling, of relabelled images

    @property
    def images(self) -> tuple[Image, ...]:
        """The images that later stages use."""
        return tuple(image for image in self.files if not image.excluded)

    @property
    def excluded(self) -> tuple[Image, ...]:
        """The images that are left out for a reason; those that only lack a label are not among them."""
        return tuple(image for image in self.files if image.excluded not in ("", NO_LABEL))

    @property
    def unlabelled(self) -> tuple[Image, ...]:
        """The images that wait for a label."""
        return tuple(image for image in self.files if image.excluded == NO_LABEL)

    @property
    def labels(self) -> list[str]:
        """The labels that have images, sorted."""
        return sorted({image.label for image in self.images})

    def file(self, image: Image) -> Path:
        return self.folder / image.path

    def thumbnail(self, path: str, *, side: int = 200) -> np.ndarray:
        """The image at `path`, at most `side` pixels wide and high; (H, W, 3) uint8, RGB."""
        return decoding.shrink(decoding.read(self.folder / path, side=side), side)

    def other_files_note(self) -> str:
        """A sentence about files that are not looked at: no images by their suffix, or in no label folder."""
        if not self.other_files:
            return "every file lies in a label folder and has the suffix of an image"
        kinds = Counter(
            Path(path).suffix.lower() or "no suffix" if "/" in path else "in no label folder"
            for path in self.other_files
        )
        counts = ", ".join(f"{count} x {kind}" for kind, count in kinds.most_common(5))
        return f"not looked at: {counts}; images lie in a label folder and end in one of {', '.join(decoding.SUFFIXES)}"

    def __str__(self) -> str:
        waiting = f", {len(self.unlabelled)} unlabelled" if self.unlabelled else ""
        return f"{self.name}: {len(self.images)} images in {len(self.labels)} labels, {len(self.excluded)} left out{waiting}"


def sample(of: Iterable[Image], *, per_label: int) -> list[Image]:
    """Some images of each label, evenly spaced in the order of their paths."""
    by_label: dict[str, list[Image]] = {}
    for image in sorted(of, key=lambda image: image.path):
        by_label.setdefault(image.label, []).append(image)
    return [
        some[i * len(some) // count]
        for some in by_label.values()
        for count in [min(per_label, len(some))]
        for i in range(count)
    ]


def fingerprint(of: Iterable[Image]) -> str:
    """A hash of contents and labels: the same for the same images under the same labels, wherever they lie."""
    lines = sorted(f"{image.sha256} {image.label}" for image in of)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def images_folder(dataset_name: str, images_dir: str = "") -> Path:
    """`images_dir` if given, else the data set's folder below `$IMGCLF_DATA/images`."""
    return (
        Path(images_dir).expanduser().absolute() if images_dir else files.data_dir() / "images" / dataset_name
    )


def largest_first(of: Iterable[Image]) -> list[Image]:
    """Images by falling number of pixels; of copies the first is kept."""
    return sorted(of, key=lambda image: (-image.width * image.height, image.path))


def with_copies_left_out(dataset: Dataset, near: Iterable[tuple[str, str]]) -> Dataset:
    """The data set with its pairs of duplicates, of which within a label all but the largest are left out.

    Parameters
    ----------
    near : pairs of contents, by their sha256, that show the same picture.
    """
    plain = [
        replace(image, excluded="") if image.excluded.startswith(COPY) else image for image in dataset.files
    ]
    pairs = _pairs([image for image in plain if not image.excluded], near)
    left_out: dict[str, str] = {}
    for pair in pairs:
        if not pair.disagree and pair.kept.path not in left_out:
            left_out.setdefault(pair.other.path, f"{COPY[not pair.is_exact]}{pair.kept.path}")
    files = tuple(
        replace(i, excluded=left_out[i.path]) if i.path in left_out and not i.excluded else i for i in plain
    )
    return replace(dataset, files=files, duplicates=pairs)


def _pairs(of: Sequence[Image], near: Iterable[tuple[str, str]]) -> tuple[DuplicatePair, ...]:
    """All pairs of files that show the same picture, the larger one first."""
    near = tuple(near)
    times = Counter(image.sha256 for image in of)
    twice = {sha256 for sha256, count in times.items() if count > 1}.union(*near)
    seen = largest_first(image for image in of if image.sha256 in twice)
    same: dict[str, dict[str, int]] = {}  # for each content the first image of each label
    pairs = []
    for i, image in enumerate(seen):
        firsts = same.setdefault(image.sha256, {})
        if firsts:
            pairs.append((firsts.get(image.label, next(iter(firsts.values()))), i))
        firsts.setdefault(image.label, i)
    pairs += [
        (min(i, j), max(i, j))
        for one, other in near
        for i in same.get(one, {}).values()
        for j in same.get(other, {}).values()
    ]
    return tuple(DuplicatePair(seen[i], seen[j]) for i, j in sorted(pairs))


def check(dataset: Dataset, *, labelled: bool = True) -> None:
    """Refuse a data set that no classifier can be learned from; without `labelled`, only one that has nothing to give labels to.

    Raises
    ------
    ImgclfError : no readable image, or fewer than two labels with images.
    """
    if dataset.unlabelled and not labelled:
        return
    if not dataset.images and dataset.unlabelled:
        raise ImgclfError(
            f"{dataset.folder}: none of the {len(dataset.unlabelled)} images has a label yet; label them in 01_prepare_data, "
            f"or move them from {UNLABELLED}/ into a folder for each label"
        )
    if not dataset.images:
        reasons = Counter(image.excluded for image in dataset.excluded).most_common(3)
        why = "; ".join(f"{count} x {reason}" for reason, count in reasons) or "no image files in it"
        raise ImgclfError(
            f"{dataset.folder}: no usable images ({why}); put the images of each label into a folder of that name"
        )
    if len(dataset.labels) < 2:
        raise ImgclfError(
            f"{dataset.folder}: only the label '{dataset.labels[0]}' has images; add a folder for at least one more label"
        )


def _table(name: str) -> Path:
    return files.proc_dir(name) / "images.tsv"


def _about(name: str) -> Path:
    return files.proc_dir(name) / "images.json"


def write(dataset: Dataset) -> Path:
    """Write `images.tsv` of a data set, one line an image, all columns of `Image`, and beside it `images.json` with
    all else; gives the path of the table."""
    rows = [asdict(image) for image in dataset.files]
    write_table(_table(dataset.name), rows, [column.name for column in fields(Image)])
    files.write_json(
        _about(dataset.name),
        {
            "folder": files.shown(dataset.folder, whole=True),
            "other_files": dataset.other_files,
            "last_change": dataset.last_change,
            "journal_state": dataset.journal_state,
            "origins": dataset.origins,
            DUPLICATES: [(pair.kept.path, pair.other.path) for pair in dataset.duplicates],
        },
    )
    return _table(dataset.name)


def read(name: str, images_dir: str = "") -> Dataset:
    """The data set that `write` wrote, in the folder that was looked through.

    Raises
    ------
    ImgclfError : `images.tsv` is not there yet, or damaged, or is of another folder than `images_dir`, or labels were changed since.
    """
    if not _table(name).exists():
        raise ImgclfError(f"no list of the images of {name} yet ({_table(name)}); run 01_prepare_data first")
    about = _read_about(name)
    folder = files.data_dir() / about["folder"]
    if images_dir and images_folder(name, images_dir) != folder:
        raise ImgclfError(
            f"images_dir={images_dir}: {name} was looked through in {folder}; run 01_prepare_data again with this images_dir"
        )
    if folder.is_dir() and Journal(folder).fingerprint() != about["journal_state"]:
        raise ImgclfError(
            f"labels of {name} were changed after 01_prepare_data looked through its images; run 01_prepare_data again"
        )
    found = _read_table(_table(name))
    image = {image.path: image for image in found}
    try:
        pairs = tuple(DuplicatePair(image[kept], image[other]) for kept, other in about[DUPLICATES])
    except (KeyError, ValueError, TypeError) as error:
        raise ImgclfError(f"{_about(name)}: does not fit images.tsv; run 01_prepare_data again") from error
    return Dataset(
        name,
        folder,
        found,
        pairs,
        tuple(about["other_files"]),
        about["last_change"],
        about["journal_state"],
        about["origins"],
    )


def is_current(dataset: Dataset, journal: Journal) -> bool:
    """Whether the list of images that 01 wrote last knows of all that a person changed; true if it wrote none."""
    return (
        not _about(dataset.name).exists()
        or _read_about(dataset.name)["journal_state"] == journal.fingerprint()
    )


def known(name: str) -> dict[str, Image]:
    """What an earlier look saw, by sha256; empty if nobody looked yet."""
    return {image.sha256: image for image in _read_table(_table(name))} if _table(name).exists() else {}


def _read_about(name: str) -> dict:
    try:
        about = json.loads(_about(name).read_text(encoding="utf-8"))
        return {
            key: about[key]
            for key in ("folder", "other_files", "last_change", "journal_state", "origins", DUPLICATES)
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ImgclfError(f"{_about(name)}: missing or damaged; run 01_prepare_data again") from error


def _read_table(table: Path) -> tuple[Image, ...]:
    try:
        return tuple(
            Image(**{**row, "width": int(row["width"]), "height": int(row["height"])})
            for row in read_table(table)
        )
    except (TypeError, KeyError, ValueError, csv.Error) as error:
        raise ImgclfError(f"{table}: damaged; delete it and run 01_prepare_data again") from error


def write_table(path: Path, rows: list[dict], columns: list[str]) -> None:
    """Write rows as tab-separated values with a header line, whole."""
    lines: list[str] = []
    # Python 3.11 quotes a carriage return in a value only if lines end in one.
    writer = csv.DictWriter(
        SimpleNamespace(write=lines.append), columns, delimiter="\t", lineterminator="\r\n"
    )
    writer.writeheader()
    writer.writerows(rows)
    files.write_text(path, "".join(line.removesuffix("\r\n") + "\n" for line in lines))


def read_table(path: Path) -> list[dict[str, str]]:
    """The rows of a tab-separated file with a header line."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))
