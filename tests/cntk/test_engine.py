"""engine="cntk": the features agree with those of the other engines for the same weights."""

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from imgclf import ImgclfError, engines
from imgclf.cntk.worker import layers
from imgclf.engines.cntk import CntkEngine
from imgclf.networks import backbones, exporting
from support.cntk import evaluate_model, noise

SIDE = 97  # odd, and far from 224, so that every stage has a border of its own


def network(name: str, path, side: int = SIDE) -> torch.nn.Module:
    """A backbone with random weights and random batch statistics, written to `path`."""
    torch.manual_seed(0)
    built = backbones.BACKBONES[name].architecture.network().eval()
    for module in built.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.0)
            torch.nn.init.normal_(module.bias, std=0.1)
            torch.nn.init.normal_(module.running_mean, std=0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
    exporting.export_network(built, side, path, metadata={"backbone": name})
    return built


def relative(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50", "efficientnet_lite0"])
@pytest.mark.parametrize("side", [SIDE, 128])
def test_features_agree_with_torch_and_openvino(name, side, tmp_path):
    path = tmp_path / "random.onnx"
    built, images = network(name, path, side), noise(3, side)
    with torch.no_grad():
        expected = built(torch.from_numpy(images)).numpy()
    ((found,),) = engines.start(path, engine="cntk").run([images])
    ((openvino,),) = engines.start(path, engine="openvino", batch_size=3).run([images])
    assert found.dtype == np.float32
    assert relative(found, expected) < 1e-4
    assert relative(found, openvino) < 1e-3


def test_batches_are_returned_in_order_with_a_short_one_at_the_end(tiny_network):
    images = noise(11, 32)
    found = np.concatenate(
        [part for (part,) in CntkEngine(tiny_network).run(images[i : i + 4] for i in range(0, 11, 4))]
    )
    ((expected,),) = engines.start(tiny_network, engine="onnxruntime").run([images])
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_the_network_is_saved_in_cntks_format_and_computes_the_same(tiny_network):
    images = noise(2, 32)
    ((expected,),) = CntkEngine(tiny_network).run([images])
    saved = tiny_network.with_name("cntk_fixed.model")
    np.testing.assert_array_equal(evaluate_model(saved, images), expected)
    assert [path.name for path in tiny_network.parent.glob("*.part")] == []


def test_feature_maps_smaller_than_a_kernel_are_supported(tmp_path):
    built = network("resnet18", tmp_path / "small.onnx", 40)
    with torch.no_grad():
        expected = built(torch.from_numpy(noise(2, 40))).numpy()
    ((found,),) = engines.start(tmp_path / "small.onnx", engine="cntk").run([noise(2, 40)])
    assert relative(found, expected) < 1e-4


def test_an_input_size_that_is_too_small_is_rejected_with_what_to_do(tiny_network):
    model = onnx.load(tiny_network)
    for axis in model.graph.input[0].type.tensor_type.shape.dim[1:3]:
        axis.dim_value = 4  # its kernel has 5, without a border
    onnx.save(model, tiny_network)
    with pytest.raises(
        ImgclfError,
        match=r"dnn_fixed\.onnx: cannot be built for images of 4 x 4 pixels \(CNTK worker, build: Conv.*kernel.*\); set a larger input_size",
    ):
        engines.start(tiny_network, engine="cntk")


def test_images_of_another_size_than_the_input_are_rejected(tiny_network):
    with pytest.raises(ImgclfError, match="CNTK worker, run: "):
        list(engines.start(tiny_network, engine="cntk").run([noise(2, 48)]))


def test_an_unsupported_operator_is_named(tiny_network):
    model = onnx.load(tiny_network)
    model.graph.node[3].op_type = "HardSwish"
    onnx.save(model, tiny_network)
    with pytest.raises(
        ImgclfError,
        match=r"dnn_fixed\.onnx: uses HardSwish, which engine='cntk' does not support; use engine='openvino'",
    ):
        engines.start(tiny_network, engine="cntk")


def test_bf16_is_rejected(tiny_network):
    with pytest.raises(ImgclfError, match="precision='bf16': cntk computes in f32"):
        engines.start(tiny_network, engine="cntk", precision="bf16")


@pytest.mark.parametrize("content", [b"", b"this is no network"])
def test_a_file_that_is_no_network_is_rejected_by_name(content, tmp_path):
    (tmp_path / "letter.onnx").write_bytes(content)
    with pytest.raises(ImgclfError, match=r"letter\.onnx: not an ONNX network that can be read"):
        engines.start(tmp_path / "letter.onnx", engine="cntk")


X = np.random.default_rng(1).normal(size=(2, 9, 9, 3)).astype(np.float32)
W = {
    "k3": (6, 3, 3, 3),
    "k1": (4, 3, 1, 1),
    "k4": (4, 3, 4, 4),
    "b6": (6,),
    "d": (3, 5),
    "o5": (5,),
    "dt": (5, 3),
    "scale": (3,),
    "offset": (3,),
    "mean": (3,),
    "c": (1, 3, 1, 1),
}
WEIGHTS = {name: np.random.default_rng(2).normal(size=shape).astype(np.float32) for name, shape in W.items()}
WEIGHTS |= {
    "variance": np.float32([0.5, 1, 2]),
    "low": np.float32(-0.3),
    "high": np.float32(0.4),
    "turn": np.array([2, 1, 0]),
    "flat": np.array([0, -1]),
    "axes": np.array([2, 3]),
    "one": np.array([1]),
    "tiny": np.float32(1e-12),
}
VECTOR = ("ReduceMean planes axes", {"keepdims": 0})


@pytest.mark.parametrize(
    "nodes",
    [
        [("Conv planes k3", {"pads": [1, 1, 1, 1], "strides": [2, 2]})],
        [("Conv planes k3 b6", {})],
        [("Conv planes k3", {"pads": [0, 0, 1, 1], "strides": [2, 2]})],
        [("Conv planes k3", {"pads": [1, 1, 0, 0], "strides": [2, 2]})],
        [("Conv planes k4", {"pads": [1, 2, 2, 1]})],
        [("Conv planes k1", {"strides": [2, 2]})],
        [("Conv planes k3", {"pads": [2, 2, 2, 2]})],
        [("MaxPool planes", {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]})],
        [("MaxPool planes", {"kernel_shape": [2, 2], "strides": [2, 2]})],
        [("AveragePool planes", {"kernel_shape": [3, 3], "strides": [3, 3]})],
        [("GlobalAveragePool planes", {})],
        [("BatchNormalization planes scale offset mean variance", {"epsilon": 1e-3})],
        [("Clip planes low high", {})],
        [("Sub planes c", {})],
        [("Div planes c", {})],
        [("Gather planes turn", {"axis": 1})],
        [("Reshape planes flat", {})],
        [("Flatten planes", {})],
        [VECTOR, ("Gemm 0 d o5", {})],
        [VECTOR, ("Gemm 0 dt o5", {"transB": 1})],
        [VECTOR, ("MatMul 0 d", {}), ("Add 1 o5", {})],
        [VECTOR, ("ReduceL2 0 one", {"keepdims": 1}), ("Max 1 tiny", {}), ("Div 0 2", {})],
        [VECTOR, ("Softmax 0", {"axis": 1})],
        [("Sigmoid planes", {})],
        [("Tanh planes", {})],
    ],
    ids=lambda nodes: (
        "-".join(text.split()[0] for text, _ in nodes)
        + "".join(str(v) for _, a in nodes for v in a.values()).replace(" ", "")
    ),
)
def test_each_operator_agrees_with_onnx_runtime(nodes, tmp_path):
    graph_nodes = [helper.make_node("Transpose", ["images"], ["planes"], perm=[0, 3, 1, 2])]
    for k, (text, attributes) in enumerate(nodes):
        operator, *inputs = text.split()
        graph_nodes.append(helper.make_node(operator, inputs, [str(k)], **attributes))
    used = {name for node in graph_nodes for name in node.input}
    graph = helper.make_graph(
        graph_nodes,
        "one",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", 9, 9, 3])],
        [helper.make_tensor_value_info(graph_nodes[-1].output[0], TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in WEIGHTS.items() if name in used],
    )
    content = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10
    ).SerializeToString()
    ((found,),) = CntkEngine(content).run([X])
    ((expected,),) = engines.start(content, engine="onnxruntime").run([X])
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_automatic_padding_is_used_only_where_it_is_equivalent():
    assert layers.padding([224, 224], [7, 7], [2, 2], [3, 3, 3, 3]) == (True, None)
    assert layers.padding([224, 224], [7, 7], [2, 2], [3, 3, 2, 2]) == (
        True,
        None,
    )  # as CNTK itself writes it
    assert layers.padding([224, 224], [3, 3], [2, 2], [0, 0, 1, 1]) == (False, [(0, 1), (0, 1)])
    assert layers.padding([9, 9], [1, 1], [2, 2], [0, 0, 0, 0]) == (False, None)
