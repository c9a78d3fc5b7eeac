"""Classifiers that are trained in a moment, and changed ones."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from imgclf import features, svm
from imgclf.classifier import export
from imgclf.data import dataset, scan
from imgclf.images.preprocessing import Preprocessing
from support.pictures import COLOURS, picture

SIZE = 32


def trained(
    network: Path,
    folder: Path,
    *,
    names: dict[str, str] | None = None,
    l2_normalize: bool = True,
    temperature: float = 0,
    **about: Any,
) -> Path:
    """Train on the label folders of `folder` and write classifier.onnx and svm.npz beside the network."""
    found = scan.scan_folder("colours", folder)
    labels = np.array([(names or {}).get(image.label, image.label) for image in found.images])
    matrix = features.of_pixels(network, prepared(found))
    alone = np.arange(len(labels)).astype(str)
    head = svm.train(matrix, labels, alone, c_values=[1.0], l2_normalize=l2_normalize).head
    head = replace(head, temperature=temperature or head.temperature)
    svm.write(head, network.with_name("svm.npz"))
    self_test = export.make_self_test(found, found.images, network, head)
    export.write(network.with_name("classifier.onnx"), network, head, self_test, metadata=about)
    return network.with_name("classifier.onnx")


def prepared(found: dataset.Dataset) -> np.ndarray:
    return np.stack([Preprocessing(SIZE).apply(found.file(image).read_bytes()) for image in found.images])


def pixels(count: int = 7) -> np.ndarray:
    return np.stack([Preprocessing(SIZE).letterbox(picture(COLOURS["green"], seed=i)) for i in range(count)])


def changed(path: Path, change) -> Path:
    """The same model after `change(model)`."""
    model = onnx.load(path)
    change(model)
    onnx.save(model, path)
    return path


def self_test_with(**other: Any):
    """A change of a model that puts these values into its self-test."""

    def change(model: onnx.ModelProto) -> None:
        entry = next(entry for entry in model.metadata_props if entry.key == "self_test")
        entry.value = json.dumps({**json.loads(entry.value), **other})

    return change
