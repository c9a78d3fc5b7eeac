"""The keyboard of a face: key presses inside a container go to Python, and not to the notebook."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anywidget
from traitlets import Float, Int, List, Unicode

HERE = Path(__file__).parent


class Keys(anywidget.AnyWidget):
    """Invisible; put it into a box with the CSS class `imgclf-panel`, and keys pressed in that box arrive here.

    The box can hold the focus (it shows a ring), and gets it back after a click and after a choice from a list. What is typed
    into a field stays in the field, Escape leaves a list. No key reaches the notebook, but for Ctrl+S; the browser keeps all keys
    that are not in `wanted`.

    Attributes
    ----------
    wanted : the keys, as browsers name them: "1", "x", " ", "?", "ArrowLeft", "PageDown", "Escape". A letter, in lower
        case, stands for both cases. Characters come without Ctrl only, so that copying and reloading go on working: for these list "Ctrl+z"
        (Cmd on a Mac). Keys with long names, and " ", come with Ctrl as well. Nothing comes with Alt.
    idle_seconds : after so long without a key or a click, following at least one, `on_idle` is called.
    handled : how many keys Python is done with; while it is far behind, repeats of a held key are dropped.
    """

    _esm = HERE / "keys.js"
    _css = HERE / "panel.css"
    wanted = List(Unicode()).tag(sync=True)
    idle_seconds = Float(1.0).tag(sync=True)
    handled = Int(0).tag(sync=True)

    def __init__(self, **traits: Any) -> None:
        super().__init__(**traits)
        self._key_callbacks: list[Callable[[str, bool, bool], None]] = []
        self._idle_callbacks: list[Callable[[], None]] = []

    def on_key(self, callback: Callable[[str, bool, bool], None]) -> None:
        """Have `callback(key, shift, ctrl)` called for every key in `wanted`; letters come in lower case, ctrl is also Cmd."""
        self._key_callbacks.append(callback)

    def on_idle(self, callback: Callable[[], None]) -> None:
        """Have `callback()` called once when the person pauses."""
        self._idle_callbacks.append(callback)

    def _handle_custom_msg(self, content: dict[str, Any], buffers: list[memoryview]) -> None:
        super()._handle_custom_msg(content, buffers)
        if "key" in content:
            try:
                for callback in self._key_callbacks:
                    callback(content["key"], content["shift"], content["ctrl"])
            finally:
                self.handled += 1
        elif content.get("idle"):
            for callback in self._idle_callbacks:
                callback()

    def __repr__(self) -> str:
        return "[keyboard, needs a running kernel]"
