"""What a data file is: its format, columns, date order and frequency, each decision as a sentence."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from forecast.errors import ColumnsError, EmptyDataError, FrequencyError
from forecast.series.calendar import Frequency, Stamps, infer_frequency, weekday_steps
from forecast.series.columns import Columns, is_year, known_as, listed
from forecast.series.csv_file import CsvTable, find_format
from forecast.series.dates import DateOrder, date_order
from forecast.series.report import name_series
from forecast.series.stamps import read_stamps, second_turns
from forecast.series.table import ParquetTable, Table

_PARQUET = (".parquet", ".pq")


@dataclass(frozen=True, kw_only=True)
class Sniffed:
    """How a file is to be read; `decisions` says in sentences what was decided and why."""

    path: Path
    format: str
    """csv or parquet."""
    delimiter: str | None
    decimal: str | None
    encoding: str | None
    date_format: str | None
    """For `strptime`; None for ISO 8601 and for stamps that are no text."""
    dayfirst: bool | None
    columns: dict[str, str]
    """Ours = theirs; without unique_id where the file is one series, ds alone where it is wide."""
    wide: bool
    freq: str | int
    season_length: int
    timezone: str | None
    num_series: int
    num_rows: int
    decisions: tuple[str, ...]


def sniff(
    path: str | Path,
    *,
    dayfirst: bool | None = None,
    delimiter: str | None = None,
    decimal: str | None = None,
    unique_id: str | None = None,
    ds: str | None = None,
    y: str | None = None,
    freq: str | int | None = None,
    wide: bool | None = None,
    timezone: str | None = None,
) -> Sniffed:
    """Look at a CSV or Parquet file; what is declared is kept, everything else is decided or refused.

    DataError and its kin name the flag or argument that settles what cannot be decided: columns, date order,
    decimal mark, frequency.
    """
    file = Path(path)
    is_parquet = file.name.lower().endswith(_PARQUET)
    if is_parquet and file.exists():
        table: Table = ParquetTable(file)
        decisions: list[str] = []
    else:
        found = find_format(file, delimiter=delimiter, decimal=decimal)
        table, decisions = CsvTable(file, found), list(found.decisions)
    if not table.num_rows:
        raise EmptyDataError(f"the file {file} has no rows, only the columns {listed(table.names)}.")
    columns, is_wide = _roles(table, unique_id, ds, y, wide, decisions)
    order = _order(table, columns.ds, dayfirst)
    decisions += [order.decision] if order.decision else []
    read = read_stamps(table.column(columns.ds), timezone=timezone, date_format=order.format, what=columns.ds)
    codes, names = _series(table, columns, is_wide, decisions)
    stamps = second_turns(read, codes.__getitem__)
    if read.timezone:
        decisions.append(f"stamps are in the time zone {read.timezone}")
    parsed = _frequency(stamps, codes, names, read.timezone, freq, decisions)
    return Sniffed(
        path=file,
        format="parquet" if is_parquet else "csv",
        delimiter=table.found.delimiter if isinstance(table, CsvTable) else None,
        decimal=table.found.decimal if isinstance(table, CsvTable) else None,
        encoding=table.found.encoding if isinstance(table, CsvTable) else None,
        date_format=order.format,
        dayfirst=order.dayfirst,
        columns=_theirs(columns, is_wide),
        wide=is_wide,
        freq=parsed.alias,
        season_length=parsed.season_length,
        timezone=read.timezone,
        num_series=len(names),
        num_rows=table.num_rows,
        decisions=tuple(decisions),
    )


def open_csv(
    path: Path | Sequence[Path],
    *,
    delimiter: str | None = None,
    decimal: str | None = None,
    dayfirst: bool | None = None,
    encoding: str | None = None,
    ds: str | None = None,
    date_format: str | None = None,
) -> tuple[CsvTable, DateOrder]:
    """A CSV file, or several of the same columns, as a table, and how their stamps are written."""
    paths = [path] if isinstance(path, Path) else list(path)
    tables = [
        CsvTable(each, find_format(each, delimiter=delimiter, decimal=decimal, encoding=encoding))
        for each in paths
    ]
    table = tables[0] if len(tables) == 1 else CsvTable.joined(tables, paths)
    name = ds if ds in table.names else known_as("ds", table.names) if ds is None else None
    if name is None or date_format is not None:  # a missing column is the reader's to refuse
        return table, DateOrder(format=date_format, decision="")
    return table, _order(table, name, dayfirst)


def _order(table: Table, name: str, dayfirst: bool | None) -> DateOrder:
    """How the stamps of a column are written; nothing to decide where they are dates or whole numbers."""
    column = table.column(name)
    if isinstance(table, CsvTable) and table.num_rows and not table.holds_integers(name):
        if is_year(name):
            return DateOrder(format="%Y", decision=f"{name!r} holds years")
        return date_order(column, dayfirst=dayfirst, what=name)
    if isinstance(column, pa.ChunkedArray) and pa.types.is_string(column.type) and len(column):
        return date_order(column, dayfirst=dayfirst, what=name)
    return DateOrder(format=None, decision="")


def _roles(
    table: Table,
    unique_id: str | None,
    ds: str | None,
    y: str | None,
    wide: bool | None,
    decisions: list[str],
) -> tuple[Columns, bool]:
    """Which column is what: declared, by its usual name, else by what it holds.

    And whether the table is wide.
    """
    for name in (unique_id, ds, y):
        if name is not None and name not in table.names:
            raise ColumnsError(f"there is no column {name!r}; the file has {listed(table.names)}.")
    free = [name for name in table.names if name not in (unique_id, ds, y)]
    ds = ds or known_as("ds", free) or _only_dates(table, free)
    free = [name for name in free if name != ds and not _is_counter(name)]
    unique_id = unique_id or (None if wide else known_as("unique_id", free) or _only_text(table, free))
    free = [name for name in free if name != unique_id]
    y = y or (None if wide else known_as("y", free))
    numbers = [name for name in free if table.is_numeric(name) and name != y]
    if y is None and len(numbers) == 1 and not wide:
        y = numbers[0]
    if y is None and wide is not False and unique_id is None and numbers:
        decisions.append(f"the table is wide: stamps in {ds!r}, and one series per column: {listed(numbers)}")
        return Columns(unique_id=None, ds=ds, y="y"), True
    if y is None:
        held = f"several columns hold numbers: {listed(numbers)}" if numbers else "no column holds numbers"
        units = "" if numbers else ", and write them without units such as $ or %"
        raise ColumnsError(
            f"{held}; the file has {listed(table.names)}. Declare the one to forecast as y "
            f"(--columns y=NAME){units}."
        )
    left = tuple(name for name in (*free, *numbers) if name != y)
    decisions.append(_about_columns(unique_id, ds, y, left))
    return Columns(unique_id=unique_id, ds=ds, y=y, left_out=left), False


def _about_columns(unique_id: str | None, ds: str, y: str, left: Sequence[str]) -> str:
    series = f"series in {unique_id!r}" if unique_id else "a single series"
    rest = f"; left out: {listed(tuple(dict.fromkeys(left)))}" if left else ""
    return f"{series}, stamps in {ds!r}, values in {y!r}{rest}"


def _is_counter(name: str) -> bool:
    return name in ("", "Unnamed: 0", "__index_level_0__")


def _only_dates(table: Table, free: Sequence[str]) -> str:
    dates = [name for name in free if _holds_dates(table, name)]
    if len(dates) == 1:
        return dates[0]
    raise ColumnsError(
        f"{'several columns hold' if dates else 'no column holds'} dates; the file has {listed(table.names)}."
        " Declare the stamps as ds (--columns ds=NAME)."
    )


def _holds_dates(table: Table, name: str) -> bool:
    if isinstance(table, CsvTable):
        return table.found.kinds[name] == "date"
    kind = table.schema.field(name).type if isinstance(table, ParquetTable) else None
    return kind is not None and (pa.types.is_timestamp(kind) or pa.types.is_date(kind))


def _only_text(table: Table, free: Sequence[str]) -> str | None:
    texts = [name for name in free if table.is_text(name)]
    if len(texts) > 1:
        raise ColumnsError(
            f"the series can be named by any of {listed(texts)}; declare the one as unique_id "
            "(--columns unique_id=NAME)."
        )
    return texts[0] if texts else None


def _series(table: Table, columns: Columns, wide: bool, decisions: list[str]) -> tuple[Any, Any]:
    if columns.unique_id is not None:
        codes, names = table.codes(columns.unique_id)
        decisions.append(f"{len(names):,} series: {name_series(names)}")
        return codes, names
    if wide:
        numbers = [name for name in table.names if name != columns.ds and table.is_numeric(name)]
        return np.zeros(table.num_rows, dtype=np.int8), np.array(numbers, dtype=object)
    return np.zeros(table.num_rows, dtype=np.int8), np.array([columns.y], dtype=object)


def _frequency(
    stamps: Stamps,
    codes: Any,
    names: Any,
    timezone: str | None,
    declared: str | int | None,
    decisions: list[str],
) -> Frequency:
    longest = int(np.bincount(codes).argmax())
    own, counts = np.unique(stamps[codes == longest], return_counts=True)
    repeats = int((counts > 1).sum())
    if repeats:
        decisions.append(
            f"series {str(names[longest])!r} repeats {repeats:,} stamps: set duplicates to first, last, mean"
            " or sum"
        )
    if declared is not None:
        return Frequency.parse(declared)
    found = infer_frequency(own, timezone=timezone)
    if found is not None:
        decisions.append(f"stamps are {found.words}, one season has {found.season_length} steps")
        return found
    missing = weekday_steps(own)
    if missing is not None:
        decisions.append(
            f"stamps are weekdays of which {missing:,} are absent, taken for holidays: freq is trading, which"
            " counts observations"
        )
        return Frequency.parse("trading")
    raise FrequencyError(
        f"the frequency cannot be told from the {len(own):,} stamps of series {str(names[longest])!r};"
        " declare it with --freq (freq=), or put jittering readings on a grid with --grid 5min (grid=)."
    )


def _theirs(columns: Columns, wide: bool) -> dict[str, str]:
    if wide:
        return {"ds": columns.ds}
    named = {"ds": columns.ds, "y": columns.y}
    return {"unique_id": columns.unique_id, **named} if columns.unique_id is not None else named
