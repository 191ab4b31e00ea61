"""Raw rows become regular series: sorted, each stamp once, on the grid, gaps filled; each repair is a finding.

N series, R rows as they came, T steps of the regular series
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forecast.errors import (
    DuplicateStampsError,
    EmptyDataError,
    FrequencyError,
    SpecError,
    ValueRangeError,
)
from forecast.series.calendar import Frequency, Stamps, infer_frequency, to_local, to_utc
from forecast.series.encoding import LARGEST
from forecast.series.report import MAX_LISTED, Finding, Report, name_series

_CHOICES = {
    "duplicates": ("error", "first", "last", "mean", "sum"),
    "gaps": ("nan", "zero", "forward"),
    "infinite": ("error", "nan"),
    "align": ("floor", "round", "ceil"),
    "aggregate": ("mean", "sum", "first", "last", "min", "max", "median"),
}


@dataclass(frozen=True, kw_only=True)
class Policies:
    """What to do about each kind of finding; SpecError for a policy that does not exist."""

    duplicates: str = "error"
    """error, or which row counts: first, last, mean, sum."""
    gaps: str = "nan"
    """Steps without a row: nan (missing), zero, forward (the value before)."""
    infinite: str = "error"
    """error, or nan (missing)."""
    grid: str | None = None
    """The frequency of a grid on which jittering stamps are put, such as 5min."""
    align: str = "floor"
    """How a stamp finds its place on the grid: floor, round or ceil."""
    aggregate: str = "mean"
    """The value of a grid step with several readings."""

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise SpecError(f"{name}={getattr(self, name)!r} is none of {', '.join(choices)}.")
        if self.grid is not None and Frequency.parse(self.grid).kind != "fixed":
            raise SpecError(
                f"grid={self.grid!r} is no grid of equal steps; use for example '5min', 'h' or 'D'."
            )


@dataclass(frozen=True, kw_only=True, eq=False)
class RawRows:
    """Rows as they came: whose they are, when, and the values in units."""

    unique_ids: NDArray[Any]
    """(N,) str."""
    codes: NDArray[Any]
    """(R,) the series of each row, a place in `unique_ids`."""
    stamps: Stamps
    """(R,)."""
    columns: Mapping[str, NDArray[np.float64]]
    """Values (R,) by name, the target as "y"; NaN where missing."""
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class RegularRows:
    """Series on their grid, one after the other."""

    unique_ids: NDArray[Any]
    lengths: NDArray[np.int64]
    starts: Stamps
    stamps: Stamps | None
    """(T,) for "trading" only."""
    columns: Mapping[str, NDArray[np.float64]]
    num_gaps: NDArray[np.int64]
    freq: Frequency
    report: Report = field(default_factory=Report)


def regularise(
    raw: RawRows, *, freq: Frequency | None, policies: Policies, timezone: str | None = None
) -> RegularRows:
    """Check and repair rows by the policies; DataError and its kin where a finding is an error."""
    if not len(raw.codes):
        raise EmptyDataError("the data have no rows; send at least one series with values.")
    raw = _finite(raw, policies)
    raw = _sorted(raw)
    if policies.grid is not None:
        raw, freq = _on_grid(raw, policies, timezone), Frequency.parse(policies.grid)
    raw = _distinct(raw, policies, aggregated=policies.grid is not None)
    bounds = _bounds(raw)
    freq, findings = (freq, raw.findings) if freq else _inferred(raw, bounds, timezone)
    if freq.kind == "trading":
        return _as_trading(raw, bounds, freq)
    return _on_steps(replace(raw, findings=findings), bounds, freq, policies, timezone)


def finding(code: str, message: str, unique_ids: Sequence[Any] | NDArray[Any], count: int) -> Finding:
    """A finding with its series cut to what is listed."""
    return Finding(
        code=code,
        message=message,
        unique_ids=tuple(str(name) for name in unique_ids[:MAX_LISTED]),
        count=int(count),
    )


def _found(raw: RawRows, code: str, message: str, codes: NDArray[Any], count: int) -> RawRows:
    names = raw.unique_ids[np.unique(codes)]
    return replace(
        raw, findings=(*raw.findings, finding(code, f"{message}: {name_series(names)}", names, count))
    )


def check_values(values: NDArray[np.float64], series_at: Any, *, column: str = "y") -> None:
    """ValueRangeError where a value is infinite or too large for float32; `series_at(row)` names the series."""
    with np.errstate(invalid="ignore"):
        bad = np.abs(values) >= LARGEST
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        what = (
            "an infinite value"
            if np.isinf(values[row])
            else f"the value {values[row]:.6g}, beyond ±{LARGEST:g},"
        )
        where = f" in the column {column!r}" if column != "y" else ""
        remedy = (
            "correct it or read it as missing with infinite='nan'" if np.isinf(values[row]) else "rescale it"
        )
        raise ValueRangeError(f"series {str(series_at(row))!r} holds {what}{where}; {remedy}.")


def _finite(raw: RawRows, policies: Policies) -> RawRows:
    columns = dict(raw.columns)
    for name, values in raw.columns.items():
        if not np.isinf(values).any():
            check_values(values, lambda row: raw.unique_ids[raw.codes[row]], column=name)
            continue
        if policies.infinite == "error":
            check_values(values, lambda row: raw.unique_ids[raw.codes[row]], column=name)
        infinite = np.isinf(values)
        columns[name] = np.where(infinite, np.nan, values)
        message = f"{infinite.sum():,} infinite values of {name!r} are missing now"
        raw = _found(raw, "infinite_as_nan", message, raw.codes[infinite], infinite.sum())
    return replace(raw, columns=columns)


def _sorted(raw: RawRows) -> RawRows:
    same = raw.codes[1:] == raw.codes[:-1]
    backward = same & (raw.stamps[1:] < raw.stamps[:-1])
    grouped = int((~same).sum()) + 1 == len(raw.unique_ids)
    if grouped and not backward.any():
        return raw
    order = np.lexsort((raw.stamps, raw.codes))
    moved = replace(
        raw,
        codes=raw.codes[order],
        stamps=raw.stamps[order],
        columns={name: values[order] for name, values in raw.columns.items()},
    )
    if grouped:
        message = f"rows were not in time order ({backward.sum():,} backward steps) and were sorted"
        return _found(moved, "sorted", message, raw.codes[1:][backward], backward.sum())
    message = "rows of the series were interleaved and were sorted by series, then time"
    return replace(moved, findings=(*moved.findings, finding("sorted", message, (), len(order))))


def _on_grid(raw: RawRows, policies: Policies, timezone: str | None) -> RawRows:
    grid = Frequency.parse(policies.grid)
    if raw.stamps.dtype.kind != "M":
        raise FrequencyError("grid= needs dates as stamps and got integers; leave grid out and use freq=1.")
    zone = timezone if grid.is_day_based else None
    wall = (to_local(raw.stamps, zone) if zone else raw.stamps).astype(np.int64)
    step = grid.multiple * int(np.timedelta64(1, grid_unit(grid)) / np.timedelta64(1, "us"))
    shift = {"floor": 0, "round": step // 2, "ceil": step - 1}[policies.align]
    aligned = ((wall + shift) // step * step).astype("datetime64[us]")
    aligned = to_utc(aligned, zone) if zone else aligned
    moved = aligned != raw.stamps
    if not moved.any():
        return raw
    raw = _found(
        raw,
        "regridded",
        f"{moved.sum():,} stamps were put on the {grid} grid ({policies.align})",
        raw.codes[moved],
        moved.sum(),
    )
    return replace(raw, stamps=aligned)


def grid_unit(grid: Frequency) -> Any:
    """numpy's name for the unit of a fixed frequency."""
    return {"min": "m"}.get(grid.unit, grid.unit)


def _distinct(raw: RawRows, policies: Policies, *, aggregated: bool) -> RawRows:
    repeated = (raw.codes[1:] == raw.codes[:-1]) & (raw.stamps[1:] == raw.stamps[:-1])
    if not repeated.any():
        return raw
    how = policies.duplicates
    if aggregated:
        how = policies.aggregate if how == "error" else how
    if how == "error":
        row = int(np.flatnonzero(repeated)[0])
        raise DuplicateStampsError(
            f"series {str(raw.unique_ids[raw.codes[row]])!r} has the stamp {raw.stamps[row]} more than once "
            f"({repeated.sum():,} repeated rows in all); remove them or say what counts: duplicates='first', 'last', "
            "'mean' or 'sum'."
        )
    first = np.flatnonzero(np.concatenate([[True], ~repeated]))
    message = f"{repeated.sum():,} repeated stamps were resolved by {how}"
    found = _found(raw, "duplicates_resolved", message, raw.codes[1:][repeated], repeated.sum())
    return replace(
        found,
        codes=raw.codes[first],
        stamps=raw.stamps[first],
        columns={name: merged(values, first, how) for name, values in raw.columns.items()},
    )


def merged(values: NDArray[np.float64], first: NDArray[np.int64], how: str) -> NDArray[np.float64]:
    """One value per run of rows that starts at `first`; missing ones do not count, all missing stays missing."""
    if how in ("first", "last"):
        ends = np.append(first[1:], len(values)) - 1
        return values[first if how == "first" else ends]
    if how == "median":
        return _medians(values, first)
    if how in ("min", "max"):
        return np.asarray((np.fmin if how == "min" else np.fmax).reduceat(values, first))
    observed = ~np.isnan(values)
    counts = np.add.reduceat(observed.astype(np.int64), first)
    sums = np.add.reduceat(np.where(observed, values, 0.0), first)
    return np.where(counts > 0, sums / np.maximum(counts, 1) if how == "mean" else sums, np.nan)


def _medians(values: NDArray[np.float64], first: NDArray[np.int64]) -> NDArray[np.float64]:
    runs = np.repeat(np.arange(len(first)), np.diff(np.append(first, len(values))))
    ordered = values[np.lexsort((values, runs))]  # NaN last within each run
    counts = np.add.reduceat((~np.isnan(values)).astype(np.int64), first)
    low, high = first + np.maximum(counts - 1, 0) // 2, first + np.maximum(counts, 1) // 2
    return np.where(counts > 0, (ordered[low] + ordered[np.minimum(high, len(values) - 1)]) / 2, np.nan)


def _bounds(raw: RawRows) -> NDArray[np.int64]:
    """(N + 1,) the first row of each series, and the number of rows."""
    changes = np.flatnonzero(raw.codes[1:] != raw.codes[:-1]) + 1
    return np.concatenate([[0], changes, [len(raw.codes)]]).astype(np.int64)


def _ordered_ids(raw: RawRows, bounds: NDArray[np.int64]) -> NDArray[Any]:
    return np.asarray(raw.unique_ids[raw.codes[bounds[:-1]]])


def _inferred(
    raw: RawRows, bounds: NDArray[np.int64], timezone: str | None
) -> tuple[Frequency, tuple[Finding, ...]]:
    longest = int(np.argmax(np.diff(bounds)))
    stamps = raw.stamps[bounds[longest] : bounds[longest + 1]]
    freq = infer_frequency(stamps, timezone=timezone)
    if freq is None:
        name = str(_ordered_ids(raw, bounds)[longest])
        raise FrequencyError(
            f"the frequency cannot be inferred from the {len(stamps):,} stamps of series {name!r}; declare it with "
            "freq= (--freq), use freq='trading' for trading days, or put readings on a grid with grid='5min' (--grid)."
        )
    message = f"no freq was declared; the stamps are {freq.words}"
    return freq, (*raw.findings, finding("inferred_freq", message, (), len(stamps)))


def _as_trading(raw: RawRows, bounds: NDArray[np.int64], freq: Frequency) -> RegularRows:
    if raw.stamps.dtype.kind != "M":
        raise FrequencyError("freq='trading' needs dates as stamps and got integers; use freq=1.")
    return RegularRows(
        unique_ids=_ordered_ids(raw, bounds),
        lengths=np.diff(bounds),
        starts=raw.stamps[bounds[:-1]],
        stamps=raw.stamps,
        columns=raw.columns,
        num_gaps=np.zeros(len(bounds) - 1, dtype=np.int64),
        freq=freq,
        report=Report(raw.findings),
    )


def _on_steps(
    raw: RawRows, bounds: NDArray[np.int64], freq: Frequency, policies: Policies, timezone: str | None
) -> RegularRows:
    unique_ids = _ordered_ids(raw, bounds)
    rows = np.diff(bounds)
    starts = raw.stamps[bounds[:-1]]
    steps = _steps(raw, bounds, starts, freq, timezone)
    lengths = steps[bounds[1:] - 1] + 1
    num_gaps = lengths - rows
    report = Report(raw.findings)
    columns = raw.columns
    if num_gaps.any():
        _check_gaps(unique_ids, steps, bounds, num_gaps, freq)
        places = np.repeat(np.cumsum(lengths) - lengths, rows) + steps
        columns = {name: _spread(values, places, lengths, policies.gaps) for name, values in columns.items()}
        gappy = unique_ids[num_gaps > 0]
        what = {"nan": "missing", "zero": "filled with zero", "forward": "filled with the value before"}[
            policies.gaps
        ]
        message = f"{num_gaps.sum():,} steps without a row are {what}: {name_series(gappy)}"
        report = report.add(finding("gaps_filled", message, gappy, num_gaps.sum()))
    return RegularRows(
        unique_ids=unique_ids,
        lengths=lengths,
        starts=starts,
        stamps=None,
        columns=columns,
        num_gaps=num_gaps,
        freq=freq,
        report=report,
    )


_BLOCK = 1 << 21


def _steps(
    raw: RawRows, bounds: NDArray[np.int64], starts: Stamps, freq: Frequency, timezone: str | None
) -> NDArray[np.int64]:
    """(R,) the step of each row in its series; OffGridError names the first beside the grid."""
    origins = np.repeat(starts, np.diff(bounds))
    steps, on_grid = freq.locate(raw.stamps, origins, timezone=timezone)
    if not on_grid.all():
        row = int(np.flatnonzero(~on_grid)[0])
        freq.refuse(raw.stamps[row], origins[row], series=str(raw.unique_ids[raw.codes[row]]))
    return steps


def _check_gaps(
    unique_ids: NDArray[Any],
    steps: NDArray[np.int64],
    bounds: NDArray[np.int64],
    num_gaps: NDArray[np.int64],
    freq: Frequency,
) -> None:
    """FrequencyError where a series keeps a coarser step than `freq`, or where gaps would be nearly everything."""
    rows = np.diff(bounds)
    common = np.gcd.reduceat(steps, bounds[:-1])
    coarse = np.flatnonzero((common > 1) & (rows >= 5))
    if len(coarse):
        raise FrequencyError(
            f"the frequency is mixed or too fine: series {str(unique_ids[coarse[0]])!r} has a stamp every "
            f"{common[coarse[0]]} steps of {freq}; declare its own freq, or read series of different frequencies "
            "separately."
        )
    if num_gaps.sum() > 50 * rows.sum() + 1_000_000:
        worst = int(np.argmax(num_gaps))
        raise FrequencyError(
            f"series {str(unique_ids[worst])!r} has {rows[worst]:,} rows over {steps[bounds[worst + 1] - 1] + 1:,} "
            f"steps of {freq}: nearly everything would be missing; correct its stamps or declare a coarser freq."
        )


def _spread(
    values: NDArray[np.float64], places: NDArray[np.int64], lengths: NDArray[np.int64], gaps: str
) -> NDArray[np.float64]:
    spread = np.full(int(lengths.sum()), 0.0 if gaps == "zero" else np.nan)
    spread[places] = values
    if gaps != "forward":
        return spread
    source = np.zeros(len(spread), dtype=np.int64)
    source[places] = places  # the first step of a series always has a row
    return spread[np.maximum.accumulate(source)]
