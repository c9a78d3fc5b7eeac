"""Models of the Hub: their features are those of transformers, at any size that they take, and in ONNX."""

import json
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from transformers.image_processing_utils import BaseImageProcessor
from transformers.integrations import hub_kernels

from imgclf import ImgclfError, engines
from imgclf.finetuning import frozen
from imgclf.networks import exporting
from imgclf.networks.hub import models
from imgclf.networks.hub.models import HubArchitecture
from support import hub_models
from support.hub_models import ENCODER, HALF, KINDS

SIZES = {"dinov2": 56}  # pixels, of the training; of the other ones 64
OTHER_SIZES = {"dinov2": 84, "convnextv2": 77, "swin": 72}  # and 96
OUTPUTS = {
    "clip": "image_embeds",
    "siglip2": "pooler_output",
    "convnextv2": "pooler_output",
    "swin": "pooler_output",
}
NOTES = {
    "dinov2": "classification token of the last layer",
    "siglip2": "pooler_output",
    "clip": "image_embeds, the embedding that is compared with that of a text",
    "vit": "classification token of the last layer",
    "convnextv2": "pooler_output, the pooled last feature maps",
    "swin": "pooler_output",
}


@cache
def folder_of(kind: str) -> Path:
    return hub_models.write(kind, Path(mkdtemp()) / kind)


@cache
def chosen(kind: str, suffix: str = "") -> HubArchitecture:
    return models.architecture(folder_of(kind), f"hf/tiny/{kind}{suffix}")


@cache
def network(kind: str, suffix: str = "") -> torch.nn.Module:
    return chosen(kind, suffix).network().eval()


def images(count: int, side: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, side, side, 3), np.uint8)


def features(model: torch.nn.Module, pixels: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return model(torch.from_numpy(pixels)).numpy()


def processed(folder: Path, pixels: np.ndarray) -> dict[str, torch.Tensor]:
    """What the model's own image processor makes of images of the right size."""
    processor = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
    return processor(list(pixels), do_resize=False, do_center_crop=False, return_tensors="pt")


def output_of_transformers(kind: str, pixels: np.ndarray) -> dict[str, torch.Tensor]:
    """What the whole published model gives."""
    model = transformers.AutoModel.from_pretrained(folder_of(kind)).eval()
    more = {} if kind in ("dinov2", "convnextv2") else {"interpolate_pos_encoding": True}
    with torch.no_grad():
        if kind == "clip":
            return {
                "image_embeds": model.get_image_features(
                    **processed(folder_of(kind), pixels), **more
                ).pooler_output
            }
        return getattr(model, "vision_model", model)(**processed(folder_of(kind), pixels), **more)


@pytest.mark.parametrize("kind", KINDS)
def test_features_are_those_of_transformers_at_the_size_of_training_and_at_another(kind):
    for side in (SIZES.get(kind, 64), OTHER_SIZES.get(kind, 96)):
        pixels = images(2, side)
        output = output_of_transformers(kind, pixels)
        expected = output[OUTPUTS[kind]] if kind in OUTPUTS else output["last_hidden_state"][:, 0]
        np.testing.assert_allclose(features(network(kind), pixels), expected.numpy(), atol=1e-4, rtol=0)
        assert expected.shape[1] == chosen(kind).features


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("EfficientNet", {"include_top": True}),
        ("EfficientNet", {"rescale_offset": True, "rescale_factor": 1 / 127.5, "do_normalize": False}),
        ("MobileViT", {"do_flip_channel_order": True}),
        ("ViT", {"do_rescale": False, "image_mean": [120, 110, 100], "image_std": [60, 61, 62]}),
    ],
)
def test_pixels_are_normalized_as_the_image_processor_does(kind, settings, tmp_path):
    folder = hub_models.write("vit", tmp_path / "vit")
    processor = {"image_processor_type": f"{kind}ImageProcessor", **HALF, "size": {"height": 64, "width": 64}}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor | settings))
    normalization = models.architecture(folder, "hf/tiny/vit").normalization
    pixels = images(2, 64)
    found = pixels[..., ::-1] if normalization.is_bgr else pixels
    found = (found - np.array(normalization.mean)) / normalization.std
    np.testing.assert_allclose(
        found.transpose(0, 3, 1, 2), processed(folder, pixels)["pixel_values"], atol=1e-5
    )


def test_pixels_of_a_model_of_timm_are_normalized_as_its_data_config_says(monkeypatch):
    class TimmWrapperImageProcessor(BaseImageProcessor):
        """The attributes of that of transformers, which needs timm and torchvision."""

        def __init__(self):
            super().__init__(architecture="vit_base_patch16_384")
            self.data_config = {"input_size": (3, 384, 384), "mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.4)}

    monkeypatch.setattr(
        transformers.AutoImageProcessor, "from_pretrained", lambda *_, **__: TimmWrapperImageProcessor()
    )
    normalization = models.architecture(folder_of("dinov2"), "hf/timm/net").normalization
    assert normalization.side == 384 and not normalization.is_bgr
    np.testing.assert_allclose(normalization.mean, [127.5, 102, 76.5])
    np.testing.assert_allclose(normalization.std, [51, 76.5, 102])


@pytest.mark.parametrize("kind", ["dinov2", "vit", "siglip2", "clip"])
def test_mean_after_the_name_gives_the_mean_of_the_patch_tokens(kind):
    pixels = images(2, SIZES.get(kind, 64))
    if kind == "clip":
        vision = transformers.CLIPVisionModel.from_pretrained(folder_of(kind)).eval()
        tokens = vision(**processed(folder_of(kind), pixels)).last_hidden_state.detach()
    else:
        tokens = output_of_transformers(kind, pixels)["last_hidden_state"]
    expected = tokens[:, 0 if kind == "siglip2" else 1 :].mean(dim=1)
    np.testing.assert_allclose(features(network(kind, "#mean"), pixels), expected.numpy(), atol=1e-4, rtol=0)
    assert chosen(kind, "#mean").features_note == "mean of the patch tokens of the last layer"


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_features_are_is_said_in_words(kind):
    assert chosen(kind).features_note == NOTES[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_input_size_is_that_of_the_image_processor(kind):
    assert chosen(kind).input_size == SIZES.get(kind, 64)


def test_the_mean_of_patch_tokens_needs_patch_tokens():
    name = "hf/tiny/convnextv2#mean"
    with pytest.raises(
        ImgclfError, match=f"^backbone='{name}': ConvNextV2Model has no patch tokens; remove '#mean'$"
    ):
        models.architecture(folder_of("convnextv2"), name)


@pytest.mark.parametrize(
    ("kind", "size", "possible"),
    [
        (
            "dinov2",
            50,
            "takes multiples of 14 only; set input_size to 42 or 56, or 0 for that of its training",
        ),
        ("vit", 8, "takes multiples of 16 only; set input_size to 16, or 0 for that of its training"),
        ("swin", 65, "takes multiples of 4 only; set input_size to 64 or 68, or 0 for that of its training"),
        ("convnextv2", 20, "takes at least 32 pixels; set input_size to 32, or 0 for that of its training"),
    ],
)
def test_a_size_that_does_not_fit_is_rejected_with_the_nearest_ones(kind, size, possible):
    with pytest.raises(ImgclfError, match=f"^input_size={size}: hf/tiny/{kind} {possible}$"):
        chosen(kind).check_size(size)


def test_a_size_that_the_layers_cannot_divide_is_rejected(tmp_path):
    settings = {"image_size": [64, 64], "embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2]}
    processor = {"image_processor_type": "ViTImageProcessor", **HALF, "size": {"height": 64, "width": 64}}
    folder = hub_models.write_model("HieraModel", settings, processor, tmp_path / "hiera")
    hiera = models.architecture(folder, "hf/tiny/hiera")
    hiera.check_size(64)
    with pytest.raises(
        ImgclfError, match="takes no images of 72 x 72 pixels; set input_size to 64 or 96, or 0 for"
    ):
        hiera.check_size(72)
    assert hiera.train_size(56, 64) == 64


@pytest.mark.parametrize(
    ("kind", "wanted", "expected"), [("dinov2", 192, 196), ("vit", 192, 192), ("convnextv2", 190, 190)]
)
def test_training_images_have_the_nearest_possible_size(kind, wanted, expected):
    assert chosen(kind).train_size(wanted, 224) == expected


def test_stages_of_a_token_network_have_tokens_and_width():
    assert chosen("vit").stages(64) == [
        {"stage": "embedding", "blocks": 1, "tokens": 17, "width": 32},
        {"stage": "layer 1 to 3", "blocks": 3, "tokens": 17, "width": 32},
        {"stage": "features", "blocks": 1, "tokens": 1, "width": 32},
    ]
    assert [row["tokens"] for row in chosen("swin").stages(64)] == [256, 64, 64, 1]


def test_stages_of_a_convolutional_network_have_channels_and_sides():
    rows = chosen("convnextv2").stages(64)
    assert [row["channels"] for row in rows] == [8, 8, 16, 24, 32, 32]
    assert [row["side, pixels"] for row in rows] == [16, 16, 8, 4, 2, 1]
    assert [row["blocks"] for row in rows] == [1, 1, 1, 2, 1, 1]


@pytest.mark.parametrize("kind", ["clip", "siglip2"])
def test_the_part_for_texts_is_not_built(kind):
    vision = {name.partition(".")[0] for name, _ in network(kind).model.named_parameters()}
    assert vision <= {"vision_model", "visual_projection", "embeddings", "encoder", "post_layernorm", "head"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_network_cut_in_two_computes_the_same_at_each_size(kind):
    frozen_part, trainable_part = frozen.split_network(network(kind), 1)
    for side in (OTHER_SIZES.get(kind, 96), SIZES.get(kind, 64)):
        pixels = images(2, side)
        with torch.no_grad():
            found = trainable_part(frozen_part(torch.from_numpy(pixels)))
        np.testing.assert_allclose(found.numpy(), features(network(kind), pixels), atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_each_weight_is_in_one_part(kind):
    parts = network(kind).parts()
    weights = [id(weight) for part in parts for weight in part.parameters()]
    assert len(weights) == len(set(weights))
    assert set(weights) == {id(weight) for weight in network(kind).parameters()}
    assert len(parts) - 2 == {"convnextv2": 4, "swin": 2}.get(kind, 3)


def test_a_network_whose_layers_do_not_follow_each_other_is_one_part(tmp_path):
    settings = {
        "image_size": 64,
        "hidden_sizes": [8, 16, 24, 32],
        "depths": [1] * 4,
        "num_attention_heads": [1, 2, 2, 4],
    }
    processor = {"image_processor_type": "PvtImageProcessor", **HALF, "size": {"height": 64, "width": 64}}
    folder = hub_models.write_model("PvtForImageClassification", settings, processor, tmp_path / "pvt")
    pvt = models.architecture(folder, "hf/tiny/pvt")
    network = pvt.network()
    first, rest = network.parts()
    assert isinstance(first, torch.nn.Identity) and rest is network
    assert [row["stage"] for row in pvt.stages(64)] == ["features"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_onnx_computes_what_torch_computes(kind, tmp_path, capfd):
    side = OTHER_SIZES.get(kind, 96)
    exporting.export_network(network(kind), side, tmp_path / "net.onnx", metadata={})
    assert capfd.readouterr() == ("", "")
    for count in (1, 3):
        pixels = images(count, side)
        for engine in ("openvino", "onnxruntime"):
            running = engines.start(tmp_path / "net.onnx", engine=engine, precision="f32")
            found = [values for (values,) in running.run(engines.batches(pixels, engines.BATCH_SIZE))]
            expected = features(network(kind), pixels)
            np.testing.assert_allclose(np.concatenate(found), expected, atol=1e-4, rtol=0)


def changed(folder: Path, file: str = "config.json", **settings: Any) -> Path:
    """The folder of a model whose configuration has other settings than its weights."""
    path = folder / file
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    return folder


@pytest.mark.parametrize("kind", ["vit", "clip"])
def test_code_that_a_configuration_names_is_not_fetched(kind, tmp_path, monkeypatch):
    def fetch(*arguments: Any, **named: Any) -> None:
        raise AssertionError("transformers would fetch code")

    monkeypatch.setattr(hub_kernels, "is_kernels_available", lambda *_, **__: True)
    monkeypatch.setattr(hub_kernels, "get_kernel", fetch)
    named = "kernels-community/flash-attn2"
    own = {"attn_implementation": named, "_attn_implementation": named}
    nested = {"vision_config": {**ENCODER, **own}} if kind == "clip" else {}
    folder = changed(hub_models.write(kind, tmp_path / kind), **own, **nested)
    assert models.architecture(folder, f"hf/tiny/{kind}").network().features


def test_weights_of_another_width_are_rejected(tmp_path):
    folder = changed(hub_models.write("vit", tmp_path / "vit"), hidden_size=64)
    with pytest.raises(ImgclfError, match="hf/tiny/vit: its weights cannot be read"):
        models.architecture(folder, "hf/tiny/vit").network()


def test_missing_weights_are_named(tmp_path):
    folder = changed(hub_models.write("vit", tmp_path / "vit"), num_hidden_layers=4)
    with pytest.raises(ImgclfError, match=r"lack weights of ViTModel: layers\.3\..* and 13 more"):
        models.architecture(folder, "hf/tiny/vit").network()


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"model_type": "bert"}, "a model of type 'bert' gives no features of images"),
        ({"model_type": "gpt5v"}, "config.json describes no model that can be used: .*gpt5v"),
        (
            {"model_type": "own", "auto_map": {"AutoConfig": "own.Config", "AutoModel": "own.Model"}},
            "brings code of its own, which is not run",
        ),
        (
            {"architecture": "resnet50.a1_in1k", "num_classes": 5, "model_type": "timm_wrapper"},
            "needs the package timm; pip install timm",
        ),
        ({"model_type": "videomae", **ENCODER}, "VideoMAEModel cannot be used as a backbone"),
    ],
)
def test_models_that_cannot_be_used_are_rejected_with_a_sentence(tmp_path, config, reason):
    folder = hub_models.write("vit", tmp_path / "vit")
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ImgclfError, match=f"hf/tiny/other: .*{reason}"):
        models.architecture(folder, "hf/tiny/other")


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "has quantized weights; set backbone"),
        ({"image_size": [64, 96]}, "takes images of 64 x 96 pixels, which are not square; set backbone to"),
        ({"patch_size": 0}, "ViTModel cannot be used as a backbone: "),
        ({"num_attention_heads": 0}, "ViTModel cannot be used as a backbone: "),
        ({"hidden_size": 3.5}, "config.json describes no model that can be used: Validation error"),
    ],
)
def test_settings_that_no_model_can_have_are_refused_with_a_sentence(config, reason, tmp_path):
    folder = changed(hub_models.write("vit", tmp_path / "vit"), **config)
    if "image_size" in config:  # it counts where the image processor states no size
        changed(folder, "preprocessor_config.json", size={"longest_edge": 64})
    with pytest.raises(ImgclfError, match=f"^hf/tiny/vit: .*{reason}"):
        models.architecture(folder, "hf/tiny/vit")


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"rescale_factor": 0}, "states no preprocessing of images: a mean of"),
        ({"image_mean": "x"}, "states no preprocessing of images: "),
        ({"image_mean": [0.5, 0.5, float("nan")]}, "states no preprocessing of images: a mean of"),
        ({"image_std": [0.5, 0, 0.5]}, "states no preprocessing of images: a mean of"),
        ({"image_std": [0.5, -0.5, 0.5]}, "states no preprocessing of images: a mean of"),
        ({"size": {"height": "a", "width": "a"}}, "its images have a pixels, and a side has 1 to 2048; set"),
        ({"size": {"height": 64, "width": 96}}, "takes images of 64 x 96 pixels, which are not square; set"),
        ({"size": {"height": -64, "width": -64}}, "its images have -64 pixels"),
        ({"size": {"height": 10**9, "width": 10**9}}, "its images have 1000000000 pixels"),
    ],
)
def test_an_image_processor_with_impossible_numbers_is_refused_with_a_sentence(settings, reason, tmp_path):
    folder = changed(hub_models.write("vit", tmp_path / "vit"), "preprocessor_config.json", **settings)
    with pytest.raises(ImgclfError, match=f"^hf/tiny/vit: .*{reason}"):
        models.architecture(folder, "hf/tiny/vit")


def test_a_model_without_its_image_processor_is_rejected(tmp_path):
    folder = hub_models.write("vit", tmp_path / "vit")
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(ImgclfError, match="preprocessor_config.json states no preprocessing of images"):
        models.architecture(folder, "hf/tiny/vit")


def test_the_log_and_the_progress_bars_of_transformers_stay_off_and_as_they_were(capfd, caplog):
    log = transformers.utils.logging
    before = log.get_verbosity(), log.is_progress_bar_enabled()
    models.architecture(folder_of("siglip2"), "hf/tiny/siglip2").network()
    assert (log.get_verbosity(), log.is_progress_bar_enabled()) == before
    assert capfd.readouterr() == ("", "")
    assert not caplog.records
