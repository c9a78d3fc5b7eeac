"""Prediction of image files and folders, as the command line prints it."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from imgclf import ImgclfError, files
from imgclf.classifier.model import Classifier, Prediction
from imgclf.data.label_names import is_system
from imgclf.images import decoding
from imgclf.images.loading import Skipped, Source


def newest_classifier() -> Path:
    """Return the `classifier.onnx` written last below `$IMGCLF_DATA/proc`; those of sweeps are left out.

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
            f"{files.data_dir() / 'proc'}: no classifier.onnx yet; "
            "run the notebooks first, or give the path of one"
        )
    return found[-1]


def image_files(paths: Iterable[Path]) -> list[Path]:
    """Return the files among the paths, and the image files below the folders among them, sorted.

    Of the files in folders, hidden ones and those of operating systems are left out.

    Raises
    ------
    ImgclfError : a path does not exist, or there is no image at all.
    """
    paths, found = list(paths), []
    for path in paths:
        if path.is_dir():
            found += sorted(
                p
                for p in path.rglob("*")
                if p.suffix.lower() in decoding.SUFFIXES
                and not any(map(is_system, p.relative_to(path).parts))
                and p.is_file()
            )
        elif path.exists():
            found.append(path)
        else:
            raise ImgclfError(f"{path}: no such file or folder")
    if not found:
        raise ImgclfError(f"no image files ({', '.join(decoding.SUFFIXES)}) in {', '.join(map(str, paths))}")
    return found


def predict(classifier: Classifier, paths: Iterable[Path]) -> tuple[list[Prediction], list[Skipped]]:
    """Return the predictions of image files and folders, and the images that cannot be read."""
    results = [result for _, result in classifier.predict([Source(path) for path in image_files(paths)])]
    predictions = [result for result in results if isinstance(result, Prediction)]
    return predictions, [result for result in results if isinstance(result, Skipped)]


def as_json(classifier: Classifier, prediction: Prediction) -> dict[str, Any]:
    """Return a prediction as plain values: image, label, score, all scores, and all probabilities."""
    return {
        "image": prediction.path,
        "label": prediction.label,
        "score": prediction.score,
        "scores": dict(zip(classifier.labels, prediction.scores.tolist(), strict=True)),
        "probabilities": dict(zip(classifier.labels, prediction.probabilities.tolist(), strict=True)),
    }


def as_line(prediction: Prediction) -> str:
    """Return a prediction as a line of text: label, score, probability, image."""
    return (
        f"{prediction.label}\t{prediction.score:.2f}\t{prediction.probabilities.max():.0%}\t{prediction.path}"
    )
