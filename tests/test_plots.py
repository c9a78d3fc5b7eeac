"""Pictures show the numbers they are given, name both axes, and hold for few labels and for many."""

import io

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from imgclf import plots
from imgclf.evaluation import calibration, curves, metrics
from imgclf.finetuning.learning_curve import Epoch
from support.evaluations import evaluated, few_and_many, labels


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
    found = evaluated(count)
    assert plots.confusion(found, ax=ax) is None
    check_drawn(ax)
    shown = {
        (int(text.get_position()[1]), int(text.get_position()[0])): int(text.get_text()) for text in ax.texts
    }
    assert shown == {place: images for place, images in np.ndenumerate(found.confusion) if images}
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("predicted label", "true label")
    assert f"{5 * count} images" in ax.get_title()


def test_long_labels_stay_recognizable(ax):
    names = ["long_sleeved_blouse_with_collar", "short_sleeved_blouse_with_collar", "a b"]
    found = metrics.evaluate(names, ["1", "2", "3"], names, np.eye(3), np.eye(3))
    plots.confusion(found, ax=ax)
    ticks = [tick.get_text() for tick in ax.get_xticklabels()]
    assert ticks == ["long_slee…h_collar", "short_sle…h_collar", "a b"]


@few_and_many
def test_roc_draws_a_curve_for_each_label_with_its_area(count, ax):
    found = evaluated(count)
    plots.roc(found, ax=ax)
    check_drawn(ax)
    for line, label in zip(ax.lines, found.labels, strict=False):
        curve = curves.roc(found, label)
        assert ([curve.false_positive_rate, curve.true_positive_rate] == line.get_xydata().T).all()
        assert (
            line.get_label()
            == f"{label}, area {curve.area:.2f} ({curve.interval[0]:.2f} to {curve.interval[1]:.2f})"
        )
    assert len(ax.lines) == count + 1
    assert f"{5 * count} images" in ax.get_title()


def test_roc_leaves_out_a_label_without_images(ax):
    found = metrics.evaluate(["a", "b", "c"], ["1", "2"], ["a", "b"], np.eye(3)[:2], np.eye(3)[:2])
    plots.roc(found, ax=ax)
    assert [line.get_label().split(",")[0] for line in ax.lines] == ["a", "b", "chance"]


@few_and_many
def test_feature_map_shows_each_image_under_its_label(count, ax):
    points = np.random.default_rng(0).normal(size=(3 * count, 2))
    plots.feature_map(points, np.array(labels(count)).repeat(3), labels(count), ax=ax)
    check_drawn(ax)
    assert [scatter.get_label() for scatter in ax.collections] == [f"{label} (3)" for label in labels(count)]
    np.testing.assert_allclose(np.vstack([scatter.get_offsets() for scatter in ax.collections]), points)
    assert ax.get_title().startswith(f"{3 * count} images")


def test_feature_map_shows_a_label_without_images(ax):
    plots.feature_map(np.zeros((1, 2)), ["a"], ["a", "b"], ax=ax)
    check_drawn(ax)
    assert [scatter.get_label() for scatter in ax.collections] == ["a (1)", "b (0)"]


def test_c_curve_rings_the_chosen_c(ax):
    plots.c_curve([0.1, 1.0, 10.0], [0.6, 0.8, 1.0], [0.5, 0.7, 0.6], 1, ax=ax)
    check_drawn(ax)
    learned, held_out, ring = ax.lines
    assert learned.get_ydata().tolist() == [0.6, 0.8, 1.0]
    assert held_out.get_ydata().tolist() == [0.5, 0.7, 0.6]
    assert ring.get_xydata().tolist() == [[1.0, 0.7]]
    assert ring.get_label() == "chosen: C = 1"


def test_ten_labels_have_ten_colours_and_more_have_one():
    assert len({plots.colour(labels(10), label) for label in labels(10)}) == 10
    assert {plots.colour(labels(11), label) for label in labels(11)} == {plots.COLOURS[0]}


def test_a_label_keeps_its_colour_when_others_lack_images(ax):
    plots.feature_map(np.zeros((2, 2)), ["c", "c"], ["a", "b", "c"], ax=ax)
    assert plt.matplotlib.colors.to_hex(ax.collections[2].get_facecolor()[0]) == plots.COLOURS[2]


def test_roc_of_more_labels_than_colours_differs_by_the_line(ax):
    plots.roc(evaluated(12), ax=ax)
    assert len({line.get_linestyle() for line in ax.lines[:12]}) == 4


def test_functions_draw_a_figure_of_their_own_without_ax():
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
def test_grid_of_few_or_no_images_is_no_crash(count):
    plots.grid([np.zeros((8, 8, 3), np.uint8)] * count, ["one"] * count, title="few")
    plt.gcf().canvas.draw()


def test_rejection_draws_the_curve_of_the_thresholds(ax):
    found = metrics.evaluate(
        ["a", "b"],
        list("123"),
        list("aab"),
        np.eye(2)[[0, 1, 1]],
        np.array([[0.9, 0.1], [0.4, 0.6], [0.3, 0.7]]),
    )
    assert plots.rejection(found, ax=ax) is None
    check_drawn(ax)
    right, rejected = ax.lines
    np.testing.assert_array_equal(right.get_xdata(), [0, 0.6, 0.7, 0.9, 1])
    np.testing.assert_array_equal(right.get_ydata(), [2 / 3, 2 / 3, 1, 1, np.nan])
    np.testing.assert_array_equal(rejected.get_ydata(), [0, 0, 1 / 3, 2 / 3, 1])
    assert {line.get_drawstyle() for line in ax.lines} == {"steps-pre"}
    assert right.get_linestyle() != rejected.get_linestyle()
    assert ax.get_title().startswith("3 images")


def test_rejection_draws_the_band_of_the_interval(ax):
    found = evaluated(3)
    probabilities = np.exp(found.scores) / np.exp(found.scores).sum(axis=1, keepdims=True)
    found = metrics.Evaluation(found.labels, found.paths, found.truth, found.scores, probabilities)
    plots.rejection(found, ax=ax)
    (band,) = ax.collections
    low, high = found.overall_accuracy.interval
    heights = band.get_paths()[0].vertices[:, 1]
    assert {low, high} <= set(heights)  # the first threshold rejects nothing


def test_reliability_draws_a_point_and_an_interval_for_each_bin(ax):
    probabilities = np.array([[0.9, 0.1], [0.4, 0.6], [0.42, 0.58]])
    found = calibration.reliability(
        metrics.evaluate(["a", "b"], list("123"), list("aab"), np.eye(2)[[0, 1, 1]], probabilities)
    )
    assert plots.reliability(found, ax=ax) is None
    check_drawn(ax)
    diagonal, points = ax.lines
    np.testing.assert_array_equal(diagonal.get_xdata(), diagonal.get_ydata())
    np.testing.assert_allclose(points.get_xydata(), [[0.59, 0.5], [0.9, 1]])
    assert [text.get_text() for text in ax.texts] == ["2", "1"]
    (intervals,) = ax.collections
    np.testing.assert_allclose(
        [segment[:, 1] for segment in intervals.get_segments()], [b.accuracy.interval for b in found.bins]
    )


def test_save_writes_the_current_figure_as_png(tmp_path):
    plots.confusion(evaluated(2))
    plots.save(tmp_path / "proc" / "confusion.png")
    with Image.open(tmp_path / "proc" / "confusion.png") as picture:
        assert picture.format == "PNG"
        assert min(picture.size) > 200
    assert [path.name for path in (tmp_path / "proc").iterdir()] == ["confusion.png"]


def test_training_curve_rings_the_epoch_that_is_kept_which_has_the_smallest_loss(ax):
    epochs = [
        Epoch(0, float("nan"), float("nan"), 0.2, 0.9),
        Epoch(1, 0.5, 0.3, 0.1, 0.6),
        Epoch(2, 0.2, 0.1, 0.15, 0.5),
    ]
    plots.training_curve(epochs, ax=ax)
    check_drawn(ax)
    trained, validated, ring = ax.lines
    assert trained.get_ydata().tolist()[1:] == [0.3, 0.1]
    assert validated.get_ydata().tolist() == [0.2, 0.1, 0.15]
    assert ring.get_xydata().tolist() == [[2, 0.15]]


def test_nothing_is_drawn_or_saved_where_nothing_was_tried(tmp_path):
    plots.training_curve([])
    plots.c_curve([], [], [], 0)
    plots.save(tmp_path / "nothing.png")
    assert not plt.get_fignums()
    assert not list(tmp_path.iterdir())
