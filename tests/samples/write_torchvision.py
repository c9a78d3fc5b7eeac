"""Write `torchvision.npz`: layers and features of torchvision's own networks, with weights of `seeded_weights`.

`PYTHONPATH=tests python tests/samples/write_torchvision.py FOLDER`, where FOLDER holds the unpacked wheel of torchvision
(0.29.1 wrote the sample). Its compiled operators, which do not load beside torch's CPU build, are not imported.
"""

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from support.networks import noise
from support.seeded_weights import seeded

MODULES = {
    "mobilenet_v3_large": "mobilenetv3",
    "efficientnet_v2_s": "efficientnet",
    "convnext_tiny": "convnext",
    "resnet50": "resnet",
}
SIDE = 75  # odd, so that padding matters
MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


def package(name: str, folder: Path) -> ModuleType:
    """A package whose modules can be imported while its own `__init__` is not run."""
    module = ModuleType(name)
    module.__path__ = [str(folder)]
    sys.modules[name] = module
    return module


def main(folder: Path) -> None:
    root = folder / "torchvision"
    for name in ("torchvision", "torchvision.ops", "torchvision.models", "torchvision.transforms"):
        package(name, root.joinpath(*name.split(".")[1:]))
    presets = ModuleType("torchvision.transforms._presets")
    presets.ImageClassification = object
    presets.InterpolationMode = type("InterpolationMode", (), {"BILINEAR": "bilinear", "BICUBIC": "bicubic"})
    sys.modules[presets.__name__] = presets
    depth = importlib.import_module("torchvision.ops.stochastic_depth")
    sys.modules["torchvision.ops"].StochasticDepth = depth.StochasticDepth
    samples = {}
    for name, module in MODULES.items():
        network = getattr(importlib.import_module(f"torchvision.models.{module}"), name)().eval()
        shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
        network.load_state_dict(seeded(shapes))
        samples[f"{name} shapes"] = np.frombuffer(json.dumps(shapes).encode(), np.uint8)
        samples[f"{name} features"] = features(network)
        samples[f"{name} parameters"] = np.array(sum(each.numel() for each in network.parameters()))
    np.savez_compressed(Path(__file__).with_name("torchvision.npz"), **samples)


def features(network: torch.nn.Module) -> np.ndarray:
    """What the last dense layer sees; of MobileNetV3 what its first dense layer sees."""
    seen = []
    dense = next(layer for layer in network.modules() if isinstance(layer, torch.nn.Linear))
    if hasattr(network, "classifier") and len(network.classifier) == 3:  # ConvNeXt has dense layers throughout
        dense = network.classifier[-1]
    dense.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].numpy()))
    images = torch.from_numpy(noise(1, SIDE)).float() / 255
    with torch.no_grad():
        network(((images - MEAN) / STD).permute(0, 3, 1, 2))
    return seen[0]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
