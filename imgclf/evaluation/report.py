"""Evaluations as files and as text."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from imgclf import ImgclfError, files, first_few
from imgclf.data.dataset import Image
from imgclf.data.labels import NONE
from imgclf.data.split_check import TEST, TRAIN
from imgclf.evaluation import calibration, curves
from imgclf.evaluation.metrics import Evaluation

if TYPE_CHECKING:
    import pandas as pd

# Name, images, accuracy, its interval, area under the ROC curve; None where there is nothing to say.
Row = tuple[str, int | None, float | None, list[float] | None, float | None]

MOST_LINES, WORST = 40, 20  # a table of more labels has the WORST of them
ON_TRAINING_IMAGES = "on_training_images"  # the folder of their evaluation
VERSION = 1  # of the layout of evaluation.json; docs/evaluation.schema.json describes it
TEXTS = ("labels", "paths", "sha256", "cluster", "missing", "missing_labels")  # arrays in a file of scores
NUMBERS = ("truth", "scores", "probabilities", "familiarity", "seed")


def notice(evaluated_on: str, evaluation: Evaluation, caution: str = "") -> str:
    """Say which images were evaluated, with a warning if they are the training images, or near-duplicates.

    Parameters
    ----------
    caution : `Split.test_caution`.
    """
    images = len(evaluation.truth)
    text = f"{images} test images, none of them used in training"
    if evaluated_on == TRAIN:
        text = (
            f"CAREFUL: these {images} images are TRAINING IMAGES; "
            "the figures below overestimate the accuracy on new images"
        )
        caution = ""
    notes = [text, caution, missing_note(_missing(evaluation), images), _none_note(evaluation)]
    return "\n".join(filter(None, notes))


def _none_note(evaluation: Evaluation) -> str:
    """Return how images of none of the labels count; empty without that class."""
    if NONE not in evaluation.labels:
        return ""
    count = evaluation.class_accuracy(NONE).images
    return (
        f"{count} of the {len(evaluation.truth)} images are of none of the labels. {NONE} counts as a class, "
        "also in the class-averaged accuracy: a classifier that finds a label in every image loses there"
    )


def missing_note(missing: dict[str, Any], images: int) -> str:
    """Return a sentence about images that could not be evaluated, and what they could change; "" if none.

    Parameters
    ----------
    missing : as `evaluation.json` has it. images : that were evaluated.
    """
    paths = missing.get("paths", [])
    if not paths:
        return ""
    low, high = missing["overall_accuracy_bounds"]
    class_low, class_high = missing["class_averaged_accuracy_bounds"]
    return (
        f"CAREFUL: {len(paths)} of {images + len(paths)} images are gone, changed or unreadable: "
        f"{first_few(paths)}. The overall accuracy would be {low:.1%} if all of them were "
        f"misclassified, and {high:.1%} if none was; the class-averaged accuracy {class_low:.1%} and "
        f"{class_high:.1%}"
    )


def results_folder(proc: Path, evaluated_on: str) -> Path:
    """Return the folder for an evaluation: `proc`, or one below it for training images, which are no test."""
    return proc / ON_TRAINING_IMAGES if evaluated_on == TRAIN else proc


def independence(evaluation: Evaluation, images: Iterable[Image], split_by: str) -> str:
    """Say how many independent clusters the images are, and for which further images the intervals hold.

    Parameters
    ----------
    images : those that were evaluated. split_by : `Split.split_by`.
    """
    count, clusters = len(evaluation.truth), evaluation.clusters
    text = f"{count} images, each independent of the others"
    if clusters < count:
        text = f"{count} images in {clusters} independent clusters, which the intervals take into account"
    if split_by == "image" and any(image.group for image in images):
        text += (
            "\nThe images are in groups (folders below their label), which split_by=image divides: "
            "the intervals hold for further images of the same groups"
        )
    return text


def write(evaluation: Evaluation, folder: Path, **about: Any) -> None:
    """Write `evaluation.json` (all figures, and the keys of `about`) and `scores.npz` (the arrays)."""
    files.write_json(folder / files.EVALUATION, {"version": VERSION, **about, **summary(evaluation)})
    write_scores(evaluation, folder / files.SCORES)


def _missing(evaluation: Evaluation) -> dict[str, Any]:
    return {
        "images": len(evaluation.missing),
        "paths": list(evaluation.missing),
        "overall_accuracy_bounds": list(evaluation.overall_accuracy_bounds),
        "class_averaged_accuracy_bounds": list(evaluation.class_averaged_accuracy_bounds),
    }


def summary(evaluation: Evaluation) -> dict[str, Any]:
    """Return all figures as plain values, for JSON; None where a label has no test images."""
    return {
        "images": len(evaluation.truth),
        "clusters": evaluation.clusters,
        "missing": _missing(evaluation),
        "overall_accuracy": evaluation.overall_accuracy.value,
        "overall_accuracy_interval": list(evaluation.overall_accuracy.interval),
        "class_averaged_accuracy": evaluation.class_averaged_accuracy.value,
        "class_averaged_accuracy_interval": list(evaluation.class_averaged_accuracy.interval),
        "chance_level": evaluation.chance_level,
        "largest_share": evaluation.majority_class_baseline,
        "classes": {label: _class_summary(evaluation, label) for label in evaluation.labels},
        "confusion": evaluation.confusion.tolist(),
        "calibration": calibration.reliability(evaluation).summary(),
    }


def _class_summary(evaluation: Evaluation, label: str) -> dict[str, Any]:
    accuracy = evaluation.class_accuracy(label)
    roc, precision_recall = curves.roc(evaluation, label), curves.precision_recall(evaluation, label)
    return {
        "images": accuracy.images,
        "accuracy": accuracy.value if accuracy.images else None,
        "accuracy_interval": list(accuracy.interval) if accuracy.images else None,
        "roc_auc": roc.auc if roc else None,
        "roc_auc_interval": list(roc.interval) if roc else None,
        "average_precision": precision_recall.average_precision if precision_recall else None,
        "average_precision_interval": list(precision_recall.interval) if precision_recall else None,
    }


def write_scores(evaluation: Evaluation, path: Path) -> None:
    """Write the arrays of an evaluation as an .npz file, atomically and without pickle."""
    texts = {name: np.array(getattr(evaluation, name), dtype=str) for name in TEXTS}
    numbers = {name: getattr(evaluation, name) for name in NUMBERS}
    files.write_npz(path, {**numbers, **texts})


def writer(path: Path) -> str:
    """Return the notebook that writes a file of scores."""
    return "04_train_svm" if path.name in (files.HELD_OUT, files.LABEL_SCORES) else "05_evaluate"


def read_scores(path: Path) -> Evaluation:
    """Read the evaluation that `write_scores` wrote.

    Raises
    ------
    ImgclfError : the file does not exist, or is damaged; the message names the notebook that writes it.
    """
    notebook = writer(path)
    try:
        return _evaluation(files.read_npz(path))
    except FileNotFoundError as error:
        raise ImgclfError(f"{path}: no scores yet; run {notebook} first") from error
    except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise ImgclfError(f"{path}: damaged, or from an earlier version; run {notebook} again") from error


def _evaluation(arrays: dict[str, np.ndarray]) -> Evaluation:
    """Return an evaluation of the arrays of a file.

    Raises
    ------
    ValueError, KeyError, TypeError : an array is missing, out of range, or of another shape or dtype.
    """
    # Files of version 0.1.0 have neither clusters nor missing images; others lack the familiarity.
    absent = {**dict.fromkeys(TEXTS[3:], np.array([], dtype=str)), "familiarity": np.empty(0, np.float32)}
    arrays = {**absent, **arrays}
    labels, paths, sha256, cluster, missing, missing_labels = (
        tuple(arrays[name].astype(str).tolist()) for name in TEXTS
    )
    truth, scores, probabilities, familiarity = (arrays[name] for name in NUMBERS[:-1])
    n, k, seed = len(paths), len(labels), int(arrays["seed"])
    have_shape = all(arrays[name].ndim == 1 for name in TEXTS) and truth.shape == (n,)
    have_shape = have_shape and scores.shape == probabilities.shape == (n, k)
    have_shape = have_shape and familiarity.ndim == 1
    if (
        not have_shape
        or not {len(sha256), len(cluster), len(familiarity)} <= {0, n}
        or len(missing) != len(missing_labels)
    ):
        raise ValueError("the arrays differ in shape")
    is_label = truth.dtype.kind in "iu" and np.isin(truth, range(k)).all() and {*missing_labels} <= {*labels}
    if seed < 0 or not is_label or not (probabilities >= 0).all() or np.isnan(scores).any():
        raise ValueError("a label or a number is out of range")
    return Evaluation(
        labels,
        paths,
        truth,
        scores,
        probabilities,
        seed,
        sha256,
        cluster,
        missing,
        missing_labels,
        familiarity.astype(np.float32),
    )


def read_test_scores(folder: Path) -> Evaluation:
    """Read the scores of the test images that 05_evaluate wrote, and check them against `evaluation.json`.

    Raises
    ------
    ImgclfError : see `read_last_test_scores`; or they are of another `classifier.onnx` than is there now.
    """
    found, classifier = read_last_test_scores(folder), folder / files.CLASSIFIER
    evaluated = read(folder).get("classifier_sha256")  # not in 0.1.0
    if evaluated and classifier.exists() and files.sha256(classifier) != evaluated:
        raise ImgclfError(
            f"{folder / files.SCORES}: is of another {files.CLASSIFIER} than there is now; run 05_evaluate "
            f"with evaluate_on={TEST}"
        )
    return found


def read_last_test_scores(folder: Path) -> Evaluation:
    """Read the scores of the test images that 05_evaluate wrote last, perhaps of an earlier classifier.

    Raises
    ------
    ImgclfError : `scores.npz` or `evaluation.json` does not exist or is damaged; or they are of two runs, or
        of training images, which earlier versions wrote there too.
    """
    figures, path = read(folder), folder / files.SCORES
    if figures.get("evaluated_on") != TEST:
        raise ImgclfError(f"{path}: its images are not test images; run 05_evaluate with evaluate_on={TEST}")
    found = read_scores(path)
    if figures["confusion"] != found.confusion.tolist():
        raise ImgclfError(f"{path}: is of another run than {files.EVALUATION}; run 05_evaluate again")
    return found


def read(folder: Path) -> dict[str, Any]:
    """Read the figures that `write` wrote; files of version 0.1.0 lack some keys.

    Raises
    ------
    ImgclfError : `evaluation.json` does not exist in the folder, or is damaged.
    """
    path = folder / files.EVALUATION
    if not path.exists():
        raise ImgclfError(f"{path}: no evaluation yet; run 05_evaluate first")
    try:
        figures = files.read_json(path, {})
        table(figures)  # fails if one is missing
        return figures
    except (OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
        raise ImgclfError(f"{path}: damaged; run 05_evaluate again") from error


def in_words(figures: dict[str, Any]) -> str:
    """Return the overall accuracy of an `evaluation.json` as a title and sentences for people, one a line."""
    images, value, (low, high) = (
        figures[key] for key in ("images", "overall_accuracy", "overall_accuracy_interval")
    )
    name, evaluated_on = figures.get("dataset_name", "data set"), figures.get("evaluated_on", TEST)
    subset = "training" if evaluated_on == TRAIN else "test"
    title = f"{name}: {value:.0%} of {images:,} {subset} images labelled correctly ({low:.0%} to {high:.0%})"
    if evaluated_on == TRAIN:
        return "\n".join([title, *_notes(figures)])
    baseline = figures["largest_share"]
    base = 1000 if 0.995 <= value < 1 else 100
    sentences = (
        f"On average, about {round(base * value)} of {base:,} new images like these are labelled correctly "
        f"({round(base * low)} to {round(base * high)} at 95 % confidence); always answering with the most "
        f"common label would get {round(base * baseline)}."
    )
    if low <= baseline:
        sentences += " The difference between the two may be chance."
    return "\n".join([title, sentences, *_notes(figures)])


def _notes(figures: dict[str, Any]) -> list[str]:
    """Return what makes the figures doubtful."""
    notes = [missing_note(figures.get("missing", {}), figures["images"])]
    if figures.get("evaluated_on") == TRAIN:
        notes.append("CAREFUL: on the TRAINING IMAGES; this overestimates the accuracy on new images")
    return [note for note in notes if note]


def frame(figures: dict[str, Any]) -> "pd.DataFrame":
    """Return the accuracies of an `evaluation.json` as a table of texts.

    Of many labels, those with the lowest accuracy have rows.
    """
    import pandas as pd

    labels, overall = _rows(figures)
    if others := len(figures["classes"]) - len(labels):
        labels.append((f"{others} labels of higher accuracy", None, None, None, None))
    cells = [
        {
            "images": "" if images is None else f"{images:,}",
            "accuracy": "" if value is None else f"{value:.0%}",
            "95 % interval": "" if interval is None else "{:.0%} to {:.0%}".format(*interval),
            "ROC area": "" if area is None else f"{area:.2f}",
        }
        for _, images, value, interval, area in (*labels, *overall)
    ]
    return pd.DataFrame(cells, index=[name for name, *_ in (*labels, *overall)])


def table(figures: dict[str, Any]) -> str:
    """Return the accuracies of an `evaluation.json` as lines of text, in whole percent, below cautions."""
    return "\n".join([*_notes(figures), frame(figures).to_string()])


def _rows(figures: dict[str, Any]) -> tuple[list[Row], list[Row]]:
    """Return the rows of labels, of many labels those of the lowest accuracy, and the rows of all images."""
    classes = figures["classes"]
    if len(classes) > MOST_LINES:
        measured = [label for label in classes if classes[label]["accuracy"] is not None]
        worst = sorted(measured, key=lambda label: classes[label]["accuracy"])[:WORST]
        classes = {label: classes[label] for label in worst}
    labels: list[Row] = [
        (label, row["images"], row["accuracy"], row["accuracy_interval"], row["roc_auc"])
        for label, row in classes.items()
    ]
    overall: list[Row] = [
        (name, figures["images"], figures[key], figures[f"{key}_interval"], None)
        for name, key in (
            ("overall accuracy", "overall_accuracy"),
            ("overall class-averaged accuracy", "class_averaged_accuracy"),
        )
    ]
    overall += [
        ("chance level, class-averaged", None, figures["chance_level"], None, None),
        ("majority-class baseline, overall", None, figures["largest_share"], None, None),
    ]
    return labels, overall
