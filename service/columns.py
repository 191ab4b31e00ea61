"""What a request wants to see of a forecast: central values, intervals or quantiles, by the keys it sent.

N series, H horizon, Q quantile levels, C columns
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from forecast.series.forecast import Forecast, level_quantiles

_NORMAL = NormalDist()


@dataclass(frozen=True)
class Columns:
    """The columns of an answer, with the keys it gives them."""

    output: tuple[str, ...]
    levels: tuple[tuple[str, float], ...] = ()
    quantiles: tuple[tuple[str, float], ...] = ()

    @classmethod
    def of(
        cls,
        output: Sequence[str],
        levels: Sequence[float] | None,
        quantiles: Sequence[float] | None,
        body: bytes = b"",
    ) -> "Columns":
        """Keys repeat each number as it stands in the body: 80, 95.5, 80.0."""
        if not levels and not quantiles and output == _MEDIAN:
            return _ONLY_MEDIAN
        return cls(
            tuple(dict.fromkeys(output)),
            tuple(zip(literals(body, b"levels", levels), levels or (), strict=True)),
            tuple(zip(literals(body, b"quantiles", quantiles), quantiles or (), strict=True)),
        )

    @property
    def num_columns(self) -> int:
        return len(self.output) + 2 * len(self.levels) + len(self.quantiles)

    @property
    def names(self) -> tuple[str, ...]:
        """The keys in the order of the answer."""
        intervals = (f"{end}-{key}" for key, _ in self.levels for end in ("lo", "hi"))
        return (*self.output, *intervals, *(f"q-{key}" for key, _ in self.quantiles))

    @property
    def asked(self) -> tuple[float, ...]:
        """The quantiles behind the columns that are not central values, in their order."""
        ends = (q for _, level in self.levels for q in level_quantiles(level))
        return (*ends, *(q for _, q in self.quantiles))

    def arrays(self, forecast: Forecast) -> dict[str, NDArray[np.float64]]:
        """Each column (N, H), by its key."""
        reader = reading(tuple(forecast.quantile_levels.tolist()), self)
        arrays: dict[str, NDArray[np.float64]] = {}
        if "mean" in self.output:
            arrays["mean"] = forecast.mean
        read = np.ascontiguousarray(reader.read(forecast.values))  # (C, N, H)
        if forecast.lower_bound is not None or forecast.upper_bound is not None:
            read = np.clip(read, forecast.lower_bound, forecast.upper_bound)
        if forecast.integer:
            read = np.rint(read)
        arrays |= dict(zip(reader.names, read, strict=True))
        if not self.output or "mean" in self.output:
            return {name: np.ascontiguousarray(arrays[name]) for name in names_of(self)}
        return arrays

    def noted(self, forecast: Forecast) -> Forecast:
        """With a note where a column lies beyond the quantiles that the model knows."""
        if not reading(tuple(forecast.quantile_levels.tolist()), self).is_extrapolated:
            return forecast
        return forecast.noted([level for _, level in self.levels], [q for _, q in self.quantiles])


_MEDIAN = ["median"]
_ONLY_MEDIAN = Columns(("median",))


@dataclass(frozen=True)
class Reading:
    """How columns are read from quantiles: between two levels of the grid, linear in normal scores.

    `forecast.series.forecast.between_levels` for many quantiles at once; the tests compare them.
    """

    names: tuple[str, ...]
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    weight: NDArray[np.float64]
    """(C, 1, 1) 0: the left quantile, 1: the one to its right; outside [0, 1] their line goes on."""
    is_extrapolated: bool
    is_exact: bool
    """Whether every column is a quantile of the grid."""

    def read(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """(C, N, H) of quantiles (N, H, Q)."""
        moved = values.transpose(2, 0, 1)
        low = moved[self.left]
        if self.is_exact:
            return low
        high = moved[self.right]
        line = low + self.weight * (high - low)
        above = high + (self.weight - 1) * (high - low)
        found: NDArray[np.float64] = np.where(self.weight > 1, above, line)
        within = (self.weight >= 0) & (self.weight <= 1)
        return np.where(within, np.clip(found, low, high), found)


@lru_cache(maxsize=1024)
def names_of(columns: Columns) -> tuple[str, ...]:
    """`Columns.names`, remembered."""
    return columns.names


@lru_cache(maxsize=1024)
def reading(grid: tuple[float, ...], columns: Columns) -> Reading:
    """How the median and the columns are read from quantiles at the levels of `grid`."""
    medians = ("median",) if "median" in columns.output else ()
    asked = (*(0.5 for _ in medians), *columns.asked)
    names = (*medians, *columns.names[len(columns.output) :])
    scores = [_NORMAL.inv_cdf(level) for level in grid]
    places = [_place(grid, scores, q) for q in asked]
    return Reading(
        names=names,
        left=np.array([left for left, _ in places], dtype=np.int64),
        right=np.array([min(left + 1, len(grid) - 1) for left, _ in places], dtype=np.int64),
        weight=np.array([weight for _, weight in places], dtype=np.float64).reshape(-1, 1, 1),
        is_exact=not any(weight for _, weight in places),
        is_extrapolated=any(not grid[0] - 1e-12 <= q <= grid[-1] + 1e-12 for q in asked),
    )


def _place(grid: Sequence[float], scores: Sequence[float], q: float) -> tuple[int, float]:
    exact = [index for index, level in enumerate(grid) if abs(level - q) <= 1e-12]
    if exact or len(grid) == 1:
        return (exact[0] if exact else 0), 0.0
    score = _NORMAL.inv_cdf(q)
    right = min(max(int(np.searchsorted(scores, score)), 1), len(scores) - 1)
    return right - 1, (score - scores[right - 1]) / (scores[right] - scores[right - 1])


_PATTERNS = {
    field: re.compile(rb'"' + field + rb'"\s*:\s*\[?([0-9eE+.,\s-]*)')
    for field in (b"levels", b"quantiles", b"level")
}


def literals(body: bytes, field: bytes, values: Sequence[float] | None) -> list[str]:
    """How the numbers of a field were written in the body; Python's own writing where that is not found."""
    if not values:
        return []
    for match in _PATTERNS[field].finditer(body):
        tokens = [token.strip() for token in match[1].decode().split(",")]
        if len(tokens) == len(values) and all(map(_equal, tokens, values)):
            return tokens
    return [repr(value) for value in values]


def _equal(token: str, value: float) -> bool:
    try:
        return float(token) == value
    except ValueError:
        return False
