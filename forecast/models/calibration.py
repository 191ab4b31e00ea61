"""Calibration: what the conformal scores of a held-out block add to a model's quantiles.

B windows, L context_length, H horizon, Q quantile levels
"""

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from forecast.errors import ArtifactError, LevelError
from forecast.series.batch import ContextBatch

FEW_WINDOWS = 100
"""Below this many calibration windows the table is smoothed and its tails are parametric."""

SCALE_SEASONS = (3, 14)
"""Seasons that the in-context scale looks back: the mean of a near look-back and a far one."""

MIN_STEPS = 64
"""No look-back of the scale is shorter."""

MAX_STEPS = 720
"""A far look-back that would be longer is left out: 14 days of half hours fit in."""

FLOOR = 1e-9
"""Smallest in-context scale relative to the level: below it float64 holds no difference worth the name."""


def median_index(quantile_levels: tuple[float, ...]) -> int:
    """Where the 0.5 quantile stands; LevelError when the grid has none."""
    if 0.5 not in quantile_levels:
        raise LevelError(f"the quantile levels {quantile_levels} lack 0.5, the median; add it")
    return quantile_levels.index(0.5)


def look_back(seasons: int, season_length: int) -> int:
    """Steps that the in-context scale reads for so many seasons; three where those are too many."""
    steps = seasons * season_length
    return max(MIN_STEPS, steps if steps <= MAX_STEPS else 3 * season_length)


def context_scale(
    batch: ContextBatch, season_length: int, seasons: tuple[int, ...] = SCALE_SEASONS
) -> NDArray[np.float64]:
    """How much each series moves, (B,) in its units: the yardstick of calibration.

    The mean of two absolute differences, from one step to the next and from one season to the next, over the
    last steps of the context, averaged over a near look-back (three seasons, at least 64 steps) and, where it
    is no longer than 720 steps, a far one of 14 seasons: the near one follows what changes, the far one keeps
    a sensor that was stuck for a day from looking as if it never moved. Missing values drop out; the result
    is never below 1e-9 of the level, so that a constant series has a scale too.

    Source: the denominator of the mean absolute scaled error (Hyndman & Koehler, "Another look at measures of
    forecast accuracy", 2006), taken over the context instead of the whole history, and with both lags because
    the error of a seasonal forecast follows one and that of a last-value forecast the other.
    """
    width = batch.context.shape[1]
    backs = sorted({min(look_back(each, season_length), width) for each in seasons})
    recent = batch.context[:, -backs[-1] :].astype(np.float64)
    moved = []
    for lag in sorted({1, season_length}):
        difference = recent[:, lag:] - recent[:, : max(recent.shape[1] - lag, 0)]
        np.abs(difference, out=difference)
        moved += [_observed_mean(difference[:, -(back - lag) :]) for back in backs]
    mean = np.nan_to_num(_observed_mean(np.stack(moved, axis=1)))
    return np.asarray(np.maximum(mean, scale_floor(batch)))


def scale_floor(batch: ContextBatch) -> NDArray[np.float64]:
    """(B,) what the scale of a context is that does not move within its look-back."""
    return np.maximum(FLOOR * np.abs(batch.level), np.finfo(np.float32).tiny)


def _observed_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean of each row (B,) without missing values; NaN where all are."""
    if not values.shape[1]:
        return np.full(len(values), np.nan)
    observed = np.isfinite(values)
    if observed.all():
        return np.asarray(values.sum(axis=1) / values.shape[1])
    total = np.where(observed, values, 0.0).sum(axis=1)
    count = observed.sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


@dataclass(frozen=True, kw_only=True, eq=False)
class Calibration:
    """Corrections per step ahead and quantile level, in units of the in-context scale."""

    quantile_levels: tuple[float, ...]
    """Ascending levels in (0, 1), with 0.5 among them."""

    corrections: NDArray[np.float32]
    """(H, Q), added to the model's quantiles after multiplication by the scale; 0 for the median."""

    own_share: float = 1.0
    """What the distance of the model's own quantiles from its median is multiplied by before that."""

    num_windows: int = 0
    """Windows (series times cutoffs) the corrections were estimated from; 0 = not calibrated."""

    growth: float = 0.5
    """Beyond the horizon width grows with the step to this power: 0 not at all, 0.5 as a random walk."""

    parametric: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, dtype=bool))
    """(Q,) levels the sample could not support: a normal tail from the outermost one that it could."""

    stretch: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    """(Q,) what the distance from the median is multiplied by after the corrections: 1, unless what came
    since the training has shown the intervals to be too narrow or too wide."""

    scale_seasons: tuple[int, ...] = SCALE_SEASONS
    """What the scale was that the corrections were fitted to: see `context_scale`."""

    def __post_init__(self) -> None:
        median_index(self.quantile_levels)
        num_levels = len(self.quantile_levels)
        if not len(self.stretch):
            object.__setattr__(self, "stretch", np.ones(num_levels))
        if self.stretch.shape != (num_levels,) or not (self.stretch > 0).all():
            raise ArtifactError(f"calibration.stretch has to be {num_levels} numbers above 0")
        if not len(self.parametric):
            object.__setattr__(self, "parametric", np.zeros(num_levels, dtype=bool))
        if self.corrections.ndim != 2 or self.corrections.shape[1] != num_levels:
            raise ArtifactError(
                f"the calibration has shape {self.corrections.shape} and needs (horizon, {num_levels})"
            )
        if self.parametric.shape != (num_levels,):
            raise ArtifactError(f"calibration.parametric has shape {self.parametric.shape}, not {num_levels}")
        if not np.isfinite(self.corrections).all() or not math.isfinite(self.growth + self.own_share):
            raise ArtifactError("the calibration holds values that are not finite")

    @classmethod
    def none(cls, horizon: int, quantile_levels: tuple[float, ...]) -> "Calibration":
        """No correction: the quantiles stay what the model says."""
        zeros = np.zeros((horizon, len(quantile_levels)), dtype=np.float32)
        return cls(quantile_levels=tuple(quantile_levels), corrections=zeros)

    @property
    def horizon(self) -> int:
        return len(self.corrections)

    @property
    def is_fitted(self) -> bool:
        return self.num_windows > 0

    @property
    def is_stretched(self) -> bool:
        """Whether the intervals were recalibrated on what came since the training."""
        return bool((self.stretch != 1).any())

    def apply(self, quantiles: NDArray[np.float64], scale: NDArray[np.float64]) -> NDArray[np.float64]:
        """Calibrated quantiles (B, S, Q), S <= H, ascending along Q; the median stays where it is.

        quantiles (B, S, Q) in any units relative to anything; scale (B,) in the same units. A lower quantile
        never ends above the median nor an upper one below it.
        """
        corrections = self.corrections[: quantiles.shape[1]].astype(np.float64)
        median = median_index(self.quantile_levels)
        centre = quantiles[..., median : median + 1]
        own = quantiles if self.own_share == 1 else centre + self.own_share * (quantiles - centre)
        moved = own + corrections * scale[:, None, None]  # (B, S, Q)
        if not self.is_stretched:
            return ordered(moved, median)
        return ordered(centre + (ordered(moved, median) - centre) * self.stretch, median)

    def tensors(self) -> dict[str, NDArray]:
        """What the artifact keeps under `calibration.`"""
        stretch = {"stretch": self.stretch} if self.is_stretched else {}
        return {
            **stretch,
            "corrections": self.corrections,
            "parametric": self.parametric.astype(np.uint8),
            "growth": np.array([self.growth], dtype=np.float64),
            "own_share": np.array([self.own_share], dtype=np.float64),
            "num_windows": np.array([self.num_windows], dtype=np.int64),
            "scale_seasons": np.array(self.scale_seasons, dtype=np.int64),
        }

    @classmethod
    def from_tensors(cls, tensors: dict[str, NDArray], quantile_levels: tuple[float, ...]) -> "Calibration":
        """The inverse of `tensors`; ArtifactError where one is missing.

        Artifacts of before lack `scale_seasons` and `own_share`: they know the near look-back alone, and
        correct a model's own quantiles as a whole.
        """
        missing = {"corrections", "parametric", "growth", "num_windows"} - set(tensors)
        if missing:
            raise ArtifactError(f"the calibration lacks {sorted(missing)}")
        return cls(
            quantile_levels=tuple(quantile_levels),
            corrections=tensors["corrections"].astype(np.float32),
            parametric=tensors["parametric"].astype(bool),
            growth=float(tensors["growth"][0]),
            num_windows=int(tensors["num_windows"][0]),
            stretch=tensors.get("stretch", np.zeros(0)).astype(np.float64),
            own_share=float(tensors.get("own_share", [1.0])[0]),
            scale_seasons=tuple(int(each) for each in tensors.get("scale_seasons", SCALE_SEASONS[:1])),
        )


def ordered(quantiles: NDArray[np.float64], median: int) -> NDArray[np.float64]:
    """Quantiles sorted along the last axis around a median that stays where it is."""
    if (quantiles[..., 1:] >= quantiles[..., :-1]).all():  # as nearly always, and ten times as fast
        return quantiles
    centre = quantiles[..., median : median + 1]
    lower = np.sort(np.minimum(quantiles[..., :median], centre), axis=-1)
    upper = np.sort(np.maximum(quantiles[..., median + 1 :], centre), axis=-1)
    return np.concatenate([lower, centre, upper], axis=-1)
