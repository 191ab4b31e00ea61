"""HTTP/1.1 by httptools with deadlines: who sends headers or a body without end is hung up on."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

from starlette.requests import Request
from starlette.types import ASGIApp, Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from service.admission import ARRIVED
from service.errors import MEDIA_TYPE, problem
from service.request_id import accepted_or_new
from service.security import OPEN

_HEALTH = frozenset(path.encode() for path in OPEN)
GRACE_SECONDS = 1.0
"""How much later than the application, which answers a slow body better, the connection is closed."""
MAX_HEAD = 64 * 2**10
"""Bytes of a request line and headers, but for those that come in one piece with their end."""


def deadline_protocol(seconds: float, *, max_open: int, refuse: ASGIApp) -> type[HttpToolsProtocol]:
    """The protocol class whose connections have `seconds` for headers, and as many for the body after them.

    A request that arrives in one piece, as most do, costs no timer. While `max_open` are at work, further
    ones are refused unread (by `refuse`), but for those that ask how the process is.
    """

    class DeadlineProtocol(HttpToolsProtocol):
        """Closes a connection that is too slow; 408 is said where nothing was answered yet."""

        _waiting: asyncio.TimerHandle | None = None
        _is_open = True
        """Whether something of a request is still to come; a new connection owes its headers."""
        _head: int | None = None
        """Bytes of headers that came before their end, after the piece in which they began; None outside."""
        _has_begun = False
        """Whether these headers began in the piece that is read."""

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._wait(seconds)

        def connection_lost(self, exc: Exception | None) -> None:
            self._received()
            super().connection_lost(exc)

        def eof_received(self) -> bool:  # type: ignore[override]
            """Whether the connection stays: for the answer to a whole request, whose sender still listens."""
            is_owed = self.cycle is not None and not self.cycle.more_body and not self.cycle.response_complete
            if is_owed:
                self.cycle.keep_alive = False
            return is_owed

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self._head is not None:
                self._head += 0 if self._has_begun else len(data)
                self._has_begun = False
                if self._head > MAX_HEAD:
                    self._head = None
                    self._hang_up("headers-too-large", f"the headers may have {MAX_HEAD:,} bytes; send less")
                    return
            if not self._is_open:
                self._received()
            elif self._waiting is None:
                self._wait(seconds)

        def on_message_begin(self) -> None:
            self._is_open = True
            self._head, self._has_begun = 0, True
            super().on_message_begin()
            self.scope["state"][ARRIVED] = time.monotonic()

        def on_headers_complete(self) -> None:
            self._head = None
            if self._waiting is not None:
                self._received()
                self._wait(seconds + GRACE_SECONDS)
            if len(self.tasks) < max_open or self.url in _HEALTH:
                super().on_headers_complete()
                return
            admitted, self.app = self.app, refuse
            super().on_headers_complete()
            self.app = admitted

        def on_message_complete(self) -> None:
            self._is_open = False
            super().on_message_complete()

        def _wait(self, how_long: float) -> None:
            self._waiting = self.loop.call_later(how_long, self._too_late)

        def _received(self) -> None:
            if self._waiting is not None:
                self._waiting.cancel()
                self._waiting = None

        def _too_late(self) -> None:
            self._waiting = None
            self._hang_up("request-timeout", "the request did not arrive in time; send it in one piece")

        def _hang_up(self, kind: str, detail: str) -> None:
            if self.transport.is_closing():
                return
            if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
                self.transport.write(_said(self.scope, kind, detail))
            self.transport.close()

    return DeadlineProtocol


def watch(request: Request) -> Callable[[], Awaitable[bool]]:
    """What says whether the client of a request has gone; at next to no cost where uvicorn knows it."""
    cycle = getattr(request.receive, "__self__", None)
    if type(cycle) is not RequestResponseCycle:
        return request.is_disconnected

    async def is_gone() -> bool:
        return bool(cycle.disconnected)

    return is_gone


async def send_whole(send: Send, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    """Answer 200 with a body that is there: in one piece where uvicorn sends it.

    headers: lower case and known to be well-formed, content-length among them.
    """
    cycle = getattr(send, "__self__", None)
    if type(cycle) is RequestResponseCycle and _is_plain(cycle):
        lines = [b"%b: %b\r\n" % pair for pair in (*cycle.default_headers, *headers)]
        cycle.response_started = True
        cycle.transport.write(b"".join([STATUS_LINE[200], *lines, b"\r\n", body]))
        cycle.response_complete = True
        cycle.message_event.set()
        cycle.on_response()
        return
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _is_plain(cycle: RequestResponseCycle) -> bool:
    """Whether nothing about an answer is special: a connection that stays, and that takes what is written."""
    return (
        cycle.keep_alive
        and not cycle.disconnected
        and not cycle.response_started
        and not cycle.waiting_for_100_continue
        and not cycle.flow.write_paused
        and not cycle.access_log
        and not cycle.more_body
    )


def _said(scope: Any, kind: str, detail: str) -> bytes:
    """A whole answer that ends the connection."""
    instance = (scope or {}).get("path", "")
    found = problem(kind, detail)
    request_id = accepted_or_new("")
    body = found.body(instance=instance, request_id=request_id)
    phrase = HTTPStatus(found.status).phrase
    head = (
        f"HTTP/1.1 {found.status} {phrase}\r\ncontent-type: {MEDIA_TYPE}\r\ncontent-length: {len(body)}\r\n"
        f"x-request-id: {request_id}\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + body
