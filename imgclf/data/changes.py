"""Steps: what a person does to an image or a label, applied in the folder and written to the journal."""

import json
import os
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from pathlib import Path

from imgclf import ImgclfError, files
from imgclf.data import confinement
from imgclf.images import pointers

UNDONE_BY = {
    "exclude": "include",
    "include": "exclude",
    "confirm": "unconfirm",
    "unconfirm": "confirm",
    "relabel": "relabel",
    "add label": "remove label",
    "remove label": "add label",
}
GONE = "gone"  # in the journal: the undo of a change to an image that no longer exists
COMPACTED = "compacted"  # the first line of a compacted journal, with the number of the latest change
ACTIONS = {*UNDONE_BY, GONE, COMPACTED}
EFFECTIVE = ("relabel", "exclude", "include")  # they change the results of later stages
ON_DISK = ("relabel", "add label", "remove label")
ON_CONTENT = ("relabel", "exclude")  # refused if the file now has another content
ON_LABELS = ("add label", "remove label")
NO_IMAGE = (*ON_LABELS, COMPACTED)
MAKE_WRITABLE = "make it writable"
LONGEST_NAME = 255  # bytes, in most file systems


@dataclass(frozen=True)
class Step:
    """A line of the journal."""

    action: str  # one of ACTIONS
    path: str  # of the image before the step, or of the label, below the folder
    to: str = ""  # of the image after it was relabelled
    sha256: str = ""  # of the image's content
    undoes: int = 0  # number of the change that this step undoes
    made: str = ""  # the outermost folder that was created for it
    change: int = 0  # number of the change; steps made at once share it
    time: str = ""  # local time with its offset from UTC

    @property
    def path_after(self) -> str:
        return self.to or self.path

    def inverse(self) -> "Step":
        """Return the step that undoes this one."""
        return Step(
            UNDONE_BY[self.action],
            self.path_after,
            self.path if self.to else "",
            self.sha256,
            undoes=self.change,
        )


NUMBERS = ("undoes", "change")
FIELDS = {field.name: int if field.name in NUMBERS else str for field in fields(Step)}


def parse(line: bytes) -> Step:
    """Return the step in a line of the journal.

    Raises
    ------
    ValueError : the line holds no step, or names something else than an image in a label's folder below the
        data set's folder, or a label.
    """
    return parse_all([line])[0]


def parse_all(lines: Sequence[bytes]) -> list[Step]:
    """Return the steps in lines of the journal; all lines at once take a quarter of the time.

    Raises
    ------
    ValueError : see `parse`; of some line.
    """
    try:
        contents = json.loads(b"[" + b",".join(lines) + b"]")
    except RecursionError as error:
        raise ValueError("nested") from error
    # No line may end within an object: two lines could be read as one, or one as two.
    if len(contents) != len(lines) or not all(line.strip()[-1:] == b"}" for line in lines):
        raise ValueError("not an object in each line")
    steps = list(map(_step, contents))
    for path in {path for step in steps for path in (step.path, step.to, step.made) if path}:
        if not confinement.is_plain(path):
            raise ValueError("not a path below the folder")
    return steps


def _step(content: object) -> Step:
    """Return the step of an object, without a look at whether its paths are plain."""
    if not isinstance(content, dict) or not _are_fields(*content, *map(type, content.values())):
        raise ValueError("not the fields of a step")
    step = object.__new__(Step)
    step.__dict__.update(content)  # as Step(**content) in a third of its time; what is absent has its default
    action, path, to, undoes = step.action, step.path, step.to, step.undoes
    if (
        action not in ACTIONS
        or not path
        or (action == "relabel") != bool(to)
        or (action == GONE and not undoes)
    ):
        raise ValueError("not a step")
    # A label's folder is at the top or in a set, such as train; an image is in a label's folder.
    is_placed = "/" in path and "/" in (to or path)
    if action in NO_IMAGE:
        is_placed = path.count("/") < 2
    if not is_placed:
        raise ValueError("not the path of an image or a label")
    if not 0 <= undoes < step.change:
        raise ValueError("not the number of a change")
    return step


@lru_cache(maxsize=256)
def _are_fields(*names_and_types: object) -> bool:
    """Whether names are those of fields of a step, and the types behind them theirs."""
    half = len(names_and_types) // 2
    names, types = names_and_types[:half], names_and_types[half:]
    is_typed = all(FIELDS.get(str(name)) is kind for name, kind in zip(names, types, strict=True))
    return is_typed and {"action", "path"} <= {*names}


def to_lines(steps: Iterable[Step]) -> bytes:
    """Return steps as lines of the journal, JSON objects without their empty fields, in UTF-8.

    A byte of a file name that is not UTF-8 is written as an escaped surrogate, as Python reads it.
    """
    rows = ({name: value for name in FIELDS if (value := getattr(step, name))} for step in steps)
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    return text.encode(errors="backslashreplace")


def with_free_names(folder: Path, steps: Sequence[Step]) -> list[Step]:
    """Return steps that move each image to a name that no other file has: 1.jpg, else 1-2.jpg, 1-3.jpg, ...

    Names that differ only in case or in the composition of their letters count as the same, as they are on
    some file systems.
    """
    names: dict[str, Counter[str]] = defaultdict(Counter)  # number of files of each name, by folder
    listed, free = set(), []
    for step in steps:
        if step.to:
            (source, old), (target, name) = os.path.split(step.path), os.path.split(step.to)
            names[source][_folded(old)] -= 1
            if target not in listed:
                listed.add(target)
                names[target].update(map(_folded, _listed(folder / target)))
            name = _free_name(name, names[target])
            names[target][_folded(name)] += 1
            step = replace(step, to=f"{target}/{name}")
        free.append(step)
    return free


def _listed(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:  # it does not exist yet
        return []


def _folded(name: str) -> str:
    """Return a form of a name that is equal for names that some file system takes for the same."""
    if name.isascii():  # fast, for folders of 100,000 images
        return name.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())


def _free_name(name: str, taken: Counter[str]) -> str:
    stem, suffix = os.path.splitext(name)
    number = 1
    while taken[_folded(name)] > 0:
        number += 1
        end = f"-{number}{suffix}"
        while len(os.fsencode(stem + end)) > LONGEST_NAME and stem:
            stem = stem[:-1]
        name = stem + end
    return name


def check(folder: Path, step: Step) -> None:
    """Refuse a step that cannot be applied.

    Raises
    ------
    ImgclfError : the image is missing or has another content; a link would break, or leads to it.
    """
    _check_source(folder, step)
    for needed in _folders_needed(step):
        if os.path.lexists(folder / needed) and not (folder / needed).is_dir():
            raise ImgclfError(f"{folder / needed}: is a file, and a folder is needed; rename it")


def _folders_needed(step: Step) -> list[Path]:
    """Return the folders that must exist after a step, below the data set's folder."""
    if step.action == "add label":
        return [Path(step.path)]
    return [path for path in Path(step.to).parents if path.name]


def _check_source(folder: Path, step: Step) -> None:
    source = folder / step.path
    if step.to:
        for path in (step.path, step.to):
            confinement.check_no_link(folder, path)
    if step.action in ("relabel", "exclude", "confirm") and not os.path.lexists(source):
        raise ImgclfError(
            f"{step.path}: no longer exists; run 01_prepare_data again to see the present images"
        )
    if step.action in ON_CONTENT and step.sha256 and not has_content(source, step.sha256):
        raise ImgclfError(f"{step.path}: is another image now; run 01_prepare_data again to see it")
    if step.to and source.is_symlink() and not os.path.isabs(link := os.readlink(source)):
        moved_link = os.path.join(os.path.realpath(folder / os.path.dirname(step.to)), link)
        if os.path.realpath(moved_link) != os.path.realpath(source):
            raise ImgclfError(
                f"{step.path}: is a relative link that would break in another folder, so it was not moved; "
                "replace it by the file"
            )


def has_content(path: Path, content_sha256: str) -> bool:
    """Whether the file exists and has this content."""
    try:
        return path.is_file() and pointers.sha256(path) == content_sha256
    except OSError:
        return False


def missing_folder(folder: Path, step: Step) -> str:
    """Return the outermost folder that must be created before an image can be moved; empty if none."""
    parents = [parent.as_posix() for parent in Path(step.to).parents][:-1] if step.to else []
    return next((path for path in reversed(parents) if not (folder / path).exists()), "")


def apply(folder: Path, step: Step, *, made: Iterable[str] = ()) -> None:
    """Apply a step in the folder.

    Parameters
    ----------
    made : the folders that were created for the step that this one undoes; removed if they are empty.

    Raises
    ------
    ImgclfError : it cannot be applied; nothing is changed then.
    """
    place = folder / step.path_after
    for path in (step.path, step.path_after) if step.action in ON_DISK else ():
        confinement.check_no_link(folder, path)
    if step.action == "remove label":
        confinement.check_no_link(folder, f"{step.path}/")  # itself no link either: a walk would follow it
    try:
        with files.writable(place, remedy=MAKE_WRITABLE):
            if step.action == "relabel":
                _move(folder / step.path, folder / step.to)
                _remove_empty(folder, step.path, made)
            elif step.action == "add label":
                place.mkdir(exist_ok=True)
            elif step.action == "remove label":
                for here, _, _ in os.walk(place, topdown=False):
                    with suppress(OSError):  # it holds files: nothing to do
                        os.rmdir(here)
    except OSError as error:
        raise ImgclfError(f"{place}: {error.strerror}; {step.path} was not changed") from error


def _move(source: Path, target: Path) -> None:
    """Move a file without a race condition: an empty file reserves the name, so none is overwritten."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        target.open("xb").close()
    except FileExistsError as error:
        raise ImgclfError(
            f"{target}: a file of that name has just appeared, so {source.name} was not moved; "
            "rename one of the two"
        ) from error
    try:
        os.replace(source, target)
    except OSError:
        target.unlink()
        raise


def _remove_empty(folder: Path, path: str, made: Iterable[str]) -> None:
    for parent in Path(path).parents:
        if any(top and parent.is_relative_to(top) for top in made):
            with suppress(OSError):  # it is not empty
                (folder / parent).rmdir()


def complete(folder: Path, step: Step, *, made: Iterable[str] = ()) -> bool:
    """Complete a step that a killed process began and perhaps finished; False if that is impossible."""
    source, target = folder / step.path, folder / step.to
    try:
        if step.action != "relabel":
            apply(folder, step)
            return True
        for path in (step.path, step.to):
            confinement.check_no_link(folder, path)
        if os.path.lexists(source) and target.is_file() and target.stat().st_size == 0:
            target.unlink()  # it only reserved the name
        if os.path.lexists(source) and not os.path.lexists(target):
            apply(folder, step, made=made)
    except (ImgclfError, OSError):
        return False
    _remove_empty(folder, step.path, made)
    return os.path.lexists(target) and not os.path.lexists(source)
