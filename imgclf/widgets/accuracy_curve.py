"""The estimated accuracy over the number of labels given, with its interval, as a chart."""

from collections.abc import Sequence
from typing import Any

import bqplot
import numpy as np

from imgclf.annotation.labelling_curve import Estimate
from imgclf.plots import COLOURS
from imgclf.widgets.charts import Chart, labelled_axes

MOST_TICKS = 5


class AccuracyCurve(Chart):
    """A line for the accuracy, and a band for its 95 % interval. `show` updates them."""

    def __init__(self, **traits: Any) -> None:
        self._labels, self._accuracy = bqplot.LinearScale(min=0), bqplot.LinearScale(min=0, max=1)
        scales = {"x": self._labels, "y": self._accuracy}
        self._band = bqplot.Lines(
            x=[],
            y=[[], []],
            scales=scales,
            fill="between",
            fill_colors=[COLOURS[0]],
            fill_opacities=[0.2, 0],
            colors=[COLOURS[0]],
            opacities=[0.4],
            stroke_width=1,
        )
        self._line = bqplot.Lines(
            x=[], y=[], scales=scales, colors=[COLOURS[0]], marker="circle", marker_size=16
        )
        axes = labelled_axes(self._labels, self._accuracy, "labels given", "accuracy")
        super().__init__(
            marks=[self._band, self._line],
            axes=axes,
            display_toolbar=False,
            min_aspect_ratio=0.3,
            max_aspect_ratio=10,
            fig_margin={"top": 8, "bottom": 38, "left": 58, "right": 12},
            **traits,
        )
        axes[1].tick_values, axes[1].tick_format = [0, 0.25, 0.5, 0.75, 1], ".2f"
        axes[0].tick_format = "d"

    def show(self, estimates: Sequence[Estimate]) -> None:
        """Show the estimates, ascending by the number of labels."""
        labels = [each.labels for each in estimates]
        with self._band.hold_sync():
            self._band.x = labels
            self._band.y = np.array([[each.low for each in estimates], [each.high for each in estimates]])
        with self._line.hold_sync():
            self._line.x, self._line.y = labels, [each.accuracy for each in estimates]
        last = labels[-1] if labels else MOST_TICKS
        step = _step(last)
        self._labels.max = step * -(-last // step)
        self.axes[0].tick_values = list(range(0, int(self._labels.max) + 1, step))


def _step(last: int) -> int:
    """Return the distance of at most `MOST_TICKS` round ticks up to `last`."""
    power = 1
    while True:
        for factor in (1, 2, 5):
            if last <= MOST_TICKS * factor * power:
                return factor * power
        power *= 10
