"""Frames, tables and files become panels: every finding is an error or a recorded repair."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forecast.errors import ColumnsError, CovariateError, DataError, EmptyDataError
from forecast.series.arrays import panel_of
from forecast.series.calendar import Frequency, Stamps, holiday_dates
from forecast.series.columns import Columns, known_as, listed, map_columns
from forecast.series.covariates import StaticCovariates
from forecast.series.encoding import flat_indices
from forecast.series.panel import Panel
from forecast.series.report import Finding, name_series
from forecast.series.rows import Policies, RowPlan, Runs, finding, plan_rows
from forecast.series.sniff import open_csv
from forecast.series.stamps import ReadStamps, read_stamps, second_turns
from forecast.series.table import ParquetTable, Table, as_table


@dataclass(frozen=True, kw_only=True)
class _Request:
    """What a reader was asked for, besides the data."""

    freq: Frequency | None
    timezone: str | None
    season_length: int | None
    holidays: tuple[str, ...]
    policies: Policies
    past: tuple[str, ...]
    known: tuple[str, ...]
    static: tuple[str, ...]
    date_format: str | None = None


def from_frame(
    data: Any,
    *,
    freq: str | int | Frequency | None = None,
    unique_id: str | None = None,
    ds: str | None = None,
    y: str | None = None,
    past: Sequence[str] = (),
    known: Sequence[str] = (),
    static: Sequence[str] = (),
    wide: bool = False,
    duplicates: str = "error",
    gaps: str = "nan",
    infinite: str = "error",
    grid: str | None = None,
    align: str = "floor",
    aggregate: str = "mean",
    timezone: str | None = None,
    season_length: int | None = None,
    holidays: Sequence[Any] = (),
    date_format: str | None = None,
) -> Panel:
    """A panel of a long table `unique_id, ds, y`, or of a wide one with a column per series.

    The table is a pandas frame, an Arrow table, or anything that speaks Arrow (polars).

    Columns that are not declared go by their usual names (item_id, timestamp, target, date, close, ...).
    Without a column of ids the table is one series, named by its `y` column, or "series" where that is called
    y. A declared `freq` wins over inference. `known` covariates reach into the future where rows at the end
    of a series have them and no y. `static` ones are the same in all rows of a series.

    duplicates: error, first, last, mean, sum. gaps: nan, zero, forward. infinite: error, nan. grid, align
    (floor, nearest, ceil) and aggregate (mean, sum, first, last, min, max, median) put jittering stamps on a
    grid. timezone: the zone of stamps that have none; aware ones keep theirs. What was found and done is in
    `panel.report`.
    """
    request = _request(
        freq=freq,
        policies=Policies(
            duplicates=duplicates, gaps=gaps, infinite=infinite, grid=grid, align=align, aggregate=aggregate
        ),
        timezone=timezone,
        season_length=season_length,
        holidays=holidays,
        past=past,
        known=known,
        static=static,
        date_format=date_format,
    )
    table = data if isinstance(data, Table) else as_table(data)
    if wide:
        return _from_wide(table, request, ds=ds, y=y, unique_id=unique_id)
    return _from_long(table, request, unique_id=unique_id, ds=ds, y=y)


def read_parquet(path: str | Path, **options: Any) -> Panel:
    """A panel of a Parquet file (or folder of them); the options are those of `from_frame`."""
    file = Path(path)
    if not file.exists():
        raise DataError(f"there is no file {file}; check the path.")
    return from_frame(ParquetTable(file), **options)


def read_csv(
    path: str | Path,
    *,
    delimiter: str | None = None,
    decimal: str | None = None,
    dayfirst: bool | None = None,
    encoding: str | None = None,
    **options: Any,
) -> Panel:
    """A panel of a CSV file; what is not declared is detected, and an ambiguous date order is an error.

    Further options are those of `from_frame`.
    """
    table, found = open_csv(
        Path(path),
        delimiter=delimiter,
        decimal=decimal,
        dayfirst=dayfirst,
        encoding=encoding,
        ds=options.get("ds"),
        date_format=options.get("date_format"),
    )
    return from_frame(table, **{**options, "date_format": found.format})


def _request(
    *,
    freq: str | int | Frequency | None,
    season_length: int | None,
    holidays: Sequence[Any],
    past: Sequence[str],
    known: Sequence[str],
    static: Sequence[str],
    **rest: Any,
) -> _Request:
    for name, names in (("past", past), ("known", known), ("static", static)):
        if isinstance(names, str):
            raise ColumnsError(f"{name}={names!r} has to be a list of columns: {name}=[{names!r}].")
    return _Request(
        freq=None if freq is None else Frequency.parse(freq),
        season_length=season_length,
        holidays=tuple(map(str, holiday_dates(holidays))),
        past=tuple(past),
        known=tuple(known),
        static=tuple(static),
        **rest,
    )


def _from_long(
    table: Table, request: _Request, *, unique_id: str | None, ds: str | None, y: str | None
) -> Panel:
    covariates = (*request.past, *request.known, *request.static)
    _check_rows(table)
    columns = map_columns(table, unique_id=unique_id, ds=ds, y=y, others=covariates)
    if columns.unique_id is None:
        runs = Runs.of_sizes(np.array([table.num_rows]))
        unique_ids = np.array(["series" if columns.y == "y" else columns.y], dtype=object)
    else:
        codes, unique_ids = table.codes(columns.unique_id)
        runs = Runs.of(codes)
        del codes
    read = _stamps(table, columns.ds, request)
    timezone = read.timezone
    plan = _plan(unique_ids, runs, read, request, left_out=columns)
    del read  # the stamps are no longer needed, and large

    def column(name: str) -> NDArray[np.float64]:
        source = columns.y if name == "y" else name
        return plan.sorted_rows(_numbers(table, source, is_covariate=name != "y"))

    static = _static(table, plan, request.static) if request.static else None
    return _finished(plan, column, timezone, request, static)


def _check_rows(table: Table) -> None:
    if table.num_rows == 0:
        raise EmptyDataError(
            f"the table has no rows, only the columns {listed(table.names)}; send at least one series with"
            " values."
        )


def _stamps(table: Table, name: str, request: _Request) -> ReadStamps:
    return read_stamps(
        table.column(name), timezone=request.timezone, date_format=request.date_format, what=name
    )


def _plan(
    unique_ids: NDArray[Any],
    runs: Runs,
    read: ReadStamps,
    request: _Request,
    *,
    left_out: Columns | None = None,
) -> RowPlan:
    stamps: Stamps = second_turns(read, runs.at)
    plan = plan_rows(
        unique_ids, runs, stamps, freq=request.freq, policies=request.policies, timezone=read.timezone
    )
    return replace(
        plan, findings=(*_about_columns(left_out), *_about_zone(read, runs.num_rows), *plan.findings)
    )


def _about_columns(columns: Columns | None) -> list[Finding]:
    if columns is None or not columns.left_out:
        return []
    message = f"columns that were not asked for were left out: {listed(columns.left_out)}"
    return [finding("columns_left_out", message, (), len(columns.left_out))]


def _about_zone(read: ReadStamps, num_rows: int) -> list[Finding]:
    if read.timezone in (None, "UTC"):
        return []
    message = f"stamps of {read.timezone} were converted to UTC; answers are in {read.timezone}"
    return [finding("timezone_converted", message, (), num_rows)]


def _numbers(table: Table, name: str, *, is_covariate: bool) -> NDArray[np.float64]:
    if is_covariate and not table.is_numeric(name):
        raise CovariateError(
            f"the covariate {name!r} does not hold numbers; give past and known covariates as numbers,"
            " categories as static ones."
        )
    return table.floats(name)


def _static(table: Table, plan: RowPlan, names: Sequence[str]) -> StaticCovariates:
    """Static covariates from the first row of each series; CovariateError where the rows differ."""
    first = plan.first_rows
    sizes = np.diff(np.append(first, table.num_rows))
    columns: dict[str, list[Any]] = {}
    for name in names:
        if table.is_numeric(name):
            values: NDArray[Any] = plan.sorted_rows(table.floats(name))
            texts: NDArray[Any] = values
        else:
            codes, texts = table.codes(name, optional=True)
            values = plan.sorted_rows(codes)
        chosen = values[first]
        same = (values == np.repeat(chosen, sizes)) | (
            (values != values) & np.repeat(chosen != chosen, sizes)
        )
        if not same.all():
            series = plan.unique_ids[int(np.searchsorted(first, int((~same).argmax()), side="right")) - 1]
            raise CovariateError(
                f"the static covariate {name!r} changes within series {str(series)!r}; correct it, or give it"
                " as a past or known covariate."
            )
        columns[name] = (
            chosen.tolist() if texts is values else [None if code < 0 else texts[code] for code in chosen]
        )
    return StaticCovariates.from_columns(columns, len(plan.unique_ids))


def _finished(
    plan: RowPlan,
    column: Callable[[str], NDArray[np.float64]],
    timezone: str | None,
    request: _Request,
    static: StaticCovariates | None = None,
) -> Panel:
    panel = panel_of(
        plan,
        column,
        policies=request.policies,
        season_length=request.season_length,
        timezone=timezone,
        holidays=request.holidays,
        past_names=request.past,
        known_names=request.known,
        static=static,
    )
    return _without_future_rows(panel) if request.known else panel


def _without_future_rows(panel: Panel) -> Panel:
    """The panel without its rows after the last y of each series, where one of them has a known covariate."""
    given = np.asarray(~np.isnan(panel.known.values).all(axis=0))
    last_known = _last(given[flat_indices(panel.known.begins, panel.known.lengths)], panel)
    last_y = _last(~np.isnan(panel.base), panel)
    lengths = np.where(last_known > last_y, last_y + 1, panel.lengths)
    count = int((panel.lengths - lengths).sum())
    if not count:
        return panel
    names = panel.unique_ids[lengths < panel.lengths]
    message = f"{count:,} rows with known covariates and no y lie in the future of: {name_series(names)}"
    cut = panel.head(lengths)
    return replace(cut, report=cut.report.add(finding("future_rows", message, names, count)))


def _last(flags: NDArray[np.bool_], panel: Panel) -> NDArray[np.int64]:
    """(N,) the last step of each series at which a flag (T,) holds; -1 where none does."""
    last = np.maximum.reduceat(np.where(flags, np.arange(len(flags)), -1), panel.begins)
    return np.asarray(np.maximum(last - panel.begins, -1))


def _from_wide(
    table: Table, request: _Request, *, ds: str | None, y: str | None, unique_id: str | None
) -> Panel:
    """A panel of a table with one column of stamps and one column per series."""
    if unique_id or y or request.past or request.known or request.static:
        raise ColumnsError("a wide table has a column per series; leave unique_id, y and covariates out.")
    _check_rows(table)
    stamps_column = _wide_stamps(table, ds)
    names = [name for name in table.names if name != stamps_column and table.is_numeric(name)]
    left = tuple(name for name in table.names if name != stamps_column and name not in names)
    if not names:
        raise ColumnsError(f"no column of the wide table holds numbers; it has {listed(table.names)}.")
    read = _stamps(table, stamps_column, request)
    repeated = _repeated(read, len(names))
    runs = Runs.of_sizes(np.full(len(names), table.num_rows))
    columns = Columns(unique_id=None, ds=stamps_column, y="y", left_out=left)
    plan = _plan(np.array(names, dtype=object), runs, repeated, request, left_out=columns)

    def column(_: str) -> NDArray[np.float64]:
        return plan.sorted_rows(np.concatenate([table.floats(name) for name in names]))

    return _finished(plan, column, read.timezone, request)


def _wide_stamps(table: Table, ds: str | None) -> str:
    if ds is not None and ds not in table.names:
        raise ColumnsError(f"there is no column {ds!r}; the table has {listed(table.names)}.")
    found = ds or known_as("ds", table.names)
    if found is None:
        raise ColumnsError(
            f"there is no column of stamps; the table has {listed(table.names)}. Declare it, for example ds="
            f"{table.names[0]!r}."
        )
    return found


def _repeated(read: ReadStamps, times: int) -> ReadStamps:
    if read.twice is None or read.second is None:
        return replace(read, stamps=np.tile(read.stamps, times))
    return ReadStamps(
        stamps=np.tile(read.stamps, times),
        timezone=read.timezone,
        twice=np.tile(read.twice, times),
        second=np.tile(read.second, times),
    )
