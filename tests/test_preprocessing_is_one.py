"""One preprocessing from the network's metadata to the service: nobody uses a size or a colour of their own."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from imgclf import ImgclfError, engines, features, files, svm
from imgclf.classifier import export
from imgclf.classifier.model import Classifier
from imgclf.classifier.predict import predict
from imgclf.data import dataset, scan
from imgclf.finetuning import training_set
from imgclf.images.preprocessing import KEY, Preprocessing
from imgclf.networks import onnx_graph
from support.networks import write_tiny_network

RED = Preprocessing(32, (255, 0, 0))
GREY = Preprocessing(32)


def network(folder: Path, preprocessing: Preprocessing) -> Path:
    """The tiny network, with this preprocessing in its metadata."""
    folder.mkdir(parents=True, exist_ok=True)
    path = write_tiny_network(folder / files.FIXED_NETWORK)
    path.write_bytes(onnx_graph.with_metadata(path.read_bytes(), {KEY: preprocessing.as_json()}))
    return path


@pytest.fixture
def found(colour_folder) -> dataset.Dataset:
    return scan.scan_folder("colours", colour_folder)


def by_hand(path: Path, found: dataset.Dataset, preprocessing: Preprocessing) -> np.ndarray:
    pixels = np.stack([preprocessing.apply(found.file(image).read_bytes()) for image in found.images])
    return features.extract(path, pixels)


@pytest.mark.parametrize("preprocessing", [RED, GREY], ids=["red", "grey"])
def test_features_use_the_padding_colour_of_the_network(preprocessing, found, tmp_path):
    path = network(tmp_path / "net", preprocessing)
    cache = features.Cache.for_network("colours", path)
    features.compute(found, path, cache)
    np.testing.assert_allclose(
        cache.features(found.images).matrix, by_hand(path, found, preprocessing), rtol=1e-4, atol=1e-5
    )


def test_features_of_another_preprocessing_are_kept_apart(tmp_path):
    folders = {
        features.Cache.for_network("colours", network(tmp_path / name, p)).folder
        for name, p in (("a", RED), ("b", GREY))
    }
    assert len(folders) == 2


def test_decoded_training_images_of_another_preprocessing_are_kept_apart(found, tmp_path):
    clusters = [image.sha256 for image in found.images]
    red, grey = (
        training_set.prepare(found, found.images, clusters, preprocessing=p, folder=tmp_path, seed=0)[0]
        for p in (RED, GREY)
    )
    assert red.pixels.path != grey.pixels.path
    assert (red.pixels[0][0, 0] == (255, 0, 0)).all() and (grey.pixels[0][0, 0] == 114).all()


def test_a_classifier_carries_the_preprocessing_of_its_network_and_predicts_with_it(found, tmp_path):
    path = network(tmp_path / "net", RED)
    labels = np.array([image.label for image in found.images])
    head = svm.train(
        by_hand(path, found, RED), labels, labels + np.arange(len(labels)).astype(str), c_values=[1.0]
    ).head
    written = tmp_path / files.CLASSIFIER
    export.write(written, path, head, export.make_self_test(found, found.images, path, head), metadata={})
    loaded = Classifier.load(written)
    assert loaded.preprocessing == RED == engines.preprocessing(written)
    predictions, _ = predict(loaded, [found.file(image) for image in found.images])
    expected = replace(head).scores(by_hand(path, found, RED))
    np.testing.assert_allclose(np.stack([p.scores for p in predictions]), expected, rtol=1e-3, atol=1e-3)
    assert np.abs(expected - head.scores(by_hand(path, found, GREY))).max() > 0.01  # the colour matters


def test_metadata_that_contradict_the_input_of_the_network_are_refused(tmp_path):
    path = network(tmp_path / "net", Preprocessing(33))
    with pytest.raises(
        ImgclfError, match=r"its input is \[0, 32, 32, 3\], but its metadata say images of 33 x 33 pixels"
    ):
        engines.preprocessing(path)
    assert onnx.load(path).graph.input
