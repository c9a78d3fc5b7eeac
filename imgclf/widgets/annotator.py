"""The annotator: browse the images of a data set and correct their labels, by keyboard or mouse."""

from collections.abc import Sequence
from html import escape
from typing import Any

import ipywidgets
from ipywidgets import HTML, Dropdown, GridBox, HBox, Layout, VBox

from imgclf import plots
from imgclf.annotation import gallery, pages
from imgclf.annotation.annotations import Annotations, ChangeResult
from imgclf.annotation.gallery import DIGITS, Gallery
from imgclf.annotation.suspects import OutOfSampleScores, Suspect
from imgclf.data.dataset import BY_HAND, COPY, NO_LABEL, Image
from imgclf.data.labels import NO_LABELS
from imgclf.data.previous_split import PreviousSplit
from imgclf.images.thumbnails import Thumbnails
from imgclf.widgets.label_box import LabelBox
from imgclf.widgets.panel import WAIT_SECONDS, WAIT_SECONDS_AT_START, Panel, picture_key
from imgclf.widgets.sheet import Sheet

THUMBNAIL_SIDE, LARGE_SIDE = 260, 640  # pixels
GRIDS = {"2 x 2": (2, 2), "3 x 5": (3, 5), "4 x 7": (4, 7), "5 x 9": (5, 9), "7 x 13": (7, 13)}
CAPTURED = [
    *DIGITS,
    *"unxzysaf",
    "Ctrl+z",
    "Ctrl+y",
    "Ctrl+a",
    " ",
    "Enter",
    "Escape",
    "Home",
    "End",
    *pages.STEPS,
    *pages.ROWS,
    *pages.PAGES,
]


class Annotator(Panel):
    """A page of images, a large view of the current image, and the commands of `gallery.KEYS`.

    `annotations` and a `Gallery` hold all state. Every change is on disk before it is shown.
    """

    def __init__(
        self,
        annotations: Annotations,
        *,
        sides: PreviousSplit = PreviousSplit({}),
        out_of_sample: OutOfSampleScores = OutOfSampleScores(),
        suspects: Sequence[Suspect] = (),
    ) -> None:
        """Show the images of a data set: all of them, or only the `suspects` until the filter is changed.

        Parameters
        ----------
        sides : of the last split, to find the images that would move between training and test set.
        out_of_sample : scores for the predictions and for sorting by label quality.
        """
        self.gallery = Gallery(annotations, out_of_sample=out_of_sample, suspects=suspects, rows=3, columns=5)
        super().__init__(
            annotations, sides, lambda key, shift: self.gallery.press(key, shift=shift), CAPTURED
        )
        folder = annotations.dataset.folder
        self._thumbnails = Thumbnails(folder, THUMBNAIL_SIDE)
        self._large_pictures = Thumbnails(folder, LARGE_SIDE, most=40)
        self._build([self._toolbar(), self._middle()], gallery.KEYS)
        self.refresh(seconds=WAIT_SECONDS_AT_START)

    def _toolbar(self) -> HBox:
        state = self.gallery
        self.filter = Dropdown(
            options=state.filters, value=state.filter, description="Filter", layout=Layout(width="228px")
        )
        self.sorting = Dropdown(
            options=state.sortings, value=state.sorting, description="Sort by", layout=Layout(width="195px")
        )
        self.grid = Dropdown(
            options=GRIDS, value=(state.rows, state.columns), description="Grid", layout=Layout(width="115px")
        )
        self._on_user_choice(self.filter, state.filter_by)
        self._on_user_choice(self.sorting, state.sort_by)
        self._on_user_choice(self.grid, lambda size: state.resize(*size))
        self.page_text, self.progress = HTML(), HTML()
        back = self._button("◀", lambda: state.turn(-1), "Previous page", width="32px")
        forward = self._button("▶", lambda: state.turn(1), "Next page", width="32px")
        return HBox(
            [self.filter, self.sorting, self.grid, back, self.page_text, forward, self.progress],
            layout=Layout(flex_flow="row wrap", align_items="center", grid_gap="2px 6px"),
        )

    def _middle(self) -> HBox:
        state = self.gallery
        first = map(_pair, map(self._image, state.on_page(0)))
        self.sheet = Sheet(
            self._pictures,
            first_pictures=self._thumbnails.ready(first, seconds=WAIT_SECONDS_AT_START),
            layout=Layout(flex="1 1 auto", min_width="0", height="100%"),
        )
        self.sheet.on_click(
            lambda tile, shift, ctrl: self._execute(lambda: state.click(tile, shift=shift, ctrl=ctrl))
        )
        self.sheet.on_label(lambda tile, label: self._execute(lambda: self._relabel_tile(tile, label)))
        return HBox(
            [
                self._zoomable(HBox([self.sheet], layout=Layout(flex="1 1 auto", min_width="0"))),
                self._side_bar(),
            ],
            layout=Layout(height="clamp(380px, 62vh, 900px)", grid_gap="8px"),
        )

    def _side_bar(self) -> VBox:
        self.large = ipywidgets.Image(
            format="jpeg",
            layout=Layout(flex="1 1 0", min_height="60px", width="100%", margin="0", object_fit="contain"),
        )
        self.details = HTML()
        self.labels = GridBox(
            layout=Layout(
                flex="0 1 auto",
                max_height="45%",
                min_height="56px",
                overflow="hidden auto",
                grid_template_columns="repeat(auto-fill, minmax(112px, 1fr))",
            )
        )
        state = self.gallery
        self.label_box = LabelBox(
            add=lambda name: self._execute(lambda: state.add_label(name)),
            rename=lambda name: self._execute(lambda: state.rename_label(name)),
            layout=Layout(flex="0 0 auto"),
        )
        exclude = self._button("Exclude (X)", state.exclude, "Exclude, or include again", flex="1 1 auto")
        undo = self._button("Undo (Z)", state.undo, "Undo the latest change", flex="1 1 auto")
        redo = self._button("Redo (Y)", state.redo, "Make the undone change again", flex="1 1 auto")
        return VBox(
            [
                self.large,
                self.details,
                self.labels,
                self.label_box,
                HBox([exclude, undo, redo], layout=Layout(flex="0 0 auto")),
            ],
            layout=Layout(width="clamp(256px, 30%, 480px)", flex="0 0 auto", height="100%"),
        )

    def _relabel_tile(self, tile: int, label: str) -> ChangeResult:
        """Relabel the image of one tile, by a choice from its label list. The cursor stays there."""
        self.gallery.click(tile)
        return self.annotations.relabel(self.gallery.targets, label)

    def refresh(self, *, seconds: float = WAIT_SECONDS) -> None:
        """Show the current state; wait at most `seconds` for the large picture."""
        state, annotations = self.gallery, self.annotations
        self._refresh_choices()
        page = state.on_page(state.page)
        self.sheet.rows, self.sheet.columns = state.rows, state.columns
        self.sheet.labels = [*annotations.labels, *NO_LABELS]
        self.sheet.tiles = [self._tile(i) for i in page]
        self.sheet.cursor = state.current - state.page * state.page_size if page else -1
        self.sheet.selected = [tile for tile, i in enumerate(page) if i in state.selected]
        self.sheet.prefetch = [
            picture_key(annotations.images[i])
            for number in (1, -1)
            for i in state.on_page(state.page + number)
        ]
        self._thumbnails.prepare(self._near_pages().items())
        self.page_text.value = f"page {state.page + 1} of {state.pages}"
        self.progress.value = f"<b>{annotations.count_reviewed()}</b> of {len(annotations.images)} reviewed"
        counts = annotations.label_counts()
        self.labels.children = self._label_buttons(
            state.relabel, lambda label: f"{label} · {counts[label]}", annotations.labels
        )
        self._refresh_large(seconds)
        self._refresh_zoom()

    def _image(self, position: int) -> Image:
        return self.annotations.images[position]

    def near_images(self) -> list[Image]:
        order, current = self.gallery.order, self.gallery.current
        near = [*order[current : current + 4], *order[max(0, current - 1) : current]]
        return list(map(self._image, near))

    def _tile(self, position: int) -> dict[str, Any]:
        image, annotations = self.annotations.images[position], self.annotations
        excluded = _exclusion_badge(image)
        badge = excluded
        if not excluded and annotations.is_reviewed(position):
            badge = "changed" if annotations.is_changed(position) else "reviewed"
        return {
            "key": picture_key(image),
            "name": image.path.rpartition("/")[2],
            "label": image.label,
            "colour": self._colour(image.label),
            "badge": badge,
            "dimmed": bool(excluded),
        }

    def _colour(self, label: str) -> str:
        return plots.colour(self.annotations.labels, label) if label in self.annotations.labels else ""

    def _near_pages(self) -> dict[str, str]:
        """Return key and path of the images of the current, the next and the previous page."""
        state = self.gallery
        images = [
            self.annotations.images[i] for number in (0, 1, -1) for i in state.on_page(state.page + number)
        ]
        return {picture_key(image): image.path for image in images}

    def _pictures(self, keys: list[str]) -> dict[str, bytes]:
        near = self._near_pages()
        return self._thumbnails.ready([(key, near[key]) for key in keys if key in near], seconds=WAIT_SECONDS)

    def _refresh_choices(self) -> None:
        state = self.gallery
        if state.filter not in state.filters:  # its label was removed
            state.filter_by(gallery.ALL)
        with self._ignore_callbacks():
            for field, options, value in (
                (self.filter, state.filters, state.filter),
                (self.sorting, state.sortings, state.sorting),
            ):
                if list(field.options) != options:
                    field.options = options
                field.value = value

    def _refresh_large(self, seconds: float) -> None:
        near = self.near_images()
        self.details.value = self._details(near[0]) if near else ""
        if near:
            self._large_pictures.prepare(map(_pair, near))
            key, pair = picture_key(near[0]), _pair(near[0])
            large = self._large_pictures.ready([pair], seconds=seconds).get(key)
            self.large.value = large or self._thumbnails.ready([pair], seconds=0).get(key, b"")
        self.large.layout.visibility = "visible" if near and self.large.value else "hidden"

    def _details(self, image: Image) -> str:
        rows = [
            f"<b>{escape(image.path)}</b>",
            f"{image.width} x {image.height} pixels" if image.width else "size unknown",
            f"label <b>{escape(image.label)}</b>, {self.sides.subset_of.get(image.sha256, 'not split yet')}",
        ]
        scores = self.gallery.out_of_sample
        if prediction := scores.prediction(image):
            label, probability = prediction
            rows.append(
                f"predicted <b>{escape(label)}</b> {probability:.2f}, "
                f"label quality {scores.label_quality(image):.2f}"
            )
        if image.excluded:
            rows.append(escape(image.excluded))
        return f"<div class='imgclf-details'>{'<br>'.join(rows)}</div>"

    def __repr__(self) -> str:
        return f"[annotator of {len(self.annotations.images)} images: run this cell to use it]"


def _pair(image: Image) -> tuple[str, str]:
    """Return the key and path by which `Thumbnails` is asked for an image."""
    return picture_key(image), image.path


def _exclusion_badge(image: Image) -> str:
    """Return in one word why later stages skip an image; empty if they use it or it only has no label."""
    if image.excluded in ("", NO_LABEL):
        return ""
    if image.excluded == BY_HAND:
        return "excluded"
    return "duplicate" if image.excluded.startswith(COPY) else "unreadable"
