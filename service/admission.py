"""Who is let in when more is asked than can be answered: nobody waits for long only to be refused.

A request that was not looked at for `FORECAST_QUEUE_SECONDS` since it arrived is refused at little cost, so
that those after it are answered in time; and of a certain number on nobody is let in at all. The nixtla
client asks again after ten seconds, and never after 503 where it submits a job: its requests may wait for
longer, and its jobs are refused by 429.
"""

import time
from typing import Any

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from service.errors import Problem, overloaded, respond
from service.jobs import too_many
from service.request_id import accepted_or_new
from service.settings import Settings

ARRIVED = "arrived"
"""Where the protocol notes in a request's state when its first byte came, by `time.monotonic`."""


def is_stale(state: dict[str, Any], seconds: float) -> bool:
    """Whether a request waited for longer than that since it arrived."""
    arrived = state.get(ARRIVED)
    return arrived is not None and time.monotonic() - arrived > seconds


PATIENCE = 0.5
"""The share of a request's time for which one of the nixtla client waits while the service is busy."""


def shed(path: str) -> Problem:
    """What is said to who is not let in."""
    return too_many("more is asked than can be taken in") if path.endswith("/async") else overloaded()


class AdmissionMiddleware:
    """Refuses what is posted and has waited for too long already."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self.seconds = settings.queue_seconds
        self.patience = PATIENCE * settings.request_seconds

    def _limit(self, path: str) -> float:
        return self.patience if path.startswith("/v2/") else self.seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (
            scope["type"] == "http"
            and scope["method"] == "POST"
            and is_stale(scope.get("state", {}), self._limit(scope["path"]))
        ):
            await respond(Request(scope), shed(scope["path"]))(scope, receive, send)
            return
        await self.app(scope, receive, send)


async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
    """The application of a connection that is one too many."""
    scope.setdefault("state", {})["request_id"] = request_id = accepted_or_new("")
    response = respond(Request(scope), shed(scope["path"]))
    response.headers["x-request-id"] = request_id
    await response(scope, receive, send)
