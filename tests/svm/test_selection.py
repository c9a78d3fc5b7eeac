"""The choice between candidates for C: the one-standard-error rule, and which are dropped early."""

import numpy as np

from imgclf.svm import selection

# Two labels with 100 images each. Of each label 20 images lie at the decision boundary, where the cross-entropy is the
# same on either side; `boundary_scores` puts some of them on the wrong side.
Y = np.array([0, 1]).repeat(100)


def boundary_scores(wrong: int) -> np.ndarray:
    margin = np.where(np.arange(100) < 20, 1e-9, 1.0) * np.where(np.arange(100) < wrong, -1, 1)
    return (np.eye(2)[Y] * np.tile(margin, 2)[:, None]).astype(np.float32)


def chosen(y: np.ndarray, scores: list[np.ndarray]) -> tuple[int, int]:
    """The positions of the best and of the most accurate C."""
    return selection.select_c([selection.held_out(y, each) for each in scores])


def kept(y: np.ndarray, scores: list[np.ndarray]) -> list[int]:
    """The positions of the C that are not dropped."""
    return selection.promising([selection.held_out(y, each) for each in scores])


def test_the_smallest_c_within_one_standard_error_of_the_best_accuracy_is_chosen():
    # Best: 90 of 100 right of each label, with a standard error of sqrt(2 * 0.9 * 0.1 / 100) / 2 = 0.0212.
    assert chosen(Y, [boundary_scores(wrong) for wrong in (13, 12, 10)]) == (1, 2)  # 0.87, 0.88, 0.90
    assert chosen(Y, [boundary_scores(wrong) for wrong in (14, 13, 10)]) == (2, 2)
    assert chosen(Y, [boundary_scores(wrong) for wrong in (10, 10, 10, 13)]) == (0, 0)


def test_the_smallest_c_within_one_standard_error_of_the_best_cross_entropy_is_chosen():
    right = boundary_scores(10)
    assert chosen(Y, [right * 1e-6, right, right]) == (1, 1)  # too small for any temperature
    assert chosen(Y, [boundary_scores(9) * 1e-6, right]) == (1, 0)
    unsure = right.copy()
    unsure[::2] *= 0.2  # half of the images lie nearer to the boundary, so that no one temperature fits all
    assert chosen(Y, [unsure, right, right]) == (1, 1)


def test_the_standard_error_is_of_the_class_averaged_accuracy():
    # Of the common label 190 of 200 are right, of the rare one 6 of 10:
    # sqrt(0.95 * 0.05 / 200 + 0.6 * 0.4 / 10) / 2 = 0.0778. The first C has one rare image fewer right, the second two.
    y = np.array([0] * 200 + [1] * 10)

    def rare_right(count: int) -> np.ndarray:
        margin = np.array([-1e-9] * 10 + [1.0] * 190 + [1e-9] * count + [-1e-9] * (10 - count))
        return np.eye(2)[y] * margin[:, None]

    assert chosen(y, [rare_right(5), rare_right(6)]) == (0, 1)
    assert chosen(y, [rare_right(4), rare_right(6)]) == (1, 1)


def test_a_c_is_dropped_when_its_accuracy_is_three_standard_errors_below_the_best():
    # Best: 90 of 100 right of each label, with a standard error of 0.0212, so the limit is 0.8364.
    assert kept(Y, [boundary_scores(wrong) for wrong in (10, 16)]) == [0, 1]
    assert kept(Y, [boundary_scores(wrong) for wrong in (10, 17)]) == [0]


def test_a_c_is_dropped_when_its_cross_entropy_is_clearly_larger():
    right = boundary_scores(10)
    assert kept(Y, [right, right * 1e-6]) == [0]


def test_the_next_smaller_c_is_kept():
    right = boundary_scores(10)
    assert kept(Y, [right * 1e-6, right * 1e-6, right]) == [1, 2]


def test_what_is_chosen_in_the_end_is_never_dropped():
    draws = np.random.default_rng(0)
    for _ in range(50):
        scores = [
            (np.eye(2)[Y] * draws.choice([0.3, 1, 3]) + draws.normal(0, 0.6, (200, 2))) for _ in range(4)
        ]
        assert {chosen(Y, scores)[0]} <= set(kept(Y, scores))


def test_where_nothing_was_held_out_no_c_is_dropped():
    nothing = np.full((4, 2), -np.inf)
    assert kept(np.array([0, 0, 1, 1]), [nothing, nothing]) == [0, 1]
