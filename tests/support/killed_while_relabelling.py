"""Relabels in a child process that is killed at the k-th line of Python, for each k up to its end; see test_journal.py."""

import os
import shutil
import signal
import sys
from pathlib import Path
from types import FrameType

from imgclf import files
from imgclf.data import changes, journal
from imgclf.data.changes import Step
from imgclf.data.journal import Journal


def wanted(opened: Journal, what: str) -> list[Step]:
    """Two moves, one of which creates a folder; or the undo of the latest change; or a new label."""
    if what == "undo":
        return [step.inverse() for step in reversed(list(opened.active.values())[-1])]
    if what == "add label":
        return [Step("add label", "odd")]
    return [Step("relabel", "red/shop/1.jpg", "blue/shop/1.jpg"), Step("relabel", "red/2.jpg", "blue/2.jpg")]


def work(folder: Path, what: str) -> None:
    opened = Journal(folder)
    with opened.hold():
        opened.carry_out(wanted(opened, what))


def die_at(line: int) -> None:
    """Kill this process at the line-th line of journal.py, changes.py and files.py."""
    seen = 0

    def count(frame: FrameType, event: str, argument: object):
        nonlocal seen
        if frame.f_code.co_filename not in (journal.__file__, changes.__file__, files.__file__):
            return None
        seen += event == "line"
        if seen == line:
            os.kill(os.getpid(), signal.SIGKILL)
        return count

    sys.settrace(count)


def main(template: Path, folders: Path, what: str) -> None:
    """Write a folder for each line at which the work was killed."""
    for line in range(1, 10_000):
        folder = folders / f"{line:04d}"
        shutil.copytree(template, folder)
        child = os.fork()
        if not child:
            die_at(line)
            work(folder, what)
            os._exit(0)
        if os.waitpid(child, 0)[1] == 0:
            return


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
