"""Storage of many classifiers on few networks: each as a small rest, and the weights of its network once.

`classifier.json` says how a `classifier.onnx` is put together: which bytes of it are in a file of weights,
named by its sha256; all others are in `classifier.rest`.
"""

import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError

from imgclf import ImgclfError, files

RECIPE, REST = "classifier.json", "classifier.rest"
VERSION = 1
LEAST_BYTES = 2**10  # of a tensor that is stored with the weights
HEAD = "head_"  # tensors of the last layer begin so; see `export`
MAX_RECIPE_BYTES = 2**22  # 100,000 tensors
SHA256 = re.compile("[0-9a-f]{64}")
KINDS = {
    **dict.fromkeys(("sha256", "weights"), str),
    **dict.fromkeys(("version", "bytes"), int),
    "segments": list[list[int]],
}


def store(path: Path, folder: Path, weights_folder: Path) -> None:
    """Write a classifier into `folder`, but the weights of its network into a file that others share.

    Parameters
    ----------
    path : a `classifier.onnx`. weights_folder : of the files of weights, named by their sha256.

    Raises
    ------
    ImgclfError : the file cannot be read, is no ONNX file, `weights_folder` is a link, or the disk is full.
    """
    content = files.read_bytes(path)
    segments = _segments(path, content)
    pieces = [content[start : start + length] for start, length in segments]
    weights = hashlib.sha256()
    for piece in pieces:
        weights.update(piece)
    kept = files.not_linked(weights_folder) / weights.hexdigest()
    if not kept.is_file() or files.sha256(kept) != kept.name:
        with files.replace_file(kept) as file:
            file.writelines(pieces)
    with files.replace_file(folder / REST) as file:
        end = 0
        for start, length in [*segments, [len(content), 0]]:
            file.write(content[end:start])
            end = start + length
    recipe = {
        "version": VERSION,
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
        "weights": kept.name,
        "segments": segments,
    }
    files.write_text(folder / RECIPE, files.to_json(recipe) + "\n")


def _segments(path: Path, content: bytes) -> list[list[int]]:
    """Return start and length of each large tensor of the network, in the order of the file."""
    try:
        graph = onnx.load_model_from_string(content).graph
    except DecodeError as error:
        raise ImgclfError(f"{path}: no ONNX file, or damaged; run 04_train_svm again") from error
    segments, end = [], 0
    for tensor in graph.initializer:
        data = tensor.raw_data
        if len(data) < LEAST_BYTES or tensor.name.startswith(HEAD):
            continue
        if (start := content.find(data, end)) >= 0:  # else it stays in the rest
            segments.append([start, len(data)])
            end = start + len(data)
    return segments


def is_stored(folder: Path) -> bool:
    """Whether there is a stored classifier in a folder."""
    return (folder / RECIPE).exists()


def restore(folder: Path, weights_folder: Path, path: Path) -> None:
    """Write a stored classifier to `path`, byte for byte; nothing is written if its sha256 differs.

    Raises
    ------
    ImgclfError : one of its files is missing, damaged or manipulated, or the disk is full.
    """
    recipe = _recipe(folder)
    kept = weights_folder / recipe["weights"]
    rest, weights = files.read_bytes(folder / REST), files.read_bytes(kept)
    total = sum(length for _, length in recipe["segments"])
    if (total, recipe["bytes"]) != (len(weights), len(rest) + len(weights)):
        raise ImgclfError(f"{folder / RECIPE}: does not fit {REST} and {kept}; {_LOST}")
    found = hashlib.sha256()
    with files.replace_file(path) as file:
        end = used = 0  # bytes of the classifier, and of its weights
        for start, length in [*recipe["segments"], [recipe["bytes"], 0]]:
            for piece in (rest[end - used : start - used], weights[used : used + length]):
                file.write(piece)
                found.update(piece)
            end, used = start + length, used + length
        if found.hexdigest() != recipe["sha256"]:
            raise ImgclfError(f"{folder / REST} or {kept}: damaged (another sha256 than stored); {_LOST}")


_LOST = "this classifier is lost, evaluate it again"


def weights_of(folder: Path) -> str:
    """Return the name of the file of weights of a stored classifier.

    Raises
    ------
    ImgclfError : there is no `classifier.json`, or it is damaged.
    """
    return str(_recipe(folder)["weights"])


def remove_unused(weights_folder: Path, folders: Iterable[Path]) -> None:
    """Remove the weights that no classifier stored in one of the folders has.

    Nothing is removed if one of these is damaged, since its weights are unknown.

    Raises
    ------
    ImgclfError : `weights_folder` is a link.
    """
    try:
        used = {weights_of(folder) for folder in folders if is_stored(folder)}
    except ImgclfError:
        return
    for path in files.not_linked(weights_folder).glob("*"):
        is_weights = SHA256.fullmatch(path.name) and path.is_file() and not path.is_symlink()
        if is_weights and path.name not in used:
            path.unlink()


def _recipe(folder: Path) -> dict[str, Any]:
    """Return the checked content of `classifier.json`: its segments are in order, and inside the file."""
    path = folder / RECIPE
    try:
        recipe: dict[str, Any] = json.loads(files.read_bytes(path, max_bytes=MAX_RECIPE_BYTES))
        if not all(files.is_of(recipe.get(key), kind) for key, kind in KINDS.items()):
            raise ValueError("a key is missing or of another type")
        if not all(SHA256.fullmatch(recipe[key]) for key in ("sha256", "weights")):
            raise ValueError("no sha256")
        end = 0
        for start, length in recipe["segments"]:
            if start < end or length < 0:
                raise ValueError("segments overlap")
            end = start + length
        if end > recipe["bytes"]:
            raise ValueError("a segment is outside of the file")
        return recipe
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ImgclfError(f"{path}: damaged ({error}); {_LOST}") from error
