"""Data is looked at before a model is made of it: against the clock, and against the data of last time."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from forecast.errors import CheckError
from forecast.series.report import name_series
from pipelines.check_sections import Check, ChecksSection, Shift
from pipelines.sections import duration_seconds

if TYPE_CHECKING:
    from forecast.series.panel import Panel

TABLE = "profile.parquet"
"""The file of a retrain's run that keeps what its data looked like."""

MAX_SERIES = 20_000
"""Series whose values are looked at, about; all are counted."""

RECENT_SEASONS = 2
"""New values are compared with so many seasons before them."""


@dataclass(frozen=True, kw_only=True)
class Profile:
    """What data looked like: one row per series."""

    table: pd.DataFrame
    """unique_id, steps, observed, level, spread, recent, last (in microseconds since 1970, or steps)."""

    @property
    def num_values(self) -> int:
        """Observed values in all."""
        return int(self.table["observed"].sum())

    @property
    def missing_share(self) -> float:
        """Of all steps."""
        steps = int(self.table["steps"].sum())
        return 1.0 - self.num_values / steps if steps else 0.0

    @property
    def last(self) -> int:
        """Where the data ends."""
        return int(self.table["last"].max())


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A check that was not passed."""

    check: str
    action: str
    message: str


def profile(panel: "Panel") -> Profile:
    """What the series look like; medians, so that a few odd values move nothing."""
    ids = panel.unique_ids.astype(str)
    levels = np.full((len(panel), 3), np.nan)
    for series in _looked_at(ids):
        levels[series] = _of_series(panel, series)
    columns = {
        "unique_id": ids,
        "steps": panel.lengths,
        "observed": panel.num_observed(),
        "last": np.asarray(panel.last_stamps()).astype(np.int64),
        **{name: levels[:, place] for place, name in enumerate(("level", "spread", "recent"))},
    }
    return Profile(table=pd.DataFrame(columns))


def _looked_at(ids: NDArray[Any]) -> list[int]:
    """The series whose values are looked at: all, or about `MAX_SERIES`, chosen by name and thus again."""
    every = -(-len(ids) // MAX_SERIES)
    return [place for place, name in enumerate(ids) if every == 1 or crc32(name.encode()) % every == 0]


def fresh(panel: "Panel", checks: ChecksSection, *, now: datetime | None = None) -> list[Problem]:
    """The check against the clock; data that counts its steps has none."""
    check = checks.freshness
    if check.max_age is None or panel.freq.is_integer:
        return []
    last = pd.Timestamp(panel.last_stamps().max()).tz_localize("UTC")
    age = pd.Timestamp(now or datetime.now(UTC)) - last
    if age.total_seconds() <= duration_seconds(check.max_age):
        return []
    message = f"the newest stamp {_text(last)} is {_words(age)} old, and max_age is {check.max_age}"
    return _problems(check, "freshness", [message])


def compared(panel: "Panel", now: Profile, then: Profile, checks: ChecksSection) -> list[Problem]:
    """The checks against the data of last time."""
    return [
        *_problems(checks.backwards, "backwards", _backwards(panel, now, then, checks)),
        *_problems(checks.rows, "rows", _rows(now, then, checks)),
        *_problems(checks.vanished, "vanished", _vanished(now, then, checks)),
        *_problems(checks.new, "new", _new(now, then, checks)),
        *_problems(checks.missing, "missing", _missing(now, then, checks)),
        *_problems(checks.shift, "shift", _shift(panel, now, then, checks)),
    ]


def ended(unfinished: Sequence[Path], checks: ChecksSection) -> list[Problem]:
    """The check for a last line that is half written, where last time's was whole."""
    message = f"the last line of {unfinished[0].name} has no end, as it had last time: is it still written?"
    return _problems(checks.unfinished, "unfinished", [message])


def raise_failed(problems: Sequence[Problem]) -> None:
    """CheckError with everything that is to stop a retrain."""
    failed = [each for each in problems if each.action == "fail"]
    if failed:
        told = "; ".join(f"[{each.check}] {each.message}" for each in failed)
        raise CheckError(
            f"the data is not fit to train on: {told}. Correct the data, or, where it is right, relax "
            f'`{failed[0].check} = "warn"` under [checks], or run once with --skip-checks'
        )


def _of_series(panel: "Panel", series: int) -> tuple[float, float, float]:
    values = panel.y(series)
    known = values[~np.isnan(values)]
    if not len(known):
        return float("nan"), float("nan"), float("nan")
    recent = known[-RECENT_SEASONS * panel.season_length :]
    return float(np.median(known)), _spread(known), float(np.median(recent))


def _spread(values: NDArray[np.float64]) -> float:
    """Half the distance of the quartiles; of nearly constant values, their deviation."""
    low, high = np.quantile(values, [0.25, 0.75])
    return float((high - low) / 2) or float(values.std())


def _problems(check: Check, name: str, messages: Iterable[str]) -> list[Problem]:
    if check.action == "off":
        return []
    return [Problem(check=name, action=check.action, message=message) for message in messages]


def _backwards(panel: "Panel", now: Profile, then: Profile, checks: ChecksSection) -> Iterator[str]:
    if now.last < then.last:
        stamps = [_stamp(panel, each) for each in (now.last, then.last)]
        yield f"the data ends at {stamps[0]}, and last time it ended at {stamps[1]}"
        return
    both = now.table.merge(then.table, on="unique_id", suffixes=("", "_then"))
    short = both[both["last"] < both["last_then"]]
    if len(short) > checks.backwards.max_share * len(both):
        first = short.iloc[0]
        ends = [_stamp(panel, int(first[name])) for name in ("last", "last_then")]
        yield (
            f"{len(short):,} of {len(both):,} series end before they ended last time "
            f"({first['unique_id']!r} at {ends[0]}, then at {ends[1]}), and max_share is "
            f"{checks.backwards.max_share:g}"
        )


def _rows(now: Profile, then: Profile, checks: ChecksSection) -> Iterator[str]:
    check, share = checks.rows, now.num_values / max(then.num_values, 1)
    told = f"{now.num_values:,} values against {then.num_values:,} of last time"
    if share < check.min_share:
        yield f"{told}, and min_share is {check.min_share:g}"
    if check.max_share is not None and share > check.max_share:
        yield f"{told}, and max_share is {check.max_share:g}"


def _vanished(now: Profile, then: Profile, checks: ChecksSection) -> Iterator[str]:
    gone = then.table.loc[~then.table["unique_id"].isin(now.table["unique_id"]), "unique_id"]
    share = len(gone) / max(len(then.table), 1)
    if share > checks.vanished.max_share:
        told = f"{len(gone):,} of {len(then.table):,} series of last time are gone ({name_series(gone)})"
        yield f"{told}, and max_share is {checks.vanished.max_share:g}"


def _new(now: Profile, then: Profile, checks: ChecksSection) -> Iterator[str]:
    come = now.table.loc[~now.table["unique_id"].isin(then.table["unique_id"]), "unique_id"]
    share = len(come) / max(len(then.table), 1)
    if share > checks.new.max_share:
        told = f"{len(come):,} series are new beside {len(then.table):,} of last time ({name_series(come)})"
        yield f"{told}, and max_share is {checks.new.max_share:g}"


def _missing(now: Profile, then: Profile, checks: ChecksSection) -> Iterator[str]:
    check, share, before = checks.missing, now.missing_share, then.missing_share
    told = f"{share:.0%} of the steps are missing"
    if check.max_share is not None and share > check.max_share:
        yield f"{told}, and max_share is {check.max_share:g}"
    elif share - before > check.max_rise:
        yield f"{told} against {before:.0%} of last time, and max_rise is {check.max_rise:g}"


def _shift(panel: "Panel", now: Profile, then: Profile, checks: ChecksSection) -> Iterator[str]:
    """Whole histories are compared with those of last time, and new values with those just before them."""
    limits = checks.shift
    places = {name: place for place, name in enumerate(now.table["unique_id"])}
    both = now.table.merge(then.table, on="unique_id", suffixes=("", "_then"))
    both = both[(both["spread_then"] > 0) & both["level"].notna()]
    moved: list[str] = []
    for row in both.to_dict("records"):
        new = _newer(panel, places[row["unique_id"]], row["last_then"])
        if told := _moved(row, new, limits):
            moved.append(f"{row['unique_id']!r}: {told}")
    if moved and len(moved) / len(both) > limits.max_share:
        yield (
            f"{len(moved):,} of {len(both):,} series have another level or scale than last time "
            f"({moved[0]}), and max_share is {limits.max_share:g}"
        )


def _moved(row: Mapping[Any, Any], new: NDArray[np.float64], limits: Shift) -> str:
    """How a series moved, in words; empty where it did not."""
    unit = row["spread_then"]
    if len(new):
        level, before = float(np.median(new)), row["recent_then"]
        if abs(level - before) / unit > limits.max_shift:
            return f"about {level:.4g} after about {before:.4g}"
    if abs(row["level"] - row["level_then"]) / unit > limits.max_shift:
        return f"about {row['level']:.4g}, and about {row['level_then']:.4g} last time"
    if not 1 / limits.max_ratio <= row["spread"] / unit <= limits.max_ratio:
        return f"a spread of {row['spread']:.4g}, and of {unit:.4g} last time"
    return ""


def _newer(panel: "Panel", series: int, last: int) -> NDArray[np.float64]:
    """The observed values of a series after last time's end."""
    stamps = np.asarray(panel.ds(series)).astype(np.int64)
    values = panel.y(series)[stamps > last]
    return values[~np.isnan(values)]


def _stamp(panel: "Panel", value: int) -> str:
    return str(value) if panel.freq.is_integer else _text(pd.Timestamp(value, unit="us"))


def _text(stamp: pd.Timestamp) -> str:
    return stamp.strftime("%Y-%m-%d %H:%M:%S").removesuffix(" 00:00:00")


def _words(age: pd.Timedelta) -> str:
    hours = age.total_seconds() / 3600
    return f"{hours / 24:.1f} days" if hours >= 48 else f"{hours:.1f} hours"
