"""Manifests: lists of images to fetch, with label, source URL and checksum."""

import random
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from posixpath import splitext
from urllib.parse import unquote, urlsplit

from imgclf import ImgclfError, files
from imgclf.data import folders
from imgclf.data.confinement import is_plain
from imgclf.data.label_names import RESERVED, label_fault
from imgclf.data.labels import UNLABELLED
from imgclf.images.decoding import SUFFIXES

FOLDER = "data_manifest"
MANIFESTS = files.shipped(FOLDER)
COLUMNS = ("label", "source", "sha256", "bytes", "split")
ORIGIN = ("licence", "author", "title", "page", "query")  # written if an image has one of them
SCHEMES = ("http", "https", "demo", "folder")
SPLITS = ("train", "validation", "test", "")
# File systems allow names of 255 bytes; the rest is for a number, a suffix and the name while writing.
STEM_BYTES = 120
MOST_LETTERS = 500  # of a text such as the author


@dataclass(frozen=True)
class Entry:
    """One image of a manifest."""

    label: str
    source: str  # http://, https://, demo: or folder:
    sha256: str = ""  # 64 hexadecimal digits, or "" if unknown
    bytes: int = 0  # 0 if unknown
    split: str = ""  # train, validation, test, or "" if the manifest does not say
    file_name: str = ""  # without folder; the content decides the suffix of the stored file
    licence: str = ""  # such as "CC BY-SA 4.0"; "" if unknown
    author: str = ""
    title: str = ""
    page: str = ""  # URL of the web page that shows the image
    query: str = ""  # by which a search found it; several are joined by " | "

    @property
    def stem(self) -> str:
        """The file name without its image suffix, if it has one."""
        stem, suffix = splitext(self.file_name)
        return stem if suffix.lower() in SUFFIXES else self.file_name


def own(dataset_name: str) -> Path:
    """Path of a data set's manifest in the data folder, as a search writes it; it may not exist."""
    return files.data_dir() / FOLDER / f"{dataset_name}.tsv"


def find(dataset_name: str) -> Path | None:
    """Path of a data set's manifest, if there is one: its own, or else the one that comes with imgclf."""
    if re.search(r"[/\\\0]", dataset_name):
        return None
    paths = own(dataset_name), MANIFESTS / f"{dataset_name}.tsv"
    return next((path for path in paths if path.is_file()), None)


def entries_of(dataset_name: str, images_dir: str = "") -> list[Entry]:
    """The images to fetch for a data set; none for a folder that is used in place.

    Raises
    ------
    ImgclfError : there is neither a manifest nor a folder of that name.
    """
    path = None if images_dir else find(dataset_name)
    folder = files.data_dir() / "images" / dataset_name
    if not path and not images_dir and not folder.is_dir():
        known = sorted({known.stem for place in (MANIFESTS, own("").parent) for known in place.glob("*.tsv")})
        raise ImgclfError(
            f"dataset_name='{dataset_name}': neither a manifest ({', '.join(known)}) nor a folder {folder}"
            f"{folders.nearest(folder, also=known)}; "
            "correct the name, or make the folder"
        )
    return read(path) if path else []


def one_line(text: str) -> str:
    """`text` as one line without control characters, of at most `MOST_LETTERS` letters."""
    text = text[: 4 * MOST_LETTERS]
    if not text.isprintable():
        text = "".join(letter if letter.isprintable() else " " for letter in text)
    return " ".join(text.split())[:MOST_LETTERS].rstrip()


def read(path: Path) -> list[Entry]:
    """The images of a manifest, in its order.

    A manifest is a TSV file in UTF-8. Its header names the columns: `label`, `source` (or `url`) and,
    optionally, `sha256`, `bytes`, `split`, `file_name`, `licence`, `author`, `title`, `page`, `query`; others
    are ignored. Without a header it has the two columns of the tutorial's list, label and URL, and the
    tutorial's file names, `<k>.jpg`. The label "unlabelled" is that of images without one.

    Raises
    ------
    ImgclfError : the file is missing, empty, not UTF-8, or has invalid lines; the first three are named.
    """
    return _parse(_text(path), path.name)


def write(path: Path, entries: Iterable[Entry]) -> None:
    """Write `entries`, named by `with_names`, as a manifest that `read` returns unchanged.

    Raises
    ------
    ImgclfError : an entry would not survive the round trip; nothing is written.
    """
    entries = with_names(entries)
    derived = with_names(replace(entry, file_name="") for entry in entries)
    has_origin = any(getattr(entry, column) for entry in entries for column in ORIGIN)
    columns = [*COLUMNS, *([] if entries == derived else ["file_name"]), *(ORIGIN if has_origin else ())]
    rows = [[str(getattr(entry, column) or "") for column in columns] for entry in entries]
    text = "".join("\t".join(row) + "\n" for row in [columns, *rows])
    changed = [old for old, new in zip(entries, _parse(text, path.name), strict=True) if old != new]
    if changed:
        raise ImgclfError(
            f"cannot write {path.name}: {changed[0]} would be read back as another entry; "
            "remove whitespace around its values and write its sha256 and split in lower case"
        )
    files.write_text(path, text)


def with_names(entries: Iterable[Entry]) -> list[Entry]:
    """The entries, each with a file name: its own, or the last path segment of its source.

    Within a label, names are unique without suffix and regardless of case: the later in the list gets a
    number, so that appended lines rename nothing.
    """
    entries = list(entries)
    taken = {_file_key(entry) for entry in entries if entry.file_name}
    numbers: dict[tuple[str, str], int] = {}
    return [entry if entry.file_name else _named(entry, taken, numbers) for entry in entries]


def _file_key(entry: Entry) -> tuple[str, str]:
    """Must be unique for each file, also on file systems that are not case-sensitive."""
    return entry.label.casefold(), entry.stem.casefold()


def _named(entry: Entry, taken: set[tuple[str, str]], numbers: dict[tuple[str, str], int]) -> Entry:
    first = named = replace(entry, file_name=_safe_name(_last_segment(entry.source)))
    suffix = first.file_name.removeprefix(first.stem)
    while _file_key(named) in taken:
        number = numbers[_file_key(first)] = numbers.get(_file_key(first), 1) + 1
        named = replace(entry, file_name=f"{first.stem}-{number}{suffix}")
    taken.add(_file_key(named))
    return named


def _last_segment(source: str) -> str:
    """The last path segment of a source, percent-decoded."""
    parts = urlsplit(source)
    path = parts.path.rstrip("/") or (parts.netloc if parts.scheme == "demo" else "")
    return unquote(path.rpartition("/")[2])


def _safe_name(name: str, *, max_bytes: int = STEM_BYTES) -> str:
    """`name` made valid on every file system, its stem at most `max_bytes` long; "image" if that is empty."""
    name = re.sub(r'[<>:"/\\|?*]', "_", unicodedata.normalize("NFC", name))
    if not name.isprintable():
        name = "".join(letter if letter.isprintable() else "_" for letter in name)
    name = name.strip(" .")
    suffix = splitext(name)[1]
    suffix = suffix if suffix.lower() in SUFFIXES else ""
    stem = name.removesuffix(suffix).encode()[:max_bytes].decode(errors="ignore").strip(" .") or "image"
    return ("_" if re.fullmatch(RESERVED, stem, re.IGNORECASE) else "") + stem + suffix


def _text(path: Path) -> str:
    try:
        return files.read_bytes(path).decode("utf-8-sig")  # spreadsheets may write a byte order mark
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ImgclfError(f"{path.name}, line {line}: not UTF-8; save the file as UTF-8 text") from error


def _parse(text: str, name: str) -> list[Entry]:
    # Not splitlines, which also splits at rarer characters such as U+2028.
    rows = [
        (number, line.rstrip("\r").split("\t"))
        for number, line in enumerate(text.split("\n"), 1)
        if line.strip()
    ]
    columns = _columns(rows[0][1]) if rows else []
    body = rows[1:] if columns else rows
    if not body:
        raise ImgclfError(f"{name} lists no images; write a line with label and source for each")
    cells = [(number, _cells(row, columns or ["label", "source"])) for number, row in body]
    _raise_if_any(list(_faults(cells)), name)
    entries = [_entry(row) for _, row in cells]
    return with_names(entries if columns else _tutorial_names(entries))


def _columns(first: list[str]) -> list[str]:
    """The columns of a header line, `url` read as `source`; empty if it is no header line."""
    columns = [cell.strip().lower() for cell in first]
    if "source" not in columns:
        columns = ["source" if column == "url" else column for column in columns]
    return columns if {"label", "source"} <= set(columns) else []


def _cells(row: list[str], columns: list[str]) -> dict[str, str]:
    if len(row) != len(columns):
        return {
            "fault": f"{len(row)} columns instead of {len(columns)} ({', '.join(columns)}); "
            "put exactly one tab between two columns"
        }
    # Whitespace around a label is a typing error to report; elsewhere it means nothing.
    return {
        column: cell if column == "label" else cell.strip() for column, cell in zip(columns, row, strict=True)
    }


def _entry(cells: dict[str, str]) -> Entry:
    return Entry(
        cells["label"],
        cells["source"],
        cells.get("sha256", "").lower(),
        int(cells.get("bytes") or 0),
        cells.get("split", "").lower(),
        cells.get("file_name", ""),
        *(one_line(cells.get(column, "")) for column in ORIGIN),
    )


def _tutorial_names(entries: list[Entry]) -> list[Entry]:
    """The entries named `<k>.jpg`, k the position in the list as the tutorial shuffled it.

    So old file names keep their images.
    """
    order = list(range(len(entries)))
    random.Random(0).shuffle(order)
    return [replace(entries[i], file_name=f"{k}.jpg") for i, k in sorted((i, k) for k, i in enumerate(order))]


def _faults(cells: list[tuple[int, dict[str, str]]]) -> Iterator[tuple[int, str]]:
    """Line number and error of each invalid line."""
    labels: dict[str, str] = {}
    names: set[tuple[str, str]] = set()
    for number, row in cells:
        fault = row.get("fault") or next(_line_faults(row), "") or _conflict(row, labels, names)
        if fault:
            yield number, fault


def _line_faults(cells: dict[str, str]) -> Iterator[str]:
    """Errors of a line by itself, with what to do."""
    label, sha256, split = cells["label"], cells.get("sha256", ""), cells.get("split", "")
    if label != UNLABELLED and (fault := label_fault(label)):
        yield f"label {label!r} {fault}"
    yield from source_faults(cells["source"])
    if not re.fullmatch(r"([0-9a-f]{64})?", sha256, re.IGNORECASE):
        yield f"sha256 {sha256!r} is not 64 hexadecimal digits; correct it or leave it empty"
    if not re.fullmatch(r"[0-9]{0,15}", cells.get("bytes", "")):
        yield f"bytes {cells['bytes']!r} is not a whole number; correct it or leave it empty"
    if split.lower() not in SPLITS:
        yield f"split {split!r} is not one of train, validation, test; correct it or leave it empty"
    file_name = cells.get("file_name", "")
    if file_name and _safe_name(file_name, max_bytes=STEM_BYTES + 30) != file_name:
        yield f"file_name {file_name!r} is not valid on every file system; change it or leave it empty"


def source_faults(source: str) -> Iterator[str]:
    """What is wrong with a source, with what to do; nothing if it is valid."""
    if not source:
        yield "the source is empty; write the URL of the image"
    try:
        parts = urlsplit(source)
    except ValueError:
        yield f"source {source!r} is not a valid URL; correct it"
        return
    if parts.scheme not in SCHEMES:
        yield f"source {source!r} does not begin with http://, https://, demo: or folder:; correct it"
    if parts.scheme in ("http", "https") and not parts.netloc:
        yield f"source {source!r} has no host name; write it after http://"
    if parts.scheme == "folder" and not is_plain(unquote(source.removeprefix("folder:"))):
        yield f"source {source!r} does not stay below its folder; write folder:NAME/NAME.jpg"
    if re.search(r"[\x00-\x1f\x7f]", source):
        yield f"source {source!r} has a control character; remove it"


def _conflict(cells: dict[str, str], labels: dict[str, str], names: set[tuple[str, str]]) -> str:
    """Conflict of a line with the lines before it, which `labels` and `names` record."""
    label, entry = cells["label"], _entry(cells)
    known = labels.setdefault(label.casefold(), label)
    if known != label:
        return (
            f"label {label!r} differs from {known!r} in case only, which is one folder on some systems; "
            "write both alike"
        )
    if entry.file_name and _file_key(entry) in names:
        return f"file_name {entry.file_name!r} is taken within {label!r}; change it or leave it empty"
    names.add(_file_key(entry))
    return ""


def _raise_if_any(faults: list[tuple[int, str]], name: str) -> None:
    if len(faults) == 1:
        raise ImgclfError(f"{name}, line {faults[0][0]}: {faults[0][1]}")
    if faults:
        shown = " / ".join(f"line {number}: {fault}" for number, fault in faults[:3])
        more = f" / and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise ImgclfError(f"{name} has {len(faults)} invalid lines: {shown}{more}")
