"""Accuracy over the number of labels, in the order in which labels are proposed and at random; and the time to the next image.

`python benchmarks/labelling.py [FOLDER_OF_LABEL_FOLDERS]`; by default the clothing photographs, if 00 has fetched them. The images that
the folder's list of dedicated test images names are the test images. The first run computes the features, about 2 minutes for 3,400 images;
IMGCLF_DATA keeps them. The estimated accuracy is compared with the accuracy on a third of the images, drawn anew for each seed.
"""

import hashlib
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from imgclf.annotation.annotations import Annotations
from imgclf.annotation.proposals import Proposals
from imgclf.annotation.simulation import ORDERS, simulate
from imgclf.data import dataset, layout, scan, split
from imgclf.data.dataset import NO_LABEL, UNLABELLED, Dataset, Image
from imgclf.features import Features
from imgclf.features.pretrained import features_of

AT = (100, 200, 350, 500, 700, 1000)
SEEDS = range(3)
SEEDS_OF_COVERAGE = range(10)
IMAGES, DIMENSIONS, LABELS = 20_000, 1280, 10
ANSWERS, SECONDS_TO_ANSWER = 120, 0.5  # while the time to the next image is measured


def main() -> None:
    folder = Path(sys.argv[1]).absolute() if sys.argv[1:] else dataset.images_folder("clothing")
    if folder.exists():
        accuracies(folder)
    else:
        print(f"{folder}: no photographs; give a folder of label folders to measure the accuracy")
    time_to_next_image()


def accuracies(folder: Path) -> None:
    """Print the accuracy for each number of labels, and how often the estimates' intervals contain it."""
    scanned = scan.scan_folder("labelling", folder)
    described, parts = features_of(scanned), split.split(scanned)
    train, test = described.subset(parts.train), described.subset(parts.test)
    all_labels = simulate(train, test, order=ORDERS[1], at=[len(train.images)])[0]
    print(
        f"{len(train.images)} training and {len(test.images)} test images; all labels: {all_labels.accuracy:.3f}"
    )
    print(f"{'labels given':20s}" + "".join(f"{count:>22d}" for count in AT))
    for order in ORDERS:
        runs = [[p.accuracy for p in simulate(train, test, order=order, at=AT, seed=seed)] for seed in SEEDS]
        cells = ["  ".join(f"{value:.3f}" for value in values) for values in zip(*runs, strict=True)]
        print(f"{order:20s}" + "".join(f"{cell:>22s}" for cell in cells), flush=True)
    coverage(described)


def coverage(described: Features) -> None:
    """Print how often the 95 % intervals of the estimates contain the accuracy on other images."""
    hits, widths, errors = [], [], []
    for seed in SEEDS_OF_COVERAGE:
        order = np.random.default_rng(seed).permutation(len(described.images))
        images = [described.images[i] for i in order]
        third = len(images) // 3
        train, test = described.subset(images[third:]), described.subset(images[:third])
        for point in simulate(train, test, at=AT, seed=seed, with_estimates=True):
            if found := point.estimate:
                hits.append(found.low <= point.accuracy <= found.high)
                widths.append(found.high - found.low)
                errors.append(found.accuracy - point.accuracy)
    print(
        f"{np.mean(hits):.1%} of {len(hits)} intervals contain the accuracy on other images; "
        f"mean width {np.mean(widths):.3f}, mean error {np.mean(errors):+.3f}"
    )


def time_to_next_image() -> None:
    """Print how long a command takes, from the key to the next image, while the model learns."""
    with tempfile.TemporaryDirectory() as data:
        os.environ["IMGCLF_DATA"] = data
        folder = Path(data) / "images" / "many"
        described, truth = synthetic(folder)
        found = Dataset("many", folder, described.images, layout=layout.find(folder))
        proposals = Proposals(Annotations(found), described)
        before = peak_memory()
        seconds = []
        for _ in range(ANSWERS):
            position = proposals.current
            assert position is not None
            proposals.proposal  # noqa: B018 what a person sees
            time.sleep(SECONDS_TO_ANSWER)
            start = time.perf_counter()
            proposals.relabel(truth[position])
            proposals.proposal  # noqa: B018
            seconds.append(time.perf_counter() - start)
        proposals.close()
        milliseconds = 1000 * np.array(seconds)
        print(
            f"time to the next image at {IMAGES} x {DIMENSIONS}, {ANSWERS} answers: "
            f"median {np.median(milliseconds):.0f} ms, 95 % {np.percentile(milliseconds, 95):.0f} ms, "
            f"longest {milliseconds.max():.0f} ms; {proposals.answered} labels learnt; "
            f"memory {peak_memory() - before:+.0f} MB beside {described.matrix.nbytes / 1e6:.0f} MB of features"
        )


def synthetic(folder: Path) -> tuple[Features, list[str]]:
    """Write small files and draw a feature vector for each; return them and the true labels."""
    draws = np.random.default_rng(0)
    of_image = draws.integers(LABELS, size=IMAGES)
    centres = draws.standard_normal((LABELS, DIMENSIONS), dtype=np.float32)
    matrix = draws.standard_normal((IMAGES, DIMENSIONS), dtype=np.float32)
    matrix *= 8
    for k in range(LABELS):
        matrix[of_image == k] += centres[k]
    (folder / UNLABELLED).mkdir(parents=True)
    for k in range(LABELS):
        (folder / f"label {k}").mkdir()
    images = []
    for i in range(IMAGES):
        content = f"{i} ".encode() * 100
        path = f"{UNLABELLED}/{i:05d}.jpg"
        (folder / path).write_bytes(content)
        images.append(
            Image(path, UNLABELLED, hashlib.sha256(content).hexdigest(), "", 64, 48, excluded=NO_LABEL)
        )
    return Features(matrix, tuple(images)), [f"label {k}" for k in of_image]


def peak_memory() -> float:
    """Return the largest resident memory of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


if __name__ == "__main__":
    main()
