"""Which scored images are looked at, and in what order, what a key does to them, and what a threshold leaves."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from imgclf import ImgclfError
from imgclf.annotation.annotations import Annotations, Done
from imgclf.annotation.gallery import DIGITS, label_of_key
from imgclf.data.dataset import UNLABELLED, Image
from imgclf.evaluation import rejection
from imgclf.evaluation.metrics import Evaluation
from imgclf.evaluation.rejection import Rejection

ALL, WRONG, RIGHT = "all images", "wrong", "right"
ANY = ""  # in place of a label
BY_NAME, BY_CONFIDENCE, BY_MARGIN, BY_LOSS = "name", "confidence", "margin", "loss"
FILTERS, SORTINGS = (ALL, WRONG, RIGHT), (BY_NAME, BY_CONFIDENCE, BY_MARGIN, BY_LOSS)

KEYS = (
    ("← ↑ ↓ →", "one back, one on"),
    ("Page ↑ ↓", "ten"),
    ("Home, End", "first, last"),
    ("1 … 9, 0", "give the label of that number"),
    ("U", "no label"),
    ("Space", "label is right, next"),
    ("X", "exclude, or use again"),
    ("Z", "undo"),
    ("W", "only wrong ones"),
    ("R", "only right ones"),
    ("A", "all images again"),
)
STEPS = {"ArrowLeft": -1, "ArrowUp": -1, "ArrowRight": 1, "ArrowDown": 1, "PageUp": -10, "PageDown": 10}


@dataclass(frozen=True)
class Filter:
    """Which images are shown: those that pass all of it."""

    which: str = ALL  # one of FILTERS
    true: str = ANY  # the label that the image was scored under
    predicted: str = ANY
    lowest: float = 0.0  # probability of the predicted label, both ends included
    highest: float = 1.0


class Review:
    """A walk through the images of an evaluation. What it shows stays in its order until `show` or `sort` is called, also when labels change.

    What is right, wrong, or a true label is so by the labels that the images were scored under.

    Attributes
    ----------
    order : rows of the evaluation, of the images that pass the filter, in the order in which they are shown.
    current : index in `order` of the image that is looked at. 0 if there is none.
    threshold : below this probability an image would be rejected, 0 to 1.
    """

    def __init__(self, evaluation: Evaluation, annotations: Annotations) -> None:
        self.evaluation, self.annotations = evaluation, annotations
        self.filter, self.sorting = Filter(), BY_NAME
        self.threshold = 0.0
        self.order: list[int] = []
        self.current = 0
        self._positions = _positions(evaluation, annotations)
        self._arrange()

    @cached_property
    def probability(self) -> np.ndarray:
        """(n,) of the predicted label, 0 to 1."""
        return self.evaluation.probabilities[np.arange(len(self.evaluation.truth)), self.evaluation.predicted]

    @cached_property
    def confidence(self) -> np.ndarray:
        """(n,) the largest probability, 0 to 1."""
        return self.evaluation.probabilities.max(axis=1)

    @cached_property
    def margin(self) -> np.ndarray:
        """(n,) by which the largest probability is above the second largest, 0 to 1."""
        ranked = np.sort(self.evaluation.probabilities, axis=1)[:, -2:]
        return ranked[:, -1] - (ranked[:, 0] if ranked.shape[1] > 1 else 0)

    @cached_property
    def loss(self) -> np.ndarray:
        """(n,) minus the natural logarithm of the probability of the true label: 0 is perfect, infinite where it is 0."""
        with np.errstate(divide="ignore"):
            return (
                -np.log(
                    self.evaluation.probabilities[
                        np.arange(len(self.evaluation.truth)), self.evaluation.truth
                    ]
                )
                + 0.0
            )  # no -0

    def show(self, **changes: str | float) -> None:
        """Change the filter: `which`, `true`, `predicted`, `lowest`, `highest` of `Filter`; what is not given stays."""
        self.filter = replace(self.filter, **changes)
        self._arrange()

    def show_cell(self, true: str, predicted: str) -> None:
        """Show exactly the images of a cell of the confusion matrix."""
        self.filter = Filter(true=true, predicted=predicted)
        self._arrange()

    def show_all(self) -> None:
        """Drop the filter."""
        self.filter = Filter()
        self._arrange()

    def sort(self, by: str) -> None:
        """Show the images in another order, from its first: one of SORTINGS; the least sure, the closest call or the largest loss first."""
        self.sorting = by
        self._arrange()
        self.current = 0

    def _arrange(self) -> None:
        stays, paths = self.at_cursor, self.evaluation.paths
        key = {
            BY_NAME: lambda row: 0,
            BY_CONFIDENCE: lambda row: self.confidence[row],
            BY_MARGIN: lambda row: self.margin[row],
            BY_LOSS: lambda row: -self.loss[row],
        }[self.sorting]
        self.order = sorted(
            np.flatnonzero(self._passes()).tolist(),
            key=lambda row: (key(row), paths[row].rpartition("/")[2], paths[row]),
        )
        self.current = self.order.index(stays) if stays in self.order else 0

    def _passes(self) -> np.ndarray:
        """(n,) bool."""
        chosen, scored = self.filter, self.evaluation
        passes = (self.probability >= chosen.lowest) & (self.probability <= chosen.highest)
        if chosen.which != ALL:
            passes &= scored.correct if chosen.which == RIGHT else ~scored.correct
        for label, column in ((chosen.true, scored.truth), (chosen.predicted, scored.predicted)):
            if label != ANY:
                passes &= column == scored.labels.index(label)
        return passes

    @property
    def at_cursor(self) -> int | None:
        """Row of the image that is looked at; None if there is none."""
        return self.order[self.current] if self.order else None

    def go(self, to: int) -> None:
        """Look at the image of this index in `order`, or the nearest."""
        self.current = max(0, min(to, len(self.order) - 1))

    def image(self, row: int) -> Image | None:
        """The image of a row as it is now; None if it is not in the data set."""
        position = self._positions[row]
        return None if position is None else self.annotations.images[position]

    def is_relabelled(self, row: int) -> bool:
        """Whether the image stands under another label than it was scored under."""
        image = self.image(row)
        return image is not None and image.label != self.evaluation.labels[self.evaluation.truth[row]]

    @property
    def rejection(self) -> Rejection:
        """What the threshold rejects, and the accuracy of the rest."""
        return rejection.at(self.evaluation, self.threshold)

    def is_rejected(self, row: int) -> bool:
        """Whether the threshold rejects the image."""
        return bool(self.confidence[row] < self.threshold)

    def relabel(self, label: str) -> Done:
        """Give the image another label than the wrong one it has, and go on to the next."""
        return self._apply(lambda position: self.annotations.relabel([position], label))

    def exclude(self) -> Done:
        """Exclude the image, or use it again if a person excluded it, and go on to the next."""

        def toggle(position: int) -> Done:
            return (
                self.annotations.include
                if self.annotations.is_excluded(position)
                else self.annotations.exclude
            )([position])

        return self._apply(toggle)

    def confirm(self) -> Done:
        """Write down that the image's label is right, and go on to the next."""
        return self._apply(lambda position: self.annotations.confirm([position]))

    def undo(self) -> Done:
        """Take the latest change back, and look at its image if it is among those shown."""
        done = self.annotations.undo()
        rows = [index for index, row in enumerate(self.order) if self._positions[row] in done.positions]
        if rows:
            self.go(rows[0])
        return done

    def _apply(self, change: Callable[[int], Done]) -> Done:
        row = self.at_cursor
        if row is None:
            raise ImgclfError("no image is shown")
        position = self._positions[row]
        if position is None:
            raise ImgclfError(
                f"{self.evaluation.paths[row]}: is not an image of the data set any more; run 01_prepare_data and 05_evaluate again"
            )
        done = change(position)
        self.go(self.current + 1)
        return done

    def press(self, key: str) -> str:
        """Do what a key stands for (KEYS); gives a sentence about it if something was changed.

        Raises
        ------
        ImgclfError : it cannot be done.
        """
        if key in DIGITS:
            return str(self.relabel(label_of_key(key, self.annotations.labels)))
        changes = {
            "u": lambda: self.relabel(UNLABELLED),
            "x": self.exclude,
            "z": self.undo,
            " ": self.confirm,
        }
        if key in changes:
            return str(changes[key]())
        looks = {
            "w": lambda: self.show(which=WRONG),
            "r": lambda: self.show(which=RIGHT),
            "a": self.show_all,
            "Home": lambda: self.go(0),
            "End": lambda: self.go(len(self.order)),
        }
        if key in looks:
            looks[key]()
        elif key in STEPS:
            self.go(self.current + STEPS[key])
        return ""


def _positions(evaluation: Evaluation, annotations: Annotations) -> list[int | None]:
    """For each row the position of its image: of that content, and of that path if several have it. None if there is none, or no telling."""
    files = annotations.dataset.files
    by_path = {image.path: i for i, image in enumerate(files)}
    by_content = defaultdict(list)
    for i, image in enumerate(files):
        by_content[image.sha256].append(i)

    def find(path: str, sha256: str | None) -> int | None:
        i = by_path.get(path)
        if i is not None and sha256 in (None, files[i].sha256):
            return i
        same = by_content.get(sha256, [])
        return same[0] if len(same) == 1 else None

    contents = evaluation.sha256 or [None] * len(evaluation.paths)
    return [find(path, sha256) for path, sha256 in zip(evaluation.paths, contents, strict=True)]
