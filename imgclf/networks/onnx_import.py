"""Import of other ONNX networks as backbones with fixed features: detects input, normalization, features."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path

import numpy as np
import onnx
import onnx.inliner
from google.protobuf.message import DecodeError
from onnx import NodeProto, TensorProto, compose, helper, numpy_helper, shape_inference, version_converter

from imgclf import ImgclfError, engines, files
from imgclf.networks import onnx_graph
from imgclf.networks.architectures import PIXEL_MEAN, PIXEL_STD, Row

OPSET = 18  # the minimum for the head of a classifier
DEFAULT_SIZE = 224  # pixels, for a network of dynamic input size
DTYPES = {TensorProto.UINT8: "uint8", TensorProto.FLOAT: "float32", TensorProto.FLOAT16: "float16"}
# Metadata of a file: JSON lists for red, green, blue on a scale of 0 to 1.
NORMALIZATION_KEYS = ("pixel_mean", "pixel_std")
PIXEL_ORDER_KEY = "pixel_order"  # metadata: "BGR" (JSON) for blue, green, red


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


@dataclass(frozen=True, eq=False)
class OnnxBackbone:
    """An ONNX network with one image input, loaded by `read`.

    Attributes
    ----------
    model : its graph has one input; all its names begin with "net/".
    has_channels_first : whether the input is (N, 3, S, S) or (N, S, S, 3).
    fixed_size : side of the input, pixels; 0 : any.
    """

    file: Path
    model: onnx.ModelProto
    has_channels_first: bool
    fixed_size: int
    normalization: PixelNormalization

    @cached_property
    def last_layer(self) -> NodeProto | None:
        """The last dense layer, whose input is the features; None: the output is."""
        return onnx_graph.last_dense_layer(self.model.graph)

    @cached_property
    def features(self) -> int:
        """Length of the feature vector of an image, from a test run with one image."""
        return self._test_run(self.feature_model(self.fixed_size or DEFAULT_SIZE), 1).shape[1]

    def stages(self, input_size: int) -> list[Row]:
        """Convolutions of the network, grouped by the side of their feature maps; see `backbones.stages`."""
        found = onnx_graph.convolutions(self.feature_model(input_size))
        rows: list[Row] = []
        for side, group in groupby(found, key=lambda convolution: convolution[2]):
            kernels, channels, _ = zip(*group, strict=True)
            rows.append(_row(f"maps {len(rows) + 1}", len(kernels), max(kernels), channels[-1], side))
        return [*rows, _row("features", 0, 0, self.features, 1)]

    def feature_model(self, input_size: int) -> onnx.ModelProto:
        """The network with preprocessing, cut at its features.

        Input `images`: uint8 (N, S, S, 3), RGB. Output `features`: float32 (N, d).

        Raises
        ------
        ImgclfError : the network takes another input size only.
        """
        if self.fixed_size not in (0, input_size):
            raise ImgclfError(
                f"{self.file.name}: takes images of {self.fixed_size} x {self.fixed_size} pixels only; "
                f"set input_size={self.fixed_size}"
            )
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        graph = model.graph
        entry, output = graph.input[0], self._feature_tensor
        onnx_graph.make_batch_dynamic(graph, entry.type.tensor_type.shape.dim[0].dim_value)
        nodes = [
            *_preprocessing_nodes(entry, self),
            *onnx_graph.ancestors(graph, output),
            *_pooling_nodes(output, self._feature_rank),
        ]
        used = onnx_graph.referenced_names(nodes)
        order = -1 if self.normalization.is_bgr else 1  # mean and std are red, green, blue
        tensors = [
            *(tensor for tensor in graph.initializer if tensor.name in used),
            *(
                numpy_helper.from_array(np.array(value, dtype), f"images_{name}")
                for name, value, dtype in (
                    ("order", (2, 1, 0), np.int64),
                    ("mean", self.normalization.mean[::order], np.float32),
                    ("deviation", self.normalization.std[::order], np.float32),
                    ("axes", (2, 3), np.int64),
                )
                if f"images_{name}" in used
            ),
        ]
        model.graph.CopyFrom(
            helper.make_graph(
                nodes,
                "features",
                [
                    helper.make_tensor_value_info(
                        "images", TensorProto.UINT8, ["N", input_size, input_size, 3]
                    )
                ],
                [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", None])],
                tensors,
            )
        )
        return model

    def content(self, input_size: int, name: str) -> bytes:
        """The content of an ONNX file of `feature_model`, after a test run; `name` goes into its metadata.

        Raises
        ------
        ImgclfError : it cannot compute images of that size, or its results depend on the batch.
        """
        model = self.feature_model(input_size)
        alone = self._test_run(model, 1)
        try:
            together = self._test_run(model, 3)
            agrees = np.allclose(together[:1], alone, rtol=1e-3, atol=1e-3 * np.abs(alone).max())
        except ImgclfError:
            agrees = False
        if not agrees:
            raise ImgclfError(
                f"{self.file.name}: computes other features for an image within a batch than for the image "
                "alone; export it again with a dynamic first axis (batch)"
            )
        model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = alone.shape[1]
        helper.set_model_props(model, {"backbone": files.to_json(name)})
        return model.SerializeToString(deterministic=True)

    def _test_run(self, model: onnx.ModelProto, count: int) -> np.ndarray:
        """Features (count, d) of at most three images of noise."""
        size = model.graph.input[0].type.tensor_type.shape.dim[1].dim_value
        images = np.random.default_rng(0).integers(0, 256, (3, size, size, 3), np.uint8)[:count]
        batch = f"{count} image{'s' if count > 1 else ''} of {size} x {size} pixels"
        try:
            ((found,),) = engines.start(model.SerializeToString(), engine="onnxruntime").run([images])
        except Exception as error:  # the runtime's exceptions have no common base but this
            raise ImgclfError(
                f"{self.file.name}: inference fails for {batch}; "
                "set the input_size it was trained at, or export it again"
            ) from error
        if found.ndim != 2 or len(found) != count or not np.isfinite(found).all():
            raise ImgclfError(
                f"{self.file.name}: its features have shape {found.shape} for {batch}; "
                "they must be one vector of finite numbers for each image"
            )
        return found

    @property
    def _feature_tensor(self) -> str:
        """Name of the features in the graph."""
        return self.last_layer.input[0] if self.last_layer else self.model.graph.output[0].name

    @cached_property
    def _feature_rank(self) -> int:
        """Number of axes of the features in the graph; 0 if unknown."""
        graph = shape_inference.infer_shapes(self.model).graph
        return next(
            (
                len(v.type.tensor_type.shape.dim)
                for v in (*graph.value_info, *graph.output)
                if v.name == self._feature_tensor
            ),
            0,
        )

    def __str__(self) -> str:
        size = f"{self.fixed_size} x {self.fixed_size} pixels only" if self.fixed_size else "any input size"
        layer = (
            "input of its last dense layer"
            if self.last_layer
            else "its output, as it has no last dense layer"
        )
        return f"takes {size}, {self.features} features per image ({layer}); {self.normalization.source}"


def _row(stage: str, convolutions: int, kernel: int, channels: int, side: int) -> Row:
    return {
        "stage": stage,
        "convolutions": convolutions,
        "largest kernel, pixels": kernel,
        "channels": channels,
        "side, pixels": side,
    }


def read(path: Path) -> OnnxBackbone:
    """Load an ONNX file as a backbone.

    Raises
    ------
    ImgclfError : it is missing, damaged, or of an opset that cannot be converted, or its input is not images.
    """
    model = _converted(path)
    (entry, *others) = model.graph.input or [None]
    if entry is None or others or len(entry.type.tensor_type.shape.dim) != 4:
        inputs = ", ".join(f"{i.name.removeprefix('net/')} {onnx_graph.shape(i)}" for i in model.graph.input)
        raise ImgclfError(
            f"{path.name}: must have one input of four axes, the images; it has {inputs or 'none'}"
        )
    _, *axes = onnx_graph.shape(entry)
    dtype = entry.type.tensor_type.elem_type
    has_channels_first = axes[0] == 3
    sides = axes[1:] if has_channels_first else axes[:2]
    if 3 not in (axes[0], axes[2]) or dtype not in DTYPES:
        raise ImgclfError(
            f"{path.name}: its input is "
            f"{TensorProto.DataType.Name(dtype).lower()} {onnx_graph.shape(entry)}; "
            f"it must be {', '.join(DTYPES.values())}, (N, 3, S, S) or (N, S, S, 3)"
        )
    fixed = [side for side in sides if isinstance(side, int)]
    if len(set(fixed)) > 1:
        raise ImgclfError(
            f"{path.name}: takes images of {sides[1]} x {sides[0]} pixels; it must take squares"
        )
    return OnnxBackbone(
        path, model, has_channels_first, fixed[0] if fixed else 0, _normalization(model, entry, path)
    )


def _loaded(path: Path) -> onnx.ModelProto:
    """The model of a file, with external data in a second file beside it, as torch writes it."""
    try:
        model = onnx.load(path, load_external_data=False)
    except FileNotFoundError:
        raise ImgclfError(f"{path}: no such file; set backbone to the path of an .onnx file") from None
    except (DecodeError, ValueError) as error:
        raise ImgclfError(f"{path}: not an ONNX network, or damaged; export it again") from error
    try:
        onnx.load_external_data_for_model(model, str(path.parent))
    except (OSError, ValueError, RuntimeError, onnx.checker.ValidationError) as error:
        raise ImgclfError(
            f"{path}: its weights are in a second file (often {path.name}.data), "
            "which is missing or damaged; put it beside this one"
        ) from error
    return model


def _converted(path: Path) -> onnx.ModelProto:
    """The model of a file, converted to `OPSET`, with a prefix for all names and the metadata we read."""
    model = _loaded(path)
    metadata = {
        entry.key: entry.value
        for entry in model.metadata_props
        if entry.key in (*NORMALIZATION_KEYS, PIXEL_ORDER_KEY)
    }
    initialized = {tensor.name for tensor in model.graph.initializer}
    # Old files list the weights among the inputs.
    inputs = [entry for entry in model.graph.input if entry.name not in initialized]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    model.ir_version = max(model.ir_version, 8)
    try:
        if any(entry.domain in ("", "ai.onnx") and entry.version < OPSET for entry in model.opset_import):
            model = version_converter.convert_version(model, OPSET)
        model = compose.add_prefix(onnx.inliner.inline_local_functions(model), "net/")
    except (
        DecodeError,
        RuntimeError,
        ValueError,
        TypeError,
        onnx.checker.ValidationError,
        version_converter.ConvertError,
    ) as error:
        raise ImgclfError(
            f"{path}: cannot be converted to opset {OPSET} of ONNX; "
            "export it again with that opset or a later one"
        ) from error
    for node in model.graph.node:  # they hold paths of other machines
        node.ClearField("doc_string")
        node.ClearField("metadata_props")
    model.ClearField("doc_string")
    helper.set_model_props(model, metadata)
    return model


def _normalization(model: onnx.ModelProto, entry: onnx.ValueInfoProto, file: Path) -> PixelNormalization:
    """The normalization of pixels: within the network, else that of its metadata, else that of ImageNet."""
    metadata = {prop.key: prop.value for prop in model.metadata_props}
    if entry.type.tensor_type.elem_type == TensorProto.UINT8:
        return PixelNormalization((0,), (1,), "it takes grey levels 0 to 255 and normalizes them itself")
    if metadata:
        is_bgr = metadata.pop(PIXEL_ORDER_KEY, "") == '"BGR"'
        source = "pixels are normalized by pixel_mean and pixel_std of its metadata"
        if is_bgr:
            source += ", channel order BGR"
        return PixelNormalization(*_stored_mean_and_std(metadata, file), source, is_bgr)
    if white := onnx_graph.max_pixel_value(model.graph, entry.name):
        source = f"it takes pixels from 0 to {white} and normalizes them itself"
        return PixelNormalization((0,), (255 / white,), source)
    return PixelNormalization(
        PIXEL_MEAN,
        PIXEL_STD,
        "pixels are normalized by mean and standard deviation of ImageNet, as its metadata have none",
    )


def _stored_mean_and_std(
    metadata: Mapping[str, str], file: Path
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation in the metadata of a file, converted to grey levels."""
    try:
        mean, std = (
            tuple(255 * float(value) for value in json.loads(metadata[key])) for key in NORMALIZATION_KEYS
        )
        if not len(mean) == len(std) == 3 or min(std) <= 0:
            raise ValueError
        return mean, std
    except (KeyError, TypeError, ValueError) as error:
        raise ImgclfError(
            f"{file.name}: its metadata {' and '.join(NORMALIZATION_KEYS)} must both be JSON lists of three "
            "numbers, red, green, blue, the second above 0; correct them and export it again"
        ) from error


def _preprocessing_nodes(entry: onnx.ValueInfoProto, network: OnnxBackbone) -> Iterator[NodeProto]:
    """From `images` to the input of the network: channel order, normalization, dtype, layout."""
    dtype, name = entry.type.tensor_type.elem_type, "images"
    if network.normalization.is_bgr:
        yield helper.make_node("Gather", [name, "images_order"], ["images_ordered"], axis=3)
        name = "images_ordered"
    if dtype != TensorProto.UINT8:
        yield helper.make_node("Cast", [name], ["images_levels"], to=TensorProto.FLOAT)
        yield helper.make_node("Sub", ["images_levels", "images_mean"], ["images_centred"])
        yield helper.make_node("Div", ["images_centred", "images_deviation"], ["images_normal"])
        yield helper.make_node("Cast", ["images_normal"], ["images_cast"], to=dtype)
        name = "images_cast"
    if network.has_channels_first:
        yield helper.make_node("Transpose", [name], [entry.name], perm=[0, 3, 1, 2])
    else:
        yield helper.make_node("Identity", [name], [entry.name])


def _pooling_nodes(output: str, rank: int) -> Iterator[NodeProto]:
    """From the feature tensor of the network to `features`, with global average pooling of feature maps."""
    if rank == 4:
        yield helper.make_node("ReduceMean", [output, "images_axes"], ["images_means"], keepdims=0)
        output = "images_means"
    yield helper.make_node("Cast", [output], ["features"], to=TensorProto.FLOAT)
