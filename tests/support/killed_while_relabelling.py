"""Relabels in child processes, the k-th of which is killed at the k-th line of Python, until one finishes; see test_journal.py."""

import os
import shutil
import signal
import sys
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


def die_at(line: int) -> None:
    """Kill this process by SIGKILL at the line-th executed line of the modules in SOURCES."""
    executed = 0

    def count(frame: FrameType, event: str, argument: object):
        nonlocal executed
        if frame.f_code.co_filename not in SOURCES:
            return None
        executed += event == "line"
        if executed == line:
            os.kill(os.getpid(), signal.SIGKILL)
        return count

    sys.settrace(count)


def main(template: Path, folders: Path, change: str) -> None:
    """Leave one folder per line at which the process was killed."""
    for line in range(1, 10_000):
        folder = folders / f"{line:04d}"
        shutil.copytree(template, folder)
        child = os.fork()
        if not child:
            die_at(line)
            work(folder, change)
            os._exit(0)
        if os.waitpid(child, 0)[1] == 0:
            return


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
