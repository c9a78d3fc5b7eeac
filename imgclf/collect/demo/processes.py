"""Processes that render images of the demo set; threads would wait for each other's Python code."""

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from queue import SimpleQueue
from threading import Semaphore

import cv2
from joblib import cpu_count

from imgclf.collect import demo

# Not by multiprocessing: it would run the program of the user again in each process.
MODULE = "imgclf.collect.demo.processes"
IMAGES = 20  # for each process at least: starting it takes as long as rendering eight
MOST = 8  # processes; each takes some 70 MB
# The C library of Linux would return the memory of each large array to the system, and request it again for
# the next one: a tenth of the time. Other systems ignore these.
ENVIRONMENT = dict.fromkeys(("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"), str(2**30))


@contextmanager
def responses(images: int) -> Iterator[Callable[[str], demo.Response]]:
    """Yield a function for any thread that returns what `demo.response` does, computed by processes.

    They end with the block, or when this process ends, however it does.

    Parameters
    ----------
    images : about how many will be rendered; a few are rendered in this process, no more at once than there
        are cores.
    """
    cores = Semaphore(cpu_count())

    def rendered_here(source: str) -> demo.Response:
        with cores:
            return demo.response(source)

    count = min(cpu_count(), images // IMAGES, MOST)
    if count < 2:
        yield rendered_here
        return
    idle: SimpleQueue[subprocess.Popen[bytes] | None] = SimpleQueue()  # None in place of one that failed

    def response(source: str) -> demo.Response:
        process, usable = idle.get(), None
        try:
            if process:
                found = _reply(process, source)
                usable = process
                return found
        except (EOFError, OSError, pickle.UnpicklingError):  # the process was killed
            pass
        finally:
            idle.put(usable)  # not after half a reply, as Ctrl-C leaves it
        return rendered_here(source)

    with ExitStack() as stack:
        for _ in range(count):
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", MODULE],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**os.environ, **ENVIRONMENT},
            )
            stack.callback(_end, process)
            idle.put(process)
        yield response


def _reply(process: subprocess.Popen[bytes], source: str) -> demo.Response:
    assert process.stdin and process.stdout
    pickle.dump(source, process.stdin)
    process.stdin.flush()
    found: demo.Response = pickle.load(process.stdout)
    return found


def _end(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin and process.stdout
    process.kill()  # it may wait until someone reads its reply
    process.wait()
    process.stdout.close()
    with suppress(OSError):  # it holds what the process did not read
        process.stdin.close()


def main() -> None:
    """Write the response for each source on standard input, until that is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the notebook acts on it
    cv2.setNumThreads(1)
    with suppress(EOFError, OSError):
        while True:
            pickle.dump(demo.response(pickle.load(sys.stdin.buffer)), sys.stdout.buffer)
            sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
