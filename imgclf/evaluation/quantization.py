"""What int8 costs: a classifier with a quantized network against the same one in f32, on the same images."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from imgclf import engines, features, files, svm
from imgclf.classifier import heads
from imgclf.classifier.model import read_metadata
from imgclf.data.dataset import Dataset
from imgclf.data.split import Split
from imgclf.evaluation import comparison, intervals
from imgclf.evaluation.metrics import Evaluation
from imgclf.features import Cache, Features, inference
from imgclf.images.loading import load_all


def cost_of_int8(
    dataset: Dataset,
    parts: Split,
    classifier: str,
    evaluation: Evaluation,
    *,
    engine: str = "openvino",
    evaluated_on: str = "test",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> str:
    """Return a sentence that compares the classifier in int8 with the same one in f32.

    The classifier in f32 is trained as the one in int8, with the same C, on features in f32; those that are
    not cached are computed. The two are compared by McNemar's test on the same test images. Nothing is
    compared if training images were lost since, or in a trial of a sweep, which it would make slower.

    Parameters
    ----------
    evaluation : the test scores of the classifier of 04_train_svm.
    progress : called after each image whose features in f32 are computed, with the number done and of all.
    """
    proc = files.proc_dir(dataset.name)
    if read_metadata(proc / files.CLASSIFIER)["self_test"]["precision"] != "int8":
        return "not compared: the classifier is not quantized (precision='int8' in 03 to 05 does that)"
    if evaluated_on != "test":
        return "not compared: these are training images; set evaluate_on='test'"
    if (proc / files.TRIAL_RECORD).exists():
        return "not compared in a trial of a sweep; run the notebooks with its values for that"
    network = heads.network(dataset.name, classifier)
    cache = Cache.for_network(dataset.name, network, engine=engine)
    scored = {*evaluation.paths}
    tested = [image for image in parts.test if image.path in scored]
    todo = list(features.missing([*parts.train, *tested], cache))

    def show(done: int) -> None:
        progress(done, len(todo))

    features.compute(dataset, network, cache, subset=todo, engine=engine, progress=show)
    quantized = inference.quantized_file(network)
    in_int8 = Cache.for_network(dataset.name, quantized, engine=engine, precision="int8")
    train, trained = cache.features(parts.train), in_int8.features(parts.train)
    if train.images != trained.images:
        return (
            f"not compared: {len(train.images)} training images have features in f32, {len(trained.images)} "
            "in int8; restore those that are gone, or run 01_prepare_data again"
        )
    in_f32 = _scores_in_f32(dataset.name, parts, classifier, evaluation, train, cache.features(tested))
    found = comparison.compare(in_f32, evaluation)
    low, high = intervals.paired_difference(
        found.gained, found.lost, found.images, design_effect=found.design_effect
    )
    return (
        f"int8 against f32: accuracy {found.after:.1%} against {found.before:.1%} on the same {found.images} "
        f"test images, {100 * (found.after - found.before):+.1f} points "
        f"({100 * low:+.1f} to {100 * high:+.1f}); {found.gained} images are correct only in int8, "
        f"{found.lost} only in f32 (McNemar's exact test: p = {found.p_value:.2g}). "
        f"{_speed(dataset, parts, {'f32': network, 'int8': quantized}, engine)}"
    )


def _scores_in_f32(
    name: str, parts: Split, classifier: str, evaluation: Evaluation, train: Features, test: Features
) -> Evaluation:
    head = svm.read(files.proc_dir(name) / files.SVM_HEAD)
    search = heads.train(
        name,
        classifier,
        train,
        parts.train,
        parts.clusters_of(train.images),
        c_values=[head.c],
        l2_normalize=head.l2_normalize,
        seed=evaluation.seed,
    )
    rows = {path: row for row, path in enumerate(evaluation.paths)}
    scores = np.full_like(evaluation.scores, -np.inf)
    columns = [evaluation.labels.index(label) for label in search.head.labels]
    order = [rows[image.path] for image in test.images]
    scores[np.ix_(order, columns)] = search.head.scores(test.matrix)
    return replace(evaluation, scores=scores)


def _speed(dataset: Dataset, parts: Split, networks: dict[str, Path], engine: str) -> str:
    paths = [dataset.file(image) for image in parts.test[: inference.MEASURED_IMAGES]]
    pixels = load_all(paths, engines.preprocessing(networks["f32"]))
    _, seconds, failed = inference.measure(networks, pixels, engine)
    if failed:
        return f"The speed in int8 was not measured: {failed['int8']}."
    return f"The network in int8 is {seconds['f32'] / seconds['int8']:.1f} times as fast here, with {engine}."
