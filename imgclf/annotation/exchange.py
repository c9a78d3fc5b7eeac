"""Labels from elsewhere, and to elsewhere: import and export of a file of labels."""

import os
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from imgclf import ImgclfError, first_few
from imgclf.annotation import label_files
from imgclf.annotation.label_files import Labelled
from imgclf.classifier.results import in_one_cell
from imgclf.data import changes, folders, layout, remote, scan
from imgclf.data.changes import Step
from imgclf.data.journal import Journal
from imgclf.data.label_names import label_fault
from imgclf.data.labels import NO_LABELS, UNLABELLED
from imgclf.data.layout import Layout
from imgclf.images import decoding, pointers

UNKNOWN_FILE = "name no image of the data set"
AMBIGUOUS = "fit several images, or images of several folders in the file"
SEVERAL = "have several labels, of which an image can have one"
NOTHING = "have no label in the file"
UNKNOWN_LABEL = "have a label that the data set lacks"
UNDO = "Z in the annotator of 01_prepare_data takes the whole import back"


@dataclass(frozen=True)
class Listed:
    """The images of a folder by their paths: nothing is decoded.

    Attributes
    ----------
    labels : the label folder of each image, by its path. Images in no folder count as unlabelled, and have
        the paths that they get there.
    flat : for each image that lies directly in the folder, the step that puts it into `unlabelled/`.
    """

    folder: Path
    layout: Layout
    labels: dict[str, str]
    flat: tuple[Step, ...]
    journal: Journal


@dataclass(frozen=True)
class Plan:
    """What an import does, before it does it.

    Attributes
    ----------
    relabel : the new label of each image that gets another one, by its path.
    exclude, include : paths of images.
    new_labels : labels that are added.
    listed : number of images in the file.
    unchanged : number of images that have their label and exclusion already.
    refused : for each reason, what was not imported, as the file writes it.
    notes : what else is to say.
    """

    relabel: dict[str, str] = field(default_factory=dict)
    exclude: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    new_labels: tuple[str, ...] = ()
    listed: int = 0
    unchanged: int = 0
    refused: dict[str, list[str]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether the import changes nothing."""
        return not (self.relabel or self.exclude or self.include)

    def __str__(self) -> str:
        counts = Counter(self.relabel.values())
        named = ", ".join(f"{count} to {label}" for label, count in counts.most_common(5))
        more = f" and {len(counts) - 5} more labels" if len(counts) > 5 else ""
        lines = [
            f"{self.listed} images in the file",
            f"{len(self.relabel)} get another label{f': {named}{more}' if counts else ''}",
        ]
        if self.new_labels:
            lines.append(f"{len(self.new_labels)} labels are new: {first_few(self.new_labels, 10)}")
        for paths, what in ((self.exclude, "excluded"), (self.include, "included again")):
            if paths:
                lines.append(f"{len(paths)} are {what}")
        lines.append(f"{self.unchanged} are as the file says already")
        lines += [
            f"not imported: {len(names)} {reason}: {_shown(names)}" for reason, names in self.refused.items()
        ]
        if UNKNOWN_LABEL in self.refused:
            lines.append("if these labels are right, add them with --add-labels")
        return "\n".join([*lines, *self.notes])


def _shown(names: Sequence[str]) -> str:
    """Return the first names as a terminal can show them."""
    return in_one_cell(first_few(names))


def list_folder(folder: Path) -> Listed:
    """Return the images of a data set's folder, also of one in which images lie without label folders.

    Raises
    ------
    ImgclfError : there is no such folder or no image in it; its journal is damaged.
    """
    remote.follow(folder, seconds=0)
    if not folder.is_dir():
        raise ImgclfError(
            f"{folder}: no such folder{folders.nearest(folder)}; give its images_dir or dataset_name with -p"
        )
    journal = Journal(folder)
    names = layout.flat_images(folder)
    moves = [Step("relabel", name, f"{UNLABELLED}/{name}") for name in names]
    flat = tuple(changes.with_free_names(folder, moves))
    found, paths = scan.find_files(folder) if not flat or layout.has_folders(folder) else (Layout(), [])
    labels = {path: found.label_of(path) for path in paths if decoding.is_image(folder / path)}
    return Listed(folder, found, labels | {step.to: UNLABELLED for step in flat}, flat, journal)


class Finder:
    """Finds the images that the paths in a file of labels mean."""

    def __init__(self, listed: Listed, rows: Sequence[Labelled]) -> None:
        self._listed = listed
        before = {old: path for path, old in listed.journal.origins().items() if path in listed.labels}
        self._now = before | {path: path for path in listed.labels}
        self._by_ending: dict[str, list[str]] = defaultdict(list)
        for path in listed.labels:
            for ending in _endings(path):
                self._by_ending[ending].append(path)
        self._depth = max((path.count("/") for path in listed.labels), default=0) + 1
        given = {path for row in rows for path in label_files.path_of(row.path)[:1] if "/" in path}
        self._times = Counter(_folded(path.rpartition("/")[2]) for path in given)

    def find(self, given: str) -> tuple[str, str]:
        """Return the path of the image, and why there is none.

        It is the image at that path now, or before it was relabelled; else the one whose path ends alike. The
        name alone is enough if no other image, and no other path in the file, has it.
        """
        absolute = f"{self._listed.folder.as_posix()}/"
        reason = UNKNOWN_FILE
        for path in (given, *label_files.path_of(given)):
            path = path.removeprefix(absolute).removeprefix("./")
            if path in self._now:
                return self._now[path], ""
            found = self._alike(path)
            if len(found) == 1:
                return found[0], ""
            reason = AMBIGUOUS if found else reason
        return "", reason

    def _alike(self, path: str) -> list[str]:
        """Return the images whose paths end most like this one."""
        parts = _folded(path).split("/")[-self._depth :]
        for start in range(len(parts)):
            if found := self._by_ending.get("/".join(parts[start:])):
                # The name alone is not enough if the file has it for images of several folders.
                return found if start < len(parts) - 1 or self._times[parts[-1]] < 2 else [*found, *found]
        return []


def _endings(path: str) -> set[str]:
    """Return the ends of a path, folded, with and without the suffix: name, folder/name, ..."""
    whole = _folded(path)
    return {
        "/".join(parts[start:])
        for parts in (whole.split("/"), os.path.splitext(whole)[0].split("/"))
        for start in range(len(parts))
    }


def _folded(text: str) -> str:
    return unicodedata.normalize("NFC", text).casefold()


def plan(listed: Listed, given: label_files.LabelFile, *, add_labels: bool = False) -> Plan:
    """Return what an import would do.

    Parameters
    ----------
    add_labels : whether to add labels that the data set lacks. If it has none at all, they always are added.

    Raises
    ------
    ImgclfError : the file is of none of the images.
    """
    refused: dict[str, list[str]] = {}
    said: dict[str, list[Labelled]] = {}
    finder, was_excluded = Finder(listed, given.rows), set(listed.journal.excluded())
    for row in given.rows:
        path, reason = finder.find(row.path)
        if path:
            said.setdefault(path, []).append(row)
        else:
            refused.setdefault(reason, []).append(row.path)
    if not said:
        some = f", such as {_shown([row.path for row in given.rows])}" if given.rows else ""
        raise ImgclfError(
            f"{pointers.location(listed.folder)}: "
            f"has none of the {len(given.rows)} images in the file{some}; "
            "if they are of another data set, name it with -p dataset_name or images_dir"
        )
    existing = (*listed.layout.labels, *NO_LABELS)
    known = {_folded(label): label for label in existing} | {label: label for label in existing}
    adds = add_labels or not listed.layout.labels
    relabel, exclude, include = dict[str, str](), list[str](), list[str]()
    new_labels: dict[str, None] = {}
    for path, rows in said.items():
        for is_excluded, paths in ((True, exclude), (False, include)):
            if rows[-1].is_excluded is is_excluded and (path in was_excluded) is not is_excluded:
                paths.append(path)
        label, reason = _label(rows, known, adds=adds)
        if reason == NOTHING and listed.labels[path] == UNLABELLED:
            continue  # the file says the same
        if reason:
            refused.setdefault(reason, []).append(_refusal(rows, reason))
        elif label != listed.labels[path]:
            relabel[path] = label
            if label not in existing:
                new_labels[label] = None
    changed = {*relabel, *exclude, *include}
    refusals = sum(len(refused[reason]) for reason in refused if reason not in (UNKNOWN_FILE, AMBIGUOUS))
    notes = [f"{given.kind}: {note}" for note in given.notes]
    if listed.flat and changed:
        notes.append(f"{len(listed.flat)} images lie in no folder, and are put into {UNLABELLED}/ first")
    return Plan(
        relabel,
        tuple(exclude),
        tuple(include),
        tuple(sorted(new_labels)),
        len(given.rows),
        max(0, len(said) - len(changed) - refusals),
        refused,
        tuple(notes),
    )


def _label(rows: Sequence[Labelled], known: dict[str, str], *, adds: bool) -> tuple[str, str]:
    """Return the label that rows give to one image, and why there is none.

    Parameters
    ----------
    known : the labels by their names, and by their folded names; a new one is added.
    """
    given = {label for row in rows for label in row.labels}
    labels = {known.get(label) or known.get(_folded(label.strip())) or label.strip() for label in given}
    if len(labels) != 1:
        return "", SEVERAL if labels else NOTHING
    label = labels.pop()
    if label in known:
        return label, ""
    if not adds:
        return "", UNKNOWN_LABEL
    if fault := label_fault(label):
        return "", f"have a label that {fault}"
    known[label] = known[_folded(label)] = label
    return label, ""


def _refusal(rows: Sequence[Labelled], reason: str) -> str:
    """Return what is refused: a label that is unknown, else a path."""
    labels = list(dict.fromkeys(label.strip() for row in rows for label in row.labels))
    if reason == NOTHING:
        return rows[0].path
    return f"{rows[0].path} ({', '.join(labels[:4])})"


def carry_out(listed: Listed, planned: Plan) -> str:
    """Carry out a plan as one change, which one undo reverts; return what was done, and what was not.

    Images that lie in no folder are put into `unlabelled/` first, which is not undone.

    Raises
    ------
    ImgclfError : nothing could be changed; another window is changing labels, or has changed some.
    """
    if planned.is_empty:
        return "nothing to change"
    refusals: list[str] = []
    new_folders = map(listed.layout.new_folders, planned.new_labels)
    steps = [Step("add label", path) for paths in new_folders for path in paths]
    with listed.journal.hold() as new_steps:
        if new_steps:
            raise ImgclfError(f"{listed.folder}: another window has just changed labels; import again")
        for move in listed.flat:
            with _noted(refusals):
                changes.check(listed.folder, move)
                changes.apply(listed.folder, move)
        for action, path in _changes(planned):
            with _noted(refusals):
                steps.append(_step(listed, action, path, planned.relabel.get(path, "")))
        refusals += listed.journal.carry_out(steps)
        done = sum(step.action not in changes.ON_LABELS for step in listed.journal.latest)
    lines = [f"done: {done} changes, as one; {UNDO}"]
    return "\n".join([*lines, *([f"not done: {len(refusals)}: {_shown(refusals)}"] if refusals else [])])


@contextmanager
def _noted(refusals: list[str]) -> Iterator[None]:
    """Append an ImgclfError of the block to `refusals`."""
    try:
        yield
    except ImgclfError as error:
        refusals.append(str(error))


def _changes(planned: Plan) -> Iterator[tuple[str, str]]:
    """Yield action and path of each change: exclusions first, since relabelling changes the path."""
    yield from (("exclude", path) for path in planned.exclude)
    yield from (("include", path) for path in planned.include)
    yield from (("relabel", path) for path in planned.relabel)


def _step(listed: Listed, action: str, path: str, label: str) -> Step:
    try:
        sha256 = pointers.sha256(listed.folder / path)
    except OSError as error:
        raise ImgclfError(f"{path}: {error.strerror}; make it readable") from error
    return Step(action, path, listed.layout.relabelled(path, label) if action == "relabel" else "", sha256)


def rows_of(listed: Listed) -> tuple[list[Labelled], str]:
    """Return the images with their labels as a file has them, sorted by path, and a note on what is left out.

    Those of none of the labels have the name of their folder as one.
    """
    excluded = listed.journal.excluded()
    rows = [
        Labelled(path, () if label == UNLABELLED else (label,), path in excluded)
        for path, label in sorted(listed.labels.items())
        if not any("\ud800" <= letter <= "\udfff" for letter in path)
    ]
    left_out = len(listed.labels) - len(rows)
    return rows, f"; left out: {left_out} whose names are not UTF-8, rename them" if left_out else ""
