"""Tiny models of the Hugging Face Hub: the true layouts and file formats, random weights."""

import json
from pathlib import Path
from typing import Any

from imgclf.networks.backbones import Backbone
from imgclf.networks.hub import models
from imgclf.networks.hub.repository import Snapshot

KINDS = ("dinov2", "siglip2", "clip", "vit", "convnextv2", "swin")

IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
HALF = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
CLIP = {
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}
ENCODER = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "image_size": 64,
    "patch_size": 16,
}
TEXT = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "vocab_size": 64,
    "max_position_embeddings": 16,
    "bos_token_id": 1,
    "eos_token_id": 2,
}

# Class of the checkpoint and settings of its configuration, as the published models have them. DINOv2 was
# trained at 518 pixels and is used at 224; here 112 and 56.
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "dinov2": ("Dinov2Model", {**ENCODER, "image_size": 112, "patch_size": 14}),
    "siglip2": ("SiglipModel", {"vision_config": ENCODER, "text_config": TEXT}),
    "clip": ("CLIPModel", {"vision_config": ENCODER, "text_config": TEXT, "projection_dim": 24}),
    "vit": ("ViTForImageClassification", {**ENCODER, "num_labels": 5}),
    "convnextv2": (
        "ConvNextV2ForImageClassification",
        {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 2, 1], "num_labels": 5},
    ),
    "swin": (
        "SwinForImageClassification",
        {
            "image_size": 64,
            "patch_size": 4,
            "embed_dim": 16,
            "depths": [1, 2],
            "num_heads": [2, 2],
            "window_size": 4,
            "num_labels": 5,
        },
    ),
}

# preprocessor_config.json of the published models, but for the side.
PROCESSORS: dict[str, dict[str, Any]] = {
    "dinov2": {
        "image_processor_type": "BitImageProcessor",
        **IMAGENET,
        "size": {"shortest_edge": 64},
        "crop_size": {"height": 56, "width": 56},
        "do_center_crop": True,
        "do_convert_rgb": True,
    },
    "siglip2": {
        "image_processor_type": "SiglipImageProcessor",
        **HALF,
        "size": {"height": 64, "width": 64},
        "do_convert_rgb": None,
    },
    "clip": {"feature_extractor_type": "CLIPFeatureExtractor", **CLIP, "size": 64, "crop_size": 64},
    "vit": {"image_processor_type": "ViTImageProcessor", **HALF, "size": {"height": 64, "width": 64}},
    "convnextv2": {
        "image_processor_type": "ConvNextImageProcessor",
        **IMAGENET,
        "size": {"shortest_edge": 64},
        "crop_pct": 0.875,
    },
    "swin": {"image_processor_type": "ViTImageProcessor", **IMAGENET, "size": {"height": 64, "width": 64}},
}


def write(kind: str, folder: Path) -> Path:
    """Write a model of one of `KINDS` into `folder`, as the Hub has it; return the folder.

    It has `config.json`, `preprocessor_config.json` and `model.safetensors`, under 500 kB in all.
    """
    class_name, settings = MODELS[kind]
    return write_model(class_name, settings, PROCESSORS[kind], folder)


def backbone(kind: str, folder: Path) -> Backbone:
    """Write a model of one of `KINDS` below `folder`; return it as a backbone whose weights are there."""
    name = f"hf/tiny/{kind}"
    architecture = models.architecture(write(kind, folder / kind), name)
    snapshot = Snapshot(f"tiny/{kind}", "0" * 40, "mit", {}, folder / kind)
    return Backbone(name, architecture.input_size, architecture, snapshot=snapshot)


def write_model(class_name: str, settings: dict[str, Any], processor: dict[str, Any], folder: Path) -> Path:
    """Write a model of a class of transformers with random weights, seed 0, and its image processor."""
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    model_class = getattr(transformers, class_name)
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        model = model_class(model_class.config_class(**settings)).eval()
        _randomize(model)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    common = {
        "do_resize": True,
        "do_normalize": True,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "resample": 3,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps({**common, **processor}, indent=2))
    return folder


def _randomize(model: object) -> None:
    """Set weights that start at 0 or 1, such as position embeddings, layer scales and biases, to other values."""
    import torch

    with torch.no_grad():
        for weight in model.parameters():  # type: ignore[attr-defined]
            if weight.numel() > 1:
                weight.add_(torch.randn_like(weight) * 0.1)
        for name, buffer in model.named_buffers():  # type: ignore[attr-defined]
            if name.endswith("running_mean"):
                buffer.normal_(0, 0.1)
            elif name.endswith("running_var"):
                buffer.uniform_(0.5, 1.5)
