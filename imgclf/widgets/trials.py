"""Charts of many trials or runs: parallel coordinates."""

from collections.abc import Sequence

import bqplot
import numpy as np

from imgclf.experiments.trials import Coordinates, as_text
from imgclf.parameters import Value
from imgclf.plots import COLOURS
from imgclf.widgets.charts import INK, Chart

OTHERS = "#888888"  # visible in the light and in the dark theme
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
    scaled = [MARGIN + (1 - 2 * MARGIN) * (value - low) / ((high - low) or 1) for value in values]
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
        orientation="vertical",
        offset={"scale": along, "value": position},
        tick_values=list(ticks),
        tick_labels={str(height): text for height, text in ticks.items()},
        grid_lines="none",
        tick_style={"transform": "translate(0, -9px)"},  # above the lines that cross there
    )
