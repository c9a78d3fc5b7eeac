"""Limits of the service: per request, per client, and on all requests together.

The command line imports this for the defaults of its options, so it imports nothing heavy.
"""

from dataclasses import dataclass

from imgclf.images.kinds import MAX_PIXELS

MB = 10**6
RETRY_AFTER_SECONDS = 1
LEAST_MEMORY_MB = 160  # of `Limits.memory_bytes`: a photograph of 30 MB is decoded


@dataclass(frozen=True)
class Limits:
    """The largest request that is accepted, and the load at which requests are rejected.

    Attributes
    ----------
    body_bytes : size of one request's body. images : images in one request.
    pixels : size of one image, checked before it is decoded.
    body_seconds : timeout for a request's body.
    stall_seconds, stall_bytes : within these seconds at least these bytes of a body must arrive.
    header_seconds : timeout for its headers, and for the rest of a body that was rejected.
    write_seconds : timeout for a client to read what was sent to it.
    connections, client_connections : open at once, of all clients and of one address.
    queue : requests that are queued or being scored. held_bytes : size of all bodies in memory.
    memory_bytes : for parsing bodies and decoding images, all together.
    decode_seconds : timeout for decoding one image.
    """

    body_bytes: int = 32 * MB
    images: int = 32
    pixels: int = MAX_PIXELS
    body_seconds: float = 30
    stall_seconds: float = 10
    stall_bytes: int = 160 * 2**10
    header_seconds: float = 10
    write_seconds: float = 30
    connections: int = 500
    client_connections: int = 250
    queue: int = 64
    held_bytes: int = 96 * MB
    memory_bytes: int = 480 * MB
    decode_seconds: float = 10

    @property
    def client_bytes(self) -> int:
        """Size of all bodies of one client in memory: half of all, and at least one body."""
        return max(self.held_bytes // 2, self.body_bytes)
