"""Import of ONNX networks: what is detected in the file, and that the features are those of the network."""

import json
import re
import warnings

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from imgclf import ImgclfError, engines
from imgclf.classifier import export
from imgclf.classifier.model import SelfTest
from imgclf.images.preprocessing import Preprocessing
from imgclf.networks import backbones, onnx_import
from imgclf.networks.architectures import ResNetArchitecture
from imgclf.svm import Head
from support.onnx_files import (
    BODY,
    DENSE,
    DEVIATION,
    MEAN,
    SIDE,
    WEIGHTS,
    close,
    expected,
    features,
    made,
    noise,
)


@pytest.mark.parametrize("engine", engines.ENGINES)
@pytest.mark.parametrize("count", [1, 4])
def test_features_are_the_input_of_the_last_dense_layer_in_both_engines(engine, count, tmp_path):
    path = made(tmp_path / "net.onnx", *BODY, *DENSE)
    close(features(path, noise(count), engine=engine), expected(noise(count)))


def test_str_describes_what_was_detected(tmp_path):
    assert str(backbones.choose(str(made(tmp_path / "net.onnx", *BODY, *DENSE)))) == (
        "net.onnx: takes 32 x 32 pixels only, 8 features per image (input of its last dense layer); "
        "pixels are normalized by mean and standard deviation of ImageNet, as its metadata have none; if it was "
        "trained with others, as CLIP and SigLIP were, write pixel_mean and pixel_std into its metadata "
        "(docs/backbones.md)"
    )


@pytest.mark.parametrize(
    "dense",
    [
        (("Flatten", "means", "vector"), ("MatMul", "vector dense", "sum"), ("Add", "sum offset", "out")),
        (
            ("Flatten", "means", "vector"),
            ("MatMul", "vector dense", "sum"),
            ("Add", "offset sum", "classes"),
            ("Sigmoid", "classes", "out"),
        ),
        (
            ("Flatten", "means", "vector"),
            ("Identity", "dense", "same"),
            ("Gemm", "vector same", "classes"),
            ("Reshape", "classes keep", "out"),
        ),
    ],
)
def test_a_dense_layer_is_detected_in_its_different_forms(dense, tmp_path):
    path = made(tmp_path / "net.onnx", *BODY, *dense, shape=(1, 3, SIDE, SIDE))
    close(features(path, noise(3)), expected(noise(3)))


def test_features_are_the_output_of_a_network_without_last_dense_layer(tmp_path):
    path = made(tmp_path / "net.onnx", *BODY, ("Flatten", "means", "out"))
    close(features(path, noise(2)), expected(noise(2)))
    assert "8 features per image (its output, as it has no last dense layer)" in str(
        backbones.choose(str(path))
    )


def test_features_are_the_output_of_a_network_that_normalizes_it(tmp_path):
    path = made(tmp_path / "net.onnx", *BODY, *DENSE[:2], ("LpNormalization", "classes", "out", {"axis": 1}))
    wanted = expected(noise(2)) @ WEIGHTS["dense"] + WEIGHTS["offset"]
    close(features(path, noise(2)), wanted / np.linalg.norm(wanted, axis=1, keepdims=True))


def test_feature_maps_are_average_pooled(tmp_path):
    path = made(tmp_path / "net.onnx", *BODY[:2], ("Identity", "positive", "out"))
    close(features(path, noise(2)), expected(noise(2)))


@pytest.mark.parametrize(
    ("begin", "white", "mean"),
    [
        ([("Div", "raw levels", "pixels")], "from 0 to 255", (0, 0.5)),
        ([("Mul", "raw share", "pixels")], "from 0 to 255", (0, 1)),
        ([("Sub", "raw mean", "pixels")], "from 0 to 1", (MEAN, 1)),
        ([("Identity", "raw", "same"), ("Sub", "same levels", "pixels")], "from 0 to 255", None),
    ],
)
def test_pixel_range_is_detected_from_arithmetic_at_the_input(begin, white, mean, tmp_path):
    path = made(tmp_path / "net.onnx", *begin, *BODY, *DENSE, entry="raw")
    assert str(backbones.choose(str(path))).endswith(f"it takes pixels {white} and normalizes them itself")
    wanted = expected(noise(2), *mean) if mean else expected(noise(2), 0.5, 1 / 255)
    close(features(path, noise(2)), wanted)


def test_normalization_is_read_from_metadata(tmp_path):
    path = made(
        tmp_path / "net.onnx",
        *BODY,
        *DENSE,
        pixel_mean="[0.5, 0.5, 0.5]",
        pixel_std="[0.25, 0.5, 1.0]",
        author="somebody",
    )
    close(features(path, noise(2)), expected(noise(2), 0.5, np.array([0.25, 0.5, 1])))
    assert str(backbones.choose(str(path))).endswith(
        "pixels are normalized by pixel_mean and pixel_std of its metadata"
    )


def test_mean_and_std_of_a_bgr_network_follow_their_channels(tmp_path):
    mean, std = np.array([0.1, 0.5, 0.9]), np.array([0.25, 0.5, 1])
    path = made(
        tmp_path / "net.onnx",
        *BODY,
        *DENSE,
        pixel_mean=json.dumps(mean.tolist()),
        pixel_std=json.dumps(std.tolist()),
        pixel_order='"BGR"',
    )
    close(features(path, noise(2)), expected(noise(2)[..., ::-1], mean[::-1], std[::-1]))


@pytest.mark.parametrize(
    "wrong",
    [
        {"pixel_mean": "[0.5]", "pixel_std": "[1, 1, 1]"},
        {"pixel_mean": "0.5 0.5 0.5", "pixel_std": "[1, 1, 1]"},
        {"pixel_mean": "[0.5, 0.5, 0.5]", "pixel_std": "[1, 0, 1]"},
        {"pixel_mean": "[0.5, 0.5, 0.5]"},
    ],
)
def test_invalid_normalization_in_metadata_is_rejected(wrong, tmp_path):
    path = made(tmp_path / "net.onnx", *BODY, *DENSE, **wrong)
    with pytest.raises(
        ImgclfError,
        match=r"net\.onnx: its metadata pixel_mean and pixel_std must both be JSON lists of three numbers, red, green, blue, the second above 0; correct them",
    ):
        backbones.choose(str(path))


def test_uint8_input_with_channels_first_is_not_normalized(tmp_path):
    begin = (("Cast", "raw", "levels_", {"to": TensorProto.FLOAT}), ("Mul", "levels_ share", "pixels"))
    path = made(tmp_path / "net.onnx", *begin, *BODY, *DENSE, entry="raw", kind=TensorProto.UINT8)
    close(features(path, noise(2)), expected(noise(2), 0, 1))


def test_uint8_input_with_channels_last_is_not_normalized(tmp_path):
    begin = (
        ("Cast", "raw", "levels_", {"to": TensorProto.FLOAT}),
        ("Transpose", "levels_", "planes", {"perm": [0, 3, 1, 2]}),
        ("Mul", "planes share", "pixels"),
    )
    path = made(
        tmp_path / "net.onnx",
        *begin,
        *BODY,
        *DENSE,
        entry="raw",
        kind=TensorProto.UINT8,
        shape=("N", SIDE, SIDE, 3),
    )
    close(features(path, noise(2)), expected(noise(2), 0, 1))


def test_float16_networks_have_float32_features(tmp_path):
    path = made(
        tmp_path / "net.onnx",
        ("Cast", "half", "pixels", {"to": TensorProto.FLOAT}),
        *BODY,
        *DENSE,
        entry="half",
        kind=TensorProto.FLOAT16,
    )
    found = features(path, noise(2))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected(noise(2)), atol=5e-3 * found.max())


def test_a_dynamic_input_size_accepts_any_and_a_fixed_one_only_its_own(tmp_path):
    free = made(tmp_path / "free.onnx", *BODY, *DENSE, shape=("N", 3, "H", "W"))
    close(features(free, noise(2, 48)), expected(noise(2, 48)))
    assert "takes any input size" in str(backbones.choose(str(free)))
    fixed = backbones.choose(str(made(tmp_path / "fixed.onnx", *BODY, *DENSE)))
    for use in (
        backbones.stages,
        lambda chosen, size: backbones.write(chosen, Preprocessing(size), tmp_path / "out.onnx"),
    ):
        with pytest.raises(
            ImgclfError, match="^fixed.onnx: takes images of 32 x 32 pixels only; set input_size=32$"
        ):
            use(fixed, 48)


def test_an_input_size_that_fails_is_rejected(tmp_path):
    path = made(
        tmp_path / "net.onnx",
        BODY[0],
        ("Add", "maps places", "placed"),
        ("GlobalAveragePool", "placed", "out"),
        shape=("N", 3, "H", "W"),
    )
    assert len(features(path, noise(2))) == 2
    with pytest.raises(
        ImgclfError,
        match=r"net\.onnx: inference fails for 1 image of 64 x 64 pixels; set the input_size it was trained at, or export it again",
    ):
        backbones.write(backbones.choose(str(path)), Preprocessing(64), tmp_path / "out.onnx")


@pytest.mark.parametrize("engine", engines.ENGINES)
@pytest.mark.parametrize("batch_size", [1, 2, "N"])
def test_a_network_whose_batch_cannot_be_changed_runs_one_image_at_a_time(batch_size, engine, tmp_path):
    path = made(
        tmp_path / "net.onnx",
        *BODY,
        ("Flatten", "means", "vector"),
        ("ReduceMean", "vector zero", "mean_of_batch"),
        ("Sub", "vector mean_of_batch", "differences"),
        ("Add", "differences mean_of_batch", "sum"),
        ("Add", "sum mean_of_batch", "out"),
        shape=(batch_size, 3, SIDE, SIDE),
    )
    assert str(backbones.choose(str(path))).endswith(
        f"; runs one image at a time, as its batch size of {1 if batch_size == 'N' else batch_size} "
        "cannot be changed"
    )
    for count in (1, 3):
        close(features(path, noise(count), engine=engine), 2 * expected(noise(count)))


def test_a_network_with_random_results_is_rejected(tmp_path):
    path = made(
        tmp_path / "net.onnx",
        *BODY,
        ("Flatten", "means", "vector"),
        ("RandomNormalLike", "vector", "chance"),
        ("Add", "vector chance", "out"),
    )
    with pytest.raises(
        ImgclfError,
        match=r"net\.onnx: computes other features for an image in each run; export it again without random operators",
    ):
        backbones.write(backbones.choose(str(path)), Preprocessing(SIDE), tmp_path / "out.onnx")
    assert not (tmp_path / "out.onnx").exists()


@pytest.mark.parametrize(
    ("shape", "kind", "reason"),
    [
        (
            ("N", 1, SIDE, SIDE),
            TensorProto.FLOAT,
            "its input is float ['N', 1, 32, 32]; it must be uint8, float32, float16, (N, 3, S, S) or (N, S, S, 3)",
        ),
        (("N", 3, SIDE, SIDE), TensorProto.DOUBLE, "its input is double ['N', 3, 32, 32]; it must be"),
        (("N", 3, SIDE, 48), TensorProto.FLOAT, "takes images of 48 x 32 pixels; it must take squares"),
        (
            ("N", 3 * SIDE * SIDE),
            TensorProto.FLOAT,
            "must have one input of four axes, the images; it has pixels ['N', 3072]",
        ),
    ],
)
def test_an_input_that_is_no_colour_image_is_rejected(shape, kind, reason, tmp_path):
    path = made(tmp_path / "net.onnx", ("Identity", "pixels", "out"), shape=shape, kind=kind)
    with pytest.raises(ImgclfError, match=f"^net.onnx: {re.escape(reason)}"):
        backbones.choose(str(path))


def test_several_inputs_are_rejected_with_their_names(tmp_path):
    model = onnx.load(made(tmp_path / "net.onnx", *BODY, ("Add", "means text", "out")))
    model.graph.input.append(helper.make_tensor_value_info("text", TensorProto.FLOAT, ["N", 77]))
    onnx.save(model, tmp_path / "net.onnx")
    with pytest.raises(
        ImgclfError,
        match=re.escape(
            "must have one input of four axes, the images; it has pixels ['N', 3, 32, 32], text ['N', 77]"
        ),
    ):
        backbones.choose(str(tmp_path / "net.onnx"))


def test_inputs_that_the_features_do_not_depend_on_are_left_out(tmp_path):
    nodes = (("Flatten", "means", "image_embeds"), ("Add", "image_embeds text", "out"))
    model = onnx.load(made(tmp_path / "net.onnx", *BODY, *nodes))
    model.graph.input.insert(0, helper.make_tensor_value_info("text", TensorProto.FLOAT, ["N", 8]))
    model.graph.output.append(helper.make_tensor_value_info("image_embeds", TensorProto.FLOAT, ["N", 8]))
    onnx.save(model, tmp_path / "net.onnx")
    close(features(tmp_path / "net.onnx", noise(2)), expected(noise(2)))


def test_a_sequence_of_vectors_is_rejected_as_features(tmp_path):
    path = made(tmp_path / "net.onnx", *BODY[:2], ("Reshape", "positive rows", "out"))
    model = onnx.load(path)
    model.graph.initializer.append(numpy_helper.from_array(np.array([0, 8, -1]), "rows"))
    onnx.save(model, path)
    with pytest.raises(
        ImgclfError,
        match=r"net\.onnx: its features have shape \(1, 8, 225\) for 1 image of 32 x 32 pixels; they must be one vector of finite numbers for each image, feature maps, or tokens of a square grid of patches",
    ):
        str(backbones.choose(str(path)))


@pytest.mark.parametrize("content", [b"", b"no network at all", None], ids=["empty", "text", "half"])
def test_a_damaged_file_is_rejected(content, tmp_path):
    path = made(tmp_path / "net.onnx", *BODY, *DENSE)
    path.write_bytes(path.read_bytes()[:900] if content is None else content)
    with pytest.raises(
        ImgclfError,
        match=r"net\.onnx: (not an ONNX network, or damaged; export it again|must have one input)",
    ):
        backbones.choose(str(path))


def test_external_data_are_loaded_or_reported_as_missing(tmp_path):
    model = onnx.load(made(tmp_path / "net.onnx", *BODY, *DENSE))
    onnx.save(
        model, tmp_path / "net.onnx", save_as_external_data=True, size_threshold=0, location="net.onnx.data"
    )
    close(features(tmp_path / "net.onnx", noise(2)), expected(noise(2)))
    (tmp_path / "net.onnx.data").unlink()
    with pytest.raises(
        ImgclfError,
        match=r"net\.onnx: its weights are in a second file, net\.onnx\.data, which is missing or damaged; put it beside this one",
    ):
        backbones.choose(str(tmp_path / "net.onnx"))


def test_an_unknown_operator_is_rejected(tmp_path):
    path = made(tmp_path / "net.onnx", ("NoSuchOperator", "pixels", "out"), opset=9)
    with pytest.raises(
        ImgclfError,
        match=r"net\.onnx: cannot be converted to opset 18 of ONNX; export it again with that opset or a later one",
    ):
        backbones.choose(str(path))


@pytest.mark.parametrize("shape", [(0, 3, 0, 0), (-1, 3, -1, -1), (None, 3, None, None)])
def test_dynamic_axes_are_detected_in_their_different_forms(shape, tmp_path):
    path = made(tmp_path / "net.onnx", *BODY, *DENSE, shape=shape)
    close(features(path, noise(2, 48)), expected(noise(2, 48)))


def test_an_old_opset_with_weights_among_the_inputs_is_converted(tmp_path):
    model = onnx.load(made(tmp_path / "old.onnx", *BODY, *DENSE, opset=8, shape=(1, 3, SIDE, SIDE)))
    model.ir_version = 3
    model.graph.input.extend(
        helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in model.graph.initializer
    )
    onnx.save(model, tmp_path / "old.onnx")
    close(features(tmp_path / "old.onnx", noise(3)), expected(noise(3)))


def test_written_file_is_valid_and_has_no_metadata_of_the_original_but_its_name(tmp_path):
    features(made(tmp_path / "net.onnx", *BODY, *DENSE, author="somebody"), noise(2))
    model = onnx.load(tmp_path / "dnn_fixed.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert {entry.key: json.loads(entry.value) for entry in model.metadata_props} == {
        "backbone": "net.onnx",
        "preprocessing": {"input_size": SIDE, "padding_colour": [114, 114, 114]},
    }
    assert b"somebody" not in (tmp_path / "dnn_fixed.onnx").read_bytes()
    assert [tensor.name for tensor in model.graph.initializer if "dense" in tensor.name] == []
    assert engines.preprocessing(tmp_path / "dnn_fixed.onnx").input_size == SIDE


def test_a_network_with_tensor_names_like_ours_becomes_a_classifier(tmp_path):
    path = made(
        tmp_path / "net.onnx",
        ("Conv", "images kernel", "features"),
        ("GlobalAveragePool", "features", "scores"),
        ("Flatten", "scores", "head_scaled"),
        ("Gemm", "head_scaled dense offset", "out"),
        entry="images",
    )
    features(path, noise(2))
    head = Head(("a", "b"), np.ones((2, 8)), np.zeros(2), True, 1.0, 1.0)
    test = SelfTest(np.zeros((1, 16, 16, 3), np.uint8), np.zeros((1, 2), np.float32))
    export.write(tmp_path / "classifier.onnx", tmp_path / "dnn_fixed.onnx", head, test, metadata={})
    scores, probabilities = next(engines.start(tmp_path / "classifier.onnx").run([noise(2)]))
    assert scores.shape == probabilities.shape == (2, 2)


def test_stages_are_the_convolutions_by_the_side_of_their_feature_maps(tmp_path):
    path = made(tmp_path / "net.onnx", *BODY, *DENSE)
    assert backbones.stages(backbones.choose(str(path)), SIDE) == [
        {
            "stage": "maps 1",
            "convolutions": 1,
            "largest kernel, pixels": 3,
            "channels": 8,
            "side, pixels": 15,
        },
        {
            "stage": "features",
            "convolutions": 0,
            "largest kernel, pixels": 0,
            "channels": 8,
            "side, pixels": 1,
        },
    ]


def test_stages_of_a_network_without_convolutions_are_its_features_alone(tmp_path):
    path = made(tmp_path / "net.onnx", ("GlobalAveragePool", "pixels", "out"))
    assert [
        (row["stage"], row["channels"]) for row in backbones.stages(backbones.choose(str(path)), SIDE)
    ] == [("features", 3)]


class ForeignResNet(torch.nn.Module):
    """A small ResNet as others export it: input normalized float planes, output scores of five classes."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = ResNetArchitecture((1, 1, 1, 1), channels=(8, 16, 24, 32)).network()
        self.fc = torch.nn.Linear(32, 5)

    def forward(self, planes: torch.Tensor) -> torch.Tensor:
        return self.fc(self.features(planes))

    def features(self, planes: torch.Tensor) -> torch.Tensor:
        """The input of the last layer, through a view as older networks have it."""
        body = self.body
        maps = torch.relu(body.bn1(body.conv1(planes)))
        for stage in (body.layer1, body.layer2, body.layer3, body.layer4):
            maps = stage(maps)
        return torch.nn.functional.adaptive_avg_pool2d(maps, 1).view(planes.shape[0], -1)


@pytest.mark.parametrize(
    ("count", "options"),
    [
        (1, {"dynamo": True}),
        (2, {"dynamo": True, "dynamic_shapes": ({0: torch.export.Dim("batch")},)}),
        (1, {"dynamo": False, "opset_version": 11}),
    ],
    ids=["fixed", "dynamic", "old"],
)
def test_exports_of_torch_have_the_features_of_the_network(count, options, tmp_path):
    network = ForeignResNet().eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network, (torch.zeros(count, 3, SIDE, SIDE),), tmp_path / "net.onnx", verbose=False, **options
        )
    images = noise(3)
    planes = torch.from_numpy(((images / 255 - MEAN) / DEVIATION).astype(np.float32)).permute(0, 3, 1, 2)
    with torch.inference_mode():
        wanted = network.features(planes).numpy()
    for engine in engines.ENGINES:
        close(features(tmp_path / "net.onnx", images, engine=engine), wanted)
    assert onnx_import.read(tmp_path / "net.onnx").features == 32
