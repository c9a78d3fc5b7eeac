"""Accuracy over the number of labels: estimated while a person labels, and simulated on known labels."""

from dataclasses import dataclass

import numpy as np

from imgclf.annotation import proposal_model
from imgclf.annotation.proposal_model import Vectors
from imgclf.evaluation import intervals

FOLDS = 5
FEWEST = 10  # labelled images in the sample, below which there is no estimate
FIRST, GROWTH = 20, 1.1  # labels given at the first point of the curve, and from one point to the next


@dataclass(frozen=True)
class Estimate:
    """The accuracy of a model that was trained on the labels given so far.

    Attributes
    ----------
    labels : number of images with a label.
    accuracy : share of the images of a random sample that it classifies correctly, 0 to 1.
    low, high : ends of the 95 % interval.
    images : number of images in the sample.
    """

    labels: int
    accuracy: float
    low: float
    high: float
    images: int

    def __str__(self) -> str:
        return (
            f"{self.labels} labels: accuracy {self.accuracy:.2f} ({self.low:.2f} to {self.high:.2f}), "
            f"estimated on {self.images} random images"
        )


def points(labels: int) -> list[int]:
    """Return the numbers of labels at which the accuracy is estimated, ascending: 20, 22, 24, ..."""
    found, at = [], FIRST
    while at <= labels:
        found.append(at)
        at = max(at + 2, round(at * GROWTH))
    return found


def random_sample(random_order: np.ndarray, is_labelled: np.ndarray, is_open: np.ndarray) -> np.ndarray:
    """Return the labelled rows that are a random sample of all: the first in random order, up to one without.

    Images that a person labelled because the model was unsure are harder than others: on these alone the
    estimate would be too low. In a random order that does not depend on labels, the first images are a random
    sample once all of them are labelled, for whatever reason each of them was.

    Parameters
    ----------
    random_order : (n,) int, the rows. is_labelled, is_open : (n,) bool, by row: has a label; has none yet.
    """
    ordered = random_order[is_labelled[random_order] | is_open[random_order]]
    unlabelled = np.flatnonzero(~is_labelled[ordered])
    return ordered[: unlabelled[0]] if len(unlabelled) else ordered


def out_of_fold(vectors: Vectors, classes: np.ndarray, sample: np.ndarray) -> np.ndarray | None:
    """Return out-of-fold logits of a sample of the labelled rows, (m, k) float32; None if it is too small.

    The sample is divided into folds; each is scored by a model that was trained on all other labelled rows.
    The logit of a class without another image is -inf.

    Parameters
    ----------
    classes : (n,) int, of each row; negative without a label.
    sample : (m,) int, rows that have a label.
    """
    if len(sample) < FEWEST:
        return None
    logits = np.full((len(sample), classes.max() + 1), -np.inf, np.float32)
    rows = np.flatnonzero(classes >= 0)
    for fold in range(FOLDS):
        held_out = sample[fold::FOLDS]
        trained = rows[~np.isin(rows, held_out)]
        model = proposal_model.fit(vectors, trained, classes[trained])
        if model is None:
            return None
        places = np.arange(fold, len(sample), FOLDS)
        logits[np.ix_(places, model.classes)] = model.logits(vectors.subset(held_out))
    return logits


def estimate(labels: int, logits: np.ndarray, truth: np.ndarray) -> Estimate:
    """Return the accuracy with a number of labels, from out-of-fold logits of a random sample.

    It tended to be too low, by two percentage points on photographs (benchmarks/RESULTS.md). A likely cause:
    each fold is predicted by a model that lacks its images, some of which were asked since they are useful.

    Parameters
    ----------
    logits : (m, k). truth : (m,) int, the classes that a person gave.
    """
    share = float((logits.argmax(axis=1) == truth).mean())
    low, high = intervals.proportion(share, len(truth))
    return Estimate(labels, share, low, high, len(truth))
