"""Histories in, which of their values are out of the ordinary out."""

from typing import Any

import numpy as np
import orjson
from fastapi import APIRouter, Request, Response

from service.anomalies import Judged, judge
from service.answers import AnomalyResponse
from service.backtests import finite
from service.body import read_body
from service.columns import Columns, literals
from service.histories import panel_of_histories
from service.inference import Parts, head_of
from service.protocol import watch
from service.routes.forecasts import is_large, note_answer
from service.schemas import AnomalyRequest, parse_as
from service.stamps import write_stamps

router = APIRouter(tags=["anomalies"])


@router.post(
    "/v1/anomalies",
    response_model=AnomalyResponse,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/AnomalyRequest"}}},
        }
    },
    summary="Find values outside of what was to be expected",
)
async def find_anomalies(request: Request) -> Response:
    """Every value of the histories beside its calibrated interval, forecast one step before it."""
    parts: Parts = request.app.state.parts
    async with parts.place(is_bulk=is_large(request)):
        return await _answered(request, parts)


async def _answered(request: Request, parts: Parts) -> Response:
    body = await read_body(request, max_bytes=parts.settings.max_body, seconds=parts.settings.body_seconds)
    asked = await parts.workers.run(parse_as, body, AnomalyRequest)
    served, alias = await parts.store.resolve(asked.model)
    note_answer(request, served)
    panel = await parts.workers.run(panel_of_histories, asked, served.forecaster, 0)
    ys = [series.y for series in asked.series]
    is_gone = watch(request)
    found = await judge(served, panel, parts, level=asked.level, last=asked.last, is_gone=is_gone, ys=ys)
    head = head_of(served, alias, panel.freq.alias, 1)
    del head["horizon"]
    content = await parts.workers.run(_write, head, found, asked, body)
    return Response(content, media_type="application/json")


def _write(head: dict[str, Any], found: Judged, asked: AnomalyRequest, body: bytes) -> bytes:
    replayed, panel = found.replayed, found.replayed.panel
    (key,) = literals(body, b"level", [asked.level])
    columns = Columns(("median",), ((key, asked.level),))
    stamps = write_stamps(replayed.forecast.ds[:, 0], asked.series[0].first_stamp.offset)
    noted = columns.noted(replayed.forecast).notes
    anomalies = []
    for place, name in enumerate(panel.unique_ids):
        rows = replayed.of_series(place)
        y = found.y[rows]
        missing = np.isnan(y)
        notes = dict.fromkeys(note for own in noted[rows] for note in own)
        gaps = ["gaps_filled"] if panel.num_gaps[place] else []
        anomalies.append(
            {
                "unique_id": name,
                "ds": stamps[rows],
                "y": [finite(value) for value in y],
                "median": found.median[rows].tolist(),
                f"lo-{key}": found.low[rows].tolist(),
                f"hi-{key}": found.high[rows].tolist(),
                "score": [finite(value) for value in found.score[rows]],
                "anomaly": [
                    None if gone else bool(each)
                    for each, gone in zip(found.anomaly[rows], missing, strict=True)
                ],
                "in_sample": found.in_sample[rows].tolist(),
                "notes": [*notes, *gaps, *replayed.notes[place]],
            }
        )
    return orjson.dumps({**head, "level": asked.level, "summary": _summary(found), "anomalies": anomalies})


def _summary(found: Judged) -> dict[str, Any]:
    counted = ~np.isnan(found.y) & ~found.in_sample
    num_values, num_anomalies = int(counted.sum()), int((found.anomaly & counted).sum())
    return {
        "num_values": num_values,
        "num_anomalies": num_anomalies,
        "share": num_anomalies / num_values if num_values else None,
        "num_in_sample": int(found.in_sample.sum()),
    }
