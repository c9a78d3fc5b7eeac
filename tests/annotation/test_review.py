"""The state of the results browser: filters, sort orders and the command of each key, without a browser."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from imgclf import ImgclfError
from imgclf.annotation import review
from imgclf.annotation.annotations import Annotations, ChangeResult
from imgclf.annotation.review import Review
from imgclf.evaluation import metrics
from support.evaluations import LABELS, PROBABILITIES, scored

NAMES = [path[-7:-4] for path in PROBABILITIES]


@pytest.fixture
def state(annotations) -> Review:
    return Review(scored(annotations), annotations)


def order(state: Review) -> list[str]:
    return [NAMES[row] for row in state.order]


def press(state: Review, *keys: str) -> str:
    return [state.press(key) for key in keys][-1]


def test_all_images_are_shown_by_name_at_first(state):
    assert order(state) == ["b00", "b01", "g00", "g01", "r00", "r01"] and state.current_row == 0


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"prediction": review.WRONG}, ["b01", "g01"]),
        ({"prediction": review.RIGHT}, ["b00", "g00", "r00", "r01"]),
        ({"true": "green"}, ["g00", "g01"]),
        ({"predicted": "green"}, ["b01", "g00"]),
        ({"min_probability": 0.5, "max_probability": 0.85}, ["b01", "g00", "g01"]),
        ({"max_probability": 0.1}, []),
        ({"prediction": review.WRONG, "predicted": "red"}, ["g01"]),
    ],
)
def test_each_filter_matches_its_images(state, changes, names):
    state.filter_by(**changes)
    assert order(state) == names


def test_filters_are_combined_until_they_are_cleared(state):
    state.filter_by(prediction=review.RIGHT)
    state.filter_by(true="red")
    assert order(state) == ["r00", "r01"]
    state.clear_filter()
    assert len(state.order) == 6


@pytest.mark.parametrize(
    ("by", "names"),
    [
        (review.BY_CONFIDENCE, ["r00", "g00", "b01", "g01", "b00", "r01"]),
        (review.BY_MARGIN, ["r00", "g00", "b01", "g01", "b00", "r01"]),
        (review.BY_LOSS, ["g01", "b01", "r00", "g00", "b00", "r01"]),
        (review.BY_NAME, ["b00", "b01", "g00", "g01", "r00", "r01"]),
    ],
)
def test_each_sort_order_begins_with_the_most_suspicious_image(state, by, names):
    state.sort_by(by)
    assert order(state) == names


def test_margin_loss_and_probability_have_their_defined_values(state):
    np.testing.assert_allclose(state.margin, [0.84, 0.3, 0.2, 0.75, 0.11, 0.98], rtol=1e-5)
    np.testing.assert_allclose(state.loss, -np.log([0.9, 0.3, 0.5, 0.1, 0.41, 0.99]), rtol=1e-5)
    np.testing.assert_allclose(state.probability, [0.9, 0.6, 0.5, 0.85, 0.41, 0.99])


def test_a_true_label_with_probability_0_has_infinite_loss_and_is_sorted_first(annotations):
    found = scored(annotations)
    found.probabilities[0] = 0, 1, 0
    state = Review(found, annotations)
    state.sort_by(review.BY_LOSS)
    assert state.loss[0] == np.inf and order(state)[0] == "b00"


def test_with_a_single_label_the_margin_is_the_probability(annotations):
    one = np.ones((1, 1), dtype=np.float32)
    assert Review(
        metrics.evaluate(["blue"], ["blue/b00.jpg"], ["blue"], one, one), annotations
    ).margin.tolist() == [1]


@pytest.mark.parametrize(
    ("true", "predicted", "names"),
    [("green", "red", ["g01"]), ("red", "red", ["r00", "r01"]), ("red", "blue", [])],
)
def test_a_cell_of_the_confusion_matrix_shows_exactly_its_images(state, true, predicted, names):
    state.filter_by(prediction=review.RIGHT, min_probability=0.9)
    state.show_cell(true, predicted)
    assert order(state) == names
    assert len(names) == state.evaluation.confusion[LABELS.index(true), LABELS.index(predicted)]


def test_filters_and_sort_orders_go_to_the_first_image(state):
    state.press("End")
    state.filter_by(prediction=review.WRONG)
    assert state.current == 0
    state.press("End")
    state.sort_by(review.BY_CONFIDENCE)
    assert state.current == 0
    state.press("End")
    state.press("a")
    assert state.current == 0


def test_undo_and_redo_go_to_the_image_also_where_the_filter_hides_it(state):
    state.press("End")
    row = state.current_row
    to = "1" if state.image(row).label != "blue" else "2"
    state.press(to)
    state.filter_by(prediction=review.WRONG if state.evaluation.correct[row] else review.RIGHT)
    state.press("z")
    assert state.current_row == row and state.filter == review.Filter() and not state.is_relabelled(row)
    state.press("Home")
    state.press("z", shift=True)
    assert state.current_row == row and state.is_relabelled(row)


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
def test_keys_navigate_and_filter(state, keys, index):
    assert press(state, *keys) == ""
    assert state.current == index


def test_a_digit_relabels_and_moves_on_and_the_image_stays_in_the_order(state):
    state.filter_by(prediction=review.WRONG)
    assert press(state, "2") == "green/b01.jpg: label set to 'green'"
    assert (order(state), state.current) == (["b01", "g01"], 1)
    assert state.is_relabelled(1) and not state.is_relabelled(0)
    assert (state.annotations.dataset.folder / "green/b01.jpg").exists()


def test_z_undoes_and_returns_to_the_image(state):
    press(state, "2", "End")
    assert press(state, "z") == "undone: blue/b00.jpg is 'blue' again"
    assert state.current == 0 and not state.is_relabelled(0)


def test_x_excludes_and_includes_u_removes_the_label_and_space_confirms(state):
    assert press(state, "x") == "blue/b00.jpg: excluded" and state.current == 1
    assert press(state, "Home", "x") == "blue/b00.jpg: included again"
    assert press(state, "u") == "unlabelled/b01.jpg: label set to 'unlabelled'"
    assert press(state, " ") == "green/g00.jpg: confirmed"


def test_a_moved_image_is_found_by_its_content(annotations):
    found = scored(annotations)
    moved = replace(found, paths=("green/b00.jpg", *found.paths[1:]))
    assert Review(moved, annotations).image(0).path == "blue/b00.jpg"


def test_of_two_copies_the_one_at_the_evaluated_path_is_used(annotations):
    files = annotations.dataset.files
    copies = tuple(
        replace(image, sha256=files[0].sha256) if image.path == "blue/b01.jpg" else image for image in files
    )
    annotations.dataset = replace(annotations.dataset, files=copies)
    state = Review(scored(annotations), annotations)
    assert state.image(0).path == "blue/b00.jpg"
    assert (
        Review(replace(scored(annotations), paths=("gone.jpg", *PROBABILITIES)[:6]), annotations).image(0)
        is None
    )  # ambiguous


def test_an_image_that_is_not_in_the_data_set_is_shown_and_cannot_be_relabelled(annotations):
    found = scored(annotations)
    state = Review(
        replace(found, paths=("blue/a.jpg", *found.paths[1:]), sha256=("0" * 64, *found.sha256[1:])),
        annotations,
    )
    with pytest.raises(
        ImgclfError,
        match="^blue/a.jpg: is no longer in the data set; run 01_prepare_data and 05_evaluate again$",
    ):
        press(state, "1")
    assert state.current_row == 0 and not state.is_relabelled(0)


def test_without_a_matching_image_keys_do_nothing_and_a_command_is_refused(state):
    state.filter_by(max_probability=0.1)
    press(state, "ArrowDown", "End", "PageUp")
    assert state.current_row is None
    with pytest.raises(ImgclfError, match="^no image is shown; clear the filter first$"):
        press(state, "x")


def test_a_digit_without_a_label_is_refused(state):
    with pytest.raises(
        ImgclfError, match="^no label has the key 4: there are 3 labels; the keys are 1 to 3$"
    ):
        press(state, "4")


def test_the_threshold_rejects_images_with_a_lower_confidence(state):
    assert str(state.rejection).startswith("below 0.00: 0 of 6 images rejected")
    state.threshold = 0.5
    assert (state.rejection.rejected, state.rejection.accuracy.images) == (1, 5)
    assert [NAMES[row] for row in state.order if state.is_rejected(row)] == ["r00"]


def test_a_change_of_another_window_is_shown_before_the_image_can_be_relabelled(
    state, annotations: Annotations, colour_folder: Path
):
    other = Annotations(annotations.dataset)
    other.relabel([state.annotations.images.index(state.image(0))], "red")
    with pytest.raises(ImgclfError, match="another window has just changed this image"):
        press(state, "2")
    assert state.image(0).path == "red/b00.jpg" and state.is_relabelled(0)


def test_n_says_that_an_image_is_of_none_of_the_labels(state):
    press(state, "n")
    assert state.image(0).label == "none_of_these" and state.is_relabelled(0) and state.current == 1


def test_an_undo_of_many_images_looks_at_each_once(state):
    class Counted(tuple):
        def __contains__(self, value: object) -> bool:
            raise AssertionError("looked at all positions for one image")

    state._show(ChangeResult(Counted(range(1, 36)), ""))
    assert state.current == 1
