"""Which network and which last layer belong to each value of the parameter `classifier`."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from imgclf import ImgclfError, files, svm
from imgclf.classifier.model import Classifier
from imgclf.data.dataset import Image, fingerprint
from imgclf.features import Features
from imgclf.finetuning import record
from imgclf.parameters import DNN, SVM, SVM_ON_REFINED
from imgclf.svm import Search

AGAIN = "run 02_refine_dnn again"


def network(dataset_name: str, classifier: str) -> Path:
    """The network whose features a classifier stands on.

    Raises
    ------
    ImgclfError : it needs the refined network, and there is none.
    """
    path = files.proc_dir(dataset_name) / (
        files.FIXED_NETWORK if classifier == SVM else files.REFINED_NETWORK
    )
    if classifier != SVM and not path.exists():
        raise ImgclfError(
            f"classifier='{classifier}': no {path.name} of {dataset_name} yet; run 02_refine_dnn with classifier='{classifier}' first"
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
) -> Search:
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
        return svm.train(
            features.matrix,
            features.labels,
            clusters,
            c_values=c_values,
            l2_normalize=l2_normalize,
            seed=seed,
        )
    done = record.read(files.proc_dir(dataset_name))
    if done is None:
        raise ImgclfError(
            f"{files.proc_dir(dataset_name) / files.REFINED_NETWORK}: not as 02_refine_dnn left it; {AGAIN}"
        )
    if done.data_fingerprint != fingerprint(train_images):
        raise ImgclfError(
            f"{files.REFINED_NETWORK} of {dataset_name}: was refined on other images or labels than split.tsv names now, so test images may be "
            f"among those it learned from; {AGAIN}"
        )
    held_back = np.isin([image.sha256 for image in features.images], done.held_back)
    if classifier == DNN:
        return _own_last_layer(files.proc_dir(dataset_name) / files.DNN_HEAD, features, held_back)
    return svm.train(
        features.matrix,
        features.labels,
        clusters,
        c_values=c_values,
        l2_normalize=l2_normalize,
        seed=seed,
        held_back=held_back,
    )


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
        return (
            f"C = {search.head.c:g}: class-averaged accuracy {search.cv_accuracy[search.best]:.2f} on the {len(rows)} training images that the "
            "refined DNN has not learned from"
        )
    if not len(rows):
        return "the DNN's own last layer; there is nothing to learn, and no image validated"
    right = np.array(search.head.labels)[search.held_out[rows].argmax(axis=1)] == features.labels[rows]
    return f"the DNN's own last layer; there is nothing to learn. Of the {len(rows)} training images that it has not learned from, {right.mean():.0%} are right"


def check_trained_on(classifier: Classifier, train_images: Sequence[Image], network: Path, kind: str) -> None:
    """Refuse to be evaluated beside another split, other labels, another network or as another kind than it was trained with.

    Parameters
    ----------
    kind : the value of the parameter `classifier`; what does not tell its kind passes.

    Raises
    ------
    ImgclfError : the training images, their labels, the network or the kind are not those of the training.
    """
    trained_as = classifier.metadata.get("parameters", {}).get("classifier", kind)
    if trained_as != kind:
        raise ImgclfError(
            f"{classifier.path}: was written with classifier='{trained_as}', not '{kind}'; run 04_train_svm with classifier='{kind}' first"
        )
    if classifier.metadata.get("network_sha256") != files.sha256(network):
        raise ImgclfError(
            f"{classifier.path}: was trained with another network than {network.name} is now; run 03_run_dnn and 04_train_svm again"
        )
    if classifier.metadata.get("data_fingerprint") != fingerprint(train_images):
        raise ImgclfError(
            f"{classifier.path}: was trained on other images or labels than split.tsv names now, so test images may be "
            "among those it learned from; run 04_train_svm again"
        )
