"""Data sets of which most images have no label, with features that tell their colours."""

from pathlib import Path

import numpy as np

from imgclf.annotation.annotations import Annotations
from imgclf.data import scan
from imgclf.data.dataset import Dataset
from imgclf.features import Features
from imgclf.images import decoding
from support.pictures import COLOURS, picture


def write_unlabelled(folder: Path, *, each: int, labels: bool = True) -> Path:
    """Write JPEGs of three colours into `unlabelled`, named COLOUR_NUMBER.jpg, and empty label folders."""
    (folder / "unlabelled").mkdir(parents=True)
    for k, (name, colour) in enumerate(COLOURS.items()):
        if labels:
            (folder / name).mkdir()
        for i in range(each):
            content = decoding.jpeg(picture(colour, seed=1000 * k + i))
            (folder / "unlabelled" / f"{name}_{i:02d}.jpg").write_bytes(content)
    return folder


def colour_features(dataset: Dataset) -> Features:
    """Return the mean colour of each image, and some noise, as its features."""
    pixels = [decoding.read(dataset.file(image)).reshape(-1, 3).mean(axis=0) for image in dataset.files]
    noise = np.random.default_rng(0).normal(0, 3, (len(pixels), 5))
    matrix = np.concatenate([np.array(pixels) - 120, noise], axis=1)
    return Features(matrix.astype(np.float32), dataset.files)


def scanned(folder: Path) -> tuple[Annotations, Features]:
    """Return the annotations and the features of a folder."""
    dataset = scan.scan_folder("colours", folder)
    return Annotations(dataset), colour_features(dataset)
