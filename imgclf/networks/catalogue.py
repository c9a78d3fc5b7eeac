"""The table of the backbones that can be named: size, licence, accuracy, and speed as measured here."""

import tempfile
import time
import warnings
from collections.abc import Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from joblib import cpu_count

from imgclf import engines
from imgclf.networks.backbones import BACKBONES, Backbone, choose, exported
from imgclf.networks.hub import repository
from imgclf.networks.hub.models import HubArchitecture
from imgclf.networks.onnx_import import OnnxBackbone

if TYPE_CHECKING:
    import pandas as pd

TIMED_IMAGES, ROUNDS = 8, 3
TRACED_SIZE = 64  # pixels; a network is traced with small images, in a fraction of the time

APACHE, BSD = "Apache 2.0", "BSD 3-Clause"


@dataclass(frozen=True)
class Entry:
    """What is known of a backbone without its weights.

    Attributes
    ----------
    parameters : millions, without the last layer.
    input_size : that it was trained for, pixels.
    megabytes : to fetch; 0 : it is installed with imgclf.
    accuracy : of an SVM on its features, where it was measured (benchmarks/RESULTS.md); else empty.
    """

    name: str
    parameters: float
    features: int
    input_size: int
    megabytes: int
    licence: str
    accuracy: str = ""


def _built_in(name: str, parameters: float, megabytes: int, licence: str, accuracy: str = "") -> Entry:
    backbone = BACKBONES[name]
    return Entry(
        name, parameters, backbone.features, backbone.input_size, megabytes, licence, accuracy=accuracy
    )


ENTRIES = (
    _built_in("efficientnet_lite0", 3.4, 0, APACHE, "88.0 % (84 to 91 %)"),
    _built_in("efficientnet_lite1", 4.1, 0, APACHE, "90.3 % (87 to 93 %)"),
    _built_in("resnet18", 11.2, 47, BSD),
    _built_in("resnet34", 21.3, 87, BSD),
    _built_in("resnet50", 23.5, 103, BSD),
    _built_in("mobilenet_v3_large", 3.0, 22, BSD),
    _built_in("efficientnet_v2_s", 20.2, 87, BSD),
    _built_in("convnext_tiny", 27.8, 114, BSD),
    # Of the Hugging Face Hub; its file of a SigLIP model also has the text encoder.
    Entry("hf/facebook/dinov2-small", 22.1, 384, 224, 88, APACHE),
    Entry("hf/facebook/convnextv2-tiny-22k-224", 27.9, 768, 224, 115, APACHE),
    Entry("hf/google/vit-base-patch16-224-in21k", 86.4, 768, 224, 346, APACHE),
    Entry("hf/google/siglip2-base-patch16-224", 92.9, 768, 224, 1501, APACHE),
)


def table(milliseconds: Mapping[str, float] | None = None) -> "pd.DataFrame":
    """Return a row for each backbone that can be named.

    Accuracies are those of an SVM on the features of `clothing` (3,068 training images), of its 341 test
    images, with 95 % intervals. They are empty where nothing was measured.

    Parameters
    ----------
    milliseconds : inference time per image by name of the backbone, see `measured`; None: no such column.
        Without a time there are models of the Hub that were not fetched.
    """
    import pandas as pd

    rows = [
        {
            "backbone": entry.name,
            "parameters, millions": entry.parameters,
            "features": entry.features,
            "input size, pixels": entry.input_size,
            "to fetch": f"{entry.megabytes} MB" if entry.megabytes else "",
            "licence": entry.licence,
            **({} if milliseconds is None else {"ms per image": _time(milliseconds.get(entry.name))}),
            "accuracy on clothing": entry.accuracy,
        }
        for entry in ENTRIES
    ]
    return pd.DataFrame(rows).set_index("backbone")


def _time(milliseconds: float | None) -> str:
    return "not fetched" if milliseconds is None else f"{milliseconds:.1f}"


def measurable() -> dict[str, Backbone]:
    """Return the backbones of the table but for models of the Hub that were not fetched, by name.

    Raises
    ------
    ImgclfError : a model that is kept is damaged, or a package that it needs is missing.
    """
    of_hub = (entry.name for entry in ENTRIES if entry.name.startswith("hf/"))
    return BACKBONES | {name: choose(name) for name in of_hub if repository.is_fetched(name)}


def measured(chosen: Mapping[str, Backbone] | None = None) -> dict[str, float]:
    """Return the milliseconds per image of backbones on this machine, by name.

    Each runs in OpenVINO in f32, with random weights, at the input size that it was trained for, from
    prepared pixels to features; a model of the Hub with its own weights, as it is exported once. The time is
    that of the processor, divided by the number of cores: what an image takes while nothing else runs. The
    backbones take turns; the fastest of the rounds counts.

    Parameters
    ----------
    chosen : by name; None: those of `measurable`.

    Raises
    ------
    ImgclfError : see `measurable`.
    """
    chosen = measurable() if chosen is None else chosen
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        running = {}
        for name, backbone in chosen.items():
            if isinstance(backbone.architecture, HubArchitecture):
                path = exported(backbone, 0)
            else:
                path = _random_network(backbone, Path(folder))
            running[name] = stack.enter_context(closing(engines.start(path))), _batches(backbone)
        seconds: dict[str, list[float]] = {name: [] for name in running}
        for _ in range(ROUNDS + 1):
            for name, (engine, batches) in running.items():
                start = time.process_time()
                for _ in engine.run(batches):
                    pass
                seconds[name].append(time.process_time() - start)
    # The first round allocates memory.
    per_image = 1000 / TIMED_IMAGES / cpu_count()
    return {name: min(rounds[1:]) * per_image for name, rounds in seconds.items()}


def _batches(backbone: Backbone) -> list[np.ndarray]:
    shape = (TIMED_IMAGES, backbone.input_size, backbone.input_size, 3)
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    return list(engines.batches(images, engines.BATCH_SIZE))


def _random_network(backbone: Backbone, folder: Path) -> Path:
    """Write a backbone with random weights in OpenVINO's format, which is faster than the export to ONNX."""
    import openvino
    import torch

    assert not isinstance(backbone.architecture, OnnxBackbone)  # of a file; it has no random weights
    network = backbone.architecture.network().eval()
    traced = torch.zeros((1, TRACED_SIZE, TRACED_SIZE, 3), dtype=torch.uint8)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # padding that depends on the size stays that of the traced size
        model = openvino.convert_model(network, example_input=traced)
    model.reshape([-1, backbone.input_size, backbone.input_size, 3])
    openvino.save_model(model, folder / f"{backbone.name}.xml", compress_to_fp16=False)
    return folder / f"{backbone.name}.xml"
