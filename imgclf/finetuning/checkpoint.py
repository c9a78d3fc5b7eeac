"""The checkpoint of a training: one file, written atomically, from which a killed run resumes."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from imgclf import files

ABOUT = "about"


def write(path: Path, arrays: dict[str, np.ndarray], *, about: dict[str, Any]) -> None:
    """Write arrays, and plain values that JSON can hold; no pickle inside."""
    files.write_npz(path, {ABOUT: np.array(files.to_json(about)), **arrays})


def read(path: Path, *, fingerprint: str) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
    """Return the arrays and the plain values.

    None if there is no such file, it is damaged, or its `fingerprint` is another one: the training starts
    anew then, since a checkpoint only saves time.
    """
    try:
        arrays = files.read_npz(path)
        about = json.loads(str(arrays.pop(ABOUT)))
        return (arrays, about) if about["fingerprint"] == fingerprint else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
