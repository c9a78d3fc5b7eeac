"""A step: one thing that a person did to an image or a label, done in the folder and written as a line."""

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
GONE = "gone"  # what taking back a change to an image that is not there any more leaves in the journal
ACTIONS = {*UNDONE_BY, *UNDONE_BY.values(), GONE}
EFFECTIVE = ("relabel", "exclude", "include")  # after which later stages give another result
ON_DISK = ("relabel", "add label", "remove label")
ON_CONTENT = ("relabel", "exclude")  # what must not happen to another image that has taken the file's place
MAKE_WRITABLE = "make it writable"


@dataclass(frozen=True)
class Step:
    """A line of the journal."""

    action: str  # one of ACTIONS
    path: str  # of the image before the step, below the folder; of a label, its name
    to: str = ""  # of the image after it was relabelled
    sha256: str = ""  # of the image's content
    undoes: int = 0  # the change that this step takes back
    made: str = ""  # the outermost folder that had to be made for it
    change: int = 0  # steps that a person made at once share this number
    time: str = ""  # local time with its offset from UTC

    @property
    def path_after(self) -> str:
        return self.to or self.path

    def inverse(self) -> "Step":
        """The step that takes this one back."""
        return Step(
            UNDONE_BY[self.action],
            self.path_after,
            self.path if self.to else "",
            self.sha256,
            undoes=self.change,
        )


NUMBERS = ("undoes", "change")
KNOWN = {field.name: int if field.name in NUMBERS else str for field in fields(Step)}


def parse(line: bytes) -> Step:
    """The step in a line of the journal.

    Raises
    ------
    ValueError : it is none, or names a path that leads out of the folder.
    """
    content = json.loads(line)
    if not isinstance(content, dict) or any(
        type(value) is not KNOWN.get(name) for name, value in content.items()
    ):
        raise ValueError("not the parts of a step")
    if (
        content.get("action") not in ACTIONS
        or not content.get("path")
        or (content["action"] == "relabel") != bool(content.get("to"))
    ):
        raise ValueError("not a step")
    for path in (content["path"], content.get("to", ""), content.get("made", "")):
        if path.startswith("/") or "\\" in path or "\0" in path or ".." in path.split("/"):
            raise ValueError("a path that leads out of the folder")
    return Step(**content)


def lines(steps: Iterable[Step]) -> str:
    """The steps as they stand in the journal; what is empty is left out."""
    rows = ({name: value for name, value in asdict(step).items() if value} for step in steps)
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def backwards(step: Step) -> Step:
    """What brings an image, or a label, to where it was before a step, which itself may have taken another back."""
    action = {"add label": "remove label", "remove label": "add label"}.get(step.action, step.action)
    return Step(action, step.path_after, step.path if step.to else "", step.sha256)


def check(folder: Path, steps: Sequence[Step]) -> None:
    """Refuse steps of which one cannot be done.

    Raises
    ------
    ImgclfError : an image is gone, or is another one; a file stands in the way; a link would lead nowhere.
    """
    targets, taken = set(), []
    for step in steps:
        _check_source(folder, step)
        wanted = step.to or (step.path if step.action == "add label" else "")
        for parent in [path for path in Path(wanted).parents if path.name] + [Path(wanted)] * (
            step.action == "add label"
        ):
            if os.path.lexists(folder / parent) and not (folder / parent).is_dir():
                raise ImgclfError(f"{folder / parent}: is a file, and a folder is needed; rename it")
        if step.to and (step.to.casefold() in targets or os.path.lexists(folder / step.to)):
            taken.append(step.to)
        targets.add(step.to.casefold())
    if taken:
        more = f" and {len(taken) - 1} more" if len(taken) > 1 else ""
        raise ImgclfError(
            f"{taken[0]}{more}: there is a file of that name already, so nothing was moved; rename one of the two"
        )


def _check_source(folder: Path, step: Step) -> None:
    source = folder / step.path
    if step.action in ("relabel", "exclude", "confirm") and not os.path.lexists(source):
        raise ImgclfError(
            f"{step.path}: is not there any more; run 01_prepare_data again to see what is there"
        )
    if step.action in ON_CONTENT and step.sha256 and not has_content(source, step.sha256):
        raise ImgclfError(f"{step.path}: is another image now; run 01_prepare_data again to see it")
    if step.to and source.is_symlink() and not os.path.isabs(link := os.readlink(source)):
        there = os.path.realpath(folder / os.path.dirname(step.to)), link
        if os.path.realpath(os.path.join(*there)) != os.path.realpath(source):
            raise ImgclfError(
                f"{step.path}: is a link that would lead nowhere from another folder, so it was not moved; replace it by the file"
            )


def has_content(path: Path, content_sha256: str) -> bool:
    """Whether there is a file of this content."""
    try:
        return sha256(path.read_bytes()).hexdigest() == content_sha256
    except OSError:
        return False


def to_make(folder: Path, step: Step) -> str:
    """The outermost folder that must be made before an image can be moved; empty if none."""
    parents = [parent.as_posix() for parent in Path(step.to).parents][:-1] if step.to else []
    return next((path for path in reversed(parents) if not (folder / path).exists()), "")


def do(folder: Path, step: Step, *, made: Iterable[str] = ()) -> None:
    """Do a step in the folder.

    Parameters
    ----------
    made : the folders that were made for the step that this one takes back; they go, if nothing else came into them.

    Raises
    ------
    ImgclfError : it cannot be done, and nothing of it is.
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
                with suppress(OSError):  # images came into it, or somebody removed it: it stays as it is
                    place.rmdir()
    except OSError as error:
        raise ImgclfError(f"{place}: {error.strerror}; {step.path} stays as it was") from error


def _move(source: Path, target: Path) -> None:
    """Move a file, never over another: an empty one holds the name until the file takes its place."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        target.open("xb").close()
    except FileExistsError as error:
        raise ImgclfError(
            f"{target}: a file of that name has just appeared, so {source.name} was not moved; rename one of the two"
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


def finish(folder: Path, step: Step, *, made: Iterable[str] = ()) -> bool:
    """Do what is left of a step that was begun and perhaps done; False if it cannot be done any more."""
    source, target = folder / step.path, folder / step.to
    try:
        if step.action != "relabel":
            do(folder, step)
            return True
        if os.path.lexists(source) and target.is_file() and target.stat().st_size == 0:
            target.unlink()  # it only held the name
        if os.path.lexists(source) and not os.path.lexists(target):
            do(folder, step, made=made)
    except (ImgclfError, OSError):
        return False
    _remove_empty(folder, step.path, made)
    return os.path.lexists(target) and not os.path.lexists(source)
