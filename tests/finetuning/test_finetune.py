"""Fine-tuning is reproducible, resumes after a kill or an interrupt, and writes what the other notebooks need."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from imgclf import ImgclfError, engines, features, files
from imgclf.annotation import suspects
from imgclf.classifier import export, heads, model
from imgclf.data import dataset, scan, split
from imgclf.files import FIXED_NETWORK, REFINED_NETWORK
from imgclf.finetuning import finetune, frozen, learning_curve, loop, record, training_set
from imgclf.finetuning.learning_curve import Epoch
from imgclf.finetuning.recipe import Recipe
from imgclf.images import decoding
from imgclf.images.loading import load_all
from imgclf.images.preprocessing import Preprocessing
from imgclf.networks import backbones
from imgclf.networks.architectures import (
    LITE_STAGES,
    ConvNeXtArchitecture,
    LiteArchitecture,
    TorchArchitecture,
)
from imgclf.networks.backbones import Backbone
from support.pictures import picture, write_colours
from support.seeded_weights import seeded

KILLED = Path(__file__).parents[1] / "support" / "killed_while_finetuning.py"
LITE0 = backbones.BACKBONES["efficientnet_lite0"]
SIZE = 64
RECIPE = Recipe(epochs=2, batch_size=8)


@pytest.fixture(scope="module")
def networks(tmp_path_factory) -> Path:
    """A folder of exported networks that all tests here share."""
    return tmp_path_factory.mktemp("networks")


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Backbone:
    """The first four stages with random weights: exported in a fraction of the time, for tests that need no accuracy."""
    torch.manual_seed(0)
    architecture = LiteArchitecture(1.0, LITE_STAGES[:4])
    file = tmp_path_factory.mktemp("small") / "small.pth"
    torch.save(architecture.network().state_dict(), file)
    return Backbone("small", SIZE, architecture, file=file)


@pytest.fixture
def colours(networks, data_dir, colour_folder) -> Path:
    """The folder of the colours, scanned and split, with the pretrained network beside the split."""
    data_dir.mkdir()
    (data_dir / "networks").symlink_to(networks)
    prepare(colour_folder)
    backbones.write(LITE0, Preprocessing(SIZE), proc() / FIXED_NETWORK)
    return colour_folder


@dataclass(frozen=True)
class Finished:
    """A run on the colours with `RECIPE`.

    Attributes
    ----------
    shown : number of epochs at each call of `show`. proc : what the run wrote.
    """

    result: finetune.Result
    shown: list[int]
    proc: Path


@pytest.fixture(scope="module")
def finished(networks, tmp_path_factory) -> Finished:
    """One run that several tests look at or continue."""
    data, shown = tmp_path_factory.mktemp("finished"), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IMGCLF_DATA", str(data))
        (data / "networks").symlink_to(networks)
        folder = write_colours(data / "images" / "colours")
        prepare(folder)
        backbones.write(LITE0, Preprocessing(SIZE), proc() / FIXED_NETWORK)
        result = run(folder, show=lambda epochs: shown.append(len(epochs)))
        return Finished(result, shown, proc())


@pytest.fixture
def fine_tuned(finished, colours) -> Path:
    """The folder of the colours, with the results of that run."""
    for path in finished.proc.glob("dnn_*"):
        shutil.copy2(path, proc() / path.name)
    return colours


def proc() -> Path:
    return files.proc_dir("colours")


def prepare(folder: Path) -> split.Split:
    """Scan and split a folder, as 01 does."""
    found = scan.scan_folder("colours", folder)
    dataset.write(found)
    split.write(found, split.split(found))
    return split.read(found)


def run(
    folder: Path, settings: Recipe = RECIPE, *, backbone: Backbone = LITE0, show=lambda epochs: None
) -> finetune.Result:
    return finetune.finetune("colours", str(folder), "dnn", backbone, settings, show=show)


def described(kind: str, folder: Path) -> tuple[dataset.Dataset, split.Split, features.Features]:
    """Return what 04 has: the data set, its split, the features of the training images."""
    found = dataset.read("colours", str(folder))
    network = heads.network("colours", kind)
    cache = features.Cache.for_network("colours", network)
    features.compute(found, network, cache)
    return found, split.read(found), cache.features(split.read(found).train)


def trained(kind: str, folder: Path):
    _, parts, train = described(kind, folder)
    return heads.train(
        "colours", kind, train, parts.train, parts.clusters_of(train.images), c_values=[0.1, 1.0]
    )


def test_with_classifier_svm_nothing_is_fine_tuned_and_no_images_are_needed(data_dir):
    result = finetune.finetune("none", "", "svm", LITE0, RECIPE)
    assert (result.epochs, str(result)) == (
        (),
        "classifier='svm': the network stays as it is, nothing is fine-tuned",
    )
    assert not data_dir.exists()


def test_network_head_and_record_are_written_and_the_curve_begins_at_the_linear_probe(finished):
    result = finished.result
    assert [epoch.number for epoch in result.epochs] == [0, 1, 2]
    assert result.epochs[0].validation_error == 0
    assert finished.shown == [1, 2, 3, 3]
    assert {path.name for path in finished.proc.glob("dnn_*")} == {
        FIXED_NETWORK,
        REFINED_NETWORK,
        "dnn_head.npz",
        "dnn_refined.json",
    }
    assert not (finished.proc / finetune.FOLDER).exists()
    assert str(result).startswith("24 training images, and 3 validation images to select the best epoch\n")
    assert "NaN" not in (text := (finished.proc / "dnn_refined.json").read_text())
    assert [epoch["number"] for epoch in json.loads(text)["epochs"]] == [0, 1, 2]


def test_each_classifier_is_written_and_scores_as_its_head_does(colours):
    run(colours, replace(RECIPE, trainable_stages=0, epochs=3, average=0))
    for kind in ("dnn", "svm_dnn_refined"):
        found, parts, train = described(kind, colours)
        search, network = trained(kind, colours), heads.network("colours", kind)
        self_test = export.make_self_test(found, train.images, network, search.head)
        export.write(proc() / "classifier.onnx", network, search.head, self_test, metadata={})
        pixels = load_all([found.file(image) for image in parts.test], Preprocessing(SIZE))
        scores, _ = model.Classifier.load(proc() / "classifier.onnx").scores(pixels)
        np.testing.assert_allclose(scores, search.head.scores(features.extract(network, pixels)), atol=1e-3)
        assert (
            np.mean(
                [
                    search.head.labels[k] == image.label
                    for k, image in zip(scores.argmax(axis=1), parts.test, strict=True)
                ]
            )
            > 0.7
        )
        held_out = suspects.out_of_fold_evaluation(search, train.images, parts.cluster)
        assert set(held_out.sha256) == set(record.read(proc()).held_back)
        assert "3 validation images of fine-tuning" in heads.summary(search, train, kind)


def test_the_same_seed_reproduces_curve_and_weights_and_another_seed_does_not(finished, colours):
    first = repr(finished.result.epochs)
    assert repr(run(colours).epochs) == first
    assert (proc() / "dnn_head.npz").read_bytes() == (finished.proc / "dnn_head.npz").read_bytes()
    assert repr(run(colours, replace(RECIPE, seed=1)).epochs) != first


def test_a_killed_run_resumes_from_its_checkpoint_with_the_same_result(colours):
    settings = Recipe(epochs=3, batch_size=8)
    whole = run(colours, settings).epochs
    (proc() / "dnn_refined.json").unlink()
    arguments = [sys.executable, str(KILLED), "colours", str(colours), "3", "8"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, env=dict(os.environ)) as process:
        while process.stdout.readline().strip() != "2":  # epochs 0 and 1
            assert process.poll() is None
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    shown: list[int] = []
    assert repr(run(colours, settings, show=lambda epochs: shown.append(len(epochs))).epochs) == repr(whole)
    assert shown[0] >= 2  # epoch 1 was not trained again


def test_an_interrupted_run_keeps_the_best_epoch_so_far_and_resumes_later(colours, small):
    def stop(epochs):
        if len(epochs) == 2:
            raise KeyboardInterrupt

    result = run(colours, backbone=small, show=lambda epochs: None if record.read(proc()) else stop(epochs))
    assert [epoch.number for epoch in result.epochs] == [0, 1]
    assert "interrupted after 1 of 2 epochs; the best so far is kept" in str(result)
    assert trained("dnn", colours).head.labels == ("blue", "green", "red")
    assert [epoch.number for epoch in run(colours, backbone=small).epochs] == [0, 1, 2]


def test_too_little_gpu_memory_is_explained_and_training_resumes_later(colours, small):
    def full(epochs):
        if len(epochs) == 2:
            raise torch.cuda.OutOfMemoryError(
                "CUDA out of memory"
            )  # as torch raises it; there is no GPU here to fill

    with pytest.raises(ImgclfError, match="batch_size=8, input_size=64: the memory of the GPU is too small"):
        run(colours, backbone=small, show=full)
    shown: list[int] = []
    assert (
        len(run(colours, backbone=small, show=lambda epochs: shown.append(len(epochs))).epochs) == 3
        and shown[0] == 2
    )


def test_the_same_images_and_hyperparameters_are_not_fine_tuned_again(fine_tuned):
    before = (proc() / REFINED_NETWORK).stat().st_mtime_ns
    run(fine_tuned)
    assert (proc() / REFINED_NETWORK).stat().st_mtime_ns == before
    (fine_tuned / "red" / "00.jpg").rename(fine_tuned / "blue" / "red00.jpg")
    prepare(fine_tuned)
    run(fine_tuned)
    assert (proc() / REFINED_NETWORK).stat().st_mtime_ns != before


def test_with_a_damaged_checkpoint_training_starts_anew(colours, small):
    (proc() / finetune.FOLDER).mkdir()
    (proc() / finetune.FOLDER / finetune.CHECKPOINT).write_bytes(b"PK\x03\x04 half a file")
    assert len(run(colours, backbone=small).epochs) == 3


def test_another_split_than_that_of_the_fine_tuning_is_refused(fine_tuned):
    (fine_tuned / "red" / "03.jpg").rename(fine_tuned / "blue" / "red03.jpg")
    prepare(fine_tuned)
    with pytest.raises(
        ImgclfError,
        match="was fine-tuned on other images or labels than split.tsv names now.*; run 02_refine_dnn again",
    ):
        trained("dnn", fine_tuned)


def test_a_missing_or_replaced_network_is_refused(colours):
    with pytest.raises(
        ImgclfError, match="no dnn_refined.onnx of colours yet; run 02_refine_dnn with classifier='dnn' first"
    ):
        heads.network("colours", "dnn")
    (proc() / REFINED_NETWORK).write_bytes((proc() / FIXED_NETWORK).read_bytes())
    with pytest.raises(ImgclfError, match="not as 02_refine_dnn wrote it; run 02_refine_dnn again"):
        trained("dnn", colours)


def test_the_whole_network_can_be_trained(colours, small):
    assert len(run(colours, replace(RECIPE, epochs=1, trainable_stages="all"), backbone=small).epochs) == 2


@pytest.mark.parametrize(
    "changes",
    [
        {
            "optimizer": "sgd",
            "learning_rate": (0.001, 0.0001, 0.00001),
            "balance": True,
            "max_train_images": 10,
            "augment": False,
        },
        {"epochs": 0},
    ],
)
def test_each_hyperparameter_can_be_changed(changes, colours, small):
    settings = replace(RECIPE, epochs=1, trainable_stages=0)
    result = run(colours, replace(settings, **changes), backbone=small)
    assert len(result.epochs) == changes.get("epochs", 1) + 1
    assert ("learning_rate has 3 numbers for 1 epochs; the last 2 are not used" in str(result)) == (
        "optimizer" in changes
    )


def test_more_stages_than_there_are_is_refused(colours):
    with pytest.raises(
        ImgclfError, match="trainable_stages=8: this backbone has 7; give a number from 0 to 7, or all"
    ):
        run(colours, replace(RECIPE, trainable_stages=8))


def test_training_images_of_one_label_are_refused(colours):
    found = dataset.read("colours", str(colours))
    reds = [image for image in found.images if image.label == "red"]
    with pytest.raises(
        ImgclfError, match="all training images have the label 'red'; a classifier needs at least two labels"
    ):
        training_set.prepare(
            found,
            reds,
            [image.sha256 for image in reds],
            preprocessing=Preprocessing(SIZE),
            folder=proc(),
            seed=0,
        )


def test_a_label_with_one_image_is_trained_on_and_has_no_validation_image(colours, small):
    for path in sorted((colours / "red").iterdir())[1:]:
        path.unlink()
    prepare(colours)
    result = run(colours, backbone=small)
    labels = {image.sha256: image.label for image in dataset.read("colours", str(colours)).images}
    assert {labels[sha256] for sha256 in record.read(proc()).held_back} == {"blue", "green"}
    assert len(result.epochs) == 3


def test_an_unreadable_image_is_left_out_and_reported(colours, small):
    path = split.read(dataset.read("colours", str(colours))).train[0].path
    (colours / path).write_bytes(decoding.jpeg(picture((9, 9, 9), 5)))
    result = run(colours, backbone=small)
    assert f"1 images could not be read; {Path(path).name}: has changed since 01_prepare_data" in str(result)
    assert str(result).startswith("23 training images, and ")


def shallow(name: str) -> TorchArchitecture:
    """The architecture with one block a stage and, of ConvNeXt, few channels."""
    architecture = backbones.BACKBONES[name].architecture
    if isinstance(architecture, ConvNeXtArchitecture):
        return ConvNeXtArchitecture((1, 1, 1, 1), (8, 16, 32, 64))
    return replace(architecture, stage_blocks=tuple(blocks[:1] for blocks in architecture.stage_blocks[:4]))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["convnext_tiny", "efficientnet_v2_s", "mobilenet_v3_large"])
def test_networks_of_torchvision_are_fine_tuned(name, data_dir, colour_folder, tmp_path):
    shapes = {key: tuple(value.shape) for key, value in shallow(name).network().state_dict().items()}
    torch.save(seeded(shapes), tmp_path / "own.pth")
    own = Backbone(name, SIZE, shallow(name), file=tmp_path / "own.pth")
    prepare(colour_folder)
    backbones.write(own, Preprocessing(SIZE), proc() / FIXED_NETWORK)
    result = run(colour_folder, replace(RECIPE, trainable_stages=2, learning_rate=(0.003,)), backbone=own)
    assert [epoch.number for epoch in result.epochs] == [0, 1, 2]
    assert result.epochs[2].loss < result.epochs[1].loss
    pixels = np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 3), dtype=np.uint8)
    fixed, refined = (features.extract(proc() / each, pixels) for each in (FIXED_NETWORK, REFINED_NETWORK))
    assert fixed.shape == refined.shape == (3, own.features)
    is_kept = learning_curve.best(result.epochs).number == 0  # the start had the smallest validation loss
    assert np.allclose(fixed, refined, atol=1e-3 * np.abs(fixed).max()) == is_kept


@pytest.mark.parametrize("name", ["convnext_tiny", "efficientnet_v2_s", "mobilenet_v3_large"])
def test_depthwise_convolutions_are_frozen_before_batch_normalizations_alone(name):
    network = shallow(name).network()
    frozen.freeze(torch.nn.Sequential(network), also_depthwise=True)
    fixed = [key for key, weight in network.named_parameters() if not weight.requires_grad]
    depthwise = [
        key for key, weight in network.named_parameters() if weight.ndim == 4 and weight.shape[1] == 1
    ]
    assert fixed == ([] if name == "convnext_tiny" else depthwise) and depthwise


def test_layer_scales_have_no_weight_decay():
    network = shallow("convnext_tiny").network()
    decaying, others = (group["params"] for group in loop._optimizer(network, RECIPE).param_groups)
    names = {id(weight): name for name, weight in network.named_parameters()}
    assert {names[id(weight)].rpartition(".")[2] for weight in decaying} == {"weight"}
    assert {id(block.layer_scale) for block in network.modules() if hasattr(block, "layer_scale")} <= set(
        map(id, others)
    )


def test_frozen_and_trainable_part_together_compute_what_the_network_computes():
    network = backbones.build(LITE0)
    pixels = torch.randint(0, 256, (2, SIZE, SIZE, 3), dtype=torch.uint8)
    with torch.no_grad():
        for stages in (0, 3, 7, "all"):
            frozen_part, trainable_part = frozen.split_network(network, stages)
            torch.testing.assert_close(trainable_part(frozen_part(pixels)), network(pixels))
    assert len(network.parts()) == 9


@pytest.mark.slow
def test_the_written_network_agrees_with_torch_to_a_thousandth(tmp_path):
    network = backbones.build(LITE0)
    with torch.no_grad():
        for weights in frozen.split_network(network, 2)[1].parameters():
            weights += 0.01 * torch.randn(weights.shape, generator=torch.Generator().manual_seed(0))
    pixels = np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 3), dtype=np.uint8)
    frozen.export(LITE0, network, Preprocessing(SIZE), tmp_path / "refined.onnx")
    expected = network(torch.from_numpy(pixels)).detach().numpy()
    for engine in engines.ENGINES:
        np.testing.assert_allclose(
            features.extract(tmp_path / "refined.onnx", pixels, engine=engine),
            expected,
            atol=1e-3 * np.abs(expected).max(),
        )


def test_the_validation_split_is_a_tenth_of_each_label_in_whole_clusters():
    targets = np.repeat([0, 1, 2], [100, 40, 1])
    clusters = [f"c{row // 2}" for row in range(140)] + ["alone"]
    chosen = training_set.validation_split(targets, clusters, seed=0)
    assert [int(chosen[targets == k].sum()) for k in range(3)] == [10, 4, 0]
    assert (chosen[:140:2] == chosen[1:140:2]).all()
    assert (chosen != training_set.validation_split(targets, clusters, seed=1)).any()


def test_a_cluster_with_two_labels_is_never_in_the_validation_split():
    targets, clusters = np.array([0, 1] * 20), [f"pair{row // 2}" for row in range(40)]
    assert not training_set.validation_split(targets, clusters, seed=0).any()


def training_set_of(counts: list[int]) -> training_set.TrainingSet:
    """Return a training set with so many images of each label, and no validation images."""
    targets = np.repeat(range(len(counts)), counts)
    return training_set.TrainingSet(
        training_set.Pixels(Path(), 0),
        (),
        tuple(map(str, range(len(counts)))),
        targets,
        np.zeros(len(targets), bool),
    )


def test_an_epoch_has_each_image_once_in_an_order_of_its_own():
    first, second = (training_set.epoch_rows(training_set_of([5, 15]), Recipe(), epoch) for epoch in (1, 2))
    assert sorted(first) == sorted(second) == list(range(20))
    assert first != second


def test_balance_oversamples_rare_labels_and_max_train_images_limits_an_epoch():
    rows = training_set.epoch_rows(training_set_of([5, 15]), Recipe(balance=True), 1)
    assert sum(row < 5 for row in rows) == 15 == len(rows) / 2
    assert len(training_set.epoch_rows(training_set_of([5, 15]), Recipe(max_train_images=7), 1)) == 7


def test_the_best_epoch_has_the_smallest_validation_loss_or_is_the_last_without_validation_images():
    epochs = [Epoch(0, 0, 0, 0.1, 0.5), Epoch(1, 0, 0, 0.2, 0.3), Epoch(2, 0, 0, 0.2, 0.4)]
    assert learning_curve.best(epochs).number == 1
    assert learning_curve.best([replace(epoch, validation_loss=float("nan")) for epoch in epochs]).number == 2


@pytest.mark.parametrize(
    ("train_error", "errors", "losses", "words"),
    [
        (0.2, (0.3, 0.22), (0.9, 0.9), "^Underfitting: the training error ends at 20%, not near zero"),
        (
            0.0,
            (0.3, 0.2),
            (0.9, 0.9),
            "^Overfitting: the validation error is 20% above the training error, a wide gap",
        ),
        (
            0.0,
            (0.1, 0.05),
            (0.9, 0.5),
            "^No plateau yet: the validation loss was still falling at the end .0.90, then 0.50.. More epochs may help",
        ),
        (
            0.0,
            (0.05, 0.05),
            (0.2, 0.2),
            "the validation loss has reached a plateau: the settings suit these images",
        ),
    ],
)
def test_a_learning_curve_is_diagnosed_as_underfitting_overfitting_or_not_converged(
    train_error, errors, losses, words
):
    epochs = [
        Epoch(0, 0, 0, 0.5, 1),
        *(
            Epoch(i, 0.1, train_error, *both)
            for i, both in enumerate(zip(errors, losses, strict=True), start=1)
        ),
    ]
    (sentence,) = learning_curve.diagnose(epochs, Recipe(), validation_images=500)
    assert re.search(words, sentence)


def test_it_is_reported_if_no_epoch_was_better_than_the_start():
    (*_, sentence) = learning_curve.diagnose(
        [Epoch(0, 0, 0, 0.1, 0.1), Epoch(1, 0.1, 0, 0.1, 0.2)], Recipe(), validation_images=500
    )
    assert sentence.startswith("No epoch was better than the start, so the network is left as it was")
