"""The stored example of a learning curve is a whole one, of the default settings."""

import json

from imgclf.finetuning import learning_curve
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
