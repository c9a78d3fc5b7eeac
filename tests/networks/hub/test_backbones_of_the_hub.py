"""A model of the Hub is a backbone like any other: chosen by its name, exported once, named by its commit."""

import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner

from imgclf import ImgclfError, cli, engines, files
from imgclf.experiments import notebooks
from imgclf.images.preprocessing import Preprocessing
from imgclf.networks import backbones
from imgclf.networks.hub import repository
from support import hub_models, in_process
from support.hub_server import Hub

NAME, SIDE = "hf/acme/net", 64
TIMM = {  # config.json of timm's repositories
    "architecture": "resnet18",
    "num_classes": 1000,
    "num_features": 512,
    "pretrained_cfg": {"input_size": [3, 224, 224], "mean": [0.5] * 3, "std": [0.5] * 3, "classifier": "fc"},
}


@pytest.fixture(scope="session")
def model(tmp_path_factory) -> Path:
    """The files of a small Swin transformer."""
    return hub_models.write("swin", tmp_path_factory.mktemp("hub") / "swin")


@pytest.fixture
def commit(hub: Hub, model: Path) -> str:
    """The commit of that model on the Hub."""
    return hub.publish("acme/net", model)


def metadata(network: Path) -> dict[str, object]:
    return {entry.key: json.loads(entry.value) for entry in onnx.load(network).metadata_props}


def refusal(name: str = NAME) -> str:
    with pytest.raises(ImgclfError) as caught:
        backbones.choose(name)
    return str(caught.value)


def test_commit_licence_and_size_are_known_before_the_weights_come(hub: Hub, commit):
    assert re.fullmatch(
        rf"{NAME}@{commit}: trained \w+ 64 x 64 pixels, 32 features per image.*; licence apache-2.0, "
        r"weights of 0\.\d MB",
        str(backbones.choose(NAME)),
    )
    assert hub.offsets == []


def test_an_export_names_commit_and_licence_and_later_needs_no_weights(hub: Hub, commit, tmp_path, data_dir):
    first, second = tmp_path / "first.onnx", tmp_path / "second.onnx"
    calls = []
    backbone = backbones.choose(NAME)
    backbones.write(backbone, Preprocessing(SIDE), first, progress=lambda *bytes: calls.append(bytes))
    assert metadata(first) == {
        "backbone": f"{NAME}@{commit}",
        "licence": "apache-2.0",
        "preprocessing": Preprocessing(SIDE).as_json(),
    }
    assert calls[-1][0] == calls[-1][1] > 0
    next(data_dir.rglob("model.safetensors")).unlink()
    hub.asked.clear()
    backbones.write(backbones.choose(f"{NAME}@{commit}"), Preprocessing(SIDE), second)
    assert second.read_bytes() == first.read_bytes() and hub.asked == []


def test_features_in_an_engine_are_those_of_the_torch_module(commit, tmp_path):
    backbone = backbones.choose(NAME)
    images = np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE, 3), np.uint8)
    backbones.write(backbone, Preprocessing(SIDE), tmp_path / "net.onnx")
    ((features,),) = engines.start(tmp_path / "net.onnx", engine="onnxruntime", precision="f32").run([images])
    with torch.no_grad():
        expected = backbones.build(backbone)(torch.from_numpy(images)).numpy()
    assert features.shape == (3, backbone.features)
    np.testing.assert_allclose(features, expected, atol=1e-4)


def test_exports_of_other_commits_and_features_have_other_names(hub: Hub, commit, tmp_path):
    vit = hub_models.write("vit", tmp_path / "vit")
    other = hub.publish("acme/net", vit)
    names = {
        backbones.cache_name(backbones.choose(f"{NAME}@{name}")) for name in (commit, other, f"{other}#mean")
    }
    assert names == {f"hf-acme-net-{commit}", f"hf-acme-net-{other}", f"hf-acme-net-{other}-mean"}


@pytest.mark.parametrize(
    ("config", "text"),
    [
        (
            {"model_type": "bert", "hidden_size": 32},
            f"{NAME}: a model of type 'bert' gives no features of images",
        ),
        ({"model_type": "unheard_of"}, f"{NAME}: "),
        ({"architectures": ["Net"]}, f"{NAME}: "),
        (
            TIMM,
            f"{NAME}: needs the package timm; pip install timm, with the torchvision that belongs to your",
        ),
    ],
    ids=["text", "unknown", "no type", "timm"],
)
def test_what_is_no_image_model_is_refused_before_its_weights_come(hub: Hub, model, config, text, data_dir):
    contents = {path.name: path.read_bytes() for path in model.iterdir()}
    hub.publish("acme/net", {**contents, "config.json": json.dumps(config).encode()})
    assert refusal().startswith(text) and "\n" not in refusal()
    assert hub.offsets == [] and not list(data_dir.rglob("*acme*"))


def test_a_model_that_was_there_before_stays_when_it_is_refused(hub: Hub, tmp_path):
    hub.publish("acme/net", hub_models.write("convnextv2", tmp_path / "convnextv2"))
    folder = backbones.choose(NAME).snapshot.folder
    assert "has no patch tokens; remove '#mean'" in refusal(f"{NAME}#mean")
    assert (folder / "config.json").exists()


def test_a_model_that_no_onnx_file_holds_is_refused_before_its_weights_come(hub: Hub, tmp_path, data_dir):
    folder = hub_models.write("vit", tmp_path / "vit")
    config = json.loads((folder / "config.json").read_text())
    config |= {"hidden_size": 4096, "intermediate_size": 16384, "num_hidden_layers": 3}
    (folder / "config.json").write_text(json.dumps(config))
    hub.publish("acme/net", folder)
    assert refusal() == (
        f"{NAME}: has weights of 2.4 GB, and an ONNX file holds 2 GB at most; set backbone to a smaller model"
    )
    assert hub.offsets == [] and not list(data_dir.rglob("*acme*"))


@pytest.mark.parametrize("package", ["huggingface_hub", "safetensors", "transformers"])
def test_without_the_extra_the_error_says_how_to_install_it(hub: Hub, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    assert refusal() == (
        f"{NAME}: a model of the Hugging Face Hub needs packages that are not installed; "
        "pip install 'imgclf[hub]'"
    )


def test_a_folder_copied_to_a_machine_without_a_network_is_all_it_needs(
    hub: Hub, commit, tmp_path, monkeypatch
):
    backbones.weights_file(backbones.choose(NAME))
    shutil.copytree(files.data_dir() / "networks" / "hf", tmp_path / "other" / "networks" / "hf")
    monkeypatch.setenv("IMGCLF_DATA", str(tmp_path / "other"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert isinstance(backbones.build(backbones.choose(NAME)), torch.nn.Module)


@pytest.mark.parametrize("command", ["run", "sweep"])
def test_a_command_refuses_a_wrong_name_before_a_kernel_starts(hub: Hub, colour_folder, data_dir, command):
    values = ("dataset_name=colours", f"images_dir={colour_folder}", "backbone=hf/acme/nothing")
    arguments = [word for value in values for word in ("-p", value)]
    refused = CliRunner().invoke(cli.main, [command, *arguments])
    assert refused.exit_code == 1 and isinstance(refused.exception, SystemExit)
    assert refused.stderr.startswith(
        f"imgclf: hf/acme/nothing: {hub.url} has no such model, or a private one"
    )
    assert not list(data_dir.glob("runs/*/*.ipynb"))


def test_commands_describe_the_models_of_the_hub_among_the_backbones(hub: Hub, commit):
    lines = repository.descriptions(["resnet18", NAME, NAME, "/nets/own.onnx"])
    assert len(lines) == 1
    assert re.fullmatch(rf"{NAME}@{commit}: licence apache-2.0, weights of 0\.\d MB", lines[0])
    assert hub.offsets == []


@pytest.mark.notebooks
@pytest.mark.slow
def test_notebook_02_fetches_a_model_once_and_prints_its_licence(
    hub: Hub, commit, tmp_path, data_dir, monkeypatch
):
    in_process.leave_out_what_is_shown(monkeypatch)

    def run() -> str:
        return in_process.run(
            notebooks.paths()[2], {"dataset_name": "fruit", "backbone": NAME, "input_size": SIDE}
        )

    assert f"{NAME}@{commit}: trained" in (first := run()) and "; licence apache-2.0, weights of 0." in first
    assert metadata(data_dir / "proc" / "fruit" / "dnn_fixed.onnx")["backbone"] == f"{NAME}@{commit}"
    assert len(hub.offsets) == 1
    hub.asked.clear()
    assert run() and hub.asked == []
    assert not (tmp_path / "hf_home").exists()
