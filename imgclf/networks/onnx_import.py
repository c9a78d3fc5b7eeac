"""ONNX networks that others made, as fixed features: what goes in and what comes out is found in the file."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx
import onnx.inliner
from google.protobuf.message import DecodeError
from onnx import NodeProto, TensorProto, compose, helper, numpy_helper, shape_inference, version_converter

from imgclf import ImgclfError, engines, files
from imgclf.networks import onnx_graph
from imgclf.networks.architectures import PIXEL_DEVIATION, PIXEL_MEAN, Row

OPSET = 18  # the least that the head of a classifier needs
USUAL_SIZE = 224  # pixels, where the file leaves it open
KINDS = {TensorProto.UINT8: "uint8", TensorProto.FLOAT: "float32", TensorProto.FLOAT16: "float16"}
TOLD = (
    "pixel_mean",
    "pixel_std",
)  # metadata that say how pixels are normalized: JSON lists for red, green, blue on a scale of 0 to 1
ORDER = "pixel_order"  # metadata: "BGR" (JSON) where blue comes first


@dataclass(frozen=True)
class Pixels:
    """How grey levels 0 to 255, RGB, become what a network takes: less `mean`, divided by `deviation`; and how that was found."""

    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    found: str
    has_blue_first: bool = False


@dataclass(frozen=True, eq=False)
class ForeignNetwork:
    """An ONNX network with one image input, opened by `read`."""

    file: Path
    model: onnx.ModelProto
    has_channels_first: bool
    fixed_size: int  # pixels; 0 where it takes any size
    pixels: Pixels

    @cached_property
    def last_layer(self) -> NodeProto | None:
        """The dense layer that ends the network; its input is the features. None: the output is."""
        return onnx_graph.last_dense(self.model.graph)

    @cached_property
    def features(self) -> int:
        """Length of the vector that describes an image; one image is computed to tell."""
        return self._computed(self.joined(self.fixed_size or USUAL_SIZE), 1).shape[1]

    def stages(self, input_size: int) -> list[Row]:
        """What can be known of any network: its convolutions, by the side of the maps that they give."""
        rows: list[Row] = []
        for kernel, channels, side in onnx_graph.convolutions(self.joined(input_size)):
            if not rows or rows[-1]["side, pixels"] != side:
                rows.append(
                    {
                        "stage": f"maps {len(rows) + 1}",
                        "convolutions": 0,
                        "largest kernel, pixels": 0,
                        "channels": 0,
                        "side, pixels": side,
                    }
                )
            rows[-1] |= {
                "convolutions": rows[-1]["convolutions"] + 1,
                "channels": channels,
                "largest kernel, pixels": max(kernel, rows[-1]["largest kernel, pixels"]),
            }
        return [
            *rows,
            {
                "stage": "features",
                "convolutions": 0,
                "largest kernel, pixels": 0,
                "channels": self.features,
                "side, pixels": 1,
            },
        ]

    def joined(self, input_size: int) -> onnx.ModelProto:
        """The network from `images`, uint8 (N, S, S, 3), RGB, to `features`, float32 (N, d).

        Raises
        ------
        ImgclfError : the network takes another size only.
        """
        if self.fixed_size not in (0, input_size):
            raise ImgclfError(
                f"{self.file.name}: takes images of {self.fixed_size} x {self.fixed_size} pixels only; set input_size={self.fixed_size}"
            )
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        graph = model.graph
        entry, end = graph.input[0], self._end
        onnx_graph.free_batch(graph, entry.type.tensor_type.shape.dim[0].dim_value)
        nodes = [*_from_images(entry, self), *onnx_graph.needed(graph, end), *_to_features(end, self._rank)]
        used = onnx_graph.names_used(nodes)
        tensors = [
            *(tensor for tensor in graph.initializer if tensor.name in used),
            *(
                numpy_helper.from_array(np.array(value, kind), f"images_{name}")
                for name, value, kind in (
                    ("order", (2, 1, 0), np.int64),
                    ("mean", self.pixels.mean, np.float32),
                    ("deviation", self.pixels.deviation, np.float32),
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
        """The ONNX file from images to features, tried out; `name` goes into its metadata.

        Raises
        ------
        ImgclfError : it cannot compute images of that size, or not several at once.
        """
        model = self.joined(input_size)
        alone = self._computed(model, 1)
        try:
            together = self._computed(model, 3)
            agrees = np.allclose(together[:1], alone, rtol=1e-3, atol=1e-3 * np.abs(alone).max())
        except ImgclfError:
            agrees = False
        if not agrees:
            raise ImgclfError(
                f"{self.file.name}: does not compute several images at once as it does one; "
                "export it again with a dynamic first axis (batch)"
            )
        model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = alone.shape[1]
        helper.set_model_props(model, {"backbone": files.to_json(name)})
        return model.SerializeToString(deterministic=True)

    def _computed(self, model: onnx.ModelProto, count: int) -> np.ndarray:
        """The features of a few images of noise."""
        size = model.graph.input[0].type.tensor_type.shape.dim[1].dim_value
        images = np.random.default_rng(0).integers(0, 256, (3, size, size, 3), np.uint8)[:count]
        try:
            ((found,),) = engines.start(model.SerializeToString(), engine="onnxruntime").run([images])
        except Exception as error:  # the runtime's exceptions have no common base but this
            raise ImgclfError(
                f"{self.file.name}: cannot compute {count} image{'s' * (count > 1)} of {size} x {size} pixels; "
                "try the input_size it was made for, or export it again"
            ) from error
        if found.ndim != 2 or len(found) != count or not np.isfinite(found).all():
            raise ImgclfError(
                f"{self.file.name}: gives {found.shape} for {count} image{'s' * (count > 1)} of {size} x {size} pixels; "
                "must be one vector of finite numbers an image"
            )
        return found

    @property
    def _end(self) -> str:
        """The name of the features in the graph."""
        return self.last_layer.input[0] if self.last_layer else self.model.graph.output[0].name

    @cached_property
    def _rank(self) -> int:
        """How many axes the features have in the graph; 0 if nothing tells."""
        graph = shape_inference.infer_shapes(self.model).graph
        return next(
            (
                len(v.type.tensor_type.shape.dim)
                for v in (*graph.value_info, *graph.output)
                if v.name == self._end
            ),
            0,
        )

    def __str__(self) -> str:
        taken = (
            f"takes {self.fixed_size} x {self.fixed_size} pixels only"
            if self.fixed_size
            else "takes images of any size"
        )
        layer = (
            "the input of its last dense layer"
            if self.last_layer
            else "its output, as no dense layer ends it"
        )
        return f"{taken}, {self.features} features an image ({layer}); {self.pixels.found}"


def read(path: Path) -> ForeignNetwork:
    """Open an ONNX file as a network for images.

    Raises
    ------
    ImgclfError : it is missing or damaged, too old, or its input is not images.
    """
    model = _prepared(path)
    (entry, *others) = model.graph.input or [None]
    if entry is None or others or len(entry.type.tensor_type.shape.dim) != 4:
        inputs = ", ".join(f"{i.name.removeprefix('net/')} {onnx_graph.shape(i)}" for i in model.graph.input)
        raise ImgclfError(
            f"{path.name}: must have one input of four axes, the images; it has {inputs or 'none'}"
        )
    _, *axes = onnx_graph.shape(entry)
    kind = entry.type.tensor_type.elem_type
    has_channels_first = axes[0] == 3
    sides = axes[1:] if has_channels_first else axes[:2]
    if 3 not in (axes[0], axes[2]) or kind not in KINDS:
        raise ImgclfError(
            f"{path.name}: its input is {TensorProto.DataType.Name(kind).lower()} {onnx_graph.shape(entry)}; "
            f"it must be {', '.join(KINDS.values())}, (N, 3, S, S) or (N, S, S, 3)"
        )
    fixed = [side for side in sides if isinstance(side, int)]
    if len(set(fixed)) > 1:
        raise ImgclfError(
            f"{path.name}: takes images of {sides[1]} x {sides[0]} pixels; it must take squares"
        )
    return ForeignNetwork(
        path, model, has_channels_first, fixed[0] if fixed else 0, _pixels(model, entry, path)
    )


def _loaded(path: Path) -> onnx.ModelProto:
    """The model of a file, with weights that lie in a second file beside it, as torch writes them."""
    try:
        model = onnx.load(path, load_external_data=False)
    except FileNotFoundError:
        raise ImgclfError(f"{path}: no such file; give backbone the path of an .onnx file") from None
    except (DecodeError, ValueError) as error:
        raise ImgclfError(f"{path}: not an ONNX network, or damaged; export it again") from error
    try:
        onnx.load_external_data_for_model(model, str(path.parent))
    except (OSError, ValueError, RuntimeError, onnx.checker.ValidationError) as error:
        raise ImgclfError(
            f"{path}: its weights are in a second file (often {path.name}.data), which is missing or damaged; put it beside this one"
        ) from error
    return model


def _prepared(path: Path) -> onnx.ModelProto:
    """The model of a file, brought to our opset, with names that cannot clash with ours, and without its metadata but two."""
    model = _loaded(path)
    told = {entry.key: entry.value for entry in model.metadata_props if entry.key in (*TOLD, ORDER)}
    initialized = {tensor.name for tensor in model.graph.initializer}
    inputs = [
        entry for entry in model.graph.input if entry.name not in initialized
    ]  # old files list the weights too
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
            f"{path}: cannot be brought to opset {OPSET} of ONNX; export it again with that opset or a later one"
        ) from error
    for node in model.graph.node:  # they hold paths of other machines
        node.ClearField("doc_string")
        node.ClearField("metadata_props")
    model.ClearField("doc_string")
    helper.set_model_props(model, told)
    return model


def _pixels(model: onnx.ModelProto, entry: onnx.ValueInfoProto, file: Path) -> Pixels:
    """How pixels are normalized: as the network does itself, as its metadata say, or as most networks were trained."""
    told = {prop.key: prop.value for prop in model.metadata_props}
    if entry.type.tensor_type.elem_type == TensorProto.UINT8:
        return Pixels((0,), (1,), "it takes grey levels 0 to 255 and normalizes them itself")
    if told:
        has_blue_first = told.pop(ORDER, "") == '"BGR"'
        found = (
            "pixels are normalized by pixel_mean and pixel_std of its metadata"
            + ", blue first" * has_blue_first
        )
        return Pixels(*_told(told, file), found, has_blue_first)
    if highest := onnx_graph.highest_pixel(model.graph, entry.name):
        return Pixels(
            (0,), (255 / highest,), f"it takes pixels from 0 to {highest} and normalizes them itself"
        )
    return Pixels(
        PIXEL_MEAN,
        PIXEL_DEVIATION,
        "pixels are normalized by the mean and deviation of ImageNet, as it says nothing else",
    )


def _told(told: Mapping[str, str], file: Path) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation that the metadata of a file tell, in grey levels."""
    try:
        mean, deviation = (tuple(255 * float(value) for value in json.loads(told[key])) for key in TOLD)
        if not len(mean) == len(deviation) == 3 or min(deviation) <= 0:
            raise ValueError
        return mean, deviation
    except (KeyError, TypeError, ValueError) as error:
        raise ImgclfError(
            f"{file.name}: its metadata {' and '.join(TOLD)} must both be JSON lists of three numbers, "
            "red, green, blue, the second above 0"
        ) from error


def _from_images(entry: onnx.ValueInfoProto, network: ForeignNetwork) -> Iterator[NodeProto]:
    """From `images` to what the network takes."""
    kind, name = entry.type.tensor_type.elem_type, "images"
    if network.pixels.has_blue_first:
        yield helper.make_node("Gather", [name, "images_order"], ["images_ordered"], axis=3)
        name = "images_ordered"
    if kind != TensorProto.UINT8:
        yield helper.make_node("Cast", [name], ["images_levels"], to=TensorProto.FLOAT)
        yield helper.make_node("Sub", ["images_levels", "images_mean"], ["images_centred"])
        yield helper.make_node("Div", ["images_centred", "images_deviation"], ["images_normal"])
        yield helper.make_node("Cast", ["images_normal"], ["images_cast"], to=kind)
        name = "images_cast"
    if network.has_channels_first:
        yield helper.make_node("Transpose", [name], [entry.name], perm=[0, 3, 1, 2])
    else:
        yield helper.make_node("Identity", [name], [entry.name])


def _to_features(end: str, rank: int) -> Iterator[NodeProto]:
    """From the last maps, of which the means are taken, or the last vector, to `features`."""
    if rank == 4:
        yield helper.make_node("ReduceMean", [end, "images_axes"], ["images_means"], keepdims=0)
        end = "images_means"
    yield helper.make_node("Cast", [end], ["features"], to=TensorProto.FLOAT)
