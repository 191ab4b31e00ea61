"""In which order day, month and year are written.

Found from all stamps of a column, refused where ambiguous.
"""

import re
from dataclasses import dataclass
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from forecast.errors import DataError

_DAY_MONTH = r"^(?P<first>\d{1,2})(?P<separator>[/.\-])(?P<second>\d{1,2})[/.\-](?P<year>\d{4}|\d{2})(?:[T ,]+(?P<time>\d.*))?$"  # noqa: E501
_YEAR_FIRST = r"^(?P<year>\d{4})(?P<separator>[/.\-])\d{1,2}(?P<day>[/.\-]\d{1,2})?(?:[T ](?P<time>\d.*))?$"
_TIMES = (
    "%H:%M",
    "%H:%M:%S",
    "%H:%M:%S.%f",
    "%I:%M %p",
    "%I:%M:%S %p",
    "%H:%M%z",
    "%H:%M:%S%z",
    "%H:%M:%S.%f%z",
)
_NAMED = (
    "%b-%y", "%b-%Y", "%b %y", "%b %Y", "%B %Y", "%y-%b", "%Y-%b", "%Y %b", "%Y %B",
    "%d-%b-%Y", "%d-%b-%y", "%d %b %Y", "%d %B %Y", "%d. %B %Y", "%b %d, %Y", "%B %d, %Y", "%b %d %Y",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class DateOrder:
    """How the stamps of a column are written."""

    format: str | None
    """For `strptime`; None for ISO 8601."""
    dayfirst: bool | None = None
    """Whether the day stands before the month; None where the year comes first or months have names."""
    decision: str
    """What was decided and why, for people."""


def date_order(texts: Any, *, dayfirst: bool | None = None, what: str = "ds") -> DateOrder:
    """How dates are written, from all texts of a column (Arrow strings).

    DataError where day and month cannot be told apart, naming what settles it, and where the order changes
    within the column.
    """
    texts = pc.utf8_trim_whitespace(pc.drop_null(texts))
    if not len(texts):
        raise DataError(f"the column {what!r} holds no stamps.")
    parts = pc.extract_regex(texts, _DAY_MONTH)
    if parts.null_count == 0:
        return _numbers(texts, parts, dayfirst, what)
    parts = pc.extract_regex(texts, _YEAR_FIRST)
    if parts.null_count == 0:
        return _year_first(texts, parts)
    first = str(texts[0])
    if re.fullmatch(r"\d{8}", first) and pc.all(pc.match_substring_regex(texts, r"^\d{8}$")).as_py():
        return DateOrder(format="%Y%m%d", decision=f"dates in {what!r} are written as 20260630")
    if re.fullmatch(r"\d{1,2}/\d{4}", first):
        return DateOrder(format="%m/%Y", decision=f"dates in {what!r} are months written as 06/2026")
    named = next((pattern for pattern in _NAMED if _fits(first, pattern)), None)
    if named:
        return DateOrder(
            format=named, decision=f"dates in {what!r} are written with the month's name: {named}"
        )
    return DateOrder(format=None, decision=f"dates in {what!r} are ISO 8601")


def _numbers(texts: Any, parts: Any, dayfirst: bool | None, what: str) -> DateOrder:
    first, second = (
        pc.max(pc.struct_field(parts, name).cast(pa.int8())).as_py() for name in ("first", "second")
    )
    separator = str(pc.struct_field(parts, "separator")[0])
    if first > 12 and second > 12:
        raise DataError(
            f"the dates in {what!r} change their order: the first number goes up to {first}, the second to"
            f" {second}; write all of them as 2026-06-30."
        )
    found, why = _which_first(first, second, separator)
    wrong = second if dayfirst else first
    if dayfirst is not None and wrong > 12:
        raise DataError(
            f"the dates in {what!r} were declared {'day' if dayfirst else 'month'}-first and hold {wrong}"
            f" where the month would be; declare dayfirst={not dayfirst}"
            f" ({'--month-first' if dayfirst else '--day-first'})."
        )
    decided = found if dayfirst is None else dayfirst
    if decided is None:
        raise DataError(
            f"the dates in {what!r}, such as {str(texts[0])[:20]}, can be read day-first or month-first; say"
            " which with --day-first or --month-first on the command line, dayfirst=True or False in Python."
        )
    year = "%Y" if len(str(pc.struct_field(parts, "year")[0])) == 4 else "%y"
    order = ("%d", "%m") if decided else ("%m", "%d")
    pattern = separator.join((*order, year)) + _time(texts)
    words = "day-first" if decided else "month-first"
    reason = "as declared" if dayfirst is not None else why
    return DateOrder(
        format=pattern, dayfirst=decided, decision=f"dates in {what!r} are {words} ({pattern}): {reason}"
    )


def _which_first(first: int, second: int, separator: str) -> tuple[bool | None, str]:
    if first > 12:
        return True, f"the first number goes up to {first}"
    if second > 12:
        return False, f"the second number goes up to {second}"
    if separator == ".":
        return True, "dates with points are written day-first"
    return None, ""


def _year_first(texts: Any, parts: Any) -> DateOrder:
    separator = str(pc.struct_field(parts, "separator")[0])
    has_day = bool(pc.struct_field(parts, "day")[0].as_py())
    first = str(texts[0])
    if separator == "-" and (not has_day or re.match(r"\d{4}-\d\d-\d\d", first)):
        return DateOrder(format=None, decision="dates are ISO 8601, year first")
    pattern = separator.join(("%Y", "%m", "%d") if has_day else ("%Y", "%m")) + _time(texts)
    return DateOrder(format=pattern, decision=f"dates are written year first ({pattern})")


def _time(texts: Any) -> str:
    """The pattern of what follows the date, from the first text."""
    found = re.match(r"^[\d/.\-]+([T ,]+)(\d.*)$", str(texts[0]))
    if not found:
        return ""
    pattern = next((pattern for pattern in _TIMES if _fits(found[2], pattern)), None)
    if pattern is None:
        raise DataError(f"the time in {str(texts[0])[:40]!r} cannot be read; write it as 12:00 or 12:00:00.")
    return found[1] + pattern


def _fits(text: str, pattern: str) -> bool:
    return bool(pd.notna(pd.to_datetime(text, format=pattern, errors="coerce")))
