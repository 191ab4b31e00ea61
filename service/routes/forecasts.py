"""Histories in, forecasts out."""

from fastapi import APIRouter, Request, Response

from service.body import read_body
from service.columns import Columns
from service.inference import Parts, answer
from service.schemas import RESPONSE_EXAMPLE, ForecastResponse, parse

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
    parts: Parts = request.app.state.parts
    body = await read_body(request, max_bytes=parts.settings.max_body)
    asked = parse(body) if len(body) <= SMALL_BODY else await parts.workers.run(parse, body)
    columns = Columns.of(asked.output, asked.levels, asked.quantiles, body)
    served, alias = await parts.store.resolve(asked.model)
    content = await answer(asked, columns, served, alias, parts, request.is_disconnected)
    return Response(content, media_type="application/json")
