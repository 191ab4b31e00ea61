"""The tasks of the nixtla client over HTTP."""

from dataclasses import replace

from fastapi import APIRouter, Request, Response

from service.body import read_body
from service.errors import Problem
from service.inference import Parts
from service.nixtla.payload import read_content
from service.nixtla.tasks import TASKS, Task, Work
from service.routes.forecasts import SMALL_BODY, is_large, note_answer

router = APIRouter(include_in_schema=False)
"""Described in docs/nixtla.md: the contract is the client's, not ours."""


@router.post("/v2/forecast")
async def forecast(request: Request) -> Response:
    """Forecasts."""
    return await _answered(request, TASKS["forecast"])


async def read_task(request: Request, task: Task, parts: Parts) -> Work:
    """What a body asks of a task, ready to be computed."""
    settings = parts.settings
    try:
        body = await read_body(request, max_bytes=settings.max_body, seconds=settings.body_seconds)
    except Problem as found:
        raise _advised(found) from None
    if len(body) <= SMALL_BODY:
        return task.read(read_content(body))
    return await parts.workers.run(lambda: task.read(read_content(body)))


async def _answered(request: Request, task: Task) -> Response:
    parts: Parts = request.app.state.parts
    async with parts.place(is_bulk=is_large(request)):
        work = await read_task(request, task, parts)
        answer = await work(parts, request.is_disconnected)
    note_answer(request, answer.served)
    return answer.response(request.scope["state"]["request_id"])


def _advised(found: Problem) -> Problem:
    """With the client's own words for sending less at a time."""
    if found.kind != "body-too-large":
        return found
    return replace(found, detail=f"{found.detail}: pass num_partitions=2 or more to the client")
