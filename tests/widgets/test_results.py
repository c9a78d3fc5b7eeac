"""The browser of results shows what its plain object says, and hears keys, fields and clicks; without a web browser."""

import warnings
from dataclasses import replace

import pytest

from imgclf.annotation import review
from imgclf.data import dataset
from imgclf.data.split import PreviousSplit
from support.evaluations import scored

with warnings.catch_warnings():
    warnings.simplefilter(
        "ignore", DeprecationWarning
    )  # of bqplot's own definitions, when it is first imported
    from imgclf.widgets.annotator import Annotator
    from imgclf.widgets.results import CONFUSION, THRESHOLD, WANTED, ResultsBrowser


@pytest.fixture
def face(notes) -> ResultsBrowser:
    return ResultsBrowser(scored(notes), notes, sides=PreviousSplit({notes.images[0].sha256: "test"}))


def press(face: ResultsBrowser, *keys: str) -> None:
    for key in keys:
        face.keyboard._handle_custom_msg({"key": key, "shift": False, "ctrl": False}, [])


def pause(face: ResultsBrowser) -> None:
    face.keyboard._handle_custom_msg({"idle": True}, [])


def click(mark, **data) -> None:
    mark._handle_custom_msg({"event": "element_click", "data": data}, [])


def test_the_first_image_is_shown_with_its_facts_and_bars(face):
    assert bytes(face.large.value).startswith(b"\xff\xd8") and face.large.layout.visibility == "visible"
    assert "<b>blue/b00.jpg</b>" in face.facts.value and "in the split: test" in face.facts.value
    assert "✓ right" in face.facts.value and "probability 0.90, margin 0.84, loss 0.11" in face.facts.value
    bars = face.bars.marks[0]
    assert (list(bars.x), bars.y.round(2).tolist()) == (["blue", "green", "red"], [0.9, 0.06, 0.04])
    assert face.place.value == "<b>1</b> of 6"


def test_its_text_is_short_and_stable(face):
    assert repr(face) == "[browser of 6 scored images, needs a running kernel]"


def test_every_key_that_is_explained_is_wanted(face):
    assert {"1", "0", "u", "x", "z", "w", "r", "a", " ", "Home", "End", "PageUp", "ArrowLeft"} <= set(WANTED)
    assert all(meaning in face.children[-2].value for _, meaning in review.KEYS)


def test_fields_filter_and_sort_and_keys_move_the_fields(face):
    face.which.value = review.WRONG
    assert face.place.value == "<b>1</b> of 2" and "✗ wrong" in face.facts.value
    face.sorting.value = review.BY_LOSS
    assert "green/g01.jpg" in face.facts.value
    press(face, "a")
    assert (face.which.value, face.slider.max) == (review.ALL, 6)


def test_the_slider_and_the_range_choose_images(face):
    face.slider.value = 4
    assert "green/g01.jpg" in face.facts.value
    face.range.value = 0.86, 1
    assert face.place.value == "<b>1</b> of 2" and face.range.description == "probability 0.86 to 1.00"


def test_where_nothing_passes_it_says_so_and_a_command_is_refused(face):
    face.range.value = 0, 0.05
    assert (face.place.value, face.facts.value, face.large.layout.visibility) == (
        "no image passes the filter",
        "",
        "hidden",
    )
    press(face, "x")
    assert face.status.value == "<b>Not done:</b> no image is shown"


def test_a_click_on_a_cell_shows_its_images(face):
    click(face.confusion.marks[0], row="green", column="red", color=0.5)
    assert (face.true.value, face.predicted.value, face.place.value) == ("green", "red", "<b>1</b> of 1")
    click(face.confusion.marks[0], row="red", column="red", color=1.0)
    assert (face.true.value, face.predicted.value, face.place.value) == ("red", "red", "<b>1</b> of 2")


def test_the_threshold_tells_what_it_leaves_and_moves_the_points(face):
    before = face.roc.marks[-1].y.tolist()
    face.threshold.value = 0.5
    assert face.rest.value.startswith("below 0.50: 1 of 6 images rejected (17%); the rest: 60%")
    assert before == [1, 1, 1] and face.roc.marks[-1].y.tolist() == [0.5, 0.5, 0.5]
    assert face.bars.marks[1].x.tolist() == [0.5, 0.5]
    face.slider.value = 5
    assert "rejected" in face.facts.value


def test_one_side_is_seen_at_a_time(face):
    face.side.value = THRESHOLD
    assert [face._sides[side].layout.visibility for side in (CONFUSION, THRESHOLD)] == ["hidden", "visible"]
    assert [face._sides[side].layout.order for side in (CONFUSION, THRESHOLD)] == ["1", "0"]


def test_a_digit_or_a_button_relabels_and_undo_takes_it_back(face, notes):
    press(face, "3")
    assert (
        face.status.value == "red/b00.jpg: now &#x27;red&#x27;"
        and (notes.dataset.folder / "red/b00.jpg").exists()
    )
    press(face, "Home")
    assert (
        "<b>now 'red'</b>, was scored as 'blue'" in face.facts.value and face._buttons["red"].icon == "check"
    )
    press(face, "z")
    assert (notes.dataset.folder / "blue/b00.jpg").exists() and "now" not in face.facts.value
    face._buttons["green"].click()
    assert (notes.dataset.folder / "green/b00.jpg").exists()


def test_a_pause_tells_what_to_run_again(face, notes):
    dataset.write(notes.dataset)  # what 01 saw
    press(face, "3")
    pause(face)
    assert (
        face.next_steps.value.startswith("1 image differs") and "Run 01_prepare_data" in face.next_steps.value
    )


def test_a_change_by_an_annotator_of_the_same_labels_is_shown_at_once(face, notes):
    other = Annotator(notes)
    other.gallery.press("2")
    assert "green/b00.jpg" in face.facts.value
    press(face, "z")
    assert other.sheet.tiles[0]["label"] == "blue"


def test_an_image_that_is_gone_is_no_error(face, notes):
    (notes.dataset.folder / "blue/b01.jpg").unlink()
    fresh = ResultsBrowser(scored(notes), notes)
    press(fresh, "ArrowRight")
    assert fresh.large.layout.visibility == "hidden" and "blue/b01.jpg" in fresh.facts.value
    press(fresh, "3")
    assert fresh.status.value.startswith("<b>Not done:</b> ")


def test_names_of_files_and_labels_are_shown_as_they_are(notes):
    found = scored(notes)
    odd = replace(found, paths=("blue/<b>&.jpg", *found.paths[1:]), sha256=("0" * 64, *found.sha256[1:]))
    face = ResultsBrowser(odd, notes)
    assert (
        "blue/&lt;b&gt;&amp;.jpg" in face.facts.value and "not in the data set any more" in face.facts.value
    )
