"""Histories in, forecasts out."""

from fastapi import APIRouter, Request, Response

from service.body import read_body
from service.inference import Workers, answer
from service.models import ModelStore
from service.schemas import RESPONSE_EXAMPLE, ForecastResponse, parse
from service.settings import Settings

router = APIRouter(tags=["forecasts"])

SMALL_BODY = 64 * 2**10
"""Bodies up to this size are parsed on the event loop: it takes less time than handing them to a thread."""


@router.post(
    "/v1/forecasts",
    response_model=ForecastResponse,
    responses={200: {"content": {"application/json": {"example": RESPONSE_EXAMPLE}}}},
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ForecastRequest"}}},
        }
    },
    summary="Forecast one or many series",
)
async def create_forecasts(request: Request) -> Response:
    """Quantiles for every series sent, from the model's champion, another alias, or a version."""
    settings: Settings = request.app.state.settings
    workers: Workers = request.app.state.workers
    store: ModelStore = request.app.state.store
    body = await read_body(request, max_bytes=settings.max_body)
    asked = parse(body) if len(body) <= SMALL_BODY else await workers.run(parse, body)
    served, alias = await store.resolve(asked.model)
    content = await workers.run(answer, asked, body, served, alias, settings)
    return Response(content, media_type="application/json")
