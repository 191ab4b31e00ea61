"""Reading stamps.

Dates, date-times and integers in whatever form they come, to datetime64[us] in UTC or int64.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NoReturn

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from forecast.errors import ColumnsError, DataError, TimeZoneError
from forecast.series.calendar import Stamps, check_timezone, naive_utc

_OFFSET = r"[T ]\d{2}.*?(?P<offset>[Zz]|[+-]\d{2}:?\d{2}|[+-]\d{2})$"
_FIRST_YEAR, _LAST_YEAR = np.datetime64("1000-01-01", "us"), np.datetime64("3000-01-01", "us")


@dataclass(frozen=True, kw_only=True, eq=False)
class ReadStamps:
    """Stamps as read, and the zone in which they came."""

    stamps: Stamps
    """(R,) datetime64[us], in UTC where `timezone` is known; or int64."""
    timezone: str | None
    twice: NDArray[np.bool_] | None = None
    """(R,) wall-clock stamps of the hour that a zone repeats in autumn, read as its first turn.

    None where none is.
    """
    second: Stamps | None = None
    """(R,) the same stamps read as the second turn."""


def read_stamps(
    column: Any, *, timezone: str | None = None, date_format: str | None = None, what: str = "ds"
) -> ReadStamps:
    """Read a column of stamps (list, numpy, pandas or Arrow).

    Stamps with a zone or an offset become UTC and keep it; naive ones are wall-clock stamps of `timezone`
    where that is given. DataError names what cannot be read, TimeZoneError mixed zones; `what` names the
    column in messages.
    """
    if timezone is not None:
        check_timezone(timezone)
    if isinstance(column, np.ndarray) and column.dtype.kind == "M" and timezone is None:
        return ReadStamps(stamps=_checked(_present(column, what), what), timezone=None)
    series = _as_series(column, what)
    _check_present(series, what)
    kind = getattr(series.dtype, "kind", "O")
    if kind in "iu":
        return ReadStamps(stamps=series.to_numpy().astype(np.int64, copy=False), timezone=None)
    if kind in "fb":
        return ReadStamps(stamps=_whole_numbers(series, what), timezone=None)
    if kind != "M" and not isinstance(series.dtype, pd.DatetimeTZDtype):
        return _from_text(series, timezone, date_format, what)
    index = pd.DatetimeIndex(series)
    zone = timezone or (_zone_name(index.tz) if index.tz is not None else None)
    if index.tz is None and timezone:
        return _localised(index, timezone)
    return ReadStamps(stamps=_checked(naive_utc(index), what), timezone=zone)


def _as_series(column: Any, what: str) -> pd.Series:
    if isinstance(column, pa.Array | pa.ChunkedArray):
        return _from_arrow(column)
    if isinstance(column, pd.Series | pd.Index):
        series = pd.Series(column)
        if isinstance(series.dtype, pd.CategoricalDtype):
            series = series.astype(series.cat.categories.dtype)
        if isinstance(series.dtype, pd.PeriodDtype):
            stamps: pd.Series = series.dt.to_timestamp()
            return stamps
        return (
            _from_arrow(pa.array(series)) if isinstance(series.dtype, pd.ArrowDtype) else _plain(series, what)
        )
    array = np.asarray(column)
    if (
        array.dtype.kind in "US"
        and not isinstance(column, np.ndarray)
        and not all(isinstance(v, str) for v in column)
    ):
        array = np.array(column, dtype=object)
    return pd.Series(array) if array.dtype.kind != "O" else _plain(pd.Series(array, dtype=object), what)


def _plain(series: pd.Series, what: str) -> pd.Series:
    """Nullable integers and objects as the simplest type that holds them."""
    if pd.api.types.is_extension_array_dtype(series.dtype) and pd.api.types.is_integer_dtype(series.dtype):
        _check_present(series, what)
        return series.astype("int64")
    if series.dtype != object:
        return series
    kinds = set(map(type, series))
    if kinds and all(issubclass(kind, datetime) for kind in kinds):
        zones = {str(stamp.tzinfo) for stamp in series}
        return pd.Series(pd.DatetimeIndex(series)) if len(zones) == 1 and zones != {"None"} else series
    if kinds <= {int, np.int64, np.int32}:
        try:
            return series.astype("int64")
        except OverflowError as error:
            raise DataError(f"a stamp in {what!r} is too large an integer.") from error
    return series


def _from_arrow(column: Any) -> pd.Series:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        zone = getattr(column.type, "tz", None)
        numpy = (
            column.cast(pa.timestamp("us", zone)).to_numpy(zero_copy_only=False)
            if isinstance(column, pa.Array)
            else column.cast(pa.timestamp("us", zone)).to_numpy()
        )
        series = pd.Series(numpy.astype("datetime64[us]", copy=False))
        return series.dt.tz_localize("UTC").dt.tz_convert(zone) if zone else series
    if pa.types.is_integer(column.type) and not column.null_count:
        return pd.Series(column.to_numpy())
    return pd.Series(column.to_pandas())


def _check_present(series: pd.Series, what: str) -> None:
    missing = series.isna().to_numpy()
    if missing.any():
        _refuse_missing(missing, what)


def _present(stamps: Stamps, what: str) -> Stamps:
    """Stamps as datetime64[us], none of them missing."""
    missing = np.isnat(stamps)
    if missing.any():
        _refuse_missing(missing, what)
    return stamps.astype("datetime64[us]", copy=False)


def _refuse_missing(missing: NDArray[np.bool_], what: str) -> NoReturn:
    raise DataError(
        f"the stamp in {what!r} is missing in {missing.sum():,} rows, first in row"
        f" {int(missing.argmax()) + 1}; remove or fill them."
    )


def _whole_numbers(series: pd.Series, what: str) -> NDArray[np.int64]:
    numbers = series.to_numpy()
    if numbers.dtype.kind == "f" and (np.mod(numbers, 1) == 0).all() and (np.abs(numbers) < 2**53).all():
        return np.asarray(numbers.astype(np.int64))
    raise ColumnsError(f"the column {what!r} holds {numbers.dtype}, not stamps; send dates or whole numbers.")


def _from_text(series: pd.Series, timezone: str | None, date_format: str | None, what: str) -> ReadStamps:
    quick = None if date_format else _from_iso(series, timezone, what)
    return quick or _from_any_text(series, timezone, date_format, what)


def _from_iso(series: pd.Series, timezone: str | None, what: str) -> ReadStamps | None:
    """ISO 8601 without a zone, read by Arrow; None where it is something else."""
    try:
        texts = pa.array(series, type=pa.string(), from_pandas=True)
        if (
            not len(texts) or pc.max(pc.utf8_length(texts)).as_py() < 10
        ):  # years, months and numbers are looked at more closely
            return None
        stamps = (
            texts.cast(pa.timestamp("us")).to_numpy(zero_copy_only=False).astype("datetime64[us]", copy=False)
        )
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return None
    if timezone:
        return _localised(pd.DatetimeIndex(stamps), timezone)
    return ReadStamps(stamps=_checked(stamps, what), timezone=None)


def _from_any_text(series: pd.Series, timezone: str | None, date_format: str | None, what: str) -> ReadStamps:
    texts = series.astype(object)
    if not all(isinstance(text, str) for text in texts):
        texts = texts.map(lambda value: value if isinstance(value, str) else _iso(value, what))
    texts = texts.str.strip()
    if (
        date_format is None and texts.str.fullmatch(r"[+-]?\d{1,3}|[+-]?0*\d{5}|[+-]?\d{7}").all()
    ):  # not 4, 6 or 8 digits: those are dates
        return ReadStamps(stamps=texts.astype("int64").to_numpy(), timezone=None)
    offset = _one_offset(texts, timezone, what)
    form = date_format or "ISO8601"
    try:
        parsed = pd.to_datetime(texts, format=form, errors="coerce", utc=offset is not None)
    except ValueError as error:  # of the format itself
        raise DataError(
            f"date_format={date_format!r} cannot be used ({error}); write it like %d.%m.%Y."
        ) from error
    bad = parsed.isna().to_numpy()
    if bad.any():
        first = texts.iloc[int(np.flatnonzero(bad)[0])]
        raise DataError(
            f"the stamp {first[:40]!r} in {what!r} cannot be"
            f" read{f' as {date_format}' if date_format else ''}; write stamps as 2026-06-30 or"
            " 2026-06-30T12:00:00."
        )
    if offset is None and timezone:
        return _localised(pd.DatetimeIndex(parsed), timezone)
    return ReadStamps(stamps=_checked(naive_utc(parsed), what), timezone=timezone or offset)


def _iso(value: Any, what: str) -> str:
    if not hasattr(value, "isoformat"):
        raise DataError(
            f"the stamp {str(value)[:40]!r} in {what!r} is no date; write it as 2026-06-30T12:00:00."
        )
    return str(value.isoformat())


def _one_offset(texts: pd.Series, timezone: str | None, what: str) -> str | None:
    """The offset that all stamps carry; None where none does."""
    found = pc.extract_regex(pa.array(texts, type=pa.string()), _OFFSET)
    offsets = pc.unique(pc.struct_field(found, "offset")).to_pylist()
    present = {_offset_name(offset) for offset in offsets if offset}
    if len(offsets) > 1 and None in offsets:
        raise TimeZoneError(
            f"some stamps in {what!r} have a zone and others have none; send all of them alike."
        )
    if len(present) > 1 and timezone is None:
        raise TimeZoneError(
            f"the stamps in {what!r} have mixed zones ({', '.join(sorted(present)[:5])}); send all of them in"
            " UTC, or name the zone in which they belong together with --timezone Europe/Berlin (timezone=)."
        )
    return next(iter(present), None) if len(present) <= 1 else "UTC"


def _offset_name(offset: str) -> str:
    digits = re.sub(r"\D", "", offset).ljust(4, "0")
    return "UTC" if digits == "0000" else f"{offset[0]}{digits[:2]}:{digits[2:]}"


def _zone_name(zone: Any) -> str:
    name = str(zone)
    return {"UTC+00:00": "UTC", "+00:00": "UTC"}.get(name, name.removeprefix("UTC") if "+" in name else name)


def _localised(index: pd.DatetimeIndex, timezone: str) -> ReadStamps:
    """Wall-clock stamps of a zone as UTC; a stamp in the hour left out in spring is an error."""
    turns = []
    for turn in (True, False):
        try:
            moved = index.tz_localize(timezone, ambiguous=np.full(len(index), turn), nonexistent="raise")
        except Exception as error:  # pandas raises the error of its zone library
            raise TimeZoneError(
                f"a stamp does not exist in {timezone}, which leaves an hour out in spring ({error}); correct"
                " it, or send UTC."
            ) from error
        turns.append(naive_utc(moved))
    twice = turns[0] != turns[1]
    if not twice.any():
        return ReadStamps(stamps=turns[0], timezone=timezone)
    return ReadStamps(stamps=turns[0], timezone=timezone, twice=twice, second=turns[1])


def _checked(stamps: Stamps, what: str) -> Stamps:
    if len(stamps) and not _FIRST_YEAR <= stamps.min() <= stamps.max() < _LAST_YEAR:
        first = stamps[np.flatnonzero((stamps < _FIRST_YEAR) | (stamps >= _LAST_YEAR))[0]]
        raise DataError(f"the stamp {first} in {what!r} lies outside the years 1000 to 2999; correct it.")
    return stamps


def second_turns(read: ReadStamps, series_at: Callable[[NDArray[np.int64]], NDArray[Any]]) -> Stamps:
    """Stamps (R,) in which one that a series gives twice in an autumn hour is two instants."""
    if read.twice is None or read.second is None:
        return read.stamps
    places = np.flatnonzero(read.twice)
    again = pd.DataFrame({"series": series_at(places), "stamp": read.stamps[places]}).duplicated().to_numpy()
    stamps = read.stamps.copy()
    stamps[places[again]] = read.second[places[again]]
    return stamps
