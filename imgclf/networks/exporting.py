"""Torch modules as ONNX networks."""

import copy
import itertools
import logging
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgclf import __version__, files

if TYPE_CHECKING:
    import torch

OPSET = 18
LOCK = ".export.lock"  # of exports, in the folder `networks`
SILENT_SECONDS = 30  # a run exports its own networks ahead; waiting for that is no news


def cached(name: str) -> Path:
    """Return where the export of a network is cached; `name` has the network, its size and its variant."""
    return files.data_dir() / "networks" / f"{name}-opset{OPSET}-imgclf{__version__}.onnx"


def exported(name: str, export: Callable[[Path], None]) -> Path:
    """Return the path of a cached export; it is made if it is not there.

    If another process exports a network, wait for it: it may be this one.

    Parameters
    ----------
    name : see `cached`. export : writes the network to a path.
    """
    path = cached(name)
    if path.exists():
        return path
    with files.writable(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        reason = "another process exports a network"
        held = files.wait_for(path.with_name(LOCK), reason, silent_seconds=SILENT_SECONDS)
    try:
        if not path.exists():
            export(path)
    finally:
        held.release()
    return path


def export_network(
    network: "torch.nn.Module",
    input_size: int,
    path: Path,
    *,
    metadata: Mapping[str, Any],
    output: str = "features",
) -> None:
    """Write a torch module for uint8 images (N, S, S, 3) as an ONNX network.

    Parameters
    ----------
    metadata : stored in the file, as JSON.
    output : name of its only output.
    """
    import torch
    from onnx_ir.passes.common import ClearMetadataAndDocStringPass

    shape = 2, input_size, input_size, 3
    example = torch.arange(math.prod(shape)).remainder(251).to(torch.uint8).reshape(shape)
    network = with_folded_normalization(network, example)
    with _silenced("torch.onnx"), _silenced("onnxscript"):
        program = torch.onnx.export(
            network,
            (example,),
            dynamo=True,
            opset_version=OPSET,
            input_names=["images"],
            output_names=[output],
            dynamic_shapes=({0: torch.export.Dim("N")},),
            verbose=False,
        )
    assert program is not None  # with dynamo=True
    ClearMetadataAndDocStringPass()(program.model)  # it holds paths of this machine
    program.model.metadata_props.update({key: files.to_json(value) for key, value in metadata.items()})
    with files.replace_file(path) as file:
        file.write(program.model_proto.SerializeToString(deterministic=True))


def with_folded_normalization(network: "torch.nn.Module", example: "torch.Tensor") -> "torch.nn.Module":
    """Return a copy with each batch normalization folded into the convolution before it.

    The exporter does that too, but only after it has gone through both, which takes nearly twice as long. A
    network is returned as it is if it has no batch normalization, or if the copy computes something else:
    then modules that stand one after the other are not computed one after the other.

    Parameters
    ----------
    network : in evaluation mode. example : images for it, not all of one colour.
    """
    import torch
    from torch import nn
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    if not any(isinstance(module, nn.BatchNorm2d) for module in network.modules()):
        return network
    folded = copy.deepcopy(network)
    for parent in folded.modules():
        for (name, one), (next_name, other) in itertools.pairwise(parent.named_children()):
            if not (isinstance(one, nn.Conv2d) and isinstance(other, nn.BatchNorm2d)):
                continue
            if other.running_mean is not None:
                setattr(parent, name, fuse_conv_bn_eval(one, other))
                setattr(parent, next_name, nn.Identity())
    with torch.inference_mode():
        wanted, found = network(example), folded(example)
    return folded if torch.allclose(found, wanted, rtol=1e-3, atol=1e-3 * wanted.abs().max()) else network


@contextmanager
def _silenced(logger_name: str) -> Iterator[None]:
    """Suppress warnings: the exporter reports optional packages (torchvision) and its own deprecations."""
    logger = logging.getLogger(logger_name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
