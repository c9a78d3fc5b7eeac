"""The labels of a data set as a person corrects them, each change on disk at once and to be taken back."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date

from imgclf import ImgclfError
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
from imgclf.data.split import PreviousSplit


@dataclass(frozen=True)
class Done:
    """What a change did: to which images, by their positions, and in a sentence."""

    positions: tuple[int, ...]
    sentence: str

    def __str__(self) -> str:
        return self.sentence


class Annotations:
    """The images of a data set with their labels as they are now.

    All methods that change something write it to the disk before they return, and refuse, with nothing changed, by an
    ImgclfError that says what is wrong. Images are named by their positions, which stay while their files move.

    Attributes
    ----------
    dataset : what was found when the folder was looked through.
    images : the images, in the order of `dataset.files`, as they are now.
    labels : all labels, also those without images, sorted; without `unlabelled`.
    observers : called with the positions of the images that changed, after each change, also one made in another window.
    """

    def __init__(self, dataset: Dataset) -> None:
        """Begin with a data set as it was looked through; what was changed since is taken in.

        Raises
        ------
        ImgclfError : the folder is gone, or its journal is damaged.
        """
        self.dataset = dataset
        self.journal = Journal(dataset.folder)
        self.journal.check_folder()
        self.images = list(dataset.files)
        self.labels = sorted(
            folder.name
            for folder in dataset.folder.iterdir()
            if folder.is_dir() and folder.name != UNLABELLED and not label_fault(folder.name)
        )
        self.observers: list[Callable[[tuple[int, ...]], None]] = []
        self._position = {image.path: i for i, image in enumerate(self.images)}
        self._take_in([step for step in self.journal.latest if step.change > dataset.last_change])

    def counts(self) -> Counter[str]:
        """How many images each label has that later stages use; `unlabelled`: how many wait for a label."""
        return Counter(image.label for image in self.images if image.excluded in ("", NO_LABEL))

    def history(self, position: int) -> list[Step]:
        """What was done to an image and stands, oldest first; not what was done to another that lay at its place."""
        image = self.images[position]
        return [step for step in self.journal.history.get(image.path, ()) if step.sha256 == image.sha256]

    def is_seen(self, position: int) -> bool:
        """Whether a person confirmed the image's label or changed it."""
        return bool(self.history(position))

    def is_changed(self, position: int, day: date | None = None) -> bool:
        """Whether a person changed the image's label or excluded it; with `day`, whether on that day, local time."""
        return any(
            step.action in EFFECTIVE and (day is None or step.time[:10] == day.isoformat())
            for step in self.history(position)
        )

    def is_excluded(self, position: int) -> bool:
        """Whether a person excluded the image."""
        return self.images[position].excluded == BY_HAND

    def seen(self) -> int:
        """How many images a person confirmed or changed."""
        return sum(
            self.is_seen(self._position[path]) for path in self.journal.history if path in self._position
        )

    def relabel(self, positions: Iterable[int], label: str) -> Done:
        """Move images to the folder of another label; those that stand there already are confirmed.

        Raises
        ------
        ImgclfError : no such label; a file of that name stands there; the file is gone, or changed in another window.
        """
        return self._change(positions, lambda image: self._relabelled(image, label), f"now '{label}'")

    def _relabelled(self, image: Image, label: str) -> Step:
        if label not in (*self.labels, UNLABELLED):
            raise ImgclfError(f"there is no label '{label}'; add it first")
        if image.label == label:
            return Step("confirm", image.path, sha256=image.sha256)
        return Step("relabel", image.path, f"{label}/{image.path.partition('/')[2]}", image.sha256)

    def exclude(self, positions: Iterable[int]) -> Done:
        """Have all later stages skip images; their files stay where they are."""
        new = [i for i in positions if not self.is_excluded(i)]
        return self._change(new, lambda image: Step("exclude", image.path, sha256=image.sha256), "excluded")

    def include(self, positions: Iterable[int]) -> Done:
        """Use images again that a person excluded."""
        return self._change(
            positions, lambda image: Step("include", image.path, sha256=image.sha256), "used again"
        )

    def confirm(self, positions: Iterable[int]) -> Done:
        """Write down that the labels of images are right; those seen before stay as they are."""
        new = [i for i in positions if not self.is_seen(i)]
        return (
            self._change(new, lambda image: Step("confirm", image.path, sha256=image.sha256), "seen")
            if new
            else Done((), "seen before")
        )

    def add_label(self, name: str) -> Done:
        """Make the folder of a new label.

        Raises
        ------
        ImgclfError : the name cannot be that of a folder, or there is such a label.
        """
        name = name.strip()
        if fault := label_fault(name):
            raise ImgclfError(f"the label '{name}' {fault}")
        if same := next((label for label in self.labels if label.casefold() == name.casefold()), ""):
            raise ImgclfError(f"there is a label '{same}' already")
        with self.journal.hold() as news:
            self._take_in(news)
            done = self._take_in(self.journal.carry_out([Step("add label", name)]))
        return Done(done, f"new label '{name}'")

    def undo(self) -> Done:
        """Take the latest change back that stands, whoever made it and whenever.

        Raises
        ------
        ImgclfError : there is nothing to take back, or a file stands in the way.
        """
        with self.journal.hold() as news:
            if self._take_in(news):
                raise ImgclfError(
                    "another window has changed something just now; look at it, and press again to take that back"
                )
            if not self.journal.active:
                raise ImgclfError("there is no change left to take back")
            steps = [self._inverse(step) for step in reversed(list(self.journal.active.values())[-1])]
            positions = self._carry_out(steps)
        gone = [step.path for step in steps if step.action == GONE]
        sentences = [f"took back: {_what(steps[0])}{f' and {len(steps) - 1} more' * (len(steps) > 1)}"] * (
            len(gone) < len(steps)
        )
        sentences += (
            [
                f"cannot be taken back, since it is not there any more or is another image: {gone[0]}{f' and {len(gone) - 1} more' * (len(gone) > 1)}"
            ]
            if gone
            else []
        )
        return Done(positions, "; ".join(sentences))

    def _inverse(self, step: Step) -> Step:
        """What takes a step back; only a note if its image is not there any more, so that what was done before it can be taken back."""
        inverse = step.inverse()
        if inverse.action in ON_CONTENT and not has_content(self.dataset.folder / inverse.path, step.sha256):
            return replace(inverse, action=GONE, to="")
        return inverse

    def follow(self) -> tuple[int, ...]:
        """Take in what other windows changed; gives the positions of those images."""
        return self._take_in(self.journal.follow())

    def now(self) -> Dataset:
        """The data set as it is now: labels, what is excluded, copies within a label.

        Near-duplicates of images that had no label, or were excluded, are found when the folder is looked through again.
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

    def _change(self, positions: Iterable[int], step: Callable[[Image], Step], sentence: str) -> Done:
        positions = tuple(positions)
        if not positions:
            raise ImgclfError("no image is selected")
        with self.journal.hold() as news:
            if elsewhere := sorted(set(self._take_in(news)) & set(positions)):
                raise ImgclfError(
                    f"{self.images[elsewhere[0]].path}: was changed in another window just now; look at it and press again"
                )
            if unread := next((self.images[i] for i in positions if not self.images[i].sha256), None):
                raise ImgclfError(f"{unread.path}: {unread.excluded}; until then it cannot be changed here")
            self._carry_out([step(self.images[i]) for i in positions])
        first = self.images[positions[0]].path
        return Done(positions, f"{first if len(positions) == 1 else f'{len(positions)} images'}: {sentence}")

    def _carry_out(self, steps: Sequence[Step]) -> tuple[int, ...]:
        try:
            return self._take_in(self.journal.carry_out(steps))
        finally:
            self._take_in(self.journal.follow())  # of several, some may have been done before one failed

    def _take_in(self, steps: Sequence[Step]) -> tuple[int, ...]:
        """Follow the journal, and tell the observers."""
        touched = tuple(dict.fromkeys(i for step in steps if (i := self._apply(step)) is not None))
        if steps:
            for observer in self.observers:
                observer(touched)
        return touched

    def _apply(self, step: Step) -> int | None:
        """Make one image, or the list of labels, what it is after the step; gives the image's position."""
        if step.action in ("add label", "remove label"):
            stays = step.action == "add label" or (self.dataset.folder / step.path).is_dir()
            self.labels = sorted({*self.labels, step.path} if stays else {*self.labels} - {step.path})
        i = self._position.pop(step.path, None)
        if i is None:
            return None
        image = replace(self.images[i], path=step.path_after, label=step.path_after.partition("/")[0])
        self.labels = sorted({*self.labels, image.label} - {UNLABELLED})
        self.images[i] = replace(image, excluded=self._why_excluded(i, image))
        self._position[step.path_after] = i
        return i

    def _why_excluded(self, position: int, image: Image) -> str:
        """By a person, as the journal has it; else as it was when the folder was looked through, as far as that holds under this label."""
        verdict, found = self.journal.verdict(image.path), self.dataset.files[position]
        if (verdict and verdict.action == "exclude") or (not verdict and found.excluded == BY_HAND):
            return BY_HAND
        if not image.width:
            return "cannot be read" if found.excluded == BY_HAND else found.excluded
        if found.excluded.startswith(COPY) and found.label == image.label:
            return found.excluded
        return NO_LABEL if image.label == UNLABELLED else ""


def _what(inverse: Step) -> str:
    """What was taken back, in words."""
    if inverse.to:
        return f"{inverse.to} is '{inverse.to.partition('/')[0]}' again"
    words = {
        "include": "excluded",
        "exclude": "used again",
        "unconfirm": "seen",
        "remove label": "new label",
        GONE: "a change to",
    }
    return f"{words[inverse.action]} {inverse.path}"


def consequences(annotations: Annotations, sides: PreviousSplit) -> str:
    """What follows from the changes made since the folder was looked through: who changes sides, and which notebooks to run again; empty if nothing."""
    if is_current(annotations.dataset, annotations.journal):
        return ""
    pairs = zip(annotations.dataset.files, annotations.images, strict=True)
    changed = sum(
        before.label != now.label or (before.excluded == BY_HAND) != (now.excluded == BY_HAND)
        for before, now in pairs
    )
    text = f"{changed} image{' differs' if changed == 1 else 's differ'} from what 01_prepare_data saw"
    if sides.subset_of:
        try:
            text += f"; in the split, {sides.moved(sides.repeat(annotations.now()))}"
        except ImgclfError as error:
            text += f"; they cannot be split: {error}"
    return f"{text}. Run 01_prepare_data to 05_evaluate again (features that are there are kept)."
