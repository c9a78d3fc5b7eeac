"""A network split into a frozen part, whose weights stay as they are, and a trainable part."""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from imgclf import ImgclfError, engines
from imgclf.images.preprocessing import KEY, Preprocessing
from imgclf.networks import backbones, exporting
from imgclf.networks.backbones import Backbone

if TYPE_CHECKING:
    import torch

FrozenPart = Callable[[Iterable[np.ndarray]], Iterator["torch.Tensor"]]
INFERENCE_BATCH_SIZE = 32  # of batches without gradients


def split_network(
    network: "torch.nn.Module", trainable_stages: int | str
) -> tuple["torch.nn.Sequential", "torch.nn.Sequential"]:
    """Return the frozen part and the trainable part of a network, with the network's own weights.

    Parameters
    ----------
    network : has `parts()`, the list of modules that images pass through one after the other: the first
        convolution, the stages, and what follows them.
    trainable_stages : stages in the trainable part; 0 : it is empty; "all" : the frozen part is.

    Raises
    ------
    ImgclfError : the network has fewer stages.
    """
    from torch import nn

    parts: list[nn.Module] = network.parts()  # type: ignore[operator]  # torch says that any attribute is a Tensor
    stages = len(parts) - 2
    if isinstance(trainable_stages, str):
        return nn.Sequential(), nn.Sequential(*parts)
    if trainable_stages > stages:
        raise ImgclfError(
            f"trainable_stages={trainable_stages}: this backbone has {stages}; "
            f"give a number from 0 to {stages}, or all"
        )
    first = len(parts) if trainable_stages == 0 else len(parts) - 1 - trainable_stages
    return nn.Sequential(*parts[:first]), nn.Sequential(*parts[first:])


def freeze(module: "torch.nn.Sequential", *, also_depthwise: bool) -> None:
    """Freeze the running statistics of the batch normalizations, as learned from ImageNet.

    With `also_depthwise` the depthwise convolutions (one channel per filter) before batch normalizations are
    frozen too. They are a thirtieth of the weights, but their gradients make a step nearly twice as long on a
    CPU (benchmarks/RESULTS.md). Those of ConvNeXt, which have a bias and layer normalization, are trained:
    they are all that it sees of the neighbourhood of a pixel, and their gradients cost 4 % of a step.
    """
    from torch import nn

    module.eval()
    for layer in module.modules():
        is_depthwise = isinstance(layer, nn.Conv2d) and layer.groups == layer.in_channels > 1
        if also_depthwise and is_depthwise and layer.bias is None:
            layer.weight.requires_grad_(False)


def start_frozen_part(
    backbone: Backbone, frozen_part: "torch.nn.Sequential", size: int, *, device: str
) -> FrozenPart:
    """Return a function from batches of images to the feature maps that the trainable part takes.

    The images are uint8 (n, size, size, 3), RGB; the maps are on `device`. On a CPU the inference engine
    computes them, several times as fast as torch.
    """
    if not len(frozen_part):
        return lambda batches: (_images_on(batch, device) for batch in batches)
    if device == "cpu":
        return _frozen_part_in_engine(backbone, frozen_part, size)
    return lambda batches: _run_in_torch(frozen_part.to(device), batches, device)


def _images_on(batch: np.ndarray, device: str) -> "torch.Tensor":
    import torch

    return torch.from_numpy(np.ascontiguousarray(batch)).to(device)


def _run_in_torch(
    frozen_part: "torch.nn.Sequential", batches: Iterable[np.ndarray], device: str
) -> Iterator["torch.Tensor"]:
    import torch

    for batch in batches:
        with torch.no_grad(), mixed_precision(device):
            yield frozen_part(_images_on(batch, device))


def _frozen_part_in_engine(backbone: Backbone, frozen_part: "torch.nn.Sequential", size: int) -> FrozenPart:
    import torch

    def write(path: Path) -> None:
        with torch.no_grad():  # a model of the Hub records what its layers take at this size
            frozen_part(torch.zeros((1, size, size, 3), dtype=torch.uint8))
        exporting.export_network(frozen_part, size, path, metadata={}, output="maps")

    name = f"{backbones.cache_name(backbone)}-front{len(frozen_part)}-{size}"
    exported = exporting.exported(name, write)
    engine = engines.start(exported, precision="auto")

    def run(batches: Iterable[np.ndarray]) -> Iterator["torch.Tensor"]:
        for batch in batches:
            few = engines.batches(batch, engines.BATCH_SIZE)
            yield torch.from_numpy(np.concatenate([maps for (maps,) in engine.run(few)]))

    return run


def default_device() -> str:
    """Return "cuda" where there is such a GPU, else "cpu"."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def mixed_precision(device: str) -> "torch.autocast":
    """Return a context of automatic mixed precision in bfloat16; disabled where the device lacks it."""
    import torch

    enabled = device == "cuda" or engines.resolved_precision("openvino", "auto") == "bf16"
    return torch.autocast(device, torch.bfloat16, enabled=enabled)


def batches(rows: Iterable[int], batch_size: int) -> Iterator[list[int]]:
    """Yield rows in batches of at most `batch_size`."""
    remaining = iter(rows)
    while batch := list(islice(remaining, batch_size)):
        yield batch


def run(module: "torch.nn.Module", batches: Iterable["torch.Tensor"], *, device: str) -> np.ndarray:
    """Return the output of a module for all batches, without gradients; (n, k) float32."""
    import torch

    with torch.no_grad(), mixed_precision(device):
        return np.concatenate([module(batch).float().cpu().numpy() for batch in batches])


def export(backbone: Backbone, network: "torch.nn.Module", preprocessing: Preprocessing, path: Path) -> None:
    """Write a fine-tuned network, in the form in which `backbones.export` writes a pretrained one."""
    exporting.export_network(
        network.cpu().float().eval(),
        preprocessing.input_size,
        path,
        metadata={**backbone.metadata, KEY: preprocessing.as_json()},
    )
