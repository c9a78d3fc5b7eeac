"""The service in a child process that ends with its parent: for notebooks."""

import json
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
    """A running service. It ends by `stop`, at the end of a `with` block, or when the parent process ends.

    The child reads from a pipe to the parent. The operating system closes the pipe when the parent ends, also
    when it is killed, and then the child ends.

    Attributes
    ----------
    url : of the service, without a trailing slash.
    """

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self.url = url
        self._process = process

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def stop(self) -> None:
        """Shut down gracefully: requests in progress are finished first."""
        if self._process.stdin:
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


def start(model: Path, *, reject_below: float = 0, reject_unfamiliar: bool = False) -> Background:
    """Serve a classifier on a free port of the loopback interface; return when it is ready.

    Parameters
    ----------
    reject_below : smallest probability of a label that is not rejected, 0 to 1.
    reject_unfamiliar : also reject the labels of images that are unlike the training images.

    Raises
    ------
    ImgclfError : the classifier fails its self-test, or cannot tell unfamiliar images that are to be
        rejected; or the service does not start.
    """
    settings = json.dumps({"reject_below": reject_below, "reject_unfamiliar": reject_unfamiliar})
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "imgclf.service.background", str(model), settings],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        assert process.stdout  # it is a pipe
        with process.stdout:
            url = re.search(r"http://\S+", process.stdout.readline())
        service = Background(process, url[0] if url else "")
        if url and _is_ready(service):
            return service
        service.stop()
        log.seek(0)
        reason = log.read().strip().splitlines()
        raise ImgclfError(
            reason[-1].removeprefix("imgclf: ")
            if reason
            else f"{model}: the service does not start; run imgclf serve to see why"
        )


def _is_ready(service: Background) -> bool:
    deadline = time.monotonic() + START_SECONDS
    with httpx.Client(trust_env=False) as client:  # ignore proxies: the service is on this machine
        while service.is_running and time.monotonic() < deadline:
            with suppress(httpx.TransportError):  # it does not accept connections yet
                if client.get(f"{service.url}/ready").is_success:
                    return True
            time.sleep(0.05)
    return False


def main() -> None:
    """Run in the child process: serve until a signal, or until the pipe to the parent closes."""
    from imgclf.service import server

    model, settings = sys.argv[1:]
    Thread(target=_end_with_parent, daemon=True).start()
    try:
        server.serve(Path(model), port=0, **json.loads(settings), say=lambda text: print(text, flush=True))
    except ImgclfError as error:
        sys.exit(f"imgclf: {error}")


def _end_with_parent() -> None:
    # Not sys.stdin.read: this thread would hold its lock while Python shuts down.
    while os.read(sys.stdin.fileno(), 1024):
        continue
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
