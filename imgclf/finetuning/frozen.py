"""A network cut in two: a front that stays as it is, and a tail that learns, with a new last layer at its end."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from imgclf import ImgclfError, __version__, engines, files
from imgclf.images.preprocessing import KEY, Preprocessing
from imgclf.networks import backbones
from imgclf.networks.backbones import Backbone

if TYPE_CHECKING:
    import torch

Front = Callable[[Iterable[np.ndarray]], Iterator["torch.Tensor"]]
AT_ONCE = 32  # images that go through a network at once where nothing is learned from them


def cut(
    network: "torch.nn.Module", trainable_stages: int | str
) -> tuple["torch.nn.Sequential", "torch.nn.Sequential"]:
    """The front and the tail of a network, with the network's own weights.

    Parameters
    ----------
    network : has `parts()`, a list of modules that images go through one after the other: the first convolution, the stages, what is behind them.
    trainable_stages : stages in the tail; 0 : the tail is empty; "all" : the front is.

    Raises
    ------
    ImgclfError : the network has fewer stages.
    """
    from torch import nn

    parts = network.parts()
    stages = len(parts) - 2
    if trainable_stages == "all":
        return nn.Sequential(), nn.Sequential(*parts)
    if trainable_stages > stages:
        raise ImgclfError(
            f"trainable_stages={trainable_stages}: this backbone has {stages}; give a number from 0 to {stages}, or all"
        )
    first = len(parts) if trainable_stages == 0 else len(parts) - 1 - trainable_stages
    return nn.Sequential(*parts[:first]), nn.Sequential(*parts[first:])


def freeze(tail: "torch.nn.Sequential", *, also_depthwise: bool) -> None:
    """Keep the statistics of the normalizations as they were learned from a million images.

    With `also_depthwise` the filters that see one channel each stay too. They are a thirtieth of the weights, but learning them too
    makes a step nearly twice as long on a processor (benchmarks/RESULTS.md).
    """
    from torch import nn

    tail.eval()
    for module in tail.modules():
        if also_depthwise and isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1:
            module.weight.requires_grad_(False)


def start_front(backbone: Backbone, front: "torch.nn.Sequential", size: int, *, device: str) -> Front:
    """What turns batches of uint8 images (n, size, size, 3) into the maps that the tail takes, on `device`.

    On a processor the inference engine does it, several times as fast as torch.
    """
    if not len(front):
        return lambda batches: (_images_on(batch, device) for batch in batches)
    if device == "cpu":
        return _front_in_engine(backbone, front, size)
    return lambda batches: _run_in_torch(front.to(device), batches, device)


def _images_on(batch: np.ndarray, device: str) -> "torch.Tensor":
    import torch

    return torch.from_numpy(np.ascontiguousarray(batch)).to(device)


def _run_in_torch(
    front: "torch.nn.Sequential", batches: Iterable[np.ndarray], device: str
) -> Iterator["torch.Tensor"]:
    import torch

    for batch in batches:
        with torch.no_grad(), mixed_precision(device):
            yield front(_images_on(batch, device))


def _front_in_engine(backbone: Backbone, front: "torch.nn.Sequential", size: int) -> Front:
    import torch

    kept = (
        files.data_dir()
        / "networks"
        / f"{backbones.cache_name(backbone)}-front{len(front)}-{size}-opset{backbones.OPSET}-imgclf{__version__}.onnx"
    )
    if not kept.exists():
        backbones.export_network(front, size, kept, metadata={}, output="maps")
    engine = engines.start(kept, precision="auto")

    def run(batches: Iterable[np.ndarray]) -> Iterator["torch.Tensor"]:
        for batch in batches:
            few = (
                batch[start : start + engines.BATCH_SIZE]
                for start in range(0, len(batch), engines.BATCH_SIZE)
            )
            yield torch.from_numpy(np.concatenate([maps for (maps,) in engine.run(few)]))

    return run


def chosen_device() -> str:
    """ "cuda" where there is such a GPU, else "cpu"."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def mixed_precision(device: str) -> "torch.autocast":
    """A context in which convolutions and matrices are computed in bfloat16, where the device does so itself."""
    import torch

    enabled = device == "cuda" or engines.resolved_precision("openvino", "auto") == "bf16"
    return torch.autocast(device, torch.bfloat16, enabled=enabled)


def batches(rows: Sequence[int], batch_size: int) -> Iterator[list[int]]:
    """Rows in batches of at most `batch_size`."""
    coming = iter(rows)
    while batch := list(islice(coming, batch_size)):
        yield batch


def features(
    front: Front, tail: "torch.nn.Module", pixels: Iterable[np.ndarray], *, device: str
) -> np.ndarray:
    """What front and tail say of batches of images; (n, d) float32."""
    import torch

    with torch.no_grad(), mixed_precision(device):
        return np.concatenate([tail(maps).float().cpu().numpy() for maps in front(pixels)])


def export(backbone: Backbone, network: "torch.nn.Module", preprocessing: Preprocessing, path: Path) -> None:
    """Write a network whose tail has learned, as `backbones.export` writes one that has not."""
    backbones.export_network(
        network.cpu().float().eval(),
        preprocessing.input_size,
        path,
        metadata={"backbone": backbone.name, KEY: preprocessing.as_json()},
    )
