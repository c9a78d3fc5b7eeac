"""Trials as lines across parallel axes: one axis for each parameter that varies, then what came of it."""

from collections.abc import Sequence

import bqplot
import numpy as np

from imgclf.experiments.trials import Trial, as_text, ranked, varied
from imgclf.plots import COLOURS
from imgclf.widgets.charts import INK, Chart

OTHERS = "#888888"  # to be seen on light and on dark
MARGIN = 0.06  # of an axis, above its largest and below its smallest value


class ParallelCoordinates(Chart):
    """A line for each trial that did not fail, from its parameters to its accuracies and seconds; pointing at one tells its number in the table.

    The best on held-out images is blue.

    Source of the picture: A. Inselberg, "The plane with parallel coordinates", The Visual Computer 1 (1985), p. 69.
    """

    def __init__(self, of: Sequence[Trial]) -> None:
        done = ranked(of)
        columns = {
            name: _choices([trial.values[name] for trial in done]) for name in varied(done)
        } | _outcomes(done)
        places = list(range(len(columns)))
        along, up = bqplot.LinearScale(min=-0.3, max=len(columns) - 0.7), bqplot.LinearScale(min=0, max=1)
        heights = np.array([height for height, _ in columns.values()]).T[
            ::-1
        ]  # the best is drawn last, above the others
        numbers = range(len(done), 0, -1)
        lines = [
            bqplot.Lines(
                x=places,
                y=line,
                scales={"x": along, "y": up},
                colors=[COLOURS[0] if number == 1 else OTHERS],
                marker="circle",
                stroke_width=4 if number == 1 else 2,
                labels=[f"trial {number}"],
                tooltip=bqplot.Tooltip(fields=["name"], labels=[""]),
            )
            for number, line in zip(numbers, heights, strict=True)
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
            title=f"{len(done)} trials, the best on held-out images in blue",
            title_style={
                "fill": INK,
                "font-size": "14px",
                "transform": "translate(0, -22px)",
            },  # above the names
            fig_margin={"top": 70, "bottom": 20, "left": 40, "right": 40},
            min_aspect_ratio=1.6,
            max_aspect_ratio=2.6,
        )


Column = tuple[
    list[float], dict[float, str]
]  # where each trial crosses an axis, 0 to 1, and what stands beside the axis


def _choices(values: Sequence[object]) -> Column:
    """The values of a parameter, evenly spaced; numbers in their order."""
    different = list({as_text(value): value for value in values}.values())
    different = sorted(different) if all(isinstance(value, int | float) for value in different) else different
    at = {as_text(value): height for value, height in zip(different, _spaced(len(different)), strict=True)}
    return [at[as_text(value)] for value in values], {height: text for text, height in at.items()}


def _outcomes(done: Sequence[Trial]) -> dict[str, Column]:
    accuracies = {
        "held-out accuracy": [trial.held_out_evaluation.overall_accuracy.value for trial in done],
        "test accuracy": [trial.test_evaluation.overall_accuracy.value for trial in done],
    }
    return {name: _measured(values, "{:.1%}") for name, values in accuracies.items()} | {
        "seconds": _measured([sum(trial.seconds.values()) for trial in done], "{:.0f}"),
        "ms per image": _measured([trial.milliseconds for trial in done], "{:.1f}"),
    }


def _measured(values: Sequence[float], shown: str) -> Column:
    """Numbers, from the smallest at the foot to the largest at the top."""
    low, high = min(values, default=0), max(values, default=0)
    scaled = [MARGIN + (1 - 2 * MARGIN) * (value - low) / ((high - low) or 1) for value in values]
    return scaled, {
        height: shown.format(low + (high - low) * (height - MARGIN) / (1 - 2 * MARGIN))
        for height in _spaced(4)
    }


def _spaced(count: int) -> list[float]:
    """Heights on an axis, from the lowest to the highest; of few digits, since ticks find their texts by them."""
    return np.linspace(MARGIN, 1 - MARGIN, count).round(4).tolist()


def _axis(position: int, ticks: dict[float, str], along: bqplot.Scale, up: bqplot.Scale) -> bqplot.Axis:
    return bqplot.Axis(
        scale=up,
        orientation="vertical",
        offset={"scale": along, "value": position},
        tick_values=list(ticks),
        tick_labels={str(height): text for height, text in ticks.items()},
        grid_lines="none",
        tick_style={"transform": "translate(0, -9px)"},
    )  # above the lines that cross there
