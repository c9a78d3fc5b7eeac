"""Previews for notebook 02 show what the network sees, and nothing where there is no image."""

import numpy as np
import pytest

from imgclf.data import dataset as datasets
from imgclf.data import scan, split
from imgclf.finetuning import augment, previews
from imgclf.finetuning.augment import View
from imgclf.finetuning.recipe import Recipe
from imgclf.images import decoding
from imgclf.images.preprocessing import PADDING_GREY
from support import hub_models
from support.pictures import picture


@pytest.fixture
def prepared(colour_folder):
    """The data set of 01_prepare_data, with its split."""
    images = scan.scan_folder("colours", colour_folder)
    datasets.write(images)
    parts = split.split(images)
    split.write(images, parts)
    return images, parts


def test_training_image_is_the_first_of_the_training_set(prepared, colour_folder):
    images, parts = prepared
    (pixels,) = previews.training_image("colours", str(colour_folder))
    np.testing.assert_array_equal(pixels, decoding.read(images.file(parts.train[0])))


def test_without_a_split_there_is_no_training_image(colour_folder):
    assert previews.training_image("colours", str(colour_folder)) == []


def test_a_training_image_that_is_gone_is_not_shown(prepared, colour_folder):
    images, parts = prepared
    images.file(parts.train[0]).unlink()
    assert previews.training_image("colours", str(colour_folder)) == []


def test_at_input_sizes_letterboxes_the_whole_image_and_cuts_out_the_middle():
    squares, middles = previews.at_input_sizes([picture((120, 90, 60), 0, width=60, height=30)], [24, 60])
    assert [square.shape for square in squares] == [(24, 24, 3), (60, 60, 3)]
    assert (squares[1][:15] == PADDING_GREY).all()  # bars above and below an image twice as wide as high
    np.testing.assert_array_equal(middles[1], squares[1][20:40, 20:40])


def test_without_images_there_are_no_previews():
    assert previews.at_input_sizes([], [120, 240]) == ([], [])
    assert previews.augmented([], Recipe(), 240) == []


def test_augmented_views_are_those_that_training_draws_at_the_size_it_trains_with():
    square = picture((120, 90, 60), 0, width=128, height=128)
    found = previews.augmented([square], Recipe(seed=3), 128)
    assert [view for _, view in found] == [augment.draw(3, k) for k in range(previews.VIEWS)]
    assert {pixels.shape for pixels, _ in found} == {(112, 112, 3)}  # 7/8 of 128
    np.testing.assert_array_equal(found[2][0], augment.apply(square, found[2][1], 112))


def test_augmented_views_for_input_size_0_are_those_for_224():
    (pixels, _), *_ = previews.augmented([picture((120, 90, 60), 0)], Recipe(), 0)
    assert pixels.shape == (192, 192, 3)  # 7/8 of 224, to a multiple of 16


def test_augmented_views_for_a_token_network_have_the_size_that_fits_its_patches(tmp_path):
    dinov2 = hub_models.backbone("dinov2", tmp_path)
    (pixels, _), *_ = previews.augmented([picture((120, 90, 60), 0)], Recipe(), 224, dinov2)
    assert pixels.shape == (196, 196, 3)  # 14 patches of 14 pixels; the recipe says 192


def test_without_augmentation_there_are_no_views():
    assert previews.augmented([picture((120, 90, 60), 0)], Recipe(augment=False), 64) == []


def test_a_caption_names_every_change_of_a_view():
    assert previews.caption(
        View(0.934, brightness=0.118, contrast=-0.05, saturation=0, is_mirrored=True)
    ) == ("crop 0.93, flipped\nbrightness +12%\ncontrast -5%\nsaturation +0%")
    assert previews.caption(View()).startswith("crop 1.00\n")
