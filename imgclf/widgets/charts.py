"""Interactive versions of the figures in `imgclf.plots`, with tooltips."""

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import bqplot
import numpy as np
from IPython.display import display
from matplotlib.colors import to_hex

from imgclf.data.labels import NONE_IN_WORDS
from imgclf.evaluation import curves
from imgclf.evaluation.metrics import Evaluation, condensed_confusion
from imgclf.finetuning.learning_curve import Epoch
from imgclf.plots import COLOURS, LONGEST_IN_LEGEND, MOST_LABELS, OTHERS, SHOWN, colour, short
from imgclf.widgets.progress import counted, progress

MOST_CORNERS = 1000  # of a curve; more are less than a pixel apart
MOST_POINTS = 5000  # bqplot draws SVG; more points make the browser slow
FEW = 15  # labels; more are set closer and in a smaller font
MOST_ROWS = 40  # of the confusion matrix; the others are one row
LONGEST_BESIDE_AXIS = 12  # letters
TRUE = " (true)"
INK = "var(--jp-content-font-color1, black)"  # of the theme; bqplot's own is orange in the dark theme


class Chart(bqplot.Figure):  # type: ignore[misc]  # bqplot has no types
    """A figure whose text representation, shown before the cell is run, has its title."""

    def __init__(self, **traits: Any) -> None:
        super().__init__(**{"title_style": {"fill": INK, "font-size": "14px"}, **traits})

    def __repr__(self) -> str:
        return f"[interactive chart: {self.title}; run this cell to use it]"


def labelled_axes(x: bqplot.Scale, y: bqplot.Scale, x_label: str, y_label: str) -> list[bqplot.Axis]:
    """Return the two axes of a chart."""
    return [
        bqplot.Axis(scale=x, label=x_label, grid_lines="dashed", label_color=INK),
        bqplot.Axis(
            scale=y, label=y_label, side="left", grid_lines="dashed", label_offset="3em", label_color=INK
        ),
    ]


def feature_map(
    points: np.ndarray, names: Sequence[str], image_labels: Sequence[str], labels: Sequence[str]
) -> Chart:
    """Return a scatter plot of images on their first two principal components; tooltips have name and label.

    Parameters
    ----------
    points : (n, 2) float array. Of more than `MOST_POINTS` points, evenly spaced ones are drawn.
    names, image_labels : of the n images.
    labels : all labels, in the order of their colours.
    """
    step = -(-len(points) // MOST_POINTS)
    points, shown_names, shown_labels = (
        points[::step],
        np.array(names)[::step],
        np.array(image_labels)[::step],
    )
    x, y = bqplot.LinearScale(), bqplot.LinearScale()
    drawn, title = list(labels), f"{len(points)} images: nearby points have similar features"
    if len(labels) > MOST_LABELS:
        counts = Counter(image_labels)
        drawn = sorted(labels, key=lambda label: -counts[label])[:SHOWN]
        title += f"; the {SHOWN} of {len(labels)} labels with the most images in colour"
    groups = [([label], shown_labels == label, colour(drawn, label)) for label in drawn]
    others = ~np.isin(shown_labels, drawn)
    if others.any():
        rest = f"{len(labels) - len(drawn)} others" if len(drawn) < len(labels) else NONE_IN_WORDS
        groups.insert(0, ([rest], others, to_hex(OTHERS)))
    marks = [
        bqplot.Scatter(
            x=points[is_drawn, 0],
            y=points[is_drawn, 1],
            names=shown_names[is_drawn],
            display_names=False,
            scales={"x": x, "y": y},
            colors=[ink],
            default_size=24,
            opacities=[0.7],
            labels=[short(label, LONGEST_IN_LEGEND) for label in name],
            display_legend=True,
            tooltip=bqplot.Tooltip(fields=["name"], labels=name),
        )
        for name, is_drawn, ink in groups
    ]
    return Chart(
        marks=marks,
        axes=labelled_axes(x, y, "first principal component", "second principal component"),
        legend_location="top-right",
        title=title,
    )


def confusion(evaluation: Evaluation, *, on_click: Callable[[str, str], None] | None = None) -> Chart:
    """Return a confusion matrix with counts; the tooltip of a cell has its share of the true label.

    Parameters
    ----------
    on_click : called with the true and the predicted label when a cell is clicked. Of many labels, those with
        the most mistakes have cells of their own; a click on the sum of the others does nothing.
    """
    labels, counts = condensed_confusion(evaluation, most=MOST_ROWS)
    others = "" if len(labels) == len(evaluation.labels) else "; labels with few mistakes are summed"
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    x, y = bqplot.OrdinalScale(), bqplot.OrdinalScale(reverse=True)
    cells = bqplot.GridHeatMap(
        color=share,
        row=labels,
        column=labels,
        display_format=None,
        scales={"row": y, "column": x, "color": bqplot.ColorScale(scheme="Blues", min=0, max=1)},
        stroke="white",
        tooltip=bqplot.Tooltip(
            fields=["row", "column", "color"],
            formats=["", "", ".0%"],
            labels=["true label", "predicted label", "share of the true label"],
        ),
    )
    dark = share > 0.55
    numbers = [
        _numbers(labels, counts, where, ink, {"x": x, "y": y})
        for where, ink in ((dark, "white"), (~dark, "black"))
    ]

    def click(_: object, message: dict[str, Any]) -> None:
        cell = message["data"]["row"], message["data"]["column"]
        if on_click and set(cell) <= set(evaluation.labels):
            on_click(*cell)

    cells.on_element_click(click)
    longest, font = _tick_room(labels)
    below = longest if len(labels) > FEW else round(0.75 * longest) + 12
    axes = [
        bqplot.Axis(
            scale=x,
            label="predicted label",
            tick_labels=_shortened(labels),
            tick_rotate=-90 if len(labels) > FEW else -40,
            tick_style={**font, "text-anchor": "end"},
            label_offset=f"{below}px",
            label_color=INK,
        ),
        bqplot.Axis(
            scale=y,
            label="true label",
            side="left",
            tick_labels=_shortened(labels),
            tick_style=font,
            label_offset=f"{longest}px",
            label_color=INK,
        ),
    ]
    return Chart(
        marks=[cells, *numbers],
        axes=axes,
        title=f"{len(evaluation.truth)} images: right ones on the diagonal{others}",
        fig_margin={"top": 36, "bottom": below + 8, "left": longest + 20, "right": 12},
        min_aspect_ratio=0.8,
        max_aspect_ratio=1.3,
    )


def _numbers(
    labels: Sequence[str], counts: np.ndarray, where: np.ndarray, ink: str, scales: dict[str, bqplot.Scale]
) -> bqplot.Label:
    """Return the counts above 0 of the cells `where`, in the colour `ink`.

    The mouse passes through the numbers to the cells, since bqplot reports no click on a label.
    """
    rows, columns = (places.tolist() for places in np.nonzero(where & (counts > 0)))
    return bqplot.Label(
        x=[labels[j] for j in columns],
        y=[labels[i] for i in rows],
        align="middle",
        text=[str(counts[i, j]) for i, j in zip(rows, columns, strict=True)],
        scales=scales,
        colors=[ink],
        default_size=12 if len(labels) <= FEW else 8,
        font_weight="normal",
        selected=list(range(len(rows))),
        selected_style={"pointer-events": "none"},
    )


def _shortened(labels: Sequence[str]) -> dict[str, str]:
    """Return the tick text of each label."""
    return {label: short(label, LONGEST_BESIDE_AXIS) for label in labels}


def _tick_room(labels: Sequence[str], more: int = 0) -> tuple[int, dict[str, str]]:
    """Return the space of tick labels in pixels, with `more` letters after each, and their font style."""
    size = 11 if len(labels) <= FEW else 8
    letters = max(map(len, _shortened(labels).values()), default=0) + more
    return round(0.56 * size * letters) + 12, {"font-size": f"{size}px"}


class ProbabilityBars(Chart):
    """The probabilities of one image, one bar per label. `show` updates the bars for another image.

    Of more than `FEW` labels, those with the largest probabilities are shown, and the true one.
    """

    def __init__(self, labels: Sequence[str], **traits: Any) -> None:
        self._labels = list(labels)
        # Of many labels, a row shows another one for each image; bqplot would turn a new domain upside down.
        self._rows = self._labels if len(labels) <= FEW else [str(k) for k in range(FEW)]
        room, font = _tick_room(labels, more=len(TRUE))
        rows = bqplot.OrdinalScale(domain=self._rows, reverse=True)
        share = bqplot.LinearScale(min=0, max=1.4)  # leaves space for the numbers
        self._bars = bqplot.Bars(
            x=self._rows,
            y=np.zeros(len(self._rows)),
            scales={"x": rows, "y": share},
            orientation="horizontal",
            padding=0.25,
            colors=[colour(labels, label) for label in self._labels[:FEW]],
            label_display=True,
            label_display_format=".2f",
            label_font_style={**font, "text-anchor": "start", "fill": INK},
            label_display_vertical_offset=3,
        )
        self._threshold = bqplot.Lines(
            x=[0, 0],
            y=[0, 1],
            scales={"x": share, "y": bqplot.LinearScale(min=0, max=1)},
            colors=[INK],
            line_style="dashed",
            stroke_width=1,
        )
        self._label_axis = bqplot.Axis(
            scale=rows, side="left", tick_labels=_shortened(self._rows), tick_style=font, grid_lines="none"
        )
        which = "" if len(labels) <= FEW else f", {FEW} of {len(labels)} labels"
        probability_axis = bqplot.Axis(
            scale=share,
            label=f"probability{which}",
            tick_values=[0, 0.5, 1],
            tick_format=".1f",
            grid_lines="dashed",
            label_color=INK,
        )
        super().__init__(
            marks=[self._bars, self._threshold],
            axes=[self._label_axis, probability_axis],
            display_toolbar=False,
            fig_margin={"top": 4, "bottom": 44, "left": room, "right": 4},
            **traits,
        )

    def show(self, probabilities: np.ndarray, true: str) -> None:
        """Show an image.

        Parameters
        ----------
        probabilities : (k,) in the order of the labels, 0 to 1.
        true : the true label, which is marked.
        """
        shown = self._likeliest(probabilities, true)
        names = {row: self._labels[k] for row, k in zip(self._rows, shown, strict=True)}
        self._bars.y = np.asarray(probabilities, dtype=float)[shown]
        self._label_axis.tick_labels = {
            row: short(label, LONGEST_BESIDE_AXIS) + (TRUE if label == true else "")
            for row, label in names.items()
        }

    def _likeliest(self, probabilities: np.ndarray, true: str) -> list[int]:
        """Return the positions of the labels to show: all, or the likeliest and the true one."""
        if len(self._labels) <= FEW:
            return list(range(len(self._labels)))
        order = np.argsort(-np.asarray(probabilities), kind="stable").tolist()
        place = order.index(self._labels.index(true))
        return order[:FEW] if place < FEW else [*order[: FEW - 1], order[place]]

    def set_threshold(self, threshold: float) -> None:
        """Move the line of the threshold, 0 to 1."""
        self._threshold.x = [threshold, threshold]


class ThresholdRoc(Chart):
    """One-vs-rest ROC curve of each label, by probability, with a point at the threshold.

    Of many labels, those with the smallest area are drawn, as the title says.
    """

    def __init__(self, evaluation: Evaluation, **traits: Any) -> None:
        self._evaluation = evaluation
        labels, top = list(evaluation.labels), 4
        if len(labels) > MOST_LABELS and (average := curves.average_roc(evaluation)):
            traits["title"] = f"the worst {SHOWN} of {len(labels)} labels"
            labels, top = average.worst(SHOWN), 36
        x, y = bqplot.LinearScale(min=0, max=1), bqplot.LinearScale(min=0, max=1)
        scales = {"x": x, "y": y}
        drawn = [
            (label, curve) for label in labels if (curve := curves.roc_by_probability(evaluation, label))
        ]
        lines = [
            bqplot.Lines(
                **corners(curve.false_positive_rate, curve.true_positive_rate),
                scales=scales,
                colors=[colour(labels, label)],
                stroke_width=1.5,
                labels=[label],
                tooltip=bqplot.Tooltip(fields=["name"], labels=["label"]),
            )
            for label, curve in drawn
        ]
        self._drawn = [label for label, _ in drawn]
        self._points = bqplot.Scatter(
            x=[],
            y=[],
            names=self._drawn,
            display_names=False,
            scales=scales,
            default_size=60,
            colors=[colour(labels, label) for label, _ in drawn],
            stroke=INK,
            tooltip=bqplot.Tooltip(
                fields=["name", "x", "y"],
                formats=["", ".2f", ".2f"],
                labels=["label", "false positive rate", "true positive rate"],
            ),
        )
        self.set_threshold(0.0)
        super().__init__(
            marks=[*lines, self._points],
            axes=labelled_axes(x, y, "false positive rate", "true positive rate"),
            display_toolbar=False,
            fig_margin={"top": top, "bottom": 44, "left": 56, "right": 12},
            **traits,
        )
        for axis in self.axes:
            axis.tick_values, axis.tick_format = [0, 0.25, 0.5, 0.75, 1], ".2f"

    def set_threshold(self, threshold: float) -> None:
        """Move the points to the false and true positive rates at a threshold, 0 to 1."""
        rates = curves.operating_points(self._evaluation, threshold, self._drawn)
        with self._points.hold_sync():
            self._points.x, self._points.y = rates[:, 0], rates[:, 1]


def corners(x: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
    """Return the ends and corners of a curve that rises. They draw the same line with a part of the points.

    Of more than `MOST_CORNERS`, that many at even distances along the curve are kept.
    """
    points = np.stack([x, y], axis=1)
    turns = np.abs(np.diff(points, n=2, axis=0)).max(axis=1, initial=0) > 1e-9
    points = points[np.concatenate([[True], turns, [True]])]
    if len(points) > MOST_CORNERS:
        along = points.sum(axis=1)
        points = points[np.unique(np.searchsorted(along, np.linspace(along[0], along[-1], MOST_CORNERS)))]
    return {"x": points[:, 0], "y": points[:, 1]}


def training_curve(epochs: Sequence[Epoch]) -> Chart:
    """Return a chart of training and validation error per epoch; `set_epochs` updates it."""
    x, y = bqplot.LinearScale(min=0), bqplot.LinearScale(min=0)
    marks = [
        bqplot.Lines(
            x=[],
            y=[],
            scales={"x": x, "y": y},
            colors=[COLOURS[k]],
            line_style=style,
            marker=marker,
            labels=[name],
            display_legend=True,
        )
        for k, style, marker, name in (
            (1, "dashed", "square", "training error, during the epoch"),
            (0, "solid", "circle", "validation error"),
        )
    ]
    chart = Chart(
        marks=marks,
        axes=labelled_axes(x, y, "epoch (0: only the new last layer is trained)", "error (share of images)"),
        legend_location="top-right",
    )
    set_epochs(chart, epochs)
    return chart


def set_epochs(chart: Chart, epochs: Sequence[Epoch]) -> None:
    """Update a chart of `training_curve`."""
    numbers = np.array([epoch.number for epoch in epochs])
    for mark, errors in zip(
        chart.marks, ([e.train_error for e in epochs], [e.validation_error for e in epochs]), strict=True
    ):
        measured = np.isfinite(errors)
        with mark.hold_sync():
            mark.x, mark.y = numbers[measured], np.array(errors, dtype=float)[measured]
    chart.title = str(epochs[-1]) if epochs else "no epochs yet"
    last = epochs[-1].number if epochs else 1
    epoch_axis = chart.axes[0]  # with whole epochs only
    epoch_axis.tick_values, epoch_axis.tick_format = list(range(0, last + 1, 1 + last // 12)), "d"


class LiveTraining:
    """A live chart of fine-tuning, with a progress bar of the current epoch below it.

    Chart and bar appear with their first values. Use it in a `with` statement, and pass its `show` and
    `progress` to the fine-tuning function.
    """

    def __init__(self) -> None:
        self.chart: Chart | None = None
        self._stack, self._preparing = ExitStack(), ExitStack()

    def __enter__(self) -> "LiveTraining":
        self._count = self._stack.enter_context(counted("images of this epoch"))
        self._preparing.enter_context(progress("preparing the images", 0))
        return self

    def __exit__(self, *_: object) -> None:
        self._preparing.close()
        self._stack.close()

    def show(self, epochs: Sequence[Epoch]) -> None:
        """Update the chart with the epochs so far."""
        if self.chart is None and epochs:
            self.chart = training_curve(epochs)
            display(self.chart)
        elif self.chart is not None:
            set_epochs(self.chart, epochs)

    def progress(self, done: int, total: int) -> None:
        """Update the progress bar with the number of images of the epoch that are done."""
        self._preparing.close()
        self._count(done, total)
