"""Features and fine-tuning on an NVIDIA GPU; where there is none, the choice of what computes."""

import numpy as np
import onnxruntime
import pytest
import torch

from imgclf import engines
from imgclf.engines import onnxruntime as own
from imgclf.features import inference
from imgclf.finetuning import frozen
from support.networks import exported, noise

with_onnx = pytest.mark.skipif(
    own.CUDA not in onnxruntime.get_available_providers(), reason="needs onnxruntime-gpu and an NVIDIA GPU"
)
with_cpu = pytest.mark.skipif(
    own.CUDA in onnxruntime.get_available_providers(), reason="needs onnxruntime without CUDA"
)
with_torch = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="needs torch with CUDA and an NVIDIA GPU"
)


@pytest.mark.slow
@with_onnx
def test_features_of_a_gpu_are_those_of_the_cpu():
    ready = engines.start(exported(), engine="onnxruntime")
    ((found,),) = ready.run([noise(5)])
    ((expected,),) = engines.start(exported(), engine="openvino", batch_size=5).run([noise(5)])
    assert ready.device == "cuda"
    assert np.abs(found - expected).max() <= 1e-3 * np.abs(expected).max()


@with_torch
def test_fine_tuning_takes_the_gpu():
    assert frozen.default_device() == "cuda"


@pytest.fixture
def with_cuda(monkeypatch):
    """The package onnxruntime-gpu, on a machine without a GPU."""
    available = ["TensorrtExecutionProvider", own.CUDA, own.CPU]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: available)
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None)


def test_a_gpu_is_the_first_choice_and_the_processor_the_second(with_cuda, tiny_network):
    assert own.providers(tiny_network) == [(own.CUDA, {"use_tf32": "0"}), (own.CPU, {})]


def test_a_quantized_network_takes_the_processor(with_cuda, tiny_network, monkeypatch):
    monkeypatch.setattr(engines, "is_quantized", lambda network: True)
    assert own.providers(tiny_network) == [(own.CPU, {})]


def test_the_precision_is_measured_anew_with_another_gpu(with_cuda, monkeypatch):
    found = set()
    for name in ("", "NVIDIA T4", "NVIDIA L4"):
        monkeypatch.setattr(torch.cuda, "is_available", lambda name=name: bool(name))
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda name=name: name)
        found.add(inference.processor("onnxruntime"))
        assert name in inference.processor("onnxruntime")
        assert not name or name not in inference.processor("openvino")
    assert len(found) == 3


@with_cpu
def test_without_the_package_the_processor_is_taken(tiny_network):
    assert own.providers(tiny_network) == [(own.CPU, {})]
    assert engines.start(tiny_network, engine="onnxruntime").device == "cpu"


@with_cpu
@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_gpu_that_cannot_be_used_is_said(with_cuda, tiny_network):
    with pytest.warns(UserWarning, match="cannot use the GPU, and computes on the processor"):
        ready = engines.start(tiny_network, engine="onnxruntime")
    assert ready.device == "cpu" and list(ready.run([noise(2, 32)]))
