"""Classifiers stored as a rest and shared weights: byte for byte, once for each network, and never if damaged."""

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from imgclf import ImgclfError, files
from imgclf.classifier import export, storage
from imgclf.classifier.model import Classifier, SelfTest
from imgclf.svm import Head
from support.classifiers import changed, trained
from support.networks import exported


@pytest.fixture
def classifier(tiny_network: Path, colour_folder: Path) -> Path:
    return trained(tiny_network, colour_folder)


@pytest.fixture
def stored(classifier: Path, tmp_path: Path) -> Path:
    """The folder of a stored classifier, with its weights in `tmp_path / "weights"`."""
    folder = tmp_path / "run"
    storage.store(classifier, folder, tmp_path / "weights")
    return folder


def restored(folder: Path) -> Path:
    path = folder.parent / "again" / "classifier.onnx"
    storage.restore(folder, folder.parent / "weights", path)
    return path


def edit(folder: Path, **changes) -> None:
    path = folder / storage.RECIPE
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_classifier_comes_back_byte_for_byte_and_passes_its_self_test(classifier, stored):
    assert restored(stored).read_bytes() == classifier.read_bytes()
    assert Classifier.load(restored(stored)).labels == ["blue", "green", "red"]
    weights = next(tensor for tensor in onnx.load(classifier).graph.initializer if tensor.name == "weights")
    (kept,) = (stored.parent / "weights").iterdir()
    assert kept.read_bytes() == weights.raw_data and kept.name == files.sha256(kept)


@pytest.mark.slow
def test_a_real_network_is_stored_once_for_two_classifiers(tmp_path):
    network = tmp_path / "dnn_fixed.onnx"
    network.write_bytes(exported())
    for seed in (1, 2):
        weights = np.random.default_rng(seed).normal(size=(3, 1280)).astype(np.float32)
        head = Head(("a", "b", "c"), weights, np.zeros(3, np.float32), True, 1.0, 1.0)
        self_test = SelfTest(np.full((3, 16, 16, 3), seed, np.uint8), np.zeros((3, 3), np.float32))
        path = tmp_path / str(seed) / "classifier.onnx"
        export.write(path, network, head, self_test, metadata={"parameters": {"seed": seed}})
        storage.store(path, tmp_path / f"run {seed}", tmp_path / "weights")
        assert restored(tmp_path / f"run {seed}").read_bytes() == path.read_bytes()
        assert (tmp_path / f"run {seed}" / storage.REST).stat().st_size < 300_000
    (kept,) = (tmp_path / "weights").iterdir()
    assert kept.stat().st_size > 0.95 * len(exported()) > 10e6


def test_equal_and_tiny_tensors_are_stored_too(classifier, tmp_path):
    def twice(model: onnx.ModelProto) -> None:
        weights = numpy_helper.to_array(model.graph.initializer[0])
        model.graph.initializer.insert(1, numpy_helper.from_array(weights, "again"))
        model.graph.initializer.append(numpy_helper.from_array(weights * 0, "zeros"))

    storage.store(changed(classifier, twice), tmp_path / "run", tmp_path / "weights")
    assert restored(tmp_path / "run").read_bytes() == classifier.read_bytes()


def test_weights_that_are_damaged_are_written_again(classifier, stored):
    (kept,) = (stored.parent / "weights").iterdir()
    kept.write_bytes(b"half")
    storage.store(classifier, stored, stored.parent / "weights")
    assert restored(stored).read_bytes() == classifier.read_bytes()


def test_weights_go_with_the_last_classifier_that_needs_them(classifier, stored, tmp_path):
    other, weights = shutil.copytree(stored, tmp_path / "other"), tmp_path / "weights"
    storage.remove_unused(weights, [stored, other])
    storage.remove_unused(weights, [other, tmp_path / "without classifier"])
    assert len(list(weights.iterdir())) == 1
    edit(other, version="1")
    storage.remove_unused(weights, [other])  # which weights it needs is unknown
    assert len(list(weights.iterdir())) == 1
    storage.remove_unused(weights, [])
    assert list(weights.iterdir()) == []


@pytest.mark.parametrize("damaged", ["rest", "weights"])
def test_other_bytes_are_noticed_and_nothing_is_written(stored, damaged):
    path = stored / storage.REST if damaged == "rest" else next((stored.parent / "weights").iterdir())
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)
    with pytest.raises(ImgclfError, match="damaged .another sha256 than stored.; this classifier is lost"):
        restored(stored)
    assert not any((stored.parent / "again").iterdir())


@pytest.mark.parametrize("missing", ["recipe", "rest", "weights"])
def test_a_missing_file_is_named(stored, missing):
    path = {"recipe": stored / storage.RECIPE, "rest": stored / storage.REST}.get(missing)
    path = path or next((stored.parent / "weights").iterdir())
    path.unlink()
    with pytest.raises(ImgclfError, match=f"{path.name}: No such file"):
        restored(stored)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"segments": [[0, 10**30]]}, "a segment is outside of the file"),
        ({"segments": [[-5, 2400]]}, "segments overlap"),
        ({"segments": [[9, 2400], [10, 2400]]}, "segments overlap"),
        ({"segments": [[9, -1]]}, "segments overlap"),
        ({"segments": [[9]]}, "damaged"),
        ({"segments": [[9, 1.5]]}, "of another type"),
        ({"segments": []}, "does not fit classifier.rest"),
        ({"bytes": 10**30}, "does not fit classifier.rest"),
        ({"weights": "../../../etc/passwd"}, "no sha256"),
        ({"weights": "/etc/passwd"}, "no sha256"),
        ({"weights": None}, "of another type"),
        ({"sha256": "0" * 64}, "another sha256 than stored"),
    ],
)
def test_a_manipulated_recipe_is_refused(stored, changes, message):
    edit(stored, **changes)
    with pytest.raises(ImgclfError, match=message):
        restored(stored)
    assert not (stored.parent / "again" / "classifier.onnx").exists()


@pytest.mark.parametrize("content", ["", "[]", "[" * 10**5, "\0"])
def test_a_recipe_that_is_no_json_object_is_refused(stored, content):
    (stored / storage.RECIPE).write_text(content)
    with pytest.raises(ImgclfError, match="damaged"):
        restored(stored)


def test_a_file_that_is_no_network_is_refused(tmp_path):
    (tmp_path / "classifier.onnx").write_text("no network")
    with pytest.raises(ImgclfError, match="no ONNX file, or damaged; run 04_train_svm again"):
        storage.store(tmp_path / "classifier.onnx", tmp_path / "run", tmp_path / "weights")


def test_weights_are_neither_written_nor_removed_behind_a_link(classifier, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / ("0" * 64)).write_text("of the user")
    (tmp_path / "weights").symlink_to(tmp_path / "mine")
    with pytest.raises(ImgclfError, match="weights: is a link to elsewhere"):
        storage.store(classifier, tmp_path / "run", tmp_path / "weights")
    with pytest.raises(ImgclfError, match="weights: is a link to elsewhere"):
        storage.remove_unused(tmp_path / "weights", [])
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["0" * 64]


def test_other_files_beside_the_weights_stay(tmp_path):
    (tmp_path / ("0" * 64)).mkdir()
    for name in ("notes.txt", "1" * 64):
        (tmp_path / name).write_text("x")
    storage.remove_unused(tmp_path, [])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0" * 64, "notes.txt"]
