"""Whether the process lives, and whether it can answer."""

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from service.answers import Live, Ready, Started
from service.metrics import CONTENT_TYPE, Metrics
from service.models import ModelStore

router = APIRouter(tags=["health"])


@router.get("/livez", response_model=Live, summary="Does the process answer?")
async def live() -> JSONResponse:
    """200 for as long as the process runs."""
    return JSONResponse({"status": "alive"})


@router.get(
    "/readyz",
    response_model=Ready,
    responses={503: {"model": Ready, "description": "No model is loaded, or the process is about to stop"}},
    summary="Can forecasts be answered?",
)
async def ready(request: Request) -> JSONResponse:
    """200 with the models that serve, 503 while there is none or the process is about to stop.

    `problems` names champions that were not loaded.
    """
    if request.app.state.is_stopping:
        return JSONResponse({"status": "stopping"}, 503)
    store: ModelStore = request.app.state.store
    snapshot = store.snapshot
    served = [
        {"name": name, "version": snapshot.champions[name].version} for name in sorted(snapshot.champions)
    ]
    body: dict[str, Any] = {"status": "ready", "models": served} if served else {"status": "no model"}
    if snapshot.problems:
        body["problems"] = snapshot.problems
    return JSONResponse(body, 200 if served else 503)


@router.get(
    "/startupz",
    response_model=Started,
    responses={503: {"model": Started, "description": "The first look at the cache is not over"}},
    summary="Has the process looked for its models?",
)
async def started(request: Request) -> JSONResponse:
    """200 from the end of the first look on, whether it found a model or not."""
    store: ModelStore = request.app.state.store
    is_up = store.has_looked
    return JSONResponse({"status": "started" if is_up else "starting"}, 200 if is_up else 503)


@router.get("/metrics", include_in_schema=False)
async def metrics(request: Request) -> Response:
    """What Prometheus reads."""
    figures: Metrics = request.app.state.metrics
    return Response(figures.text(), media_type=CONTENT_TYPE)
