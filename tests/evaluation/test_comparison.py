"""Whether refining helped is told by the images on which the two classifiers differ."""

import numpy as np
import pytest

from imgclf import ImgclfError
from imgclf.evaluation import comparison, metrics


def evaluated(right: list[bool], *, names: list[str] | None = None, truth: str = "a") -> metrics.Evaluation:
    """An evaluation of images of one label, of which these are right."""
    scores = np.array([[1.0, 0.0] if (r == (truth == "a")) else [0.0, 1.0] for r in right], np.float32)
    names = names or [f"{i}.jpg" for i in range(len(right))]
    return metrics.evaluate(["a", "b"], names, [truth] * len(right), scores, scores, sha256=names)


def pair(mended: int, broken: int, *, both: int = 80, neither: int = 5) -> comparison.Comparison:
    before = [False] * mended + [True] * broken + [True] * both + [False] * neither
    after = [True] * mended + [False] * broken + [True] * both + [False] * neither
    return comparison.compare(evaluated(before), evaluated(after))


def test_images_that_changed_are_counted():
    found = pair(10, 4)
    assert (found.images, found.mended, found.broken) == (99, 10, 4)
    assert (found.before, found.after) == (84 / 99, 90 / 99)


@pytest.mark.parametrize(
    ("mended", "broken", "p_value"),
    [(0, 0, 1.0), (1, 0, 1.0), (5, 0, 2 / 32), (6, 0, 2 / 64), (0, 6, 2 / 64), (3, 3, 1.0)],
)
def test_the_p_value_is_that_of_as_many_tosses_of_a_coin(mended, broken, p_value):
    assert pair(mended, broken).p_value == pytest.approx(p_value)


def test_order_of_the_images_does_not_matter():
    before, after = (
        evaluated([True, False, False]),
        evaluated([True, True, False][::-1], names=["2.jpg", "1.jpg", "0.jpg"]),
    )
    found = comparison.compare(before, after)
    assert (found.mended, found.broken) == (1, 0)


def test_a_clear_gain_a_clear_loss_and_an_unclear_one_are_told_in_words():
    assert str(pair(12, 1)).startswith(
        "Yes, it helped: +11.2 points: 12 of 98 test images are right now and were wrong before, 1 the other way round"
    )
    assert str(pair(1, 12)).startswith("Yes, it did harm: -11.2 points")
    assert "McNemar's exact test gives p = 0.55" in str(pair(7, 4))
    assert "it would take about" in str(pair(7, 4))
    assert str(pair(3, 3)).startswith("No difference: +0.0 points")


def test_images_to_tell_are_those_of_connors_formula_and_more_for_a_smaller_gain():
    # 10 of 100 mended, 5 broken: (1.96 sqrt(0.15) + 0.8416 sqrt(0.15 - 0.0025))^2 / 0.0025 = 468.6
    assert pair(10, 5).images_to_tell == 469
    assert pair(6, 5).images_to_tell > 1000
    assert pair(5, 5).images_to_tell is None


def test_the_test_finds_a_gain_of_that_size_in_four_of_five_samples_of_images_to_tell():
    images, draws = pair(10, 5).images_to_tell, np.random.default_rng(0)
    from scipy.stats import binomtest

    found = 0
    for _ in range(300):
        mended, broken, _ = draws.multinomial(images, [0.1, 0.05, 0.85])
        found += binomtest(mended, mended + broken).pvalue <= 0.05
    assert 0.72 < found / 300 < 0.88


@pytest.mark.parametrize(
    "other",
    [
        evaluated([True]),
        evaluated([True, True], names=["0.jpg", "z.jpg"]),
        evaluated([True, True], truth="b"),
    ],
)
def test_other_images_or_labels_are_refused(other):
    with pytest.raises(
        ImgclfError,
        match="were tested on different images or labels .*; run both again, from 03_run_dnn on, with the same split",
    ):
        comparison.compare(evaluated([True, True]), other)


def test_the_verdict_says_how_to_get_what_is_missing_then_compares(tmp_path):
    fixed, refined = evaluated([True, False, False]), evaluated([True, True, True])
    assert comparison.verdict(tmp_path, "dnn", refined).startswith(
        "nothing to compare with yet: run 02 to 05 with classifier='svm' once"
    )
    assert (
        comparison.verdict(tmp_path, "svm", fixed)
        == "classifier='svm': nothing was refined; the scores are kept to compare a refined DNN with"
    )
    assert comparison.verdict(tmp_path, "dnn", refined).startswith(
        "Did refining help, against the SVM on fixed features? Perhaps: +66.7 points: 2 of 3"
    )


def test_the_verdict_is_silent_about_images_that_were_learned_from(tmp_path):
    assert comparison.verdict(tmp_path, "dnn", evaluated([True]), evaluated_on="train").startswith(
        "not compared: these images were learned from"
    )
    assert not list(tmp_path.iterdir())


def test_the_verdict_tells_of_another_split_in_words(tmp_path):
    comparison.verdict(tmp_path, "svm", evaluated([True]))
    assert comparison.verdict(tmp_path, "dnn", evaluated([True, True])).startswith(
        "not compared: the two were tested on different images"
    )
