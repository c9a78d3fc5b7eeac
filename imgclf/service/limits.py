"""Limits of the service: per request, and on all requests together."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from starlette.exceptions import HTTPException

from imgclf.images.decoding import MAX_PIXELS

RETRY_AFTER_SECONDS = 1


@dataclass(frozen=True)
class Limits:
    """The largest request that is accepted, and the load at which requests are rejected.

    Attributes
    ----------
    body_bytes : size of one request's body. images : images in one request.
    pixels : size of one image, checked before it is decoded.
    body_seconds : timeout for a request's body.
    header_seconds : timeout for its headers, and for the rest of a body that was rejected.
    queue : requests that are queued or being scored. held_bytes : size of all bodies in memory.
    """

    body_bytes: int = 32 * 2**20
    images: int = 32
    pixels: int = MAX_PIXELS
    body_seconds: float = 30
    header_seconds: float = 10
    queue: int = 64
    held_bytes: int = 256 * 2**20


@dataclass
class Load:
    """The current load: requests in progress and bytes in memory. One event loop uses it, without a lock."""

    limits: Limits
    requests: int = 0
    held_bytes: int = field(default=0, init=False)

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
    def body(self) -> Iterator["ReceivedBody"]:
        """Count the bytes of one body for as long as it is in memory."""
        received = ReceivedBody(self)
        try:
            yield received
        finally:
            self.held_bytes -= len(received.content)


@dataclass
class ReceivedBody:
    """The body of one request, as far as it has arrived."""

    load: Load
    content: bytearray = field(default_factory=bytearray)

    def add(self, chunk: bytes) -> None:
        """Append a chunk.

        Raises
        ------
        HTTPException : 503, all bodies together would exceed `Limits.held_bytes`.
        """
        if self.load.held_bytes + len(chunk) > self.load.limits.held_bytes:
            raise busy("the memory limit for request bodies is reached")
        self.load.held_bytes += len(chunk)
        self.content += chunk


def busy(reason: str) -> HTTPException:
    """Return the error 503 with a Retry-After header."""
    return HTTPException(
        503,
        f"{reason}; send the request again after the seconds that Retry-After says",
        {"Retry-After": str(RETRY_AFTER_SECONDS)},
    )
