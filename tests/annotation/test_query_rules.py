"""Query rules: random order, cluster centres, smallest margins, and the queue."""

import numpy as np

from imgclf.annotation import query_rules
from imgclf.annotation.proposal_model import Vectors
from imgclf.annotation.query_rules import RANDOM_EVERY, Queue


def groups(sizes: list[int], *, seed: int = 0) -> tuple[Vectors, np.ndarray]:
    """Groups of vectors that are nearly the same within a group; the group of each row."""
    draws = np.random.default_rng(seed)
    of_row = np.repeat(np.arange(len(sizes)), sizes)
    matrix = np.eye(16)[of_row] + draws.normal(scale=0.01, size=(len(of_row), 16))
    return Vectors.of(matrix.astype(np.float32)), of_row


def test_the_random_order_depends_on_contents_and_seed_alone():
    contents = [f"{i:064x}" for i in range(50)]
    order = query_rules.random_order(contents, 1)
    assert sorted(order.tolist()) == list(range(50)) and order.tolist() != list(range(50))
    backwards = query_rules.random_order(contents[::-1], 1)
    assert [contents[i] for i in order] == [contents[::-1][i] for i in backwards]
    assert query_rules.random_order(contents, 2).tolist() != order.tolist()


def test_cluster_centres_are_one_of_each_group_the_largest_group_first():
    vectors, of_row = groups([30, 4, 12, 50])
    rows = np.random.default_rng(0).permutation(len(of_row))
    assert of_row[query_rules.cluster_centres(vectors, rows, 4, seed=0)].tolist() == [3, 0, 2, 1]


def test_fewer_images_than_clusters_are_all_centres_also_if_they_are_the_same():
    vectors, _ = groups([5])
    assert query_rules.cluster_centres(vectors, np.arange(5), 40, seed=0).tolist() == [0, 1, 2, 3, 4]
    same = Vectors.of(np.ones((60, 16), np.float32))
    assert len(query_rules.cluster_centres(same, np.arange(60), 40, seed=0)) == 1


def test_rows_are_ordered_by_the_margin_of_the_two_largest_probabilities():
    vectors, _ = groups([1, 1, 1])
    shares = np.array([[0.9, 0.1, 0], [0.4, 0.35, 0.25], [0.5, 0, 0.5]], np.float32)
    assert query_rules.smallest_margins(vectors, np.array([7, 8, 9]), shares, seed=0).tolist() == [9, 8, 7]


def test_ten_images_that_are_alike_do_not_follow_each_other():
    vectors, of_row = groups([5] * 16)
    margin = of_row * 0.05 + np.arange(80) * 1e-4  # by margin alone, all of the first group come first
    shares = np.stack([0.5 + margin / 2, 0.5 - margin / 2], axis=1).astype(np.float32)
    order = query_rules.smallest_margins(vectors, np.arange(80), shares, batch=4, seed=0)
    assert order[0] == 0 and len(set(of_row[order[:4]].tolist())) >= 3
    assert sorted(order.tolist()) == list(range(80))


def test_the_queue_asks_a_random_image_regularly_and_the_most_useful_ones_between():
    random, useful = np.arange(100)[::-1], np.arange(100)
    queue, is_open, asked = Queue(random), np.ones(100, bool), []
    for answered in range(2 * RANDOM_EVERY):
        row = queue.next(is_open, answered, lambda: useful)
        is_open[row] = False
        asked.append(row)
    between = list(range(2 * RANDOM_EVERY - 2))
    expected = [99, *between[: RANDOM_EVERY - 1], 98, *between[RANDOM_EVERY - 1 :]]
    assert asked == expected


def test_the_queue_keeps_a_batch_but_leaves_out_rows_that_were_answered_elsewhere():
    queue, is_open = Queue(np.arange(50)), np.ones(50, bool)
    first = queue.next(is_open, 1, lambda: np.arange(10, 50))
    is_open[[first, 11, 12]] = False
    assert queue.next(is_open, 2, lambda: np.arange(49, 0, -1)) == 13
    queue.put_back(13)
    assert 13 in queue.upcoming(is_open, 3, None) and queue.next(is_open, 3, lambda: None) == 13


def test_the_queue_asks_at_random_while_nothing_is_learnt_and_ends_with_the_last_row():
    queue, is_open = Queue(np.array([2, 0, 1])), np.ones(3, bool)
    asked = []
    for answered in range(3):
        asked.append(queue.next(is_open, answered, lambda: None))
        is_open[asked[-1]] = False
    assert asked == [2, 0, 1] and queue.next(is_open, 3, lambda: None) is None


def test_rows_that_were_opened_after_the_order_was_made_are_asked_too():
    queue, is_open = Queue(np.arange(5)), np.zeros(5, bool)
    is_open[3] = True
    assert queue.next(is_open, 1, lambda: np.array([1, 2])) == 3
