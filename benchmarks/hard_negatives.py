"""Share of images of none of the labels that a classifier recognizes as such, with and without `none_of_these`.

`python benchmarks/hard_negatives.py [FOLDER]`; by default the clothing photographs, if 00 has fetched them. Four of their labels are
labels here. Shoes and hats are of none of them: some are used to train, others to test. Outwear is of none and only tested.
"""

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from imgclf import features, files, parameters, svm
from imgclf.data import dataset, scan
from imgclf.data.dataset import Image
from imgclf.data.labels import NONE
from imgclf.images.preprocessing import Preprocessing
from imgclf.networks import backbones

LABELS, NEGATIVES, UNSEEN = ("dress", "pants", "shirt", "t-shirt"), ("shoes", "hat"), "outwear"
TRAIN, TEST, POOL = 60, 25, 60  # images of each label, of each label, of each kind of negatives
COUNTS = (10, 20, 40)  # images in none_of_these
SEEDS = range(5)
COLUMNS = (
    "other shoes and hats found as none",
    "outwear found as none",
    "images of labels right",
    "taken for none",
)


def main() -> None:
    folder = Path(sys.argv[1]).absolute() if sys.argv[1:] else dataset.images_folder("clothing")
    if not folder.exists():
        print(f"hard negatives: skipped, {folder} is not there")
        return
    with tempfile.TemporaryDirectory() as data:
        os.environ["IMGCLF_DATA"] = data
        described = described_images(folder)
    results: dict[str, list[tuple[float, ...]]] = {}
    for seed in SEEDS:
        for name, figures in measured(described, np.random.default_rng(seed)):
            results.setdefault(name, []).append(figures)
    print(f"hard negatives: {described}, means of {len(SEEDS)} seeds: {', '.join(COLUMNS)}")
    for name, found in results.items():
        print(f"  {name}: {', '.join(f'{value:.1%}' for value in np.mean(found, axis=0))}")


def described_images(folder: Path) -> features.Features:
    """Return the features of some images of each folder, evenly spaced."""
    sizes = {**dict.fromkeys(LABELS, TRAIN + TEST), **dict.fromkeys(NEGATIVES, 100), UNSEEN: 40}
    data = dataset.images_folder("some")
    for label, count in sizes.items():
        (data / label).mkdir(parents=True)
        paths = sorted((folder / label).iterdir())
        for i in range(count):
            path = paths[i * len(paths) // count]
            (data / label / path.name).symlink_to(path)
    found = scan.scan_folder("some", data)
    backbone = backbones.BACKBONES[parameters.PARAMETERS["backbone"].default]
    network = files.proc_dir("some") / files.FIXED_NETWORK
    backbones.write(backbone, Preprocessing(backbone.input_size), network)
    cache = features.Cache.for_network("some", network)
    features.compute(found, network, cache)
    return cache.features(found.images)


def measured(
    described: features.Features, draws: np.random.Generator
) -> Iterator[tuple[str, tuple[float, ...]]]:
    """Yield name and figures of each way to recognize images of none of the labels."""
    of_label: dict[str, list[Image]] = {}
    for i in draws.permutation(len(described.images)):
        of_label.setdefault(described.images[i].label, []).append(described.images[i])
    train, test, pool, others = (
        described.subset(image for label in labels for image in of_label[label][part])
        for labels, part in (
            (LABELS, slice(TRAIN)),
            (LABELS, slice(TRAIN, None)),
            (NEGATIVES, slice(POOL)),
            (NEGATIVES, slice(POOL, None)),
        )
    )
    unseen = described.subset(of_label[UNSEEN])
    without = fitted(train.matrix, train.labels)
    hardest = np.argsort(-confidence(without, pool), kind="stable")
    for count in COUNTS:
        for name, rows in (("most confident", hardest), ("random", draws.permutation(len(pool.images)))):
            matrix = np.concatenate([train.matrix, pool.matrix[rows[:count]]])
            head = fitted(matrix, np.array([*train.labels, *[NONE] * count]))
            found = [predicted(head, some) for some in (others, unseen, test)]
            as_none = [float((labels == NONE).mean()) for labels in found]
            yield f"{count} {name}", (*as_none[:2], float((found[2] == test.labels).mean()), as_none[2])
            # In place of the class, the threshold that rejects as many images of the labels.
            sure = [confidence(without, some) for some in (others, unseen, test)]
            threshold = np.quantile(sure[2], as_none[2])
            right = (predicted(without, test) == test.labels) & (sure[2] >= threshold)
            rejected = [float((some < threshold).mean()) for some in sure]
            yield (
                f"reject_below in place of {count} {name}",
                (*rejected[:2], float(right.mean()), rejected[2]),
            )


def fitted(matrix: np.ndarray, labels: np.ndarray) -> svm.Head:
    """Train an SVM with the default parameters, each image a cluster of its own."""
    alone = np.arange(len(labels)).astype(str)
    return svm.train(matrix, labels, alone, c_values=parameters.PARAMETERS["svm_c"].default).head


def predicted(head: svm.Head, some: features.Features) -> np.ndarray:
    """Return the predicted class of each image."""
    return np.array(head.labels)[head.scores(some.matrix).argmax(axis=1)]


def confidence(head: svm.Head, some: features.Features) -> np.ndarray:
    """Return the largest probability of each image."""
    logits = head.scores(some.matrix) / head.temperature
    return 1 / np.exp(logits - logits.max(axis=1, keepdims=True)).sum(axis=1)


if __name__ == "__main__":
    main()
