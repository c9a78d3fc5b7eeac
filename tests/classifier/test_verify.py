"""A classifier scores the same in every runtime and in the training code, or is refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from imgclf import ImgclfError, cli, files, svm
from imgclf.classifier import model, verify
from imgclf.classifier.verify import Check
from imgclf.parameters import DNN, SVM, SVM_ON_REFINED
from support.classifiers import changed, pixels, self_test_with, trained, trained_as

AGREES, DISAGREES = Check("a and b", 3, 1e-7), Check("a and c", 7, 0.25)


@pytest.fixture
def written(tiny_network, colour_folder) -> Path:
    return trained(tiny_network, colour_folder)


each_kind = pytest.mark.parametrize("kind", [SVM, DNN, SVM_ON_REFINED])


@each_kind
def test_verify_compares_each_kind_of_classifier_with_the_training_code(kind, colour_folder):
    found = verify.verify(trained_as(kind, colour_folder), pixels())
    assert [check.compared for check in found.checks][-2:] == [
        "openvino and the training code",
        "onnxruntime and the training code",
    ]
    assert all(check.agrees for check in found.checks) and found.not_compared == ""


@each_kind
def test_verify_compares_each_kind_of_classifier_in_int8_with_the_training_code(kind, colour_folder):
    found = verify.verify(trained_as(kind, colour_folder, precision="int8"), pixels())
    assert [check.allowed for check in found.checks] == [model.TOLERANCE["int8"]] * 5
    assert all(check.agrees for check in found.checks) and found.not_compared == ""


@each_kind
def test_verify_disagrees_with_another_last_layer_of_each_kind(kind, colour_folder):
    path = trained_as(kind, colour_folder)
    head = svm.read(path.with_name(files.SVM_HEAD))
    svm.write(replace(head, offsets=head.offsets + np.float32(0.1)), path.with_name(files.SVM_HEAD))
    checks = verify.verify(path, pixels()).checks
    assert [check.agrees for check in checks] == [True, True, True, False, False]


@each_kind
@pytest.mark.parametrize(
    ("removed", "words"),
    [("network", "since the network that it was exported from is"), ("head", "since its svm.npz is")],
)
def test_the_command_says_what_it_could_not_compare_and_succeeds(removed, words, kind, colour_folder):
    path = trained_as(kind, colour_folder)
    network = files.FIXED_NETWORK if kind == SVM else files.REFINED_NETWORK
    path.with_name(network if removed == "network" else files.SVM_HEAD).unlink()
    run = CliRunner().invoke(cli.main, ["verify", str(path), str(colour_folder / "red" / "00.jpg")])
    assert (run.exit_code, run.stderr) == (0, "")
    *agreements, last = run.stdout.splitlines()
    assert [line.split(",")[0] for line in agreements] == [
        "agrees: openvino and the training code's self-test",
        "agrees: onnxruntime and the training code's self-test",
        "agrees: openvino and onnxruntime",
    ]
    assert last.startswith(f"not compared: the training code, {words} not beside classifier.onnx any more; ")


def test_verify_agrees_in_each_runtime_and_with_the_training_code(written):
    checks = verify.verify(written, pixels()).checks
    assert [check.compared for check in checks] == [
        "openvino and the training code's self-test",
        "onnxruntime and the training code's self-test",
        "openvino and onnxruntime",
        "openvino and the training code",
        "onnxruntime and the training code",
    ]
    assert all(check.agrees for check in checks)
    assert [check.images for check in checks] == [3, 3, 7, 7, 7]


def test_verify_disagrees_with_an_altered_head(written):
    head = svm.read(written.with_name("svm.npz"))
    svm.write(replace(head, weights=head.weights * np.float32(1.01)), written.with_name("svm.npz"))
    checks = verify.verify(written, pixels()).checks
    assert [check.agrees for check in checks] == [True, True, True, False, False]
    assert str(checks[-1]).startswith("DISAGREES: onnxruntime and the training code, 7 images, by ")


def test_verify_disagrees_with_a_head_of_other_labels(written):
    head = svm.read(written.with_name("svm.npz"))
    svm.write(
        replace(head, labels=head.labels[:2], weights=head.weights[:2], offsets=head.offsets[:2]),
        written.with_name("svm.npz"),
    )
    assert [check.agrees for check in verify.verify(written, pixels()).checks] == [
        True,
        True,
        True,
        False,
        False,
    ]


def test_verify_without_the_head_compares_the_runtimes(written):
    written.with_name("svm.npz").unlink()
    checks = verify.verify(written, pixels()).checks
    assert [check.agrees for check in checks] == [True, True, True]


def test_verify_does_not_compare_with_another_network(written, tiny_network):
    tiny_network.write_bytes(
        tiny_network.read_bytes() + b"\x08\x0a"
    )  # the field that names the IR version, again
    assert [check.compared for check in verify.verify(written, pixels()).checks] == [
        "openvino and the training code's self-test",
        "onnxruntime and the training code's self-test",
        "openvino and onnxruntime",
    ]


def test_the_tolerance_is_larger_for_a_training_in_bf16(written, tiny_network):
    scores = model.Classifier.load(written).self_test.scores * 1.01  # bf16 has about two digits
    changed(written, self_test_with(scores=scores.tolist(), precision="bf16"))
    tiny_network.unlink()
    assert all(check.agrees for check in verify.verify(written, pixels()).checks)


def test_the_tolerance_does_not_depend_on_the_parameter_precision(written):
    scores = model.Classifier.load(written).self_test.scores * 1.01
    changed(written, self_test_with(scores=scores.tolist()))
    changed(written, lambda model: model.metadata_props.add(key="parameters", value='{"precision": "bf16"}'))
    with pytest.raises(
        ImgclfError, match="computes other scores for the self-test images than the training code"
    ):
        verify.verify(written, pixels())


@pytest.mark.parametrize(
    ("difference", "allowed", "agrees"), [(0.1, 0.1, True), (0.11, 0.1, False), (np.nan, 0.1, False)]
)
def test_a_check_agrees_up_to_its_tolerance(difference, allowed, agrees):
    assert Check("a and b", 1, difference, allowed).agrees is agrees


def test_a_check_says_what_was_compared_and_by_how_much_it_differs():
    assert str(AGREES) == "agrees: a and b, 3 images, by 1.0e-07 of the largest score"
    assert str(DISAGREES) == "DISAGREES: a and c, 7 images, by 2.5e-01 of the largest score"


def test_a_classifier_that_disagrees_is_refused_with_the_checks_that_failed():
    verify.check_agreement(Path("classifier.onnx"), [AGREES, AGREES])
    with pytest.raises(ImgclfError) as refused:
        verify.check_agreement(Path("classifier.onnx"), [AGREES, DISAGREES, DISAGREES])
    assert (
        str(refused.value) == f"classifier.onnx: {DISAGREES}; {DISAGREES}; export it again with 04_train_svm"
    )
