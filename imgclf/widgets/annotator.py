"""The annotator: go through the images of a data set, and correct their labels by keyboard or mouse."""

from collections.abc import Sequence
from html import escape
from typing import Any

import ipywidgets
from ipywidgets import HTML, Dropdown, GridBox, HBox, Layout, Text, VBox

from imgclf import plots
from imgclf.annotation import gallery
from imgclf.annotation.annotations import Annotations, Done
from imgclf.annotation.gallery import DIGITS, Gallery
from imgclf.annotation.suspects import OutOfSampleScores, Suspect
from imgclf.data.dataset import BY_HAND, COPY, NO_LABEL, UNLABELLED, Image
from imgclf.data.split import PreviousSplit
from imgclf.images.thumbnails import Thumbnails
from imgclf.widgets.panel import WAIT_SECONDS, Panel, key
from imgclf.widgets.sheet import Sheet

THUMBNAIL_SIDE, LARGE_SIDE = 260, 640  # pixels
GRIDS = {"2 x 2": (2, 2), "3 x 5": (3, 5), "4 x 7": (4, 7), "5 x 9": (5, 9), "7 x 13": (7, 13)}
WANTED = [
    *DIGITS,
    *"uxzsa",
    "Ctrl+z",
    "Ctrl+a",
    " ",
    "Enter",
    "Escape",
    "Home",
    "End",
    *gallery.STEPS,
    *gallery.ROWS,
    *gallery.PAGES,
]


class Annotator(Panel):
    """A page of images with their labels, the current one large beside it, and all commands of `gallery.KEYS`.

    Thin over `annotations` and a `Gallery`, which hold all state; every change is on disk before it is shown.
    """

    def __init__(
        self,
        annotations: Annotations,
        *,
        sides: PreviousSplit = PreviousSplit({}),
        known: OutOfSampleScores = OutOfSampleScores(),
        suspects: Sequence[Suspect] = (),
    ) -> None:
        """Show all images of a data set, or first the `suspects` among them.

        Parameters
        ----------
        sides : of the last split, to tell which images would change sides.
        known : scores, by which images can be put in order.
        """
        self.gallery = shown = Gallery(annotations, known=known, suspects=suspects, rows=3, columns=5)
        super().__init__(annotations, sides, lambda key, shift: shown.press(key, shift=shift), WANTED)
        self.known = known
        folder = annotations.dataset.folder
        self._thumbnails, self._large_pictures = (
            Thumbnails(folder, THUMBNAIL_SIDE),
            Thumbnails(folder, LARGE_SIDE, most=40),
        )
        self._open([self._toolbar(), self._middle()], gallery.KEYS)
        self.refresh()

    def _toolbar(self) -> HBox:
        shown = self.gallery
        self.filter = Dropdown(
            options=shown.filters, value=shown.filter, description="show", layout=Layout(width="200px")
        )
        self.sorting = Dropdown(
            options=shown.sortings, value=shown.sorting, description="order by", layout=Layout(width="190px")
        )
        self.grid = Dropdown(
            options=GRIDS, value=(shown.rows, shown.columns), description="grid", layout=Layout(width="115px")
        )
        for field, choose in (
            (self.filter, shown.show),
            (self.sorting, shown.sort),
            (self.grid, lambda size: shown.resize(*size)),
        ):
            self._on_choice(field, choose)
        self.place, self.progress = HTML(), HTML()
        turns = [
            self._button(sign, lambda pages=pages: shown.turn(pages), tip, width="32px")
            for sign, tip, pages in (("◀", "page back", -1), ("▶", "page forward", 1))
        ]
        return HBox(
            [self.filter, self.sorting, self.grid, turns[0], self.place, turns[1], self.progress],
            layout=Layout(flex_flow="row wrap", align_items="center", grid_gap="2px 6px"),
        )

    def _middle(self) -> HBox:
        shown = self.gallery
        self.sheet = Sheet(self._pictures, layout=Layout(flex="1 1 auto", min_width="0", height="100%"))
        self.sheet.on_click(
            lambda place, shift, ctrl: self._attempt(lambda: shown.click(place, shift=shift, ctrl=ctrl))
        )
        self.sheet.on_label(lambda place, label: self._attempt(lambda: self._relabel_one(place, label)))
        self.large = ipywidgets.Image(
            format="jpeg", layout=Layout(flex="1 1 0", min_height="60px", width="100%", object_fit="contain")
        )
        self.facts = HTML()
        self.labels = GridBox(
            layout=Layout(
                flex="0 1 auto",
                max_height="45%",
                min_height="56px",
                overflow="hidden auto",
                grid_template_columns="repeat(auto-fill, minmax(112px, 1fr))",
            )
        )
        self.new_label = Text(
            placeholder="new label", layout=Layout(width="0", flex="1 1 auto"), continuous_update=False
        )
        self.new_label.observe(
            lambda change: change["new"] and self._attempt(lambda: self._add_label(change["new"])), "value"
        )
        exclude = self._button("exclude (X)", shown.exclude, "or use again", flex="1 1 0")
        undo = self._button("undo (Z)", shown.undo, "the latest change", flex="1 1 0")
        side = VBox(
            [
                self.large,
                self.facts,
                self.labels,
                HBox([self.new_label], layout=Layout(flex="0 0 auto")),
                HBox([exclude, undo], layout=Layout(flex="0 0 auto")),
            ],
            layout=Layout(width="clamp(256px, 30%, 480px)", flex="0 0 auto", height="100%"),
        )
        return HBox([self.sheet, side], layout=Layout(height="clamp(380px, 62vh, 900px)", grid_gap="8px"))

    def _relabel_one(self, place: int, label: str) -> Done:
        """What the list below a thumbnail does: it means that image alone, and the frame stays there."""
        self.gallery.click(place)
        return self.annotations.relabel(self.gallery.targets, label)

    def _add_label(self, name: str) -> Done:
        done = self.annotations.add_label(name)
        self.new_label.value = ""
        return done

    def refresh(self) -> None:
        """Show everything as it is now."""
        shown, notes = self.gallery, self.annotations
        self._refresh_choices()
        page = shown.on_page(shown.page)
        self.sheet.rows, self.sheet.columns = shown.rows, shown.columns
        self.sheet.labels = [*notes.labels, UNLABELLED]
        self.sheet.tiles = [self._tile(i) for i in page]
        self.sheet.cursor = shown.current - shown.page * shown.size if page else -1
        self.sheet.selected = [place for place, i in enumerate(page) if i in shown.selected]
        self.sheet.ahead = [
            key(notes.images[i]) for number in (1, -1) for i in shown.on_page(shown.page + number)
        ]
        self._thumbnails.prepare(self._near_pages().items())
        self.place.value = f"page {shown.page + 1} of {shown.pages}"
        self.progress.value = f"<b>{notes.seen()}</b> of {len(notes.images)} seen"
        counts = notes.counts()
        self.labels.children = self._label_buttons(
            shown.relabel, lambda label: f"{label} · {counts[label]}", notes.labels
        )
        self._refresh_large()

    def _tile(self, position: int) -> dict[str, Any]:
        image, notes = self.annotations.images[position], self.annotations
        mark = "changed" if notes.is_changed(position) else "seen" if notes.is_seen(position) else ""
        return {
            "key": key(image),
            "name": image.path.rpartition("/")[2],
            "label": image.label,
            "colour": self._colour(image.label),
            "note": _why_left_out(image) or mark,
            "dim": bool(_why_left_out(image)),
        }

    def _colour(self, label: str) -> str:
        return plots.colour(self.annotations.labels, label) if label in self.annotations.labels else ""

    def _near_pages(self) -> dict[str, str]:
        """Key and path of the images of this page, the next and the one before."""
        shown = self.gallery
        images = [
            self.annotations.images[i] for number in (0, 1, -1) for i in shown.on_page(shown.page + number)
        ]
        return {key(image): image.path for image in images}

    def _pictures(self, keys: list[str]) -> dict[str, bytes]:
        near = self._near_pages()
        return self._thumbnails.ready([(key, near[key]) for key in keys if key in near], seconds=WAIT_SECONDS)

    def _refresh_choices(self) -> None:
        shown = self.gallery
        if shown.filter not in shown.filters:  # a label that is gone
            shown.show(gallery.ALL)
        with self._busy():
            for field, options, value in (
                (self.filter, shown.filters, shown.filter),
                (self.sorting, shown.sortings, shown.sorting),
            ):
                if list(field.options) != options:
                    field.options = options
                field.value = value

    def _refresh_large(self) -> None:
        position = self.gallery.at_cursor
        image = None if position is None else self.annotations.images[position]
        self.facts.value = self._facts(image) if image else ""
        if image:
            around = (
                self.gallery.order[self.gallery.current :][:4]
                + self.gallery.order[max(0, self.gallery.current - 1) : self.gallery.current]
            )
            self._large_pictures.prepare(
                (key(self.annotations.images[i]), self.annotations.images[i].path) for i in around
            )
            found = self._large_pictures.ready([(key(image), image.path)], seconds=WAIT_SECONDS)
            self.large.value = found.get(key(image)) or self._thumbnails.ready(
                [(key(image), image.path)], seconds=0
            ).get(key(image), b"")
        self.large.layout.visibility = "visible" if image and self.large.value else "hidden"

    def _facts(self, image: Image) -> str:
        rows = [
            f"<b>{escape(image.path)}</b>",
            f"{image.width} x {image.height} pixels" if image.width else "size unknown",
            f"label <b>{escape(image.label)}</b>, {self.sides.subset_of.get(image.sha256, 'not split yet')}",
        ]
        if prediction := self.known.prediction(image):
            rows.append(
                f"classifier: <b>{escape(prediction[0])}</b> {prediction[1]:.2f}, doubt in the label {self.known.doubt(image):.2f}"
            )
        if image.excluded:
            rows.append(escape(image.excluded))
        return f"<div class='imgclf-facts'>{'<br>'.join(rows)}</div>"

    def __repr__(self) -> str:
        return f"[annotator of {len(self.annotations.images)} images, needs a running kernel]"


def _why_left_out(image: Image) -> str:
    """In a word."""
    if image.excluded in ("", NO_LABEL):
        return ""
    return (
        "excluded"
        if image.excluded == BY_HAND
        else "copy"
        if image.excluded.startswith(COPY)
        else "unreadable"
    )
