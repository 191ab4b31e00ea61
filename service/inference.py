"""From a parsed request to the bytes of its answer; models run in the inference thread.

`forecast_panel` is the core that every dialect calls: a panel and a served model in, a forecast out.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import orjson
from numpy.typing import NDArray

from forecast.errors import (
    ContextError,
    CovariateError,
    DataError,
    FrequencyError,
    HorizonError,
    OffGridError,
)
from forecast.models.forecaster import Forecaster
from forecast.series.calendar import Frequency
from forecast.series.forecast import Forecast
from forecast.series.panel import Panel
from service import arrow
from service.batching import CHUNK_ROWS, SMALL_ROWS, Batcher, overloaded
from service.columns import Columns
from service.errors import Fault, from_forecast_error, pointer, problem
from service.models import ModelStore, Served
from service.rows import Ahead, Rows, ahead, contexts_of, forecast_rows, frequency, is_early, suits
from service.schemas import Asked, ForecastRequest
from service.settings import Settings
from service.stamps import Stamp, to_array, write_stamps, zone_name

CHUNK_VALUES = 4_000_000
"""Quantiles held at once; a request with more is forecast in parts."""
MAX_GAPS = 1_000_000
"""Missing steps that `ds` may leave out in one request."""
_LAST = np.datetime64("9999-12-31T23:59:59.999999", "us")

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
) -> bytes:
    """The body of an answer. Raises the library's errors and Problem for what the request asks wrongly."""
    forecaster = served.forecaster
    horizon = asked_horizon(request.horizon, forecaster)
    check_size(len(request.series), horizon, columns, parts.settings)
    offset = request.series[0].first_stamp.offset
    if not is_rows(request, forecaster):
        panel = await parts.workers.run(panel_of, request, forecaster, horizon)
        return await _answer_panel(panel, offset, columns, served, alias, horizon, parts, is_gone, as_arrow)
    if len(request.series) <= SMALL_ROWS and not as_arrow:
        return await _answer_small(request, columns, served, alias, horizon, parts, is_gone)
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
) -> bytes:
    """The same on the event loop: for a few rows it takes less time than handing them to a thread."""
    rows, futures = rows_of(request, served.forecaster, horizon)
    forecast = await _submit(served, rows, horizon, parts, is_gone)
    ds = [each.texts for each in futures]
    head = head_of(served, alias, served.forecaster.info.freq, horizon)
    return write_json(head, [forecast], columns, ds, None)


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
    size = _chunk_rows(horizon, len(served.forecaster.quantile_levels))
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
) -> Forecast:
    forecaster = served.forecaster
    found: Forecast = await parts.batcher.submit(
        lambda many: forecast_rows(forecaster, horizon, many),
        rows,
        rows=len(rows),
        key=(id(served), horizon),
        is_gone=is_gone,
        lane=lane,
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


def _chunk_rows(horizon: int, num_quantiles: int) -> int:
    return max(1, min(CHUNK_ROWS, CHUNK_VALUES // (horizon * num_quantiles)))


def _chunks(panel: Panel, horizon: int, num_quantiles: int) -> Iterator[Panel]:
    rows = _chunk_rows(horizon, num_quantiles)
    if len(panel) <= rows:
        yield panel
        return
    for start in range(0, len(panel), rows):
        yield panel.select(np.arange(start, min(start + rows, len(panel))))


def is_rows(request: ForecastRequest, forecaster: Forecaster) -> bool:
    """Whether a request needs no panel: first stamps only, for a model that reads nothing but values."""
    return suits(forecaster) and all(
        series.ds is None and not (series.past or series.known or series.static) for series in request.series
    )


def rows_of(request: ForecastRequest, forecaster: Forecaster, horizon: int) -> tuple[Rows, list[Ahead]]:
    """The contexts of a request and the calendar of each; the errors of `panel_of`."""
    grid = request_frequency(request.freq, forecaster)
    ys = [series.y for series in request.series]
    starts = [series.first_stamp for series in request.series]
    ids = np.array([series.unique_id for series in request.series], dtype=object)
    return _rows_of(ids, ys, starts, grid, forecaster, horizon)


def rows_of_table(
    table: arrow.Table, freq: str | int | None, forecaster: Forecaster, horizon: int
) -> tuple[Rows, list[Ahead]]:
    """The same of an Arrow body."""
    grid = request_frequency(freq, forecaster)
    return _rows_of(table.unique_ids, table.ys, table.starts, grid, forecaster, horizon)


def _rows_of(
    ids: NDArray[Any],
    ys: Sequence[NDArray[np.float64]],
    starts: Sequence[Stamp],
    grid: Frequency,
    forecaster: Forecaster,
    horizon: int,
) -> tuple[Rows, list[Ahead]]:
    contexts = contexts_of(ys, forecaster.context_length)
    if (np.isfinite(contexts).sum(axis=1) < forecaster.min_context).any():
        _check_lengths(ys, forecaster)
    futures = []
    for index, (start, y) in enumerate(zip(starts, ys, strict=True)):
        try:
            futures.append(ahead(grid.alias, start, len(y), horizon))
        except DataError as error:
            fault = Fault(pointer=pointer("series", index, "start"), detail=str(error))
            raise from_forecast_error(type(error)(f"series {index}: {error}"), faults=[fault]) from None
    until = forecaster.info.trained_until
    rows = Rows(
        unique_ids=ids,
        contexts=contexts,
        lengths=np.array([len(y) for y in ys], dtype=np.int64),
        early=tuple(index for index, each in enumerate(futures) if is_early(each.last, until)),
        ys=ys,
    )
    return rows, futures


def panel_of_table(table: arrow.Table, freq: str | int | None, forecaster: Forecaster) -> Panel:
    """The histories of an Arrow body as a panel on the grid of the model."""
    grid = request_frequency(freq, forecaster)
    _check_lengths(table.ys, forecaster)
    first = table.starts[0]
    stamps: dict[str, Any] = {"ds": table.ds} if table.ds else {"starts": list(to_array(table.starts))}
    for index, own in enumerate(table.ds or ()):
        _check_ascending(own, index)
    if table.ds and sum(_num_gaps(own, grid, index) for index, own in enumerate(table.ds)) > MAX_GAPS:
        raise from_forecast_error(DataError(f"ds leaves out more than {MAX_GAPS:,} steps"))
    return Panel.from_arrays(
        list(table.unique_ids),
        table.ys,
        freq=grid,
        timezone=zone_name(first.offset),
        season_length=forecaster.info.season_length,
        holidays=forecaster.info.holidays,
        **stamps,
    )


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


def panel_of(request: ForecastRequest, forecaster: Forecaster, horizon: int) -> Panel:
    """The histories of a request as a panel on the grid of the model."""
    freq = request_frequency(request.freq, forecaster)
    _check_lengths([series.y for series in request.series], forecaster)
    _check_covariates(request, forecaster, horizon)
    zone = zone_name(request.series[0].first_stamp.offset)
    parts: dict[str, Any] = {
        "freq": freq,
        "timezone": zone,
        "season_length": forecaster.info.season_length,
        "holidays": forecaster.info.holidays,
    }
    uses = {kind for kind, names in forecaster.info.covariates.items() if names}
    for kind in sorted(uses):
        parts[kind] = [getattr(series, kind) or {} for series in request.series]
    starts = to_array([series.first_stamp for series in request.series])
    _check_starts(request, freq, starts)
    _check_end(request, freq, starts, horizon)
    if all(series.ds is None for series in request.series):
        parts["starts"] = list(starts)
    else:
        parts["ds"] = _all_stamps(request, freq)
    return Panel.from_arrays(
        [series.unique_id for series in request.series], [series.y for series in request.series], **parts
    )


def request_frequency(sent: str | int | None, forecaster: Forecaster) -> Frequency:
    """The frequency sent, or the model's where none was; FrequencyError where they differ."""
    if sent is None:
        return frequency(forecaster.info.freq)
    asked = frequency(sent)
    if not asked.is_compatible(frequency(forecaster.info.freq)):
        raise FrequencyError(
            f"the model forecasts {forecaster.freq.words} series and the request says {asked.words}; "
            "send data of the model's frequency, or ask for another model (GET /v1/models lists them)"
        )
    return asked


def _check_lengths(ys: Sequence[NDArray[np.float64]], forecaster: Forecaster) -> None:
    need = forecaster.min_context
    observed = [int(np.isfinite(y[-forecaster.context_length :]).sum()) for y in ys]
    short = [(index, got) for index, got in enumerate(observed) if got < need]
    if short:
        detail = f"the model needs at least {need} observed values and got "
        faults = [Fault(pointer=pointer("series", i, "y"), detail=f"{detail}{got}") for i, got in short]
        more = f" (and {len(short) - 1} more series are too short)" if len(short) > 1 else ""
        first, got = short[0]
        found = f"{detail}{got} in series {first}{more}; send a longer history"
        raise from_forecast_error(ContextError(found), faults=faults)


def _check_covariates(request: ForecastRequest, forecaster: Forecaster, horizon: int) -> None:
    """Refuse a series that lacks a covariate of the model, brings another, or one of the wrong length."""
    for index, series in enumerate(request.series):
        extra = {"past": 0, "known": horizon}
        for kind in ("past", "known", "static"):
            sent: dict[str, Any] = getattr(series, kind) or {}
            needed = forecaster.info.covariates.get(kind, [])
            if set(sent) != set(needed):
                uses = (
                    f"uses the {kind} covariates {', '.join(needed)}"
                    if needed
                    else f"uses no {kind} covariates"
                )
                raise _covariate_problem(f"the model {uses}; send exactly these", index, kind)
            for name, row in sent.items():
                if kind in extra and len(row) != len(series.y) + extra[kind]:
                    found = f"{len(row)} values were sent and {len(series.y) + extra[kind]} are needed"
                    raise _covariate_problem(found, index, kind, name)


def _covariate_problem(detail: str, index: int, *place: str) -> Exception:
    fault = Fault(pointer=pointer("series", index, *place), detail=detail)
    return from_forecast_error(CovariateError(f"series {index}: {detail}"), faults=[fault])


def _check_starts(request: ForecastRequest, freq: Frequency, starts: NDArray[Any]) -> None:
    """Refuse a first stamp that is a date for integer time, a number for dates, or beside the grid."""
    if freq.is_integer != (starts.dtype.kind != "M"):
        needed = "integers" if freq.is_integer else "dates"
        raise _stamp_problem(request, 0, FrequencyError, f"the stamps of {freq.words} series are {needed}")
    if freq.is_integer:
        return
    _, on_grid = freq.locate(starts, starts)
    if not on_grid.all():
        index = int((~on_grid).argmax())
        detail = f"the stamp lies beside the {freq.words} grid; send one that is on it"
        raise _stamp_problem(request, index, OffGridError, detail)


def _stamp_problem(request: ForecastRequest, index: int, kind: type[DataError], detail: str) -> Exception:
    """The problem of a series' first stamp."""
    place = ("start",) if request.series[index].start is not None else ("ds", 0)
    fault = Fault(pointer=pointer("series", index, *place), detail=detail)
    return from_forecast_error(kind(f"series {index}: {detail}"), faults=[fault])


def _check_end(request: ForecastRequest, freq: Frequency, starts: NDArray[Any], horizon: int) -> None:
    """DataError where a history or its forecast would run beyond the year 9999."""
    if starts.dtype.kind != "M" or freq.is_integer:
        return
    lengths = np.array([len(series.y) for series in request.series], dtype=np.float64)
    step = (freq.advance(starts, 2) - starts).astype(np.float64)
    room = (_LAST - starts).astype(np.float64)
    if (beyond := step * (lengths + horizon) > room).any():
        index = int(beyond.argmax())
        detail = "the history and its forecast run beyond the year 9999"
        fault = Fault(pointer=pointer("series", index, "start"), detail=detail)
        raise from_forecast_error(DataError(f"series {index}: {detail}"), faults=[fault])


def _all_stamps(request: ForecastRequest, freq: Frequency) -> list[NDArray[Any]]:
    """The stamps of every series, ascending and without gaps that cost too much."""
    stamps: list[NDArray[Any]] = []
    num_gaps = 0
    for index, series in enumerate(request.series):
        if series.ds is None:
            stamps.append(freq.stamps(to_array([series.first_stamp])[0], len(series.y)))
            continue
        array = to_array(series.ds)
        _check_ascending(array, index)
        num_gaps += _num_gaps(array, freq, index)
        if num_gaps > MAX_GAPS:
            fault = Fault(
                pointer=pointer("series", index, "ds"), detail=f"more than {MAX_GAPS:,} steps are left out"
            )
            raise from_forecast_error(DataError(f"series {index}: {fault.detail}"), faults=[fault])
        stamps.append(array)
    return stamps


def _check_ascending(stamps: NDArray[Any], index: int) -> None:
    steps = np.diff(stamps.astype(np.int64))
    if (steps > 0).all():
        return
    place = int((steps <= 0).argmax()) + 1
    detail = (
        "the stamp is repeated" if steps[place - 1] == 0 else "the stamp is earlier than the one before it"
    )
    fault = Fault(pointer=pointer("series", index, "ds", place), detail=detail)
    raise from_forecast_error(DataError(f"series {index}: {detail}; send ascending stamps"), faults=[fault])


def _num_gaps(stamps: NDArray[Any], freq: Frequency, index: int) -> int:
    """Steps that the stamps leave out; OffGridError for one beside the grid."""
    if freq.kind == "trading":
        return 0
    steps, on_grid = freq.locate(stamps, stamps[:1])
    if not on_grid.all():
        place = int((~on_grid).argmax())
        detail = f"the stamp lies beside the {freq.words} grid"
        fault = Fault(pointer=pointer("series", index, "ds", place), detail=detail)
        raise from_forecast_error(OffGridError(f"series {index}: {detail}"), faults=[fault])
    return int(steps[-1]) + 1 - len(stamps)
