"""Looking through a folder of images: what is readable, how large, which are copies."""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from joblib import cpu_count

from imgclf import ImgclfError
from imgclf.data import dataset
from imgclf.data.dataset import NO_LABEL, UNLABELLED, Dataset, Image
from imgclf.data.journal import Journal
from imgclf.images import decoding, duplicates


def find_files(folder: Path) -> list[str]:
    """The paths of all files below the label folders of `folder` and below `unlabelled`, sorted; hidden ones are left alone.

    Raises
    ------
    ImgclfError : the folder is missing, or has no label folders.
    """
    if not folder.is_dir():
        raise ImgclfError(f"{folder}: no such folder; correct images_dir, or run 00_get_images first")
    try:
        labels = sorted(f.name for f in folder.iterdir() if f.is_dir() and not f.name.startswith("."))
    except OSError as error:
        raise ImgclfError(f"{folder}: {error.strerror}; make it readable") from error
    if not labels:
        raise ImgclfError(
            f"{folder}: no label folders in it; put the images of each label into a folder of that name"
        )
    top = Path(os.path.realpath(folder))
    seen = {
        str(above) for above in (top, *top.parents)
    }  # real paths: a link back to one of these would never end, or list images twice
    return [path for label in labels for path in sorted(_walk(folder / label, folder, seen))]


def _walk(start: Path, folder: Path, seen: set[str]) -> Iterator[str]:
    for here, below, names in os.walk(start, followlinks=True, onerror=_refuse_folder):
        real = os.path.realpath(here)
        if real in seen:
            below.clear()
            continue
        seen.add(real)
        below[:] = sorted(name for name in below if not name.startswith("."))
        yield from (
            (Path(here) / name).relative_to(folder).as_posix() for name in names if not name.startswith(".")
        )


def _refuse_folder(error: OSError) -> None:
    raise ImgclfError(
        f"{error.filename}: {error.strerror}; make it readable, or move it out of the label folders"
    ) from error


def look_through(name: str, folder: Path, *, progress: Callable[[int], None] | None = None) -> Dataset:
    """Look at every image of a folder: is it readable, what is its size, is there a twin.

    Unreadable images, duplicates within a label, images without a label and those that a person excluded are marked as
    excluded, nothing is deleted. Files that an earlier look knows by their content are not decoded again. What a killed
    process left half relabelled is finished first.
    """
    journal = Journal(folder)
    paths = find_files(folder)
    known = dataset.known(name)
    named = [path for path in paths if Path(path).suffix.lower() in decoding.SUFFIXES]
    with ThreadPoolExecutor(cpu_count()) as pool:
        looked = []
        for image in pool.map(lambda path: _look(folder, path, known), named):
            looked.append(image)
            if progress:
                progress(len(looked))
    loose = sorted(
        path.name for path in folder.iterdir() if path.suffix.lower() in decoding.SUFFIXES and path.is_file()
    )
    others = (*loose, *(path for path in paths if Path(path).suffix.lower() not in decoding.SUFFIXES))
    found = Dataset(
        name,
        folder,
        _marked(looked, journal),
        other_files=tuple(map(_as_text, others)),
        last_change=journal.last_change,
        journal_state=journal.fingerprint(),
        origins=journal.origins(),
    )
    return dataset.with_copies_left_out(found, _near(found))


def _marked(looked: list[Image], journal: Journal) -> tuple[Image, ...]:
    """The images with those marked that a person excluded, and that have no label.

    A file that was moved by hand is known by its content, if no other has it.
    """
    paths, excluded = {image.path for image in looked}, journal.excluded()
    times = Counter(image.sha256 for image in looked)
    moved = {sha256 for path, sha256 in excluded.items() if path not in paths and times[sha256] == 1}

    def reason(image: Image) -> str:
        if excluded.get(image.path) == image.sha256 or (
            image.sha256 in moved and not journal.verdict(image.path)
        ):
            return dataset.BY_HAND
        return image.excluded or (NO_LABEL if image.label == UNLABELLED else "")

    return tuple(replace(image, excluded=reason(image)) for image in looked)


def _look(folder: Path, path: str, known: dict[str, Image]) -> Image:
    label, *groups = path.split("/")[:-1]
    image = Image(path, label, sha256="", dhash="", width=0, height=0, group="/".join(groups))
    if path != _as_text(path):
        return replace(
            image,
            path=_as_text(path),
            label=_as_text(label),
            group=_as_text(image.group),
            excluded="the name is not UTF-8; rename it",
        )
    try:
        encoded = decoding.read_bytes(folder / path)
        image = replace(image, sha256=hashlib.sha256(encoded).hexdigest())
        if (twin := known.get(image.sha256)) and twin.width:
            return replace(image, dhash=twin.dhash, width=twin.width, height=twin.height)
        pixels = decoding.decode(encoded, Path(path).name)
    except ImgclfError as error:
        return replace(image, excluded=str(error).rpartition(": ")[2])
    return replace(image, dhash=duplicates.dhash(pixels), width=pixels.shape[1], height=pixels.shape[0])


def _as_text(name: str) -> str:
    """A file name with the bytes that are not UTF-8, which no text file can hold, as question marks."""
    return name.encode(errors="replace").decode()


def _near(found: Dataset) -> set[tuple[str, str]]:
    """The pairs of contents, by their sha256, that show the same picture."""
    content = {image.sha256: image for image in dataset.largest_first(found.images)}
    images_of = list(content.values())
    pairs = duplicates.near_duplicates(
        [image.dhash for image in images_of],
        lambda k: duplicates.glance(decoding.read(found.file(images_of[k]))),
    )
    return {(images_of[one].sha256, images_of[other].sha256) for one, other in pairs}
