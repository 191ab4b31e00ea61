"""The tasks of the nixtla client over HTTP."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial

from fastapi import APIRouter, Request, Response

from forecast.errors import HorizonError, LevelError
from service.admission import PATIENCE
from service.body import SMALL_BODY, read_body
from service.errors import Fault, Problem, from_forecast_error, problem
from service.inference import Parts
from service.nixtla.answers import Answer
from service.nixtla.payload import read_content
from service.nixtla.tasks import Work, task_of
from service.routes.forecasts import is_large, note_answer

router = APIRouter(include_in_schema=False)
"""Described in docs/nixtla.md: the contract is the client's, not ours."""
LESS = "pass num_partitions=2 or more to the client"
AGAIN_SECONDS = 0.2


@router.post("/v2/forecast")
async def forecast(request: Request) -> Response:
    """The next steps of every series."""
    return await _answered(request, "forecast")


@router.post("/v2/cross_validation")
async def cross_validation(request: Request) -> Response:
    """What would have been forecast at earlier cutoffs; fitted values for add_history."""
    return await _answered(request, "cross_validation")


@router.post("/v2/historic_forecast")
async def historic_forecast(request: Request) -> Response:
    """Fitted values, as the R client asks for them."""
    return await _answered(request, "historic_forecast")


@router.post("/v2/anomaly_detection")
async def anomaly_detection(request: Request) -> Response:
    """Which values of the histories are out of the ordinary."""
    return await _answered(request, "anomaly_detection")


@router.post("/v2/online_anomaly_detection")
async def online_anomaly_detection(request: Request) -> Response:
    """Which of the last values are."""
    return await _answered(request, "online_anomaly_detection")


async def read_task(request: Request, name: str, parts: Parts) -> Work:
    """What a body asks of a task, ready to be computed."""
    settings = parts.settings
    try:
        body = await read_body(request, max_bytes=settings.max_body, seconds=settings.body_seconds)
    except Problem as found:
        raise advised(found) from None
    if len(body) <= SMALL_BODY:
        return _read(name, body)
    return await parts.workers.run(_read, name, body)


def _read(name: str, body: bytes) -> Work:
    content = read_content(body)
    return task_of(name, content).read(content)


async def _answered(request: Request, name: str) -> Response:
    parts: Parts = request.app.state.parts
    seconds = parts.settings.request_seconds
    waiting = replace(parts, settings=replace(parts.settings, hold_seconds=seconds * PATIENCE))
    async with waiting.place(is_bulk=is_large(request)):
        work = await read_task(request, name, parts)
        try:
            answer = await _in_time(
                _patiently(partial(work, parts, request.is_disconnected), seconds), seconds
            )
        except (HorizonError, LevelError) as error:
            raise refused(error) from None
    note_answer(request, answer.served)
    return answer.response(request.scope["state"]["request_id"])


async def _patiently(work: Callable[[], Awaitable[Answer]], seconds: float) -> Answer:
    """The answer, for which a busy service is asked again: the client would wait for ten seconds."""
    deadline = time.monotonic() + seconds * PATIENCE
    while True:
        try:
            return await work()
        except Problem as found:
            if found.kind != "overloaded" or time.monotonic() > deadline:
                raise
        await asyncio.sleep(AGAIN_SECONDS)


async def _in_time(answer: Awaitable[Answer], seconds: float) -> Answer:
    """The answer; Problem 413 where it takes longer: after a 503 the client would ask again in vain."""
    started = time.monotonic()
    try:
        async with asyncio.timeout(seconds):
            return await answer
    except TimeoutError:
        raise _too_much(seconds) from None
    except Problem as found:
        if found.kind == "overloaded" and time.monotonic() - started > 0.9 * seconds:
            raise _too_much(seconds) from None
        raise


def _too_much(seconds: float) -> Problem:
    detail = f"the answer was not ready within {seconds:g} s: {LESS}, or submit it as a job: client.jobs"
    return problem("too-much-work", detail)


def refused(error: HorizonError | LevelError) -> Problem:
    """The problem of what the client calls h and level."""
    place = "/h" if isinstance(error, HorizonError) else "/level"
    return from_forecast_error(error, faults=[Fault(pointer=place, detail=str(error))])


def advised(found: Problem) -> Problem:
    """With the client's own words for sending less at a time, and no status that it would ask again after."""
    if found.kind not in ("body-too-large", "request-timeout"):
        return found
    return problem("body-too-large", f"{found.detail}: {LESS}", headers=found.headers)
