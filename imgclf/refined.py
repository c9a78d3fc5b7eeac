"""What refining left behind, and which network and which last layer belong to each value of `classifier`."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from imgclf import ImgclfError, files, svm
from imgclf.classifier import sha256
from imgclf.curve import Epoch
from imgclf.dataset import Image, fingerprint
from imgclf.features import Features
from imgclf.svm import Head, Search

SVM, DNN, SVM_ON_REFINED = "svm", "dnn", "svm_dnn_refined"
FIXED_NETWORK, REFINED_NETWORK, HEAD, RECORD = "dnn_fixed.onnx", "dnn_refined.onnx", "dnn_head.npz", "dnn_refined.json"
AGAIN = "run 02_refine_dnn again"


@dataclass(frozen=True)
class Refined:
    """A refinement that is done.

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


def network(dataset_name: str, classifier: str) -> Path:
    """The network whose features a classifier stands on.

    Raises
    ------
    ImgclfError : it needs the refined network, and there is none.
    """
    path = files.proc_dir(dataset_name) / (FIXED_NETWORK if classifier == SVM else REFINED_NETWORK)
    if classifier != SVM and not path.exists():
        raise ImgclfError(f"classifier='{classifier}': no {path.name} of {dataset_name} yet; run 02_refine_dnn with classifier='{classifier}' first")
    return path


def write(folder: Path, head: Head, record: Refined) -> None:
    """Write the last layer as `dnn_head.npz`, and last the record, which says that all is there, as `dnn_refined.json`."""
    svm.write(head, folder / HEAD)
    values = asdict(record)
    values["epochs"] = [{name: None if number != number else number for name, number in epoch.items()} for epoch in values["epochs"]]  # JSON has no NaN
    files.write_json(folder / RECORD, values)


def read(folder: Path) -> Refined | None:
    """The record of the refinement whose network stands in `folder`; None if there is none, or another network stands there."""
    try:
        stored = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        epochs = tuple(Epoch(**{name: float("nan") if number is None else number for name, number in values.items()}) for values in stored.pop("epochs"))
        record = Refined(**{**stored, "held_back": tuple(stored["held_back"]), "epochs": epochs})
        return record if record.network_sha256 == sha256(folder / REFINED_NETWORK) and (folder / HEAD).exists() else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def train(dataset_name: str, classifier: str, features: Features, train_images: Sequence[Image], clusters: np.ndarray, *,
          c_values: list[float], l2_normalize: bool = True, seed: int = 0) -> Search:
    """The last layer of a classifier.

    "svm" and "svm_dnn_refined": an SVM. The refined network knows the labels of the images that it learned from, and any SVM would be nearly
    always right on their features; so there C and the temperature are chosen on the images that validated, which it has not learned from.
    "dnn": the network's own last layer; nothing is learned.

    Parameters
    ----------
    features : of the training images that have any; `clusters` : (n,) names of theirs. train_images : all training images.

    Raises
    ------
    ImgclfError : the network was refined on other images or labels than `train_images`.
    """
    if classifier == SVM:
        return svm.train(features.matrix, features.labels, clusters, c_values=c_values, l2_normalize=l2_normalize, seed=seed)
    record = read(files.proc_dir(dataset_name))
    if record is None:
        raise ImgclfError(f"{files.proc_dir(dataset_name) / REFINED_NETWORK}: not as 02_refine_dnn left it; {AGAIN}")
    if record.data_fingerprint != fingerprint(train_images):
        raise ImgclfError(f"{REFINED_NETWORK} of {dataset_name}: was refined on other images or labels than split.tsv names now, so test images may be "
                          f"among those it learned from; {AGAIN}")
    held_back = np.isin([image.sha256 for image in features.images], record.held_back)
    if classifier == DNN:
        return _own_last_layer(files.proc_dir(dataset_name) / HEAD, features, held_back)
    return svm.train(features.matrix, features.labels, clusters, c_values=c_values, l2_normalize=l2_normalize, seed=seed, held_back=held_back)


def _own_last_layer(path: Path, features: Features, held_back: np.ndarray) -> Search:
    head = svm.read(path)
    scores = np.where(held_back[:, None], head.scores(features.matrix), -np.inf).astype(np.float32)
    return Search((), (), (), 0, scores, head)


def about(search: Search, features: Features, classifier: str) -> str:
    """How the last layer was chosen, in a sentence."""
    rows = np.flatnonzero(np.isfinite(search.held_out).any(axis=1))
    if classifier == SVM or (classifier == SVM_ON_REFINED and not len(rows)):
        return str(search)
    if classifier == SVM_ON_REFINED:
        return (f"C = {search.head.c:g}: class-averaged accuracy {search.cv_accuracy[search.best]:.2f} on the {len(rows)} training images that the "
                "refined DNN has not learned from")
    if not len(rows):
        return "the DNN's own last layer; there is nothing to learn, and no image validated"
    right = np.array(search.head.labels)[search.held_out[rows].argmax(axis=1)] == features.labels[rows]
    return f"the DNN's own last layer; there is nothing to learn. Of the {len(rows)} training images that it has not learned from, {right.mean():.0%} are right"
