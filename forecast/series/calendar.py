"""Frequencies: the grid on which the stamps of a series lie.

Stamps are numpy datetime64[us], or int64 for integer time. Where a time zone is known they are UTC, and
frequencies of a day or longer step on the wall clock of the zone, so that a day of 23 or 25 hours is one
step.
"""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from forecast.errors import FrequencyError, OffGridError, TimeZoneError

Stamps = NDArray[Any]
"""datetime64[us], or int64 for integer time."""

_DAY = 86_400_000_000
_FIXED = {"W": 7 * _DAY, "D": _DAY, "h": _DAY // 24, "min": 60_000_000, "s": 1_000_000, "ms": 1_000, "us": 1}
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_WEEKDAYS = ("MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN")
_PERIOD_MONTHS = {"MS": 1, "ME": 1, "BMS": 1, "BME": 1, "QS": 3, "QE": 3, "YS": 12, "YE": 12}
_DEFAULT_ANCHOR = {"W": "SUN", "QS": "JAN", "QE": "DEC", "YS": "JAN", "YE": "DEC"}
_SEASONS = {"B": 5, "trading": 5, "integer": 1}
_OTHER_NAMES = {
    "M": "ME", "BM": "BME", "Q": "QE", "A": "YE", "Y": "YE", "AS": "YS", "H": "h", "T": "min", "S": "s",
    "L": "ms", "U": "us", "d": "D", "w": "W", "mo": "MS", "q": "QS", "y": "YS", "hourly": "h", "daily": "D",
    "weekly": "W", "monthly": "MS", "quarterly": "QS", "yearly": "YS",
}  # fmt: skip
_WORDS = {
    "W": "weekly", "D": "daily", "h": "hourly", "min": "minute", "s": "second", "ms": "millisecond",
    "us": "microsecond", "B": "business-daily", "trading": "trading-day", "integer": "integer-time",
}  # fmt: skip
_PERIOD_WORDS = {1: "monthly", 3: "quarterly", 12: "yearly"}
_SUPPORTED = (
    "MS, ME, BMS, BME, QS, QE, YS, YE, W, D, B, h, min, s, ms, us, a multiple such as 15min, 1 or trading"
)


@dataclass(frozen=True)
class Frequency:
    """A step between neighbouring stamps; make it with `Frequency.parse`."""

    alias: str | int
    """The canonical name: "MS", "15min", "W-SUN", 1, "trading"."""
    unit: str
    """The alias without multiple and anchor."""
    multiple: int
    anchor: int = 0
    """The weekday (0 = Monday) or month (0 = January) to which the unit is tied."""

    @classmethod
    def parse(cls, freq: "str | int | Frequency | Any") -> "Frequency":
        """The frequency of an alias; FrequencyError for what is none.

        Old and other names are understood (M = ME, H = h, T = min, polars' 1mo = MS), anchors and multiples
        kept.
        """
        if isinstance(freq, Frequency):
            return freq
        if isinstance(freq, int | np.integer) and not isinstance(freq, bool):
            return _integer(int(freq))
        text = str(getattr(freq, "freqstr", freq)).strip() if freq is not None else ""
        if re.fullmatch(r"\d{1,18}", text):
            return _integer(int(text))
        if text.lower() == "trading":
            return cls("trading", "trading", 1)
        return _from_text(text)

    @property
    def kind(self) -> str:
        """fixed (equal steps of time), calendar (months, weeks, business days), integer or trading."""
        if self.unit in ("integer", "trading"):
            return self.unit
        return "fixed" if self.unit in _FIXED and self.unit != "W" else "calendar"

    @property
    def is_integer(self) -> bool:
        """Whether stamps are integers."""
        return self.unit == "integer"

    @property
    def is_day_based(self) -> bool:
        """Whether steps are taken on the wall clock of a zone rather than in elapsed time."""
        return self.kind in ("calendar", "trading") or self.unit == "D"

    @property
    def season_length(self) -> int:
        """The usual season in steps: a year of months, a week of days, a day of hours.

        1 where there is none.
        """
        if self.unit in _SEASONS:
            return _SEASONS[self.unit] if self.multiple == 1 else 1
        if self.unit in _PERIOD_MONTHS:
            return _whole(12, _PERIOD_MONTHS[self.unit] * self.multiple)
        if self.unit == "W" or (self.unit == "D" and self.multiple % 7 == 0):
            return _whole(52, self.multiple if self.unit == "W" else self.multiple // 7)
        if self.unit == "D":
            return _whole(7, self.multiple)
        season = {"h": _DAY, "min": _DAY, "s": _FIXED["min"], "ms": _FIXED["s"], "us": _FIXED["ms"]}[
            self.unit
        ]
        return _whole(season, _FIXED[self.unit] * self.multiple)

    @property
    def microseconds(self) -> int:
        """The length of a step of a fixed frequency."""
        return self._stride

    @property
    def words(self) -> str:
        """The frequency for a sentence: "monthly (MS)", "hourly (h)"."""
        word = _WORDS.get(self.unit) or _PERIOD_WORDS[_PERIOD_MONTHS[self.unit]]
        multiple = f"{self.multiple}-" if self.multiple > 1 and not self.is_integer else ""
        return f"{multiple}{word} ({self.alias})"

    def __str__(self) -> str:
        return str(self.alias)

    def is_compatible(self, other: "Frequency") -> bool:
        """Whether both have the same spacing: MS and ME have, W-SUN and W-MON, h and 60min, 24h and D."""
        return self._spacing == other._spacing

    @property
    def _spacing(self) -> tuple[str, int]:
        if self.unit in _PERIOD_MONTHS:
            return ("month", _PERIOD_MONTHS[self.unit] * self.multiple)
        if self.unit in _FIXED:
            return ("us", _FIXED[self.unit] * self.multiple)
        return (self.unit, self.multiple)

    # The grid: every stamp has an index on the base grid of its unit; a step is `_stride` of them.

    @property
    def _stride(self) -> int:
        return self.multiple * _FIXED[self.unit] if self.kind == "fixed" else self.multiple

    def _index(self, local: Stamps) -> NDArray[np.int64]:
        """The last base grid point at or before each wall-clock stamp."""
        if self.kind in ("fixed", "integer"):
            return local.astype(np.int64)
        if self.unit == "W":
            return (local.astype(np.int64) - _week_phase(self.anchor)) // _FIXED["W"]
        if self.unit in ("B", "trading"):
            days = np.busday_offset(local.astype("datetime64[D]"), 0, roll="backward")
            return np.busday_count(np.datetime64("1970-01-01"), days).astype(np.int64)
        months = local.astype("datetime64[M]").astype(np.int64)
        index = (months - self.anchor) // _PERIOD_MONTHS[self.unit]
        return index - (self._place(index) > local)

    def _place(self, index: NDArray[np.int64]) -> Stamps:
        """The wall-clock stamps of base grid points."""
        if self.kind == "integer":
            return index
        if self.kind == "fixed":
            return index.astype("datetime64[us]")
        if self.unit == "W":
            return (index * _FIXED["W"] + _week_phase(self.anchor)).astype("datetime64[us]")
        if self.unit in ("B", "trading"):
            return np.busday_offset(np.datetime64("1970-01-01"), index, roll="forward").astype(
                "datetime64[us]"
            )
        months = index * _PERIOD_MONTHS[self.unit] + self.anchor
        return _month_days(self.unit, months).astype("datetime64[us]")

    def _local(self, stamps: Stamps, timezone: str | None) -> Stamps:
        return to_local(stamps, timezone) if timezone and self.is_day_based else stamps

    def _instants(self, local: Stamps, timezone: str | None) -> Stamps:
        return to_utc(local, timezone) if timezone and self.is_day_based else local

    def advance(self, stamp: Any, steps: Any, *, timezone: str | None = None) -> Any:
        """The stamps `steps` further on (negative: back); shapes broadcast, a scalar gives a scalar.

        For "trading" weekdays are counted; holidays are known to `future` only.
        """
        start = as_stamps(stamp, self)
        index = self._index(self._local(start, timezone)) + np.asarray(steps, dtype=np.int64) * self._stride
        moved = self._instants(self._place(index), timezone)
        return moved[()] if np.ndim(moved) == 0 else moved

    def stamps(self, start: Any, num_steps: int, *, timezone: str | None = None) -> Stamps:
        """(num_steps,) stamps from `start` on."""
        steps: Stamps = self.advance(start, np.arange(num_steps), timezone=timezone)
        return steps

    def positions(self, stamps: Any, *, start: Any = None, timezone: str | None = None) -> NDArray[np.int64]:
        """Steps from `start` (broadcast; default: the first stamp) to each stamp.

        OffGridError names the first beside.

        The grid of a fixed frequency runs through `start`, whatever its minute; that of a calendar frequency
        is the calendar's own. For "trading" this counts weekdays.
        """
        values = as_stamps(stamps, self)
        origin = as_stamps(start, self) if start is not None else values[:1]
        steps, on_grid = self.locate(values, origin, timezone=timezone)
        if not on_grid.all():
            self.refuse(values[~on_grid].reshape(-1)[0], np.broadcast_to(origin, values.shape)[~on_grid][0])
        return steps

    def locate(
        self, stamps: Stamps, start: Stamps, *, timezone: str | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Steps from `start` to each stamp, rounded down, and whether the stamp lies on the grid."""
        if self.kind in ("fixed", "integer") and not (timezone and self.is_day_based):
            distance = stamps.astype(np.int64) - start.astype(np.int64)
            if self._stride == 1:
                return distance, np.ones(distance.shape, dtype=bool)
            steps = distance // self._stride
            return steps, steps * self._stride == distance
        origin = self._index(self._local(start, timezone))
        steps = (self._index(self._local(stamps, timezone)) - origin) // self._stride
        return steps, self._instants(self._place(origin + steps * self._stride), timezone) == stamps

    def floor_steps(self, stamp: Any, start: Stamps, *, timezone: str | None = None) -> NDArray[np.int64]:
        """Steps from each start to the last grid point at or before `stamp`.

        Negative where the start is later.
        """
        instant = as_stamps(stamp, self)
        steps, _ = self.locate(np.broadcast_to(instant, start.shape), start, timezone=timezone)
        ahead = self.advance(start, steps, timezone=timezone) > instant
        return np.asarray(steps - ahead)

    def refuse(self, stamp: Any, start: Any = None, *, series: str = "") -> NoReturn:
        """Raise the OffGridError of a stamp beside the grid."""
        where = f"series {series!r}: " if series else ""
        from_start = (
            f" that starts at {start}" if self.kind in ("fixed", "integer") and start is not None else ""
        )
        raise OffGridError(
            f"{where}the stamp {stamp} lies beside the {self.words} grid{from_start}; correct the stamps,"
            " declare their real freq (--freq), or put them on a grid with grid='5min' (--grid 5min)."
        )

    def future(
        self, last: Any, horizon: int, *, holidays: Iterable[Any] = (), timezone: str | None = None
    ) -> Stamps:
        """The next stamps: (horizon,) after one last stamp, (N, horizon) after (N,).

        "trading" and "B" leave out weekends; "trading" leaves out `holidays` (dates) too and keeps the time
        of day.
        """
        ends = as_stamps(last, self)
        steps = np.arange(1, horizon + 1)
        if self.unit == "trading":
            return _trading_days(ends, horizon, holidays, timezone)
        moved: Stamps = self.advance(ends[..., None], steps, timezone=timezone)
        return moved


def _integer(step: int) -> Frequency:
    if step < 1:
        raise FrequencyError(f"the integer frequency {step} is below 1; use freq=1 for steps 1, 2, 3, ...")
    return Frequency(step, "integer", step)


def _from_text(text: str) -> Frequency:
    match = re.fullmatch(r"(\d{1,9})?\s*([A-Za-z]+?)(?:-([A-Za-z]{3}))?", text)
    unit = _OTHER_NAMES.get(match[2], match[2]) if match else ""
    if not match or (unit not in _FIXED and unit not in _PERIOD_MONTHS and unit != "B"):
        raise FrequencyError(f"the frequency {text[:40]!r} is unknown; use one of {_SUPPORTED}.")
    multiple = int(match[1] or 1)
    if multiple < 1:
        raise FrequencyError(f"the frequency {text!r} has a multiple below 1; use for example 15min.")
    if unit in ("min", "s", "ms"):
        unit, multiple = _largest_unit(unit, multiple)
    anchor = (match[3] or _DEFAULT_ANCHOR.get(unit, "")).upper()
    prefix = str(multiple) if multiple > 1 else ""
    alias = f"{prefix}{unit}-{anchor}" if anchor else f"{prefix}{unit}"
    return Frequency(alias, unit, multiple, _anchor(unit, anchor, text))


def _largest_unit(unit: str, multiple: int) -> tuple[str, int]:
    """60min is h, 90s stays 90s."""
    size = _FIXED[unit] * multiple
    for larger in ("h", "min", "s"):
        if size % _FIXED[larger] == 0:
            return larger, size // _FIXED[larger]
    return unit, multiple


def _anchor(unit: str, anchor: str, text: str) -> int:
    if not anchor:
        return 0
    names = _WEEKDAYS if unit == "W" else _MONTHS if unit in _DEFAULT_ANCHOR else ()
    if anchor not in names:
        raise FrequencyError(
            f"the frequency {text[:40]!r} has the anchor {anchor!r}; weeks take one of"
            f" {', '.join(_WEEKDAYS)}, quarters and years a month such as JAN, other units none."
        )
    return names.index(anchor) % (_PERIOD_MONTHS.get(unit, 7))


def _whole(season: int, step: int) -> int:
    return season // step if step < season and season % step == 0 else 1


def _week_phase(weekday: int) -> int:
    return ((weekday - 3) % 7) * _DAY  # 1970-01-01 was a Thursday


def _month_days(unit: str, months: NDArray[np.int64]) -> NDArray[np.datetime64]:
    if unit.endswith("S"):
        first: NDArray[np.datetime64] = months.astype("datetime64[M]").astype("datetime64[D]")
        return np.busday_offset(first, 0, roll="forward") if unit == "BMS" else first
    last: NDArray[np.datetime64] = ((months + 1).astype("datetime64[M]").astype("datetime64[D]") - 1).astype(
        "datetime64[D]"
    )
    return np.busday_offset(last, 0, roll="backward") if unit == "BME" else last


def _trading_days(ends: Stamps, horizon: int, holidays: Iterable[Any], timezone: str | None) -> Stamps:
    local = to_local(ends, timezone) if timezone else ends
    days = local.astype("datetime64[D]")
    closed = holiday_dates(holidays)
    after = np.busday_offset(days[..., None], 0, roll="backward", holidays=closed)
    moved = np.busday_offset(after, np.arange(1, horizon + 1), holidays=closed)
    instants = moved.astype("datetime64[us]") + (local - days.astype("datetime64[us]"))[..., None]
    return to_utc(instants, timezone) if timezone else instants


def holiday_dates(holidays: Iterable[Any]) -> NDArray[np.datetime64]:
    """Dates, sorted and each once, as datetime64[D]; FrequencyError for one that is no date."""
    try:
        return np.unique(
            np.array([np.datetime64(pd.Timestamp(day), "D") for day in holidays], dtype="datetime64[D]")
        )
    except (ValueError, TypeError) as error:
        raise FrequencyError(f"the holidays hold something that is no date: {error}") from error


def as_stamps(stamps: Any, freq: Frequency) -> Stamps:
    """Stamps as datetime64[us], or int64 for integer time.

    Aware ones become UTC. FrequencyError for the wrong kind.
    """
    if isinstance(stamps, pd.Timestamp | pd.DatetimeIndex | pd.Series):
        stamps = naive_utc(stamps)
    array = np.asarray(stamps)
    if freq.is_integer:
        if array.dtype.kind not in "iu":
            raise FrequencyError(
                f"integer time (freq={freq.alias}) needs integer stamps and got {array.dtype}; "
                "declare the frequency of the dates, for example freq='D'."
            )
        return array.astype(np.int64, copy=False)
    if array.dtype.kind in "iuf":
        raise FrequencyError(
            f"{freq.words} stamps are dates and got numbers; declare freq=1 for integer time."
        )
    if array.dtype.kind != "M":
        try:
            array = naive_utc(pd.to_datetime(pd.Series(array.ravel()))).reshape(array.shape)
        except (ValueError, TypeError) as error:
            raise FrequencyError(f"a stamp cannot be read as a date: {error}") from error
    return array.astype("datetime64[us]", copy=False)


def naive_utc(stamps: Any) -> Stamps:
    """pandas stamps as datetime64[us], in UTC where they have a zone."""
    if isinstance(stamps, pd.Timestamp):
        moment = stamps.tz_convert("UTC").tz_localize(None) if stamps.tz is not None else stamps
        return np.array(moment.to_datetime64()).astype("datetime64[us]")
    index = pd.DatetimeIndex(stamps)
    index = index.tz_convert("UTC").tz_localize(None) if index.tz is not None else index
    return index.to_numpy().astype("datetime64[us]", copy=False)


def check_timezone(timezone: str) -> str:
    """The zone's name, or TimeZoneError where there is no such zone."""
    try:
        pd.Timestamp("2000-01-01", tz=timezone)
    except Exception as error:  # pandas, zoneinfo and dateutil each raise their own
        raise TimeZoneError(
            f"the time zone {timezone!r} is unknown; use a name such as 'Europe/Berlin'."
        ) from error
    return timezone


def to_local(stamps: Stamps, timezone: str) -> Stamps:
    """UTC stamps as wall-clock stamps of a zone."""
    if timezone == "UTC":
        return stamps
    index = pd.DatetimeIndex(np.ravel(stamps)).tz_localize("UTC").tz_convert(timezone).tz_localize(None)
    return index.to_numpy().astype("datetime64[us]", copy=False).reshape(np.shape(stamps))


def to_utc(local: Stamps, timezone: str) -> Stamps:
    """Wall-clock stamps of a zone as UTC.

    An hour that occurs twice is its first, one that is left out its end.
    """
    if timezone == "UTC":
        return local
    index = pd.DatetimeIndex(np.ravel(local))
    first = np.ones(len(index), dtype=bool)
    index = index.tz_localize(timezone, ambiguous=first, nonexistent="shift_forward").tz_convert("UTC")
    return index.tz_localize(None).to_numpy().astype("datetime64[us]", copy=False).reshape(np.shape(local))


def zoned(stamps: Stamps, timezone: str | None) -> Any:
    """UTC stamps as a pandas index in their zone; naive and integer stamps as they are."""
    if stamps.dtype.kind != "M":
        return pd.Index(np.ravel(stamps))
    index = pd.DatetimeIndex(np.ravel(stamps))
    return index.tz_localize("UTC").tz_convert(timezone) if timezone else index


_CANDIDATES = ("MS", "ME", "QS", "YS", "YE", "BMS", "BME", "B")


def infer_frequency(stamps: Any, *, timezone: str | None = None) -> Frequency | None:
    """The frequency of which all stamps (sorted, distinct, 3 or more) are neighbours or gaps.

    None where there is none.

    The shortest step has to occur in at least half of the places, so that irregular readings are not taken
    for a very fine grid.
    """
    array = np.asarray(stamps)
    if len(array) < 3:
        return None
    if array.dtype.kind in "iu":
        steps = np.diff(array.astype(np.int64))
        return _integer(int(np.gcd.reduce(steps))) if steps.min() > 0 else None
    array = array.astype("datetime64[us]")
    local = to_local(array, timezone) if timezone else array
    return _infer_calendar(local) or _infer_daily(array, local, timezone) or _infer_fixed(array, local)


def _infer_calendar(local: Stamps) -> Frequency | None:
    names = [*_CANDIDATES, *(f"QS-{m}" for m in _MONTHS[1:3]), *(f"QE-{m}" for m in _MONTHS[9:])]
    if np.median(np.diff(local).astype(np.int64)) > 8 * _DAY:
        names = sorted(names, key=lambda name: -Frequency.parse(name)._spacing[1])
        names += [f"{p}-{m}" for p in ("YS", "YE") for m in _MONTHS]
        return next(
            (f for name in names if (f := Frequency.parse(name)).kind == "calendar" and _fits(f, local)), None
        )
    business = Frequency.parse("B")
    if not _never_on_weekends(local) or not _fits(business, local):
        return None
    return business if (np.diff(business.positions(local)) == 1).all() else None


def _never_on_weekends(local: Stamps) -> bool:
    """Whether stamps of more than a week leave out every Saturday and Sunday."""
    weekdays = (local.astype("datetime64[D]").astype(np.int64) + 3) % 7
    return bool(local[-1] - local[0] >= np.timedelta64(7, "D") and (weekdays < 5).all())


def weekday_steps(local: Stamps) -> int | None:
    """The weekdays absent between daily stamps that leave out weekends.

    None where the stamps are something else.

    Stamps are taken for trading days when at least nine of ten weekdays are there.
    """
    if len(local) < 6 or local.dtype.kind != "M" or not _never_on_weekends(local):
        return None
    steps = np.diff(np.busday_count(np.datetime64("1970-01-01"), local.astype("datetime64[D]")))
    absent = int(steps.sum()) - len(steps)
    return absent if steps.min() >= 1 and absent <= 0.1 * len(steps) else None


def _infer_fixed(instants: Stamps, local: Stamps) -> Frequency | None:
    day_steps = np.diff(local).astype(np.int64)
    steps = day_steps if day_steps.min() >= _DAY else np.diff(instants).astype(np.int64)
    shortest = int(steps.min())
    if shortest <= 0 or (steps % shortest).any() or (steps == shortest).mean() < 0.5:
        return None
    if shortest == 7 * _DAY and local[0] == local[0].astype("datetime64[D]"):
        weekday = _WEEKDAYS[(int(local[0].astype("datetime64[D]").astype(np.int64)) + 3) % 7]
        return Frequency.parse(f"W-{weekday}")
    if shortest == _DAY and _never_on_weekends(local):
        return None  # trading days: which weekdays are holidays is not for us to say
    if shortest % _DAY == 0:
        return Frequency.parse(f"{shortest // _DAY}D")
    unit = next(name for name in ("h", "min", "s", "ms", "us") if shortest % _FIXED[name] == 0)
    return Frequency.parse(f"{shortest // _FIXED[unit]}{unit}")


def _infer_daily(instants: Stamps, local: Stamps, timezone: str | None) -> Frequency | None:
    """Days of a zone, which may have 23 or 25 hours or start at one o'clock."""
    daily = Frequency.parse("D")
    return daily if _fits(daily, instants, timezone) and not _never_on_weekends(local) else None


def _fits(freq: Frequency, stamps: Stamps, timezone: str | None = None) -> bool:
    steps, on_grid = freq.locate(stamps, stamps[:1], timezone=timezone)
    return bool(on_grid.all() and (np.diff(steps) == 1).mean() >= 0.5 and (np.diff(steps) > 0).all())


FEATURES = ("minute", "hour", "weekday", "day", "month", "yearday")
"""Cycles that `calendar_features` can describe."""


def calendar_features(stamps: Stamps, freq: Frequency, *, timezone: str | None = None) -> NDArray[np.float32]:
    """Where each stamp (B, T) stands in the cycles longer than its step: (B, F, T).

    Each cycle is a sine and a cosine. Integer time has none: F is 0.
    """
    if freq.is_integer:
        return np.zeros((stamps.shape[0], 0, stamps.shape[1]), dtype=np.float32)
    local = to_local(stamps, timezone) if timezone else stamps
    phases = [phase for name, phase in _phases(local).items() if name in feature_names(freq)]
    angles = 2 * math.pi * np.stack(phases, axis=1)  # (B, cycles, T)
    waves = np.stack([np.sin(angles), np.cos(angles)], axis=2)
    return waves.reshape(stamps.shape[0], -1, stamps.shape[1]).astype(np.float32)


def feature_names(freq: Frequency) -> tuple[str, ...]:
    """The cycles that say something at this frequency."""
    if freq.is_integer:
        return ()
    if freq.unit in _PERIOD_MONTHS:
        return ("month",)
    step = _FIXED.get(freq.unit, _DAY) * freq.multiple
    if step > _DAY:
        return ("yearday",)
    daily = ("weekday", "day", "yearday")
    if step == _DAY:
        return daily
    return ("hour", *daily) if step >= _FIXED["h"] else ("minute", "hour", *daily)


def _phases(local: Stamps) -> dict[str, NDArray[np.float64]]:
    """Positions in [0, 1) within each cycle."""
    microseconds = local.astype(np.int64)
    days = local.astype("datetime64[D]")
    months, years = days.astype("datetime64[M]"), days.astype("datetime64[Y]")
    month_length = ((months + 1).astype("datetime64[D]") - months.astype("datetime64[D]")).astype(np.int64)
    return {
        "minute": (microseconds % _FIXED["h"]) / _FIXED["h"],
        "hour": (microseconds % _DAY) / _DAY,
        "weekday": ((days.astype(np.int64) + 3) % 7) / 7,
        "day": (days - months.astype("datetime64[D]")).astype(np.int64) / month_length,
        "month": (months - years.astype("datetime64[M]")).astype(np.int64) / 12,
        "yearday": (days - years.astype("datetime64[D]")).astype(np.int64) / 366,
    }
