"""ResNet in torch, with the layer names of the weights that torchvision publishes."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from imgclf.networks.layers import GlobalAveragePool, Staged


def convolution(channels_in: int, channels_out: int, kernel: int, *, stride: int = 1) -> nn.Conv2d:
    """A convolution without bias, as batch normalization follows."""
    return nn.Conv2d(channels_in, channels_out, kernel, stride=stride, padding=kernel // 2, bias=False)


def shortcut(channels_in: int, channels_out: int, stride: int) -> nn.Sequential | None:
    """Projection of a block's input to the shape of its output; None if the shapes are equal."""
    if stride == 1 and channels_in == channels_out:
        return None
    return nn.Sequential(
        convolution(channels_in, channels_out, 1, stride=stride), nn.BatchNorm2d(channels_out)
    )


class BasicBlock(nn.Module):
    """Two convolutions of 3 x 3 with a shortcut connection."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = convolution(channels_in, channels, 3, stride=stride)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = convolution(channels, channels, 3)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = shortcut(channels_in, channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        residual = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        return functional.relu(residual + (self.downsample(x) if self.downsample else x))


class Bottleneck(nn.Module):
    """Reduce by 1 x 1, convolve by 3 x 3, expand by 1 x 1 to four times the channels, with a shortcut.

    The stride is in the convolution of 3 x 3, as in the training of the published weights ("ResNet V1.5");
    in the paper it is in the first one.
    """

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        expanded = 4 * channels
        self.conv1 = convolution(channels_in, channels, 1)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = convolution(channels, channels, 3, stride=stride)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = convolution(channels, expanded, 1)
        self.bn3 = nn.BatchNorm2d(expanded)
        self.downsample = shortcut(channels_in, expanded, stride)

    def forward(self, x: Tensor) -> Tensor:
        reduced = functional.relu(self.bn1(self.conv1(x)))
        residual = self.bn3(self.conv3(functional.relu(self.bn2(self.conv2(reduced)))))
        return functional.relu(residual + (self.downsample(x) if self.downsample else x))


class ResNet(Staged):
    """uint8 images (N, S, S, 3), RGB, to float32 features (N, d).

    Parameters
    ----------
    blocks, channels : of each of the four stages.
    is_bottleneck : blocks of three convolutions, which have four times the output channels.
    pixel_mean, pixel_std : for the normalization of pixels; red, green, blue, in grey levels.
    """

    # The names of these buffers stand in exported files; other ones would change the sha256 of the files.
    pixel_mean: Tensor
    pixel_deviation: Tensor

    def __init__(
        self,
        blocks: Sequence[int],
        channels: Sequence[int],
        *,
        is_bottleneck: bool,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
    ) -> None:
        super().__init__()
        # Not persistent: the published weights have no such entries.
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean), persistent=False)
        self.register_buffer("pixel_deviation", torch.tensor(pixel_std), persistent=False)
        self.conv1 = nn.Conv2d(3, channels[0], 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(channels[0])
        self.layer1, self.layer2, self.layer3, self.layer4 = _stages(blocks, channels, is_bottleneck)

    def parts(self) -> list[nn.Module]:
        """Modules that compute `forward` in sequence, with the same weights.

        They are the normalization of pixels and the first convolution, each stage, global average pooling.
        """
        return [
            FirstConvolution(self.conv1, self.bn1, self.pixel_mean, self.pixel_deviation),
            self.layer1,
            self.layer2,
            self.layer3,
            self.layer4,
            GlobalAveragePool(),
        ]


class FirstConvolution(nn.Module):
    """uint8 images (N, S, S, 3), RGB, to the feature maps of the first convolution and max pooling."""

    pixel_mean: Tensor
    pixel_deviation: Tensor

    def __init__(
        self,
        convolution: nn.Conv2d,
        normalization: nn.BatchNorm2d,
        pixel_mean: Tensor,
        pixel_std: Tensor,
    ) -> None:
        super().__init__()
        self.convolution, self.normalization = convolution, normalization
        self.register_buffer("pixel_mean", pixel_mean, persistent=False)
        self.register_buffer("pixel_deviation", pixel_std, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        x = ((images.float() - self.pixel_mean) / self.pixel_deviation).permute(0, 3, 1, 2)
        return functional.max_pool2d(
            functional.relu(self.normalization(self.convolution(x))), 3, stride=2, padding=1
        )


def _stages(blocks: Sequence[int], channels: Sequence[int], is_bottleneck: bool) -> Iterator[nn.Sequential]:
    """The four stages; all but the first downsample by 2 in their first block."""
    block_type, expansion = (Bottleneck, 4) if is_bottleneck else (BasicBlock, 1)
    channels_in = channels[0]
    for number, (count, width) in enumerate(zip(blocks, channels, strict=True)):
        built = []
        for position in range(count):
            built.append(block_type(channels_in, width, 2 if number > 0 and position == 0 else 1))
            channels_in = width * expansion
        yield nn.Sequential(*built)
