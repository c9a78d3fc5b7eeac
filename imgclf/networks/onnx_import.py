"""Import of other ONNX networks as backbones with fixed features: detects input, normalization, features."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

import numpy as np
import onnx
import onnx.inliner
from google.protobuf.message import DecodeError, EncodeError
from onnx import NodeProto, TensorProto, compose, helper, numpy_helper, version_converter

from imgclf import ImgclfError, engines, files
from imgclf.networks import onnx_batch, onnx_graph, onnx_outputs, pixel_normalization
from imgclf.networks.architectures import Row
from imgclf.networks.onnx_graph import PREFIX
from imgclf.networks.onnx_outputs import FeatureTensor, Pooling
from imgclf.networks.pixel_normalization import PixelNormalization

OPSET = 18  # the minimum for the head of a classifier
DEFAULT_SIZE = 224  # pixels, for a network of dynamic input size
DTYPES = {TensorProto.UINT8: "uint8", TensorProto.FLOAT: "float32", TensorProto.FLOAT16: "float16"}
MAX_ELEMENTS = 2**30  # of one tensor for one image; more is a damaged file or would fill the memory
TEST_IMAGES = 3


@dataclass(frozen=True, eq=False)
class _FeatureModel:
    """A network with preprocessing, cut at its features; they agree with those of the original.

    Input `images`: uint8 (N, S, S, 3), RGB. Output `features`: float32 (N, `features`).

    Attributes
    ----------
    note : in words, how features are pooled and how batches are computed; "" if there is nothing to say.
    """

    model: onnx.ModelProto
    features: int
    pooling: str
    note: str


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
    feature_tensor: FeatureTensor
    _made: dict[int, _FeatureModel] = field(default_factory=dict)

    @property
    def features(self) -> int:
        """Length of the feature vector of an image, from a test run."""
        return self._feature_model(next(iter(self._made), self.fixed_size or DEFAULT_SIZE)).features

    def stages(self, input_size: int) -> list[Row]:
        """Convolutions of the network, grouped by the side of their feature maps; see `backbones.stages`."""
        features = self._feature_model(input_size).features
        found = onnx_graph.convolutions(self._original(input_size))
        rows: list[Row] = []
        for side, group in groupby(found, key=lambda convolution: convolution[2]):
            kernels, channels, _ = zip(*group, strict=True)
            rows.append(_row(f"maps {len(rows) + 1}", len(kernels), max(kernels), channels[-1], side))
        return [*rows, _row("features", 0, 0, features, 1)]

    def content(self, input_size: int, name: str) -> bytes:
        """The content of an ONNX file of the network, cut at its features; `name` goes into its metadata.

        Input `images`: uint8 (N, S, S, 3), RGB. Output `features`: float32 (N, d).

        Raises
        ------
        ImgclfError : it cannot compute images of that size, or its output is not a vector for each image.
        """
        model = self._feature_model(input_size).model
        helper.set_model_props(model, {"backbone": files.to_json(name)})
        return model.SerializeToString(deterministic=True)

    def _feature_model(self, size: int) -> _FeatureModel:
        """The network for images of this side, after test runs; made once for each size."""
        if self.fixed_size not in (0, size):
            raise ImgclfError(
                f"{self.file.name}: takes images of {self.fixed_size} x {self.fixed_size} pixels only; "
                f"set input_size={self.fixed_size}"
            )
        if size not in self._made:
            self._made[size] = self._make_feature_model(size)
        return self._made[size]

    def _make_feature_model(self, size: int) -> _FeatureModel:
        original = self._original(size)
        images = np.random.default_rng(0).integers(0, 256, (TEST_IMAGES, size, size, 3), np.uint8)
        found = self._run_original(original, images)
        pooling = onnx_outputs.pooling((1, *found.shape[1:]), self.has_channels_first)
        if pooling is None or not np.isfinite(found).all():
            raise ImgclfError(
                f"{self.file.name}: its features have shape {(1, *found.shape[1:])} for 1 image of {size} x "
                f"{size} pixels; they must be one vector of finite numbers for each image, feature maps, or "
                "tokens of a square grid of patches"
            )
        expected = found[:, 0] if pooling.takes_first else found
        if pooling.axes:
            expected = expected.mean(axis=pooling.axes)
        _add_pooling(original.graph, pooling, expected.shape[1])
        only_onnxruntime = None
        for model, note in self._batched(original, expected.shape[1]):
            if _agrees(model, images, expected, "onnxruntime"):
                if _agrees(model, images, expected, "openvino"):
                    return _FeatureModel(model, expected.shape[1], pooling.note, note)
                note = "; ".join(filter(None, [note, "OpenVINO cannot compute it: set engine=onnxruntime"]))
                only_onnxruntime = only_onnxruntime or _FeatureModel(
                    model, expected.shape[1], pooling.note, note
                )
        if only_onnxruntime is None:
            raise ImgclfError(
                f"{self.file.name}: computes other features for an image in each run; "
                "export it again without random operators"
            )
        return only_onnxruntime

    def _batched(self, original: onnx.ModelProto, features: int) -> Iterator[tuple[onnx.ModelProto, str]]:
        """Forms of the network that take any number of images, the fastest first, each with a note."""
        entry = self.model.graph.input[0]
        fixed_batch = entry.type.tensor_type.shape.dim[0].dim_value
        if fixed_batch <= 0:
            yield _with_free_batch(original), ""
        freed = onnx.ModelProto()
        freed.CopyFrom(original)
        onnx_batch.free(freed.graph, onnx_graph.tensor_shapes(original))
        yield _with_free_batch(freed), ""
        single = onnx.ModelProto()
        single.CopyFrom(original)
        graph = onnx_batch.one_by_one(original.graph, max(fixed_batch, 1), features)
        single.graph.CopyFrom(graph)
        yield (
            single,
            f"runs one image at a time, as its batch size of {max(fixed_batch, 1)} cannot be changed",
        )

    def _original(self, size: int) -> onnx.ModelProto:
        """The network with preprocessing, for the batch size it was exported with, or else 1.

        Input `images`: uint8 (B, S, S, 3), RGB. Output `features`: its features before pooling, float32.
        """
        graph = self.model.graph
        entry = graph.input[0]
        batch_size = max(entry.type.tensor_type.shape.dim[0].dim_value, 1)
        nodes = [*_preprocessing_nodes(entry, self), *onnx_graph.ancestors(graph, self.feature_tensor.name)]
        nodes.append(helper.make_node("Cast", [self.feature_tensor.name], ["features"], to=TensorProto.FLOAT))
        used = onnx_graph.referenced_names(nodes)
        order = -1 if self.normalization.is_bgr else 1  # mean and std are red, green, blue
        constants: dict[str, np.ndarray] = {
            "images_order": np.array((2, 1, 0), np.int64),
            "images_mean": np.array(self.normalization.mean[::order], np.float32),
            "images_deviation": np.array(self.normalization.std[::order], np.float32),
        }
        tensors = [tensor for tensor in graph.initializer if tensor.name in used]
        tensors += [numpy_helper.from_array(v, name) for name, v in constants.items() if name in used]
        shape = [batch_size, size, size, 3]
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        model.graph.CopyFrom(
            helper.make_graph(
                nodes,
                "features",
                [helper.make_tensor_value_info("images", TensorProto.UINT8, shape)],
                [helper.make_tensor_value_info("features", TensorProto.FLOAT, None)],
                tensors,
                sparse_initializer=[t for t in graph.sparse_initializer if t.values.name in used],
            )
        )
        return model

    def _run_original(self, model: onnx.ModelProto, images: np.ndarray) -> np.ndarray:
        """What the original computes for each image alone, before pooling: float32 (n, …)."""
        size = images.shape[1]
        for name, shape in onnx_graph.tensor_shapes(model).items():
            if np.prod([length for length in shape if isinstance(length, int)], dtype=float) > MAX_ELEMENTS:
                raise ImgclfError(
                    f"{self.file.name}: its tensor {name.removeprefix(PREFIX)} has shape {shape} for 1 image "
                    f"of {size} x {size} pixels, too much for the memory; export it again"
                )
        batch_size = model.graph.input[0].type.tensor_type.shape.dim[0].dim_value
        try:
            with closing(engines.start(model.SerializeToString(), engine="onnxruntime")) as engine:
                batches = (np.repeat(image[None], batch_size, axis=0) for image in images)
                return np.stack([found[0] for (found,) in engine.run(batches)])
        except Exception as error:  # the runtime's exceptions have no common base but this
            remedy = "export it again"
            if not self.fixed_size:
                remedy = "set the input_size it was trained at, or export it again"
            raise ImgclfError(
                f"{self.file.name}: inference fails for 1 image of {size} x {size} pixels; {remedy}"
            ) from error

    def __str__(self) -> str:
        size = f"{self.fixed_size} x {self.fixed_size} pixels only" if self.fixed_size else "any input size"
        made = self._feature_model(next(iter(self._made), self.fixed_size or DEFAULT_SIZE))
        which = ", ".join(filter(None, [self.feature_tensor.note, made.pooling]))
        text = f"takes {size}, {made.features} features per image ({which}); {self.normalization.source}"
        return "; ".join(filter(None, [text, made.note]))


def _agrees(model: onnx.ModelProto, images: np.ndarray, expected: np.ndarray, engine: str) -> bool:
    """Whether an engine computes the expected features of the images, together and of the first one alone."""
    batches = [images, images[:1]]
    try:
        with closing(
            engines.start(model.SerializeToString(), engine=engine, batch_size=len(images))
        ) as started:
            found = [features for (features,) in started.run(batches)]
    except Exception:  # the runtimes' exceptions have no common base but this
        return False
    tolerance = 1e-3 * np.abs(expected).max()
    return all(
        features.shape == (len(batch), expected.shape[1])
        and np.allclose(features, expected[: len(batch)], rtol=1e-3, atol=tolerance)
        for features, batch in zip(found, batches, strict=True)
    )


def _with_free_batch(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with a dynamic first axis of its input and output."""
    free = onnx.ModelProto()
    free.CopyFrom(model)
    for value in (free.graph.input[0], free.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_param = "N"
    return free


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
    feature_tensor = onnx_outputs.feature_tensor(model.graph)
    entry = _image_input(model.graph, feature_tensor.name, path)
    _, *axes = onnx_graph.shape(entry)
    dtype = entry.type.tensor_type.elem_type
    # Exports of transformers leave all axes dynamic; their channels come first.
    has_channels_first = axes[0] == 3 or (axes[2] != 3 and isinstance(axes[0], str))
    sides = axes[1:] if has_channels_first else axes[:2]
    if not (has_channels_first or axes[2] == 3) or dtype not in DTYPES:
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
    normalization = pixel_normalization.find(model, path)
    return OnnxBackbone(
        path, model, has_channels_first, fixed[0] if fixed else 0, normalization, feature_tensor
    )


def files_of(path: Path) -> list[Path]:
    """The files that `read` reads: the ONNX file, those of its weights, and that of an image processor."""
    try:
        locations = _locations(onnx.load(path, load_external_data=False))
    except (DecodeError, ValueError):  # damaged; `read` says so
        locations = []
    processor = pixel_normalization.processor_file(path)
    return [path, *(path.parent / location for location in locations), *([processor] if processor else [])]


def _image_input(graph: onnx.GraphProto, features: str, path: Path) -> onnx.ValueInfoProto:
    """The only input that the features depend on; the graph keeps no other, such as the text of CLIP."""
    used = {features} | onnx_graph.referenced_names(onnx_graph.ancestors(graph, features))
    entries = [entry for entry in graph.input if entry.name in used]
    if len(entries) != 1 or len(entries[0].type.tensor_type.shape.dim) != 4:
        inputs = ", ".join(
            f"{entry.name.removeprefix(PREFIX)} {onnx_graph.shape(entry)}" for entry in graph.input
        )
        raise ImgclfError(
            f"{path.name}: must have one input of four axes, the images; it has {inputs or 'none'}"
        )
    entry = onnx.ValueInfoProto()
    entry.CopyFrom(entries[0])
    del graph.input[:]
    graph.input.append(entry)
    return entry


def _loaded(path: Path) -> onnx.ModelProto:
    """The model of a file, with external data in a second file beside it, as torch writes it."""
    try:
        model = onnx.load(path, load_external_data=False)
        if not model.graph.node:
            raise ValueError
    except FileNotFoundError:
        raise ImgclfError(f"{path}: no such file; set backbone to the path of an .onnx file") from None
    except (DecodeError, ValueError) as error:
        raise ImgclfError(f"{path}: not an ONNX network, or damaged; export it again") from error
    _load_external_data(model, path)
    for tensor in model.graph.initializer:
        if onnx_graph.is_incomplete(tensor):
            raise ImgclfError(
                f"{path}: its tensor {tensor.name} has shape {list(tensor.dims)}, but holds "
                f"{tensor.ByteSize()} bytes; the file is damaged, export it again"
            )
    if not onnx_graph.is_ordered(model.graph):
        raise ImgclfError(
            f"{path}: a node uses what is computed after it, or nowhere; the file is damaged, export it again"
        )
    return model


def _locations(model: onnx.ModelProto) -> list[str]:
    """The paths of the other files with weights, relative to the folder of the model."""
    return sorted(
        {
            entry.value
            for tensor in model.graph.initializer
            if tensor.data_location == TensorProto.EXTERNAL
            for entry in tensor.external_data
            if entry.key == "location"
        }
    )


def _load_external_data(model: onnx.ModelProto, path: Path) -> None:
    """Load the weights that lie in other files, in the folder of the model."""
    locations = _locations(model)
    for location in locations:
        if (path.parent / location).is_symlink():
            raise ImgclfError(
                f"{path}: its weights are in {location}, which is a link, as in the cache of Hugging Face, "
                "and is not followed; copy both files into one folder"
            )
        if not (path.parent / location).resolve().is_relative_to(path.parent.resolve()):
            raise ImgclfError(
                f"{path}: its weights are in {location}, outside of its folder, which is not read; "
                "export it again with its weights beside it"
            )
    try:
        onnx.load_external_data_for_model(model, str(path.parent))
    except (OSError, ValueError, RuntimeError, onnx.checker.ValidationError) as error:
        raise ImgclfError(
            f"{path}: its weights are in a second file, {' or '.join(locations)}, "
            "which is missing or damaged; put it beside this one"
        ) from error


def _converted(path: Path) -> onnx.ModelProto:
    """The model of a file, converted to `OPSET`, with a prefix for all names and the metadata we read."""
    model = _loaded(path)
    producer = model.producer_name
    metadata = {
        entry.key: entry.value for entry in model.metadata_props if entry.key in pixel_normalization.KEYS
    }
    initialized = {tensor.name for tensor in model.graph.initializer}
    # Old files list the weights among the inputs.
    inputs = [entry for entry in model.graph.input if entry.name not in initialized]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    model.ir_version = max(model.ir_version, 8)
    onnx_outputs.keep_numbers(model.graph)
    if not model.graph.output:
        raise ImgclfError(f"{path.name}: none of its outputs holds floats, such as features; export it again")
    try:
        if any(entry.domain in ("", "ai.onnx") and entry.version < OPSET for entry in model.opset_import):
            model = version_converter.convert_version(model, OPSET)
        model = compose.add_prefix(onnx.inliner.inline_local_functions(model), PREFIX)
        model = onnx.shape_inference.infer_shapes(model)
    except (
        DecodeError,
        EncodeError,
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
    model.producer_name = producer
    helper.set_model_props(model, metadata)
    return model


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


def _add_pooling(graph: onnx.GraphProto, pooling: Pooling, features: int) -> None:
    """Append the pooling of the output `features`, which becomes float32 (B, d)."""
    if pooling.axes or pooling.takes_first:
        graph.node[-1].output[0] = "features_before_pooling"
        value = np.array(pooling.axes or 0, np.int64)
        graph.initializer.append(numpy_helper.from_array(value, "pooling_axes"))
        inputs = ["features_before_pooling", "pooling_axes"]
        if pooling.axes:
            graph.node.append(helper.make_node("ReduceMean", inputs, ["features"], keepdims=0))
        else:
            graph.node.append(helper.make_node("Gather", inputs, ["features"], axis=1))
    batch_size = graph.input[0].type.tensor_type.shape.dim[0].dim_value
    output = helper.make_tensor_value_info("features", TensorProto.FLOAT, [batch_size, features])
    graph.output[0].CopyFrom(output)
