"""Keyboard input: key presses inside a container are sent to Python and not handled by the notebook."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anywidget
from traitlets import Float, Int, List, Unicode

HERE = Path(__file__).parent


class Keys(anywidget.AnyWidget):
    """An invisible widget that sends key presses in its container to Python.

    The container is the nearest element around it with the CSS class `imgclf-panel`. It can hold the focus,
    shown by a ring, and gets the focus back after a click and after a choice from a list. Text typed into a
    field stays in the field; Escape leaves a list. No key reaches the notebook except Ctrl+S. The browser
    handles the keys that are not in `captured`.

    Attributes
    ----------
    captured : the keys to capture, by their browser names: "1", "x", " ", "?", "ArrowLeft", "PageDown",
        "Escape". A lower-case letter stands for both cases. Characters are captured without Ctrl only, so
        that copying and reloading still work; to capture them with Ctrl (Cmd on a Mac), list "Ctrl+z". Keys
        with long names, and " ", are captured with Ctrl, too. With Alt nothing is captured.
    idle_seconds : `on_idle` callbacks run after this time without a key press or click, once after each
        activity.
    handled : number of key presses that Python has handled. While many are unhandled, the browser drops
        repeats of a held key.
    """

    _esm = HERE / "keys.js"
    _css = HERE / "panel.css"
    captured = List(Unicode()).tag(sync=True)
    idle_seconds = Float(1.0).tag(sync=True)
    handled = Int(0).tag(sync=True)

    def __init__(self, **traits: Any) -> None:
        super().__init__(**traits)
        self._key_callbacks: list[Callable[[str, bool, bool], object]] = []
        self._idle_callbacks: list[Callable[[], object]] = []

    def on_key(self, callback: Callable[[str, bool, bool], object]) -> None:
        """Register `callback(key, shift, ctrl)` for captured keys. Letters are lower-case. Cmd is ctrl."""
        self._key_callbacks.append(callback)

    def on_idle(self, callback: Callable[[], object]) -> None:
        """Register `callback()`, called once when the user pauses."""
        self._idle_callbacks.append(callback)

    def _handle_custom_msg(self, content: dict[str, Any], buffers: list[memoryview]) -> None:
        super()._handle_custom_msg(content, buffers)
        if "key" in content:
            try:
                for on_key in self._key_callbacks:
                    on_key(content["key"], content["shift"], content["ctrl"])
            finally:
                self.handled += 1
        elif content.get("idle"):
            for on_idle in self._idle_callbacks:
                on_idle()

    def __repr__(self) -> str:
        return "[keyboard: run this cell to use it]"
