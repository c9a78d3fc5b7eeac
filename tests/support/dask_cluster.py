"""A real scheduler of Dask with real worker processes, which a test may kill."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from distributed import Client

from support.project import ROOT

START_SECONDS = 60
ENVIRONMENT = {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}


@dataclass
class Cluster:
    address: str
    scheduler: subprocess.Popen
    workers: list[subprocess.Popen]
    start_worker: Callable[[], subprocess.Popen]

    def tasks(self) -> int:
        """How many tasks the scheduler knows, of anybody."""
        with Client(self.address, set_as_default=False) as client:
            return client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks))


@contextmanager
def running(
    folder: Path, workers: int = 2, threads: int = 1, options: Sequence[str] = ()
) -> Iterator[Cluster]:
    """Run a cluster whose workers have no nanny: what is killed stays dead."""
    scheduler_file = folder / "scheduler.json"
    with ExitStack() as stack:

        def start(program: str, *arguments: str) -> subprocess.Popen:
            command = [sys.executable, "-P", "-m", f"distributed.cli.{program}", *arguments]
            process = subprocess.Popen(
                command,
                env=os.environ | ENVIRONMENT,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
            return process

        here = ("--host", "127.0.0.1", "--no-dashboard", "--scheduler-file", str(scheduler_file), *options)
        scheduler = start("dask_scheduler", "--port", "0", *here)
        wait_for(scheduler_file)
        settings = ("--no-nanny", "--nthreads", str(threads), "--local-directory", str(folder))
        start_worker = partial(start, "dask_worker", *here, *settings)
        started = [start_worker() for _ in range(workers)]
        with Client(scheduler_file=str(scheduler_file), set_as_default=False) as client:
            if workers:
                client.wait_for_workers(workers, timeout=START_SECONDS)
            address = client.scheduler.address
        yield Cluster(address, scheduler, started, start_worker)


def wait_for(file: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while not file.exists() or not file.read_bytes().endswith(b"}"):
        assert time.monotonic() < end, f"no {file}"
        time.sleep(0.05)


def squares(factor: int, items: Sequence[int]) -> Iterator[int]:
    """A piece of work that takes its time."""
    for item in items:
        time.sleep(0.05)
        yield factor * item * item


def process_ids(_: None, items: Sequence[int]) -> Iterator[int]:
    """The process that computes, for each item."""
    for _ in items:
        time.sleep(0.05)
        yield os.getpid()


def spans(_: None, items: Sequence[int]) -> Iterator[tuple[float, float, int]]:
    """When a piece of work began and ended, and in which thread, for its first item."""
    start = time.monotonic()
    time.sleep(0.1)
    yield start, time.monotonic(), threading.get_ident()
