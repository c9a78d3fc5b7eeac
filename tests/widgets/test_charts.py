"""The bqplot charts have the numbers of the evaluation."""

import warnings

import numpy as np
import pytest

from imgclf import plots
from imgclf.evaluation import curves, metrics
from imgclf.finetuning.learning_curve import Epoch
from support.evaluations import evaluated, few_and_many, labels

with warnings.catch_warnings():
    warnings.simplefilter(
        "ignore", DeprecationWarning
    )  # of bqplot's own definitions, when it is first imported
    from imgclf.widgets import charts


def axis_labels(figure) -> list[str]:
    return [axis.label for axis in figure.axes]


@few_and_many
def test_the_confusion_matrix_has_shares_and_counts(count):
    found = evaluated(count)
    cells, *inks = charts.confusion(found).marks
    np.testing.assert_allclose(cells.color, found.confusion / 5)
    assert list(cells.row) == list(cells.column) == list(found.labels)
    shown = {
        (str(row), str(column)): int(text)
        for numbers in inks
        for row, column, text in zip(numbers.y, numbers.x, numbers.text, strict=True)
    }
    assert shown == {
        (found.labels[i], found.labels[j]): n for (i, j), n in np.ndenumerate(found.confusion) if n
    }
    assert axis_labels(charts.confusion(found)) == ["predicted label", "true label"]


def test_a_label_without_images_has_an_empty_row_in_the_confusion_matrix():
    found = metrics.evaluate(["a", "b"], ["1"], ["a"], np.eye(2)[:1], np.eye(2)[:1])
    cells, *_ = charts.confusion(found).marks
    assert cells.color.tolist() == [[1, 0], [0, 0]]


def test_a_click_on_a_cell_passes_its_labels():
    clicked = []
    cells, *_ = charts.confusion(evaluated(3), on_click=lambda *cell: clicked.append(cell)).marks
    cells._handle_custom_msg(
        {
            "event": "element_click",
            "data": {"row": "label 0", "column": "label 1", "rowNum": 0, "columnNum": 1},
        },
        [],
    )
    assert clicked == [("label 0", "label 1")]


@few_and_many
def test_the_mouse_passes_through_the_numbers_to_the_cells(count):
    _, *inks = charts.confusion(evaluated(count)).marks
    assert all(
        mark.selected.tolist() == list(range(len(mark.text)))
        and mark.selected_style == {"pointer-events": "none"}
        for mark in inks
    )


def test_long_labels_are_shortened_at_the_axes_and_complete_in_the_cells():
    names = ["a very long label of coats", "a very long label of hats"]
    figure = charts.confusion(metrics.evaluate(names, ["1", "2"], names, np.eye(2), np.eye(2)))
    assert list(figure.marks[0].row) == names
    assert all(
        axis.tick_labels == {names[0]: "a very…coats", names[1]: "a very… hats"} for axis in figure.axes
    )


@few_and_many
def test_bars_are_updated_in_place_and_mark_the_true_label(count):
    bars = charts.ProbabilityBars(labels(count))
    mark, before = bars.marks[0], list(bars.marks)
    probabilities = np.linspace(0, 1, count, dtype=np.float32)
    bars.show(probabilities, "label 1")
    assert list(mark.x) == labels(count) and bars.marks == before
    np.testing.assert_array_equal(mark.y, probabilities)
    assert bars.axes[0].tick_labels == {
        **{label: label for label in labels(count)},
        "label 1": "label 1 (true)",
    }


@few_and_many
def test_the_roc_curves_have_one_point_per_label_at_the_threshold(count):
    found = evaluated(count)
    figure = charts.ThresholdRoc(found)
    *lines, points = figure.marks
    curve = curves.roc_by_probability(found, "label 0")
    assert set(zip(lines[0].x, lines[0].y, strict=True)) <= set(
        zip(curve.false_positive_rate, curve.true_positive_rate, strict=True)
    )
    for threshold in (0, 0.4, 1):
        figure.set_threshold(threshold)
        np.testing.assert_array_equal(
            np.stack([points.x, points.y], axis=1), curves.operating_points(found, threshold)
        )
    assert list(points.names) == labels(count) and all(axis_labels(figure))


def test_only_the_corners_of_a_roc_curve_are_drawn():
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.1, 0.9]])
    found = metrics.evaluate(list("ab"), list("1234"), list("aaab"), probabilities, probabilities)
    curve = charts.ThresholdRoc(found).marks[0]
    assert (curve.x.tolist(), curve.y.tolist()) == ([0, 0, 1], [0, 1, 1])


def test_a_label_without_a_curve_has_no_point():
    found = metrics.evaluate(list("abc"), ["1", "2"], ["a", "b"], np.eye(3)[:2], np.eye(3)[:2])
    *lines, points = charts.ThresholdRoc(found).marks
    assert len(lines) == len(points.x) == 2 and list(points.names) == ["a", "b"]


@few_and_many
def test_the_feature_map_has_each_image_with_its_name(count):
    points = np.random.default_rng(0).normal(size=(3 * count, 2))
    names = [f"{i}.jpg" for i in range(3 * count)]
    figure = charts.feature_map(points, names, np.array(labels(count)).repeat(3), labels(count))
    assert [mark.labels for mark in figure.marks] == [[label] for label in labels(count)]
    assert [str(name) for mark in figure.marks for name in mark.names] == names
    np.testing.assert_allclose(np.concatenate([mark.x for mark in figure.marks]), points[:, 0])
    np.testing.assert_allclose(np.concatenate([mark.y for mark in figure.marks]), points[:, 1])
    assert all(axis_labels(figure))


def test_a_label_has_the_same_colour_in_the_figure_and_in_the_chart():
    figure = charts.feature_map(np.zeros((3, 2)), list("123"), list("abc"), list("abc"))
    assert [mark.colors[0] for mark in figure.marks] == [plots.colour("abc", label) for label in "abc"]


@pytest.mark.parametrize(
    ("images", "drawn"),
    [(charts.MOST_POINTS, charts.MOST_POINTS), (charts.MOST_POINTS + 2, charts.MOST_POINTS // 2 + 1)],
)
def test_a_large_feature_map_is_thinned_evenly(images, drawn):
    points = np.arange(2 * images, dtype=float).reshape(images, 2)
    (mark,) = charts.feature_map(points, list(map(str, range(images))), ["a"] * images, ["a"]).marks
    assert len(mark.x) == drawn
    assert [str(name) for name in mark.names[:2]] == (["0", "1"] if drawn == images else ["0", "2"])


EPOCHS = [
    Epoch(0, float("nan"), float("nan"), 0.2, 0.9),
    Epoch(1, 0.5, 0.3, 0.1, 0.6),
    Epoch(2, 0.2, 0.1, 0.15, 0.5),
]


def test_the_training_curve_has_the_measured_errors():
    trained, validated = charts.training_curve(EPOCHS).marks
    assert (list(trained.x), list(trained.y)) == ([1, 2], [0.3, 0.1])
    assert (list(validated.x), list(validated.y)) == ([0, 1, 2], [0.2, 0.1, 0.15])
    assert all(axis_labels(charts.training_curve(EPOCHS)))


def test_live_training_shows_nothing_without_epochs_then_updates_one_chart(capsys):
    with charts.LiveTraining() as live:
        live.show([])
        assert live.chart is None
        live.show(EPOCHS[:1])
        first = live.chart
        live.progress(8, 16)
        live.show(EPOCHS)
    assert live.chart is first
    assert list(first.marks[1].x) == [0, 1, 2]
    assert first.title == "epoch 2: loss 0.20, training error 10.0%, validation error 15.0%"
    assert repr(first) == f"[interactive chart: {first.title}; run this cell to use it]"
    assert capsys.readouterr().out.count("interactive chart") == 1


@pytest.mark.parametrize("count", [13, 200, 1000])
class TestManyLabels:
    """The charts of many labels show some of them, and say so; bqplot draws each mark as SVG."""

    def test_the_feature_map_has_the_frequent_labels_and_every_image(self, count):
        image_labels = [*labels(count), *labels(count)[:10]]
        points = np.random.default_rng(0).normal(size=(len(image_labels), 2))
        figure = charts.feature_map(points, image_labels, image_labels, labels(count))
        others, *marks = figure.marks
        assert [mark.labels for mark in marks] == [[label] for label in labels(10)]
        assert others.labels == [f"{count - 10} others"] and len(others.x) == count - 10
        assert sum(len(mark.x) for mark in figure.marks) == len(points)
        assert f"the 10 of {count} labels with the most images" in figure.title

    def test_the_confusion_matrix_has_the_labels_with_the_most_mistakes(self, count):
        clicked = []
        figure = charts.confusion(evaluated(count), on_click=lambda *cell: clicked.append(cell))
        cells, *inks = figure.marks
        assert len(cells.row) == min(count, 41)
        assert sum(int(text) for mark in inks for text in mark.text) == 5 * count
        for cell in (("label 1", "label 2"), (f"{count - 40} others", "label 1")):
            message = {"event": "element_click", "data": dict(zip(("row", "column"), cell, strict=True))}
            cells._handle_custom_msg(message, [])
        assert clicked == [("label 1", "label 2")]

    def test_the_bars_are_the_likeliest_labels_and_the_true_one(self, count):
        bars = charts.ProbabilityBars(labels(count))
        probabilities = np.linspace(1, 0, count)
        bars.show(probabilities, "label 12")
        ticks = bars.axes[0].tick_labels
        rows = [ticks[row] for row in bars.marks[0].scales["x"].domain]
        if count > charts.FEW:
            assert rows == [*labels(12), "label 12 (true)", "label 13", "label 14"]
            np.testing.assert_array_equal(bars.marks[0].y, probabilities[:15])
            bars.show(probabilities, f"label {count - 1}")
            assert [*bars.axes[0].tick_labels.values()] == [*labels(14), f"label {count - 1} (true)"]
            np.testing.assert_array_equal(bars.marks[0].y, [*probabilities[:14], 0])
            assert bars.axes[1].label == f"probability, 15 of {count} labels"
        else:
            assert rows == [*labels(12), "label 12 (true)"]

    def test_the_roc_curves_are_those_of_the_smallest_area(self, count):
        found = evaluated(count)
        figure = charts.ThresholdRoc(found)
        *lines, points = figure.marks
        worst = curves.average_roc(found).worst(10)
        assert [line.labels[0] for line in lines] == list(points.names) == worst
        figure.set_threshold(0.4)
        expected = curves.operating_points(found, 0.4, worst)
        np.testing.assert_array_equal(np.stack([points.x, points.y], axis=1), expected)
        assert figure.title == f"the worst 10 of {count} labels"


def test_of_many_images_a_curve_has_as_many_corners_as_pixels():
    draws = np.random.default_rng(0)
    x, y = (np.append(0, np.cumsum(draws.integers(0, 2, 40_000))) for _ in range(2))
    x, y = x / x[-1], y / y[-1]
    drawn = charts.corners(x, y)
    assert len(drawn["x"]) <= charts.MOST_CORNERS
    assert (drawn["x"][[0, -1]].tolist(), drawn["y"][[0, -1]].tolist()) == ([0, 1], [0, 1])
    assert np.abs(np.interp(x, drawn["x"], drawn["y"]) - y).max() < 2 / charts.MOST_CORNERS
