"""The load of the service: requests in progress, their bodies, and the memory that tasks share."""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

from starlette.exceptions import HTTPException

from imgclf.service.limits import RETRY_AFTER_SECONDS, Limits


@dataclass
class Load:
    """The current load: requests in progress and bytes in memory. One event loop uses it, without a lock."""

    limits: Limits
    requests: int = 0
    held_bytes: Counter[str] = field(default_factory=Counter, init=False)  # by the address of the client

    @contextmanager
    def request(self) -> Iterator[None]:
        """Count one more request in progress.

        Raises
        ------
        HTTPException : 503, the queue is full.
        """
        self.check_queue()
        self.requests += 1
        try:
            yield
        finally:
            self.requests -= 1

    def check_queue(self) -> None:
        """Reject a request before its body is read if the queue is full."""
        if self.requests >= self.limits.queue:
            raise busy(f"{self.limits.queue} requests are waiting already")

    @contextmanager
    def body(self, client: str) -> Iterator["ReceivedBody"]:
        """Count the bytes of one body for as long as it, or its images, are in memory."""
        received = ReceivedBody(self, client)
        try:
            yield received
        finally:
            self.held_bytes[client] -= received.held_bytes
            self.held_bytes += Counter()  # removes the addresses that hold nothing


@dataclass
class ReceivedBody:
    """The body of one request, as far as it has arrived."""

    load: Load
    client: str
    content: bytearray = field(default_factory=bytearray)
    held_bytes: int = 0

    def add(self, chunk: bytes) -> None:
        """Append a chunk.

        Raises
        ------
        HTTPException : 503, the bodies of this client, or all together, would be too large.
        """
        held, limits = self.load.held_bytes, self.load.limits
        if held.total() + len(chunk) > limits.held_bytes:
            raise busy("the memory limit for request bodies is reached")
        if held[self.client] + len(chunk) > limits.client_bytes:
            raise busy("the memory limit for the request bodies of one client is reached")
        held[self.client] += len(chunk)
        self.held_bytes += len(chunk)
        self.content += chunk

    def take(self) -> bytes:
        """Return the whole body, which is kept here no longer; its bytes still count."""
        content, self.content = bytes(self.content), bytearray()
        return content


class Budget:
    """Memory that tasks share: a task waits until the bytes that it needs are free, first come, first served.

    Parameters
    ----------
    total : bytes.
    """

    def __init__(self, total: int) -> None:
        self.total = self._free = total
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def reserve(self, needed: int) -> AsyncIterator[None]:
        """Hold `needed` bytes, at most all there are. A task that holds some must not ask for more."""
        needed = min(needed, self.total)
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((needed, turn))
        self._admit()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._release(needed)
            raise
        try:
            yield
        finally:
            self._release(needed)

    def _release(self, held: int) -> None:
        self._free += held
        self._admit()

    def _admit(self) -> None:
        while self._waiting and (self._waiting[0][1].cancelled() or self._waiting[0][0] <= self._free):
            needed, turn = self._waiting.popleft()
            if not turn.cancelled():
                self._free -= needed
                turn.set_result(None)


def busy(reason: str) -> HTTPException:
    """Return the error 503 with a Retry-After header."""
    return HTTPException(
        503,
        f"{reason}; send the request again after the seconds that Retry-After says",
        {"Retry-After": str(RETRY_AFTER_SECONDS)},
    )
