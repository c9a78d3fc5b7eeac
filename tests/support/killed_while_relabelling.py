"""Relabels in child processes that are killed at lines of Python, one for each state of the files; see test_journal.py."""

import os
import re
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from imgclf import files
from imgclf.data import changes, confinement
from imgclf.data import journal as journal_module
from imgclf.data.changes import Step
from imgclf.data.journal import Journal

SOURCES = [module.__file__ for module in (journal_module, changes, confinement, files)]


def steps_of(journal: Journal, change: str) -> list[Step]:
    """Return two moves, one of which creates a folder; or the steps that undo the latest change; or a new label."""
    if change == "undo":
        return [step.inverse() for step in reversed(list(journal.active.values())[-1])]
    if change == "add label":
        return [Step("add label", "odd")]
    return [Step("relabel", "red/shop/1.jpg", "blue/shop/1.jpg"), Step("relabel", "red/2.jpg", "blue/2.jpg")]


def work(folder: Path, change: str) -> None:
    """Make one change, as the annotator does."""
    journal = Journal(folder)
    with journal.hold():
        journal.carry_out(steps_of(journal, change))


def at_each_line(do: Callable[[int], None]) -> None:
    """Call a function before each line of the modules in SOURCES from now on, with the number of the line."""
    executed = 0

    def count(frame: FrameType, event: str, argument: object):
        nonlocal executed
        if frame.f_code.co_filename not in SOURCES:
            return None
        if event == "line":
            executed += 1
            do(executed)
        return count

    sys.settrace(count)


def state(folder: Path) -> frozenset[tuple[str, bytes]]:
    """Return all that the next start finds, but for the times in the journal."""
    return frozenset(
        (
            path.relative_to(folder).as_posix(),
            re.sub(rb'"time": ?"[^"]*"', b"", path.read_bytes()) if path.is_file() else b"",
        )
        for path in folder.rglob("*")
    )


def first_lines(folder: Path, change: str) -> list[int]:
    """Make the change; return the first line of each state of the folder, and the number after the last line."""
    first: dict[frozenset[tuple[str, bytes]], int] = {}
    last = 0

    def note(line: int) -> None:
        nonlocal last
        first.setdefault(state(folder), line)
        last = line

    at_each_line(note)
    work(folder, change)
    sys.settrace(None)
    return [*first.values(), last + 1]


def main(template: Path, folders: Path, change: str) -> None:
    """Leave a folder for each state in which a kill can leave it, and one with the finished change.

    Their names are the numbers of the lines. A kill at another line leaves the same files as one of these.
    """
    for line in first_lines(Path(shutil.copytree(template, folders.with_name("undisturbed"))), change):
        folder = folders / f"{line:04d}"
        shutil.copytree(template, folder)
        child = os.fork()
        if not child:
            at_each_line(lambda now, line=line: os.kill(os.getpid(), signal.SIGKILL) if now == line else None)
            work(folder, change)
            os._exit(0)
        os.waitpid(child, 0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
