"""uvicorn's HTTP protocol, with a timeout for slow clients, and JSON for malformed requests."""

import asyncio
from collections.abc import Mapping
from typing import Any, cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from imgclf.service import errors
from imgclf.service.limits import RETRY_AFTER_SECONDS, Limits

NO_HTTP = "this is no HTTP request that can be read; send HTTP/1.1, with headers of at most 16 KB"
TOO_SLOW = "the headers did not arrive within {seconds:g} seconds; send them at once"
TOO_MANY = "too many connections are open; send the request again after the seconds that Retry-After says"


class Protocol(H11Protocol):
    """Closes connections on which nothing moves: no complete request arrives, or a response is not read.

    uvicorn waits for ever for the headers of a request, for the rest of a body whose request it has
    responded to already, and for a client to read. The timeout of a body while its request is in progress is
    in `requests.receive`.
    """

    def __init__(self, *settings: Any, limits: Limits, **more_settings: Any) -> None:
        super().__init__(*settings, **more_settings)
        self._limits = limits
        self._timeout: asyncio.TimerHandle | None = None
        self._write_timeout: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        transport.set_write_buffer_limits(0)  # `pause_writing` is called whenever something is left to send
        host = self.client and self.client[0]
        clients = [connection.client for connection in cast(set[H11Protocol], self.connections)]
        of_client = sum(client is not None and client[0] == host for client in clients)
        if len(self.connections) > self._limits.connections or of_client > self._limits.client_connections:
            self._reject(503, TOO_MANY, {"Retry-After": str(RETRY_AFTER_SECONDS)})
        self._start_timeout()

    def data_received(self, data: bytes) -> None:
        if not self.transport.is_closing():
            super().data_received(data)
            self._start_timeout()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._write_timeout is None:
            self._write_timeout = self.loop.call_later(self._limits.write_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        self._cancel_write_timeout()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_timeout()
        self._cancel_write_timeout()
        super().connection_lost(exc)

    def _should_upgrade(self) -> bool:
        """No upgrade is supported (WebSocket, h2c): HTTP/1.1 goes on, as RFC 9110 allows."""
        return False

    def _start_timeout(self) -> None:
        """Run the timeout while headers, or the rest of an answered body, arrive; not during a request."""
        if self._is_in_progress:
            self._cancel_timeout()
        elif self._timeout is None and not self.transport.is_closing():
            self._timeout = self.loop.call_later(self._limits.header_seconds, self._on_timeout)

    def _cancel_timeout(self) -> None:
        if self._timeout is not None:
            self._timeout.cancel()
            self._timeout = None

    def _cancel_write_timeout(self) -> None:
        if self._write_timeout is not None:
            self._write_timeout.cancel()
            self._write_timeout = None

    @property
    def _is_in_progress(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _on_timeout(self) -> None:
        self._timeout = None
        if self._is_in_progress or self.transport.is_closing():
            return
        if self.conn.our_state is h11.IDLE:
            self._reject(408, TOO_SLOW.format(seconds=self._limits.header_seconds))
        else:
            self.transport.abort()

    def send_400_response(self, msg: str) -> None:
        """Respond to bytes that are not HTTP; uvicorn calls this."""
        self._reject(400, NO_HTTP)

    def _reject(self, status: int, error: str, headers: Mapping[str, str] | None = None) -> None:
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.abort()  # a response has begun
            return
        response = errors.response(status, error, headers={"Connection": "close", **(headers or {})})
        events = (
            h11.Response(status_code=status, headers=response.raw_headers),
            h11.Data(data=bytes(response.body)),
            h11.EndOfMessage(),
        )
        # One write: a client that reads once gets the reason with the status.
        self.transport.write(b"".join(self.conn.send(event) or b"" for event in events))
        self.transport.close()
