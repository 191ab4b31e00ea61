"""ISO 8601 stamps as they stand in JSON: to arrays and back, on the wall clock of the zone they came in."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LARGEST = 2**53
_EPOCH = datetime(1970, 1, 1)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True)
class Stamp:
    """One stamp of a request: microseconds since 1970 on its own wall clock, or an integer step."""

    value: int
    offset: timedelta | None = None
    """Distance of its wall clock from UTC; None when the stamp names no zone."""
    is_integer: bool = False


def read_stamp(value: Any) -> Stamp:
    """A stamp of JSON: an ISO 8601 text (date, or date and time, with or without offset) or an integer.

    ValueError where it is neither.
    """
    if type(value) is int:
        if abs(value) > _LARGEST:
            raise ValueError("the integer is beyond 2**53")
        return Stamp(value, is_integer=True)
    if type(value) is not str:
        raise ValueError("a stamp is an ISO 8601 text such as 2024-01-31T00:00:00, or an integer")
    return _read_text(value)


def _read_text(text: str) -> Stamp:
    try:
        moment = datetime.fromisoformat(text) if len(text) <= 40 else None
    except ValueError:
        moment = None
    if moment is None:
        raise ValueError(
            "the stamp is not ISO 8601; send for example 2024-01-31 or 2024-01-31T00:00:00+02:00"
        )
    offset = moment.utcoffset()
    return Stamp((moment.replace(tzinfo=None) - _EPOCH) // _MICROSECOND, offset)


def to_array(stamps: Sequence[Stamp]) -> NDArray[Any]:
    """datetime64[us] on the wall clock, or int64 for integer stamps."""
    values = np.array([stamp.value for stamp in stamps], dtype=np.int64)
    return values if stamps[0].is_integer else values.astype("datetime64[us]")


def zone_name(offset: timedelta | None) -> str | None:
    """A fixed offset as the name of a zone: "UTC", "+02:00"; None for no zone."""
    if offset is None:
        return None
    return _suffix(offset) if offset else "UTC"


def write_stamps(stamps: NDArray[Any], offset: timedelta | None) -> list[Any]:
    """Stamps (..., H), UTC where there is an offset, as lists: texts on the wall clock, or integers."""
    if stamps.dtype.kind != "M":
        integers: list[Any] = stamps.tolist()
        return integers
    local = stamps.astype("datetime64[us]")
    if offset:
        local = local + np.timedelta64(offset)
    whole = not (local.astype(np.int64) % 1_000_000).any()
    texts = np.datetime_as_string(local, unit="s" if whole else "us")
    if offset is not None:
        texts = np.char.add(texts, _suffix(offset))
    written: list[Any] = texts.tolist()
    return written


def _suffix(offset: timedelta) -> str:
    """+02:00, as ISO 8601 writes it."""
    return datetime(2000, 1, 1, tzinfo=UTC).astimezone(timezone(offset)).isoformat()[19:]
