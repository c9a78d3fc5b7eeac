"""Which images are looked at, in what order and page by page, which are selected, and what a key does to them."""

import math
from collections.abc import Callable, Sequence
from datetime import date

from imgclf import ImgclfError
from imgclf.annotation.annotations import Annotations, Done
from imgclf.annotation.suspects import OutOfSampleScores, Suspect
from imgclf.data.dataset import NO_LABEL, UNLABELLED, Image

ALL, NOT_SEEN, EXCLUDED, TODAY, SUSPECTED = (
    "all images",
    "not seen yet",
    "excluded",
    "changed today",
    "suspected label errors",
)
BY_NAME, BY_LABEL, BY_DOUBT, BY_SUSPICION = "name", "label", "the classifier's doubt", "suspicion"
LABEL = "label: "
DIGITS = "1234567890"  # the keys of the first ten labels

KEYS = (
    ("1 … 9, 0", "give the label of that number"),
    ("U", "no label"),
    ("X", "exclude, or use again"),
    ("Z", "undo"),
    ("Space", "label is right, next"),
    ("Enter", "all of this page are right, next page"),
    ("← ↑ ↓ →", "move"),
    ("Page ↑ ↓, Home, End", "turn pages"),
    ("S or Ctrl+click", "select one more, or one less"),
    ("Shift+click, Shift+arrows", "select up to here"),
    ("A", "select the page"),
    ("Esc", "select none"),
)
STEPS = {"ArrowLeft": -1, "ArrowRight": 1}
ROWS = {"ArrowUp": -1, "ArrowDown": 1}
PAGES = {"PageUp": -1, "PageDown": 1}


class Gallery:
    """A walk through the images of a data set. What it shows stays in its order until `show` or `sort` is called, also when labels change.

    Attributes
    ----------
    order : positions (in `annotations.images`) of the images that pass the filter, in the order in which they are shown.
    current : index in `order` of the image with the frame; its page is the one shown. 0 if there is none.
    selected : positions of the selected images; empty if only the current one is meant.
    rows, columns : of a page.
    """

    def __init__(
        self,
        annotations: Annotations,
        *,
        known: OutOfSampleScores = OutOfSampleScores(),
        suspects: Sequence[Suspect] = (),
        rows: int = 4,
        columns: int = 6,
    ) -> None:
        self.annotations = annotations
        self.known = known
        self.rows, self.columns = rows, columns
        self._suspicion = {suspect.sha256: rank for rank, suspect in enumerate(suspects)}
        self.filter, self.sorting = (SUSPECTED, BY_SUSPICION) if suspects else (ALL, BY_NAME)
        self.order: list[int] = []
        self.current = 0
        self.selected: set[int] = set()
        self.show(self.filter)

    @property
    def filters(self) -> list[str]:
        """What `show` takes: the general ones, then "label: NAME" for each label."""
        return [
            ALL,
            NOT_SEEN,
            TODAY,
            EXCLUDED,
            *[SUSPECTED] * bool(self._suspicion),
            UNLABELLED,
            *(f"{LABEL}{label}" for label in self.annotations.labels),
        ]

    @property
    def sortings(self) -> list[str]:
        """What `sort` takes."""
        return [
            BY_NAME,
            BY_LABEL,
            *[BY_DOUBT] * bool(len(self.known)),
            *[BY_SUSPICION] * bool(self._suspicion),
        ]

    def show(self, which: str) -> None:
        """Show the images that pass a filter: one of `filters`."""
        self.filter = which if which in self.filters else ALL  # a label may be gone meanwhile
        self._arrange()

    def sort(self, by: str) -> None:
        """Show the images in another order: one of `sortings`."""
        self.sorting = by
        self._arrange()

    def _arrange(self) -> None:
        stays = self.at_cursor
        images, passes, key = self.annotations.images, self._passes(), self._key()
        self.order = sorted((i for i in range(len(images)) if passes(i)), key=lambda i: key(images[i]))
        self.current = self.order.index(stays) if stays in self.order else 0
        self.selected.clear()

    def _passes(self) -> Callable[[int], bool]:
        notes, today = self.annotations, date.today()
        return {
            ALL: lambda i: True,
            NOT_SEEN: lambda i: not notes.is_seen(i),
            TODAY: lambda i: notes.is_changed(i, today),
            EXCLUDED: lambda i: notes.images[i].excluded not in ("", NO_LABEL),
            SUSPECTED: lambda i: notes.images[i].sha256 in self._suspicion,
            UNLABELLED: lambda i: notes.images[i].label == UNLABELLED,
        }.get(self.filter, lambda i: notes.images[i].label == self.filter.removeprefix(LABEL))

    def _key(self) -> Callable[[Image], tuple]:
        def doubt(image: Image) -> float:
            found = self.known.doubt(image)
            return 1 if math.isnan(found) else -found  # images without scores come last

        return {
            BY_NAME: lambda image: (image.path.rpartition("/")[2], image.path),
            BY_LABEL: lambda image: (image.label, image.path),
            BY_DOUBT: lambda image: (doubt(image), image.path),
            BY_SUSPICION: lambda image: (self._suspicion.get(image.sha256, len(self._suspicion)), image.path),
        }[self.sorting]

    @property
    def at_cursor(self) -> int | None:
        """Position of the image with the frame; None if there is none."""
        return self.order[self.current] if self.order else None

    @property
    def size(self) -> int:
        """Images on a page."""
        return self.rows * self.columns

    @property
    def page(self) -> int:
        """Number of the page that is shown, from 0."""
        return self.current // self.size

    @property
    def pages(self) -> int:
        """How many pages there are, at least 1."""
        return max(1, -(-len(self.order) // self.size))

    def on_page(self, page: int) -> list[int]:
        """Positions of the images of a page; none beyond the last."""
        return self.order[page * self.size : (page + 1) * self.size] if page >= 0 else []

    @property
    def targets(self) -> list[int]:
        """Positions of the images that a command is meant for, in order: the selected ones, else the one with the frame."""
        return (
            [i for i in self.order if i in self.selected]
            if self.selected
            else self.order[self.current : self.current + 1]
        )

    def resize(self, rows: int, columns: int) -> None:
        """Show pages of another size; the image with the frame stays."""
        self.rows, self.columns = rows, columns

    def go(self, to: int, *, selecting: bool = False) -> None:
        """Put the frame on the image of this index in `order`, or the nearest; `selecting`: and select all on the way."""
        start, self.current = self.current, max(0, min(to, len(self.order) - 1))
        if selecting:
            low, high = sorted((start, self.current))
            self.selected.update(self.order[low : high + 1])

    def turn(self, pages: int) -> None:
        """Go to the first image of a page further on, or back."""
        self.go(max(0, min(self.page + pages, self.pages - 1)) * self.size)

    def click(self, place: int, *, shift: bool = False, ctrl: bool = False) -> None:
        """A click on a place of this page: the image alone, or (shift) all up to it, or (ctrl) one more or one less."""
        index = self.page * self.size + place
        if index >= len(self.order):
            return
        if not shift and not ctrl:
            self.selected.clear()
        elif ctrl and not self.selected:
            self.selected.update(self.targets)
        self.go(index, selecting=shift)
        if ctrl:
            self.selected ^= {self.order[index]}

    def find(self, position: int) -> None:
        """Put the frame on an image, if it is among those shown."""
        if position in self.order:
            self.go(self.order.index(position))

    def relabel(self, label: str) -> Done:
        """Give the targets a label; after a single one the frame moves on."""
        return self._apply(lambda targets: self.annotations.relabel(targets, label))

    def exclude(self) -> Done:
        """Exclude the targets, or use them again if a person excluded all of them."""

        def toggle(targets: list[int]) -> Done:
            return (
                self.annotations.include
                if all(map(self.annotations.is_excluded, targets))
                else self.annotations.exclude
            )(targets)

        return self._apply(toggle)

    def confirm(self) -> Done:
        """Write down that the labels of the targets are right."""
        return self._apply(self.annotations.confirm)

    def confirm_page(self) -> Done:
        """Write down that all labels of this page are right, and turn it."""
        done = self.annotations.confirm(self.on_page(self.page))
        self.selected.clear()
        self.turn(1)
        return done

    def undo(self) -> Done:
        """Take the latest change back, and put the frame on its image."""
        done = self.annotations.undo()
        if done.positions:
            self.find(done.positions[0])
        return done

    def _apply(self, change: Callable[[list[int]], Done]) -> Done:
        done = change(self.targets)
        if len(self.selected) < 2:
            self.go(self.current + 1)
        self.selected.clear()
        return done

    def press(self, key: str, *, shift: bool = False) -> str:
        """Do what a key stands for (KEYS); gives a sentence about it if something was changed.

        Raises
        ------
        ImgclfError : it cannot be done.
        """
        if key in DIGITS:
            return str(self.relabel(label_of_key(key, self.annotations.labels)))
        commands = {
            "u": lambda: self.relabel(UNLABELLED),
            "x": self.exclude,
            "z": self.undo,
            " ": self.confirm,
            "Enter": self.confirm_page,
        }
        if key in commands:
            return str(commands[key]())
        self._walk(key, shift)
        return ""

    def _walk(self, key: str, shift: bool) -> None:
        if key in STEPS or key in ROWS:
            step = STEPS.get(key, 0) + ROWS.get(key, 0) * self.columns
            stays = key in ROWS and not 0 <= self.current + step < len(self.order)  # no row above or below
            self.selected = self.selected if shift else set()
            self.go(self.current + (0 if stays else step), selecting=shift)
        elif key in PAGES:
            self.turn(PAGES[key])
        elif key in ("Home", "End"):
            self.go(0 if key == "Home" else len(self.order))
        elif key == "a":
            self.selected = set(self.on_page(self.page))
        elif key == "s":
            self.selected ^= set(self.order[self.current : self.current + 1])
        elif key == "Escape":
            self.selected.clear()


def label_of_key(key: str, labels: Sequence[str]) -> str:
    """The label that a digit stands for.

    Raises
    ------
    ImgclfError : there are not so many labels.
    """
    number = DIGITS.index(key)
    if number >= len(labels):
        raise ImgclfError(f"there is no label with the key {key}; there are {len(labels)} labels")
    return labels[number]
