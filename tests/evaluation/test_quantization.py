"""05 says what int8 costs: accuracy on the same test images, and how much faster it is."""

import re

import pytest

from imgclf import engines, files
from imgclf.classifier import heads
from imgclf.classifier.model import Classifier
from imgclf.data import dataset, split
from imgclf.data.dataset import Dataset
from imgclf.data.split import Split
from imgclf.evaluation import metrics, quantization
from imgclf.evaluation.metrics import Evaluation
from imgclf.features import Cache
from imgclf.parameters import DNN, SVM, SVM_ON_REFINED
from support.classifiers import trained_as


def evaluated(kind: str, folder, precision: str) -> tuple[Dataset, Split, Evaluation]:
    path = trained_as(kind, folder, precision=precision)
    found = dataset.read("colours", str(folder))
    parts = split.read(found)
    with Classifier.load(path) as loaded:
        return found, parts, metrics.score(loaded, found, parts.test, cluster=parts.cluster)[0]


@pytest.mark.parametrize("kind", [SVM, DNN, SVM_ON_REFINED])
def test_a_sentence_compares_int8_with_f32_on_the_same_images(kind, colour_folder):
    found, parts, result = evaluated(kind, colour_folder, "int8")
    sentence = quantization.cost_of_int8(found, parts, kind, result)
    assert sentence.startswith(
        f"int8 against f32: accuracy 100.0% against 100.0% on the same {len(parts.test)} test images, +0.0 points"
    )
    assert re.search(
        r"; 0 images are correct only in int8, 0 only in f32 \(McNemar's exact test: p = 1\)\. "
        r"The network in int8 is \d+\.\d times as fast here, with openvino\.$",
        sentence,
    )


@pytest.mark.parametrize(("text", "reason"), [("no int8\nnot here", "not here"), ("", "RuntimeError")])
def test_a_quantized_network_that_does_not_start_has_no_speed(colour_folder, monkeypatch, text, reason):
    found, parts, result = evaluated(SVM, colour_folder, "int8")
    start = engines.start

    def broken(*given, precision="f32", **options):
        if precision == "int8":
            raise RuntimeError(text)
        return start(*given, precision=precision, **options)

    monkeypatch.setattr(engines, "start", broken)
    sentence = quantization.cost_of_int8(found, parts, SVM, result)
    assert sentence.endswith(f"(McNemar's exact test: p = 1). The speed in int8 was not measured: {reason}.")


def test_what_int8_loses_is_counted(colour_folder):
    found, parts, result = evaluated(SVM, colour_folder, "int8")
    result.scores[:3] = result.scores[:3, ::-1] - 10  # three images at least are predicted otherwise
    result.scores[:3, 1] += 20
    wrong = int((~result.correct).sum())
    assert f"; 0 images are correct only in int8, {wrong} only in f32" in quantization.cost_of_int8(
        found, parts, SVM, result
    )


def test_a_classifier_in_f32_is_not_compared(colour_folder):
    found, parts, result = evaluated(SVM, colour_folder, "f32")
    assert quantization.cost_of_int8(found, parts, SVM, result) == (
        "not compared: the classifier is not quantized (precision='int8' in 03 to 05 does that)"
    )


def test_a_classifier_in_f32_of_fewer_images_is_not_compared(colour_folder):
    found, parts, result = evaluated(SVM, colour_folder, "int8")
    for image in parts.train[:5]:
        found.file(image).unlink()
    images = len(parts.train)
    assert quantization.cost_of_int8(found, parts, SVM, result).startswith(
        f"not compared: {images - 5} training images have features in f32, {images} in int8"
    )


def test_progress_counts_the_images_in_f32_once(colour_folder):
    found, parts, result = evaluated(SVM, colour_folder, "int8")
    calls = []
    for _ in range(2):
        quantization.cost_of_int8(found, parts, SVM, result, progress=lambda *done: calls.append(done))
    total = len({image.pixels_key for image in found.images})
    assert calls == [(done, total) for done in range(1, total + 1)]


def test_a_trial_of_a_sweep_computes_nothing_in_f32(colour_folder):
    found, parts, result = evaluated(SVM, colour_folder, "int8")
    (files.proc_dir("colours") / files.TRIAL_RECORD).touch()
    sentence = quantization.cost_of_int8(found, parts, SVM, result)
    assert sentence == "not compared in a trial of a sweep; run the notebooks with its values for that"
    assert not Cache.for_network("colours", heads.network("colours", SVM)).known()


def test_scores_of_training_images_are_not_compared(colour_folder):
    found, parts, result = evaluated(SVM, colour_folder, "int8")
    sentence = quantization.cost_of_int8(found, parts, SVM, result, evaluated_on="train")
    assert sentence == "not compared: these are training images; set evaluate_on='test'"
