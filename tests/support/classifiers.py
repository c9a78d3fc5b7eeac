"""Classifiers that are trained in a moment, and modified ones."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from imgclf import features, files, svm
from imgclf.classifier import export, familiarity, heads
from imgclf.data import dataset, scan, split
from imgclf.features import inference
from imgclf.finetuning import record
from imgclf.finetuning.learning_curve import Epoch
from imgclf.finetuning.record import Record
from imgclf.images.preprocessing import Preprocessing
from support.networks import write_tiny_network
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
    """Train an SVM on the label folders of `folder`; write the files of 04 beside the network."""
    found = scan.scan_folder("colours", folder)
    labels = np.array([(names or {}).get(image.label, image.label) for image in found.images])
    matrix = features.extract(network, prepared(found))
    alone = np.arange(len(labels)).astype(str)
    search = svm.train(matrix, labels, alone, c_values=[1.0], l2_normalize=l2_normalize)
    head = replace(search.head, temperature=temperature or search.head.temperature)
    compared, _ = familiarity.fit(replace(search, head=head), matrix, labels, alone, rate=0.1)
    svm.write(head, network.with_name(files.SVM_HEAD))
    familiarity.write(compared, network.with_name(files.FAMILIARITY))
    self_test = export.make_self_test(found, found.images, network, head, familiarity=compared)
    path = network.with_name(files.CLASSIFIER)
    export.write(path, network, head, self_test, familiarity=compared, metadata=about)
    return path


def trained_as(kind: str, folder: Path, *, precision: str = "f32") -> Path:
    """Train the classifier of the colours as 02 to 04 do, with small networks; return its classifier.onnx.

    Parameters
    ----------
    kind : the value of the parameter `classifier`. The network that stands for the fine-tuned one has other
        weights than the pretrained one, and other features.
    folder : the label folders.
    """
    proc = files.proc_dir("colours")
    proc.mkdir(parents=True)
    found = scan.scan_folder("colours", folder)
    dataset.write(found)
    split.write(found, split.split(found))
    parts = split.read(found)
    write_tiny_network(proc / files.FIXED_NETWORK)
    changed(write_tiny_network(proc / files.REFINED_NETWORK), _with_larger_weights)
    _write_record(found, parts.train)
    network = inference.prepare(found, heads.network("colours", kind), precision=precision).network
    cache = features.Cache.for_network("colours", network, precision=precision)
    features.compute(found, network, cache, precision=precision)
    train = cache.features(parts.train)
    clusters = parts.clusters_of(train.images)
    search = heads.train("colours", kind, train, parts.train, clusters, c_values=[1.0])
    head = search.head
    compared, _ = familiarity.fit(search, train.matrix, train.labels, clusters, rate=0.1)
    svm.write(head, proc / files.SVM_HEAD)
    familiarity.write(compared, proc / files.FAMILIARITY)
    self_test = export.make_self_test(
        found, train.images, network, head, familiarity=compared, precision=precision
    )
    about = {"parameters": {"classifier": kind}}
    export.write(proc / files.CLASSIFIER, network, head, self_test, familiarity=compared, metadata=about)
    return proc / files.CLASSIFIER


def _with_larger_weights(model: onnx.ModelProto) -> None:
    weights = next(tensor for tensor in model.graph.initializer if tensor.name == "weights")
    weights.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weights) * np.float32(1.5), "weights"))


def _write_record(found: dataset.Dataset, images: Sequence[dataset.Image]) -> None:
    """Write the record and the last layer of a fine-tuning that held out every fourth image."""
    network = files.proc_dir(found.name) / files.REFINED_NETWORK
    pixels = np.stack([Preprocessing(SIZE).apply(found.file(image).read_bytes()) for image in images])
    matrix = features.extract(network, pixels)
    labels = np.array([image.label for image in images])
    head = svm.train(matrix, labels, np.arange(len(images)), c_values=[0.1], l2_normalize=False).head
    finished = Record(
        "",
        dataset.fingerprint(images),
        files.sha256(network),
        tuple(image.sha256 for image in images[::4]),
        (Epoch(0, 0.0, 0.0, 0.0, 0.0),),
        {},
    )
    record.write(network.parent, head, finished)


def prepared(found: dataset.Dataset) -> np.ndarray:
    """Return the preprocessed pixels of all images of a data set."""
    return np.stack([Preprocessing(SIZE).apply(found.file(image).read_bytes()) for image in found.images])


def pixels(count: int = 7) -> np.ndarray:
    return np.stack([Preprocessing(SIZE).letterbox(picture(COLOURS["green"], seed=i)) for i in range(count)])


def changed(path: Path, change) -> Path:
    """Apply `change(model)` to an ONNX file; return its path."""
    model = onnx.load(path)
    change(model)
    onnx.save(model, path)
    return path


def self_test_with(**other: Any):
    """Return a change for `changed` that sets values of the self-test."""

    def change(model: onnx.ModelProto) -> None:
        entry = next(entry for entry in model.metadata_props if entry.key == "self_test")
        entry.value = json.dumps({**json.loads(entry.value), **other})

    return change
