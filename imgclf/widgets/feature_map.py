"""A map of the images by their features; the images inside a lasso get a label at once."""

import threading
from collections.abc import Callable
from functools import partial
from html import escape
from typing import Any

import bqplot
import numpy as np
from ipywidgets import HTML, GridBox, HBox, Layout, ToggleButtons, VBox
from matplotlib.colors import to_hex

from imgclf import ImgclfError, plots
from imgclf.annotation import pages
from imgclf.annotation.annotations import Annotations
from imgclf.annotation.gallery import DIGITS, label_of_key
from imgclf.annotation.pages import Picks
from imgclf.data.dataset import Image
from imgclf.data.labels import NONE, UNLABELLED
from imgclf.data.previous_split import PreviousSplit
from imgclf.features import Features, embedding
from imgclf.features.embedding import Embedding
from imgclf.images.thumbnails import Thumbnails
from imgclf.plots import OTHERS
from imgclf.widgets.charts import MOST_POINTS, Chart, labelled_axes
from imgclf.widgets.label_box import LabelBox
from imgclf.widgets.panel import Panel
from imgclf.widgets.picks import PickSheet

THUMBNAIL_SIDE = 260  # pixels
COMPONENTS, TSNE = "Principal components", "t-SNE"
MARKERS = {  # of the labels in turn, as the colours; with their signs on the buttons
    "circle": "●",
    "square": "■",
    "diamond": "◆",
    "triangle-up": "▲",
    "triangle-down": "▼",
    "cross": "✚",
}
MARKER_OF = {UNLABELLED: ("plus", "+"), NONE: ("crosshair", "✕")}
KEYS = (
    ("drag on the map", "choose the images inside a lasso"),
    ("click or Space", "take an image out, or put it back"),
    ("1 … 9, 0", "give the chosen images this label"),
    ("N", "none of the labels"),
    ("X", "exclude them"),
    ("← ↑ ↓ →, Page ↑ ↓", "move"),
    ("Z", "undo"),
    ("Y", "redo"),
    ("F", "enlarge the image"),
    ("Esc", "choose none"),
)
CAPTURED = [
    *DIGITS,
    *"nxzyf",
    "Ctrl+z",
    "Ctrl+y",
    " ",
    "Escape",
    *pages.STEPS,
    *pages.ROWS,
    *pages.PAGES,
    *pages.ENDS,
]


class FeatureMap(Panel):
    """Points for images, with the colour and the marker of their label; beside it, the images in the lasso.

    `annotations` and `Picks` hold all state. If there are too many images to draw, each of the others is
    represented by the most similar drawn one: a lasso around this one chooses them, too.

    Attributes
    ----------
    picks : the images inside the lasso.
    embedding : the map.
    thread : computes another map; None before the first one.
    """

    trains_again = False

    def __init__(self, annotations: Annotations, features: Features, *, most: int = MOST_POINTS) -> None:
        """Show the map along the principal components.

        Parameters
        ----------
        features : of images of the data set.
        most : points that are drawn.
        """
        self.picks = Picks(rows=3, columns=4)
        position = {image.path: i for i, image in enumerate(annotations.dataset.files)}
        features = features.subset(annotations.dataset.files)
        self._features, self._most = features, most
        self._positions = np.array([position[image.path] for image in features.images], dtype=int)
        self._lock = threading.RLock()
        self.thread: threading.Thread | None = None
        super().__init__(annotations, PreviousSplit({}), self._press_key, CAPTURED)
        self._thumbnails = Thumbnails(annotations.dataset.folder, THUMBNAIL_SIDE)
        self.embedding = embedding.principal_components(features, most=most)
        self._build([self._toolbar(), self._middle()], KEYS)
        self.refresh()

    def _toolbar(self) -> HBox:
        self.method = ToggleButtons(options=(COMPONENTS, TSNE))
        self.method.style.button_width = "auto"
        self._on_user_choice(self.method, self._compute)
        self.note = HTML()
        return HBox([self.method, self.note], layout=Layout(flex_flow="row wrap", grid_gap="2px 12px"))

    def _middle(self) -> HBox:
        self._scales = {"x": bqplot.LinearScale(), "y": bqplot.LinearScale()}
        self._marks: dict[str, bqplot.Scatter] = {}
        self.lasso = bqplot.interacts.LassoSelector(marks=[])
        self.chart = Chart(
            axes=labelled_axes(self._scales["x"], self._scales["y"], *self.embedding.axes),
            interaction=self.lasso,
            display_toolbar=False,
            fig_margin={"top": 8, "bottom": 44, "left": 58, "right": 8},
            min_aspect_ratio=0.2,
            max_aspect_ratio=10,
            layout=_filling("1.1 1 0"),
        )
        self.page = PickSheet(
            self.picks,
            self.annotations,
            self._thumbnails,
            execute=self._execute,
            relabel=lambda position, label: self.annotations.relabel([position], label),
            layout=_filling("1 1 0"),
        )
        columns = "repeat(auto-fill, minmax(140px, 1fr))"
        self.labels = GridBox(
            layout=Layout(
                flex="0 1 auto", max_height="36%", overflow="hidden auto", grid_template_columns=columns
            )
        )
        self.label_box = LabelBox(
            add=lambda name: self._execute(lambda: self._change(partial(self.annotations.add_label, name))),
            layout=Layout(flex="0 0 auto"),
        )
        press = (("Exclude (X)", "x"), ("Undo (Z)", "z"), ("Redo (Y)", "y"), ("Choose none (Esc)", "Escape"))
        buttons = [self._button(text, partial(self._press_key, key, False)) for text, key in press]
        commands = HBox(buttons, layout=Layout(flex="0 0 auto", flex_flow="row wrap"))
        side = VBox([self.page, self.labels, self.label_box, commands], layout=_filling("1 1 0"))
        return self._zoomable(
            HBox([self.chart, side], layout=Layout(height="clamp(480px, 66vh, 900px)", grid_gap="8px"))
        )

    # Commands

    def _press_key(self, key: str, shift: bool) -> str:
        annotations = self.annotations
        if key in DIGITS:
            return self._relabel(label_of_key(key, annotations.labels))
        commands: dict[str, Callable[[], object]] = {
            "n": lambda: self._relabel(NONE),
            "x": lambda: self._change(annotations.exclude),
            "z": annotations.redo if shift else annotations.undo,
            "y": annotations.redo,
            " ": self.picks.toggle,
            "Escape": self._choose_none,
        }
        if key in commands:
            return str(commands[key]() or "")
        self.picks.navigate(key)
        return ""

    def _relabel(self, label: str) -> str:
        return self._change(lambda positions: self.annotations.relabel(positions, label))

    def _change(self, change: Callable[[list[int]], object]) -> str:
        """Change the chosen images, and choose none."""
        if not self.picks.chosen:
            raise ImgclfError("no image is chosen; drag a lasso around points of the map")
        result = change(self.picks.chosen)
        self._choose_none()
        return str(result)

    def _choose_none(self) -> None:
        self.picks.show([])
        self.lasso.reset()
        for mark in self._marks.values():
            mark.selected = None

    def _on_lasso(self, _: object) -> None:
        """Show the images inside the lasso. The browser reports each mark by itself."""
        if self._ignores_callbacks:
            return
        indices = [index for mark in self._marks.values() for index in self._selected(mark)]
        rows = self.embedding.rows(np.array(indices, dtype=int))
        self._show_open(self._positions[rows].tolist())
        self.refresh()

    def _show_open(self, positions: list[int]) -> None:
        """Show images, unlabelled ones first, else those not reviewed; the others are left out at first."""
        annotations = self.annotations
        still = [i for i in positions if annotations.images[i].label == UNLABELLED]
        still = still or [i for i in positions if not annotations.is_reviewed(i)] or positions
        self.picks.left_out = set(positions) - set(still)
        self.picks.show([*still, *(i for i in positions if i in self.picks.left_out)])

    def _selected(self, mark: bqplot.Scatter) -> list[int]:
        """Return the indices in the embedding of the selected points of a mark.

        bqplot reports them as a flat or a nested array, or None; and also those that are no longer there.
        """
        selected = np.array([] if mark.selected is None else mark.selected, dtype=int).ravel()
        places = self._places[mark.labels[0]]
        return [places[k] for k in selected.tolist() if k < len(places)]

    def _compute(self, method: str) -> str:
        """Compute another map in a thread."""
        if self.thread and self.thread.is_alive():
            raise ImgclfError("another map is being computed; wait until it is shown")
        self._choose_none()
        compute = embedding.tsne if method == TSNE else embedding.principal_components

        def work() -> None:
            try:
                found = compute(self._features, most=self._most)
            except Exception as error:  # shown, since nobody sees what a thread raises
                self.note.value = escape(f"Not done: {type(error).__name__}: {error}")
                return
            self._show_map(found)

        self.thread = threading.Thread(target=work, name="imgclf-map", daemon=True)
        self.thread.start()
        return f"{method}: the map is being computed; the present one can be used until then"

    def _show_map(self, found: Embedding) -> None:
        with self._lock:
            self._choose_none()
            self.embedding = found
            for axis, name in zip(self.chart.axes, found.axes, strict=True):
                axis.label = name
            self.status.value = "the new map is shown"
            self.refresh()

    # Display

    def refresh(self) -> None:
        """Show the current state."""
        with self._lock, self._ignore_callbacks():
            self._refresh_points()
            self.page.refresh("drag a lasso around points of the map to choose images")
            counts = self.annotations.label_counts()
            self.labels.children = self._label_buttons(
                self._relabel,
                lambda label: f"{self._marker(label)[1]} {_short(label)} · {counts[label]}",
                self.annotations.labels,
            )
            drawn, count = len(self.embedding.drawn), len(self._positions)
            few = f"{drawn} of {count} images are drawn; each represents those most similar to it"
            self.note.value = few if drawn < count else f"{count} images"
            self._refresh_zoom()

    def _refresh_points(self) -> None:
        """Draw each point with the colour and the marker of its label."""
        images = [self.annotations.images[i] for i in self._positions[self.embedding.drawn]]
        self._places: dict[str, list[int]] = {}
        for index, image in enumerate(images):
            self._places.setdefault(image.label, []).append(index)
        labels = [UNLABELLED, *self.annotations.labels, NONE]
        for label in labels:
            if label not in self._marks:
                self._marks[label] = self._mark(label)
        for label in labels:
            mark = self._marks[label]
            mark.marker, mark.colors = self._marker(label)[0], [self._colour(label)]
            places = self._places.setdefault(label, [])
            points, names = self.embedding.points[places], [images[k].path for k in places]
            if list(mark.names) == names and np.array_equal(mark.x, points[:, 0]):
                continue
            with mark.hold_sync():
                mark.x, mark.y, mark.names = points[:, 0], points[:, 1], np.array(names, dtype=str)
        marks = [self._marks[label] for label in labels]
        if self.lasso.marks != marks:
            self.chart.marks = self.lasso.marks = marks

    def _mark(self, label: str) -> bqplot.Scatter:
        mark = bqplot.Scatter(
            x=np.zeros(0),
            y=np.zeros(0),
            names=np.zeros(0, dtype=str),
            display_names=False,
            scales=self._scales,
            default_size=28,
            opacities=[0.7],
            selected_style={"opacity": 1.0},
            unselected_style={"opacity": 0.25},
            labels=[label],
            tooltip=bqplot.Tooltip(fields=["name"], labels=[label]),
        )
        mark.observe(self._on_lasso, "selected")
        return mark

    def _colour(self, label: str) -> str:
        labels = self.annotations.labels
        return plots.colour(labels, label) if label in labels else to_hex(OTHERS)

    def _marker(self, label: str) -> tuple[str, str]:
        """Return the marker of a label, and its sign."""
        if label in MARKER_OF:
            return MARKER_OF[label]
        return list(MARKERS.items())[self.annotations.labels.index(label) % len(MARKERS)]

    def near_images(self) -> list[Image]:
        """Return the image at the cursor and the next one."""
        positions = self.picks.order[self.picks.current :][:2]
        return [self.annotations.images[position] for position in positions]

    def __repr__(self) -> str:
        return f"[map of {len(self._positions)} images: run this cell to use it]"


def _short(label: str) -> str:
    return "none of these" if label == NONE else plots.short(label)


def _filling(flex: str) -> Layout:
    """Return the layout of a box that takes the space its neighbours leave."""
    sizes: dict[str, Any] = {"width": "auto", "height": "auto", "min_width": "0", "min_height": "0"}
    return Layout(flex=flex, **sizes)
