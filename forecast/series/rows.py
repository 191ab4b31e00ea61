"""Raw rows become regular series: sorted, each stamp once, on the grid, gaps filled; repairs are findings.

N series, R rows as they came, T steps of the regular series
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import pandas as pd
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
from forecast.series.report import MAX_LISTED, Finding, name_series

_CHOICES = {
    "duplicates": ("error", "first", "last", "mean", "sum"),
    "gaps": ("nan", "zero", "forward"),
    "infinite": ("error", "nan"),
    "align": ("floor", "nearest", "ceil"),
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
    """How a stamp finds its place on the grid: floor, nearest or ceil."""
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
class Runs:
    """Whose the rows are: runs of neighbouring rows of one series, which are few where rows are grouped."""

    codes: NDArray[Any]
    """(M,) the series of each run, a place among the ids."""
    bounds: NDArray[np.int64]
    """(M + 1,) the first row of each run, and the number of rows."""

    @classmethod
    def of(cls, codes: NDArray[Any]) -> "Runs":
        """The runs of a code per row."""
        changes = np.flatnonzero(codes[1:] != codes[:-1]) + 1
        bounds = np.concatenate([[0], changes, [len(codes)]]).astype(np.int64)
        return cls(codes=codes[bounds[:-1]] if len(codes) else codes, bounds=bounds)

    @classmethod
    def of_sizes(cls, sizes: NDArray[np.int64]) -> "Runs":
        """Series one after the other, each of so many rows."""
        bounds = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        return cls(codes=np.arange(len(sizes)), bounds=bounds)

    @property
    def num_rows(self) -> int:
        """R."""
        return int(self.bounds[-1])

    def at(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """The series of some rows."""
        return np.asarray(self.codes[np.searchsorted(self.bounds, rows, side="right") - 1])

    def expand(self) -> NDArray[Any]:
        """(R,) the series of each row."""
        return np.repeat(self.codes, np.diff(self.bounds))

    def within(self, between: NDArray[np.bool_]) -> NDArray[np.int64]:
        """The rows of which a flag about each row and the one before (R - 1,) holds within their run."""
        between[self.bounds[1:-1] - 1] = False
        return np.flatnonzero(between) + 1


@dataclass(frozen=True, kw_only=True, eq=False)
class RowPlan:
    """How rows become regular series: the same steps for every column."""

    unique_ids: NDArray[Any]
    """(N,) in panel order."""
    bounds: NDArray[np.int64]
    """(N + 1,) the first of the sorted, distinct rows of each series."""
    lengths: NDArray[np.int64]
    """(N,) steps."""
    starts: Stamps
    """(N,)."""
    freq: Frequency
    stamps: Stamps | None = None
    """(T,) for "trading" only."""
    order: NDArray[np.int64] | None = None
    """(R,) the rows sorted by series and time; None where they were."""
    merges: tuple[tuple[NDArray[np.int64], str], ...] = ()
    """One after another: the first of each run of rows with one stamp, and how a run becomes one value."""
    places: NDArray[np.int64] | None = None
    """The step in T of each distinct row; None where there are no gaps."""
    findings: tuple[Finding, ...] = ()

    @property
    def num_gaps(self) -> NDArray[np.int64]:
        """(N,) steps without a row."""
        return self.lengths - np.diff(self.bounds)

    @property
    def first_rows(self) -> NDArray[np.int64]:
        """(N,) the first of the sorted rows of each series."""
        rows = self.bounds[:-1]
        for first, _ in reversed(self.merges):
            rows = first[rows]
        return rows

    def sorted_rows(self, values: NDArray[Any]) -> NDArray[Any]:
        """Values (R,) of rows as they came, sorted by series and time."""
        return values if self.order is None else values[self.order]

    def series_at(self, row: int) -> str:
        """The series of one of the sorted rows."""
        for first, _ in self.merges:
            row = int(np.searchsorted(first, row, side="right")) - 1
        return str(self.unique_ids[int(np.searchsorted(self.bounds, row, side="right")) - 1])

    def regular(self, values: NDArray[np.float64], *, gaps: str = "nan") -> NDArray[np.float64]:
        """Sorted rows (R,) as regular series (T,): repeated stamps merged, absent steps filled."""
        for first, how in self.merges:
            values = merged(values, first, how)
        if self.places is None:
            return values
        return _spread(values, self.places, int(self.lengths.sum()), gaps)


def plan_rows(
    unique_ids: NDArray[Any],
    runs: Runs,
    stamps: Stamps,
    *,
    freq: Frequency | None,
    policies: Policies,
    timezone: str | None = None,
) -> RowPlan:
    """Check and repair stamps (R,) by the policies; DataError and its kin where a finding is an error.

    Series keep the order in which they first appear.
    """
    if not runs.num_rows:
        raise EmptyDataError("the data have no rows; send at least one series with values.")
    findings: list[Finding] = []
    order = _order(unique_ids, runs, stamps, findings)
    if order is not None:
        runs, stamps = Runs.of(runs.expand()[order]), stamps[order]
    merges: list[tuple[NDArray[np.int64], str]] = []

    def once(how: str) -> tuple[Runs, Stamps]:
        first = _repeats(unique_ids, runs, stamps, how, findings)
        if first is None:
            return runs, stamps
        merges.append((first, how))
        return Runs(codes=runs.codes, bounds=np.searchsorted(first, runs.bounds)), stamps[first]

    if policies.grid is None:
        runs, stamps = once(policies.duplicates)
    else:
        freq = _grid(policies.grid, freq)
        if policies.duplicates != "error":
            runs, stamps = once(policies.duplicates)
        stamps = _on_grid(unique_ids, runs, stamps, freq, policies, timezone, findings)
        runs, stamps = once(policies.aggregate)
    bounds = runs.bounds
    names = np.asarray(unique_ids[runs.codes])
    freq = freq or _inferred(names, stamps, bounds, timezone, findings)
    shared: dict[str, Any] = {
        "unique_ids": names,
        "bounds": bounds,
        "starts": stamps[bounds[:-1]],
        "freq": freq,
    }
    shared |= {"order": order, "merges": tuple(merges)}
    if freq.kind == "trading":
        check_kind(stamps, freq, "ds")
        return RowPlan(**shared, lengths=np.diff(bounds), stamps=stamps, findings=tuple(findings))
    lengths, places = _places(
        names, check_kind(stamps, freq, "ds"), bounds, freq, policies, timezone, findings
    )
    return RowPlan(**shared, lengths=lengths, places=places, findings=tuple(findings))


def finding(code: str, message: str, unique_ids: Sequence[Any] | NDArray[Any], count: int) -> Finding:
    """A finding with its series cut to what is listed."""
    listed = tuple(str(name) for name in unique_ids[:MAX_LISTED])
    return Finding(code=code, message=message, unique_ids=listed, count=int(count))


def found_in(code: str, message: str, unique_ids: NDArray[Any], codes: NDArray[Any]) -> Finding:
    """A finding about some rows, of which `codes` are the series."""
    names = unique_ids[pd.unique(codes)]
    return finding(code, f"{message}: {name_series(names)}", names, len(codes))


def check_kind(stamps: Stamps, freq: Frequency, what: str) -> Stamps:
    """The stamps, or FrequencyError where they are dates and the frequency integer time, or the reverse."""
    if freq.is_integer and stamps.dtype.kind == "M":
        raise FrequencyError(
            f"{what} holds dates and freq={freq.alias} is integer time; send whole numbers, or declare the "
            "frequency of the dates."
        )
    if not freq.is_integer and stamps.dtype.kind != "M":
        raise FrequencyError(
            f"{what} holds whole numbers and {freq.words} stamps are dates; send dates, or declare freq=1."
        )
    return stamps


_BLOCK = 1 << 20
"""Rows looked at together, so that temporaries stay small."""


def check_values(values: NDArray[np.float64], series_at: Callable[[int], str], *, column: str = "y") -> None:
    """ValueRangeError where a value is infinite or too large for float32.

    `series_at(row)` names the series.
    """
    for low in range(0, len(values), _BLOCK):
        bad = np.abs(values[low : low + _BLOCK]) >= LARGEST
        if bad.any():
            row = low + int(bad.argmax())
            _refuse_value(float(values[row]), series_at(row), column)


def _refuse_value(value: float, series: str, column: str) -> NoReturn:
    where = "" if column == "y" else f" in the column {column!r}"
    if np.isinf(value):
        raise ValueRangeError(
            f"series {series!r} holds an infinite value{where}; correct it, or read it as missing with "
            "infinite='nan' (--infinite nan)."
        )
    raise ValueRangeError(
        f"series {series!r} holds the value {value:.6g}{where}, beyond ±{LARGEST:g}; rescale it."
    )


def finite(
    values: NDArray[np.float64], plan: RowPlan, policies: Policies, *, column: str = "y"
) -> tuple[NDArray[np.float64], tuple[Finding, ...]]:
    """Sorted rows with every value in range: infinite ones are an error, or missing and a finding."""
    if policies.infinite == "error" or not (infinite := np.isinf(values)).any():
        check_values(values, plan.series_at, column=column)
        return values, ()
    values = np.where(infinite, np.nan, values)
    check_values(values, plan.series_at, column=column)
    rows = np.flatnonzero(infinite).tolist()
    names = list(dict.fromkeys(plan.series_at(row) for row in rows))
    count = int(infinite.sum())
    message = f"{count:,} infinite values of {column!r} are missing now: {name_series(names)}"
    return values, (finding("infinite_as_nan", message, names, count),)


def _order(
    unique_ids: NDArray[Any], runs: Runs, stamps: Stamps, findings: list[Finding]
) -> NDArray[np.int64] | None:
    """The rows by series and time; None where they are."""
    backward = runs.within(stamps[1:] < stamps[:-1])
    grouped = len(runs.codes) == len(unique_ids)
    if grouped and not len(backward):
        return None
    if grouped:
        message = f"rows were not in time order ({len(backward):,} backward steps) and were sorted"
        findings.append(found_in("sorted", message, unique_ids, runs.at(backward)))
    else:
        message = "rows of the series were interleaved and were sorted by series, then time"
        findings.append(finding("sorted", message, (), runs.num_rows))
    first_seen, _ = pd.factorize(runs.codes)
    return np.lexsort((stamps, np.repeat(first_seen, np.diff(runs.bounds))))


def _grid(grid: str, freq: Frequency | None) -> Frequency:
    parsed = Frequency.parse(grid)
    if freq is not None and not parsed.is_compatible(freq):
        raise SpecError(
            f"grid={grid!r} and freq={freq.alias!r} disagree; leave freq out, or make them equal."
        )
    return parsed


def _on_grid(
    unique_ids: NDArray[Any],
    runs: Runs,
    stamps: Stamps,
    grid: Frequency,
    policies: Policies,
    timezone: str | None,
    findings: list[Finding],
) -> Stamps:
    if stamps.dtype.kind != "M":
        raise FrequencyError(
            "grid= needs dates as stamps and got whole numbers; leave grid out and use freq=1."
        )
    zone = timezone if grid.is_day_based else None
    wall = (to_local(stamps, zone) if zone else stamps).astype(np.int64)
    step = grid.microseconds
    shift = {"floor": 0, "nearest": step // 2, "ceil": step - 1}[policies.align]
    aligned: Stamps = ((wall + shift) // step * step).astype("datetime64[us]")
    aligned = to_utc(aligned, zone) if zone else aligned
    moved = np.flatnonzero(aligned != stamps)
    if len(moved):
        message = f"{len(moved):,} stamps were put on the {grid} grid ({policies.align})"
        findings.append(found_in("regridded", message, unique_ids, runs.at(moved)))
    return aligned


def _repeats(
    unique_ids: NDArray[Any],
    runs: Runs,
    stamps: Stamps,
    how: str,
    findings: list[Finding],
) -> NDArray[np.int64] | None:
    """The first of each group of rows with one stamp; None where no stamp is repeated."""
    repeated = runs.within(stamps[1:] == stamps[:-1])
    if not len(repeated):
        return None
    if how == "error":
        series = unique_ids[runs.at(repeated[:1])[0]]
        raise DuplicateStampsError(
            f"series {str(series)!r} has the stamp {stamps[repeated[0]]} more than once"
            f" ({len(repeated):,} repeated rows in all); remove them, or say what counts with"
            " duplicates='first', 'last', 'mean' or 'sum' (--duplicates first, ...)."
        )
    message = f"{len(repeated):,} repeated stamps were resolved by {how}"
    findings.append(found_in("duplicates_resolved", message, unique_ids, runs.at(repeated)))
    is_first = np.ones(len(stamps), dtype=bool)
    is_first[repeated] = False
    return np.flatnonzero(is_first)


def merged(values: NDArray[np.float64], first: NDArray[np.int64], how: str) -> NDArray[np.float64]:
    """One value per run of rows that starts at `first`.

    Missing ones do not count, all missing stays missing.
    """
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
    low, high = first + np.maximum(counts - 1, 0) // 2, first + counts // 2
    middle = (ordered[low] + ordered[np.minimum(high, len(values) - 1)]) / 2
    return np.where(counts > 0, middle, np.nan)


def _inferred(
    names: NDArray[Any],
    stamps: Stamps,
    bounds: NDArray[np.int64],
    timezone: str | None,
    findings: list[Finding],
) -> Frequency:
    longest = int(np.argmax(np.diff(bounds)))
    own = stamps[bounds[longest] : bounds[longest + 1]]
    freq = infer_frequency(own, timezone=timezone)
    if freq is None:
        raise FrequencyError(
            f"the frequency cannot be inferred from the {len(own):,} stamps of series"
            f" {str(names[longest])!r}; declare it with freq= (--freq), use freq='trading' for trading days,"
            " or put readings on a grid with grid='5min' (--grid 5min)."
        )
    findings.append(
        finding("inferred_freq", f"no freq was declared; the stamps are {freq.words}", (), len(own))
    )
    return freq


def _blocks(bounds: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Neighbouring series, about `_BLOCK` rows at a time: the first and the one after the last."""
    low = 0
    while low < len(bounds) - 1:
        high = int(np.searchsorted(bounds, bounds[low] + _BLOCK, side="right")) - 1
        high = max(high, low + 1)
        yield low, high
        low = high


def _places(
    names: NDArray[Any],
    stamps: Stamps,
    bounds: NDArray[np.int64],
    freq: Frequency,
    policies: Policies,
    timezone: str | None,
    findings: list[Finding],
) -> tuple[NDArray[np.int64], NDArray[np.int64] | None]:
    """Lengths (N,) in steps, and the place of each row among them where there are gaps."""
    rows = np.diff(bounds)
    lengths = rows.copy()
    for low, high in _blocks(bounds):
        steps = _steps(names, stamps, bounds, low, high, freq, timezone)
        ends = bounds[low + 1 : high + 1] - bounds[low] - 1
        lengths[low:high] = steps[ends] + 1
        if (lengths[low:high] > rows[low:high]).any():
            _check_coarse(names[low:high], steps, bounds[low : high + 1] - bounds[low], freq, policies.grid)
    if (lengths == rows).all():
        return lengths, None
    _check_gaps(names, rows, lengths, freq)
    begins = np.cumsum(lengths) - lengths
    places = np.empty(len(stamps), dtype=np.int64)
    for low, high in _blocks(bounds):
        steps = _steps(names, stamps, bounds, low, high, freq, timezone)
        places[bounds[low] : bounds[high]] = np.repeat(begins[low:high], rows[low:high]) + steps
    gappy, count = names[lengths > rows], int((lengths - rows).sum())
    what = {"nan": "missing", "zero": "filled with zero", "forward": "filled with the value before"}[
        policies.gaps
    ]
    message = f"{count:,} steps without a row are {what}: {name_series(gappy)}"
    findings.append(finding("gaps_filled", message, gappy, count))
    return lengths, places


def _steps(
    names: NDArray[Any],
    stamps: Stamps,
    bounds: NDArray[np.int64],
    low: int,
    high: int,
    freq: Frequency,
    timezone: str | None,
) -> NDArray[np.int64]:
    """The step of each row of some series; OffGridError names the first beside the grid."""
    own = stamps[bounds[low] : bounds[high]]
    origins = np.repeat(stamps[bounds[low:high]], np.diff(bounds[low : high + 1]))
    steps, on_grid = freq.locate(own, origins, timezone=timezone)
    if not on_grid.all():
        row = int((~on_grid).argmax())
        series = int(np.searchsorted(bounds, bounds[low] + row, side="right")) - 1
        freq.refuse(own[row], origins[row], series=str(names[series]))
    return steps


def _check_coarse(
    names: NDArray[Any],
    steps: NDArray[np.int64],
    bounds: NDArray[np.int64],
    freq: Frequency,
    grid: str | None,
) -> None:
    """FrequencyError where a series of 5 rows or more keeps a longer step than `freq`, as months do in days.

    Longer: all its steps are multiples of one number, or within a fifth of each other. On a grid that was
    asked for, slow sensors may stand beside fast ones: there it is an error for all at once.
    """
    apart = np.diff(steps, append=steps[-1:])
    apart[bounds[1:] - 1] = apart[bounds[:-1]]  # the last row of a series has no next one
    nearest, farthest = (extreme.reduceat(apart, bounds[:-1]) for extreme in (np.minimum, np.maximum))
    common = np.gcd.reduceat(steps, bounds[:-1])
    coarse = ((common > 1) | ((nearest > 1) & (farthest <= 1.2 * nearest))) & (np.diff(bounds) >= 5)
    if not (coarse.any() if grid is None else coarse.all()):
        return
    first = int(coarse.argmax())
    what = f"the frequency is mixed or too fine: series {str(names[first])!r} has a stamp every"
    if grid is None:
        advice = "declare the freq of the data, and read series of different frequencies separately."
    else:
        advice = f"declare a coarser grid (and freq) than {grid}: the step at which readings come."
    raise FrequencyError(f"{what} {max(common[first], nearest[first])} steps of {freq}; {advice}")


def _check_gaps(
    names: NDArray[Any], rows: NDArray[np.int64], lengths: NDArray[np.int64], freq: Frequency
) -> None:
    """FrequencyError where gaps would be nearly everything, as after a wrong year in one stamp."""
    if lengths.sum() <= 50 * rows.sum() + 1_000_000:
        return
    worst = int(np.argmax(lengths - rows))
    raise FrequencyError(
        f"series {str(names[worst])!r} has {rows[worst]:,} rows over {lengths[worst]:,} steps of {freq}:"
        " nearly everything would be missing; correct its stamps or declare a coarser freq."
    )


def _spread(
    values: NDArray[np.float64], places: NDArray[np.int64], num_steps: int, gaps: str
) -> NDArray[np.float64]:
    spread = np.full(num_steps, 0.0 if gaps == "zero" else np.nan)
    spread[places] = values
    if gaps != "forward":
        return spread
    source = np.zeros(num_steps, dtype=np.int64)
    source[places] = places  # the first step of a series always has a row
    return spread[np.maximum.accumulate(source)]
