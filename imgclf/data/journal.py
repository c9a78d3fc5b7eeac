"""`annotations.jsonl`: a journal of what a person changed in a folder of images, by which changes are undone.

It is a write-ahead log: after a kill at any moment, the change in progress is either completed or dropped.
"""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from filelock import Timeout

from imgclf import ImgclfError, files
from imgclf.data import changes, confinement, tables
from imgclf.data.changes import MAKE_WRITABLE, ON_DISK, Step

NAME = "annotations.jsonl"
PENDING = ".annotations.pending"  # the change in progress; after a kill the next start completes it
LOCK = ".annotations.lock"
LOCK_SECONDS = 5
MOST_REASONS = 3  # in a message


class Journal:
    """The journal of one folder, to which several processes may write.

    Attributes
    ----------
    active : the changes that are not undone, by number, oldest first, each with its steps.
    history : for the present path of each changed image, its active steps, oldest first.
    undone : the undos that can themselves be undone (redo), by number, oldest first, each with its steps; a
        new change empties it.
    last_change : number of the latest change; 0 if there is none.
    compacted : number of the latest change when the journal was compacted, or 0. Changes up to this one are
        in `history` alone: they cannot be undone.
    on_labels : the active steps of labels, by number of their change, also of compacted ones.
    lines : number of lines that were read.
    latest : the steps that the last reading of the file added; at first all that are not compacted.
    """

    def __init__(self, folder: Path, *, max_bytes: int = confinement.MAX_BYTES) -> None:
        """Read the journal, after completing what a killed process left unfinished.

        Parameters
        ----------
        max_bytes : a longer file is refused.

        Raises
        ------
        ImgclfError : a line is damaged.
        """
        self.folder, self._max_bytes = folder, max_bytes
        self.path = folder / NAME
        self.active: dict[int, list[Step]] = {}
        self.undone: dict[int, list[Step]] = {}
        self.history: dict[str, list[Step]] = {}
        self.on_labels: dict[int, list[Step]] = {}
        self.last_change = self.compacted = 0
        self.latest: list[Step] = []
        self._first_line = b""
        self._read_up_to = self.lines = 0
        if os.path.lexists(folder / PENDING):
            with self.hold():
                return
        self.follow()

    def origin(self, path: str) -> str:
        """Return the path of the image at `path` before it was relabelled for the first time."""
        return next((step.path for step in self.history.get(path, ()) if step.action == "relabel"), path)

    def origins(self) -> dict[str, str]:
        """Return the origin of each relabelled image, by its present path."""
        paths = tuple(self.history)  # a copy, since another thread may add a change meanwhile
        return {path: origin for path in paths if (origin := self.origin(path)) != path}

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
            for path in tuple(self.history)
            if (step := self.verdict(path)) and step.action == "exclude"
        }

    def fingerprint(self) -> str:
        """Return a hash of what is relabelled and excluded, to detect changes; empty if nothing is."""
        changed = sorted([*self.origins().items(), *(("excluded", path) for path in self.excluded())])
        return hashlib.sha256(repr(changed).encode()).hexdigest() if changed else ""

    def renames(self, change: int) -> bool:
        """Whether a change is the renaming of a label, which removes it at its end."""
        return any(step.action == "remove label" for step in self.on_labels.get(change, ()))

    def follow(self) -> list[Step]:
        """Read and return the steps that any process has written since the last call."""
        with tables.without_garbage_collection():
            steps = self._read_new()
            for step in steps:
                self._add(step)
        self.latest = [step for step in steps if step.change > self.compacted]
        return self.latest

    def _read_new(self) -> list[Step]:
        try:
            with confinement.open_regular(self.path, os.O_RDONLY, max_bytes=self._max_bytes) as file:
                if self._read_up_to:
                    self._check_same(file)
                content = file.read()
        except (FileNotFoundError, NotADirectoryError) as error:
            if self._read_up_to:
                raise ImgclfError(f"{self.path}: no longer exists; run 01_prepare_data again") from error
            return []
        except OSError as error:
            raise ImgclfError(f"{self.path}: {error.strerror}; make it readable") from error
        whole, newline, rest = content.rpartition(b"\n")
        if rest and _is_step(rest):  # an editor that ends the last line without a line break
            whole, rest = content, b""
        steps = self._parse(whole.split(b"\n"))
        if not self._read_up_to:
            self._first_line = content[: len(content) - len(rest)].partition(b"\n")[0]
        self._read_up_to += len(content) - len(rest)
        self.lines += whole.count(b"\n") + 1 if whole else len(newline)
        return steps

    def _check_same(self, file: BinaryIO) -> None:
        """Refuse a file that is not the one read so far, perhaps with lines added; go to the end of these."""
        is_same = file.readline(len(self._first_line)) == self._first_line
        if not is_same or file.seek(0, os.SEEK_END) < self._read_up_to:
            raise ImgclfError(
                f"{self.path}: was compacted or shortened by another program; run 01_prepare_data again"
            )
        file.seek(self._read_up_to)

    def _parse(self, lines: Sequence[bytes]) -> list[Step]:
        """Return the steps of lines that follow those read so far; empty lines have none."""
        try:
            return changes.parse_all([line for line in lines if line.strip()])
        except ValueError:  # find the line that is damaged
            numbered = enumerate(lines, start=self.lines + 1)
            return [self._parse_one(line, number) for number, line in numbered if line.strip()]

    def _parse_one(self, line: bytes, number: int) -> Step:
        try:
            return changes.parse(line)
        except ValueError as error:
            raise ImgclfError(
                f"{self.path}, line {number}: {line[:80].decode(errors='replace')!r} is damaged; "
                "correct or delete the line"
            ) from error

    def _add(self, step: Step) -> None:
        self.last_change = max(self.last_change, step.change)
        if step.action == changes.COMPACTED:
            self.compacted = step.change
            self.active.clear()
            self.undone.clear()
        elif step.undoes and step.undoes not in self.undone and step.change > self.compacted:
            self._add_undo(step)
        else:
            self._add_active(step)

    def _add_active(self, step: Step) -> None:
        if step.change <= self.compacted:  # the image is where the last of its steps leaves it
            past = self.history.get(step.path_after, [])
        else:
            past = self.history.pop(step.path, [])
            if step.undoes:  # a redo
                _take(self.undone, step)
            elif self.undone:
                self.undone.clear()
        if step.action != changes.GONE:  # a mere entry, which cannot be undone itself
            past.append(step)
            if step.change > self.compacted:
                self.active.setdefault(step.change, []).append(step)
            if step.action in changes.ON_LABELS:
                self.on_labels.setdefault(step.change, []).append(step)
        if past:
            self.history[step.path_after] = past

    def _add_undo(self, step: Step) -> None:
        _take(self.active, step)
        if step.action in changes.ON_LABELS:
            _take(self.on_labels, step)
        past = [earlier for earlier in self.history.pop(step.path, ()) if earlier.change != step.undoes]
        if past:
            self.history[step.path_after] = past
        if step.action != changes.GONE:
            self.undone.setdefault(step.change, []).append(step)

    @contextmanager
    def hold(self) -> Iterator[list[Step]]:
        """Lock the folder against other processes, and complete what a killed one left; yields the new steps.

        Raises
        ------
        ImgclfError : another process holds the lock, or the folder cannot be written to, or is missing.
        """
        self.check_folder()
        with files.writable(self.path, remedy=MAKE_WRITABLE):
            with confinement.open_regular(self.folder / LOCK, os.O_RDWR | os.O_CREAT):
                pass  # it is no link; a pipe would block
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

    def carry_out(self, steps: Sequence[Step]) -> list[str]:
        """Apply steps as one change and write them to the journal; call it within `hold`.

        A step that cannot be applied does not stop the others; but if no step of an image can be, labels are
        not changed either. An image whose new name is taken gets a free one. An image is moved before its
        line is written. When this returns, the lines are on disk and the written steps in `latest`.

        Returns
        -------
        Why steps were not applied; one sentence for each.

        Raises
        ------
        ImgclfError : none of the steps can be applied, or of those of images; the journal cannot be written.
        """
        refusals: list[str] = []
        steps = _without_refused(
            changes.with_free_names(self.folder, steps),
            lambda step: changes.check(self.folder, step),
            refusals,
        )
        _refuse_labels_alone(steps, refusals)
        now = datetime.now().astimezone().isoformat(timespec="milliseconds")
        steps = [
            replace(
                step,
                change=self.last_change + 1,
                time=now,
                made=changes.missing_folder(self.folder, step),
            )
            for step in steps
        ]
        size = self.path.stat().st_size if self.path.exists() else 0
        if any(step.action in ON_DISK for step in steps):
            self._write_pending(steps, size)
        # An exception other than ImgclfError, as an interrupt, leaves the change pending.
        made = self._made_for(steps)
        done = _without_refused(
            steps, lambda step: changes.apply(self.folder, step, made=made.get(step.path, ())), refusals
        )
        try:
            _refuse_labels_alone(done, refusals)
        except ImgclfError:
            self._roll_back(done)
            raise
        if steps:
            self._commit(done, size)
        self.follow()
        return refusals

    def _made_for(self, steps: Sequence[Step]) -> dict[str, set[str]]:
        """Return the folders that were created for the steps that some undo, by the path of these."""
        made: dict[str, set[str]] = {}
        for change in {step.undoes for step in steps}:
            for earlier in self.active.get(change, ()):
                made.setdefault(earlier.to, set()).add(earlier.made)
        return made

    def _write_pending(self, steps: Sequence[Step], size: int) -> None:
        """Announce a change before it is applied; `size` is the journal's, in bytes, before the change."""
        with files.writable(self.path, remedy=MAKE_WRITABLE):
            try:
                head = f"{size} {len(steps)}\n".encode()
                _append(self.folder / PENDING, head + changes.to_lines(steps))
            except BaseException:
                (self.folder / PENDING).unlink(missing_ok=True)  # nothing is applied yet
                raise

    def _commit(self, done: Sequence[Step], size: int) -> None:
        """Write the applied steps to the journal; if that fails, roll them back.

        Steps that cannot be rolled back stay pending until the next start.
        """
        with files.writable(self.path, remedy=MAKE_WRITABLE):
            try:
                _append(self.path, changes.to_lines(done))
            except OSError:
                if self.path.exists():
                    _truncate(self.path, size)
                self._roll_back(done)
                raise
            (self.folder / PENDING).unlink(missing_ok=True)

    def _roll_back(self, done: Sequence[Step]) -> None:
        """Apply the inverses of steps, and drop the announcement of their change."""
        with files.writable(self.path, remedy=MAKE_WRITABLE):
            for step in reversed(done):
                if step.action in ON_DISK:
                    changes.apply(self.folder, step.inverse(), made={step.made})
            (self.folder / PENDING).unlink(missing_ok=True)

    def _recover(self) -> list[Step]:
        """Drop an incomplete last line, complete or drop the pending change, and return the new steps."""
        _repair_last_line(self.path, self._max_bytes)
        try:
            with confinement.open_regular(self.folder / PENDING, os.O_RDONLY) as file:
                size, steps = _parse_pending(file.read())
        except FileNotFoundError:
            return []
        if not self._drop_lines_of(steps, size):
            steps = []
        before = self.follow()
        made = self._made_for(steps)
        done = [step for step in steps if changes.complete(self.folder, step, made=made.get(step.path, ()))]
        self._commit(done, size)
        return before

    def _drop_lines_of(self, steps: Sequence[Step], size: int) -> bool:
        """Cut the lines of the pending change, which follow byte `size`, off the journal.

        False, and nothing is cut, if other lines would be lost: then the announcement is not of this journal.
        """
        try:
            with confinement.open_regular(self.path, os.O_RDONLY) as file:
                content = file.read()
        except FileNotFoundError:
            return size == 0
        before, after = content[:size], content[size:]
        announced = changes.to_lines(steps).split(b"\n")
        if len(before) < size or not before.endswith(b"\n" if size else b""):
            return False
        if not set(after.split(b"\n")) <= set(announced):
            return False
        if after:
            _truncate(self.path, size)
        return True


def _take(numbered: dict[int, list[Step]], step: Step) -> None:
    """Remove the step that `step` undoes, and its change with the last of its steps."""
    steps = numbered.get(step.undoes, [])
    # A change is undone from its end, so that the step is the last one, or near it.
    place = next((i for i in reversed(range(len(steps))) if steps[i].path_after == step.path), None)
    if place is not None:
        del steps[place]
    if not steps:
        numbered.pop(step.undoes, None)


def _without_refused(steps: Sequence[Step], work: Callable[[Step], None], refusals: list[str]) -> list[Step]:
    """Call `work` for each step; return those without an ImgclfError, and append the errors to `refusals`."""
    done = []
    for step in steps:
        try:
            work(step)
        except ImgclfError as error:
            refusals.append(str(error))
        else:
            done.append(step)
    return done


def _refuse_labels_alone(steps: Sequence[Step], refusals: Sequence[str]) -> None:
    """Raise an ImgclfError if steps were refused, and those that are left are of labels at most."""
    if refusals and all(step.action in changes.ON_LABELS for step in steps):
        raise ImgclfError("; ".join(refusals[:MOST_REASONS]))


def _append(path: Path, content: bytes) -> None:
    """Append to a file, and wait until that is on disk."""
    with confinement.open_regular(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _truncate(path: Path, size: int) -> None:
    with confinement.open_regular(path, os.O_RDWR) as file:
        file.truncate(size)


def _parse_pending(content: bytes) -> tuple[int, list[Step]]:
    """Return the journal's size before the pending change, and its steps; none if they are incomplete."""
    head, *rest = content.rstrip(b"\n").split(b"\n")
    try:
        size, count = map(int, head.split())
        steps = changes.parse_all(rest)
    except ValueError:
        return 0, []  # then nothing was applied yet
    return (size, steps) if len(steps) == count and size >= 0 else (0, [])


def _is_step(line: bytes) -> bool:
    with suppress(ValueError):
        return bool(changes.parse(line))
    return False


def _repair_last_line(path: Path, max_bytes: int) -> None:
    """Add the missing line break to a complete last line, and remove an incomplete one."""
    try:
        file = confinement.open_regular(path, os.O_RDWR, max_bytes=max_bytes)
    except FileNotFoundError:
        return
    with file:
        if not file.seek(0, os.SEEK_END):
            return
        file.seek(-1, os.SEEK_END)
        if file.read() == b"\n":
            return
        file.seek(0)
        content = file.read()
        if _is_step(content.rpartition(b"\n")[2]):
            file.write(b"\n")
        else:
            file.truncate(content.rfind(b"\n") + 1)
