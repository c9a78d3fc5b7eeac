"""Networks with weights of torchvision compute what torchvision's own code computes.

`tests/samples/torchvision.npz` has the layers, parameters and features of torchvision's networks, written by
`tests/samples/write_torchvision.py`, with weights that follow from the names of the layers.
"""

import json
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from imgclf import features
from imgclf.finetuning import frozen
from imgclf.images.preprocessing import Preprocessing
from imgclf.networks import backbones
from imgclf.networks.architectures import ConvNeXtArchitecture, TorchArchitecture
from imgclf.networks.backbones import BACKBONES, Backbone
from support.networks import noise
from support.project import ROOT
from support.seeded_weights import seeded

SAMPLE = np.load(ROOT / "tests" / "samples" / "torchvision.npz")
NAMES = ["resnet50", "mobilenet_v3_large", "efficientnet_v2_s", "convnext_tiny"]
NEW = NAMES[1:]


def published_shapes(name: str) -> dict[str, tuple[int, ...]]:
    """The layers of torchvision's network, also its last ones, with their shapes."""
    shapes = json.loads(SAMPLE[f"{name} shapes"].tobytes())
    return {key: tuple(shape) for key, shape in shapes.items()}


@cache
def weights_of(name: str) -> dict[str, torch.Tensor]:
    return seeded(published_shapes(name))


@pytest.fixture
def published(tmp_path):
    """Return the backbone of a name, with a file of all of torchvision's layers."""

    def backbone(name: str) -> Backbone:
        torch.save(weights_of(name), tmp_path / f"{name}.pth")
        return Backbone(name, 224, BACKBONES[name].architecture, file=tmp_path / f"{name}.pth")

    return backbone


@pytest.mark.parametrize("name", NAMES)
def test_features_are_those_that_torchvision_computes(name, published):
    network = backbones.build(published(name))
    with torch.inference_mode():
        found = network(torch.from_numpy(noise(1, 75))).numpy()
    expected = SAMPLE[f"{name} features"]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("name", NAMES)
def test_layers_are_those_of_torchvision_but_for_the_classifier(name):
    with torch.device("meta"):
        network = BACKBONES[name].architecture.network()
    found = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    cut_off = BACKBONES[name].architecture.last_layers
    assert found == {k: shape for k, shape in published_shapes(name).items() if not k.startswith(cut_off)}


@pytest.mark.parametrize("name", NAMES)
def test_a_file_of_torchvision_is_recognized(name, published):
    own = backbones.choose(str(published(name).file))
    assert str(own) == str(BACKBONES[name]).replace(name, f"{name}.pth ({name})", 1)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("stages", [0, 1, 3, "all"])
def test_frozen_and_trainable_part_compute_what_the_network_computes(name, stages):
    network = BACKBONES[name].architecture.network().eval()
    network.load_state_dict(
        {key: value for key, value in weights_of(name).items() if key in network.state_dict()}
    )
    images = torch.from_numpy(noise(2, 64))
    with torch.no_grad():
        first, second = frozen.split_network(network, stages)
        torch.testing.assert_close(second(first(images)), network(images))


@pytest.mark.parametrize("name", NEW)
@pytest.mark.parametrize("side", [64, 75])
def test_stages_have_the_channels_and_sides_of_the_feature_maps(name, side):
    network = BACKBONES[name].architecture.network().eval()
    maps = torch.from_numpy(noise(1, side))
    found = []
    with torch.no_grad():
        for part in network.parts()[:-1]:
            maps = part(maps)
            found.append((maps.shape[1], maps.shape[3]))
    rows = [(row["channels"], row["side, pixels"]) for row in backbones.stages(BACKBONES[name], side)]
    assert rows[: len(found)] == found
    assert rows[-1] == (BACKBONES[name].features, 1)


def shallow(name: str) -> TorchArchitecture:
    """The architecture with one block a stage: it exports in a fraction of the time, by the same operators."""
    architecture = BACKBONES[name].architecture
    if isinstance(architecture, ConvNeXtArchitecture):
        return ConvNeXtArchitecture((1, 1, 1, 1))
    return replace(architecture, stage_blocks=tuple(blocks[:1] for blocks in architecture.stage_blocks))


@pytest.mark.slow
@pytest.mark.parametrize("name", NEW)
def test_the_exported_network_computes_the_same(name, tmp_path):
    network = shallow(name).network()
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    torch.save(seeded(shapes), tmp_path / "own.pth")
    own = Backbone("own", 75, shallow(name), file=tmp_path / "own.pth")
    backbones.write(own, Preprocessing(75), tmp_path / "dnn_fixed.onnx")
    with torch.inference_mode():
        expected = backbones.build(own)(torch.from_numpy(noise(3, 75))).numpy()
    for engine in ("openvino", "onnxruntime"):
        found = features.extract(tmp_path / "dnn_fixed.onnx", noise(3, 75), engine=engine)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3 * np.abs(expected).max())
