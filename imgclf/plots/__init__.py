"""Matplotlib figures of data and results, for notebooks and for PNG files."""

from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from imgclf import files
from imgclf.data.labels import NONE_IN_WORDS
from imgclf.evaluation import curves
from imgclf.evaluation.calibration import Reliability
from imgclf.evaluation.curves import AverageCurve
from imgclf.evaluation.metrics import Evaluation, condensed_confusion
from imgclf.evaluation.rejection import curve as rejection_curve
from imgclf.experiments.trials import Trial, ranked
from imgclf.finetuning import learning_curve
from imgclf.finetuning.learning_curve import Epoch
from imgclf.plots.learning_curves import labelling_curves as labelling_curves
from imgclf.plots.learning_curves import training_size as training_size
from imgclf.plots.learning_curves import training_size_of_labels as training_size_of_labels
from imgclf.plots.palette import COLOURS as COLOURS
from imgclf.plots.palette import LINES, MARKERS
from imgclf.plots.palette import LONGEST_IN_LEGEND as LONGEST_IN_LEGEND
from imgclf.plots.palette import MOST_LABELS as MOST_LABELS
from imgclf.plots.palette import OTHERS as OTHERS
from imgclf.plots.palette import SHOWN as SHOWN
from imgclf.plots.palette import colour as colour
from imgclf.plots.photographs import JPEG
from imgclf.plots.photographs import grid as grid
from imgclf.plots.photographs import samples as samples
from imgclf.plots.text import in_legend, plain
from imgclf.plots.text import short as short

MOST_ROWS = 20  # of a confusion matrix


def save(path: Path) -> None:
    """Write the current figure, atomically; nothing if there is no figure.

    Parameters
    ----------
    path : ends with .png, or for photographs with .jpg.
    """
    if not plt.get_fignums():
        return
    kind, options = ("jpeg", JPEG) if path.suffix == ".jpg" else ("png", {})
    with files.replace_file(path) as file:
        plt.gcf().savefig(file, format=kind, dpi=110, bbox_inches="tight", pil_kwargs=options)


def c_curve(
    c: Sequence[float],
    train_accuracy: Sequence[float],
    cv_accuracy: Sequence[float],
    best: int,
    *,
    ax: Axes | None = None,
) -> None:
    """Draw the class-averaged accuracy over C, on training and on held-out images; the chosen C is ringed.

    Nothing is drawn if no C was tried.
    """
    if not len(c):
        return
    ax = ax or plt.subplots(figsize=(6.5, 3.6))[1]
    ax.set_xscale("log")
    ax.set_xticks(c, [f"{value:g}" for value in c])
    ax.minorticks_off()
    ax.plot(c, train_accuracy, "s--", color=COLOURS[1], label="training images")
    ax.plot(c, cv_accuracy, "o-", color=COLOURS[0], label="held-out images (cross-validation)")
    ax.plot(
        c[best],
        cv_accuracy[best],
        "o",
        markersize=15,
        markerfacecolor="none",
        markeredgecolor="black",
        label=f"chosen: C = {c[best]:g}",
    )
    ax.set(
        xlabel="C (a smaller C regularizes more)",
        ylabel="class-averaged accuracy (share)",
        ylim=(0, 1.03),
        title="Beyond the chosen C, any gain on held-out images is within chance",
    )
    ax.grid(alpha=0.3)
    ax.legend(fontsize=8)


def training_curve(epochs: Sequence[Epoch], *, ax: Axes | None = None) -> None:
    """Draw training and validation error over the epochs of fine-tuning; the epoch that was kept is ringed.

    Nothing is drawn if there were no epochs.
    """
    if not epochs:
        return
    ax = ax or plt.subplots(figsize=(6.5, 3.6))[1]
    numbers, kept = [epoch.number for epoch in epochs], learning_curve.best(epochs)
    ax.plot(
        numbers,
        [epoch.train_error for epoch in epochs],
        "s--",
        color=COLOURS[1],
        label="training images, during the epoch",
    )
    ax.plot(
        numbers,
        [epoch.validation_error for epoch in epochs],
        "o-",
        color=COLOURS[0],
        label="validation images",
    )
    ax.plot(
        kept.number,
        kept.validation_error,
        "o",
        markersize=15,
        markerfacecolor="none",
        markeredgecolor="black",
        label=f"kept: epoch {kept.number}",
    )
    ax.set(
        xlabel="epoch (0: only the new last layer is trained)",
        ylabel="error (share of images)",
        xticks=numbers[:: -(-len(numbers) // 15)],
        title="The lower, the better; where the two diverge, the DNN overfits",
    )
    ax.set_ylim(bottom=0)
    ax.grid(alpha=0.3)
    ax.legend(fontsize=8)


def trials(results: Sequence[Trial], *, ax: Axes | None = None) -> None:
    """Draw the test accuracy of trials with its 95 % interval against the inference time per image.

    Their numbers are those of `trials.table`. Nothing is drawn if all trials failed.
    """
    done = ranked(results)
    if not done:
        return
    ax = ax or plt.subplots(figsize=(6.5, 4))[1]
    for number, trial in enumerate(done, start=1):
        accuracy, held_out = (
            trial.test_evaluation.overall_accuracy,
            trial.held_out_evaluation.overall_accuracy,
        )
        first = number == 1
        ax.errorbar(
            trial.milliseconds,
            accuracy.value,
            yerr=np.abs(np.subtract(accuracy.interval, accuracy.value))[:, None],
            fmt="o",
            capsize=3,
            color=COLOURS[0] if first else "0.45",
            label={1: "first in the table", 2: "the others"}.get(number),
        )
        ax.plot(
            trial.milliseconds,
            held_out.value,
            "_",
            color=COLOURS[1],
            markersize=12,
            label="held-out accuracy" if first else None,
        )
        ax.annotate(
            str(number),
            (trial.milliseconds, accuracy.value),
            xytext=(6, 4),
            textcoords="offset points",
            fontsize=9,
        )
    ax.set(
        xlabel="milliseconds per image at inference",
        ylabel="accuracy on the test images (share)",
        title="Is the accuracy worth the inference time?\nNumbers as in the table, bars: 95 % interval",
    )
    ax.margins(x=0.12)
    ax.set_xlim(left=0)
    ax.grid(alpha=0.3)
    ax.legend(fontsize=8)


def feature_map(
    points: np.ndarray, image_labels: Sequence[str], labels: Sequence[str], *, ax: Axes | None = None
) -> None:
    """Draw images as points on their first two principal components, one colour and marker per label.

    Parameters
    ----------
    points : (n, 2) float. image_labels : the label of each image.
    """
    of_label = np.array(image_labels)
    shown, title = labels, f"{len(points)} images: nearby points have similar features"
    if len(labels) > MOST_LABELS:
        names, counts = np.unique(of_label, return_counts=True)
        shown = names[np.argsort(-counts, kind="stable")[:SHOWN]].tolist()
        title += f"\nthe {SHOWN} of {len(labels)} labels with the most images; the others are grey"
    texts = {label: in_legend(short(label, LONGEST_IN_LEGEND)) for label in shown}
    ax = ax or plt.subplots(figsize=(6.5, 5))[1]
    others = points[~np.isin(of_label, shown)]
    if len(others):  # of labels without a colour of their own, or of none
        rest = len(labels) - len(shown)
        name = f"{f'{rest} other labels' if rest else NONE_IN_WORDS} ({len(others)})"
        ax.scatter(others[:, 0], others[:, 1], s=5, alpha=0.4, color=OTHERS, label=name)
    for k, label in enumerate(shown):
        x, y = points[of_label == label].T
        ax.scatter(
            x,
            y,
            s=14,
            alpha=0.7,
            color=colour(shown, label),
            marker=MARKERS[k % len(MARKERS)],
            label=f"{texts[label]} ({len(x)})",
        )
    ax.set(
        xlabel="first principal component (no unit)",
        ylabel="second principal component (no unit)",
        title=title,
    )
    ax.legend(fontsize=8)


def _shown_labels(
    evaluation: Evaluation, average: Callable[[Evaluation], AverageCurve | None]
) -> tuple[Sequence[str], AverageCurve | None, str]:
    """Return the labels whose curves are drawn: of many, the worst, with the mean of all and a note."""
    count = len(evaluation.labels)
    if count <= MOST_LABELS or (mean := average(evaluation)) is None:
        return evaluation.labels, None, ""
    note = f"\nThe worst {SHOWN} of {count} labels; mean and band of all"
    return mean.worst(SHOWN), mean, note


def _draw_average(ax: Axes, average: AverageCurve | None, area: str) -> None:
    if average is None:
        return
    mean = np.mean(list(average.areas.values()))
    name = f"mean of {len(average.areas)} labels, {area} {mean:.2f}"
    ax.plot(average.x, average.mean, color="black", linewidth=2, label=name)
    ax.fill_between(
        average.x,
        average.low,
        average.high,
        color=OTHERS,
        alpha=0.35,
        linewidth=0,
        label="10th to 90th percentile of the labels",
    )


def roc(evaluation: Evaluation, *, ax: Axes | None = None) -> None:
    """Draw the ROC curve of each label against the rest, with its area.

    Of many labels, those with the smallest area are drawn, and the mean of all.
    """
    labels, average, note = _shown_labels(evaluation, curves.average_roc)
    texts = {label: in_legend(short(label, LONGEST_IN_LEGEND)) for label in labels}
    ax = ax or plt.subplots(figsize=(5.5, 5))[1]
    _draw_average(ax, average, "area")
    for k, label in enumerate(labels):
        if curve := curves.roc(evaluation, label):
            low, high = curve.interval
            ax.plot(
                curve.false_positive_rate,
                curve.true_positive_rate,
                LINES[k % len(LINES)],
                color=colour(labels, label),
                label=f"{texts[label]}, area {curve.auc:.2f} ({low:.2f} to {high:.2f})",
            )
    ax.plot([0, 1], [0, 1], color="grey", linewidth=0.8, linestyle=":", label="chance, area 0.50")
    ax.set(
        xlabel="false positive rate (share of the other labels' images)",
        ylabel="true positive rate (share of the label's images)",
        title=f"ROC, each label against the rest, {len(evaluation.truth)} images:\n"
        f"the nearer to the upper left, the better{note}",
        aspect="equal",
    )
    ax.legend(fontsize=8, loc="lower right")


def precision_recall(evaluation: Evaluation, *, ax: Axes | None = None) -> None:
    """Draw the precision-recall curve of each label against the rest, with its average precision.

    Of many labels, those with the smallest average precision are drawn, and the mean of all.
    """
    labels, average, note = _shown_labels(evaluation, curves.average_precision_recall)
    texts = {label: in_legend(short(label, LONGEST_IN_LEGEND)) for label in labels}
    ax = ax or plt.subplots(figsize=(5.5, 5))[1]
    _draw_average(ax, average, "average precision")
    baselines = {}
    for k, label in enumerate(labels):
        if curve := curves.precision_recall(evaluation, label):
            low, high = curve.interval
            ax.plot(
                curve.recall,
                curve.precision,
                LINES[k % len(LINES)],
                drawstyle="steps-post",  # the area below these steps is the average precision
                color=colour(labels, label),
                label=f"{texts[label]}, average precision {curve.average_precision:.2f} "
                f"({low:.2f} to {high:.2f})",
            )
            baselines[label] = curve.baseline
    for number, (label, share) in enumerate(baselines.items()):
        ax.axhline(
            share,
            color=colour(labels, label),
            linewidth=0.8,
            linestyle=":",
            label=None if number else "chance (baseline): the label's share of the images",
        )
    ax.set(
        xlabel="recall (share of the label's images that are found)",
        ylabel="precision (share of these predictions that are right)",
        xlim=(-0.02, 1.02),
        ylim=(-0.02, 1.04),
        title=f"Precision-recall, {len(evaluation.truth)} images: each label against the rest,\n"
        f"the nearer to the upper right, the better{note}",
        aspect="equal",
    )
    ax.legend(fontsize=8, loc="upper left", bbox_to_anchor=(0, -0.13))  # below: curves end in every corner


def confusion(evaluation: Evaluation, *, ax: Axes | None = None) -> None:
    """Draw the confusion matrix. Row: true label; column: predicted label.

    The number is that of the images, the colour their share of the row. Of many labels, those with the most
    mistakes have rows of their own.
    """
    labels, counts = condensed_confusion(evaluation, most=MOST_ROWS)
    title = f"{len(evaluation.truth)} images: correct ones on the diagonal"
    if (count := len(evaluation.labels)) > MOST_ROWS:
        title += f"\nthe {MOST_ROWS} of {count} labels with the most mistakes; the others are summed"
    ticks = [plain(short(label)) for label in labels]
    k = len(labels)
    ax = ax or plt.subplots(figsize=(2.5 + 0.55 * k, 2 + 0.5 * k))[1]
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    picture = ax.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        if count:
            ax.text(
                column,
                row,
                count,
                ha="center",
                va="center",
                fontsize=9,
                color="white" if share[row, column] > 0.55 else "black",
            )
    ax.set_xticks(range(k), ticks, rotation=45, ha="right")
    ax.set_yticks(range(k), ticks)
    ax.set(xlabel="predicted label", ylabel="true label", title=title)
    ax.figure.colorbar(picture, ax=ax, label="share of the true label's images", shrink=0.8)


def rejection(evaluation: Evaluation, *, ax: Axes | None = None) -> None:
    """Draw the accuracy of the accepted images with its 95 % interval, and the share of rejected images.

    Both are functions of the threshold on the largest probability.
    """
    ax = ax or plt.subplots(figsize=(6.5, 3.6))[1]
    curve = rejection_curve(evaluation)
    ax.step(curve.threshold, curve.accuracy, where="pre", color=COLOURS[0], label="accuracy of the rest")
    low, high = curve.interval.T
    ax.fill_between(
        curve.threshold,
        low,
        high,
        step="pre",
        color=COLOURS[0],
        alpha=0.25,
        linewidth=0,
        label="its 95 % interval",
    )
    ax.step(
        curve.threshold,
        curve.rejected,
        "--",
        where="pre",
        color="0.25",
        label="rejected share (1 - coverage)",
    )
    ax.set(
        xlabel="threshold: images whose largest probability is below it are rejected",
        ylabel="share of images",
        xlim=(0, 1),
        ylim=(0, 1.03),
        title=f"{len(evaluation.truth)} images: what rejecting uncertain ones gains and costs",
    )
    ax.grid(alpha=0.3)
    ax.legend(fontsize=8, loc="center left")


def reliability(result: Reliability, *, ax: Axes | None = None) -> None:
    """Draw the reliability diagram: accuracy against confidence, one point per bin.

    Each point has its 95 % interval and its number of images. On the diagonal, probabilities are exact.
    """
    ax = ax or plt.subplots(figsize=(5.5, 5))[1]
    low, high = result.expected_calibration_error_by_chance
    confidence, share = [b.confidence for b in result.bins], [b.accuracy.value for b in result.bins]
    ax.plot([0, 1], [0, 1], color="grey", linewidth=0.8, linestyle=":", label="perfect calibration")
    ax.vlines(
        confidence,
        [b.accuracy.interval[0] for b in result.bins],
        [b.accuracy.interval[1] for b in result.bins],
        color=COLOURS[0],
        alpha=0.4,
        linewidth=4,
        label="95 % interval",
    )
    ax.plot(confidence, share, "o", color=COLOURS[0], label="accuracy of a bin, with its number of images")
    for b in result.bins:
        ax.annotate(
            str(b.accuracy.images),
            (b.confidence, b.accuracy.value),
            xytext=(6, -3),
            textcoords="offset points",
            fontsize=8,
        )
    ax.set(
        xlabel="confidence (mean probability of the predicted label)",
        ylabel="accuracy (share of images)",
        xlim=(0, 1.08),
        ylim=(-0.03, 1.05),
        title=f"{result.accuracy.images} images: the nearer to the diagonal, the better.\n"
        f"Expected calibration error {result.expected_calibration_error:.3f} "
        f"(by chance {low:.3f} to {high:.3f})",
    )
    ax.grid(alpha=0.3)
    ax.legend(fontsize=8, loc="upper left", bbox_to_anchor=(0, -0.13), ncols=2)
