"""Gain and cost of fine-tuning: accuracy on the test images, and seconds of processor time, for several seeds.

`python benchmarks/refine.py [FOLDER_OF_LABEL_FOLDERS] [NAME=VALUE…]`; by default the clothing photographs if 00 has fetched them, else the demo set.
NAME=VALUE changes a hyperparameter; `seeds=0,1` and `backbone=` work too. The seed changes the validation images, the order of
the training images, their augmentation and dropout.
"""

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from label_errors import chosen_folder

from imgclf import features, files, parameters
from imgclf.classifier import heads
from imgclf.data import dataset, scan, split
from imgclf.evaluation import comparison, metrics
from imgclf.finetuning import finetune, recipe
from imgclf.images.preprocessing import Preprocessing
from imgclf.networks import backbones

NAME = "refined"


def main() -> None:
    given = [argument for argument in sys.argv[1:] if "=" in argument]
    values = dict(argument.split("=", 1) for argument in given)
    seeds = [int(seed) for seed in values.pop("seeds", "0,1,2").split(",")]
    settings = {**defaults(), **parameters.parse(f"{name}={value}" for name, value in values.items())}
    fetched = dataset.images_folder("clothing")
    with tempfile.TemporaryDirectory() as data:
        os.environ["IMGCLF_DATA"] = data
        folder = chosen_folder([argument for argument in sys.argv[1:] if "=" not in argument], fetched)
        scanned = scan.scan_folder(NAME, folder)
        dataset.write(scanned)
        split.write(scanned, split.split(scanned))
        backbone = backbones.choose(settings["backbone"])
        backbones.write(
            backbone,
            Preprocessing(backbones.side(backbone, settings["input_size"])),
            files.proc_dir(NAME) / files.FIXED_NETWORK,
        )
        baseline = evaluated("svm", folder, settings)
        print(
            f"{scanned}; svm on fixed features {baseline.correct.mean():.4f}; {values or 'defaults'}",
            flush=True,
        )
        rows = [one_seed(folder, {**settings, "seed": seed}, baseline) for seed in seeds]
    for k, name in enumerate(("dnn", "svm_dnn_refined", "processor seconds", "seconds")):
        print(f"median {name}: {statistics.median(row[k] for row in rows):.4g}")


def defaults() -> dict[str, Any]:
    return {name: parameter.default for name, parameter in parameters.PARAMETERS.items()}


def one_seed(
    folder: Path, settings: dict[str, Any], baseline: metrics.Evaluation
) -> tuple[float, float, float, float]:
    """Return the accuracies of the two fine-tuned classifiers, and processor and wall seconds of fine-tuning."""
    processor, wall = time.process_time(), time.perf_counter()
    result = finetune.finetune(
        NAME, str(folder), "dnn", backbones.choose(settings["backbone"]), recipe.from_parameters(settings)
    )
    processor, wall = time.process_time() - processor, time.perf_counter() - wall
    print(f"seed {settings['seed']}: " + "; ".join(map(str, result.epochs[1:])), flush=True)
    print("   " + " ".join(result.notes), flush=True)
    evaluations = [evaluated(kind, folder, settings) for kind in ("dnn", "svm_dnn_refined")]
    dnn, svm = (evaluation.correct.mean() for evaluation in evaluations)
    print(
        f"   dnn {dnn:.4f}, svm_dnn_refined {svm:.4f}; {processor:.0f} s of processor time, {wall:.0f} s; dnn: {comparison.compare(baseline, evaluations[0])}",
        flush=True,
    )
    return dnn, svm, processor, wall


def evaluated(kind: str, folder: Path, settings: dict[str, Any]) -> metrics.Evaluation:
    """Return the evaluation of a classifier on the test images, with features as 03 computes them."""
    scanned = dataset.read(NAME, str(folder))
    parts, network = split.read(scanned), heads.network(NAME, kind)
    cache = features.Cache.for_network(NAME, network)
    features.compute(scanned, network, cache)
    train, test = cache.features(parts.train), cache.features(parts.test)
    search = heads.train(
        NAME,
        kind,
        train,
        parts.train,
        parts.clusters_of(train.images),
        c_values=settings["svm_c"],
        l2_normalize=settings["l2_normalize"],
    )
    scores = search.head.scores(test.matrix).astype(np.float32)
    print(f"   {kind}: {heads.summary(search, train, kind)}", flush=True)
    return metrics.evaluate(
        list(search.head.labels),
        [i.path for i in test.images],
        test.labels.tolist(),
        scores,
        scores,
        sha256=[i.sha256 for i in test.images],
    )


if __name__ == "__main__":
    main()
