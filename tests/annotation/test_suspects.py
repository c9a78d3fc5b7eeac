"""Which images are suspected, in which order, and what is known of an image when its label is looked at again."""

import os
from dataclasses import replace

import numpy as np
import pytest

from imgclf import files, svm
from imgclf.annotation import suspects
from imgclf.data.dataset import UNLABELLED, Image
from imgclf.evaluation import metrics, report
from imgclf.evaluation.metrics import Evaluation

LABELS = ["dotted", "leopard", "striped"]


def image(number: int, label: str) -> Image:
    return Image(f"{label}/{number}.jpg", label, f"sha {number}", "", 64, 48)


def judged(rows: list[tuple[str, list[float]]], *, first: int = 0, labels: list[str] = LABELS) -> Evaluation:
    """Images numbered from `first`, each with its label and probabilities."""
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
    """The folder of computed files of the data set "fruit"."""
    return files.proc_dir("fruit")


NOTHING = Evaluation(("a", "b"), (), np.zeros(0, int), np.zeros((0, 2)), np.zeros((0, 2)))
TRAIN = judged([("dotted", [0.9, 0.05, 0.05]), ("leopard", [0.7, 0.1, 0.2])])
TEST = judged([("striped", [0.1, 0.3, 0.6])], first=10)


def clustered(*, wrong: tuple[int, ...] = ()) -> tuple[np.ndarray, list[Image]]:
    """Features of three labels that lie well apart, 12 images each, and the images; those in `wrong` stand under the next label."""
    matrix = np.random.default_rng(0).normal(0, 0.15, (36, 3)).astype(np.float32) + np.eye(
        3, dtype=np.float32
    ).repeat(12, 0)
    return matrix, [image(i, LABELS[(i // 12 + (i in wrong)) % 3]) for i in range(36)]


def trained(matrix: np.ndarray, images: list[Image]) -> svm.CSearch:
    return svm.train(
        matrix, np.array([i.label for i in images]), np.arange(len(images)).astype(str), c_values=[1.0]
    )


def test_planted_label_errors_come_first():
    matrix, images = clustered(wrong=(3, 20))
    found_suspects = suspects.suspected_label_errors(suspects.held_out(trained(matrix, images), images))
    assert {(s.path, s.sha256, s.predicted) for s in found_suspects[:2]} == {
        ("leopard/3.jpg", "sha 3", "dotted"),
        ("striped/20.jpg", "sha 20", "leopard"),
    }


def test_suspects_are_those_given_another_label_least_probable_own_label_first():
    found = judged(
        [
            ("dotted", [0.2, 0.5, 0.3]),
            ("dotted", [0.9, 0.1, 0]),
            ("leopard", [0.6, 0.15, 0.25]),
            ("leopard", [0.4, 0.25, 0.35]),
        ]
    )
    found_suspects = suspects.suspected_label_errors(found)
    assert [s.path for s in found_suspects] == ["leopard/2.jpg", "dotted/0.jpg", "leopard/3.jpg"]
    assert (found_suspects[0].label, found_suspects[0].predicted) == ("leopard", "dotted")
    assert (found_suspects[0].probability, found_suspects[0].margin) == pytest.approx((0.6, 0.45))
    assert str(found_suspects[0]) == "leopard/2.jpg: leopard? dotted 0.60"


def test_equally_probable_suspects_keep_the_order_of_the_evaluation():
    found_suspects = suspects.suspected_label_errors(judged([("dotted", [0.25, 0.5, 0.25])] * 20))
    assert [s.sha256 for s in found_suspects] == [f"sha {i}" for i in range(20)]


@pytest.mark.parametrize("found", [judged([("dotted", [0.8, 0.1, 0.1])]), NOTHING], ids=["agree", "nothing"])
def test_where_all_agree_or_nothing_was_scored_nothing_is_suspected(found):
    assert suspects.suspected_label_errors(found) == []


def test_a_label_that_was_not_known_to_what_scored_the_image_is_no_suspect():
    assert [
        s.path
        for s in suspects.suspected_label_errors(
            judged([("dotted", [0, 0.9, 0.1]), ("dotted", [0.1, 0.8, 0.1])])
        )
    ] == ["dotted/1.jpg"]


def test_suspects_of_an_evaluation_without_contents_have_paths_only():
    found = replace(judged([("dotted", [0.1, 0.9, 0])]), sha256=())
    assert [(s.path, s.sha256) for s in suspects.suspected_label_errors(found)] == [("dotted/0.jpg", "")]


def test_held_out_scores_become_probabilities_by_the_temperature_of_the_head():
    matrix, images = clustered()
    search = trained(matrix, images)
    found = suspects.held_out(search, images)
    assert found.labels == tuple(LABELS)
    assert found.paths == tuple(i.path for i in images)
    assert found.sha256 == tuple(i.sha256 for i in images)
    powers = np.exp(search.oof_scores.astype(float) / search.head.temperature)
    np.testing.assert_allclose(found.probabilities, powers / powers.sum(axis=1, keepdims=True), rtol=1e-4)
    assert found.overall_accuracy.value == 1


def test_held_out_is_of_those_that_were_and_knows_labels_that_were_not_taught():
    matrix, images = clustered()
    alone = trained(matrix[:25], images[:25])  # one single "striped": no machine that scored it had seen one
    found = suspects.held_out(alone, images[:25])
    assert np.isneginf(found.scores[24]).tolist() == [False, False, True]
    assert found.probabilities[24, 2] == 0
    assert found.probabilities.sum(axis=1) == pytest.approx(np.ones(25))
    search = replace(alone, oof_scores=np.where(np.arange(25)[:, None] < 3, -np.inf, alone.oof_scores))
    assert suspects.held_out(search, images[:25]).paths == tuple(i.path for i in images[3:25])


def test_held_out_of_nothing_is_empty_and_can_be_written(tmp_path):
    matrix, images = clustered()
    pair = [images[0], images[12]]
    found = suspects.held_out(trained(matrix[[0, 12]], pair), pair)
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
    """Write both files; `newest` is the younger by a minute."""
    if train:
        report.write_scores(train, proc / "held_out.npz")
    if test:
        report.write(test, proc, evaluated_on=evaluated_on)
    for path in proc.glob("*.npz"):
        os.utime(path, (1e9 + 60 * (path.name == newest),) * 2)


def test_doubt_is_what_is_missing_in_the_probability_of_the_label(proc):
    write(proc, TRAIN, TEST)
    known = suspects.out_of_sample_scores("fruit")
    assert (known.labels, len(known), known.note) == (tuple(LABELS), 3, "")
    assert known.doubt(image(0, "dotted")) == pytest.approx(0.1)
    assert known.doubt(image(1, "leopard")) == pytest.approx(0.9)
    assert known.doubt(image(10, "striped")) == pytest.approx(0.4)


def test_doubt_follows_the_image_to_another_label(proc):
    write(proc, TRAIN, TEST)
    assert suspects.out_of_sample_scores("fruit").doubt(image(1, "dotted")) == pytest.approx(0.3)


@pytest.mark.parametrize("label", [UNLABELLED, "checked"])
def test_doubt_without_a_known_label_is_that_of_the_likeliest(proc, label):
    write(proc, TRAIN, TEST)
    assert suspects.out_of_sample_scores("fruit").doubt(image(1, label)) == pytest.approx(0.3)


def test_an_image_without_scores_has_no_doubt(proc):
    write(proc, TRAIN, None)
    assert np.isnan(suspects.out_of_sample_scores("fruit").doubt(image(10, "striped")))
    assert np.isnan(suspects.OutOfSampleScores().doubt(image(0, "dotted")))


def test_a_label_that_was_not_taught_is_doubted_like_none_and_one_that_was_is_not_however_improbable(proc):
    found = judged([("leopard", [0.8, 0, 0.2]), ("leopard", [1, 0, 0])])
    scores = np.array([[0, -np.inf, -1], [900, -900, -900]], np.float32)
    write(proc, replace(found, scores=scores), None)
    known = suspects.out_of_sample_scores("fruit")
    assert known.doubt(image(0, "leopard")) == pytest.approx(0.2)
    assert known.doubt(image(1, "leopard")) == 1


def test_nothing_computed_yet_is_false_and_no_note(proc):
    known = suspects.out_of_sample_scores("fruit")
    assert not known
    assert known.note == ""


def test_scores_of_images_that_were_learned_from_are_not_used(proc):
    write(proc, TRAIN, TEST, evaluated_on="train")
    known = suspects.out_of_sample_scores("fruit")
    assert len(known) == 2
    assert (
        known.note
        == "scores.npz is not used: it is not of test images; run 05_evaluate with evaluate_on=test"
    )


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
def test_of_two_files_with_different_labels_the_newer_is_used(proc, newest, used, note):
    write(proc, TRAIN, judged([("plain", [0.1, 0.9])], first=10, labels=["dotted", "plain"]), newest=newest)
    known = suspects.out_of_sample_scores("fruit")
    assert used in known.probabilities
    assert known.note == note
    assert all(shares.shape == (len(known.labels),) for shares in known.probabilities.values())


@pytest.mark.parametrize(("newest", "probability"), [("scores.npz", 0.2), ("held_out.npz", 0.9)])
def test_an_image_in_both_files_has_the_scores_of_the_newer(proc, newest, probability):
    write(proc, TRAIN, judged([("dotted", [0.2, 0.4, 0.4])]), newest=newest)
    assert suspects.out_of_sample_scores("fruit").probabilities["sha 0"][0] == pytest.approx(probability)


def test_a_damaged_file_is_skipped_and_told(proc):
    write(proc, TRAIN, TEST)
    (proc / "held_out.npz").write_bytes(b"PK but nothing more")
    known = suspects.out_of_sample_scores("fruit")
    assert list(known.probabilities) == ["sha 10"]
    assert known.note == "held_out.npz: damaged, or from an earlier version; run 04_train_svm again"


@pytest.mark.parametrize(
    ("content", "note"),
    [
        (b"{", "evaluation.json: damaged; run 05_evaluate again"),
        (None, "evaluation.json: no evaluation yet; run 05_evaluate first"),
    ],
)
def test_scores_of_which_it_is_not_known_what_they_are_of_are_skipped_and_told(proc, content, note):
    write(proc, TRAIN, TEST)
    (proc / "evaluation.json").unlink()
    if content:
        (proc / "evaluation.json").write_bytes(content)
    known = suspects.out_of_sample_scores("fruit")
    assert list(known.probabilities) == ["sha 0", "sha 1"]
    assert known.note == note


def test_both_files_damaged_is_no_crash(proc):
    write(proc, TRAIN, TEST)
    for path in proc.glob("*.npz"):
        path.write_bytes(b"")
    known = suspects.out_of_sample_scores("fruit")
    assert not known
    assert known.note.count("damaged") == 2


def test_the_prediction_is_the_likeliest_label_and_none_without_scores():
    known = suspects.OutOfSampleScores(("a", "b"), {"1": np.array([0.25, 0.75])})
    assert known.prediction(Image("a/1.jpg", "a", "1", "", 1, 1)) == ("b", 0.75)
    assert known.prediction(Image("a/2.jpg", "a", "2", "", 1, 1)) is None
