"""A page of images of which a click takes one out; the others are chosen for a label."""

from collections.abc import Callable
from html import escape
from typing import Any

from ipywidgets import HTML, Box, Button, HBox, Layout, VBox

from imgclf import plots
from imgclf.annotation.annotations import Annotations
from imgclf.annotation.pages import Picks
from imgclf.data.labels import NO_LABELS
from imgclf.images.thumbnails import Thumbnails
from imgclf.widgets.panel import WAIT_SECONDS, picture_key
from imgclf.widgets.sheet import Sheet


class PickSheet(VBox):  # type: ignore[misc]  # ipywidgets has no types
    """The current page of `picks`; chosen images have a check mark, the others are pale and say so.

    Attributes
    ----------
    sheet : the images. A choice from the label list of an image is forwarded to `relabel`.
    """

    def __init__(
        self,
        picks: Picks,
        annotations: Annotations,
        thumbnails: Thumbnails,
        *,
        execute: Callable[[Callable[[], object]], object],
        relabel: Callable[[int, str], object],
        proposal: Callable[[int], tuple[str, float] | None] = lambda position: None,
        layout: Layout,
    ) -> None:
        """Create a page.

        Parameters
        ----------
        execute : called with a command, which it executes; it refreshes this widget afterwards.
        relabel : called with a position and a label that is chosen for one image.
        proposal : the label proposed for an image, and its probability; it is shown in place of its label.
        """
        self.picks, self._annotations, self._thumbnails, self._proposal = (
            picks,
            annotations,
            thumbnails,
            proposal,
        )
        self.sheet = Sheet(self._pictures, layout=Layout(flex="1 1 auto", min_height="0", width="100%"))
        self.sheet.on_click(lambda tile, shift, ctrl: execute(lambda: picks.click(tile)))
        self.sheet.on_label(
            lambda tile, label: execute(lambda: relabel(picks.on_page(picks.page)[tile], label))
        )
        self.text = HTML()
        turns = [Button(description=sign, layout=Layout(width="32px")) for sign in "◀▶"]
        for button, pages, tip in zip(turns, (-1, 1), ("Previous page", "Next page"), strict=True):
            button.tooltip = tip
            button.on_click(lambda _, pages=pages: execute(lambda: picks.turn(pages)))
        self._turns = HBox(turns)
        line = HBox([self._turns, self.text], layout=Layout(align_items="center", flex="0 0 auto"))
        box = Box([self.sheet], layout=Layout(flex="1 1 0", min_height="0"))
        super().__init__([box, line], layout=layout)
        self.add_class("imgclf-picks")

    def refresh(self, empty: str) -> None:
        """Show the current state.

        Parameters
        ----------
        empty : text shown if there are no images.
        """
        picks, sheet = self.picks, self.sheet
        page = picks.on_page(picks.page)
        sheet.rows, sheet.columns, sheet.empty = picks.rows, picks.columns, empty
        sheet.labels = [*self._annotations.labels, *NO_LABELS]
        sheet.tiles = [self._tile(position) for position in page]
        sheet.cursor = picks.current - picks.page * picks.page_size if page else -1
        sheet.selected = [tile for tile, position in enumerate(page) if position not in picks.left_out]
        near = [*page, *picks.on_page(picks.page + 1), *picks.on_page(picks.page - 1)]
        sheet.prefetch = list(self._pairs(near[len(page) :]))
        self._thumbnails.prepare(self._pairs(near).items())
        self._turns.layout.display = "" if picks.pages > 1 else "none"
        number = f"page {picks.page + 1} of {picks.pages}; " if picks.pages > 1 else ""
        chosen = f"{len(picks.chosen)} of {len(picks.order)} images chosen"
        self.text.value = escape(f"{number}{chosen}") if page else ""

    def _tile(self, position: int) -> dict[str, Any]:
        image, is_out = self._annotations.images[position], position in self.picks.left_out
        label, badge = image.label, ""
        if proposal := self._proposal(position):
            label, badge = proposal[0], f"{proposal[1]:.2f}"
        labels = self._annotations.labels
        return {
            "key": picture_key(image),
            "name": image.path.rpartition("/")[2],
            "label": label,
            "colour": plots.colour(labels, label) if label in labels else "",
            "badge": "left out" if is_out else badge,
            "dimmed": is_out,
        }

    def _pairs(self, positions: list[int]) -> dict[str, str]:
        images = [self._annotations.images[position] for position in positions]
        return {picture_key(image): image.path for image in images}

    def _pictures(self, keys: list[str]) -> dict[str, bytes]:
        near = self._pairs([p for number in (0, 1, -1) for p in self.picks.on_page(self.picks.page + number)])
        return self._thumbnails.ready([(key, near[key]) for key in keys if key in near], seconds=WAIT_SECONDS)

    def __repr__(self) -> str:
        return f"[{len(self.picks.order)} images to choose from: run this cell to use it]"
