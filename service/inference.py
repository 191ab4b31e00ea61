"""From a parsed request to the bytes of its answer, in a thread: the event loop never waits for numbers."""

import asyncio
import os
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
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
from service.errors import Fault, from_forecast_error, pointer, problem
from service.models import Served
from service.schemas import ForecastRequest
from service.settings import Settings
from service.stamps import to_array, write_stamps, zone_name

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


@dataclass(frozen=True)
class Columns:
    """What a request wants to see of a forecast, with the keys it answers to."""

    output: tuple[str, ...]
    levels: tuple[tuple[str, float], ...] = ()
    quantiles: tuple[tuple[str, float], ...] = ()

    @classmethod
    def of(cls, request: ForecastRequest, body: bytes) -> "Columns":
        """Keys repeat each number as it stands in the body: 80, 95.5, 80.0."""
        return cls(
            tuple(dict.fromkeys(request.output)),
            tuple(zip(literals(body, b"levels", request.levels), request.levels or (), strict=True)),
            tuple(zip(literals(body, b"quantiles", request.quantiles), request.quantiles or (), strict=True)),
        )

    @property
    def num_columns(self) -> int:
        return len(self.output) + 2 * len(self.levels) + len(self.quantiles)

    def arrays(self, forecast: Forecast) -> dict[str, NDArray[np.float64]]:
        """Each column (N, H), by its key."""
        arrays: dict[str, NDArray[np.float64]] = {name: getattr(forecast, name) for name in self.output}
        for key, level in self.levels:
            arrays[f"lo-{key}"], arrays[f"hi-{key}"] = forecast.interval(level)
        for key, quantile in self.quantiles:
            arrays[f"q-{key}"] = forecast.quantile(quantile)
        return {name: np.ascontiguousarray(array) for name, array in arrays.items()}

    def noted(self, forecast: Forecast) -> Forecast:
        """With a note where a column lies beyond the quantiles that the model knows."""
        return forecast.noted([level for _, level in self.levels], [q for _, q in self.quantiles])


def literals(body: bytes, field: bytes, values: tuple[float, ...] | None) -> list[str]:
    """How the numbers of a field were written in the body; Python's own writing where that is not found."""
    for match in re.finditer(rb'"' + field + rb'"\s*:\s*\[([0-9eE+.,\s-]*)\]', body):
        tokens = [token.strip() for token in match[1].decode().split(",")]
        if len(tokens) == len(values or ()) and all(map(_equal, tokens, values or ())):
            return tokens
    return [repr(value) for value in values or ()]


def _equal(token: str, value: float) -> bool:
    try:
        return float(token) == value
    except ValueError:
        return False


def answer(
    request: ForecastRequest, body: bytes, served: Served, alias: str | None, settings: Settings
) -> bytes:
    """The JSON of a forecast. Raises the library's errors and Problem for what the request asks wrongly."""
    forecaster = served.forecaster
    columns = Columns.of(request, body)
    horizon = _horizon(request, forecaster)
    _check_size(request, horizon, columns, settings)
    panel = panel_of(request, forecaster, horizon)
    head = {
        "model": {
            "name": served.name,
            "version": served.version,
            "alias": alias,
            "run_id": served.run_id,
            "trained_until": forecaster.info.trained_until,
        },
        "freq": panel.freq.alias,
        "horizon": horizon,
    }
    offset = request.series[0].first_stamp.offset
    parts = []
    for chunk in _chunks(panel, horizon, len(forecaster.quantile_levels)):
        forecast = columns.noted(forecaster.predict(chunk, horizon))
        rows = list(_rows(forecast, columns, chunk.num_gaps, offset))
        parts.append(orjson.dumps(rows, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1])
    return b"".join([orjson.dumps(head)[:-1], b',"forecasts":[', b",".join(parts), b"]}"])


def _rows(
    forecast: Forecast, columns: Columns, num_gaps: NDArray[np.int64], offset: Any
) -> Iterator[dict[str, Any]]:
    stamps = write_stamps(forecast.ds, offset)
    arrays = columns.arrays(forecast)
    for index, unique_id in enumerate(forecast.unique_ids):
        values = {name: array[index] for name, array in arrays.items()}
        gaps = ["gaps_filled"] if num_gaps[index] else []
        yield {
            "unique_id": unique_id,
            "ds": stamps[index],
            **values,
            "notes": [*forecast.notes[index], *gaps],
        }


def _chunks(panel: Panel, horizon: int, num_quantiles: int) -> Iterator[Panel]:
    rows = max(1, CHUNK_VALUES // (horizon * num_quantiles))
    if len(panel) <= rows:
        yield panel
        return
    for start in range(0, len(panel), rows):
        yield panel.select(np.arange(start, min(start + rows, len(panel))))


def _horizon(request: ForecastRequest, forecaster: Forecaster) -> int:
    horizon = forecaster.horizon if request.horizon is None else request.horizon
    if horizon > forecaster.max_horizon:
        raise HorizonError(
            f"the horizon is beyond the model's max_horizon of {forecaster.max_horizon} steps "
            f"(it was trained for {forecaster.horizon}); ask for at most {forecaster.max_horizon}"
        )
    return horizon


def _check_size(request: ForecastRequest, horizon: int, columns: Columns, settings: Settings) -> None:
    asked = len(request.series) * horizon * columns.num_columns
    if asked > settings.max_values:
        raise problem(
            "invalid-request",
            f"the answer would hold {asked:,} numbers and may hold {settings.max_values:,}; "
            "send fewer series at a time, or ask for fewer levels or steps",
        )


def panel_of(request: ForecastRequest, forecaster: Forecaster, horizon: int) -> Panel:
    """The histories of a request as a panel on the grid of the model."""
    freq = _frequency(request, forecaster)
    _check_lengths(request, forecaster)
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


def _frequency(request: ForecastRequest, forecaster: Forecaster) -> Frequency:
    """The frequency sent, or the model's where none was; FrequencyError where they differ."""
    if request.freq is None:
        return forecaster.freq
    asked = Frequency.parse(request.freq)
    if not asked.is_compatible(forecaster.freq):
        raise FrequencyError(
            f"the model forecasts {forecaster.freq.words} series and the request says {asked.words}; "
            "send data of the model's frequency, or ask for another model (GET /v1/models lists them)"
        )
    return asked


def _check_lengths(request: ForecastRequest, forecaster: Forecaster) -> None:
    need = forecaster.min_context
    observed = [int(np.isfinite(series.y[-forecaster.context_length :]).sum()) for series in request.series]
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
