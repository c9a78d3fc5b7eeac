"""False alarms of the findings on photographs, and planted faults that are found.

`python benchmarks/findings.py [FOLDER_OF_LABEL_FOLDERS]`; by default the photographs, or the demo set. Every twelfth image gets each
fault. Outliers are looked for among the features of the default network, with crops of scikit-learn's two sample photographs (a temple,
a flower), noise and one colour planted.
"""

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from label_errors import chosen_folder, training_features
from sklearn.datasets import load_sample_images

from imgclf import engines, features, files
from imgclf.annotation import findings
from imgclf.data import dataset
from imgclf.data.dataset import Dataset, Image
from imgclf.features import Features
from imgclf.images import decoding, duplicates, quality
from imgclf.images.loading import in_parallel

EVERY = 12
FAULTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    **{f"blur, sigma {s}": lambda p, s=s: cv2.GaussianBlur(p, (0, 0), s) for s in (1, 1.5, 2, 3, 4, 6, 8)},
    **{f"motion blur, {k} pixels": lambda p, k=k: cv2.blur(p, (k, 1)) for k in (9, 15)},
    **{
        f"enlarged from {s} pixels": lambda p, s=s: decoding.scale(decoding.shrink(p, s), 352)
        for s in (40, 64, 88)
    },
    **{f"brightness x {f}": lambda p, f=f: cv2.convertScaleAbs(p, alpha=f) for f in (0.5, 0.4, 0.3, 0.2)},
    **{
        f"contrast x {f}": lambda p, f=f: cv2.convertScaleAbs(p, alpha=f, beta=128 * (1 - f))
        for f in (0.2, 0.1)
    },
    "40 pixels": lambda p: decoding.shrink(p, 40),
}


def described(name: str, pixels: np.ndarray) -> Image:
    """An image as a scan describes it."""
    measured, size = quality.measure(quality.small_grey(pixels)), pixels.shape
    measures = (measured.shadows, measured.highlights, measured.sharpness)
    return Image(name, "a", name, duplicates.dhash(pixels), size[1], size[0], "", "", "", *measures)


def found(images: list[Image], some: Features | None = None) -> dict[str, set[str]]:
    """The paths of each finding that is about single images."""
    scanned = Dataset("own", Path(), tuple(images))
    return {finding.kind: set(finding.images) for finding in findings.find(scanned, some)}


def faults(paths: list[Path]) -> None:
    """Print the false alarms, and the share of the images with each fault of which something is found."""
    clean = list(in_parallel(lambda path: described(str(path), decoding.read(path)), paths))
    print(f"{len(clean)} photographs:", {kind: len(images) for kind, images in found(clean).items()})
    for name, fault in FAULTS.items():
        pictures = [fault(decoding.read(path)) for path in paths[::EVERY]]
        saved = [decoding.decode(decoding.jpeg(pixels, quality=90)) for pixels in pictures]
        bad = found([described(str(i), pixels) for i, pixels in enumerate(saved)])
        kinds = {kind: f"{len(images) / len(saved):.0%}" for kind, images in bad.items()}
        print(f"{name:25s} {kinds}", flush=True)


def outliers(folder: Path) -> None:
    """Print how many photographs are outliers, and how many of the pictures of something else."""
    train, _ = training_features(folder)
    network = files.proc_dir("planted") / files.FIXED_NETWORK
    rng = np.random.default_rng(0)
    pictures = [
        crop
        for photo in load_sample_images().images
        for crop in (photo, photo[:300, :400], photo[100:, 200:])
    ]
    pictures += [rng.integers(0, 256, (264, 352, 3), dtype=np.uint8), np.full((264, 352, 3), 128, np.uint8)]
    preprocessing = engines.preprocessing(network)
    vectors = features.extract(network, np.stack([preprocessing.letterbox(pixels) for pixels in pictures]))
    planted = [described(f"planted {i}", pixels) for i, pixels in enumerate(pictures)]
    images = [*train.images, *planted]
    bad = found(images, Features(np.concatenate([train.matrix, vectors]), tuple(images)))["outliers"]
    hits = bad & {image.path for image in planted}
    print(
        f"outliers: {len(hits)} of {len(planted)} planted; {len(bad - hits)} of {len(train.images)} photographs"
    )


if __name__ == "__main__":
    fetched = dataset.images_folder("clothing")
    with tempfile.TemporaryDirectory() as data:
        os.environ["IMGCLF_DATA"] = data
        source = chosen_folder(sys.argv[1:], fetched)
        faults(sorted(path for path in source.rglob("*") if decoding.is_image(path)))
        outliers(source)
