"""Which column is what: our names, the names that other libraries use, and names that were declared."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from forecast.errors import ColumnsError
from forecast.series.table import Table

_KNOWN_NAMES = {
    "unique_id": ("unique_id", "item_id", "series_id", "ts_id", "series", "id", "symbol", "ticker"),
    "ds": (
        "ds",
        "timestamp",
        "datetime",
        "date",
        "time",
        "day",
        "week",
        "month",
        "quarter",
        "year",
        "period",
        "step",
    ),
    "y": ("y", "target", "value", "close", "adjclose", "adj_close"),
}


@dataclass(frozen=True, kw_only=True)
class Columns:
    """The columns of a long table; without `unique_id` it is a single series."""

    unique_id: str | None
    ds: str
    y: str
    left_out: tuple[str, ...] = ()
    """Columns that nobody asked for."""


def known_as(role: str, names: Collection[str]) -> str | None:
    """The column that goes by one of the names in use for a role, in their order.

    None where there is none.
    """
    plain = {_plain(name): name for name in reversed(list(names))}
    return next((plain[_plain(known)] for known in _KNOWN_NAMES[role] if _plain(known) in plain), None)


def _plain(name: str) -> str:
    return name.strip().lower().replace(" ", "_").replace("-", "_")


def is_year(name: str) -> bool:
    """Whether a column of whole numbers by this name holds calendar years."""
    return _plain(name) in ("year", "years", "yr")


def listed(names: Sequence[str]) -> str:
    """Columns for a message, cut where there are many."""
    shown = ", ".join(repr(name[:40]) for name in names[:12])
    return f"{shown} and {len(names) - 12:,} more" if len(names) > 12 else shown or "none"


def map_columns(
    table: Table,
    *,
    unique_id: str | None,
    ds: str | None,
    y: str | None,
    others: Sequence[str] = (),
) -> Columns:
    """The columns of a long table: declared ones have to be there, others go by their usual names.

    `others` are columns with another use. Without a column of ids the table is one series, unless a column of
    text is left that might hold them. ColumnsError names what was found and what to declare.
    """
    declared = [name for name in (unique_id, ds, y, *others) if name is not None]
    for name in declared:
        if name not in table.names:
            raise ColumnsError(f"there is no column {name!r}; the table has {listed(table.names)}.")
    _check_distinct(table.names)
    free = [name for name in table.names if name not in declared]
    ds = ds or _needed("ds", free, table)
    free = [name for name in free if name != ds]
    unique_id = unique_id or known_as("unique_id", free)
    free = [name for name in free if name != unique_id]
    y = y or known_as("y", free) or _only_number(free, table)
    left = tuple(name for name in free if name != y)
    if unique_id is None and (texts := [name for name in left if table.is_text(name)]):
        raise ColumnsError(
            f"there is no column unique_id and {listed(texts)} might name the series; declare it with "
            f"unique_id={texts[0]!r} (--columns unique_id={texts[0]}), or leave the column out."
        )
    return Columns(unique_id=unique_id, ds=ds, y=y, left_out=left)


def _check_distinct(names: Sequence[str]) -> None:
    doubled = (
        sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    )
    if doubled:
        raise ColumnsError(f"the column {doubled[0]!r} is there more than once; rename one of them.")


def _needed(role: str, free: Sequence[str], table: Table) -> str:
    found = known_as(role, free)
    if found is None:
        example = free[0] if free else "date"
        raise ColumnsError(
            f"there is no column {role!r}; the table has {listed(table.names)}. Declare which one it is, for"
            f" example {role}={example!r} (--columns {role}={example})."
        )
    return found


def _only_number(free: Sequence[str], table: Table) -> str:
    numbers = [name for name in free if table.is_numeric(name)]
    if len(numbers) == 1:
        return numbers[0]
    raise ColumnsError(
        f"there is no column 'y'; the table has {listed(table.names)}. Declare the values with y=..."
        " (--columns y=NAME), or wide=True where every column is a series (--wide)."
    )
