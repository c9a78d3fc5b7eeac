"""How much the service takes on: per request, and in all at one time."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from starlette.exceptions import HTTPException

RETRY_AFTER_SECONDS = 1


@dataclass(frozen=True)
class Limits:
    """What one request may ask for, and what all requests together may hold.

    Attributes
    ----------
    body_bytes : of one request. images : in one request. pixels : of one image, before it is decoded.
    body_seconds : for a request's body to arrive. header_seconds : for its headers, and for the rest of a body that was refused.
    queue : requests whose images wait or are scored. held_bytes : of all bodies that are in memory.
    """

    body_bytes: int = 32 * 2**20
    images: int = 32
    pixels: int = 50_000_000
    body_seconds: float = 30
    header_seconds: float = 10
    queue: int = 64
    held_bytes: int = 256 * 2**20


@dataclass
class Load:
    """What the service holds now. It lives on one event loop, so it needs no lock."""

    limits: Limits
    requests: int = 0
    held_bytes: int = field(default=0, init=False)

    @contextmanager
    def request(self) -> Iterator[None]:
        """Count one more request that waits or is scored.

        Raises
        ------
        HTTPException : 503, there are as many as may be.
        """
        self.check_queue()
        self.requests += 1
        try:
            yield
        finally:
            self.requests -= 1

    def check_queue(self) -> None:
        """Refuse a request before its body is read if it would be refused after."""
        if self.requests >= self.limits.queue:
            raise busy(f"{self.limits.queue} requests are waiting already")

    @contextmanager
    def body(self) -> Iterator["Held"]:
        """Count the bytes of one body for as long as it is held."""
        held = Held(self)
        try:
            yield held
        finally:
            self.held_bytes -= len(held.content)


@dataclass
class Held:
    """One body, as far as it has arrived."""

    load: Load
    content: bytearray = field(default_factory=bytearray)

    def add(self, piece: bytes) -> None:
        """Keep one more piece.

        Raises
        ------
        HTTPException : 503, all bodies together would hold more than they may.
        """
        if self.load.held_bytes + len(piece) > self.load.limits.held_bytes:
            raise busy("the requests that are arriving hold as much memory as they may")
        self.load.held_bytes += len(piece)
        self.content += piece


def busy(reason: str) -> HTTPException:
    """A refusal that asks to come again."""
    return HTTPException(
        503,
        f"{reason}; send the request again after the seconds that Retry-After says",
        {"Retry-After": str(RETRY_AFTER_SECONDS)},
    )
