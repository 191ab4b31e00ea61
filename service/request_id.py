"""The outermost layer: every request gets an id, and what nobody expected becomes a problem too."""

import logging
import random
import re

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import problem, respond

log = logging.getLogger("service")

HEADER = "X-Request-ID"
NAME = HEADER.lower().encode()
_ACCEPTED = re.compile(r"[A-Za-z0-9._:-]{1,100}")


class RequestIdMiddleware:
    """Takes X-Request-ID where it is plain, makes one where it is not, and sends it back."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = accepted_or_new(_sent(scope))
        scope.setdefault("state", {})["request_id"] = request_id
        started = False

        async def send_with_id(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message["headers"] = [*message.get("headers", ()), (NAME, request_id.encode())]
            await send(message)

        try:
            await self.app(scope, receive, send_with_id)
        except Exception:
            log.exception("request %s failed", request_id)
            if started:
                raise
            found = problem("internal", f"something unexpected happened; the log has it under {request_id}")
            await respond(Request(scope), found)(scope, receive, send_with_id)


def _sent(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == NAME:
            return str(value.decode("latin-1"))
    return ""


def accepted_or_new(sent: str) -> str:
    """The id that a client sent, if it is short and plain; else a new one."""
    return sent if _ACCEPTED.fullmatch(sent) else f"{random.getrandbits(128):032x}"
