"""ONNX files of other tools (tests/samples/foreign_onnx): the features are those of the tool's own framework."""

from pathlib import Path

import numpy as np
import pytest

from imgclf import engines
from imgclf.features import extract
from imgclf.images.preprocessing import Preprocessing
from imgclf.networks import backbones

SAMPLES = Path(__file__).parents[1] / "samples" / "foreign_onnx"
IMAGENET = "pixels are normalized by mean and standard deviation of ImageNet, as its metadata have none"
SIGNED = "pixels are scaled to -1 to 1, as MobileNet of Keras and Teachable Machine take them"
NORMALIZATIONS = {
    "custom_vision_2018": "it takes pixels from 0 to 255, as its metadata say, channel order BGR",
    "custom_vision": "pixels are scaled to 0 to 1, as those of Azure Custom Vision",
    "pytorch_opset11": IMAGENET,
    "keras_mobilenetv2": SIGNED,
    "teachable_machine": SIGNED,
}


@pytest.mark.parametrize("name", NORMALIZATIONS)
def test_features_are_those_of_the_tool_that_wrote_the_file(name, tmp_path):
    chosen = backbones.choose(str(SAMPLES / f"{name}.onnx"))
    assert "(input of its last dense layer)" in str(chosen)
    assert f"; {NORMALIZATIONS[name]}" in str(chosen)
    stored = np.load(SAMPLES / f"{name}.npz")
    side = chosen.architecture.fixed_size
    enlargement = side // stored["images"].shape[1]
    images = stored["images"].repeat(enlargement, axis=1).repeat(enlargement, axis=2)
    backbones.write(chosen, Preprocessing(side), tmp_path / "dnn_fixed.onnx")
    for engine in engines.ENGINES:
        found = extract(tmp_path / "dnn_fixed.onnx", images, engine=engine)
        tolerance = 1e-4 * np.abs(stored["features"]).max()
        np.testing.assert_allclose(found, stored["features"], rtol=0, atol=tolerance)
