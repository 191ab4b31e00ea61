"""The short way of the usual request: a small JSON body to /v1/forecasts, answered in one function.

FastAPI describes this route and answers everything unusual about it (other bodies, encodings, Expect); its
layers cost several times what such a request does. What is said and refused here is said there too, by the
same parts.
"""

import time
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from forecast.errors import ForecastError
from service.admission import is_stale
from service.arrow import accepts_arrow, is_arrow
from service.body import SMALL_BODY, too_large
from service.columns import Columns
from service.errors import Problem, from_forecast_error, log, overloaded, problem, respond
from service.inference import Parts, answer
from service.metrics import Metrics, log_request, server_timing
from service.protocol import send_whole, watch
from service.request_id import NAME as REQUEST_ID
from service.request_id import accepted_or_new
from service.schemas import parse
from service.security import HEADERS, Keyring, refusal

PATH = "/v1/forecasts"
_JSON = (b"content-type", b"application/json")


class App(FastAPI):
    """The application; asks `quick` first, once it is set."""

    quick: "Quick | None" = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if self.quick is not None and scope["type"] == "http" and scope["path"] == PATH:
            headers = dict(scope["headers"])
            if is_usual(scope, headers):
                await self.quick(scope, headers, receive, send)
                return
        await super().__call__(scope, receive, send)


def is_usual(scope: Scope, headers: dict[bytes, bytes]) -> bool:
    """Whether a request may go the short way: a POST of a small JSON body as it is, each header once."""
    length = headers.get(b"content-length", b"")
    return bool(
        scope["method"] == "POST"
        and len(length) < 6
        and length.isdigit()
        and int(length) <= SMALL_BODY
        and len(headers) == len(scope["headers"])
        and not scope.get("root_path")
        and b"content-encoding" not in headers
        and b"expect" not in headers
        and b"transfer-encoding" not in headers
        and not is_arrow(headers.get(b"content-type", b"").decode("latin-1"))
        and not accepts_arrow(headers.get(b"accept", b"").decode("latin-1"))
    )


class Quick:
    """Answers usual requests."""

    def __init__(self, parts: Parts, keyring: Keyring, metrics: Metrics) -> None:
        self.parts = parts
        self.keyring = keyring
        self.metrics = metrics
        self.logs_requests = parts.settings.log_format == "json"

    async def __call__(self, scope: Scope, headers: dict[bytes, bytes], receive: Receive, send: Send) -> None:
        """One request from its headers to the last byte of its answer."""
        began = time.perf_counter()
        request_id = accepted_or_new(headers.get(REQUEST_ID, b"").decode("latin-1"))
        state = scope.setdefault("state", {})
        state["request_id"] = request_id
        status, kind = 200, _JSON
        own: list[tuple[bytes, bytes]] = []
        try:
            content = await self._answered(scope, receive, state)
        except Exception as error:
            response = self._refused(scope, error, request_id)
            status, content = response.status_code, bytes(response.body)
            kind, own = (b"content-type", b"application/problem+json"), _beside(response)
        seconds = time.perf_counter() - began
        model, version = state.get("answered_by", ("", ""))
        self.metrics.count(PATH, status, seconds, model, version)
        phases = state.get("phases")
        if phases:
            self.metrics.count_phases(phases)
        if self.logs_requests:
            log_request(scope, PATH, status, seconds)
        sent = [
            kind,
            (b"content-length", b"%d" % len(content)),
            (REQUEST_ID, request_id.encode()),
            (b"server-timing", server_timing(seconds, phases)),
            *own,
            *HEADERS,
        ]
        if status == 200:
            await send_whole(send, sent, content)
            return
        await send({"type": "http.response.start", "status": status, "headers": sent})
        await send({"type": "http.response.body", "body": content})

    async def _answered(self, scope: Scope, receive: Receive, state: dict[str, Any]) -> bytes:
        parts = self.parts
        if is_stale(state, parts.settings.queue_seconds):
            raise overloaded()
        keys = self.keyring.keys()
        if keys and (refused := refusal(scope, keys)):
            raise refused
        phases: dict[str, float] = {}
        state["phases"] = phases
        began = time.perf_counter()
        body = await _body(receive, parts.settings.max_body)
        read = time.perf_counter()
        asked = parse(body)
        columns = Columns.of(asked.output, asked.levels, asked.quantiles, body)
        parsed = time.perf_counter()
        phases["read"], phases["parse"] = read - began, parsed - read
        served, alias = parts.store.at_hand(asked.model) or await parts.store.resolve(asked.model)
        state["answered_by"] = (served.name, served.version)
        is_gone = watch(Request(scope, receive))
        return await answer(asked, columns, served, alias, parts, is_gone, phases=phases)

    def _refused(self, scope: Scope, error: Exception, request_id: str) -> Response:
        if isinstance(error, ForecastError):
            error = from_forecast_error(error)
        if not isinstance(error, Problem):
            log.error("request %s failed", request_id, exc_info=error)
            detail = f"something unexpected happened; the log has it under {request_id}"
            error = problem("internal", detail)
        return respond(Request(scope), error)


async def _body(receive: Receive, max_bytes: int) -> bytes:
    """The whole body; the protocol sees to it that it comes in time, and httptools to its length."""
    message = await receive()
    body: bytes = message.get("body", b"")
    while message.get("more_body"):
        message = await receive()
        body += message.get("body", b"")
    if message["type"] == "http.disconnect":
        raise problem("bad-request", "the connection ended before the body did")
    if len(body) > max_bytes:
        raise too_large(max_bytes)
    return body


def _beside(response: Response) -> list[tuple[bytes, bytes]]:
    """The headers of a problem beside its type and length."""
    return [pair for pair in response.raw_headers if pair[0] not in (b"content-type", b"content-length")]
