"""Suspected label errors: labels that disagree with out-of-sample predictions."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from imgclf import ImgclfError, files, svm
from imgclf.data.dataset import UNLABELLED, Dataset, Image
from imgclf.data.split import Split
from imgclf.evaluation import report
from imgclf.evaluation.metrics import Evaluation
from imgclf.features import Features, pretrained
from imgclf.parameters import SVM
from imgclf.svm import CSearch


@dataclass(frozen=True)
class Suspect:
    """An image whose label may be wrong: an estimator that was not trained on it predicts another label."""

    path: str
    sha256: str  # of its content; empty if the evaluation has no hashes
    label: str
    predicted: str
    probability: float  # of the predicted label, 0 to 1
    margin: float  # `probability` minus the probability of `label`, 0 to 1

    def __str__(self) -> str:
        return f"{self.path}: {self.label}? {self.predicted} {self.probability:.2f}"


def out_of_fold_evaluation(
    search: CSearch,
    images: Sequence[Image],
    cluster: Mapping[str, str],
    familiarity: np.ndarray | None = None,
) -> Evaluation:
    """Return the out-of-fold scores of the training images, from the cross-validation, as an evaluation.

    Images that were in no held-out fold are left out; the evaluation is empty if that is true of all. Where
    an image's fold was scored by an estimator whose training folds lacked a label, that score is -inf and its
    probability 0.

    Parameters
    ----------
    images : the training images, in the order of the rows that `svm.train` was called with.
    cluster : name of the cluster of each path (`Split.cluster`).
    familiarity : (n,) of the training images; see `familiarity.fit`.
    """
    scores, labels = search.oof_scores[search.held_out], search.head.labels
    place = {label: k for k, label in enumerate(labels)}
    held_out = [images[row] for row in search.held_out.tolist()]
    probabilities = scores
    if held_out:
        probabilities = svm.probabilities(scores, search.head.temperature).astype(np.float32)
    return Evaluation(
        labels,
        tuple(image.path for image in held_out),
        np.array([place[image.label] for image in held_out], dtype=np.int64),
        scores,
        probabilities,
        sha256=tuple(image.sha256 for image in held_out),
        cluster=tuple(cluster[image.path] for image in held_out),
        familiarity=np.empty(0, np.float32) if familiarity is None else familiarity[search.held_out],
    )


def pretrained_search(
    dataset: Dataset,
    parts: Split,
    train: Features,
    search: CSearch,
    classifier: str,
    *,
    c_values: list[float],
    l2_normalize: bool = True,
    seed: int = 0,
    engine: str = "openvino",
    precision: str = "f32",
) -> tuple[Features, CSearch]:
    """Return features of the training images that know no labels, and a cross-validation of SVMs on them.

    A fine-tuned network was trained on nearly all training images, wrong labels included, and only its
    validation images are out of sample. So with "dnn" and "svm_dnn_refined" the features are those of the
    pretrained network; those that are not cached are computed.

    Parameters
    ----------
    train, search : the classifier's own, which with "svm" are returned.
    precision : see `pretrained.training_features`.
    """
    if classifier == SVM:
        return train, search
    train = pretrained.training_features(dataset, parts.train, classifier, engine=engine, precision=precision)
    return train, svm.train(
        train.matrix,
        train.labels,
        parts.clusters_of(train.images),
        c_values=c_values,
        l2_normalize=l2_normalize,
        seed=seed,
    )


def read_label_scores(dataset_name: str) -> Evaluation:
    """Read the out-of-fold scores that judge the labels; of version 0.1.0, the classifier's own.

    Raises
    ------
    ImgclfError : 04_train_svm has not run yet, or the file is damaged.
    """
    proc = files.proc_dir(dataset_name)
    name = files.LABEL_SCORES if (proc / files.LABEL_SCORES).exists() else files.HELD_OUT
    return report.read_scores(proc / name)


def suspected_label_errors(evaluation: Evaluation) -> list[Suspect]:
    """Return the images whose predicted label differs from their label, lowest label quality first.

    Label quality is the self-confidence: the probability of the image's own label. Ties keep the order of the
    evaluation. The evaluation must be out of sample: no image may be scored by an estimator that was trained
    on it. Images whose label the estimator was not trained on are left out, since their scores say nothing
    about that label.

    Source: cleanlab's "self confidence"; of its label quality scores, the one that found the most planted
    label errors among photographs (benchmarks/RESULTS.md). C. Northcutt, L. Jiang, I. Chuang, "Confident
    Learning: Estimating Uncertainty in Dataset Labels", JAIR 70 (2021), arXiv 1911.00068; the scores are
    compared in J. Kuan, J. Mueller, "Model-agnostic label quality scoring to detect real-world label errors",
    DataPerf workshop at ICML 2022.
    """
    rows = np.arange(len(evaluation.truth))
    disagree = rows[~evaluation.correct & np.isfinite(evaluation.scores[rows, evaluation.truth])]
    if not len(disagree):
        return []
    from cleanlab.rank import get_label_quality_scores

    quality = get_label_quality_scores(
        evaluation.truth[disagree], evaluation.probabilities[disagree], method="self_confidence"
    )
    return [_suspect(evaluation, row) for row in disagree[np.argsort(quality, kind="stable")].tolist()]


def _suspect(evaluation: Evaluation, row: int) -> Suspect:
    label, predicted = int(evaluation.truth[row]), int(evaluation.predicted[row])
    probabilities = evaluation.probabilities[row]
    return Suspect(
        evaluation.paths[row],
        evaluation.sha256[row] if evaluation.sha256 else "",
        evaluation.labels[label],
        evaluation.labels[predicted],
        float(probabilities[predicted]),
        float(probabilities[predicted] - probabilities[label]),
    )


@dataclass(frozen=True)
class OutOfSampleScores:
    """Probabilities of images from estimators that were not trained on them. False if there are none.

    Attributes
    ----------
    labels : the k labels, in the order of the probabilities.
    probabilities : (k,) float for the sha256 of each image's content, 0 to 1. A probability is exactly 0 only
        if the estimator was not trained on that label.
    note : which files could not be used, and why; empty if all could.
    """

    labels: tuple[str, ...] = ()
    probabilities: dict[str, np.ndarray] = field(default_factory=dict)
    note: str = ""

    @cached_property
    def _place(self) -> dict[str, int]:
        return {label: place for place, label in enumerate(self.labels)}

    def label_quality(self, image: Image) -> float:
        """Return the label quality of an image, 0 to 1; lower is likelier mislabelled. NaN without scores.

        The score is the self-confidence, the probability of the image's label. If the image has no label
        (`dataset.UNLABELLED`), or the estimator was not trained on its label, it is the largest probability.
        """
        if image.sha256 not in self.probabilities:
            return float("nan")
        probabilities = self.probabilities[image.sha256]
        is_known = image.label != UNLABELLED and image.label in self._place
        self_confidence = float(probabilities[self._place[image.label]]) if is_known else 0.0
        return min(1.0, max(0.0, self_confidence or float(probabilities.max())))

    def prediction(self, image: Image) -> tuple[str, float] | None:
        """Return the predicted label of an image and its probability, 0 to 1; None without scores."""
        if image.sha256 not in self.probabilities:
            return None
        probabilities = self.probabilities[image.sha256]
        return self.labels[int(probabilities.argmax())], float(probabilities.max())

    def __len__(self) -> int:
        return len(self.probabilities)


def out_of_sample_scores(dataset_name: str) -> OutOfSampleScores:
    """Read the out-of-sample probabilities of a data set's images.

    Those of the training images come from the cross-validation in 04, those of the test images from 05. If
    several files have an image, the newest is used. A file is not used if it is missing or damaged, has
    other labels than the newer one, or scores images that the classifier was trained on. `note` lists the
    files that were not used and are not just missing.
    """
    proc = files.proc_dir(dataset_name)
    notes: list[str] = []
    read = [(path, evaluation) for path in _newest_first(proc) if (evaluation := _read(path, notes))]
    if not read:
        return OutOfSampleScores(note="; ".join(notes))
    newest, labels = read[0][0].name, read[0][1].labels
    probabilities: dict[str, np.ndarray] = {}
    for path, evaluation in reversed(read):
        if evaluation.labels == labels:
            probabilities |= zip(evaluation.sha256, _positive_if_trained(evaluation), strict=False)
        else:
            notes.append(
                f"{path.name} has other labels than {newest}, which is newer; run {report.writer(path)} again"
            )
    return OutOfSampleScores(labels, probabilities, "; ".join(notes))


def _newest_first(proc: Path) -> list[Path]:
    names = (files.HELD_OUT, files.LABEL_SCORES, files.SCORES)
    written = {path: path.stat().st_mtime_ns for name in names if (path := proc / name).is_file()}
    return sorted(written, key=lambda path: -written[path])


def _read(path: Path, notes: list[str]) -> Evaluation | None:
    """Return the evaluation in a file; None if it cannot be used, with the reason appended to `notes`."""
    try:
        is_test = path.name == files.SCORES
        return report.read_test_scores(path.parent) if is_test else report.read_scores(path)
    except ImgclfError as error:
        notes.append(str(error).removeprefix(f"{path.parent}{os.sep}"))
        return None


def _positive_if_trained(evaluation: Evaluation) -> np.ndarray:
    """Return (n, k) probabilities in which 0 means that the estimator was not trained on the label.

    Other probabilities that underflowed to 0 become the smallest positive float32.
    """
    smallest = np.finfo(np.float32).tiny
    return np.where(np.isfinite(evaluation.scores), np.maximum(evaluation.probabilities, smallest), 0)
