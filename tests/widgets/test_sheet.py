"""A sheet tells the browser what to show, and Python what was clicked and chosen."""

import tomllib
from pathlib import Path

import pytest

from imgclf.images import decoding
from imgclf.images.thumbnails import Thumbnails
from imgclf.widgets import keys as keys_module
from imgclf.widgets.sheet import Sheet
from support.project import ROOT


def tile(key, label="dotted", **about):
    return {"key": key, "name": f"{key}.jpg", "label": label, "colour": "", "note": "", "dim": False} | about


def sheet(*names, pictures=lambda keys: {}):
    return Sheet(pictures, tiles=[tile(name) for name in names], labels=["dotted", "striped"])


@pytest.fixture
def sent(monkeypatch):
    """What sheets send to the browser: (content, buffers)."""
    messages = []
    monkeypatch.setattr(
        Sheet, "send", lambda self, content, buffers=None: messages.append((content, buffers))
    )
    return messages


def test_clicks_choices_and_double_clicks_are_told_with_their_position():
    shown, heard = sheet("a", "b"), []
    shown.on_click(lambda *click: heard.append(click))
    shown.on_label(lambda *choice: heard.append(choice))
    shown.on_open(lambda at: heard.append(at))
    shown._handle_custom_msg({"click": 1, "key": "b", "shift": True, "ctrl": False}, [])
    shown._handle_custom_msg({"label": "striped", "at": 0, "key": "a"}, [])
    shown._handle_custom_msg({"open": 1, "key": "b"}, [])
    assert heard == [(1, True, False), (0, "striped"), 1]


@pytest.mark.parametrize(
    "message",
    [
        {"click": 0, "key": "gone", "shift": False, "ctrl": False},
        {"label": "striped", "at": 0, "key": "gone"},
        {"open": 0, "key": "gone"},
        {"open": 2, "key": "c"},
    ],
    ids=["click", "label", "open", "no such tile"],
)
def test_what_was_meant_for_an_image_of_the_page_before_is_left_out(message):
    shown, heard = sheet("a", "b"), []
    for listen in (shown.on_click, shown.on_label, shown.on_open):
        listen(lambda *what: heard.append(what))
    shown._handle_custom_msg(message, [])
    assert heard == []


def test_an_error_in_a_callback_is_not_swallowed():
    shown = sheet("a")
    shown.on_open(lambda at: [][at])
    with pytest.raises(IndexError):
        shown._handle_custom_msg({"open": 0}, [])


def test_pictures_that_are_ready_are_sent_and_the_browser_asks_again_for_the_rest(sent):
    shown = sheet(
        "a", "b", "c", pictures=lambda keys: {key: b"jpeg" for key in keys if key != "b"} | {"c": b""}
    )
    shown._handle_custom_msg({"want": ["a", "b", "c"]}, [])
    assert sent == [({"pictures": ["a", "c"]}, [b"jpeg", b""])]


def test_pictures_of_real_images_reach_the_browser(colour_folder, sent):
    paths = {path.stem: f"red/{path.name}" for path in (colour_folder / "red").iterdir()}
    thumbs = Thumbnails(colour_folder, 20)
    shown = sheet(*paths, pictures=lambda keys: thumbs.ready([(key, paths[key]) for key in keys], seconds=20))
    shown._handle_custom_msg({"want": list(paths)}, [])
    thumbs.close()
    ((content, buffers),) = sent
    assert content == {"pictures": list(paths)}
    assert {decoding.decode(buffer).shape for buffer in buffers} == {(15, 20, 3)}


def test_a_failure_to_make_pictures_is_told_and_the_browser_does_not_ask_for_ever(sent):
    shown = sheet("a", pictures=lambda keys: {}[keys[0]])
    with pytest.raises(KeyError):
        shown._handle_custom_msg({"want": ["a"]}, [])
    assert sent == [({"pictures": ["a"]}, [b""])]


def test_the_browser_gets_all_that_is_shown():
    state = Sheet(
        dict,
        rows=2,
        columns=5,
        tiles=[tile("a", note="excluded", dim=True)],
        cursor=0,
        selected=[0],
        ahead=["z"],
        empty="none",
    ).get_state()
    assert {name: state[name] for name in ("rows", "columns", "cursor", "selected", "ahead", "empty")} == {
        "rows": 2,
        "columns": 5,
        "cursor": 0,
        "selected": [0],
        "ahead": ["z"],
        "empty": "none",
    }
    assert state["tiles"] == [
        {"key": "a", "name": "a.jpg", "label": "dotted", "colour": "", "note": "excluded", "dim": True}
    ]
    assert "export default" in state["_esm"]
    assert ".imgclf-sheet" in state["_css"]


def test_the_text_of_a_sheet_says_how_many_images():
    assert repr(sheet("a", "b")) == "[page of 2 images, needs a running kernel]"


def test_programs_and_styles_are_installed_with_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = project["tool"]["setuptools"]["package-data"]["imgclf.widgets"]
    folder = Path(keys_module.__file__).parent
    others = {path for path in folder.iterdir() if path.is_file() and path.suffix != ".py"}
    assert others == {path for pattern in patterns for path in folder.glob(pattern)}


def test_programs_and_styles_need_no_other_server():
    folder = Path(keys_module.__file__).parent
    assert [
        path.name
        for path in [*folder.glob("*.js"), *folder.glob("*.css")]
        if "http" in path.read_text(encoding="utf-8")
    ] == []
