"""Forecasts of the accuracy with more training images, compared with what the images brought.

`python benchmarks/learning_curve.py [FOLDER_OF_LABEL_FOLDERS]`; by default the clothing photographs if 00 has fetched them, else
the demo set. Three quarters, or half, of the training images are hidden. The learning curve of the others predicts the accuracy
with all, and that is compared with the accuracy of a 3-fold cross-validation of all images. IMGCLF_DATA keeps the features.
"""

import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from imgclf import svm
from imgclf.collect import fetch, manifest
from imgclf.data import dataset, scan, split
from imgclf.evaluation import training_size
from imgclf.evaluation.training_size import Curve
from imgclf.features.pretrained import features_of

BACKBONES = ("efficientnet_lite1", "efficientnet_lite0")
C = 1.0  # what the search over 0.1, 1 and 10 chooses for half of the clothing photographs, in each of eight seeds
SEEDS = {4: 12, 2: 6}  # numbers of seeds where three quarters, and where half of the images are hidden


@dataclass(frozen=True)
class Images:
    """Features (n, d), labels (n,) and clusters (n,) of the images of a data set."""

    matrix: np.ndarray
    labels: np.ndarray
    clusters: np.ndarray

    def subset(self, rows: np.ndarray) -> "Images":
        """Return some of the images."""
        return Images(self.matrix[rows], self.labels[rows], self.clusters[rows])

    def curve(self, seed: int) -> Curve:
        """Return the learning curve."""
        arrays = self.matrix, self.labels, self.clusters
        return training_size.curve(*arrays, svm.train(*arrays, c_values=[C], seed=seed), seed=seed)


def main() -> None:
    folder = Path(sys.argv[1]).absolute() if sys.argv[1:] else dataset.images_folder("clothing")
    if not folder.exists():
        folder = dataset.images_folder("fashion_texture")
        fetch.fetch_images(manifest.entries_of("fashion_texture"), folder)
    for backbone in BACKBONES:
        images = images_of(folder, backbone)
        start = time.process_time()
        of_all = images.curve(0)
        print(
            f"{backbone}, {len(images.labels)} images, {time.process_time() - start:.0f} processor s: {of_all}"
        )
        for fewer, seeds in SEEDS.items():
            report(images, of_all, fewer, range(seeds))


def images_of(folder: Path, backbone: str) -> Images:
    """Return the images of a folder of label folders."""
    scanned = scan.scan_folder(f"learning_curve_{backbone}", folder)
    features = features_of(scanned, backbone=backbone)
    clusters = split.clusters(scanned)
    return Images(
        features.matrix, features.labels, np.array([clusters[image.path] for image in features.images])
    )


def report(images: Images, of_all: Curve, fewer: int, seeds: range) -> None:
    """Print how near the forecasts from a part of the images come, and how often their intervals hold.

    Parameters
    ----------
    fewer : the images that are seen are one of so many; they predict the largest point of the curve of all.
    """
    number, halvings = training_size.BEYOND.index(fewer), fewer.bit_length() - 1
    last, before = of_all.points[-1], of_all.points[-1 - halvings]
    truth, gain = last.accuracy.value, last.accuracy.value - before.accuracy.value
    gains = np.array([a.value - b.value for a, b in zip(last.of_label, before.of_label, strict=True)])
    curves = [images.subset(visible(images, last.images / fewer, seed)).curve(seed) for seed in seeds]
    extended = [curve for curve in curves if curve.forecasts]
    if not extended:
        print(f"no forecast: {curves[0].reason}")
        return
    forecasts = [curve.forecasts[number] for curve in extended]
    error = np.array([forecast.accuracy - truth for forecast in forecasts])
    now = np.array([curve.points[-1].accuracy.value - truth for curve in extended])
    ends = np.array([forecast.interval for forecast in forecasts])
    of_label = np.array([forecast.of_label for forecast in forecasts])
    error_of_label = np.abs(of_label[..., 1] - gains)
    named = [curve.gain_most for curve in extended if curve.gain_most]
    right = sum(int(gains.argmax()) in labels for labels in named)
    hits = {
        f"accuracy ({truth:.3f}) in intervals {np.diff(ends).mean():.3f} wide": covered(ends, truth),
        f"gain ({gain:.3f})": covered(np.array([forecast.gain for forecast in forecasts]), gain),
        "gains of the labels": covered(of_label[..., [0, 2]], gains),
    }
    print(f"{extended[0].images} of {last.images} images, {len(extended)} forecasts with {len(seeds)} seeds")
    print(
        f"  error {error.mean():+.4f}, absolute {np.abs(error).mean():.4f}; without a forecast {now.mean():+.4f}"
    )
    print("  contain the truth: " + "; ".join(f"{name}: {share:.0%}" for name, share in hits.items()))
    print(f"  gains of the labels: absolute error {error_of_label.mean():.3f}, they gained {gains.round(3)}")
    print(
        f"  labels named {len(named)} times, with the one that gained most {right} times: {named}", flush=True
    )
    if named:
        of_named = np.mean([gains[list(labels)].mean() for labels in named])
        print(
            f"  the named labels gained {of_named:.3f} on average, all labels {gains.mean():.3f}", flush=True
        )


def covered(ends: np.ndarray, truth: np.ndarray | float) -> float:
    """Return the share of intervals (..., 2) that contain the truth."""
    return float(((ends[..., 0] <= truth) & (truth <= ends[..., 1])).mean())


def visible(images: Images, count: float, seed: int) -> np.ndarray:
    """Return the rows of a stratified sample of whole clusters."""
    y = np.unique(images.labels, return_inverse=True)[1]
    place = training_size.places(y, images.clusters, np.random.default_rng(1000 + seed))
    return np.flatnonzero(place < count / len(y))


if __name__ == "__main__":
    main()
