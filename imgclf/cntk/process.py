"""The worker seen from our side: started, asked, watched, and ended."""

import itertools
import os
import subprocess
import tempfile
import weakref
from collections.abc import Mapping
from pathlib import Path
from threading import Event, Timer
from typing import Any, BinaryIO

import numpy as np
from joblib import cpu_count

from imgclf import ImgclfError
from imgclf.cntk.worker import messages

HOME = (
    Path(__file__).parents[2] / ".cntk"
)  # what `make cntk` makes: a Python 3.6 with CNTK, and the stand-in for MPI
MPI = "mpi"
PROVEN = "proven.json"  # stands there when the environment has computed a network
WORKER = Path(messages.__file__).parent
START_SECONDS = 120  # the first start reads 400 MB from disk
ANSWER_SECONDS = 600
LOG_TAIL = 600  # characters
# OMP_WAIT_POLICY: passive, which imgclf sets for torch, makes CNTK's threads 1.7 times slower.
NOT_INHERITED = ("LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "OMP_WAIT_POLICY")
REMEDY = "run `make cntk` again"


def environment() -> Path:
    """The folder of the environment that `make cntk` made.

    Raises
    ------
    ImgclfError : it was not made, or not to its end.
    """
    if not (HOME / PROVEN).exists():
        raise ImgclfError(
            f"CNTK is not installed ({HOME} is missing or unfinished); run `make cntk` in the folder of the repository, or use another engine"
        )
    return HOME


class Process:
    """A running worker.

    It is killed when this object is closed or forgotten, ends by itself when we are gone, and does not hear a notebook's interrupt: `ask` kills it then.
    One request at a time; a worker that failed once to answer is not asked again.

    Parameters
    ----------
    home : an environment as `make cntk` makes it; by default that one.

    Raises
    ------
    ImgclfError : CNTK is not installed, or does not start.
    """

    def __init__(self, *, home: Path | None = None) -> None:
        home = home or environment()
        self.home, self.answer_seconds = home, ANSWER_SECONDS
        self._numbers = itertools.count(1)
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `_end`
        kept = {name: value for name, value in os.environ.items() if name not in NOT_INHERITED}
        try:
            self._child = subprocess.Popen(
                [home / "bin" / "python", "-I", WORKER, home / MPI],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                bufsize=0,
                start_new_session=True,
                env={"OMP_NUM_THREADS": str(cpu_count()), **kept, "LC_ALL": "C.UTF-8"},
            )
        except OSError as error:
            self._log.close()
            raise ImgclfError(f"{home / 'bin' / 'python'}: {error.strerror}; {REMEDY}") from error
        self._end = weakref.finalize(self, _end, self._child, self._log)
        self.about = self._exchange("start", None, {}, START_SECONDS)[0]

    @property
    def pid(self) -> int:
        """The number of the worker's process."""
        return self._child.pid

    def ask(
        self,
        command: str,
        arrays: Mapping[str, np.ndarray] | None = None,
        *,
        seconds: float | None = None,
        **about: Any,
    ) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """What the worker replies to a request: plain values, and arrays by their names.

        Parameters
        ----------
        command : a public method of `Worker` in worker/__main__.py.
        seconds : longest wait; by default `answer_seconds`.

        Raises
        ------
        ImgclfError : the worker refused, died, did not answer in time, or wrote something that is no reply. But for the first, it is killed.
        """
        number = next(self._numbers)
        if not self._end.alive:
            raise ImgclfError(
                f"CNTK, {command}: its process has ended before; start it again by running the cell again"
            )
        told, found = self._exchange(
            command, {**about, "command": command, "id": number}, arrays or {}, seconds or self.answer_seconds
        )
        if told.get("id") != number:
            self._fail(command, f"answered request {told.get('id')} and not {number}")
        if "error" in told:
            raise ImgclfError(f"CNTK, {command}: {told['error']}")
        return told, found

    def _exchange(
        self, command: str, request: dict[str, Any] | None, arrays: Mapping[str, np.ndarray], seconds: float
    ) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Send a request, if there is one, and take the reply; a worker that is silent for too long is killed, which ends the wait."""
        is_late = Event()
        watch = Timer(seconds, lambda: (is_late.set(), self._child.kill()))
        watch.daemon = True
        watch.start()
        try:
            if request is not None:
                messages.write(self._child.stdin, request, dict(arrays))
            return messages.read(self._child.stdout)
        except (EOFError, OSError) as error:
            self._fail(
                command,
                f"gave no answer in {seconds:g} seconds, and was ended"
                if is_late.is_set()
                else f"{self._ending()} in the middle of it",
                error,
            )
        except (ValueError, KeyError, TypeError) as error:
            self._fail(command, f"wrote something that is no reply ({error})", error)
        except BaseException:  # an interrupt: the reply would come when nobody expects it
            self.close()
            raise
        finally:
            watch.cancel()

    def _ending(self) -> str:
        """How the process ended, in words."""
        try:
            status = self._child.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return "its process closed the pipe"
        if status == messages.WRONG_PYTHON:
            return "its process ended at once, as it is not Python 3.6,"
        return (
            f"its process was killed by signal {-status}"
            if status < 0
            else f"its process ended with status {status}"
        )

    def _fail(self, command: str, what: str, error: BaseException | None = None) -> None:
        tail = self.log()[-LOG_TAIL:].strip()
        self.close()
        raise ImgclfError(
            f"CNTK, {command}: {what}; run it again, and if it stays so, {REMEDY}. The end of its log: {tail or 'empty'}"
        ) from error

    def log(self) -> str:
        """What the worker, and CNTK in it, have printed."""
        return (
            os.pread(self._log.fileno(), os.fstat(self._log.fileno()).st_size, 0).decode(errors="replace")
            if not self._log.closed
            else ""
        )

    def close(self) -> None:
        """End the worker."""
        self._end()

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _end(child: subprocess.Popen[bytes], log: BinaryIO) -> None:
    child.kill()
    child.wait()
    child.stdin.close()
    child.stdout.close()
    log.close()
