"""`annotations.jsonl`: what a person changed in a folder of images, a line each, from which undo works, also tomorrow."""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from hashlib import sha256
from pathlib import Path

from filelock import FileLock, Timeout

from imgclf import ImgclfError, files

NAME = "annotations.jsonl"
PENDING = ".annotations.pending"  # what is being done just now: a killed process leaves it, and the next start finishes it
LOCK = ".annotations.lock"
LOCK_SECONDS = 5
UNDONE_BY = {"exclude": "include", "include": "exclude", "confirm": "unconfirm", "relabel": "relabel", "add label": "remove label"}
EFFECTIVE = ("relabel", "exclude", "include")
GONE = "gone"  # what the undo of a change to an image that is not there any more leaves in the journal


@dataclass(frozen=True)
class Step:
    """A line of the journal: what was done to one image, or to one label."""

    action: str  # a key or value of UNDONE_BY, or GONE
    path: str  # of the image before the step, below the folder; of a label, its name
    to: str = ""  # of the image after it was relabelled
    sha256: str = ""  # of the image's content
    undoes: int = 0  # the change that this step takes back
    made: str = ""  # the folder that had to be made for it
    change: int = 0  # steps that a person made at once share this number
    time: str = ""  # local time with its offset from UTC

    @property
    def path_after(self) -> str:
        return self.to or self.path

    def inverse(self) -> "Step":
        """The step that takes this one back."""
        return Step(UNDONE_BY[self.action], self.path_after, self.path if self.to else "", self.sha256, undoes=self.change)


class Journal:
    """The journal of one folder, read, followed while others write to it too, and written.

    Attributes
    ----------
    standing : the changes that nobody took back, oldest first, each with its steps.
    history : for the present path of each image that was changed, its standing steps, oldest first.
    last_change : number of the latest change; 0 if there is none.
    last_effect : number of the latest change after which later stages give another result.
    """

    def __init__(self, folder: Path) -> None:
        """Read the journal; what a killed process left half done is finished first.

        Raises
        ------
        ImgclfError : a line is damaged.
        """
        self.folder = folder
        self.path = folder / NAME
        self.standing: dict[int, list[Step]] = {}
        self.history: dict[str, list[Step]] = {}
        self.last_change = 0
        self.last_effect = 0
        self._read_up_to = 0  # bytes
        if os.path.lexists(folder / PENDING):
            with self.hold():
                return
        self.follow()

    def origin(self, path: str) -> str:
        """Where the image at `path` lay before it was relabelled for the first time."""
        return next((step.path for step in self.history.get(path, []) if step.action == "relabel"), path)

    def excluded(self) -> dict[str, str]:
        """Path and sha256 of the images that a person excluded."""
        latest = {path: next((step for step in reversed(steps) if step.action in ("exclude", "include")), None) for path, steps in self.history.items()}
        return {path: step.sha256 for path, step in latest.items() if step and step.action == "exclude"}

    def follow(self) -> list[Step]:
        """The steps that were written since this was called last, by whomever."""
        new = self._unread()
        for step in new:
            self._take_in(step)
        return new

    def _unread(self) -> list[Step]:
        try:
            with self.path.open("rb") as file:
                file.seek(self._read_up_to)
                whole = file.read().rpartition(b"\n")[0]
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise ImgclfError(f"{self.path}: {error.strerror}; make it readable") from error
        if not whole:
            return []
        self._read_up_to += len(whole) + 1
        return [self._parsed(line) for line in whole.split(b"\n")]

    def _parsed(self, line: bytes) -> Step:
        try:
            step = Step(**json.loads(line))
            below = [Path(path) for path in (step.path, step.to, step.made)]
            if any(path.is_absolute() or ".." in path.parts for path in below):
                raise ValueError("a path that leads out of the folder")
        except (ValueError, TypeError) as error:
            raise ImgclfError(f"{self.path}: the line {line[:80].decode(errors='replace')!r} is damaged; mend or delete it") from error
        return step

    def _take_in(self, step: Step) -> None:
        self.last_change = max(self.last_change, step.change)
        if step.action in EFFECTIVE:
            self.last_effect = self.last_change
        past = self.history.pop(step.path, [])
        if step.undoes:
            self.standing.pop(step.undoes, None)
            past = [earlier for earlier in past if earlier.change != step.undoes]
        else:
            self.standing.setdefault(step.change, []).append(step)
            past = [*past, step]
        if past:
            self.history[step.path_after] = past

    @contextmanager
    def hold(self) -> Iterator[list[Step]]:
        """Keep all others from changing the folder, and finish what a killed one left; gives what is new since the last look.

        Raises
        ------
        ImgclfError : somebody else holds it, or the folder cannot be written to, or is gone.
        """
        if not self.folder.is_dir():
            raise ImgclfError(f"{self.folder}: the folder is not there any more; put it back, or run 01_prepare_data with another one")
        with files.writable(self.path):
            lock = FileLock(self.folder / LOCK)
            try:
                lock.acquire(timeout=LOCK_SECONDS)
            except Timeout as error:
                raise ImgclfError(f"{self.folder}: another window is changing labels just now; try again") from error
        try:
            self._repair()
            yield self.follow()
        finally:
            lock.release()

    def carry_out(self, steps: Sequence[Step]) -> list[Step]:
        """Do steps as one change, and write them down; to be called while the journal is held.

        Nothing is done unless all can be done. An image is moved before its line is written, and the lines
        are on disk when this returns.

        Raises
        ------
        ImgclfError : an image is not there any more, or is another one; or a file of its name stands in the way.
        """
        self._check(steps)
        now = datetime.now().astimezone().isoformat(timespec="milliseconds")
        steps = [replace(step, change=self.last_change + 1, time=now, made=self._to_make(step)) for step in steps]
        moves = any(step.action in ("relabel", "add label", "remove label") for step in steps)
        if moves:
            self._announce(steps)
        done: list[Step] = []
        try:
            for step in steps:
                self._do(step)
                done.append(step)
        except ImgclfError:  # all else, as a kernel that is interrupted, leaves it pending
            self._settle(done, moves)
            raise
        self._settle(done, moves)
        return self.follow()

    def _announce(self, steps: Sequence[Step]) -> None:
        with files.writable(self.path):
            size = self.path.stat().st_size if self.path.exists() else 0
            try:
                files.append(self.folder / PENDING, f"{size} {len(steps)}\n{_lines(steps)}")
            except BaseException:
                (self.folder / PENDING).unlink()  # nothing was done yet, and nothing shall be
                raise

    def _settle(self, done: Sequence[Step], was_announced: bool) -> None:
        with files.writable(self.path):
            files.append(self.path, _lines(done))  # if this fails, the next start finds what is pending
            if was_announced:
                (self.folder / PENDING).unlink()

    def _check(self, steps: Sequence[Step]) -> None:
        targets = set()
        for step in steps:
            if step.sha256 and step.action != GONE and not self._is_there(step):
                raise ImgclfError(f"{step.path}: is not there any more, or is another image now; run 01_prepare_data again to see what is there")
            if step.to and (step.to.casefold() in targets or (self.folder / step.to).exists()):
                raise ImgclfError(f"{step.to}: there is a file of that name already, so nothing was moved; rename one of the two")
            targets.add(step.to.casefold())

    def _is_there(self, step: Step) -> bool:
        try:
            return sha256((self.folder / step.path).read_bytes()).hexdigest() == step.sha256
        except OSError:
            return False

    def _to_make(self, step: Step) -> str:
        """The outermost folder that must be made before the step; empty if none."""
        wanted = [step.path] if step.action == "add label" else [str(parent) for parent in Path(step.to).parents][:-1] if step.to else []
        return next((path for path in reversed(wanted) if not (self.folder / path).exists()), "")

    def _do(self, step: Step) -> None:
        with files.writable(self.folder / step.path_after):
            if step.action == "relabel":
                self._move(self.folder / step.path, self.folder / step.to)
                self._remove_made(step)
            elif step.action == "add label":
                (self.folder / step.path).mkdir(exist_ok=True)
            elif step.action == "remove label":
                with suppress(OSError):  # images came into it, or somebody removed it: it stays as it is
                    (self.folder / step.path).rmdir()

    def _move(self, source: Path, target: Path) -> None:
        """Move a file, never over another: an empty one holds the name until the file takes its place."""
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            target.open("xb").close()
        except FileExistsError as error:
            raise ImgclfError(f"{target}: a file of that name has just appeared, so nothing was moved; rename one of the two") from error
        try:
            os.replace(source, target)
        except OSError as error:
            target.unlink()
            raise ImgclfError(f"{source}: cannot be moved to {target.parent} ({error.strerror}); move it by hand and run 01_prepare_data again") from error

    def _remove_made(self, step: Step) -> None:
        """When a move is taken back, the folders that were made for it go, if nothing else came into them."""
        made = {earlier.made for earlier in self.standing.get(step.undoes, []) if earlier.to == step.path} - {""}
        for folder in [parent for parent in Path(step.path).parents if any(parent.is_relative_to(top) for top in made)]:
            with suppress(OSError):
                (self.folder / folder).rmdir()

    def _repair(self) -> None:
        """Cut off a line that was not written to its end, and finish or drop what is pending."""
        files.cut_to_whole_lines(self.path)
        pending = self.folder / PENDING
        if not pending.exists():
            return
        size, steps = self._announced(pending.read_bytes())
        if steps and self.path.exists():
            os.truncate(self.path, size)
        self.follow()
        self._settle([step for step in steps if self._finish(step)], was_announced=True)

    def _announced(self, content: bytes) -> tuple[int, list[Step]]:
        """Size of the journal before, and the steps that were to be done; none if the announcement was not written to its end."""
        head, *lines = content.splitlines() or [b""]
        try:
            size, count = map(int, head.split())
            steps = [self._parsed(line) for line in lines]
        except (ValueError, ImgclfError):
            return 0, []  # then nothing was done yet
        return (size, steps) if len(steps) == count else (0, [])

    def _finish(self, step: Step) -> bool:
        """Do what is left of a step; False if it cannot be done any more."""
        source, target = self.folder / step.path, self.folder / step.to
        if step.action != "relabel":
            self._do(step)
            return True
        if source.exists() and target.exists() and target.stat().st_size == 0:
            target.unlink()  # it only held the name
        if source.exists() and not target.exists():
            self._move(source, target)
        is_done = target.exists() and not source.exists()
        if is_done:
            self._remove_made(step)
        return is_done


def _lines(steps: Sequence[Step]) -> str:
    rows = ({name: value for name, value in asdict(step).items() if value} for step in steps)
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
