"""A folder of images: the folder an image lies in is its label."""

import csv
import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from joblib import cpu_count

from imgclf import ImgclfError, duplicates, files, images

UNLABELLED = "unlabelled"


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
class Twins:
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
    twins: tuple[Twins, ...] = ()
    other_files: tuple[str, ...] = ()  # files whose suffix is none of images.SUFFIXES, and images that lie in no label folder

    @property
    def images(self) -> tuple[Image, ...]:
        """The images that later stages use."""
        return tuple(image for image in self.files if not image.excluded)

    @property
    def excluded(self) -> tuple[Image, ...]:
        return tuple(image for image in self.files if image.excluded)

    @property
    def labels(self) -> list[str]:
        """The labels that have images, sorted."""
        return sorted({image.label for image in self.images})

    def file(self, image: Image) -> Path:
        return self.folder / image.path

    def thumbnail(self, path: str, *, side: int = 200) -> np.ndarray:
        """The image at `path`, at most `side` pixels wide and high; (H, W, 3) uint8, RGB."""
        return images.shrink(images.read(self.folder / path, side=side), side)

    def other_files_note(self) -> str:
        """A sentence about files that are not looked at: no images by their suffix, or in no label folder."""
        if not self.other_files:
            return "every file lies in a label folder and has the suffix of an image"
        kinds = Counter(Path(path).suffix.lower() or "no suffix" if "/" in path else "in no label folder" for path in self.other_files)
        counts = ", ".join(f"{count} x {kind}" for kind, count in kinds.most_common(5))
        return f"not looked at: {counts}; images lie in a label folder and end in one of {', '.join(images.SUFFIXES)}"

    def __str__(self) -> str:
        return f"{self.name}: {len(self.images)} images in {len(self.labels)} labels, {len(self.excluded)} left out"


def sample(of: Iterable[Image], *, per_label: int) -> list[Image]:
    """Some images of each label, evenly spaced in the order of their paths."""
    by_label: dict[str, list[Image]] = {}
    for image in sorted(of, key=lambda image: image.path):
        by_label.setdefault(image.label, []).append(image)
    return [some[i * len(some) // count] for some in by_label.values() for count in [min(per_label, len(some))] for i in range(count)]


def fingerprint(of: Iterable[Image]) -> str:
    """A hash of contents and labels: the same for the same images under the same labels, wherever they lie."""
    lines = sorted(f"{image.sha256} {image.label}" for image in of)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def images_folder(dataset_name: str, images_dir: str = "") -> Path:
    """`images_dir` if given, else the data set's folder below `$IMGCLF_DATA/images`."""
    return Path(images_dir).expanduser().absolute() if images_dir else files.data_dir() / "images" / dataset_name


def find_files(folder: Path) -> list[str]:
    """The paths of all files below the label folders of `folder`, sorted; hidden ones and `unlabelled` are left alone.

    Raises
    ------
    ImgclfError : the folder is missing, or has no label folders.
    """
    if not folder.is_dir():
        raise ImgclfError(f"{folder}: no such folder; correct images_dir, or run 00_get_images first")
    try:
        labels = sorted(f.name for f in folder.iterdir() if f.is_dir() and not f.name.startswith(".") and f.name != UNLABELLED)
    except OSError as error:
        raise ImgclfError(f"{folder}: {error.strerror}; make it readable") from error
    if not labels:
        raise ImgclfError(f"{folder}: no label folders in it; put the images of each label into a folder of that name")
    return [path for label in labels for path in sorted(_walk(folder / label, folder))]


def _walk(start: Path, folder: Path) -> Iterator[str]:
    top = Path(os.path.realpath(folder))
    seen = {str(above) for above in (top, *top.parents)}  # real paths: a link back to one of these would never end
    for here, below, names in os.walk(start, followlinks=True, onerror=_refuse_folder):
        real = os.path.realpath(here)
        if real in seen:
            below.clear()
            continue
        seen.add(real)
        below[:] = sorted(name for name in below if not name.startswith("."))
        yield from ((Path(here) / name).relative_to(folder).as_posix() for name in names if not name.startswith("."))


def _refuse_folder(error: OSError) -> None:
    raise ImgclfError(f"{error.filename}: {error.strerror}; make it readable, or move it out of the label folders") from error


def look_through(name: str, folder: Path, *, progress: Callable[[int], None] | None = None) -> Dataset:
    """Look at every image of a folder: is it readable, what is its size, is there a twin.

    Unreadable images and duplicates within a label are marked as excluded, nothing is deleted. Files that an
    earlier look knows by their content are not decoded again.
    """
    paths = find_files(folder)
    known = {image.sha256: image for image in _known(name)}
    named = [path for path in paths if Path(path).suffix.lower() in images.SUFFIXES]
    with ThreadPoolExecutor(cpu_count()) as pool:
        looked = []
        for image in pool.map(lambda path: _look(folder, path, known), named):
            looked.append(image)
            if progress:
                progress(len(looked))
    loose = sorted(path.name for path in folder.iterdir() if path.suffix.lower() in images.SUFFIXES and path.is_file())
    others = (*loose, *(path for path in paths if Path(path).suffix.lower() not in images.SUFFIXES))
    return _with_twins(Dataset(name, folder, tuple(looked), other_files=others))


def _known(name: str) -> tuple[Image, ...]:
    return _read_table(_table(name)) if _table(name).exists() else ()


def _look(folder: Path, path: str, known: dict[str, Image]) -> Image:
    label, *groups = path.split("/")[:-1]
    image = Image(path, label, sha256="", dhash="", width=0, height=0, group="/".join(groups))
    if path != _as_text(path):
        return replace(image, path=_as_text(path), label=_as_text(label), group=_as_text(image.group), excluded="the name is not UTF-8; rename it")
    try:
        encoded = images.read_bytes(folder / path)
        image = replace(image, sha256=hashlib.sha256(encoded).hexdigest())
        if twin := known.get(image.sha256):
            unreadable = twin.excluded if not twin.width else ""
            return replace(image, dhash=twin.dhash, width=twin.width, height=twin.height, excluded=unreadable)
        pixels = images.decode(encoded, Path(path).name)
    except ImgclfError as error:
        return replace(image, excluded=str(error).rpartition(": ")[2])
    return replace(image, dhash=duplicates.dhash(pixels), width=pixels.shape[1], height=pixels.shape[0])


def _as_text(name: str) -> str:
    """A file name with the bytes that are not UTF-8, which no text file can hold, as question marks."""
    return name.encode(errors="replace").decode()


def _with_twins(dataset: Dataset) -> Dataset:
    """The data set with duplicates found: within a label all but the largest are left out."""
    seen = sorted(dataset.images, key=lambda image: (-image.width * image.height, image.path))
    same: dict[str, dict[str, int]] = {}  # for each content the first image of each label
    pairs = []
    for i, image in enumerate(seen):
        firsts = same.setdefault(image.sha256, {})
        if firsts:
            pairs.append((firsts.get(image.label, next(iter(firsts.values()))), i))
        firsts.setdefault(image.label, i)
    contents = [list(firsts.values()) for firsts in same.values()]
    near = duplicates.near_duplicates([seen[firsts[0]].dhash for firsts in contents],
                                      lambda k: duplicates.glance(images.read(dataset.file(seen[contents[k][0]]))))
    pairs += [(min(i, j), max(i, j)) for one, other in near for i in contents[one] for j in contents[other]]
    twins = tuple(Twins(seen[i], seen[j]) for i, j in sorted(pairs))
    left_out: dict[str, str] = {}
    for twin in twins:
        if not twin.disagree and twin.kept.path not in left_out:
            left_out.setdefault(twin.other.path, f"{'' if twin.is_exact else 'near-'}duplicate of {twin.kept.path}")
    marked = tuple(replace(i, excluded=left_out[i.path]) if i.path in left_out else i for i in dataset.files)
    return replace(dataset, files=marked, twins=twins)


def check(dataset: Dataset) -> None:
    """Refuse a data set that no classifier can be learned from.

    Raises
    ------
    ImgclfError : no readable image, or fewer than two labels with images.
    """
    if not dataset.images:
        reasons = Counter(image.excluded for image in dataset.excluded).most_common(3)
        why = "; ".join(f"{count} x {reason}" for reason, count in reasons) or "no image files in it"
        raise ImgclfError(f"{dataset.folder}: no usable images ({why}); put the images of each label into a folder of that name")
    if len(dataset.labels) < 2:
        raise ImgclfError(f"{dataset.folder}: only the label '{dataset.labels[0]}' has images; add a folder for at least one more label")


def _table(name: str) -> Path:
    return files.proc_dir(name) / "images.tsv"


def _about(name: str) -> Path:
    return files.proc_dir(name) / "images.json"


def write(dataset: Dataset) -> Path:
    """Write `images.tsv` of a data set, one line an image, all columns of `Image`, and beside it `images.json`, which
    tells the folder of the images; gives the path of the table."""
    rows = [asdict(image) for image in dataset.files]
    write_table(_table(dataset.name), rows, [field.name for field in fields(Image)])
    files.write_json(_about(dataset.name), {"folder": files.shown(dataset.folder, whole=True), "other_files": dataset.other_files})
    return _table(dataset.name)


def read(name: str, images_dir: str = "") -> Dataset:
    """The data set that `write` wrote, in the folder that was looked through.

    Raises
    ------
    ImgclfError : `images.tsv` is not there yet, or damaged, or is of another folder than `images_dir`.
    """
    if not _table(name).exists():
        raise ImgclfError(f"no list of the images of {name} yet ({_table(name)}); run 01_prepare_data first")
    about = _read_about(name)
    folder = files.data_dir() / about["folder"]
    if images_dir and images_folder(name, images_dir) != folder:
        raise ImgclfError(f"images_dir={images_dir}: {name} was looked through in {folder}; run 01_prepare_data again with this images_dir")
    return Dataset(name, folder, _read_table(_table(name)), other_files=tuple(about["other_files"]))


def _read_about(name: str) -> dict:
    try:
        about = json.loads(_about(name).read_text(encoding="utf-8"))
        return {"folder": about["folder"], "other_files": about["other_files"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ImgclfError(f"{_about(name)}: missing or damaged; run 01_prepare_data again") from error


def _read_table(table: Path) -> tuple[Image, ...]:
    try:
        return tuple(Image(**{**row, "width": int(row["width"]), "height": int(row["height"])}) for row in read_table(table))
    except (TypeError, KeyError, ValueError, csv.Error) as error:
        raise ImgclfError(f"{table}: damaged; delete it and run 01_prepare_data again") from error


def write_table(path: Path, rows: list[dict], columns: list[str]) -> None:
    """Write rows as tab-separated values with a header line, whole."""
    lines: list[str] = []
    # Python 3.11 quotes a carriage return in a value only if lines end in one.
    writer = csv.DictWriter(SimpleNamespace(write=lines.append), columns, delimiter="\t", lineterminator="\r\n")
    writer.writeheader()
    writer.writerows(rows)
    files.write_text(path, "".join(line.removesuffix("\r\n") + "\n" for line in lines))


def read_table(path: Path) -> list[dict[str, str]]:
    """The rows of a tab-separated file with a header line."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))
