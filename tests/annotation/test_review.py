"""Walking through scored images: what is shown, in what order, and what each key does, without a browser."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from imgclf import ImgclfError
from imgclf.annotation import review
from imgclf.annotation.annotations import Annotations
from imgclf.annotation.review import Review
from imgclf.evaluation import metrics
from support.evaluations import LABELS, PROBABILITIES, scored

NAMES = [path[-7:-4] for path in PROBABILITIES]


@pytest.fixture
def shown(notes) -> Review:
    return Review(scored(notes), notes)


def order(shown: Review) -> list[str]:
    return [NAMES[row] for row in shown.order]


def press(shown: Review, *keys: str) -> str:
    return [shown.press(key) for key in keys][-1]


def test_all_are_shown_by_name_at_first(shown):
    assert order(shown) == ["b00", "b01", "g00", "g01", "r00", "r01"] and shown.at_cursor == 0


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"which": review.WRONG}, ["b01", "g01"]),
        ({"which": review.RIGHT}, ["b00", "g00", "r00", "r01"]),
        ({"true": "green"}, ["g00", "g01"]),
        ({"predicted": "green"}, ["b01", "g00"]),
        ({"lowest": 0.5, "highest": 0.85}, ["b01", "g00", "g01"]),
        ({"highest": 0.1}, []),
        ({"which": review.WRONG, "predicted": "red"}, ["g01"]),
    ],
)
def test_filters_show_what_they_say(shown, changes, names):
    shown.show(**changes)
    assert order(shown) == names


def test_filters_add_up_until_all_are_dropped(shown):
    shown.show(which=review.RIGHT)
    shown.show(true="red")
    assert order(shown) == ["r00", "r01"]
    shown.show_all()
    assert len(shown.order) == 6


@pytest.mark.parametrize(
    ("by", "names"),
    [
        (review.BY_CONFIDENCE, ["r00", "g00", "b01", "g01", "b00", "r01"]),
        (review.BY_MARGIN, ["r00", "g00", "b01", "g01", "b00", "r01"]),
        (review.BY_LOSS, ["g01", "b01", "r00", "g00", "b00", "r01"]),
        (review.BY_NAME, ["b00", "b01", "g00", "g01", "r00", "r01"]),
    ],
)
def test_orders_begin_with_what_is_most_worth_a_look(shown, by, names):
    shown.sort(by)
    assert order(shown) == names


def test_what_the_images_are_ordered_by_is_as_defined(shown):
    np.testing.assert_allclose(shown.margin, [0.84, 0.3, 0.2, 0.75, 0.11, 0.98], rtol=1e-5)
    np.testing.assert_allclose(shown.loss, -np.log([0.9, 0.3, 0.5, 0.1, 0.41, 0.99]), rtol=1e-5)
    np.testing.assert_allclose(shown.probability, [0.9, 0.6, 0.5, 0.85, 0.41, 0.99])


def test_a_label_without_any_probability_is_an_infinite_loss_and_first(notes):
    found = scored(notes)
    found.probabilities[0] = 0, 1, 0
    shown = Review(found, notes)
    shown.sort(review.BY_LOSS)
    assert shown.loss[0] == np.inf and order(shown)[0] == "b00"


def test_with_a_single_label_the_margin_is_the_probability(notes):
    one = np.ones((1, 1), dtype=np.float32)
    assert Review(
        metrics.evaluate(["blue"], ["blue/b00.jpg"], ["blue"], one, one), notes
    ).margin.tolist() == [1]


@pytest.mark.parametrize(
    ("true", "predicted", "names"),
    [("green", "red", ["g01"]), ("red", "red", ["r00", "r01"]), ("red", "blue", [])],
)
def test_a_cell_of_the_confusion_matrix_shows_exactly_its_images(shown, true, predicted, names):
    shown.show(which=review.RIGHT, lowest=0.9)
    shown.show_cell(true, predicted)
    assert order(shown) == names
    assert len(names) == shown.evaluation.confusion[LABELS.index(true), LABELS.index(predicted)]


def test_the_image_stays_while_it_passes_the_filter_and_an_order_begins_with_its_first(shown):
    shown.go(3)
    shown.show(which=review.WRONG)
    assert (order(shown)[shown.current], shown.current) == ("g01", 1)
    shown.sort(review.BY_LOSS)
    assert (order(shown)[shown.current], shown.current) == ("g01", 0)
    shown.show(which=review.RIGHT)
    assert shown.current == 0


@pytest.mark.parametrize(
    ("keys", "index"),
    [
        (["ArrowRight", "ArrowDown", "ArrowLeft"], 1),
        (["ArrowUp"], 0),
        (["End"], 5),
        (["End", "ArrowRight"], 5),
        (["End", "Home"], 0),
        (["PageDown"], 5),
        (["PageDown", "PageUp"], 0),
        (["w", "End"], 1),
        (["r", "End"], 3),
        (["w", "a", "End"], 5),
        (["F"], 0),
    ],
)
def test_keys_walk_and_filter(shown, keys, index):
    assert press(shown, *keys) == ""
    assert shown.current == index


def test_a_digit_relabels_goes_on_and_the_image_stays_in_the_order_marked(shown):
    shown.show(which=review.WRONG)
    assert press(shown, "2") == "green/b01.jpg: now 'green'"
    assert (order(shown), shown.current) == (["b01", "g01"], 1)
    assert shown.is_relabelled(1) and not shown.is_relabelled(0)
    assert (shown.annotations.dataset.folder / "green/b01.jpg").exists()


def test_z_takes_back_and_returns_to_the_image(shown):
    press(shown, "2", "End")
    assert press(shown, "z") == "took back: blue/b00.jpg is 'blue' again"
    assert shown.current == 0 and not shown.is_relabelled(0)


def test_x_excludes_and_uses_again_u_takes_the_label_and_space_confirms(shown):
    assert press(shown, "x") == "blue/b00.jpg: excluded" and shown.current == 1
    assert press(shown, "Home", "x") == "blue/b00.jpg: used again"
    assert press(shown, "u") == "unlabelled/b01.jpg: now 'unlabelled'"
    assert press(shown, " ") == "green/g00.jpg: seen"


def test_an_image_that_was_moved_before_is_found_by_its_content(notes):
    found = scored(notes)
    moved = replace(found, paths=("green/b00.jpg", *found.paths[1:]))
    assert Review(moved, notes).image(0).path == "blue/b00.jpg"


def test_of_two_copies_the_one_of_that_path_is_meant(notes):
    files = notes.dataset.files
    twins = tuple(
        replace(image, sha256=files[0].sha256) if image.path == "blue/b01.jpg" else image for image in files
    )
    notes.dataset = replace(notes.dataset, files=twins)
    shown = Review(scored(notes), notes)
    assert shown.image(0).path == "blue/b00.jpg"
    assert (
        Review(replace(scored(notes), paths=("gone.jpg", *PROBABILITIES)[:6]), notes).image(0) is None
    )  # no telling which of the two


def test_an_image_that_is_not_in_the_data_set_is_shown_and_cannot_be_relabelled(notes):
    found = scored(notes)
    shown = Review(
        replace(found, paths=("blue/a.jpg", *found.paths[1:]), sha256=("0" * 64, *found.sha256[1:])), notes
    )
    with pytest.raises(
        ImgclfError,
        match="^blue/a.jpg: is not an image of the data set any more; run 01_prepare_data and 05_evaluate again$",
    ):
        press(shown, "1")
    assert shown.at_cursor == 0 and not shown.is_relabelled(0)


def test_nothing_shown_is_no_error_and_a_command_says_so(shown):
    shown.show(highest=0.1)
    press(shown, "ArrowDown", "End", "PageUp")
    assert shown.at_cursor is None
    with pytest.raises(ImgclfError, match="^no image is shown$"):
        press(shown, "x")


def test_a_digit_without_a_label_says_so(shown):
    with pytest.raises(ImgclfError, match="^there is no label with the key 4; there are 3 labels$"):
        press(shown, "4")


def test_the_threshold_rejects_what_is_below_it(shown):
    assert str(shown.rejection).startswith("below 0.00: 0 of 6 images rejected")
    shown.threshold = 0.5
    assert (shown.rejection.rejected, shown.rejection.accuracy.images) == (1, 5)
    assert [NAMES[row] for row in shown.order if shown.is_rejected(row)] == ["r00"]


def test_relabelling_in_another_window_is_refused_once_and_then_seen(
    shown, notes: Annotations, colour_folder: Path
):
    other = Annotations(notes.dataset)
    other.relabel([shown.annotations.images.index(shown.image(0))], "red")
    with pytest.raises(ImgclfError, match="was changed in another window just now"):
        press(shown, "2")
    assert shown.image(0).path == "red/b00.jpg" and shown.is_relabelled(0)
