"""Jobs of the nixtla client: submitted, asked for, fetched, cancelled; and what is not done here at all."""

import asyncio
from dataclasses import replace
from typing import Any

import orjson
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from forecast.errors import HorizonError
from service.body import read_body
from service.errors import Problem, problem
from service.inference import Parts, asked_horizon
from service.job_runner import JobRunner
from service.jobs import Job, JobStore, Result, too_many
from service.nixtla.naming import resolve
from service.nixtla.panels import NO_FINE_TUNING, check_supported
from service.nixtla.payload import Asked, parse, read_content
from service.nixtla.routes import advised, refused
from service.nixtla.tasks import TASKS, task_of
from service.routes.forecasts import is_large

router = APIRouter(include_in_schema=False)

NOT_DONE = {
    "finetune": NO_FINE_TUNING.format(name="finetune()"),
    "simulate": "sample paths are not made here: our forecasts are the quantiles of each step; ask for "
    "forecast(..., quantiles=[...]) instead",
    "explain": "the weight of features is not computed here; compare recipes with and without a feature: "
    "`forecast backtest RECIPE`, or their runs in MLflow",
    "execute_step": "no code that is sent is run here; run it beside the service",
}
"""What the client can ask for and this service does not do, with what to do instead."""


@router.post("/v2/finetune")
@router.post("/v2/simulate")
@router.post("/v2/explain")
async def not_done(request: Request) -> Response:
    """501, once the body was taken, so that the client reads the answer."""
    raise await _refused(request, request.url.path.removeprefix("/v2/"))


@router.post("/v2/{task}/async")
async def submit(task: str, request: Request) -> Response:
    """Take a job in, whose errors are told at once as far as they can be seen."""
    if task in NOT_DONE:
        raise await _refused(request, task)
    if task not in TASKS:
        raise problem("not-found", f"there are no jobs of that kind; there are: {', '.join(TASKS)}")
    parts: Parts = request.app.state.parts
    try:
        async with parts.place(is_bulk=is_large(request)):
            job_id = await _submitted(task, request, parts)
    except Problem as found:
        if found.kind != "overloaded":
            raise
        raise too_many("too many large bodies are read") from None  # the client fails at once on 503
    runner: JobRunner = request.app.state.job_runner
    runner.wake()
    return JSONResponse({"job_id": job_id}, 202)


async def _submitted(task: str, request: Request, parts: Parts) -> str:
    body = await _body(request, parts)
    content = await asyncio.to_thread(read_content, body)
    asked = await asyncio.to_thread(parse, content, task_of(task, content).kind)
    timeout = timeout_of(content, parts)
    model = await _checked(asked, parts)
    jobs: JobStore = request.app.state.jobs
    return await asyncio.to_thread(jobs.submit, task, model, body, timeout=timeout)


@router.get("/v2/{task}/jobs/{job_id}")
async def state(task: str, job_id: str, request: Request) -> Response:
    """How a job stands, with its result once it succeeded."""
    jobs: JobStore = request.app.state.jobs
    found = await asyncio.to_thread(jobs.find, job_id)
    if found is None or found.task != task:
        raise _unknown(request)
    head = {"job_id": found.id, "status": found.status, "error": found.error}
    content = orjson.dumps(head)[:-1] + b',"result":' + (found.result or b"null") + b"}"
    return Response(content, headers=found.headers, media_type="application/json")


@router.post("/v2/async/jobs/{job_id}/cancel")
async def cancel(job_id: str, request: Request) -> Response:
    """End a job that is not over."""
    jobs: JobStore = request.app.state.jobs
    before = await asyncio.to_thread(jobs.cancel, job_id) if jobs.exists() else None
    if before is None:
        raise _unknown(request)
    if before in ("succeeded", "failed"):
        raise problem("job-over", f"the job has {before} already; there is nothing to cancel")
    runner: JobRunner = request.app.state.job_runner
    runner.cancel(job_id)
    return JSONResponse({"job_id": job_id, "status": "cancelled"})


async def compute(job: Job, parts: Parts) -> Result:
    """The result of a job: what the synchronous call would have answered, and its headers."""
    content = await parts.workers.run(read_content, job.body)
    task = task_of(job.task, content)
    work = await parts.workers.run(task.read, {**content, "model": job.model})
    patient = replace(parts, settings=replace(parts.settings, request_seconds=job.timeout))
    answer = await work(patient, None)
    return Result(await parts.workers.run(answer.content, job.id), answer.headers)


def timeout_of(content: dict[str, Any], parts: Parts) -> float:
    """The seconds that a job may take; Problem 422 for more than is allowed."""
    longest = parts.settings.job_seconds
    options = content.get("job_options") or {}
    asked = options.get("timeout_seconds") if isinstance(options, dict) else None
    if asked is None:
        return longest
    if type(asked) is not int or not 0 < asked <= longest:
        raise problem("invalid-request", f"a job may take from 1 to {longest:g} s; lower job_timeout_seconds")
    return float(asked)


async def _checked(asked: Asked, parts: Parts) -> str:
    """The version that will answer; what can be said against the job before it is computed."""
    check_supported(asked)
    served, _ = await resolve(asked.model, parts)
    if (horizon := getattr(asked, "h", None)) and not getattr(asked, "full_history", False):
        try:
            asked_horizon(horizon, served.forecaster)
        except HorizonError as error:
            raise refused(error) from None
    return f"{served.name}/{served.version}"


async def _body(request: Request, parts: Parts) -> bytes:
    settings = parts.settings
    try:
        return await read_body(request, max_bytes=settings.max_body, seconds=settings.body_seconds)
    except Problem as found:
        raise advised(found) from None


async def _refused(request: Request, task: str) -> Problem:
    await _body(request, request.app.state.parts)
    return problem("not-implemented", NOT_DONE[task])


def _unknown(request: Request) -> Problem:
    parts: Parts = request.app.state.parts
    kept = parts.settings.jobs_keep_seconds
    return problem("unknown-job", f"there is no such job; results are kept for {kept:g} s after a job's end")
