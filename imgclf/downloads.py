"""Ask for what is behind a web address, as often as makes sense and no longer than is bearable."""

import random
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from itertools import count
from queue import SimpleQueue
from threading import Event, Timer

import httpx

from imgclf import ImgclfError, __version__

CONNECT_SECONDS = 10
READ_SECONDS = 15  # between two pieces of an answer
ATTEMPTS = 3
BACK_OFF_SECONDS = 0.5  # after the first attempt; doubled after each
RETRY_AFTER_SECONDS = 30  # a server that asks for a longer pause is left alone

# Why something was not had. Only what another attempt can change is tried again.
FINAL = "final"
PASSING = "passing"
UNREACHABLE = "unreachable"
NOT_TRIED = "not tried"  # another address has shown that this server cannot be reached


@dataclass(eq=False)  # an exception must have a hash
class DownloadError(Exception):
    """Why what is behind one address was not had."""

    reason: str
    kind: str = FINAL
    wait_seconds: float = 0  # at least, before another attempt


@dataclass(frozen=True)
class Answer:
    """What a server gave: all of it, and what the server takes it for."""

    body: bytes
    content_type: str = ""


class Downloader:
    """The servers as one run asks them, from several threads; close it by `with`.

    A server that was found out of reach is not tried again for each of its addresses.

    Parameters
    ----------
    threads : how many may ask at once; others wait.
    max_bytes : no body may be larger.
    seconds : for one address, with all attempts.
    purpose : what servers are told that the program does.

    Raises
    ------
    ImgclfError : the proxy that the environment names cannot be used.
    """

    def __init__(self, threads: int, *, max_bytes: int, seconds: float, purpose: str):
        self.max_bytes, self.seconds = max_bytes, seconds
        self._stop = Event()
        self._answered: set[bytes] = set()  # servers that have answered anything
        self._dead: dict[bytes, str] = {}  # servers out of reach, and the reason
        shared = {
            "event_hooks": {"response": [self._note]},
            "verify": httpx.create_ssl_context() if threads else True,
        }  # slow to make, so one for all
        self._lines = [_Line(client(purpose, **shared)) for _ in range(threads)]
        self._idle: SimpleQueue[_Line] = SimpleQueue()
        for line in self._lines:
            self._idle.put(line)

    def __enter__(self) -> "Downloader":
        return self

    def __exit__(self, *error: object) -> None:
        for line in self._lines:
            line.client.close()

    @property
    def has_answered(self) -> bool:
        """Whether any server has answered anything: if so, the network works."""
        return bool(self._answered)

    def stop(self) -> None:
        """End all that is asked now, at once, by `DownloadError`; nothing is asked any more."""
        self._stop.set()
        for line in self._lines:
            line.cut()

    def ask(self, address: str) -> Answer:
        """What is behind `address`, after as many attempts as make sense.

        Raises
        ------
        DownloadError : it could not be had; the kind tells whether a later run may have it.
        """
        line = self._idle.get()
        try:
            return self._persist(line, address)
        except DownloadError as problem:
            if problem.kind == UNREACHABLE:
                self._dead.setdefault(_server(address), problem.reason)
            raise
        finally:
            self._idle.put(line)

    def _persist(self, line: "_Line", address: str) -> Answer:
        end = time.monotonic() + self.seconds
        for attempt in count(1):
            try:
                return self._attempt(line, address, end - time.monotonic())
            except DownloadError as problem:
                wait = max(
                    problem.wait_seconds, BACK_OFF_SECONDS * 2 ** (attempt - 1) * random.uniform(0.5, 1.5)
                )
                is_last = attempt == ATTEMPTS or problem.kind not in (PASSING, UNREACHABLE)
                if is_last or time.monotonic() + wait >= end or self._stop.wait(wait):
                    raise

    def _attempt(self, line: "_Line", address: str, seconds: float) -> Answer:
        """One attempt of at most `seconds`."""
        try:
            with line.limited(seconds):
                self._refuse(address)
                with line.client.stream("GET", address, extensions={"trace": line.trace}) as response:
                    check_status(response.status_code, response.headers.get("retry-after", ""))
                    body = self._body(response)
                if line.is_cut.is_set():  # an answer without length looks complete when it is cut
                    raise httpx.ReadTimeout("")
                return Answer(body, response.headers.get("content-type", ""))
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            if self._stop.is_set():
                raise DownloadError("the run was stopped", PASSING) from error
            if line.is_cut.is_set():
                raise DownloadError(f"no whole answer within {self.seconds:g} seconds", PASSING) from error
            raise problem_of(error) from error

    def _refuse(self, address: str) -> None:
        """Give up a server that is known to be out of reach; one that has answered before may come back."""
        if self._stop.is_set():
            raise DownloadError("the run was stopped", PASSING)
        server = _server(address)
        if server in self._dead and server not in self._answered:
            raise DownloadError(self._dead[server], NOT_TRIED)

    def _note(self, response: httpx.Response) -> None:
        self._answered.add(response.url.netloc)

    def _body(self, response: httpx.Response) -> bytes:
        """The body, as far as it is not too large."""
        length = response.headers.get("content-length", "")
        body = bytearray()
        if not length.isdecimal() or int(length) <= self.max_bytes:
            for piece in response.iter_bytes():
                body += piece
                if len(body) > self.max_bytes:
                    break
            else:
                return bytes(body)
        raise DownloadError(f"larger than {self.max_bytes / 1e6:g} MB")


def check_status(status: int, retry_after: str = "") -> None:
    """Let an answer pass that has what was asked for.

    Parameters
    ----------
    status : the HTTP status.
    retry_after : the header of that name, if there is one.

    Raises
    ------
    DownloadError : any status but 200.
    """
    if status == HTTPStatus.OK:
        return
    reason = f"HTTP {status} {httpx.codes.get_reason_phrase(status)}".strip()
    if status not in (408, 425, 429) and status < 500:
        raise DownloadError(reason)
    wait = pause_asked_for(retry_after)
    if wait > RETRY_AFTER_SECONDS:
        raise DownloadError(
            f"{reason}, and the server asks to wait {wait:.0f} seconds", PASSING, float("inf")
        )
    raise DownloadError(reason, PASSING, wait)


def pause_asked_for(header: str) -> float:
    """Seconds that a server asks to wait by the header Retry-After, a number or a date; 0 if it does not."""
    if header.isdecimal():
        return float(header)
    try:
        until = parsedate_to_datetime(header)
    except ValueError:
        return 0
    return max(0, (until.replace(tzinfo=until.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


def problem_of(error: Exception) -> DownloadError:
    """What httpx found, for a person."""
    if isinstance(error, httpx.ConnectTimeout):
        return DownloadError(f"no connection within {CONNECT_SECONDS:g} seconds", UNREACHABLE)
    if isinstance(error, (httpx.ConnectError, httpx.ProxyError)):
        return DownloadError(f"no connection ({error})", UNREACHABLE)
    if isinstance(error, httpx.TimeoutException):
        return DownloadError(f"the server was silent for {READ_SECONDS:g} seconds", PASSING)
    if isinstance(error, httpx.TooManyRedirects):
        return DownloadError("the link is redirected without end")
    if isinstance(error, (httpx.InvalidURL, httpx.UnsupportedProtocol, UnicodeError)):
        return DownloadError(f"the link leads to no web address ({error})")
    return DownloadError("the server broke the answer off", PASSING)


def _server(address: str) -> bytes:
    return httpx.URL(address).netloc


@dataclass
class _Line:
    """An HTTP client for one thread at a time, which can be cut off from another.

    httpx limits the time between two pieces of an answer, not the whole: a server that sends a byte
    now and then would hold a thread for ever. Shutting its sockets down ends any wait at once. As no
    two threads share a client, what is cut off belongs to one address alone.
    """

    client: httpx.Client
    sockets: list[socket.socket] = field(default_factory=list)
    is_cut: Event = field(default_factory=Event)

    @contextmanager
    def limited(self, seconds: float) -> Iterator[None]:
        """Cut the line if what is done within takes longer."""
        self.is_cut.clear()
        timer = Timer(max(seconds, 0), self.cut)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()

    def trace(self, event: str, details: dict) -> None:
        """Called by httpx at each step of a request; notes the sockets that it opens."""
        if event.endswith((".connect_tcp.complete", ".start_tls.complete")):
            opened = details["return_value"].get_extra_info("socket")
            self.sockets = [known for known in self.sockets if known.fileno() != -1] + [opened]
            if self.is_cut.is_set():
                self.cut()

    def cut(self) -> None:
        self.is_cut.set()
        for opened in self.sockets:
            with suppress(OSError):  # closed already
                # Not the method of SSLSocket, which forgets the encryption under the reader's hands.
                socket.socket.shutdown(opened, socket.SHUT_RDWR)


def client(purpose: str, **settings) -> httpx.Client:
    """An HTTP client with our limits of time, which tells servers what the program does.

    Raises
    ------
    ImgclfError : the proxy that the environment names cannot be used.
    """
    headers = {"User-Agent": f"imgclf/{__version__} ({purpose})", "Accept-Encoding": "identity"}
    limits = httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS)
    try:
        return httpx.Client(follow_redirects=True, timeout=limits, headers=headers, **settings)
    except (ValueError, ImportError, httpx.InvalidURL) as error:
        raise ImgclfError(
            f"the proxy set in the environment cannot be used: {error}; "
            "correct HTTP_PROXY, HTTPS_PROXY and ALL_PROXY or unset them"
        ) from error
