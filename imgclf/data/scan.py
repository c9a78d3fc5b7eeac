"""Scanning a folder of images: which can be read, their sizes, and which are duplicates."""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import numpy as np

from imgclf import ImgclfError
from imgclf.data import copies, dataset, folders, layout, remote, scan_cache
from imgclf.data.dataset import IGNORED, NO_LABEL, TOGETHER, UNLABELLED, Dataset, Image
from imgclf.data.journal import Journal
from imgclf.data.layout import Layout
from imgclf.images import decoding, duplicates, pointers, quality
from imgclf.images.loading import Source, in_parallel, reading_threads
from imgclf.images.stores import StoreError
from imgclf.images.workers import HERE, Workers


def find_files(folder: Path) -> tuple[Layout, list[str]]:
    """Return the layout, and the sorted paths of all files below the label folders and `unlabelled`.

    Hidden files and those of operating systems are left out. Of a folder at a URL, they are the pointers.

    Raises
    ------
    ImgclfError : see `layout.find` and `remote.follow`; a folder cannot be read.
    """
    remote.follow(folder)
    found = layout.find(folder)
    top = Path(os.path.realpath(folder))
    # Real paths: a link back to one of these would never end, or list images twice.
    visited = {str(above) for above in (top, *top.parents)}
    return found, [
        path
        for label in found.folders
        for path in sorted(
            each.relative_to(folder).as_posix()
            for each in folders.walk(folder / label, visited, _refuse_folder)
        )
    ]


def images_state(folder: Path) -> str:
    """Return what `layout.images_state` does, for a folder at a URL of what is there now."""
    remote.follow(folder)
    return layout.images_state(folder)


def count_images(folder: Path) -> int:
    """Return how many images `scan_folder` would scan.

    Raises
    ------
    ImgclfError : see `find_files`.
    """
    return sum(decoding.is_image(folder / path) for path in find_files(folder)[1])


def _refuse_folder(error: OSError) -> None:
    raise ImgclfError(
        f"{error.filename}: {error.strerror}; make it readable, or move it out of the label folders"
    ) from error


def scan_folder(
    name: str,
    folder: Path,
    *,
    near_duplicates: str = TOGETHER,
    workers: Workers = HERE,
    progress: Callable[[int], None] | None = None,
) -> Dataset:
    """Scan all images of a folder: whether they can be read, their sizes, their duplicates.

    Unreadable images, copies within a label, unlabelled images and those that a person excluded are
    marked as excluded; nothing is deleted. Contents that an earlier scan has decoded are not decoded again.
    A relabelling that a killed process left unfinished is completed first.

    Parameters
    ----------
    name : of the data set.
    near_duplicates : see `Dataset`.
    workers : hash and decode the images, see `workers.connected`; by default this process.
    progress : called after each image, with how many have been scanned.

    Raises
    ------
    ImgclfError : see `find_files`.
    """
    remote.follow(folder)  # before the journal is read, to which it may add what others changed
    journal = Journal(folder)
    found, paths = find_files(folder)
    remote.forget(folder)  # the next scan sees what has changed meanwhile
    image_paths = [path for path in paths if decoding.is_image(folder / path)]
    images = _scan_files(name, folder, image_paths, found, workers, progress)
    places = ("", *(f"{name}/" for name in found.sets))
    loose = sorted(f"{place}{name}" for place in places for name in layout.flat_images(folder / place))
    others = (*loose, *sorted(set(paths) - set(image_paths)))
    scanned = Dataset(
        name,
        folder,
        _mark_excluded(images, journal),
        other_files=tuple(map(_as_text, others)),
        last_change=journal.last_change,
        journal_state=journal.fingerprint(),
        origins=journal.origins(),
        near_duplicates=near_duplicates,
        layout=replace(found, folders=tuple(map(_as_text, found.folders))),
    )
    return copies.exclude_duplicates(scanned, _near_duplicates(scanned))


def _scan_files(
    name: str,
    folder: Path,
    paths: list[str],
    found: Layout,
    workers: Workers,
    progress: Callable[[int], None] | None,
) -> list[Image]:
    cache = scan_cache.read(name)
    images, new = [], []
    sources = [Source(folder / path) for path in paths]
    if pointers.url_of(folder):  # this machine reads the objects, so it can as well hash them
        workers = HERE
    for image in workers.stream(partial(_scanned, folder, found), sources, shared=cache):
        images.append(image)
        if image.width and image.sha256 not in cache:
            new.append(image)
        if len(new) == scan_cache.PART_IMAGES:
            scan_cache.add(name, new)
            new = []
        if progress:
            progress(len(images))
    return images


def _mark_excluded(images: list[Image], journal: Journal) -> tuple[Image, ...]:
    """Return the images, with those marked that a person excluded or that have no label.

    An excluded file that was moved by hand is recognized by its content, if no other file has it.
    """
    paths, excluded = {image.path for image in images}, journal.excluded()
    copies = Counter(image.sha256 for image in images)
    moved = {sha256 for path, sha256 in excluded.items() if path not in paths and copies[sha256] == 1}

    def reason(image: Image) -> str:
        if excluded.get(image.path) == image.sha256 or (
            image.sha256 in moved and not journal.verdict(image.path)
        ):
            return dataset.BY_HAND
        return image.excluded or (NO_LABEL if image.label == UNLABELLED else "")

    return tuple(replace(image, excluded=reason(image)) for image in images)


def _scanned(
    folder: Path, found: Layout, cache: Mapping[str, Image], sources: Sequence[Source]
) -> Iterator[Image]:
    return in_parallel(
        lambda source: _scan_file(folder, source, found, cache), sources, threads=reading_threads(folder)
    )


def _scan_file(folder: Path, source: Source, found: Layout, cache: Mapping[str, Image]) -> Image:
    path = source.path.relative_to(folder).as_posix()
    text = _as_text(path)
    image = Image(
        text, found.label_of(text), sha256="", dhash="", width=0, height=0, group=found.group_of(text)
    )
    if path != text:
        return replace(image, excluded="the name is not UTF-8; rename it")
    try:
        pointer = pointers.pointer(source.path)
        if pointer and (cached := cache.get(pointer.sha256)):
            return replace(cached, path=image.path, label=image.label, group=image.group, excluded="")
        with source.content() as encoded:
            image = replace(image, sha256=hashlib.sha256(encoded).hexdigest())
            if pointer:
                pointer.remember(source.path, image.sha256)
            if cached := cache.get(image.sha256):
                return replace(cached, path=image.path, label=image.label, group=image.group, excluded="")
            decoded = decoding.decode_with_size(encoded, Path(path).name, side=quality.SIDE)
    except StoreError:
        raise
    except ImgclfError as error:
        return replace(image, excluded=str(error).rpartition(": ")[2])
    grey = quality.small_grey(decoded.pixels)
    return replace(
        image,
        dhash=duplicates.dhash_of_grey(grey),
        width=decoded.width,
        height=decoded.height,
        depth=decoded.depth,
        **asdict(quality.measure(grey)),
    )


def _signature(path: Path) -> np.ndarray:
    return duplicates.signature(decoding.read(path))


def _as_text(name: str) -> str:
    """Return a file name with question marks for bytes that are not UTF-8, which no text file can hold."""
    return name.encode(errors="replace").decode()


def _near_duplicates(scanned: Dataset) -> set[tuple[str, str]]:
    """Return pairs of near-duplicates, by the sha256 of their contents.

    They are those that connect each cluster, or all if near-duplicates are left out.
    """
    if scanned.near_duplicates == IGNORED:
        return set()
    by_content = {image.sha256: image for image in copies.largest_first(scanned.readable)}
    images = list(by_content.values())
    is_remote = bool(pointers.url_of(scanned.folder))
    known = scan_cache.read_signatures(scanned.name) if is_remote else {}
    compared: dict[str, np.ndarray] = {}

    def signature(k: int) -> np.ndarray:
        sha256 = images[k].sha256
        compared[sha256] = known[sha256] if sha256 in known else _signature(scanned.file(images[k]))
        return compared[sha256]

    pairs = duplicates.near_duplicates(
        [image.dhash for image in images], signature, connecting=scanned.near_duplicates == TOGETHER
    )
    if is_remote and not compared.keys() <= known.keys():
        scan_cache.keep_signatures(scanned.name, compared)
    return {(images[one].sha256, images[other].sha256) for one, other in pairs}
