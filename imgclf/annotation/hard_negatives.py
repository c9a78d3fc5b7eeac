"""Hard negatives: images of none of the labels that a classifier takes for one of them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from imgclf.classifier import predict, results
from imgclf.classifier.model import Classifier, Prediction
from imgclf.data.dataset import Dataset
from imgclf.data.labels import NONE
from imgclf.features import image_sources
from imgclf.images.loading import Skipped, Source


@dataclass(frozen=True)
class Candidate:
    """An image that may be of none of the labels, and what the classifier takes it for.

    Attributes
    ----------
    path : below the data set's folder, with forward slashes; of an image from elsewhere, the whole path.
    label : the predicted one.
    probability : of the label, 0 to 1.
    """

    path: str
    label: str
    probability: float


def candidates(
    dataset: Dataset,
    classifier: Classifier,
    *,
    folder: Path | None = None,
    most: int = 200,
    progress: Callable[[int], None] | None = None,
) -> tuple[list[Candidate], list[Skipped]]:
    """Return images without a label, sorted by the probability of the predicted label, the highest first.

    A person picks those that show none of the labels: `Annotations.relabel(positions, NONE)`, or `add` for
    images from elsewhere. Images that the classifier recognizes as none of the labels are left out.

    Parameters
    ----------
    folder : other images, such as holiday photos, in place of the data set's unlabelled ones.
    most : number of images to return at most.
    progress : called after each image with the number that are done.

    Returns
    -------
    The candidates, and the images that cannot be read.

    Raises
    ------
    ImgclfError : there is no image in the folder.
    """
    if folder:
        paths = [str(path) for path in predict.image_files([folder])]
        sources = list(map(Source, map(Path, paths)))
    else:
        paths = [image.path for image in dataset.unlabelled]
        sources = image_sources(dataset, dataset.unlabelled)
    found: list[Candidate] = []
    skipped: list[Skipped] = []
    for done, (i, result) in enumerate(classifier.predict(sources), start=1):
        if isinstance(result, Prediction):
            found.append(Candidate(paths[i], result.label, float(result.probabilities.max())))
        else:
            skipped.append(result)
        if progress:
            progress(done)
    ranked = sorted(found, key=lambda one: (-one.probability, one.path))
    return [one for one in ranked if one.label != NONE][:most], skipped


def add(dataset: Dataset, paths: Iterable[Path]) -> list[Path]:
    """Copy images into the folder of images of none of the labels, and return the copies.

    With folders for training and test images, that of the training images. No file is overwritten, and an
    image that was copied before is not copied again. 01_prepare_data finds the copies.

    Raises
    ------
    ImgclfError : a file cannot be read or copied; those before it are copied.
    """
    folder = dataset.folder / next(iter(dataset.layout.sets), "")
    return [results.copy_into(folder, path, NONE) for path in paths]
