"""What looks wrong: labels that the scores of images not learned from speak against."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from imgclf import ImgclfError, files
from imgclf.data.dataset import UNLABELLED, Image
from imgclf.evaluation import report
from imgclf.evaluation.metrics import Evaluation
from imgclf.svm import CSearch


@dataclass(frozen=True)
class Suspect:
    """An image whose label is perhaps wrong: what scored it had not learned from it, and predicts another label."""

    path: str
    sha256: str  # of its content; empty if the evaluation does not tell
    label: str
    predicted: str
    probability: float  # of the predicted label, 0 to 1
    margin: float  # by which that of `label` is smaller, 0 to 1

    def __str__(self) -> str:
        return f"{self.path}: {self.label}? {self.predicted} {self.probability:.2f}"


def held_out(search: CSearch, images: Sequence[Image]) -> Evaluation:
    """The scores that the training images got from machines that had not learned from them, in the cross-validation.

    Images that were never held out are left out; the evaluation is empty if none was. Where an image's machine did not know a label, that
    score is -inf and its probability 0.

    Parameters
    ----------
    images : the training images, in the order in which `svm.train` was given them.
    """
    from scipy.special import softmax

    rows = search.held_out
    scores, labels = search.oof_scores[rows], search.head.labels
    probabilities = (
        softmax(scores / search.head.temperature, axis=1).astype(np.float32) if len(rows) else scores
    )
    truth = np.array([labels.index(images[row].label) for row in rows], dtype=int)
    return Evaluation(
        labels,
        tuple(images[row].path for row in rows),
        truth,
        scores,
        probabilities,
        sha256=tuple(images[row].sha256 for row in rows),
    )


def suspected_label_errors(evaluation: Evaluation) -> list[Suspect]:
    """The images that are given another label than they stand under, first those whose own label is least probable.

    The evaluation must be of images that were not learned from. Images whose label was not known to what scored them are left out: nothing
    speaks against it. Equally probable ones are in the order of the evaluation.

    Source: cleanlab's "self confidence"; of its scores the one that found most planted errors among photographs (benchmarks/RESULTS.md).
    C. Northcutt, L. Jiang, I. Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels", JAIR 70 (2021), arXiv 1911.00068;
    the scores are compared in J. Kuan, J. Mueller, "Model-agnostic label quality scoring to detect real-world label errors", DataPerf
    workshop at ICML 2022.
    """
    rows = np.arange(len(evaluation.truth))
    disagree = rows[~evaluation.right & np.isfinite(evaluation.scores[rows, evaluation.truth])]
    if not len(disagree):
        return []
    from cleanlab.rank import get_label_quality_scores

    quality = get_label_quality_scores(
        evaluation.truth[disagree], evaluation.probabilities[disagree], method="self_confidence"
    )
    return [_suspect(evaluation, row) for row in disagree[np.argsort(quality, kind="stable")]]


def _suspect(evaluation: Evaluation, row: int) -> Suspect:
    label, predicted, probabilities = (
        evaluation.truth[row],
        evaluation.predicted[row],
        evaluation.probabilities[row],
    )
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
    """What is known of images from machines that had not learned from them; false if nothing is.

    Attributes
    ----------
    labels : the k labels, in the order of the probabilities.
    probabilities : for the sha256 of an image's content, (k,) float, 0 to 1; exactly 0 only where a label was not known to what scored the image.
    note : what was there and could not be used, and why; empty if all could.
    """

    labels: tuple[str, ...] = ()
    probabilities: dict[str, np.ndarray] = field(default_factory=dict)
    note: str = ""

    def doubt(self, image: Image) -> float:
        """How doubtful the label is that an image stands under, 0 to 1; NaN if the image has no scores.

        1 minus the probability of that label. If it is none (`dataset.UNLABELLED`), or was not known to what scored the image, 1 minus the
        largest probability: how doubtful any label would be.
        """
        if image.sha256 not in self.probabilities:
            return float("nan")
        probabilities = self.probabilities[image.sha256]
        is_known = image.label != UNLABELLED and image.label in self.labels
        probability = probabilities[self.labels.index(image.label)] if is_known else 0
        return min(1.0, max(0.0, 1.0 - float(probability or probabilities.max())))

    def prediction(self, image: Image) -> tuple[str, float] | None:
        """The likeliest label of an image and its probability, 0 to 1; None if the image has no scores."""
        if image.sha256 not in self.probabilities:
            return None
        probabilities = self.probabilities[image.sha256]
        return self.labels[probabilities.argmax()], float(probabilities.max())

    def __len__(self) -> int:
        return len(self.probabilities)


def out_of_sample_scores(dataset_name: str) -> OutOfSampleScores:
    """The probabilities of a data set's images, as 04 (training images, cross-validated) and 05 (test images) left them.

    Where both files know an image, the newer one is believed. A file that is missing, damaged, of other labels than the newer one, or of images
    that were learned from is not used; all but the first are told in `note`.
    """
    proc, notes = files.proc_dir(dataset_name), []
    read = [(path, evaluation) for path in _newest_first(proc) if (evaluation := _read(path, notes))]
    if not read:
        return OutOfSampleScores(note="; ".join(notes))
    labels = read[0][1].labels
    probabilities: dict[str, np.ndarray] = {}
    for path, evaluation in reversed(read):
        if evaluation.labels == labels:
            probabilities |= zip(evaluation.sha256, _with_taught_above_zero(evaluation), strict=False)
        else:
            notes.append(
                f"{path.name} has other labels than {read[0][0].name}, which is newer; run {report.WRITERS[path.name]} again"
            )
    return OutOfSampleScores(labels, probabilities, "; ".join(notes))


def _newest_first(proc: Path) -> list[Path]:
    written = {path: path.stat().st_mtime_ns for name in report.WRITERS if (path := proc / name).is_file()}
    return sorted(written, key=lambda path: -written[path])


def _read(path: Path, notes: list[str]) -> Evaluation | None:
    """The evaluation in a file; None if it cannot be used, and why is added to `notes`."""
    try:
        if path.name == files.SCORES and report.read(path.parent).get("evaluated_on") != "test":
            notes.append(
                f"{path.name} is not used: it is not of test images; run 05_evaluate with evaluate_on=test"
            )
            return None
        return report.read_scores(path)
    except ImgclfError as error:
        notes.append(str(error).removeprefix(f"{path.parent}{os.sep}"))
        return None


def _with_taught_above_zero(evaluation: Evaluation) -> np.ndarray:
    """(n, k) probabilities; those too small for float32 become its smallest, so that 0 says that the label was not known."""
    smallest = np.finfo(np.float32).tiny
    return np.where(np.isfinite(evaluation.scores), np.maximum(evaluation.probabilities, smallest), 0)
