"""HTTP as uvicorn speaks it, with a time limit for slow clients, and JSON for what is no HTTP."""

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from imgclf.service import faults

NO_HTTP = "this is no HTTP request that can be read; send HTTP/1.1, with headers of at most 16 KB"
TOO_SLOW = "the headers did not arrive within {seconds:g} seconds; send them at once"


class Protocol(H11Protocol):
    """Ends connections on which nothing whole arrives.

    uvicorn waits for ever for the headers of a request, and for the rest of a body whose request it has answered already. The time that
    a body may take while its request is worked on is limited by `bodies.receive`.

    Parameters
    ----------
    header_seconds : for the headers of a request to arrive, and for the rest of a body whose request has been answered.
    """

    def __init__(self, *settings: object, header_seconds: float, **more_settings: object) -> None:
        super().__init__(*settings, **more_settings)
        self._seconds = header_seconds
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._unwatch()
        super().connection_lost(exc)

    def _watch(self) -> None:
        """Start the clock when a request begins, or the rest of an answered one drips in; stop it when a request is being worked on."""
        if self._is_working:
            self._unwatch()
        elif self._deadline is None and not self.transport.is_closing():
            self._deadline = self.loop.call_later(self._seconds, self._too_slow)

    def _unwatch(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    @property
    def _is_working(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _too_slow(self) -> None:
        self._deadline = None
        if self._is_working or self.transport.is_closing():
            return
        if self.conn.our_state is h11.IDLE:
            self._refuse(408, TOO_SLOW.format(seconds=self._seconds))
        else:
            self.transport.abort()

    def send_400_response(self, msg: str) -> None:
        """What uvicorn calls where the bytes are no HTTP."""
        self._refuse(400, NO_HTTP)

    def _refuse(self, status: int, error: str) -> None:
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.abort()  # an answer has begun
            return
        answer = faults.answer(status, error, headers={"Connection": "close"})
        for event in (
            h11.Response(status_code=status, headers=answer.raw_headers),
            h11.Data(data=answer.body),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event))
        self.transport.close()
