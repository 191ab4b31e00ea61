"""What a forecaster answers: quantiles per series and step, in units.

N series, H steps, Q quantile levels
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import NormalDist
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from forecast.errors import LevelError
from forecast.series.calendar import Frequency, zoned

_NORMAL = NormalDist()


@dataclass(frozen=True, kw_only=True, eq=False)
class Forecast:
    """Quantiles (N, H, Q) with their stamps; the median is the 0.5 quantile.

    Between the levels of the grid quantiles are interpolated linearly in standard-normal scores; beyond the
    outermost the same line goes on (`is_extrapolated`). The result rises with the level, so that intervals
    nest.
    """

    unique_ids: NDArray[Any]
    """(N,) str."""
    ds: NDArray[Any]
    """(N, H) datetime64[us] (UTC where there is a time zone) or int64."""
    quantile_levels: NDArray[np.float64]
    """(Q,) ascending in (0, 1), with 0.5."""
    values: NDArray[np.float64]
    """(N, H, Q) in units, ascending along the last axis."""
    notes: tuple[tuple[str, ...], ...]
    """Per series its short codes."""
    freq: Frequency
    timezone: str | None = None
    lower_bound: float | None = None
    """No quantile is below it."""
    upper_bound: float | None = None
    """No quantile is above it."""
    integer: bool = False
    """Every quantile is rounded to a whole number."""

    def __len__(self) -> int:
        return len(self.unique_ids)

    @property
    def horizon(self) -> int:
        """H."""
        return int(self.values.shape[1])

    @property
    def median(self) -> NDArray[np.float64]:
        """(N, H) the 0.5 quantile."""
        return self.quantile(0.5)

    @cached_property
    def mean(self) -> NDArray[np.float64]:
        """(N, H) the mean of the distribution that the quantiles describe, its extended tails included."""
        mean = self.values @ _mean_weights(self._scores)
        lowest = -np.inf if self.lower_bound is None else self.lower_bound
        highest = np.inf if self.upper_bound is None else self.upper_bound
        return np.asarray(np.clip(mean, lowest, highest))

    @cached_property
    def _scores(self) -> NDArray[np.float64]:
        return np.array([_NORMAL.inv_cdf(float(level)) for level in self.quantile_levels])

    def quantile(self, q: float) -> NDArray[np.float64]:
        """(N, H) the quantile at q in (0, 1); LevelError outside."""
        check_quantile(q)
        quantile = between_levels(self.quantile_levels, self.values, q)
        if self.lower_bound is not None or self.upper_bound is not None:
            quantile = np.clip(quantile, self.lower_bound, self.upper_bound)
        return np.rint(quantile) if self.integer else quantile

    def interval(self, level: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The central interval of a level in percent, both ends (N, H); LevelError outside (0, 100)."""
        low, high = level_quantiles(level)
        return self.quantile(low), self.quantile(high)

    def is_extrapolated(self, q: float) -> bool:
        """Whether a quantile lies beyond the outermost level of the grid."""
        return not self.quantile_levels[0] - 1e-12 <= q <= self.quantile_levels[-1] + 1e-12

    def noted(self, levels: Sequence[float] = (), quantiles: Sequence[float] | None = None) -> "Forecast":
        """With the note `level_extrapolated` where a level or quantile lies beyond the grid."""
        asked = [q for level in _several(levels) for q in level_quantiles(level)] + list(
            _several(quantiles or ())
        )
        if not any(self.is_extrapolated(q) for q in asked):
            return self
        code = "level_extrapolated"
        return replace(self, notes=tuple(n if code in n else (*n, code) for n in self.notes))

    def columns(
        self, levels: Sequence[float] = (), quantiles: Sequence[float] | None = None
    ) -> dict[str, NDArray[np.float64]]:
        """`median`, then `lo-80`, `hi-80`, ... per level and `q-0.1`, ... per quantile, each (N, H)."""
        columns = {"median": self.median}
        for level in _several(levels):
            columns[f"lo-{number(level)}"], columns[f"hi-{number(level)}"] = self.interval(level)
        for q in _several(quantiles or ()):
            columns[f"q-{number(q)}"] = self.quantile(q)
        return columns

    def to_frame(
        self, levels: Sequence[float] = (), quantiles: Sequence[float] | None = None
    ) -> pd.DataFrame:
        """A long frame `unique_id, ds, median, lo-80, hi-80, ...` in panel order, then time.

        Stamps in their zone.
        """
        frame = {"unique_id": np.repeat(self.unique_ids, self.horizon), "ds": zoned(self.ds, self.timezone)}
        columns = self.columns(levels, quantiles)
        return pd.DataFrame(frame | {name: column.ravel() for name, column in columns.items()})


def _several(numbers: Sequence[float] | float) -> list[float]:
    """One number alone stands for a list of it."""
    return list(numbers) if isinstance(numbers, Iterable) else [numbers]


def between_levels(
    quantile_levels: NDArray[np.float64], values: NDArray[np.float64], q: float
) -> NDArray[np.float64]:
    """The quantile at q (...,) of values (..., Q) at `quantile_levels` (Q,): linear in normal scores.

    Beyond the outermost levels their line goes on.
    """
    exact = np.flatnonzero(np.isclose(quantile_levels, q, rtol=0, atol=1e-12))
    if len(exact) or len(quantile_levels) == 1:
        return np.asarray(values[..., exact[0] if len(exact) else 0])
    scores = [_NORMAL.inv_cdf(float(level)) for level in quantile_levels]
    score = _NORMAL.inv_cdf(q)
    right = int(np.clip(np.searchsorted(scores, score), 1, len(scores) - 1))
    low, high = values[..., right - 1], values[..., right]
    weight = (score - scores[right - 1]) / (scores[right] - scores[right - 1])
    if weight > 1:
        return np.asarray(high + (weight - 1) * (high - low))
    line = low + weight * (high - low)
    return np.asarray(line if weight < 0 else np.clip(line, low, high))


def check_quantile(q: float) -> float:
    """The quantile, or LevelError where it is no number in (0, 1)."""
    if isinstance(q, bool) or not isinstance(q, int | float | np.number) or not 0 < q < 1:
        raise LevelError(f"the quantile {q!r} lies outside (0, 1); ask for example for 0.1.")
    return float(q)


def level_quantiles(level: float) -> tuple[float, float]:
    """The two quantiles of a central interval in percent: 80 -> 0.1, 0.9; LevelError outside (0, 100)."""
    if isinstance(level, bool) or not isinstance(level, int | float | np.number) or not 0 < level < 100:
        raise LevelError(
            f"the level {level!r} lies outside (0, 100); ask for example for 80, meaning percent."
        )
    low = (100 - float(level)) / 200
    return check_quantile(low), check_quantile(1 - low)


def number(value: float) -> str:
    """A level as it was given: 80, 95.5; a whole float without its point."""
    return str(int(value)) if float(value).is_integer() else repr(float(value))


def _mean_weights(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """(Q,) weights of the quantiles in the mean of a distribution that is linear in scores between them.

    The mean is the integral of the quantile function against the normal density; on each line a + b z it is
    a [cdf] - b [density], the outermost lines going on to infinity.
    """
    if len(scores) == 1:
        return np.ones(1)
    weights = np.zeros(len(scores))
    edges = [-np.inf, *scores[1:-1], np.inf]
    for left in range(len(scores) - 1):
        low, high = edges[left], edges[left + 1]
        mass = _NORMAL.cdf(high) - _NORMAL.cdf(low)
        moment = _density(low) - _density(high)
        share = (moment - scores[left] * mass) / (scores[left + 1] - scores[left])
        weights[left] += mass - share
        weights[left + 1] += share
    return weights


def _density(score: float) -> float:
    return 0.0 if np.isinf(score) else _NORMAL.pdf(score)
