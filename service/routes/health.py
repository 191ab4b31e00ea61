"""Whether the process lives, and whether it can answer."""

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from service.models import ModelStore
from service.schemas import Live, Ready

router = APIRouter(tags=["health"])


@router.get("/livez", response_model=Live, summary="Does the process answer?")
async def live() -> JSONResponse:
    """200 for as long as the process runs."""
    return JSONResponse({"status": "alive"})


@router.get(
    "/readyz",
    response_model=Ready,
    responses={503: {"model": Ready, "description": "No model is loaded"}},
    summary="Can forecasts be answered?",
)
async def ready(request: Request) -> JSONResponse:
    """200 with the models that serve, 503 while there is none; `problems` names champions not loaded."""
    store: ModelStore = request.app.state.store
    snapshot = store.snapshot
    served = [
        {"name": name, "version": snapshot.champions[name].version} for name in sorted(snapshot.champions)
    ]
    body: dict[str, Any] = {"status": "ready", "models": served} if served else {"status": "no model"}
    if snapshot.problems:
        body["problems"] = snapshot.problems
    return JSONResponse(body, 200 if served else 503)
