"""Quantized networks: near those in f32, alike in both engines, made without a word."""

import logging
from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

from imgclf import ImgclfError, engines
from imgclf.features import inference
from imgclf.images.preprocessing import KEY, Preprocessing
from imgclf.networks import exporting, onnx_graph, quantization
from support.networks import SIZE, exported, noise


@pytest.fixture(scope="module")
def lite0(tmp_path_factory):
    """EfficientNet-Lite0 in f32 and in int8, calibrated on 32 images of noise."""
    folder = tmp_path_factory.mktemp("lite0")
    network, quantized = folder / "network.onnx", folder / "network.int8.onnx"
    network.write_bytes(onnx_graph.with_metadata(exported(), {KEY: Preprocessing(SIZE).as_json()}))
    quantized.write_bytes(quantization.quantize(network, noise(32), made_from="noise"))
    return network, quantized


def features_in(network, engine: str, images: np.ndarray) -> np.ndarray:
    ready = engines.start(network, engine=engine)
    return np.concatenate([vectors for (vectors,) in ready.run(engines.batches(images, 2))])


@pytest.mark.parametrize("engine", engines.ENGINES)
def test_features_in_int8_are_near_those_in_f32(engine, lite0):
    f32, int8 = (features_in(network, engine, noise(16)) for network in lite0)
    assert inference.mean_cosine(int8, f32) > 0.98


def test_both_engines_compute_nearly_the_same(lite0):
    first, second = (features_in(lite0[1], engine, noise(16)) for engine in engines.ENGINES)
    assert inference.mean_cosine(first, second) > 0.99


def test_onnxruntime_computes_every_convolution_in_integers(lite0, tmp_path):
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(tmp_path / "optimized.onnx"), 3
    onnxruntime.InferenceSession(lite0[1], options, providers=["CPUExecutionProvider"])
    before = Counter(node.op_type for node in onnx.load(lite0[0]).graph.node)
    after = Counter(node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node)
    assert after["QLinearConv"] == before["Conv"] > 40 and after["Conv"] == 0


def test_the_metadata_stay(lite0):
    assert engines.preprocessing(lite0[1]) == Preprocessing(SIZE)


def test_a_quarter_of_the_size(lite0):
    f32, int8 = (path.stat().st_size for path in lite0)
    assert int8 < 0.3 * f32


def test_only_a_quantized_network_is_one(lite0):
    assert [engines.is_quantized(network) for network in lite0] == [False, True]


def test_the_same_images_give_the_same_bytes(tiny_network):
    first, again = (quantization.quantize(tiny_network, noise(8, 32), made_from="") for _ in range(2))
    assert first == again != quantization.quantize(tiny_network, noise(9, 32), made_from="")


def test_nothing_is_printed_or_logged_and_other_loggers_stay(tiny_network, capfd):
    quantization.quantize(tiny_network, noise(4, 32), made_from="")
    assert capfd.readouterr() == ("", "")
    assert logging.getLoggerClass() is logging.Logger


def test_a_network_whose_last_operator_casts_is_quantized(tiny_network):
    model = onnx.load(tiny_network)
    model.graph.node[-1].output[0] = "means"
    model.graph.node.append(helper.make_node("Cast", ["means"], ["features"], to=onnx.TensorProto.FLOAT))
    onnx.save(model, tiny_network)
    assert engines.is_quantized(quantization.quantize(tiny_network, noise(4, 32), made_from=""))


def test_a_network_that_nncf_cannot_quantize_is_refused(tiny_network):
    with pytest.raises(
        ImgclfError, match=r"dnn_fixed\.onnx: NNCF cannot quantize it \(.*; use precision='f32'"
    ):
        quantization.quantize(tiny_network, noise(4, 16), made_from="")  # images of another size


def test_without_nncf_the_command_that_installs_it_is_named(tiny_network, monkeypatch):
    monkeypatch.setattr(quantization, "find_spec", lambda name: None)
    with pytest.raises(ImgclfError, match=r"the package nncf is missing; pip install 'imgclf\[int8\]'"):
        quantization.quantize(tiny_network, noise(4, 32), made_from="")


@pytest.mark.slow
def test_a_vision_transformer_is_near_f32_in_both_engines(tmp_path):
    network, quantized = tmp_path / "vit.onnx", tmp_path / "vit.int8.onnx"
    exporting.export_network(vision_transformer(), 64, network, metadata={})
    quantized.write_bytes(quantization.quantize(network, noise(32), made_from=""))
    for engine in engines.ENGINES:
        f32, int8 = (features_in(path, engine, noise(16)) for path in (network, quantized))
        assert inference.mean_cosine(int8, f32) > 0.98


def vision_transformer():
    """Two layers of attention on 16 patches, with random weights."""
    import torch

    torch.manual_seed(0)

    class VisionTransformer(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches = torch.nn.Conv2d(3, 64, 16, 16)
            layer = torch.nn.TransformerEncoderLayer(64, 4, 128, 0.0, batch_first=True, norm_first=True)
            self.layers = torch.nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
            self.norm = torch.nn.LayerNorm(64)

        def forward(self, images):
            pixels = images.permute(0, 3, 1, 2).float() / 127.5 - 1
            return self.norm(self.layers(self.patches(pixels).flatten(2).transpose(1, 2))).mean(1)

    return VisionTransformer().eval()
