"""The Python side of the annotator: each control changes the plain objects and shows the result."""

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
def annotator(annotations: Annotations) -> Annotator:
    return Annotator(annotations)


def press(annotator: Annotator, *keys: str) -> str:
    for key in keys:
        annotator.keyboard._handle_custom_msg({"key": key, "shift": False, "ctrl": False}, [])
    return annotator.status.value


def descriptions(annotator: Annotator) -> list[str]:
    return [button.description for button in annotator.labels.children]


def test_a_digit_moves_the_file_and_updates_the_display(annotator, folder):
    assert press(annotator, "3") == "red/b00.jpg: label set to &#x27;red&#x27;"
    assert (folder / "red/b00.jpg").exists()
    assert annotator.sheet.tiles[0].items() >= {"label": "red", "badge": "changed", "name": "b00.jpg"}.items()
    assert annotator.sheet.cursor == 1 and "blue/b01.jpg" in annotator.details.value
    assert descriptions(annotator) == ["1 blue · 11", "2 green · 12", "3 red · 13", "U unlabelled · 0"]
    assert annotator.progress.value == "<b>1</b> of 36 reviewed"


def test_a_refused_change_shows_the_reason_and_changes_nothing(annotator, folder):
    shutil.copy(folder / "blue/b05.jpg", folder / "red/b00.jpg")
    assert press(annotator, "3").startswith(
        "<b>Not done:</b> red/b00.jpg: there is a file of that name already"
    )
    assert (folder / "blue/b00.jpg").exists() and annotator.sheet.cursor == 0


def test_names_are_shown_as_text(folder):
    (folder / "blue/b00.jpg").rename(folder / "blue/<img src=x>.jpg")
    annotator = Annotator(Annotations(scan.scan_folder("colours", folder)))
    assert "&lt;img src=x&gt;" in annotator.details.value and "<img" not in press(annotator, "3")


def test_lists_choose_filter_sort_order_and_grid(annotator):
    annotator.filter.value = "label: green"
    assert [tile["label"] for tile in annotator.sheet.tiles] == ["green"] * 12
    annotator.grid.value = (2, 2)
    assert (annotator.sheet.rows, annotator.sheet.columns, len(annotator.sheet.tiles)) == (
        2,
        2,
        4,
    ) and "page 1 of 3" in annotator.page_text.value
    annotator.sorting.value = "label"
    assert annotator.gallery.sorting == "label"


def test_labels_are_set_by_button_by_list_and_added_by_name(annotator, folder):
    annotator.new_label.value = "odd"
    assert (
        annotator.status.value == "added label &#x27;odd&#x27;"
        and annotator.new_label.value == ""
        and "label: odd" in annotator.filter.options
    )
    next(button for button in annotator.labels.children if "odd" in button.description).click()
    annotator.sheet._handle_custom_msg(
        {"label": "odd", "tile": 4, "key": annotator.sheet.tiles[4]["key"]}, []
    )
    assert sorted(path.name for path in (folder / "odd").iterdir()) == ["b00.jpg", "b04.jpg"]
    annotator.new_label.value = "ODD"
    assert (
        "the label &#x27;odd&#x27; exists already" in annotator.status.value
        and annotator.new_label.value == "ODD"
    )


def test_clicks_select(annotator):
    for tile, keys in ((2, {}), (4, {"shift": True}), (3, {"ctrl": True})):
        annotator.sheet._handle_custom_msg({"click": tile, "shift": False, "ctrl": False, **keys}, [])
    assert annotator.sheet.selected == [2, 4]


def test_pictures_of_near_pages_are_sent_and_no_others(annotator):
    keys = [tile["key"] for tile in annotator.sheet.tiles]
    found = {}
    while len(found) < 15:
        found |= annotator._pictures([*keys, "0" * 64])
    assert sorted(found) == sorted(keys) and all(
        picture.startswith(b"\xff\xd8") for picture in found.values()
    )
    annotator.refresh()
    assert bytes(annotator.large.value[:2]) == b"\xff\xd8" and annotator.large.layout.visibility == "visible"


def test_an_image_that_cannot_be_read_is_shown_as_such(folder):
    (folder / "blue/b00.jpg").write_bytes(b"not an image")
    annotator = Annotator(Annotations(scan.scan_folder("colours", folder)))
    assert (annotator.sheet.tiles[0]["badge"], annotator.sheet.tiles[0]["dimmed"]) == ("unreadable", True)
    assert "not an image that can be read" in annotator.details.value


def test_two_annotators_of_the_same_data_set_stay_in_sync(annotator, annotations):
    other = Annotator(annotations)
    press(annotator, "3")
    assert other.sheet.tiles[0]["label"] == "red" and other.progress.value == annotator.progress.value


def test_a_pause_shows_changes_of_another_window_and_their_consequences(annotator, annotations, folder):
    found = annotations.dataset
    dataset.write(found)
    split.write(found, split.split(found))
    annotator.sides = split.read_previous("colours")
    elsewhere = Annotations(scan.scan_folder("colours", folder))
    elsewhere.relabel(range(4), "red")
    annotator.keyboard._handle_custom_msg({"idle": True}, [])
    assert [tile["label"] for tile in annotator.sheet.tiles[:5]] == ["red"] * 4 + ["blue"]
    assert "4 images changed since 01_prepare_data ran; in the split, " in annotator.next_steps.value
    assert annotator.next_steps.value.endswith(
        "Run 01_prepare_data to 05_evaluate again (cached features are reused)."
    )


def test_details_have_prediction_label_quality_and_split(annotations):
    scores = OutOfSampleScores(
        ("blue", "green", "red"), {annotations.images[0].sha256: np.array([0.25, 0.5, 0.25])}
    )
    annotator = Annotator(
        annotations, out_of_sample=scores, sides=split.PreviousSplit({annotations.images[0].sha256: "test"})
    )
    assert (
        "label <b>blue</b>, test<br>predicted <b>green</b> 0.50, label quality 0.25"
        in annotator.details.value
    )


def test_suspects_are_shown_first(annotations):
    annotator = Annotator(
        annotations, suspects=[Suspect("red/r03.jpg", annotations.images[-9].sha256, "red", "blue", 0.9, 0.8)]
    )
    assert annotator.filter.value == "suspected label errors" and [
        tile["name"] for tile in annotator.sheet.tiles
    ] == [annotations.images[-9].path.partition("/")[2]]


def test_a_folder_that_is_gone_shows_a_message(annotator, folder):
    folder.rename(folder.with_name("gone"))
    assert "the folder no longer exists" in press(annotator, "3")


def test_undo_can_remove_the_label_in_the_filter(annotator):
    annotator.new_label.value = "odd"
    annotator.filter.value = "label: odd"
    assert press(annotator, "z") == "undone: new label odd"
    assert annotator.filter.value == "all images" and len(annotator.sheet.tiles) == 15


def test_a_label_can_have_the_name_of_a_filter(annotator):
    annotator.new_label.value = "excluded"
    press(annotator, "2")
    annotator.filter.value = "label: excluded"
    assert [tile["label"] for tile in annotator.sheet.tiles] == ["excluded"]


def test_the_text_representation_is_the_same_in_every_run(annotator):
    assert repr(annotator) == "[annotator of 36 images, needs a running kernel]"
