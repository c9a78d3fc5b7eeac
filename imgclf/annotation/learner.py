"""Active learning while a person labels: the model, the order of the images, and the background thread."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from imgclf import svm
from imgclf.annotation import labelling_curve, proposal_model, query_rules
from imgclf.annotation.labelling_curve import Estimate
from imgclf.annotation.proposal_model import Model, Vectors

NO_CLASS = -1


@dataclass(frozen=True)
class Labels:
    """The labels at one moment, by row of the features.

    Attributes
    ----------
    classes : (n,) int, the class of each row; `NO_CLASS` without a label.
    is_open : (n,) bool, whether a person is still to be asked.
    given : (n,) int, number of the change that gave the label; 0 if the image came with it.
    """

    classes: np.ndarray
    is_open: np.ndarray
    given: np.ndarray


@dataclass(frozen=True)
class Learnt:
    """What was learnt from `Labels`.

    Attributes
    ----------
    model : None if fewer than two classes have images.
    order : rows, the most useful to ask first; some may be repeated, or answered already.
    """

    model: Model | None
    order: np.ndarray


class Learning:
    """A model and an order of the images from the newest labels, then their estimated accuracy.

    Attributes
    ----------
    latest : from the newest labels; None at first.
    curve : estimated accuracy by the number of labels; None where the random sample was too small.
    temperature : of the calibration of probabilities, from the newest estimate.
    """

    def __init__(self, vectors: Vectors, random_order: np.ndarray, *, seed: int) -> None:
        self.vectors, self.random_order, self.seed = vectors, random_order, seed
        self.latest: Learnt | None = None
        self.curve: dict[int, Estimate | None] = {}
        self.temperature = 1.0
        self._keys: dict[int, int] = {}  # of the points of the curve
        self._labels: Labels | None = None

    def step(self, labels: Labels) -> bool:
        """Learn from new labels, or else estimate the accuracy at one more point; True if points are left."""
        from threadpoolctl import threadpool_limits

        with threadpool_limits(1):  # other cores are for the thread that a person waits for
            if labels is not self._labels:
                self.latest, self._labels = self.learnt(labels), labels
                same = [count for count in self.curve if self._keys[count] == _key(labels, count)]
                self.curve = {count: self.curve[count] for count in same}
            elif due := self._due(labels):
                self._keys[due[-1]] = _key(labels, due[-1])
                self.curve[due[-1]] = self.estimate(labels, due[-1])
        return bool(self._due(labels))

    def learnt(self, labels: Labels) -> Learnt:
        """Return a model trained on the labels, and the order in which to ask for more."""
        rows, still = np.flatnonzero(labels.classes >= 0), np.flatnonzero(labels.is_open)
        model = proposal_model.fit(self.vectors, rows, labels.classes[rows])
        order = self.random_order
        if model is not None and len(still):
            probabilities = model.probabilities(self.vectors)[still]
            order = query_rules.smallest_margins(self.vectors, still, probabilities, seed=self.seed)
        if len(rows) < query_rules.STARTING:
            order = np.concatenate([self._centres, order])
        return Learnt(model, order)

    @cached_property
    def _centres(self) -> np.ndarray:
        return query_rules.cluster_centres(
            self.vectors, self.random_order, query_rules.STARTING, seed=self.seed
        )

    def _due(self, labels: Labels) -> list[int]:
        """Return the points of the curve that are not estimated yet."""
        is_given = labels.classes >= 0
        came_with = int((is_given & (labels.given == 0)).sum())
        points = {came_with, *labelling_curve.points(int(is_given.sum()))}
        first = max(came_with, labelling_curve.FIRST)
        return [count for count in sorted(points) if count >= first and count not in self.curve]

    def estimate(self, labels: Labels, count: int) -> Estimate | None:
        """Return the accuracy with the first `count` labels; None if too few are a random sample."""
        later = _in_order(labels)[count:]
        classes = labels.classes.copy()
        classes[later] = NO_CLASS
        is_open = labels.is_open.copy()
        is_open[later] = True
        sample = labelling_curve.random_sample(self.random_order, classes >= 0, is_open)
        logits = labelling_curve.out_of_fold(self.vectors, classes, sample)
        if logits is None:
            return None
        if count >= max(self.curve, default=0):
            self.temperature = svm.fit_temperature(logits, classes[sample])
        return labelling_curve.estimate(count, logits, classes[sample])


def _in_order(labels: Labels) -> np.ndarray:
    """Return the rows with a label, in the order in which the labels were given."""
    rows = np.flatnonzero(labels.classes >= 0)
    return rows[np.argsort(labels.given[rows], kind="stable")]


def _key(labels: Labels, count: int) -> int:
    """Return a hash of the first `count` labels; it changes if one of them is corrected or undone."""
    rows = _in_order(labels)[:count]
    return hash((rows.tobytes(), labels.classes[rows].tobytes()))


class Learner:
    """A thread that learns from the newest labels; labels that wait are replaced by newer ones.

    Attributes
    ----------
    error : the error of the latest step; None if it succeeded.
    """

    def __init__(self, step: Callable[[Labels], bool], notify: Callable[[], None]) -> None:
        """Start the thread.

        Parameters
        ----------
        step : called in the thread with the labels; with the same ones again, while it returns True and there
            are no newer ones.
        notify : called in the thread after each step, also after one that failed.
        """
        self.error: BaseException | None = None
        self._step, self._notify = step, notify
        self._condition = threading.Condition()
        self._labels: Labels | None = None  # that wait
        self._is_closed = self._is_learning = False
        self._thread = threading.Thread(target=self._run, name="imgclf-learner", daemon=True)
        self._thread.start()

    def submit(self, labels: Labels) -> None:
        """Hand in labels, and return at once."""
        with self._condition:
            self._labels = labels
            self._condition.notify_all()

    @property
    def is_busy(self) -> bool:
        """Whether labels wait or are learnt from."""
        return not self._is_closed and (self._is_learning or self._labels is not None)

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until the newest labels are learnt; False if that takes longer."""
        with self._condition:
            return self._condition.wait_for(lambda: not self.is_busy, seconds)

    def close(self) -> None:
        """End the thread after the step that it is at."""
        with self._condition:
            self._is_closed, self._labels = True, None
            self._condition.notify_all()
        if threading.current_thread() is not self._thread:  # else garbage collection runs in it
            self._thread.join()

    def _run(self) -> None:
        while (labels := self._next()) is not None:
            while self._take_step(labels) and not self._is_outdated():
                pass

    def _take_step(self, labels: Labels) -> bool:
        """Take a step, and notify; True if steps are left. An error is kept, so that commands can show it."""
        has_more = False
        try:
            has_more = self._step(labels)
            self.error = None
        except Exception as error:
            self.error = error
        try:
            self._notify()
        except Exception as error:
            self.error = self.error or error
        return has_more

    def _next(self) -> Labels | None:
        with self._condition:
            self._is_learning = False
            self._condition.notify_all()
            self._condition.wait_for(lambda: self._is_closed or self._labels is not None)
            labels, self._labels = self._labels, None
            self._is_learning = labels is not None
            return labels

    def _is_outdated(self) -> bool:
        with self._condition:
            return self._is_closed or self._labels is not None
