"""HTTP/1.1 by httptools with a deadline for headers: who sends them drop by drop is hung up on."""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


def deadline_protocol(seconds: float) -> type[HttpToolsProtocol]:
    """The protocol class whose connections have `seconds` for the headers of each request."""

    class DeadlineProtocol(HttpToolsProtocol):
        """Closes a connection whose headers take too long; 408 is said where nothing was answered yet."""

        _waiting: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._wait()

        def connection_lost(self, exc: Exception | None) -> None:
            self._received()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            if self._waiting is None and (self.cycle is None or self.cycle.response_complete):
                self._wait()
            super().data_received(data)

        def on_headers_complete(self) -> None:
            self._received()
            super().on_headers_complete()

        def _wait(self) -> None:
            self._waiting = self.loop.call_later(seconds, self._too_late)

        def _received(self) -> None:
            if self._waiting is not None:
                self._waiting.cancel()
                self._waiting = None

        def _too_late(self) -> None:
            self._waiting = None
            if not self.transport.is_closing():
                self.transport.write(b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\n\r\n")
                self.transport.close()

    return DeadlineProtocol
