"""Class activation maps: their means are the scores, they lie where the label is, and who has none."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from imgclf import ImgclfError, engines, features, svm
from imgclf.classifier import export
from imgclf.classifier.activation_maps import ActivationMap, Explained, Explainer, tiles
from imgclf.classifier.model import TOLERANCE, SelfTest
from imgclf.collect import demo
from imgclf.images.loading import load_all
from imgclf.images.preprocessing import KEY, Preprocessing
from imgclf.networks import backbones, exporting, onnx_graph, onnx_import
from imgclf.networks.architectures import ResNetArchitecture
from imgclf.networks.backbones import BACKBONES
from imgclf.networks.convnext import ConvNeXt
from imgclf.networks.hub import models as hub
from imgclf.networks.hub.models import HubArchitecture
from imgclf.svm import Head
from support import hub_models, localization
from support.classifiers import pixels, trained, trained_as
from support.networks import LITE0, with_max_pooling
from support.networks import exported as lite0
from support.seeded_weights import seeded

ENGINES = ("openvino", "onnxruntime")
LABELS = ("first", "second", "third")
SAMPLES = Path(__file__).parents[1] / "samples"
FOREIGN = SAMPLES / "foreign_onnx"


def classifier(network: Path, features: int) -> Path:
    """A classifier.onnx of a network with random weights in its last layer."""
    generator = np.random.default_rng(1)
    weights = generator.normal(size=(3, features)).astype(np.float32)
    offsets = generator.normal(size=3).astype(np.float32)
    return written(network, Head(LABELS, weights, offsets, l2_normalize=True, c=1.0, temperature=1.0))


def written(network: Path, head: Head) -> Path:
    """A classifier.onnx with a self-test that no runtime passes; maps do not need it."""
    path = network.with_name("classifier.onnx")
    self_test = SelfTest(np.zeros((3, 16, 16, 3), np.uint8), np.zeros((3, 3)))
    export.write(path, network, head, self_test, metadata={})
    return path


def exported(network: torch.nn.Module, folder: Path, side: int) -> Path:
    """A torch module as an ONNX network."""
    described = {KEY: Preprocessing(side).as_json()}
    exporting.export_network(network.eval(), side, folder / "network.onnx", metadata=described)
    return folder / "network.onnx"


def noise(count: int, side: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, side, side, 3), np.uint8)


def largest_difference(path: Path, images: np.ndarray, **options: str) -> float:
    """Between the scores and the means of the maps of all labels, as a share of the largest score."""
    with Explainer.load(path, **options) as explainer:
        differences = [
            abs(found.values.mean() - found.score) / max(1, abs(found.score))
            for label in explainer.labels
            for found in explainer.maps(images, [label] * len(images))
        ]
    return max(differences)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("l2_normalize", [True, False], ids=["normalized", "plain"])
def test_the_mean_of_a_map_is_the_score(tiny_network, colour_folder, l2_normalize, engine):
    path = trained(tiny_network, colour_folder, l2_normalize=l2_normalize)
    assert largest_difference(path, noise(5, 32), engine=engine) < 1e-4


def test_a_map_has_a_value_for_each_position_of_the_last_maps(tiny_network, colour_folder):
    with Explainer.load(trained(tiny_network, colour_folder)) as explainer:
        found = explainer.maps(noise(3, 32), ["red", None, "blue"])
    assert [each.values.shape for each in found] == [(14, 14)] * 3
    assert [found[0].label, found[2].label] == ["red", "blue"]
    assert found[1].label == found[1].predicted
    assert found[0].values.dtype == np.float32


@pytest.mark.slow
def test_efficientnet_lite_has_exact_maps(tmp_path):
    network = tmp_path / "network.onnx"
    network.write_bytes(onnx_graph.with_metadata(lite0(), {KEY: Preprocessing(64).as_json()}))
    assert largest_difference(classifier(network, 1280), noise(2, 64)) < 1e-4


def test_resnet_has_exact_maps(tmp_path):
    network = ResNetArchitecture((1, 1, 1, 1)).network()
    assert largest_difference(classifier(exported(network, tmp_path, 64), 512), noise(2, 64)) < 1e-4


def test_convnext_has_exact_maps_although_a_normalization_follows_the_average(tmp_path):
    levels = [100.0] * 3
    network = ConvNeXt((1, 1, 1, 1), (8, 16, 24, 32), pixel_mean=levels, pixel_std=levels)
    network.load_state_dict(seeded({name: tuple(t.shape) for name, t in network.state_dict().items()}))
    path = classifier(exported(network, tmp_path, 64), 32)
    assert largest_difference(path, noise(2, 64)) < 1e-4
    with Explainer.load(path) as explainer:
        assert explainer.maps(noise(1, 64))[0].values.shape == (2, 2)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mobilenet_v3_large", "efficientnet_v2_s"])
def test_networks_of_inverted_residuals_have_exact_maps(name, tmp_path):
    network = exported(BACKBONES[name].architecture.network(), tmp_path, 64)
    assert largest_difference(classifier(network, BACKBONES[name].features), noise(2, 64)) < 1e-4


@pytest.mark.parametrize("name", [path.stem for path in sorted(FOREIGN.glob("*.onnx"))])
def test_networks_of_other_programs_have_exact_maps(name, tmp_path):
    imported = onnx_import.read(FOREIGN / f"{name}.onnx")
    side = imported.fixed_size or 64
    network = tmp_path / "network.onnx"
    content = imported.content(side, name)
    network.write_bytes(onnx_graph.with_metadata(content, {KEY: Preprocessing(side).as_json()}))
    assert largest_difference(classifier(network, imported.features), noise(2, side)) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["dinov2#mean", "siglip2#mean", "clip#mean", "vit#mean", "convnextv2", "swin"]
)
def test_models_of_the_hub_that_average_positions_have_exact_maps(name, tmp_path):
    network, architecture = of_hub(name, tmp_path)
    path = classifier(network, architecture.features)
    assert largest_difference(path, noise(2, architecture.input_size)) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dinov2", "siglip2", "clip", "vit"])
def test_models_of_the_hub_with_a_classification_token_have_none(name, tmp_path):
    network, architecture = of_hub(name, tmp_path)
    with pytest.raises(
        ImgclfError, match="no class activation maps, as its features are no average over the"
    ):
        Explainer.load(classifier(network, architecture.features))


def of_hub(name: str, folder: Path) -> tuple[Path, HubArchitecture]:
    kind = name.partition("#")[0]
    found = hub.architecture(hub_models.write(kind, folder / kind), f"hf/own/{name}")
    return exported(found.network(), folder, found.input_size), found


@pytest.mark.parametrize("engine", ENGINES)
def test_a_classifier_in_int8_has_maps_within_its_rounding(colour_folder, engine):
    path = trained_as("svm", colour_folder, precision="int8")
    assert largest_difference(path, pixels(), engine=engine) < TOLERANCE["int8"]


def test_a_classifier_of_version_0_1_0_has_maps():
    path = SAMPLES / "data_folder_0.1.0" / "proc" / "colours" / "classifier.onnx"
    assert largest_difference(path, noise(2, engines.preprocessing(path).input_size)) < 1e-4


def test_a_network_of_maxima_has_no_maps(tmp_path, colour_folder):
    path = trained(with_max_pooling(tmp_path / "dnn_fixed.onnx"), colour_folder)
    with pytest.raises(ImgclfError) as refused:
        Explainer.load(path)
    assert str(refused.value) == (
        f"{path}: the classifier has no class activation maps, as its features are no average over the positions "
        "of an image, but computed by ReduceMax; set backbone to a convolutional network, or put #mean behind "
        "the name of a ViT of the Hub"
    )


def test_tiles_are_each_image_and_its_map(tiny_network, colour_folder):
    paths = [colour_folder / colour / "00.jpg" for colour in ("red", "blue")]
    found = tiles(trained(tiny_network, colour_folder), paths, ["one", "two"], side=40)
    assert found.captions == ["one", "map of\nred", "two", "map of\nblue"]
    assert [picture.shape for picture in found.pictures] == [(30, 40, 3)] * 4
    assert found.note == "right of each image: its activation map for the predicted label"


def test_tiles_of_a_classifier_without_maps_are_the_images_and_a_sentence_without_a_path(
    tmp_path, colour_folder
):
    path = trained(with_max_pooling(tmp_path / "dnn_fixed.onnx"), colour_folder)
    found = tiles(path, [colour_folder / "red" / "00.jpg"], ["one"], side=40)
    assert (len(found.pictures), found.captions) == (1, ["one"])
    assert found.note.startswith(
        "no maps are shown: the classifier has no class activation maps, as its features"
    )
    assert str(tmp_path) not in found.note


def test_a_classifier_is_read_three_times_at_most(tiny_network, colour_folder, monkeypatch):
    path, load, read = trained(tiny_network, colour_folder), onnx.load, []
    monkeypatch.setattr(onnx, "load", lambda file: read.append(file) or load(file))
    Explainer.load(path).close()
    assert len(read) <= 3  # labels, preprocessing, network


def test_an_unknown_label_is_refused_with_the_known_ones(tiny_network, colour_folder):
    with Explainer.load(trained(tiny_network, colour_folder)) as explainer:
        with pytest.raises(
            ImgclfError, match=r"label 'pink': .* has none of this name; give one of blue, green"
        ):
            explainer.maps(noise(1, 32), ["pink"])
        with pytest.raises(ImgclfError, match="label 'pink'"):
            explainer.explain_files([], label="pink")


@pytest.mark.parametrize("engine", ENGINES)
def test_a_patch_of_the_colour_that_decides_is_found_in_its_place(tiny_network, colour_folder, engine):
    images = np.full((2, 32, 32, 3), 114, np.uint8)
    images[0, 4:12, 20:28] = images[1, 12:20, 20:28] = (200, 40, 40)
    with Explainer.load(trained(tiny_network, colour_folder), engine=engine) as explainer:
        first, lower = (found.values for found in explainer.maps(images, ["red", "red"]))
    rows, columns = np.nonzero(first > 0)
    # A position sees 5 x 5 pixels, from 2 x its number on.
    assert len(rows) and rows.max() <= 5 and columns.min() >= 8
    np.testing.assert_allclose(lower[4:], first[:-4], atol=1e-5)  # the map moves with the patch


def test_the_map_of_an_image_lies_where_the_image_is_in_its_letterbox():
    values = np.arange(16, dtype=np.float32).reshape(4, 4)
    found = ActivationMap("red", values, 1.0, 1.0, "red", Preprocessing(8))
    wide = found.on(40, 80)  # the middle four rows of eight
    assert wide.shape == (40, 80)
    assert (wide[:, 0].min(), wide[:, 0].max()) == pytest.approx((3, 9))
    assert np.ptp(found.on(80, 40)[:, 0]) == 12  # all rows


def test_the_overlay_is_yellow_at_the_strongest_place_and_violet_where_nothing_speaks_for_the_label():
    values = np.array([[-5, 0], [0, 2]], np.float32)
    picture = np.full((40, 40, 3), 255, np.uint8)
    overlay = ActivationMap("red", values, 1.0, 1.0, "red", Preprocessing(8)).overlay(picture)
    assert overlay.shape == picture.shape and overlay.dtype == np.uint8
    strongest, weakest = overlay[39, 39].astype(int), overlay[0, 0].astype(int)
    assert strongest[2] < strongest[:2].min() and weakest[2] > weakest[0] > weakest[1]
    assert strongest.mean() > weakest.mean()  # visible in grey, too


def test_a_map_without_any_positive_place_has_no_yellow():
    found = ActivationMap("red", np.full((2, 2), -1, np.float32), 1.0, 1.0, "red", Preprocessing(8))
    assert len(np.unique(found.overlay(np.zeros((8, 8, 3), np.uint8)).reshape(-1, 3), axis=0)) == 1


@pytest.mark.slow
def test_maps_of_the_demo_set_lie_on_the_garment(tmp_path):
    labels, numbers = ("dotted", "leopard", "striped"), range(1, 33)
    sources = [f"demo:{label}/{number:03d}" for label in labels for number in numbers]
    paths = [tmp_path / f"{number}.jpg" for number in range(len(sources))]
    for path, source in zip(paths, sources, strict=True):
        path.write_bytes(demo.response(source).body)
    network = tmp_path / "dnn_fixed.onnx"
    backbones.write(LITE0, Preprocessing(224), network)
    matrix = features.extract(network, load_all(paths, Preprocessing(224)))
    is_training = np.arange(len(sources)) % 4 > 0
    truth = np.repeat(labels, len(numbers))[is_training]
    head = svm.train(matrix[is_training], truth, np.arange(len(truth)).astype(str), c_values=[1.0]).head
    with Explainer.load(written(network, head)) as explainer:
        tested = [(paths[i], sources[i]) for i in np.flatnonzero(~is_training)]
        explained = explainer.explain_files(path for path, _ in tested)
        results = [
            localization.located(found.map, demo.garment_mask(source))
            for (_, found), (_, source) in zip(explained, tested, strict=True)
            if isinstance(found, Explained)
        ]
    assert len(results) == 24
    on_garment, by_chance = np.array([(found.on_garment, found.by_chance) for found in results]).T
    assert on_garment.mean() > by_chance.mean() + 0.1
    assert np.mean(on_garment > by_chance) > 0.8
    assert np.mean([found.hits for found in results]) > by_chance.mean() + 0.2
