"""Downloads from several threads, each with limits of time, size and redirects."""

import socket
import time
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from queue import SimpleQueue
from threading import Event, Timer
from typing import Any

import httpx

from imgclf import downloads
from imgclf.downloads import (
    NOT_TRIED,
    TRANSIENT,
    UNREACHABLE,
    DownloadError,
    PublicNetwork,
    check_status,
)

MAX_REDIRECTS = 10
DRAINED_BYTES = 2**16  # of a body that is not wanted: read so far, the connection can be used again
ENCODINGS = {"": False, "identity": False, "gzip": True, "x-gzip": True}  # whether to decompress


@dataclass(frozen=True)
class Response:
    """The whole body of a response and its Content-Type header."""

    body: bytes
    content_type: str = ""


class Downloader:
    """Downloads from several threads with a pool of connections; use it as a context manager.

    A server that was found to be unreachable is not tried again for each of its URLs.

    Parameters
    ----------
    threads : size of the pool: so many requests at once; others wait for a free connection.
    max_bytes : a larger body is refused, also one that is larger only when decompressed.
    seconds : time limit for one URL, all attempts and redirects together.
    purpose : what the program does, for the User-Agent header.
    private_addresses : whether servers may have other addresses than public ones, see `downloads.is_public`.

    Raises
    ------
    ImgclfError : the proxy or the certificates that the environment names cannot be used.
    """

    def __init__(
        self, threads: int, *, max_bytes: int, seconds: float, purpose: str, private_addresses: bool = False
    ):
        self.max_bytes, self.seconds = max_bytes, seconds
        self._stop = Event()
        self.responses = 0  # of all servers; if there are any, the network works
        self._responsive: set[bytes] = set()  # servers that have sent any response
        self._last: httpx.URL | None = None  # that had a response
        self._unreachable: dict[bytes, str] = {}  # servers without a connection, and the reason
        verify = downloads.certificates() if threads else None  # slow to make, so one for all
        network = None if private_addresses else PublicNetwork()
        self._connections = [
            _Connection(downloads.client(purpose, verify=verify, network=network)) for _ in range(threads)
        ]
        self._idle: SimpleQueue[_Connection] = SimpleQueue()
        for connection in self._connections:
            self._idle.put(connection)

    def __enter__(self) -> "Downloader":
        return self

    def __exit__(self, *error: object) -> None:
        for connection in self._connections:
            connection.client.close()

    def stop(self) -> None:
        """Abort all requests in progress with a DownloadError, at once, and refuse further ones."""
        self._stop.set()
        for connection in self._connections:
            connection.shut_down()

    def note_response(self, url: str) -> None:
        """Count a response that another process had; see `is_online`."""
        self.responses += 1
        self._last = httpx.URL(url)

    @property
    def last_url(self) -> str:
        """The last URL that had a response; "" if none had one."""
        return str(self._last or "")

    def get(self, url: str) -> Response:
        """Return the response to a GET request, retried with back-off.

        Raises
        ------
        DownloadError : `url` could not be fetched; the kind says whether a later run may succeed.
        """
        connection = self._idle.get()
        deadline = time.monotonic() + self.seconds
        try:
            return downloads.retry(
                lambda: self._get_once(connection, url, deadline - time.monotonic()),
                attempts=downloads.ATTEMPTS,
                back_off_seconds=downloads.BACK_OFF_SECONDS,
                deadline=deadline,
                stop=self._stop,
            )
        except DownloadError as error:
            if error.kind == UNREACHABLE:
                self._unreachable.setdefault(_server(url), error.reason)
            raise
        finally:
            self._idle.put(connection)

    def is_online(self) -> bool:
        """Whether the server that sent the last response sends another one: if so, the network works."""
        if not self._last:
            return False
        connection = self._idle.get()
        try:
            with connection.time_limit(downloads.CONNECT_SECONDS + downloads.READ_SECONDS):
                connection.client.head(self._last, follow_redirects=False)
            return True
        except (httpx.HTTPError, DownloadError):
            return False
        finally:
            self._idle.put(connection)

    def _get_once(self, connection: "_Connection", url: str, seconds: float) -> Response:
        """Return the response to one attempt of at most `seconds`."""
        try:
            with connection.time_limit(seconds):
                self._check_server(url)
                response = self._follow(connection, url)
                if connection.is_shut_down.is_set():  # without a length, one that is cut looks complete
                    raise httpx.ReadTimeout("")
                return response
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            if self._stop.is_set():
                raise DownloadError("the run was stopped", TRANSIENT) from error
            if connection.is_shut_down.is_set():
                raise DownloadError(
                    f"no complete response within {self.seconds:g} seconds", TRANSIENT
                ) from error
            raise downloads.as_download_error(error) from error

    def _check_server(self, url: str) -> None:
        """Refuse a server that is known to be unreachable, unless it has responded before."""
        if self._stop.is_set():
            raise DownloadError("the run was stopped", TRANSIENT)
        server = _server(url)
        if server in self._unreachable and server not in self._responsive:
            raise DownloadError(self._unreachable[server], NOT_TRIED)

    def _follow(self, connection: "_Connection", url: str) -> Response:
        """Return the response at the end of all redirects.

        httpx would read each body on the way whole, of any size.
        """
        client = connection.client
        request = client.build_request("GET", url, extensions={"trace": connection.trace})
        for _ in range(MAX_REDIRECTS + 1):
            if request.url.scheme not in ("http", "https"):
                raise httpx.UnsupportedProtocol(f"neither http nor https, but {request.url.scheme}")
            with closing(client.send(request, stream=True, follow_redirects=False)) as response:
                self.responses += 1
                self._last = response.url
                self._responsive.add(response.url.netloc)
                if response.status_code == httpx.codes.OK:
                    return Response(self._body(response), response.headers.get("content-type", ""))
                next(response.iter_raw(DRAINED_BYTES), None)
                if (following := response.next_request) is None:
                    check_status(response.status_code, response.headers.get("retry-after", ""))
                else:
                    request = following
        raise httpx.TooManyRedirects("")

    def _body(self, response: httpx.Response) -> bytes:
        """Return the body, unless it is larger than `max_bytes`."""
        encoding = response.headers.get("content-encoding", "").strip().lower()
        if encoding not in ENCODINGS:
            raise DownloadError(f"compressed as {encoding[:20]!r}, though no compression was asked for")
        length = response.headers.get("content-length", "")
        body = bytearray()
        if not length.isdecimal() or int(length) <= self.max_bytes:
            for chunk in response.iter_raw():
                body += chunk
                if len(body) > self.max_bytes:
                    break
            else:
                return self._decompressed(body) if ENCODINGS[encoding] else bytes(body)
        raise DownloadError(f"larger than {self.max_bytes / 1e6:g} MB")

    def _decompressed(self, body: bytearray) -> bytes:
        """Return a gzip body decompressed. The limit holds while decompressing: 50 kB may hold 50 MB."""
        try:
            content = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(body, self.max_bytes + 1)
        except zlib.error as error:
            raise DownloadError("the gzip compression of the response is damaged") from error
        if len(content) > self.max_bytes:
            raise DownloadError(f"larger than {self.max_bytes / 1e6:g} MB when decompressed")
        return content


def _server(url: str) -> bytes:
    return httpx.URL(url).netloc


@dataclass
class _Connection:
    """An HTTP client for one thread at a time, which another thread can shut down.

    httpx has a timeout between two chunks of a response, not for the whole: a server that sends a byte now
    and then would block a thread for ever. Shutting down its sockets ends any wait at once. As no two threads
    share a client, this aborts the request for one URL only.
    """

    client: httpx.Client
    sockets: list[socket.socket] = field(default_factory=list)
    is_shut_down: Event = field(default_factory=Event)

    @contextmanager
    def time_limit(self, seconds: float) -> Iterator[None]:
        """Shut the connection down if the block takes longer."""
        self.is_shut_down.clear()
        timer = Timer(max(seconds, 0), self.shut_down)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()

    def trace(self, event: str, details: dict[str, Any]) -> None:
        """Remember the sockets of a request; httpx calls this at each of its steps."""
        if event.endswith((".connect_tcp.complete", ".start_tls.complete")):
            opened = details["return_value"].get_extra_info("socket")
            self.sockets = [known for known in self.sockets if known.fileno() != -1] + [opened]
            if self.is_shut_down.is_set():
                self.shut_down()

    def shut_down(self) -> None:
        """Shut the sockets down, which ends any wait of the other thread at once."""
        self.is_shut_down.set()
        for opened in self.sockets:
            with suppress(OSError):  # closed already
                # The method of SSLSocket would drop the encryption while another thread reads.
                socket.socket.shutdown(opened, socket.SHUT_RDWR)
