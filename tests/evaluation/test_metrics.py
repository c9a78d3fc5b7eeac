"""Metrics of a handful of images that can be counted by eye."""

from dataclasses import replace

import numpy as np
import pytest

from imgclf import ImgclfError
from imgclf.classifier.model import Classifier
from imgclf.data import scan
from imgclf.evaluation import curves, metrics, report
from support.classifiers import trained
from support.evaluations import by_hand


def test_confusion_has_a_row_for_the_true_and_a_column_for_the_predicted_label():
    assert by_hand().confusion.tolist() == [[3, 1, 0], [0, 2, 2], [0, 0, 2]]


def test_accuracies_are_shares_of_the_images():
    evaluation = by_hand()
    assert evaluation.overall_accuracy.value == pytest.approx(0.7)
    assert [evaluation.class_accuracy(label).value for label in "abc"] == [0.75, 0.5, 1.0]
    assert evaluation.class_averaged_accuracy.value == pytest.approx(0.75)
    assert evaluation.overall_accuracy.images == evaluation.class_averaged_accuracy.images == 10


def test_baselines_are_chance_level_and_majority_class():
    assert by_hand().chance_level == pytest.approx(1 / 3)
    assert by_hand().majority_class_baseline == 0.4


def test_an_accuracy_is_printed_with_its_interval_and_number_of_images():
    overall = by_hand(truth=list("a" * 10), predicted=list("a" * 8 + "bb")).overall_accuracy
    assert str(overall) == "80% (44% to 97%, 10 images)"
    assert str(by_hand(truth=list("ab"), predicted=list("ab")).class_accuracy("c")) == "no images"


def test_intervals_of_accuracies_are_wider_for_images_in_clusters():
    independent = by_hand(truth=list("ab" * 20), predicted=list("ab" * 18 + "bbbb"))
    pairs = replace(independent, cluster=tuple(str(row // 2) for row in range(40)))
    singles = replace(independent, cluster=tuple(map(str, range(40))))
    for name in ("overall_accuracy", "class_averaged_accuracy"):
        low, high = getattr(independent, name).interval
        assert getattr(singles, name) == getattr(independent, name)
        wider = getattr(pairs, name)
        assert wider.interval[0] < low < wider.value < high < wider.interval[1]


@pytest.mark.parametrize("predicted", ["aaaabbbb", "bbbbaaaa"], ids=["all right", "all wrong"])
def test_interval_of_the_class_average_never_has_width_zero(predicted):
    low, high = by_hand(truth=list("aaaabbbb"), predicted=list(predicted)).class_averaged_accuracy.interval
    assert 0.15 < high - low < 0.5


def test_interval_of_the_class_average_is_wide_for_a_rare_label():
    rare = by_hand(truth=list("a" * 98 + "bb"), predicted=list("a" * 98 + "bb")).class_averaged_accuracy
    even = by_hand(
        truth=list("a" * 50 + "b" * 50), predicted=list("a" * 50 + "b" * 50)
    ).class_averaged_accuracy
    assert rare.interval[0] < 0.8 < 0.95 < even.interval[0]


def test_figures_of_a_label_without_test_images_are_none():
    evaluation = by_hand(truth=list("aabb"), predicted=list("aabc"))
    summary = report.summary(evaluation)
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


def test_curves_of_test_images_that_all_have_one_label_are_none():
    evaluation = by_hand(truth=list("aaa"), predicted=list("aab"))
    assert report.summary(evaluation)["classes"]["a"]["roc_auc"] is None
    assert np.isnan(curves.average_auc(evaluation, "macro"))


def test_worst_mistakes_are_sorted_by_confidence_highest_first():
    assert by_hand().worst(9).tolist() == [7, 6, 3]
    assert by_hand().worst(1).tolist() == [7]
    assert by_hand(truth=list("abc"), predicted=list("abc")).worst(5).tolist() == []


def test_captions_hold_true_label_predicted_label_and_probability():
    assert by_hand().captions([9, 3]) == ["c\npredicted c 1.00", "a\npredicted b 0.67"]


def test_worst_confusions_are_sorted_by_number_of_images():
    mistakes = metrics.worst_confusions(by_hand(), most=5)
    assert [(m.true, m.predicted, m.images, m.share) for m in mistakes] == [
        ("b", "c", 2, 0.5),
        ("a", "b", 1, 0.25),
    ]


def test_worst_confusions_keep_the_order_of_the_labels_in_a_tie():
    mistakes = metrics.worst_confusions(by_hand(truth=list("abc"), predicted=list("bca")), most=2)
    assert [(m.true, m.predicted) for m in mistakes] == [("a", "b"), ("b", "c")]
    assert metrics.worst_confusions(by_hand(truth=list("abc"), predicted=list("abc")), most=2) == []


def test_an_evaluation_without_images_is_refused_with_what_to_do():
    with pytest.raises(
        ImgclfError,
        match="no test image to evaluate: each label has one image or, with split_by=group, one group, which is "
        "trained on; add other images, and run 01_prepare_data again",
    ):
        metrics.evaluate(["a", "b"], [], [], np.array([]), np.array([]))


def test_labels_that_the_classifier_was_not_trained_on_are_named():
    with pytest.raises(
        ImgclfError, match="the classifier was not trained on the labels x, y; run 04_train_svm again"
    ):
        metrics.evaluate(["a", "b"], ["1", "2", "3"], ["y", "a", "x"], np.eye(3), np.eye(3))


def test_score_predicts_each_image_once(tiny_network, colour_folder):
    loaded = Classifier.load(trained(tiny_network, colour_folder))
    scanned = scan.scan_folder("colours", colour_folder)
    counted: list[int] = []
    cluster = {image.path: image.label for image in scanned.images}
    scored, _ = metrics.score(loaded, scanned, scanned.images[::5], cluster=cluster, progress=counted.append)
    assert scored.paths == tuple(image.path for image in scanned.images[::5])
    assert scored.sha256 == tuple(image.sha256 for image in scanned.images[::5])
    assert scored.cluster == tuple(image.label for image in scanned.images[::5])
    assert scored.overall_accuracy.value == 1.0
    assert counted == list(range(1, 9))


def test_a_condensed_confusion_matrix_has_the_labels_with_mistakes_and_every_image():
    found = by_hand(list("aabbccdd"), list("aabdccdd"), "abcd")
    labels, counts = metrics.condensed_confusion(found, most=2)
    assert labels == ["b", "d", "2 others"]
    assert counts.tolist() == [[1, 1, 0], [0, 2, 0], [0, 0, 4]]
    labels, counts = metrics.condensed_confusion(found, most=4)
    assert labels == list("abcd") and (counts == found.confusion).all()
