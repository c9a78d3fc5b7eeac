"""A page of images in a grid, each with its label: the middle of the annotator."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anywidget
from traitlets import Dict, Int, List, Unicode

HERE = Path(__file__).parent


class Sheet(anywidget.AnyWidget):
    """A grid of image tiles that fills its container. It forwards clicks and label choices to callbacks.

    The browser caches the 400 most recently used pictures by their keys, so each is sent once. It requests
    the pictures of the current page first, then those in `prefetch`, a few at a time, and repeats the request
    for those that were not ready.

    Attributes
    ----------
    rows, columns : of the grid.
    labels : the choices of each tile's label list.
    tiles : one dict per image of the page, in reading order: `key` (of its picture), `name` (of its file),
        `label`, `colour` (of the label, for CSS, or ""), `badge` (a note such as "excluded", or ""), `dimmed`
        (whether it is shown pale). Assign a new list to change it.
    cursor : index of the tile at the cursor, from 0; -1 for none.
    selected : indices of the selected tiles.
    prefetch : keys of the pictures that will probably be shown next.
    first_pictures : encoded pictures by key, which come with the widget: until the cells below it have run,
        Python answers no request.
    empty : text shown if there are no tiles.
    """

    _esm = "\n".join((HERE / name).read_text(encoding="utf-8") for name in ("pictures.js", "sheet.js"))
    _css = HERE / "sheet.css"
    rows = Int(3).tag(sync=True)
    columns = Int(4).tag(sync=True)
    labels = List(Unicode()).tag(sync=True)
    tiles = List(Dict()).tag(sync=True)
    cursor = Int(-1).tag(sync=True)
    selected = List(Int()).tag(sync=True)
    prefetch = List(Unicode()).tag(sync=True)
    first_pictures = Dict().tag(sync=True)
    empty = Unicode("no images").tag(sync=True)

    def __init__(self, pictures: Callable[[list[str]], dict[str, bytes]], **traits: Any) -> None:
        """Create a sheet.

        Parameters
        ----------
        pictures : called with keys. Returns, after a short time, the encoded pictures that are ready, by key;
            b"" for a picture that cannot be shown.
        """
        super().__init__(**traits)
        self._pictures = pictures
        self._click_callbacks: list[Callable[[int, bool, bool], object]] = []
        self._label_callbacks: list[Callable[[int, str], object]] = []

    def on_click(self, callback: Callable[[int, bool, bool], object]) -> None:
        """Register `callback(index, shift, ctrl)` for clicks on a tile. Cmd is ctrl."""
        self._click_callbacks.append(callback)

    def on_label(self, callback: Callable[[int, str], object]) -> None:
        """Register `callback(index, label)` for choices from a tile's label list.

        The tile shows the new label when `tiles` has it.
        """
        self._label_callbacks.append(callback)

    def _handle_custom_msg(self, content: dict[str, Any], buffers: list[memoryview]) -> None:
        super()._handle_custom_msg(content, buffers)
        if "request" in content:
            self._send_pictures(content["request"])
        elif "click" in content and self._is_on_page(content["click"], content.get("key")):
            for on_click in self._click_callbacks:
                on_click(content["click"], content["shift"], content["ctrl"])
        elif "label" in content and self._is_on_page(content["tile"], content.get("key")):
            for on_label in self._label_callbacks:
                on_label(content["tile"], content["label"])

    def _is_on_page(self, index: int, key: str | None) -> bool:
        """Whether the tile still shows the image; the page may have changed before the message arrived."""
        return index < len(self.tiles) and key in (None, self.tiles[index]["key"])

    def _send_pictures(self, keys: list[str]) -> None:
        """Send the pictures that are ready. There is always an answer, since the browser waits for it."""
        # If `pictures` raises an error, this answer stops the browser from repeating the request.
        found: dict[str, bytes] = dict.fromkeys(keys, b"")
        try:
            found = self._pictures(keys)
        finally:
            self.send({"pictures": list(found)}, buffers=list(found.values()))

    def __repr__(self) -> str:
        return f"[page of {len(self.tiles)} images: run this cell to use it]"
