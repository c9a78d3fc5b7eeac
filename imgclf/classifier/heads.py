"""The network and the last layer that belong to each value of the parameter `classifier`."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from imgclf import ImgclfError, files, svm
from imgclf.data.dataset import Image, fingerprint
from imgclf.features import Features
from imgclf.finetuning import record
from imgclf.parameters import DNN, SVM, SVM_ON_REFINED
from imgclf.svm import CSearch

AGAIN = "run 02_refine_dnn again"


def network(dataset_name: str, classifier: str) -> Path:
    """Return the path of the network whose features a classifier uses.

    Raises
    ------
    ImgclfError : it needs the fine-tuned network, and there is none.
    """
    path = files.proc_dir(dataset_name) / (
        files.FIXED_NETWORK if classifier == SVM else files.REFINED_NETWORK
    )
    if classifier != SVM and not path.exists():
        raise ImgclfError(
            f"classifier='{classifier}': no {path.name} of {dataset_name} yet; "
            f"run 02_refine_dnn with classifier='{classifier}' first"
        )
    return path


def train(
    dataset_name: str,
    classifier: str,
    features: Features,
    train_images: Sequence[Image],
    clusters: np.ndarray,
    *,
    c_values: list[float],
    l2_normalize: bool = True,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> CSearch:
    """Train the last layer of a classifier.

    "svm" and "svm_dnn_refined": an SVM. The fine-tuned network overfits its own training images, so that in
    cross-validation any SVM on their features would be right on nearly all of them. There C and the
    temperature are chosen on the validation images of fine-tuning, which the network was not trained on.
    "dnn": the network's own last layer; nothing is trained.

    Parameters
    ----------
    features : of the training images that have any; `clusters` : (n,) names of theirs.
    train_images : all training images.
    progress : called with the number of estimators that are trained and of all.

    Raises
    ------
    ImgclfError : the network was fine-tuned on other images or labels than `train_images`.
    """
    if classifier == SVM:
        return svm.train(
            features.matrix,
            features.labels,
            clusters,
            c_values=c_values,
            l2_normalize=l2_normalize,
            seed=seed,
            progress=progress,
        )
    proc = files.proc_dir(dataset_name)
    finetuned = record.read(proc)
    if finetuned is None:
        raise ImgclfError(f"{proc / files.REFINED_NETWORK}: not as 02_refine_dnn wrote it; {AGAIN}")
    if finetuned.data_fingerprint != fingerprint(train_images):
        raise ImgclfError(
            f"{files.REFINED_NETWORK} of {dataset_name}: was fine-tuned on other images or labels than "
            f"split.tsv names now, so test images may be among its training images; {AGAIN}"
        )
    validation = np.isin([image.sha256 for image in features.images], finetuned.held_back)
    if classifier == DNN:
        return _own_last_layer(proc / files.DNN_HEAD, features, validation)
    return svm.train(
        features.matrix,
        features.labels,
        clusters,
        c_values=c_values,
        l2_normalize=l2_normalize,
        seed=seed,
        validation=validation,
        progress=progress,
    )


def _own_last_layer(path: Path, features: Features, validation: np.ndarray) -> CSearch:
    head = svm.read(path)
    scores = np.where(validation[:, None], head.scores(features.matrix), -np.inf).astype(np.float32)
    return CSearch(head, scores)


def summary(search: CSearch, features: Features, classifier: str) -> str:
    """Return a sentence on how the last layer was chosen, and below it a warning about the grid of C."""
    rows = search.held_out
    if classifier == DNN and not len(rows):
        return "the DNN's own last layer; nothing is trained, and there are no validation images"
    if classifier == DNN:
        right = np.array(search.head.labels)[search.oof_scores[rows].argmax(axis=1)] == features.labels[rows]
        return (
            f"the DNN's own last layer; nothing is trained. Of the {len(rows)} validation images of "
            f"fine-tuning, which the DNN was not trained on, {right.mean():.0%} are right"
        )
    sentence = str(search)
    if classifier == SVM_ON_REFINED and len(rows):
        accuracy = (
            f"C = {search.head.c:g}: class-averaged accuracy {search.cv_accuracy[search.best]:.2f} "
            f"on the {len(rows)} validation images of fine-tuning, which the DNN was not trained on"
        )
        sentence = "; ".join(filter(None, [accuracy, search.comparison, search.dropped]))
    return "\n".join(filter(None, [sentence, search.warning]))
