"""One sequence of values per series becomes a panel: the door for requests, fast and strict."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forecast.errors import CovariateError, DataError, EmptyDataError, FrequencyError, ValueRangeError
from forecast.series.calendar import Frequency, Stamps, holiday_dates
from forecast.series.covariates import CovariateRows, StaticCovariates
from forecast.series.encoding import encode
from forecast.series.panel import Panel
from forecast.series.report import Finding, Report, name_series
from forecast.series.rows import Policies, RowPlan, Runs, check_kind, check_values, finding, finite, plan_rows
from forecast.series.stamps import read_stamps, second_turns

_NUMBERS = {int, float, type(None)}


def panel_from_arrays(
    unique_ids: Sequence[str],
    ys: Sequence[Any],
    *,
    freq: Frequency,
    starts: Sequence[Any] | None,
    ds: Sequence[Any] | None,
    timezone: str | None,
    season_length: int | None,
    holidays: Sequence[Any],
    past: Sequence[Mapping[str, Any]] | None,
    known: Sequence[Mapping[str, Any]] | None,
    static: Sequence[Mapping[str, Any]] | None,
) -> Panel:
    """See `Panel.from_arrays`."""
    names = _names(unique_ids, ys)
    values = [_floats(y, names[i]) for i, y in enumerate(ys)]
    sizes = np.array([len(y) for y in values], dtype=np.int64)
    if not sizes.all():
        raise EmptyDataError(
            f"series {name_series(names[sizes == 0])} have no values; send at least one each."
        )
    columns = {"y": np.concatenate(values)}
    past_names = _covariate_names(past, len(names), "past")
    for name in past_names:
        columns[name] = _covariate(name, past or (), names, sizes)
    _check(columns, names, sizes)
    if starts is not None and ds is not None:
        raise DataError(
            "give either starts (the first stamp of each series) or ds (all stamps of each), not both."
        )
    has_stamps = starts is not None or ds is not None
    closed = holiday_dates(holidays)
    if ds is not None:
        plan, zone = _by_stamps(names, sizes, ds, freq, timezone)
        trading = plan.stamps
    else:
        first = [_any_stamp(freq)] * len(names) if starts is None else starts
        plan, zone = _by_starts(names, sizes, first, freq, timezone)
        trading = _weekdays(plan, closed, zone) if freq.kind == "trading" else None
    panel = panel_of(
        replace(plan, stamps=trading),
        columns.__getitem__,
        season_length=season_length,
        timezone=zone,
        holidays=tuple(map(str, closed)),
        past_names=past_names,
        known=_known_rows(known, names, sizes, plan),
        static=_static_rows(static, len(names)),
        refuse_missing=True,
    )
    return replace(panel, has_stamps=has_stamps)


def _any_stamp(freq: Frequency) -> Any:
    """A stamp on the grid, for series that have none."""
    return 0 if freq.is_integer else freq.advance(np.datetime64("1970-01-01", "us"), 1)


def panel_of(
    plan: RowPlan,
    column: Callable[[str], NDArray[np.float64]],
    *,
    policies: Policies | None = None,
    season_length: int | None = None,
    timezone: str | None = None,
    holidays: tuple[str, ...] = (),
    past_names: Sequence[str] = (),
    known_names: Sequence[str] = (),
    known: CovariateRows | None = None,
    static: StaticCovariates | None = None,
    refuse_missing: bool = False,
) -> Panel:
    """The panel of planned rows; `column(name)` gives the values of the sorted rows, one column at a time.

    EmptyDataError where no series (or, with `refuse_missing`, one of them not) has an observed value.
    """
    policies = policies or Policies()
    begins = np.cumsum(plan.lengths) - plan.lengths
    findings = list(plan.findings)

    def regular(name: str) -> NDArray[np.float64]:
        values, found = finite(column(name), plan, policies, column=name)
        findings.extend(found)
        return plan.regular(values, gaps=policies.gaps if name == "y" else "nan")

    encoded = encode(regular("y"), begins, plan.lengths)
    silent = encoded.first_observed >= plan.lengths
    _refuse_silent(plan.unique_ids, silent, one_is_enough=refuse_missing)
    parts: dict[str, Any] = {} if season_length is None else {"season_length": check_season(season_length)}
    for kind, names in (("past", past_names), ("known", known_names)):
        if names:
            columns = ((name, regular(name)) for name in names)
            parts[kind] = CovariateRows.from_columns(columns, begins, plan.lengths)
    parts |= {name: part for name, part in (("known", known), ("static", static)) if part is not None}
    panel = Panel.build(
        plan.unique_ids,
        encoded,
        plan.lengths,
        plan.starts,
        freq=plan.freq,
        timezone=timezone,
        base_stamps=plan.stamps,
        holidays=holidays,
        num_gaps=plan.num_gaps,
        **parts,
    )
    return replace(panel, report=Report((*findings, *_silent_and_constant(panel, silent))))


def _refuse_silent(unique_ids: NDArray[Any], silent: NDArray[np.bool_], *, one_is_enough: bool) -> None:
    if silent.all() or (one_is_enough and silent.any()):
        raise EmptyDataError(
            f"all values of series {name_series(unique_ids[silent])} are missing; send at least one observed "
            "value per series, or leave them out."
        )


def check_season(season_length: int) -> int:
    """The season length, or FrequencyError where it is no whole number of 1 or more."""
    if (
        isinstance(season_length, bool)
        or not isinstance(season_length, int | np.integer)
        or season_length < 1
    ):
        raise FrequencyError(f"season_length={season_length!r} is no whole number of 1 or more steps.")
    return int(season_length)


def _silent_and_constant(panel: Panel, silent: NDArray[np.bool_]) -> list[Finding]:
    found = []
    for code, places, words in (
        ("all_missing", silent, "have no observed value"),
        ("constant", panel.is_constant() & ~silent, "are constant"),
    ):
        if places.any():
            names = panel.unique_ids[places]
            found.append(
                finding(code, f"{len(names):,} series {words}: {name_series(names)}", names, len(names))
            )
    return found


def _names(unique_ids: Sequence[str], ys: Sequence[Any]) -> NDArray[Any]:
    if not len(unique_ids):
        raise EmptyDataError("there are no series; send at least one.")
    if len(unique_ids) != len(ys):
        raise DataError(
            f"there are {len(unique_ids):,} ids and {len(ys):,} sequences of values; send one per id."
        )
    names = np.array([str(name) for name in unique_ids], dtype=object)
    if len(set(names)) < len(names):
        distinct, counts = np.unique(names.astype(str), return_counts=True)
        raise DataError(
            f"the ids {name_series(distinct[counts > 1])} are given more than once; name each series once."
        )
    return names


def _floats(values: Any, name: str, what: str = "") -> NDArray[np.float64]:
    """Values as float64, None as NaN; DataError for what is no number."""
    if isinstance(values, np.ndarray) and values.dtype.kind in "iuf" and values.ndim == 1:
        return values.astype(np.float64)
    found = set(map(type, values))
    if not found <= _NUMBERS and not all(
        issubclass(t, np.integer | np.floating) or t in _NUMBERS for t in found
    ):
        odd = next(t for t in found if t not in _NUMBERS and not issubclass(t, np.integer | np.floating))
        raise DataError(
            f"series {str(name)!r}{what} holds a value of type {odd.__name__}; send numbers, and null for"
            " missing ones."
        )
    try:
        return np.array(values, dtype=np.float64)
    except OverflowError as error:
        raise ValueRangeError(
            f"series {str(name)!r}{what} holds a number too large to keep; rescale it."
        ) from error


def _check(columns: Mapping[str, NDArray[np.float64]], names: NDArray[Any], sizes: NDArray[np.int64]) -> None:
    ends = np.cumsum(sizes)
    for column, values in columns.items():
        check_values(values, lambda row: names[np.searchsorted(ends, row, side="right")], column=column)


def _by_starts(
    names: NDArray[Any],
    sizes: NDArray[np.int64],
    starts: Sequence[Any],
    freq: Frequency,
    timezone: str | None,
) -> tuple[RowPlan, str | None]:
    if len(starts) != len(names):
        raise DataError(
            f"there are {len(names):,} series and {len(starts):,} starts; send one start per series."
        )
    read = read_stamps(list(starts), timezone=timezone, what="start")
    first = check_kind(read.stamps, freq, "start")
    _, on_grid = freq.locate(first, first, timezone=read.timezone)
    if not on_grid.all():
        place = int((~on_grid).argmax())
        freq.refuse(first[place], series=str(names[place]))
    bounds = np.concatenate([[0], np.cumsum(sizes)])
    return RowPlan(unique_ids=names, bounds=bounds, lengths=sizes, starts=first, freq=freq), read.timezone


def _weekdays(plan: RowPlan, closed: NDArray[np.datetime64], timezone: str | None) -> Stamps:
    """The stamps of series of which only the first is known: weekdays less holidays."""
    spans = zip(plan.starts, plan.lengths, strict=True)
    return np.concatenate(
        [
            np.append(start, plan.freq.future(start, n - 1, holidays=closed, timezone=timezone))
            for start, n in spans
        ]
    )


def _by_stamps(
    names: NDArray[Any],
    sizes: NDArray[np.int64],
    ds: Sequence[Any],
    freq: Frequency,
    timezone: str | None,
) -> tuple[RowPlan, str | None]:
    got = np.array([len(stamps) for stamps in ds], dtype=np.int64)
    if len(got) != len(names):
        raise DataError(
            f"there are {len(names):,} series and {len(got):,} lists of stamps; send one per series."
        )
    if (got != sizes).any():
        place = int((got != sizes).argmax())
        raise DataError(
            f"series {str(names[place])!r} has {sizes[place]:,} values and {got[place]:,} stamps; send one"
            " stamp per value."
        )
    flat = np.concatenate(list(ds)) if isinstance(ds[0], np.ndarray) else list(chain.from_iterable(ds))
    read = read_stamps(flat, timezone=timezone, what="ds")
    runs = Runs.of_sizes(sizes)
    stamps = check_kind(second_turns(read, runs.at), freq, "ds")
    backward = runs.within(stamps[1:] < stamps[:-1])
    if len(backward):
        row = int(backward[0])
        series = names[runs.at(backward[:1])[0]]
        raise DataError(
            f"the stamps of series {str(series)!r} are not in time order: {stamps[row]} follows"
            f" {stamps[row - 1]}; sort them together with their values."
        )
    plan = plan_rows(names, runs, stamps, freq=freq, policies=Policies(), timezone=read.timezone)
    return plan, read.timezone


def _covariate_names(rows: Sequence[Mapping[str, Any]] | None, num_series: int, kind: str) -> tuple[str, ...]:
    """The names that every series gives; CovariateError where one lacks what another has."""
    if not rows or not any(rows):
        return ()
    if len(rows) != num_series:
        raise CovariateError(f"there are {num_series:,} series and {len(rows):,} sets of {kind} covariates.")
    names = dict.fromkeys(name for row in rows for name in row)
    for name in names:
        lacking = [place for place, row in enumerate(rows) if name not in row]
        if lacking:
            raise CovariateError(
                f"the {kind} covariate {name!r} is missing in {len(lacking):,} series, first in number"
                f" {lacking[0] + 1}; send it for every series."
            )
    return tuple(names)


def _covariate(
    name: str, rows: Sequence[Mapping[str, Any]], names: NDArray[Any], sizes: NDArray[np.int64]
) -> NDArray[np.float64]:
    parts = [_floats(row[name], names[i], f" (covariate {name!r})") for i, row in enumerate(rows)]
    wrong = [i for i, part in enumerate(parts) if len(part) != sizes[i]]
    if wrong:
        raise CovariateError(
            f"the past covariate {name!r} of series {str(names[wrong[0]])!r} has {len(parts[wrong[0]]):,}"
            f" values and y has {sizes[wrong[0]]:,}; send one per value of y."
        )
    return np.concatenate(parts)


def _known_rows(
    known: Sequence[Mapping[str, Any]] | None,
    names: NDArray[Any],
    sizes: NDArray[np.int64],
    plan: RowPlan,
) -> CovariateRows | None:
    found = _covariate_names(known, len(names), "known")
    if not found or known is None:
        return None
    if plan.num_gaps.any():
        raise CovariateError(
            f"series {name_series(names[plan.num_gaps > 0])} have gaps in ds and known covariates, which"
            " cannot be aligned; send every step, with null for missing values."
        )
    parts = {
        name: [_floats(row[name], names[i], f" (covariate {name!r})") for i, row in enumerate(known)]
        for name in found
    }
    lengths = np.array([len(part) for part in parts[found[0]]], dtype=np.int64)
    for name, series in parts.items():
        for i, values in enumerate(series):
            if len(values) != lengths[i] or len(values) < sizes[i]:
                raise CovariateError(
                    f"the known covariate {name!r} of series {str(names[i])!r} has {len(values):,} values for"
                    f" {sizes[i]:,} of y; send history + horizon, equally many of each covariate."
                )
    columns = {name: np.concatenate(series) for name, series in parts.items()}
    _check(columns, names, lengths)
    return CovariateRows.from_columns(columns.items(), np.cumsum(lengths) - lengths, lengths)


def _static_rows(static: Sequence[Mapping[str, Any]] | None, num_series: int) -> StaticCovariates | None:
    found = _covariate_names(static, num_series, "static")
    if not found or static is None:
        return None
    return StaticCovariates.from_columns({name: [row[name] for row in static] for name in found}, num_series)
