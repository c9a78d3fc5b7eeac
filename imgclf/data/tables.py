"""Tables as tab-separated files with a header line."""

import csv
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from imgclf import files


def write(path: Path, rows: Iterable[dict[str, Any]], columns: list[str]) -> None:
    """Write rows as tab-separated values with a header line; an atomic write."""
    lines: list[str] = []
    # Python 3.11 quotes a carriage return in a value only if lines end in one.
    writer = csv.DictWriter(
        SimpleNamespace(write=lines.append), columns, delimiter="\t", lineterminator="\r\n"
    )
    writer.writeheader()
    writer.writerows(rows)
    files.write_text(path, "".join(line.removesuffix("\r\n") + "\n" for line in lines))


def header(path: Path) -> list[str]:
    """Return the names of the columns of a tab-separated file."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t").fieldnames or ())


def read(path: Path) -> list[dict[str, str]]:
    """Return the rows of a tab-separated file with a header line.

    Raises
    ------
    ValueError : it is no such table, or a row has more or fewer cells than the header.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
    except csv.Error as error:
        raise ValueError(f"{path}: {error}") from error
    if any(None in row or None in row.values() for row in rows):
        raise ValueError(f"{path}: rows differ in the number of cells")
    return rows
