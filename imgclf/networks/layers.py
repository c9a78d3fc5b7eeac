"""What several networks share: their parts in sequence, normalization of pixels, global average pooling."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class PixelNormalization(nn.Module):
    """uint8 images (N, S, S, 3), RGB, to float32 maps (N, 3, S, S).

    Parameters
    ----------
    mean, std : red, green, blue, in grey levels. They are no part of the state dict, as published weights
        have no such entries.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean), persistent=False)
        self.register_buffer("std", torch.tensor(std), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return ((images.float() - self.mean) / self.std).permute(0, 3, 1, 2)


class Staged(nn.Module):
    """A network of parts, which images pass one after the other."""

    def parts(self) -> list[nn.Module]:
        """The first convolution, the stages, and what follows them."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> Tensor:
        x = images
        for part in self.parts():
            x = part(x)
        return x


class GlobalAveragePool(nn.Module):
    """Feature maps (N, d, H, W) to features (N, d)."""

    def forward(self, maps: Tensor) -> Tensor:
        return torch.mean(maps, dim=(2, 3))
