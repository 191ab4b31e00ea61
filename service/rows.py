"""Requests that are rows of numbers, without covariates or stamps of their own: a model reads many at once.

The usual request, and so the one that is kept cheap: no panel is built for it. It is answered with what
`Forecaster.predict` says of the same history, but for float32's last digit.

N series of one request, B series of a batch, L context_length, H horizon, Q quantile levels
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from forecast.errors import DataError, FrequencyError, OffGridError
from forecast.models.forecaster import Forecaster
from forecast.series.batch import ContextBatch
from forecast.series.calendar import Frequency
from forecast.series.forecast import Forecast
from service.stamps import Stamp, to_array, write_stamps

_NO_STAMPS = np.zeros((1, 0), dtype=np.int64)
_FIRST, _AFTER = np.datetime64("1000-01-01", "us"), np.datetime64("3000-01-01", "us")
_LAST = np.datetime64("9999-12-31T23:59:59.999999", "us")


@dataclass(frozen=True, eq=False, slots=True)
class Rows:
    """The contexts of some series, ready for a model."""

    unique_ids: NDArray[Any]
    contexts: NDArray[np.float64]
    """(N, L) in units, NaN before the start and where missing."""
    lengths: NDArray[np.int64]
    """(N,) steps of the histories."""
    early: tuple[int, ...]
    """Series that end before the training data did."""
    ys: Sequence[NDArray[np.float64]]
    """The whole histories of the early ones, by their place; others may be left out."""
    first: int = 0
    """Where the first series stands in the request."""

    def __len__(self) -> int:
        return len(self.contexts)

    def part(self, start: int, stop: int) -> "Rows":
        """Some consecutive series."""
        early = tuple(index - start for index in self.early if start <= index < stop)
        chosen = slice(start, stop)
        return Rows(
            self.unique_ids[chosen],
            self.contexts[chosen],
            self.lengths[chosen],
            early,
            self.ys[chosen],
            self.first + start,
        )

    def y(self, index: int) -> NDArray[np.float64]:
        """The history of one series, for `Identity`."""
        return self.ys[index]


@dataclass(frozen=True, slots=True)
class Ahead:
    """What the calendar says of one history: the stamps of its forecast, and where it ends."""

    texts: tuple[Any, ...]
    """(H,) as they stand in JSON."""
    written: bytes
    """The same, written."""
    stamps: NDArray[Any]
    """(H,) datetime64[us] in UTC, or int64."""
    last: int
    """The last observed step, microseconds in UTC or an integer."""


def suits(forecaster: Forecaster) -> bool:
    """Whether a model reads nothing but values."""
    return (
        forecaster.info.freq != "trading"
        and not any(forecaster.info.covariates.values())
        and not forecaster.info.model.get("calendar")
        and not forecaster.info.holidays
    )


@lru_cache(maxsize=8192)
def ahead(freq: str | int, start: Stamp, length: int, horizon: int) -> Ahead:
    """The calendar of a history of `length` steps from `start`; DataError where it does not fit."""
    grid = frequency(freq)
    if grid.is_integer != start.is_integer:
        needed = "integers" if grid.is_integer else "dates"
        raise FrequencyError(f"the stamps of {grid.words} series are {needed}")
    first = to_array([start])
    if start.is_integer:
        step = int(freq)
        last = start.value + step * (length - 1)
        coming = last + step * np.arange(1, horizon + 1)
        return Ahead(tuple(coming.tolist()), orjson.dumps(coming.tolist()), coming, last)
    _, on_grid = grid.locate(first, first)
    if not on_grid.all():
        raise OffGridError(f"the stamp lies beside the {grid.words} grid; send one that is on it")
    if not _FIRST <= first[0] < _AFTER:
        raise DataError("the stamp lies outside the years 1000 to 2999; correct it")
    step_us = float((grid.advance(first, 2) - first).astype(np.float64)[0])
    if step_us * (length + horizon) > float((_LAST - first).astype(np.float64)[0]):
        raise DataError("the history and its forecast run beyond the year 9999")
    stamps = grid.advance(first[:, None], np.arange(length - 1, length + horizon)[None])[0]
    offset = start.offset or timedelta(0)
    last = int(stamps[0].astype(np.int64)) - int(offset / timedelta(microseconds=1))
    utc = stamps[1:] - np.timedelta64(offset)
    texts = tuple(write_stamps(utc, start.offset))
    return Ahead(texts, orjson.dumps(texts), utc, last)


def is_early(last: int, trained_until: str | int | None) -> bool:
    """Whether a history ends before the training data did."""
    return trained_until is not None and last < _step(trained_until)


@lru_cache(maxsize=1024)
def _step(stamp: str | int) -> int:
    return int(np.datetime64(stamp, "us").astype(np.int64)) if isinstance(stamp, str) else stamp


@lru_cache(maxsize=256)
def frequency(alias: str | int) -> Frequency:
    """The frequency of a name."""
    return Frequency.parse(alias)


def contexts_of(ys: Sequence[NDArray[np.float64]], context_length: int) -> NDArray[np.float64]:
    """(N, L) the last steps of every history, NaN before its start."""
    if len(ys) == 1 and len(ys[0]) >= context_length:
        return ys[0][None, -context_length:]
    contexts = np.full((len(ys), context_length), np.nan)
    for row, y in zip(contexts, ys, strict=True):
        if tail := min(len(y), context_length):
            row[-tail:] = y[-tail:]
    return contexts


def forecast_rows(forecaster: Forecaster, horizon: int, many: Sequence[Rows]) -> list[Forecast]:
    """The forecasts of several requests in one pass; their stamps are left to `ahead`."""
    joined = many[0] if len(many) == 1 else None
    contexts = joined.contexts if joined else np.concatenate([rows.contexts for rows in many])
    lengths = joined.lengths if joined else np.concatenate([rows.lengths for rows in many])
    names = (f"series {rows.first + index}" for rows in many for index in range(len(rows)))
    values, notes = forecaster.predict_batch(
        ContextBatch.from_raw(contexts), horizon, names=names, lengths=lengths
    )
    answers = []
    end = 0
    for rows in many:
        start, end = end, end + len(rows)
        own = notes[start:end]
        if rows.early:
            _note_samples(forecaster, rows, own)
        answers.append(_forecast(forecaster, rows, values[start:end], own))
    return answers


def _note_samples(forecaster: Forecaster, rows: Rows, notes: list[list[str]]) -> None:
    """Mark the histories that end before the training data did."""
    early = list(rows.early)
    some = Rows(
        rows.unique_ids[early], rows.contexts[early], rows.lengths[early], (), [rows.ys[i] for i in early]
    )
    for index, is_known in zip(early, forecaster.identity.knows(some), strict=True):
        notes[index].append("in_sample" if is_known else "may_be_in_sample")


def _forecast(
    forecaster: Forecaster, rows: Rows, values: NDArray[np.float64], notes: list[list[str]]
) -> Forecast:
    """The forecasts of one request; their stamps are left to `ahead`."""
    model = forecaster.info.model
    return Forecast(
        unique_ids=rows.unique_ids,
        ds=_NO_STAMPS,
        quantile_levels=_levels(forecaster.quantile_levels),
        values=values,
        notes=tuple(map(tuple, notes)),
        freq=frequency(forecaster.info.freq),
        lower_bound=model.get("lower_bound"),
        upper_bound=model.get("upper_bound"),
        integer=bool(model.get("integer")),
    )


@lru_cache(maxsize=256)
def _levels(grid: tuple[float, ...]) -> NDArray[np.float64]:
    return np.array(grid, dtype=np.float64)
