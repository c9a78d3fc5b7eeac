"""Chosen runs side by side: parameters, metrics, ROC curves, and the images on which they disagree."""

import base64
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from ipywidgets import HTML, Button, Dropdown, HBox, Layout, VBox

from imgclf import plots
from imgclf.experiments.history.comparing import MACRO_AVERAGE, Compared, Disagreement
from imgclf.images.thumbnails import Thumbnails
from imgclf.widgets.charts import INK
from imgclf.widgets.trials import roc_overlay

if TYPE_CHECKING:
    import pandas as pd

SIDE, PER_PAGE = 150, 12  # of the pictures, pixels; images of a page
WAIT_SECONDS = 10.0  # for the pictures of a page
BESIDE = {
    "flex_flow": "row wrap",
    "grid_gap": "0 24px",
}  # the curves beside the metrics, or below if too narrow
GONE = "<span>the image is no longer there</span>"


class SideBySide(VBox):  # type: ignore[misc]  # ipywidgets has no types
    """What differs between runs: it shows what a `Compared` computes.

    Attributes
    ----------
    label : the label of the ROC curves, or their mean.
    page : of the images on which the runs disagree, from 0.
    """

    def __init__(self, compared: Compared) -> None:
        self.compared, self.page = compared, 0
        self._images = compared.disagreements()
        super().__init__(
            [
                text(compared.names()),
                heading("Parameters that differ"),
                frame(compared.parameters()),
                heading("Metrics"),
                text(compared.verdict()),
                HBox([frame(compared.metrics()), *self._roc()], layout=BESIDE),
                *self._disagreements(),
            ]
        )

    def _roc(self) -> list[VBox]:
        if not self.compared.scored:
            return []
        labels = [("mean over the labels", MACRO_AVERAGE), *((each, each) for each in self.compared.labels)]
        self.label = Dropdown(options=labels, description="Label", layout=Layout(width="260px"))
        self.label.observe(lambda _: self._show_roc(), "value")
        self.curves = VBox()
        self._show_roc()
        parts = [heading("ROC curves, each run on its own test images"), self.label, self.curves]
        return [VBox(parts, layout=Layout(flex="1 1 360px", max_width="640px"))]

    def _show_roc(self) -> None:
        label, lines = self.label.value, self.compared.roc(self.label.value)
        if not lines:
            self.curves.children = [text(f"no run has test images with and without the label {label}")]
            return
        ink = INK if label == MACRO_AVERAGE else plots.colour(self.compared.labels, label)
        self.curves.children = [roc_overlay(lines, ink, label or "mean over the labels")]

    def _disagreements(self) -> list[HTML | HBox]:
        if len(self.compared.scored) < 2:
            return []
        self._pictures = Thumbnails(Path(), SIDE, most=4 * PER_PAGE)
        self._files = self.compared.image_files()
        self.pictures, self.position = HTML(), HTML()
        self.back, self.forward = self._button("◀", -1, "Previous page"), self._button("▶", 1, "Next page")
        self._show_page()
        pages = HBox([self.back, self.position, self.forward], layout=Layout(align_items="center"))
        title = f"Images on which they disagree: {len(self._images)}"
        return [heading(title), pages, self.pictures] if self._images else [heading(title)]

    def _button(self, name: str, step: int, tip: str) -> Button:
        button = Button(description=name, tooltip=tip, layout=Layout(width="40px"))
        button.on_click(lambda _: self._turn(step))
        return button

    def _turn(self, step: int) -> None:
        self.page += step
        self._show_page()

    def _show_page(self) -> None:
        first = self.page * PER_PAGE
        shown = self._images[first : first + PER_PAGE]
        pairs = [(image.path, self._files[image.path]) for image in shown if image.path in self._files]
        pictures = self._pictures.ready(pairs, seconds=WAIT_SECONDS)
        figures = "".join(self._figure(image, pictures.get(image.path, b"")) for image in shown)
        self.pictures.value = f"<div class='imgclf-figures'>{figures}</div>"
        last = first + len(shown)
        self.position.value = (
            f"{first + 1} to {last} of {len(self._images)}, the most confident wrong prediction first"
        )
        self.back.disabled, self.forward.disabled = first == 0, last >= len(self._images)

    def _figure(self, image: Disagreement, picture: bytes) -> str:
        path, encoded = escape(image.path), base64.b64encode(picture).decode()
        shown = f"<img alt='{path}' src='data:image/jpeg;base64,{encoded}'>" if picture else GONE
        lines = [
            f"{'✓' if label == image.label else '✗'} {head}: {predicted}"
            for (head, predicted), (label, _) in zip(
                self.compared.predicted(image).items(), image.predictions, strict=True
            )
        ]
        caption = "<br>".join([f"<b>{escape(image.label)}</b>", *map(escape, lines)])
        return f"<figure title='{path}'><div>{shown}</div><figcaption>{caption}</figcaption></figure>"


def heading(title: str) -> HTML:
    """Return the heading of a section."""
    return HTML(f"<h4>{escape(title)}</h4>")


def text(lines: str) -> HTML:
    """Return text as it is, with its line breaks."""
    return HTML(f"<div class='imgclf-text'>{escape(lines)}</div>")


def frame(table: "pd.DataFrame", *, header: bool = True) -> HTML:
    """Return a table, with the heads of its columns or without; texts are escaped."""
    html = table.rename_axis(None).to_html(border=0, header=header)
    return HTML(f"<div class='imgclf-frame'>{html}</div>")
