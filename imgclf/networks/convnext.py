"""ConvNeXt in torch, with the layer names of the weights that torchvision publishes."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from imgclf.networks.layers import GlobalAveragePool, PixelNormalization, Staged

NORM_EPSILON = 1e-6


class Permute(nn.Module):
    """Reorder the axes."""

    def __init__(self, *axes: int) -> None:
        super().__init__()
        self.axes = axes

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(self.axes)


class LayerNorm2d(nn.LayerNorm):
    """Layer normalization over the channels of maps (N, C, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Block(nn.Module):
    """Depthwise convolution of 7 x 7, layer normalization, and two dense layers that widen fourfold."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.Conv2d(channels, channels, 7, padding=3, groups=channels),
            Permute(0, 2, 3, 1),
            nn.LayerNorm(channels, eps=NORM_EPSILON),
            nn.Linear(channels, 4 * channels),
            nn.GELU(),
            nn.Linear(4 * channels, channels),
            Permute(0, 3, 1, 2),
        )
        self.layer_scale = nn.Parameter(torch.full((channels, 1, 1), 1e-6))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layer_scale * self.block(x)


class ConvNeXt(Staged):
    """uint8 images (N, S, S, 3), RGB, to float32 features (N, d).

    The features are the means of the last maps after layer normalization, which the published classifier
    has before its last layer. Stochastic depth, a regularization of the training, is left out: fine-tuning
    here is short, and has dropout.

    Parameters
    ----------
    blocks, channels : of each of the four stages.
    pixel_mean, pixel_std : for the normalization of pixels; red, green, blue, in grey levels.
    """

    def __init__(
        self,
        blocks: Sequence[int],
        channels: Sequence[int],
        *,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
    ) -> None:
        super().__init__()
        self.normalization = PixelNormalization(pixel_mean, pixel_std)
        layers: list[nn.Module] = []
        for number, (count, width) in enumerate(zip(blocks, channels, strict=True)):
            layers.append(_downsampling(channels[number - 1], width) if number else _first(width))
            layers.append(nn.Sequential(*(Block(width) for _ in range(count))))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.LayerNorm(channels[-1], eps=NORM_EPSILON))

    def parts(self) -> list[nn.Module]:
        """Modules that compute `forward` in sequence, with the same weights.

        They are the normalization of pixels and the first convolution, each stage (after the first one with
        its downsampling), global average pooling with the last normalization.
        """
        first, stage, *others = self.features
        return [
            nn.Sequential(self.normalization, first),
            stage,
            *(nn.Sequential(*others[k : k + 2]) for k in range(0, len(others), 2)),
            nn.Sequential(GlobalAveragePool(), self.classifier),
        ]


def _first(channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, channels, 4, stride=4), LayerNorm2d(channels, eps=NORM_EPSILON))


def _downsampling(channels_in: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(
        LayerNorm2d(channels_in, eps=NORM_EPSILON), nn.Conv2d(channels_in, channels_out, 2, stride=2)
    )
