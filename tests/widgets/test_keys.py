"""Key presses from the browser reach the registered callbacks."""

import pytest

from imgclf.widgets.keys import Keys


def press(keys, key, *, shift=False, ctrl=False):
    keys._handle_custom_msg({"key": key, "shift": shift, "ctrl": ctrl}, [])


def test_key_callbacks_get_shift_and_ctrl():
    keys, received = Keys(captured=["1", "ArrowLeft"]), []
    keys.on_key(lambda *key: received.append(key))
    press(keys, "1")
    press(keys, "ArrowLeft", shift=True, ctrl=True)
    assert received == [("1", False, False), ("ArrowLeft", True, True)]


def test_a_key_counts_as_handled_after_its_callbacks():
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


def test_a_pause_calls_idle_callbacks_and_is_no_key():
    keys, pauses = Keys(idle_seconds=0.5), []
    keys.on_idle(lambda: pauses.append(True))
    keys.on_key(lambda *_: pauses.append(False))
    keys._handle_custom_msg({"idle": True}, [])
    assert (pauses, keys.handled) == ([True], 0)


def test_the_browser_gets_keys_idle_seconds_script_and_style():
    state = Keys(captured=["x", " "], idle_seconds=2).get_state()
    assert (state["captured"], state["idle_seconds"], state["handled"]) == (["x", " "], 2, 0)
    assert "export default" in state["_esm"]
    assert ".imgclf-panel" in state["_css"]


def test_the_text_representation_is_the_same_in_every_run():
    assert repr(Keys()) == repr(Keys(captured=["1"])) == "[keyboard: run this cell to use it]"
