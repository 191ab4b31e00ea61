"""Which values of a history are out of the ordinary: outside what the model forecast one step before them.

R judged steps, Q quantile levels
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from forecast.series.panel import Panel
from service.backtests import Replayed, check_count, every_step, replay, with_enough
from service.inference import Parts
from service.models import Served

MAX_SCORE = 1000.0
"""Scores end here: a forecast of no width knows no other distance."""

_NORMAL = NormalDist()


@dataclass(frozen=True, kw_only=True, eq=False)
class Judged:
    """Every judged step, by series and time, with its one-step forecast."""

    replayed: Replayed
    """With a horizon of 1."""
    low: NDArray[np.float64]
    """(R,) the lower end of the interval."""
    median: NDArray[np.float64]
    high: NDArray[np.float64]
    score: NDArray[np.float64]
    """(R,) standard-normal deviations of the value from the median, signed; NaN where it is missing."""
    anomaly: NDArray[np.bool_]
    """(R,) outside the interval; False where the value is missing."""

    @property
    def y(self) -> NDArray[np.float64]:
        """(R,) the values."""
        return self.replayed.y[:, 0]

    @property
    def in_sample(self) -> NDArray[np.bool_]:
        """(R,) steps not after the model's training data."""
        return self.replayed.in_sample[:, 0]


async def judge(
    served: Served,
    panel: Panel,
    parts: Parts,
    *,
    level: float,
    last: int | None = None,
    is_gone: Callable[[], Awaitable[bool]] | None = None,
    ys: Sequence[NDArray[np.float64]] = (),
) -> Judged:
    """Judge every step with enough history before it, or the `last` ones of each series.

    Each is forecast from what came before it, nothing else. ContextError where no step has enough history.
    """
    longest = panel.lengths if last is None else np.minimum(panel.lengths, last)
    check_count(int(longest.sum()), 1, served, parts)
    windows = with_enough(served.forecaster, panel, every_step(panel, last=last))
    replayed = await replay(served, panel, windows, 1, parts, is_gone, ys=ys)
    return await parts.workers.run(judged, replayed, level)


def judged(replayed: Replayed, level: float) -> Judged:
    """The judgement of one-step forecasts by their interval of a level in percent."""
    forecast, y = replayed.forecast, replayed.y[:, 0]
    low, high = (end[:, 0] for end in forecast.interval(level))
    with np.errstate(invalid="ignore"):
        anomaly = (y < low) | (y > high)
    score = normal_scores(forecast.quantile_levels, forecast.values[:, 0, :], y)
    return Judged(
        replayed=replayed,
        low=low,
        median=forecast.median[:, 0],
        high=high,
        score=score,
        anomaly=np.asarray(anomaly),
    )


def normal_scores(
    levels: NDArray[np.float64], values: NDArray[np.float64], y: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(R,) where each y lies among quantiles (R, Q): linear between them, their outer lines go on.

    The inverse of `forecast.series.forecast.between_levels`, in standard-normal scores.
    """
    scores = np.array([_NORMAL.inv_cdf(float(each)) for each in levels])
    right = np.clip((values < y[:, None]).sum(axis=1), 1, len(levels) - 1)
    rows = np.arange(len(y))
    below, above = values[rows, right - 1], values[rows, right]
    width = above - below
    with np.errstate(divide="ignore", invalid="ignore"):
        found = scores[right - 1] + (y - below) / width * (scores[right] - scores[right - 1])
    flat = width <= 0
    found[flat] = np.where(y == below, scores[right - 1], np.copysign(MAX_SCORE, y - below))[flat]
    found[np.isnan(y)] = np.nan
    return np.asarray(np.clip(found, -MAX_SCORE, MAX_SCORE))
