"""From a parsed request to the bytes of its answer; models run in the inference thread.

`forecast_panel` is the core that every dialect calls: a panel and a served model in, a forecast out.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import orjson
from numpy.typing import NDArray

from forecast.errors import CovariateError, HorizonError
from forecast.models.forecaster import Forecaster
from forecast.series.forecast import Forecast
from forecast.series.panel import Panel
from service import arrow
from service.batching import CHUNK_ROWS, SMALL_ROWS, Batcher
from service.columns import Columns
from service.errors import from_forecast_error, overloaded, problem
from service.histories import is_rows, panel_of, panel_of_table, rows_of, rows_of_table
from service.models import ModelStore, Served
from service.recorder import Recorder
from service.rows import Ahead, Rows, forecast_rows, suits
from service.schemas import Asked, ForecastRequest
from service.settings import Settings
from service.stamps import write_stamps, zone_name

CHUNK_VALUES = 4_000_000
"""Quantiles held at once; a request with more is forecast in parts."""

T = TypeVar("T")


class Workers:
    """The threads that parse and forecast."""

    def __init__(self, settings: Settings) -> None:
        num_threads = settings.threads or min(os.cpu_count() or 1, 8)
        self._threads = ThreadPoolExecutor(num_threads, thread_name_prefix="forecast")

    async def run(self, work: Callable[..., T], *arguments: Any) -> T:
        """The result of `work(*arguments)`, computed in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)

    def stop(self) -> None:
        """Let running work end and take no more."""
        self._threads.shutdown(wait=False, cancel_futures=True)


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What a route needs to compute."""

    settings: Settings
    store: ModelStore
    workers: Workers
    batcher: Batcher
    bulk: asyncio.Semaphore
    """A place for each large body that is read and answered."""
    recorder: Recorder | None = None
    """Keeps what was answered, where that is asked for."""

    @asynccontextmanager
    async def place(self, *, is_bulk: bool) -> AsyncIterator[None]:
        """A place for a request, for which a large one may have to wait a moment; Problem 503 without one."""
        if not is_bulk:
            yield
            return
        try:
            async with asyncio.timeout(self.settings.hold_seconds):
                await self.bulk.acquire()
        except TimeoutError:
            raise overloaded() from None
        try:
            yield
        finally:
            self.bulk.release()


async def answer(
    request: ForecastRequest,
    columns: Columns,
    served: Served,
    alias: str | None,
    parts: Parts,
    is_gone: Callable[[], Awaitable[bool]] | None = None,
    *,
    as_arrow: bool = False,
    phases: dict[str, float] | None = None,
) -> bytes:
    """The body of an answer. Raises the library's errors and Problem for what the request asks wrongly.

    phases: takes the seconds that its parts took.
    """
    forecaster = served.forecaster
    horizon = asked_horizon(request.horizon, forecaster)
    check_size(len(request.series), horizon, columns, parts.settings)
    offset = request.series[0].first_stamp.offset
    if not is_rows(request, forecaster):
        panel = await parts.workers.run(panel_of, request, forecaster, horizon)
        return await _answer_panel(panel, offset, columns, served, alias, horizon, parts, is_gone, as_arrow)
    if len(request.series) <= SMALL_ROWS and not as_arrow:
        return await _answer_small(request, columns, served, alias, horizon, parts, is_gone, phases)
    rows, futures = await parts.workers.run(rows_of, request, forecaster, horizon)
    return await _answer_rows(
        rows, futures, offset, columns, served, alias, horizon, parts, is_gone, as_arrow
    )


async def answer_table(
    table: arrow.Table,
    asked: Asked,
    served: Served,
    alias: str | None,
    parts: Parts,
    is_gone: Callable[[], Awaitable[bool]] | None = None,
    *,
    as_arrow: bool,
) -> bytes:
    """The body of an answer to histories that came as an Arrow stream."""
    forecaster = served.forecaster
    if names := [name for kind in forecaster.info.covariates.values() for name in kind]:
        detail = f"the model uses covariates ({', '.join(names)}); send them as JSON"
        raise from_forecast_error(CovariateError(detail))
    horizon = asked_horizon(asked.horizon, forecaster)
    columns = Columns.of(asked.output, asked.levels, asked.quantiles, asked.literally)
    check_size(len(table.ys), horizon, columns, parts.settings)
    offset = table.starts[0].offset
    if table.ds is None and suits(forecaster):
        rows, futures = await parts.workers.run(rows_of_table, table, asked.freq, forecaster, horizon)
        return await _answer_rows(
            rows, futures, offset, columns, served, alias, horizon, parts, is_gone, as_arrow
        )
    panel = await parts.workers.run(panel_of_table, table, asked.freq, forecaster)
    return await _answer_panel(panel, offset, columns, served, alias, horizon, parts, is_gone, as_arrow)


async def _answer_panel(
    panel: Panel,
    offset: timedelta | None,
    columns: Columns,
    served: Served,
    alias: str | None,
    horizon: int,
    parts: Parts,
    is_gone: Callable[[], Awaitable[bool]] | None,
    as_arrow: bool,
) -> bytes:
    forecasts = await forecast_chunks(served, panel, horizon, parts, is_gone)
    if parts.recorder is not None:
        parts.recorder.note_panel(served, panel, forecasts)
    head = head_of(served, alias, panel.freq.alias, horizon)
    stamps = [row for each in forecasts for row in each.ds]
    if as_arrow:
        zone = zone_name(offset)
        work = parts.workers.run
        return await work(arrow.write_table, head, forecasts, columns, stamps, panel.num_gaps, zone)
    texts = [text for each in forecasts for text in write_stamps(each.ds, offset)]
    return await parts.workers.run(write_json, head, forecasts, columns, texts, panel.num_gaps)


async def _answer_rows(
    rows: Rows,
    futures: Sequence[Ahead],
    offset: timedelta | None,
    columns: Columns,
    served: Served,
    alias: str | None,
    horizon: int,
    parts: Parts,
    is_gone: Callable[[], Awaitable[bool]] | None,
    as_arrow: bool,
) -> bytes:
    forecasts = await forecast_in_chunks(served, rows, horizon, parts, is_gone)
    if parts.recorder is not None:
        parts.recorder.note_rows(served, rows, futures, forecasts)
    head = head_of(served, alias, served.forecaster.info.freq, horizon)
    if as_arrow:
        stamps, zone = [each.stamps for each in futures], zone_name(offset)
        return await parts.workers.run(arrow.write_table, head, forecasts, columns, stamps, None, zone)
    texts = [each.texts for each in futures]
    return await parts.workers.run(write_json, head, forecasts, columns, texts, None)


async def _answer_small(
    request: ForecastRequest,
    columns: Columns,
    served: Served,
    alias: str | None,
    horizon: int,
    parts: Parts,
    is_gone: Callable[[], Awaitable[bool]] | None,
    phases: dict[str, float] | None,
) -> bytes:
    """The same on the event loop: for a few rows it takes less time than handing them to a thread."""
    rows, futures = rows_of(request, served.forecaster, horizon)
    forecast = await _submit(served, rows, horizon, parts, is_gone, phases=phases)
    if parts.recorder is not None:
        parts.recorder.note_rows(served, rows, futures, [forecast])
    began = time.perf_counter()
    content = write_small(head_bytes(served, alias, horizon), forecast, columns, futures)
    if phases is not None:
        phases["write"] = time.perf_counter() - began
    return content


async def forecast_panel(
    served: Served,
    panel: Panel,
    horizon: int | None,
    parts: Parts,
    is_gone: Callable[[], Awaitable[bool]] | None = None,
) -> Forecast:
    """The forecast of a panel by a served model, computed in turns with what others ask for.

    The core of every dialect: `served` comes from `ModelStore.resolve`; levels and quantiles are read from
    the answer with `Columns.arrays` or `Forecast.interval`. Raises what `Forecaster.predict` raises.
    """
    forecasts = await forecast_chunks(served, panel, horizon, parts, is_gone)
    if len(forecasts) == 1:
        return forecasts[0]
    return replace(
        forecasts[0],
        unique_ids=np.concatenate([each.unique_ids for each in forecasts]),
        ds=np.concatenate([each.ds for each in forecasts]),
        values=np.concatenate([each.values for each in forecasts]),
        notes=tuple(note for each in forecasts for note in each.notes),
    )


async def forecast_chunks(
    served: Served,
    panel: Panel,
    horizon: int | None,
    parts: Parts,
    is_gone: Callable[[], Awaitable[bool]] | None = None,
) -> list[Forecast]:
    """The forecasts of a panel, some series at a time."""
    forecaster = served.forecaster
    lane = "small" if len(panel) <= SMALL_ROWS else "bulk"
    chunks = _chunks(panel, horizon or forecaster.horizon, len(forecaster.quantile_levels))
    return [
        await parts.batcher.submit(
            lambda many: [forecaster.predict(each, horizon) for each in many],
            chunk,
            rows=len(chunk),
            key=None,
            is_gone=is_gone,
            lane=lane,
        )
        for chunk in chunks
    ]


async def forecast_in_chunks(
    served: Served,
    rows: Rows,
    horizon: int,
    parts: Parts,
    is_gone: Callable[[], Awaitable[bool]] | None = None,
) -> list[Forecast]:
    """The forecasts of many rows, a chunk at a time."""
    size = chunk_rows(horizon, len(served.forecaster.quantile_levels))
    lane = "small" if len(rows) <= SMALL_ROWS else "bulk"
    return [
        await _submit(served, rows.part(start, start + size), horizon, parts, is_gone, lane)
        for start in range(0, len(rows), size)
    ]


async def _submit(
    served: Served,
    rows: Rows,
    horizon: int,
    parts: Parts,
    is_gone: Callable[[], Awaitable[bool]] | None,
    lane: str | None = None,
    phases: dict[str, float] | None = None,
) -> Forecast:
    forecaster = served.forecaster
    found: Forecast = await parts.batcher.submit(
        lambda many: forecast_rows(forecaster, horizon, many),
        rows,
        rows=len(rows),
        key=(id(served), horizon),
        is_gone=is_gone,
        lane=lane,
        phases=phases,
    )
    return found


def head_of(served: Served, alias: str | None, freq: str | int, horizon: int) -> dict[str, Any]:
    """What stands before the forecasts: which version made them."""
    return {
        "model": {
            "name": served.name,
            "version": served.version,
            "alias": alias,
            "run_id": served.run_id,
            "trained_until": served.forecaster.info.trained_until,
        },
        "freq": freq,
        "horizon": horizon,
    }


def head_bytes(served: Served, alias: str | None, horizon: int) -> bytes:
    """`head_of` as the beginning of the answer's JSON, written once for each version."""
    found = served.heads.get((alias, horizon))
    if found is None:
        written = orjson.dumps(head_of(served, alias, served.forecaster.info.freq, horizon))
        found = served.heads[alias, horizon] = written[:-1] + b',"forecasts":'
    return found


def write_small(head: bytes, forecast: Forecast, columns: Columns, futures: Sequence[Ahead]) -> bytes:
    """`write_json` for a few series without gaps."""
    forecast = columns.noted(forecast)
    arrays = columns.arrays(forecast)
    rows = [
        {
            "unique_id": unique_id,
            "ds": orjson.Fragment(futures[index].written),
            **{name: array[index] for name, array in arrays.items()},
            "notes": forecast.notes[index],
        }
        for index, unique_id in enumerate(forecast.unique_ids)
    ]
    return b"%b%b}" % (head, orjson.dumps(rows, option=orjson.OPT_SERIALIZE_NUMPY))


def write_json(
    head: dict[str, Any],
    forecasts: Sequence[Forecast],
    columns: Columns,
    ds: Sequence[Any],
    num_gaps: NDArray[np.int64] | None,
) -> bytes:
    """The body of an answer; ds and num_gaps are those of all series."""
    parts = []
    first = 0
    for forecast in forecasts:
        last = first + len(forecast)
        gaps = None if num_gaps is None else num_gaps[first:last]
        rows = list(_rows(columns.noted(forecast), columns, ds[first:last], gaps))
        parts.append(orjson.dumps(rows, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1])
        first = last
    return b"".join([orjson.dumps(head)[:-1], b',"forecasts":[', b",".join(parts), b"]}"])


def _rows(
    forecast: Forecast, columns: Columns, ds: Sequence[Any], num_gaps: NDArray[np.int64] | None
) -> Iterator[dict[str, Any]]:
    arrays = columns.arrays(forecast)
    for index, unique_id in enumerate(forecast.unique_ids):
        values = {name: array[index] for name, array in arrays.items()}
        gaps = ["gaps_filled"] if num_gaps is not None and num_gaps[index] else []
        yield {
            "unique_id": unique_id,
            "ds": ds[index],
            **values,
            "notes": [*forecast.notes[index], *gaps],
        }


def chunk_rows(horizon: int, num_quantiles: int) -> int:
    """Series that are forecast at once."""
    return max(1, min(CHUNK_ROWS, CHUNK_VALUES // (horizon * num_quantiles)))


def _chunks(panel: Panel, horizon: int, num_quantiles: int) -> Iterator[Panel]:
    rows = chunk_rows(horizon, num_quantiles)
    if len(panel) <= rows:
        yield panel
        return
    for start in range(0, len(panel), rows):
        yield panel.select(np.arange(start, min(start + rows, len(panel))))


def asked_horizon(asked: int | None, forecaster: Forecaster) -> int:
    """The steps to forecast; HorizonError beyond the model's limit."""
    horizon = forecaster.horizon if asked is None else asked
    if horizon > forecaster.max_horizon:
        raise HorizonError(
            f"the horizon is beyond the model's max_horizon of {forecaster.max_horizon} steps "
            f"(it was trained for {forecaster.horizon}); ask for at most {forecaster.max_horizon}"
        )
    return horizon


def check_size(num_series: int, horizon: int, columns: Columns, settings: Settings) -> None:
    """Refuse an answer of too many numbers."""
    asked = num_series * horizon * columns.num_columns
    if asked > settings.max_values:
        raise problem(
            "invalid-request",
            f"the answer would hold {asked:,} numbers and may hold {settings.max_values:,}; "
            "send fewer series at a time, or ask for fewer levels or steps",
        )
