"""The learning rate schedule follows from the recipe, and impossible hyperparameters are refused."""

import pytest

from imgclf import ImgclfError, parameters
from imgclf.finetuning import recipe
from imgclf.finetuning.recipe import Recipe


def test_a_single_learning_rate_has_a_warm_up_over_a_tenth_and_then_a_cosine_schedule_to_zero():
    rates = [Recipe(epochs=2, learning_rate=(0.1,)).learning_rate_at(step, 50) for step in range(100)]
    assert rates[:3] == pytest.approx([0.01, 0.02, 0.03])
    assert max(rates) == pytest.approx(0.1)
    assert rates.index(max(rates)) in (9, 10)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] < 1e-4


@pytest.mark.parametrize(
    ("rates", "by_epoch"), [((3.0, 2.0), [3, 2, 2, 2]), ((5.0, 4.0, 3.0, 2.0, 1.0), [5, 4, 3, 2])]
)
def test_of_several_learning_rates_each_is_for_an_epoch_and_the_last_repeats(rates, by_epoch):
    settings = Recipe(epochs=4, learning_rate=rates)
    assert [settings.learning_rate_at(epoch * 7 + 6, 7) for epoch in range(4)] == by_epoch


@pytest.mark.parametrize(
    ("rates", "note"),
    [
        ((1.0, 2.0), "learning_rate has 2 numbers for 4 epochs; the last, 2, is used for the rest"),
        ((1.0,) * 6, "learning_rate has 6 numbers for 4 epochs; the last 2 are not used"),
        ((1.0,) * 4, ""),
        ((1.0,), ""),
    ],
)
def test_more_or_fewer_learning_rates_than_epochs_are_reported(rates, note):
    assert recipe.schedule_note(Recipe(epochs=4, learning_rate=rates)) == note


@pytest.mark.parametrize(("input_size", "expected"), [(240, 208), (224, 192), (448, 384), (64, 64), (32, 32)])
def test_training_images_are_smaller_than_the_input_size(input_size, expected):
    assert Recipe().train_size(input_size) == expected
    assert Recipe().train_size(input_size) % 16 == 0


def test_the_defaults_of_the_parameters_are_those_of_the_recipe():
    values = {name: parameter.default for name, parameter in parameters.PARAMETERS.items()}
    assert recipe.from_parameters(values) == Recipe()


@pytest.mark.parametrize(("stages", "expected"), [("all", "all"), ("0", 0), ("3", 3)])
def test_trainable_stages_is_a_number_or_all(stages, expected):
    assert recipe.from_parameters({"trainable_stages": stages, "other": 1}).trainable_stages == expected


@pytest.mark.parametrize("rates", [[], [0.1, 0.0]])
def test_a_missing_learning_rate_or_one_that_is_not_above_0_is_refused(rates):
    with pytest.raises(ImgclfError, match="give at least one number, all above 0"):
        recipe.from_parameters({"learning_rate": rates})
