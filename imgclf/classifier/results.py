"""The result of each image, as a line of text, a row of a CSV file, JSON, or a copy in its label's folder."""

import csv
import filecmp
import io
import shutil
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from imgclf import ImgclfError, files
from imgclf.data.labels import in_words

COLUMNS = ("label", "score", "probability", "familiarity", "image")
UNSURE, UNFAMILIAR = "unsure", "unfamiliar"
# Letters behind these are shown elsewhere in a line.
REORDERING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


@dataclass(frozen=True)
class Labelled:
    """What a classifier says of one image.

    Attributes
    ----------
    label : None if it is rejected.
    score, probability : of the predicted label. scores, probabilities : of all labels.
    familiarity : 0 to 1, see `familiarity.Familiarity`; None with classifiers of older versions.
    reason : why the label is rejected, `UNFAMILIAR` or `UNSURE`; else None.
    """

    label: str | None
    score: float
    probability: float
    scores: dict[str, float]
    probabilities: dict[str, float]
    familiarity: float | None = None
    reason: str | None = None

    @property
    def name(self) -> str:
        """The label, or why it is rejected."""
        return self.label or self.reason or UNSURE

    def as_json(self, path: Path) -> dict[str, Any]:
        """Return plain values: the attributes, and the path as `image`."""
        return {
            "image": str(path),
            "label": self.label,
            "reason": self.reason,
            "familiarity": self.familiarity,
            "score": self.score,
            "scores": self.scores,
            "probabilities": self.probabilities,
        }

    def as_line(self, path: Path) -> str:
        """Return the `COLUMNS` separated by tabs; the reason as the label if it is rejected."""
        familiarity = "" if self.familiarity is None else f"{self.familiarity:.2f}"
        cells = (in_words(self.name), f"{self.score:.2f}", f"{self.probability:.0%}", familiarity, str(path))
        return "\t".join(map(in_one_cell, cells))


def reason(
    probability: float, familiarity: float | None, *, reject_below: float, familiar_from: float | None
) -> str | None:
    """Return why an image gets no label; None if it gets one.

    Parameters
    ----------
    reject_below : smallest probability of a label that is not rejected.
    familiar_from : smallest familiarity of an image that is not rejected; None: of any.
    """
    if familiar_from is not None and familiarity is not None and familiarity < familiar_from:
        return UNFAMILIAR
    return UNSURE if probability < reject_below else None


def labelled(
    labels: Sequence[str],
    scores: np.ndarray,
    probabilities: np.ndarray,
    familiarity: float | None,
    *,
    reject_below: float,
    familiar_from: float | None,
) -> Labelled:
    """Return the result of one image; `reason` says for the last two arguments what they reject.

    Parameters
    ----------
    scores, probabilities : (k,) float32 in the order of `labels`.
    """
    best = int(scores.argmax())
    probability = float(probabilities[best])
    rejected = reason(probability, familiarity, reject_below=reject_below, familiar_from=familiar_from)
    return Labelled(
        None if rejected else labels[best],
        float(scores[best]),
        probability,
        dict(zip(labels, scores.tolist(), strict=True)),
        dict(zip(labels, probabilities.tolist(), strict=True)),
        familiarity,
        rejected,
    )


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
            [found.name, f"{found.score:.6g}", f"{found.probability:.6g}", _digits(found.familiarity), image]
        )
        text.flush()
        text.detach()


def _digits(number: float | None) -> str:
    return "" if number is None else f"{number:.6g}"


def copy_into(folder: Path, path: Path, name: str) -> Path:
    """Copy an image file into the subfolder of its label, or of why it has none; return the copy.

    No file is overwritten: where another file has the name, the copy is called `NAME-2`, `NAME-3` and so on.
    A copy that an earlier call made is left as it is.

    Raises
    ------
    ImgclfError : the label cannot name a subfolder, the subfolder is a link out of `folder`, or the copy
        cannot be written.
    """
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
