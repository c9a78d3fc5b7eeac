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
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path

from imgclf import ImgclfError, files
from imgclf.data.dataset import Dataset
from imgclf.experiments import trials
from imgclf.experiments.trials import Trial
from imgclf.images.loading import in_parallel
from imgclf.images.workers import Lost, Workers
from imgclf.parameters import Value, project_file

MODULE = "imgclf.experiments.remote_trials"
TOKEN = "sweep"  # file below proc/NAME by which workers know the data folder
DONE = "done: "  # starts the last line of the process of a trial
# Dask sets them to 1 in its workers; fine-tuning has other results with another number of threads.
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "LOKY_MAX_CPU_COUNT")
_running: dict[str, set[subprocess.Popen[bytes]]] = {}  # in this worker, by the id of the sweep
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


@contextmanager
def token(dataset_name: str) -> Iterator[str]:
    """Write the file by which workers know the data folder; yield its content, the id of the sweep."""
    path, content = files.proc_dir(dataset_name) / TOKEN, uuid.uuid4().hex
    files.write_text(path, content)
    try:
        yield content
    finally:
        path.unlink(missing_ok=True)


def run(jobs: Sequence[Job], workers: Workers) -> Generator[Trial | None]:
    """Yield the trials in order, each computed by a worker; None for one that this machine must compute.

    Raises
    ------
    ImgclfError : a worker does not see the data folder, has other notebooks, or cannot write.
    """

    def computed(job: Job) -> Trial | None:
        try:
            workers.call(in_process, job)
        except Lost:
            return None
        return trials.read(trials.trial_name(job.scanned.name, job.values))

    if not jobs:
        return
    processes = workers.processes()
    try:
        yield from in_parallel(computed, jobs, threads=processes, ahead=processes)
    finally:
        workers.everywhere(stop, jobs[0].sweep)


def in_process(job: Job) -> None:
    """Compute a trial, in a worker, in a process that ends with the worker; it writes `trial.json`.

    Raises
    ------
    ImgclfError : see `run`.
    """
    if files.read_text(job.data_dir / "proc" / job.scanned.name / TOKEN) != job.sweep:
        raise ImgclfError(
            f"a worker of the cluster does not see the data folder {job.data_dir}; sweeps need it, and the "
            "images, at the same path on every machine, see docs/cluster.md; or set cluster=''"
        )
    kept = {name: value for name, value in os.environ.items() if name not in THREADS}
    with (
        _one_trial,
        subprocess.Popen(
            [sys.executable, "-P", "-m", MODULE],
            env={**kept, **job.environment},
            cwd=job.folder if job.folder.is_dir() else job.data_dir,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as process,
    ):
        assert process.stdin and process.stdout
        of_sweep = _running.setdefault(job.sweep, set())
        of_sweep.add(process)
        try:
            pickle.dump(job, process.stdin)
            process.stdin.flush()
            last = next((line for line in process.stdout if line.startswith(DONE.encode())), b"")
        finally:
            of_sweep.discard(process)
            process.stdin.close()
    if not last:
        raise RuntimeError(f"the process of the trial {dict(job.values)} ended early; see the worker's log")
    if error := json.loads(last.decode().removeprefix(DONE)):
        raise ImgclfError(error)


def stop(sweep: str) -> None:
    """Stop, in a worker, the trials of a sweep, as Ctrl-C would."""
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
