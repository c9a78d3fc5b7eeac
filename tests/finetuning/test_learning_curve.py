"""The stored example of a learning curve is a whole one, of the default settings; errors have their intervals."""

import json

from imgclf.finetuning import learning_curve
from imgclf.finetuning.learning_curve import Epoch
from imgclf.finetuning.recipe import Recipe


def test_the_example_is_a_run_with_the_default_settings_and_all_its_epochs():
    stored = json.loads(learning_curve.EXAMPLE.read_text(encoding="utf-8"))
    assert stored["recipe"] == Recipe().as_json()
    assert [epoch.number for epoch in learning_curve.example()] == list(range(Recipe().epochs + 1))


def test_the_example_shows_overfitting_as_notebook_02_says():
    start, *_, last = epochs = learning_curve.example()
    assert last.train_error < learning_curve.SMALL_ERROR
    assert last.validation_error - last.train_error > learning_curve.WIDE_GAP
    assert learning_curve.best(epochs) == start


def test_the_validation_errors_have_their_intervals():
    epochs = [Epoch(0, 0, 0, 1 / 29, 0.3), Epoch(1, 0, 0, 0, 0.2)]
    # R. G. Newcombe, Statistics in Medicine 17 (1998), table I, method 5: 1 of 29 is 0.0009 to 0.1776
    assert learning_curve.summary(epochs, validation_images=29) == (
        "validation error 3.4% (0% to 18%) with a new last layer only, 0.0% (0% to 12%) after epoch 1, which is "
        "kept (in parentheses the 95 % intervals of 29 independent images)"
    )


def test_without_validation_images_there_is_no_interval():
    epochs = [Epoch(0, 0, 0, float("nan"), float("nan"))]
    assert "interval" not in learning_curve.summary(epochs, validation_images=0)
