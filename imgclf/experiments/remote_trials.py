"""Trials of a sweep by the workers of a cluster, in processes that write to the data folder all share."""

import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path

from imgclf import ImgclfError, files
from imgclf.data.dataset import Dataset
from imgclf.experiments import trials
from imgclf.experiments.trials import Trial
from imgclf.images.workers import REFRESH_SECONDS, Lost, Workers
from imgclf.parameters import Value, project_file

MODULE = "imgclf.experiments.remote_trials"
TOKEN = "sweep-{}"  # file below proc/NAME by which workers know the data folder
DONE = "done: "  # starts the last line of the process of a trial
# Dask sets them to 1 in its workers; fine-tuning has other results with another number of threads.
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "LOKY_MAX_CPU_COUNT")
_running: dict[str, set[subprocess.Popen[bytes]]] = {}  # in this worker, by the id of the sweep
_stopped: set[str] = set()  # sweeps, of which no trial may start in this worker any more
_one_trial = threading.Lock()  # at once in a worker


@dataclass(frozen=True)
class Job:
    """One trial, and what its process needs to compute it as the machine of the sweep would.

    Attributes
    ----------
    fingerprint : see `Trial`. sweep : see `token`.
    environment : variables of the machine of the sweep.
    """

    scanned: Dataset
    values: Mapping[str, Value]
    fingerprint: str
    sweep: str
    data_dir: Path = field(default_factory=files.data_dir)
    folder: Path = field(default_factory=Path.cwd)
    environment: Mapping[str, str] = field(default_factory=lambda: _environment())


class EndedError(Exception):
    """The process of a trial ended without a result."""


@contextmanager
def token(dataset_name: str) -> Iterator[str]:
    """Write the file by which workers know the data folder; yield the id of the sweep, which names it."""
    sweep = uuid.uuid4().hex
    path = files.proc_dir(dataset_name) / TOKEN.format(sweep)
    files.write_text(path, "")
    try:
        yield sweep
    finally:
        path.unlink(missing_ok=True)


def run(jobs: Sequence[Job], workers: Workers) -> Generator[Trial | None]:
    """Yield the trials in order, each computed by a worker; None for one that this machine must compute.

    At once there are as many as the cluster has processes, also if these come or go meanwhile.

    Raises
    ------
    ImgclfError : a worker does not see the data folder, has other notebooks, or cannot write.
    """

    def computed(job: Job) -> Trial | None:
        name = trials.trial_name(job.scanned.name, job.values)
        try:
            workers.call(in_process, job)
        except Lost:
            return None
        except EndedError as error:
            return Trial(name, dict(job.values), job.fingerprint, {}, error=str(error))
        return trials.read(name)

    if not jobs:
        return
    pool = ThreadPoolExecutor(len(jobs))
    futures: list[Future[Trial | None]] = []
    try:
        for number in range(len(jobs)):
            while number >= len(futures) or not futures[number].done():
                free = workers.processes() - sum(not future.done() for future in futures)
                futures += [pool.submit(computed, job) for job in jobs[len(futures) :][: max(0, free)]]
                running = [future for future in futures if not future.done()]
                wait(running, REFRESH_SECONDS, FIRST_COMPLETED)
            yield futures[number].result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        workers.everywhere(stop, jobs[0].sweep)


def in_process(job: Job) -> None:
    """Compute a trial, in a worker, in a process that ends with the worker; it writes `trial.json`.

    Raises
    ------
    ImgclfError : see `run`.
    """
    if not (job.data_dir / "proc" / job.scanned.name / TOKEN.format(job.sweep)).is_file():
        raise ImgclfError(
            f"a worker of the cluster does not see the data folder {job.data_dir}; sweeps need it, and the "
            "images, at the same path on every machine, see docs/cluster.md; or set cluster=''"
        )
    with _one_trial:
        if job.sweep in _stopped:
            raise EndedError("the sweep was stopped")
        last, status = _computed(job)
    if not last:
        reason = ", mostly for lack of memory" if status == -signal.SIGKILL else f" (status {status})"
        raise EndedError(f"its process in a worker ended{reason}; see the worker's log")
    if error := json.loads(last.decode().removeprefix(DONE)):
        raise ImgclfError(error)


def _computed(job: Job) -> tuple[bytes, int]:
    """Compute a trial in a process; return its last line, b"" if there was none, and its exit status."""
    kept = {name: value for name, value in os.environ.items() if name not in THREADS}
    with subprocess.Popen(
        [sys.executable, "-P", "-m", MODULE],
        env={**kept, **job.environment},
        cwd=job.folder if job.folder.is_dir() else job.data_dir,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdin and process.stdout
        of_sweep = _running.setdefault(job.sweep, set())
        of_sweep.add(process)
        if job.sweep in _stopped:  # just now
            process.terminate()
        try:
            pickle.dump(job, process.stdin)
            process.stdin.flush()
            last = next((line for line in process.stdout if line.startswith(DONE.encode())), b"")
        finally:
            of_sweep.discard(process)
            process.stdin.close()
    return last, process.returncode


def stop(sweep: str) -> None:
    """Stop, in a worker, the trials of a sweep, as Ctrl-C would."""
    _stopped.add(sweep)
    for process in list(_running.pop(sweep, ())):
        process.terminate()


def main() -> None:
    """Compute the trial that comes on standard input; stop when that is closed."""
    from imgclf.experiments import sequence, sweep

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    job: Job = pickle.load(sys.stdin.buffer)
    threading.Thread(target=_stop_at_end, daemon=True).start()
    error = ""
    try:
        with sequence.stoppable(), redirect_stdout(sys.stderr):
            if files.data_dir() != job.data_dir:
                raise ImgclfError(f"the data folder of a worker is {files.data_dir()}, not {job.data_dir}")
            sweep.trial(job.scanned, dict(job.values), fingerprint=job.fingerprint)
    except ImgclfError as raised:
        error = str(raised)
    print(DONE + json.dumps(error), flush=True)


def _stop_at_end() -> None:
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)


def _environment() -> dict[str, str]:
    names = ("IMGCLF_DATA", project_file.FIXED, *THREADS)
    return {name: os.environ[name] for name in names if name in os.environ}


if __name__ == "__main__":
    main()
