"""Pictures of data and results, for notebooks, files, and readers without a kernel."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex

from imgclf import files
from imgclf.evaluation import curves
from imgclf.evaluation.calibration import Reliability
from imgclf.evaluation.metrics import Evaluation
from imgclf.evaluation.rejection import curve as rejection_curve
from imgclf.experiments.trials import Trial, ranked
from imgclf.finetuning import learning_curve
from imgclf.finetuning.learning_curve import Epoch

COLOURS = [
    to_hex(colour) for colour in mpl.color_sequences["petroff10"]
]  # ten that colour-blind readers tell apart
MARKERS = "osD^vP*X<>"
TILE_INCHES = 1.6
LONGEST = 18  # letters of a label beside an axis


def colour(labels: Sequence[str], label: str) -> str:
    """The colour of a label, by its position; above ten labels all have the same, and names must tell."""
    return COLOURS[list(labels).index(label)] if len(labels) <= len(COLOURS) else COLOURS[0]


def plain(text: str) -> str:
    """A label or file name to be drawn as it is: matplotlib sets what is between dollar signs as mathematics."""
    return text.replace("$", r"\$")


def short(text: str, most: int = LONGEST) -> str:
    """A text of at most `most` letters: the middle of a longer one is left out."""
    half = most // 2
    return text if len(text) <= most else f"{text[:half]}…{text[len(text) - most + half + 1 :]}"


def save(path: Path) -> None:
    """Write the current figure as PNG, whole; nothing where there is none."""
    if not plt.get_fignums():
        return
    with files.replace_file(path) as file:
        plt.gcf().savefig(file, format="png", dpi=110, bbox_inches="tight")


def grid(pixels: Sequence[np.ndarray], captions: Sequence[str], *, title: str, columns: int = 6) -> None:
    """Images in tiles of one size, each with its caption above.

    Parameters
    ----------
    pixels : (H, W, 3) uint8 RGB arrays of any size.
    """
    captions = [plain("\n".join(short(line, 24) for line in caption.split("\n"))) for caption in captions]
    columns = min(columns, max(1, len(pixels)))
    rows = max(1, -(-len(pixels) // columns))
    height = max(caption.count("\n") + 1 for caption in captions) * 0.17 if captions else 0
    figure, axes = plt.subplots(
        rows,
        columns,
        squeeze=False,
        layout="constrained",
        figsize=(columns * TILE_INCHES, rows * (TILE_INCHES + height) + 0.4),
    )
    for ax in axes.flat:
        ax.axis("off")
    for ax, tile, caption in zip(axes.flat, pixels, captions, strict=False):
        ax.imshow(tile)
        ax.set_title(caption, fontsize=8)
    figure.suptitle(title if len(pixels) else f"{title}: none", fontsize=10)


def c_curve(
    c: Sequence[float],
    train_accuracy: Sequence[float],
    cv_accuracy: Sequence[float],
    best: int,
    *,
    ax: Axes | None = None,
) -> None:
    """Class-averaged accuracy over C, on images learned from and on held-out ones; the chosen C is ringed. Nothing where no C was tried."""
    if not len(c):
        return
    ax = ax or plt.subplots(figsize=(6.5, 3.6))[1]
    ax.set_xscale("log")
    ax.set_xticks(c, [f"{value:g}" for value in c])
    ax.minorticks_off()
    ax.plot(c, train_accuracy, "s--", color=COLOURS[1], label="images it learned from")
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
        xlabel="C (smaller is smoother)",
        ylabel="class-averaged accuracy (share)",
        ylim=(0, 1.03),
        title="Where the two curves part, more C only learns by heart",
    )
    ax.grid(alpha=0.3)
    ax.legend(fontsize=8)


def training_curve(epochs: Sequence[Epoch], *, ax: Axes | None = None) -> None:
    """Errors over the epochs of a refinement; the epoch that was kept is ringed. Nothing where there were none."""
    if not epochs:
        return
    ax = ax or plt.subplots(figsize=(6.5, 3.6))[1]
    numbers, kept = [epoch.number for epoch in epochs], learning_curve.best(epochs)
    ax.plot(
        numbers,
        [epoch.train_error for epoch in epochs],
        "s--",
        color=COLOURS[1],
        label="training images, while it learns",
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
        xlabel="epoch (0: only the new last layer has learned)",
        ylabel="error (share of images)",
        xticks=numbers[:: -(-len(numbers) // 15)],
        title="The lower, the better; where the two part, it learns by heart",
    )
    ax.set_ylim(bottom=0)
    ax.grid(alpha=0.3)
    ax.legend(fontsize=8)


def trials(of: Sequence[Trial], *, ax: Axes | None = None) -> None:
    """Accuracy of trials on the test images, with its 95 % interval, against the seconds they took; the numbers are those of `trials.table`."""
    done = ranked(of)
    if not done:
        return
    ax = ax or plt.subplots(figsize=(6.5, 4))[1]
    for number, trial in enumerate(done, start=1):
        accuracy, seconds, held_out = (
            trial.tested.overall_accuracy,
            sum(trial.seconds.values()),
            trial.held_out.overall_accuracy.value,
        )
        first = number == 1
        ax.errorbar(
            seconds,
            accuracy.value,
            yerr=np.abs(np.subtract(accuracy.interval, accuracy.value))[:, None],
            fmt="o",
            capsize=3,
            color=COLOURS[0] if first else "0.45",
            label={1: "best on held-out images", 2: "the others"}.get(number),
        )
        ax.plot(
            seconds,
            held_out,
            "_",
            color=COLOURS[1],
            markersize=12,
            label="accuracy on held-out images" if first else None,
        )
        ax.annotate(
            str(number), (seconds, accuracy.value), xytext=(6, 4), textcoords="offset points", fontsize=9
        )
    ax.set(
        xlabel="notebooks 02 to 05, seconds",
        ylabel="accuracy on the test images (share)",
        title="Does the time pay? Numbers as in the table, bars: 95 % interval",
    )
    ax.margins(x=0.12)
    ax.set_xlim(left=0)
    ax.grid(alpha=0.3)
    ax.legend(fontsize=8, loc="lower left")


def feature_map(
    points: np.ndarray, image_labels: Sequence[str], labels: Sequence[str], *, ax: Axes | None = None
) -> None:
    """Images as points on their two main directions; (n, 2) `points`, one colour and marker a label."""
    ax = ax or plt.subplots(figsize=(6.5, 5))[1]
    for k, label in enumerate(labels):
        here = np.array(image_labels) == label
        ax.scatter(
            *points[here].T,
            s=14,
            alpha=0.7,
            color=colour(labels, label),
            marker=MARKERS[k % len(MARKERS)],
            label=plain(f"{label} ({here.sum()})"),
        )
    ax.set(
        xlabel="first direction (no unit)",
        ylabel="second direction (no unit)",
        title=f"{len(points)} images: the closer, the more alike to the DNN",
    )
    ax.legend(fontsize=8, ncols=1 + len(labels) // 12)


def roc(evaluation: Evaluation, *, ax: Axes | None = None) -> None:
    """ROC curve of each label against the rest, with its area."""
    ax = ax or plt.subplots(figsize=(5.5, 5))[1]
    styles = ("-", "--", "-.", ":")
    for k, label in enumerate(evaluation.labels):
        if curve := curves.roc(evaluation, label):
            ax.plot(
                curve.false_positive_rate,
                curve.true_positive_rate,
                styles[k % 4],
                color=colour(evaluation.labels, label),
                label=plain(label)
                + f", area {curve.area:.2f} ({curve.interval[0]:.2f} to {curve.interval[1]:.2f})",
            )
    ax.plot([0, 1], [0, 1], color="grey", linewidth=0.8, linestyle=":", label="chance, area 0.50")
    ax.set(
        xlabel="false positive rate (share of the other labels' images)",
        ylabel="true positive rate (share of the label's images)",
        title=f"ROC, each label against the rest, {len(evaluation.truth)} images:\nthe nearer to the upper left, the better",
        aspect="equal",
    )
    ax.legend(fontsize=8, loc="lower right")


def confusion(evaluation: Evaluation, *, ax: Axes | None = None) -> None:
    """Confusion matrix: row, the true label; column, the predicted one; colour, the share of the row; number, images."""
    k = len(evaluation.labels)
    ax = ax or plt.subplots(figsize=(2.5 + 0.55 * k, 2 + 0.5 * k))[1]
    counts = evaluation.confusion
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
    ax.set_xticks(range(k), [plain(short(label)) for label in evaluation.labels], rotation=45, ha="right")
    ax.set_yticks(range(k), [plain(short(label)) for label in evaluation.labels])
    ax.set(
        xlabel="predicted label",
        ylabel="true label",
        title=f"{len(evaluation.truth)} images: right ones on the diagonal",
    )
    ax.figure.colorbar(picture, ax=ax, label="share of the true label's images", shrink=0.8)


def rejection(evaluation: Evaluation, *, ax: Axes | None = None) -> None:
    """What a threshold on the probability does: how often the rest is right, with its 95 % interval, and the share of images rejected."""
    ax = ax or plt.subplots(figsize=(6.5, 3.6))[1]
    curve = rejection_curve(evaluation)
    ax.step(
        curve.threshold, curve.accuracy, where="pre", color=COLOURS[0], label="right, of the rest (accuracy)"
    )
    ax.fill_between(
        curve.threshold,
        *curve.interval.T,
        step="pre",
        color=COLOURS[0],
        alpha=0.25,
        linewidth=0,
        label="its 95 % interval",
    )
    ax.step(curve.threshold, curve.rejected, "--", where="pre", color="0.25", label="rejected, of all images")
    ax.set(
        xlabel="threshold: images whose largest probability is below it are rejected",
        ylabel="share of images",
        xlim=(0, 1),
        ylim=(0, 1.03),
        title=f"{len(evaluation.truth)} images: what rejecting the unsure ones gains and costs",
    )
    ax.grid(alpha=0.3)
    ax.legend(fontsize=8, loc="center left")


def reliability(found: Reliability, *, ax: Axes | None = None) -> None:
    """Confidence against accuracy, a point a bin with its 95 % interval and number of images; on the diagonal, probabilities are right."""
    ax = ax or plt.subplots(figsize=(5.5, 5))[1]
    low, high = found.expected_error_by_chance
    confidence, share = [b.confidence for b in found.bins], [b.accuracy.value for b in found.bins]
    ax.plot([0, 1], [0, 1], color="grey", linewidth=0.8, linestyle=":", label="probabilities exactly right")
    ax.vlines(
        confidence,
        *zip(*(b.accuracy.interval for b in found.bins), strict=True),
        color=COLOURS[0],
        alpha=0.4,
        linewidth=4,
        label="95 % interval",
    )
    ax.plot(confidence, share, "o", color=COLOURS[0], label="accuracy of a bin, with its number of images")
    for b in found.bins:
        ax.annotate(
            b.accuracy.images,
            (b.confidence, b.accuracy.value),
            xytext=(6, -3),
            textcoords="offset points",
            fontsize=8,
        )
    ax.set(
        xlabel="confidence (mean probability of the given label)",
        ylabel="accuracy (share of images)",
        xlim=(0, 1.08),
        ylim=(-0.03, 1.05),
        title=f"{found.accuracy.images} images: the nearer to the diagonal, the better.\n"
        f"Expected calibration error {found.expected_error:.3f} (by chance {low:.3f} to {high:.3f})",
    )
    ax.grid(alpha=0.3)
    ax.legend(fontsize=8, loc="upper left", bbox_to_anchor=(0, -0.13), ncols=2)
