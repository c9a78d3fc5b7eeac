"""ResNet in torch, with the layer names of the weights that torchvision publishes."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


def convolution(channels_in: int, channels_out: int, kernel: int, *, stride: int = 1) -> nn.Conv2d:
    """A convolution without bias: the normalization behind it has one."""
    return nn.Conv2d(channels_in, channels_out, kernel, stride=stride, padding=kernel // 2, bias=False)


def shortcut(channels_in: int, channels_out: int, stride: int) -> nn.Sequential | None:
    """What brings a block's input to the shape of its output; None where it has that shape."""
    if stride == 1 and channels_in == channels_out:
        return None
    return nn.Sequential(
        convolution(channels_in, channels_out, 1, stride=stride), nn.BatchNorm2d(channels_out)
    )


class BasicBlock(nn.Module):
    """Two convolutions of 3 x 3 beside a shortcut."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = convolution(channels_in, channels, 3, stride=stride)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = convolution(channels, channels, 3)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = shortcut(channels_in, channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        change = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        return functional.relu(change + (self.downsample(x) if self.downsample else x))


class Bottleneck(nn.Module):
    """Narrow by 1 x 1, filter by 3 x 3, widen by 1 x 1 to four times the channels, beside a shortcut.

    The stride is in the convolution of 3 x 3, as the published weights were trained ("ResNet V1.5"); the paper has it before.
    """

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        wide = 4 * channels
        self.conv1 = convolution(channels_in, channels, 1)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = convolution(channels, channels, 3, stride=stride)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = convolution(channels, wide, 1)
        self.bn3 = nn.BatchNorm2d(wide)
        self.downsample = shortcut(channels_in, wide, stride)

    def forward(self, x: Tensor) -> Tensor:
        narrow = functional.relu(self.bn1(self.conv1(x)))
        change = self.bn3(self.conv3(functional.relu(self.bn2(self.conv2(narrow)))))
        return functional.relu(change + (self.downsample(x) if self.downsample else x))


class ResNet(nn.Module):
    """uint8 images (N, S, S, 3), RGB, to float32 features (N, d).

    Parameters
    ----------
    blocks, channels : of each of the four stages.
    is_bottleneck : blocks of three convolutions, which give four times the channels.
    pixel_mean, pixel_deviation : red, green, blue, in grey levels; what pixels are normalized by.
    """

    def __init__(
        self,
        blocks: Sequence[int],
        channels: Sequence[int],
        *,
        is_bottleneck: bool,
        pixel_mean: Sequence[float],
        pixel_deviation: Sequence[float],
    ) -> None:
        super().__init__()
        # Not among the weights: the published files have no such entries.
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean), persistent=False)
        self.register_buffer("pixel_deviation", torch.tensor(pixel_deviation), persistent=False)
        self.conv1 = nn.Conv2d(3, channels[0], 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(channels[0])
        self.layer1, self.layer2, self.layer3, self.layer4 = _stages(blocks, channels, is_bottleneck)

    def forward(self, images: Tensor) -> Tensor:
        x = images
        for part in self.parts():
            x = part(x)
        return x

    def parts(self) -> list[nn.Module]:
        """The network in steps with the same weights: pixels and first convolution, each stage, mean."""
        return [
            FirstConvolution(self.conv1, self.bn1, self.pixel_mean, self.pixel_deviation),
            self.layer1,
            self.layer2,
            self.layer3,
            self.layer4,
            MeanOfMaps(),
        ]


class FirstConvolution(nn.Module):
    """uint8 images (N, S, S, 3), RGB, to the maps of the first convolution, of which each 3 x 3 pixels give their largest."""

    def __init__(
        self,
        convolution: nn.Conv2d,
        normalization: nn.BatchNorm2d,
        pixel_mean: Tensor,
        pixel_deviation: Tensor,
    ) -> None:
        super().__init__()
        self.convolution, self.normalization = convolution, normalization
        self.register_buffer("pixel_mean", pixel_mean, persistent=False)
        self.register_buffer("pixel_deviation", pixel_deviation, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        x = ((images.float() - self.pixel_mean) / self.pixel_deviation).permute(0, 3, 1, 2)
        return functional.max_pool2d(
            functional.relu(self.normalization(self.convolution(x))), 3, stride=2, padding=1
        )


class MeanOfMaps(nn.Module):
    """Maps to features: the mean of each map."""

    def forward(self, maps: Tensor) -> Tensor:
        return torch.mean(maps, dim=(2, 3))


def _stages(blocks: Sequence[int], channels: Sequence[int], is_bottleneck: bool) -> Iterator[nn.Sequential]:
    """The four stages; each but the first halves the maps in its first block."""
    kind, widening = (Bottleneck, 4) if is_bottleneck else (BasicBlock, 1)
    channels_in = channels[0]
    for number, (count, narrow) in enumerate(zip(blocks, channels, strict=True)):
        built = []
        for position in range(count):
            built.append(kind(channels_in, narrow, 2 if number > 0 and position == 0 else 1))
            channels_in = narrow * widening
        yield nn.Sequential(*built)
