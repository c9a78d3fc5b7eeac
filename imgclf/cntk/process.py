"""The worker process seen from the parent: start, requests, timeouts, termination."""

import itertools
import os
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Mapping
from pathlib import Path
from threading import Event, Timer
from typing import Any, BinaryIO, NoReturn

import numpy as np
from joblib import cpu_count

from imgclf import ImgclfError
from imgclf.cntk.worker import messages
from imgclf.files import CLONE

# What `make cntk` creates: an environment of Python 3.6 with CNTK, and the MPI stubs.
HOME = (CLONE or Path(sys.prefix)) / ".cntk"
MPI_STUBS = "mpi"
VERIFIED = "proven.json"  # written after the environment has computed a network correctly
WORKER = Path(messages.__file__).parent
START_TIMEOUT_SECONDS = 120  # the first start reads 400 MB from disk
REQUEST_TIMEOUT_SECONDS = 600
LOG_TAIL = 600  # characters
# OMP_WAIT_POLICY: passive, which imgclf sets for torch, makes CNTK's threads 1.7 times slower.
NOT_INHERITED = ("LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "OMP_WAIT_POLICY")
REMEDY = "run `make cntk` again"

Reply = tuple[dict[str, Any], dict[str, np.ndarray]]


def environment() -> Path:
    """The folder of the environment that `make cntk` creates.

    Raises
    ------
    ImgclfError : it does not exist, or `make cntk` did not finish.
    """
    if not (HOME / VERIFIED).exists():
        raise ImgclfError(
            f"CNTK is not installed ({HOME} is missing or unfinished); "
            "run `make cntk` in the folder of the repository, or python -m imgclf.cntk.install, "
            "or use another engine"
        )
    return HOME


class WorkerProcess:
    """A running worker.

    It is killed when this object is closed or garbage-collected, and exits when the parent is gone. It does
    not receive a notebook's interrupt: `request` kills it then. It serves one request at a time; after a
    timeout, a crash or an invalid reply it is killed, and later requests fail.

    Parameters
    ----------
    home : an environment as `make cntk` creates it; by default that one.

    Attributes
    ----------
    capabilities : `cntk`, its version, and `devices`, as the worker reports them.

    Raises
    ------
    ImgclfError : CNTK is not installed, or does not start.
    """

    def __init__(self, *, home: Path | None = None) -> None:
        home = home or environment()
        self.home, self.timeout_seconds = home, REQUEST_TIMEOUT_SECONDS
        self._ids = itertools.count(1)
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `_terminate`
        inherited = {name: value for name, value in os.environ.items() if name not in NOT_INHERITED}
        try:
            self._child = subprocess.Popen(
                [home / "bin" / "python", "-I", WORKER, home / MPI_STUBS],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                bufsize=0,
                start_new_session=True,
                env={"OMP_NUM_THREADS": str(cpu_count()), **inherited, "LC_ALL": "C.UTF-8"},
            )
        except OSError as error:
            self._log.close()
            raise ImgclfError(f"{home / 'bin' / 'python'}: {error.strerror}; {REMEDY}") from error
        self._terminate = weakref.finalize(self, _terminate, self._child, self._log)
        self.capabilities = self._exchange("start", None, {}, START_TIMEOUT_SECONDS)[0]

    @property
    def pid(self) -> int:
        """Process id of the worker."""
        return self._child.pid

    def request(
        self,
        command: str,
        arrays: Mapping[str, np.ndarray] | None = None,
        *,
        timeout_seconds: float | None = None,
        **parameters: Any,
    ) -> Reply:
        """Send a request; return the values and the named arrays of the reply.

        Parameters
        ----------
        command : a public method of `Worker` in worker/__main__.py.
        timeout_seconds : by default that of the object.
        parameters : of the command; JSON must be able to hold them.

        Raises
        ------
        ImgclfError : the worker reported an error, died, timed out, or wrote something that is no reply.
            Except after a reported error, it is killed.
        """
        number = next(self._ids)
        if not self._terminate.alive:
            raise ImgclfError(
                f"CNTK worker, {command}: the process has ended before; run the cell again to start it again"
            )
        values, results = self._exchange(
            command,
            {**parameters, "command": command, "id": number},
            arrays or {},
            timeout_seconds or self.timeout_seconds,
        )
        if values.get("id") != number:
            self._fail(command, f"replied to request {values.get('id')} and not to {number}")
        if "error" in values:
            raise ImgclfError(f"CNTK worker, {command}: {values['error']}")
        return values, results

    def _exchange(
        self,
        command: str,
        request: dict[str, Any] | None,
        arrays: Mapping[str, np.ndarray],
        timeout_seconds: float,
    ) -> Reply:
        """Send a request, if there is one, and read the reply; on a timeout the worker is killed."""
        timed_out = Event()

        def expire() -> None:
            timed_out.set()
            self._child.kill()

        watchdog = Timer(timeout_seconds, expire)
        watchdog.daemon = True
        watchdog.start()
        try:
            if request is not None:
                messages.write(self._child.stdin, request, dict(arrays))
            return messages.read(self._child.stdout)
        except (EOFError, OSError) as error:
            self._fail(
                command,
                f"timed out after {timeout_seconds:g} seconds, and was killed"
                if timed_out.is_set()
                else f"{self._exit_reason()} during the request",
                error,
            )
        except (ValueError, KeyError, TypeError) as error:
            self._fail(command, f"wrote something that is no reply ({error})", error)
        except BaseException:  # an interrupt: the reply would be read as that to the next request
            self.close()
            raise
        finally:
            watchdog.cancel()

    def _exit_reason(self) -> str:
        """How the process ended, in words."""
        try:
            status = self._child.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return "the process closed the pipe"
        if status == messages.WRONG_PYTHON:
            return "the process ended at once, as it is not Python 3.6,"
        if status < 0:
            return f"the process was killed by signal {-status}"
        return f"the process ended with status {status}"

    def _fail(self, command: str, problem: str, error: BaseException | None = None) -> NoReturn:
        tail = self.log()[-LOG_TAIL:].strip()
        self.close()
        raise ImgclfError(
            f"CNTK worker, {command}: {problem}; run it again, and if the error persists, {REMEDY}. "
            f"The end of its log: {tail or 'empty'}"
        ) from error

    def log(self) -> str:
        """What the worker, and CNTK in it, have printed."""
        if self._log.closed:
            return ""
        size = os.fstat(self._log.fileno()).st_size
        return os.pread(self._log.fileno(), size, 0).decode(errors="replace")

    def close(self) -> None:
        """Kill the worker."""
        self._terminate()

    def __enter__(self) -> "WorkerProcess":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _terminate(child: subprocess.Popen[bytes], log: BinaryIO) -> None:
    child.kill()
    child.wait()
    for stream in (child.stdin, child.stdout, log):
        if stream is not None:
            stream.close()
