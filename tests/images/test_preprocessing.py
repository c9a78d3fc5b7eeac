"""Preprocessing: what its settings do, and that they are stored and read back."""

import numpy as np
import pytest

from imgclf import ImgclfError
from imgclf.images import preprocessing
from imgclf.images.preprocessing import Preprocessing
from support.pictures import encoded

WIDE = np.full((10, 40, 3), 250, np.uint8)


def test_padding_has_the_padding_colour_and_the_image_is_centred():
    square = Preprocessing(40, (1, 2, 3)).letterbox(WIDE)
    assert (square[15:25] == 250).all()
    assert (square[:15] == (1, 2, 3)).all() and (square[25:] == (1, 2, 3)).all()


def test_the_default_padding_is_grey_114():
    assert (Preprocessing(40).letterbox(WIDE)[0] == 114).all()


def test_an_odd_pixel_of_padding_goes_below():
    assert [row for row in range(41) if (Preprocessing(41).letterbox(WIDE)[row] > 200).all()] == list(
        range(15, 25)
    )


def test_apply_decodes_and_letterboxes():
    settings = Preprocessing(20, (9, 9, 9))
    assert (settings.apply(encoded(WIDE, "PNG")) == settings.letterbox(WIDE)).all()


def test_settings_are_read_back_from_json():
    settings = Preprocessing(240, (0, 128, 255))
    assert preprocessing.from_json(settings.as_json(), "net.onnx") == settings
    assert str(settings) == "images of 240 x 240 pixels"


@pytest.mark.parametrize(
    "stored",
    [
        None,
        [],
        "240",
        {},
        {"input_size": 240},
        {"input_size": 240, "padding_colour": [0, 0]},
        {"input_size": 240, "padding_colour": [0, 0, 256]},
        {"input_size": 0, "padding_colour": [0, 0, 0]},
        {"input_size": "240", "padding_colour": [0, 0, 0]},
        {"input_size": 240, "padding_colour": [0, 0, 0], "crop": "centre"},
    ],
    ids=str,
)
def test_settings_that_are_not_understood_are_refused(stored):
    with pytest.raises(ImgclfError, match="net.onnx: its metadata 'preprocessing' is not understood"):
        preprocessing.from_json(stored, "net.onnx")
