"""The results browser: the images of an evaluation with probabilities, confusion matrix and threshold."""

from functools import partial
from html import escape
from pathlib import Path

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
from imgclf.data.dataset import Image
from imgclf.data.labels import NO_LABELS
from imgclf.data.previous_split import PreviousSplit
from imgclf.evaluation.metrics import Evaluation
from imgclf.images.thumbnails import Thumbnails
from imgclf.widgets import charts
from imgclf.widgets.overlays import OverlayPictures
from imgclf.widgets.panel import WAIT_SECONDS, WAIT_SECONDS_AT_START, ZOOM_SIDE, Panel, picture_key

LARGE_SIDE = 720  # pixels
CONFUSION, THRESHOLD = "confusion matrix", "threshold and ROC"
CAPTURED = [*DIGITS, *"unxzywrafm", " ", "Escape", "Home", "End", *review.STEPS]


class ResultsBrowser(Panel):
    """The images of an evaluation, one at a time, with all commands of `review.KEYS`.

    It shows the image, its labels, its probabilities as bars, the confusion matrix and the ROC curves.
    `annotations` and a `Review` hold all state. Every change is on disk before it is shown.
    """

    def __init__(
        self,
        evaluation: Evaluation,
        annotations: Annotations,
        *,
        sides: PreviousSplit = PreviousSplit({}),
        classifier: Path | None = None,
    ) -> None:
        """Show the images of an evaluation.

        Parameters
        ----------
        sides : of the last split, to find the images that would move between training and test set.
        classifier : the classifier.onnx whose activation maps M shows.
        """
        self.review = Review(evaluation, annotations)
        self._maps = OverlayPictures(classifier, annotations.dataset.folder, ZOOM_SIDE)
        super().__init__(annotations, sides, self._press_key, CAPTURED)
        self._pictures = Thumbnails(annotations.dataset.folder, LARGE_SIDE, most=40)
        self._build([self._toolbar(), self._navigation(), self._middle(), self._commands()], review.KEYS)
        self.refresh(seconds=WAIT_SECONDS_AT_START)
        self._update_threshold()

    def _press_key(self, key: str, shift: bool) -> str:
        return self._maps.toggle() if key == "m" else self.review.press(key, shift=shift)

    def _toolbar(self) -> HBox:
        state = self.review
        labels = [("any label", ANY), *((label, label) for label in state.evaluation.labels)]
        self.prediction = Dropdown(options=review.FILTERS, description="Filter", layout=Layout(width="140px"))
        self.true = Dropdown(options=labels, description="True label", layout=Layout(width="190px"))
        self.predicted = Dropdown(options=labels, description="Predicted label", layout=Layout(width="220px"))
        self.sorting = Dropdown(
            options=review.SORTINGS,
            description="Sort by",
            layout=Layout(width="165px"),
            tooltip="confidence, margin: lowest first; loss: highest first",
        )
        for name in ("prediction", "true", "predicted"):
            self._on_user_choice(getattr(self, name), partial(self._filter_by, name))
        self._on_user_choice(self.sorting, state.sort_by)
        clear = self._button("Clear filter (A)", state.clear_filter, "Show all images")
        return HBox([self.prediction, self.true, self.predicted, self.sorting, clear], layout=_row())

    def _filter_by(self, name: str, value: str) -> None:
        self.review.filter_by(**{name: value})

    def _navigation(self) -> HBox:
        state = self.review
        self.slider = IntSlider(min=1, max=1, readout=False, layout=Layout(flex="1 1 160px", min_width="0"))
        self._on_user_choice(self.slider, lambda number: state.move_to(number - 1))
        self.range = FloatRangeSlider(
            value=(0, 1),
            min=0,
            max=1,
            step=0.01,
            readout=False,
            continuous_update=False,
            tooltip="Probability of the predicted label",
            layout=Layout(width="330px"),
        )
        self._on_user_choice(
            self.range, lambda ends: state.filter_by(min_probability=ends[0], max_probability=ends[1])
        )
        self.position_text = HTML()
        back = self._button("◀", lambda: state.move_to(state.current - 1), "Previous image", width="36px")
        forward = self._button("▶", lambda: state.move_to(state.current + 1), "Next image", width="36px")
        return HBox([back, self.slider, forward, self.position_text, self.range], layout=_row())

    def _middle(self) -> HBox:
        self.large = ipywidgets.Image(
            format="jpeg", layout=Layout(flex="1 1 0", min_height="60px", width="100%", object_fit="contain")
        )
        self.details = HTML()
        labels = self.review.evaluation.labels
        self.bars = charts.ProbabilityBars(labels, layout=_filling())
        self.tab = ToggleButtons(options=(CONFUSION, THRESHOLD), layout=Layout(flex="0 0 auto"))
        self.tab.style.button_width = "auto"
        self.tab.observe(lambda change: self._show_tab(change["new"]), "value")
        self._tabs = {CONFUSION: self._confusion_tab(), THRESHOLD: self._threshold_tab()}
        self._show_tab(CONFUSION)
        tabs = VBox(list(self._tabs.values()), layout=_filling())
        tabs_flex = f"{2 if len(labels) > charts.FEW else 1.4} 1 0"
        middle = HBox(
            [
                VBox([self.large, self.details], layout=_filling(flex="1.2 1 0")),
                VBox([_heading("Probability of each label"), self.bars], layout=_filling()),
                VBox([self.tab, tabs], layout=_filling(flex=tabs_flex)),
            ],
            layout=Layout(height="clamp(340px, 54vh, 860px)", grid_gap="8px"),
        )
        return self._zoomable(middle)

    def _confusion_tab(self) -> VBox:
        evaluation = self.review.evaluation
        self.confusion = charts.confusion(evaluation, on_click=self._on_cell)
        self.confusion.layout, self.confusion.title, self.confusion.display_toolbar = _filling(), "", False
        self.confusion.min_aspect_ratio = 0.5
        self.confusion.fig_margin = {**self.confusion.fig_margin, "top": 4}
        heading = f"{self._images()}, right ones on the diagonal; click a cell to filter"
        return VBox([_heading(heading), self.confusion])

    def _on_cell(self, true: str, predicted: str) -> None:
        self._execute(lambda: self.review.show_cell(true, predicted))

    def _threshold_tab(self) -> VBox:
        self.threshold = FloatSlider(
            min=0, max=1, step=0.01, description="Threshold", layout=Layout(width="auto", flex="0 0 auto")
        )
        self.threshold.style.description_width = "auto"
        self.threshold.observe(lambda _: self._update_threshold(), "value")
        self.rejection = HTML()
        self.roc = charts.ThresholdRoc(self.review.evaluation, layout=_filling())
        return VBox([self.threshold, self.rejection, self.roc])

    def _show_tab(self, name: str) -> None:
        """Show one tab.

        The other one stays drawn below it, cut off: a figure without a size makes errors in the browser.
        """
        for each, box in self._tabs.items():
            is_shown = each == name
            box.layout = Layout(
                flex="0 0 100%",
                order=str(int(not is_shown)),
                visibility="visible" if is_shown else "hidden",
                min_height="0",
                overflow="hidden",
            )

    def _commands(self) -> HBox:
        exclude = self._button("Exclude (X)", self.review.exclude, "Exclude, or include again")
        undo = self._button("Undo (Z)", self.review.undo, "Undo the latest change")
        redo = self._button("Redo (Y)", self.review.redo, "Make the undone change again")
        self.labels = HBox(
            layout=Layout(
                flex="1 1 0", flex_flow="row wrap", max_height="92px", overflow="hidden auto", min_width="0"
            )
        )
        return HBox(
            [HTML("Set label:"), self.labels, exclude, undo, redo],
            layout=Layout(align_items="center", grid_gap="0 8px", flex="0 0 auto"),
        )

    def _update_threshold(self) -> None:
        self.review.threshold = self.threshold.value
        self.rejection.value = escape(str(self.review.rejection))
        self.roc.set_threshold(self.review.threshold)
        self.bars.set_threshold(self.review.threshold)
        self._refresh_details()

    def refresh(self, *, seconds: float = WAIT_SECONDS) -> None:
        """Show the current state; wait at most `seconds` for the picture."""
        self._refresh_fields()
        state = self.review
        number = f"<b>{state.current + 1}</b> of {len(state.order)}"
        self.position_text.value = number if state.order else "no image matches the filter"
        self._refresh_labels()
        self._refresh_picture(seconds)
        self._refresh_zoom()
        self._refresh_details()
        if (row := state.current_row) is not None:
            evaluation = state.evaluation
            self.bars.show(evaluation.probabilities[row], evaluation.labels[evaluation.truth[row]])

    def _refresh_fields(self) -> None:
        state, chosen = self.review, self.review.filter
        with self._ignore_callbacks():
            self.prediction.value, self.sorting.value = chosen.prediction, state.sorting
            self.true.value, self.predicted.value = chosen.true, chosen.predicted
            ends = chosen.min_probability, chosen.max_probability
            self.range.value, self.range.description = ends, f"probability {ends[0]:.2f} to {ends[1]:.2f}"
            self.slider.max, self.slider.value = max(1, len(state.order)), state.current + 1

    def _refresh_labels(self) -> None:
        row = self.review.current_row
        image = None if row is None else self.review.image(row)
        self.labels.children = self._label_buttons(
            self.review.relabel, plots.short, self.review.evaluation.labels
        )
        for label, button in zip([*self.annotations.labels, *NO_LABELS], self.labels.children, strict=True):
            button.icon = "check" if image and image.label == label else ""

    def near_images(self) -> list[Image]:
        state, current = self.review, self.review.current
        rows = [*state.order[current : current + 4], *state.order[max(0, current - 1) : current]]
        images = [state.image(row) for row in rows]
        return [image for image in images if image] if images[:1] != [None] else []

    def _refresh_picture(self, seconds: float) -> None:
        state, row = self.review, self.review.current_row
        self._pictures.prepare((picture_key(image), image.path) for image in self.near_images())
        picture = b""
        if row is not None and (image := state.image(row)):
            key = picture_key(image)
            picture = self._pictures.ready([(key, image.path)], seconds=seconds).get(key, b"")
            picture = self._maps.of(key, image.path) or picture
        self.large.value = picture
        self.large.layout.visibility = "visible" if picture else "hidden"

    def _refresh_zoom(self) -> None:
        if not self._maps.caption:
            super()._refresh_zoom()
        elif self.zoom.layout.display != "none":
            self.zoom.value = self.large.value  # the activation map, which has the size of enlarged pictures

    def _refresh_details(self) -> None:
        row = self.review.current_row
        lines = "" if row is None else "<br>".join(self._details(row))
        self.details.value = lines and f"<div class='imgclf-details'>{lines}</div>"

    def _details(self, row: int) -> list[str]:
        state, evaluation = self.review, self.review.evaluation
        image = state.image(row)
        true = escape(evaluation.labels[evaluation.truth[row]])
        predicted = escape(evaluation.labels[evaluation.predicted[row]])
        verdict = "✓ right" if evaluation.correct[row] else "✗ wrong"
        rejected = ", rejected" if state.is_rejected(row) else ""
        lines = [
            f"<b>{escape(image.path if image else evaluation.paths[row])}</b>",
            f"<b>{verdict}</b>: label <b>{true}</b>, predicted <b>{predicted}</b>",
            f"probability {state.probability[row]:.2f}, margin {state.margin[row]:.2f}, "
            f"loss {state.loss[row]:.2f}{rejected}",
        ]
        if image is None:
            return [*lines, "no longer in the data set"]
        if side := self.sides.subset_of.get(image.sha256):
            lines.append(f"in the split: {side}")
        if state.is_relabelled(row):
            lines.append(f"<b>relabelled as '{escape(image.label)}'</b>; evaluated as '{true}'")
        if image.excluded:
            lines.append(escape(image.excluded))
        return [*lines, *self._maps.caption]

    def __repr__(self) -> str:
        return f"[browser of {self._images('scored ')}: run this cell to use it]"

    def _images(self, kind: str = "") -> str:
        evaluation = self.review.evaluation
        missing = f" ({len(evaluation.missing)} more are missing)" if evaluation.missing else ""
        return f"{len(evaluation.truth)} {kind}images{missing}"


def _row() -> Layout:
    return Layout(flex_flow="row wrap", align_items="center", grid_gap="2px 10px", flex="0 0 auto")


def _filling(*, flex: str = "1 1 0") -> Layout:
    """Return the layout of a box that takes the space its neighbours leave."""
    return Layout(flex=flex, width="auto", height="auto", min_width="0", min_height="0", overflow="hidden")


def _heading(text: str) -> HTML:
    return HTML(escape(text), layout=Layout(flex="0 0 auto"))
