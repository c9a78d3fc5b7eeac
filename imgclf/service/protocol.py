"""uvicorn's HTTP protocol, with a timeout for slow clients, and JSON for malformed requests."""

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from imgclf.service import errors

NO_HTTP = "this is no HTTP request that can be read; send HTTP/1.1, with headers of at most 16 KB"
TOO_SLOW = "the headers did not arrive within {seconds:g} seconds; send them at once"


class Protocol(H11Protocol):
    """Closes connections on which no complete request arrives in time (slow loris).

    uvicorn waits for ever for the headers of a request, and for the rest of a body whose request it has
    responded to already. The timeout of a body while its request is in progress is in `requests.receive`.

    Parameters
    ----------
    header_seconds : timeout for the headers of a request, and for the rest of a body after the response.
    """

    def __init__(self, *settings: Any, header_seconds: float, **more_settings: Any) -> None:
        super().__init__(*settings, **more_settings)
        self._seconds = header_seconds
        self._timeout: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._start_timeout()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._start_timeout()

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_timeout()
        super().connection_lost(exc)

    def _start_timeout(self) -> None:
        """Run the timeout while headers, or the rest of an answered body, arrive; not during a request."""
        if self._is_in_progress:
            self._cancel_timeout()
        elif self._timeout is None and not self.transport.is_closing():
            self._timeout = self.loop.call_later(self._seconds, self._on_timeout)

    def _cancel_timeout(self) -> None:
        if self._timeout is not None:
            self._timeout.cancel()
            self._timeout = None

    @property
    def _is_in_progress(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _on_timeout(self) -> None:
        self._timeout = None
        if self._is_in_progress or self.transport.is_closing():
            return
        if self.conn.our_state is h11.IDLE:
            self._reject(408, TOO_SLOW.format(seconds=self._seconds))
        else:
            self.transport.abort()

    def send_400_response(self, msg: str) -> None:
        """Respond to bytes that are not HTTP; uvicorn calls this."""
        self._reject(400, NO_HTTP)

    def _reject(self, status: int, error: str) -> None:
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.abort()  # a response has begun
            return
        response = errors.response(status, error, headers={"Connection": "close"})
        for event in (
            h11.Response(status_code=status, headers=response.raw_headers),
            h11.Data(data=bytes(response.body)),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event))
        self.transport.close()
