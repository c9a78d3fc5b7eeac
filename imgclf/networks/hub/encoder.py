"""A vision model of transformers as a backbone: pixels in, features out, and its layers one by one."""

import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

LAYER_LISTS = ("layer", "layers", "stages", "blocks", "block", "stage")  # names of lists of encoder layers
MAX_PREFIX_TOKENS = 16  # classification, distillation and register tokens, before those of the patches
MAX_SIDE = 2048  # pixels
NOTES = {
    "image_embeds": "image_embeds, the embedding that is compared with that of a text",
    "pooler_output": "pooler_output",
    "pooled maps": "pooler_output, the pooled last feature maps",
    "maps": "mean of the last feature maps",
    "token": "classification token of the last layer",
    "mean": "mean of the patch tokens of the last layer",
}


class Encoder(nn.Module):
    """uint8 images (N, S, S, 3), RGB, to float32 features (N, d).

    Parameters
    ----------
    model : takes `pixel_values` (N, 3, S, S), and returns what vision models of transformers return.
    pixel_mean, pixel_std : for the normalization of pixels; in the order of the model's channels, in grey
        levels.
    side : of the images that it was trained on, pixels.
    uses_mean : whether the features are the mean of the patch tokens.
    is_bgr : whether the model takes blue, green, red.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(
        self,
        model: nn.Module,
        *,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        side: int,
        uses_mean: bool = False,
        is_bgr: bool = False,
    ) -> None:
        super().__init__()
        self.model, self.side, self.uses_mean, self.is_bgr = model, side, uses_mean, is_bgr
        self.patch = 0
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std), persistent=False)
        takes = inspect.signature(model.forward).parameters
        self.arguments = {name: True for name in ("interpolate_pos_encoding",) if name in takes}

    def forward(self, images: Tensor) -> Tensor:
        return self.features(self.output(images), images.shape[1])

    def output(self, images: Tensor) -> Any:
        """Return what the model returns for images."""
        pixels = images.flip(-1) if self.is_bgr else images
        normalized = (pixels.float() - self.pixel_mean) / self.pixel_std
        return self.model(pixel_values=normalized.permute(0, 3, 1, 2).contiguous(), **self.arguments)

    def find_patch(self, image: Tensor) -> None:
        """Set `patch`: of a token network the stride of the first convolution, pixels; else 0."""
        if self.output(image)["last_hidden_state"].ndim == 3:
            first = next((layer for layer in self.model.modules() if isinstance(layer, nn.Conv2d)), None)
            self.patch = int(first.stride[0]) if first else 1

    def features(self, output: Any, side: int) -> Tensor:
        """Return the features (N, d) in the output of the model for images of `side` pixels; see `rule`."""
        rule = self.rule(output, side)
        if rule in ("image_embeds", "pooler_output"):
            return output[rule].flatten(1)
        last = output["last_hidden_state"]
        if rule == "maps":
            return last.mean(dim=(2, 3))
        prefix = self.prefix_tokens(last.shape[1], side)
        return last[:, 0] if rule == "token" else last[:, prefix:].mean(dim=1)

    def rule(self, output: Any, side: int) -> str:
        """Return which output the features are: a name of the model, or "maps", "token" or "mean"."""
        if self.uses_mean:
            return "mean"
        if output.get("image_embeds") is not None:
            return "image_embeds"
        if output.get("pooler_output") is not None and not self._has_tanh_pooler():
            return "pooler_output"
        last = output["last_hidden_state"]
        if last.ndim == 4:
            return "maps"
        return "token" if self.prefix_tokens(last.shape[1], side) else "mean"

    def _has_tanh_pooler(self) -> bool:
        """Return whether `pooler_output` is that of BERT: a dense layer and tanh on the first token.

        In published weights it is random or trained for another task.
        """
        return hasattr(getattr(self.model, "pooler", None), "dense")

    def is_unused(self, weight: str) -> bool:
        """Return whether the features do not depend on a weight of the model."""
        return weight.endswith("mask_token") or (weight.startswith("pooler.") and self._has_tanh_pooler())

    def describe(self, side: int) -> str:
        """Return which output the features are, in words."""
        output = self.output(
            torch.zeros((1, side, side, 3), dtype=torch.uint8, device=self.pixel_mean.device)
        )
        rule = self.rule(output, side)
        pools = any(hasattr(self.model, name) for name in ("pooler", "head"))
        last = output["last_hidden_state"]
        if (
            rule == "pooler_output"
            and not pools
            and last.ndim == 3
            and self.prefix_tokens(last.shape[1], side)
        ):
            rule = "token"
        if rule == "pooler_output" and last.ndim == 4:
            rule = "pooled maps"
        return NOTES[rule]

    def layer_shapes(self, side: int) -> list[tuple[str, int, tuple[int, ...]]]:
        """Return name, number of blocks, and shape of the maps, without the batch, of embedding and layers.

        Empty if the model does not call its layers one after the other.
        """
        layers = encoder_layers(self.model)
        shapes = LayerCalls(self, list(layers)).at(side)[1] if layers else []
        if not layers or len(shapes) != len(layers) + 1:
            return []
        name = "layer" if len(set(shapes)) == 1 else "stage"
        rows = enumerate(zip(layers, shapes[1:], strict=True), start=1)
        return [
            ("embedding", 1, tuple(shapes[0])),
            *((f"{name} {number}", _depth(layer), tuple(shape)) for number, (layer, shape) in rows),
        ]

    def prefix_tokens(self, tokens: int, side: int) -> int:
        """Return how many of the tokens stand before those of the patches, given the side in pixels."""
        prefix = tokens - (side // self.patch) ** 2 if self.patch else -1
        return prefix if 0 <= prefix <= MAX_PREFIX_TOKENS else tokens - math.isqrt(tokens) ** 2

    def parts(self) -> list[nn.Module]:
        """Modules that compute `forward` in sequence, with the same weights.

        They are the embedding, each encoder layer or stage, and what follows. Two modules without any layer
        if the model does not call its layers one after the other.
        """
        layers = encoder_layers(self.model)
        if layers is None:
            return [nn.Identity(), self]
        try:
            calls = LayerCalls(self, list(layers))
            parts = [
                Embedding(calls),
                *(Layer(calls, position) for position in range(len(layers))),
                Rest(calls),
            ]
            if _compute_the_same(self, parts):
                return parts
        except (RuntimeError, TypeError, ValueError, LookupError):  # the layers are called in another way
            pass
        return [nn.Identity(), self]


def _compute_the_same(encoder: Encoder, parts: Sequence[nn.Module]) -> bool:
    with torch.no_grad():
        images = torch.arange(2 * encoder.side * encoder.side * 3).remainder(251).to(torch.uint8)
        x = images = images.reshape(2, encoder.side, encoder.side, 3).to(encoder.pixel_mean.device)
        for part in parts:
            x = part(x)
        return torch.allclose(x, encoder(images), atol=1e-4)


def encoder_layers(model: nn.Module) -> nn.ModuleList | None:
    """Return the list of encoder layers or stages of a model, the outermost; None if it has none."""
    lists = [
        module
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and name.rpartition(".")[2] in LAYER_LISTS and len(module)
    ]
    return lists[0] if lists else None


def _depth(layer: nn.Module) -> int:
    """Return the number of blocks of a stage; 1 for a layer."""
    lists = [
        module
        for name, module in layer.named_modules()
        if isinstance(module, nn.ModuleList | nn.Sequential) and name.rpartition(".")[2] in LAYER_LISTS
    ]
    return len(lists[0]) if lists else 1


class _LayerReached(Exception):
    """The first layer is called, with the maps that the embedding has computed."""

    def __init__(self, maps: Tensor) -> None:
        self.maps = maps


@dataclass(frozen=True)
class Call:
    """How the model calls a layer.

    Attributes
    ----------
    name : of the argument that holds the maps; empty : it is the first without a name.
    arguments, named : the others. returned : what the layer returns behind the maps; None : the maps alone.
    """

    name: str
    arguments: tuple[Any, ...]
    named: dict[str, Any]
    returned: tuple[Any, ...] | None

    def run(self, layer: nn.Module, maps: Tensor) -> Tensor:
        """Call a layer with other maps, and return its maps."""
        if self.name:
            return _first(layer(**{self.name: maps}, **_on(maps.device, self.named)))
        return _first(layer(maps, *_on(maps.device, self.arguments), **_on(maps.device, self.named)))


def _recorded(arguments: tuple[Any, ...], named: dict[str, Any], output: Any) -> Call:
    name = "" if arguments else next(iter(named))
    others = {key: value for key, value in named.items() if key != name}
    return Call(name, arguments[1:], others, output[1:] if isinstance(output, tuple) else None)


def _first(values: Any) -> Any:
    return values[0] if isinstance(values, tuple) else values


def _on(device: torch.device, values: Any) -> Any:
    return tree_map(lambda value: value.to(device) if isinstance(value, Tensor) else value, values)


@dataclass(frozen=True)
class LayerCalls:
    """The calls of the layers of a model, for images of several sides.

    A layer may take more than the maps: their sides, a table of rotary position embeddings, a bias. That
    depends on the side of the images and not on their content, so it is recorded once for each side.

    Attributes
    ----------
    of_side : for images of so many pixels, the calls, and the shapes of the maps that each layer takes and
        the last one returns, without the batch.
    """

    encoder: Encoder
    layers: list[nn.Module]
    of_side: dict[int, tuple[list[Call], list[torch.Size]]] = field(default_factory=dict)

    def find(self, position: int, maps: Tensor) -> tuple[int, list[Call]]:
        """Return the side of the images whose maps reach this layer, pixels, and the calls of all layers.

        Layers of networks without tokens need only the maps, so there the side does not matter.
        """
        own, step = self.encoder.side, self.encoder.patch
        if not step:
            return own, self.at(own)[0]
        others = sorted(range(step, MAX_SIDE, step), key=lambda side: abs(side - own))
        for side in (own, *self.of_side, *others):
            calls, shapes = self.at(side)
            if shapes[position] == maps.shape[1:]:
                return side, calls
        raise ValueError(f"maps of shape {tuple(maps.shape)} belong to no image of up to {MAX_SIDE} pixels")

    def at(self, side: int) -> tuple[list[Call], list[torch.Size]]:
        """Return the calls for images of `side` pixels, and the shapes of the maps."""
        if side not in self.of_side:
            calls: list[Call] = []
            shapes: list[torch.Size] = []

            def record(layer: nn.Module, arguments: Any, named: dict[str, Any], output: Any) -> None:
                calls.append(_recorded(arguments, named, output))
                shapes.append(_first(arguments or tuple(named.values())).shape[1:])
                if layer is self.layers[-1]:
                    shapes.append(_first(output).shape[1:])

            hooks = [layer.register_forward_hook(record, with_kwargs=True) for layer in self.layers]
            with torch.no_grad():
                self.encoder.output(self.image(side))
            for hook in hooks:
                hook.remove()
            self.of_side[side] = calls, shapes
        return self.of_side[side]

    def embed(self, images: Tensor) -> Tensor:
        """Return the maps that the first layer takes."""

        def stop(*arguments: Any, **named: Any) -> Any:
            raise _LayerReached(_first(arguments or tuple(named.values())))

        with _replaced(self.layers[:1], [stop]):
            try:
                self.encoder.output(images)
            except _LayerReached as reached:
                return reached.maps
        raise ValueError("the model calls no layer")

    def image(self, side: int) -> Tensor:
        """Return a black image; (1, side, side, 3) uint8."""
        return torch.zeros((1, side, side, 3), dtype=torch.uint8, device=self.encoder.pixel_mean.device)


@contextmanager
def _replaced(layers: Sequence[nn.Module], functions: Sequence[Callable[..., Any]]) -> Iterator[None]:
    """Let layers compute something else."""
    for layer, function in zip(layers, functions, strict=True):
        layer.forward = function
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


class Embedding(nn.Module):
    """uint8 images to the maps that the first layer takes."""

    def __init__(self, calls: LayerCalls) -> None:
        super().__init__()
        self.calls = calls
        self.own = nn.ModuleList(modules_beside(calls)[0])

    def forward(self, images: Tensor) -> Tensor:
        return self.calls.embed(images)


class Layer(nn.Module):
    """Maps to maps: one encoder layer or stage."""

    def __init__(self, calls: LayerCalls, position: int) -> None:
        super().__init__()
        self.calls, self.position = calls, position
        self.layer = calls.layers[position]

    def forward(self, maps: Tensor) -> Tensor:
        return self.calls.find(self.position, maps)[1][self.position].run(self.layer, maps)


class Rest(nn.Module):
    """The maps of the last layer to features: the last normalization and pooling.

    The model runs on one black image, and each layer returns the given maps instead of its own.
    """

    def __init__(self, calls: LayerCalls) -> None:
        super().__init__()
        self.calls = calls
        self.own = nn.ModuleList(modules_beside(calls)[1])

    def forward(self, maps: Tensor) -> Tensor:
        side, calls = self.calls.find(len(self.calls.layers), maps)

        def returning(call: Call) -> Callable[..., Any]:
            output = maps if call.returned is None else (maps, *call.returned)
            return lambda *arguments, **named: output

        with _replaced(self.calls.layers, [returning(call) for call in calls]):
            output = self.calls.encoder.output(self.calls.image(side))
        return self.calls.encoder.features(output, side)


def modules_beside(calls: LayerCalls) -> tuple[list[nn.Module], list[nn.Module]]:
    """Return the modules of a model that run before its layers, and those that run after them."""
    model, run = calls.encoder.model, set[nn.Module]()
    hooks = [
        module.register_forward_pre_hook(lambda module, _: run.add(module)) for module in model.modules()
    ]
    with torch.no_grad():
        calls.embed(calls.image(calls.encoder.side))
    for hook in hooks:
        hook.remove()
    before, after = [], []
    remaining = list(model.children())
    while remaining:
        module = remaining.pop(0)
        within = set(module.modules())
        if not within.isdisjoint(calls.layers):
            remaining += [child for child in module.children() if child not in calls.layers]
        elif run.isdisjoint(within):
            after.append(module)
        else:
            before.append(module)
    return before, after
