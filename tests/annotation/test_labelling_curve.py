"""The estimate of accuracy while a person labels: its sample, its folds, and how often its interval is right."""

import numpy as np
import pytest

from imgclf import ImgclfError
from imgclf.annotation import labelling_curve, simulation
from imgclf.annotation.proposal_model import Vectors
from imgclf.data.dataset import Image
from imgclf.features import Features


def test_the_sample_is_the_start_of_the_random_order_up_to_an_image_without_a_label():
    order = np.array([4, 2, 0, 1, 3, 5])
    is_labelled = np.array([1, 0, 1, 1, 1, 0], bool)
    assert labelling_curve.random_sample(order, is_labelled, ~is_labelled).tolist() == [4, 2, 0]
    is_open = np.array([0, 0, 0, 0, 0, 1], bool)  # image 1 is excluded, or skipped
    assert labelling_curve.random_sample(order, is_labelled, is_open).tolist() == [4, 2, 0, 3]
    everything = np.ones(6, bool)
    assert labelling_curve.random_sample(order, everything, ~everything).tolist() == order.tolist()


def test_points_of_the_curve_grow_by_a_tenth():
    assert labelling_curve.points(19) == [] and labelling_curve.points(30) == [20, 22, 24, 26, 29]
    assert len(labelling_curve.points(20_000)) < 80


def test_an_image_of_the_sample_is_predicted_by_a_model_that_was_not_trained_on_it():
    draws = np.random.default_rng(0)
    vectors = Vectors.of(draws.normal(size=(60, 200)).astype(np.float32))
    classes = draws.integers(2, size=60)  # noise: a model knows only the images that it was trained on
    logits = labelling_curve.out_of_fold(vectors, classes, np.arange(60))
    assert 0.25 < (logits.argmax(axis=1) == classes).mean() < 0.75


def test_a_class_with_a_single_image_is_predicted_wrong_and_few_images_are_not_estimated():
    vectors = Vectors.of(np.random.default_rng(0).normal(size=(21, 8)).astype(np.float32))
    classes = np.array([0, 1] * 10 + [2])
    logits = labelling_curve.out_of_fold(vectors, classes, np.arange(21))
    assert logits.shape == (21, 3) and logits[20, 2] == -np.inf
    assert labelling_curve.out_of_fold(vectors, classes, np.arange(9)) is None
    assert labelling_curve.out_of_fold(vectors, np.zeros(21, int), np.arange(21)) is None


def test_the_estimate_has_the_exact_interval_of_its_share():
    logits = np.eye(2)[[0] * 18 + [1] * 2]
    found = labelling_curve.estimate(60, logits, np.zeros(20, int))
    assert str(found) == "60 labels: accuracy 0.90 (0.68 to 0.99), estimated on 20 random images"


def parts(seed: int) -> tuple[Features, Features]:
    """600 images of four overlapping classes, and 2,000 more to test on."""
    draws = np.random.default_rng(seed)
    of_image = draws.integers(4, size=2_600)
    matrix = np.eye(6)[of_image] + draws.normal(scale=0.45, size=(2_600, 6))
    images = [
        Image(f"{label}/{i}.jpg", str(label), f"{seed} {i}", "", 1, 1)
        for i, label in enumerate(of_image.tolist())
    ]
    whole = Features(matrix.astype(np.float32), tuple(images))
    return whole.subset(images[:600]), whole.subset(images[600:])


def test_the_intervals_contain_the_accuracy_on_other_images():
    hits = []
    for seed in range(15):
        train, test = parts(seed)
        for point in simulation.simulate(train, test, at=[80], seed=seed, with_estimates=True):
            hits.append(point.estimate.low <= point.accuracy <= point.estimate.high)
    assert np.mean(hits) >= 0.9


def test_all_labels_give_the_same_accuracy_in_every_order():
    train, test = parts(0)
    ends = [simulation.simulate(train, test, order=order, at=[5_000, 600]) for order in simulation.ORDERS]
    assert [[point.labels for point in points] for points in ends] == [[600], [600]]
    assert abs(ends[0][0].accuracy - ends[1][0].accuracy) < 0.005


def test_in_the_proposed_order_sixty_labels_are_worth_more_when_a_class_is_rare():
    train, test = parts(0)
    rare = [image for image in train.images if image.label == "3"][6:]
    train = train.subset([image for image in train.images if image not in rare])
    proposed, random = (
        [simulation.simulate(train, test, order=order, at=[60], seed=seed)[0].accuracy for seed in range(5)]
        for order in simulation.ORDERS
    )
    assert np.mean(proposed) > np.mean(random) + 0.02


def test_before_two_classes_have_images_there_is_no_accuracy():
    train, test = parts(0)
    [point] = simulation.simulate(train, test, at=[1])
    assert np.isnan(point.accuracy) and point.estimate is None


def test_another_order_is_refused():
    train, test = parts(0)
    with pytest.raises(ImgclfError, match="order='best': must be one of proposed, random; set one of them"):
        simulation.simulate(train, test, order="best", at=[20])


def test_copies_do_not_help_to_predict_each_other_in_a_comparison():
    draws = np.random.default_rng(0)
    matrix = np.repeat(draws.normal(size=(300, 200)).astype(np.float32), 2, axis=0)  # noise, each twice
    images = tuple(
        Image(f"{label}/{i}.jpg", str(label), f"sha {i}", "", 1, 1)
        for i, label in enumerate(np.repeat(draws.integers(2, size=300), 2).tolist())
    )
    together = {image.path: f"cluster {i // 2}" for i, image in enumerate(images)}
    apart = {image.path: image.sha256 for image in images}
    found, leaked = (
        simulation.compare(Features(matrix, images), clusters, at=[250])["random"][250]
        for clusters in (together, apart)
    )
    assert 0.4 < found < 0.6 < leaked
    unlabelled = Features(matrix[:1], (Image("unlabelled/1.jpg", "unlabelled", "1", "", 1, 1),))
    assert simulation.compare(unlabelled, {"unlabelled/1.jpg": "1"}, at=[1]) == {}
