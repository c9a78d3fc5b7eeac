"""Decoding in processes of their own, with limits of memory and time that end it.

What a client sends is decoded nowhere else. A decoder that crashes, hangs or needs too much memory costs its
request and not the service.
"""

import asyncio
import multiprocessing
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from queue import SimpleQueue

import numpy as np

from imgclf import ImgclfError
from imgclf.images.decoding import MEMORY_BESIDE
from imgclf.images.preprocessing import Preprocessing
from imgclf.service import decoder_process
from imgclf.service.decoder_process import NEEDED, PIXELS, SIZE, Task
from imgclf.service.limits import Limits
from imgclf.service.load import Budget

SPAWN = multiprocessing.get_context("spawn")  # a fork would copy locks that the service's threads hold
SMALL_BYTES = 2 * MEMORY_BESIDE  # memory of the first attempt; photographs as JPEG need less
START_SECONDS = 60


class TooSlow(ImgclfError):
    """An image whose decoding was ended, since it took too long."""


@dataclass(frozen=True, eq=False)
class Decoded:
    """An image, letterboxed, (S, S, 3) uint8, RGB; and its height and width before, in some unit."""

    pixels: np.ndarray
    height: int
    width: int


class Decoder:
    """Decodes images in a fixed number of processes.

    Parameters
    ----------
    budget : memory of all of them together; an image waits until its share is free.

    Attributes
    ----------
    slots : semaphore to be held while an image is decoded; one slot for each process.
    """

    def __init__(self, processes: int, limits: Limits, budget: Budget) -> None:
        self._limits, self._budget = limits, budget
        self.slots = asyncio.Semaphore(processes)
        self._processes = [_Process() for _ in range(processes)]
        self._idle: SimpleQueue[_Process] = SimpleQueue()
        for process in self._processes:
            self._idle.put(process)
        self._threads = ThreadPoolExecutor(processes, thread_name_prefix="decoder")  # wait for the processes

    async def start(self) -> None:
        """Start all processes; otherwise the first images would wait for them."""
        await asyncio.gather(*(asyncio.to_thread(process.start) for process in self._processes))

    def close(self) -> None:
        """Decode what is queued, and end the processes."""
        self._threads.shutdown()
        for process in self._processes:
            process.end()

    async def decode(self, content: bytes, preprocessing: Preprocessing, name: str) -> Decoded:
        """Return an image decoded and letterboxed.

        Raises
        ------
        ImgclfError : see `decoding.decode`; or it needs more memory or time than there is.
        """
        granted, side = SMALL_BYTES, preprocessing.input_size
        while True:
            reply = await self._reply(content, preprocessing, name, granted)
            kind, value = reply[:1], reply[1:]
            if kind == PIXELS:
                pixels = np.frombuffer(value, np.uint8, offset=SIZE.size).reshape(side, side, 3)
                return Decoded(pixels, *SIZE.unpack_from(value))
            if kind != NEEDED:
                raise ImgclfError(value.decode(errors="replace"))
            granted = int(value)
            share = granted + _copies(content)
            if share > self._budget.total:
                raise ImgclfError(
                    f"{name}: needs about {share / 1e6:,.0f} MB of memory to decode, "
                    f"and the service has {self._budget.total / 1e6:,.0f}; "
                    "shrink it, or save it as a JPEG that is not progressive"
                )

    async def _reply(self, content: bytes, preprocessing: Preprocessing, name: str, granted: int) -> bytes:
        """Return what a decoder process replies."""
        seconds = self._limits.decode_seconds
        task = Task(content, name, preprocessing, self._limits.pixels, granted, seconds)
        async with self._budget.reserve(granted + _copies(content)):
            try:
                return await asyncio.get_running_loop().run_in_executor(self._threads, self._ask, task)
            except EOFError:
                raise ImgclfError(
                    f"{name}: the decoder crashed; save it again, or in another format"
                ) from None
            except TimeoutError:
                raise TooSlow(
                    f"{name}: decoding takes longer than {seconds:g} seconds; shrink it, or save it again"
                ) from None

    def _ask(self, task: Task) -> bytes:
        process = self._idle.get()  # there is one for each thread
        try:
            with suppress(EOFError):  # it may have been ended for another reason: a second attempt
                return process.ask(task)
            return process.ask(task)
        finally:
            self._idle.put(process)


def _copies(content: bytes) -> int:
    """Return the bytes that the content of an image takes on its way to a process."""
    return 3 * len(content)


class _Process:
    """One decoder process; it is started again when it is needed after it was killed."""

    def __init__(self) -> None:
        self._process: multiprocessing.process.BaseProcess | None = None

    def start(self) -> None:
        """Start the process, and wait until it has imported its modules.

        Raises
        ------
        EOFError : it does not start.
        """
        self._connection, theirs = SPAWN.Pipe()
        self._process = SPAWN.Process(target=decoder_process.run, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()
        try:
            self._receive(START_SECONDS)
        except TimeoutError:
            raise EOFError from None

    def ask(self, task: Task) -> bytes:
        """Return the reply to a task.

        Raises
        ------
        EOFError : the process crashed. TimeoutError : it took too long, and was killed.
        """
        if self._process is None or not self._process.is_alive():
            self.end()
            self.start()
        try:
            self._connection.send(task)
        except OSError:
            self.end()
            raise EOFError from None
        return self._receive(task.seconds)

    def _receive(self, seconds: float) -> bytes:
        try:
            if self._connection.poll(seconds):
                return self._connection.recv_bytes()  # not a pickle, which could run code here
        except (EOFError, OSError):
            self.end()
            raise EOFError from None
        self.end()
        raise TimeoutError

    def end(self) -> None:
        """Kill the process."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process.close()
            self._connection.close()
            self._process = None
