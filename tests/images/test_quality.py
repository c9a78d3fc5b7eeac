import cv2
import numpy as np
import pytest

from imgclf.images import decoding, quality

BLOCKS = np.random.default_rng(0).integers(40, 220, (30, 40, 3)).astype(np.uint8)
SHARP = cv2.resize(BLOCKS, (400, 300), interpolation=cv2.INTER_NEAREST)


def measured(pixels):
    return quality.measure(quality.small_grey(pixels))


def test_shadows_and_highlights_are_the_grey_levels_at_both_ends():
    ramp = np.arange(256, dtype=np.uint8)[None, :, None].repeat(200, 0).repeat(3, 2)
    found = measured(ramp)
    assert 1 <= found.shadows <= 3 and 252 <= found.highlights <= 254


@pytest.mark.parametrize(
    "change",
    [
        lambda pixels: (pixels * 0.4).astype(np.uint8),
        lambda pixels: cv2.copyMakeBorder(pixels, 40, 40, 40, 40, cv2.BORDER_CONSTANT, value=(128,) * 3),
        lambda pixels: cv2.resize(pixels, None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC),
    ],
    ids=["darker", "with a plain frame", "four times the size"],
)
def test_sharpness_does_not_depend_on_exposure_plain_areas_or_size(change):
    assert 0.6 < measured(change(SHARP)).sharpness / measured(SHARP).sharpness < 1.4


def test_sharpness_falls_with_blur():
    found = [measured(cv2.GaussianBlur(SHARP, (0, 0), sigma)).sharpness for sigma in (0.5, 1, 2, 4)]
    assert sorted(found, reverse=True) == found and found[-1] < found[0] / 4


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 3000, 3), (700, 2, 3), (64, 64, 3)])
def test_a_picture_of_one_colour_and_any_shape_has_no_sharpness(shape):
    assert measured(np.full(shape, 90, np.uint8)) == quality.Quality(90, 90, 0.0)


def test_noise_in_a_flat_picture_is_no_edge_of_a_sharp_one():
    noise = np.random.default_rng(0).normal(128, 1, (300, 400, 3)).astype(np.uint8)
    assert measured(decoding.decode(decoding.jpeg(noise))).sharpness < measured(SHARP).sharpness
