"""The linear head: the C that is chosen, the columns of the scores, the temperature."""

import numpy as np
import pytest
from scipy.special import log_softmax

from imgclf import ImgclfError, svm

SEPARATE = np.random.default_rng(0).normal(0, 0.1, (30, 3)).astype(np.float32) + np.eye(
    3, dtype=np.float32
).repeat(10, 0)
LABELS = np.array(["dotted", "leopard", "striped"]).repeat(10)
ALONE = np.arange(30).astype(str)  # each image its own cluster


def noisy(count: int = 120) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, labels and clusters of two labels that overlap."""
    draws = np.random.default_rng(1)
    labels = np.array(["a", "b"]).repeat(count // 2)
    matrix = draws.normal(0, 1, (count, 5)) + (labels == "b")[:, None] * np.array([1.0, 0, 0, 0, 0])
    return matrix.astype(np.float32), labels, np.arange(count).astype(str)


def test_separable_images_are_all_right():
    search = svm.train(SEPARATE, LABELS, ALONE, c_values=[1.0])
    assert search.cv_accuracy == search.train_accuracy == (1.0,)
    best = search.head.scores(SEPARATE).argmax(axis=1)
    assert [search.head.labels[k] for k in best] == LABELS.tolist()


def test_of_equally_accurate_c_the_one_whose_probabilities_fit_is_taken():
    search = svm.train(SEPARATE, LABELS, ALONE, c_values=[1.0, 1e-6])
    assert (search.c, search.cv_accuracy) == ((1e-6, 1.0), (1.0, 1.0))
    assert search.head.c == 1.0  # the other is right as often and sure of nothing


def test_the_best_c_is_the_one_of_the_held_out_images_and_not_of_those_learned_from():
    matrix, labels, clusters = noisy(60)
    wide = np.hstack([matrix, np.random.default_rng(2).normal(0, 1, (60, 200))])  # much to learn by heart
    search = svm.train(wide, labels, clusters, c_values=[1e-4, 1e-3, 1e2])
    assert search.train_accuracy[-1] == 1.0
    assert search.cv_accuracy[search.best] == max(search.cv_accuracy) > search.cv_accuracy[-1]


def test_two_labels_give_two_opposite_columns():
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
    assert 0.2 < boundary < 0.8  # halfway, and not where "rare" is never the answer


def test_scores_are_float32_weights_times_directions():
    head = svm.Head(
        ("a", "b"), np.array([[1, 0], [0, 2]], np.float32), np.array([0, 10], np.float32), True, 1.0, 1.0
    )
    scores = head.scores(np.array([[30, 40]], np.float32))  # its direction is (0.6, 0.8)
    np.testing.assert_allclose(scores, [[0.6, 11.6]], rtol=1e-6)
    assert scores.dtype == np.float32


def test_without_normalization_the_length_counts():
    head = svm.Head(("a", "b"), np.eye(2, dtype=np.float32), np.zeros(2, np.float32), False, 1.0, 1.0)
    assert head.scores(np.array([[30, 40]], np.float32)).tolist() == [[30, 40]]


def test_a_label_with_one_image_is_learned_too():
    matrix = np.vstack([SEPARATE[:20], [[0, 0, 1]]]).astype(np.float32)
    search = svm.train(matrix, LABELS[:21], ALONE[:21], c_values=[100.0])
    assert search.head.labels == ("dotted", "leopard", "striped")
    assert search.head.scores(matrix)[20].argmax() == 2
    assert search.cv_accuracy[0] == pytest.approx(2 / 3)  # held out, nothing is known of it


def test_a_label_that_a_fold_did_not_teach_is_never_chosen():
    draws = np.random.default_rng(3)
    matrix = np.vstack([draws.normal(0, 1, (40, 2)), [[50, 50]]])
    labels = np.array(["a"] * 20 + ["b"] * 20 + ["c"])
    search = svm.train(matrix, labels, np.arange(41).astype(str), c_values=[1.0], l2_normalize=False)
    assert np.isneginf(search.held_out[40]).tolist() == [
        False,
        False,
        True,
    ]  # no machine that scored the only "c" had seen one


@pytest.mark.parametrize("each", [1, 2])
def test_a_handful_of_images_is_enough(each):
    few = np.r_[0:each, 10 : 10 + each, 20 : 20 + each]
    search = svm.train(SEPARATE[few], LABELS[few], ALONE[few], c_values=[0.1, 10.0])
    assert search.train_accuracy[1] == 1.0
    assert 0 < search.head.temperature < np.inf


def test_where_nothing_was_held_out_the_temperature_is_one():
    search = svm.train(SEPARATE[[0, 10]], LABELS[[0, 10]], ALONE[[0, 10]], c_values=[1.0])
    assert search.head.temperature == 1.0


@pytest.mark.parametrize(
    ("c_values", "chosen"), [([1e-4, 0.5, 100.0], 0.5), ([100.0, 3.0, 0.1], 3.0), ([0.1, 10.0], 0.1)]
)
def test_where_nothing_was_held_out_the_c_nearest_to_one_is_taken_and_no_accuracy_told(c_values, chosen):
    search = svm.train(SEPARATE[[0, 10]], LABELS[[0, 10]], ALONE[[0, 10]], c_values=c_values)
    assert search.head.c == search.c[search.best] == chosen
    assert np.isnan(search.cv_accuracy).all()
    assert (
        str(search)
        == f"C = {chosen:g}: nothing could be held out, so C was not chosen by accuracy; more images of each label would tell"
    )


def test_clusters_are_never_divided_between_folds():
    matrix = np.eye(24, dtype=np.float32).repeat(
        2, 0
    )  # 24 pairs of twins; a pair has nothing in common with another
    labels = np.array(["a", "b"]).repeat(24)
    pairs = np.arange(24).astype(str).repeat(2)
    divided = svm.train(matrix, labels, np.arange(48).astype(str), c_values=[10.0])
    together = svm.train(matrix, labels, pairs, c_values=[10.0])
    assert divided.cv_accuracy[0] > 0.6  # most twins were learned from
    assert together.cv_accuracy[0] <= 0.5  # nothing to go by


def test_one_single_cluster_is_no_crash():
    search = svm.train(SEPARATE, LABELS, np.full(30, "same"), c_values=[1.0, 10.0])
    assert search.head.c == 1.0
    assert search.train_accuracy == (1.0, 1.0)
    assert np.isnan(search.cv_accuracy).all()


def test_temperature_makes_held_out_probabilities_likelier():
    matrix, labels, clusters = noisy()
    search = svm.train(matrix, labels, clusters, c_values=[1.0], l2_normalize=False)
    truth = (labels == "b").astype(int)

    def loss(temperature: float) -> float:
        return -log_softmax(search.held_out / temperature, axis=1)[np.arange(120), truth].mean()

    best = search.head.temperature
    assert loss(best) < loss(1.0)
    assert loss(best) < min(loss(best * 1.2), loss(best / 1.2))


def test_the_same_seed_gives_the_same_head():
    first, second = (svm.train(*noisy(), c_values=[0.1, 1.0], seed=7) for _ in range(2))
    assert (first.head.weights == second.head.weights).all()
    assert first.cv_accuracy == second.cv_accuracy


def test_write_and_read_give_the_same_head_without_pickle(tmp_path):
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


def test_a_damaged_head_is_named(tmp_path):
    (tmp_path / "svm.npz").write_bytes(b"PK but nothing more")
    with pytest.raises(ImgclfError, match=r"svm\.npz: damaged; run 04_train_svm again"):
        svm.read(tmp_path / "svm.npz")


def test_one_label_is_refused():
    with pytest.raises(
        ImgclfError,
        match="all training images have the label 'dotted'; a classifier needs at least two labels",
    ):
        svm.train(SEPARATE[:10], LABELS[:10], ALONE[:10], c_values=[1.0])


@pytest.mark.parametrize("c_values", [[], [0.0, 1.0], [-1.0]])
def test_no_c_or_one_that_is_not_above_zero_is_refused(c_values):
    with pytest.raises(ImgclfError, match=r"svm_c=\[.*\]: give at least one C, all above 0"):
        svm.train(SEPARATE, LABELS, ALONE, c_values=c_values)


def test_a_search_tells_its_c_and_accuracy():
    assert (
        str(svm.train(SEPARATE, LABELS, ALONE, c_values=[0.5]))
        == "C = 0.5: cross-validated class-averaged accuracy 1.00"
    )


def test_without_mistakes_to_learn_from_probabilities_are_no_surer_than_the_images_allow():
    points = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32) + np.repeat(
        [[9, 0, 0], [0, 9, 0]], 20, axis=0
    ).astype(np.float32)
    search = svm.train(points, np.repeat(["a", "b"], 20), np.arange(40).astype(str), c_values=[1.0])
    assert search.cv_accuracy == (1.0,)
    odds = np.exp(np.ptp(search.held_out, axis=1) / search.head.temperature)
    assert 5 < np.median(odds) < 200  # 40 images and no mistake: about 41 to 1
