"""Fine-tuning of models of the Hub: their last layers are trained, at a size that they take, and it resumes."""

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from imgclf import ImgclfError, features, files
from imgclf.classifier import export, heads, model
from imgclf.data import dataset, scan, split
from imgclf.files import FIXED_NETWORK
from imgclf.finetuning import finetune, frozen, loop, record, training_set
from imgclf.finetuning.recipe import ALL, Recipe
from imgclf.images.loading import load_all
from imgclf.images.preprocessing import Preprocessing
from imgclf.networks import backbones
from imgclf.networks.backbones import Backbone
from imgclf.networks.hub import encoder
from support import hub_models
from support.pictures import write_colours

RECIPE = Recipe(epochs=2, batch_size=8, trainable_stages=1)


@pytest.fixture(scope="module")
def dinov2(tmp_path_factory) -> Backbone:
    return hub_models.backbone("dinov2", tmp_path_factory.mktemp("hub"))


@pytest.fixture(scope="module")
def networks(tmp_path_factory) -> Path:
    """A folder of exported networks that all tests here share."""
    return tmp_path_factory.mktemp("networks")


@pytest.fixture
def colours(networks, data_dir, colour_folder, dinov2) -> Path:
    """The folder of the colours, scanned and split, with the pretrained network beside the split."""
    data_dir.mkdir()
    (data_dir / "networks").symlink_to(networks)
    prepare(colour_folder, dinov2)
    return colour_folder


def prepare(folder: Path, backbone: Backbone) -> None:
    found = scan.scan_folder("colours", folder)
    dataset.write(found)
    split.write(found, split.split(found))
    backbones.write(backbone, Preprocessing(backbone.input_size), proc() / FIXED_NETWORK)


def proc() -> Path:
    return files.proc_dir("colours")


def run(
    folder: Path, backbone: Backbone, settings: Recipe = RECIPE, *, show=lambda epochs: None
) -> finetune.Result:
    return finetune.finetune("colours", str(folder), "dnn", backbone, settings, show=show)


def decoded(folder: Path, size: int) -> tuple[dataset.Dataset, training_set.TrainingSet]:
    found = dataset.read("colours", str(folder))
    train = split.read(found).train
    examples, _ = training_set.prepare(
        found,
        train,
        [image.sha256 for image in train],
        preprocessing=Preprocessing(size),
        folder=proc() / finetune.FOLDER,
        seed=0,
    )
    return found, examples


@pytest.mark.slow
def test_only_the_last_layer_is_trained_and_the_result_in_onnx_is_that_of_torch(colours, dinov2):
    found, examples = decoded(colours, 56)
    network = backbones.build(dinov2)
    before = {name: weight.detach().clone() for name, weight in network.named_parameters()}
    probe = finetune.linear_probe(found, examples, 0)
    training = finetune._prepare_training(network, dinov2, examples, RECIPE, probe)
    training.start()
    assert training.train_size == 42
    assert np.isfinite(training.train_epoch(lambda done, total: None).loss)
    training.finish()
    changed = {name for name, weight in network.named_parameters() if not torch.equal(weight, before[name])}
    trained = {name for name in before if ".layer.2." in name or name.startswith("model.layernorm")}
    assert changed == trained
    frozen.export(dinov2, network, Preprocessing(56), proc() / "trained.onnx")
    pixels = examples.pixels.batch(range(3))
    with torch.no_grad():
        expected = network(torch.from_numpy(pixels)).numpy()
    np.testing.assert_allclose(features.extract(proc() / "trained.onnx", pixels), expected, atol=1e-4, rtol=0)


@pytest.mark.slow
def test_an_interrupted_run_resumes_with_the_result_of_an_undisturbed_one(colours, dinov2):
    whole = repr(run(colours, dinov2).epochs)
    (proc() / record.RECORD).unlink()

    def stop(epochs):
        if len(epochs) == 2:
            raise KeyboardInterrupt

    with_stop = run(colours, dinov2, show=lambda epochs: None if record.read(proc()) else stop(epochs))
    assert "interrupted after 1 of 2 epochs" in str(with_stop)
    assert repr(run(colours, dinov2).epochs) == whole


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["swin", "convnextv2"])
def test_both_classifiers_of_a_fine_tuned_network_score_as_their_heads_do(kind, data_dir, tmp_path, networks):
    data_dir.mkdir()
    (data_dir / "networks").symlink_to(networks)
    backbone, folder = hub_models.backbone(kind, tmp_path), write_colours(tmp_path / "colours")
    prepare(folder, backbone)
    run(folder, backbone)
    for classifier in ("dnn", "svm_dnn_refined"):
        found = dataset.read("colours", str(folder))
        network = heads.network("colours", classifier)
        cache = features.Cache.for_network("colours", network)
        features.compute(found, network, cache)
        parts = split.read(found)
        train = cache.features(parts.train)
        clusters = parts.clusters_of(train.images)
        search = heads.train("colours", classifier, train, parts.train, clusters, c_values=[1.0])
        self_test = export.make_self_test(found, train.images, network, search.head)
        export.write(proc() / "classifier.onnx", network, search.head, self_test, metadata={})
        pixels = load_all([found.file(image) for image in parts.test], Preprocessing(64))
        scores, _ = model.Classifier.load(proc() / "classifier.onnx").scores(pixels)
        np.testing.assert_allclose(scores, search.head.scores(features.extract(network, pixels)), atol=1e-3)


@pytest.mark.parametrize("trainable_stages", [0, 1, ALL])
@pytest.mark.parametrize("kind", ["vit", "swin", "convnextv2"])
def test_all_of_a_network_is_on_the_device_of_the_training(kind, trainable_stages, tmp_path, monkeypatch):
    monkeypatch.setattr(frozen, "default_device", lambda: "meta")  # a device that each computer has
    monkeypatch.setattr(frozen, "mixed_precision", lambda device: nullcontext())
    monkeypatch.setattr(encoder, "_compute_the_same", lambda *arguments: True)  # "meta" has no values
    monkeypatch.setattr(finetune, "Training", lambda model, *_, **others: (model, others["validation_maps"]))
    backbone = hub_models.backbone(kind, tmp_path)
    examples = SimpleNamespace(
        labels=["a", "b"],
        pixels=SimpleNamespace(side=64, batch=lambda rows: np.zeros((len(rows), 64, 64, 3), np.uint8)),
        validation_rows=np.arange(2),
    )
    probe = SimpleNamespace(
        weights=np.zeros((2, backbone.features), np.float32), offsets=np.zeros(2, np.float32)
    )
    model, (maps,) = finetune._prepare_training(
        backbones.build(backbone), backbone, examples, Recipe(trainable_stages=trainable_stages), probe
    )
    assert model.to("meta")(maps).shape == (2, 2)


def test_the_averaged_model_shares_the_frozen_weights(tmp_path):
    network = backbones.build(hub_models.backbone("vit", tmp_path))
    frozen_part, trainable_part = frozen.split_network(network, 1)
    examples = training_set.TrainingSet(None, (), ("a", "b"), np.zeros(2, int), np.zeros(2, bool))
    training = loop.Training(
        torch.nn.Sequential(*trainable_part, torch.nn.Dropout(), torch.nn.Linear(32, 2)),
        examples,
        RECIPE,
        frozen_part=lambda batches: iter(()),
        train_size=64,
        validation_maps=(),
        device="cpu",
        frozen_weights=frozen_part.parameters(),
    )
    copied = training.average[0].calls.encoder
    own = dict(network.named_parameters())
    shared = {id(weight) for name, weight in copied.named_parameters() if weight is own[name]}
    assert shared == {id(weight) for weight in frozen_part.parameters()}
    assert training.average[0].layer is copied.model.layers[2]


@pytest.mark.parametrize("kind", ["vit", "swin"])
def test_all_layers_can_be_trained(kind, tmp_path):
    backbone = hub_models.backbone(kind, tmp_path)
    network = backbones.build(backbone)
    parts = frozen.split_network(network, ALL)[1]
    pixels = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    parts(pixels).sum().backward()
    without = {name for name, weight in network.named_parameters() if weight.grad is None}
    assert all("mask_token" in name or name.startswith("model.pooler") for name in without)


def test_more_layers_than_there_are_is_refused(tmp_path):
    network = backbones.build(hub_models.backbone("vit", tmp_path))
    with pytest.raises(
        ImgclfError, match="trainable_stages=4: this backbone has 3; give a number from 0 to 3, or all"
    ):
        frozen.split_network(network, 4)
