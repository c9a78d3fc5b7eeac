"""Networks before their export: batch normalization folded into convolutions."""

import pytest
import torch
from torch import Tensor, nn

from imgclf import engines
from imgclf.networks import backbones, exporting


class Swapped(nn.Module):
    """Modules that do not stand in the order in which they are computed."""

    def __init__(self) -> None:
        super().__init__()
        self.second = nn.Conv2d(3, 3, 3)
        self.first = nn.BatchNorm2d(3)

    def forward(self, images: Tensor) -> Tensor:
        return self.second(self.first(images.permute(0, 3, 1, 2).float()))


def randomized(network: nn.Module) -> nn.Module:
    """Give the normalizations statistics as after training."""
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values in (module.weight.data, module.running_var):
                values.uniform_(0.5, 2)
            for values in (module.bias.data, module.running_mean):
                values.normal_()
    return network.eval()


def normalizations(network: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


@pytest.mark.parametrize("name", ["efficientnet_lite0", "resnet18", "mobilenet_v3_large"])
def test_a_folded_network_computes_the_same_and_the_original_keeps_its_modules(name):
    network = randomized(backbones.BACKBONES[name].architecture.network())
    images = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    before = normalizations(network)
    folded = exporting.with_folded_normalization(network, images)
    with torch.inference_mode():
        wanted, found = network(images), folded(images)
    assert normalizations(network) == before > 0 == normalizations(folded)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4 * wanted.abs().max().item())


def test_a_network_whose_modules_are_computed_in_another_order_is_exported_as_it_is():
    network = randomized(Swapped())
    images = torch.randint(0, 256, (2, 8, 8, 3), dtype=torch.uint8)
    assert exporting.with_folded_normalization(network, images) is network


class Pooled(nn.Sequential):
    """A convolution, a pooling that is no module, and a normalization: on one colour, no pooling is seen."""

    def forward(self, images: Tensor) -> Tensor:
        convolution, normalization = self
        maps = convolution(images.permute(0, 3, 1, 2).float())
        return normalization(nn.functional.max_pool2d(maps, 3, 1, 1))


@pytest.mark.slow
def test_what_stands_between_two_modules_is_kept_in_the_export(tmp_path):
    network = randomized(Pooled(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)))
    network[1].weight.data.neg_()  # the least value of what the greatest is taken of
    images = torch.randint(0, 256, (2, 8, 8, 3), dtype=torch.uint8)
    exporting.export_network(network, 8, tmp_path / "network.onnx", metadata={}, output="maps")
    ((found,),) = engines.start(tmp_path / "network.onnx", engine="onnxruntime").run([images.numpy()])
    with torch.inference_mode():
        torch.testing.assert_close(torch.from_numpy(found), network(images), rtol=1e-4, atol=1e-3)


def test_a_normalization_without_statistics_stays():
    network = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3, track_running_stats=False)).eval()
    folded = exporting.with_folded_normalization(network, torch.rand((2, 3, 4, 4)))
    assert normalizations(folded) == 1


def test_a_network_without_batch_normalization_is_not_copied():
    network = nn.Conv2d(3, 1, 1)
    assert exporting.with_folded_normalization(network, torch.zeros((1, 3, 2, 2))) is network
