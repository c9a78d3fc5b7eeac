"""Features and fine-tuning on an NVIDIA GPU; where there is none, the choice of what computes."""

import numpy as np
import onnxruntime
import pytest
import torch

from imgclf import engines
from imgclf.engines import onnxruntime as own
from imgclf.finetuning import frozen
from support.networks import exported, noise

with_onnx = pytest.mark.skipif(
    own.CUDA not in onnxruntime.get_available_providers(), reason="needs onnxruntime-gpu and an NVIDIA GPU"
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


@pytest.mark.parametrize("available", [[own.CUDA, own.CPU], ["TensorrtExecutionProvider", own.CUDA, own.CPU]])
def test_a_gpu_is_the_first_choice_and_the_processor_the_second(available, monkeypatch):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: available)
    assert own.providers("f32") == [(own.CUDA, {"use_tf32": "0"}), (own.CPU, {})]


def test_a_quantized_network_and_a_machine_without_gpu_take_the_processor(monkeypatch, tiny_network):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [own.CUDA, own.CPU])
    assert own.providers("int8") == [(own.CPU, {})]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [own.CPU])
    assert own.providers("f32") == [(own.CPU, {})]
    assert engines.start(tiny_network, engine="onnxruntime").device == "cpu"
