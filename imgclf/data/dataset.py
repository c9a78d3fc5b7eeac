"""The data set: a folder with one subfolder of images for each label."""

import hashlib
import shutil
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import MISSING, asdict, dataclass, field, fields
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np

from imgclf import ImgclfError, files
from imgclf.data import folders, remote, tables
from imgclf.data import layout as layouts
from imgclf.data.journal import Journal
from imgclf.data.labels import NONE, labels_of
from imgclf.data.labels import UNLABELLED as UNLABELLED
from imgclf.data.layout import Layout, doubts, other_things_note
from imgclf.images import decoding, pointers, stores
from imgclf.images import kinds as file_kinds
from imgclf.images.depth import OWN_RANGE
from imgclf.images.pointers import location as location

NUMBERS = {"width": int, "height": int, "shadows": int, "highlights": int, "sharpness": float}  # of `Image`
TABLES = ("images.tsv", "images.json")  # the files of `write`
PARTS = "scan"  # the folder of parts of a scan that has not ended, see `scan_cache`
NO_LABEL = "no label yet"  # the reason why later stages skip them
DUPLICATES = "twins"  # the key of the pairs of duplicates in images.json, as version 0.1.0 wrote it
METADATA_KINDS = {
    "folder": str,
    "other_files": list[str],
    "last_change": int,
    "journal_state": str,
    "origins": dict[str, str],
    "near_duplicates": str,
    "layout": dict[str, list[str]],
    DUPLICATES: list[list[str]],
}
BY_HAND = "excluded by hand"
IMPORT = "import labels from a file: imgclf labels import FILE --add-labels"
COPY = ("duplicate of ", "near-duplicate of ")
AS_NEAR = "as near-duplicates"
NOT_MEASURED = -1  # of an image that cannot be decoded, or that an earlier version scanned
TOGETHER, LEFT_OUT, IGNORED = "together", "left out", "ignored"  # values of the parameter near_duplicates

OF_0_1_0 = {"near_duplicates": LEFT_OUT, "layout": {}}  # what version 0.1.0 did, and did not store


@dataclass(frozen=True)
class Image:
    """One image file, and what the scan found about it."""

    path: str  # below the data set's folder, with forward slashes: LABEL/.../name.jpg
    label: str
    sha256: str  # of the file's content
    dhash: str  # 64 hexadecimal digits
    width: int  # pixels, upright
    height: int
    group: str = ""  # the folders between LABEL and the file
    excluded: str = ""  # the reason why later stages skip it; empty if they use it
    depth: str = ""  # by what its samples were scaled to 8 bits, see `images.depth`; empty if they have 8
    # Of no weight when images are compared: a list of an earlier version has none of them.
    shadows: int = field(default=NOT_MEASURED, compare=False)  # first percentile of the grey levels, 0 to 255
    highlights: int = field(default=NOT_MEASURED, compare=False)  # the 99th
    sharpness: float = field(default=NOT_MEASURED, compare=False)  # see `images.quality`

    @property
    def pixels_key(self) -> str:
        """The sha256 of the content, and by what its samples were scaled: version 0.1.0 scaled otherwise."""
        return f"{self.sha256} {self.depth}".rstrip()


COLUMNS = [each.name for each in fields(Image)]  # of images.tsv
ABSENT = {each.name: repeat(each.default) for each in fields(Image) if each.default is not MISSING}


@dataclass(frozen=True)
class DuplicatePair:
    """Two files that are duplicates or near-duplicates."""

    kept: Image
    other: Image

    @property
    def is_exact(self) -> bool:
        """Whether the two files have the same content."""
        return self.kept.sha256 == self.other.sha256

    @property
    def kind(self) -> str:
        """The kind of the pair: "exact" or "near"."""
        return "exact" if self.is_exact else "near"

    @property
    def disagree(self) -> bool:
        """Whether the two have different labels, so that one of them is wrong."""
        return self.kept.label != self.other.label and UNLABELLED not in (self.kept.label, self.other.label)


@dataclass(frozen=True)
class Dataset:
    """All images of a folder, the excluded ones with their reason.

    Attributes
    ----------
    files : all image files, the excluded ones too.
    other_files : paths of files that are no images by `decoding.is_image`, and of images in no label folder.
    last_change : number of the latest change in the journal at the time of the scan.
    journal_state : the journal's fingerprint at the time of the scan.
    origins : for the path of each relabelled image, its path before.
    near_duplicates : "together": they are used, on one side of the split; "left out": of those within a label
        only the largest is used; "ignored": they were not looked for.
    layout : where the label folders are; without folders in what version 0.1.0 wrote.
    """

    name: str
    folder: Path
    files: tuple[Image, ...]
    duplicates: tuple[DuplicatePair, ...] = ()
    other_files: tuple[str, ...] = ()
    last_change: int = 0
    journal_state: str = ""
    origins: dict[str, str] = field(default_factory=dict)
    near_duplicates: str = TOGETHER
    layout: Layout = field(default_factory=Layout)

    @property
    def images(self) -> tuple[Image, ...]:
        """The images that later stages use."""
        return tuple(image for image in self.files if not image.excluded)

    @property
    def excluded(self) -> tuple[Image, ...]:
        """The images that are excluded for a reason other than a missing label."""
        return tuple(image for image in self.files if image.excluded not in ("", NO_LABEL))

    @property
    def unlabelled(self) -> tuple[Image, ...]:
        """The images without a label."""
        return tuple(image for image in self.files if image.excluded == NO_LABEL)

    @property
    def readable(self) -> tuple[Image, ...]:
        """The images that later stages use, and those without a label."""
        return tuple(image for image in self.files if image.excluded in ("", NO_LABEL))

    @property
    def labels(self) -> list[str]:
        """The labels that have images, sorted."""
        return sorted({label for image in self.images for label in labels_of(image)})

    @property
    def classes(self) -> list[str]:
        """What a classifier learns, sorted: the labels, and `none_of_these` if it has images."""
        return sorted({image.label for image in self.images})

    def labels_note(self) -> str:
        """Return how many labels there are, and images of none of them."""
        count = sum(image.label == NONE for image in self.images)
        none = f", and {count:,} images of none of them" if count else ""
        return f"{len(self.labels):,} label{'' if len(self.labels) == 1 else 's'}{none}"

    def file(self, image: Image) -> Path:
        """Return the path of an image file."""
        return self.folder / image.path

    def thumbnail(self, path: str, *, side: int = 200) -> np.ndarray:
        """Return the image at `path`, at most `side` pixels wide and high; (H, W, 3) uint8, RGB."""
        return decoding.shrink(decoding.read(self.folder / path, side=side), side)

    def other_files_note(self) -> str:
        """Return a sentence about the files that were not scanned: no images, or in no label folder."""
        if not self.other_files:
            return "every file lies in a label folder and is an image by its suffix or content"
        kinds = Counter(
            Path(path).suffix.lower() or "no suffix"
            if self.layout.is_in_label(path)
            else "in no label folder"
            for path in self.other_files
        )
        counts = ", ".join(f"{count} x {file_kinds.named(kind)}" for kind, count in kinds.most_common(5))
        return f"not scanned: {counts}; images lie in a label folder and end in one of {decoding.ENDINGS}"

    def depth_note(self) -> str:
        """Return a sentence about the images of more than 8 bits a channel, and how they were scaled."""
        scaled = Counter(image.depth for image in self.files if image.depth)
        if not scaled:
            return "all images have 8 bits a channel"
        ways = ", ".join(
            f"{count} by their {OWN_RANGE}" if depth == OWN_RANGE else f"{count} from {depth}"
            for depth, count in scaled.most_common()
        )
        return f"{scaled.total()} images have samples of more than 8 bits, and are scaled to 8: {ways}"

    def unusable_labels(self) -> list[str]:
        """Return the labels without a usable image, each with what it has instead: "hat (2 .nef)"."""
        left: dict[str, Counter[str]] = {label: Counter() for label in self.layout.labels}
        for path in self.other_files:
            if self.layout.is_in_label(path):
                left.setdefault(self.layout.label_of(path), Counter())[_suffix(path)] += 1
        for image in self.excluded:
            left.setdefault(image.label, Counter())[_kind(image)] += 1
        return [
            f"{label} ({', '.join(f'{count} {kind}' for kind, count in kinds.most_common()) or 'empty'})"
            for label, kinds in sorted(left.items())
            if label not in (*self.classes, UNLABELLED)
        ]

    def losses(self) -> str:
        """Return a sentence about labels that lose a quarter of their images or more; empty without any.

        Images that a person excluded are no loss.
        """
        used = Counter(image.label for image in self.images)
        lost: dict[str, Counter[str]] = {}
        for image in self.excluded:
            if image.excluded != BY_HAND and image.label in used:
                lost.setdefault(image.label, Counter())[_reason(image)] += 1
        named = [
            f"{kinds.total()} of the {used[label] + kinds.total()} images of {label} "
            f"({', '.join(f'{count} {kind}' for kind, count in kinds.most_common())})"
            for label, kinds in sorted(lost.items())
            if kinds.total() >= used[label] / 3
        ]
        if not named:
            return ""
        is_near = any(AS_NEAR in kinds for kinds in lost.values())
        remedy = "; near_duplicates=together keeps near-duplicates" if is_near else ""
        return f"CAREFUL: left out are {', '.join(named)}{remedy}"

    def disagreements(self) -> str:
        """Return a sentence about exact copies under two labels, of which one is wrong; empty without any."""
        pairs = Counter(
            tuple(sorted((pair.kept.label, pair.other.label)))
            for pair in self.duplicates
            if pair.is_exact and pair.disagree
        )
        named = [f"{count} in {one} and in {other}" for (one, other), count in pairs.most_common(3)]
        rest = [f"{len(pairs) - 3} more pairs of labels"] if len(pairs) > 3 else []
        return (
            f"CAREFUL: the same images are under two labels, of which one is wrong: {', '.join(named + rest)}"
            if named
            else ""
        )

    def cautions(self) -> str:
        """Return sentences about the layout, and labels and images that are not used; empty without any."""
        doubtful = doubts((image.label, image.group) for image in self.images)
        unknown = ", ".join(self.unusable_labels())
        unknown = unknown and f"CAREFUL: the classifier will not know: {unknown}"
        sentences = (
            str(self.layout),
            other_things_note(self.folder, self.layout),
            doubtful,
            self.disagreements(),
            self.losses(),
            unknown,
            remote.unpublished(self.folder),
        )
        return "\n".join(filter(None, sentences))

    def notes(self) -> str:
        """Return sentences about files that were not scanned, and the cautions."""
        return "\n".join(filter(None, [self.other_files_note(), self.cautions()]))

    def __str__(self) -> str:
        text = f"{self.name}: {len(self.images)} images in {self.labels_note()}"
        text += f", {len(self.excluded)} excluded"
        if not self.unlabelled:
            return text
        text += f", {len(self.unlabelled)} unlabelled"
        try:
            check(self)
        except ImgclfError as error:  # a person can still label the images
            return f"{text}\n{str(error).removeprefix(f'{location(self.folder)}: ')}"
        return text


def _suffix(path: str) -> str:
    return Path(path).suffix.lower() or "without suffix"


def _kind(image: Image) -> str:
    """Return what an excluded image is, in a few words: ".jpg", if it cannot be read."""
    return _suffix(image.path) if not image.width else _reason(image)


def _reason(image: Image) -> str:
    """Return why an image is excluded, in a few words."""
    if image.excluded.startswith(COPY):
        return "as copies" if image.excluded.startswith(COPY[0]) else AS_NEAR
    return BY_HAND if image.excluded == BY_HAND else "unreadable"


def fingerprint(images: Iterable[Image]) -> str:
    """Return a hash of contents and labels, which does not depend on paths or order."""
    lines = sorted(f"{image.sha256} {image.label}" for image in images)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def images_folder(dataset_name: str, images_dir: str = "", *, source: str = "images_dir") -> Path:
    """Return `images_dir` if given, for a URL its `pointers.folder`; else that in `$IMGCLF_DATA/images`."""
    if stores.is_url(images_dir):
        return pointers.folder(stores.checked(images_dir, source=source))
    if images_dir:
        return files.absolute(images_dir, source=source)
    return files.data_dir() / "images" / dataset_name


def check(dataset: Dataset, *, labelled: bool = True) -> None:
    """Refuse a data set that no classifier can be trained on.

    Parameters
    ----------
    labelled : if False, unlabelled images are enough, since a person can label them; the text of the data
        set says so.

    Raises
    ------
    ImgclfError : no readable image, or fewer than two labels with images, or than one beside `none_of_these`.
    """
    if dataset.unlabelled and not labelled:
        return
    place = location(dataset.folder)
    others = ", ".join(dataset.unusable_labels())
    if not dataset.images and dataset.unlabelled:
        raise ImgclfError(
            f"{place}: none of the {len(dataset.unlabelled)} images has a label yet; "
            f"label them in 01_prepare_data, or {IMPORT}"
        )
    if not dataset.images:
        reasons = Counter(image.excluded for image in dataset.excluded).most_common(3)
        why = "; ".join(f"{count} x {reason}" for reason, count in reasons) or others or "no files in it"
        raise ImgclfError(
            f"{place}: no usable images ({why}); put the images of each label into a folder of that name"
        )
    if not dataset.labels:
        raise ImgclfError(
            f"{place}: all {len(dataset.images)} images are in {NONE}/, and none has a label"
            f"{f', {others} has none' if others else ''}; add a folder of images for each label"
        )
    if len(dataset.classes) < 2:
        inside = layouts.inner_folder(
            dataset.folder, dataset.layout, [image.path for image in dataset.images]
        )
        remedy = inside or f"add a folder for at least one more label, or {IMPORT}"
        raise ImgclfError(
            f"{place}: only the label '{dataset.labels[0]}' has images"
            f"{f', {others} has none' if others else ''}; {remedy}"
        )


def images_table(name: str, listed_in: Path | None = None) -> Path:
    """Return the path of `images.tsv`."""
    return (listed_in or files.proc_dir(name)) / TABLES[0]


def _metadata(name: str, listed_in: Path | None = None) -> Path:
    return (listed_in or files.proc_dir(name)) / TABLES[1]


def write(dataset: Dataset) -> Path:
    """Write `images.tsv`, one line an image with all fields of `Image`, and `images.json`, everything else.

    Returns
    -------
    The path of `images.tsv`.
    """
    tables.write(images_table(dataset.name), map(vars, dataset.files), COLUMNS)
    files.write_json(
        _metadata(dataset.name),
        {
            "folder": files.display_path(dataset.folder, whole=True),
            "other_files": dataset.other_files,
            "last_change": dataset.last_change,
            "journal_state": dataset.journal_state,
            "origins": dataset.origins,
            "near_duplicates": dataset.near_duplicates,
            "layout": asdict(dataset.layout),
            DUPLICATES: [(pair.kept.path, pair.other.path) for pair in dataset.duplicates],
        },
    )
    shutil.rmtree(files.proc_dir(dataset.name) / PARTS, ignore_errors=True)
    return images_table(dataset.name)


def read(name: str, images_dir: str = "", *, listed_in: Path | None = None) -> Dataset:
    """Return the data set that `write` wrote.

    Parameters
    ----------
    listed_in : the folder of a copy of `TABLES`, as a run has it; labels may have been changed since.

    Raises
    ------
    ImgclfError : `images.tsv` is missing, damaged or edited, or is of another folder than `images_dir`, or
        labels were changed since the scan, or too few images have a label yet.
    """
    table, described = images_table(name, listed_in), _metadata(name, listed_in)
    if not table.exists():
        meant = folders.nearest(files.proc_dir(name))
        raise ImgclfError(f"no list of the images of {name} yet ({table}){meant}; run 01_prepare_data first")
    metadata = _read_metadata(described)
    folder = files.data_dir() / metadata["folder"]
    if images_dir and images_folder(name, images_dir) != folder:
        raise ImgclfError(
            f"images_dir={images_dir}: {name} was scanned in {location(folder)}; "
            "run 01_prepare_data again with this images_dir"
        )
    if not listed_in and folder.is_dir() and Journal(folder).fingerprint() != metadata["journal_state"]:
        raise ImgclfError(
            f"labels of {name} were changed after 01_prepare_data scanned its images; "
            "run 01_prepare_data again"
        )
    images = read_images(table)
    layout = Layout(**{key: tuple(folders) for key, folders in metadata["layout"].items()})
    image = {image.path: image for image in images}
    faults = (layout.fault(i.path, i.label, i.group) for i in images)
    twice = "" if len(image) == len(images) else "an image is in two rows"
    if fault := next(filter(None, faults), twice):
        raise ImgclfError(f"{table}: {fault}; run 01_prepare_data again")
    try:
        pairs = tuple(DuplicatePair(image[kept], image[other]) for kept, other in metadata[DUPLICATES])
    except (KeyError, ValueError, TypeError) as error:
        raise ImgclfError(f"{described}: does not fit images.tsv; run 01_prepare_data again") from error
    found = Dataset(
        name,
        folder,
        images,
        pairs,
        tuple(metadata["other_files"]),
        metadata["last_change"],
        metadata["journal_state"],
        metadata["origins"],
        metadata["near_duplicates"],
        layout,
    )
    if found.unlabelled:
        check(found)
    return found


def scanned_folder(name: str) -> Path | None:
    """Return the folder whose images `images.tsv` lists; None if there is no list, or it is damaged."""
    with suppress(ImgclfError):
        return files.data_dir() / str(_read_metadata(_metadata(name))["folder"])
    return None


def is_current(dataset: Dataset, journal: Journal) -> bool:
    """Whether no label was changed since 01_prepare_data wrote `images.tsv`; true if there is none."""
    return (
        not _metadata(dataset.name).exists()
        or _read_metadata(_metadata(dataset.name))["journal_state"] == journal.fingerprint()
    )


def scanned_images(name: str) -> tuple[Image, ...]:
    """Return the images of the last scan, also if labels were changed since; none without one.

    Raises
    ------
    ImgclfError : `images.tsv` is damaged.
    """
    return read_images(images_table(name)) if images_table(name).exists() else ()


def _read_metadata(path: Path) -> dict[str, Any]:
    try:
        return files.read_json(path, METADATA_KINDS, defaults=OF_0_1_0)
    except (OSError, ValueError) as error:
        raise ImgclfError(f"{path}: missing or damaged; run 01_prepare_data again") from error


def read_images(table: Path) -> tuple[Image, ...]:
    """Return the images that `write` listed.

    Raises
    ------
    ImgclfError : the table is damaged.
    """
    try:
        with tables.without_garbage_collection():
            columns: dict[str, Any] = {**ABSENT, **tables.read_columns(table, allowed=COLUMNS)}
            return tuple(map(Image, *(map(NUMBERS.get(name, str), columns[name]) for name in COLUMNS)))
    except (KeyError, ValueError) as error:
        raise ImgclfError(f"{table}: damaged; delete it and run 01_prepare_data again") from error
