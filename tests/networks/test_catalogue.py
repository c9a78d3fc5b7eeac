"""The table of backbones agrees with the networks, and measures their speed without weights."""

import pytest
import torch
from click.testing import CliRunner

from imgclf import cli, files
from imgclf.networks import catalogue
from imgclf.networks.architectures import LITE_STAGES, ConvNeXtArchitecture, LiteArchitecture
from imgclf.networks.backbones import BACKBONES, Backbone
from support import hub_models

COMMIT = "0" * 40

SMALL = {
    "large maps": Backbone("lite", 128, LiteArchitecture(1.0, LITE_STAGES[:2])),
    "small maps": Backbone("lite", 32, LiteArchitecture(1.0, LITE_STAGES[:2])),
    "own channels": Backbone("convnext", 64, ConvNeXtArchitecture((1, 1, 1, 1), (8, 16, 32, 64))),
}


def test_every_backbone_is_listed():
    assert [entry.name for entry in catalogue.ENTRIES if not entry.name.startswith("hf/")] == list(BACKBONES)


@pytest.mark.parametrize("entry", [e for e in catalogue.ENTRIES if e.name in BACKBONES], ids=str)
def test_parameters_are_those_of_the_network(entry):
    with torch.device("meta"):
        network = BACKBONES[entry.name].architecture.network()
    assert round(sum(each.numel() for each in network.parameters()) / 1e6, 1) == entry.parameters


@pytest.mark.parametrize("entry", [e for e in catalogue.ENTRIES if e.name in BACKBONES], ids=str)
def test_only_what_is_not_installed_is_fetched(entry):
    """A file of weights in float32 has 4 bytes a parameter, with those of the last layers."""
    assert bool(entry.megabytes) == bool(BACKBONES[entry.name].url)
    if entry.megabytes:
        classes = 1000 * entry.features * 4 / 1e6
        assert 4 * entry.parameters + classes - 1 < entry.megabytes < 4 * entry.parameters + 2 * classes + 3


def test_speed_is_measured_without_weights_and_a_larger_input_takes_longer():
    found = catalogue.measured(SMALL)
    assert list(found) == list(SMALL)
    assert found["large maps"] > 2 * found["small maps"] > 0


def publish(data_dir, name, *, with_weights):
    """Write a model of the Hub into the data folder, as a run keeps it."""
    home = data_dir / "networks" / "hf" / name.removeprefix("hf/")
    hub_models.write("dinov2", home / COMMIT)
    names = ("config.json", "preprocessor_config.json", "model.safetensors")
    kept = {file: {"size": 1, "digest": files.sha256(home / COMMIT / file)} for file in names}
    files.write_json(home / COMMIT / "snapshot.json", {"licence": "mit", "files": kept})
    files.write_json(home / "revisions.json", {"main": COMMIT})
    if not with_weights:
        (home / COMMIT / "model.safetensors").unlink()


def test_a_model_of_the_hub_is_measured_if_it_was_fetched_before(data_dir, monkeypatch):
    publish(data_dir, "hf/facebook/dinov2-small", with_weights=True)
    publish(data_dir, "hf/google/vit-base-patch16-224-in21k", with_weights=False)
    monkeypatch.setattr(catalogue, "BACKBONES", {})
    found = catalogue.measured()
    assert list(found) == ["hf/facebook/dinov2-small"] and found["hf/facebook/dinov2-small"] > 0
    times = catalogue.table(found)["ms per image"]
    assert float(times["hf/facebook/dinov2-small"]) > 0
    assert times["hf/google/vit-base-patch16-224-in21k"] == "not fetched"


def test_the_command_lists_features_licences_and_measured_accuracies():
    result = CliRunner().invoke(cli.main, ["backbones"])
    lines = {line.split()[0]: line for line in result.output.splitlines()}
    assert lines.keys() >= {*BACKBONES, "hf/facebook/dinov2-small"}
    assert "4.1" in lines["efficientnet_lite1"] and "90.3 % (87 to 93 %)" in lines["efficientnet_lite1"]
    assert "87 MB" in lines["efficientnet_v2_s"] and "BSD 3-Clause" in lines["efficientnet_v2_s"]
    assert "ms per image" not in result.output


def test_the_command_measures_on_request(monkeypatch):
    monkeypatch.setattr(catalogue, "measured", lambda: {"resnet18": 12.34})
    lines = CliRunner().invoke(cli.main, ["backbones", "--measure"]).output.splitlines()
    assert "ms per image" in lines[0]
    assert " 12.3 " in next(line for line in lines if line.lstrip().startswith("resnet18"))
