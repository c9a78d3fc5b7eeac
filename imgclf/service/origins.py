"""Which hosts a request may name, and which web pages may send one.

This keeps out DNS rebinding, and requests that a web page of another site sends.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from imgclf import ImgclfError
from imgclf.downloads import is_loopback
from imgclf.service import errors

PROBES = ("/health", "/ready")  # Kubernetes asks by the address of the pod; they expose nothing
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
ORIGIN = re.compile(r"\*|https?://[a-z0-9.:\[\]-]+", re.IGNORECASE)
HOST = re.compile(r"[a-z0-9.:*_-]+", re.IGNORECASE)
DEFAULT_PORTS = {"http": 80, "https": 443}

WRONG_HOST = (
    "the header Host names {host!a}, which this service does not serve; use its own address, "
    "or start it with --allowed-host {shown}"
)
WRONG_ORIGIN = (
    "a web page of another origin sent this request; open the page of this service, "
    "or start it with --allow-origin and the origin of that page"
)


@dataclass(frozen=True)
class Origins:
    """The hosts and origins that are allowed.

    Attributes
    ----------
    hosts : names that the header Host may have beside loopback, without a port; `*` stands for any text.
    pages : origins of other web pages that may use the service, such as https://example.com; "*": all.
    """

    hosts: tuple[str, ...] = ()
    pages: tuple[str, ...] = ()

    def has_host(self, host: str) -> bool:
        """Whether the value of a header Host is allowed."""
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if "@" in host:
            return False
        return is_loopback(name) or any(fnmatchcase(name, pattern) for pattern in self.hosts)

    def is_cross_origin(self, method: str, headers: Headers) -> bool:
        """Whether a web page of an origin that is not allowed sent this request, and it could do harm.

        Source: `CrossOriginProtection` of Go's net/http. Browsers set `Sec-Fetch-Site` for https and
        loopback addresses, and `Origin` with every POST; other clients set neither.
        """
        origin = headers.get("origin", "")
        if method in SAFE_METHODS or "*" in self.pages or origin.lower() in self.pages:
            return False
        if site := headers.get("sec-fetch-site"):
            return site not in ("same-origin", "none")
        return bool(origin) and _authority(origin) != _authority(
            f"{origin.partition(':')[0]}://{headers.get('host', '')}"
        )


def _authority(url: str) -> tuple[str | None, int | None]:
    """Return host and port of a URL; None, None for the origin `null` of a sandboxed page."""
    try:
        parts = urlsplit(url)
        return parts.hostname, parts.port or DEFAULT_PORTS.get(parts.scheme)
    except ValueError:
        return None, None


def allowed(
    host: str, *, has_token: bool, allowed_hosts: Sequence[str] = (), allow_origins: Sequence[str] = ()
) -> Origins:
    """Return what is allowed by default and by the options of the command line.

    With a token any Host is allowed unless some are named: a page that reaches the service by DNS rebinding
    does not know the token.

    Parameters
    ----------
    host : that the service listens on.
    allowed_hosts, allow_origins : see `Origins`; in addition to the loopback names and `host`.

    Raises
    ------
    ImgclfError : a host or an origin is malformed.
    """
    for name in allowed_hosts:
        if not HOST.fullmatch(name) or name.count(":") == 1:
            raise ImgclfError(
                f"--allowed-host {name}: not a host name; give it without scheme, port and path, such as "
                "imgclf.example.com"
            )
    for origin in allow_origins:
        if not ORIGIN.fullmatch(origin.rstrip("/")):
            raise ImgclfError(
                f"--allow-origin {origin}: not an origin; give scheme and host, such as https://example.com"
            )
    hosts = (host.lower(), *(name.lower() for name in allowed_hosts))
    return Origins(
        ("*",) if has_token and not allowed_hosts else hosts,
        tuple(map(_as_sent, allow_origins)),
    )


def _as_sent(origin: str) -> str:
    """Return an origin as browsers send it: in lower case, without a slash or the default port."""
    origin = origin.rstrip("/").lower()
    scheme = origin.partition("://")[0]
    return origin.removesuffix(f":{DEFAULT_PORTS.get(scheme)}")


class OriginMiddleware:
    """Rejects requests for another host, and those that a web page of another origin sends."""

    def __init__(self, app: ASGIApp, origins: Origins) -> None:
        self._origins = origins
        self._app = app
        if origins.pages:
            self._app = CORSMiddleware(
                app,
                allow_origins=origins.pages,
                allow_methods=("GET", "POST"),
                allow_headers=("Authorization", "Content-Type", "Content-Encoding"),
                allow_private_network=True,
                expose_headers=("Retry-After",),
            )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._app
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            host = headers.get("host", "")
            if scope["path"] not in PROBES and not self._origins.has_host(host):
                shown = host.partition(":")[0] if HOST.fullmatch(host) else "and its name"
                app = errors.response(421, WRONG_HOST.format(host=host[:60], shown=shown[:60]))
            elif self._origins.is_cross_origin(scope["method"], headers):
                app = errors.response(403, WRONG_ORIGIN)
        await app(scope, receive, send)
