"""Suspected label errors and their order, and the out-of-sample scores of each image."""

import os
from dataclasses import replace

import numpy as np
import pytest

from imgclf import files, svm
from imgclf.annotation import suspects
from imgclf.data import scan, split
from imgclf.data.dataset import UNLABELLED, Image
from imgclf.evaluation import metrics, report
from imgclf.evaluation.metrics import Evaluation
from imgclf.features import Features

LABELS = ["dotted", "leopard", "striped"]


def image(number: int, label: str) -> Image:
    return Image(f"{label}/{number}.jpg", label, f"sha {number}", "", 64, 48)


def evaluated(
    rows: list[tuple[str, list[float]]], *, first: int = 0, labels: list[str] = LABELS
) -> Evaluation:
    """Return an evaluation of images numbered from `first`, each with its label and probabilities."""
    images = [image(first + i, label) for i, (label, _) in enumerate(rows)]
    probabilities = np.array([shares for _, shares in rows], np.float32)
    scores = np.log(probabilities, where=probabilities > 0, out=np.full_like(probabilities, -np.inf))
    return metrics.evaluate(
        labels,
        [i.path for i in images],
        [i.label for i in images],
        scores,
        probabilities,
        sha256=[i.sha256 for i in images],
    )


@pytest.fixture
def proc(data_dir):
    """The folder with the results of the data set "fruit"."""
    return files.proc_dir("fruit")


NOTHING = Evaluation(("a", "b"), (), np.zeros(0, int), np.zeros((0, 2)), np.zeros((0, 2)))
TRAIN = evaluated([("dotted", [0.9, 0.05, 0.05]), ("leopard", [0.7, 0.1, 0.2])])
TEST = evaluated([("striped", [0.1, 0.3, 0.6])], first=10)


def clustered(*, wrong: tuple[int, ...] = ()) -> tuple[np.ndarray, list[Image]]:
    """Return well-separated features of three labels with 12 images each, and the images; those in `wrong` have the next label."""
    matrix = np.random.default_rng(0).normal(0, 0.15, (36, 3)).astype(np.float32) + np.eye(
        3, dtype=np.float32
    ).repeat(12, 0)
    return matrix, [image(i, LABELS[(i // 12 + (i in wrong)) % 3]) for i in range(36)]


def out_of_fold(search: svm.CSearch, images: list[Image]) -> Evaluation:
    """The evaluation of images of which each is its own cluster."""
    return suspects.out_of_fold_evaluation(search, images, {i.path: i.sha256 for i in images})


def trained(matrix: np.ndarray, images: list[Image]) -> svm.CSearch:
    return svm.train(
        matrix, np.array([i.label for i in images]), np.arange(len(images)).astype(str), c_values=[1.0]
    )


def test_planted_label_errors_come_first():
    matrix, images = clustered(wrong=(3, 20))
    suspected = suspects.suspected_label_errors(out_of_fold(trained(matrix, images), images))
    assert {(s.path, s.sha256, s.predicted) for s in suspected[:2]} == {
        ("leopard/3.jpg", "sha 3", "dotted"),
        ("striped/20.jpg", "sha 20", "leopard"),
    }


@pytest.mark.parametrize("classifier", ["dnn", "svm_dnn_refined"])
def test_with_a_fine_tuned_network_every_training_image_is_judged_by_the_pretrained_one(
    distinct_folder, tiny_network, data_dir, classifier
):
    (distinct_folder / "red/r03.jpg").rename(distinct_folder / "blue/r03.jpg")
    (distinct_folder / "green/g05.jpg").rename(distinct_folder / "red/g05.jpg")
    found = scan.scan_folder("colours", distinct_folder)
    parts = split.split(found, train_fraction=0.99)
    files.proc_dir("colours").mkdir(parents=True)
    tiny_network.rename(files.proc_dir("colours") / files.FIXED_NETWORK)
    few = evaluated([("dotted", [0.9, 0.1, 0])])  # the validation images of fine-tuning
    own = Features(np.zeros((1, 1), np.float32), (parts.train[0],)), trained(*clustered())
    pretrained, search = suspects.pretrained_search(found, parts, *own, classifier, c_values=[1.0])
    judged = suspects.out_of_fold_evaluation(search, pretrained.images, parts.cluster)
    assert sorted(judged.paths) == sorted(image.path for image in parts.train) and len(judged.paths) > 30
    assert {s.path for s in suspects.suspected_label_errors(judged)[:2]} == {"blue/r03.jpg", "red/g05.jpg"}
    assert suspects.pretrained_search(found, parts, *own, "svm", c_values=[1.0]) == own
    report.write_scores(few, files.proc_dir("colours") / files.HELD_OUT)
    assert suspects.read_label_scores("colours").paths == few.paths  # as version 0.1.0 wrote it
    report.write_scores(judged, files.proc_dir("colours") / files.LABEL_SCORES)
    assert suspects.read_label_scores("colours").paths == judged.paths
    scores = suspects.out_of_sample_scores("colours")
    assert all(image.sha256 in scores.probabilities for image in parts.train)


def test_suspects_have_another_predicted_label_and_are_sorted_by_self_confidence():
    found = evaluated(
        [
            ("dotted", [0.2, 0.5, 0.3]),
            ("dotted", [0.9, 0.1, 0]),
            ("leopard", [0.6, 0.15, 0.25]),
            ("leopard", [0.4, 0.25, 0.35]),
        ]
    )
    suspected = suspects.suspected_label_errors(found)
    assert [s.path for s in suspected] == ["leopard/2.jpg", "dotted/0.jpg", "leopard/3.jpg"]
    assert (suspected[0].label, suspected[0].predicted) == ("leopard", "dotted")
    assert (suspected[0].probability, suspected[0].margin) == pytest.approx((0.6, 0.45))
    assert str(suspected[0]) == "leopard/2.jpg: leopard? dotted 0.60"


def test_suspects_of_equal_label_quality_keep_the_order_of_the_evaluation():
    suspected = suspects.suspected_label_errors(evaluated([("dotted", [0.25, 0.5, 0.25])] * 20))
    assert [s.sha256 for s in suspected] == [f"sha {i}" for i in range(20)]


@pytest.mark.parametrize(
    "found", [evaluated([("dotted", [0.8, 0.1, 0.1])]), NOTHING], ids=["agree", "nothing"]
)
def test_agreement_or_an_empty_evaluation_gives_no_suspects(found):
    assert suspects.suspected_label_errors(found) == []


def test_a_label_that_the_estimator_was_not_trained_on_is_no_suspect():
    assert [
        s.path
        for s in suspects.suspected_label_errors(
            evaluated([("dotted", [0, 0.9, 0.1]), ("dotted", [0.1, 0.8, 0.1])])
        )
    ] == ["dotted/1.jpg"]


def test_suspects_of_an_evaluation_without_hashes_have_paths_only():
    found = replace(evaluated([("dotted", [0.1, 0.9, 0])]), sha256=())
    assert [(s.path, s.sha256) for s in suspects.suspected_label_errors(found)] == [("dotted/0.jpg", "")]


def test_out_of_fold_probabilities_are_scaled_by_the_temperature():
    matrix, images = clustered()
    search = trained(matrix, images)
    found = out_of_fold(search, images)
    assert found.labels == tuple(LABELS)
    assert found.paths == tuple(i.path for i in images)
    assert found.sha256 == found.cluster == tuple(i.sha256 for i in images)
    powers = np.exp(search.oof_scores.astype(float) / search.head.temperature)
    np.testing.assert_allclose(found.probabilities, powers / powers.sum(axis=1, keepdims=True), rtol=1e-4)
    assert found.overall_accuracy.value == 1


def test_out_of_fold_evaluation_has_held_out_images_only_and_marks_untrained_labels():
    matrix, images = clustered()
    # There is a single "striped" image, so the estimator that scored it was trained on none.
    alone = trained(matrix[:25], images[:25])
    found = out_of_fold(alone, images[:25])
    assert np.isneginf(found.scores[24]).tolist() == [False, False, True]
    assert found.probabilities[24, 2] == 0
    assert found.probabilities.sum(axis=1) == pytest.approx(np.ones(25))
    search = replace(alone, oof_scores=np.where(np.arange(25)[:, None] < 3, -np.inf, alone.oof_scores))
    assert out_of_fold(search, images[:25]).paths == tuple(i.path for i in images[3:25])


def test_an_empty_out_of_fold_evaluation_can_be_written(tmp_path):
    matrix, images = clustered()
    pair = [images[0], images[12]]
    found = out_of_fold(trained(matrix[[0, 12]], pair), pair)
    report.write_scores(found, tmp_path / "held_out.npz")
    assert report.read_scores(tmp_path / "held_out.npz").paths == found.paths == ()


def write(
    proc,
    train: Evaluation | None,
    test: Evaluation | None,
    *,
    evaluated_on: str = "test",
    newest: str = "scores.npz",
) -> None:
    """Write both files; `newest` is one minute newer."""
    if train:
        report.write_scores(train, proc / "held_out.npz")
    if test:
        report.write(test, proc, evaluated_on=evaluated_on)
    for path in proc.glob("*.npz"):
        os.utime(path, (1e9 + 60 * (path.name == newest),) * 2)


def test_label_quality_is_the_probability_of_the_label(proc):
    write(proc, TRAIN, TEST)
    scores = suspects.out_of_sample_scores("fruit")
    assert (scores.labels, len(scores), scores.note) == (tuple(LABELS), 3, "")
    assert scores.label_quality(image(0, "dotted")) == pytest.approx(0.9)
    assert scores.label_quality(image(1, "leopard")) == pytest.approx(0.1)
    assert scores.label_quality(image(10, "striped")) == pytest.approx(0.6)


def test_label_quality_follows_a_relabelled_image(proc):
    write(proc, TRAIN, TEST)
    assert suspects.out_of_sample_scores("fruit").label_quality(image(1, "dotted")) == pytest.approx(0.7)


@pytest.mark.parametrize("label", [UNLABELLED, "checked"])
def test_label_quality_without_a_trained_label_is_the_largest_probability(proc, label):
    write(proc, TRAIN, TEST)
    assert suspects.out_of_sample_scores("fruit").label_quality(image(1, label)) == pytest.approx(0.7)


def test_an_image_without_scores_has_no_label_quality(proc):
    write(proc, TRAIN, None)
    assert np.isnan(suspects.out_of_sample_scores("fruit").label_quality(image(10, "striped")))
    assert np.isnan(suspects.OutOfSampleScores().label_quality(image(0, "dotted")))


def test_an_untrained_label_counts_as_none_but_an_improbable_trained_label_has_quality_0(proc):
    found = evaluated([("leopard", [0.8, 0, 0.2]), ("leopard", [1, 0, 0])])
    decision_values = np.array([[0, -np.inf, -1], [900, -900, -900]], np.float32)
    write(proc, replace(found, scores=decision_values), None)
    scores = suspects.out_of_sample_scores("fruit")
    assert scores.label_quality(image(0, "leopard")) == pytest.approx(0.8)
    assert scores.label_quality(image(1, "leopard")) == pytest.approx(0)


def test_without_files_the_scores_are_false_and_have_no_note(proc):
    scores = suspects.out_of_sample_scores("fruit")
    assert not scores
    assert scores.note == ""


def test_scores_of_training_images_are_not_used(proc):
    write(proc, TRAIN, TEST, evaluated_on="train")
    scores = suspects.out_of_sample_scores("fruit")
    assert len(scores) == 2
    assert scores.note == "scores.npz: its images are not test images; run 05_evaluate with evaluate_on=test"


@pytest.mark.parametrize(
    ("newest", "used", "note"),
    [
        (
            "scores.npz",
            "sha 10",
            "held_out.npz has other labels than scores.npz, which is newer; run 04_train_svm again",
        ),
        (
            "held_out.npz",
            "sha 0",
            "scores.npz has other labels than held_out.npz, which is newer; run 05_evaluate again",
        ),
    ],
)
def test_of_two_files_with_different_labels_the_newer_one_is_used(proc, newest, used, note):
    write(
        proc, TRAIN, evaluated([("plain", [0.1, 0.9])], first=10, labels=["dotted", "plain"]), newest=newest
    )
    scores = suspects.out_of_sample_scores("fruit")
    assert used in scores.probabilities
    assert scores.note == note
    assert all(shares.shape == (len(scores.labels),) for shares in scores.probabilities.values())


@pytest.mark.parametrize(("newest", "probability"), [("scores.npz", 0.2), ("held_out.npz", 0.9)])
def test_an_image_in_both_files_has_the_scores_of_the_newer_one(proc, newest, probability):
    write(proc, TRAIN, evaluated([("dotted", [0.2, 0.4, 0.4])]), newest=newest)
    assert suspects.out_of_sample_scores("fruit").probabilities["sha 0"][0] == pytest.approx(probability)


def test_a_damaged_file_is_skipped_with_a_note(proc):
    write(proc, TRAIN, TEST)
    (proc / "held_out.npz").write_bytes(b"PK but nothing more")
    scores = suspects.out_of_sample_scores("fruit")
    assert list(scores.probabilities) == ["sha 10"]
    assert scores.note == "held_out.npz: damaged, or from an earlier version; run 04_train_svm again"


@pytest.mark.parametrize(
    ("content", "note"),
    [
        (b"{", "evaluation.json: damaged; run 05_evaluate again"),
        (None, "evaluation.json: no evaluation yet; run 05_evaluate first"),
    ],
)
def test_test_scores_without_a_readable_evaluation_json_are_skipped_with_a_note(proc, content, note):
    write(proc, TRAIN, TEST)
    (proc / "evaluation.json").unlink()
    if content:
        (proc / "evaluation.json").write_bytes(content)
    scores = suspects.out_of_sample_scores("fruit")
    assert list(scores.probabilities) == ["sha 0", "sha 1"]
    assert scores.note == note


def test_two_damaged_files_give_two_notes(proc):
    write(proc, TRAIN, TEST)
    for path in proc.glob("*.npz"):
        path.write_bytes(b"")
    scores = suspects.out_of_sample_scores("fruit")
    assert not scores
    assert scores.note.count("damaged") == 2


def test_the_prediction_is_the_most_probable_label_and_none_without_scores():
    scores = suspects.OutOfSampleScores(("a", "b"), {"1": np.array([0.25, 0.75])})
    assert scores.prediction(Image("a/1.jpg", "a", "1", "", 1, 1)) == ("b", 0.75)
    assert scores.prediction(Image("a/2.jpg", "a", "2", "", 1, 1)) is None
