"""The bqplot figures hold the same numbers as the evaluation."""

import warnings

import numpy as np
import pytest
from test_pictures import evaluated, few_and_many, labels

from imgclf import evaluation, pictures
from imgclf.curve import Epoch

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of bqplot's own definitions, when it is first imported
    from imgclf.widgets import charts


def axis_labels(figure) -> list[str]:
    return [axis.label for axis in figure.axes]


@few_and_many
def test_roc_holds_the_curves_of_the_evaluation(count):
    found = evaluated(count)
    figure = charts.roc(found)
    *curves, chance = figure.marks
    for label, mark in zip(found.labels, curves, strict=True):
        curve = found.roc(label)
        np.testing.assert_array_equal(mark.x, curve.false_positive_rate)
        np.testing.assert_array_equal(mark.y, curve.true_positive_rate)
        assert mark.labels == [f"{label} {curve.area:.2f}"]
    assert (list(chance.x), list(chance.y)) == ([0, 1], [0, 1])
    assert all(axis_labels(figure))
    assert [axis.side for axis in figure.axes] == ["bottom", "left"]


@few_and_many
def test_confusion_holds_shares_and_counts(count):
    found = evaluated(count)
    cells, *inks = charts.confusion(found).marks
    np.testing.assert_allclose(cells.color, found.confusion / 5)
    assert list(cells.row) == list(cells.column) == list(found.labels)
    shown = {(str(row), str(column)): int(text) for numbers in inks for row, column, text in zip(numbers.y, numbers.x, numbers.text, strict=True)}
    assert shown == {(found.labels[i], found.labels[j]): n for (i, j), n in np.ndenumerate(found.confusion) if n}
    assert axis_labels(charts.confusion(found)) == ["predicted label", "true label"]


def test_confusion_of_a_label_without_images_has_an_empty_row():
    found = evaluation.evaluate(["a", "b"], ["1"], ["a"], np.eye(2)[:1], np.eye(2)[:1])
    cells, *_ = charts.confusion(found).marks
    assert cells.color.tolist() == [[1, 0], [0, 0]]


@few_and_many
def test_feature_map_holds_each_image_with_its_name(count):
    points = np.random.default_rng(0).normal(size=(3 * count, 2))
    names = [f"{i}.jpg" for i in range(3 * count)]
    figure = charts.feature_map(points, names, np.array(labels(count)).repeat(3), labels(count))
    assert [mark.labels for mark in figure.marks] == [[label] for label in labels(count)]
    assert [str(name) for mark in figure.marks for name in mark.names] == names
    np.testing.assert_allclose(np.concatenate([mark.x for mark in figure.marks]), points[:, 0])
    np.testing.assert_allclose(np.concatenate([mark.y for mark in figure.marks]), points[:, 1])
    assert all(axis_labels(figure))


def test_a_label_has_the_same_colour_in_the_picture_and_in_the_chart():
    figure = charts.feature_map(np.zeros((3, 2)), list("123"), list("abc"), list("abc"))
    assert [mark.colors[0] for mark in figure.marks] == [pictures.colour("abc", label) for label in "abc"]


@pytest.mark.parametrize(("images", "drawn"), [(charts.MOST_POINTS, charts.MOST_POINTS), (charts.MOST_POINTS + 2, charts.MOST_POINTS // 2 + 1)])
def test_a_large_feature_map_is_thinned_evenly(images, drawn):
    points = np.arange(2 * images, dtype=float).reshape(images, 2)
    (mark,) = charts.feature_map(points, list(map(str, range(images))), ["a"] * images, ["a"]).marks
    assert len(mark.x) == drawn
    assert [str(name) for name in mark.names[:2]] == (["0", "1"] if drawn == images else ["0", "2"])


EPOCHS = [Epoch(0, float("nan"), float("nan"), 0.2, 0.9), Epoch(1, 0.5, 0.3, 0.1, 0.6), Epoch(2, 0.2, 0.1, 0.15, 0.5)]


def test_training_holds_the_errors_that_were_measured():
    trained, validated = charts.training(EPOCHS).marks
    assert (list(trained.x), list(trained.y)) == ([1, 2], [0.3, 0.1])
    assert (list(validated.x), list(validated.y)) == ([0, 1, 2], [0.2, 0.1, 0.15])
    assert all(axis_labels(charts.training(EPOCHS)))


def test_live_training_shows_nothing_before_there_are_epochs_then_one_chart_that_grows(capsys):
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
    assert repr(first) == f"[interactive chart, needs a running kernel: {first.title}]"
    assert capsys.readouterr().out.count("interactive chart") == 1
