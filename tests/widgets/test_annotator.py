"""The annotator's Python side: each control changes the plain objects, and shows what became of it."""

import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest

from imgclf.annotation.annotations import Annotations
from imgclf.annotation.suspects import OutOfSampleScores, Suspect
from imgclf.data import dataset, scan, split

with warnings.catch_warnings():
    warnings.simplefilter(
        "ignore", DeprecationWarning
    )  # of the widgets' own definitions, when they are first imported
    from imgclf.widgets.annotator import Annotator


@pytest.fixture
def folder(distinct_folder: Path) -> Path:
    return distinct_folder


@pytest.fixture
def shown(notes: Annotations) -> Annotator:
    return Annotator(notes)


def press(shown: Annotator, *keys: str) -> str:
    for key in keys:
        shown.keyboard._handle_custom_msg({"key": key, "shift": False, "ctrl": False}, [])
    return shown.status.value


def descriptions(shown: Annotator) -> list[str]:
    return [button.description for button in shown.labels.children]


def test_a_digit_moves_the_file_and_all_that_is_shown_follows(shown, folder):
    assert press(shown, "3") == "red/b00.jpg: now &#x27;red&#x27;"
    assert (folder / "red/b00.jpg").exists()
    assert shown.sheet.tiles[0].items() >= {"label": "red", "note": "changed", "name": "b00.jpg"}.items()
    assert shown.sheet.cursor == 1 and "blue/b01.jpg" in shown.facts.value
    assert descriptions(shown) == ["1 blue · 11", "2 green · 12", "3 red · 13", "U unlabelled · 0"]
    assert shown.progress.value == "<b>1</b> of 36 seen"


def test_what_is_refused_says_why_and_changes_nothing(shown, folder):
    shutil.copy(folder / "blue/b05.jpg", folder / "red/b00.jpg")
    assert press(shown, "3").startswith("<b>Not done:</b> red/b00.jpg: there is a file of that name already")
    assert (folder / "blue/b00.jpg").exists() and shown.sheet.cursor == 0


def test_names_are_shown_as_text(folder):
    (folder / "blue/b00.jpg").rename(folder / "blue/<img src=x>.jpg")
    shown = Annotator(Annotations(scan.scan_folder("colours", folder)))
    assert "&lt;img src=x&gt;" in shown.facts.value and "<img" not in press(shown, "3")


def test_choices_filter_sort_and_size(shown):
    shown.filter.value = "label: green"
    assert [tile["label"] for tile in shown.sheet.tiles] == ["green"] * 12
    shown.grid.value = (2, 2)
    assert (shown.sheet.rows, shown.sheet.columns, len(shown.sheet.tiles)) == (
        2,
        2,
        4,
    ) and "page 1 of 3" in shown.place.value
    shown.sorting.value = "label"
    assert shown.gallery.sorting == "label"


def test_labels_by_button_by_list_and_by_name(shown, folder):
    shown.new_label.value = "odd"
    assert (
        shown.status.value == "new label &#x27;odd&#x27;"
        and shown.new_label.value == ""
        and "label: odd" in shown.filter.options
    )
    next(button for button in shown.labels.children if "odd" in button.description).click()
    shown.sheet._handle_custom_msg({"label": "odd", "at": 4, "key": shown.sheet.tiles[4]["key"]}, [])
    assert sorted(path.name for path in (folder / "odd").iterdir()) == ["b00.jpg", "b04.jpg"]
    shown.new_label.value = "ODD"
    assert "there is a label &#x27;odd&#x27; already" in shown.status.value and shown.new_label.value == "ODD"


def test_clicks_select(shown):
    for place, keys in ((2, {}), (4, {"shift": True}), (3, {"ctrl": True})):
        shown.sheet._handle_custom_msg({"click": place, "shift": False, "ctrl": False, **keys}, [])
    assert shown.sheet.selected == [2, 4]


def test_pictures_come_for_what_is_near_and_for_nothing_else(shown):
    keys = [tile["key"] for tile in shown.sheet.tiles]
    found = {}
    while len(found) < 15:
        found |= shown._pictures([*keys, "0" * 64])
    assert sorted(found) == sorted(keys) and all(
        picture.startswith(b"\xff\xd8") for picture in found.values()
    )
    shown.refresh()
    assert bytes(shown.large.value[:2]) == b"\xff\xd8" and shown.large.layout.visibility == "visible"


def test_an_image_that_cannot_be_read_is_shown_as_such(folder):
    (folder / "blue/b00.jpg").write_bytes(b"not an image")
    shown = Annotator(Annotations(scan.scan_folder("colours", folder)))
    assert (shown.sheet.tiles[0]["note"], shown.sheet.tiles[0]["dim"]) == ("unreadable", True)
    assert "not an image that can be read" in shown.facts.value


def test_two_annotators_of_one_data_set_follow_each_other(shown, notes):
    other = Annotator(notes)
    press(shown, "3")
    assert other.sheet.tiles[0]["label"] == "red" and other.progress.value == shown.progress.value


def test_a_pause_brings_what_another_window_did_and_what_follows(shown, notes, folder):
    found = notes.dataset
    dataset.write(found)
    split.write(found, split.split(found))
    shown.sides = split.read_previous("colours")
    elsewhere = Annotations(scan.scan_folder("colours", folder))
    elsewhere.relabel(range(4), "red")
    shown.keyboard._handle_custom_msg({"idle": True}, [])
    assert [tile["label"] for tile in shown.sheet.tiles[:5]] == ["red"] * 4 + ["blue"]
    assert "4 images differ from what 01_prepare_data saw; in the split, " in shown.next_steps.value
    assert shown.next_steps.value.endswith(
        "Run 01_prepare_data to 05_evaluate again (features that are there are kept)."
    )


def test_doubt_and_side_are_told(notes):
    known = OutOfSampleScores(("blue", "green", "red"), {notes.images[0].sha256: np.array([0.25, 0.5, 0.25])})
    shown = Annotator(notes, known=known, sides=split.PreviousSplit({notes.images[0].sha256: "test"}))
    assert (
        "label <b>blue</b>, test<br>classifier: <b>green</b> 0.50, doubt in the label 0.75"
        in shown.facts.value
    )


def test_suspects_come_first(notes):
    shown = Annotator(
        notes, suspects=[Suspect("red/r03.jpg", notes.images[-9].sha256, "red", "blue", 0.9, 0.8)]
    )
    assert shown.filter.value == "suspected label errors" and [
        tile["name"] for tile in shown.sheet.tiles
    ] == [notes.images[-9].path.partition("/")[2]]


def test_a_folder_that_vanishes_gives_a_message(shown, folder):
    folder.rename(folder.with_name("gone"))
    assert "the folder no longer exists" in press(shown, "3")


def test_the_label_that_is_shown_can_be_taken_back(shown):
    shown.new_label.value = "odd"
    shown.filter.value = "label: odd"
    assert press(shown, "z") == "took back: new label odd"
    assert shown.filter.value == "all images" and len(shown.sheet.tiles) == 15


def test_a_label_may_be_named_like_a_filter(shown):
    shown.new_label.value = "excluded"
    press(shown, "2")
    shown.filter.value = "label: excluded"
    assert [tile["label"] for tile in shown.sheet.tiles] == ["excluded"]


def test_its_text_is_the_same_in_every_run(shown):
    assert repr(shown) == "[annotator of 36 images, needs a running kernel]"
