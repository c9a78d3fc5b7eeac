"""HTTP downloads: one client with timeouts, retry with exponential back-off, and a rule for addresses."""

import ipaddress
import os
import random
import socket
import ssl
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from itertools import zip_longest
from math import inf
from threading import Event
from typing import Any, TypeVar

import httpcore
import httpx

from imgclf import ImgclfError, __version__

CONNECT_SECONDS = 10  # connect timeout
READ_SECONDS = 15  # read timeout, between two chunks of a response
ATTEMPTS = 3
BACK_OFF_SECONDS = 0.5  # before the second attempt; doubled before each later one
MAX_WAIT_SECONDS = 30  # a server whose Retry-After is longer is given up
MAX_REASON = 200  # letters of an error's own message
RETRY_STATUSES = (408, 425, 429)  # and all from 500 on

# The kinds of DownloadError. TRANSIENT and UNREACHABLE are retried.
PERMANENT = "permanent"
TRANSIENT = "transient"
UNREACHABLE = "unreachable"
NOT_TRIED = "not tried"  # an earlier URL has shown that this server is unreachable

# What a list of URLs from elsewhere must not reach.
MAX_ADDRESSES = 4  # tried of one host
GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")  # all that is assigned of IPv6
NAT64 = ipaddress.ip_network("64:ff9b::/96")
NOT_PUBLIC = tuple(
    map(
        ipaddress.ip_network,
        (
            "192.0.0.0/24",  # protocol assignments, and the metadata of a cloud
            "168.63.129.16/32",  # Azure's own services
            "2002::/16",  # 6to4: an IPv4 address of any kind
            "3fff::/20",  # documentation
        ),
    )
)
TO_ALLOW = "set private_addresses=True to allow it"

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
    except (ValueError, OverflowError):
        return 0
    return max(0, (until.replace(tzinfo=until.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


def as_download_error(error: Exception) -> DownloadError:
    """Return an exception of httpx as a DownloadError, with a reason that a person understands."""
    if isinstance(error, httpx.ConnectTimeout):
        return DownloadError(f"no connection within {CONNECT_SECONDS:g} seconds", UNREACHABLE)
    text = str(error)[:MAX_REASON]  # it may quote a URL of 60 kB
    if isinstance(error, (httpx.ConnectError, httpx.ProxyError)):
        return DownloadError(f"no connection ({text})", UNREACHABLE)
    if isinstance(error, httpx.TimeoutException):
        return DownloadError(f"the server sent nothing for {READ_SECONDS:g} seconds", TRANSIENT)
    if isinstance(error, httpx.TooManyRedirects):
        return DownloadError("too many redirects")
    is_bad_redirect = isinstance(error, httpx.RemoteProtocolError) and "location header" in text
    if is_bad_redirect or isinstance(error, (httpx.InvalidURL, httpx.UnsupportedProtocol, UnicodeError)):
        return DownloadError(f"not a URL that can be fetched ({text})")
    return DownloadError("the connection broke before the response was complete", TRANSIENT)


class PublicNetwork(httpcore.NetworkBackend):
    """Connects to public addresses alone.

    A name is looked up once for each connection, all its addresses are checked, and the connection goes to
    one of them. So a name whose addresses change between check and connection (DNS rebinding) changes
    nothing. The name stays in the Host header, and TLS verifies it.
    """

    def __init__(self) -> None:
        self._checked: dict[str, str] = {}  # host -> why it is refused; for proxies, see `check`

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """Return a connection to the first address of `host` that accepts one.

        Raises
        ------
        DownloadError : an address of `host` is not public.
        httpcore.ConnectError, httpcore.ConnectTimeout : there is no such host, or none accepts.
        """
        try:
            addresses = _lookup(host, port)
        except OSError as error:
            raise httpcore.ConnectError(str(error)) from error
        if fault := _fault(host, addresses):
            raise DownloadError(fault)
        failure: Exception = httpcore.ConnectError("no address")
        for address in addresses[:MAX_ADDRESSES]:
            try:
                return httpcore.SyncBackend().connect_tcp(
                    address, port, timeout, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure

    def check(self, host: str) -> None:
        """Refuse a host that a proxy is asked for, if this machine knows a private address of it.

        The proxy looks the name up itself, so nothing else can be checked. Once for each host.

        Raises
        ------
        DownloadError : an address of `host` is not public.
        """
        if host not in self._checked:
            try:
                self._checked[host] = _fault(host, _lookup(host, None))
            except (OSError, UnicodeError):  # only the proxy knows it
                self._checked[host] = ""
        if fault := self._checked[host]:
            raise DownloadError(fault)


def _lookup(host: str, port: int | None) -> list[str]:
    """Return the addresses of a host, IPv6 and IPv4 in turn: often one of them is not connected."""
    found = dict.fromkeys(str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    kinds = ([a for a in found if ":" in a], [a for a in found if ":" not in a])
    return [address for pair in zip_longest(*kinds) for address in pair if address]


def _fault(host: str, addresses: Iterable[str]) -> str:
    """Return why a host is refused; empty if all its addresses are public."""
    private = next((address for address in addresses if not is_public(address)), "")
    name = private if private in ("", host) else f"{host} ({private})"
    return f"{name} is not on the public internet; {TO_ALLOW}" if private else ""


def is_public(address: str) -> bool:
    """Whether an IP address belongs to a machine on the public internet.

    Not public are private, loopback, link-local, shared (carrier-grade NAT), multicast, unspecified and
    reserved addresses, and those under which clouds answer their own machines. An IPv6 address that stands
    for an IPv4 address (IPv4-mapped, NAT64) counts as that one.

    Source: RFC 6890 and the IANA Special-Purpose Address Registries; RFC 6052 (NAT64).
    """
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address) and (ip.ipv4_mapped or ip in NAT64):
        ip = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    is_unicast = ip.version == 4 or ip in GLOBAL_UNICAST
    return ip.is_global and is_unicast and not ip.is_multicast and not any(ip in net for net in NOT_PUBLIC)


class _PublicTransport(httpx.HTTPTransport):
    """Direct connections through `PublicNetwork`. httpx has no parameter for it, httpcore has."""

    def __init__(self, verify: ssl.SSLContext, network: PublicNetwork):
        super().__init__(verify=verify)
        self._pool = httpcore.ConnectionPool(
            verify,
            max_connections=100,
            max_keepalive_connections=20,
            keepalive_expiry=5,
            network_backend=network,
        )


class _Client(httpx.Client):
    """An HTTP client that uses the proxies of the environment, but never for a local address.

    The decision is made for each request, so that a redirect to a local address goes there directly too.
    httpx has no public hook for it; tests/test_proxies.py fails if a version calls this one no longer.
    """

    def __init__(self, network: PublicNetwork | None, *, verify: ssl.SSLContext, **settings: Any):
        super().__init__(verify=verify, **settings)
        self._network = network
        if network:  # as the parameter `transport` it would turn the proxies off
            self._transport = _PublicTransport(verify, network)

    def _transport_for_url(self, url: httpx.URL) -> httpx.BaseTransport:
        transport = self._transport if is_local(url.host) else super()._transport_for_url(url)
        if self._network and transport is not self._transport:
            self._network.check(url.raw_host.decode("ascii"))
        return transport


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


def client(
    purpose: str,
    *,
    verify: ssl.SSLContext | None = None,
    network: PublicNetwork | None = None,
    **settings: Any,
) -> httpx.Client:
    """Return an HTTP client with our timeouts, whose User-Agent header says what the program does.

    Proxies are those of the environment (HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY); local addresses are
    always connected to directly. The environment variable IMGCLF_CONTACT, an e-mail address or a home page,
    becomes part of the User-Agent: some services, such as Wikimedia's, answer programs with a contact only.

    Parameters
    ----------
    verify : certificates that clients share; None: those of the environment.
    network : what connects to servers with public addresses alone, shared by clients; None: to all. Requests
        to others raise DownloadError, whether the URL has the address, a redirect leads there, or a name
        stands for it. A proxy looks names up itself: then this holds for the addresses that this machine
        knows.

    Raises
    ------
    ImgclfError : the proxy or the certificates that the environment names cannot be used.
    """
    headers = {
        "User-Agent": f"imgclf/{__version__} ({'; '.join(filter(None, [purpose, contact()]))})",
        "Accept-Encoding": "identity",
    }
    timeout = httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS)
    verify = verify or certificates()
    try:
        return _Client(
            network,
            follow_redirects=True,
            timeout=timeout,
            headers=headers,
            verify=verify,
            **settings,
        )
    except (ValueError, ImportError, httpx.InvalidURL) as error:
        raise ImgclfError(
            f"the proxy set in the environment cannot be used: {error}; "
            "correct HTTP_PROXY, HTTPS_PROXY and ALL_PROXY or unset them"
        ) from error


def contact() -> str:
    """The e-mail address or home page in IMGCLF_CONTACT, for operators of services; "" without one."""
    return "".join(c for c in os.environ.get("IMGCLF_CONTACT", "") if c.isascii() and c.isprintable()).strip()


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
