"""How sure a mean over backtest windows is, although windows overlap and series move together."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MIN_GROUPS = 8
"""Fewer series or fewer separate stretches of time than this say nothing about their own spread."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean with its standard error; the error is NaN where there is too little to estimate it from."""

    mean: float
    error: float
    degrees: int
    """Degrees of freedom: groups less one."""

    @property
    def is_sure(self) -> bool:
        """Whether the error could be estimated at all."""
        return math.isfinite(self.error)


def clustered_mean(
    values: NDArray[np.float64], *, series: NDArray, steps: NDArray[np.int64], span: int
) -> Estimate:
    """The mean of one value per window, with a standard error that allows for what the windows share.

    values (R,); series (R,) names; steps (R,) the cutoff of each window as a number of steps; `span` is the
    horizon: windows whose cutoffs fall into the same stretch of so many steps share targets and count as one
    group in time. Groups by series and groups by time are both allowed to be correlated inside.

    Source: Cameron, Gelbach & Miller, "Robust inference with multiway clustering", Journal of Business &
    Economic Statistics 2011: variance by series, plus by time, less by both. Where a way has fewer than 8
    groups its part is left out; where both have, or there is no window at all, the error is NaN.
    """
    if not len(values):
        return Estimate(mean=math.nan, error=math.nan, degrees=0)
    mean = float(np.mean(values))
    centred = values - mean
    _, by_series = np.unique(series.astype(str), return_inverse=True)
    _, by_time = np.unique((steps - steps.min()) // max(span, 1), return_inverse=True)
    num_series, num_times = int(by_series.max()) + 1, int(by_time.max()) + 1
    enough = [count for count in (num_series, num_times) if count >= MIN_GROUPS]
    if not enough:
        return Estimate(mean=mean, error=math.nan, degrees=0)
    both = by_series * num_times + by_time
    parts = [_sandwich(centred, by_series), _sandwich(centred, by_time)]
    if len(enough) == 2:
        variance = max(parts[0] + parts[1] - _sandwich(centred, both), *parts)
    else:
        variance = parts[0] if num_series >= MIN_GROUPS else parts[1]
    return Estimate(mean=mean, error=math.sqrt(variance), degrees=min(enough) - 1)


def _sandwich(centred: NDArray[np.float64], groups: NDArray[np.int64]) -> float:
    """Variance of the mean when windows of one group are dependent and groups are not."""
    sums = np.bincount(groups, weights=centred)
    sums = sums[np.bincount(groups) > 0]
    count = len(sums)
    return float(np.square(sums).sum() / len(centred) ** 2 * count / max(count - 1, 1))
