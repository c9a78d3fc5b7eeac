"""The state of the results browser: filter, sort order, current image, threshold, a command for each key."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from imgclf import ImgclfError
from imgclf.annotation.annotations import Annotations, ChangeResult
from imgclf.annotation.gallery import DIGITS, label_of_key
from imgclf.data.dataset import Image
from imgclf.data.labels import NONE, UNLABELLED
from imgclf.evaluation import rejection
from imgclf.evaluation.metrics import Evaluation
from imgclf.evaluation.rejection import Rejection

ALL, WRONG, RIGHT = "all images", "wrong", "right"
ANY = ""  # in place of a label
BY_NAME, BY_CONFIDENCE, BY_MARGIN, BY_LOSS = "name", "confidence", "margin", "loss"
FILTERS, SORTINGS = (ALL, WRONG, RIGHT), (BY_NAME, BY_CONFIDENCE, BY_MARGIN, BY_LOSS)

KEYS = (
    ("← ↑ ↓ →", "previous, next image"),
    ("Page ↑ ↓", "10 back, 10 forward"),
    ("Home, End", "first, last image"),
    ("1 … 9, 0", "set the label with this number"),
    ("U", "remove the label"),
    ("N", "none of the labels"),
    ("Space", "confirm the label, next image"),
    ("X", "exclude, or include again"),
    ("Z", "undo"),
    ("Y", "redo"),
    ("F", "enlarge the image"),
    ("M", "show or hide its activation map"),
    ("W", "show wrong predictions"),
    ("R", "show right predictions"),
    ("A", "clear the filter"),
)
STEPS = {"ArrowLeft": -1, "ArrowUp": -1, "ArrowRight": 1, "ArrowDown": 1, "PageUp": -10, "PageDown": 10}


@dataclass(frozen=True)
class Filter:
    """The conditions that an image must meet to be shown."""

    prediction: str = ALL  # one of FILTERS
    true: str = ANY  # the label that the image was evaluated under
    predicted: str = ANY
    min_probability: float = 0.0  # of the predicted label, inclusive
    max_probability: float = 1.0


class Review:
    """The images of an evaluation, one at a time, with a filter and a sort order.

    Filter and sort order are applied when they are set, not when labels change. A relabelled image therefore
    keeps its place. True labels, and so which predictions are right or wrong, are those of the evaluation.

    Attributes
    ----------
    order : rows of the evaluation whose images match the filter, in sort order.
    current : index in `order` of the current image. 0 if there is none.
    threshold : images with a confidence below it would be rejected, 0 to 1.
    """

    def __init__(self, evaluation: Evaluation, annotations: Annotations) -> None:
        self.evaluation, self.annotations = evaluation, annotations
        self.filter, self.sorting = Filter(), BY_NAME
        self.threshold = 0.0
        self.order: list[int] = []
        self.current = 0
        self._positions = _positions(evaluation, annotations)
        self._update_order()

    @cached_property
    def probability(self) -> np.ndarray:
        """(n,) probability of the predicted label, 0 to 1."""
        return self.evaluation.probabilities[np.arange(len(self.evaluation.truth)), self.evaluation.predicted]

    @cached_property
    def confidence(self) -> np.ndarray:
        """(n,) largest probability, 0 to 1."""
        return self.evaluation.probabilities.max(axis=1)

    @cached_property
    def margin(self) -> np.ndarray:
        """(n,) largest minus second largest probability, 0 to 1."""
        ranked = np.sort(self.evaluation.probabilities, axis=1)[:, -2:]
        return ranked[:, -1] - (ranked[:, 0] if ranked.shape[1] > 1 else 0)

    @cached_property
    def loss(self) -> np.ndarray:
        """(n,) cross-entropy loss: minus the natural logarithm of the true label's probability.

        0 is perfect; infinite where that probability is 0.
        """
        rows = np.arange(len(self.evaluation.truth))
        with np.errstate(divide="ignore"):
            return -np.log(self.evaluation.probabilities[rows, self.evaluation.truth]) + 0.0  # no -0

    def filter_by(self, **changes: Any) -> None:
        """Change some fields of the filter (see `Filter`), and go to the first image."""
        self.filter = replace(self.filter, **changes)
        self._update_order()

    def show_cell(self, true: str, predicted: str) -> None:
        """Show the images of one cell of the confusion matrix, and no others."""
        self.filter = Filter(true=true, predicted=predicted)
        self._update_order()

    def clear_filter(self) -> None:
        """Show all images."""
        self.filter = Filter()
        self._update_order()

    def sort_by(self, name: str) -> None:
        """Sort the images by one of SORTINGS, and go to the first.

        Confidence and margin are sorted in ascending order, the loss in descending order.
        """
        self.sorting = name
        self._update_order()

    def _update_order(self) -> None:
        paths = self.evaluation.paths
        keys: dict[str, Callable[[int], float]] = {
            BY_NAME: lambda row: 0.0,
            BY_CONFIDENCE: lambda row: self.confidence[row],
            BY_MARGIN: lambda row: self.margin[row],
            BY_LOSS: lambda row: -self.loss[row],
        }
        key = keys[self.sorting]
        self.order = sorted(
            np.flatnonzero(self._matches()).tolist(),
            key=lambda row: (key(row), paths[row].rpartition("/")[2], paths[row]),
        )
        self.current = 0

    def _matches(self) -> np.ndarray:
        """Return (n,) bool: whether each image matches the filter."""
        chosen, evaluation = self.filter, self.evaluation
        matches = (self.probability >= chosen.min_probability) & (self.probability <= chosen.max_probability)
        if chosen.prediction != ALL:
            matches &= evaluation.correct if chosen.prediction == RIGHT else ~evaluation.correct
        for label, column in ((chosen.true, evaluation.truth), (chosen.predicted, evaluation.predicted)):
            if label != ANY:
                matches &= column == evaluation.labels.index(label)
        return matches

    @property
    def current_row(self) -> int | None:
        """Row of the current image; None if there is none."""
        return self.order[self.current] if self.order else None

    def move_to(self, index: int) -> None:
        """Go to the image at an index in `order`, or the nearest one."""
        self.current = max(0, min(index, len(self.order) - 1))

    def image(self, row: int) -> Image | None:
        """Return the image of a row in its current state; None if it is not in the data set."""
        position = self._positions[row]
        return None if position is None else self.annotations.images[position]

    def is_relabelled(self, row: int) -> bool:
        """Whether the image has another label than in the evaluation."""
        image = self.image(row)
        return image is not None and image.label != self.evaluation.labels[self.evaluation.truth[row]]

    @property
    def rejection(self) -> Rejection:
        """The images that the threshold rejects, and the accuracy on the others."""
        return rejection.at(self.evaluation, self.threshold)

    def is_rejected(self, row: int) -> bool:
        """Whether the threshold rejects the image."""
        return bool(self.confidence[row] < self.threshold)

    def relabel(self, label: str) -> ChangeResult:
        """Set the label of the current image, and go to the next one."""
        return self._apply(lambda position: self.annotations.relabel([position], label))

    def exclude(self) -> ChangeResult:
        """Exclude the current image, or include it again if a person excluded it, and go to the next one."""

        def toggle(position: int) -> ChangeResult:
            if self.annotations.is_excluded(position):
                return self.annotations.include([position])
            return self.annotations.exclude([position])

        return self._apply(toggle)

    def confirm(self) -> ChangeResult:
        """Confirm the label of the current image, and go to the next one."""
        return self._apply(lambda position: self.annotations.confirm([position]))

    def undo(self) -> ChangeResult:
        """Undo the latest change, and go to its first image."""
        return self._show(self.annotations.undo())

    def redo(self) -> ChangeResult:
        """Make the change again that was undone last, and go to its first image."""
        return self._show(self.annotations.redo())

    def _show(self, result: ChangeResult) -> ChangeResult:
        """Go to the first changed image of the evaluation; if the filter hides it, show all images."""
        changed = set(result.positions)
        rows = {row for row, position in enumerate(self._positions) if position in changed}
        if rows and rows.isdisjoint(self.order):
            self.clear_filter()
        self.current = next((index for index, row in enumerate(self.order) if row in rows), self.current)
        return result

    def _apply(self, change: Callable[[int], ChangeResult]) -> ChangeResult:
        row = self.current_row
        if row is None:
            raise ImgclfError("no image is shown; clear the filter first")
        position = self._positions[row]
        if position is None:
            path = self.evaluation.paths[row]
            raise ImgclfError(
                f"{path}: is no longer in the data set; run 01_prepare_data and 05_evaluate again"
            )
        result = change(position)
        self.move_to(self.current + 1)
        return result

    def press(self, key: str, *, shift: bool = False) -> str:
        """Execute the command of a key (see `KEYS`), and return a message if it changed something.

        Raises
        ------
        ImgclfError : the change is not possible.
        """
        if key in DIGITS:
            return str(self.relabel(label_of_key(key, self.annotations.labels)))
        changes = {
            "u": lambda: self.relabel(UNLABELLED),
            "n": lambda: self.relabel(NONE),
            "x": self.exclude,
            "z": self.redo if shift else self.undo,
            "y": self.redo,
            " ": self.confirm,
        }
        if key in changes:
            return str(changes[key]())
        views: dict[str, Callable[[], None]] = {
            "w": lambda: self.filter_by(prediction=WRONG),
            "r": lambda: self.filter_by(prediction=RIGHT),
            "a": self.clear_filter,
            "Home": lambda: self.move_to(0),
            "End": lambda: self.move_to(len(self.order)),
        }
        if key in views:
            views[key]()
        elif key in STEPS:
            self.move_to(self.current + STEPS[key])
        return ""


def _positions(evaluation: Evaluation, annotations: Annotations) -> list[int | None]:
    """Return the position in the data set of each row's image; None if it is not there, or ambiguous.

    Images are matched by content. If several files have the same content, the one at the row's path is used.
    An evaluation without hashes is matched by path alone.
    """
    files = annotations.dataset.files
    by_path = {image.path: i for i, image in enumerate(files)}
    by_content: dict[str | None, list[int]] = defaultdict(list)
    for i, image in enumerate(files):
        by_content[image.sha256].append(i)

    def find(path: str, sha256: str | None) -> int | None:
        i = by_path.get(path)
        if i is not None and sha256 in (None, files[i].sha256):
            return i
        same = by_content.get(sha256, [])
        return same[0] if len(same) == 1 else None

    contents: Sequence[str | None] = evaluation.sha256 or [None] * len(evaluation.paths)
    return [find(path, sha256) for path, sha256 in zip(evaluation.paths, contents, strict=True)]
