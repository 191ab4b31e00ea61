"""Intervals that are corrected by what came: too many misses make them wider, too few make them narrower.

T stamps in time, R rows (series, cutoffs and steps)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from forecast.evaluation.metrics import countable
from forecast.series.forecast import number

GAMMA = 0.02
"""How far one stamp's misses move the level that is aimed at."""

POOL_STAMPS = 100
"""The newest stamps whose scores say how wide an interval is."""

MOST_ROWS = 500
"""Rows of one stamp that are looked at."""

LARGEST_SCORE = 1e3

BOUNDS = (0.2, 10.0)
"""Least and most that an interval is stretched by."""


@dataclass(frozen=True, kw_only=True)
class Adapted:
    """Where the correction of one level stands."""

    level: float
    """In percent."""
    alpha: float
    """The share of misses that is aimed at now, so that the wanted share comes out."""
    stretch: float
    """By how much the interval's distance from the median is multiplied."""
    misses: float
    """The share of misses over the whole path, as it was adapted on the way."""
    num_stamps: int


def scores(frame: pd.DataFrame, level: float) -> NDArray[np.float64]:
    """(R,) how far y lies from the median, in units of the interval on that side: up to 1 is inside."""
    name = number(level)
    y, median, low, high = (
        frame[column].to_numpy(dtype=np.float64) for column in ("y", "median", f"lo-{name}", f"hi-{name}")
    )
    side = np.where(y >= median, high - median, median - low)
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = np.abs(y - median) / side
    return np.asarray(np.nan_to_num(np.minimum(relative, LARGEST_SCORE), nan=0.0))


def adapt(
    reference: pd.DataFrame, live: pd.DataFrame, level: float, *, gamma: float = GAMMA
) -> Adapted | None:
    """Go through what came stamp by stamp, and say how wide the interval of a level has to be now.

    reference, live: forecast frames with the level's columns; the scores of the reference say how wide the
    interval begins. None where nothing has come. At each stamp the interval reaches to the (1 - alpha)
    quantile of the scores before it; then alpha moves by gamma (wanted - missed).

    Source: Gibbs & Candès, "Adaptive conformal inference under distribution shift", 2021, equation (2).
    Unlike theirs, the misses of a stamp are those of all series and steps, and an interval is never infinite:
    beyond the largest score it stays there.
    """
    wanted = 1 - level / 100
    old, new = countable(reference), countable(live)
    new = new.sort_values("ds", kind="stable")
    pools = [_some(scores(old, level))] if len(old) else []
    alpha, missed = wanted, []
    for _, rows in new.groupby("ds", sort=True):
        own = _some(scores(rows, level))
        width = _width(pools, alpha) if pools else 1.0
        missed.append(float((own > width).mean()))
        alpha = alpha + gamma * (wanted - missed[-1])
        pools = [*pools, own][-POOL_STAMPS:]
    if not missed:
        return None
    stretch = float(np.clip(_width(pools, alpha), *BOUNDS))
    return Adapted(
        level=level, alpha=alpha, stretch=stretch, misses=float(np.mean(missed)), num_stamps=len(missed)
    )


def stretches(quantile_levels: Sequence[float], by_level: Mapping[float, float]) -> NDArray[np.float64]:
    """(Q,) the stretch of each quantile from those of some levels in percent; linear between, 1 at 0.5."""
    known = sorted(by_level)
    percents = [100 * abs(2 * q - 1) for q in quantile_levels]
    found = np.interp(percents, known, [by_level[level] for level in known])
    return np.where(np.isclose(quantile_levels, 0.5), 1.0, found)


def unstretched(frame: pd.DataFrame, by_level: Mapping[float, float]) -> pd.DataFrame:
    """A frame with the intervals that its model had before it was recalibrated."""
    columns = {}
    for level, stretch in by_level.items():
        for side in ("lo", "hi"):
            name = f"{side}-{number(level)}"
            if name in frame:
                columns[name] = frame["median"] + (frame[name] - frame["median"]) / stretch
    return frame.assign(**columns)


def _some(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """All of them, or some spread evenly."""
    return values if len(values) <= MOST_ROWS else values[:: -(-len(values) // MOST_ROWS)]


def _width(pools: Sequence[NDArray[np.float64]], alpha: float) -> float:
    return float(np.quantile(np.concatenate(pools), min(max(1 - alpha, 0.0), 1.0), method="higher"))
