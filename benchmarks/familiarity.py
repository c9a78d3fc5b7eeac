"""Share of images of other things that a classifier calls unfamiliar, where 5 % of ordinary test images are called so too.

`python benchmarks/familiarity.py [FOLDER] [--other FOLDER]…`; by default the clothing photographs, if 00 has fetched them. Other things
are the rendered garments of the demo set, the images of each `--other` folder, and each label in turn, left out of the training. SVM with
C = 1. Three measures: the largest probability, the cosine to the nearest training image, and familiarity, which combines the two. Then
the share of test images below the threshold of 04, which promises 5 %; in each precision, and with fewer training images to compare with.
"""

import argparse
import os
import tempfile
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score

from imgclf import features, files, parameters, svm
from imgclf.classifier import familiarity, predict
from imgclf.collect import demo
from imgclf.data import dataset, scan, split
from imgclf.evaluation import intervals
from imgclf.features import inference
from imgclf.images import decoding
from imgclf.images.loading import load_all
from imgclf.images.preprocessing import Preprocessing
from imgclf.networks import backbones

NAME = "clothing"
MEASURES = ("probability", "cosine", "familiarity")
COMPARED = (1000, 500)  # training images to compare with, in place of all
PRECISIONS = ("bf16", "int8")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", nargs="?", type=Path, default=dataset.images_folder(NAME))
    parser.add_argument("--other", action="append", type=Path, default=[], metavar="FOLDER")
    options = parser.parse_args()
    if not options.folder.exists():
        print(f"familiarity: skipped, {options.folder} is not there")
        return
    with tempfile.TemporaryDirectory() as data:
        os.environ["IMGCLF_DATA"] = data
        measure(options.folder.absolute(), options.other)


def measure(folder: Path, others: list[Path]) -> None:
    """Print the tables of a folder of label folders."""
    found = scan.scan_folder(NAME, folder, near_duplicates=dataset.IGNORED)
    dataset.write(found)
    parts = split.split(found)
    split.write(found, parts)
    backbone = backbones.BACKBONES[parameters.PARAMETERS["backbone"].default]
    network = files.proc_dir(NAME) / files.FIXED_NETWORK
    preprocessing = Preprocessing(backbone.input_size)
    backbones.write(backbone, preprocessing, network)
    rendered = [demo.response(source) for _, source in demo.sources()]
    garments = [each.body for each in rendered if each.status == 200 and each.body.endswith(b"\xff\xd9")]
    pixels = {
        "rendered garments": np.stack([preprocessing.letterbox(decoding.decode(body)) for body in garments])
    }
    pixels |= {each.name: load_all(list(predict.image_files([each])), preprocessing) for each in others}
    for precision in ("f32", *PRECISIONS):
        used = inference.prepare(found, network, precision=precision)
        cache = features.Cache.for_network(NAME, used.network, precision=used.precision)
        features.compute(found, used.network, cache, precision=used.precision)
        matrices = {
            name: features.extract(used.network, some, precision=used.precision)
            for name, some in pixels.items()
        }
        train, test = cache.features(parts.train), cache.features(parts.test)
        print(f"{precision}: {len(train.images)} training images, {len(test.images)} test images")
        report(*fitted(train), test, matrices, parts)
        if precision == "f32":
            compare_with_fewer(train, test, matrices)
            leave_out(train, test)


def fitted(train: features.Features) -> tuple[svm.Head, familiarity.Familiarity]:
    """Train the SVM, and choose the images to compare with and the threshold."""
    alone = np.arange(len(train.images))
    search = svm.train(train.matrix, train.labels, alone, c_values=[1.0])
    return search.head, familiarity.fit(search, train.matrix, train.labels, alone)[0]


def report(
    head: svm.Head,
    compared: familiarity.Familiarity,
    test: features.Features,
    matrices: dict[str, np.ndarray],
    parts: split.Split | None = None,
) -> None:
    """Print a line for each kind of other things, and the share of test images that are called unfamiliar."""
    ordinary = measures(head, compared, test.matrix)
    for name, matrix in matrices.items():
        print(f"  {name} ({len(matrix)}): {line(ordinary, measures(head, compared, matrix))}")
    if parts:
        flagged = ordinary[2] < compared.threshold
        cluster = np.unique(parts.clusters_of(test.images), return_inverse=True)[1]
        low, high = intervals.accuracy(flagged, cluster)
        promised = f"promised {compared.rate:.1%}, found {flagged.mean():.1%} ({low:.1%} to {high:.1%})"
        print(f"  test images called unfamiliar: {promised}")


def measures(head: svm.Head, compared: familiarity.Familiarity, matrix: np.ndarray) -> np.ndarray:
    """Return the `MEASURES` (3, n) of n images."""
    probabilities = head.probabilities(matrix)
    certain = np.ones((len(matrix), 1), np.float32)
    return np.stack(
        [probabilities.max(axis=1), compared.of(matrix, certain), compared.of(matrix, probabilities)]
    )


def line(ordinary: np.ndarray, other: np.ndarray) -> str:
    """Return the share caught where `familiarity.RATE` of the ordinary ones are flagged, and the ROC area."""
    cells = []
    for name, of_ordinary, of_other in zip(MEASURES, ordinary, other, strict=True):
        caught = (of_other < np.quantile(of_ordinary, familiarity.RATE)).mean()
        is_ordinary = np.arange(len(of_ordinary) + len(of_other)) < len(of_ordinary)
        area = roc_auc_score(is_ordinary, np.concatenate([of_ordinary, of_other]))
        cells.append(f"{name} {caught:.0%} {area:.3f}")
    return ", ".join(cells)


def compare_with_fewer(
    train: features.Features, test: features.Features, matrices: dict[str, np.ndarray]
) -> None:
    """Print the same, compared with fewer training images."""
    every = familiarity.MAX_IMAGES
    for count in COMPARED:
        familiarity.MAX_IMAGES = count
        print(f"compared with {count} training images, as many of each label:")
        report(*fitted(train), test, matrices)
    familiarity.MAX_IMAGES = every


def leave_out(train: features.Features, test: features.Features) -> None:
    """Print a line for each label, of all whose images the classifier has seen none."""
    print("labels left out of the training:")
    for label in sorted(set(train.labels)):
        without = [
            some.subset(image for image in some.images if image.label != label) for some in (train, test)
        ]
        matrix = np.concatenate([some.matrix[some.labels == label] for some in (train, test)])
        report(*fitted(without[0]), without[1], {label: matrix})


if __name__ == "__main__":
    main()
