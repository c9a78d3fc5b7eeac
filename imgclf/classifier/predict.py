"""Prediction of image files and folders."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from imgclf import ImgclfError, files
from imgclf.classifier import results
from imgclf.classifier.model import Classifier, Prediction
from imgclf.classifier.results import Labelled, Refused
from imgclf.data import folders
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


def image_files(
    paths: Iterable[Path], *, without: Path | None = None, left_out: Counter[str] | None = None
) -> Iterator[Path]:
    """Yield the files among the paths, and the image files below the folders among them, as they are found.

    Each folder's files come sorted by name, then those of its subfolders. Hidden files and those of systems
    are left out, as in 01; a file that is named is not. A folder that cannot be read is yielded as if it were
    a file, so that the reason is printed in its place.

    Parameters
    ----------
    without : a folder to leave out, into which results are written.
    left_out : the suffixes of the other files in the folders are counted here.

    Raises
    ------
    ImgclfError : a path does not exist or is `without` (at once), or there is no image at all (at the end).
    """
    paths = list(paths)
    for path in paths:
        if not path.exists():
            raise ImgclfError(f"{path}: no such file or folder")
        if without and os.path.realpath(path) == os.path.realpath(without):
            raise ImgclfError(
                f"{path}: results cannot be written into the folder that the images are in; name another"
            )
    left_out = Counter() if left_out is None else left_out
    return _found(paths, {os.path.realpath(without)} if without else set(), left_out)


def _found(paths: Sequence[Path], visited: set[str], left_out: Counter[str]) -> Iterator[Path]:
    is_empty = True
    for path in paths:
        for found in _below(path, visited, left_out) if path.is_dir() else [path]:
            is_empty = False
            yield found
    if is_empty:
        raise ImgclfError(f"no image files ({decoding.ENDINGS}) in {', '.join(map(str, paths))}")


def _below(folder: Path, visited: set[str], left_out: Counter[str]) -> Iterator[Path]:
    unreadable: list[Path] = []
    for path in folders.walk(folder, set(visited), lambda error: unreadable.append(Path(error.filename))):
        yield from unreadable
        unreadable.clear()
        if decoding.is_image(path):
            yield path
        else:
            left_out[path.suffix.lower()] += 1
    yield from unreadable


def predict(classifier: Classifier, paths: Iterable[Path]) -> tuple[list[Prediction], list[Skipped]]:
    """Return the predictions of image files and folders, and the images that cannot be read."""
    results = [result for _, result in classifier.predict(map(Source, image_files(paths)))]
    predictions = [result for result in results if isinstance(result, Prediction)]
    return predictions, [result for result in results if isinstance(result, Skipped)]


def label_files(
    classifier: Classifier,
    paths: Iterable[Path],
    *,
    reject_below: float = 0,
    reject_unfamiliar: bool = False,
) -> Iterator[tuple[Path, Labelled | Refused]]:
    """Yield each image file with its result, nearly in order; files are read as results are taken.

    Parameters
    ----------
    paths : of files.
    reject_below : an image gets no label if its probability is below this, 0 to 1.
    reject_unfamiliar : nor if it is unfamiliar.

    Raises
    ------
    ImgclfError : the classifier cannot tell what is unfamiliar.
    """
    if reject_unfamiliar:
        classifier.check_familiarity()
    familiar_from = classifier.familiar_from if reject_unfamiliar else None
    for _, found in classifier.predict(map(Source, paths)):
        path = Path(found.path)
        if isinstance(found, Skipped):
            yield path, Refused(found.reason.removeprefix(f"{path.name}: ").removeprefix(f"{path}: "))
        else:
            yield (
                path,
                results.labelled(
                    classifier.labels,
                    found.scores,
                    found.probabilities,
                    found.familiarity,
                    reject_below=reject_below,
                    familiar_from=familiar_from,
                ),
            )
