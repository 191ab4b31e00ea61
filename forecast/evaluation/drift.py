"""Has the world moved? What came since the training against what came before, by groups in time.

Series of one panel move together and neighbouring steps do too, so that values are no independent evidence.
They are averaged over series and over stretches of time, and the stretches are compared.
"""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats  # type: ignore[import-untyped]  # publishes no types

from forecast.evaluation.metrics import countable
from forecast.series.calendar import naive_utc
from forecast.series.panel import Panel

LEAST_SPREAD = 0.05
"""Groups are never taken to be more alike than this (a twentieth, in logarithms)."""

LEAST_STAMPS = 3
"""Fewer new stamps than this say nothing."""

LARGEST = 50.0
"""Changes are counted up to so many times the usual one: one odd value is no new world."""

MOST_VALUES = 4_000_000
"""Values that are looked at; of a larger panel some series are."""


@dataclass(frozen=True, kw_only=True)
class Drift:
    """One comparison of what is new with what was before."""

    kind: str
    """error, level or spread."""
    p_value: float | None
    """How likely such a difference is where nothing has changed; None: too little to say."""
    size: float | None
    """error, spread: new over old; level: the change in units of the usual seasonal change."""
    num_reference: int
    """Groups before."""
    num_live: int
    """Groups since."""
    found: bool

    def to_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        return {
            "kind": self.kind,
            "found": self.found,
            "p_value": self.p_value,
            "size": self.size,
            "num_reference": self.num_reference,
            "num_live": self.num_live,
        }


def two_sample(reference: NDArray[np.float64], live: NDArray[np.float64]) -> float | None:
    """The one-sided p-value that the mean of `live` is not above that of `reference`; None for too few.

    Source: Student, "The probable error of a mean", Biometrika 1908, for two samples of equal variance; it
    takes one live group, and two before.
    """
    degrees = len(reference) + len(live) - 2
    if len(reference) < 2 or not len(live) or degrees < 1:
        return None
    squares = np.square(reference - reference.mean()).sum() + np.square(live - live.mean()).sum()
    spread = max(math.sqrt(squares / degrees), LEAST_SPREAD)
    error = spread * math.sqrt(1 / len(reference) + 1 / len(live))
    return float(stats.t.sf((live.mean() - reference.mean()) / error, degrees))


def farthest(reference: NDArray[np.float64], live: NDArray[np.float64]) -> tuple[float, float] | None:
    """The two-sided p-value of the oddest live group, and its distance from the mean; None for too few.

    Whether one more value is of the same normal sample (Student's prediction interval), times the number of
    live groups (Bonferroni).
    """
    if len(reference) < LEAST_STAMPS or not len(live):
        return None
    spread = max(float(reference.std(ddof=1)), LEAST_SPREAD) * math.sqrt(1 + 1 / len(reference))
    distance = live - reference.mean()
    oddest = float(distance[np.argmax(np.abs(distance))])
    p_value = 2 * stats.t.sf(abs(oddest) / spread, len(reference) - 1) * len(live)
    return min(float(p_value), 1.0), oddest


def error_drift(
    reference: pd.DataFrame, live: pd.DataFrame, *, horizon: int, alpha: float, least_ratio: float
) -> Drift:
    """Whether forecasts have become worse than they were in the backtest.

    reference, live: forecast frames (see `metrics`). An error counts in units of its series' seasonal change
    and of the usual error so many steps ahead, so that other series and other horizons compare. Groups are
    stretches of `horizon` cutoffs; their logarithms are compared by `two_sample`.
    """
    before, since = countable(reference), countable(live)
    since = since[since["step"] <= horizon]
    if not len(before) or not len(since):
        return _untold("error", 0, 0)
    scales = _scales(before, since)
    profile = _errors(before, scales).groupby(before["step"]).mean().reindex(range(1, horizon + 1))
    profile = profile.interpolate(limit_direction="both").clip(lower=1e-9)
    old = _group_errors(before, scales, profile, horizon)
    new = _group_errors(since, scales, profile, horizon)
    if not len(old) or not len(new):
        return _untold("error", len(old), len(new))
    p_value = two_sample(np.log(old), np.log(new))
    ratio = float(np.exp(np.log(new).mean() - np.log(old).mean()))
    found = p_value is not None and p_value < alpha and ratio >= least_ratio
    return Drift(
        kind="error", p_value=p_value, size=ratio, num_reference=len(old), num_live=len(new), found=found
    )


def _untold(kind: str, num_reference: int, num_live: int) -> Drift:
    """Too little to say."""
    return Drift(
        kind=kind, p_value=None, size=None, num_reference=num_reference, num_live=num_live, found=False
    )


def _scales(before: pd.DataFrame, since: pd.DataFrame) -> pd.Series:
    """The yardstick of each series: its seasonal change, or its level where it has none."""
    rows = pd.concat([before, since])
    scale = rows["mase_scale"].where(rows["mase_scale"] > 0).groupby(rows["unique_id"]).first()
    level = before["y"].abs().groupby(before["unique_id"]).mean()
    level = level.reindex(scale.index).fillna(rows["y"].abs().groupby(rows["unique_id"]).mean())
    return scale.fillna(level).where(lambda values: values > 0, 1.0)


def _errors(rows: pd.DataFrame, scales: pd.Series) -> pd.Series:
    return (rows["y"] - rows["median"]).abs() / rows["unique_id"].map(scales)


def _group_errors(
    rows: pd.DataFrame, scales: pd.Series, profile: pd.Series, horizon: int
) -> NDArray[np.float64]:
    """The mean error of each stretch of `horizon` cutoffs with targets enough; of all, where none has."""
    relative = _errors(rows, scales) / rows["step"].map(profile)
    stretch = (rows["cutoff_step"] - rows["cutoff_step"].min()) // max(horizon, 1)
    targets = rows["ds"].groupby(stretch).nunique()
    enough = targets.index[targets >= min(LEAST_STAMPS, horizon)]
    if len(enough):
        kept = stretch.isin(enough)
        means = relative[kept].groupby(stretch[kept]).mean()
        return np.asarray(np.maximum(means, 1e-6), dtype=np.float64)
    if rows["ds"].nunique() < min(LEAST_STAMPS, horizon):
        return np.zeros(0)
    return np.array([max(float(relative.mean()), 1e-6)])


def input_drift(panel: Panel, until: int, *, horizon: int, alpha: float) -> list[Drift]:
    """Whether the series since `until` (microseconds since 1970, or a step) move as they did before.

    Two comparisons by `farthest`, on changes against one season before, in units of each series' usual one
    and averaged over series: their mean (the level has moved) and their size (it moves more, or less).
    Groups are stretches of at least a season and a horizon, or as long as what is new.
    """
    changes = _changes(panel, until)
    old, new = changes[changes.index <= until], changes[changes.index > until]
    if len(new) < LEAST_STAMPS:
        return [_untold(kind, 0, 0) for kind in ("level", "spread")]
    length = min(max(horizon, panel.season_length, 4), len(new))
    length = len(new) // (len(new) // length)
    mean = [_stretches(each["change"], length) for each in (old, new)]
    size = [np.log(np.maximum(_stretches(each["size"], length), 1e-3)) for each in (old, new)]
    return [
        _moved("level", *mean, alpha=alpha, least=1.0),
        _moved("spread", *size, alpha=alpha, least=math.log(1.5)),
    ]


def _moved(
    kind: str, old: NDArray[np.float64], new: NDArray[np.float64], *, alpha: float, least: float
) -> Drift:
    found = farthest(old, new)
    p_value, distance = found if found is not None else (None, None)
    size = distance if kind == "level" or distance is None else math.exp(distance)
    return Drift(
        kind=kind,
        p_value=p_value,
        size=size,
        num_reference=len(old),
        num_live=len(new),
        found=p_value is not None and distance is not None and p_value < alpha and abs(distance) >= least,
    )


def _stretches(values: pd.Series, length: int) -> NDArray[np.float64]:
    """Means of stretches of `length`, the last one at the end."""
    count = len(values) // length
    last = values.to_numpy(dtype=np.float64)[len(values) - count * length :]
    return np.asarray(last.reshape(count, length).mean(axis=1))


def _changes(panel: Panel, until: int) -> pd.DataFrame:
    """By stamp (index): `change`, the mean seasonal change, and `size`, the mean of its absolute value."""
    every = max(1, -(-int(panel.lengths.sum()) // MOST_VALUES))
    frame = panel.select(np.arange(0, len(panel), every)).to_frame()
    stamps = frame["ds"].to_numpy() if panel.freq.is_integer else naive_utc(frame["ds"])
    frame["at"] = np.asarray(stamps).astype("datetime64[us]" if not panel.freq.is_integer else np.int64)
    frame["at"] = frame["at"].astype(np.int64)
    series = frame.groupby("unique_id", sort=False)
    change = frame["y"] - series["y"].shift(panel.season_length)
    old = frame["at"] <= until
    usual = change.abs().where(old).groupby(frame["unique_id"], sort=False).transform("mean")
    spread = frame["y"].where(old).groupby(frame["unique_id"], sort=False).transform("std")
    unit = usual.where(usual > 0, spread.where(spread > 0, 1.0))
    relative = (change / unit).clip(-LARGEST, LARGEST)
    table = pd.DataFrame({"at": frame["at"], "change": relative, "size": relative.abs()}).dropna()
    by_stamp = table.groupby("at")
    means = by_stamp.mean()
    counts = by_stamp.size()
    return means[counts >= 0.5 * counts.median()]
