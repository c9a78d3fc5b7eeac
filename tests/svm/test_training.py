"""Training: the head, its scores and temperature, the search over C, and the interruption of all this."""

import os
import signal
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from imgclf import ImgclfError, parameters, svm
from imgclf.svm import CSearch, Head, folds

SEPARATE = np.random.default_rng(0).normal(0, 0.1, (30, 3)).astype(np.float32) + np.eye(
    3, dtype=np.float32
).repeat(10, 0)
LABELS = np.array(["dotted", "leopard", "striped"]).repeat(10)
ALONE = np.arange(30).astype(str)  # each image its own cluster
GRID = parameters.PARAMETERS["svm_c"].default
HEAD = Head(("a", "b"), np.eye(2, dtype=np.float32), np.zeros(2, np.float32), False, 1.0, 1.0)


def noisy(count: int = 120) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, labels and clusters of two labels that overlap."""
    draws = np.random.default_rng(1)
    labels = np.array(["a", "b"]).repeat(count // 2)
    matrix = draws.normal(0, 1, (count, 5)) + (labels == "b")[:, None] * np.array([1.0, 0, 0, 0, 0])
    return matrix.astype(np.float32), labels, np.arange(count).astype(str)


def separated(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, labels and clusters of 120 images of three labels that are far from each other."""
    y = np.arange(120) % 3
    matrix = np.eye(3, 64)[y] + np.random.default_rng(seed).normal(0, 0.2, (120, 64))
    return matrix.astype(np.float32), np.array(["a", "b", "c"])[y], np.arange(120).astype(str)


def search(
    best: int, most_accurate: int, *, accuracy: tuple[float, ...], correct: tuple[int, ...]
) -> CSearch:
    """A search of C = 0.1, 1, 10 in which 100 images were held out."""
    return CSearch(
        replace(HEAD, c=(0.1, 1.0, 10.0)[best]),
        np.zeros((100, 2)),
        (0.1, 1.0, 10.0),
        (1.0, 1.0, 1.0),
        accuracy,
        correct,
        (0.3, 0.2, 0.9),
        best,
        most_accurate,
    )


def test_separable_images_are_all_predicted_right():
    found = svm.train(SEPARATE, LABELS, ALONE, c_values=[1.0])
    assert found.cv_accuracy == found.train_accuracy == (1.0,)
    best = found.head.scores(SEPARATE).argmax(axis=1)
    assert [found.head.labels[k] for k in best] == LABELS.tolist()


def test_a_c_whose_probabilities_are_useless_is_not_chosen_for_an_equal_accuracy():
    found = svm.train(SEPARATE, LABELS, ALONE, c_values=[1.0, 1e-6])
    assert (found.c, found.cv_accuracy) == ((1e-6, 1.0), (1.0, 1.0))
    assert found.head.c == 1.0  # the other is right as often, with all probabilities near a third


@pytest.mark.parametrize("seed", range(3))
def test_twelve_validation_images_suffice_for_useful_probabilities(seed):
    matrix, labels, clusters = separated(seed)
    validation = np.arange(120) < 12
    found = svm.train(matrix, labels, clusters, c_values=GRID, validation=validation)
    assert found.correct[found.best] == 12
    assert found.oof_scores[found.held_out].shape == (12, 3)
    confidence = softmax(found.oof_scores[found.held_out] / found.head.temperature, axis=1).max(axis=1)
    assert confidence.min() > 0.6 and np.median(confidence) > 0.75
    smallest = svm.train(matrix, labels, clusters, c_values=GRID[:1], validation=validation)
    unsure = softmax(smallest.oof_scores[found.held_out] / smallest.head.temperature, axis=1).max(axis=1)
    assert smallest.correct == (12,) and unsure.max() < 0.6  # as accurate, and not chosen


def test_c_is_chosen_on_held_out_images_and_not_on_training_images():
    matrix, labels, clusters = noisy(60)
    wide = np.hstack([matrix, np.random.default_rng(2).normal(0, 1, (60, 200))])  # enough to overfit
    found = svm.train(wide, labels, clusters, c_values=[1e-4, 1e-3, 1e2])
    assert found.train_accuracy[-1] == 1.0
    assert found.cv_accuracy[found.most_accurate] == max(found.cv_accuracy) > found.cv_accuracy[-1]
    assert found.best <= found.most_accurate


def test_a_search_counts_the_images_that_each_c_predicts_right():
    matrix, labels, clusters = noisy()
    found = svm.train(matrix, labels, clusters, c_values=[1e-2, 1.0])
    expected = (found.oof_scores.argmax(axis=1) == (labels == "b")).sum()
    assert found.correct[found.best] == expected
    assert found.cv_accuracy[found.best] == pytest.approx(expected / 120)  # the labels are equally frequent
    assert found.held_out.tolist() == list(range(120))


def test_cross_entropy_is_that_of_the_calibrated_probabilities():
    matrix, labels, clusters = noisy()
    found = svm.train(matrix, labels, clusters, c_values=[1.0])
    logits = found.oof_scores / found.head.temperature
    truth = (labels == "b").astype(int)
    assert found.cross_entropy[0] == pytest.approx(-log_softmax(logits, axis=1)[np.arange(120), truth].mean())


def test_two_labels_have_two_opposite_columns():
    matrix, labels, clusters = noisy()
    head = svm.train(matrix, labels, clusters, c_values=[1.0]).head
    assert head.weights.shape == (2, 5)
    scores = head.scores(matrix)
    np.testing.assert_array_equal(scores[:, 0], -scores[:, 1])
    assert (scores[:, 1] > 0)[labels == "b"].mean() > 0.6


def test_a_rare_label_counts_as_much_as_a_common_one():
    draws = np.random.default_rng(0)
    matrix = np.concatenate([draws.normal(0, 1, 190), draws.normal(1, 1, 10)])[:, None]
    labels = np.array(["common"] * 190 + ["rare"] * 10)
    head = svm.train(matrix, labels, np.arange(200).astype(str), c_values=[1.0], l2_normalize=False).head
    boundary = -head.offsets[1] / head.weights[1, 0]
    assert 0.2 < boundary < 0.8  # halfway, and not where "rare" is never predicted


def test_scores_are_float32_products_of_weights_and_normalized_features():
    head = Head(
        ("a", "b"), np.array([[1, 0], [0, 2]], np.float32), np.array([0, 10], np.float32), True, 1.0, 1.0
    )
    scores = head.scores(np.array([[30, 40]], np.float32))  # normalized: (0.6, 0.8)
    np.testing.assert_allclose(scores, [[0.6, 11.6]], rtol=1e-6)
    assert scores.dtype == np.float32


def test_without_normalization_the_length_counts():
    assert HEAD.scores(np.array([[30, 40]], np.float32)).tolist() == [[30, 40]]


def test_a_label_with_one_image_is_trained_on_too():
    matrix = np.vstack([SEPARATE[:20], [[0, 0, 1]]]).astype(np.float32)
    found = svm.train(matrix, LABELS[:21], ALONE[:21], c_values=[100.0])
    assert found.head.labels == ("dotted", "leopard", "striped")
    assert found.head.scores(matrix)[20].argmax() == 2
    assert found.cv_accuracy[0] == pytest.approx(2 / 3)  # held out, its label is unknown to the estimator


def test_a_label_without_training_images_in_a_fold_is_never_predicted_there():
    draws = np.random.default_rng(3)
    matrix = np.vstack([draws.normal(0, 1, (40, 2)), [[50, 50]]])
    labels = np.array(["a"] * 20 + ["b"] * 20 + ["c"])
    found = svm.train(matrix, labels, np.arange(41).astype(str), c_values=[1.0], l2_normalize=False)
    # No estimator that scored the only "c" was trained on one.
    assert np.isneginf(found.oof_scores[40]).tolist() == [False, False, True]


@pytest.mark.parametrize("each", [1, 2])
def test_a_handful_of_images_is_enough(each):
    few = np.r_[0:each, 10 : 10 + each, 20 : 20 + each]
    found = svm.train(SEPARATE[few], LABELS[few], ALONE[few], c_values=[0.1, 10.0])
    assert found.train_accuracy[1] == 1.0
    assert 0 < found.head.temperature < np.inf


def test_one_image_per_label_in_all_folds_chooses_some_c():
    found = svm.train(SEPARATE[[0, 10, 20]], LABELS[[0, 10, 20]], ALONE[[0, 1, 1]], c_values=[0.1, 10.0])
    assert found.head.c in found.c


def test_where_nothing_was_held_out_the_temperature_is_one():
    found = svm.train(SEPARATE[[0, 10]], LABELS[[0, 10]], ALONE[[0, 10]], c_values=[1.0])
    assert found.head.temperature == 1.0


@pytest.mark.parametrize(
    ("c_values", "chosen"), [([1e-4, 0.5, 100.0], 0.5), ([100.0, 3.0, 0.1], 3.0), ([0.1, 10.0], 0.1)]
)
def test_where_nothing_was_held_out_the_c_nearest_to_one_is_taken_and_no_accuracy_is_reported(
    c_values, chosen
):
    found = svm.train(SEPARATE[[0, 10]], LABELS[[0, 10]], ALONE[[0, 10]], c_values=c_values)
    assert found.head.c == found.c[found.best] == chosen
    assert np.isnan(found.cv_accuracy).all() and found.held_out.tolist() == []
    assert (
        str(found)
        == f"C = {chosen:g}: no image could be held out, so C was not chosen by accuracy; more images of each label would allow cross-validation"
    )
    assert found.warning == ""


def test_clusters_are_never_divided_between_folds():
    matrix = np.eye(24, dtype=np.float32).repeat(2, 0)  # 24 pairs of twins, which have nothing else in common
    labels = np.array(["a", "b"]).repeat(24)
    pairs = np.arange(24).astype(str).repeat(2)
    divided = svm.train(matrix, labels, np.arange(48).astype(str), c_values=[10.0])
    together = svm.train(matrix, labels, pairs, c_values=[10.0])
    assert divided.cv_accuracy[0] > 0.6  # most images were held out while their twin was trained on
    assert together.cv_accuracy[0] <= 0.5  # no twin to go by


def test_a_single_cluster_is_trained_on_without_cross_validation():
    found = svm.train(SEPARATE, LABELS, np.full(30, "same"), c_values=[1.0, 10.0])
    assert found.head.c == 1.0
    assert found.train_accuracy == (1.0, 1.0)
    assert np.isnan(found.cv_accuracy).all()


def test_the_temperature_maximizes_the_likelihood_of_out_of_fold_scores():
    matrix, labels, clusters = noisy()
    found = svm.train(matrix, labels, clusters, c_values=[1.0], l2_normalize=False)
    truth = (labels == "b").astype(int)

    def loss(temperature: float) -> float:
        return -log_softmax(found.oof_scores / temperature, axis=1)[np.arange(120), truth].mean()

    best = found.head.temperature
    assert loss(best) < loss(1.0)
    assert loss(best) < min(loss(best * 1.2), loss(best / 1.2))


def test_the_same_seed_trains_the_same_head():
    first, second = (svm.train(*noisy(), c_values=[0.1, 1.0], seed=7) for _ in range(2))
    assert (first.head.weights == second.head.weights).all()
    assert first.cv_accuracy == second.cv_accuracy


def test_a_head_is_read_as_it_was_written_and_holds_no_pickle(tmp_path):
    head = svm.train(SEPARATE, np.char.add(LABELS, " é"), ALONE, c_values=[1.0]).head
    svm.write(head, tmp_path / "svm.npz")
    again = svm.read(tmp_path / "svm.npz")
    assert (again.labels, again.c, again.temperature, again.l2_normalize) == (
        head.labels,
        head.c,
        head.temperature,
        True,
    )
    assert (again.scores(SEPARATE) == head.scores(SEPARATE)).all()
    with np.load(tmp_path / "svm.npz", allow_pickle=False) as arrays:
        assert all(arrays[name].dtype != object for name in arrays)


def test_a_damaged_head_is_named_with_the_remedy(tmp_path):
    (tmp_path / "svm.npz").write_bytes(b"PK but nothing more")
    with pytest.raises(ImgclfError, match=r"svm\.npz: damaged; run 04_train_svm again"):
        svm.read(tmp_path / "svm.npz")


@pytest.mark.parametrize(
    "wrong",
    [
        {"labels": np.array(["a"])},
        {"labels": np.zeros(3)},
        {"offsets": np.zeros(2)},
        {"weights": np.zeros((3, 0))},
        {"weights": np.zeros((3, 2), int)},
        {"c": np.zeros(2)},
    ],
)
def test_a_head_whose_arrays_do_not_fit_together_is_refused(tmp_path, wrong):
    whole = {
        "labels": np.array(["a", "b", "c"]),
        "weights": np.zeros((3, 2)),
        "offsets": np.zeros(3),
        "l2_normalize": True,
        "c": 1.0,
        "temperature": 1.0,
    }
    np.savez(tmp_path / "svm.npz", **whole)
    assert svm.read(tmp_path / "svm.npz").labels == ("a", "b", "c")
    np.savez(tmp_path / "svm.npz", **{**whole, **wrong})
    with pytest.raises(ImgclfError, match=r"svm\.npz: damaged; run 04_train_svm again"):
        svm.read(tmp_path / "svm.npz")


def test_a_single_label_is_refused():
    with pytest.raises(
        ImgclfError,
        match="all training images have the label 'dotted'; a classifier needs at least two labels",
    ):
        svm.train(SEPARATE[:10], LABELS[:10], ALONE[:10], c_values=[1.0])


@pytest.mark.parametrize("c_values", [[], [0.0, 1.0], [-1.0]])
def test_an_empty_grid_or_a_c_that_is_not_above_zero_is_refused(c_values):
    with pytest.raises(ImgclfError, match=r"svm_c=\[.*\]: give at least one C, all above 0"):
        svm.train(SEPARATE, LABELS, ALONE, c_values=c_values)


def test_a_search_prints_its_c_and_accuracy():
    assert (
        str(svm.train(SEPARATE, LABELS, ALONE, c_values=[0.5]))
        == "C = 0.5: out-of-fold class-averaged accuracy 1.00"
    )
    assert str(CSearch(HEAD, np.empty((0, 2)))) == "no C was searched"


@pytest.mark.parametrize(
    ("accuracy", "correct", "words"),
    [
        ((0.88, 0.9, 0.91), (88, 90, 91), "C = 10 classifies 3 more of 100 images correctly"),
        ((0.88, 0.9, 0.8801), (88, 90, 89), "C = 10 classifies 1 more of 100 images correctly"),
        ((0.88, 0.9, 0.881), (88, 90, 88), "C = 10 classifies as many of 100 images correctly"),
        (
            (0.88, 0.9, 0.91),
            (88, 90, 86),
            "C = 10 classifies 2 fewer of 100 images correctly and a class-averaged accuracy of 0.91",
        ),
    ],
)
def test_a_search_prints_how_many_images_the_most_accurate_c_has_more(accuracy, correct, words):
    assert (
        str(search(0, 2, accuracy=accuracy, correct=correct))
        == f"C = 0.1: out-of-fold class-averaged accuracy 0.88; {words}, within one standard error, and the smaller C regularizes more"
    )


def test_a_search_prints_why_a_more_accurate_smaller_c_was_not_chosen():
    assert (
        str(search(1, 0, accuracy=(0.91, 0.9, 0.5), correct=(91, 90, 50)))
        == "C = 1: out-of-fold class-averaged accuracy 0.90; C = 0.1 classifies 1 more of 100 images correctly, but its probabilities are clearly worse: cross-entropy 0.30, not 0.20"
    )


@pytest.mark.parametrize(
    ("best", "most_accurate", "warning"),
    [
        (2, 2, "warning: the best C is the largest tried, 10; extend svm_c with larger values"),
        (0, 0, "warning: the chosen C is the smallest tried, 0.1; extend svm_c with smaller values"),
        (0, 1, "warning: the chosen C is the smallest tried, 0.1; extend svm_c with smaller values"),
        (
            1,
            2,
            "note: the C of the highest accuracy is the largest tried, 10; extend svm_c with larger values to see whether the accuracy still rises",
        ),
        (1, 1, ""),
        (1, 0, ""),  # a smaller one would have even worse probabilities
    ],
)
def test_a_c_at_the_border_of_the_grid_is_reported(best, most_accurate, warning):
    assert search(best, most_accurate, accuracy=(0.9, 0.9, 0.9), correct=(90, 90, 90)).warning == warning


def test_a_single_c_is_no_border():
    assert svm.train(SEPARATE, LABELS, ALONE, c_values=[0.5]).warning == ""


def test_probabilities_are_no_more_confident_than_the_number_of_images_allows():
    points = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32) + np.repeat(
        [[9, 0, 0], [0, 9, 0]], 20, axis=0
    ).astype(np.float32)
    found = svm.train(points, np.repeat(["a", "b"], 20), np.arange(40).astype(str), c_values=[1.0])
    assert found.cv_accuracy == (1.0,)
    odds = np.exp(np.ptp(found.oof_scores, axis=1) / found.head.temperature)
    assert 5 < np.median(odds) < 200  # 40 images and no wrong prediction: about 41 to 1


def test_progress_counts_every_estimator():
    counted = []
    matrix, labels, clusters = separated(0)
    svm.train(
        matrix,
        labels,
        clusters,
        c_values=[0.1, 1, 10],
        progress=lambda done, total: counted.append((done, total)),
    )
    assert [done for done, _ in counted] == sorted(done for done, _ in counted)
    assert counted[0] == (0, 12) and counted[-1][1] == 12


def test_an_error_of_an_estimator_is_raised():
    with pytest.raises(ValueError, match="NaN"):
        svm.train(
            np.full((4, 2), np.nan, np.float32),
            np.array(list("aabb")),
            np.arange(4).astype(str),
            c_values=[1.0],
        )


def test_an_interruption_is_answered_at_once_and_leaves_no_thread():
    draws = np.random.default_rng(0)
    matrix, labels = draws.normal(size=(6000, 600)).astype(np.float32), draws.integers(0, 8, 6000).astype(str)
    clusters, threads = np.arange(6000).astype(str), threading.active_count()
    threading.Timer(1.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    began = time.process_time()
    with pytest.raises(KeyboardInterrupt):
        for _ in range(100):
            svm.train(matrix, labels, clusters, c_values=GRID)
    assert time.process_time() - began < 20
    assert threading.active_count() == threads


def sampled(monkeypatch) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Three overlapping labels, 1,200 images; they are first tried on 300 of them."""
    monkeypatch.setattr(folds, "FEWEST", 300)
    draws, y = np.random.default_rng(0), np.arange(1200) % 3
    matrix = (np.eye(3, 40)[y] + draws.normal(0, 0.5, (1200, 40))).astype(np.float32)
    return matrix, np.array(["a", "b", "c"])[y], np.arange(1200).astype(str)


def test_a_c_that_is_clearly_worse_on_a_sample_is_not_tried_on_all_images(monkeypatch):
    arrays = sampled(monkeypatch)
    found = svm.train(*arrays, c_values=GRID)
    assert set(found.images) == {300, 1200} and found.images[found.best] == 1200
    assert found.images[0] == 300  # C = 0.0001, where all scores are nearly equal
    assert found.oof_scores.shape == (1200, 3) and len(found.held_out) == 1200
    assert found.dropped.startswith("clearly worse on some of 1200 images: C = 0.0001,")
    assert str(found).endswith(f"; {found.dropped}")
    monkeypatch.undo()
    every = svm.train(*arrays, c_values=GRID)
    assert every.head.c == found.head.c and every.dropped == ""
    np.testing.assert_allclose(found.head.weights, every.head.weights, atol=0.01)
    assert found.cv_accuracy[found.best] == pytest.approx(every.cv_accuracy[every.best], abs=0.002)


def test_a_search_on_samples_gives_the_same_head_again_and_counts_to_the_end(monkeypatch):
    arrays, counted = sampled(monkeypatch), []
    first = svm.train(*arrays, c_values=GRID, progress=lambda done, total: counted.append((done, total)))
    again = svm.train(*arrays, c_values=GRID)
    assert (first.head.weights == again.head.weights).all() and first.head.c == again.head.c
    assert counted == sorted(counted) and counted[-1] == (56, 56)


def test_validation_images_choose_among_samples_too(monkeypatch):
    arrays = sampled(monkeypatch)
    validation = np.arange(1200) % 5 == 0
    found = svm.train(*arrays, c_values=GRID, validation=validation)
    assert set(found.images) == {300, 1200} and found.held_out.tolist() == np.flatnonzero(validation).tolist()


def test_features_that_are_not_normalized_and_no_numbers_are_refused():
    with pytest.raises(ValueError, match="NaN"):
        svm.train(
            np.full((4, 2), np.nan),
            np.array(list("aabb")),
            np.arange(4),
            c_values=[1.0],
            l2_normalize=False,
        )
