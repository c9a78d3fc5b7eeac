"""Middleware for every response: security headers, metrics, and JSON in place of plain-text errors."""

import time

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from imgclf.service import errors
from imgclf.service.metrics import Metrics

SECURITY = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
}


class ResponseMiddleware:
    """Middleware around the whole application.

    Parameters
    ----------
    body_bytes : the limit of `FastAPI(max_body_size=…)`, which responds 413 in plain text to a larger
        Content-Length.
    """

    def __init__(self, app: ASGIApp, *, metrics: Metrics, body_bytes: int) -> None:
        self._app = app
        self._metrics = metrics
        self._too_large = errors.response(413, errors.too_large(body_bytes))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start = time.perf_counter()
        is_replaced = False

        async def send_with_headers(message: Message) -> None:
            nonlocal is_replaced
            if message["type"] == "http.response.start":
                is_replaced = _is_plain_413(message)
                if is_replaced:
                    message = {**message, "headers": list(self._too_large.raw_headers)}
                MutableHeaders(scope=message).update(SECURITY)
                if scope["path"].endswith("/score"):
                    self._metrics.responded(message["status"], time.perf_counter() - start)
            elif is_replaced:
                message = {**message, "body": self._too_large.body}
            await send(message)

        if scope["method"] == "HEAD":
            scope = {**scope, "method": "GET"}  # uvicorn leaves the body out
        await self._app(scope, receive, send_with_headers)


def _is_plain_413(message: Message) -> bool:
    return message["status"] == 413 and dict(message["headers"]).get(b"content-type", b"").startswith(
        b"text/plain"
    )
