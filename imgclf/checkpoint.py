"""Where a training stands, in one file that is written whole, so that a killed run goes on where it was."""

import json
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from imgclf import files

ABOUT = "about"
DAMAGE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)


def write(path: Path, arrays: dict[str, np.ndarray], *, about: dict[str, Any]) -> None:
    """Write arrays, and beside them what JSON can hold; no pickle inside."""
    with files.replace_file(path) as file:
        np.savez(file, **{ABOUT: np.array(json.dumps(about))}, **arrays)


def read(path: Path, *, fingerprint: str) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
    """The arrays and what stands beside them; None if there is no such file, it is damaged, or its `fingerprint` is another one."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            arrays = dict(stored)
        about = json.loads(str(arrays.pop(ABOUT)))
        return (arrays, about) if about["fingerprint"] == fingerprint else None
    except DAMAGE:  # it only saves time
        return None
