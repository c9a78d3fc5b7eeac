"""Labels proposed for images without one, the most useful first; a person accepts or corrects each."""

import sys
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from threading import RLock

import numpy as np

from imgclf import ImgclfError
from imgclf.annotation import query_rules
from imgclf.annotation.annotations import Annotations, ChangeResult
from imgclf.annotation.gallery import DIGITS, NOT_REVIEWED, label_of_key
from imgclf.annotation.labelling_curve import Estimate
from imgclf.annotation.learner import NO_CLASS, Labels, Learner, Learning
from imgclf.annotation.proposal_model import Model, Vectors
from imgclf.annotation.query_rules import Queue
from imgclf.data.dataset import COPY, NO_LABEL, UNLABELLED
from imgclf.data.labels import NONE, labels_of
from imgclf.features import Features

POOLS = (UNLABELLED, NOT_REVIEWED)

KEYS = (
    ("Space", "accept the proposed label"),
    ("1 … 9, 0", "set the label with this number"),
    ("N", "none of the labels"),
    ("X", "exclude"),
    ("S", "skip, ask again at the end"),
    ("Z", "undo"),
    ("Y", "redo"),
)


class Proposals:
    """Labels proposed for images without one, most useful first; the model learns from each answer.

    Answers are written to disk at once, by `Annotations`. A model learns in a background thread; the next
    image does not wait for it. `current` and `proposal` change only by a command, or by a change of the image
    in another window, so a person accepts the proposal that they see.

    One image in six is drawn at random, to estimate the accuracy. The others are cluster centres until
    `query_rules.STARTING` labels are given, then those of the smallest margin. A person tends to accept what
    is proposed, right or wrong; the estimate does not account for that.

    Attributes
    ----------
    annotations : the images and their labels.
    current : position in `annotations.images` of the image to answer; None if all are done.
    observers : called when the proposals have changed, also from the background thread: they may only set
        traits of widgets.
    """

    def __init__(
        self, annotations: Annotations, features: Features, *, seed: int = 0, pool: str = UNLABELLED
    ) -> None:
        """Start to learn from the images that have a label.

        Parameters
        ----------
        features : of images of the data set; an image without features is asked last, without a proposal.
        pool : "unlabelled"; or "not reviewed": the images that no person has confirmed or changed, since
            their labels come from a search.

        Raises
        ------
        ImgclfError : the pool is none of these.
        """
        if pool not in POOLS:
            raise ImgclfError(f"pool='{pool}': must be one of {', '.join(POOLS)}; set one of them")
        if (earlier := _opened.get(annotations)) and (still_open := earlier()):  # by this cell, run before
            still_open.close()
        _opened[annotations] = weakref.ref(self)
        self.annotations, self.pool = annotations, pool
        self.observers: list[Callable[[], None]] = []
        self.current: int | None = None
        self._proposal: tuple[str, float] | None = None
        self._names: list[str] = []  # by class
        self._skips: list[tuple[int, int]] = []  # the latest change before, and the position
        self._lock = RLock()
        self._assign_rows(features)
        self._update(range(len(annotations.images)))
        order = query_rules.random_order([image.sha256 for image in features.images], seed)
        self._queue = Queue(order)
        self._learning = Learning(self._vectors, order, seed=seed)
        # Neither the thread nor the annotations keep the proposals alive: without them, the thread ends.
        self._learner = Learner(self._learning.step, _weakly(self._notify))
        observer = _weakly(self._on_change)
        annotations.observers.append(observer)
        self._finalizer = weakref.finalize(self, _end, self._learner, annotations, observer)
        self._submit()
        self._advance()

    def _assign_rows(self, features: Features) -> None:
        """Assign a row of the features to each image, by content; identical files share one."""
        row_of: dict[str, int] = {}
        for row, image in enumerate(features.images):
            row_of.setdefault(image.pixels_key, row)
        images = self.annotations.images
        self._row = [row_of.get(image.pixels_key, -1) if image.sha256 else -1 for image in images]
        self._positions: dict[int, list[int]] = {}  # by row
        self._copies: dict[str, list[int]] = {}  # by content
        for position, (row, image) in enumerate(zip(self._row, images, strict=True)):
            self._positions.setdefault(row, []).append(position)
            self._copies.setdefault(image.sha256, []).append(position)
        self._vectors = Vectors.of(features.matrix)
        n = len(features.images)
        self._classes, self._given = np.full(n, NO_CLASS), np.zeros(n, np.int64)
        self._is_open, self._is_skipped = np.zeros(n, bool), np.zeros(n, bool)
        self._without_features: dict[int, None] = {}  # positions in the pool, in the order to ask them

    # The state of each image

    def _is_in_pool(self, position: int) -> bool:
        image = self.annotations.images[position]
        if self.pool == UNLABELLED:  # also the copies of such images
            return image.label == UNLABELLED and image.excluded.startswith((NO_LABEL, COPY[0]))
        return image.excluded in ("", NO_LABEL) and not self.annotations.is_reviewed(position)

    def _is_labelled(self, position: int) -> bool:
        image = self.annotations.images[position]
        is_used = not image.excluded or image.excluded.startswith(COPY)
        is_used = is_used and image.label != UNLABELLED
        return is_used and (self.pool == UNLABELLED or self.annotations.is_reviewed(position))

    def _update(self, positions: Iterable[int]) -> None:
        """Bring the state of some images up to date."""
        for row in dict.fromkeys(self._row[position] for position in positions):
            if row >= 0:
                self._update_row(row)
        for position in positions:
            if self._row[position] < 0 and self._is_in_pool(position):
                self._without_features[position] = None
            else:
                self._without_features.pop(position, None)

    def _update_row(self, row: int) -> None:
        positions = self._positions[row]
        self._is_open[row] = any(map(self._is_in_pool, positions))
        self._classes[row], self._given[row] = NO_CLASS, 0
        for position in filter(self._is_labelled, positions):
            steps = self.annotations.history(position)
            change = steps[-1].change if steps else 0
            if change >= self._given[row]:  # of copies with several labels, the latest
                self._given[row] = change
                self._classes[row] = self._class_of(self.annotations.images[position].label)

    def _class_of(self, label: str) -> int:
        if label not in self._names:
            self._names.append(label)
        return self._names.index(label)

    def _is_label(self, label: str) -> bool:
        return label in self.annotations.labels or label == NONE

    def _submit(self) -> None:
        self._learner.submit(Labels(self._classes.copy(), self._askable, self._given.copy()))

    def _on_change(self, positions: Sequence[int]) -> None:
        """Follow a change of labels, by this window or another one."""
        with self._lock:
            self._update(positions)
            self._submit()
            if self.current is None or not self._is_in_pool(self.current):
                self._advance()
            elif self._proposal and not self._is_label(self._proposal[0]):
                self._proposal = None
        self._notify()

    def _notify(self) -> None:
        for observer in list(self.observers):
            observer()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until the model has learnt from all answers so far; False if that takes longer."""
        return self._learner.wait(seconds)

    @property
    def error(self) -> BaseException | None:
        """What learning failed with; None if it did not."""
        return self._learner.error

    def close(self) -> None:
        """End the background thread. Labels can still be given; the model no longer learns from them."""
        self._finalizer()

    # What is asked

    @property
    def left(self) -> int:
        """Number of images without an answer; identical files count once."""
        return int(self._is_open.sum()) + len(self._without_features)

    @property
    def answered(self) -> int:
        """Number of images with a label, from which the model learns; identical files count once."""
        return int((self._classes >= 0).sum())

    @property
    def proposal(self) -> tuple[str, float] | None:
        """The label proposed for `current`, and its probability; None before two labels have images.

        Once it is read, it stays until the next image is shown.
        """
        with self._lock:
            if self._proposal is None and self.current is not None:
                self._proposal = self.proposal_for(self.current)
            return self._proposal

    def proposal_for(self, position: int) -> tuple[str, float] | None:
        """Return the label proposed for an image and its probability, by the latest model.

        In the pool "not reviewed" it is the image's own label until `query_rules.STARTING` answers: a model
        of few answers is less accurate.
        """
        own = labels_of(self.annotations.images[position]) if self.pool == NOT_REVIEWED else ()
        if own and self.answered < query_rules.STARTING:
            return own[0], self._share_kept()
        row, model = self._row[position], self._model
        if row < 0 or model is None:
            return None
        vector = self._vectors.subset(np.array([row]))
        [probabilities] = model.probabilities(vector, temperature=self._learning.temperature)
        for best in np.argsort(-probabilities, kind="stable").tolist():
            label = self._names[int(model.classes[best])]
            if self._is_label(label):  # it may have been renamed since
                return label, float(probabilities[best])
        return None

    def _share_kept(self) -> float:
        """Return the expected share of labels that a person keeps, by Laplace's rule of succession."""
        reviewed = [
            self.annotations.history(position)
            for row in np.flatnonzero(self._classes >= 0).tolist()
            for position in self._positions[row]
            if self._is_labelled(position)
        ]
        kept = sum(all(step.action != "relabel" for step in steps) for steps in reviewed)
        return (kept + 1) / (len(reviewed) + 2)

    @property
    def _model(self) -> Model | None:
        return self._learning.latest.model if self._learning.latest else None

    @property
    def _askable(self) -> np.ndarray:
        """(n,) bool, the rows that are open and not skipped."""
        return self._is_open & ~self._is_skipped

    def upcoming(self, most: int) -> list[int]:
        """Return the positions of images of which one is probably the next, to load them in advance."""
        with self._lock:
            latest, is_open = self._learning.latest, self._askable
            if self.current is not None and self._row[self.current] >= 0:
                is_open[self._row[self.current]] = False
            rows = self._queue.upcoming(is_open, most, latest.order if latest else None)
            return list(map(self._position_of, rows))

    def _position_of(self, row: int) -> int:
        """Return the position of the first image of an open row."""
        return next(filter(self._is_in_pool, self._positions[row]))

    def _advance(self) -> None:
        self._proposal, self.current = None, self._next()

    def _next(self) -> int | None:
        latest = self._learning.latest
        row = self._queue.next(self._askable, self.answered, lambda: latest.order if latest else None)
        if row is not None:
            return self._position_of(row)
        if self._without_features:
            return next(iter(self._without_features))
        if self._is_skipped.any():  # no other image is left
            self._is_skipped[:] = False
            return self._next()
        return None

    # Commands for the current image

    def accept(self) -> ChangeResult:
        """Give the current image the proposed label.

        Raises
        ------
        ImgclfError : there is no image, or no proposal yet.
        """
        position, proposal = self._current, self.proposal
        if proposal is None:
            path = self.annotations.images[position].path
            raise ImgclfError(f"{path}: no label is proposed for it yet; give it one by its number")
        return self.relabel(proposal[0])

    def relabel(self, label: str) -> ChangeResult:
        """Give the current image a label, and go to the next one. Identical files get it, too."""
        return self.label_all([self._current], label)

    def none(self) -> ChangeResult:
        """Record that the current image has none of the labels, and go to the next one."""
        return self.relabel(NONE)

    def add_label(self, name: str, positions: Sequence[int] | None = None) -> ChangeResult:
        """Create a label, and give it to images and identical files; by default to the current image."""
        positions = self._with_copies([self._current] if positions is None else positions)
        return self._change(lambda: self.annotations.add_label(name, positions))

    def exclude(self) -> ChangeResult:
        """Exclude the current image, and go to the next one."""
        return self._change(lambda: self.annotations.exclude(self._with_copies([self._current])))

    @property
    def _current(self) -> int:
        if self.current is None:
            raise ImgclfError("no image is left to label; undo brings the last one back")
        return self.current

    def _change(self, change: Callable[[], ChangeResult]) -> ChangeResult:
        with _responsive():
            return change()

    def _with_copies(self, positions: Iterable[int]) -> list[int]:
        """Return the positions, and those of identical files in the pool or excluded within the label."""
        images, found = self.annotations.images, dict[int, None]()
        for position in positions:
            label, sha256 = images[position].label, images[position].sha256
            found[position] = None
            for i in self._copies[sha256] if sha256 else ():
                is_excluded = images[i].excluded.startswith(COPY[0]) and images[i].label == label
                if is_excluded or self._is_in_pool(i):
                    found[i] = None
        return list(found)

    def skip(self) -> None:
        """Go to the next image; this one is asked again when no other is left."""
        with self._lock:
            position = self._current
            self._skips.append((self._latest_change, position))
            if self._row[position] >= 0:
                self._is_skipped[self._row[position]] = True
            else:
                self._without_features[position] = self._without_features.pop(position)  # the last
            self._advance()
        self._notify()

    def undo(self) -> ChangeResult:
        """Undo the latest change, or a later skip of this window, and return to its image.

        Raises
        ------
        ImgclfError : there is no change left to undo.
        """
        if self._skips and self._skips[-1][0] >= self._latest_change:
            _, skipped = self._skips.pop()
            result = ChangeResult((skipped,), f"{self.annotations.images[skipped].path}: asked again")
        else:
            result = self._change(self.annotations.undo)
        self._return_to(result.positions)
        return result

    @property
    def _latest_change(self) -> int:
        return max(self.annotations.journal.active, default=0)

    def redo(self) -> ChangeResult:
        """Make the change again that was undone last.

        Raises
        ------
        ImgclfError : there is no such change.
        """
        return self._change(self.annotations.redo)

    def _return_to(self, positions: Sequence[int]) -> None:
        """Ask the first of some images that is in the pool; the current one after it."""
        with self._lock:
            rows = [self._row[position] for position in positions if self._row[position] >= 0]
            self._is_skipped[rows] = False
            back = next(filter(self._is_in_pool, positions), None)
            if back is not None and back != self.current:
                if self.current is not None and self._row[self.current] >= 0:
                    self._queue.put_back(self._row[self.current])
                self._proposal, self.current = None, back
        self._notify()

    def press(self, key: str, *, shift: bool = False) -> str:
        """Execute the command of a key (see `KEYS`), and return a message if it changed something.

        Raises
        ------
        ImgclfError : the change is not possible.
        """
        if key in DIGITS:
            result = self.relabel(label_of_key(key, self.annotations.labels))
        elif key in (commands := self._commands(shift)):
            result = commands[key]()
        else:
            if key == "s":
                self.skip()
            return ""
        return f"{result}; nothing is learnt: {self.error!r}" if self.error else str(result)

    def _commands(self, shift: bool) -> dict[str, Callable[[], ChangeResult]]:
        return {
            " ": self.accept,
            "n": self.none,
            "x": self.exclude,
            "z": self.redo if shift else self.undo,
            "y": self.redo,
        }

    # Several images at once

    def most_certain(
        self, label: str = "", *, most: int, without: Iterable[int] = ()
    ) -> dict[int, tuple[str, float]]:
        """Return the most certain proposals by position, a page to confirm at once by `label_each`.

        Parameters
        ----------
        label : only images for which this label is proposed; any by default.
        without : positions of images that are not proposed, nor are identical files.
        """
        is_wanted, model = self._is_open.copy(), self._model
        is_wanted[[self._row[position] for position in without if self._row[position] >= 0]] = False
        rows = np.flatnonzero(is_wanted)
        if model is None or not len(rows):
            return {}
        vectors, temperature = self._vectors, self._learning.temperature
        probabilities = model.probabilities(vectors, temperature=temperature)[rows]
        labels = [self._names[k] for k in model.classes.tolist()]
        wanted = [k for k, name in enumerate(labels) if label in ("", name) and self._is_label(name)]
        best, share = probabilities.argmax(axis=1), probabilities.max(axis=1)
        order = np.argsort(-share, kind="stable")
        order = order[np.isin(best[order], wanted)][:most]
        return {self._position_of(int(rows[i])): (labels[best[i]], float(share[i])) for i in order}

    def label_each(self, labels: Mapping[int, str]) -> ChangeResult:
        """Give images, by position, each its label, as one change; identical files get it, too."""
        each = {copy: label for i, label in labels.items() for copy in self._with_copies([i])}
        return self._change(lambda: self.annotations.relabel_each(each))

    def similar(self, position: int, *, most: int) -> list[int]:
        """Return the positions of the images without an answer that are most like one, nearest first.

        Similarity is the cosine of the feature vectors; there are none for an image without features.
        """
        row = self._row[position]
        if row < 0:
            return []
        cosine = self._vectors.products(self._vectors.rows(np.array([row])))[:, 0]
        order = np.argsort(-cosine, kind="stable")
        order = order[self._is_open[order] & (order != row)][:most]
        return list(map(self._position_of, order.tolist()))

    def label_all(self, positions: Sequence[int], label: str) -> ChangeResult:
        """Give images a label, as one change; identical files get it, too."""
        return self._change(lambda: self.annotations.relabel(self._with_copies(positions), label))

    def accuracy(self) -> list[Estimate]:
        """Return the estimated accuracy of the model at growing numbers of labels; empty for few labels.

        The accuracy is that on a random image of the data set, estimated by cross-validation on images that
        are a random sample of it (see `labelling_curve.random_sample`). The sample is found again from the
        contents of the images and the seed, so the curve is the same after a restart. Skipped images are not
        in it. With near-duplicates, such as frames of a video, the estimate is too high.
        """
        answered, curve = self.answered, dict(self._learning.curve)
        return [found for count, found in sorted(curve.items()) if found and count <= answered]


@contextmanager
def _responsive() -> Iterator[None]:
    """Let this thread go on within 0.1 ms after each access to the disk, also while another one computes."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


_opened: weakref.WeakKeyDictionary[Annotations, weakref.ref[Proposals]] = weakref.WeakKeyDictionary()


def _weakly(method: Callable[..., None]) -> Callable[..., None]:
    """Return a function that calls a method as long as its object is alive."""
    reference = weakref.WeakMethod(method)

    def call(*arguments: object) -> None:
        if (alive := reference()) is not None:
            alive(*arguments)

    return call


def _end(learner: Learner, annotations: Annotations, observer: Callable[..., object]) -> None:
    learner.close()
    if observer in annotations.observers:
        annotations.observers.remove(observer)
