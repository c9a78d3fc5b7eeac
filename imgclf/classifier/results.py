"""The result of each image, as a line of text, a row of a CSV file, JSON, or a copy in its label's folder."""

import csv
import filecmp
import io
import shutil
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imgclf import ImgclfError, files

COLUMNS = ("label", "score", "probability", "image")
UNSURE = "unsure"
# Letters behind these are shown elsewhere in a line.
REORDERING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


@dataclass(frozen=True)
class Labelled:
    """What a classifier says of one image.

    Attributes
    ----------
    label : None if its probability is below `reject_below`.
    score, probability : of the predicted label. scores, probabilities : of all labels.
    """

    label: str | None
    score: float
    probability: float
    scores: dict[str, float]
    probabilities: dict[str, float]

    def as_json(self, path: Path) -> dict[str, Any]:
        """Return plain values: image, label (None if rejected), score, all scores, and all probabilities."""
        return {
            "image": str(path),
            "label": self.label,
            "score": self.score,
            "scores": self.scores,
            "probabilities": self.probabilities,
        }

    def as_line(self, path: Path) -> str:
        """Return the `COLUMNS` separated by tabs; "unsure" as the label if it is rejected."""
        cells = (self.label or UNSURE, f"{self.score:.2f}", f"{self.probability:.0%}", str(path))
        return "\t".join(map(in_one_cell, cells))


@dataclass(frozen=True)
class Refused:
    """An image that cannot be read, here or by the service, and the reason."""

    reason: str


def in_one_cell(text: str) -> str:
    """Return a text with line breaks, tabs, and control characters, which a terminal would obey, escaped."""
    return "".join(
        letter.encode("unicode_escape").decode()
        if unicodedata.category(letter) in ("Cc", "Zl", "Zp") or letter in REORDERING
        else letter
        for letter in text
    )


@contextmanager
def csv_file(path: Path) -> Iterator[Callable[[Path, Labelled], None]]:
    """Write a CSV file with a header, and yield a function that adds the row of an image.

    The file is UTF-8; bytes of a name that are not are escaped, as `\\udcfc`. It appears when the block ends;
    after an error there is none.
    """
    with files.replace_file(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", errors="backslashreplace", newline="")
        writer = csv.writer(text)
        writer.writerow(COLUMNS)
        yield lambda image, found: writer.writerow(
            [found.label or UNSURE, f"{found.score:.6g}", f"{found.probability:.6g}", image]
        )
        text.flush()
        text.detach()


def copy_into(folder: Path, path: Path, label: str | None) -> Path:
    """Copy an image file into the subfolder of its label, or into `unsure`; return the copy.

    No file is overwritten: where another file has the name, the copy is called `NAME-2`, `NAME-3` and so on.
    A copy that an earlier call made is left as it is.

    Raises
    ------
    ImgclfError : the label cannot name a subfolder, the subfolder is a link out of `folder`, or the copy
        cannot be written.
    """
    name = label or UNSURE
    if name in (".", "..") or set(name) & set("/\\\0"):
        raise ImgclfError(f"{folder}: the label {name!r} cannot name a folder; rename the label, train again")
    subfolder = folder / name
    with files.writable(subfolder, remedy="name another folder"):
        subfolder.mkdir(parents=True, exist_ok=True)
        if subfolder.resolve().parent != folder.resolve():
            raise ImgclfError(f"{subfolder}: is a link to another folder; remove it, or name another folder")
        copy, number = subfolder / path.name, 1
        while True:
            try:
                return _copy(path, copy)
            except FileExistsError:
                if not copy.is_symlink() and filecmp.cmp(path, copy, shallow=False):
                    return copy
            number += 1
            copy = subfolder / f"{path.stem}-{number}{path.suffix}"


def _copy(path: Path, copy: Path) -> Path:
    """Copy content and times of a file to a new one, which must not exist."""
    with path.open("rb") as source, copy.open("xb") as target:
        try:
            shutil.copyfileobj(source, target)
        except BaseException:
            copy.unlink()
            raise
    shutil.copystat(path, copy)
    return copy
