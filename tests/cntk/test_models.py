"""Old models of both kinds: loaded, converted, used as a backbone; compared with the values CNTK computed at their creation."""

import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner

from imgclf import ImgclfError, cli, engines
from imgclf.classifier import convert, predict
from imgclf.classifier.model import Classifier
from imgclf.cntk import models, process
from imgclf.images import decoding
from imgclf.images.preprocessing import Preprocessing
from imgclf.networks import backbones

ALLOWED = 1e-3  # of the largest value


def close(found: np.ndarray, expected: np.ndarray) -> None:
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= ALLOWED * np.abs(expected).max()


def test_features_and_scores_in_cntk_are_those_of_its_creation(old):
    with models.opened(old.refined) as refined:
        features, scores = refined.outputs(old.images)
    close(features, old.values["pooling"])
    close(scores, old.values["prediction"])
    with models.opened(old.base) as base:
        features, scores = base.outputs(old.images)
    close(features, old.values["base_last_relu"].mean((2, 3)))
    close(scores, old.values["base_z"])


@pytest.mark.parametrize(("shape", "key"), [("refined", "prediction"), ("base", "base_z")])
def test_converted_model_has_the_same_scores_in_each_engine_and_batch_size(shape, key, old, tmp_path):
    convert.convert(getattr(old, shape), tmp_path / "new.onnx", old.labels(key))
    for engine in engines.ENGINES:
        for batch_size in (1, 4):
            loaded = Classifier.load(tmp_path / "new.onnx", engine=engine, batch_size=batch_size)
            close(loaded.scores(old.images)[0], old.values[key])
    assert loaded.labels == old.labels(key)


def test_converted_model_has_the_same_scores_for_a_jpeg(plain, tmp_path):
    photograph = (
        np.random.default_rng(5).integers(0, 256, (6, 8, 3), np.uint8).repeat(20, 0).repeat(20, 1)
    )  # not a square
    (tmp_path / "photograph.jpg").write_bytes(decoding.jpeg(photograph))
    convert.convert(plain.refined, tmp_path / "new.onnx", plain.labels("prediction"))
    (found,), _ = predict.predict(
        Classifier.load(tmp_path / "new.onnx", engine="onnxruntime"), [tmp_path / "photograph.jpg"]
    )
    with models.opened(plain.refined) as refined:
        close(
            found.scores[None],
            refined.outputs(Preprocessing(64).apply((tmp_path / "photograph.jpg").read_bytes())[None])[1],
        )


ALONE = """
import sys
from pathlib import Path
from imgclf.classifier.model import Classifier
from imgclf.cntk import process
process.HOME = Path("/nowhere")
print(Classifier.load(Path(sys.argv[1]), engine="onnxruntime"))
"""


def test_the_command_writes_a_classifier_that_does_not_need_cntk(plain, tmp_path):
    target = tmp_path / "fashion.onnx"
    result = CliRunner().invoke(
        cli.main, ["convert", str(plain.refined), str(target), "--labels", "dotted, leopard,striped,plain"]
    )
    assert (result.exit_code, "scores as CNTK does" in result.stdout) == (0, True)
    alone = subprocess.run([sys.executable, "-c", ALONE, target], capture_output=True, text=True, check=True)
    assert alone.stdout == "fashion.onnx: 4 labels, images of 64 x 64 pixels\n"
    again = CliRunner().invoke(cli.main, ["convert", str(plain.refined), str(target), "--labels", "a,b,c,d"])
    assert (again.exit_code, again.stderr) == (
        1,
        f"imgclf: {target}: already exists; use --replace, or another name\n",
    )


@pytest.mark.parametrize("shape", ["refined", "base"])
def test_as_a_backbone_it_has_the_same_features_in_each_engine(shape, old, tmp_path):
    chosen = backbones.choose(str(getattr(old, shape)))
    side = old.images.shape[1]
    assert chosen.input_size == side
    backbones.write(chosen, Preprocessing(side), tmp_path / "dnn_fixed.onnx")
    for engine in (*engines.ENGINES, engines.CNTK):
        ((found,),) = engines.start(
            tmp_path / "dnn_fixed.onnx", engine=engine, batch_size=len(old.images)
        ).run([old.images])
        close(
            found, old.values["pooling"] if shape == "refined" else old.values["base_last_relu"].mean((2, 3))
        )


def test_as_a_backbone_it_needs_cntk_once(plain, tmp_path, monkeypatch):
    backbones.choose(str(plain.refined))
    monkeypatch.setattr(process, "HOME", tmp_path / "nowhere")
    assert backbones.choose(str(plain.refined)).features == 16
    with pytest.raises(ImgclfError, match="CNTK is not installed .*run `make cntk`"):
        backbones.choose(str(plain.base))


def test_another_input_size_is_rejected_naming_its_own(plain, tmp_path):
    with pytest.raises(
        ImgclfError, match=r"old\.model: takes images of 64 x 64 pixels only; set input_size=64"
    ):
        backbones.write(backbones.choose(str(plain.refined)), Preprocessing(96), tmp_path / "dnn_fixed.onnx")


@pytest.mark.parametrize("content", ["truncated", b"", b"this is no model", bytes(range(256)) * 40])
def test_a_truncated_model_and_other_files_are_rejected(content, plain, tmp_path):
    path = tmp_path / "broken.model"
    path.write_bytes(plain.refined.read_bytes()[:20_000] if content == "truncated" else content)
    with pytest.raises(
        ImgclfError,
        match=r"broken\.model: cannot be read as a model for images in CNTK's format, perhaps damaged \(CNTK worker, load: ",
    ):
        convert.convert(path, tmp_path / "new.onnx", ["a"])
    assert not (tmp_path / "new.onnx").exists()
    with pytest.raises(ImgclfError, match=r"broken\.model: cannot be read"):
        backbones.choose(str(path))


def test_number_of_labels_must_be_that_of_the_classes(plain, tmp_path):
    with pytest.raises(ImgclfError, match=r"--labels: 3 were given, and old\.model has 4 classes"):
        convert.convert(plain.refined, tmp_path / "new.onnx", ["a", "b", "c"])
