"""The background thread, and what is learnt from labels."""

import threading

import numpy as np
import pytest

from imgclf.annotation import labelling_curve, proposal_model
from imgclf.annotation.learner import NO_CLASS, Labels, Learner, Learning
from imgclf.annotation.proposal_model import Vectors

OPEN = Labels(np.full(3, NO_CLASS), np.ones(3, bool), np.zeros(3, np.int64))


def labels(number: int) -> Labels:
    return Labels(np.full(3, number), np.ones(3, bool), np.zeros(3, np.int64))


def test_labels_are_handed_in_while_the_thread_learns_and_only_the_newest_are_learnt():
    begun, goes_on, seen = threading.Event(), threading.Event(), []

    def step(given: Labels) -> bool:
        seen.append(int(given.classes[0]))
        begun.set()
        goes_on.wait(60)
        return False

    learner = Learner(step, lambda: None)
    learner.submit(labels(0))
    begun.wait(60)
    for number in range(1, 100):
        learner.submit(labels(number))
    assert learner.is_busy and not learner.wait(0.01)
    goes_on.set()
    assert learner.wait(60) and seen == [0, 99]
    learner.close()


def test_the_rest_is_learnt_until_newer_labels_come():
    steps, learner = [], None

    def step(given: Labels) -> bool:
        steps.append(int(given.classes[0]))
        if len(steps) == 3:
            learner.submit(labels(7))
        return len(steps) not in (5, 6)

    learner = Learner(step, lambda: None)
    learner.submit(labels(1))
    learner.wait(60)
    assert steps == [1, 1, 1, 7, 7]
    learner.close()


def test_after_a_failure_the_thread_goes_on_and_says_what_failed():
    told = []

    def step(given: Labels) -> bool:
        if given.classes[0] == 0:
            raise ValueError("broken")
        return False

    learner = Learner(step, lambda: told.append(str(learner.error)))
    learner.submit(labels(0))
    learner.wait(60)
    assert told == ["broken"] and str(learner.error) == "broken"
    learner.submit(labels(1))
    learner.wait(60)
    assert told == ["broken", "None"] and learner.error is None
    learner.close()


def test_an_observer_that_fails_does_not_end_the_thread():
    def notify() -> None:
        raise RuntimeError("the widget is closed")

    learner = Learner(lambda given: False, notify)
    for number in range(3):
        learner.submit(labels(number))
        learner.wait(60)
        assert str(learner.error) == "the widget is closed"
    learner.close()
    assert not learner.is_busy


def test_closing_twice_or_from_the_thread_itself_ends_it():
    learner = Learner(lambda given: False, lambda: learner.close())
    learner.submit(OPEN)
    assert learner.wait(60)
    learner.close()


def clouds(count: int, *, classes: int = 3, spread: float = 0.6, seed: int = 0):
    """Points around as many centres: vectors (n, 8) and their classes."""
    draws = np.random.default_rng(seed)
    of_point = draws.integers(classes, size=count)
    matrix = np.eye(8, dtype=np.float32)[of_point] + draws.normal(scale=spread, size=(count, 8))
    return Vectors.of(matrix.astype(np.float32)), of_point


def test_learning_is_of_one_class_nothing_and_of_two_a_model():
    vectors, truth = clouds(60)
    learning = Learning(vectors, np.arange(60), seed=0)
    given = np.where(truth == 0, 0, NO_CLASS)
    assert learning.learnt(Labels(given, given < 0, np.zeros(60, np.int64))).model is None
    given = np.where(truth < 2, truth, NO_CLASS)
    learnt = learning.learnt(Labels(given, given < 0, np.zeros(60, np.int64)))
    assert learnt.model.classes.tolist() == [0, 1]
    assert set(np.flatnonzero(given < 0)) <= set(learnt.order.tolist())


def test_each_point_of_the_curve_is_estimated_from_the_labels_given_by_then():
    vectors, truth = clouds(200)
    learning = Learning(vectors, np.arange(200), seed=0)
    classes = np.where(np.arange(200) < 50, truth, NO_CLASS)
    given = Labels(classes, classes < 0, np.arange(1, 201))
    while learning.step(given):
        pass
    assert list(learning.curve)[-1] == 20 and sorted(learning.curve) == labelling_curve.points(50)
    early = np.where(np.arange(200) < 20, truth, NO_CLASS)
    again = Learning(vectors, np.arange(200), seed=0)
    assert again.estimate(Labels(early, early < 0, np.arange(1, 201)), 20) == learning.curve[20]


def test_the_curve_begins_with_the_labels_that_the_images_came_with():
    vectors, truth = clouds(200)
    classes = np.where(np.arange(200) < 50, truth, NO_CLASS)
    given = np.where(np.arange(200) < 45, 0, np.arange(200))
    learning = Learning(vectors, np.arange(200), seed=0)
    labels = Labels(classes, classes < 0, given)
    while learning.step(labels):
        pass
    assert sorted(learning.curve) == [45, 46] and learning.curve[45].images == 45


def test_a_model_of_many_images_is_trained_on_some_of_each_class(monkeypatch):
    monkeypatch.setattr(proposal_model, "MOST_ROWS", 40)
    classes = np.repeat([0, 1, 2], [100, 5, 30])
    rows, kept = proposal_model._first_of_each_class(np.arange(135), classes)
    assert np.bincount(kept).tolist() == [18, 5, 17] and rows[:18].tolist() == list(range(18))


def test_probabilities_do_not_depend_on_the_lengths_of_vectors():
    vectors, truth = clouds(60)
    model = proposal_model.fit(vectors, np.arange(60), truth)
    longer = Vectors.of(vectors.matrix * np.linspace(1, 9, 60, dtype=np.float32)[:, None])
    np.testing.assert_allclose(model.probabilities(longer), model.probabilities(vectors), atol=1e-5)
    assert (model.probabilities(vectors).argmax(axis=1) == truth).mean() > 0.9


def test_a_vector_of_zeros_has_no_length_to_be_divided_by():
    vectors, truth = clouds(60)
    vectors.matrix[7] = 0
    again = Vectors.of(vectors.matrix)
    model = proposal_model.fit(again, np.arange(60), truth)
    assert np.isfinite(model.probabilities(again)).all()


@pytest.mark.parametrize("classes", [2, 3])
def test_probabilities_are_of_the_classes_in_their_order(classes):
    vectors, truth = clouds(90, classes=classes, spread=0.2)
    model = proposal_model.fit(vectors, np.arange(90), truth + 4)
    assert model.classes.tolist() == [4 + k for k in range(classes)]
    assert (model.classes[model.probabilities(vectors).argmax(axis=1)] == truth + 4).all()


def test_a_correction_estimates_the_points_again_that_had_the_label():
    vectors, truth = clouds(120, spread=0.3)
    learning = Learning(vectors, np.arange(120), seed=0)
    given = np.arange(1, 121)

    def learn(labels: Labels) -> None:
        while learning.step(labels):
            pass

    learn(Labels(truth.copy(), np.zeros(120, bool), given))
    before = dict(learning.curve)
    wrong, later = truth.copy(), given.copy()
    wrong[60:], later[60:] = (truth[60:] + 1) % 3, given[60:] + 120  # relabelled in their order
    learn(Labels(wrong, np.zeros(120, bool), later))
    assert learning.curve.keys() == before.keys()
    changed = {count for count in before if learning.curve[count] != before[count]}
    assert changed and min(changed) > 60 and max(before) in changed
