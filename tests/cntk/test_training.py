"""Fine-tuning in CNTK: the loss decreases, frozen weights stay, and written files compute what CNTK computed."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from scipy.special import log_softmax

from imgclf import ImgclfError, engines, features, files, svm
from imgclf.classifier import export, heads, model
from imgclf.cntk import WorkerProcess, translation
from imgclf.data import dataset, scan, split
from imgclf.files import FIXED_NETWORK, REFINED_NETWORK
from imgclf.finetuning import finetune, record
from imgclf.finetuning.cntk_loop import MODEL
from imgclf.finetuning.recipe import Recipe
from imgclf.images.loading import load_all
from imgclf.images.preprocessing import Preprocessing
from imgclf.networks import backbones
from support.cntk import evaluate_model, noise

SIDE = 32
LAST, WHOLE = (
    Recipe(
        epochs=12, batch_size=8, dropout=0.0, learning_rate=(0.05,), trainable_stages=stages, augment=False
    )
    for stages in (0, "all")
)
WHOLE = replace(WHOLE, epochs=3, learning_rate=(0.002,))
STATISTICS = ("mean", "variance")


def small_network(path: Path, *, is_colour_blind: bool = False) -> Path:
    """A network for images of 32 x 32 pixels: a convolution of random weights, batch normalization, 8 features."""
    random = np.random.default_rng(0)
    arrays = {
        "kernel": random.normal(size=(8, 3, 5, 5)) / 100,
        "scale": random.uniform(0.5, 1.5, 8),
        "bias": random.normal(size=8) / 10,
        "mean": random.normal(size=8),
        "variance": random.uniform(20, 40, 8),
    }
    if is_colour_blind:
        arrays["kernel"][:] = arrays["kernel"].mean(axis=1, keepdims=True)
    nodes = [
        helper.make_node("Cast", ["images"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "kernel"], ["maps"], strides=[2, 2]),
        helper.make_node("BatchNormalization", ["maps", "scale", "bias", "mean", "variance"], ["normal"]),
        helper.make_node("Relu", ["normal"], ["positive"]),
        helper.make_node("ReduceMean", ["positive", "axes"], ["features"], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", SIDE, SIDE, 3])],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", 8])],
        [
            *(numpy_helper.from_array(value.astype(np.float32), name) for name, value in arrays.items()),
            numpy_helper.from_array(np.array([2, 3]), "axes"),
        ],
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path


@pytest.fixture
def colours(colour_folder: Path) -> Path:
    """The colours, scanned and split, with the network in their folder."""
    found = scan.scan_folder("colours", colour_folder)
    dataset.write(found)
    split.write(found, split.split(found))
    small_network(proc() / FIXED_NETWORK)
    return colour_folder


def proc() -> Path:
    return files.proc_dir("colours")


def run(folder: Path, settings: Recipe, *, show=lambda epochs: None) -> finetune.Result:
    return finetune.finetune(
        "colours", str(folder), "dnn", backbones.BACKBONES["resnet18"], settings, engine="cntk", show=show
    )


def weights(name: str) -> dict[str, np.ndarray]:
    return {
        tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(proc() / name).graph.initializer
    }


def scores_written(pixels: np.ndarray) -> np.ndarray:
    """The scores of the fine-tuned network in ONNX, with its last layer."""
    return svm.read(proc() / "dnn_head.npz").scores(
        features.extract(proc() / REFINED_NETWORK, pixels, engine="onnxruntime")
    )


def scores_in_cntk(pixels: np.ndarray) -> np.ndarray:
    return evaluate_model(proc() / MODEL, pixels)


def close(found: np.ndarray, expected: np.ndarray) -> None:
    assert np.abs(found - expected).max() <= 1e-3 * np.abs(expected).max()


def test_only_the_last_layer_is_trained_with_trainable_stages_0(colours, capsys):
    result = run(colours, LAST)
    assert result.epochs[1].train_error > result.epochs[-1].train_error == 0
    before, after = weights(FIXED_NETWORK), weights(REFINED_NETWORK)
    assert all((before[name] == after[name]).all() for name in before)
    close(scores_written(noise(4, SIDE)), scores_in_cntk(noise(4, SIDE)))
    assert "CNTK trains on " in capsys.readouterr().out


def test_all_weights_are_trained_and_batch_statistics_are_frozen(colours):
    small_network(
        proc() / FIXED_NETWORK, is_colour_blind=True
    )  # else the last layer alone is perfect from the start, and no later epoch is the best
    result = run(colours, replace(WHOLE, epochs=10, learning_rate=(0.01,)))
    assert result.epochs[-1].loss < result.epochs[1].loss
    before, after = weights(FIXED_NETWORK), weights(REFINED_NETWORK)
    assert {name for name in before if (before[name] != after[name]).any()} == {"kernel", "scale", "bias"}
    close(scores_written(noise(4, SIDE)), scores_in_cntk(noise(4, SIDE)))


def test_the_result_becomes_a_classifier_in_each_engine(colours):
    run(colours, LAST)
    found, network = dataset.read("colours", str(colours)), heads.network("colours", "dnn")
    parts, cache = split.read(found), features.Cache.for_network("colours", network)
    features.compute(found, network, cache)
    search = heads.train(
        "colours",
        "dnn",
        cache.features(parts.train),
        parts.train,
        parts.clusters_of(parts.train),
        c_values=[1.0],
    )
    self_test = export.make_self_test(found, parts.train, network, search.head)
    export.write(proc() / "classifier.onnx", network, search.head, self_test, metadata={})
    for engine in (*engines.ENGINES, engines.CNTK):
        loaded = model.Classifier.load(proc() / "classifier.onnx", engine=engine)
        pixels = load_all([found.file(image) for image in parts.test], Preprocessing(SIDE))
        assert [loaded.labels[k] for k in loaded.scores(pixels)[0].argmax(1)] == [
            image.label for image in parts.test
        ]


@pytest.mark.parametrize("settings", [LAST, WHOLE], ids=["last layer", "whole network"])
def test_interrupted_training_resumes_to_the_same_result(settings, colours):
    settings = replace(settings, epochs=3)
    whole, head = run(colours, settings).epochs, (proc() / "dnn_head.npz").read_bytes()
    (proc() / "dnn_refined.json").unlink()

    def interrupt(epochs):
        if len(epochs) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(colours, settings, show=interrupt)
    assert record.read(proc()).was_interrupted
    again = run(colours, settings).epochs
    np.testing.assert_allclose([epoch.loss for epoch in again], [epoch.loss for epoch in whole], rtol=1e-4)
    assert len(head) == len((proc() / "dnn_head.npz").read_bytes())


def test_single_stages_are_rejected_with_what_to_do(colours):
    with pytest.raises(
        ImgclfError,
        match=r"trainable_stages=3: engine='cntk' trains the new last layer alone \(0\) or the whole network \(all\)",
    ):
        run(colours, replace(LAST, trainable_stages=3))


def test_a_diverging_loss_is_reported(colours):
    with pytest.raises(
        ImgclfError,
        match=r"learning_rate=\[1e\+30\]: the training diverges, the loss of epoch 1 is not finite",
    ):
        run(colours, replace(WHOLE, optimizer="sgd", learning_rate=(1e30,)))


@pytest.fixture
def started(cntk, tmp_path):
    """A function that starts training of the whole small network, without dropout."""
    network = translation.translate(onnx.load(small_network(tmp_path / "small.onnx")), "small")
    head = {
        "head.weights": np.random.default_rng(1).normal(size=(8, 3)).astype(np.float32),
        "head.offsets": np.zeros(3, np.float32),
    }

    def start(**settings) -> tuple[WorkerProcess, translation.NetworkSpec, dict[str, np.ndarray]]:
        network.build(cntk, name="small", trainable=("kernel", "scale", "bias"))
        cntk.request(
            "start_training",
            head,
            dropout=0.0,
            seed=1,
            momentum=0.9,
            decayed=["kernel", "head.weights"],
            **settings,
        )
        return cntk, network, head

    return start


def test_the_training_loss_is_that_of_inference_with_the_same_weights(started):
    cntk, *_ = started(optimizer="sgd", weight_decay=0.0)
    images, truth = noise(6, SIDE), np.array([0, 1, 2, 0, 1, 2])
    scores = cntk.request("run", {"images": images})[1]["0"]
    reply, _ = cntk.request("train_step", {"images": images, "labels": truth}, rate=0.0)
    assert reply["loss"] == pytest.approx(-log_softmax(scores, axis=1)[np.arange(6), truth].mean(), rel=1e-5)
    assert reply["errors"] == (scores.argmax(1) != truth).sum()
    for _ in range(3):
        cntk.request("train_step", {"images": images, "labels": truth}, rate=0.01)
    scores = cntk.request("run", {"images": images})[1][
        "0"
    ]  # CNTK's own batch normalization would have drifted by now
    assert cntk.request("train_step", {"images": images, "labels": truth}, rate=0.0)[0][
        "loss"
    ] == pytest.approx(-log_softmax(scores, axis=1)[np.arange(6), truth].mean(), rel=1e-5)


@pytest.mark.parametrize(
    ("optimizer", "rate", "decay", "allowed"), [("sgd", 0.01, 0.01, 1e-4), ("adamw", 0.002, 0.05, 1e-3)]
)
def test_five_steps_agree_with_torch(optimizer, rate, decay, allowed, started):
    cntk, network, head = started(optimizer=optimizer, weight_decay=decay)
    values = {
        name: torch.from_numpy(np.array(value)).requires_grad_(name not in STATISTICS)
        for name, value in {**network.weights, **head}.items()
        if name != "axes"
    }
    decaying = [values[name] for name in ("kernel", "head.weights")]
    groups = [
        {"params": decaying, "weight_decay": decay},
        {"params": [values[name] for name in ("scale", "bias", "head.offsets")], "weight_decay": 0.0},
    ]
    torch_optimizer = (
        torch.optim.SGD(groups, lr=rate, momentum=0.9)
        if optimizer == "sgd"
        else torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.999))
    )
    for k in range(5):
        images, truth = noise(6 + k, SIDE), np.arange(6 + k) % 3
        reply, _ = cntk.request("train_step", {"images": images, "labels": truth}, rate=rate)
        maps = torch.conv2d(torch.from_numpy(images).permute(0, 3, 1, 2).float(), values["kernel"], stride=2)
        maps = torch.nn.functional.batch_norm(
            maps, values["mean"], values["variance"], values["scale"], values["bias"]
        )
        scores = maps.relu().mean((2, 3)) @ values["head.weights"] + values["head.offsets"]
        loss = torch.nn.functional.cross_entropy(scores, torch.from_numpy(truth))
        torch_optimizer.zero_grad()
        loss.backward()
        torch_optimizer.step()
        assert reply["loss"] == pytest.approx(loss.item(), rel=1e-3)
    found = cntk.request("get_weights")[1]
    for name, value in found.items():
        expected = values[name].detach().numpy()
        assert np.abs(value.reshape(expected.shape) - expected).max() <= allowed * np.abs(expected).max(), (
            name
        )
