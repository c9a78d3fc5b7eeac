"""A decoder process: decodes one image after another, each within limits of memory and time.

It imports what decoding needs and nothing more, since there are several of them.
"""

import re
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from struct import Struct

import cv2
from PIL import AvifImagePlugin

from imgclf import ImgclfError
from imgclf.images import decoding
from imgclf.images.jpeg_segments import MAX_SCANS, has_more_scans
from imgclf.images.preprocessing import Preprocessing

# Pillow reserves the memory of two pictures when it opens a WebP, and does not use it yet.
WEBP_HEADER_BYTES = 8 * 2**28
STATUS = Path("/proc/self/status")
PIXELS, REASON, NEEDED = b"p", b"r", b"n"  # first byte of a reply: what follows it
SIZE = Struct(">II")  # before the pixels: height and width of the decoded image


@dataclass(frozen=True)
class Task:
    """One image to decode.

    Attributes
    ----------
    name : in error messages. max_pixels : see `decoding.decode`.
    granted_bytes : memory that decoding may take. seconds : the service kills the process after that time.
    """

    content: bytes
    name: str
    preprocessing: Preprocessing
    max_pixels: int
    granted_bytes: int
    seconds: float


def run(tasks: Connection) -> None:
    """Reply to each `Task` with bytes, until the service closes the connection or ends."""
    for ignored in (signal.SIGINT, signal.SIGHUP):  # the service acts on them
        signal.signal(ignored, signal.SIG_IGN)
    cv2.setNumThreads(1)
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # each thread's stack counts as memory
    with suppress(EOFError, OSError):
        tasks.send_bytes(b"")  # ready
        while True:  # no variable keeps an image while the next one is awaited
            tasks.send_bytes(_reply(tasks.recv()))


def _reply(task: Task) -> bytes:
    """Return size and pixels (S, S, 3) of an image, why it cannot be decoded, or the memory that it needs."""
    signal.setitimer(signal.ITIMER_REAL, 2 * task.seconds)  # ends this process also if the service is gone
    try:
        return _decoded(task)
    except ImgclfError as error:
        return REASON + str(error).encode()
    except MemoryError:
        return REASON + f"{task.name}: needs too much memory to decode; save it in another format".encode()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _decoded(task: Task) -> bytes:
    side = task.preprocessing.input_size
    is_webp = task.content[8:12] == b"WEBP"
    if has_more_scans(task.content, MAX_SCANS):
        raise ImgclfError(f"{task.name}: a JPEG of more than {MAX_SCANS} scans; save it again")
    with _memory_limit(max(task.granted_bytes, WEBP_HEADER_BYTES if is_webp else 0)):
        needed = decoding.memory_needed(task.content, task.name, side=side, max_pixels=task.max_pixels)
    if needed > task.granted_bytes:
        return NEEDED + str(needed).encode()
    with _memory_limit(task.granted_bytes):
        decoded = decoding.decode(task.content, task.name, side=side, max_pixels=task.max_pixels)
        pixels = task.preprocessing.letterbox(decoded)
    return PIXELS + SIZE.pack(*decoded.shape[:2]) + pixels.tobytes()


@contextmanager
def _memory_limit(more_bytes: int) -> Iterator[None]:
    """Let memory that is requested beyond `more_bytes` be refused (Linux)."""
    if not STATUS.exists():
        yield
        return
    found = re.search(r"VmData:\s+(\d+) kB", STATUS.read_text())
    used = int(found[1]) * 1024 if found else 0
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    wanted = used + more_bytes
    resource.setrlimit(
        resource.RLIMIT_DATA, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard)
    )
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))
