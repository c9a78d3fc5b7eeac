"""The browser of an evaluation: its images one by one with all their scores, and what a threshold would do."""

from html import escape

import ipywidgets
from ipywidgets import (
    HTML,
    Dropdown,
    FloatRangeSlider,
    FloatSlider,
    HBox,
    IntSlider,
    Layout,
    ToggleButtons,
    VBox,
)

from imgclf import plots
from imgclf.annotation import review
from imgclf.annotation.annotations import Annotations
from imgclf.annotation.gallery import DIGITS
from imgclf.annotation.review import ANY, Review
from imgclf.data.dataset import UNLABELLED
from imgclf.data.split import PreviousSplit
from imgclf.evaluation.metrics import Evaluation
from imgclf.images.thumbnails import Thumbnails
from imgclf.widgets import charts
from imgclf.widgets.panel import WAIT_SECONDS, Panel, key

LARGE_SIDE = 720  # pixels
WAIT_SECONDS_AT_START = 1.0  # for the first picture
CONFUSION, THRESHOLD = "confusion matrix", "threshold and ROC"
WANTED = [*DIGITS, *"uxzwra", " ", "Home", "End", *review.STEPS]


class ResultsBrowser(Panel):
    """One image large, its labels, its probabilities as bars, the confusion matrix and the ROC curves, and all commands of `results.KEYS`.

    Thin over `annotations` and a `Review`, which hold all state; every change is on disk before it is shown.
    """

    def __init__(
        self, evaluation: Evaluation, annotations: Annotations, *, sides: PreviousSplit = PreviousSplit({})
    ) -> None:
        """Show the images of an evaluation.

        Parameters
        ----------
        sides : of the last split, to tell which images would change sides.
        """
        self.results = shown = Review(evaluation, annotations)
        super().__init__(annotations, sides, lambda key, shift: shown.press(key), WANTED)
        self._pictures = Thumbnails(annotations.dataset.folder, LARGE_SIDE, most=40)
        self._open([self._toolbar(), self._walk(), self._middle(), self._commands()], review.KEYS)
        self.refresh(seconds=WAIT_SECONDS_AT_START)
        self._move_threshold()

    def _toolbar(self) -> HBox:
        shown, labels = self.results, self.results.evaluation.labels
        any_label = [("any label", ANY), *((label, label) for label in labels)]
        self.which = Dropdown(options=review.FILTERS, description="show", layout=Layout(width="135px"))
        self.true = Dropdown(options=any_label, description="label", layout=Layout(width="165px"))
        self.predicted = Dropdown(options=any_label, description="predicted", layout=Layout(width="195px"))
        self.sorting = Dropdown(
            options=review.SORTINGS,
            description="order by",
            layout=Layout(width="165px"),
            tooltip="confidence: the least sure first; margin: the closest call; loss: the least probable label",
        )
        for field, name in ((self.which, "which"), (self.true, "true"), (self.predicted, "predicted")):
            self._on_choice(field, lambda value, name=name: shown.show(**{name: value}))
        self._on_choice(self.sorting, shown.sort)
        everything = self._button("all again (A)", shown.show_all)
        return HBox([self.which, self.true, self.predicted, self.sorting, everything], layout=_row())

    def _walk(self) -> HBox:
        shown = self.results
        self.slider = IntSlider(min=1, max=1, readout=False, layout=Layout(flex="1 1 160px", min_width="0"))
        self._on_choice(self.slider, lambda value: shown.go(value - 1))
        self.range = FloatRangeSlider(
            value=(0, 1),
            min=0,
            max=1,
            step=0.01,
            readout=False,
            continuous_update=False,
            tooltip="of the predicted label",
            layout=Layout(width="330px"),
        )
        self._on_choice(self.range, lambda ends: shown.show(lowest=ends[0], highest=ends[1]))
        self.place = HTML()
        back = self._button("◀", lambda: shown.go(shown.current - 1), "one back", width="36px")
        forward = self._button("▶", lambda: shown.go(shown.current + 1), "one on", width="36px")
        return HBox([back, self.slider, forward, self.place, self.range], layout=_row())

    def _middle(self) -> HBox:
        self.large = ipywidgets.Image(
            format="jpeg", layout=Layout(flex="1 1 0", min_height="60px", width="100%", object_fit="contain")
        )
        self.facts = HTML()
        self.bars = charts.ProbabilityBars(self.results.evaluation.labels, layout=_filling())
        self.side = ToggleButtons(options=(CONFUSION, THRESHOLD), layout=Layout(flex="0 0 auto"))
        self.side.style.button_width = "auto"
        self.side.observe(lambda change: self._turn_to(change["new"]), "value")
        self._sides = {CONFUSION: self._confusion_side(), THRESHOLD: self._threshold_side()}
        self._turn_to(CONFUSION)
        both = VBox(list(self._sides.values()), layout=_filling())
        return HBox(
            [
                VBox([self.large, self.facts], layout=_filling(flex="1.2 1 0")),
                VBox([_heading("Probability of each label"), self.bars], layout=_filling()),
                VBox(
                    [self.side, both],
                    layout=_filling(
                        flex=f"{2 if len(self.results.evaluation.labels) > charts.FEW else 1.4} 1 0"
                    ),
                ),
            ],
            layout=Layout(height="clamp(340px, 54vh, 860px)", grid_gap="8px"),
        )

    def _confusion_side(self) -> VBox:
        evaluation = self.results.evaluation
        self.confusion = charts.confusion(
            evaluation,
            on_click=lambda true, predicted: self._attempt(lambda: self.results.show_cell(true, predicted)),
        )
        self.confusion.layout, self.confusion.title, self.confusion.display_toolbar = _filling(), "", False
        self.confusion.min_aspect_ratio, self.confusion.fig_margin = (
            0.5,
            {**self.confusion.fig_margin, "top": 4},
        )
        return VBox(
            [
                _heading(
                    f"{len(evaluation.truth)} images, right ones on the diagonal; a click on a cell shows its images"
                ),
                self.confusion,
            ]
        )

    def _threshold_side(self) -> VBox:
        self.threshold = FloatSlider(
            min=0, max=1, step=0.01, description="threshold", layout=Layout(width="auto", flex="0 0 auto")
        )
        self.threshold.style.description_width = "auto"
        self.threshold.observe(lambda _: self._move_threshold(), "value")
        self.rest = HTML()
        self.roc = charts.ThresholdRoc(self.results.evaluation, layout=_filling())
        return VBox([self.threshold, self.rest, self.roc])

    def _turn_to(self, side: str) -> None:
        """Let one side be seen; the other lies below it, cut off but drawn: a figure without a size makes errors in the browser."""
        for name, box in self._sides.items():
            is_seen = name == side
            box.layout = Layout(
                flex="0 0 100%",
                order=str(int(not is_seen)),
                visibility="visible" if is_seen else "hidden",
                min_height="0",
                overflow="hidden",
            )

    def _commands(self) -> HBox:
        exclude = self._button("exclude (X)", self.results.exclude, "or use again")
        undo = self._button("undo (Z)", self.results.undo, "the latest change")
        self.labels = HBox(
            layout=Layout(
                flex="1 1 0", flex_flow="row wrap", max_height="92px", overflow="hidden auto", min_width="0"
            )
        )
        return HBox(
            [HTML("Wrong label? It is"), self.labels, exclude, undo],
            layout=Layout(align_items="center", grid_gap="0 8px", flex="0 0 auto"),
        )

    def _move_threshold(self) -> None:
        self.results.threshold = self.threshold.value
        self.rest.value = escape(str(self.results.rejection))
        self.roc.move(self.results.threshold)
        self.bars.limit(self.results.threshold)
        self._refresh_facts()

    def refresh(self, *, seconds: float = WAIT_SECONDS) -> None:
        """Show everything as it is now; wait at most `seconds` for the picture."""
        shown, chosen = self.results, self.results.filter
        with self._busy():
            self.which.value, self.true.value, self.predicted.value, self.sorting.value = (
                chosen.which,
                chosen.true,
                chosen.predicted,
                shown.sorting,
            )
            self.range.value, self.range.description = (
                (chosen.lowest, chosen.highest),
                f"probability {chosen.lowest:.2f} to {chosen.highest:.2f}",
            )
            self.slider.max, self.slider.value = max(1, len(shown.order)), shown.current + 1
        self.place.value = (
            f"<b>{shown.current + 1}</b> of {len(shown.order)}"
            if shown.order
            else "no image passes the filter"
        )
        self._refresh_labels()
        self._refresh_picture(seconds)
        self._refresh_facts()
        if (row := shown.at_cursor) is not None:
            self.bars.show(
                shown.evaluation.probabilities[row], shown.evaluation.labels[shown.evaluation.truth[row]]
            )

    def _refresh_labels(self) -> None:
        notes, row = self.annotations, self.results.at_cursor
        image = None if row is None else self.results.image(row)
        self.labels.children = self._label_buttons(
            self.results.relabel, plots.short, self.results.evaluation.labels
        )
        for label, button in zip([*notes.labels, UNLABELLED], self.labels.children, strict=True):
            button.icon = "check" if image and image.label == label else ""

    def _refresh_picture(self, seconds: float) -> None:
        shown = self.results
        near = [
            image
            for row in shown.order[max(0, shown.current - 1) : shown.current + 4]
            if (image := shown.image(row))
        ]
        image = None if shown.at_cursor is None else shown.image(shown.at_cursor)
        self._pictures.prepare((key(each), each.path) for each in near)
        self.large.value = (
            self._pictures.ready([(key(image), image.path)], seconds=seconds).get(key(image), b"")
            if image
            else b""
        )
        self.large.layout.visibility = "visible" if self.large.value else "hidden"

    def _refresh_facts(self) -> None:
        row = self.results.at_cursor
        self.facts.value = (
            "" if row is None else f"<div class='imgclf-facts'>{'<br>'.join(self._facts(row))}</div>"
        )

    def _facts(self, row: int) -> list[str]:
        shown, scored = self.results, self.results.evaluation
        image, true, predicted = (
            shown.image(row),
            scored.labels[scored.truth[row]],
            scored.labels[scored.predicted[row]],
        )
        facts = [
            f"<b>{escape(image.path if image else scored.paths[row])}</b>",
            f"<b>{'✓ right' if scored.right[row] else '✗ wrong'}</b>: label <b>{escape(true)}</b>, predicted <b>{escape(predicted)}</b>",
            f"probability {shown.probability[row]:.2f}, margin {shown.margin[row]:.2f}, loss {shown.loss[row]:.2f}"
            + (", rejected" if shown.is_rejected(row) else ""),
        ]
        if image is None:
            return [*facts, "not in the data set any more"]
        side = self.sides.subset_of.get(image.sha256)
        notes = [
            f"in the split: {side}" if side else "",
            f"<b>now '{escape(image.label)}'</b>, was scored as '{escape(true)}'"
            if shown.is_relabelled(row)
            else "",
            escape(image.excluded),
        ]
        return [*facts, *filter(None, notes)]

    def __repr__(self) -> str:
        return f"[browser of {len(self.results.evaluation.truth)} scored images, needs a running kernel]"


def _row() -> Layout:
    return Layout(flex_flow="row wrap", align_items="center", grid_gap="2px 10px", flex="0 0 auto")


def _filling(*, flex: str = "1 1 0") -> Layout:
    """Of what takes the room that its neighbours leave."""
    return Layout(flex=flex, width="auto", height="auto", min_width="0", min_height="0", overflow="hidden")


def _heading(text: str) -> HTML:
    return HTML(escape(text), layout=Layout(flex="0 0 auto"))
