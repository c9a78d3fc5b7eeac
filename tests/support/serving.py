"""A service as a process of its own, as a user starts it."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

START_SECONDS = 60
COMMAND = "import sys; sys.argv[0] = 'imgclf'; from imgclf.cli import main; main()"
# What the command line has no options for, as it is of no use but here.
WITH_LIMITS = (
    "import sys, json, pathlib; from imgclf.service import limits, server; given = json.loads(sys.argv[2]); "
    "server.serve(pathlib.Path(sys.argv[1]), port=0, limits=limits.Limits(**given), say=lambda text: print(text, file=sys.stderr, flush=True))"
)


@dataclass
class Server:
    """A running service.

    Attributes
    ----------
    url : without a slash at its end. log : all that it has written. process : what was started; with workers, their parent.
    """

    url: str
    log: Path
    process: subprocess.Popen
    http: httpx.Client = field(repr=False)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        url = httpx.URL(self.url)
        return url.host, url.port

    def memory_mb(self, what: str = "VmRSS") -> float:
        """Memory of the process now, or with "VmHWM" at its highest, in 10^6 bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(rf"{what}:\s+(\d+) kB", status)[1]) * 1024 / 1e6

    def children(self) -> list[int]:
        """The processes that it has started, and those that they have started (Linux)."""
        parents = {}
        for status in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):  # it has ended
                parents[int(status.parent.name)] = int(status.read_text().rpartition(")")[2].split()[1])
        found = [self.process.pid]
        for pid in found:
            found += [child for child, parent in parents.items() if parent == pid]
        return found[1:]

    def family_memory_mb(self) -> float:
        """Memory of the process and all its children in 10^6 bytes; what they share is counted once."""
        total = 0
        for pid in [self.process.pid, *self.children()]:
            with suppress(OSError):
                rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
                total += int(re.search(r"Pss:\s+(\d+) kB", rollup)[1]) * 1024
        return total / 1e6

    def threads(self) -> int:
        """Threads of the process (Linux)."""
        return len(list(Path(f"/proc/{self.process.pid}/task").iterdir()))

    def forget_highest_memory(self) -> None:
        """Begin to count "VmHWM" anew."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def signal(self, number: int) -> None:
        os.kill(self.process.pid, number)

    def stop(self) -> str:
        """End it in good order; returns all that it has written."""
        if self.process.poll() is None:
            self.signal(signal.SIGTERM)
        self.process.wait(30)
        return self.log.read_text()

    def score(self, content: bytes, kind: str = "image/jpeg", **headers: str) -> httpx.Response:
        """The answer to one image as it is."""
        return self.http.post("/score", content=content, headers={"Content-Type": kind, **headers})

    def metric(self, name: str) -> float:
        """The value of a metric without labels, or the sum over its labels; 0 if there is none."""
        text = self.http.get("/metrics").raise_for_status().text
        return sum(float(value) for value in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.MULTILINE))


@contextmanager
def running(
    model: Path,
    *options: str,
    limits: str = "",
    prelude: str = "",
    environment: dict[str, str] | None = None,
    headers: dict[str, Any] | None = None,
) -> Iterator[Server]:
    """A service of a model on a port that is free.

    Parameters
    ----------
    options : of `imgclf serve`. limits : JSON of the fields of `Limits`, instead of options. prelude : Python that the process begins with.
    headers : of all requests by `Server.http`.
    """
    log = model.parent / f"serve_{time.monotonic_ns()}.log"
    code, *arguments = (
        [WITH_LIMITS, model, limits] if limits else [COMMAND, "serve", "--port", "0", *options, model]
    )
    process = subprocess.Popen(
        [sys.executable, "-c", prelude + code, *map(str, arguments)],
        env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    log.touch()
    copying = threading.Thread(
        target=_copy, args=(process, log)
    )  # the process itself may have been forbidden to write files
    copying.start()
    try:
        url = _url(process, log)
        with httpx.Client(base_url=url, trust_env=False, timeout=60, headers=headers) as http:
            _wait_until_ready(http, process, log)
            yield Server(url, log, process, http)
    finally:
        process.terminate()
        try:
            process.wait(30)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # workers too, whose parent may be gone
            copying.join()
            process.stdout.close()


def _copy(process: subprocess.Popen, log: Path) -> None:
    with log.open("ab", buffering=0) as file:
        for line in process.stdout:
            file.write(line)


def _url(process: subprocess.Popen, log: Path) -> str:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        if found := re.search(r" on (http://\S+)", log.read_text()):
            return found[1]
        time.sleep(0.05)
    raise RuntimeError(f"the service did not start; it wrote:\n{log.read_text()}")


def _wait_until_ready(http: httpx.Client, process: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            if http.get("/ready").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.05)
    raise RuntimeError(f"the service did not get ready; it wrote:\n{log.read_text()}")
