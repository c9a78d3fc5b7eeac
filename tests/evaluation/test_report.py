"""The files of an evaluation, and its text."""

import json
from dataclasses import replace

import numpy as np
import pytest

from imgclf import ImgclfError, files
from imgclf.data.dataset import Image
from imgclf.evaluation import metrics, report
from imgclf.evaluation.metrics import Evaluation
from support.evaluations import by_hand, evaluated


def test_evaluation_json_holds_the_documented_figures(tmp_path):
    report.write(by_hand(), tmp_path, dataset_name="fruit")
    figures = json.loads((tmp_path / "evaluation.json").read_text())
    assert figures == report.read(tmp_path)
    assert (figures["dataset_name"], figures["images"]) == ("fruit", 10)
    for key in ("overall_accuracy", "class_averaged_accuracy"):
        low, high = figures[f"{key}_interval"]
        assert 0 <= low <= figures[key] <= high <= 1
    assert {label: row["accuracy"] for label, row in figures["classes"].items()} == {
        "a": 0.75,
        "b": 0.5,
        "c": 1.0,
    }
    assert figures["classes"]["a"]["roc_auc"] == pytest.approx(0.875)
    assert figures["confusion"] == [[3, 1, 0], [0, 2, 2], [0, 0, 2]]
    assert sum(row["images"] for row in figures["calibration"]["bins"]) == 10
    assert 0 <= figures["calibration"]["expected_calibration_error"] <= 1


def test_scores_npz_holds_the_arrays_without_pickle(tmp_path):
    evaluation = by_hand()
    report.write(evaluation, tmp_path)
    with np.load(tmp_path / "scores.npz", allow_pickle=False) as arrays:
        assert arrays["labels"].tolist() == ["a", "b", "c"]
        assert arrays["paths"].tolist() == list(evaluation.paths)
        assert (arrays["scores"] == evaluation.scores).all()
        assert (arrays["truth"] == evaluation.truth).all()


def test_table_shows_accuracies_with_intervals_and_baselines():
    lines = report.table(report.summary(by_hand())).splitlines()
    assert lines[0].split() == ["images", "accuracy", "95", "%", "interval", "ROC", "area"]
    assert lines[1].split() == ["a", "4", "75%", "19%", "to", "99%", "0.88"]
    assert lines[4].split() == ["overall", "accuracy", "10", "70%", "35%", "to", "93%"]
    assert lines[5].startswith("overall class-averaged accuracy")
    assert [line.split("  ")[0] for line in lines[6:]] == [
        "chance level, class-averaged",
        "majority-class baseline, overall",
    ]
    assert [line.split()[-1] for line in lines[6:]] == ["33%", "40%"]


class TestInWords:
    def figures(self, **changes: object) -> dict:
        return {**report.summary(by_hand()), "dataset_name": "fruit", "evaluated_on": "test", **changes}

    def test_the_accuracy_is_a_title_and_what_it_means_for_new_images(self):
        wanted = {
            "overall_accuracy": 0.9444,
            "overall_accuracy_interval": [0.883, 0.979],
            "largest_share": 0.44,
        }
        assert report.in_words(self.figures(images=1080, **wanted)).splitlines() == [
            "fruit: 94% of 1,080 test images labelled correctly (88% to 98%)",
            "On average, about 94 of 100 new images like these are labelled correctly (88 to 98 at 95 % "
            "confidence); always answering with the most common label would get 44.",
        ]

    def test_an_accuracy_above_99_percent_is_counted_in_a_thousand_images(self):
        wanted = {"overall_accuracy": 0.996, "overall_accuracy_interval": [0.99, 0.999]}
        assert "about 996 of 1,000 new images" in report.in_words(self.figures(**wanted))
        assert "(990 to 999 at 95 % confidence)" in report.in_words(self.figures(**wanted))

    def test_an_accuracy_that_may_be_that_of_the_baseline_is_called_so(self):
        text = report.in_words(self.figures(overall_accuracy_interval=[0.35, 0.93], largest_share=0.4))
        assert text.endswith("would get 40. The difference between the two may be chance.")

    def test_training_images_have_a_warning_in_place_of_a_meaning(self):
        title, warning = report.in_words(self.figures(evaluated_on="train")).splitlines()
        assert title == "fruit: 70% of 10 training images labelled correctly (35% to 93%)"
        assert warning == "CAREFUL: on the TRAINING IMAGES; this overestimates the accuracy on new images"

    def test_images_that_are_gone_are_named(self):
        found = replace(by_hand(), missing=("d.jpg",), missing_labels=("a",))
        assert "CAREFUL: 1 of 11 images are gone" in report.in_words(
            self.figures(missing=report.summary(found)["missing"])
        )


class TestFrame:
    def test_it_has_the_figures_of_the_table(self):
        frame = report.frame(report.summary(by_hand()))
        assert frame.columns.tolist() == ["images", "accuracy", "95 % interval", "ROC area"]
        assert frame.loc["a"].tolist() == ["4", "75%", "19% to 99%", "0.88"]
        assert frame.loc["overall accuracy"].tolist() == ["10", "70%", "35% to 93%", ""]
        assert frame.loc["majority-class baseline, overall"].tolist() == ["", "40%", "", ""]

    def test_a_label_with_the_name_of_a_row_keeps_its_own(self):
        label = "overall accuracy"
        frame = report.frame(
            report.summary(metrics.evaluate([label, "b"], ["1", "2"], [label, "b"], np.eye(2), np.eye(2)))
        )
        assert frame.loc[label, "images"].tolist() == ["1", "2"]

    def test_of_many_labels_it_has_the_lowest_accuracies_and_says_how_many_others_there_are(self):
        frame = report.frame(report.summary(evaluated(report.MOST_LINES + 1)))
        assert len(frame) == report.WORST + 5
        assert (
            frame.index[report.WORST] == f"{report.MOST_LINES + 1 - report.WORST} labels of higher accuracy"
        )

    def test_of_many_labels_the_lowest_accuracies_come_first(self):
        truth = np.arange(report.MOST_LINES + 1).repeat(2)
        predicted = np.where((truth == 30) | (truth == 7), 0, truth)
        scores = np.eye(report.MOST_LINES + 1, dtype=np.float32)[predicted]
        names = tuple(f"label {k}" for k in range(report.MOST_LINES + 1))
        found = Evaluation(names, tuple(map(str, range(len(truth)))), truth, scores, scores)
        assert report.frame(report.summary(found)).index[:2].tolist() == ["label 7", "label 30"]


def test_notice_warns_about_training_images():
    assert report.notice("train", by_hand()).startswith("CAREFUL: these 10 images are TRAINING IMAGES; ")
    assert report.notice("test", by_hand()) == "10 test images, none of them used in training"
    assert report.notice("test", by_hand(), "CAREFUL: frames").endswith("in training\nCAREFUL: frames")


def test_independent_clusters_are_counted():
    images = [Image(f"a/{row}.jpg", "a", str(row), "", 1, 1) for row in range(10)]
    assert report.independence(by_hand(), images, "image") == "10 images, each independent of the others"
    pairs = replace(by_hand(), cluster=tuple("aabbccddee"))
    assert (
        report.independence(pairs, images, "image")
        == "10 images in 5 independent clusters, which the intervals take into account"
    )


@pytest.mark.parametrize(("split_by", "named"), [("image", True), ("group", False)])
def test_intervals_of_divided_groups_are_said_to_hold_for_these_groups(split_by, named):
    images = [Image("a/front/1.jpg", "a", "1", "", 1, 1, group="front")]
    text = report.independence(by_hand(), images, split_by)
    assert ("the intervals hold for further images of the same groups" in text) == named


def test_a_missing_evaluation_names_the_notebook_that_writes_it(tmp_path):
    with pytest.raises(ImgclfError, match=r"evaluation\.json: no evaluation yet; run 05_evaluate first"):
        report.read(tmp_path)


def test_an_evaluation_of_a_single_label_is_read_back(tmp_path):
    report.write(by_hand(truth=list("aaa"), predicted=list("aab")), tmp_path)
    assert report.read(tmp_path)["classes"]["a"]["roc_auc"] is None


def test_table_marks_a_label_without_test_images():
    table = report.table(report.summary(by_hand(truth=list("aabb"), predicted=list("aabc"))))
    assert table.splitlines()[3].split() == ["c", "0"]


def test_table_of_training_images_begins_with_a_warning():
    figures = report.summary(by_hand())
    warning, *rest = report.table({"evaluated_on": "train", **figures}).splitlines()
    assert warning == "CAREFUL: on the TRAINING IMAGES; this overestimates the accuracy on new images"
    assert (
        rest
        == report.table({"evaluated_on": "test", **figures}).splitlines()
        == report.table(figures).splitlines()
    )


def test_an_evaluation_of_training_images_lies_where_no_reader_takes_it_for_a_test(tmp_path):
    assert report.results_folder(tmp_path, "test") == tmp_path
    assert report.results_folder(tmp_path, "train") == tmp_path / "on_training_images"


@pytest.mark.parametrize("about", [{"evaluated_on": "train"}, {}], ids=["training images", "not said"])
def test_scores_that_are_not_said_to_be_of_test_images_are_no_test_scores(tmp_path, about):
    report.write(by_hand(), tmp_path, **about)  # as earlier versions wrote it
    with pytest.raises(
        ImgclfError,
        match=r"scores\.npz: its images are not test images; run 05_evaluate with evaluate_on=test$",
    ):
        report.read_test_scores(tmp_path)


def test_test_scores_of_another_run_than_the_figures_are_refused(tmp_path):
    report.write(by_hand(), tmp_path, evaluated_on="test")
    assert same(report.read_test_scores(tmp_path), by_hand())
    report.write_scores(by_hand(truth=list("abc"), predicted=list("abc")), tmp_path / "scores.npz")
    with pytest.raises(
        ImgclfError,
        match=r"scores\.npz: is of another run than evaluation\.json; run 05_evaluate again$",
    ):
        report.read_test_scores(tmp_path)


def test_test_scores_of_another_classifier_are_refused(tmp_path):
    classifier = tmp_path / "classifier.onnx"
    classifier.write_bytes(b"a network")
    report.write(by_hand(), tmp_path, evaluated_on="test", classifier_sha256=files.sha256(classifier))
    assert same(report.read_test_scores(tmp_path), by_hand())
    classifier.write_bytes(b"another network")
    with pytest.raises(
        ImgclfError,
        match=r"scores\.npz: is of another classifier\.onnx than there is now; run 05_evaluate with",
    ):
        report.read_test_scores(tmp_path)
    classifier.unlink()  # as where only the results were copied
    report.read_test_scores(tmp_path)


def same(one: Evaluation, other: Evaluation) -> bool:
    plain = [(e.labels, e.paths, e.seed, e.sha256, e.cluster) for e in (one, other)]
    return plain[0] == plain[1] and all(
        (getattr(one, name) == getattr(other, name)).all() for name in ("truth", "scores", "probabilities")
    )


@pytest.mark.parametrize("cluster", [(), tuple("aabbccddee")])
@pytest.mark.parametrize("sha256", [(), tuple("0123456789")])
def test_scores_are_read_as_they_were_written(tmp_path, sha256, cluster):
    evaluation = replace(by_hand(seed=3), sha256=sha256, cluster=cluster)
    report.write_scores(evaluation, tmp_path / "scores.npz")
    assert same(report.read_scores(tmp_path / "scores.npz"), evaluation)


def test_scores_without_images_and_scores_of_minus_infinity_are_read_back(tmp_path):
    unknown = replace(by_hand(), scores=np.where(by_hand().scores == 1, 1, -np.inf))
    for name, evaluation in (
        ("unknown.npz", unknown),
        ("none.npz", Evaluation(("a", "é"), (), np.zeros(0, int), np.zeros((0, 2)), np.zeros((0, 2)))),
    ):
        report.write_scores(evaluation, tmp_path / name)
        assert same(report.read_scores(tmp_path / name), evaluation)


def test_scores_of_version_0_1_0_have_no_clusters(tmp_path):
    evaluation = by_hand()
    report.write_scores(evaluation, tmp_path / "scores.npz")
    arrays = files.read_npz(tmp_path / "scores.npz")
    del arrays["cluster"]
    files.write_npz(tmp_path / "scores.npz", arrays)
    assert same(report.read_scores(tmp_path / "scores.npz"), evaluation)


@pytest.mark.parametrize(
    ("name", "notebook"),
    [
        ("scores.npz", "05_evaluate"),
        ("scores_svm.npz", "05_evaluate"),
        ("held_out.npz", "04_train_svm"),
        ("label_scores.npz", "04_train_svm"),
    ],
)
def test_missing_and_damaged_scores_name_the_notebook_that_writes_them(tmp_path, name, notebook):
    with pytest.raises(ImgclfError, match=rf"{name}: no scores yet; run {notebook} first"):
        report.read_scores(tmp_path / name)
    report.write_scores(by_hand(), tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    for content in (b"", b"PK but nothing more", whole[:700], whole[:-30]):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(
            ImgclfError, match=rf"{name}: damaged, or from an earlier version; run {notebook} again"
        ):
            report.read_scores(tmp_path / name)


def test_a_corrupt_byte_in_scores_is_reported_or_harmless(tmp_path):
    path, draws, refused = tmp_path / "scores.npz", np.random.default_rng(0), 0
    written = replace(by_hand(), cluster=tuple("aabbccddee"))
    report.write_scores(written, path)
    whole = path.read_bytes()
    for _ in range(400):
        wrong = bytearray(whole)
        wrong[draws.integers(len(wrong))] = draws.integers(256)
        path.write_bytes(wrong)
        try:
            assert same(report.read_scores(path), written)
        except ImgclfError:
            refused += 1
    assert refused > 200


@pytest.mark.parametrize(
    "wrong",
    [
        {"truth": np.full(10, 3)},
        {"truth": np.zeros(9, int)},
        {"truth": np.zeros(10)},
        {"scores": np.zeros((10, 2))},
        {"scores": np.full((10, 3), np.nan)},
        {"probabilities": np.full((10, 3), -1.0)},
        {"sha256": ("0",)},
        {"cluster": ("0",)},
        {"seed": -1},
    ],
)
def test_arrays_that_do_not_fit_together_are_refused(tmp_path, wrong):
    report.write_scores(replace(by_hand(), **wrong), tmp_path / "scores.npz")
    with pytest.raises(ImgclfError, match="damaged"):
        report.read_scores(tmp_path / "scores.npz")


def test_an_evaluation_with_an_empty_interval_is_damaged(tmp_path):
    report.write(by_hand(), tmp_path, dataset_name="fruit")
    figures = json.loads((tmp_path / "evaluation.json").read_text(encoding="utf-8"))
    (tmp_path / "evaluation.json").write_text(json.dumps({**figures, "overall_accuracy_interval": []}))
    with pytest.raises(ImgclfError, match=r"evaluation\.json: damaged; run 05_evaluate again"):
        report.read(tmp_path)


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff", b"{}", b'{"classes": null}', b"[" * 10_000])
def test_a_damaged_evaluation_names_the_notebook_that_writes_it(tmp_path, content):
    (tmp_path / "evaluation.json").write_bytes(content)
    with pytest.raises(ImgclfError, match=r"evaluation\.json: damaged; run 05_evaluate again"):
        report.read(tmp_path)
