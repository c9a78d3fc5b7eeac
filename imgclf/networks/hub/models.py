"""The architecture of an image model in a folder, as the Hugging Face Hub has it, by its configuration."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import PIL.Image

from imgclf import ImgclfError, first_few
from imgclf.networks.architectures import Row

if TYPE_CHECKING:
    import torch

    from imgclf.networks.hub.encoder import Encoder

CONFIG, PROCESSOR = "config.json", "preprocessor_config.json"
USUAL_SIDE = 224  # pixels; of models whose files state none
SMALLEST_SIDE = 32  # pixels; of images for networks without patches
NEAREST = 16  # multiples of the patch that are tried below and above a size that is not possible


@dataclass(frozen=True)
class Normalization:
    """What the image processor of a model does with pixels.

    Attributes
    ----------
    side : of the images of the training, pixels; 0 : unknown.
    mean, std : in the order of the model's channels, in grey levels 0 to 255.
    is_bgr : whether the model takes blue, green, red.
    """

    side: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    is_bgr: bool


@dataclass(frozen=True)
class HubArchitecture:
    """An image model of the Hub; all but `network` needs no weights.

    Attributes
    ----------
    name : of the model, for messages. folder : with its files.
    uses_mean : whether the features are the mean of the patch tokens.
    input_size : width and height of the images of its training, pixels.
    """

    name: str
    folder: Path
    uses_mean: bool
    normalization: Normalization
    input_size: int

    @property
    def features(self) -> int:
        """Length of the feature vector of an image."""
        return int(self._without_weights(_black(self.input_size)).shape[1])

    @property
    def features_note(self) -> str:
        """Which output of the model the features are."""
        return self._without_weights.describe(self.input_size)

    @property
    def patch(self) -> int:
        """Side of the patches of a token network, pixels; else 0."""
        return self._without_weights.patch

    @property
    def weights_bytes(self) -> int:
        """Size of the weights that are used, as float32; those for texts are not."""
        return sum(4 * weight.numel() for weight in self._without_weights.parameters())

    @cached_property
    def _without_weights(self) -> "Encoder":
        """The network on torch's meta device, which knows shapes only."""
        import torch

        model_class, config = _model_class(self.folder, self.name)
        with torch.device("meta"), _quiet():
            try:
                encoder = self._encoder(model_class(config))
                encoder.find_patch(_black(self.input_size))
            except ImportError as error:
                raise _missing_package(self.name, error) from error
            except Exception as error:  # classes of transformers raise anything for settings that do not fit
                raise ImgclfError(
                    f"{self.name}: {model_class.__name__} cannot be used as a backbone: {_line(error)}"
                ) from error
        return encoder

    def _encoder(self, model: "torch.nn.Module") -> "Encoder":
        from imgclf.networks.hub.encoder import Encoder

        return Encoder(
            model.eval(),
            pixel_mean=self.normalization.mean,
            pixel_std=self.normalization.std,
            side=self.input_size,
            uses_mean=self.uses_mean,
            is_bgr=self.normalization.is_bgr,
        )

    def stages(self, input_size: int) -> list[Row]:
        """See `backbones.stages`; of a token network, number and width of the tokens."""
        self.check_size(input_size)
        layers = self._without_weights.layer_shapes(input_size)
        shape = (1, self.features) if self.patch else (self.features, 1, 1)
        rows = [*layers, ("features", 1, shape)]
        return [
            _row(list(equal))
            for _, equal in groupby(rows, key=lambda row: (row[0].split("layer")[0], row[2]))
        ]

    def takes(self, input_size: int) -> bool:
        """Return whether the model takes images of `input_size` x `input_size` pixels."""
        if input_size < (self.patch or SMALLEST_SIDE) or input_size % (self.patch or 1):
            return False
        try:
            self._without_weights(_black(input_size))
        except Exception:  # see `_without_weights`
            return False
        return True

    def check_size(self, input_size: int) -> None:
        """Check that the model takes images of `input_size` x `input_size` pixels.

        Raises
        ------
        ImgclfError : it does not; with the nearest sizes that it takes.
        """
        if self.takes(input_size):
            return
        smallest = self.patch or SMALLEST_SIDE
        if input_size % (self.patch or 1):
            reason = f"takes multiples of {self.patch} only"
        elif input_size < smallest:
            reason = f"takes at least {smallest} pixels"
        else:
            reason = f"takes no images of {input_size} x {input_size} pixels"
        raise ImgclfError(
            f"input_size={input_size}: {self.name} {reason}; set input_size to "
            f"{' or '.join(map(str, self._nearest(input_size)))}, or 0 for that of its training"
        )

    def _nearest(self, input_size: int) -> list[int]:
        """Return the nearest possible sizes below and above, or that of the training."""
        step = self.patch or 1
        below = input_size // step * step
        sides = (
            next((side for side in range(below, 0, -step)[:NEAREST] if self.takes(side)), 0),
            next((side for side in range(below + step, 10**6, step)[:NEAREST] if self.takes(side)), 0),
        )
        return [side for side in sides if side] or [self.input_size]

    def train_size(self, wanted: int, input_size: int) -> int:
        """Return the possible size of training images that is nearest to `wanted`, at most `input_size`."""
        sides = range(self.patch, input_size + 1, self.patch) if self.patch else [wanted]
        nearest = sorted(sides, key=lambda side: abs(side - wanted))[:NEAREST]
        return next((side for side in nearest if self.takes(side)), input_size)

    def network(self) -> "Encoder":
        """The model with its weights; uint8 images (N, S, S, 3), RGB, to float32 features (N, d).

        Raises
        ------
        ImgclfError : weights are missing, damaged, or those of another model.
        """
        import torch

        model_class, config = _model_class(self.folder, self.name)
        try:
            with _quiet():
                model, found = model_class.from_pretrained(
                    self.folder,
                    config=config,
                    local_files_only=True,
                    use_safetensors=True,
                    dtype=torch.float32,
                    attn_implementation="eager",  # as fast in OpenVINO as "sdpa", and ONNX takes Swin, too
                    output_loading_info=True,
                )
        except Exception as error:  # see `_without_weights`
            raise ImgclfError(
                f"{self.name}: its weights cannot be read ({_line(error)}); "
                f"delete {self.folder} and run again"
            ) from error
        encoder = self._encoder(model)
        encoder.find_patch(torch.zeros((1, self.input_size, self.input_size, 3), dtype=torch.uint8))
        missing = sorted(name for name in found["missing_keys"] if not encoder.is_unused(name))
        if missing:
            raise ImgclfError(
                f"{self.name}: its files lack weights of {model_class.__name__}: {first_few(missing)}; "
                "set backbone to another model"
            )
        return encoder


def architecture(folder: Path, name: str) -> HubArchitecture:
    """The architecture of a model, by its `config.json` and `preprocessor_config.json`.

    Parameters
    ----------
    folder : with the files of the model.
    name : of the backbone, "hf/OWNER/NAME"; with "#mean" behind it the features are the mean of the patch
        tokens.

    Raises
    ------
    ImgclfError : no model of images, one that transformers does not know or that brings its own code, its
        settings are impossible, or a package is missing.
    """
    model_class, config = _model_class(folder, name)
    _, _, pooling = name.partition("#")
    normalization = _normalization(folder, name)
    side = _side(normalization.side or getattr(config, "image_size", None) or USUAL_SIDE, name)
    found = HubArchitecture(name, folder, bool(pooling), normalization, side)
    has_patches = bool(found.patch)  # an error if the model takes no images
    if pooling and not has_patches:
        raise ImgclfError(f"backbone='{name}': {model_class.__name__} has no patch tokens; remove '#mean'")
    return found


def _model_class(folder: Path, name: str) -> tuple[Any, Any]:
    """Return the class of the model in transformers, and its configuration.

    Of a model of images and texts it is the part for images, with the projection into the common space.

    Raises
    ------
    ImgclfError : transformers has no such model, or it takes no images.
    """
    import transformers
    from transformers.models.auto.modeling_auto import MODEL_MAPPING

    try:
        with _quiet():
            config = transformers.AutoConfig.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
    except ImportError as error:
        raise _missing_package(name, error) from error
    except Exception as error:  # see `_without_weights`
        if "custom code" in str(error):
            raise ImgclfError(
                f"{name}: brings code of its own, which is not run; set backbone to a model that "
                "transformers has the code of, such as hf/facebook/dinov2-small"
            ) from error
        raise ImgclfError(
            f"{name}: its {CONFIG} describes no model that can be used: {_line(error)}"
        ) from error
    if getattr(config, "quantization_config", None):
        raise ImgclfError(
            f"{name}: has quantized weights; set backbone to the model that they were made of, or another one"
        )
    config._attn_implementation = "eager"  # another one may be code that transformers would fetch
    if config.model_type == "vit_mae":  # its own class masks random patches
        return transformers.ViTModel, transformers.ViTConfig(**config.to_dict())
    vision = getattr(config, "vision_config", None)
    if vision is not None and hasattr(config, "projection_dim"):
        vision.projection_dim = config.projection_dim
    config = config if vision is None else vision
    model_class: Any = MODEL_MAPPING.get(type(config), None)
    if isinstance(model_class, tuple):
        model_class = model_class[0]
    if model_class is None or getattr(model_class, "main_input_name", "") != "pixel_values":
        raise ImgclfError(
            f"{name}: a model of type '{config.model_type}' gives no features of images; "
            "set backbone to an image model, such as hf/facebook/dinov2-small"
        )
    projecting = model_class.__name__.replace("VisionModel", "VisionModelWithProjection")
    return getattr(transformers, projecting, model_class), config


def _normalization(folder: Path, name: str) -> Normalization:
    """Return what the image processor does, as transformers reads it, by Pillow and without torchvision.

    Raises
    ------
    ImgclfError : the file is missing or damaged, needs a package, or does something else with pixels.
    """
    from transformers import AutoImageProcessor

    try:
        with _quiet(), np.errstate(all="ignore"):  # impossible numbers are refused below
            processor = AutoImageProcessor.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False, backend="pil"
            )
            size = _processor_size(processor)
            mean, std, is_bgr = _shown_by_colours(processor)
            if not (np.isfinite(mean) & np.isfinite(std) & (std > 0)).all():
                raise ValueError(f"a mean of {mean} and a standard deviation of {std} grey levels")
    except ImportError as error:
        raise _missing_package(name, error) from error
    except Exception as error:  # see `_without_weights`
        raise ImgclfError(
            f"{name}: its {PROCESSOR} states no preprocessing of images: {_line(error)}"
        ) from error
    return Normalization(_side(size, name) if size else 0, tuple(mean.tolist()), tuple(std.tolist()), is_bgr)


def _shown_by_colours(processor: Any) -> tuple[np.ndarray, np.ndarray, bool]:
    """Return mean, std and `is_bgr` of an image processor: what it makes of black, white and red shows them.

    Raises
    ------
    ValueError : it does something else than a normalization of each channel, or with impossible numbers.
    """
    if hasattr(processor, "data_config"):  # timm's, which always resizes; RGB, on a scale of 0 to 1
        mean, std = (255 * np.array(processor.data_config[key], np.float64) for key in ("mean", "std"))
        return mean, std, False
    images = [PIL.Image.new("RGB", (USUAL_SIDE, USUAL_SIDE), colour) for colour in ("black", "white", "red")]
    pixels = processor(
        images, do_resize=False, do_center_crop=False, do_pad=False, return_tensors="np"
    ).pixel_values
    if pixels.shape != (3, 3, USUAL_SIDE, USUAL_SIDE):
        raise ValueError(f"it makes arrays of shape {pixels.shape[1:]} of images")
    black, white, red = pixels[..., 0, 0].astype(np.float64)
    std = 255 / (white - black)
    is_bgr = bool(red[0] < white[0])
    expected = np.where(np.arange(3) == (2 if is_bgr else 0), white, black)
    if not np.allclose(red, expected, equal_nan=True):
        raise ValueError("it mixes the channels")
    return -black * std, std, is_bgr


def _processor_size(processor: Any) -> Any:
    """Return height and width of the images that the processor makes, pixels; 0 : it does not say."""
    if hasattr(processor, "data_config"):
        return processor.data_config["input_size"][1:]
    crop = getattr(processor, "crop_size", None) if getattr(processor, "do_center_crop", False) else None
    size = crop or getattr(processor, "size", None)
    if not size:
        return 0
    if isinstance(size, int):
        return size
    return (size["height"], size["width"]) if size.get("height") else size.get("shortest_edge") or 0


def _side(size: Any, name: str) -> int:
    """Return an image size in a configuration, which may be two numbers, as one.

    Raises
    ------
    ImgclfError : it is none that a backbone can have.
    """
    from imgclf.networks.hub.encoder import MAX_SIDE

    height, width = size if isinstance(size, list | tuple) and len(size) == 2 else (size, size)
    if height != width:
        raise ImgclfError(
            f"{name}: takes images of {height} x {width} pixels, which are not square; set backbone to "
            "another model"
        )
    if not isinstance(height, int) or not 0 < height <= MAX_SIDE:
        raise ImgclfError(
            f"{name}: its settings say that its images have {height} pixels, and a side has 1 to {MAX_SIDE}; "
            "set backbone to another model"
        )
    return height


def _black(side: int) -> "torch.Tensor":
    """Return a black image of `side` pixels on the meta device."""
    import torch

    return torch.zeros((1, side, side, 3), dtype=torch.uint8, device="meta")


def _row(rows: list[tuple[str, int, tuple[int, ...]]]) -> Row:
    """Return the row of the table for layers with maps of the same shape."""
    (first, _, shape), (last, _, _) = rows[0], rows[-1]
    stage = first if len(rows) == 1 else f"{first} to {last.split()[-1]}"
    row: Row = {"stage": stage, "blocks": sum(blocks for _, blocks, _ in rows)}
    if len(shape) == 3:
        return {**row, "channels": shape[0], "side, pixels": shape[-1]}
    return {**row, "tokens": shape[0], "width": shape[1]}


def _missing_package(name: str, error: ImportError) -> ImgclfError:
    """Return the error of a model that needs a package, as transformers names it."""
    text = str(error)
    package = next((package for package in ("timm", "torchvision", "natten") if package in text), "")
    if package in ("timm", "torchvision"):
        return ImgclfError(
            f"{name}: needs the package {package}; pip install {package}, with the torchvision that "
            "belongs to your build of torch (https://pytorch.org/get-started/locally)"
        )
    return ImgclfError(f"{name}: needs a package that is missing: {_line(error)}")


def _line(error: BaseException) -> str:
    """Return the message of an error in one line."""
    text = " ".join(str(error).split())
    return text if len(text) < 200 else f"{text[:200]}…"


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the log and the progress bars of transformers."""
    import transformers

    log = transformers.utils.logging
    level, shows_bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity(logging.CRITICAL)
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(level)
        if shows_bars:
            log.enable_progress_bar()
