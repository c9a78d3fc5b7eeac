"""Models of transformers, exported to ONNX in four ways: the features are those of transformers."""

import json
import logging
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from imgclf import engines, files, svm
from imgclf.classifier import export, verify
from imgclf.classifier.model import SELF_TEST_SIDE, Classifier, SelfTest
from imgclf.features import extract
from imgclf.images.preprocessing import Preprocessing
from imgclf.networks import backbones
from imgclf.svm import Head
from support import hub_models
from support.hub_models import IMAGENET

BODIES = {
    "dinov2": "Dinov2Model",
    "siglip2": "SiglipVisionModel",
    "vit": "ViTModel",
    "convnextv2": "ConvNextV2Model",
    "swin": "SwinModel",
}
OUTPUTS = {"dinov2": "token", "siglip2": "pooler_output", "clip": "image_embeds", "vit": "token"}
WAYS = (
    pytest.param("dynamo", marks=pytest.mark.slow),
    pytest.param("dynamo dynamic", marks=pytest.mark.slow),
    "torchscript",
    "torchscript dynamic",
)
TOKEN_NOTE = "first of its 17 tokens, the classification token"


@pytest.fixture(scope="module", params=hub_models.KINDS)
def body(request, tmp_path_factory):
    """The kind, the folder and the module of a model, without the layer of its classes."""
    folder = hub_models.write(request.param, tmp_path_factory.mktemp(request.param))
    return request.param, folder, _body(request.param, folder)


def _body(kind: str, folder: Path) -> torch.nn.Module:
    logging.getLogger("transformers").setLevel(logging.ERROR)
    if kind == "clip":
        model = transformers.CLIPModel.from_pretrained(folder)
        model.config.vision_config.projection_dim = model.config.projection_dim
        vision = transformers.CLIPVisionModelWithProjection(model.config.vision_config)
        weights = model.state_dict()
        vision.load_state_dict({name: weights[name] for name in vision.state_dict()})
        return vision.eval()
    # The exporter of torch 2.13 cannot decompose the fused attention of Swin.
    options = {"attn_implementation": "eager"} if kind == "swin" else {}
    return getattr(transformers, BODIES[kind]).from_pretrained(folder, **options).eval()


def exported(model: torch.nn.Module, way: str, path: Path, side: int, **options) -> Path:
    """The ONNX file of a model, exported with the defaults of torch, or with names and a dynamic batch."""
    count = 2 if way == "dynamo dynamic" else 1
    if way == "dynamo dynamic":
        options |= {"dynamic_shapes": ({0: torch.export.Dim("batch")},), "external_data": False}
    if way.startswith("torchscript"):
        options |= {"opset_version": 17}
    if way == "torchscript dynamic":
        outputs = [name for name, value in model(torch.zeros(1, 3, side, side)).items() if value is not None]
        options |= {
            "input_names": ["pixel_values"],
            "output_names": outputs,
            "dynamic_axes": {"pixel_values": {0: "batch"}},
        }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            (torch.zeros(count, 3, side, side),),
            path,
            dynamo=way.startswith("dynamo"),
            verbose=False,
            **options,
        )
    return path


def noise(count: int, side: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, side, side, 3), np.uint8)


def expected(kind: str, model: Callable, processor: dict, images: np.ndarray) -> np.ndarray:
    """The features of transformers, for pixels normalized by the values of its image processor."""
    mean, std = np.array(processor["image_mean"]), np.array(processor["image_std"])
    planes = torch.from_numpy(((images / 255 - mean) / std).astype(np.float32)).permute(0, 3, 1, 2)
    with torch.inference_mode():
        outputs = model(planes)
    name = OUTPUTS.get(kind, "pooler_output")
    return (outputs["last_hidden_state"][:, 0] if name == "token" else outputs[name]).numpy()


@pytest.mark.parametrize("way", WAYS)
def test_features_are_those_of_transformers_in_both_engines(body, way, tmp_path):
    kind, folder, model = body
    processor = json.loads((folder / "preprocessor_config.json").read_text())
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor))
    side = 56 if kind == "dinov2" else 64
    path = exported(model, way, tmp_path / "net.onnx", side)
    assert (tmp_path / "net.onnx.data").exists() == (way == "dynamo")
    chosen = backbones.choose(str(path))
    assert "by image_mean and image_std of preprocessor_config.json" in str(chosen)
    assert (TOKEN_NOTE in str(chosen)) == (kind == "vit")
    # The attention of SigLIP's pooling has the images on axis 1; dynamo fixes the positions in Swin's average.
    is_one_by_one = (kind, way) in (("siglip2", "dynamo"), ("siglip2", "torchscript"), ("swin", "dynamo"))
    assert ("runs one image at a time, as its batch size of 1 cannot be" in str(chosen)) == is_one_by_one
    backbones.write(chosen, Preprocessing(side), tmp_path / "dnn_fixed.onnx")
    images = noise(3, side)
    for engine in engines.ENGINES:
        found = extract(tmp_path / "dnn_fixed.onnx", images, engine=engine)
        np.testing.assert_allclose(found, expected(kind, model, processor, images), rtol=0, atol=1e-4)


@pytest.mark.parametrize("way", ["torchscript", "torchscript dynamic"])
@pytest.mark.parametrize("kind", ["siglip2", "vit"])
def test_a_classifier_with_an_exported_body_scores_the_same_in_each_runtime(kind, way, tmp_path):
    folder = hub_models.write(kind, tmp_path / kind)
    path = exported(_body(kind, folder), way, folder / "net.onnx", 64)
    network = tmp_path / files.FIXED_NETWORK
    backbones.write(backbones.choose(str(path)), Preprocessing(64), network)
    images = noise(5, 64)
    weights = np.random.default_rng(0).normal(size=(2, 32))
    head = Head(("a", "b"), weights, np.zeros(2), True, 1.0, 1.0)
    test = SelfTest(noise(3, SELF_TEST_SIDE), np.zeros(0))
    scores = head.scores(extract(network, test.enlarged(64)))
    export.write(tmp_path / "classifier.onnx", network, head, replace(test, scores=scores), metadata={})
    svm.write(head, tmp_path / files.SVM_HEAD)
    checks = verify.verify(tmp_path / "classifier.onnx", images).checks
    assert [str(check) for check in checks if not check.agrees] == []
    assert len(checks) == 5
    assert Classifier.load(tmp_path / "classifier.onnx", engine="onnxruntime").scores(images)[0].shape == (
        5,
        2,
    )


LAYERS = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
CLASSIFIERS = {
    "ResNet": {"embedding_size": 8, "hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1]},
    "ConvNext": {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1]},
    "MobileNetV1": {"depth_multiplier": 0.25, "min_depth": 8},
    "MobileNetV2": {"depth_multiplier": 0.25},
    "EfficientNet": {"width_coefficient": 0.2, "depth_coefficient": 0.2, "hidden_dim": 256},
    "RegNet": {
        "embedding_size": 8,
        "hidden_sizes": [8, 8, 16, 16],
        "depths": [1, 1, 1, 1],
        "groups_width": 4,
    },
    "Swin": {"patch_size": 4, "embed_dim": 16, "depths": [1, 1], "num_heads": [2, 2], "window_size": 4},
    "Deit": LAYERS | {"patch_size": 16},
    "Beit": LAYERS | {"patch_size": 16},
    "ViT": LAYERS | {"patch_size": 16},
    "Dinov2": LAYERS | {"patch_size": 16},
}
CLASS_NAMES = {"Deit": "DeiTForImageClassification"}
CONFIG_NAMES = {"Deit": "DeiTConfig"}


@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_the_features_of_a_classifier_are_the_input_of_its_last_dense_layer(kind, tmp_path):
    settings = CLASSIFIERS[kind] | {"image_size": 64, "num_labels": 5}
    config = getattr(transformers, CONFIG_NAMES.get(kind, f"{kind}Config"))(**settings)
    torch.manual_seed(0)
    model = getattr(transformers, CLASS_NAMES.get(kind, f"{kind}ForImageClassification"))(config).eval()
    path = exported(model, "torchscript", tmp_path / "net.onnx", 64)
    chosen = backbones.choose(str(path))
    assert "(input of its last dense layer)" in str(chosen)
    backbones.write(chosen, Preprocessing(64), tmp_path / "dnn_fixed.onnx")
    last = [module for module in model.modules() if isinstance(module, torch.nn.Linear)][-1]
    wanted = []
    last.register_forward_hook(lambda module, inputs, output: wanted.append(inputs[0].numpy()))
    images = noise(3, 64)
    expected(kind, lambda planes: {"pooler_output": model(planes).logits}, IMAGENET, images)
    found = extract(tmp_path / "dnn_fixed.onnx", images, engine="onnxruntime")
    np.testing.assert_allclose(found, wanted[0], rtol=0, atol=1e-4 * np.abs(wanted[0]).max())
