"""Labelling, simulated on images whose labels are known: which accuracy a number of labels gives."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from imgclf import ImgclfError
from imgclf.annotation import proposal_model, query_rules
from imgclf.annotation.labelling_curve import Estimate
from imgclf.annotation.learner import NO_CLASS, Labels, Learning
from imgclf.annotation.proposal_model import Vectors
from imgclf.annotation.query_rules import Queue
from imgclf.data.labels import labels_of
from imgclf.features import Features

PROPOSED, RANDOM = "proposed", "random"  # the orders in which images are labelled
ORDERS = (PROPOSED, RANDOM)


@dataclass(frozen=True)
class Point:
    """The accuracy after some labels were given.

    Attributes
    ----------
    labels : number of images with a label.
    accuracy : share of the test images that the model classifies correctly, 0 to 1; NaN before it can be
        trained.
    estimate : what a person would be shown; None if it was not requested, or there are too few labels.
    """

    labels: int
    accuracy: float
    estimate: Estimate | None = None


def simulate(
    train: Features,
    test: Features,
    *,
    order: str = PROPOSED,
    at: Sequence[int],
    seed: int = 0,
    with_estimates: bool = False,
) -> list[Point]:
    """Return the accuracy on test images while training images are labelled as `Proposals` asks for them.

    It begins without any label, every answer is right, and the model learns before each batch of images.

    Parameters
    ----------
    order : "proposed", or "random" for comparison.
    at : numbers of labels at which the accuracy is measured; those above the number of images are left out.
    with_estimates : whether the accuracy is estimated too, as while a person labels; takes several times as
        long.

    Raises
    ------
    ImgclfError : the order is none of these.
    """
    from threadpoolctl import threadpool_limits

    if order not in ORDERS:
        raise ImgclfError(f"order='{order}': must be one of {', '.join(ORDERS)}; set one of them")
    _, truth = np.unique([*train.labels, *test.labels], return_inverse=True)
    truth, expected = truth[: len(train.images)], truth[len(train.images) :]
    vectors, of_test = Vectors.of(train.matrix), Vectors.of(test.matrix)
    random = query_rules.random_order([image.sha256 for image in train.images], seed)
    learning, queue = Learning(vectors, random, seed=seed), Queue(random)
    labels = Labels(np.full(len(truth), NO_CLASS), np.ones(len(truth), bool), np.zeros(len(truth), np.int64))
    points = []
    with threadpool_limits(1):  # threads would wait for each other: the models are small
        for given in range(1, min(max(at), len(truth)) + 1):
            row = random[given - 1]
            if order == PROPOSED:
                row = queue.next(labels.is_open, given - 1, lambda: learning.learnt(labels).order)
            labels.classes[row], labels.is_open[row], labels.given[row] = truth[row], False, given
            if given in at:
                accuracy = _accuracy(vectors, labels, of_test, expected)
                estimate = learning.estimate(labels, given) if with_estimates else None
                points.append(Point(given, accuracy, estimate))
    return points


def compare(
    features: Features, clusters: Mapping[str, str], *, at: Sequence[int], seed: int = 0
) -> dict[str, dict[int, float]]:
    """Return the accuracy at some numbers of labels, for each of `ORDERS`; empty without two clusters.

    The images of half of the clusters are labelled, see `simulate`, and the others are the test images.

    Parameters
    ----------
    features : of the images; those without a label are left out.
    clusters : the name of each path's cluster, see `split.clusters`.
    """
    labelled = features.subset(image for image in features.images if labels_of(image))
    names = sorted({clusters[image.path] for image in labelled.images})
    half = {names[row] for row in query_rules.random_order(names, seed)[: len(names) // 2]}
    if not half:
        return {}
    train, test = (
        labelled.subset(image for image in labelled.images if (clusters[image.path] in half) == is_train)
        for is_train in (True, False)
    )
    simulated = {order: simulate(train, test, order=order, at=at, seed=seed) for order in ORDERS}
    return {order: {each.labels: each.accuracy for each in points} for order, points in simulated.items()}


def _accuracy(vectors: Vectors, labels: Labels, test: Vectors, expected: np.ndarray) -> float:
    rows = np.flatnonzero(labels.classes >= 0)
    model = proposal_model.fit(vectors, rows, labels.classes[rows])
    if model is None:
        return float("nan")
    return float((model.classes[model.logits(test).argmax(axis=1)] == expected).mean())
