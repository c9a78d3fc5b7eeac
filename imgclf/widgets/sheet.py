"""A page of images in a grid, each with its label: what the annotator shows, and what it hears from mouse and lists."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anywidget
from traitlets import Dict, Int, List, Unicode

HERE = Path(__file__).parent


class Sheet(anywidget.AnyWidget):
    """A page of images as tiles that fill their container; it shows what it is told, and forwards clicks and choices.

    A picture is sent to the browser once and kept there under its key, among the latest 400. The browser asks for those of
    this page first, then for those `ahead`, a few at a time, and asks again for those that were not ready.

    Attributes
    ----------
    rows, columns : of the grid.
    labels : the choices of each tile's list.
    tiles : one dict an image of this page, in reading order: `key` (of its picture), `name` (of its file), `label`, `colour` (of the label,
        for CSS, or ""), `note` (a badge such as "excluded", or ""), `dim` (whether it is shown pale). Assign a new list to change it.
    cursor : position of the framed tile on this page, from 0; -1 for none.
    selected : positions of the selected tiles.
    ahead : keys of the pictures that will probably be shown next.
    empty : what is said when there are no tiles.
    """

    _esm = "\n".join((HERE / name).read_text(encoding="utf-8") for name in ("pictures.js", "sheet.js"))
    _css = HERE / "sheet.css"
    rows = Int(3).tag(sync=True)
    columns = Int(4).tag(sync=True)
    labels = List(Unicode()).tag(sync=True)
    tiles = List(Dict()).tag(sync=True)
    cursor = Int(-1).tag(sync=True)
    selected = List(Int()).tag(sync=True)
    ahead = List(Unicode()).tag(sync=True)
    empty = Unicode("no images here").tag(sync=True)

    def __init__(self, pictures: Callable[[list[str]], dict[str, bytes]], **traits: Any) -> None:
        """`pictures(keys)` gives those of the pictures, as files, that are ready within a short time; b"" for one that cannot be shown."""
        super().__init__(**traits)
        self._pictures = pictures
        self._click_callbacks: list[Callable[[int, bool, bool], None]] = []
        self._label_callbacks: list[Callable[[int, str], None]] = []
        self._open_callbacks: list[Callable[[int], None]] = []

    def on_click(self, callback: Callable[[int, bool, bool], None]) -> None:
        """Have `callback(position, shift, ctrl)` called when a tile is clicked; ctrl is also Cmd."""
        self._click_callbacks.append(callback)

    def on_label(self, callback: Callable[[int, str], None]) -> None:
        """Have `callback(position, label)` called when a label is chosen from a tile's list; the tile shows it once `tiles` says so."""
        self._label_callbacks.append(callback)

    def on_open(self, callback: Callable[[int], None]) -> None:
        """Have `callback(position)` called when a tile is double-clicked, after its two clicks."""
        self._open_callbacks.append(callback)

    def _handle_custom_msg(self, content: dict[str, Any], buffers: list[memoryview]) -> None:
        super()._handle_custom_msg(content, buffers)
        if "want" in content:
            self._send_pictures(content["want"])
        elif "click" in content and self._is_shown(content, "click"):
            for callback in self._click_callbacks:
                callback(content["click"], content["shift"], content["ctrl"])
        elif "label" in content and self._is_shown(content, "at"):
            for callback in self._label_callbacks:
                callback(content["at"], content["label"])
        elif "open" in content and self._is_shown(content, "open"):
            for callback in self._open_callbacks:
                callback(content["open"])

    def _is_shown(self, content: dict[str, Any], position: str) -> bool:
        """Whether the image that was pointed at is still there: the page may have changed while the message was on its way."""
        at = content[position]
        return at < len(self.tiles) and content.get("key") in (None, self.tiles[at]["key"])

    def _send_pictures(self, keys: list[str]) -> None:
        """Answer with the pictures that are ready, and always answer, since the browser waits for it."""
        found: dict[str, bytes] = dict.fromkeys(
            keys, b""
        )  # if `pictures` fails, its error shows once and not with each new try
        try:
            found = self._pictures(keys)
        finally:
            self.send({"pictures": list(found)}, buffers=list(found.values()))

    def __repr__(self) -> str:
        return f"[page of {len(self.tiles)} images, needs a running kernel]"
