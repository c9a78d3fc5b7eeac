"""The normalization of pixels of foreign ONNX files: from metadata, the graph, or the files beside it."""

import json

import numpy as np
import onnx
import pytest

from imgclf import ImgclfError
from imgclf.networks import backbones
from support.onnx_files import BODY, DENSE, SIDE, close, expected, features, made, noise

PROCESSOR = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.25, 0.5, 1.0]}
OWN = (np.array(PROCESSOR["image_mean"]), np.array(PROCESSOR["image_std"]))


def with_metadata(path, **metadata):
    model = onnx.load(path)
    onnx.helper.set_model_props(model, {f"Image.{key}": value for key, value in metadata.items()})
    onnx.save(model, path)
    return path


@pytest.mark.parametrize(
    ("pixel_range", "mean", "deviation"),
    [
        ("NominalRange_0_255", 0, 1 / 255),
        ("Normalized_0_1", 0, 1),
        ("Normalized_1_1", 0.5, 0.5),
        ("NominalRange_16_235", -16 / 219, 1 / 219),
    ],
)
@pytest.mark.parametrize("pixel_format", ["Rgb8", "Bgr8"])
def test_the_metadata_of_the_onnx_standard_are_read(pixel_range, mean, deviation, pixel_format, tmp_path):
    path = made(tmp_path / "net.onnx", *BODY, *DENSE)
    with_metadata(path, NominalPixelRange=pixel_range, BitmapPixelFormat=pixel_format)
    images = noise(2)[..., ::-1] if pixel_format == "Bgr8" else noise(2)
    close(features(path, noise(2)), expected(images, mean, deviation))
    assert ("channel order BGR" in str(backbones.choose(str(path)))) == (pixel_format == "Bgr8")


@pytest.mark.parametrize("folder", [".", "onnx"])
def test_the_image_processor_of_transformers_beside_a_file_is_read(folder, tmp_path):
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    (tmp_path / folder).mkdir(exist_ok=True)
    path = made(tmp_path / folder / "model.onnx", *BODY, *DENSE)
    close(features(path, noise(2)), expected(noise(2), *OWN))


@pytest.mark.parametrize(
    ("settings", "mean", "deviation"),
    [
        ({"do_normalize": False}, 0, 1),
        ({"do_rescale": False, "do_normalize": False}, 0, 1 / 255),
        ({"rescale_factor": 1 / 127.5, "image_mean": [1, 1, 1], "image_std": [1, 1, 1]}, 0.5, 0.5),
        ({"rescale_factor": 1 / 127.5, "rescale_offset": True, "do_normalize": False}, 0.5, 0.5),
        ({"rescale_offset": True, "do_rescale": False, "do_normalize": False}, 0, 1 / 255),
        ({"rescale_offset": True}, OWN[0] + 1, OWN[1]),
        ({"include_top": True}, OWN[0], OWN[1] ** 2),
        ({"include_top": True, "do_normalize": False}, 0, OWN[1]),
        ({"do_normalize": None, "do_rescale": None, "rescale_factor": None}, *OWN),
    ],
)
def test_rescaling_of_an_image_processor_is_followed(settings, mean, deviation, tmp_path):
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(PROCESSOR | settings))
    path = made(tmp_path / "model.onnx", *BODY, *DENSE)
    close(features(path, noise(2)), expected(noise(2), mean, deviation))


@pytest.mark.parametrize(
    ("settings", "mean", "deviation"),
    [
        ({}, [0, 0, 0], [1, 1, 1]),
        ({"do_normalize": None}, [0, 0, 0], [1, 1, 1]),
        ({"do_normalize": True, **PROCESSOR}, *PROCESSOR.values()),
    ],
)
def test_an_image_processor_that_flips_the_channels_makes_bgr(settings, mean, deviation, tmp_path):
    settings = {"do_flip_channel_order": True, **settings}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
    path = made(tmp_path / "model.onnx", *BODY, *DENSE)
    close(features(path, noise(2)), expected(noise(2)[..., ::-1], mean[::-1], deviation[::-1]))
    assert str(backbones.choose(str(path))).endswith(" of preprocessor_config.json, channel order BGR")


def test_the_note_on_pixels_that_are_only_rescaled_does_not_name_image_mean(tmp_path):
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"do_normalize": False}))
    path = made(tmp_path / "model.onnx", *BODY, *DENSE)
    assert str(backbones.choose(str(path))).endswith(
        "pixels are scaled by rescale_factor of preprocessor_config.json"
    )


@pytest.mark.parametrize(
    "content",
    ["{", "[]", "{}", '{"image_mean": [0, 0], "image_std": [1, 1]}', '{"image_mean": 0, "image_std": 1}'],
)
def test_an_invalid_image_processor_is_rejected(content, tmp_path):
    (tmp_path / "preprocessor_config.json").write_text(content)
    path = made(tmp_path / "model.onnx", *BODY, *DENSE)
    with pytest.raises(
        ImgclfError,
        match=r"preprocessor_config\.json: its image_mean and image_std must both be lists of three numbers, red, green, blue, the second above 0; correct them, or move the file away",
    ):
        backbones.choose(str(path))


def test_metadata_are_preferred_to_the_image_processor(tmp_path):
    (tmp_path / "preprocessor_config.json").write_text("{")
    path = made(
        tmp_path / "net.onnx", *BODY, *DENSE, pixel_mean="[0.5, 0.4, 0.3]", pixel_std="[0.25, 0.5, 1.0]"
    )
    close(features(path, noise(2)), expected(noise(2), *OWN))


def test_only_the_order_of_channels_may_be_in_the_metadata(tmp_path):
    path = made(tmp_path / "net.onnx", *BODY, *DENSE, pixel_order='"BGR"')
    images = noise(2)
    mean, deviation = (np.array(v)[::-1] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    close(features(path, images), expected(images[..., ::-1], mean, deviation))


def test_axes_without_any_length_are_images_with_channels_first(tmp_path):
    path = made(tmp_path / "net.onnx", *BODY, *DENSE, shape=("batch", "num_channels", "height", "width"))
    assert "takes any input size" in str(backbones.choose(str(path)))
    close(features(path, noise(2, SIDE)), expected(noise(2, SIDE)))
