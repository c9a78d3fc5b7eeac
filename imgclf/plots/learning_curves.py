"""Figures of the accuracy over the number of training images, or of labels given."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from imgclf.evaluation.training_size import BEYOND, Curve
from imgclf.plots.palette import COLOURS, LONGEST_IN_LEGEND, MARKERS, MOST_LABELS, SHOWN, colour
from imgclf.plots.text import in_legend, short


def training_size(curve: Curve, *, ax: Axes | None = None) -> None:
    """Draw the overall accuracy over the number of training images, and the forecast with its 95 % interval.

    Nothing is drawn if no image could be held out.
    """
    if not curve.points:
        return
    ax = ax or plt.subplots(figsize=(6.5, 4))[1]
    accuracy = [point.accuracy for point in curve.points]
    value = np.array([each.value for each in accuracy])
    ends = np.abs(np.array([each.interval for each in accuracy]).T - value)
    images = [point.images for point in curve.points]
    measured = "measured by cross-validation, with 95 % interval"
    ax.errorbar(images, value, yerr=ends, fmt="o", capsize=3, color=COLOURS[0], label=measured)
    if curve.forecasts:
        low, middle, high = curve.fitted
        is_inside = curve.sizes < images[-1] + 0.5  # a size is a mean, and not whole
        last = np.flatnonzero(is_inside)[-1]
        ax.plot(curve.sizes[is_inside], middle[is_inside], color=COLOURS[0], label="fitted power law")
        ax.plot(curve.sizes[last:], middle[last:], "--", color=COLOURS[0], label="its forecast")
        band = "95 % interval of the forecast"
        ax.fill_between(curve.sizes, low, high, color=COLOURS[0], alpha=0.2, linewidth=0, label=band)
    _over_images(ax, curve)
    ax.set_ylabel("overall accuracy (share of images)")
    ax.set_title(
        "Will more images help? The dashed line is a forecast"
        if curve.forecasts
        else "Too few images to predict what more would bring"
    )
    ax.legend(fontsize=8, loc="lower right")


def training_size_of_labels(curve: Curve, *, ax: Axes | None = None) -> None:
    """Draw the accuracy on the images of each label over the number of training images, and its forecast.

    Of many labels, those that would gain most. Nothing is drawn if no image could be held out.
    """
    if not curve.points:
        return
    ax = ax or plt.subplots(figsize=(6.5, 4))[1]
    positions, title = list(range(len(curve.labels))), "Each label; the dashed lines are forecasts"
    if curve.forecasts:
        positions = np.argsort(-curve.forecasts[0].of_label[:, 1], kind="stable").tolist()
        title += ", the largest gain first"
    if len(positions) > MOST_LABELS:
        positions = positions[:SHOWN]
        title += f"\n{SHOWN} of {len(curve.labels)} labels"
    labels = curve.labels if len(positions) == len(curve.labels) else [curve.labels[k] for k in positions]
    images = [point.images for point in curve.points]
    for k in positions:
        label = curve.labels[k]
        place = list(labels).index(label)
        shade, marker = colour(labels, label), MARKERS[place % len(MARKERS)]
        value = [point.of_label[k].value for point in curve.points]
        name = in_legend(short(label, LONGEST_IN_LEGEND))
        width = 0 if curve.forecasts else 1  # the fitted line takes the place of that between the points
        ax.plot(images, value, color=shade, marker=marker, markersize=4, linewidth=width, label=name)
        if curve.forecasts:
            for part, style in ((curve.sizes <= curve.images, "-"), (curve.sizes >= curve.images, "--")):
                ax.plot(curve.sizes[part], curve.of_label[k, part], style, color=shade, linewidth=1)
    _over_images(ax, curve)
    ax.set_ylabel("accuracy on the label's images (share)")
    ax.set_title(title)
    ax.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.01, 1))


def _over_images(ax: Axes, curve: Curve) -> None:
    """Set the axis of the number of training images, and mark those that there are now."""
    ax.axvline(curve.images, color="0.4", linewidth=0.8, linestyle=":")
    beyond = [factor * curve.images for factor in BEYOND] if curve.forecasts else []
    ticks = [*(point.images for point in curve.points), curve.images, *beyond]
    ax.set_xscale("log")
    names = [f"{images:,} (now)" if images == curve.images else f"{images:,}" for images in ticks]
    ax.set_xticks(ticks, names, rotation=45, ha="right")
    ax.minorticks_off()
    ax.set_xlabel("training images")
    ax.grid(alpha=0.3)


def labelling_curves(curves: Mapping[str, Mapping[int, float]], *, ax: Axes | None = None) -> None:
    """Draw accuracy (0 to 1) over the number of labels, a line for each order of labelling."""
    ax = ax or plt.subplots(figsize=(6, 4))[1]
    ax.set(xlabel="images with a label", ylabel="accuracy (share of images)", xscale="log")
    ax.set_title("The further to the upper left, the fewer labels are needed")
    ax.grid(alpha=0.3)
    for (order, accuracy), shade, marker in zip(curves.items(), COLOURS, MARKERS, strict=False):
        ax.plot(list(accuracy), list(accuracy.values()), color=shade, marker=marker, label=f"{order} order")
        ax.set_xticks(list(accuracy), [str(labels) for labels in accuracy])
    if curves:
        ax.minorticks_off()
        ax.legend()
