"""ResNet: the layers of the published weights, and the feature maps in the table of stages."""

import numpy as np
import pytest
import torch

from imgclf.finetuning import frozen
from imgclf.networks import backbones
from imgclf.networks.backbones import BACKBONES

RESNETS = ["resnet18", "resnet34", "resnet50"]
# As torchvision counts them, with a last layer of a thousand classes.
PARAMETERS = {"resnet18": 11_689_512, "resnet34": 21_797_672, "resnet50": 25_557_032}


def shapes(name: str) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        return {
            key: tuple(value.shape)
            for key, value in BACKBONES[name].architecture.network().state_dict().items()
        }


def random_network(name: str) -> torch.nn.Module:
    torch.manual_seed(0)
    return BACKBONES[name].architecture.network().eval()


@pytest.mark.parametrize("name", RESNETS)
def test_number_of_parameters_is_the_published_one(name):
    with torch.device("meta"):
        body = sum(value.numel() for value in BACKBONES[name].architecture.network().parameters())
    assert body + 1000 * (BACKBONES[name].features + 1) == PARAMETERS[name]


def test_layers_of_resnet18_have_the_published_names_and_shapes():
    normalization = ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]
    block = [
        "conv1.weight",
        *(f"bn1.{name}" for name in normalization),
        "conv2.weight",
        *(f"bn2.{name}" for name in normalization),
    ]
    shortcut = ["downsample.0.weight", *(f"downsample.1.{name}" for name in normalization)]
    expected = ["conv1.weight", *(f"bn1.{name}" for name in normalization)]
    for stage in (1, 2, 3, 4):
        expected += [
            f"layer{stage}.{k}.{name}"
            for k in (0, 1)
            for name in (block + shortcut if stage > 1 and k == 0 else block)
        ]
    assert list(shapes("resnet18")) == expected
    assert shapes("resnet18")["conv1.weight"] == (64, 3, 7, 7)
    assert shapes("resnet18")["layer2.0.downsample.0.weight"] == (128, 64, 1, 1)
    assert shapes("resnet18")["layer4.1.conv2.weight"] == (512, 512, 3, 3)


def test_bottlenecks_of_resnet50_expand_fourfold_also_in_the_first_stage():
    found = shapes("resnet50")
    assert found["layer1.0.downsample.0.weight"] == (256, 64, 1, 1)
    assert [found[f"layer3.5.conv{k}.weight"] for k in (1, 2, 3)] == [
        (256, 1024, 1, 1),
        (256, 256, 3, 3),
        (1024, 256, 1, 1),
    ]
    assert "layer3.6.conv1.weight" not in found


def test_stride_of_a_bottleneck_is_in_its_middle_convolution():
    block = random_network("resnet50").layer2[0]
    assert [layer.stride for layer in (block.conv1, block.conv2, block.conv3)] == [(1, 1), (2, 2), (1, 1)]


@pytest.mark.parametrize("name", RESNETS)
@pytest.mark.parametrize("side", [64, 65, 97])
def test_table_of_stages_agrees_with_the_feature_maps_of_the_network(name, side):
    network, maps = random_network(name), []
    for layer in (network.conv1, network.layer1, network.layer2, network.layer3, network.layer4):
        layer.register_forward_hook(
            lambda layer, inputs, output: maps.append((output.shape[1], output.shape[3]))
        )
    with torch.inference_mode():
        features = network(torch.zeros(1, side, side, 3, dtype=torch.uint8))
    table = [(row["channels"], row["side, pixels"]) for row in backbones.stages(BACKBONES[name], side)]
    assert table == [*maps, (BACKBONES[name].features, 1)]
    assert features.shape == (1, BACKBONES[name].features)


def test_pixels_are_normalized_by_mean_and_standard_deviation_of_imagenet():
    inputs = []
    network = random_network("resnet18")
    network.conv1.register_forward_pre_hook(lambda layer, arguments: inputs.append(arguments[0]))
    colours = np.array([[[[0, 0, 0], [255, 255, 255], [255, 0, 128], [10, 20, 30]]] * 4], np.uint8)
    with torch.inference_mode():
        network(torch.from_numpy(colours))
    expected = (colours[0, 0] / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(inputs[0][0, :, 0].T, expected, rtol=1e-5)


def test_features_are_the_global_average_of_the_last_feature_maps():
    network, maps = random_network("resnet18"), []
    network.layer4.register_forward_hook(lambda layer, inputs, output: maps.append(output))
    with torch.inference_mode():
        features = network(torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8))
    torch.testing.assert_close(features, maps[0].mean(dim=(2, 3)))


@pytest.mark.parametrize("stages", [0, 1, 3, "all"])
def test_a_network_cut_in_two_computes_the_same(stages):
    network = random_network("resnet18")
    images = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    front, behind = frozen.split_network(network, stages)
    with torch.no_grad():
        torch.testing.assert_close(behind(front(images)), network(images))
