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

from filelock import Timeout

from imgclf import ImgclfError, files
from imgclf.data import changes, confinement
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
        self.undone: dict[int, list[Step]] = {}
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
            with confinement.open_regular(self.path, os.O_RDONLY) as file:
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
        if step.undoes and step.undoes not in self.undone:
            _take(self.active, step)
            past = [earlier for earlier in past if earlier.change != step.undoes]
            if step.action != changes.GONE:
                self.undone.setdefault(step.change, []).append(step)
        else:
            if step.undoes:  # a redo
                _take(self.undone, step)
            else:
                self.undone.clear()
            if step.action != changes.GONE:  # a mere entry, which cannot be undone itself
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
        done = _without_refused(
            steps,
            lambda step: changes.apply(self.folder, step, made=self._made_for(step)),
            refusals,
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

    def _made_for(self, step: Step) -> set[str]:
        """Return the folders that were created for the step that this one undoes."""
        return {earlier.made for earlier in self.active.get(step.undoes, []) if earlier.to == step.path}

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
        _repair_last_line(self.path)
        try:
            with confinement.open_regular(self.folder / PENDING, os.O_RDONLY) as file:
                size, steps = _parse_pending(file.read())
        except FileNotFoundError:
            return []
        if not self._drop_lines_of(steps, size):
            steps = []
        before = self.follow()
        done = [step for step in steps if changes.complete(self.folder, step, made=self._made_for(step))]
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
    rest = [earlier for earlier in numbered.get(step.undoes, []) if earlier.path_after != step.path]
    if rest:
        numbered[step.undoes] = rest
    else:
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
        steps = [changes.parse(line) for line in rest]
    except ValueError:
        return 0, []  # then nothing was applied yet
    return (size, steps) if len(steps) == count and size >= 0 else (0, [])


def _is_step(line: bytes) -> bool:
    with suppress(ValueError):
        return bool(changes.parse(line))
    return False


def _repair_last_line(path: Path) -> None:
    """Add the missing line break to a complete last line, and remove an incomplete one."""
    try:
        file = confinement.open_regular(path, os.O_RDWR)
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
