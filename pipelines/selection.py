"""Which rows of a table count, to which steps they are brought, and which last step is not over yet."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from forecast.errors import ColumnsError, DataError, EmptyDataError, SpecError
from forecast.series.columns import listed, map_columns
from forecast.series.report import Finding
from forecast.series.stamps import read_stamps
from pipelines.sections import DataSection, Filter

if TYPE_CHECKING:
    from forecast.series.dates import DateOrder
    from forecast.series.panel import Panel
    from forecast.series.table import Table


def selected(table: "Table", data: DataSection, order: "DateOrder | None") -> "Table":
    """The rows that meet the filters and lie between `since` and `until`; EmptyDataError where none does."""
    rows = np.ones(table.num_rows, dtype=bool)
    for each in data.filters:
        rows &= _met(table, each)
    if data.since or data.until:
        rows &= _within(table, data, order)
    if not rows.any():
        raise EmptyDataError("no row meets the filters of [data]; check `filters`, `since` and `until`")
    return table if rows.all() else _kept(table, rows)


def resampled(table: "Table", data: DataSection, order: "DateOrder | None") -> "Table":
    """A table whose stamps are those of the steps; the readers then make one row of all rows of a step."""
    import pandas as pd
    import pyarrow as pa

    from forecast.series.table import PandasTable

    covariates = (*data.past, *data.known, *data.static)
    own = {str(key): value for key, value in data.columns.items()}
    columns = map_columns(
        table, unique_id=own.get("unique_id"), ds=own.get("ds"), y=own.get("y"), others=covariates
    )
    read = read_stamps(
        table.column(columns.ds), timezone=data.timezone, date_format=_format(data, order), what=columns.ds
    )
    if np.issubdtype(read.stamps.dtype, np.integer):
        raise SpecError("`resample` is for stamps with dates, and this data counts its steps; leave it out")
    index = pd.DatetimeIndex(read.stamps)
    if read.timezone not in (None, "UTC"):
        index = index.tz_localize("UTC").tz_convert(read.timezone).tz_localize(None)
    parts: dict[str, Any] = {columns.ds: _steps(index, str(data.resample))}
    keys = [columns.ds]
    if columns.unique_id:
        codes, texts = table.codes(columns.unique_id)
        parts[columns.unique_id] = texts.astype(str)[codes]
        keys = [columns.unique_id, columns.ds]
    numbers = (columns.y, *data.past, *data.known)
    parts |= {name: table.floats(name) for name in numbers}
    static = [name for name in data.static if name not in keys]
    parts |= {name: pa.array(table.column(name)).to_pandas() for name in static}
    groups = pd.DataFrame(parts).groupby(keys, observed=True, sort=True)
    ways: dict[str, Any] = {name: _way(data.aggregate if name == columns.y else "mean") for name in numbers}
    return PandasTable(groups.agg(ways | dict.fromkeys(static, "first")).reset_index())


def _way(name: str) -> Any:
    """How pandas makes one value of many; a step whose values are all missing is missing, not zero."""
    return (lambda values: values.sum(min_count=1)) if name == "sum" else name


def complete(panel: "Panel", wait_seconds: float, *, now: datetime | None = None) -> "Panel":
    """The panel without last steps that ended less than `wait_seconds` ago, or have not ended yet."""
    if panel.freq.is_integer:
        return panel
    moment = np.datetime64((now or datetime.now(UTC)).astimezone(UTC).replace(tzinfo=None), "us")
    limit = moment - np.timedelta64(timedelta(seconds=wait_seconds))
    lengths = panel.lengths.copy()
    while True:
        ends = _ends(panel, lengths)
        open_ = (ends > limit) & (lengths > 0)
        if not open_.any():
            break
        lengths[open_] -= 1
    count = int((panel.lengths - lengths).sum())
    if not count:
        return panel
    if not lengths.any():
        raise EmptyDataError("no step of the data is over yet; check its stamps and `complete_after`")
    names = panel.unique_ids[lengths < panel.lengths]
    cut = panel.head(lengths)
    message = f"{count:,} last steps of {len(names):,} series are not over yet and were left out"
    found = Finding(code="incomplete", message=message, unique_ids=tuple(map(str, names[:5])), count=count)
    return replace(cut, report=cut.report.add(found))


def _ends(panel: "Panel", lengths: NDArray[np.int64]) -> NDArray[Any]:
    """When the last of so many steps of each series is over, in UTC."""
    last = panel.stamps_at(np.maximum(lengths[:, None] - 1, 0))[:, 0]
    alias = str(panel.freq.alias)
    if alias == "trading" or alias.lstrip("0123456789").startswith(("B", "C", "W", "ME", "QE", "YE")):
        return np.asarray(last + np.timedelta64(1, "D"))  # these are named by their last day
    return np.asarray(panel.freq.advance(last, 1, timezone=panel.timezone))


def _met(table: "Table", each: Filter) -> NDArray[np.bool_]:
    if each.column not in table.names:
        raise ColumnsError(
            f"there is no column {each.column!r} to filter by; the data has {listed(table.names)}"
        )
    rows = np.ones(table.num_rows, dtype=bool)
    if each.at_least is not None:
        rows &= table.floats(each.column) >= each.at_least
    if each.at_most is not None:
        rows &= table.floats(each.column) <= each.at_most
    if each.one_of is not None:
        rows &= _is_one_of(table, each.column, each.one_of)
    if each.none_of is not None:
        rows &= ~_is_one_of(table, each.column, each.none_of)
    return rows


def _is_one_of(table: "Table", name: str, values: Sequence[str | int | float | bool]) -> NDArray[np.bool_]:
    """Numbers are compared as numbers where the column holds some, everything else as text."""
    numbers = [value for value in values if isinstance(value, int | float)]
    if len(numbers) == len(values) and table.is_numeric(name):
        return np.asarray(np.isin(table.floats(name), np.array(numbers, dtype=np.float64)))
    codes, texts = table.codes(name, optional=True)
    wanted = np.isin(texts.astype(str), [str(value) for value in values])
    return np.asarray(np.append(wanted, False)[codes])


def _within(table: "Table", data: DataSection, order: "DateOrder | None") -> NDArray[np.bool_]:
    name = data.columns.get("ds") or map_columns(table, unique_id=None, ds=None, y=data.columns.get("y")).ds
    read = read_stamps(
        table.column(name), timezone=data.timezone, date_format=_format(data, order), what=name
    )
    rows = np.ones(table.num_rows, dtype=bool)
    if data.since:
        rows &= read.stamps >= _instant(data.since, read.timezone, "since")
    if data.until:
        rows &= read.stamps <= _instant(data.until, read.timezone, "until")
    return rows


def _instant(text: str, timezone: str | None, key: str) -> Any:
    import pandas as pd

    try:
        stamp = pd.Timestamp(text)
    except ValueError as error:
        raise SpecError(f"data.{key} = {text!r} is no stamp; write it as 2026-01-31") from error
    if timezone and stamp.tzinfo is None:
        stamp = stamp.tz_localize(timezone)
    if stamp.tzinfo is not None:
        stamp = stamp.tz_convert("UTC").tz_localize(None)
    return stamp.to_datetime64()


def _kept(table: "Table", rows: NDArray[np.bool_]) -> "Table":
    import pyarrow as pa

    from forecast.series.csv_file import CsvTable
    from forecast.series.table import ArrowTable

    mask = pa.array(rows)
    if isinstance(table, CsvTable):
        return table.kept(mask)
    assert isinstance(table, ArrowTable)
    return ArrowTable(table.table.filter(mask))


def _format(data: DataSection, order: "DateOrder | None") -> str | None:
    return order.format if order is not None else data.date_format


def _steps(index: Any, freq: str) -> Any:
    """The stamp of the step that each moment lies in; months and years are named by their first day."""
    import pandas as pd

    from forecast.series.calendar import Frequency

    step = Frequency.parse(freq)
    alias = str(step.alias)
    try:
        if step.kind == "fixed" and not alias.startswith("W"):
            return index.floor(alias)
        period = alias.replace("MS", "M").replace("QS", "Q").replace("YS", "Y")
        period = period.replace("ME", "M").replace("QE", "Q").replace("YE", "Y")
        spans = pd.PeriodIndex(index.to_period(period))
        return spans.end_time.normalize() if alias.startswith(("W", "ME", "QE", "YE")) else spans.start_time
    except ValueError as error:
        raise DataError(
            f"rows cannot be brought to steps of {freq!r} ({error}); use D, W-SUN or MS"
        ) from error
