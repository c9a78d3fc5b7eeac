"""The current labels of a data set. Every change is written to disk at once and can be undone."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

from imgclf import ImgclfError
from imgclf.data import layout
from imgclf.data.changes import EFFECTIVE, GONE, ON_CONTENT, ON_LABELS, UNDONE_BY, Step, has_content
from imgclf.data.copies import USABLE, exclude_duplicates
from imgclf.data.dataset import BY_HAND, COPY, NO_LABEL, UNLABELLED, Dataset, Image
from imgclf.data.journal import Journal
from imgclf.data.label_names import label_fault
from imgclf.data.labels import NO_LABELS, NONE, labels_of
from imgclf.data.layout import Layout

NOUNS = {
    "exclude": "exclusion of",
    "include": "inclusion of",
    "confirm": "confirmation of",
    "unconfirm": "confirmation of",
    "add label": "new label",
    "remove label": "removal of label",
}


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
    labels : all labels, including those without images; without `unlabelled` and `none_of_these`. They are
        sorted, but those that a person added come last, oldest first: the others keep their keys and colours.
    observers : callbacks. After each change, also one from another window, each is called with the positions
        of the changed images.
    """

    def __init__(self, dataset: Dataset, *, is_optional: bool = False) -> None:
        """Open a scanned data set and apply the changes in its journal that are newer than the scan.

        Parameters
        ----------
        is_optional : if the folder no longer exists, there are no labels, and every change is refused.

        Raises
        ------
        ImgclfError : the folder no longer exists, or its journal is damaged.
        """
        self.dataset = dataset
        self.journal = Journal(dataset.folder)
        is_gone = is_optional and not dataset.folder.is_dir()
        if not is_gone:
            self.journal.check_folder()
        self.images = list(dataset.files)
        added = {
            step.path.rpartition("/")[2]: step.change
            for steps in self.journal.on_labels.values()
            for step in steps
            if step.action == "add label"
        }
        found = () if is_gone else layout.find(dataset.folder).labels
        self.labels = sorted(
            (label for label in found if not label_fault(label)),
            key=lambda label: (added.get(label, 0), label),
        )
        self._places = list(self.labels)  # of all labels, also of removed ones, which an undo restores
        self.observers: list[Callable[[tuple[int, ...]], None]] = []
        self._position = {image.path: i for i, image in enumerate(self.images)}
        self._exclusion_undone: set[int] = set()  # positions; after the scan
        self._label_counts = Counter(image.label for image in self.images if image.excluded in USABLE)
        self._reviewed: set[int] = set()  # positions
        self._check_compaction()
        self._apply_steps([step for step in self.journal.latest if step.change > dataset.last_change])
        self._update_reviewed(self.journal.history)

    def _check_compaction(self) -> None:
        """Refuse a journal in which steps since the scan were folded."""
        is_older = self.dataset.last_change < self.journal.compacted
        if is_older and self.dataset.journal_state != self.journal.fingerprint():
            raise ImgclfError(
                f"{self.journal.path}: was compacted after its images were scanned; run 01_prepare_data again"
            )

    def label_counts(self) -> Counter[str]:
        """Return the number of images per label folder; excluded images are not counted."""
        return +self._label_counts  # without labels that have none left

    def history(self, position: int) -> list[Step]:
        """Return the steps of an image that were not undone, oldest first.

        Steps of another image that had the same path earlier are not included.
        """
        image = self.images[position]
        return [step for step in self.journal.history.get(image.path, ()) if step.sha256 == image.sha256]

    def is_reviewed(self, position: int) -> bool:
        """Whether a person confirmed the image's label or changed the image, not only renamed its label."""
        return any(not self.journal.renames(step.change) for step in self.history(position))

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
        return len(self._reviewed)

    def relabel(self, positions: Iterable[int], label: str) -> ChangeResult:
        """Move images to the folder of another label. Images that already have the label are confirmed.

        If the folder has a file of that name, the image gets another one, such as 1-2.jpg for 1.jpg. An image
        that cannot be moved does not stop the others.

        Raises
        ------
        ImgclfError : the label does not exist; no image can be moved; another window has just changed one.
        """
        return self._change(
            positions,
            lambda image: self._relabel_step(image, self._existing(label)),
            f"label set to '{label}'",
        )

    def relabel_each(self, labels: Mapping[int, str]) -> ChangeResult:
        """Move images, by position, each to the folder of its label; together one change. See `relabel`."""
        label_of = {self.images[i].path: self._existing(label) for i, label in labels.items()}
        return self._change(labels, lambda i: self._relabel_step(i, label_of[i.path]), "labels set")

    def _existing(self, label: str) -> str:
        if label not in (*self.labels, *NO_LABELS):
            raise ImgclfError(f"the label '{label}' does not exist; add it first")
        return label

    def _relabel_step(self, image: Image, label: str) -> Step:
        if image.label == label:
            return Step("confirm", image.path, sha256=image.sha256)
        return Step("relabel", image.path, self.dataset.layout.relabelled(image.path, label), image.sha256)

    def _steps_of(self, action: str, label: str) -> list[Step]:
        """Return a step for each folder of a label."""
        return [Step(action, path) for path in self.dataset.layout.new_folders(label)]

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

    def add_label(self, name: str, positions: Iterable[int] = ()) -> ChangeResult:
        """Create the folder of a new label, and move images there; together one change.

        The label comes last in `labels`, so that no other label moves. A label that exists is only assigned.

        Raises
        ------
        ImgclfError : the name is not a valid folder name, or another label differs from it in case only.
        """
        positions = tuple(positions)
        if positions and name.strip() in self.labels:
            return self.relabel(positions, name.strip())
        name = self._new_name(name)
        result = self._carry_out_for(
            positions,
            lambda image: self._relabel_step(image, name),
            f"label set to '{name}'",
            before=self._steps_of("add label", name),
        )
        text = f"added label '{name}'"
        return replace(result, message=f"{text}; {result.message}" if positions else text)

    def _new_name(self, name: str) -> str:
        name = name.strip()
        if fault := label_fault(name):
            raise ImgclfError(f"the label '{name}' {fault}")
        if name.casefold() == NONE:
            raise ImgclfError(f"the label '{name}' is the folder of images of none of the labels; press N")
        if same := next((label for label in self.labels if label.casefold() == name.casefold()), ""):
            raise ImgclfError(f"the label '{same}' exists already; use it, or choose another name")
        return name

    def rename_label(self, label: str, name: str) -> ChangeResult:
        """Move all images of a label to the label `name`; together one change.

        If `name` exists, the two labels are merged. Otherwise it is created and takes the place of the other.
        """
        if label not in self.labels:
            raise ImgclfError(f"'{label}' is not a label; select an image that has the label to rename")
        merges = name.strip() in self.labels and name.strip() != label
        name = name.strip() if merges else self._new_name(name)
        return self._carry_out_for(
            [i for i, image in enumerate(self.images) if image.label == label],
            lambda image: self._relabel_step(image, name),
            f"merged '{label}' into '{name}'" if merges else f"renamed '{label}' to '{name}'",
            before=[] if merges else self._steps_of("add label", name),
            after=self._steps_of("remove label", label),
        )

    def undo(self) -> ChangeResult:
        """Undo the latest change that was not undone, no matter who made it and when.

        An image whose previous name is taken by another file gets a similar name.

        Raises
        ------
        ImgclfError : there is no change left to undo.
        """
        with self._hold("check it, and undo again to revert that change"):
            if not self.journal.active:
                reason = "; those before were compacted" if self.journal.compacted else ""
                raise ImgclfError(f"there is no change left to undo{reason}")
            latest = next(reversed(self.journal.active.values()))
            steps = [self._inverse(step) for step in reversed(latest)]
            positions, refusals = self._carry_out(steps)
            steps = self.journal.latest  # with the names that were free
        gone = [step.path for step in steps if step.action == GONE]
        messages = []
        if len(gone) < len(steps):
            actions = [UNDONE_BY.get(step.action, GONE) for step in steps]
            messages.append(f"undone: {_describe(steps, actions, self.dataset.layout)}")
        if gone:
            messages.append(
                f"cannot be undone, since the file is gone or was replaced: {gone[0]}{_and_more(gone)}"
            )
        return ChangeResult(positions, "; ".join([*messages, *refusals[:1]]))

    def redo(self) -> ChangeResult:
        """Make the change again that was undone last, unless there was a new change since.

        Raises
        ------
        ImgclfError : there is no such change; an image is gone or was replaced.
        """
        with self._hold("check it, and try again"):
            if not self.journal.undone:
                raise ImgclfError("there is no change left to redo")
            latest = next(reversed(self.journal.undone.values()))
            steps = [step.inverse() for step in reversed(latest)]
            positions, refusals = self._carry_out(steps)
            steps = self.journal.latest
        done = _describe(steps, [step.action for step in steps], self.dataset.layout)
        return ChangeResult(positions, "; ".join([f"redone: {done}", *refusals[:1]]))

    @contextmanager
    def _hold(self, remedy: str) -> Iterator[None]:
        """Lock the journal; refuse if another window has made a change that this one has not shown yet."""
        with self.journal.hold() as new_steps:
            if self._apply_steps(new_steps):
                raise ImgclfError(f"another window has just made a change; {remedy}")
            yield

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

        Near-duplicates of images that were excluded are found by the next scan of the folder.
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
        return self._carry_out_for(positions, step, message)

    def _carry_out_for(
        self,
        positions: Sequence[int],
        step: Callable[[Image], Step],
        message: str,
        *,
        before: Sequence[Step] = (),
        after: Sequence[Step] = (),
    ) -> ChangeResult:
        """Carry out a step for each image, as one change together with steps of labels before and after."""
        with self.journal.hold() as new_steps:
            if changed_elsewhere := sorted(set(self._apply_steps(new_steps)) & set(positions)):
                path = self.images[changed_elsewhere[0]].path
                raise ImgclfError(
                    f"{path}: another window has just changed this image; check it and try again"
                )
            images = [self.images[i] for i in positions]
            unread = [
                f"{image.path}: {image.excluded}; until then it cannot be changed here"
                for image in images
                if not image.sha256
            ]
            if unread and len(unread) == len(images):
                raise ImgclfError(unread[0])
            steps = [*before, *(step(image) for image in images if image.sha256), *after]
            changed, refusals = self._carry_out(steps)
        return ChangeResult(changed, self._summary(images, changed, message, [*unread, *refusals]))

    def _summary(
        self, images: Sequence[Image], changed: Sequence[int], message: str, refusals: Sequence[str]
    ) -> str:
        """Return what was done, to how many images under which names, and what was not done.

        Parameters
        ----------
        images : before the change. changed : positions of those that were changed.
        """
        names = {image.sha256 + image.path.rpartition("/")[2] for image in images}
        now = [self.images[i] for i in changed]
        renamed = sum(image.sha256 + image.path.rpartition("/")[2] not in names for image in now)
        texts = [f"{now[0].path if len(now) == 1 else f'{len(now)} images'}: {message}"]
        if renamed:
            texts.append(
                f"{renamed} of them under a new name, since a file had theirs"
                if len(now) > 1
                else "under a new name, since a file had the old one"
            )
        if refusals:
            texts.append(f"not done: {refusals[0]}{_and_more(refusals)}")
        return "; ".join(texts)

    def _carry_out(self, steps: Sequence[Step]) -> tuple[tuple[int, ...], list[str]]:
        """Carry out steps; return the positions of the changed images, and why other steps were refused."""
        refusals = self.journal.carry_out(steps)
        return self._apply_steps(self.journal.latest), refusals

    def _apply_steps(self, steps: Sequence[Step]) -> tuple[int, ...]:
        """Apply steps from the journal to `images` and `labels`, and notify the observers."""
        before = self.labels
        changed = tuple(dict.fromkeys(i for step in steps if (i := self._apply_step(step)) is not None))
        for i in changed:
            self._replace_image(i, excluded=self._exclusion_reason(i, self.images[i]))
        self._order_labels(before)
        self._update_reviewed(self.images[i].path for i in changed)
        for step in steps:
            if step.action in ON_LABELS:  # whether its change is the renaming of a label
                self._update_reviewed(each.path_after for each in self.journal.active.get(step.change, ()))
        if steps:
            for observer in self.observers:
                observer(changed)
        return changed

    def _update_reviewed(self, paths: Iterable[str]) -> None:
        for i in (self._position[path] for path in paths if path in self._position):
            if self.is_reviewed(i):
                self._reviewed.add(i)
            else:
                self._reviewed.discard(i)

    def _apply_step(self, step: Step) -> int | None:
        """Apply one step, and return the position of its image; None if it concerns no image."""
        if step.action in ("add label", "remove label"):
            stays = step.action == "add label" or (self.dataset.folder / step.path).is_dir()
            self._set_label(step.path.rpartition("/")[2], stays)
        i = self._position.pop(step.path, None)
        if i is None:
            return None
        if step.action == "include" and step.undoes:
            self._exclusion_undone.add(i)
        self._position[step.path_after] = i
        if step.to:
            self._replace_image(i, path=step.to, label=self.dataset.layout.label_of(step.to))
            self._set_label(self.images[i].label, bool(labels_of(self.images[i])))
        return i

    def _replace_image(self, position: int, **fields: Any) -> None:
        before = self.images[position]
        if any(getattr(before, name) != value for name, value in fields.items()):
            image = self.images[position] = replace(before, **fields)
            self._label_counts[before.label] -= before.excluded in USABLE
            self._label_counts[image.label] += image.excluded in USABLE

    def _set_label(self, label: str, is_one: bool) -> None:
        """Add or remove a label."""
        if is_one and label not in self.labels:
            self.labels = [*self.labels, label]
        elif not is_one and label in self.labels:
            self.labels = [other for other in self.labels if other != label]

    def _order_labels(self, before: Sequence[str]) -> None:
        """Order the labels such that the keys and colours of the others stay.

        A new label comes last, or in the place of the one that it replaces; a restored one in its old place.
        """
        removed = [label for label in before if label not in self.labels]
        new = [label for label in self.labels if label not in self._places]
        replaces = len(new) == len(removed) == 1
        place = self._places.index(removed[0]) + 1 if replaces else len(self._places)
        self._places[place:place] = new
        self.labels.sort(key=self._places.index)

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


def _describe(steps: Sequence[Step], actions: Iterable[str], layout: Layout) -> str:
    """Return what an undo or a redo did, in words.

    Parameters
    ----------
    steps : that restored images and labels.
    actions : for each step, the action that it undid or made again.
    """
    named = [(step, action) for step, action in zip(steps, actions, strict=True) if step.action != GONE]
    images = [_restored(step, action, layout) for step, action in named if action not in ON_LABELS]
    labels = dict.fromkeys(
        f"{NOUNS[action]} {step.path.rpartition('/')[2]}" for step, action in named if action in ON_LABELS
    )
    return "; ".join([*(f"{text}{_and_more(images)}" for text in images[:1]), *labels])


def _restored(step: Step, action: str, layout: Layout) -> str:
    if step.to:
        return f"{step.to} is '{layout.label_of(step.to)}' again"
    return f"{NOUNS[action]} {step.path}"


def _and_more(items: Sequence[object]) -> str:
    return f" and {len(items) - 1} more" if len(items) > 1 else ""
