"""Histories in, forecasts out."""

from typing import Any

from fastapi import APIRouter, Request, Response

from service.answers import RESPONSE_EXAMPLE, ForecastResponse
from service.arrow import MEDIA_TYPE as ARROW
from service.arrow import accepts_arrow, is_arrow, read_table
from service.body import SMALL_BODY, read_body
from service.columns import Columns
from service.inference import Parts, answer, answer_table
from service.models import Served
from service.protocol import watch
from service.schemas import parse, parse_query

router = APIRouter(tags=["forecasts"])

_NUMBERS = {"type": "string", "pattern": r"^[0-9.]+(,[0-9.]+)*$"}
ARROW_QUERY: list[dict[str, Any]] = [
    {
        "name": name,
        "in": "query",
        "required": False,
        "description": f"{meaning} For Arrow bodies only.",
        "schema": schema,
    }
    for name, meaning, schema in (
        ("model", "Which model answers; needed.", {"type": "string", "maxLength": 512}),
        ("horizon", "Steps to forecast.", {"type": "integer", "minimum": 1}),
        ("freq", "The spacing of the data.", {"type": "string", "maxLength": 40}),
        ("levels", "Central intervals in percent: 80,95.", _NUMBERS),
        ("quantiles", "Quantiles: 0.1,0.9.", _NUMBERS),
        ("output", "median, mean, or both.", {"type": "string", "enum": ["median", "mean", "median,mean"]}),
    )
]


@router.post(
    "/v1/forecasts",
    response_model=ForecastResponse,
    responses={
        200: {
            "content": {
                "application/json": {"example": RESPONSE_EXAMPLE},
                ARROW: {"schema": {"type": "string", "format": "binary"}},
            }
        }
    },
    openapi_extra={
        "parameters": ARROW_QUERY,
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": {"$ref": "#/components/schemas/ForecastRequest"}},
                ARROW: {"schema": {"type": "string", "format": "binary"}},
            },
        },
    },
    summary="Forecast one or many series",
)
async def create_forecasts(request: Request) -> Response:
    """Quantiles for every series sent, from the model's champion, another alias, or a version."""
    parts: Parts = request.app.state.parts
    async with parts.place(is_bulk=is_large(request)):
        return await _answered(request, parts)


def is_large(request: Request) -> bool:
    """Whether a body is large, or says nothing of its size."""
    length = request.headers.get("content-length", "")
    return not (length.isascii() and length.isdigit() and int(length[:20]) <= SMALL_BODY)


async def _answered(request: Request, parts: Parts) -> Response:
    headers = request.headers
    body = await read_body(request, max_bytes=parts.settings.max_body, seconds=parts.settings.body_seconds)
    as_arrow = accepts_arrow(headers.get("accept", ""))
    if is_arrow(headers.get("content-type", "")):
        query = parse_query(request.query_params.multi_items())
        table = await parts.workers.run(read_table, body)
        served, alias = await parts.store.resolve(query.model)
        note_answer(request, served)
        is_gone = watch(request)
        content = await answer_table(table, query, served, alias, parts, is_gone, as_arrow=as_arrow)
    else:
        asked = parse(body) if len(body) <= SMALL_BODY else await parts.workers.run(parse, body)
        columns = Columns.of(asked.output, asked.levels, asked.quantiles, body)
        served, alias = await parts.store.resolve(asked.model)
        note_answer(request, served)
        is_gone = watch(request)
        content = await answer(asked, columns, served, alias, parts, is_gone, as_arrow=as_arrow)
    return Response(content, media_type=ARROW if as_arrow else "application/json")


def note_answer(request: Request, served: Served) -> None:
    """Tell the figures and the log which version answers."""
    request.scope.setdefault("state", {})["answered_by"] = (served.name, served.version)
