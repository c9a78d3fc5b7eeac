"""The summary of how the last layer of each kind of classifier was chosen."""

from dataclasses import replace

import numpy as np
import pytest

from imgclf.classifier import heads
from imgclf.data.dataset import Image
from imgclf.features import Features
from imgclf.svm import CSearch, Head

HEAD = Head(("a", "b"), np.eye(2, dtype=np.float32), np.zeros(2, np.float32), False, 1.0, 1.0)
SCORES = np.array([[2, 1], [1, 2], [2, 1], [1, 2]], np.float32)
FEATURES = Features(
    SCORES, tuple(Image(f"{i}.jpg", label, str(i), "", 1, 1) for i, label in enumerate("abbb"))
)
SEARCH = CSearch(
    HEAD, SCORES, (0.1, 1.0, 10.0), (1.0,) * 3, (0.5, 0.7, 0.8), (2, 3, 4), (0.6, 0.5, 0.5), 1, 2
)
COMPARISON = "C = 10 classifies 1 more of 4 images correctly, within one standard error, and the smaller C regularizes more"
NOTE = "note: the C of the highest accuracy is the largest tried, 10; extend svm_c with larger values to see whether the accuracy still rises"


def test_the_summary_of_an_svm_is_its_search_with_the_warning_below():
    assert (
        heads.summary(SEARCH, FEATURES, "svm")
        == f"C = 1: out-of-fold class-averaged accuracy 0.70; {COMPARISON}\n{NOTE}"
    )
    assert heads.summary(replace(SEARCH, most_accurate=1), FEATURES, "svm") == (
        "C = 1: out-of-fold class-averaged accuracy 0.70"
    )


def test_the_summary_of_an_svm_on_fine_tuned_features_names_the_validation_images():
    assert heads.summary(SEARCH, FEATURES, "svm_dnn_refined") == (
        "C = 1: class-averaged accuracy 0.70 on the 4 validation images of fine-tuning, which the DNN was not "
        f"trained on; {COMPARISON}\n{NOTE}"
    )


def test_the_summary_of_a_dnn_is_its_accuracy_on_the_validation_images():
    scores = np.where(np.arange(4)[:, None] < 3, SCORES, -np.inf)
    assert heads.summary(CSearch(HEAD, scores), FEATURES, "dnn") == (
        "the DNN's own last layer; nothing is trained. Of the 3 validation images of fine-tuning, which the DNN "
        "was not trained on, 67% are right"
    )


@pytest.mark.parametrize(
    ("kind", "start"),
    [
        ("dnn", "the DNN's own last layer; nothing is trained, and there are no validation images"),
        ("svm_dnn_refined", "C = 1: no image could be held out, so C was not chosen by accuracy"),
    ],
)
def test_the_summary_says_that_there_are_no_validation_images(kind, start):
    search = replace(SEARCH, oof_scores=np.full((4, 2), -np.inf), cv_accuracy=(np.nan,) * 3)
    assert heads.summary(search, FEATURES, kind).startswith(start)
