"""What is served."""

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from service.models import ModelStore, Served
from service.schemas import ModelsResponse

router = APIRouter(tags=["models"])


@router.get("/v1/models", response_model=ModelsResponse, summary="The models that answer by name")
async def list_models(request: Request) -> JSONResponse:
    """Every champion with what a caller needs to know, by name."""
    store: ModelStore = request.app.state.store
    snapshot = store.snapshot
    served = [snapshot.champions[name] for name in sorted(snapshot.champions)]
    return JSONResponse({"models": [described(each, snapshot.aliases_of(each)) for each in served]})


def described(served: Served, aliases: list[str]) -> dict[str, Any]:
    """One model as JSON."""
    info = served.forecaster.info
    return {
        "name": served.name,
        "version": served.version,
        "aliases": aliases,
        "run_id": served.run_id,
        "kind": info.kind,
        "freq": info.freq,
        "season_length": info.season_length,
        "horizon": info.horizon,
        "max_horizon": info.max_horizon,
        "min_context": info.min_context,
        "context_length": info.context_length,
        "trained_until": info.trained_until,
    }
