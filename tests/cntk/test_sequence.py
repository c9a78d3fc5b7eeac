"""The whole sequence, headless, in CNTK."""

import json

import numpy as np
import onnx
import pytest

from imgclf import files
from imgclf.classifier.model import Classifier
from imgclf.experiments import sequence


@pytest.mark.parametrize(
    "more",
    [{}, {"classifier": "dnn", "trainable_stages": "0", "epochs": 3, "learning_rate": [0.01]}],
    ids=["svm", "dnn"],
)
def test_the_sequence_runs_through_with_an_old_model_in_cntk(more, plain, colour_folder):
    sequence.run(
        {
            "dataset_name": "colours",
            "images_dir": str(colour_folder),
            "engine": "cntk",
            "backbone": str(plain.refined),
            "input_size": 64,
            **more,
        },
        start_from="01",
    )
    proc = files.proc_dir("colours")
    figures = json.loads((proc / "evaluation.json").read_text())
    assert figures
    assert (proc / ("cntk_refined.model" if more else "cntk_fixed.model")).stat().st_size > 10_000
    images = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8)
    found, expected = (
        Classifier.load(proc / "classifier.onnx", engine=engine).scores(images)[0]
        for engine in ("cntk", "onnxruntime")
    )
    assert np.abs(found - expected).max() <= 1e-3 * np.abs(expected).max()
    assert (
        json.loads(
            next(p.value for p in onnx.load(proc / "classifier.onnx").metadata_props if p.key == "backbone")
        )
        == "old.model"
    )
