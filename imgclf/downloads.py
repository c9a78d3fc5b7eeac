"""HTTP downloads: one client with timeouts, retry with exponential back-off, and a deadline for each URL."""

import ipaddress
import os
import random
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from math import inf
from queue import SimpleQueue
from threading import Event, Timer
from typing import Any, TypeVar

import httpx

from imgclf import ImgclfError, __version__

CONNECT_SECONDS = 10  # connect timeout
READ_SECONDS = 15  # read timeout, between two chunks of a response
ATTEMPTS = 3
BACK_OFF_SECONDS = 0.5  # before the second attempt; doubled before each later one
MAX_WAIT_SECONDS = 30  # a server whose Retry-After is longer is given up
RETRY_STATUSES = (408, 425, 429)  # and all from 500 on

# The kinds of DownloadError. TRANSIENT and UNREACHABLE are retried.
PERMANENT = "permanent"
TRANSIENT = "transient"
UNREACHABLE = "unreachable"
NOT_TRIED = "not tried"  # an earlier URL has shown that this server is unreachable

Result = TypeVar("Result")


@dataclass(eq=False)  # an exception must have a hash
class DownloadError(Exception):
    """Why a URL could not be fetched."""

    reason: str
    kind: str = PERMANENT
    retry_after: float = 0  # seconds to wait at least before another attempt
    attempts: int = 1  # failed requests in a row

    @property
    def is_retryable(self) -> bool:
        """Whether another attempt may succeed."""
        return self.kind in (TRANSIENT, UNREACHABLE)


@dataclass(frozen=True)
class Response:
    """The whole body of a response and its Content-Type header."""

    body: bytes
    content_type: str = ""


def retry(
    request: Callable[[], Result],
    *,
    attempts: int,
    back_off_seconds: float,
    deadline: float = inf,
    stop: Event | None = None,
    received: Callable[[], int] = lambda: 0,
) -> Result:
    """Return the result of `request`, retried with exponential back-off and jitter.

    Parameters
    ----------
    request : sends one request; raises DownloadError if it fails.
    attempts : requests at most, at least 1.
    back_off_seconds : wait before the second attempt, times a random factor from 0.5 to 1.5 (jitter); doubled
        before each later attempt. A longer Retry-After takes its place.
    deadline : no attempt begins later, on the clock `time.monotonic`.
    stop : when it is set, a wait ends at once and no further attempt is made.
    received : bytes received so far. Attempts and back-off start anew after a request that received more.

    Raises
    ------
    DownloadError : of the last attempt, if its error is not retryable, its Retry-After is longer than
        `MAX_WAIT_SECONDS`, or no attempts or no time are left.
    """
    if attempts < 1:
        raise ValueError(f"attempts={attempts}: must be at least 1")
    stop = stop or Event()
    failures = 0
    while True:
        before = received()
        try:
            return request()
        except DownloadError as error:
            error.attempts = failures = 1 if received() > before else failures + 1
            back_off = back_off_seconds * 2 ** (failures - 1) * random.uniform(0.5, 1.5)
            wait = max(error.retry_after, back_off)
            is_last = failures == attempts or not error.is_retryable or wait > MAX_WAIT_SECONDS
            if is_last or time.monotonic() + wait >= deadline or stop.wait(wait):
                raise


class Downloader:
    """Downloads from several threads with a pool of connections; use it as a context manager.

    A server that was found to be unreachable is not tried again for each of its URLs.

    Parameters
    ----------
    threads : size of the pool: so many requests at once; others wait for a free connection.
    max_bytes : a larger body is refused.
    seconds : time limit for one URL, all attempts together.
    purpose : what the program does, for the User-Agent header.

    Raises
    ------
    ImgclfError : the proxy or the certificates that the environment names cannot be used.
    """

    def __init__(self, threads: int, *, max_bytes: int, seconds: float, purpose: str):
        self.max_bytes, self.seconds = max_bytes, seconds
        self._stop = Event()
        self._responsive: set[bytes] = set()  # servers that have sent any response
        self._unreachable: dict[bytes, str] = {}  # servers without a connection, and the reason
        hooks = {"response": [self._record_response]}
        verify = certificates() if threads else None  # slow to make, so one for all
        self._connections = [
            _Connection(client(purpose, verify=verify, event_hooks=hooks)) for _ in range(threads)
        ]
        self._idle: SimpleQueue[_Connection] = SimpleQueue()
        for connection in self._connections:
            self._idle.put(connection)

    def __enter__(self) -> "Downloader":
        return self

    def __exit__(self, *error: object) -> None:
        for connection in self._connections:
            connection.client.close()

    @property
    def has_response(self) -> bool:
        """Whether any server has sent a response: if so, the network works."""
        return bool(self._responsive)

    def stop(self) -> None:
        """Abort all requests in progress with a DownloadError, at once, and refuse further ones."""
        self._stop.set()
        for connection in self._connections:
            connection.shut_down()

    def get(self, url: str) -> Response:
        """Return the response to a GET request, retried with back-off.

        Raises
        ------
        DownloadError : `url` could not be fetched; the kind says whether a later run may succeed.
        """
        connection = self._idle.get()
        deadline = time.monotonic() + self.seconds
        try:
            return retry(
                lambda: self._get_once(connection, url, deadline - time.monotonic()),
                attempts=ATTEMPTS,
                back_off_seconds=BACK_OFF_SECONDS,
                deadline=deadline,
                stop=self._stop,
            )
        except DownloadError as error:
            if error.kind == UNREACHABLE:
                self._unreachable.setdefault(_server(url), error.reason)
            raise
        finally:
            self._idle.put(connection)

    def _get_once(self, connection: "_Connection", url: str, seconds: float) -> Response:
        """Return the response to one attempt of at most `seconds`."""
        try:
            with connection.time_limit(seconds):
                self._check_server(url)
                with connection.client.stream("GET", url, extensions={"trace": connection.trace}) as response:
                    check_status(response.status_code, response.headers.get("retry-after", ""))
                    body = self._body(response)
                if (
                    connection.is_shut_down.is_set()
                ):  # a response without a length looks complete when it is cut
                    raise httpx.ReadTimeout("")
                return Response(body, response.headers.get("content-type", ""))
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            if self._stop.is_set():
                raise DownloadError("the run was stopped", TRANSIENT) from error
            if connection.is_shut_down.is_set():
                raise DownloadError(
                    f"no complete response within {self.seconds:g} seconds", TRANSIENT
                ) from error
            raise as_download_error(error) from error

    def _check_server(self, url: str) -> None:
        """Refuse a server that is known to be unreachable, unless it has responded before."""
        if self._stop.is_set():
            raise DownloadError("the run was stopped", TRANSIENT)
        server = _server(url)
        if server in self._unreachable and server not in self._responsive:
            raise DownloadError(self._unreachable[server], NOT_TRIED)

    def _record_response(self, response: httpx.Response) -> None:
        self._responsive.add(response.url.netloc)

    def _body(self, response: httpx.Response) -> bytes:
        """Return the body, unless it is larger than `max_bytes`."""
        length = response.headers.get("content-length", "")
        body = bytearray()
        if not length.isdecimal() or int(length) <= self.max_bytes:
            for chunk in response.iter_bytes():
                body += chunk
                if len(body) > self.max_bytes:
                    break
            else:
                return bytes(body)
        raise DownloadError(f"larger than {self.max_bytes / 1e6:g} MB")


def check_status(status: int, retry_after: str = "") -> None:
    """Raise an error for a response that does not hold what was requested.

    Parameters
    ----------
    status : the HTTP status code.
    retry_after : the Retry-After header; empty if there is none.

    Raises
    ------
    DownloadError : any status but 200.
    """
    if status == HTTPStatus.OK:
        return
    reason = f"HTTP {status} {httpx.codes.get_reason_phrase(status)}".strip()
    if status not in RETRY_STATUSES and status < 500:
        raise DownloadError(reason)
    wait = retry_after_seconds(retry_after)
    if wait > MAX_WAIT_SECONDS:
        reason += f", and the server asks to wait {wait:.0f} seconds"
    raise DownloadError(reason, TRANSIENT, wait)


def retry_after_seconds(header: str) -> float:
    """Seconds to wait by a Retry-After header, which holds a number or a date; 0 if it holds neither."""
    if header.isdecimal():
        return float(header)
    try:
        until = parsedate_to_datetime(header)
    except ValueError:
        return 0
    return max(0, (until.replace(tzinfo=until.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


def as_download_error(error: Exception) -> DownloadError:
    """Return an exception of httpx as a DownloadError, with a reason that a person understands."""
    if isinstance(error, httpx.ConnectTimeout):
        return DownloadError(f"no connection within {CONNECT_SECONDS:g} seconds", UNREACHABLE)
    if isinstance(error, (httpx.ConnectError, httpx.ProxyError)):
        return DownloadError(f"no connection ({error})", UNREACHABLE)
    if isinstance(error, httpx.TimeoutException):
        return DownloadError(f"the server sent nothing for {READ_SECONDS:g} seconds", TRANSIENT)
    if isinstance(error, httpx.TooManyRedirects):
        return DownloadError("too many redirects")
    if isinstance(error, (httpx.InvalidURL, httpx.UnsupportedProtocol, UnicodeError)):
        return DownloadError(f"not a URL that can be fetched ({error})")
    return DownloadError("the connection broke before the response was complete", TRANSIENT)


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


class _Client(httpx.Client):
    """An HTTP client that uses the proxies of the environment, but never for a local address.

    The decision is made for each request, so that a redirect to a local address goes there directly too.
    httpx has no public hook for it; tests/test_proxies.py fails if a version calls this one no longer.
    """

    def _transport_for_url(self, url: httpx.URL) -> httpx.BaseTransport:
        return self._transport if is_local(url.host) else super()._transport_for_url(url)


def is_local(host: str) -> bool:
    """Whether a host name or IP address means this machine; names are not looked up, but for its own."""
    name = host.lower().rstrip(".")
    if name == socket.gethostname().lower() or name.endswith(".localhost") or is_loopback(name):
        return True
    address = _address(name)
    return address is not None and address.is_unspecified


def is_loopback(host: str) -> bool:
    """Whether no other machine can mean or reach this host: `localhost`, or a loopback address."""
    name = host.lower().rstrip(".")
    address = _address(name)
    return name == "localhost" or (address is not None and address.is_loopback)


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return an IP address, also in the short forms that the system connects to, such as 127.1."""
    try:
        address = ipaddress.ip_address(name if ":" in name or " " in name else socket.inet_aton(name))
    except (OSError, ValueError):
        return None
    return getattr(address, "ipv4_mapped", None) or address


def client(purpose: str, *, verify: ssl.SSLContext | None = None, **settings: Any) -> httpx.Client:
    """Return an HTTP client with our timeouts, whose User-Agent header says what the program does.

    Proxies are those of the environment (HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY); local addresses are
    always connected to directly.

    Parameters
    ----------
    verify : certificates that clients share; None: those of the environment.

    Raises
    ------
    ImgclfError : the proxy or the certificates that the environment names cannot be used.
    """
    headers = {"User-Agent": f"imgclf/{__version__} ({purpose})", "Accept-Encoding": "identity"}
    timeout = httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS)
    verify = verify or certificates()
    try:
        return _Client(follow_redirects=True, timeout=timeout, headers=headers, verify=verify, **settings)
    except (ValueError, ImportError, httpx.InvalidURL) as error:
        raise ImgclfError(
            f"the proxy set in the environment cannot be used: {error}; "
            "correct HTTP_PROXY, HTTPS_PROXY and ALL_PROXY or unset them"
        ) from error


def certificates() -> ssl.SSLContext:
    """Return the trusted certificates: those of SSL_CERT_FILE if it is set.

    Raises
    ------
    ImgclfError : SSL_CERT_FILE names no file of certificates.
    """
    try:
        return httpx.create_ssl_context()
    except OSError as error:  # SSLError is one
        raise ImgclfError(
            f"SSL_CERT_FILE={os.environ.get('SSL_CERT_FILE')}: cannot be used ({error.strerror or error}); "
            "name a file of certificates (PEM), or unset it"
        ) from error
