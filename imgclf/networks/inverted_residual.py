"""MobileNetV3 and EfficientNetV2 in torch, with the layer names of the weights that torchvision publishes."""

from collections.abc import Sequence

from torch import Tensor, nn

from imgclf.networks.architectures import InvertedResidual
from imgclf.networks.layers import GlobalAveragePool, PixelNormalization, Staged

NORM_EPSILON = 1e-3
ACTIVATIONS = {"relu": nn.ReLU, "hardswish": nn.Hardswish, "silu": nn.SiLU}


def convolution(
    channels_in: int,
    channels_out: int,
    kernel: int,
    *,
    stride: int = 1,
    groups: int = 1,
    activation: str = "",
) -> nn.Sequential:
    """A convolution, batch normalization and the activation, if any."""
    layers: list[nn.Module] = [
        nn.Conv2d(channels_in, channels_out, kernel, stride, padding=kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(channels_out, eps=NORM_EPSILON),
    ]
    return nn.Sequential(*layers, *([ACTIVATIONS[activation]()] if activation else []))


class SqueezeExcitation(nn.Module):
    """Scale each channel by a number from 0 to 1 that depends on the means of all channels.

    Source: J. Hu et al., "Squeeze-and-Excitation Networks", arXiv 1709.01507.
    """

    def __init__(self, channels: int, squeezed: int, *, activation: nn.Module, gate: nn.Module) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.fc2 = nn.Conv2d(squeezed, channels, 1)
        self.activation, self.gate = activation, gate

    def forward(self, x: Tensor) -> Tensor:
        means = x.mean(dim=(2, 3), keepdim=True)
        return x * self.gate(self.fc2(self.activation(self.fc1(means))))


class Block(nn.Module):
    """Inverted residual: expand by 1 x 1, depthwise convolution, squeeze and excitation, project by 1 x 1.

    A fused block expands by a convolution of k x k and has no depthwise one.
    """

    def __init__(self, shape: InvertedResidual) -> None:
        super().__init__()
        self.has_shortcut = shape.has_shortcut
        self.block = nn.Sequential(*(_fused_layers(shape) if shape.is_fused else _depthwise_layers(shape)))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.block(x) if self.has_shortcut else self.block(x)


def _fused_layers(shape: InvertedResidual) -> list[nn.Module]:
    channels, k, stride, activation = shape.channels_in, shape.kernel, shape.stride, shape.activation
    if shape.expanded == channels:
        return [convolution(channels, shape.channels_out, k, stride=stride, activation=activation)]
    return [
        convolution(channels, shape.expanded, k, stride=stride, activation=activation),
        convolution(shape.expanded, shape.channels_out, 1),
    ]


def _depthwise_layers(shape: InvertedResidual) -> list[nn.Module]:
    channels, expanded, activation = shape.channels_in, shape.expanded, shape.activation
    layers: list[nn.Module] = []
    if expanded != channels:
        layers.append(convolution(channels, expanded, 1, activation=activation))
    layers.append(
        convolution(
            expanded, expanded, shape.kernel, stride=shape.stride, groups=expanded, activation=activation
        )
    )
    if shape.squeezed:
        inner, gate = (nn.SiLU(), nn.Sigmoid()) if activation == "silu" else (nn.ReLU(), nn.Hardsigmoid())
        layers.append(SqueezeExcitation(expanded, shape.squeezed, activation=inner, gate=gate))
    return [*layers, convolution(expanded, shape.channels_out, 1)]


class InvertedResidualNetwork(Staged):
    """uint8 images (N, S, S, 3), RGB, to float32 features (N, channels_head).

    Parameters
    ----------
    stages : the blocks of each stage.
    activation : of the first and the last convolution.
    has_nested_stages : whether `features` holds stages of blocks, and not the blocks of all stages.
    pixel_mean, pixel_std : for the normalization of pixels; red, green, blue, in grey levels.
    """

    def __init__(
        self,
        stages: Sequence[Sequence[InvertedResidual]],
        channels_head: int,
        *,
        activation: str,
        has_nested_stages: bool,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
    ) -> None:
        super().__init__()
        self.normalization = PixelNormalization(pixel_mean, pixel_std)
        built = [nn.Sequential(*(Block(shape) for shape in stage)) for stage in stages]
        self.features = nn.Sequential(
            convolution(3, stages[0][0].channels_in, 3, stride=2, activation=activation),
            *(built if has_nested_stages else [block for stage in built for block in stage]),
            convolution(stages[-1][-1].channels_out, channels_head, 1, activation=activation),
        )
        self._blocks_of_stages = [len(stage) for stage in stages] if not has_nested_stages else []

    def parts(self) -> list[nn.Module]:
        """Modules that compute `forward` in sequence, with the same weights.

        They are the normalization of pixels and the first convolution, each stage, the last convolution and
        global average pooling.
        """
        first, *stages, last = self.features
        if self._blocks_of_stages:
            blocks = iter(stages)
            stages = [nn.Sequential(*(next(blocks) for _ in range(n))) for n in self._blocks_of_stages]
        return [nn.Sequential(self.normalization, first), *stages, nn.Sequential(last, GlobalAveragePool())]
