"""`annotations.jsonl`: a journal of what a person changed in a folder of images, by which changes are undone.

It is a write-ahead log: after a kill at any moment, the change in progress is either completed or dropped.
"""

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from filelock import Timeout

from imgclf import ImgclfError, files
from imgclf.data import changes
from imgclf.data.changes import MAKE_WRITABLE, ON_DISK, Step

NAME = "annotations.jsonl"
PENDING = ".annotations.pending"  # the change in progress; after a kill the next start completes it
LOCK = ".annotations.lock"
LOCK_SECONDS = 5


class Journal:
    """The journal of one folder, to which several processes may write.

    Attributes
    ----------
    active : the changes that are not undone, by number, oldest first, each with its steps.
    history : for the present path of each changed image, its active steps, oldest first.
    last_change : number of the latest change; 0 if there is none.
    latest : the steps that the last reading of the file added; all of them at first.
    """

    def __init__(self, folder: Path) -> None:
        """Read the journal, after completing what a killed process left unfinished.

        Raises
        ------
        ImgclfError : a line is damaged.
        """
        self.folder = folder
        self.path = folder / NAME
        self.active: dict[int, list[Step]] = {}
        self.history: dict[str, list[Step]] = {}
        self.last_change = 0
        self.latest: list[Step] = []
        self._read_up_to = self._lines_read = 0  # bytes, lines
        if os.path.lexists(folder / PENDING):
            with self.hold():
                return
        self.follow()

    def origin(self, path: str) -> str:
        """Return the path of the image at `path` before it was relabelled for the first time."""
        return next((step.path for step in self.history.get(path, ()) if step.action == "relabel"), path)

    def origins(self) -> dict[str, str]:
        """Return the origin of each relabelled image, by its present path."""
        return {path: origin for path in self.history if (origin := self.origin(path)) != path}

    def verdict(self, path: str) -> Step | None:
        """Return the latest active step that excluded or included the image at `path`, if there is one."""
        return next(
            (step for step in reversed(self.history.get(path, ())) if step.action in ("exclude", "include")),
            None,
        )

    def excluded(self) -> dict[str, str]:
        """Return the sha256 of each image that a person excluded, by its path."""
        return {
            path: step.sha256
            for path in self.history
            if (step := self.verdict(path)) and step.action == "exclude"
        }

    def fingerprint(self) -> str:
        """Return a hash of what is relabelled and excluded, to detect changes; empty if nothing is."""
        changed = sorted([*self.origins().items(), *(("excluded", path) for path in self.excluded())])
        return hashlib.sha256(repr(changed).encode()).hexdigest() if changed else ""

    def follow(self) -> list[Step]:
        """Read and return the steps that any process has written since the last call."""
        self.latest = self._read_new()
        for step in self.latest:
            self._add(step)
        return self.latest

    def _read_new(self) -> list[Step]:
        try:
            with self.path.open("rb") as file:
                if file.seek(0, os.SEEK_END) < self._read_up_to:
                    raise ImgclfError(f"{self.path}: was shortened by hand; run 01_prepare_data again")
                file.seek(self._read_up_to)
                content = file.read()
        except (FileNotFoundError, NotADirectoryError) as error:
            if self._read_up_to:
                raise ImgclfError(f"{self.path}: no longer exists; run 01_prepare_data again") from error
            return []
        except OSError as error:
            raise ImgclfError(f"{self.path}: {error.strerror}; make it readable") from error
        whole, newline, rest = content.rpartition(b"\n")
        if _is_step(rest):  # an editor that ends the last line without a line break
            whole, rest = content, b""
        steps = [
            self._parse(line, number)
            for number, line in enumerate(whole.split(b"\n"), start=self._lines_read + 1)
            if line.strip()
        ]
        self._read_up_to += len(content) - len(rest)
        self._lines_read += whole.count(b"\n") + 1 if whole else len(newline)
        return steps

    def _parse(self, line: bytes, number: int) -> Step:
        try:
            return changes.parse(line)
        except ValueError as error:
            raise ImgclfError(
                f"{self.path}, line {number}: {line[:80].decode(errors='replace')!r} is damaged; "
                "correct or delete the line"
            ) from error

    def _add(self, step: Step) -> None:
        self.last_change = max(self.last_change, step.change)
        past = self.history.pop(step.path, [])
        if step.undoes:
            rest = [
                earlier for earlier in self.active.pop(step.undoes, []) if earlier.path_after != step.path
            ]
            if rest:  # of several steps, some could not be undone
                self.active = dict(sorted([*self.active.items(), (step.undoes, rest)]))
            past = [earlier for earlier in past if earlier.change != step.undoes]
        else:
            self.active.setdefault(step.change, []).append(step)
            past = [*past, step]
        if past:
            self.history[step.path_after] = past

    @contextmanager
    def hold(self) -> Iterator[list[Step]]:
        """Lock the folder against other processes, and complete what a killed one left; yields the new steps.

        Raises
        ------
        ImgclfError : another process holds the lock, or the folder cannot be written to, or is missing.
        """
        self.check_folder()
        with files.writable(self.path, remedy=MAKE_WRITABLE):
            try:
                lock = files.acquire(self.folder / LOCK, seconds=LOCK_SECONDS)
            except Timeout as error:
                raise ImgclfError(
                    f"{self.folder}: another window is changing labels just now; try again"
                ) from error
        try:
            with files.writable(self.path, remedy=MAKE_WRITABLE):
                recovered = self._recover()
            self.latest = [*recovered, *self.follow()]
            yield self.latest
        finally:
            lock.release()

    def check_folder(self) -> None:
        """Raise an ImgclfError if the folder is missing."""
        if not self.folder.is_dir():
            raise ImgclfError(
                f"{self.folder}: the folder no longer exists; "
                "put it back, or run 01_prepare_data with another one"
            )

    def carry_out(self, steps: Sequence[Step]) -> list[Step]:
        """Apply steps as one change and write them to the journal; call it within `hold`.

        Nothing is applied unless all steps can be. An image is moved before its line is written, and the
        lines are on disk when this returns.

        Raises
        ------
        ImgclfError : a step cannot be applied. If that shows too late, the message says how many were applied
            before; those are in the journal.
        """
        changes.check(self.folder, steps)
        now = datetime.now().astimezone().isoformat(timespec="milliseconds")
        number = self.last_change + 1
        steps = [
            replace(step, change=number, time=now, made=changes.missing_folder(self.folder, step))
            for step in steps
        ]
        size = self.path.stat().st_size if self.path.exists() else 0
        if any(step.action in ON_DISK for step in steps):
            self._write_pending(steps, size)
        done: list[Step] = []
        try:
            for step in steps:
                changes.apply(self.folder, step, made=self._made_for(step))
                done.append(step)
        except ImgclfError as error:  # any other exception, as an interrupt, leaves the change pending
            self._commit(done, size)
            raise ImgclfError(
                f"{error} ({len(done)} of {len(steps)} were changed before)" if done else str(error)
            ) from error
        self._commit(done, size)
        return self.follow()

    def _made_for(self, step: Step) -> set[str]:
        """Return the folders that were created for the step that this one undoes."""
        return {earlier.made for earlier in self.active.get(step.undoes, []) if earlier.to == step.path}

    def _write_pending(self, steps: Sequence[Step], size: int) -> None:
        """Announce a change before it is applied; `size` is the journal's, in bytes, before the change."""
        with files.writable(self.path, remedy=MAKE_WRITABLE):
            try:
                files.append(self.folder / PENDING, f"{size} {len(steps)}\n{changes.to_lines(steps)}")
            except BaseException:
                (self.folder / PENDING).unlink(missing_ok=True)  # nothing is applied yet
                raise

    def _commit(self, done: Sequence[Step], size: int) -> None:
        """Write the applied steps to the journal; if that fails, roll them back.

        Steps that cannot be rolled back stay pending until the next start.
        """
        with files.writable(self.path, remedy=MAKE_WRITABLE):
            try:
                files.append(self.path, changes.to_lines(done))
            except OSError:
                if self.path.exists():
                    os.truncate(self.path, size)
                for step in reversed(done):
                    if step.action in ON_DISK:
                        changes.apply(self.folder, changes.rollback(step), made={step.made})
                (self.folder / PENDING).unlink(missing_ok=True)
                raise
            (self.folder / PENDING).unlink(missing_ok=True)

    def _recover(self) -> list[Step]:
        """Drop an incomplete last line, complete or drop the pending change, and return the new steps."""
        _repair_last_line(self.path)
        pending = self.folder / PENDING
        if not pending.exists():
            return []
        size, pending_steps = _parse_pending(pending.read_bytes())
        if pending_steps and self.path.exists() and self.path.stat().st_size > size:
            os.truncate(self.path, size)
        before = self.follow()
        self._commit(
            [
                step
                for step in pending_steps
                if changes.complete(self.folder, step, made=self._made_for(step))
            ],
            size,
        )
        return before


def _parse_pending(content: bytes) -> tuple[int, list[Step]]:
    """Return the journal's size before the pending change, and its steps; none if they are incomplete."""
    head, *rest = content.splitlines() or [b""]
    try:
        size, count = map(int, head.split())
        steps = [changes.parse(line) for line in rest]
    except ValueError:
        return 0, []  # then nothing was applied yet
    return (size, steps) if len(steps) == count else (0, [])


def _is_step(line: bytes) -> bool:
    with suppress(ValueError):
        return bool(changes.parse(line))
    return False


def _repair_last_line(path: Path) -> None:
    """Add the missing line break to a complete last line, and remove an incomplete one."""
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
