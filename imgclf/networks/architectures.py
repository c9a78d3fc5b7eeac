"""Architectures of the pretrained networks, as numbers. Torch is imported only when a network is built."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from imgclf.networks.convnext import ConvNeXt
    from imgclf.networks.efficientnet_lite import EfficientNetLite
    from imgclf.networks.inverted_residual import InvertedResidualNetwork
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
    last_layers: tuple[str, ...] = ("_fc.",)  # prefixes of the weights of the classification layer

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
    last_layers: tuple[str, ...] = ("fc.",)

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


class InvertedResidual(NamedTuple):
    """The shape of an inverted residual block.

    Attributes
    ----------
    expanded : channels within the block. squeezed : of its squeeze-and-excitation; 0 : it has none.
    is_fused : it has one convolution of k x k in place of one of 1 x 1 and a depthwise one.
    """

    channels_in: int
    expanded: int
    channels_out: int
    kernel: int
    stride: int
    squeezed: int
    activation: str
    is_fused: bool = False

    @property
    def has_shortcut(self) -> bool:
        """Whether the input is added to the output."""
        return self.stride == 1 and self.channels_in == self.channels_out


@dataclass(frozen=True)
class InvertedResidualArchitecture:
    """Stages of inverted residual blocks between two convolutions: MobileNetV3 and EfficientNetV2.

    The features are the means of the last maps. MobileNetV3 has a dense layer between these and its last
    layer; it belongs to the thousand labels of its training, and is cut off with the last layer.
    """

    stage_blocks: tuple[tuple[InvertedResidual, ...], ...]
    features: int
    activation: str  # of the first and the last convolution
    has_nested_stages: bool
    last_layers: tuple[str, ...] = ("classifier.",)

    def stages(self, input_size: int) -> list[Row]:
        """See `backbones.stages`."""
        side = -(-input_size // 2)
        rows = [_row("first convolution", 1, 3, self.stage_blocks[0][0].channels_in, side)]
        for number, blocks in enumerate(self.stage_blocks, start=1):
            side = -(-side // blocks[0].stride)
            rows.append(_row(f"stage {number}", len(blocks), blocks[0].kernel, blocks[0].channels_out, side))
        return [
            *rows,
            _row("last convolution", 1, 1, self.features, side),
            _row("global average pooling", 1, side, self.features, 1),
        ]

    def network(self) -> "InvertedResidualNetwork":
        """The network with random weights; uint8 images (N, S, S, 3), RGB, to float32 features (N, d)."""
        from imgclf.networks.inverted_residual import InvertedResidualNetwork

        return InvertedResidualNetwork(
            self.stage_blocks,
            self.features,
            activation=self.activation,
            has_nested_stages=self.has_nested_stages,
            pixel_mean=PIXEL_MEAN,
            pixel_std=PIXEL_STD,
        )


def mobilenet_v3_large() -> InvertedResidualArchitecture:
    """MobileNetV3-Large.

    Source: A. Howard et al., "Searching for MobileNetV3", arXiv 1905.02244, table 1.
    """
    # Each stage: kernel size, stride, output channels, activation, and for each block the channels
    # within and those of its squeeze-and-excitation.
    layout = (
        (3, 1, 16, "relu", ((16, 0),)),
        (3, 2, 24, "relu", ((64, 0), (72, 0))),
        (5, 2, 40, "relu", ((72, 24), (120, 32), (120, 32))),
        (3, 2, 80, "hardswish", ((240, 0), (200, 0), (184, 0), (184, 0))),
        (3, 1, 112, "hardswish", ((480, 120), (672, 168))),
        (5, 2, 160, "hardswish", ((672, 168), (960, 240), (960, 240))),
    )
    channels, stages = 16, []
    for kernel, stride, out, activation, widths in layout:
        blocks = []
        for position, (expanded, squeezed) in enumerate(widths):
            step = 1 if position else stride
            blocks.append(InvertedResidual(channels, expanded, out, kernel, step, squeezed, activation))
            channels = out
        stages.append(tuple(blocks))
    return InvertedResidualArchitecture(tuple(stages), 960, "hardswish", has_nested_stages=False)


def efficientnet_v2_s() -> InvertedResidualArchitecture:
    """EfficientNetV2-S.

    Source: M. Tan and Q. Le, "EfficientNetV2", arXiv 2104.00298, table 4.
    """
    # Each stage: blocks, stride, expansion, output channels, whether its blocks are fused.
    layout = (
        (2, 1, 1, 24, True),
        (4, 2, 4, 48, True),
        (4, 2, 4, 64, True),
        (6, 2, 4, 128, False),
        (9, 1, 6, 160, False),
        (15, 2, 6, 256, False),
    )
    channels, stages = 24, []
    for count, stride, expansion, out, is_fused in layout:
        blocks = []
        for position in range(count):
            step, squeezed = (1 if position else stride), (0 if is_fused else channels // 4)
            expanded = channels * expansion
            blocks.append(InvertedResidual(channels, expanded, out, 3, step, squeezed, "silu", is_fused))
            channels = out
        stages.append(tuple(blocks))
    return InvertedResidualArchitecture(tuple(stages), 1280, "silu", has_nested_stages=True)


@dataclass(frozen=True)
class ConvNeXtArchitecture:
    """ConvNeXt: four stages of depthwise convolutions of 7 x 7 and dense layers, with layer normalization.

    Source: Z. Liu et al., "A ConvNet for the 2020s", arXiv 2201.03545, table 9.
    """

    blocks: tuple[int, int, int, int] = (3, 3, 9, 3)  # of each stage
    channels: tuple[int, int, int, int] = (96, 192, 384, 768)
    last_layers: tuple[str, ...] = ("classifier.2.",)

    @property
    def features(self) -> int:
        """Length of the feature vector of an image."""
        return self.channels[-1]

    def stages(self, input_size: int) -> list[Row]:
        """See `backbones.stages`."""
        side = input_size // 4
        rows = [_row("first convolution", 1, 4, self.channels[0], side)]
        for number, (count, channels) in enumerate(zip(self.blocks, self.channels, strict=True), start=1):
            side = side if number == 1 else side // 2
            rows.append(_row(f"stage {number}", count, 7, channels, side))
        return [*rows, _row("global average pooling", 1, side, self.features, 1)]

    def network(self) -> "ConvNeXt":
        """The network with random weights; uint8 images (N, S, S, 3), RGB, to float32 features (N, d)."""
        from imgclf.networks.convnext import ConvNeXt

        return ConvNeXt(self.blocks, self.channels, pixel_mean=PIXEL_MEAN, pixel_std=PIXEL_STD)


TorchArchitecture = (
    LiteArchitecture | ResNetArchitecture | InvertedResidualArchitecture | ConvNeXtArchitecture
)
