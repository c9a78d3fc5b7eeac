"""The Python side of the proposals: each key gives its answer and shows the next image."""

import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from imgclf.annotation.proposals import Proposals
from support.unlabelled import scanned, write_unlabelled

with warnings.catch_warnings():
    warnings.simplefilter(
        "ignore", DeprecationWarning
    )  # of the widgets' own definitions, when they are first imported
    from imgclf.widgets.proposer import ALIKE, ONE, PAGE, Proposer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """36 images of three colours without a label."""
    return write_unlabelled(tmp_path / "colours", each=12)


@pytest.fixture
def proposer(folder: Path) -> Iterator[Proposer]:
    annotations, features = scanned(folder)
    proposals = Proposals(annotations, features)
    yield Proposer(proposals)
    proposals.close()


@pytest.fixture
def begun(proposer: Proposer) -> Proposer:
    """Nine images have their label."""
    for _ in range(9):
        press(proposer, key_of(proposer))
    return proposer


def press(proposer: Proposer, *keys: str) -> str:
    """Press keys, each after the model has learnt from the one before; return the status."""
    for key in keys:
        proposer.keyboard._handle_custom_msg({"key": key, "shift": False, "ctrl": False}, [])
        assert proposer.proposals.wait(30)
    return proposer.status.value


def path(proposer: Proposer) -> str:
    return proposer.annotations.images[proposer.proposals.current].path


def colour(file: str) -> str:
    return file.rpartition("/")[2].partition("_")[0]


def key_of(proposer: Proposer) -> str:
    """The digit of the colour of the image on the screen."""
    return str(1 + proposer.annotations.labels.index(colour(path(proposer))))


def labelled(folder: Path) -> list[tuple[str, str]]:
    """Label and colour of each image that has a label."""
    files = [p.relative_to(folder).as_posix() for p in folder.rglob("*.jpg")]
    return sorted((f.partition("/")[0], colour(f)) for f in files if not f.startswith("unlabelled/"))


def test_the_first_image_has_its_picture_and_no_proposal(proposer):
    assert proposer.progress.value == "<b>0</b> labels given, <b>36</b> images left"
    assert "No proposal yet" in proposer.proposal.value
    assert path(proposer) in proposer.details.value and bytes(proposer.large.value[:2]) == b"\xff\xd8"
    assert len(proposer.strip.tiles) == 4
    assert [button.description for button in proposer.labels.children] == [
        "1 blue · 0",
        "2 green · 0",
        "3 red · 0",
        "N none of these · 0",
    ]


def test_a_digit_moves_the_file_and_shows_the_next_image(proposer, folder):
    first = path(proposer)
    assert press(proposer, "2").endswith("label set to &#x27;green&#x27;")
    assert (folder / "green" / first.rpartition("/")[2]).exists() and path(proposer) != first
    assert proposer.progress.value == "<b>1</b> labels given, <b>35</b> images left"


def test_space_accepts_the_proposed_label_which_is_marked(begun, folder):
    label = colour(path(begun))
    assert f"<b>{label}?</b>" in begun.proposal.value and "<kbd>Space</kbd> accepts" in begun.proposal.value
    marked = [button.description for button in begun.labels.children if button.icon == "check"]
    assert [text.split()[1] for text in marked] == [label]
    before = len(labelled(folder))
    assert press(begun, " ").endswith(f"label set to &#x27;{label}&#x27;")
    assert len(labelled(folder)) == before + 1 and all(a == b for a, b in labelled(folder))


def test_space_does_not_accept_a_label_that_was_not_on_the_screen(begun, folder):
    begun._shown = None  # the model was ready only after the page was drawn
    before = labelled(folder)
    assert press(begun, " ") == "a label has just been proposed: press Space again to accept it"
    assert labelled(folder) == before
    press(begun, " ")
    assert len(labelled(folder)) == len(before) + 1


def test_space_without_a_proposal_is_refused(proposer):
    assert press(proposer, " ").startswith("<b>Not done:</b>")


def test_all_images_can_be_labelled_by_keys_alone(begun, folder):
    presses = 0
    while begun.proposals.current is not None:
        label, _ = begun.proposals.proposal
        press(begun, " " if label == colour(path(begun)) else key_of(begun))
        presses += 1
    assert presses == 27 and len(labelled(folder)) == 36 and all(a == b for a, b in labelled(folder))
    assert begun.progress.value == "<b>36</b> labels given, <b>0</b> images left"
    assert "All images have a label" in begun.proposal.value and begun.large.value == b""
    assert "no image is left to label" in press(begun, "1")
    assert "no image is left to label" in press(begun, "m") and begun.mode == ONE


def test_the_other_keys_give_none_exclude_skip_and_undo(begun, folder):
    none, excluded = path(begun), ""
    press(begun, "n")
    assert (folder / "none_of_these" / none.rpartition("/")[2]).exists()
    excluded = path(begun)
    assert press(begun, "x") == f"{excluded}: excluded"
    skipped = path(begun)
    press(begun, "s")
    assert path(begun) != skipped
    press(begun, "z")
    assert path(begun) == skipped
    assert press(begun, "z") == f"undone: exclusion of {excluded}" and path(begun) == excluded


def test_a_page_of_the_most_certain_proposals_is_accepted_but_for_what_a_click_takes_out(begun, folder):
    press(begun, "p")
    assert begun.mode == PAGE and begun.page.layout.display == "" and begun.one.layout.display == "none"
    tiles = begun.page.sheet.tiles
    assert len(tiles) == 15 and all(tile["label"] == colour(tile["name"]) for tile in tiles)
    chances = [float(tile["badge"]) for tile in tiles]
    assert chances == sorted(chances, reverse=True)
    begun.page.sheet._handle_custom_msg({"click": 3, "shift": False, "ctrl": False}, [])
    assert begun.page.sheet.tiles[3].items() >= {"badge": "left out", "dimmed": True}.items()
    assert 3 not in begun.page.sheet.selected and "14 of 15 images chosen" in begun.page.text.value
    assert press(begun, "Enter").startswith("14 images: ")
    names = {file.name for file in (folder / "unlabelled").iterdir()}
    assert tiles[3]["name"] in names and names.isdisjoint(tile["name"] for tile in tiles[:3])
    assert len(labelled(folder)) == 23 and len(begun.page.sheet.tiles) == 12 and begun.mode == PAGE
    press(begun, "z")
    assert len(labelled(folder)) == 9


def test_an_image_that_was_taken_out_is_not_proposed_again_before_one_by_one(begun, folder):
    press(begun, "p", " ")
    name = begun.page.sheet.tiles[0]["name"]
    press(begun, "Enter", "Enter", "Enter")
    assert (folder / "unlabelled" / name).exists() and len(labelled(folder)) == 35
    assert "those taken out come back" in begun.page.sheet.empty
    press(begun, "o", "p")
    assert [tile["name"] for tile in begun.page.sheet.tiles] == [name]


@pytest.mark.parametrize("key", ["p", "m"])
def test_what_is_proposed_on_a_page_stays_while_the_model_learns(begun, folder, monkeypatch, key):
    press(begun, key)
    tiles = begun.page.sheet.tiles
    monkeypatch.setattr(begun.proposals, "proposal_for", lambda position: ("green", 0.5))
    begun._on_learnt()
    assert begun.page.sheet.tiles == tiles
    first = tiles[0]
    press(begun, "Enter")
    assert (folder / first["label"] / first["name"]).exists()


def test_a_page_can_be_of_one_proposed_label(begun):
    press(begun, "p")
    begun.wanted.value = "red"
    assert {tile["label"] for tile in begun.page.sheet.tiles} == {"red"}


def test_the_label_list_of_an_image_on_a_page_labels_it_alone(begun, folder):
    press(begun, "p")
    name = begun.page.sheet.tiles[2]["name"]
    begun.page.sheet._handle_custom_msg(
        {"label": "green", "tile": 2, "key": begun.page.sheet.tiles[2]["key"]}, []
    )
    assert (folder / "green" / name).exists() and len(labelled(folder)) == 10
    assert name not in [tile["name"] for tile in begun.page.sheet.tiles]


def test_images_like_one_get_a_label_together(begun, folder):
    current = path(begun)
    press(begun, "m")
    assert begun.mode == ALIKE and begun.page.sheet.tiles[0]["name"] == current.rpartition("/")[2]
    own = [tile["name"] for tile in begun.page.sheet.tiles if colour(tile["name"]) == colour(current)]
    for tile, content in enumerate(begun.page.sheet.tiles):
        if content["name"] not in own:
            begun.page.sheet._handle_custom_msg({"click": tile, "shift": False, "ctrl": False}, [])
    press(begun, str(1 + begun.annotations.labels.index(colour(current))))
    assert begun.mode == ONE and len(labelled(folder)) == 9 + len(own)
    assert all((folder / colour(current) / name).exists() for name in own)


def test_space_takes_the_image_at_the_cursor_of_a_page_out(begun):
    press(begun, "p", "ArrowRight", " ")
    assert begun.page.sheet.cursor == 1 and 1 not in begun.page.sheet.selected
    press(begun, " ")
    assert 1 in begun.page.sheet.selected


def test_a_page_without_a_chosen_image_changes_nothing(begun, folder):
    press(begun, "m")
    for tile in range(len(begun.page.sheet.tiles)):
        begun.page.sheet._handle_custom_msg({"click": tile, "shift": False, "ctrl": False}, [])
    assert "no image is chosen" in press(begun, "1") and "no image is chosen" in press(begun, "Enter")
    assert len(labelled(folder)) == 9


def test_before_two_labels_the_page_says_what_is_missing_and_is_filled_when_they_are_there(proposer):
    press(proposer, "p")
    assert proposer.page.sheet.tiles == [] and "no proposals yet" in proposer.page.sheet.empty
    images = proposer.annotations.images
    for label in ("red", "blue"):  # as another widget does
        proposer.annotations.relabel(
            [next(i for i, image in enumerate(images) if colour(image.path) == label)], label
        )
    assert proposer.proposals.wait(30)
    assert len(proposer.page.sheet.tiles) == 15


def test_a_new_label_gets_the_image_and_the_next_digit(proposer, folder):
    name, answers = path(proposer).rpartition("/")[2], []
    proposer.label_box.send = answers.append
    proposer.label_box._handle_custom_msg({"add": "amber"}, [])
    assert answers == [{"done": True}] and (folder / "amber" / name).exists()
    assert "4 amber · 1" in [button.description for button in proposer.labels.children]
    proposer.label_box._handle_custom_msg({"add": "a/b"}, [])
    assert len(answers) == 1 and "has a slash" in proposer.status.value
    proposer.label_box._handle_custom_msg({"rename": "odd"}, [])
    assert not (folder / "odd").exists()


def test_a_refused_change_shows_the_reason(proposer, folder):
    file = folder / path(proposer)
    file.rename(folder / "elsewhere.jpg")
    assert press(proposer, "1").startswith("<b>Not done:</b>") and "no longer exists" in proposer.status.value


def test_the_curve_has_the_estimated_accuracy_with_its_interval(begun):
    assert "cannot be estimated yet" in begun.accuracy.value
    assert begun._curve_box.layout.visibility == "hidden"
    while begun.proposals.current is not None:
        press(begun, key_of(begun))
    estimates = begun.proposals.accuracy()
    assert estimates and begun.accuracy.value == str(estimates[-1])
    assert begun._curve_box.layout.visibility == "visible"
    band, line = begun.curve.marks
    assert list(line.x) == [each.labels for each in estimates]
    assert list(line.y) == [each.accuracy for each in estimates]
    assert list(band.y[0]) == [each.low for each in estimates]
    assert list(band.y[1]) == [each.high for each in estimates]


def test_an_error_in_the_background_is_shown(begun, monkeypatch):
    monkeypatch.setattr(Proposals, "error", property(lambda self: ValueError("no convergence")))
    begun.refresh()
    assert begun.accuracy.value == "Learning has stopped, labels are still kept: ValueError: no convergence"


def test_f_enlarges_the_image(begun):
    press(begun, "f")
    assert begun.zoom.layout.display == "block" and bytes(begun.zoom.value[:2]) == b"\xff\xd8"
    press(begun, "Escape")
    assert begun.zoom.layout.display == "none" and begun.mode == ONE


def test_the_legend_has_the_keys_of_the_mode(begun):
    assert "accept the proposed label" in begun.legend.value
    press(begun, "p")
    assert "take the image out" in begun.legend.value and "accept the proposed" not in begun.legend.value
    press(begun, "o")
    assert begun.mode == begun.modes.value == ONE


def test_the_text_representation_is_the_same_in_every_run(proposer):
    assert repr(proposer) == "[proposals for 36 images: run this cell to use it]"
