"""Charts of trials and runs: parallel coordinates, ROC curves in one picture, a metric over a parameter."""

from collections.abc import Callable, Sequence

import bqplot
import numpy as np

from imgclf.experiments.history import comparing
from imgclf.experiments.history.comparing import RocLine
from imgclf.experiments.history.runs import Run
from imgclf.experiments.trials import Coordinates, as_text
from imgclf.parameters import Value
from imgclf.plots import COLOURS, short
from imgclf.widgets.charts import INK, Chart, corners, labelled_axes

OTHERS = "#888888"  # visible in the light and in the dark theme
STYLES = ("solid", "dashed", "dotted", "dash_dotted")  # of the lines of runs
MOST_TICKS = 12  # of the axis of a parameter
MARGIN = 0.06  # of an axis, above its largest and below its smallest value

# An axis: the height of each trial on it, 0 to 1, and the texts of its ticks by height.
Column = tuple[list[float], dict[float, str]]


class ParallelCoordinates(Chart):
    """Parallel coordinates of trials or runs.

    Each one is a line, whose name is its tooltip. The axes are the parameters that vary, and the results. The
    first line, the best, is blue.

    Source of the figure: A. Inselberg, "The plane with parallel coordinates", The Visual Computer 1 (1985),
    p. 69.
    """

    def __init__(self, coordinates: Coordinates, *, what: str = "trials") -> None:
        columns = {name: choices(values) for name, values in coordinates.parameters.items()} | {
            name: _measured(values, shown) for name, (values, shown) in coordinates.results.items()
        }
        places = list(range(len(columns)))
        along, up = bqplot.LinearScale(min=-0.3, max=len(columns) - 0.7), bqplot.LinearScale(min=0, max=1)
        # The best one is drawn last, above the others.
        heights = np.array([height for height, _ in columns.values()]).T[::-1]
        lines = [
            bqplot.Lines(
                x=places,
                y=line,
                scales={"x": along, "y": up},
                colors=[COLOURS[0] if number == len(heights) else OTHERS],
                marker="circle",
                stroke_width=4 if number == len(heights) else 2,
                labels=[name],
                tooltip=bqplot.Tooltip(fields=["name"], labels=[""]),
            )
            for number, (name, line) in enumerate(
                zip(reversed(coordinates.names), heights, strict=True), start=1
            )
        ]
        names = bqplot.Axis(
            scale=along,
            side="top",
            tick_values=places,
            tick_labels={str(k): name for k, name in enumerate(columns)},
            tick_style={"font-size": "13px", "fill": INK},
            grid_lines="none",
            color="transparent",
        )
        axes = [_axis(position, ticks, along, up) for position, (_, ticks) in enumerate(columns.values())]
        super().__init__(
            marks=lines,
            axes=[names, *axes],
            title=f"{len(heights)} {what}, the best on held-out images in blue",
            # The shift puts the title above the names of the axes.
            title_style={"fill": INK, "font-size": "14px", "transform": "translate(0, -22px)"},
            fig_margin={"top": 70, "bottom": 20, "left": 40, "right": 40},
            min_aspect_ratio=1.6,
            max_aspect_ratio=2.6,
        )


def choices(values: Sequence[str | Value]) -> Column:
    """Return the values of a parameter, evenly spaced; numbers in ascending order."""
    texts = list(dict.fromkeys(map(as_text, values)))
    numbers = {as_text(value): value for value in values if isinstance(value, int | float)}
    if len(numbers) == len(texts):
        texts = sorted(numbers, key=numbers.__getitem__)
    height = dict(zip(texts, _spaced(len(texts)), strict=True))
    return [height[as_text(value)] for value in values], {height[text]: text for text in texts}


def _measured(values: Sequence[float], shown: str) -> Column:
    """Return numbers on a linear axis, the smallest at the bottom."""
    low, high = min(values, default=0), max(values, default=0)
    if low == high:
        return [0.5] * len(values), {0.5: shown.format(low)}
    scaled = [MARGIN + (1 - 2 * MARGIN) * (value - low) / (high - low) for value in values]
    return scaled, {
        height: shown.format(low + (high - low) * (height - MARGIN) / (1 - 2 * MARGIN))
        for height in _spaced(4)
    }


def _spaced(count: int) -> list[float]:
    """Return evenly spaced heights on an axis, ascending.

    They are rounded, since bqplot looks up the text of a tick by the digits of its height.
    """
    return np.linspace(MARGIN, 1 - MARGIN, count).round(4).tolist()


def _axis(position: int, ticks: dict[float, str], along: bqplot.Scale, up: bqplot.Scale) -> bqplot.Axis:
    return bqplot.Axis(
        scale=up,
        side="left",
        offset={"scale": along, "value": position},
        tick_values=list(ticks),
        tick_labels={str(height): text for height, text in ticks.items()},
        grid_lines="none",
        tick_style={"transform": "translate(0, -9px)"},  # above the lines that cross there
    )


def roc_overlay(lines: Sequence[RocLine], colour: str, title: str) -> Chart:
    """Return the ROC curves of runs in one colour; they differ by the style of their lines."""
    x, y = bqplot.LinearScale(min=0, max=1), bqplot.LinearScale(min=0, max=1)
    marks = [
        bqplot.Lines(
            **corners(line.false_positive_rate, line.true_positive_rate),
            scales={"x": x, "y": y},
            colors=[colour],
            line_style=STYLES[k % len(STYLES)],
            stroke_width=1.5 + 1.5 * (k // len(STYLES)),
            labels=[f"{line.name}: area {line.area:.3f}"],
            display_legend=True,
        )
        for k, line in enumerate(lines)
    ]
    return Chart(
        marks=marks,
        axes=labelled_axes(x, y, "false positive rate", "true positive rate"),
        title=title,
        legend_location="bottom-right",
        legend_text={"fill": INK},
        fig_margin={"top": 36, "bottom": 44, "left": 56, "right": 12},
        min_aspect_ratio=1.2,
        max_aspect_ratio=1.6,
    )


class RunScatter(Chart):
    """A metric of runs over a parameter. A point is a run, its tooltip the name; chosen runs are blue."""

    def __init__(self, on_click: Callable[[str], None]) -> None:
        """Create an empty chart; `on_click` is called with the id of a run whose point is clicked."""
        self._ids: dict[bqplot.Scatter, list[str]] = {}
        self._x, self._y = bqplot.LinearScale(min=0, max=1), bqplot.LinearScale()
        # Two marks: bqplot gives the colours of one mark to the wrong points if their order changes.
        self.others, self.chosen = (self._points(colour, on_click) for colour in (OTHERS, COLOURS[0]))
        super().__init__(
            marks=[self.others, self.chosen],
            axes=labelled_axes(self._x, self._y, "", ""),
            fig_margin={"top": 36, "bottom": 48, "left": 64, "right": 24},
            min_aspect_ratio=1.6,
            max_aspect_ratio=2.6,
        )

    def show(self, runs: Sequence[Run], parameter: str, metric: str, chosen: Sequence[str]) -> None:
        """Show the runs that have the metric and the parameter, whose values are evenly spaced.

        Parameters
        ----------
        chosen : ids of the runs in blue.
        """
        recorded = [run for run in runs if comparing.value(run, parameter) != comparing.NOT_RECORDED]
        measured = [run for run in recorded if np.isfinite(comparing.metric(run, metric))]
        across, ticks = choices([comparing.value(run, parameter) for run in measured])
        up = [comparing.metric(run, metric) for run in measured]
        margin = 0.1 * (max(up, default=1) - min(up, default=0)) or 0.05
        self._y.min, self._y.max = min(up, default=0) - margin, max(up, default=1) + margin
        self.axes[0].label, self.axes[1].label = parameter, metric
        self.axes[0].tick_values = list(ticks)[:: 1 + len(ticks) // MOST_TICKS]
        self.axes[0].tick_labels = {str(place): short(text, 16) for place, text in ticks.items()}
        self.title = f"{metric} over {parameter}: {len(measured)} runs; click on a point to choose its run"
        for mark, is_chosen in ((self.others, False), (self.chosen, True)):
            rows = [row for row, run in enumerate(measured) if (run.id in chosen) == is_chosen]
            self._ids[mark] = [measured[row].id for row in rows]
            with mark.hold_sync():
                mark.x, mark.y = [across[row] for row in rows], [up[row] for row in rows]
                mark.names = [measured[row].name for row in rows]

    def _points(self, colour: str, on_click: Callable[[str], None]) -> bqplot.Scatter:
        mark = bqplot.Scatter(
            x=[],
            y=[],
            scales={"x": self._x, "y": self._y},
            colors=[colour],
            default_size=90,
            display_names=False,
            stroke=INK,
            tooltip=bqplot.Tooltip(fields=["name", "y"], formats=["", ".3f"], labels=["run", "value"]),
        )
        mark.on_element_click(lambda _, message: on_click(self._ids[mark][message["data"]["index"]]))
        return mark
