"""Figures show the numbers they are given, name both axes, draw text literally, and work for few and many labels."""

import base64
import inspect
import io
import re
import subprocess
import sys
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from IPython.core.interactiveshell import InteractiveShell
from IPython.display import display
from IPython.utils.capture import capture_output
from matplotlib import font_manager
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.figure import Figure
from PIL import Image
from traitlets.config import Config

from imgclf import plots
from imgclf.data import scan
from imgclf.evaluation import calibration, curves, metrics, training_size
from imgclf.evaluation.training_size import Curve
from imgclf.experiments.trials import Trial
from imgclf.finetuning.learning_curve import Epoch
from support.evaluations import evaluated, few_and_many, labels
from support.trials import write_trial


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


@pytest.fixture
def ax():
    return Figure().subplots()


def check_drawn(ax) -> None:
    """Both axes are named, there is a title, and it can be saved without a warning."""
    assert ax.get_xlabel()
    assert ax.get_ylabel()
    assert ax.get_title()
    ax.figure.savefig(io.BytesIO(), bbox_inches="tight")


@few_and_many
def test_confusion_shows_every_count_at_its_place(count, ax):
    evaluation = evaluated(count)
    assert plots.confusion(evaluation, ax=ax) is None
    check_drawn(ax)
    shown = {
        (int(text.get_position()[1]), int(text.get_position()[0])): int(text.get_text()) for text in ax.texts
    }
    assert shown == {place: images for place, images in np.ndenumerate(evaluation.confusion) if images}
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("predicted label", "true label")
    assert f"{5 * count} images" in ax.get_title()


def test_long_labels_are_shortened_in_the_middle(ax):
    names = ["long_sleeved_blouse_with_collar", "short_sleeved_blouse_with_collar", "a b"]
    evaluation = metrics.evaluate(names, ["1", "2", "3"], names, np.eye(3), np.eye(3))
    plots.confusion(evaluation, ax=ax)
    ticks = [tick.get_text() for tick in ax.get_xticklabels()]
    assert ticks == ["long_slee…h_collar", "short_sle…h_collar", "a b"]


@few_and_many
def test_roc_draws_a_curve_for_each_label_with_its_area(count, ax):
    evaluation = evaluated(count)
    plots.roc(evaluation, ax=ax)
    check_drawn(ax)
    for line, label in zip(ax.lines, evaluation.labels, strict=False):
        curve = curves.roc(evaluation, label)
        assert ([curve.false_positive_rate, curve.true_positive_rate] == line.get_xydata().T).all()
        assert (
            line.get_label()
            == f"{label}, area {curve.auc:.2f} ({curve.interval[0]:.2f} to {curve.interval[1]:.2f})"
        )
    assert len(ax.lines) == count + 1
    assert f"{5 * count} images" in ax.get_title()


def test_roc_omits_a_label_without_images(ax):
    evaluation = metrics.evaluate(["a", "b", "c"], ["1", "2"], ["a", "b"], np.eye(3)[:2], np.eye(3)[:2])
    plots.roc(evaluation, ax=ax)
    assert [line.get_label().split(",")[0] for line in ax.lines] == ["a", "b", "chance"]


@few_and_many
def test_precision_recall_draws_a_curve_for_each_label_with_its_average_precision_and_baseline(count, ax):
    evaluation = evaluated(count)
    assert plots.precision_recall(evaluation, ax=ax) is None
    check_drawn(ax)
    lines, baselines = ax.lines[:count], ax.lines[count:]
    for line, baseline, label in zip(lines, baselines, evaluation.labels, strict=True):
        curve = curves.precision_recall(evaluation, label)
        low, high = curve.interval
        np.testing.assert_array_equal(line.get_xydata().T, [curve.recall, curve.precision])
        assert (
            line.get_label()
            == f"{label}, average precision {curve.average_precision:.2f} ({low:.2f} to {high:.2f})"
        )
        assert set(baseline.get_ydata()) == {curve.baseline} == {1 / count}
        assert line.get_color() == baseline.get_color() == plots.colour(evaluation.labels, label)
    assert ax.get_xlabel() == "recall (share of the label's images that are found)"
    assert ax.get_ylabel().startswith("precision (")
    assert f"{5 * count} images" in ax.get_title()


def test_precision_recall_draws_the_steps_whose_area_is_the_average_precision(ax):
    evaluation = evaluated(3)
    plots.precision_recall(evaluation, ax=ax)
    for line, label in zip(ax.lines[:3], evaluation.labels, strict=True):
        recall, precision = line.get_data()
        assert line.get_drawstyle() == "steps-post"  # from each point to the next, at the height of the first
        area = -np.diff(recall) @ precision[:-1]
        assert area == pytest.approx(curves.precision_recall(evaluation, label).average_precision)


def test_precision_recall_omits_a_label_without_images(ax):
    evaluation = metrics.evaluate(["a", "b", "c"], ["1", "2"], ["a", "b"], np.eye(3)[:2], np.eye(3)[:2])
    plots.precision_recall(evaluation, ax=ax)
    legend = [text.get_text().split(",")[0] for text in ax.get_legend().get_texts()]
    assert legend == ["a", "b", "chance (baseline): the label's share of the images"]


@few_and_many
def test_feature_map_draws_a_point_for_each_image_by_label(count, ax):
    points = np.random.default_rng(0).normal(size=(3 * count, 2))
    plots.feature_map(points, np.array(labels(count)).repeat(3), labels(count), ax=ax)
    check_drawn(ax)
    assert [scatter.get_label() for scatter in ax.collections] == [f"{label} (3)" for label in labels(count)]
    np.testing.assert_allclose(np.vstack([scatter.get_offsets() for scatter in ax.collections]), points)
    assert ax.get_title().startswith(f"{3 * count} images")


def test_feature_map_lists_a_label_without_images(ax):
    plots.feature_map(np.zeros((1, 2)), ["a"], ["a", "b"], ax=ax)
    check_drawn(ax)
    assert [scatter.get_label() for scatter in ax.collections] == ["a (1)", "b (0)"]


def test_a_grid_without_tiles_may_draw_nothing():
    plt.close("all")
    plots.grid([], [], title="Mistakes", even_empty=False)
    assert not plt.get_fignums()
    plots.grid([], [], title="Mistakes")
    assert plt.gcf().get_suptitle() == "Mistakes: none"
    plt.close("all")


def test_c_curve_rings_the_chosen_c(ax):
    plots.c_curve([0.1, 1.0, 10.0], [0.6, 0.8, 1.0], [0.5, 0.7, 0.6], 1, ax=ax)
    check_drawn(ax)
    train, held_out, ring = ax.lines
    assert train.get_ydata().tolist() == [0.6, 0.8, 1.0]
    assert held_out.get_ydata().tolist() == [0.5, 0.7, 0.6]
    assert ring.get_xydata().tolist() == [[1.0, 0.7]]
    assert ring.get_label() == "chosen: C = 1"


def test_training_size_shows_measured_points_and_the_forecast_beyond_them(ax):
    curve = grown(["a", "b"])
    assert plots.training_size(curve, ax=ax) is None
    check_drawn(ax)
    inside, beyond = (line for line in ax.lines if len(line.get_xdata()) > 4)
    assert (inside.get_linestyle(), beyond.get_linestyle()) == ("-", "--")
    assert inside.get_xdata()[[0, -1]].tolist() == [50, 400]
    assert beyond.get_xdata()[[0, -1]].tolist() == [400, 2400]
    assert beyond.get_ydata()[-1] == curve.forecasts[-1].accuracy
    measured = ax.containers[0]
    assert measured.lines[0].get_ydata().tolist() == [point.accuracy.value for point in curve.points]
    bars = [segment[:, 1].tolist() for segment in measured.lines[2][0].get_segments()]
    assert bars == [pytest.approx(point.accuracy.interval) for point in curve.points]


@few_and_many
def test_training_size_of_labels_shows_a_line_for_each_label_or_those_that_gain_most(count, ax):
    names = labels(count) + labels(count + 1)[-1:]
    curve = grown(names)
    plots.training_size_of_labels(curve, ax=ax)
    check_drawn(ax)
    shown = [text.get_text() for text in ax.get_legend().get_texts()]
    assert set(shown) <= set(names) and len(shown) == min(len(names), plots.SHOWN if count == 12 else 3)


def test_points_without_a_forecast_are_drawn_alone(ax):
    curve = grown(["a", "b"], of_each=4)
    assert not curve.forecasts
    for draw in (plots.training_size, plots.training_size_of_labels):
        ax.clear()
        draw(curve, ax=ax)
        check_drawn(ax)
        assert not [line for line in ax.lines if line.get_linestyle() == "--"]
    plots.training_size(Curve(("a", "b"), 2))
    assert not plt.get_fignums()


def test_up_to_ten_labels_have_different_colours_and_more_share_one():
    assert len({plots.colour(labels(10), label) for label in labels(10)}) == 10
    assert {plots.colour(labels(11), label) for label in labels(11)} == {plots.COLOURS[0]}


def test_a_label_keeps_its_colour_when_others_lack_images(ax):
    plots.feature_map(np.zeros((2, 2)), ["c", "c"], ["a", "b", "c"], ax=ax)
    assert plt.matplotlib.colors.to_hex(ax.collections[2].get_facecolor()[0]) == plots.COLOURS[2]


@pytest.mark.parametrize("draw", [plots.roc, plots.precision_recall])
def test_curves_of_more_labels_than_colours_differ_by_the_line_style(draw, ax):
    draw(evaluated(12), ax=ax)
    assert len({line.get_linestyle() for line in ax.lines[:12]}) == 4


def test_without_ax_a_figure_is_created():
    plots.confusion(evaluated(3))
    assert plt.gca().get_xlabel() == "predicted label"


def test_grid_shows_each_image_under_its_caption():
    tiles = [np.full((10 + i, 20, 3), 40 * i, np.uint8) for i in range(5)]
    plots.grid(tiles, list("abcde"), title="five", columns=3)
    axes = plt.gcf().axes
    assert [ax.get_title() for ax in axes] == ["a", "b", "c", "d", "e", ""]
    assert all((ax.images[0].get_array() == tile).all() for ax, tile in zip(axes, tiles, strict=False))
    assert plt.gcf().get_suptitle() == "five"
    plt.gcf().canvas.draw()


@pytest.mark.parametrize("count", [0, 1])
def test_grid_of_one_or_no_image_is_drawn(count):
    plots.grid([np.zeros((8, 8, 3), np.uint8)] * count, ["one"] * count, title="few")
    plt.gcf().canvas.draw()


@pytest.fixture
def shell():
    yield InteractiveShell.instance(config=Config({"HistoryManager": {"enabled": False}}))
    InteractiveShell.clear_instance()


def test_notebooks_show_a_grid_as_jpeg_and_nothing_else(shell):
    plots.grid([np.full((30, 20, 3), 200, np.uint8)], ["one"], title="few")
    with capture_output() as captured:
        display(plt.gcf())
    (shown,) = captured.outputs
    assert set(shown.data) == {"image/jpeg", "text/plain"}
    assert Image.open(io.BytesIO(base64.b64decode(shown.data["image/jpeg"]))).format == "JPEG"
    assert re.fullmatch(r"<Photographs size \d+x\d+ with 1 Axes>", shown.data["text/plain"])


@pytest.mark.parametrize(("name", "kind"), [("a.jpg", "JPEG"), ("a.png", "PNG")])
def test_a_figure_is_saved_as_its_name_says(name, kind, tmp_path):
    plots.grid([np.zeros((8, 8, 3), np.uint8)], ["one"], title="few")
    plots.save(tmp_path / name)
    with Image.open(tmp_path / name) as image:
        assert image.format == kind


def test_rejection_draws_accuracy_and_rejected_share_over_the_thresholds(ax):
    evaluation = metrics.evaluate(
        ["a", "b"],
        list("123"),
        list("aab"),
        np.eye(2)[[0, 1, 1]],
        np.array([[0.9, 0.1], [0.4, 0.6], [0.3, 0.7]]),
    )
    assert plots.rejection(evaluation, ax=ax) is None
    check_drawn(ax)
    accuracy, rejected = ax.lines
    np.testing.assert_array_equal(accuracy.get_xdata(), [0, 0.6, 0.7, 0.9, 1])
    np.testing.assert_array_equal(accuracy.get_ydata(), [2 / 3, 2 / 3, 1, 1, np.nan])
    np.testing.assert_array_equal(rejected.get_ydata(), [0, 0, 1 / 3, 2 / 3, 1])
    assert {line.get_drawstyle() for line in ax.lines} == {"steps-pre"}
    assert accuracy.get_linestyle() != rejected.get_linestyle()
    assert ax.get_title().startswith("3 images")


def test_rejection_draws_the_interval_as_a_band(ax):
    evaluation = evaluated(3)
    probabilities = np.exp(evaluation.scores) / np.exp(evaluation.scores).sum(axis=1, keepdims=True)
    evaluation = metrics.Evaluation(
        evaluation.labels, evaluation.paths, evaluation.truth, evaluation.scores, probabilities
    )
    plots.rejection(evaluation, ax=ax)
    (band,) = ax.collections
    low, high = evaluation.overall_accuracy.interval
    heights = band.get_paths()[0].vertices[:, 1]
    assert {low, high} <= set(heights)  # the first threshold rejects nothing


def test_reliability_draws_a_point_and_an_interval_for_each_bin(ax):
    probabilities = np.array([[0.9, 0.1], [0.4, 0.6], [0.42, 0.58]])
    result = calibration.reliability(
        metrics.evaluate(["a", "b"], list("123"), list("aab"), np.eye(2)[[0, 1, 1]], probabilities)
    )
    assert plots.reliability(result, ax=ax) is None
    check_drawn(ax)
    diagonal, points = ax.lines
    np.testing.assert_array_equal(diagonal.get_xdata(), diagonal.get_ydata())
    np.testing.assert_allclose(points.get_xydata(), [[0.59, 0.5], [0.9, 1]])
    assert [text.get_text() for text in ax.texts] == ["2", "1"]
    (intervals,) = ax.collections
    np.testing.assert_allclose(
        [segment[:, 1] for segment in intervals.get_segments()], [b.accuracy.interval for b in result.bins]
    )


def test_save_writes_the_current_figure_as_png(tmp_path):
    plots.confusion(evaluated(2))
    plots.save(tmp_path / "proc" / "confusion.png")
    with Image.open(tmp_path / "proc" / "confusion.png") as picture:
        assert picture.format == "PNG"
        assert min(picture.size) > 200
    assert [path.name for path in (tmp_path / "proc").iterdir()] == ["confusion.png"]


def test_training_curve_rings_the_epoch_with_the_smallest_validation_loss(ax):
    epochs = [
        Epoch(0, float("nan"), float("nan"), 0.2, 0.9),
        Epoch(1, 0.5, 0.3, 0.1, 0.6),
        Epoch(2, 0.2, 0.1, 0.15, 0.5),
    ]
    plots.training_curve(epochs, ax=ax)
    check_drawn(ax)
    train, validation, ring = ax.lines
    assert train.get_ydata().tolist()[1:] == [0.3, 0.1]
    assert validation.get_ydata().tolist() == [0.2, 0.1, 0.15]
    assert ring.get_xydata().tolist() == [[2, 0.15]]


def test_trials_draws_test_accuracy_against_milliseconds_per_image(ax):
    slow = write_trial(5, 90, held_out=45, milliseconds=40.0, epochs=10)
    fast = write_trial(500, 80, held_out=40, milliseconds=10.0, epochs=5)
    assert plots.trials([fast, slow], ax=ax) is None
    check_drawn(ax)
    assert ax.get_xlabel() == "milliseconds per image at inference"
    points = [container.lines[0].get_xydata().tolist() for container in ax.containers]
    assert points == [[[40.0, 0.9]], [[10.0, 0.8]]]  # ranked by held-out accuracy
    assert [text.get_text() for text in ax.texts] == ["1", "2"]
    for container, trial in zip(ax.containers, (slow, fast), strict=True):
        (segment,) = container.lines[2][0].get_segments()
        np.testing.assert_allclose(segment[:, 1], trial.test_evaluation.overall_accuracy.interval)
    held_out = [line.get_xydata().tolist() for line in ax.lines if line.get_marker() == "_"]
    assert [[40.0, 0.9]] in held_out and [[10.0, 0.8]] in held_out


def test_nothing_is_drawn_or_saved_if_nothing_was_tried(tmp_path):
    plots.training_curve([])
    plots.c_curve([], [], [], 0)
    plots.trials([Trial("fruit@epochs=5", {"epochs": 5}, "", {}, error="the disk is full")])
    plots.save(tmp_path / "nothing.png")
    assert not plt.get_fignums()
    assert not list(tmp_path.iterdir())


DOLLARS = "a$b$c"
FIGURES = {  # each draws the labels it is given, as far as it shows labels
    "confusion": lambda names: plots.confusion(of_labels(names)),
    "roc": lambda names: plots.roc(of_labels(names)),
    "precision_recall": lambda names: plots.precision_recall(of_labels(names)),
    "feature_map": lambda names: plots.feature_map(np.eye(3, 2), names, names),
    "grid": lambda names: plots.grid([np.zeros((8, 8, 3), np.uint8)] * 3, names, title="Three images"),
    "c_curve": lambda names: plots.c_curve([1e-4, 0.01, 1, 100], [0.5, 0.6, 0.9, 1], [0.5, 0.6, 0.8, 0.7], 2),
    "training_curve": lambda names: plots.training_curve(
        [Epoch(number, 0.5, 0.3, 0.1, 0.6) for number in range(30)]
    ),
    "trials": lambda names: plots.trials([write_trial(5, 90, held_out=45, epochs=10)]),
    "rejection": lambda names: plots.rejection(of_labels(names)),
    "training_size": lambda names: plots.training_size(grown(names)),
    "training_size_of_labels": lambda names: plots.training_size_of_labels(grown(names)),
    "labelling_curves": lambda names: plots.labelling_curves({"random": {5: 0.4, 10: 0.6}}),
    "reliability": lambda names: plots.reliability(calibration.reliability(of_labels(names))),
}
WITH_LABELS = {"confusion", "roc", "precision_recall", "feature_map", "grid", "training_size_of_labels"}


def grown(names: list[str], *, of_each: int = 100) -> Curve:
    """A learning curve of labels with equally many images; half of the errors go when the images are four times as many."""
    y = np.arange(len(names)).repeat(of_each)
    place = np.tile(np.arange(of_each) / of_each, len(names))
    sizes = np.array([50.0, 100, 200, 400])
    right = [(place > 0.4 * (size / 50) ** -0.5)[:, None] for size in sizes]
    return training_size.extended(tuple(names), 600, sizes, right, y, np.arange(len(y)))


def of_labels(names: list[str]) -> metrics.Evaluation:
    """An evaluation of two images of each label, one of which has a wrong prediction."""
    truth = np.arange(len(names)).repeat(2)
    scores = np.eye(len(names))[truth]
    scores[1] = scores[-1]
    paths = [str(i) for i in range(len(truth))]
    return metrics.evaluate(names, paths, [names[k] for k in truth], scores, scores)


@pytest.fixture
def drawn_texts(monkeypatch) -> list[tuple[str, bool]]:
    """Each text that reaches the canvas, as it is drawn, and whether matplotlib sets it as mathematics."""
    texts = []
    draw_text = RendererAgg.draw_text

    def recording(renderer, gc, x, y, s, prop, angle, ismath=False, mtext=None):
        texts.append((s, bool(ismath)))
        draw_text(renderer, gc, x, y, s, prop, angle, ismath, mtext)

    monkeypatch.setattr(RendererAgg, "draw_text", recording)
    return texts


def test_every_figure_function_is_among_those_whose_texts_are_tested():
    functions = inspect.getmembers(plots, inspect.isfunction)
    modules = {
        plots.__name__,
        *(f"imgclf.plots.{name}" for name in ("learning_curves", "palette", "photographs")),
    }
    figures = {name for name, f in functions if f.__module__ in modules and name[0] != "_"}
    assert figures - {"colour", "save", "samples"} == set(FIGURES)  # samples draws by grid


@pytest.mark.parametrize("name", FIGURES)
def test_no_text_shows_a_dollar_sign_or_mathematics(name, drawn_texts):
    FIGURES[name](["apple", "pear", "quince"])
    plt.gcf().canvas.draw()
    assert drawn_texts
    assert [text for text, is_math in drawn_texts if is_math or "$" in text or "mathdefault" in text] == []


@pytest.mark.parametrize("name", FIGURES)
def test_dollar_signs_of_a_label_are_drawn_literally(name, drawn_texts):
    FIGURES[name]([DOLLARS, "$", "5$"])
    plt.gcf().canvas.draw()
    assert [text for text, is_math in drawn_texts if is_math or "\\" in text or "mathdefault" in text] == []
    assert any(DOLLARS in text for text, _ in drawn_texts) == (name in WITH_LABELS)


def test_the_recorder_sees_mathematics(drawn_texts):
    plt.figure().text(0, 0, DOLLARS)
    plt.gcf().canvas.draw()
    assert drawn_texts == [(DOLLARS, True)]


MANY = pytest.mark.parametrize("count", [2, 12, 40, 200, 1000])
MOST_PIXELS = 1700, 1400


def of_many(count: int) -> metrics.Evaluation:
    """Three images of each label; the last image of every third label is predicted as label 7 or 8."""
    truth = np.arange(count).repeat(3)
    scores = np.random.default_rng(0).normal(0, 0.1, (len(truth), count)) + np.eye(count)[truth]
    scores[2::9, 7 % count] += np.linspace(1.5, 4, len(scores[2::9]))
    scores[5::18, 8 % count] += np.linspace(1.5, 4, len(scores[5::18]))
    names = [f"{'a long label ' * 5}{k:04d}" for k in range(count)]
    paths = list(map(str, range(len(truth))))
    return metrics.evaluate(names, paths, [names[k] for k in truth], scores, scores)


@MANY
@pytest.mark.parametrize("name", sorted(WITH_LABELS - {"grid"}))
def test_a_figure_is_not_larger_for_more_or_longer_labels(name, count, tmp_path):
    evaluation = of_many(count)
    points = np.random.default_rng(0).normal(size=(3 * count, 2))
    draw = {
        "confusion": plots.confusion,
        "roc": plots.roc,
        "precision_recall": plots.precision_recall,
        "feature_map": lambda found: plots.feature_map(
            points, np.array(found.labels).repeat(3), found.labels
        ),
        "training_size_of_labels": lambda found: plots.training_size_of_labels(
            grown(list(found.labels), of_each=20)
        ),
    }
    draw[name](evaluation)
    plots.save(tmp_path / "figure.png")
    with Image.open(tmp_path / "figure.png") as picture:
        width, height = picture.size
    assert width < MOST_PIXELS[0] and height < MOST_PIXELS[1]


def test_curves_of_many_labels_are_the_worst_ones_and_the_mean_of_all(ax):
    evaluation = of_many(40)
    plots.roc(evaluation, ax=ax)
    areas = {label: curves.roc(evaluation, label).auc for label in evaluation.labels}
    mean, *worst, _ = ax.lines
    drawn = sorted(round(areas[label], 2) for label in sorted(areas, key=areas.get)[: plots.SHOWN])
    assert [float(line.get_label().split("area ")[1].split(" ")[0]) for line in worst] == drawn
    assert mean.get_label() == f"mean of 40 labels, area {np.mean(list(areas.values())):.2f}"
    assert "The worst 10 of 40 labels; mean and band of all" in ax.get_title()


def test_a_feature_map_of_many_labels_draws_every_image_and_names_the_frequent_labels(ax):
    image_labels = [f"label {k}" for k in range(30) for _ in range(k + 1)]
    points = np.random.default_rng(0).normal(size=(len(image_labels), 2))
    plots.feature_map(points, image_labels, [f"label {k}" for k in range(30)], ax=ax)
    others, *shown = ax.collections
    assert [scatter.get_label() for scatter in shown] == [f"label {k} ({k + 1})" for k in range(29, 19, -1)]
    assert others.get_label() == f"20 other labels ({sum(range(21))})"
    assert sum(len(scatter.get_offsets()) for scatter in ax.collections) == len(points)
    assert "the 10 of 30 labels with the most images" in ax.get_title()


def test_a_feature_map_draws_images_of_none_of_the_labels_in_grey(ax):
    plots.feature_map(np.eye(3, 2), ["a", "b", "none_of_these"], ["a", "b"], ax=ax)
    assert [dots.get_label() for dots in ax.collections] == ["none of the labels (1)", "a (1)", "b (1)"]


def test_a_confusion_matrix_of_many_labels_counts_every_image(ax):
    evaluation = of_many(200)
    plots.confusion(evaluation, ax=ax)
    assert sum(int(text.get_text()) for text in ax.texts) == 600
    assert ax.get_yticklabels()[-1].get_text() == "180 others"
    assert "the 20 of 200 labels with the most mistakes; the others are summed" in ax.get_title()


def test_samples_of_many_labels_are_a_page_and_say_what_they_leave_out(tmp_path):
    for k in range(70):
        (tmp_path / f"{k:02d}").mkdir()
        Image.new("RGB", (20, 20), (3 * k, 0, 0)).save(tmp_path / f"{k:02d}" / "0.png")
    found = scan.scan_folder("many", tmp_path)
    plots.samples(found, found.files, per_label=6, title="Images: ")
    drawn = [ax for ax in plt.gcf().axes if ax.images]
    assert len(drawn) == 60 and drawn[0].get_title() == "00/0.png" and drawn[-1].get_title() == "68/0.png"
    title = plt.gcf().get_suptitle()
    assert (
        title
        == "Images: 1 of each label, evenly spaced in its folder\n60 of 70 labels, evenly spaced in their order"
    )


def test_samples_of_few_labels_are_as_many_as_asked(colour_folder):
    found = scan.scan_folder("colours", colour_folder)
    plots.samples(found, found.images, per_label=6, title="Images: ")
    assert len([ax for ax in plt.gcf().axes if ax.images]) == 18
    assert plt.gcf().get_suptitle() == "Images: 6 of each label, evenly spaced in its folder"


@pytest.mark.parametrize("name", ["roc", "precision_recall", "feature_map"])
def test_a_label_with_a_leading_underscore_is_in_the_legend(name):
    names = ["_hidden", "__init__", "seen"]
    FIGURES[name](names)
    legend = plt.gca().get_legend().get_texts()
    assert [re.split(r",| \(", text.get_text().strip())[0] for text in legend][:3] == names


@pytest.fixture
def own_fonts(monkeypatch):
    """Restore the fonts of matplotlib after the test."""
    monkeypatch.setattr(plots.text, "_looked_up", set())
    monkeypatch.setattr(plots.text, "_named_fonts", set())
    plots.text._system_fonts.cache_clear()
    monkeypatch.setattr(font_manager.fontManager, "ttflist", list(font_manager.fontManager.ttflist))
    with mpl.rc_context():
        yield
    plots.text._system_fonts.cache_clear()


def write_font(path: Path, characters: str) -> Path:
    """Write a font in which each of the characters is a square."""
    names = [f"square{number}" for number in range(len(characters))]
    pen = TTGlyphPen(None)
    for move, point in (
        ("moveTo", (50, 0)),
        ("lineTo", (50, 700)),
        ("lineTo", (750, 700)),
        ("lineTo", (750, 0)),
    ):
        getattr(pen, move)(point)
    pen.closePath()
    square = pen.glyph()
    font = FontBuilder(1000, isTTF=True)
    font.setupGlyphOrder([".notdef", *names])
    font.setupCharacterMap(dict(zip(map(ord, characters), names, strict=True)))
    font.setupGlyf({".notdef": TTGlyphPen(None).glyph(), **dict.fromkeys(names, square)})
    font.setupHorizontalMetrics(dict.fromkeys([".notdef", *names], (800, 50)))
    font.setupHorizontalHeader(ascent=800, descent=-200)
    font.setupNameTable({"familyName": path.stem, "styleName": "Regular"})
    font.setupOS2(sTypoAscender=800, usWeightClass=400)
    font.setupPost()
    font.save(path)
    return path


CHINESE = ["猫的照片", "狗", "鸟"]


@pytest.mark.parametrize("name", sorted(WITH_LABELS))
def test_a_font_of_the_computer_that_has_the_characters_is_taken(
    name, own_fonts, tmp_path, monkeypatch, capsys
):
    path = write_font(tmp_path / "Own Sans CJK.ttf", "".join(sorted(set("".join(CHINESE)))))
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: [str(path)])  # it is installed just now
    FIGURES[name](CHINESE)
    plt.gcf().canvas.draw()  # a character without a glyph would be a warning, so an error here
    assert "Own Sans CJK" in mpl.rcParams["font.family"]
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("text", "font"),
    [
        ("猫", "Noto Sans CJK"),
        ("ひらがな", "Noto Sans CJK"),
        ("한국어", "Noto Sans CJK"),
        ("🍎", "Symbola"),
        ("हिन्दी", "Noto Sans (fonts-noto-core)"),
    ],
)
def test_a_missing_font_is_named_once(text, font, own_fonts, monkeypatch, capsys):
    monkeypatch.setattr(font_manager, "findSystemFonts", list)
    for each in (text, *text):
        plots.grid([np.zeros((8, 8, 3), np.uint8)], [each], title=text)
        plt.gcf().canvas.draw()
    (line,) = capsys.readouterr().out.splitlines()
    assert f"Install {font}" in line and text[0] in line


@pytest.mark.parametrize("text", ["قطة", "Ünïcode", "кошка", "❤\ufe0f", "a\u200db"])
def test_characters_of_the_default_font_need_no_other(text, own_fonts, monkeypatch, capsys):
    monkeypatch.setattr(font_manager, "findSystemFonts", list)
    before = list(mpl.rcParams["font.family"])
    plots.grid([np.zeros((8, 8, 3), np.uint8)], [text], title=text)
    plt.gcf().canvas.draw()
    assert mpl.rcParams["font.family"] == before and capsys.readouterr().out == ""


def test_a_matplotlibrc_with_latex_does_not_apply(tmp_path):
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\ntext.parse_math: False\nbackend: agg\n")
    draw = "from imgclf import plots; plots.c_curve([1, 10], [1, 1], [1, 1], 0); plots.grid([[[0]]], ['5$'], title=''); from pathlib import Path; plots.save(Path('a.png'))"
    drawn = subprocess.run([sys.executable, "-c", draw], cwd=tmp_path, capture_output=True, text=True)
    assert drawn.returncode == 0 and (tmp_path / "a.png").exists(), drawn.stderr
