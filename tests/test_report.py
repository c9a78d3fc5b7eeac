"""What is written of an evaluation, and what is told of it."""

import json

import numpy as np
import pytest
from test_evaluation import by_hand

from imgclf import ImgclfError, report


def test_evaluation_json_holds_the_promised_figures(tmp_path):
    report.write(by_hand(), tmp_path, dataset_name="fruit")
    figures = json.loads((tmp_path / "evaluation.json").read_text())
    assert figures == report.read(tmp_path)
    assert (figures["dataset_name"], figures["images"]) == ("fruit", 10)
    for key in ("overall_accuracy", "class_averaged_accuracy"):
        low, high = figures[f"{key}_interval"]
        assert 0 <= low <= figures[key] <= high <= 1
    assert {label: row["accuracy"] for label, row in figures["classes"].items()} == {"a": 0.75, "b": 0.5, "c": 1.0}
    assert figures["classes"]["a"]["roc_auc"] == pytest.approx(0.875)
    assert figures["confusion"] == [[3, 1, 0], [0, 2, 2], [0, 0, 2]]


def test_scores_npz_holds_the_arrays_without_pickle(tmp_path):
    found = by_hand()
    report.write(found, tmp_path)
    with np.load(tmp_path / "scores.npz", allow_pickle=False) as arrays:
        assert arrays["labels"].tolist() == ["a", "b", "c"]
        assert arrays["paths"].tolist() == list(found.paths)
        assert (arrays["scores"] == found.scores).all()
        assert (arrays["truth"] == found.truth).all()


def test_table_is_for_people():
    lines = report.table(by_hand().summary()).splitlines()
    assert lines[0].split() == ["images", "accuracy", "95", "%", "interval", "ROC", "area"]
    assert lines[1].split() == ["a", "4", "75%", "30%", "to", "95%", "0.88"]
    assert lines[4].split() == ["overall", "accuracy", "10", "70%", "40%", "to", "89%"]
    assert lines[5].startswith("overall class-averaged accuracy")
    assert lines[6:] == ["chance level, class-averaged              33%", "always the commonest label, overall       40%"]


def test_evaluating_on_training_images_is_said_loudly():
    assert report.notice("train", by_hand()).startswith("CAREFUL: these 10 images are those it LEARNED FROM")
    assert report.notice("test", by_hand()) == "10 test images, none of which it learned from"


def test_no_evaluation_yet_says_what_to_run(tmp_path):
    with pytest.raises(ImgclfError, match=r"evaluation\.json: no evaluation yet; run 05_evaluate first"):
        report.read(tmp_path)


def test_what_was_written_of_one_label_only_is_read_back(tmp_path):
    report.write(by_hand(truth=list("aaa"), predicted=list("aab")), tmp_path)
    assert report.read(tmp_path)["classes"]["a"]["roc_auc"] is None


def test_table_says_which_label_has_no_test_images():
    assert "c                                    0      no test images" in report.table(by_hand(truth=list("aabb"), predicted=list("aabc")).summary())


def test_table_of_training_images_begins_loudly():
    figures = by_hand().summary()
    loud, *rest = report.table({"evaluated_on": "train", **figures}).splitlines()
    assert loud == "CAREFUL: of the images it LEARNED FROM, which says nothing about new ones"
    assert rest == report.table({"evaluated_on": "test", **figures}).splitlines() == report.table(figures).splitlines()
