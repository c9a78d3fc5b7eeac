"""Data augmentation changes the framing, light and left-right orientation of an image, and nothing else."""

import numpy as np
import pytest

from imgclf.finetuning import augment
from imgclf.finetuning.augment import View
from support.pictures import picture


def square(side: int = 40, *, seed: int = 0) -> np.ndarray:
    return picture((120, 90, 60), seed, width=side, height=side)


def test_the_same_seed_draws_the_same_view_and_another_seed_another():
    assert augment.draw(1, 2, 3) == augment.draw(1, 2, 3)
    assert len({augment.draw(0, epoch, row) for epoch in range(5) for row in range(5)}) == 25


def test_drawn_views_stay_within_the_tutorials_ranges_and_half_are_flipped():
    drawn = [augment.draw(0, i) for i in range(400)]
    assert all(0.9 <= view.crop <= 1 and 0 <= view.left <= 1 and 0 <= view.top <= 1 for view in drawn)
    assert all(
        abs(change) <= 0.2 for view in drawn for change in (view.brightness, view.contrast, view.saturation)
    )
    assert 0.4 < np.mean([view.is_mirrored for view in drawn]) < 0.6


def test_the_default_view_returns_the_same_pixels():
    np.testing.assert_array_equal(augment.apply(square(), View(), 40), square())


def test_a_flipped_view_swaps_left_and_right():
    np.testing.assert_array_equal(augment.apply(square(), View(is_mirrored=True), 40), square()[:, ::-1])


def test_a_crop_keeps_the_part_at_its_position():
    found = augment.apply(square(), View(crop=0.5, left=1, top=0), 20)
    np.testing.assert_array_equal(found, square()[:20, 20:])


@pytest.mark.parametrize("size", [16, 40, 64])
def test_the_result_has_the_given_size(size):
    found = augment.apply(square(), augment.draw(7), size)
    assert (found.shape, found.dtype) == ((size, size, 3), np.uint8)


def test_brightness_adds_a_share_of_the_mean():
    flat = np.full((8, 8, 3), 100, np.uint8)
    assert (augment.apply(flat, View(brightness=0.2), 8) == 120).all()
    assert (augment.apply(np.full((8, 8, 3), 240, np.uint8), View(brightness=0.2), 8) == 255).all()


def test_contrast_moves_away_from_the_mean():
    two = np.repeat(np.array([80, 120], np.uint8), 32).reshape(8, 8, 1).repeat(3, 2)
    assert np.unique(augment.apply(two, View(contrast=0.2), 8)).tolist() == [76, 124]


def test_saturation_leaves_grey_unchanged_and_strengthens_colour():
    grey = np.full((4, 4, 3), 90, np.uint8)
    np.testing.assert_array_equal(augment.apply(grey, View(saturation=0.2), 4), grey)
    red = np.zeros((4, 4, 3), np.uint8) + np.array([200, 50, 50], np.uint8)
    changed = augment.apply(red, View(saturation=0.2), 4)[0, 0].astype(int)
    assert changed[0] - changed[1] == pytest.approx(1.2 * 150, abs=2)
