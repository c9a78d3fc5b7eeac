"""Key presses that the browser sends reach those who asked for them."""

import pytest

from imgclf.widgets.keys import Keys


def press(keys, key, *, shift=False, ctrl=False):
    keys._handle_custom_msg({"key": key, "shift": shift, "ctrl": ctrl}, [])


def test_a_key_is_told_with_shift_and_ctrl():
    keys, heard = Keys(wanted=["1", "ArrowLeft"]), []
    keys.on_key(lambda *key: heard.append(key))
    press(keys, "1")
    press(keys, "ArrowLeft", shift=True, ctrl=True)
    assert heard == [("1", False, False), ("ArrowLeft", True, True)]


def test_every_key_is_counted_as_handled_when_it_is_done():
    keys, counts = Keys(), []
    keys.on_key(lambda *_: counts.append(keys.handled))
    for key in "123":
        press(keys, key)
    assert (counts, keys.handled) == ([0, 1, 2], 3)


def test_an_error_in_a_callback_is_not_swallowed_and_the_key_counts_as_handled():
    keys = Keys()
    keys.on_key(lambda *_: [][0])
    with pytest.raises(IndexError):
        press(keys, "1")
    assert keys.handled == 1


def test_a_pause_is_told_and_is_no_key():
    keys, pauses = Keys(idle_seconds=0.5), []
    keys.on_idle(lambda: pauses.append(True))
    keys.on_key(lambda *_: pauses.append(False))
    keys._handle_custom_msg({"idle": True}, [])
    assert (pauses, keys.handled) == ([True], 0)


def test_the_browser_gets_keys_seconds_program_and_style():
    state = Keys(wanted=["x", " "], idle_seconds=2).get_state()
    assert (state["wanted"], state["idle_seconds"], state["handled"]) == (["x", " "], 2, 0)
    assert "export default" in state["_esm"]
    assert ".imgclf-panel" in state["_css"]


def test_the_text_of_keys_is_the_same_in_every_run():
    assert repr(Keys()) == repr(Keys(wanted=["1"])) == "[keyboard, needs a running kernel]"
