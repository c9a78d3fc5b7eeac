"""Which tensor of an ONNX network is taken as features, and how it becomes a vector."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from imgclf import ImgclfError, engines
from imgclf.networks import backbones, onnx_import, onnx_outputs
from support.onnx_files import (
    BODY,
    DENSE,
    SIDE,
    WEIGHTS,
    close,
    expected,
    features,
    made,
    noise,
    planes,
)

VECTOR = ("Flatten", "means", "vector")


def with_outputs(path, **outputs):
    """The file with these outputs, by name, of these shapes; a tensor of another name is copied."""
    model = onnx.load(path)
    del model.graph.output[:]
    for name, shape in outputs.items():
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("names", [("scores", "vector"), ("vector", "scores")])
def test_of_two_outputs_in_either_order_the_scores_tell_the_features(names, tmp_path):
    path = made(tmp_path / "net.onnx", *BODY, *DENSE[:1], ("Gemm", "vector dense offset", "scores"))
    with_outputs(path, **{name: ["N", 8 if name == "vector" else 5] for name in names})
    assert "8 features per image (input of its last dense layer)" in str(backbones.choose(str(path)))
    close(features(path, noise(2)), expected(noise(2)))


@pytest.mark.parametrize("name", ["image_embeds", "pooler_output", "features", "embeddings"])
def test_an_output_with_the_name_of_features_is_taken_as_it_is(name, tmp_path):
    nodes = (*DENSE[:1], ("Gemm", "vector dense offset", name), ("Softmax", name, "out"))
    path = with_outputs(made(tmp_path / "net.onnx", *BODY, *nodes), out=["N", 5], **{name: ["N", 5]})
    assert f"5 features per image (its output {name})" in str(backbones.choose(str(path)))
    close(features(path, noise(2)), expected(noise(2)) @ WEIGHTS["dense"] + WEIGHTS["offset"])


@pytest.mark.parametrize(
    "last", [[], [("Identity", "same")], [("Cast", "cast", {"to": TensorProto.FLOAT}), ("Identity", "same")]]
)
def test_a_pooler_output_after_tanh_is_left_for_the_tokens(last, tmp_path):
    nodes = [*DENSE[:1], ("Unsqueeze", "vector zero", "last_hidden_state"), ("Tanh", "vector", "bounded")]
    for operator, output, *attributes in last:
        nodes.append((operator, nodes[-1][2], output, *attributes))
    nodes[-1] = (*nodes[-1][:2], "pooler_output", *nodes[-1][3:])
    path = made(tmp_path / "net.onnx", *BODY, *nodes)
    with_outputs(path, last_hidden_state=[1, "N", 8], pooler_output=["N", 8])
    assert onnx_import.read(path).feature_tensor.note == "its output last_hidden_state"


def test_logits_without_bias_are_scores_even_beside_tokens(tmp_path):
    nodes = (*DENSE[:1], ("MatMul", "vector dense", "logits"), ("Unsqueeze", "vector zero", "tokens"))
    path = with_outputs(made(tmp_path / "net.onnx", *BODY, *nodes), tokens=[1, "N", 8], logits=["N", 5])
    close(features(path, noise(2)), expected(noise(2)))


def test_a_sigmoid_head_of_several_labels_is_cut_off(tmp_path):
    path = made(tmp_path / "net.onnx", *BODY, *DENSE[:2], ("Sigmoid", "classes", "out"))
    close(features(path, noise(2)), expected(noise(2)))


@pytest.mark.parametrize(
    "head",
    [
        [("Conv", "means pointwise", "scores"), ("Flatten", "scores", "flat"), ("Softmax", "flat", "out")],
        [
            ("Conv", "positive pointwise", "scored"),
            ("Relu", "scored", "scores"),
            ("GlobalAveragePool", "scores", "averages"),
            ("Softmax", "averages", "out", {"axis": 1}),
        ],
    ],
    ids=["MobileNet", "SqueezeNet"],
)
def test_a_convolution_that_computes_probabilities_is_a_last_layer(head, tmp_path):
    path = made(tmp_path / "net.onnx", *BODY, *head)
    assert "8 features per image (input of its last layer, a convolution" in str(backbones.choose(str(path)))
    close(features(path, noise(2)), expected(noise(2)))


def test_feature_maps_with_channels_last_are_averaged_over_their_places(tmp_path):
    nodes = (*BODY[:2], ("Transpose", "positive", "out", {"perm": [0, 2, 3, 1]}))
    path = made(tmp_path / "net.onnx", *nodes)
    assert "average of its feature maps" in str(backbones.choose(str(path)))
    close(features(path, noise(2)), expected(noise(2)))


@pytest.mark.parametrize(
    ("shape", "wanted"),
    [
        ((1, 8), onnx_outputs.Pooling()),
        ((1, 1280, 7, 7), onnx_outputs.Pooling((2, 3), note="average of its feature maps")),
        ((1, 7, 7, 1280), onnx_outputs.Pooling((1, 2), note="average of its feature maps")),
        ((1, 49, 768), onnx_outputs.Pooling((1,), note="mean of its 49 tokens")),
        ((1, 8, 225), None),
        ((8,), None),
        ((1, 0, 8), None),
        ((1, 2, 3, 4, 5), None),
        *(
            (
                (1, tokens, 1024),
                onnx_outputs.Pooling(
                    takes_first=True, note=f"first of its {tokens} tokens, the classification token"
                ),
            )
            for tokens in (197, 198, 257, 261, 1370)
        ),
    ],
)
def test_pooling_follows_from_the_shape(shape, wanted):
    assert onnx_outputs.pooling(shape, True) == wanted


@pytest.mark.parametrize("opset", range(9, 25))
def test_files_of_each_opset_are_read(opset, tmp_path):
    softmax = ("Softmax", "classes", "out", {"axis": 1})
    path = made(tmp_path / "net.onnx", *BODY, *DENSE[:2], softmax, opset=opset, shape=(1, 3, SIDE, SIDE))
    close(features(path, noise(3)), expected(noise(3)))


def test_the_weights_of_a_float16_network_stay_float16(tmp_path):
    path = made(tmp_path / "net.onnx", *BODY, *DENSE, kind=TensorProto.FLOAT16)
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        half = numpy_helper.to_array(tensor).astype(np.float16)
        tensor.CopyFrom(numpy_helper.from_array(half, tensor.name))
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT16
    onnx.save(model, path)
    for engine in engines.ENGINES:
        found = features(path, noise(2), engine=engine)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected(noise(2)), rtol=0, atol=5e-3 * found.max())


@pytest.mark.parametrize("engine", engines.ENGINES)
def test_a_quantized_file_has_the_features_of_its_float_file(engine, tmp_path):
    from onnxruntime import quantization

    class Reader(quantization.CalibrationDataReader):
        def __init__(self):
            self.left = [{"pixels": planes(noise(4)[i : i + 1])} for i in range(4)]

        def get_next(self):
            return self.left.pop() if self.left else None

    path = made(tmp_path / "net.onnx", *BODY, *DENSE)
    quantization.quantize_static(
        path,
        tmp_path / "int8.onnx",
        Reader(),
        quant_format=quantization.QuantFormat.QDQ,
        reduce_range=True,  # sums of products of 8 bits overflow on processors without VNNI
    )
    chosen = backbones.choose(str(tmp_path / "int8.onnx"))
    assert "8 features per image (input of its last dense layer)" in str(chosen)
    found = features(tmp_path / "int8.onnx", noise(4), engine=engine)
    np.testing.assert_allclose(found, expected(noise(4)), rtol=0, atol=0.02 * found.max())


def test_a_file_without_an_output_of_floats_is_rejected(tmp_path):
    path = made(tmp_path / "net.onnx", *BODY, *DENSE, ("ArgMax", "out", "best", {"axis": 1}))
    model = onnx.load(path)
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("best", TensorProto.INT64, ["N", 1]))
    onnx.save(model, path)
    with pytest.raises(
        ImgclfError, match=r"^net.onnx: none of its outputs holds floats, such as features; export"
    ):
        backbones.choose(str(path))


def test_an_operator_that_openvino_lacks_is_said(tmp_path):
    node = ("Scaler", "vector", "out", {"domain": "ai.onnx.ml", "offset": [0.0], "scale": [2.0]})
    path = made(tmp_path / "net.onnx", *BODY, VECTOR, node)
    model = onnx.load(path)
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 1))
    onnx.save(model, path)
    chosen = backbones.choose(str(path))
    assert str(chosen).endswith("; OpenVINO cannot compute it: set engine=onnxruntime")
    close(features(path, noise(2)), 2 * expected(noise(2)))
