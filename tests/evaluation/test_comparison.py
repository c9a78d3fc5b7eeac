"""McNemar's test: the images on which two classifiers differ decide whether fine-tuning helped."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binomtest

from imgclf import ImgclfError
from imgclf.evaluation import comparison, metrics


def evaluated(
    correct: list[bool], *, names: list[str] | None = None, truth: str = "a", cluster: list[str] | None = None
) -> metrics.Evaluation:
    """An evaluation of images of one label, of which these are predicted correctly."""
    scores = np.array([[1.0, 0.0] if (one == (truth == "a")) else [0.0, 1.0] for one in correct], np.float32)
    names = names or [f"{i}.jpg" for i in range(len(correct))]
    return metrics.evaluate(
        ["a", "b"], names, [truth] * len(correct), scores, scores, sha256=names, cluster=cluster or ()
    )


def pair(gained: int, lost: int, *, both: int = 80, neither: int = 5, size: int = 1) -> comparison.Comparison:
    """Compare classifiers on images in clusters of `size`, whose images are right or wrong together."""
    before = [False] * gained + [True] * lost + [True] * both + [False] * neither
    after = [True] * gained + [False] * lost + [True] * both + [False] * neither
    cluster = [str(row // size) for row in range(len(after))]
    return comparison.compare(evaluated(before, cluster=cluster), evaluated(after, cluster=cluster))


def test_images_that_changed_are_counted():
    result = pair(10, 4)
    assert (result.images, result.gained, result.lost) == (99, 10, 4)
    assert (result.before, result.after) == (84 / 99, 90 / 99)


@pytest.mark.parametrize(
    ("gained", "lost", "p_value"),
    [(0, 0, 1.0), (1, 0, 1.0), (5, 0, 2 / 32), (6, 0, 2 / 64), (0, 6, 2 / 64), (3, 3, 1.0)],
)
def test_the_p_value_is_that_of_as_many_coin_tosses(gained, lost, p_value):
    assert pair(gained, lost).p_value == pytest.approx(p_value)


@pytest.mark.parametrize(("gained", "lost"), [(6, 0), (9, 2), (30, 11), (200, 160)])
def test_the_p_value_of_independent_images_is_that_of_the_binomial_test(gained, lost):
    assert pair(gained, lost).p_value == pytest.approx(binomtest(gained, gained + lost).pvalue)


def test_the_p_value_of_copies_is_that_of_one_of_each():
    assert pair(50, 10, size=5).p_value == pytest.approx(pair(10, 2).p_value)


def test_clusters_of_either_evaluation_count():  # scores of version 0.1.0 have none
    names, before, after = [f"{row}.jpg" for row in range(20)], [True] * 4 + [False] * 16, [True] * 20
    cluster = [str(row // 4) for row in range(20)]
    old, new = evaluated(before, names=names), evaluated(after, names=names)
    clustered = evaluated(before, names=names, cluster=cluster)
    assert comparison.compare(clustered, new).clusters == 5
    assert comparison.compare(clustered, new).p_value == pytest.approx(2 / 2**4)
    assert comparison.compare(old, new).clusters == 20


def test_the_p_value_is_that_of_all_signs_of_the_clusters():
    difference = np.array([3, 0, 2, 2, -1, 1])
    sums = [np.dot(signs, difference) for signs in itertools.product((-1, 1), repeat=6)]
    expected = np.mean(np.abs(sums) >= abs(difference.sum()))
    assert comparison.permutation_p_value(difference) == pytest.approx(expected)


def test_equally_good_classifiers_seldom_differ_significantly_on_clusters():
    draws, significant = np.random.default_rng(0), 0
    for _ in range(1000):  # 30 clusters of 10: in each, one of the two misses some images that the other gets
        difference = draws.binomial(10, 0.3, 30) * draws.choice([-1, 1], 30)
        significant += comparison.permutation_p_value(difference) <= comparison.SIGNIFICANCE
    assert 0.03 < significant / 1000 < 0.07


def test_clusters_are_named_and_multiply_the_required_sample_size():
    single, together = pair(10, 5), pair(50, 25, both=400, neither=25, size=5)
    assert together.p_value == pytest.approx(single.p_value)
    assert (single.design_effect, together.design_effect) == (1, 5)
    assert together.required_sample_size == pytest.approx(5 * single.required_sample_size, rel=0.01)
    assert "McNemar's exact test, permuting whole clusters (100 of these images): p = 0.3" in str(together)


def test_copies_under_two_labels_are_two_images():
    scores = np.array([[0.9, 0.1], [0.9, 0.1], [0.2, 0.8]], np.float32)
    twice = metrics.evaluate(
        ["a", "b"], ["a/1", "b/1", "b/2"], ["a", "b", "b"], scores, scores, sha256=["x", "x", "y"]
    )
    result = comparison.compare(twice, twice)
    assert (result.before, result.after, result.gained, result.lost) == (2 / 3, 2 / 3, 0, 0)


def test_order_of_the_images_does_not_matter():
    before, after = (
        evaluated([True, False, False]),
        evaluated([True, True, False][::-1], names=["2.jpg", "1.jpg", "0.jpg"]),
    )
    result = comparison.compare(before, after)
    assert (result.gained, result.lost) == (1, 0)


def test_significant_gain_significant_loss_and_insignificant_difference_are_named():
    assert str(pair(12, 1)).startswith(
        "Yes, it helped: +11.2 points: of 98 test images, 12 are correct only after the change, 1 only before"
    )
    assert str(pair(1, 12)).startswith("No, it did harm: -11.2 points")
    assert str(pair(7, 4)).startswith("Not significant: ")
    assert "McNemar's exact test: p = 0.55" in str(pair(7, 4))
    assert "detecting it takes about" in str(pair(7, 4))
    assert str(pair(3, 3)).startswith("No difference: +0.0 points")


def test_required_sample_size_is_that_of_connors_formula_and_larger_for_a_smaller_gain():
    # 10 of 100 gained, 5 lost: (1.96 sqrt(0.15) + 0.8416 sqrt(0.15 - 0.0025))^2 / 0.0025 = 468.6
    assert pair(10, 5).required_sample_size == 469
    assert pair(6, 5).required_sample_size > 1000
    assert pair(5, 5).required_sample_size is None


def test_four_of_five_samples_of_the_required_size_detect_the_gain():
    images, draws = pair(10, 5).required_sample_size, np.random.default_rng(0)
    detected = 0
    for _ in range(300):
        gained, lost, _ = draws.multinomial(images, [0.1, 0.05, 0.85])
        detected += binomtest(gained, gained + lost).pvalue <= 0.05
    assert 0.72 < detected / 300 < 0.88


@pytest.mark.parametrize(
    "other",
    [
        evaluated([True]),
        evaluated([True, True], names=["0.jpg", "z.jpg"]),
        evaluated([True, True], truth="b"),
    ],
)
def test_evaluations_of_other_images_or_labels_are_refused(other):
    with pytest.raises(
        ImgclfError,
        match="were tested on different images or labels .*; run both again, from 03_run_dnn on, with the same split",
    ):
        comparison.compare(evaluated([True, True]), other)


def test_without_a_baseline_it_says_how_to_get_one_then_compares(tmp_path):
    baseline, fine_tuned = evaluated([True, False, False]), evaluated([True, True, True])
    assert comparison.compare_with_baseline(tmp_path, "dnn", fine_tuned).startswith(
        "no baseline to compare with yet: run 02 to 05 with classifier='svm' once"
    )
    assert (
        comparison.compare_with_baseline(tmp_path, "svm", baseline)
        == "classifier='svm': nothing was fine-tuned; its scores are kept as the baseline for a fine-tuned DNN"
    )
    assert comparison.compare_with_baseline(tmp_path, "dnn", fine_tuned).startswith(
        "Did fine-tuning help, against the SVM on fixed features? Not significant: +66.7 points: of 3 test images, 2"
    )


def test_training_images_are_not_compared_and_nothing_is_written(tmp_path):
    assert comparison.compare_with_baseline(
        tmp_path, "dnn", evaluated([True]), evaluated_on="train"
    ).startswith("not compared: these are training images")
    assert not list(tmp_path.iterdir())


def test_a_baseline_on_another_split_is_not_compared(tmp_path):
    comparison.compare_with_baseline(tmp_path, "svm", evaluated([True]))
    assert comparison.compare_with_baseline(tmp_path, "dnn", evaluated([True, True])).startswith(
        "not compared: the two were tested on different images"
    )


def test_common_images_are_in_one_order_with_their_own_scores_and_clusters():
    first = evaluated([True, False, True], names=["x", "y", "z"], cluster=["1", "2", "1"])
    second = evaluated([False, True], names=["z", "x"])
    left, right = comparison.on_common_images([first, second])
    assert (left.paths, right.paths, left.cluster) == (("x", "z"), ("x", "z"), ("1", "1"))
    assert (left.correct.tolist(), right.correct.tolist()) == ([True, True], [True, False])


def test_an_image_under_another_label_is_not_common():
    other = evaluated([True], names=["x"], truth="b")
    assert [
        len(each.truth) for each in comparison.on_common_images([evaluated([True], names=["x"]), other])
    ] == [0, 0]
    assert comparison.on_common_images([]) == []


def labelled(
    rows: dict[str, tuple[str, str]], *, labels: str = "ab", cluster: str = ""
) -> metrics.Evaluation:
    """An evaluation of images, by their contents, each with its label and its prediction."""
    scores = np.array([[float(label == predicted) for label in labels] for _, predicted in rows.values()])
    truth = [label for label, _ in rows.values()]
    paths = [f"{label}/{name}.jpg" for (label, _), name in zip(rows.values(), rows, strict=True)]
    return metrics.evaluate(
        [*labels], paths, truth, scores, scores, sha256=[*rows], cluster=[*cluster] if cluster else ()
    )


class TestAfterChangedLabels:
    def test_earlier_predictions_are_scored_with_the_labels_of_now(self):
        before = labelled({"1": ("a", "a"), "2": ("a", "b"), "3": ("b", "a"), "4": ("b", "b")})
        after = labelled({"1": ("a", "a"), "2": ("b", "b"), "3": ("b", "b"), "4": ("b", "b")})
        result = comparison.compare_after_changes(before, after)
        assert (result.before.value, result.after.value) == (0.5, 1.0)
        # Image 2 was right all along.
        assert (result.comparison.before, result.comparison.after) == (0.75, 1.0)
        assert (result.comparison.gained, result.comparison.lost, result.relabelled) == (1, 0, 1)
        assert str(result).splitlines() == [
            f"overall accuracy before: {result.before}, with the labels of then",
            f"overall accuracy now:    {result.after}",
            "on the 4 test images of both, with the labels of now: 75.0% before, 100.0% now",
            "Did it help? Not significant: +25.0 points: of 4 test images, 1 are correct only after the change, 0 "
            "only before. McNemar's exact test: p = 1: chance alone often makes such a difference. If it is real, "
            f"detecting it takes about {result.comparison.required_sample_size} test images.",
            "test images with another label than before: 1",
        ]

    def test_images_that_left_or_joined_the_test_set_are_named_and_not_compared(self):
        before = labelled({"1": ("a", "a"), "2": ("a", "b"), "3": ("b", "a")})
        after = labelled({"4": ("a", "b"), "3": ("b", "b"), "1": ("a", "a"), "5": ("b", "b")})
        result = comparison.compare_after_changes(before, after)
        assert (result.left, result.joined) == (("a/2.jpg",), ("a/4.jpg", "b/5.jpg"))
        assert (result.comparison.images, result.comparison.before, result.comparison.after) == (2, 0.5, 1.0)
        assert str(result).splitlines()[-2:] == [
            "test images that left the test set: 1 (a/2.jpg)",
            "test images that joined the test set: 2 (a/4.jpg, b/5.jpg)",
        ]

    def test_without_a_common_test_image_it_says_so(self):
        result = comparison.compare_after_changes(
            labelled({"1": ("a", "a"), "2": ("b", "b")}), labelled({"3": ("a", "a"), "4": ("b", "b")})
        )
        assert result.comparison is None
        assert "not compared: no test image of before is one now" in str(result)

    def test_a_renamed_and_a_merged_label_keep_their_predictions(self):
        before = labelled(
            {"1": ("a", "a"), "2": ("a", "b"), "3": ("b", "b"), "4": ("c", "c"), "5": ("c", "b")},
            labels="abc",
        )
        after = labelled(
            {"1": ("d", "d"), "2": ("d", "d"), "3": ("b", "b"), "4": ("b", "b"), "5": ("b", "d")}, labels="bd"
        )
        result = comparison.compare_after_changes(before, after)
        assert (result.renamed, result.relabelled, result.unknown) == ({"a": "d", "c": "b"}, 0, ())
        assert (result.comparison.before, result.comparison.after) == (0.8, 0.8)  # 2 was wrong, 5 is
        assert "renamed labels, also in the earlier predictions: a is now d, c is now b" in str(result)

    def test_a_label_whose_images_went_to_several_is_not_renamed(self):
        before = labelled({"1": ("a", "a"), "2": ("a", "a"), "3": ("b", "b")})
        after = labelled({"1": ("c", "c"), "2": ("d", "d"), "3": ("b", "b")}, labels="bcd")
        result = comparison.compare_after_changes(before, after)
        assert (result.renamed, result.relabelled, result.unknown) == ({}, 2, ("c", "d"))
        assert result.comparison.before == pytest.approx(1 / 3)
        assert "labels that the earlier classifier did not know, and so missed: c, d" in str(result)

    def test_a_new_label_beside_the_others_is_one_that_the_earlier_classifier_missed(self):
        before = labelled({"1": ("a", "a"), "2": ("a", "a"), "3": ("b", "b")})
        after = labelled({"1": ("a", "a"), "2": ("c", "c"), "3": ("b", "b")}, labels="abc")
        result = comparison.compare_after_changes(before, after)
        assert (result.unknown, result.comparison.gained) == (("c",), 1)

    def test_copies_under_two_labels_stay_two_images(self):
        before = metrics.evaluate(
            ["a", "b"], ["a/1", "b/1"], ["a", "b"], *2 * [np.eye(2)[[0, 0]]], sha256=["x", "x"]
        )
        result = comparison.compare_after_changes(before, before)
        assert (result.comparison.images, result.comparison.before, result.relabelled) == (2, 0.5, 0)

    def test_whole_clusters_of_the_common_images_are_permuted(self):
        wrong, right = ({str(i): ("a", one) for i in range(first, 20)} for first, one in ((0, "b"), (4, "a")))
        after = labelled(right, cluster="".join(str(i // 4) for i in range(4, 20)))
        result = comparison.compare_after_changes(labelled(wrong), after)
        assert (result.comparison.images, result.comparison.clusters, len(result.left)) == (16, 4, 4)
        assert result.comparison.p_value == pytest.approx(2 / 2**4)

    def test_images_are_recognized_by_their_paths_where_an_evaluation_lacks_their_contents(self):
        before, after = (
            labelled({"1": ("a", "b"), "2": ("a", "a")}),
            labelled({"2": ("a", "a"), "1": ("a", "a")}),
        )
        result = comparison.compare_after_changes(replace(before, sha256=()), after)
        assert (result.comparison.images, result.comparison.gained, result.left) == (2, 1, ())


def by_all_signs(difference: np.ndarray) -> float:
    """The p-value by adding one difference after another."""
    share = np.ones(1)
    for size in np.abs(difference[difference != 0]):
        share = (np.pad(share, (size, 0)) + np.pad(share, (0, size))) / 2
    sums = 2 * np.arange(len(share)) - np.abs(difference).sum()
    return float(min(1, share[np.abs(sums) >= abs(difference.sum())].sum()))


@pytest.mark.parametrize("seed", range(20))
def test_the_p_value_is_that_of_all_signs(seed):
    draws = np.random.default_rng(seed)
    difference = draws.choice([-3, -2, -1, -1, -1, 0, 1, 1, 1, 1, 2, 5], draws.integers(0, 60))
    expected = by_all_signs(difference)
    assert comparison.permutation_p_value(difference) == pytest.approx(expected, rel=1e-9)


def test_single_images_are_not_added_one_by_one(monkeypatch):
    calls, pad = [], np.pad
    monkeypatch.setattr(comparison.np, "pad", lambda *given: (calls.append(1), pad(*given))[1])
    difference = np.array([1] * 600 + [-1] * 500 + [3])
    assert comparison.permutation_p_value(difference) == pytest.approx(by_all_signs(difference), rel=1e-9)
    calls.clear()
    comparison.permutation_p_value(difference)
    assert len(calls) == 2
