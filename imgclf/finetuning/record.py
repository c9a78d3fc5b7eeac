"""The record of a finished fine-tuning, `dnn_refined.json`, beside the network that it wrote."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from imgclf import files, svm
from imgclf.finetuning import learning_curve
from imgclf.finetuning.learning_curve import Epoch
from imgclf.svm import Head

RECORD = "dnn_refined.json"
KINDS = {
    **dict.fromkeys(("fingerprint", "data_fingerprint", "network_sha256"), str),
    "held_back": list[str],
    "epochs": list[dict[str, float | None]],
    "recipe": dict[str, Any],
}


@dataclass(frozen=True)
class Record:
    """A finished fine-tuning; the names of the attributes are the keys of the file.

    Attributes
    ----------
    fingerprint : of everything that the result depends on: the recipe, the images and labels, the pretrained
        network.
    data_fingerprint : of the training images and their labels.
    network_sha256 : of `dnn_refined.onnx`.
    held_back : sha256 of the validation images: training images that the network was not fine-tuned on.
    epochs : the learning curve. recipe : the hyperparameters.
    was_interrupted : whether it was stopped before the last epoch.
    head_sha256 : of `dnn_head.npz`; empty in files of version 0.1.0.
    """

    fingerprint: str
    data_fingerprint: str
    network_sha256: str
    held_back: tuple[str, ...]
    epochs: tuple[Epoch, ...]
    recipe: dict[str, Any]
    was_interrupted: bool = False
    head_sha256: str = ""


def write(folder: Path, head: Head, record: Record) -> None:
    """Write the last layer, `dnn_head.npz`, then the record, whose presence says that all is written."""
    svm.write(head, folder / files.DNN_HEAD)
    files.write_json(
        folder / RECORD, asdict(replace(record, head_sha256=files.sha256(folder / files.DNN_HEAD)))
    )


def read(folder: Path) -> Record | None:
    """Return the record of the fine-tuned network in `folder`; None without it, or if it is of another one.

    The same holds for the last layer.
    """
    try:
        stored = files.read_json(folder / RECORD, KINDS)
        epochs = tuple(learning_curve.from_json(values) for values in stored.pop("epochs"))
        record = Record(**{**stored, "held_back": tuple(stored["held_back"]), "epochs": epochs})
        is_of_this_network = record.network_sha256 == files.sha256(folder / files.REFINED_NETWORK)
        head = files.sha256(folder / files.DNN_HEAD)
        return record if is_of_this_network and record.head_sha256 in ("", head) else None
    except (OSError, ValueError, TypeError):  # TypeError: an unknown key
        return None
