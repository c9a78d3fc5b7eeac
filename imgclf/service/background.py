"""A service in a process of its own, which ends with the process that started it: for notebooks."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from threading import Thread

import httpx

from imgclf import ImgclfError

START_SECONDS = 120
STOP_SECONDS = 30


class Background:
    """A running service; it ends by `stop`, at the end of a `with`, or when this process is gone, in whatever way.

    A pipe goes from here to the service. The system closes it when this process ends, also when it is killed, and then the service ends itself.

    Attributes
    ----------
    url : its address on this machine, without a slash at the end.
    """

    def __init__(self, process: subprocess.Popen, url: str) -> None:
        self.url = url
        self._process = process

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def stop(self) -> None:
        """End the service when it has answered what it took on; nothing if it has ended."""
        self._process.stdin.close()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> "Background":
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def __str__(self) -> str:
        return "a service on this machine, running" if self.is_running else "a service on this machine, ended"


def start(model: Path, *, reject_below: float = 0) -> Background:
    """Serve a classifier on a free port of this machine, for this machine alone; returns when it is ready.

    Parameters
    ----------
    reject_below : smallest probability with which a label is given, 0 to 1.

    Raises
    ------
    ImgclfError : the classifier is refused, or the service does not start.
    """
    with tempfile.TemporaryFile("w+") as told:
        process = subprocess.Popen(
            [sys.executable, "-m", "imgclf.service.background", str(model), str(reject_below)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=told,
            text=True,
        )
        with process.stdout:
            found = re.search(r"http://\S+", process.stdout.readline())
        service = Background(process, found[0] if found else "")
        if found and _is_ready(service):
            return service
        service.stop()
        told.seek(0)
        reason = told.read().strip().splitlines()
        raise ImgclfError(
            reason[-1].removeprefix("imgclf: ")
            if reason
            else f"{model}: the service does not start; run imgclf serve to see why"
        )


def _is_ready(service: Background) -> bool:
    deadline = time.monotonic() + START_SECONDS
    with httpx.Client(trust_env=False) as client:  # this machine is asked, whatever proxies there are
        while service.is_running and time.monotonic() < deadline:
            with suppress(httpx.TransportError):  # it does not listen yet
                if client.get(f"{service.url}/ready").is_success:
                    return True
            time.sleep(0.05)
    return False


def main() -> None:
    """What the other process runs: serve until told to end, or until the pipe from the one that started it closes."""
    from imgclf.service import server

    model, reject_below = sys.argv[1:]
    Thread(target=_end_with_the_pipe, daemon=True).start()
    try:
        server.serve(
            Path(model), port=0, reject_below=float(reject_below), say=lambda text: print(text, flush=True)
        )
    except ImgclfError as error:
        sys.exit(f"imgclf: {error}")


def _end_with_the_pipe() -> None:
    while os.read(
        sys.stdin.fileno(), 1024
    ):  # not by sys.stdin, whose lock this thread would hold while Python ends
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
