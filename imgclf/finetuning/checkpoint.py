"""Where a training stands, in one file that is written whole, so that a killed run goes on where it was."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from imgclf import files

ABOUT = "about"


def write(path: Path, arrays: dict[str, np.ndarray], *, about: dict[str, Any]) -> None:
    """Write arrays, and beside them what JSON can hold; no pickle inside."""
    files.write_npz(path, {ABOUT: np.array(files.to_json(about)), **arrays})


def read(path: Path, *, fingerprint: str) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
    """The arrays and what stands beside them; None if there is no such file, it is damaged, or its `fingerprint` is another one."""
    try:
        arrays = files.read_npz(path)
        about = json.loads(str(arrays.pop(ABOUT)))
        return (arrays, about) if about["fingerprint"] == fingerprint else None
    except (OSError, ValueError, KeyError, TypeError):  # it only saves time
        return None
