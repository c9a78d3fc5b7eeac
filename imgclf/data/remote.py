"""Remote data sets: the folder of pointers follows what is at the URL, and labels are written there.

What a person changes is in the journal of the folder of pointers, as for any data set. Since nothing is moved
in a store, a manifest beside the images, `imgclf_labels.tsv`, holds the labels that differ from the folders,
and what is excluded. Other machines read it. Changes of both sides are merged, image by image; if both
changed the same image, the label of this machine stays.
"""

import csv
import io
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import astuple, dataclass, fields
from pathlib import Path, PurePosixPath

from imgclf import ImgclfError, files
from imgclf.data import changes, confinement, folders, layout, test_list
from imgclf.data.changes import Step
from imgclf.data.journal import Journal
from imgclf.data.label_names import label_fault
from imgclf.data.labels import NO_LABELS, UNLABELLED
from imgclf.data.layout import Layout
from imgclf.images import pointers, stores
from imgclf.images.loading import in_parallel, reading_threads
from imgclf.images.pointers import Pointer
from imgclf.images.stores import Object

MANIFEST = "imgclf_labels.tsv"  # at the URL
KNOWN = ".imgclf_labels.tsv"  # the manifest as it was read or written last, in the folder of pointers
EXCLUDED = "excluded"  # in the column of that name
FRESH_SECONDS = 60

_listed: dict[Path, float] = {}  # when this process listed what is at a URL for the last time


@dataclass(frozen=True)
class Row:
    """A line of the manifest: what a person says of an image.

    Attributes
    ----------
    path : of the object, below the URL.
    excluded : "excluded", or "".
    sha256, version : of the content that the person saw; the version is "" if it is not known.
    """

    path: str
    label: str
    excluded: str
    sha256: str
    version: str


Rows = dict[str, Row]


def follow(folder: Path, *, seconds: float = FRESH_SECONDS) -> None:
    """Let a folder of pointers follow what is at its URL, and merge the labels; nothing for other folders.

    Parameters
    ----------
    seconds : if this process has done so within this time, nothing is done.

    Raises
    ------
    ImgclfError : nothing is at the URL, and the pointers stay as they are; or the store does not answer, and
        the next call goes on.
    """
    url = pointers.url_of(folder)
    if not url or time.monotonic() - _listed.get(folder, float("-inf")) < seconds:
        return
    objects = _usable(url, stores.find(url))
    theirs = _parsed(stores.read(url, MANIFEST), f"{url}/{MANIFEST}") if MANIFEST in objects else {}
    with files.writable(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for name in test_list.NAMES:
        _follow_list(url, folder / name, name in objects)
    images = {key: found for key, found in objects.items() if key not in (MANIFEST, *test_list.NAMES)}
    journal = Journal(folder)
    with journal.hold():
        _follow_objects(url, folder, images, journal, theirs)
        _apply(folder, journal, _merged(_known(folder), _rows(folder, journal), theirs))
    _publish(url, folder, _rows(folder, journal), theirs)
    _listed[folder] = time.monotonic()


def forget(folder: Path) -> None:
    """Let the next `follow` list what is at the URL again, in any case."""
    _listed.pop(folder, None)


def unpublished(folder: Path) -> str:
    """Return a sentence if labels could not be written to the URL; else an empty text."""
    url = pointers.url_of(folder)
    ours, known = (_rows(folder, Journal(folder)), _known(folder)) if url else ({}, {})
    differing = [key for key in ours.keys() | known.keys() if _said(ours.get(key)) != _said(known.get(key))]
    return (
        f"CAREFUL: the labels of {len(differing):,} images are on this machine only, since {url}/{MANIFEST} "
        f"could not be written; give write access there and run this again, or keep {folder}"
        if differing
        else ""
    )


def _usable(url: str, objects: Mapping[str, Object]) -> dict[str, Object]:
    """Return the objects, without those that are left out in a folder, too: of systems, and hidden ones.

    Raises
    ------
    ImgclfError : a key cannot be the path of a file beside the others.
    """
    usable = {key: o for key, o in objects.items() if not any(map(folders.is_system, key.split("/")[:-1]))}
    usable = {key: o for key, o in usable.items() if not folders.is_system(key.rpartition("/")[2])}
    for key in usable:
        above = [above.as_posix() for above in PurePosixPath(key).parents]
        if not confinement.is_plain(key) or any(name in usable for name in above):
            raise ImgclfError(
                f"{url}/{key}: cannot be the path of a file beside the others; rename the object"
            )
    return usable


def _follow_list(url: str, path: Path, is_there: bool) -> None:
    """Copy a list of dedicated test images, or delete the copy of one that is gone."""
    if not is_there:
        path.unlink(missing_ok=True)
    elif (content := stores.read(url, path.name)) != (path.read_bytes() if path.exists() else None):
        with files.replace_file(path) as file:
            file.write(content)


def _follow_objects(
    url: str, folder: Path, objects: Mapping[str, Object], journal: Journal, theirs: Rows
) -> None:
    """Add, renew and delete pointers, such that there is one for each object; call it within `hold`.

    The start of an object without a suffix is read here, by many threads, and stays known until the object
    changes: what asks later whether it is an image does so one by one, several times in each run.
    """
    present = {found.key: (path, found) for path, found in _pointers(folder)}
    for key, (path, _) in present.items():
        if key not in objects:
            _delete(folder, path)
    now = {origin: path for path, origin in journal.origins().items()}
    renewed = [
        pointer
        for key, listed in objects.items()
        if (pointer := _renewed(Pointer(url, key, listed), present[key][1] if key in present else None))
    ]
    for pointer in in_parallel(_with_start, renewed, threads=reading_threads(folder)):
        key = pointer.key
        pointer.write(
            present[key][0] if key in present else _free_path(folder, now.get(key, key), key in theirs)
        )


def _renewed(listed: Pointer, found: Pointer | None) -> Pointer | None:
    """Return the pointer to write, if the one that was found does not say of its object what it should."""
    if not found or found.listed != listed.listed:
        return listed
    return found if _lacks_start(found) else None


def _with_start(pointer: Pointer) -> Pointer:
    return pointer.with_start() if _lacks_start(pointer) else pointer


def _lacks_start(pointer: Pointer) -> bool:
    return pointer.start is None and not PurePosixPath(pointer.key).suffix


def _pointers(folder: Path) -> Iterator[tuple[Path, Pointer]]:
    """Yield the pointers below a folder, with their paths."""
    for here, _, names in os.walk(folder):
        for path in (Path(here, name) for name in names if not name.startswith(".")):
            try:
                found = pointers.pointer(path)
            except ImgclfError:  # damaged
                path.unlink()
                continue
            if found:
                yield path, found


def _free_path(folder: Path, path: str, has_label: bool) -> Path:
    """Return where the pointer to a new object goes: to `path`, or a free name beside it."""
    if has_label and "/" not in path:
        path = f"{UNLABELLED}/{path}"  # an image in no label folder, to which the manifest gives a label
    if os.path.lexists(folder / path) and (folder / path).stat().st_size:
        path = changes.with_free_names(folder, [Step("relabel", "", path)])[0].to
    return folder / path


def _delete(folder: Path, path: Path) -> None:
    """Delete a pointer, and the folders that are empty then: a store has none."""
    path.unlink()
    for above in path.relative_to(folder).parents[:-1]:
        with suppress(OSError):  # it is not empty
            (folder / above).rmdir()


def _rows(folder: Path, journal: Journal) -> Rows:
    """Return what the journal says of images, where that differs from the folders that they are in."""
    if not journal.history:
        return {}
    found, excluded = layout.find(folder), journal.excluded()
    rows = {}
    for path, steps in journal.history.items():
        if (pointer := pointers.pointer(folder / path)) is None:
            continue
        key, label, mark = pointer.key, found.label_of(path), EXCLUDED if path in excluded else ""
        if mark or _label_in_store(found, key) != label:
            sha256 = steps[-1].sha256
            version = pointer.listed.version if pointer.sha256 == sha256 else ""
            rows[key] = Row(key, label, mark, sha256, version)
    return rows


def _label_in_store(found: Layout, key: str) -> str:
    return found.label_of(key) if found.is_in_label(key) else UNLABELLED


def _merged(known: Rows, ours: Rows, theirs: Rows) -> dict[str, Row | None]:
    """Return the images that others changed and this machine did not, with what they say; None: nothing."""
    return {
        key: theirs.get(key)
        for key in theirs.keys() | known.keys()
        if _said(theirs.get(key)) != _said(known.get(key)) == _said(ours.get(key))
    }


def _said(row: Row | None) -> tuple[str, str] | None:
    return (row.label, row.excluded) if row else None


def _apply(folder: Path, journal: Journal, changed: Mapping[str, Row | None]) -> None:
    """Carry out what others say of images, as one change; call it within `hold`."""
    if not changed:
        return
    found, excluded = layout.find(folder), journal.excluded()
    steps = []
    for path, pointer in _pointers(folder):
        row = changed.get(pointer.key)
        if pointer.key not in changed or (row and not _is_seen(path, pointer, row)):
            continue  # another content is there now
        name, sha256 = path.relative_to(folder).as_posix(), pointers.sha256(path)
        action = "exclude" if row and row.excluded else "include"
        if (action == "exclude") != (name in excluded):
            steps.append(Step(action, name, sha256=sha256))
        if (label := row.label if row else _label_in_store(found, pointer.key)) != found.label_of(name):
            steps.append(Step("relabel", name, found.relabelled(name, label), sha256))
    if steps:
        journal.carry_out(steps)


def _is_seen(path: Path, pointer: Pointer, row: Row) -> bool:
    """Whether the content of an object is the one that a row is about; read only if it may be another."""
    if not pointer.sha256 and pointer.listed.version == row.version:
        pointer.remember(path, row.sha256)
    return pointers.sha256(path) == row.sha256


def _publish(url: str, folder: Path, ours: Rows, theirs: Rows) -> None:
    """Write the manifest, if it does not say what the journal does; a store that refuses is no error."""
    try:
        if ours != theirs:
            stores.write(url, MANIFEST, _text(ours.values()))
    except stores.StoreError:  # `unpublished` says so
        ours = theirs
    if ours != _known(folder):
        files.write_text(folder / KNOWN, _text(ours.values()).decode())


def _known(folder: Path) -> Rows:
    return _parsed(files.read_text(folder / KNOWN).encode(), str(folder / KNOWN))


def _text(rows: Iterable[Row]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, delimiter="\t", lineterminator="\n")
    writer.writerow(column.name for column in fields(Row))
    writer.writerows(sorted(map(astuple, rows)))
    return text.getvalue().encode()


def _parsed(content: bytes, name: str) -> Rows:
    """Return the rows of a manifest.

    Raises
    ------
    ImgclfError : it is damaged.
    """
    try:
        rows = list(csv.DictReader(io.StringIO(content.decode("utf-8-sig")), delimiter="\t", strict=True))
        if any(None in row.values() for row in rows):
            raise ValueError("a line has too few cells")
        found = {row.path: row for row in (Row(**each) for each in rows)}
    except (ValueError, csv.Error, TypeError) as error:  # TypeError: other columns
        raise ImgclfError(f"{name}: damaged ({error}); correct or delete it") from error
    for row in found.values():
        fault = "" if row.label in NO_LABELS else label_fault(row.label)
        if fault or row.excluded not in ("", EXCLUDED) or not re.fullmatch("[0-9a-f]{64}", row.sha256):
            raise ImgclfError(f"{name}: the line of {row.path} is damaged; correct or delete it")
    return found
