"""From what a request brings to what a model reads: checked histories as rows, or as a panel on its grid."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forecast.errors import ContextError, CovariateError, DataError, FrequencyError, OffGridError
from forecast.models.forecaster import Forecaster
from forecast.series.calendar import Frequency
from forecast.series.panel import Panel
from service import arrow
from service.errors import Fault, from_forecast_error, pointer
from service.rows import Ahead, Rows, ahead, contexts_of, frequency, is_early, suits
from service.schemas import ForecastRequest, Histories
from service.stamps import Stamp, to_array, zone_name

MAX_GAPS = 1_000_000
"""Missing steps that `ds` may leave out in one request."""
_LAST = np.datetime64("9999-12-31T23:59:59.999999", "us")


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


def panel_of(request: ForecastRequest, forecaster: Forecaster, horizon: int) -> Panel:
    """The histories of a request as a panel on the grid of the model, each long enough to forecast from."""
    _check_lengths([series.y for series in request.series], forecaster)
    return panel_of_histories(request, forecaster, horizon)


def panel_of_histories(request: Histories, forecaster: Forecaster, horizon: int) -> Panel:
    """Histories of any length as a panel; known covariates reach `horizon` steps beyond them."""
    freq = request_frequency(request.freq, forecaster)
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


def _check_covariates(request: Histories, forecaster: Forecaster, horizon: int) -> None:
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


def _check_starts(request: Histories, freq: Frequency, starts: NDArray[Any]) -> None:
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


def _stamp_problem(request: Histories, index: int, kind: type[DataError], detail: str) -> Exception:
    """The problem of a series' first stamp."""
    place = ("start",) if request.series[index].start is not None else ("ds", 0)
    fault = Fault(pointer=pointer("series", index, *place), detail=detail)
    return from_forecast_error(kind(f"series {index}: {detail}"), faults=[fault])


def _check_end(request: Histories, freq: Frequency, starts: NDArray[Any], horizon: int) -> None:
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


def _all_stamps(request: Histories, freq: Frequency) -> list[NDArray[Any]]:
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
