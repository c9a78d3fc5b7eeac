"""Steps: what a person does to an image or a label, applied in the folder and written to the journal."""

import json
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from hashlib import sha256
from pathlib import Path

from imgclf import ImgclfError, files

UNDONE_BY = {
    "exclude": "include",
    "include": "exclude",
    "confirm": "unconfirm",
    "relabel": "relabel",
    "add label": "remove label",
}
GONE = "gone"  # in the journal: the undo of a change to an image that no longer exists
ACTIONS = {*UNDONE_BY, *UNDONE_BY.values(), GONE}
EFFECTIVE = ("relabel", "exclude", "include")  # they change the results of later stages
ON_DISK = ("relabel", "add label", "remove label")
ON_CONTENT = ("relabel", "exclude")  # refused if the file now has another content
MAKE_WRITABLE = "make it writable"


@dataclass(frozen=True)
class Step:
    """A line of the journal."""

    action: str  # one of ACTIONS
    path: str  # of the image before the step, below the folder; of a label, its name
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
    ValueError : the line holds no step, or names a path outside of the folder.
    """
    content = json.loads(line)
    if not isinstance(content, dict) or any(
        type(value) is not FIELDS.get(name) for name, value in content.items()
    ):
        raise ValueError("not the fields of a step")
    if (
        content.get("action") not in ACTIONS
        or not content.get("path")
        or (content["action"] == "relabel") != bool(content.get("to"))
        or (content["action"] not in UNDONE_BY and not content.get("undoes"))
    ):
        raise ValueError("not a step")
    for path in (content["path"], content.get("to", ""), content.get("made", "")):
        if path.startswith("/") or "\\" in path or "\0" in path or ".." in path.split("/"):
            raise ValueError("a path outside of the folder")
    return Step(**content)


def to_lines(steps: Iterable[Step]) -> str:
    """Return steps as lines of the journal, JSON objects without their empty fields."""
    rows = ({name: value for name, value in asdict(step).items() if value} for step in steps)
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def rollback(step: Step) -> Step:
    """Return the step that restores the folder to its state before `step`, which itself may be an undo."""
    action = {"add label": "remove label", "remove label": "add label"}.get(step.action, step.action)
    return Step(action, step.path_after, step.path if step.to else "", step.sha256)


def check(folder: Path, steps: Sequence[Step]) -> None:
    """Refuse steps of which one cannot be applied.

    Raises
    ------
    ImgclfError : an image is missing or has another content; a file of that name exists; a link would break.
    """
    targets, taken = set(), []
    for step in steps:
        _check_source(folder, step)
        for needed in _folders_needed(step):
            if os.path.lexists(folder / needed) and not (folder / needed).is_dir():
                raise ImgclfError(f"{folder / needed}: is a file, and a folder is needed; rename it")
        if step.to and (step.to.casefold() in targets or os.path.lexists(folder / step.to)):
            taken.append(step.to)
        targets.add(step.to.casefold())
    if taken:
        more = f" and {len(taken) - 1} more" if len(taken) > 1 else ""
        raise ImgclfError(
            f"{taken[0]}{more}: there is a file of that name already, so nothing was moved; "
            "rename one of the two"
        )


def _folders_needed(step: Step) -> list[Path]:
    """Return the folders that must exist after a step, below the data set's folder."""
    if step.action == "add label":
        return [Path(step.path)]
    return [path for path in Path(step.to).parents if path.name]


def _check_source(folder: Path, step: Step) -> None:
    source = folder / step.path
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
        return sha256(path.read_bytes()).hexdigest() == content_sha256
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
    try:
        with files.writable(place, remedy=MAKE_WRITABLE):
            if step.action == "relabel":
                _move(folder / step.path, folder / step.to)
                _remove_empty(folder, step.path, made)
            elif step.action == "add label":
                place.mkdir(exist_ok=True)
            elif step.action == "remove label":
                with suppress(OSError):  # it holds images, or is gone: nothing to do
                    place.rmdir()
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
        if os.path.lexists(source) and target.is_file() and target.stat().st_size == 0:
            target.unlink()  # it only reserved the name
        if os.path.lexists(source) and not os.path.lexists(target):
            apply(folder, step, made=made)
    except (ImgclfError, OSError):
        return False
    _remove_empty(folder, step.path, made)
    return os.path.lexists(target) and not os.path.lexists(source)
