"""Recall of planted label errors at the top of the list of suspects.

`python benchmarks/label_errors.py [FOLDER_OF_LABEL_FOLDERS]`; by default the clothing photographs if 00 has fetched them, else the demo set.
A share of the training labels is changed to another label, drawn with a seed. The SVM is trained on the changed labels with the default
parameters, and the suspects are compared with the changed images. The features do not depend on labels and are computed once.
"""

import os
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from imgclf import features, files, parameters, svm
from imgclf.annotation.suspects import out_of_fold_evaluation, suspected_label_errors
from imgclf.collect import fetch, manifest
from imgclf.data import dataset, scan, split
from imgclf.images.preprocessing import Preprocessing
from imgclf.networks import backbones

SHARE = 0.05  # of the training images
SEEDS = range(5)


@dataclass(frozen=True)
class Counts:
    """Counts of one seed, in images.

    `first`: planted errors among the first `planted` suspects, as many as were planted. `first_by_margin`: the same with the
    suspects ranked by cleanlab's other score, the normalized margin.
    """

    planted: int
    first: int
    first_by_margin: int
    listed: int  # planted errors among all suspects
    suspects: int


def main() -> None:
    fetched = dataset.images_folder("clothing")
    with tempfile.TemporaryDirectory() as data:
        os.environ["IMGCLF_DATA"] = data
        train, clusters = training_features(chosen_folder(sys.argv[1:], fetched))
        print(
            f"{train}, {len(set(train.labels))} labels; {SHARE:.0%} of the labels changed, {len(SEEDS)} seeds: mean (least to most)"
        )
        report([planted(train, clusters, seed) for seed in SEEDS], len(train.images))


def chosen_folder(arguments: list[str], fetched: Path) -> Path:
    """Return the given folder, else the clothing photographs, else the rendered demo set."""
    if arguments:
        return Path(arguments[0]).absolute()
    if fetched.exists():
        return fetched
    folder = dataset.images_folder("fashion_texture")
    fetch.fetch_images(manifest.entries_of("fashion_texture"), folder)
    return folder


def training_features(folder: Path) -> tuple[features.Features, np.ndarray]:
    """Return the features of the training images, and their clusters."""
    scanned = scan.scan_folder("planted", folder)
    parts = split.split(scanned)
    backbone = backbones.BACKBONES[parameters.PARAMETERS["backbone"].default]
    network = files.proc_dir("planted") / "dnn_fixed.onnx"
    backbones.write(backbone, Preprocessing(backbone.input_size), network)
    cache = features.Cache.for_network("planted", network)
    features.compute(scanned, network, cache, subset=parts.train)
    train = cache.features(parts.train)
    return train, parts.clusters_of(train.images)


def planted(train: features.Features, clusters: np.ndarray, seed: int) -> Counts:
    """Change some labels, train, and count the changed images among the suspects."""
    draws, names = np.random.default_rng(seed), sorted(set(train.labels))
    changed = draws.choice(len(train.images), round(SHARE * len(train.images)), replace=False)
    images = list(train.images)
    for row in changed:
        images[row] = replace(
            images[row], label=str(draws.choice([name for name in names if name != images[row].label]))
        )
    labels = np.array([image.label for image in images])
    defaults = {name: parameters.PARAMETERS[name].default for name in ("l2_normalize", "seed")}
    search = svm.train(
        train.matrix, labels, clusters, c_values=parameters.PARAMETERS["svm_c"].default, **defaults
    )
    cluster = dict(zip((image.path for image in images), clusters.tolist(), strict=True))
    suspects = suspected_label_errors(out_of_fold_evaluation(search, images, cluster))
    wrong = {images[row].path for row in changed}
    first, first_by_margin, listed = (
        sum(suspect.path in wrong for suspect in some)
        for some in (
            suspects[: len(changed)],
            sorted(suspects, key=lambda suspect: -suspect.margin)[: len(changed)],
            suspects,
        )
    )
    return Counts(len(changed), first, first_by_margin, listed, len(suspects))


def report(results: list[Counts], images: int) -> None:
    """Print a line for each part of the list that a person may review."""
    count, suspects = results[0].planted, round(float(np.mean([f.suspects for f in results])))
    rows = (
        (f"among the first {count} ({SHARE:.0%} of the images)", [f.first for f in results], count),
        ("the same, by the margin instead", [f.first_by_margin for f in results], count),
        (f"among all suspects ({suspects}, {suspects / images:.0%})", [f.listed for f in results], suspects),
    )
    print(f"{'':<42}{f'of {count} planted':>26}{'share':>8}{'in random order':>17}")
    for name, counts, reviewed in rows:
        span = f"{np.mean(counts):.1f} ({min(counts)} to {max(counts)})"
        print(f"{name:<42}{span:>26}{np.mean(counts) / count:>8.0%}{reviewed / images:>17.0%}")
    lengths = [f.suspects for f in results]
    print(f"suspects: {np.mean(lengths):.0f} ({min(lengths)} to {max(lengths)})")


if __name__ == "__main__":
    main()
