"""The Python side of the annotator: each control changes the plain objects and shows the result."""

import threading
import warnings
from pathlib import Path

import numpy as np
import pytest

from imgclf.annotation.annotations import Annotations
from imgclf.annotation.suspects import OutOfSampleScores, Suspect
from imgclf.data import dataset, previous_split, scan, split

with warnings.catch_warnings():
    warnings.simplefilter(
        "ignore", DeprecationWarning
    )  # of the widgets' own definitions, when they are first imported
    from imgclf.widgets import panel
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
    assert descriptions(annotator) == [
        "1 blue · 11",
        "2 green · 12",
        "3 red · 13",
        "U unlabelled · 0",
        "N none_of_these · 0",
    ]
    assert annotator.progress.value == "<b>1</b> of 36 reviewed"


def test_a_refused_change_shows_the_reason_and_changes_nothing(annotator, folder):
    (folder / "blue/b00.jpg").rename(folder / "blue/gone.jpg")
    assert press(annotator, "3").startswith("<b>Not done:</b> blue/b00.jpg: no longer exists")
    assert annotator.sheet.cursor == 0 and annotator.sheet.tiles[0]["label"] == "blue"


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


def write_label(annotator: Annotator, name: str, *, command: str = "add") -> list[dict]:
    """Send the text of the field as the browser does on Enter or a click; return the answers to the browser."""
    answers = []
    annotator.label_box.send = answers.append
    annotator.label_box._handle_custom_msg({command: name}, [])
    return answers


def test_labels_are_set_by_button_and_by_list(annotator, folder):
    write_label(annotator, "odd")
    next(button for button in annotator.labels.children if "odd" in button.description).click()
    annotator.sheet._handle_custom_msg(
        {"label": "odd", "tile": 4, "key": annotator.sheet.tiles[4]["key"]}, []
    )
    assert sorted(path.name for path in (folder / "odd").iterdir()) == ["b00.jpg", "b01.jpg", "b04.jpg"]


def test_a_new_label_goes_to_the_selected_images_and_takes_the_next_digit_and_colour(annotator, folder):
    colours = [button.layout.border_left for button in annotator.labels.children]
    annotator.sheet._handle_custom_msg({"click": 2, "shift": True, "ctrl": False}, [])
    assert write_label(annotator, " amber ") == [{"done": True}]  # clears the field and returns the focus
    assert annotator.status.value == (
        "added label &#x27;amber&#x27;; 3 images: label set to &#x27;amber&#x27;"
    )
    assert sorted(path.name for path in (folder / "amber").iterdir()) == ["b00.jpg", "b01.jpg", "b02.jpg"]
    assert descriptions(annotator) == [
        "1 blue · 9",
        "2 green · 12",
        "3 red · 12",
        "4 amber · 3",
        "U unlabelled · 0",
        "N none_of_these · 0",
    ]
    now = [button.layout.border_left for button in annotator.labels.children]
    assert now[:3] == colours[:3] and now[3] not in colours
    assert "label: amber" in annotator.filter.options
    assert (
        press(annotator, "z") == "undone: blue/b02.jpg is &#x27;blue&#x27; again and 2 more; new label amber"
    )
    assert not (folder / "amber").exists()


def test_a_refused_name_stays_in_the_field(annotator):
    assert write_label(annotator, "a/b") == [] and "has a slash" in annotator.status.value
    assert write_label(annotator, "RED") == [] and "exists already" in annotator.status.value
    assert write_label(annotator, "") == [] and "is empty" in annotator.status.value


def test_a_label_is_created_where_no_image_is_shown(annotator, folder):
    annotator.filter.value = "unlabelled"
    assert write_label(annotator, "odd") == [{"done": True}] and (folder / "odd").is_dir()


def test_the_label_of_the_current_image_is_renamed_or_merged(annotator, folder):
    annotator.filter.value = "label: green"
    assert write_label(annotator, "olive", command="rename") == [{"done": True}]
    assert annotator.status.value == "12 images: renamed &#x27;green&#x27; to &#x27;olive&#x27;"
    assert descriptions(annotator)[:3] == ["1 blue · 12", "2 olive · 12", "3 red · 12"]
    assert annotator.filter.value == "label: olive" and len(annotator.sheet.tiles) == 12
    write_label(annotator, "red", command="rename")
    assert descriptions(annotator) == ["1 blue · 12", "2 red · 24", "U unlabelled · 0", "N none_of_these · 0"]
    assert annotator.filter.value == "label: red" and not (folder / "olive").exists()


def test_the_first_page_comes_with_the_widget(annotator):
    pictures = annotator.sheet.first_pictures
    assert list(pictures) == [tile["key"] for tile in annotator.sheet.tiles]
    assert all(picture.startswith(b"\xff\xd8") for picture in pictures.values())
    assert bytes(annotator.large.value[:2]) == b"\xff\xd8"


def test_f_enlarges_the_current_image_which_then_takes_the_commands(annotator, folder):
    assert annotator.zoom.layout.display == "none"
    press(annotator, "f")
    assert annotator.zoom.layout.display == "block" and bytes(annotator.zoom.value[:2]) == b"\xff\xd8"
    first = annotator.zoom.value
    assert press(annotator, "3") == "red/b00.jpg: label set to &#x27;red&#x27;"
    assert annotator.zoom.value != first
    assert press(annotator, "Enter") == "blue/b01.jpg: confirmed"  # and not the page
    press(annotator, "Escape")
    assert annotator.zoom.layout.display == "none" and annotator.gallery.current == 2
    press(annotator, "f", "f")
    assert annotator.zoom.layout.display == "none"


def test_undo_and_redo_go_to_the_image_also_where_the_filter_hides_it(annotator):
    press(annotator, "3")
    annotator.filter.value = "label: green"
    assert press(annotator, "z") == "undone: blue/b00.jpg is &#x27;blue&#x27; again"
    assert annotator.filter.value == "all images" and annotator.sheet.cursor == 0
    press(annotator, "End")
    assert press(annotator, "y") == "redone: red/b00.jpg is &#x27;red&#x27; again"
    assert annotator.sheet.cursor == 0 and annotator.page_text.value == "page 1 of 3"


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
    annotator.sides = previous_split.read("colours")
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
        annotations,
        out_of_sample=scores,
        sides=previous_split.PreviousSplit({annotations.images[0].sha256: "test"}),
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
    annotator.filter.value = "unlabelled"
    write_label(annotator, "odd")
    annotator.filter.value = "label: odd"
    assert press(annotator, "z") == "undone: new label odd"
    assert annotator.filter.value == "all images" and len(annotator.sheet.tiles) == 15


def test_a_label_can_have_the_name_of_a_filter(annotator):
    write_label(annotator, "excluded")
    annotator.filter.value = "label: excluded"
    assert [tile["label"] for tile in annotator.sheet.tiles] == ["excluded"]


def test_the_text_representation_is_the_same_in_every_run(annotator):
    assert repr(annotator) == "[annotator of 36 images: run this cell to use it]"


class Untouched(list):
    """A list that may be indexed, and not be gone through."""

    def __iter__(self):
        raise AssertionError("all images were gone through")


def test_a_page_change_looks_at_no_other_images(annotator, annotations, monkeypatch):
    annotations.confirm(range(36))
    annotator.grid.value = (2, 2)
    annotations.images = Untouched(annotations.images)
    looks, is_reviewed = [], Annotations.is_reviewed
    monkeypatch.setattr(
        Annotations, "is_reviewed", lambda self, i: (looks.append(i), is_reviewed(self, i))[1]
    )
    press(annotator, "PageDown", "ArrowRight")
    assert annotator.progress.value == "<b>36</b> of 36 reviewed" and len(annotator.sheet.tiles) == 4
    assert sorted(set(looks)) == annotator.gallery.on_page(1)


def test_the_counts_of_labels_and_reviews_follow_each_change(annotations):
    def counted() -> tuple[dict[str, int], int]:
        used = [image.label for image in annotations.images if image.excluded in ("", dataset.NO_LABEL)]
        reviewed = sum(map(annotations.is_reviewed, range(len(annotations.images))))
        return {label: used.count(label) for label in used}, reviewed

    changes = [
        lambda: annotations.relabel([0, 1, 20], "red"),
        lambda: annotations.exclude([1, 2]),
        lambda: annotations.confirm([5]),
        lambda: annotations.rename_label("green", "olive"),
        lambda: annotations.relabel([3], "unlabelled"),
        *[annotations.undo] * 4,
        annotations.redo,
        annotations.redo,
    ]
    for change in changes:
        change()
        assert (+annotations.label_counts(), annotations.count_reviewed()) == counted()
    later = Annotations(annotations.dataset)
    assert (+later.label_counts(), later.count_reviewed()) == counted()


def test_of_many_images_the_consequences_are_computed_beside_and_once_for_each_change(
    annotator, annotations, folder, monkeypatch
):
    found = annotations.dataset
    dataset.write(found)
    split.write(found, split.split(found))
    computed_in, compute = [], panel.consequences
    monkeypatch.setattr(panel, "MOST_AT_ONCE", 35)
    monkeypatch.setattr(
        panel,
        "consequences",
        lambda *given: (computed_in.append(threading.current_thread()), compute(*given))[1],
    )
    annotations.relabel(range(4), "red")
    for _ in range(3):
        annotator.keyboard._handle_custom_msg({"idle": True}, [])
        annotator.computing.join()
    assert "4 images changed since 01_prepare_data ran" in annotator.next_steps.value
    assert computed_in == [annotator.computing] != [threading.main_thread()]
    annotations.undo()
    annotator.keyboard._handle_custom_msg({"idle": True}, [])
    annotator.computing.join()
    assert annotator.next_steps.value == "" and len(computed_in) == 2
