"""The interactive twins of `imgclf.pictures`: the same numbers, to point at."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack

import bqplot
import numpy as np
from IPython.display import display

from imgclf.curve import Epoch
from imgclf.evaluation import Evaluation
from imgclf.pictures import COLOURS, colour
from imgclf.widgets.progress import progress

MOST_POINTS = 5000  # it is SVG: more points make the browser slow


class Chart(bqplot.Figure):
    """A figure whose text, which readers without a kernel get, says what it is."""

    def __repr__(self) -> str:
        return f"[interactive chart, needs a running kernel: {self.title}]"


def _axes(x: bqplot.Scale, y: bqplot.Scale, x_label: str, y_label: str) -> list[bqplot.Axis]:
    return [bqplot.Axis(scale=x, label=x_label, grid_lines="dashed"),
            bqplot.Axis(scale=y, label=y_label, side="left", grid_lines="dashed", label_offset="3em")]


def feature_map(points: np.ndarray, names: Sequence[str], image_labels: Sequence[str], labels: Sequence[str]) -> Chart:
    """Images as points on their two main directions; pointing at one tells its file and label.

    Parameters
    ----------
    points : (n, 2) float array. Above `MOST_POINTS` an evenly spaced part of them is drawn.
    names, image_labels : of the n images. labels : all labels, in the order of their colours.
    """
    step = -(-len(points) // MOST_POINTS)
    points, names, image_labels = points[::step], np.array(names)[::step], np.array(image_labels)[::step]
    x, y = bqplot.LinearScale(), bqplot.LinearScale()
    marks = []
    for label in labels:
        here = image_labels == label
        tooltip = bqplot.Tooltip(fields=["name"], labels=[label])
        marks.append(bqplot.Scatter(x=points[here, 0], y=points[here, 1], names=names[here], display_names=False, scales={"x": x, "y": y},
                                    colors=[colour(labels, label)], default_size=24, opacities=[0.7], labels=[label],
                                    display_legend=True, tooltip=tooltip))
    return Chart(marks=marks, axes=_axes(x, y, "first direction", "second direction"), legend_location="top-right",
                         title=f"{len(points)} images: the closer, the more alike to the DNN")


def roc(evaluation: Evaluation) -> Chart:
    """ROC curve of each label against the rest, with its area in the legend."""
    x, y = bqplot.LinearScale(min=0, max=1), bqplot.LinearScale(min=0, max=1)
    curves = [(label, curve) for label in evaluation.labels if (curve := evaluation.roc(label))]
    marks = [bqplot.Lines(x=curve.false_positive_rate, y=curve.true_positive_rate, scales={"x": x, "y": y},
                          colors=[colour(evaluation.labels, label)], labels=[f"{label} {curve.area:.2f}"], display_legend=True,
                          tooltip=bqplot.Tooltip(fields=["name"], labels=["label and area"]))
             for label, curve in curves]
    marks.append(bqplot.Lines(x=[0, 1], y=[0, 1], scales={"x": x, "y": y}, colors=["grey"], line_style="dotted"))
    return Chart(marks=marks, axes=_axes(x, y, "false positive rate", "true positive rate"), legend_location="bottom-right",
                         title="ROC, each label against the rest", min_aspect_ratio=1, max_aspect_ratio=1.3)


def confusion(evaluation: Evaluation) -> Chart:
    """Confusion matrix; pointing at a cell tells the number of images."""
    counts = evaluation.confusion
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    x, y = bqplot.OrdinalScale(), bqplot.OrdinalScale(reverse=True)
    cells = bqplot.GridHeatMap(color=share, row=list(evaluation.labels), column=list(evaluation.labels), display_format=None,
                               scales={"row": y, "column": x, "color": bqplot.ColorScale(scheme="Blues", min=0, max=1)},
                               stroke="white", tooltip=bqplot.Tooltip(fields=["row", "column", "color"], formats=["", "", ".0%"],
                                                                      labels=["true label", "predicted label", "share of the true label"]))
    k = len(evaluation.labels)
    dark = share > 0.55
    numbers = [_numbers(evaluation, counts, where, ink, {"x": x, "y": y}) for where, ink in ((dark, "white"), (~dark, "black"))]
    axes = [bqplot.Axis(scale=x, label="predicted label", tick_rotate=-30 if k > 4 else 0),
            bqplot.Axis(scale=y, label="true label", side="left", label_offset="6em")]
    return Chart(marks=[cells, *numbers], axes=axes, title=f"{len(evaluation.truth)} images: right ones on the diagonal",
                 fig_margin={"top": 60, "bottom": 80, "left": 110, "right": 40}, min_aspect_ratio=1, max_aspect_ratio=1.3)


def _numbers(evaluation: Evaluation, counts: np.ndarray, where: np.ndarray, ink: str, scales: dict[str, bqplot.Scale]) -> bqplot.Label:
    """The counts above 0 in the cells `where`, in a colour that can be read there."""
    rows, columns = np.nonzero(where & (counts > 0))
    return bqplot.Label(x=[evaluation.labels[j] for j in columns], y=[evaluation.labels[i] for i in rows], align="middle",
                        text=[str(counts[i, j]) for i, j in zip(rows, columns, strict=True)], scales=scales, colors=[ink],
                        default_size=12, font_weight="normal")


def training(epochs: Sequence[Epoch]) -> Chart:
    """Training and validation error over the epochs; `set_epochs` lets it grow."""
    x, y = bqplot.LinearScale(min=0), bqplot.LinearScale(min=0)
    marks = [bqplot.Lines(x=[], y=[], scales={"x": x, "y": y}, colors=[COLOURS[k]], line_style=style, marker=marker, labels=[name], display_legend=True)
             for k, style, marker, name in ((1, "dashed", "square", "training error, while it learns"), (0, "solid", "circle", "validation error"))]
    chart = Chart(marks=marks, axes=_axes(x, y, "epoch (0: only the new last layer has learned)", "error (share of images)"), legend_location="top-right")
    set_epochs(chart, epochs)
    return chart


def set_epochs(chart: Chart, epochs: Sequence[Epoch]) -> None:
    """Let a chart that `training` made show these epochs."""
    numbers = np.array([epoch.number for epoch in epochs])
    for mark, errors in zip(chart.marks, ([e.train_error for e in epochs], [e.validation_error for e in epochs]), strict=True):
        known = np.isfinite(errors)
        with mark.hold_sync():
            mark.x, mark.y = numbers[known], np.array(errors, dtype=float)[known]
    chart.title = str(epochs[-1]) if epochs else "no epochs yet"


class LiveTraining:
    """A chart that grows while a network is refined, and below it how far the epoch is; neither appears before there is something to show.

    Use it in a `with` statement, and hand its `show` and `progress` to `refine.refine`.
    """

    def __init__(self) -> None:
        self.chart: Chart | None = None
        self._done: Callable[[int], None] | None = None
        self._lines = ExitStack()

    def __enter__(self) -> "LiveTraining":
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.close()

    def show(self, epochs: Sequence[Epoch]) -> None:
        """Draw the epochs so far."""
        if self.chart is None and epochs:
            self.chart = training(epochs)
            display(self.chart)
        elif self.chart is not None:
            set_epochs(self.chart, epochs)

    def progress(self, done: int, total: int) -> None:
        """Tell how many of an epoch's images are done."""
        if self._done is None:
            self._done = self._lines.enter_context(progress("images of this epoch", total))
        self._done(done)
