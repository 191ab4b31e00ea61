"""What the nixtla client asks beside its tasks: about its key, the models, and how long a history may be."""

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from forecast.errors import NotFoundError
from service.body import read_body
from service.errors import problem
from service.inference import Parts
from service.models import ModelStore
from service.nixtla.naming import resolve
from service.nixtla.payload import read_content

router = APIRouter(include_in_schema=False)


@router.get("/validate_api_key")
@router.post("/validate_token")
async def validate_api_key(request: Request) -> JSONResponse:
    """Who gets here has a good key, or needs none."""
    has_keys = bool(request.app.state.keyring.keys())
    detail = "the API key is valid" if has_keys else "this service has no API keys: every key is good"
    return JSONResponse({"detail": detail})


@router.get("/usage")
async def usage() -> JSONResponse:
    """Nothing is counted against anybody."""
    return JSONResponse(
        {"detail": "this service has no quotas; GET /metrics counts its requests", "limits": {}}
    )


@router.get("/v2/models")
async def list_models(request: Request) -> JSONResponse:
    """The names that can be asked for; other aliases and versions too."""
    store: ModelStore = request.app.state.store
    snapshot = await store.settled()
    return JSONResponse({"models": [{"name": name} for name in sorted(snapshot.champions)]})


@router.get("/model_params")
async def model_params(request: Request) -> JSONResponse:
    """How much of a history the client has to send, and how far the model was trained to look ahead."""
    return await _params(request.query_params.get("model"), request)


@router.post("/model_params")
async def model_params_posted(request: Request) -> JSONResponse:
    """The same for clients that send it as JSON."""
    settings = request.app.state.settings
    body = await read_body(request, max_bytes=2**16, seconds=settings.body_seconds)
    return await _params(read_content(body).get("model"), request)


async def _params(model: Any, request: Request) -> JSONResponse:
    if not isinstance(model, str) or not 1 <= len(model) <= 512:
        raise problem("invalid-request", "name the model: ?model=NAME; GET /v2/models lists them")
    parts: Parts = request.app.state.parts
    served, _ = await resolve(model, parts)
    forecaster = served.forecaster
    return JSONResponse({"detail": {"input_size": forecaster.context_length, "horizon": forecaster.horizon}})


@router.get("/v2/finetuned_models")
async def finetuned_models() -> JSONResponse:
    """None: this service trains nothing."""
    return JSONResponse({"finetuned_models": []})


@router.get("/v2/finetuned_models/{name}")
@router.delete("/v2/finetuned_models/{name}")
async def finetuned_model(name: str) -> JSONResponse:
    """There is none."""
    raise NotFoundError(
        "there are no fine-tuned models here; models are made by `forecast retrain RECIPE` and asked for by "
        "name: list_models() says which there are"
    )
