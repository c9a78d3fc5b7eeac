"""The record of a fine-tuning that is done, in `dnn_refined.json` beside the network that it gave."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from imgclf import files, svm
from imgclf.finetuning import learning_curve
from imgclf.finetuning.learning_curve import Epoch
from imgclf.svm import Head

RECORD = "dnn_refined.json"


@dataclass(frozen=True)
class Record:
    """A fine-tuning that is done.

    Attributes
    ----------
    fingerprint : of everything that it depends on: the recipe, the images and labels, the network it began with.
    data_fingerprint : of the training images and their labels.
    network_sha256 : of `dnn_refined.onnx`.
    held_back : sha256 of the images that validated, which it has not learned from.
    epochs : its curve. recipe : its knobs. was_interrupted : whether it was stopped before the last epoch.
    """

    fingerprint: str
    data_fingerprint: str
    network_sha256: str
    held_back: tuple[str, ...]
    epochs: tuple[Epoch, ...]
    recipe: dict[str, Any]
    was_interrupted: bool = False


def write(folder: Path, head: Head, record: Record) -> None:
    """Write the last layer as `dnn_head.npz`, and last the record, which says that all is there, as `dnn_refined.json`."""
    svm.write(head, folder / files.DNN_HEAD)
    files.write_json(folder / RECORD, asdict(record))


def read(folder: Path) -> Record | None:
    """The record of the fine-tuning whose network stands in `folder`; None if there is none, or another network stands there."""
    try:
        stored = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        epochs = tuple(learning_curve.from_json(values) for values in stored.pop("epochs"))
        record = Record(**{**stored, "held_back": tuple(stored["held_back"]), "epochs": epochs})
        is_of_this_network = record.network_sha256 == files.sha256(folder / files.REFINED_NETWORK)
        return record if is_of_this_network and (folder / files.DNN_HEAD).exists() else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
