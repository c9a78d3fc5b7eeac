"""Evaluations of a few images, written by hand or drawn at random."""

import numpy as np
import pytest
from scipy.special import softmax

from imgclf.annotation.annotations import Annotations
from imgclf.evaluation import metrics
from imgclf.evaluation.metrics import Evaluation

TRUTH = ["a", "a", "a", "a", "b", "b", "b", "b", "c", "c"]


PREDICTED = ["a", "a", "a", "b", "b", "b", "c", "c", "c", "c"]


def by_hand(
    truth: list[str] = TRUTH, predicted: list[str] = PREDICTED, labels: str = "abc", *, seed: int = 0
) -> Evaluation:
    """Score 1 for the predicted label and 0 for the others; its probability grows with the row, from 0.5 to 1."""
    chosen = np.array([labels.index(label) for label in predicted])
    scores = np.eye(len(labels), dtype=np.float32)[chosen]
    certain = np.linspace(0.5, 1, len(truth))[:, None]
    probabilities = np.where(scores == 1, certain, (1 - certain) / (len(labels) - 1))
    return metrics.evaluate(
        list(labels), [f"{i}.jpg" for i in range(len(truth))], truth, scores, probabilities, seed=seed
    )


def certain(probability: list[float], correct: list[bool]) -> Evaluation:
    """Two labels; every image is predicted as "a" with a probability in float32, correctly or not."""
    share = np.array(probability, np.float32)
    probabilities = np.stack([share, 1 - share], axis=1)
    paths = [str(i) for i in range(len(correct))]
    return metrics.evaluate(
        ["a", "b"],
        paths,
        ["a" if is_correct else "b" for is_correct in correct],
        probabilities,
        probabilities,
    )


def drawn(seed: int, *, images: int = 80, labels: int = 4) -> Evaluation:
    """Labels and scores drawn at random, with many ties."""
    draws = np.random.default_rng(seed)
    truth = draws.integers(0, labels, images)
    scores = np.round(draws.normal(size=(images, labels)) + np.eye(labels)[truth], 1).astype(np.float32)
    names = [f"label {k}" for k in range(labels)]
    return metrics.evaluate(
        names, list(map(str, range(images))), [names[k] for k in truth], scores, softmax(scores, axis=1)
    )


few_and_many = pytest.mark.parametrize("count", [2, 12])


def labels(count: int) -> list[str]:
    return [f"label {k}" for k in range(count)]


def evaluated(count: int) -> Evaluation:
    """Five images of each of `count` labels; the second of each label is predicted as the next label."""
    truth = np.arange(count).repeat(5)
    scores = np.random.default_rng(0).normal(0, 0.1, (len(truth), count)) + np.eye(count)[truth]
    scores[1::5] += 2 * np.eye(count)[(truth[1::5] + 1) % count]
    names = labels(count)
    return metrics.evaluate(
        names, [f"{i}.jpg" for i in range(len(truth))], [names[k] for k in truth], scores, scores
    )


LABELS = ["blue", "green", "red"]


PROBABILITIES = {  # of blue, green, red
    "blue/b00.jpg": (0.9, 0.06, 0.04),
    "blue/b01.jpg": (0.3, 0.6, 0.1),  # wrong
    "green/g00.jpg": (0.2, 0.5, 0.3),
    "green/g01.jpg": (0.05, 0.1, 0.85),  # wrong, with the highest confidence
    "red/r00.jpg": (0.29, 0.3, 0.41),
    "red/r01.jpg": (0.0, 0.01, 0.99),
}


def scored(notes: Annotations) -> Evaluation:
    sha = {image.path: image.sha256 for image in notes.images}
    probabilities = np.array(list(PROBABILITIES.values()), dtype=np.float32)
    return metrics.evaluate(
        LABELS,
        list(PROBABILITIES),
        [path.partition("/")[0] for path in PROBABILITIES],
        probabilities,
        probabilities,
        sha256=[sha[path] for path in PROBABILITIES],
    )
