"""`annotations.jsonl`: what a person changed in a folder of images, a line each, from which undo works, also tomorrow."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from imgclf import ImgclfError, files
from imgclf.data import changes
from imgclf.data.changes import MAKE_WRITABLE, ON_DISK, Step

NAME = "annotations.jsonl"
PENDING = ".annotations.pending"  # what is being done just now: a killed process leaves it, and the next start finishes it
LOCK = ".annotations.lock"
LOCK_SECONDS = 5


class Journal:
    """The journal of one folder, read, followed while others write to it too, and written.

    Attributes
    ----------
    standing : the changes that nobody took back, oldest first, each with its steps.
    history : for the present path of each image that was changed, its standing steps, oldest first.
    last_change : number of the latest change; 0 if there is none.
    latest : the steps that came with the last look at the file; all, after it was opened.
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
        self.latest: list[Step] = []
        self._read_up_to = self._lines_read = 0  # bytes, lines
        if os.path.lexists(folder / PENDING):
            with self.hold():
                return
        self.follow()

    def origin(self, path: str) -> str:
        """Where the image at `path` lay before it was relabelled for the first time."""
        return next((step.path for step in self.history.get(path, ()) if step.action == "relabel"), path)

    def origins(self) -> dict[str, str]:
        """Present path and origin of the images that are not where they were."""
        return {path: origin for path in self.history if (origin := self.origin(path)) != path}

    def verdict(self, path: str) -> Step | None:
        """The latest standing step that excluded the image at `path` or took it in again; None if there is none."""
        return next(
            (step for step in reversed(self.history.get(path, ())) if step.action in ("exclude", "include")),
            None,
        )

    def excluded(self) -> dict[str, str]:
        """Path and sha256 of the images that a person excluded."""
        return {
            path: step.sha256
            for path in self.history
            if (step := self.verdict(path)) and step.action == "exclude"
        }

    def fingerprint(self) -> str:
        """A hash of what was relabelled and excluded, by which later stages see whether they are out of date; empty if nothing was."""
        changed = sorted([*self.origins().items(), *(("excluded", path) for path in self.excluded())])
        return hashlib.sha256(repr(changed).encode()).hexdigest() if changed else ""

    def follow(self) -> list[Step]:
        """The steps that were written since this was called last, by whomever."""
        self.latest = self._unread()
        for step in self.latest:
            self._take_in(step)
        return self.latest

    def _unread(self) -> list[Step]:
        try:
            with self.path.open("rb") as file:
                if file.seek(0, os.SEEK_END) < self._read_up_to:
                    raise ImgclfError(f"{self.path}: was shortened by hand; run 01_prepare_data again")
                file.seek(self._read_up_to)
                content = file.read()
        except (FileNotFoundError, NotADirectoryError) as error:
            if self._read_up_to:
                raise ImgclfError(f"{self.path}: is not there any more; run 01_prepare_data again") from error
            return []
        except OSError as error:
            raise ImgclfError(f"{self.path}: {error.strerror}; make it readable") from error
        whole, newline, rest = content.rpartition(b"\n")
        if _is_step(rest):  # an editor that ends the last line without a line break
            whole, rest = content, b""
        found = [
            self._parsed(line, number)
            for number, line in enumerate(whole.split(b"\n"), start=self._lines_read + 1)
            if line.strip()
        ]
        self._read_up_to += len(content) - len(rest)
        self._lines_read += whole.count(b"\n") + 1 if whole else len(newline)
        return found

    def _parsed(self, line: bytes, number: int) -> Step:
        try:
            return changes.parse(line)
        except ValueError as error:
            raise ImgclfError(
                f"{self.path}, line {number}: {line[:80].decode(errors='replace')!r} is damaged; mend or delete the line"
            ) from error

    def _take_in(self, step: Step) -> None:
        self.last_change = max(self.last_change, step.change)
        past = self.history.pop(step.path, [])
        if step.undoes:
            stand = [
                earlier for earlier in self.standing.pop(step.undoes, []) if earlier.path_after != step.path
            ]
            if stand:  # of several, some could not be taken back
                self.standing = dict(sorted([*self.standing.items(), (step.undoes, stand)]))
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
        self.check_folder()
        with files.writable(self.path, remedy=MAKE_WRITABLE):
            lock = FileLock(self.folder / LOCK)
            try:
                lock.acquire(timeout=LOCK_SECONDS)
            except Timeout as error:
                raise ImgclfError(
                    f"{self.folder}: another window is changing labels just now; try again"
                ) from error
        try:
            with files.writable(self.path, remedy=MAKE_WRITABLE):
                before = self._repair()
            self.latest = [*before, *self.follow()]
            yield self.latest
        finally:
            lock.release()

    def check_folder(self) -> None:
        """Raise an ImgclfError if the folder is gone."""
        if not self.folder.is_dir():
            raise ImgclfError(
                f"{self.folder}: the folder is not there any more; put it back, or run 01_prepare_data with another one"
            )

    def carry_out(self, wanted: Sequence[Step]) -> list[Step]:
        """Do steps as one change, and write them down; to be called while the journal is held.

        Nothing is done unless all can be done. An image is moved before its line is written, and the lines
        are on disk when this returns.

        Raises
        ------
        ImgclfError : it cannot be done. If that was seen too late, says how many of the steps were done; these are written down.
        """
        changes.check(self.folder, wanted)
        now = datetime.now().astimezone().isoformat(timespec="milliseconds")
        wanted = [
            replace(step, change=self.last_change + 1, time=now, made=changes.to_make(self.folder, step))
            for step in wanted
        ]
        size = self.path.stat().st_size if self.path.exists() else 0
        if any(step.action in ON_DISK for step in wanted):
            self._announce(wanted, size)
        done: list[Step] = []
        try:
            for step in wanted:
                changes.do(self.folder, step, made=self._made(step))
                done.append(step)
        except ImgclfError as error:  # all else, as a kernel that is interrupted, leaves it pending
            self._settle(done, size)
            raise ImgclfError(
                f"{error} ({len(done)} of {len(wanted)} were changed before)" if done else str(error)
            ) from error
        self._settle(done, size)
        return self.follow()

    def _made(self, step: Step) -> set[str]:
        """The folders that were made for what this step takes back."""
        return {earlier.made for earlier in self.standing.get(step.undoes, []) if earlier.to == step.path}

    def _announce(self, wanted: Sequence[Step], size: int) -> None:
        with files.writable(self.path, remedy=MAKE_WRITABLE):
            try:
                files.append(self.folder / PENDING, f"{size} {len(wanted)}\n{changes.lines(wanted)}")
            except BaseException:
                (self.folder / PENDING).unlink(missing_ok=True)  # nothing was done yet, and nothing shall be
                raise

    def _settle(self, done: Sequence[Step], size: int) -> None:
        """Write down what was done; if that fails, take it back. What cannot be taken back stays pending for the next start."""
        with files.writable(self.path, remedy=MAKE_WRITABLE):
            try:
                files.append(self.path, changes.lines(done))
            except OSError:
                if self.path.exists():
                    os.truncate(self.path, size)
                for step in reversed(done):
                    if step.action in ON_DISK:
                        changes.do(self.folder, changes.backwards(step), made={step.made})
                (self.folder / PENDING).unlink(missing_ok=True)
                raise
            (self.folder / PENDING).unlink(missing_ok=True)

    def _repair(self) -> list[Step]:
        """Cut off a line that was not written to its end, and finish or drop what is pending; gives the steps that were new."""
        _mend_end(self.path)
        pending = self.folder / PENDING
        if not pending.exists():
            return []
        size, announced = _announced(pending.read_bytes())
        if announced and self.path.exists() and self.path.stat().st_size > size:
            os.truncate(self.path, size)
        before = self.follow()
        self._settle(
            [step for step in announced if changes.finish(self.folder, step, made=self._made(step))], size
        )
        return before


def _announced(content: bytes) -> tuple[int, list[Step]]:
    """Size of the journal before, and the steps that were to be done; none if the announcement was not written to its end."""
    head, *rest = content.splitlines() or [b""]
    try:
        size, count = map(int, head.split())
        found = [changes.parse(line) for line in rest]
    except ValueError:
        return 0, []  # then nothing was done yet
    return (size, found) if len(found) == count else (0, [])


def _is_step(line: bytes) -> bool:
    with suppress(ValueError):
        return bool(changes.parse(line))
    return False


def _mend_end(path: Path) -> None:
    """End the last line if it is whole, and cut it off if it was not written to its end."""
    if not path.exists() or not path.stat().st_size:
        return
    with path.open("rb+") as file:
        file.seek(-1, os.SEEK_END)
        if file.read() == b"\n":
            return
        file.seek(0)
        content = file.read()
        if _is_step(content.rpartition(b"\n")[2]):
            file.write(b"\n")
        else:
            file.truncate(content.rfind(b"\n") + 1)
