"""A sheet sends its state and pictures to the browser, and clicks and choices to Python."""

from pathlib import Path

import pytest

from imgclf.images import decoding
from imgclf.images.thumbnails import Thumbnails
from imgclf.widgets import keys as keys_module
from imgclf.widgets.sheet import Sheet


def tile(key, label="dotted", **changes):
    return {
        "key": key,
        "name": f"{key}.jpg",
        "label": label,
        "colour": "",
        "badge": "",
        "dimmed": False,
    } | changes


def sheet(*names, pictures=lambda keys: {}):
    return Sheet(pictures, tiles=[tile(name) for name in names], labels=["dotted", "striped"])


@pytest.fixture
def sent(monkeypatch):
    """Return the messages that sheets send to the browser: (content, buffers)."""
    messages = []
    monkeypatch.setattr(
        Sheet, "send", lambda self, content, buffers=None: messages.append((content, buffers))
    )
    return messages


def test_clicks_and_choices_reach_their_callbacks_with_the_index():
    shown, received = sheet("a", "b"), []
    shown.on_click(lambda *click: received.append(click))
    shown.on_label(lambda *choice: received.append(choice))
    shown._handle_custom_msg({"click": 1, "key": "b", "shift": True, "ctrl": False}, [])
    shown._handle_custom_msg({"label": "striped", "tile": 0, "key": "a"}, [])
    assert received == [(1, True, False), (0, "striped")]


@pytest.mark.parametrize(
    "message",
    [
        {"click": 0, "key": "gone", "shift": False, "ctrl": False},
        {"label": "striped", "tile": 0, "key": "gone"},
        {"click": 2, "key": "c", "shift": False, "ctrl": False},
    ],
    ids=["click", "label", "no such tile"],
)
def test_a_message_for_an_image_of_the_previous_page_is_ignored(message):
    shown, received = sheet("a", "b"), []
    for listen in (shown.on_click, shown.on_label):
        listen(lambda *what: received.append(what))
    shown._handle_custom_msg(message, [])
    assert received == []


def test_an_error_in_a_callback_is_not_swallowed():
    shown = sheet("a")
    shown.on_click(lambda index, shift, ctrl: [][index])
    with pytest.raises(IndexError):
        shown._handle_custom_msg({"click": 0, "shift": False, "ctrl": False}, [])


def test_only_the_pictures_that_are_ready_are_sent(sent):
    shown = sheet(
        "a", "b", "c", pictures=lambda keys: {key: b"jpeg" for key in keys if key != "b"} | {"c": b""}
    )
    shown._handle_custom_msg({"request": ["a", "b", "c"]}, [])
    assert sent == [({"pictures": ["a", "c"]}, [b"jpeg", b""])]


def test_pictures_of_real_images_reach_the_browser(colour_folder, sent):
    paths = {path.stem: f"red/{path.name}" for path in (colour_folder / "red").iterdir()}
    thumbs = Thumbnails(colour_folder, 20)
    shown = sheet(*paths, pictures=lambda keys: thumbs.ready([(key, paths[key]) for key in keys], seconds=20))
    shown._handle_custom_msg({"request": list(paths)}, [])
    thumbs.close()
    ((content, buffers),) = sent
    assert content == {"pictures": list(paths)}
    assert {decoding.decode(buffer).shape for buffer in buffers} == {(15, 20, 3)}


def test_an_error_in_pictures_is_raised_and_stops_further_requests(sent):
    shown = sheet("a", pictures=lambda keys: {}[keys[0]])
    with pytest.raises(KeyError):
        shown._handle_custom_msg({"request": ["a"]}, [])
    assert sent == [({"pictures": ["a"]}, [b""])]


def test_the_browser_gets_the_state_the_script_and_the_style():
    state = Sheet(
        dict,
        rows=2,
        columns=5,
        tiles=[tile("a", badge="excluded", dimmed=True)],
        cursor=0,
        selected=[0],
        prefetch=["z"],
        empty="none",
    ).get_state()
    assert {name: state[name] for name in ("rows", "columns", "cursor", "selected", "prefetch", "empty")} == {
        "rows": 2,
        "columns": 5,
        "cursor": 0,
        "selected": [0],
        "prefetch": ["z"],
        "empty": "none",
    }
    assert state["tiles"] == [
        {"key": "a", "name": "a.jpg", "label": "dotted", "colour": "", "badge": "excluded", "dimmed": True}
    ]
    assert "export default" in state["_esm"]
    assert ".imgclf-sheet" in state["_css"]


def test_the_text_representation_has_the_number_of_images():
    assert repr(sheet("a", "b")) == "[page of 2 images: run this cell to use it]"


def test_scripts_and_styles_load_nothing_from_other_servers():
    folder = Path(keys_module.__file__).parent
    assert [
        path.name
        for path in [*folder.glob("*.js"), *folder.glob("*.css")]
        if "http" in path.read_text(encoding="utf-8")
    ] == []
