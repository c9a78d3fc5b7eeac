"""Labels and scores of image files and folders that a person names."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from imgclf import ImgclfError, files
from imgclf.classifier.model import Classifier, Prediction
from imgclf.images import decoding
from imgclf.images.loading import Skipped, Source


def newest_classifier() -> Path:
    """The `classifier.onnx` written last below `$IMGCLF_DATA/proc`, but none of a sweep's.

    Raises
    ------
    ImgclfError : there is none.
    """
    written = (files.data_dir() / "proc").glob(f"*/{files.CLASSIFIER}")
    found = sorted(
        (path for path in written if not (path.parent / files.TRIAL_RECORD).exists()),
        key=lambda path: path.stat().st_mtime,
    )
    if not found:
        raise ImgclfError(
            f"{files.data_dir() / 'proc'}: no classifier.onnx yet; run the notebooks first, or name one with --model"
        )
    return found[-1]


def image_files(paths: Iterable[Path]) -> list[Path]:
    """The files named, and the image files in the folders named and below, sorted.

    Raises
    ------
    ImgclfError : a path does not exist, or there is no image at all.
    """
    found = []
    for path in paths:
        if path.is_dir():
            found += sorted(
                p for p in path.rglob("*") if p.suffix.lower() in decoding.SUFFIXES and p.is_file()
            )
        elif path.exists():
            found.append(path)
        else:
            raise ImgclfError(f"{path}: no such file or folder")
    if not found:
        raise ImgclfError(f"no image files ({', '.join(decoding.SUFFIXES)}) in {', '.join(map(str, paths))}")
    return found


def predict(classifier: Classifier, paths: Iterable[Path]) -> tuple[list[Prediction], list[Skipped]]:
    """The predictions of image files and folders, and what could not be read."""
    found = [found for _, found in classifier.predict([Source(path) for path in image_files(paths)])]
    return [each for each in found if isinstance(each, Prediction)], [
        each for each in found if isinstance(each, Skipped)
    ]


def as_json(classifier: Classifier, prediction: Prediction) -> dict[str, Any]:
    """A prediction as plain values: image, label, score, and the scores and probabilities of all labels."""
    return {
        "image": prediction.path,
        "label": prediction.label,
        "score": prediction.score,
        "scores": dict(zip(classifier.labels, prediction.scores.tolist(), strict=True)),
        "probabilities": dict(zip(classifier.labels, prediction.probabilities.tolist(), strict=True)),
    }


def as_line(prediction: Prediction) -> str:
    """A prediction as a line of text: label, score, probability, image."""
    return (
        f"{prediction.label}\t{prediction.score:.2f}\t{prediction.probabilities.max():.0%}\t{prediction.path}"
    )
