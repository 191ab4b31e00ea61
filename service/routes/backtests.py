"""Histories in, what a model would have said at their earlier cutoffs out."""

from typing import Any

import orjson
from fastapi import APIRouter, Request, Response

from service.answers import BacktestResponse
from service.backtests import Replayed, finite, metrics_of, replay, rolling, with_enough
from service.body import read_body
from service.columns import Columns
from service.histories import panel_of_histories
from service.inference import Parts, asked_horizon, check_size, head_of
from service.protocol import watch
from service.routes.forecasts import is_large, note_answer
from service.schemas import BacktestRequest, parse_as
from service.stamps import write_stamps

router = APIRouter(tags=["backtests"])


@router.post(
    "/v1/backtests",
    response_model=BacktestResponse,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/BacktestRequest"}}},
        }
    },
    summary="Replay histories over several cutoffs",
)
async def create_backtests(request: Request) -> Response:
    """Forecasts from earlier cutoffs of every series beside what came, and metrics of them."""
    parts: Parts = request.app.state.parts
    async with parts.place(is_bulk=is_large(request)):
        return await _answered(request, parts)


async def _answered(request: Request, parts: Parts) -> Response:
    body = await read_body(request, max_bytes=parts.settings.max_body, seconds=parts.settings.body_seconds)
    asked = await parts.workers.run(parse_as, body, BacktestRequest)
    columns = Columns.of(["median"], asked.levels, None, body)
    served, alias = await parts.store.resolve(asked.model)
    note_answer(request, served)
    forecaster = served.forecaster
    horizon = asked_horizon(asked.horizon, forecaster)
    stride = asked.stride or horizon
    check_size(len(asked.series) * asked.num_windows, horizon, columns, parts.settings)
    panel = await parts.workers.run(panel_of_histories, asked, forecaster, 0)
    windows = rolling(panel, horizon=horizon, num_windows=asked.num_windows, stride=stride)
    windows = with_enough(forecaster, panel, windows)
    ys = [series.y for series in asked.series]
    replayed = await replay(served, panel, windows, horizon, parts, watch(request), ys=ys)
    head = {
        **head_of(served, alias, panel.freq.alias, horizon),
        "num_windows": asked.num_windows,
        "stride": stride,
    }
    content = await parts.workers.run(_write, head, replayed, asked, columns)
    return Response(content, media_type="application/json")


def _write(head: dict[str, Any], replayed: Replayed, asked: BacktestRequest, columns: Columns) -> bytes:
    offset = asked.series[0].first_stamp.offset
    panel, windows = replayed.panel, replayed.windows
    whole, own = metrics_of(replayed, columns)
    shown = panel.select(windows.places)
    cutoffs = write_stamps(shown.stamps_at(windows.seen[:, None] - 1)[:, 0], offset)
    stamps = write_stamps(replayed.forecast.ds, offset)
    arrays = columns.arrays(replayed.forecast)
    y = [[finite(value) for value in row] for row in replayed.y.tolist()]
    backtests = []
    for place, name in enumerate(panel.unique_ids):
        rows = range(*replayed.of_series(place).indices(len(windows)))
        backtests.append(
            {
                "unique_id": name,
                "metrics": own[place],
                "windows": [
                    {
                        "cutoff": cutoffs[row],
                        "ds": stamps[row],
                        "y": y[row],
                        **{key: array[row] for key, array in arrays.items()},
                        "in_sample": replayed.in_sample[row].tolist(),
                    }
                    for row in rows
                ],
                "notes": _notes(replayed, place, columns, fewer=len(rows) < asked.num_windows),
            }
        )
    content = {**head, "metrics": whole, "backtests": backtests}
    return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)


def _notes(replayed: Replayed, place: int, columns: Columns, *, fewer: bool) -> list[str]:
    """What holds for some window of a series, or for the series."""
    noted = columns.noted(replayed.forecast).notes[replayed.of_series(place)]
    notes = list(dict.fromkeys(note for own in noted for note in own))
    notes += ["fewer_windows"] if fewer else []
    notes += ["gaps_filled"] if replayed.panel.num_gaps[place] else []
    return [*notes, *replayed.notes[place]]
