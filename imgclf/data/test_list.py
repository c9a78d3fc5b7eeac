"""`dedicatedTestImages.tsv`: the images of a folder that are in the test set, whatever the split would do."""

import hashlib
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path

from imgclf import ImgclfError, files

NAMES = ("dedicatedTestImages.tsv", "dedicated_test.tsv")  # the tutorial's name, and ours


def _plain(name: str) -> str:
    return name


def _normalized(name: str) -> str:
    """Return a name with slashes, and with its accents composed: in a Mac's file names they are apart."""
    return unicodedata.normalize("NFC", name.replace("\\", "/"))


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", _normalized(name).casefold())


LEVELS: tuple[Callable[[str], str], ...] = (
    _plain,
    _normalized,
    _folded,
)  # the first that finds a name decides


def find(listed: Iterable[str], names: Collection[str]) -> tuple[set[str], list[str]]:
    """Return which names a list means: those that are equal, else those that differ in case or normal form.

    Returns
    -------
    The names that were found, and the sorted entries for which there is none, or for which several names
    differ from the entry in case alone.
    """
    found, not_found = set(), []
    by_key: list[dict[str, set[str]]] = [defaultdict(set) for _ in LEVELS]
    for key, same in zip(LEVELS, by_key, strict=True):
        for name in names:
            same[key(name)].add(name)
    for entry in listed:
        means = next(
            (same[key(entry)] for key, same in zip(LEVELS, by_key, strict=True) if key(entry) in same), set()
        )
        if len(means) == 1:
            found |= means
        else:
            several = f" (it may mean {' or '.join(sorted(means))})" if means else ""
            not_found.append(entry + several)
    return found, sorted(not_found)


def _file(folder: Path) -> Path | None:
    """Return the path of a data set's list; None without one.

    Raises
    ------
    ImgclfError : there are two lists, and they differ.
    """
    found = [path for name in NAMES if (path := folder / name).exists()]
    if len(found) > 1 and len({files.read_bytes(path) for path in found}) > 1:
        raise ImgclfError(f"{folder}: {' and '.join(NAMES)} differ; keep one of them")
    return found[0] if found else None


def sha256(folder: Path) -> str:
    """Return the sha256 of a data set's list; "none" without one."""
    path = _file(folder)
    return hashlib.sha256(files.read_bytes(path)).hexdigest() if path else "none"


def read(folder: Path) -> set[str]:
    """Return the dedicated test images of a data set, as `label/file`; empty without a list.

    Each line is `LABEL<TAB>FILE`, as in the tutorial, or `LABEL/FILE`.

    Raises
    ------
    ImgclfError : a line has neither form, the list is not UTF-8, or there are two that differ.
    """
    path = _file(folder)
    if path is None:
        return set()
    try:
        lines = files.read_bytes(path).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ImgclfError(f"{path}: not UTF-8 text; save it as UTF-8") from error
    listed = set()
    for number, line in enumerate(lines, start=1):
        entry = line.strip().replace("\t", "/")
        if entry and "/" not in entry and "\\" not in entry:
            raise ImgclfError(
                f"{path}, line {number}: '{line}' is not LABEL<TAB>FILE or LABEL/FILE; correct the line"
            )
        listed.add(entry)
    return listed - {""}


def write(folder: Path, images: Sequence[tuple[str, str]]) -> str:
    """Write test images, each a label and a file name, into `folder/dedicatedTestImages.tsv`.

    A list that a person wrote or changed is not overwritten; it is recognized by the hash of the list written
    last, which `proc/NAME/` keeps.

    Returns
    -------
    "" if the list is written; else a sentence that says why not.
    """
    path, note = folder / NAMES[0], files.proc_dir(folder.name) / f"{NAMES[0]}.sha256"
    old, new = files.read_text(path), "".join(f"{label}\t{name}\n" for label, name in images)
    is_own = not path.exists() or old == new or _sha256(old) == files.read_text(note).strip()
    if not is_own or (folder / NAMES[1]).exists():
        return (
            f"the list of test images in {folder.name} was written or changed by hand, so it is kept; "
            "delete it to have it written again"
        )
    if old != new:
        files.write_text(path, new)
    if files.read_text(note).strip() != _sha256(new):
        files.write_text(note, _sha256(new) + "\n")
    return ""


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
