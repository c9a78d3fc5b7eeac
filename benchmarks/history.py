"""What the run history adds to a run on the demo set, and how long a list of 200 runs takes.

Processor time of this process and its children, and bytes on disk. The executed notebooks, which were kept before there was a
history, do not count.
"""

import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from unittest import mock

from imgclf import parameters
from imgclf.experiments import html_report, sequence
from imgclf.experiments.history import recording, runs, tracking
from imgclf.experiments.history import run as records

RUNS = 200


def processor_seconds(work: Callable[[], object]) -> float:
    """Return the processor seconds that a function takes, with its child processes."""
    kinds = resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN

    def used() -> float:
        return sum(found.ru_utime + found.ru_stime for found in map(resource.getrusage, kinds))

    before = used()
    work()
    return used() - before


@contextmanager
def timed_calls(module: ModuleType, name: str) -> Iterator[list[float]]:
    """Replace a function of a module for the length of the block; gives the wall seconds of its calls."""
    seconds: list[float] = []
    work = getattr(module, name)

    def timed(*values: object, **named: object) -> object:
        start = time.perf_counter()
        try:
            return work(*values, **named)
        finally:
            seconds.append(time.perf_counter() - start)

    with mock.patch.object(module, name, timed):
        yield seconds


def megabytes(data: Path) -> float:
    """Return the size of the history in a data folder, but executed notebooks; hard links count once."""
    found = {}
    for folder in (data / "runs", data / tracking.ARTIFACTS):
        for path in folder.rglob("*"):
            if path.is_file() and path.suffix != ".ipynb":
                found[path.stat().st_ino] = path.stat().st_size
    return (sum(found.values()) + (data / tracking.DATABASE).stat().st_size) / 1e6


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as data:
        os.environ["IMGCLF_DATA"] = data
        values = {each.name: each.default for each in parameters.for_notebook("05")}
        with (
            timed_calls(tracking, "hand_in_all") as handing_in,
            timed_calls(recording, "finish") as finishing,
        ):
            _, first = sequence.run({})
        assert first is not None
        print(f"a first run waits {finishing[0]:.1f} s for its record, {handing_in[0]:.1f} s for MLflow")
        size = megabytes(Path(data))
        print(f"first run: {size:.1f} MB")
        run = runs.start(runs.BY_RUN, str(values["dataset_name"]), {})
        print(f"recording: {processor_seconds(lambda: recording.finish(run, values)):.1f} processor s")
        print(f"handing in to MLflow: {processor_seconds(tracking.hand_in_all):.1f} processor s")
        shutil.copy(first / "05_evaluate.ipynb", runs.reread(run).folder)
        report = processor_seconds(lambda: html_report.write_of(runs.reread(run)))
        print(f"report: {report:.1f} processor s")
        print(f"second run of the same network: {megabytes(Path(data)) - size:.1f} MB")
        for number in range(RUNS - len(runs.all_runs())):
            folder = first.with_name(f"copy {number}")
            shutil.copytree(first, folder)
            records.write(replace(records.read(folder), folder=folder, id=uuid.uuid4().hex))
        for command in (["--version"], ["runs"]):
            words = [sys.executable, "-m", "imgclf.cli", *command]
            seconds = []
            for _ in range(5):
                start = time.perf_counter()
                subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
                seconds.append(time.perf_counter() - start)
            print(f"imgclf {command[0]}, {RUNS} runs: {min(seconds):.2f} s (the fastest of 5)")


if __name__ == "__main__":
    main()
