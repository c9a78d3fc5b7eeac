"""`dedicatedTestImages.tsv`: the images of a folder that must test, whatever the split would do."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from imgclf import ImgclfError, fetch, files
from imgclf.manifest import Entry, with_names

NAMES = ("dedicatedTestImages.tsv", "dedicated_test.tsv")  # the tutorial's name, and ours


def read(folder: Path) -> set[str]:
    """The dedicated test images of a data set, as `label/file` in lower case; empty if there is no list.

    Each line is `LABEL<TAB>FILE`, as the tutorial had it, or `LABEL/FILE`.

    Raises
    ------
    ImgclfError : a line has neither form, or the list is not UTF-8.
    """
    path = next((folder / name for name in NAMES if (folder / name).exists()), None)
    if path is None:
        return set()
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ImgclfError(f"{path}: not UTF-8 text; save it as UTF-8") from error
    listed = set()
    for number, line in enumerate(lines, start=1):
        entry = line.strip().replace("\t", "/").replace("\\", "/").lower()
        if entry and entry.count("/") < 1:
            raise ImgclfError(f"{path}, line {number}: '{line}' is not LABEL<TAB>FILE or LABEL/FILE; mend the line")
        listed.add(entry)
    return listed - {""}


def write(entries: Iterable[Entry], folder: Path) -> str:
    """Write the manifest's test images that are there into `folder/dedicatedTestImages.tsv`.

    A list that a person wrote or changed is left as it is. `proc/NAME/` keeps the hash of the list
    written last, to tell.

    Returns
    -------
    One sentence about what was done; "" if the manifest names no test images, or none is there.
    """
    test = [entry for entry in with_names(entries) if entry.split == "test"]
    there = fetch.stored(folder, {entry.label for entry in test})
    lines = [f"{entry.label}\t{there[fetch.key(entry)]}\n" for entry in test if fetch.key(entry) in there]
    if not lines:
        return ""
    path, note = folder / NAMES[0], files.proc_dir(folder.name) / f"{NAMES[0]}.sha256"
    old, new = files.text(path), "".join(lines)
    is_own = not path.exists() or old == new or _sha256(old) == files.text(note).strip()
    if not is_own or (folder / NAMES[1]).exists():
        return (f"the list of test images in {folder.name} is not the one that imgclf wrote, so it is left as it is; "
                "delete it to have it written anew")
    if old != new:
        files.write_text(path, new)
    if files.text(note).strip() != _sha256(new):
        files.write_text(note, _sha256(new) + "\n")
    return f"{NAMES[0]} lists {len(lines)} of the manifest's {len(test)} test images"


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
