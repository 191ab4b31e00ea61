"""Many regular series with one frequency in flat arrays: a million series are a few arrays, not objects.

N series, T flat values, B chosen series, L context_length, H horizon
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from forecast.errors import CovariateError, DataError, EmptyDataError
from forecast.series.batch import ContextBatch, last_observed, saturated
from forecast.series.calendar import (
    Frequency,
    Stamps,
    as_stamps,
    calendar_features,
    naive_utc,
    to_utc,
    zoned,
)
from forecast.series.covariates import CovariateRows, StaticCovariates
from forecast.series.encoding import Encoded, flat_indices
from forecast.series.report import MAX_LISTED, Finding, Report, name_series


@dataclass(frozen=True, kw_only=True, eq=False)
class Panel:
    """Regular series as flat arrays.

    Make one with `from_frame`, `read_csv`, `read_parquet` or `Panel.from_arrays`.

    Cutting (`until`, `head`, `drop_last`, `select`) shares the values and costs nothing; `values` and
    `indptr` are always the exact series one after the other (gathered once where a cut left something between
    them).
    """

    unique_ids: NDArray[Any]
    """(N,) str."""
    base: NDArray[np.float32]
    """The shared flat values, of which series i is `base[begins[i] : begins[i] + lengths[i]]`.

    See `values`.
    """
    begins: NDArray[np.int64]
    """(N,)."""
    lengths: NDArray[np.int64]
    """(N,) steps per series, missing ones included."""
    offsets: NDArray[np.float64]
    """(N,) the first observed value: in units, `y = offsets + scales * values`."""
    scales: NDArray[np.float64]
    """(N,) powers of two."""
    first_observed: NDArray[np.int64]
    """(N,) the step of the first observed value."""
    starts: Stamps
    """(N,) the first stamps, datetime64[us] (UTC where there is a time zone) or int64."""
    freq: Frequency
    season_length: int
    timezone: str | None = None
    """The zone in which stamps came and in which answers leave."""
    base_stamps: Stamps | None = None
    """The stamps of `base`, for "trading" only: everywhere else start and frequency say it."""
    given_future: Stamps | None = None
    """(N, H) stamps that a caller gave for the future, see `with_future`."""
    holidays: tuple[str, ...] = ()
    """Dates (YYYY-MM-DD) without trading; for "trading" only."""
    past: CovariateRows
    known: CovariateRows
    static: StaticCovariates
    num_gaps: NDArray[np.int64]
    """(N,) steps that were absent and were filled at the door."""
    has_stamps: bool = True
    """Whether the stamps were given; False: counted from an arbitrary start, and without meaning."""
    report: Report = field(default_factory=Report)

    @classmethod
    def build(
        cls,
        unique_ids: NDArray[Any],
        encoded: Encoded,
        lengths: NDArray[np.int64],
        starts: Stamps,
        *,
        freq: Frequency,
        **parts: Any,
    ) -> "Panel":
        """A panel of series that lie one after the other; `parts` are further fields."""
        num_series = len(unique_ids)
        defaults: dict[str, Any] = {
            "season_length": freq.season_length,
            "past": CovariateRows.none(num_series),
            "known": CovariateRows.none(num_series),
            "static": StaticCovariates.none(num_series),
            "num_gaps": np.zeros(num_series, dtype=np.int64),
        }
        return cls(
            unique_ids=unique_ids,
            base=encoded.values,
            begins=np.cumsum(lengths) - lengths,
            lengths=lengths,
            offsets=encoded.offsets,
            scales=encoded.scales,
            first_observed=encoded.first_observed,
            starts=starts,
            freq=freq,
            **(defaults | parts),
        )

    @classmethod
    def from_arrays(
        cls,
        unique_ids: Sequence[str],
        ys: Sequence[Any],
        *,
        freq: str | int | Frequency,
        starts: Sequence[Any] | None = None,
        ds: Sequence[Any] | None = None,
        timezone: str | None = None,
        season_length: int | None = None,
        holidays: Sequence[Any] = (),
        past: Sequence[Mapping[str, Any]] | None = None,
        known: Sequence[Mapping[str, Any]] | None = None,
        static: Sequence[Mapping[str, Any]] | None = None,
    ) -> "Panel":
        """A panel of one sequence of values per series.

        Each has the first stamp (`starts`) or all stamps (`ds`); without both the series have no stamps, and
        their forecasts are numbered by step from the first value (0) on. None or NaN is missing; gaps in `ds`
        become missing steps, counted in `num_gaps`. `past`, `known` and `static` are one mapping per series:
        past histories as long as y, known ones at least as long, static single values. Typed errors name the
        series: doubled ids, lengths that differ, stamps that cannot be read, are not rising or lie off the
        grid, mixed zones, infinite or too large values, nothing observed.
        """
        from forecast.series.arrays import panel_from_arrays

        return panel_from_arrays(
            unique_ids,
            ys,
            freq=Frequency.parse(freq),
            starts=starts,
            ds=ds,
            timezone=timezone,
            season_length=season_length,
            holidays=holidays,
            past=past,
            known=known,
            static=static,
        )

    # Looking

    def __len__(self) -> int:
        return len(self.unique_ids)

    def __repr__(self) -> str:
        return f"Panel({len(self):,} series, {int(self.lengths.sum()):,} steps, freq={self.freq})"

    @property
    def num_series(self) -> int:
        """N."""
        return len(self.unique_ids)

    @cached_property
    def indptr(self) -> NDArray[np.int64]:
        """(N + 1,) bounds in `values`: series i is `values[indptr[i] : indptr[i + 1]]`."""
        return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(self.lengths)])

    @cached_property
    def is_compact(self) -> bool:
        """Whether the series lie in `base` one after the other with nothing between."""
        return len(self.base) == self.indptr[-1] and bool(np.array_equal(self.begins, self.indptr[:-1]))

    @cached_property
    def values(self) -> NDArray[np.float32]:
        """(T,) relative values of all series, one after the other; NaN where missing."""
        return self.base if self.is_compact else self.base[flat_indices(self.begins, self.lengths)]

    @cached_property
    def stamps(self) -> Stamps | None:
        """(T,) stamps of `values` for "trading", None otherwise."""
        if self.base_stamps is None or self.is_compact:
            return self.base_stamps
        return np.asarray(self.base_stamps[flat_indices(self.begins, self.lengths)])

    def y(self, series: int) -> NDArray[np.float64]:
        """The values of one series in units (n,), NaN where missing."""
        begin = self.begins[series]
        values = self.base[begin : begin + self.lengths[series]].astype(np.float64)
        return np.asarray(self.offsets[series] + self.scales[series] * values)

    def ds(self, series: int) -> Stamps:
        """The stamps of one series (n,)."""
        begin, length = self.begins[series], self.lengths[series]
        if self.base_stamps is not None:
            return self.base_stamps[begin : begin + length]
        return self.freq.stamps(self.starts[series], length, timezone=self.timezone)

    def stamps_at(self, steps: NDArray[np.int64]) -> Stamps:
        """The stamps of the steps (N, W) of each series; steps from the length on lie in the future."""
        if self.base_stamps is None:
            stamps: Stamps = self.freq.advance(self.starts[:, None], steps, timezone=self.timezone)
            return stamps
        ahead = int(max((steps - self.lengths[:, None] + 1).max(initial=0), 0))
        within = np.clip(steps, 0, self.lengths[:, None] - 1)
        known: Stamps = self.base_stamps[self.begins[:, None] + within]
        if not ahead:
            return known
        future = self.future_stamps(ahead)[
            np.arange(len(self))[:, None], np.clip(steps - self.lengths[:, None], 0, ahead - 1)
        ]
        return np.where(steps < self.lengths[:, None], known, future)

    def last_stamps(self) -> Stamps:
        """(N,) the stamp of each series' last step."""
        last: Stamps = self.stamps_at(self.lengths[:, None] - 1)[:, 0]
        return last

    def future_stamps(self, horizon: int) -> Stamps:
        """(N, horizon) stamps after the end of each series: those given, else those of the calendar."""
        if self.given_future is not None:
            return self._given(horizon)
        return self.freq.future(self.last_stamps(), horizon, holidays=self.holidays, timezone=self.timezone)

    def _given(self, horizon: int) -> Stamps:
        given = self.given_future
        if given is None or given.shape[1] < horizon:
            got = 0 if given is None else given.shape[1]
            raise DataError(f"{got} future stamps were given and {horizon} are needed; send one per step.")
        stamps: Stamps = given[:, :horizon]
        return stamps

    def with_future(self, stamps: Any) -> "Panel":
        """The panel with stamps (H,) or (N, H) for its future, in place of those of the calendar.

        For "trading", where nobody else knows the coming holidays. DataError where they do not rise from the
        last observation of each series. A cut gives them up.
        """
        given = as_stamps(stamps, self.freq)
        future = np.broadcast_to(given, (len(self), given.shape[-1]))
        before = np.concatenate([self.last_stamps()[:, None], future[:, :-1]], axis=1)
        wrong = (future <= before).any(axis=1)
        if wrong.any():
            raise DataError(
                f"the future stamps of series {name_series(self.unique_ids[wrong])} do not rise from its last"
                " observation; send the stamps that follow it, in order."
            )
        return replace(self, given_future=future)

    def is_constant(self) -> NDArray[np.bool_]:
        """(N,) whether all observed values of a series are equal."""
        return np.asarray(self._extreme(np.fmin) == self._extreme(np.fmax))

    def lowest(self) -> NDArray[np.float64]:
        """(N,) the lowest observed value in units, NaN where there is none.

        Zero where float32 relative to the offset cannot tell it from zero.
        """
        lowest = self.offsets + self.scales * self._extreme(np.fmin)
        return np.where(np.abs(lowest) <= np.abs(self.offsets) * 2.0**-23, 0.0, lowest)

    def num_observed(self) -> NDArray[np.int64]:
        """(N,) values that are not missing."""
        return self._sums(~np.isnan(self.values))

    def _sums(self, flags: NDArray[np.bool_]) -> NDArray[np.int64]:
        totals = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(flags, dtype=np.int64)])
        return np.asarray(totals[self.indptr[1:]] - totals[self.indptr[:-1]])

    def _extreme(self, ufunc: np.ufunc) -> NDArray[np.float32]:
        return np.asarray(ufunc.reduceat(self.values, self.indptr[:-1]), dtype=np.float32)

    # Cutting

    def until(self, stamp: Any) -> "Panel":
        """All steps up to and including `stamp`; series with nothing left are dropped and reported.

        A string or a datetime without zone is read on the wall clock of the panel's zone, a numpy datetime64
        as UTC.
        """
        instant = self.instant(stamp)
        if self.base_stamps is not None:
            return self.head(self._sums(self._flat_stamps() <= instant))
        steps = self.freq.floor_steps(instant, self.starts, timezone=self.timezone)
        return self.head(np.clip(steps + 1, 0, self.lengths))

    def instant(self, stamp: Any) -> Any:
        """A stamp as this panel keeps stamps: datetime64[us] in UTC where there is a zone, or an integer."""
        if self.freq.is_integer or isinstance(stamp, np.datetime64):
            return as_stamps(stamp, self.freq)[()]
        try:
            moment = pd.Timestamp(stamp)
        except (ValueError, TypeError) as error:
            raise DataError(
                f"the stamp {str(stamp)[:40]!r} cannot be read; write it as 2026-06-30T12:00."
            ) from error
        if pd.isna(moment) or isinstance(stamp, int | float):
            raise DataError(f"{str(stamp)[:40]} is no stamp; write one as 2026-06-30T12:00.")
        if moment.tz is not None or self.timezone is None:
            return naive_utc(moment)[()]
        return to_utc(np.array([naive_utc(moment)[()]]), self.timezone)[0]

    def head(self, num_steps: NDArray[np.int64] | Sequence[int]) -> "Panel":
        """The first `num_steps[i]` steps of each series (N,); series with none are dropped and reported."""
        steps = np.clip(np.asarray(num_steps, dtype=np.int64), 0, self.lengths)
        unseen = steps <= self.first_observed
        cut = replace(
            self,
            lengths=steps,
            offsets=np.where(unseen, 0.0, self.offsets),
            scales=np.where(unseen, 1.0, self.scales),
            first_observed=np.minimum(self.first_observed, steps),
            past=self.past.head(steps),
            given_future=self.given_future if np.array_equal(steps, self.lengths) else None,
        )
        return cut if steps.all() else cut._without_empty()

    def _without_empty(self) -> "Panel":
        empty = self.lengths == 0
        gone = self.unique_ids[empty]
        if empty.all():
            raise EmptyDataError(
                f"nothing is left of any series before the cut; the panel starts at {self.starts.min()}. "
                "Choose a later cutoff or send longer histories."
            )
        message = f"{len(gone):,} series have no step before the cut and were left out: {name_series(gone)}"
        finding = Finding(
            code="dropped", message=message, unique_ids=tuple(map(str, gone[:MAX_LISTED])), count=len(gone)
        )
        return replace(self.select(np.flatnonzero(~empty)), report=self.report.add(finding))

    def drop_last(self, num_steps: int) -> "Panel":
        """Every series without its last steps; series with nothing left are dropped and reported."""
        return self.head(self.lengths - num_steps)

    def select(self, series: Any) -> "Panel":
        """Some series, by their places (or a mask) or by their ids, in the order asked."""
        places = self._places(series)
        stamps = self.starts[places]
        return replace(
            self,
            unique_ids=self.unique_ids[places],
            begins=self.begins[places],
            lengths=self.lengths[places],
            offsets=self.offsets[places],
            scales=self.scales[places],
            first_observed=self.first_observed[places],
            starts=stamps,
            past=self.past.select(places),
            known=self.known.select(places),
            static=self.static.select(places),
            num_gaps=self.num_gaps[places],
            given_future=None if self.given_future is None else self.given_future[places],
        )

    def _places(self, series: Any) -> NDArray[np.int64]:
        chosen = np.atleast_1d(np.asarray(series))
        if chosen.dtype.kind == "b":
            return np.flatnonzero(chosen)
        if chosen.dtype.kind in "iu" or not len(chosen):
            return chosen.astype(np.int64)
        places = pd.Index(self.unique_ids).get_indexer(pd.Index(chosen.astype(object)))
        if (places < 0).any():
            missing = name_series(chosen[places < 0])
            raise DataError(f"the panel has no series {missing}; it has {name_series(self.unique_ids)}.")
        return np.asarray(places, dtype=np.int64)

    def with_covariates(
        self,
        *,
        past: Sequence[str] = (),
        known: Sequence[str] = (),
        static_numeric: Sequence[str] = (),
        static_categories: Mapping[str, Sequence[str]] | None = None,
    ) -> "Panel":
        """The panel with these covariates and no others, in this order, and categories coded as given.

        A model reads covariates by their place, so that this stands before it. CovariateError names those
        that are missing.
        """
        return replace(
            self,
            past=self.past.chosen(past, kind="past"),
            known=self.known.chosen(known, kind="known"),
            static=self.static.chosen(static_numeric, static_categories or {}),
        )

    # Leaving

    def contexts(self, context_length: int, *, horizon: int = 0, calendar: bool = False) -> ContextBatch:
        """The last `context_length` points of every series, padded with NaN on the left.

        `known` covariates and, if asked for, calendar features reach `horizon` steps further; CovariateError
        where a known covariate was not given so far.
        """
        ahead = np.arange(-context_length, horizon)
        steps = self.lengths[:, None] + ahead  # (N, L + H)
        context, level, num_observed = self._window(steps[:, :context_length])
        series = np.arange(len(self))
        if horizon:
            self._check_known(horizon)
        stamps = self.stamps_at(steps) if calendar else None
        return ContextBatch(
            context=context,
            level=level,
            num_observed=num_observed,
            past=self.past.gather(series, steps[:, :context_length]) if len(self.past) else None,
            known=self.known.gather(series, steps) if len(self.known) else None,
            static_numeric=self.static.numeric if self.static.numeric_names else None,
            static_categorical=self.static.codes if self.static.categorical_names else None,
            calendar=None if stamps is None else calendar_features(stamps, self.freq, timezone=self.timezone),
        )

    def _window(
        self, steps: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.int64]]:
        values = self.base[self.begins[:, None] + np.maximum(steps, 0)].astype(np.float64)
        values[steps < 0] = np.nan
        last = last_observed(values)
        context = saturated(self.scales[:, None] * (values - last[:, None]))
        num_observed = (~np.isnan(values)).sum(axis=1, dtype=np.int64)
        level = np.where(num_observed > 0, self.offsets + self.scales * last, 0.0)
        return context, level, num_observed

    def _check_known(self, horizon: int) -> None:
        short = self.known.lengths < self.lengths + horizon
        if len(self.known) and short.any():
            first = int(np.flatnonzero(short)[0])
            got = int(self.known.lengths[first] - self.lengths[first])
            raise CovariateError(
                f"the known covariates {', '.join(self.known.names)} of series"
                f" {str(self.unique_ids[first])!r} reach {got} steps into the future and {horizon} are"
                " needed; send history + horizon values."
            )

    def to_frame(self) -> pd.DataFrame:
        """A long frame `unique_id, ds, y` in panel order, then time.

        Values are in units, stamps in the panel's zone.
        """
        owner = np.repeat(np.arange(len(self)), self.lengths)
        y = self.offsets[owner] + self.scales[owner] * self.values
        frame = {"unique_id": self.unique_ids[owner], "ds": zoned(self._flat_stamps(), self.timezone), "y": y}
        return pd.DataFrame(frame)

    def _flat_stamps(self) -> Stamps:
        if self.stamps is not None:
            return self.stamps
        steps = np.arange(self.indptr[-1]) - np.repeat(self.indptr[:-1], self.lengths)
        flat: Stamps = self.freq.advance(np.repeat(self.starts, self.lengths), steps, timezone=self.timezone)
        return flat

    def fingerprint(self) -> str:
        """sha256 (hex) over everything that a training sees.

        The order of series and the report do not count.
        """
        ordered = self.select(np.argsort(self.unique_ids.astype(str), kind="stable"))
        digest = hashlib.sha256()
        head = ["panel-1", str(self.freq), str(self.season_length), str(self.timezone), *self.holidays]
        digest.update("\x1f".join(head).encode())
        digest.update("\x1f".join(map(str, ordered.unique_ids)).encode("utf-8", "surrogatepass"))
        for array in ordered._content():
            digest.update(f"{array.dtype.str}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).view(np.uint8).reshape(-1).data)
        return digest.hexdigest()

    def _content(self) -> list[NDArray[Any]]:
        content: list[NDArray[Any]] = [
            self.lengths,
            self.starts.view(np.int64),
            self.offsets,
            self.scales,
            self.values,
        ]
        content += [self.stamps.view(np.int64)] if self.stamps is not None else []
        for rows in (self.past.compact(), self.known.compact()):
            content += [_text(rows.names), rows.lengths, rows.offsets, rows.scales, rows.values]
        names = (*self.static.names, *(name for table in self.static.categories for name in table))
        content += [_text(names), self.static.numeric, self.static.codes]
        return content


def _text(names: Sequence[str]) -> NDArray[np.uint8]:
    return np.frombuffer("\x1f".join(names).encode(), dtype=np.uint8)
