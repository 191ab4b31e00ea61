"""Every error of the service as RFC 9457 problem+json: bounded, with a request id, never the payload."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import orjson
from fastapi import FastAPI, Request
from fastapi.responses import Response
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from forecast.errors import (
    DataError,
    ForecastError,
    FrequencyError,
    HorizonError,
    LevelError,
    LockedError,
    NotFoundError,
    SourceError,
    SpecError,
    TrackingError,
)

log = logging.getLogger("service")

MEDIA_TYPE = "application/problem+json"
MAX_ERRORS = 20
MAX_TEXT = 1000

_KINDS = {
    "not-json": (400, "The body is not JSON"),
    "not-arrow": (400, "The body is not an Arrow IPC stream"),
    "bad-request": (400, "The request cannot be read"),
    "unauthorized": (401, "An API key is needed"),
    "forbidden": (403, "The API key does not open this"),
    "not-found": (404, "There is nothing at this path"),
    "unknown-model": (404, "There is no model, version or alias of that name"),
    "method-not-allowed": (405, "This path does not answer to that method"),
    "request-timeout": (408, "The body did not arrive in time"),
    "body-too-large": (413, "The body is larger than this service reads"),
    "too-much-work": (413, "The request is more work than one answer may take"),
    "unsupported-encoding": (415, "The body is encoded in a way that this service does not read"),
    "headers-too-large": (431, "The headers are longer than this service reads"),
    "invalid-request": (422, "The request does not have the form that is documented"),
    "not-implemented": (501, "This service does not do this"),
    "unknown-job": (404, "There is no job of that id"),
    "job-over": (409, "The job is over"),
    "too-many-jobs": (429, "No further job is taken now"),
    "http-error": (400, "The request cannot be answered"),
    "client-gone": (499, "The client went away before the answer was ready"),
    "internal": (500, "Something is wrong in this service"),
    "overloaded": (503, "This service is busy"),
    "unavailable": (503, "This cannot be answered now"),
}
"""Kinds of problem that are the service's own: status and title. Others are types of `forecast.errors`."""

_STATUSES: dict[type[ForecastError], int] = {
    DataError: 422,
    SpecError: 422,
    LockedError: 503,
    SourceError: 503,
    TrackingError: 503,
}
_POINTERS: dict[type[ForecastError], str] = {
    HorizonError: "/horizon",
    LevelError: "/levels",
    FrequencyError: "/freq",
    DataError: "/series",
}


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One thing wrong: where in the body (a JSON pointer, RFC 6901, as a URI fragment) and what."""

    pointer: str
    detail: str


@dataclass(kw_only=True)
class Problem(Exception):
    """An answer that is an error."""

    kind: str
    detail: str
    status: int
    title: str
    errors: Sequence[Fault] = ()
    headers: Mapping[str, str] = field(default_factory=dict)

    def body(self, *, instance: str, request_id: str) -> bytes:
        """The problem+json document."""
        return orjson.dumps(
            {
                "type": f"urn:forecast:problem:{self.kind}",
                "title": self.title,
                "status": self.status,
                "detail": _cut(self.detail),
                "instance": instance[:200],
                "request_id": request_id,
                "errors": [
                    {"pointer": "#" + fault.pointer, "detail": _cut(fault.detail)}
                    for fault in self.errors[:MAX_ERRORS]
                ],
            }
        )


def problem(kind: str, detail: str, **more: Any) -> Problem:
    """A problem of one of the service's own kinds."""
    status, title = _KINDS[kind]
    return Problem(**{"kind": kind, "status": status, "title": title, "detail": detail, **more})


def overloaded() -> Problem:
    """The answer where more is asked than can be computed now."""
    detail = "more is asked than can be computed now; ask again in a moment"
    return problem("overloaded", detail, headers={"Retry-After": "1"})


def pointer(*path: str | int) -> str:
    """The JSON pointer of a place in the body, safe in a URI; long names are cut."""
    return "".join("/" + _token(str(part)) for part in path)


def _token(text: str) -> str:
    return quote(
        _cut(text, 60).replace("~", "~0").replace("/", "~1").encode("utf-8", "replace"), safe="~-._[]"
    )


def from_forecast_error(error: ForecastError, *, faults: Sequence[Fault] = ()) -> Problem:
    """The problem of one of the library's errors: its type names the kind, its docstring the title."""
    if isinstance(error, NotFoundError):
        return problem("unknown-model", str(error))
    status = next((_STATUSES[base] for base in type(error).__mro__ if base in _STATUSES), 500)
    if status == 500:
        log.error("%s: %s", type(error).__name__, error)
        return problem("internal", "the model could not be used; the log names the reason")
    place = next((_POINTERS[base] for base in type(error).__mro__ if base in _POINTERS), None)
    return Problem(
        kind=_kebab(type(error).__name__),
        status=status,
        title=(type(error).__doc__ or type(error).__name__).split("\n")[0].rstrip("."),
        detail=str(error),
        errors=faults or ([Fault(pointer=place, detail=str(error))] if place else ()),
        headers={"Retry-After": "5"} if status == 503 else {},
    )


def from_validation_error(error: ValidationError) -> Problem:
    """The problem of a body that does not fit the schema, one fault for each place."""
    found = error.errors(include_url=False, include_input=False)
    faults = [_fault(item) for item in found[:MAX_ERRORS]]
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return problem("invalid-request", f"{_place(faults[0])}: {faults[0].detail}{more}", errors=faults)


def _fault(item: Any) -> Fault:
    path = [*item["loc"], *item.get("ctx", {}).get("path", ())]
    return Fault(pointer=pointer(*path), detail=item["msg"].removeprefix("Value error, "))


def _place(fault: Fault) -> str:
    return fault.pointer.lstrip("/") or "body"


def _kebab(name: str) -> str:
    return "".join("-" + c.lower() if c.isupper() else c for c in name.removesuffix("Error")).lstrip("-")


def _cut(text: str, length: int = MAX_TEXT) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def respond(request: Request, found: Problem) -> Response:
    """The HTTP response of a problem."""
    path = request.scope.get("raw_path") or request.url.path.encode()
    body = found.body(
        instance=path.decode("ascii", "replace"),
        request_id=request.scope.get("state", {}).get("request_id", ""),
    )
    return Response(body, found.status, headers=dict(found.headers), media_type=MEDIA_TYPE)


def _from_http_exception(request: Request, error: HTTPException) -> Problem:
    headers = dict(error.headers or {})
    if error.status_code == 404:
        return problem(
            "not-found", "there is nothing at this path; /docs lists what there is", headers=headers
        )
    if error.status_code == 405:
        allowed = headers.get("Allow", "another method")
        return problem("method-not-allowed", f"this path answers to {allowed}", headers=headers)
    return problem("http-error", str(error.detail), status=error.status_code, headers=headers)


def add_handlers(app: FastAPI) -> None:
    """Answer every error of the app with problem+json."""

    async def on_problem(request: Request, error: Exception) -> Response:
        assert isinstance(error, Problem)
        return respond(request, error)

    async def on_forecast_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, ForecastError)
        return respond(request, from_forecast_error(error))

    async def on_http_exception(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return respond(request, _from_http_exception(request, error))

    app.add_exception_handler(Problem, on_problem)
    app.add_exception_handler(ForecastError, on_forecast_error)
    app.add_exception_handler(HTTPException, on_http_exception)
