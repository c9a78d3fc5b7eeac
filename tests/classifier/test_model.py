"""classifier.onnx reproduces the scores of the training code, and is not loaded where it does not."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from imgclf import ImgclfError, engines, features, files, svm
from imgclf.classifier import export, model
from imgclf.classifier.model import Classifier
from imgclf.data import scan
from imgclf.engines import openvino
from imgclf.images.loading import Skipped, Source, load_all
from imgclf.images.preprocessing import Preprocessing
from imgclf.parameters import SVM
from support.classifiers import SIZE, changed, pixels, self_test_with, trained, trained_as
from support.pictures import COLOURS, picture

both = pytest.mark.parametrize("engine", engines.ENGINES)


@pytest.fixture
def written(tiny_network, colour_folder) -> Path:
    return trained(tiny_network, colour_folder)


def scale_head(factor: float):
    def change(model: onnx.ModelProto) -> None:
        weights = next(tensor for tensor in model.graph.initializer if tensor.name == "head_weights")
        weights.CopyFrom(
            numpy_helper.from_array(numpy_helper.to_array(weights) * np.float32(factor), "head_weights")
        )

    return change


@both
@pytest.mark.parametrize("l2_normalize", [True, False])
def test_scores_are_those_of_the_head_on_the_features(engine, l2_normalize, tiny_network, colour_folder):
    path = trained(tiny_network, colour_folder, l2_normalize=l2_normalize)
    scores, _ = Classifier.load(path, engine=engine, batch_size=3).scores(pixels())
    expected = svm.read(path.with_name("svm.npz")).scores(
        features.extract(tiny_network, pixels(), engine=engine)
    )
    np.testing.assert_allclose(scores, expected, atol=1e-5 * max(1, np.abs(expected).max()), rtol=0)


@both
@pytest.mark.parametrize("temperature", [0.7, 3.0])
def test_probabilities_are_the_softmax_of_tempered_scores(engine, temperature, tiny_network, colour_folder):
    path = trained(tiny_network, colour_folder, temperature=temperature)
    scores, probabilities = Classifier.load(path, engine=engine).scores(pixels())
    tempered = np.exp(scores / temperature)
    assert probabilities.min() > 0.01
    np.testing.assert_allclose(probabilities, tempered / tempered.sum(axis=1, keepdims=True), atol=1e-5)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)


def test_an_easy_data_set_is_classified_right(written):
    loaded = Classifier.load(written)
    for label, colour in COLOURS.items():
        scores, _ = loaded.scores(Preprocessing(SIZE).letterbox(picture(colour, seed=4242))[None])
        assert loaded.labels[scores[0].argmax()] == label


def test_the_file_is_valid_onnx_without_external_data(written):
    model = onnx.load(written)
    onnx.checker.check_model(model, full_check=True)
    shapes = {
        v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim]
        for v in (*model.graph.input, *model.graph.output)
    }
    assert shapes == {
        "images": ["N", 32, 32, 3],
        "scores": ["N", 3],
        "probabilities": ["N", 3],
        "familiarity": ["N"],
    }
    assert not any(tensor.external_data for tensor in model.graph.initializer)


def test_the_same_training_writes_the_same_bytes(written, tiny_network, colour_folder):
    before = written.read_bytes()
    assert trained(tiny_network, colour_folder).read_bytes() == before


def test_metadata_hold_labels_preprocessing_and_parameters(tiny_network, colour_folder):
    path = trained(tiny_network, colour_folder, parameters={"seed": 3})
    about = {entry.key: json.loads(entry.value) for entry in onnx.load(path).metadata_props}
    assert about["labels"] == ["blue", "green", "red"]
    assert (about["preprocessing"], about["parameters"]) == (
        {"input_size": 32, "padding_colour": [114, 114, 114]},
        {"seed": 3},
    )
    assert model.read_metadata(path) == about


def test_metadata_hold_the_backbone_of_the_network_and_its_sha256(tiny_network, colour_folder):
    changed(tiny_network, lambda model: model.metadata_props.add(key="backbone", value='"tiny"'))
    about = model.read_metadata(trained(tiny_network, colour_folder, parameters={"backbone": "another"}))
    assert (about["backbone"], about["network_sha256"]) == ("tiny", files.sha256(tiny_network))


def test_labels_may_have_any_letters(tiny_network, colour_folder):
    path = trained(tiny_network, colour_folder, names={"red": "röd, ljus", "green": '緑 "quoted"'})
    assert Classifier.load(path).labels == ["blue", "röd, ljus", '緑 "quoted"']
    assert svm.read(path.with_name("svm.npz")).labels == ("blue", "röd, ljus", '緑 "quoted"')


@both
def test_two_labels_have_opposite_scores(engine, tiny_network, colour_folder):
    path = trained(tiny_network, colour_folder, names={"green": "blue"})
    scores, probabilities = Classifier.load(path, engine=engine).scores(pixels())
    assert scores.shape == probabilities.shape == (7, 2)
    np.testing.assert_allclose(scores[:, 0], -scores[:, 1], atol=1e-5)


def test_the_scores_of_a_black_image_are_finite(written):
    scores, probabilities = Classifier.load(written).scores(np.zeros((1, SIZE, SIZE, 3), np.uint8))
    assert np.isfinite(scores).all()
    assert np.isfinite(probabilities).all()


@both
@pytest.mark.parametrize("factor", [1.5, 1.001, float("nan")])
def test_altered_weights_are_refused(engine, factor, written):
    changed(written, scale_head(factor))
    with pytest.raises(
        ImgclfError,
        match=rf"classifier\.onnx: {engine} computes other scores for the self-test images than the training code",
    ):
        Classifier.load(written, engine=engine)


@pytest.mark.parametrize("kept", [0, 1, 100, -1, -1000])
def test_a_truncated_file_is_refused(kept, written):
    written.write_bytes(written.read_bytes()[:kept])
    with pytest.raises(
        ImgclfError,
        match=r"classifier\.onnx: not a classifier that imgclf wrote, or damaged; run 04_train_svm again",
    ):
        Classifier.load(written)


def test_a_network_that_is_no_classifier_is_refused(tiny_network):
    with pytest.raises(ImgclfError, match=r"dnn_fixed\.onnx: not a classifier that imgclf wrote"):
        Classifier.load(tiny_network)


def without(key: str):
    def change(model: onnx.ModelProto) -> None:
        kept = [entry for entry in model.metadata_props if entry.key != key]
        del model.metadata_props[:]
        model.metadata_props.extend(kept)

    return change


def with_value(key: str, value: Any):
    def change(model: onnx.ModelProto) -> None:
        without(key)(model)
        model.metadata_props.add(key=key, value=json.dumps(value))

    return change


@pytest.mark.parametrize(
    ("key", "value"),
    [("labels", {}), ("labels", ["a", "b"]), ("labels", ["a", "a", "b"]), ("labels", [1, 2, 3]), ("parameters", []), ("imgclf_version", 3)],
)  # fmt: skip
def test_metadata_of_another_type_are_refused(key, value, written):
    with pytest.raises(
        ImgclfError, match=r"classifier\.onnx: not a classifier that imgclf wrote, or damaged"
    ):
        Classifier.load(changed(written, with_value(key, value)))


@pytest.mark.parametrize(
    "other", [{"precision": None}, {"images": ""}, {"scores": [[1.0]]}, {"scores": [[10**400] * 3] * 3}]
)
def test_a_self_test_of_another_type_is_refused(other, written):
    with pytest.raises(
        ImgclfError, match=r"classifier\.onnx: not a classifier that imgclf wrote, or damaged"
    ):
        Classifier.load(changed(written, self_test_with(**other)))


@pytest.mark.parametrize("key", ["labels", "self_test"])
def test_a_classifier_without_its_metadata_is_refused(key, written):
    with pytest.raises(ImgclfError, match=r"classifier\.onnx: not a classifier that imgclf wrote"):
        Classifier.load(changed(written, without(key)))


def test_a_missing_classifier_says_what_to_run(tmp_path):
    with pytest.raises(ImgclfError, match=r"classifier\.onnx: no classifier there; run 04_train_svm first"):
        Classifier.load(tmp_path / "classifier.onnx")


def test_self_test_holds_three_images_and_their_scores(written):
    self_test = Classifier.load(written).self_test
    assert self_test.images.shape == (3, 16, 16, 3)
    assert self_test.scores.shape == (3, 3)
    assert Classifier.load(written).self_test_difference() <= model.TOLERANCE["f32"]


@pytest.mark.parametrize(("has", "precision"), [(True, "bf16"), (False, "f32")])
def test_the_self_test_holds_the_precision_that_auto_was_resolved_to(
    has, precision, tiny_network, colour_folder, written, monkeypatch
):
    found = scan.scan_folder("colours", colour_folder)
    monkeypatch.setattr(openvino, "has_bf16", lambda: has)
    monkeypatch.setattr(
        features, "extract", lambda network, pixels, **options: np.ones((len(pixels), 8), np.float32)
    )  # no such processor is needed
    made = export.make_self_test(
        found, found.images, tiny_network, svm.read(written.with_name("svm.npz")), precision="auto"
    )
    assert made.precision == precision


@pytest.mark.parametrize("precision", ["f32", "bf16", "int8"])
def test_the_tolerance_is_that_of_the_precision_of_the_self_test(precision, written):
    loaded = Classifier.load(changed(written, self_test_with(precision=precision)))
    assert loaded.tolerance == model.TOLERANCE[precision]


@pytest.mark.parametrize(("has", "precision"), [(True, "bf16"), (False, "f32")])
def test_auto_is_the_precision_of_the_training_code_if_this_processor_has_it(
    has, precision, written, monkeypatch
):
    asked = []
    start = engines.start
    monkeypatch.setattr(openvino, "has_bf16", lambda: has)
    monkeypatch.setattr(
        engines, "start", lambda path, **options: asked.append(options["precision"]) or start(path)
    )
    Classifier.load(changed(written, self_test_with(precision="bf16")), precision="auto")
    Classifier.load(changed(written, self_test_with(precision="f32")), precision="auto")
    assert asked == [precision, "f32"]


def test_int8_of_a_classifier_in_f32_is_refused(written):
    message = "precision='int8': classifier.onnx is not quantized; run 03_run_dnn and 04_train_svm with that"
    with pytest.raises(ImgclfError, match=message):
        Classifier.load(written, precision="int8")


@pytest.mark.parametrize("engine", engines.ENGINES)
@pytest.mark.parametrize("precision", ["f32", "int8", "auto"])
def test_a_classifier_in_int8_gives_its_scores_in_every_engine(engine, precision, colour_folder):
    path = trained_as(SVM, colour_folder, precision="int8")
    with Classifier.load(path, engine=engine, precision=precision) as loaded:
        assert loaded.self_test.precision == "int8"
        assert loaded.self_test_difference() <= 0.02


def test_self_test_images_are_enlarged_by_repetition():
    small = (
        np.arange(16, dtype=np.uint8)[None, :, None, None].repeat(16, 2).repeat(3, 3)
    )  # row i has the value i
    enlarged = model.SelfTest(small, np.empty(0)).enlarged(32)
    assert enlarged.shape == (1, 32, 32, 3)
    assert enlarged[0, :, 0, 0].tolist() == [i // 2 for i in range(32)]


def test_the_largest_relative_difference_is_a_share_of_the_largest_score():
    assert model.largest_relative_difference(np.array([[4.0, -3.0]]), np.array([[4.0, -4.0]])) == 0.25
    assert model.largest_relative_difference(np.array([[0.1]]), np.array([[0.2]])) == pytest.approx(
        0.1
    )  # a largest score below 1 counts as 1


def test_predict_yields_position_label_and_score_and_skips_unreadable_images(written, colour_folder):
    (colour_folder / "bad.jpg").write_bytes(b"this is no image")
    paths = [colour_folder / "red" / "00.jpg", colour_folder / "bad.jpg", colour_folder / "blue" / "01.jpg"]
    results = list(Classifier.load(written).predict(list(map(Source, paths))))
    found = [(i, each) for i, each in results if not isinstance(each, Skipped)]
    skipped = [each for _, each in results if isinstance(each, Skipped)]
    assert [(i, prediction.label) for i, prediction in found] == [(0, "red"), (2, "blue")]
    assert found[0][1].score == found[0][1].scores.max() == found[0][1].scores[2]
    assert [(image.path, image.reason) for image in skipped] == [
        (str(colour_folder / "bad.jpg"), "bad.jpg: not an image that can be read; replace or delete it")
    ]


def test_predict_skips_an_image_whose_content_has_changed(written, colour_folder):
    good, other = colour_folder / "red" / "00.jpg", colour_folder / "red" / "01.jpg"
    wanted = [Source(other, files.sha256(good)), Source(good, files.sha256(good))]
    results = dict(Classifier.load(written).predict(wanted))
    assert sorted(results) == [0, 1] and not isinstance(results[1], Skipped)
    assert [results[0].reason] == ["01.jpg: has changed since 01_prepare_data; run 01_prepare_data again"]


def test_pixels_of_unreadable_images_are_refused(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"no image")
    with pytest.raises(
        ImgclfError, match=r"none of the 1 images could be read; the first: a\.jpg: not an image"
    ):
        load_all([tmp_path / "a.jpg"], Preprocessing(SIZE))
    with pytest.raises(ImgclfError, match="no images were given"):
        load_all([], Preprocessing(SIZE))


def test_a_classifier_prints_its_labels_and_input_size(written):
    assert str(Classifier.load(written)) == "classifier.onnx: 3 labels, images of 32 x 32 pixels"
