"""The state of the annotator: filter, sort order, page, cursor, selection, and a command for each key."""

import math
from collections.abc import Callable, Sequence
from datetime import date
from typing import Any

from imgclf import ImgclfError
from imgclf.annotation.annotations import Annotations, ChangeResult
from imgclf.annotation.pages import ROWS, STEPS, Pages
from imgclf.annotation.suspects import OutOfSampleScores, Suspect
from imgclf.data.dataset import NO_LABEL
from imgclf.data.labels import NO_LABELS, NONE, UNLABELLED

ALL = "all images"
NOT_REVIEWED = "not reviewed"
EXCLUDED = "excluded"
TODAY = "changed today"
SUSPECTED = "suspected label errors"
FINDING = "finding"
LABEL = "label: "  # followed by the label's name

BY_NAME = "name"
BY_LABEL = "label"
BY_LABEL_QUALITY = "label quality"
BY_SUSPECTS = "suspects first"
BY_FINDING = "finding first"
LISTS = {SUSPECTED: BY_SUSPECTS, FINDING: BY_FINDING}  # filters by a list, and the sort orders by it

DIGITS = "1234567890"  # the keys of the first ten labels

KEYS = (
    ("1 … 9, 0", "set the label with this number"),
    ("U", "remove the label"),
    ("N", "none of the labels"),
    ("X", "exclude, or include again"),
    ("Z", "undo"),
    ("Y", "redo"),
    ("F", "enlarge the image"),
    ("Space", "confirm the label, next image"),
    ("Enter", "confirm the page, next page"),
    ("← ↑ ↓ →", "move"),
    ("Page ↑ ↓", "previous, next page"),
    ("Home, End", "first, last image"),
    ("S or Ctrl+click", "add to or remove from the selection"),
    ("Shift+click, Shift+arrows", "extend the selection"),
    ("A", "select the page"),
    ("Esc", "clear the selection, leave a field"),
)


class Gallery(Pages):
    """Pages of images with a filter, a sort order, a cursor and a selection.

    Filter and sort order are applied when they are set, not when labels change. A relabelled image therefore
    keeps its place until the next call of `filter_by` or `sort_by`.

    Attributes
    ----------
    order : positions of the images that match the filter, in sort order.
    selected : positions of the selected images; empty if commands apply to the current image alone.
    """

    def __init__(
        self,
        annotations: Annotations,
        *,
        out_of_sample: OutOfSampleScores = OutOfSampleScores(),
        suspects: Sequence[Suspect] = (),
        rows: int = 4,
        columns: int = 6,
    ) -> None:
        super().__init__(rows=rows, columns=columns)
        self.annotations = annotations
        self.out_of_sample = out_of_sample
        rank = {suspect.sha256: rank for rank, suspect in enumerate(suspects)}
        places = {i: rank[image.sha256] for i, image in enumerate(annotations.images) if image.sha256 in rank}
        self._ranks = {SUSPECTED: places} if suspects else {}  # of the images of each list, by position
        self.filter, self.sorting = (SUSPECTED, BY_SUSPECTS) if suspects else (ALL, BY_NAME)
        self.selected: set[int] = set()
        self.filter_by(self.filter)

    @property
    def filters(self) -> list[str]:
        """The filters that `filter_by` accepts: the general ones, then "label: NAME" for each label."""
        general = [ALL, NOT_REVIEWED, TODAY, EXCLUDED, *self._ranks, *NO_LABELS]
        return [*general, *(f"{LABEL}{label}" for label in self.annotations.labels)]

    @property
    def sortings(self) -> list[str]:
        """The sort orders that `sort_by` accepts."""
        sortings = [BY_NAME, BY_LABEL]
        if self.out_of_sample:
            sortings.append(BY_LABEL_QUALITY)
        return [*sortings, *(LISTS[name] for name in self._ranks)]

    def filter_by(self, name: str) -> None:
        """Show the images that match a filter, one of `filters`, from the first one on."""
        self.filter = name if name in self.filters else ALL  # its label may have been removed
        self._update_order()

    def show_finding(self, positions: Sequence[int]) -> None:
        """Show the images at some positions, in that order, from the first one on.

        They replace those of an earlier call, and stay available as the filter "finding".
        """
        self._ranks[FINDING] = {position: rank for rank, position in enumerate(positions)}
        self.filter, self.sorting = FINDING, BY_FINDING
        self._update_order()

    def sort_by(self, name: str) -> None:
        """Sort the images by one of `sortings`, and go to the first one.

        Label quality is sorted in ascending order; images without scores come last.
        """
        self.sorting = name
        self._update_order()

    def _update_order(self) -> None:
        matches, key = self._matcher(), self._sort_key()
        self.order = sorted((i for i in range(len(self.annotations.images)) if matches(i)), key=key)
        self.current = 0
        self.selected.clear()

    def _matcher(self) -> Callable[[int], bool]:
        """Return the current filter as a function of an image's position."""
        annotations, today = self.annotations, date.today()
        if self.filter in self._ranks:
            return self._ranks[self.filter].__contains__
        return {
            ALL: lambda i: True,
            NOT_REVIEWED: lambda i: not annotations.is_reviewed(i),
            TODAY: lambda i: annotations.is_changed(i, today),
            EXCLUDED: lambda i: annotations.images[i].excluded not in ("", NO_LABEL),
            UNLABELLED: lambda i: annotations.images[i].label == UNLABELLED,
            NONE: lambda i: annotations.images[i].label == NONE,
        }.get(self.filter, lambda i: annotations.images[i].label == self.filter.removeprefix(LABEL))

    def _sort_key(self) -> Callable[[int], tuple[Any, ...]]:
        """Return the current sort order as a key of an image's position."""
        images = self.annotations.images

        def quality(i: int) -> float:
            value = self.out_of_sample.label_quality(images[i])
            return math.inf if math.isnan(value) else value  # unscored images come last

        for name, rank in self._ranks.items():
            if self.sorting == LISTS[name]:
                return lambda i: (rank.get(i, len(rank)), images[i].path)
        return {
            BY_NAME: lambda i: (images[i].path.rpartition("/")[2], images[i].path),
            BY_LABEL: lambda i: (images[i].label, images[i].path),
            BY_LABEL_QUALITY: lambda i: (quality(i), images[i].path),
        }[self.sorting]

    @property
    def targets(self) -> list[int]:
        """Positions of the images that a command applies to: the selection in order, or the current image."""
        if self.selected:
            return [i for i in self.order if i in self.selected]
        return self.order[self.current : self.current + 1]

    def click(self, tile: int, *, shift: bool = False, ctrl: bool = False) -> None:
        """Handle a click on a tile of the current page.

        A plain click moves the cursor and clears the selection. With `shift` it extends the selection up to
        the tile; with `ctrl` it adds the tile to the selection or removes it.
        """
        index = self.page * self.page_size + tile
        if index >= len(self.order):
            return
        if not shift and not ctrl:
            self.selected.clear()
        elif ctrl and not self.selected:
            self.selected.update(self.targets)
        start = self.current
        self.move_to(index)
        if shift:
            self._select_from(start)
        if ctrl:
            self.selected ^= {self.order[index]}

    def _select_from(self, start: int) -> None:
        """Select all images between an index in `order` and the cursor, too."""
        low, high = sorted((start, self.current))
        self.selected.update(self.order[low : high + 1])

    def relabel(self, label: str) -> ChangeResult:
        """Set the label of the targets. After a single image the cursor moves on."""
        return self._apply(lambda targets: self.annotations.relabel(targets, label))

    def exclude(self) -> ChangeResult:
        """Exclude the targets; include them again if all of them were excluded by a person."""
        all_excluded = all(map(self.annotations.is_excluded, self.targets))
        return self._apply(self.annotations.include if all_excluded else self.annotations.exclude)

    def confirm(self) -> ChangeResult:
        """Confirm the labels of the targets."""
        return self._apply(self.annotations.confirm)

    def confirm_page(self) -> ChangeResult:
        """Confirm all labels of the current page, and go to the next page."""
        result = self.annotations.confirm(self.on_page(self.page))
        self.selected.clear()
        self.turn(1)
        return result

    def undo(self) -> ChangeResult:
        """Undo the latest change, and go to its first image."""
        return self._show(self.annotations.undo())

    def redo(self) -> ChangeResult:
        """Make the change again that was undone last, and go to its first image."""
        return self._show(self.annotations.redo())

    def _show(self, result: ChangeResult) -> ChangeResult:
        """Go to the first changed image; if the filter matches none of them, show all images."""
        changed = set(result.positions)
        if changed and changed.isdisjoint(self.order):
            self.filter_by(ALL)
        self.current = next((index for index, i in enumerate(self.order) if i in changed), self.current)
        self.selected.clear()
        return result

    def add_label(self, name: str) -> ChangeResult:
        """Create a label and give it to the targets. After a single image the cursor moves on."""
        return self._apply(lambda targets: self.annotations.add_label(name, targets))

    def rename_label(self, name: str) -> ChangeResult:
        """Rename the label of the current image; if the name is that of another label, the two are merged."""
        position = self.current_position
        if position is None:
            raise ImgclfError("no image is selected; select one that has the label to rename")
        label = self.annotations.images[position].label
        result = self.annotations.rename_label(label, name)
        if self.filter == f"{LABEL}{label}":
            self.filter = f"{LABEL}{self.annotations.images[position].label}"
        return result

    def _apply(self, change: Callable[[list[int]], ChangeResult]) -> ChangeResult:
        result = change(self.targets)
        if len(self.selected) < 2:
            self.move_to(self.current + 1)
        self.selected.clear()
        return result

    def press(self, key: str, *, shift: bool = False) -> str:
        """Execute the command of a key (see `KEYS`), and return a message if it changed something.

        Raises
        ------
        ImgclfError : the change is not possible.
        """
        if key in DIGITS:
            return str(self.relabel(label_of_key(key, self.annotations.labels)))
        commands = {
            "u": lambda: self.relabel(UNLABELLED),
            "n": lambda: self.relabel(NONE),
            "x": self.exclude,
            "z": self.redo if shift else self.undo,
            "y": self.redo,
            " ": self.confirm,
            "Enter": self.confirm_page,
        }
        if key in commands:
            return str(commands[key]())
        self._navigate(key, shift)
        return ""

    def _navigate(self, key: str, shift: bool) -> None:
        """Move the cursor or change the selection."""
        start = self.current
        self.navigate(key)
        if key in STEPS or key in ROWS:
            self.selected = self.selected if shift else set()
            if shift:
                self._select_from(start)
        elif key == "a":
            self.selected = set(self.on_page(self.page))
        elif key == "s":
            self.selected ^= set(self.order[self.current : self.current + 1])
        elif key == "Escape":
            self.selected.clear()


def label_of_key(key: str, labels: Sequence[str]) -> str:
    """Return the label that a digit key stands for.

    Raises
    ------
    ImgclfError : there are fewer labels.
    """
    number = DIGITS.index(key)
    if number >= len(labels):
        remedy = f"the keys are 1 to {len(labels)}" if labels else "add a label first"
        raise ImgclfError(f"no label has the key {key}: there are {len(labels)} labels; {remedy}")
    return labels[number]
