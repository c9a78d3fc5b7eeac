"""How the pixels of an ONNX network are normalized: from its graph, its metadata, or the files beside it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import onnx
from onnx import TensorProto

from imgclf import ImgclfError
from imgclf.networks import onnx_graph
from imgclf.networks.architectures import PIXEL_MEAN, PIXEL_STD

# Metadata of a file: JSON lists for red, green, blue on a scale of 0 to 1.
MEAN_KEY, STD_KEY = "pixel_mean", "pixel_std"
ORDER_KEY = "pixel_order"  # metadata: "BGR" (JSON) for blue, green, red
# Metadata of the ONNX standard (docs/MetadataProps.md of onnx/onnx), which Azure Custom Vision writes.
FORMAT_KEY, RANGE_KEY = "Image.BitmapPixelFormat", "Image.NominalPixelRange"
KEYS = (MEAN_KEY, STD_KEY, ORDER_KEY, FORMAT_KEY, RANGE_KEY)
CUSTOM_VISION = ["data", "model_output"]  # its input and output; Azure-Samples/customvision-export-samples
# Mean and standard deviation in grey levels, and the range in words.
RANGES = {
    "nominalrange_0_255": (0.0, 1.0, "0 to 255"),
    "normalized_0_1": (0.0, 255.0, "0 to 1"),
    "normalized_1_1": (127.5, 127.5, "-1 to 1"),
    "nominalrange_16_235": (-16 * 255 / 219, 255 / 219, "16 to 235"),
}
PROCESSOR_FILE = "preprocessor_config.json"  # of transformers, beside the network or above its folder onnx/
REMEDY = "write pixel_mean and pixel_std into its metadata (docs/backbones.md)"


@dataclass(frozen=True)
class PixelNormalization:
    """How grey levels 0 to 255, RGB, are normalized for a network: minus `mean`, divided by `std`.

    Attributes
    ----------
    mean, std : in grey levels; one number, or one for each of red, green, blue.
    source : where the values are from, in words.
    is_bgr : whether the network takes blue, green, red.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    source: str
    is_bgr: bool = False


def find(model: onnx.ModelProto, file: Path) -> PixelNormalization:
    """The normalization for a network with one input.

    Raises
    ------
    ImgclfError : the metadata, or the file beside the network, hold no valid values.
    """
    metadata = {prop.key: prop.value for prop in model.metadata_props}
    is_bgr = metadata.get(ORDER_KEY) == '"BGR"' or metadata.get(FORMAT_KEY, "").lower().startswith("bgr")
    found = _values(model, metadata, file)
    if is_bgr or found.is_bgr:
        return replace(found, source=f"{found.source}, channel order BGR", is_bgr=True)
    return found


def _values(model: onnx.ModelProto, metadata: Mapping[str, str], file: Path) -> PixelNormalization:
    """The first normalization that is known; the metadata may state the order of the channels beside it."""
    entry = model.graph.input[0]
    if entry.type.tensor_type.elem_type == TensorProto.UINT8:
        return PixelNormalization((0,), (1,), "it takes grey levels 0 to 255 and normalizes them itself")
    if MEAN_KEY in metadata or STD_KEY in metadata:
        mean, std = _stored(metadata, file)
        source = "pixels are normalized by pixel_mean and pixel_std of its metadata"
        return PixelNormalization(mean, std, source)
    if declared := RANGES.get(metadata.get(RANGE_KEY, "").lower()):
        source = f"it takes pixels from {declared[2]}, as its metadata say"
        return PixelNormalization(declared[:1], declared[1:2], source)
    if white := onnx_graph.max_pixel_value(model.graph, entry.name):
        source = f"it takes pixels from 0 to {white} and normalizes them itself"
        return PixelNormalization((0,), (255 / white,), source)
    names = [value.name.removeprefix(onnx_graph.PREFIX) for value in (entry, *model.graph.output)]
    if FORMAT_KEY in metadata or names == CUSTOM_VISION:
        source = "pixels are scaled to 0 to 1, as those of Azure Custom Vision"
        return PixelNormalization((0,), (255,), source)
    if processor := processor_file(file):
        return _of_processor(processor)
    if model.producer_name == "tf2onnx":
        return PixelNormalization(
            (127.5,),
            (127.5,),
            "pixels are scaled to -1 to 1, as MobileNet of Keras and Teachable Machine take them, since its "
            f"metadata have none; if it was trained with others, {REMEDY}",
        )
    return PixelNormalization(
        PIXEL_MEAN,
        PIXEL_STD,
        "pixels are normalized by mean and standard deviation of ImageNet, as its metadata have none; "
        f"if it was trained with others, as CLIP and SigLIP were, {REMEDY}",
    )


def processor_file(file: Path) -> Path | None:
    """The settings of an image processor that belong to an ONNX file; None if there are none."""
    folder = file.parent.parent if file.parent.name == "onnx" else file.parent
    candidates = (file.with_name(PROCESSOR_FILE), folder / PROCESSOR_FILE)
    return next((path for path in candidates if path.exists()), None)


def _stored(metadata: Mapping[str, str], file: Path) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation in the metadata of a file, converted to grey levels."""
    try:
        mean, std = (
            tuple(255 * float(value) for value in json.loads(metadata[key])) for key in (MEAN_KEY, STD_KEY)
        )
        if not len(mean) == len(std) == 3 or min(std) <= 0:
            raise ValueError
        return mean, std
    except (KeyError, TypeError, ValueError) as error:
        raise ImgclfError(
            f"{file.name}: its metadata {MEAN_KEY} and {STD_KEY} must both be JSON lists of three "
            "numbers, red, green, blue, the second above 0; correct them and export it again"
        ) from error


def _of_processor(file: Path) -> PixelNormalization:
    """The normalization of an image processor of transformers."""
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
        stated = {key: value for key, value in settings.items() if value is not None}  # null: by default
        is_rescaled = stated.get("do_rescale", True)
        white = 1 / float(stated.get("rescale_factor", 1 / 255)) if is_rescaled else 1.0
        black = 1.0 if is_rescaled and stated.get("rescale_offset") else 0.0  # subtracted after rescaling
        # MobileViT, which takes BGR, is not normalized by default.
        is_normalized = stated.get("do_normalize", "do_flip_channel_order" not in stated)
        mean, std = [0.0] * 3, [1.0] * 3
        if is_normalized:
            mean, std = ([float(value) for value in stated[key]] for key in ("image_mean", "image_std"))
        if stated.get("include_top"):  # EfficientNet divides once more
            std = [first * float(second) for first, second in zip(std, stated["image_std"], strict=True)]
        if len(mean) != len(std) or len(mean) not in (1, 3) or min(std) <= 0:
            raise ValueError
    except (OSError, AttributeError, KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise ImgclfError(
            f"{file}: its image_mean and image_std must both be lists of three numbers, red, green, blue, "
            "the second above 0; correct them, or move the file away"
        ) from error
    done = "normalized by image_mean and image_std" if is_normalized else "scaled by rescale_factor"
    return PixelNormalization(
        tuple(white * (value + black) for value in mean),
        tuple(white * value for value in std),
        f"pixels are {done} of {file.name}",
        bool(stated.get("do_flip_channel_order")),
    )
