"""EfficientNet-Lite in torch, with the layer names of the published weights."""

import torch
from torch import Tensor, nn
from torch.nn import functional

NORM_EPSILON = 1e-3
PIXEL_MEAN, PIXEL_SCALE = 127.0, 128.0


class SameConv2d(nn.Conv2d):
    """A convolution with TensorFlow's padding "SAME": of odd padding, the extra pixel goes right and below.

    The weights were trained with it; torch's symmetric padding would shift every stage with stride 2 by a
    pixel.
    """

    def forward(self, x: Tensor) -> Tensor:
        vertical, horizontal = (self._padding(x.shape[axis], axis - 2) for axis in (2, 3))
        return super().forward(functional.pad(x, [*horizontal, *vertical]))

    def _padding(self, size: int, axis: int) -> tuple[int, int]:
        stride, kernel = self.stride[axis], self.kernel_size[axis]
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        return total // 2, total - total // 2


def convolution(
    channels_in: int, channels_out: int, kernel: int, *, stride: int = 1, groups: int = 1
) -> SameConv2d:
    """A convolution without bias, as batch normalization follows."""
    return SameConv2d(channels_in, channels_out, kernel, stride=stride, groups=groups, bias=False)


def normalization(channels: int) -> nn.BatchNorm2d:
    """Batch normalization with the constants of the published network."""
    return nn.BatchNorm2d(channels, eps=NORM_EPSILON, momentum=0.01)


class Block(nn.Module):
    """Mobile inverted bottleneck: expand by 1 x 1, depthwise convolution, project by 1 x 1.

    Source: M. Sandler et al., "MobileNetV2", arXiv 1801.04381.
    """

    def __init__(self, channels_in: int, channels_out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        expanded = channels_in * expansion
        self.expands = expansion != 1
        self.has_shortcut = stride == 1 and channels_in == channels_out
        if self.expands:
            self._expand_conv = convolution(channels_in, expanded, 1)
            self._bn0 = normalization(expanded)
        self._depthwise_conv = convolution(expanded, expanded, kernel, stride=stride, groups=expanded)
        self._bn1 = normalization(expanded)
        self._project_conv = convolution(expanded, channels_out, 1)
        self._bn2 = normalization(channels_out)

    def forward(self, x: Tensor) -> Tensor:
        expanded = functional.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        filtered = functional.relu6(self._bn1(self._depthwise_conv(expanded)))
        projected = self._bn2(self._project_conv(filtered))
        return x + projected if self.has_shortcut else projected


class EfficientNetLite(nn.Module):
    """uint8 images (N, S, S, 3), RGB, to float32 features (N, channels_head)."""

    def __init__(
        self, blocks: list[tuple[int, int, int, int, int]], channels_stem: int, channels_head: int
    ) -> None:
        super().__init__()
        self._conv_stem = convolution(3, channels_stem, 3, stride=2)
        self._bn0 = normalization(channels_stem)
        self._blocks = nn.ModuleList(Block(*block) for block in blocks)
        self._conv_head = convolution(blocks[-1][1], channels_head, 1)
        self._bn1 = normalization(channels_head)

    def forward(self, images: Tensor) -> Tensor:
        x = (images.permute(0, 3, 1, 2).float() - PIXEL_MEAN) / PIXEL_SCALE
        x = functional.relu6(self._bn0(self._conv_stem(x)))
        for block in self._blocks:
            x = block(x)
        return torch.mean(functional.relu6(self._bn1(self._conv_head(x))), dim=(2, 3))

    def parts(self) -> list[nn.Module]:
        """Modules that compute `forward` in sequence, with the same weights.

        They are the normalization of pixels and the first convolution, each stage, the last convolution and
        global average pooling.
        """
        stages: list[list[nn.Module]] = []
        for block in self._blocks:
            if not stages or not block.has_shortcut:  # a stage begins where channels or size change
                stages.append([])
            stages[-1].append(block)
        return [
            FirstConvolution(self._conv_stem, self._bn0),
            *(nn.Sequential(*blocks) for blocks in stages),
            LastConvolution(self._conv_head, self._bn1),
        ]


class FirstConvolution(nn.Module):
    """uint8 images (N, S, S, 3), RGB, to the feature maps of the first convolution."""

    def __init__(self, convolution: SameConv2d, normalization: nn.BatchNorm2d) -> None:
        super().__init__()
        self.convolution, self.normalization = convolution, normalization

    def forward(self, images: Tensor) -> Tensor:
        x = (images.permute(0, 3, 1, 2).float() - PIXEL_MEAN) / PIXEL_SCALE
        return functional.relu6(self.normalization(self.convolution(x)))


class LastConvolution(nn.Module):
    """Feature maps to features: the last convolution and global average pooling."""

    def __init__(self, convolution: SameConv2d, normalization: nn.BatchNorm2d) -> None:
        super().__init__()
        self.convolution, self.normalization = convolution, normalization

    def forward(self, x: Tensor) -> Tensor:
        return torch.mean(functional.relu6(self.normalization(self.convolution(x))), dim=(2, 3))
