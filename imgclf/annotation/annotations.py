"""The current labels of a data set. Every change is written to disk at once and can be undone."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date

from imgclf import ImgclfError
from imgclf.data import layout
from imgclf.data.changes import EFFECTIVE, GONE, ON_CONTENT, Step, has_content
from imgclf.data.dataset import (
    BY_HAND,
    COPY,
    NO_LABEL,
    UNLABELLED,
    Dataset,
    Image,
    exclude_duplicates,
    is_current,
)
from imgclf.data.journal import Journal
from imgclf.data.label_names import label_fault
from imgclf.data.layout import Layout
from imgclf.data.split import PreviousSplit


@dataclass(frozen=True)
class ChangeResult:
    """The result of a change: the positions of the changed images, and a message for the user."""

    positions: tuple[int, ...]
    message: str

    def __str__(self) -> str:
        return self.message


class Annotations:
    """The images of a data set with their current labels.

    Every method that changes something writes it to disk before it returns. If a change is not possible, the
    method raises an ImgclfError and changes nothing. Images are identified by position, which stays the same
    when their files move.

    Attributes
    ----------
    dataset : the data set as scanned.
    images : the images in their current state, in the order of `dataset.files`.
    labels : all labels, sorted, including those without images; without `unlabelled`.
    observers : callbacks. After each change, also one from another window, each is called with the positions
        of the changed images.
    """

    def __init__(self, dataset: Dataset) -> None:
        """Open a scanned data set and apply the changes in its journal that are newer than the scan.

        Raises
        ------
        ImgclfError : the folder no longer exists, or its journal is damaged.
        """
        self.dataset = dataset
        self.journal = Journal(dataset.folder)
        self.journal.check_folder()
        self.images = list(dataset.files)
        self.labels = [label for label in layout.find(dataset.folder).labels if not label_fault(label)]
        self.observers: list[Callable[[tuple[int, ...]], None]] = []
        self._position = {image.path: i for i, image in enumerate(self.images)}
        self._exclusion_undone: set[int] = (
            set()
        )  # positions of images whose exclusion was undone after the scan
        self._apply_steps([step for step in self.journal.latest if step.change > dataset.last_change])

    def label_counts(self) -> Counter[str]:
        """Return the number of images per label, including `unlabelled`; excluded images are not counted."""
        return Counter(image.label for image in self.images if image.excluded in ("", NO_LABEL))

    def history(self, position: int) -> list[Step]:
        """Return the steps of an image that were not undone, oldest first.

        Steps of another image that had the same path earlier are not included.
        """
        image = self.images[position]
        return [step for step in self.journal.history.get(image.path, ()) if step.sha256 == image.sha256]

    def is_reviewed(self, position: int) -> bool:
        """Whether a person confirmed the image's label or changed the image."""
        return bool(self.history(position))

    def is_changed(self, position: int, day: date | None = None) -> bool:
        """Whether a person relabelled or excluded the image; with `day`, whether on that day (local time)."""
        return any(
            step.action in EFFECTIVE and (day is None or step.time[:10] == day.isoformat())
            for step in self.history(position)
        )

    def is_excluded(self, position: int) -> bool:
        """Whether a person excluded the image."""
        return self.images[position].excluded == BY_HAND

    def count_reviewed(self) -> int:
        """Return the number of images that a person confirmed or changed."""
        return sum(
            self.is_reviewed(self._position[path]) for path in self.journal.history if path in self._position
        )

    def relabel(self, positions: Iterable[int], label: str) -> ChangeResult:
        """Move images to the folder of another label. Images that already have the label are confirmed.

        Raises
        ------
        ImgclfError : the label does not exist; the target file exists already; the file is gone, or another
            window has just changed the image.
        """
        return self._change(
            positions, lambda image: self._relabel_step(image, label), f"label set to '{label}'"
        )

    def _relabel_step(self, image: Image, label: str) -> Step:
        if label not in (*self.labels, UNLABELLED):
            raise ImgclfError(f"the label '{label}' does not exist; add it first")
        if image.label == label:
            return Step("confirm", image.path, sha256=image.sha256)
        return Step("relabel", image.path, self.dataset.layout.relabelled(image.path, label), image.sha256)

    def exclude(self, positions: Iterable[int]) -> ChangeResult:
        """Exclude images from all later stages. Their files stay where they are."""
        new = [i for i in positions if not self.is_excluded(i)]
        return self._change(new, lambda image: Step("exclude", image.path, sha256=image.sha256), "excluded")

    def include(self, positions: Iterable[int]) -> ChangeResult:
        """Include images again that a person excluded."""
        return self._change(
            positions, lambda image: Step("include", image.path, sha256=image.sha256), "included again"
        )

    def confirm(self, positions: Iterable[int]) -> ChangeResult:
        """Record that the labels of images are right. Images that were reviewed before are skipped."""
        new = [i for i in positions if not self.is_reviewed(i)]
        if not new:
            return ChangeResult((), "already reviewed")
        return self._change(new, lambda image: Step("confirm", image.path, sha256=image.sha256), "confirmed")

    def add_label(self, name: str) -> ChangeResult:
        """Create the folder of a new label.

        Raises
        ------
        ImgclfError : the name is not a valid folder name, or the label exists already.
        """
        name = name.strip()
        if fault := label_fault(name):
            raise ImgclfError(f"the label '{name}' {fault}")
        if same := next((label for label in self.labels if label.casefold() == name.casefold()), ""):
            raise ImgclfError(f"the label '{same}' exists already; use it, or choose another name")
        with self.journal.hold() as new_steps:
            self._apply_steps(new_steps)
            changed = self._apply_steps(
                self.journal.carry_out(
                    [Step("add label", path) for path in self.dataset.layout.new_folders(name)]
                )
            )
        return ChangeResult(changed, f"added label '{name}'")

    def undo(self) -> ChangeResult:
        """Undo the latest change that was not undone, no matter who made it and when.

        Raises
        ------
        ImgclfError : there is no change left to undo, or the file's previous path is taken by another file.
        """
        with self.journal.hold() as new_steps:
            if self._apply_steps(new_steps):
                raise ImgclfError(
                    "another window has just made a change; check it, and undo again to revert that change"
                )
            if not self.journal.active:
                raise ImgclfError("there is no change left to undo")
            steps = [self._inverse(step) for step in reversed(list(self.journal.active.values())[-1])]
            positions = self._carry_out(steps)
        gone = [step.path for step in steps if step.action == GONE]
        messages = []
        if len(gone) < len(steps):
            described = _describe_undo(steps[0], self.dataset.layout)
            messages.append(f"undone: {described}{_and_more(steps)}")
        if gone:
            messages.append(
                f"cannot be undone, since the file is gone or was replaced: {gone[0]}{_and_more(gone)}"
            )
        return ChangeResult(positions, "; ".join(messages))

    def _inverse(self, step: Step) -> Step:
        """Return the step that undoes a step.

        If the image is gone or was replaced, the inverse is a mere entry in the journal, so that earlier
        changes can still be undone.
        """
        inverse = step.inverse()
        if inverse.action in ON_CONTENT and not has_content(self.dataset.folder / inverse.path, step.sha256):
            return replace(inverse, action=GONE, to="")
        return inverse

    def sync(self) -> tuple[int, ...]:
        """Apply the changes that other windows made, and return the positions of the changed images."""
        return self._apply_steps(self.journal.follow())

    def current_dataset(self) -> Dataset:
        """Return the data set with its current labels, exclusions, and copies within a label.

        Near-duplicates of images that had no label or were excluded are found by the next scan of the folder.
        """
        near = {
            (pair.kept.sha256, pair.other.sha256) for pair in self.dataset.duplicates if not pair.is_exact
        }
        changed = replace(
            self.dataset,
            files=tuple(self.images),
            last_change=self.journal.last_change,
            journal_state=self.journal.fingerprint(),
            origins=self.journal.origins(),
        )
        return exclude_duplicates(changed, near)

    def _change(self, positions: Iterable[int], step: Callable[[Image], Step], message: str) -> ChangeResult:
        positions = tuple(positions)
        if not positions:
            raise ImgclfError("no image is selected; select one, or change the filter")
        with self.journal.hold() as new_steps:
            if changed_elsewhere := sorted(set(self._apply_steps(new_steps)) & set(positions)):
                path = self.images[changed_elsewhere[0]].path
                raise ImgclfError(
                    f"{path}: another window has just changed this image; check it and try again"
                )
            if unread := next((self.images[i] for i in positions if not self.images[i].sha256), None):
                raise ImgclfError(f"{unread.path}: {unread.excluded}; until then it cannot be changed here")
            self._carry_out([step(self.images[i]) for i in positions])
        subject = self.images[positions[0]].path if len(positions) == 1 else f"{len(positions)} images"
        return ChangeResult(positions, f"{subject}: {message}")

    def _carry_out(self, steps: Sequence[Step]) -> tuple[int, ...]:
        try:
            return self._apply_steps(self.journal.carry_out(steps))
        finally:
            self.sync()  # if one of several steps failed, those before it were done

    def _apply_steps(self, steps: Sequence[Step]) -> tuple[int, ...]:
        """Apply steps from the journal to `images` and `labels`, and notify the observers."""
        changed = tuple(dict.fromkeys(i for step in steps if (i := self._apply_step(step)) is not None))
        if steps:
            for observer in self.observers:
                observer(changed)
        return changed

    def _apply_step(self, step: Step) -> int | None:
        """Apply one step, and return the position of its image; None if it concerns no image."""
        if step.action in ("add label", "remove label"):
            stays = step.action == "add label" or (self.dataset.folder / step.path).is_dir()
            label = step.path.rpartition("/")[2]
            self.labels = sorted({*self.labels, label} if stays else {*self.labels} - {label})
        i = self._position.pop(step.path, None)
        if i is None:
            return None
        if step.action == "include" and step.undoes:
            self._exclusion_undone.add(i)
        image = replace(
            self.images[i], path=step.path_after, label=self.dataset.layout.label_of(step.path_after)
        )
        self.labels = sorted({*self.labels, image.label} - {UNLABELLED})
        self.images[i] = replace(image, excluded=self._exclusion_reason(i, image))
        self._position[step.path_after] = i
        return i

    def _exclusion_reason(self, position: int, image: Image) -> str:
        """Return why later stages skip the image; empty if they use it.

        A person's decision in the journal takes precedence over the scan. A reason from the scan is kept as
        long as it holds under the current label.
        """
        verdict, scanned = self.journal.verdict(image.path), self.dataset.files[position]
        # An excluded image that was moved by hand has no verdict under its path; the scan knows its content.
        is_moved = not verdict and scanned.excluded == BY_HAND and position not in self._exclusion_undone
        if (verdict and verdict.action == "exclude") or is_moved:
            return BY_HAND
        if not image.width:
            return "cannot be read" if scanned.excluded == BY_HAND else scanned.excluded
        if scanned.excluded.startswith(COPY) and scanned.label == image.label:
            return scanned.excluded
        return NO_LABEL if image.label == UNLABELLED else ""


def _describe_undo(inverse: Step, layout: Layout) -> str:
    """Return what was undone, in words."""
    if inverse.to:
        return f"{inverse.to} is '{layout.label_of(inverse.to)}' again"
    words = {
        "include": "exclusion of",
        "exclude": "inclusion of",
        "unconfirm": "confirmation of",
        "remove label": "new label",
        GONE: "change to",
    }
    return f"{words[inverse.action]} {inverse.path}"


def _and_more(items: Sequence[object]) -> str:
    return f" and {len(items) - 1} more" if len(items) > 1 else ""


def consequences(annotations: Annotations, sides: PreviousSplit) -> str:
    """Return the consequences of the changes since 01_prepare_data ran; empty if there are none.

    The text says which images move between training and test set, and which notebooks to run again.
    """
    if is_current(annotations.dataset, annotations.journal):
        return ""
    pairs = zip(annotations.dataset.files, annotations.images, strict=True)
    changed = sum(
        before.label != now.label or (before.excluded == BY_HAND) != (now.excluded == BY_HAND)
        for before, now in pairs
    )
    text = f"{changed} image{'' if changed == 1 else 's'} changed since 01_prepare_data ran"
    if sides.subset_of:
        try:
            text += f"; in the split, {sides.moved(sides.repeat(annotations.current_dataset()))}"
        except ImgclfError as error:
            text += f"; a new split is not possible: {error}"
    return f"{text}. Run 01_prepare_data to 05_evaluate again (cached features are reused)."
