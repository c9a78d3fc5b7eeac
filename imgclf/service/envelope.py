"""What is around every answer: security headers, the count, and JSON also where the framework answers in plain text."""

import time

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from imgclf.service import faults
from imgclf.service.metrics import Metrics

SECURITY = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
}


class Envelope:
    """Middleware around the whole application.

    Parameters
    ----------
    body_bytes : the limit that `FastAPI(max_body_size=…)` holds. It answers 413 as plain text where Content-Length is above it.
    """

    def __init__(self, app: ASGIApp, *, metrics: Metrics, body_bytes: int) -> None:
        self._app = app
        self._metrics = metrics
        self._too_large = faults.answer(413, faults.too_large(body_bytes))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start = time.perf_counter()
        is_replaced = False

        async def send_in_envelope(message: Message) -> None:
            nonlocal is_replaced
            if message["type"] == "http.response.start":
                is_replaced = _is_plain_413(message)
                if is_replaced:
                    message = {**message, "headers": list(self._too_large.raw_headers)}
                MutableHeaders(scope=message).update(SECURITY)
                if scope["path"].endswith("/score"):
                    self._metrics.answered(message["status"], time.perf_counter() - start)
            elif is_replaced:
                message = {**message, "body": self._too_large.body}
            await send(message)

        await self._app(scope, receive, send_in_envelope)


def _is_plain_413(message: Message) -> bool:
    return message["status"] == 413 and dict(message["headers"]).get(b"content-type", b"").startswith(
        b"text/plain"
    )
