"""Architectures of the pretrained networks, as numbers. Torch is imported only when a network is built."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from imgclf.networks.efficientnet_lite import EfficientNetLite
    from imgclf.networks.resnet import ResNet

Row = dict[str, int | str]

# M. Tan and Q. Le, "EfficientNet", arXiv 1905.11946, table 1; "Lite" leaves out squeeze-and-excitation,
# uses ReLU6, and scales neither the first and the last convolution nor the first and the last stage's depth.
# Each stage: blocks, kernel size, stride, expansion, output channels.
LITE_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
STEM_CHANNELS, HEAD_CHANNELS = 32, 1280

# Of the training images of ImageNet, red, green, blue, in grey levels 0 to 255; the usual normalization.
PIXEL_MEAN = (123.675, 116.28, 103.53)
PIXEL_STD = (58.395, 57.12, 57.375)


def _row(stage: str, blocks: int, kernel: int, channels: int, side: int) -> Row:
    return {
        "stage": stage,
        "blocks": blocks,
        "kernel, pixels": kernel,
        "channels": channels,
        "side, pixels": side,
    }


@dataclass(frozen=True)
class LiteArchitecture:
    """EfficientNet-Lite: seven stages of mobile inverted bottlenecks between two convolutions."""

    depth: float  # depth multiplier, relative to EfficientNet-Lite0
    layout: tuple[tuple[int, int, int, int, int], ...] = LITE_STAGES

    @property
    def features(self) -> int:
        """Length of the feature vector of an image."""
        return HEAD_CHANNELS

    def stage_blocks(self) -> list[int]:
        """Number of blocks of each of the seven stages."""
        scaled = [math.ceil(blocks * self.depth) for blocks, *_ in self.layout]
        return [self.layout[0][0], *scaled[1:-1], self.layout[-1][0]]

    def stages(self, input_size: int) -> list[Row]:
        """See `backbones.stages`."""
        side = -(-input_size // 2)
        rows = [_row("first convolution", 1, 3, STEM_CHANNELS, side)]
        for number, (count, (_, kernel, stride, _, channels)) in enumerate(
            zip(self.stage_blocks(), self.layout, strict=True), start=1
        ):
            side = -(-side // stride)
            rows.append(_row(f"stage {number}", count, kernel, channels, side))
        return [
            *rows,
            _row("last convolution", 1, 1, HEAD_CHANNELS, side),
            _row("global average pooling", 1, side, HEAD_CHANNELS, 1),
        ]

    def network(self) -> "EfficientNetLite":
        """The network with random weights; uint8 images (N, S, S, 3), RGB, to float32 features (N, d)."""
        from imgclf.networks.efficientnet_lite import EfficientNetLite

        return EfficientNetLite(list(self._blocks()), STEM_CHANNELS, HEAD_CHANNELS)

    def _blocks(self) -> Iterator[tuple[int, int, int, int, int]]:
        """Input channels, output channels, kernel size, stride and expansion of each block."""
        channels = STEM_CHANNELS
        for count, (_, kernel, stride, expansion, out) in zip(self.stage_blocks(), self.layout, strict=True):
            for position in range(count):
                yield channels, out, kernel, stride if position == 0 else 1, expansion
                channels = out


@dataclass(frozen=True)
class ResNetArchitecture:
    """Residual network: four stages of blocks with shortcut connections.

    Source: K. He et al., "Deep Residual Learning", arXiv 1512.03385, table 1.
    """

    blocks: tuple[int, int, int, int]  # of each stage
    is_bottleneck: bool = False  # blocks of three convolutions that widen fourfold, not of two
    channels: tuple[int, int, int, int] = (64, 128, 256, 512)

    @property
    def features(self) -> int:
        """Length of the feature vector of an image."""
        return self.channels[-1] * self._expansion

    @property
    def _expansion(self) -> int:
        return 4 if self.is_bottleneck else 1

    def stages(self, input_size: int) -> list[Row]:
        """See `backbones.stages`."""
        side = -(-input_size // 2)
        rows = [_row("first convolution", 1, 7, self.channels[0], side)]
        for number, (count, channels) in enumerate(zip(self.blocks, self.channels, strict=True), start=1):
            side = -(-side // 2)  # the first stage follows max pooling with stride 2
            rows.append(_row(f"stage {number}", count, 3, channels * self._expansion, side))
        return [*rows, _row("global average pooling", 1, side, self.features, 1)]

    def network(self) -> "ResNet":
        """The network with random weights; uint8 images (N, S, S, 3), RGB, to float32 features (N, d)."""
        from imgclf.networks.resnet import ResNet

        return ResNet(
            self.blocks,
            self.channels,
            is_bottleneck=self.is_bottleneck,
            pixel_mean=PIXEL_MEAN,
            pixel_std=PIXEL_STD,
        )


TorchArchitecture = LiteArchitecture | ResNetArchitecture
