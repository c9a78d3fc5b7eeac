"""Figures of a handful of images whose answers can be counted by eye."""

import numpy as np
import pytest
from scipy.stats import beta
from sklearn.metrics import roc_auc_score

from imgclf import ImgclfError
from imgclf.classifier.model import Classifier
from imgclf.data import scan
from imgclf.data.dataset import Image
from imgclf.evaluation import curves, metrics, report
from imgclf.evaluation.metrics import Evaluation, wilson
from support.classifiers import trained
from support.evaluations import by_hand


def with_scores(is_label: list[bool], score: list[float], *, seed: int = 0) -> Evaluation:
    """Two labels, "no" and "yes"; `score` is that of "yes"."""
    scores = np.stack([-np.array(score), score], axis=1)
    return Evaluation(
        ("no", "yes"), tuple(map(str, range(len(score)))), np.array(is_label, int), scores, scores, seed
    )


def test_confusion_has_a_row_for_the_true_and_a_column_for_the_predicted_label():
    assert by_hand().confusion.tolist() == [[3, 1, 0], [0, 2, 2], [0, 0, 2]]


def test_accuracies_are_shares_of_the_images():
    found = by_hand()
    assert found.overall_accuracy.value == pytest.approx(0.7)
    assert [found.class_accuracy(label).value for label in "abc"] == [0.75, 0.5, 1.0]
    assert found.class_averaged_accuracy.value == pytest.approx(0.75)
    assert found.overall_accuracy.images == found.class_averaged_accuracy.images == 10


def test_chance_level_and_largest_share_stand_beside_them():
    assert by_hand().chance_level == pytest.approx(1 / 3)
    assert by_hand().largest_share == 0.4


@pytest.mark.parametrize(
    ("right", "images", "low", "high"),
    [  # R. G. Newcombe, Statistics in Medicine 17 (1998), table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (8, 10, 0.4902, 0.9433),
    ],
)
def test_wilson_interval_is_the_published_one(right, images, low, high):
    accuracy = wilson(np.arange(images) < right)
    assert accuracy.interval == pytest.approx((low, high), abs=5e-5)
    assert accuracy.value == pytest.approx(right / images)


def test_an_accuracy_is_told_with_its_interval_and_images():
    assert str(wilson(np.arange(10) < 8)) == "80% (49% to 94%, 10 images)"
    assert str(wilson(np.zeros(0, bool))) == "no images"


def test_interval_of_the_average_is_around_it_and_repeatable():
    low, high = by_hand().class_averaged_accuracy.interval
    assert low <= 0.75 <= high
    assert (low, high) == by_hand().class_averaged_accuracy.interval
    assert 0.4 < low < 0.6 < 0.85 < high <= 1


@pytest.mark.parametrize("right", [0, 3, 7, 8])
def test_interval_of_the_average_is_jeffreys_where_there_is_one_label(right):
    found = by_hand(truth=list("a" * 8), predicted=list("a" * right + "b" * (8 - right)))
    low, high = beta(right + 0.5, 8 - right + 0.5).ppf([0.025, 0.975])
    expected = (0 if right == 0 else low, 1 if right == 8 else high)  # it always holds the accuracy itself
    assert found.class_averaged_accuracy.interval == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("predicted", ["aaaabbbb", "bbbbaaaa"], ids=["all right", "all wrong"])
def test_interval_of_the_average_is_never_of_width_zero(predicted):
    low, high = by_hand(truth=list("aaaabbbb"), predicted=list(predicted)).class_averaged_accuracy.interval
    assert 0.15 < high - low < 0.5


def test_interval_of_the_average_counts_a_rare_label_as_uncertain():
    rare = by_hand(truth=list("a" * 98 + "bb"), predicted=list("a" * 98 + "bb")).class_averaged_accuracy
    even = by_hand(
        truth=list("a" * 50 + "b" * 50), predicted=list("a" * 50 + "b" * 50)
    ).class_averaged_accuracy
    assert rare.interval[0] < 0.8 < 0.95 < even.interval[0]


def test_interval_of_the_average_follows_the_seed():
    intervals = {
        by_hand(
            seed=seed, truth=list("ab" * 40), predicted=list("aabb" * 20)
        ).class_averaged_accuracy.interval
        for seed in range(4)
    }
    assert len(intervals) > 1


def test_area_is_the_chance_that_an_image_of_the_label_scores_higher():
    roc = curves.roc(with_scores([True, True, False, False], [0.9, 0.4, 0.5, 0.1]), "yes")
    assert roc.area == 0.75  # 3 of the 4 pairs are in order
    assert (roc.false_positive_rate[-1], roc.true_positive_rate[-1]) == (1, 1)


@pytest.mark.parametrize("seed", range(3))
def test_areas_are_those_of_scikit_learn_also_with_ties(seed):
    draws = np.random.default_rng(seed)
    is_label, score = draws.random(60) < 0.4, np.round(draws.normal(size=60), 1)
    found = with_scores(is_label, score)
    assert curves.roc(found, "yes").area == pytest.approx(roc_auc_score(is_label, score))
    assert curves.roc(found, "no").area == pytest.approx(roc_auc_score(~is_label, -score))


def test_area_interval_is_around_the_area_and_repeatable():
    draws = np.random.default_rng(0)
    is_label = np.arange(40) < 15
    score = draws.normal(size=40) + is_label
    first, again, other = (curves.roc(with_scores(is_label, score, seed=seed), "yes") for seed in (0, 0, 1))
    assert first.interval[0] < first.area < first.interval[1]
    assert first.interval == again.interval != other.interval


def test_area_interval_is_that_of_drawing_images_again():
    draws, is_label = np.random.default_rng(5), np.arange(30) < 12
    score = np.round(np.random.default_rng(1).normal(size=30) + is_label)  # many ties
    areas = []
    for _ in range(400):
        rows = np.r_[draws.choice(12, 12), 12 + draws.choice(18, 18)]
        areas.append(roc_auc_score(is_label[rows], score[rows]))
    assert curves.roc(with_scores(is_label, score), "yes").interval == pytest.approx(
        np.percentile(areas, [2.5, 97.5]), abs=0.03
    )


def test_a_label_that_was_not_known_to_what_scored_an_image_counts_as_the_lowest_score():
    unknown = with_scores([True, False, True, False], [0.9, -np.inf, 0.4, 0.5])
    low = with_scores([True, False, True, False], [0.9, -99, 0.4, 0.5])
    assert curves.roc(unknown, "yes").area == curves.roc(low, "yes").area == 0.75
    assert curves.roc(unknown, "yes").interval == curves.roc(low, "yes").interval
    assert curves.average_area(unknown, "micro") == curves.average_area(low, "micro")


def test_average_areas_are_of_the_labels_or_of_all_decisions():
    found = by_hand()
    assert curves.average_area(found, "macro") == pytest.approx(
        np.mean([curves.roc(found, label).area for label in "abc"])
    )
    assert curves.average_area(found, "micro") == pytest.approx(
        0.775
    )  # (7/10 + 17/20) / 2: one step of the curve


def test_a_label_without_test_images_is_none_and_no_crash():
    found = by_hand(truth=list("aabb"), predicted=list("aabc"))
    summary = report.summary(found)
    assert summary["classes"]["c"] == {
        "images": 0,
        **dict.fromkeys(
            (
                "accuracy",
                "accuracy_interval",
                "roc_auc",
                "roc_auc_interval",
                "average_precision",
                "average_precision_interval",
            )
        ),
    }
    assert summary["class_averaged_accuracy"] == 0.75  # of the two that have images


def test_test_images_of_one_label_only_are_no_crash():
    found = by_hand(truth=list("aaa"), predicted=list("aab"))
    assert report.summary(found)["classes"]["a"]["roc_auc"] is None
    assert np.isnan(curves.average_area(found, "macro"))


def test_worst_mistakes_come_with_the_most_confident_first():
    assert by_hand().worst(9).tolist() == [7, 6, 3]
    assert by_hand().worst(1).tolist() == [7]
    assert by_hand(truth=list("abc"), predicted=list("abc")).worst(5).tolist() == []


def test_captions_tell_truth_prediction_and_probability():
    assert by_hand().captions([9, 3]) == ["c\npredicted c 1.00", "a\npredicted b 0.67"]


def test_worst_confusions_count_pairs_most_images_first():
    mistakes = metrics.worst_confusions(by_hand(), most=5)
    assert [(m.true, m.predicted, m.images, m.share) for m in mistakes] == [
        ("b", "c", 2, 0.5),
        ("a", "b", 1, 0.25),
    ]


def test_worst_confusions_keep_the_order_of_the_labels_in_a_tie():
    mistakes = metrics.worst_confusions(by_hand(truth=list("abc"), predicted=list("bca")), most=2)
    assert [(m.true, m.predicted) for m in mistakes] == [("a", "b"), ("b", "c")]
    assert metrics.worst_confusions(by_hand(truth=list("abc"), predicted=list("abc")), most=2) == []


def test_no_images_say_what_to_do():
    with pytest.raises(
        ImgclfError,
        match="no test image to evaluate; lower train_fraction, or add images, and run 01_prepare_data again",
    ):
        metrics.evaluate(["a", "b"], [], [], np.array([]), np.array([]))


def test_unknown_labels_are_named():
    with pytest.raises(
        ImgclfError, match="the classifier does not know the labels x, y; run 04_train_svm again"
    ):
        metrics.evaluate(["a", "b"], ["1", "2", "3"], ["y", "a", "x"], np.eye(3), np.eye(3))


def test_score_asks_the_classifier_about_each_image(tiny_network, colour_folder):
    loaded = Classifier.load(trained(tiny_network, colour_folder))
    found = scan.scan_folder("colours", colour_folder)
    counted: list[int] = []
    scored, _ = metrics.score(loaded, found, found.images[::5], progress=counted.append)
    assert scored.paths == tuple(image.path for image in found.images[::5])
    assert scored.sha256 == tuple(image.sha256 for image in found.images[::5])
    assert scored.overall_accuracy.value == 1.0
    assert counted == list(range(1, 9))


def test_score_leaves_out_what_cannot_be_read(tiny_network, colour_folder):
    loaded = Classifier.load(trained(tiny_network, colour_folder))
    found = scan.scan_folder("colours", colour_folder)
    gone = Image("red/gone.jpg", "red", "0", "", 1, 1)
    scored, skipped = metrics.score(loaded, found, [found.images[0], gone, found.images[-1]])
    assert scored.paths == (found.images[0].path, found.images[-1].path)
    assert [scored.labels[k] for k in scored.truth] == ["blue", "red"]
    assert [image.path for image in skipped] == [str(colour_folder / "red/gone.jpg")]


def test_score_leaves_out_a_picture_that_was_replaced(tiny_network, colour_folder):
    loaded = Classifier.load(trained(tiny_network, colour_folder))
    found = scan.scan_folder("colours", colour_folder)
    (colour_folder / "blue" / "00.jpg").write_bytes((colour_folder / "red" / "00.jpg").read_bytes())
    scored, skipped = metrics.score(loaded, found, found.images)
    assert len(scored.truth) == 35
    assert [image.reason for image in skipped] == [
        "00.jpg: has changed since 01_prepare_data; run 01_prepare_data again"
    ]
