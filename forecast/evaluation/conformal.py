"""Split-conformal calibration: by how much the quantiles of a model have to move to be true.

R windows (series times cutoffs), H horizon, Q quantile levels
"""

import math
from functools import partial
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from forecast.models.calibration import FEW_WINDOWS, Calibration, median_index

OWN_SHARE = 0.5
"""The part of a model's own intervals in calibrated ones; the errors of its median give the other."""

MIN_STRETCHES = 8
"""Stretches of time, a horizon each at least, without which corrections are never called chance."""

SURE = 2.0
"""Squared corrections over their squared standard errors from which on they are more than chance."""

POOL = 1_000
"""Scores wanted for one entry of the table: neighbouring steps ahead are pooled until there are so many."""


def fit_calibration(
    quantiles: NDArray[np.float64],
    y: NDArray[np.float64],
    scale: NDArray[np.float64],
    *,
    quantile_levels: tuple[float, ...],
    steps: NDArray[np.int64] | None = None,
) -> Calibration:
    """The table that makes a model's quantiles true on held-out windows.

    quantiles (R, H, Q) and y (R, H), NaN where missing, in units; scale (R,) the in-context scale in units.
    The score of a level is (y - quantile) / scale, and the correction its empirical quantile at that level,
    with the finite-sample step of conformal prediction outwards. The median keeps a correction of 0.

    Scores of neighbouring steps ahead are pooled after division by a smooth spread per step. With fewer than
    100 windows that spread never shrinks with the step ahead, and the scores of a level and of its mirror
    image are pooled with opposite signs: a dozen overlapping windows that all miss on one side are one event,
    no evidence of bias, so that the intervals stay on both sides of the median. Nor do few windows make a
    model surer than it is: they only widen. A level beyond 1 / (windows + 1) has no sample: it continues the
    outermost supported one by a normal tail and is marked `parametric`.

    A model with quantiles of its own has learned when it is unsure, the scores know how unsure it is on new
    data: its intervals become the mean of its own and of those that the errors of its median give, and are
    corrected by what is missing to that. Windows of one time of the year are alike: where `steps` (R,), the
    cutoff of each as a number of steps, span eight horizons or more, eight stretches of time get such a
    correction of their own, and if these differ so much that their mean is within 1.4 standard errors of
    nothing, none is made.

    Source: Romano, Patterson & Candès, "Conformalized quantile regression", 2019, per step ahead, one-sided,
    and scaled as in Lei et al., "Distribution-free predictive inference for regression", 2018. Unlike theirs,
    windows overlap in time, so that the guarantee is approximate.
    """
    num_windows = int(np.isfinite(y).any(axis=1).sum())
    horizon = quantiles.shape[1]
    if num_windows == 0:
        return Calibration.none(horizon, quantile_levels)
    unit = scale[:, None, None]
    median = quantiles[..., median_index(quantile_levels), None]
    errors = (y[..., None] - median) / unit  # (R, H, 1)
    few = num_windows < FEW_WINDOWS
    has_own = not few and bool((quantiles[..., -1] > quantiles[..., 0]).any())
    own_share = OWN_SHARE if has_own else 1.0
    spread = smooth_spread(errors[..., 0], monotone=few)
    supported = supported_levels(quantile_levels, num_windows)
    table = partial(
        _table, spread=spread, quantile_levels=quantile_levels, supported=supported, num_windows=num_windows
    )
    shared = (1 - own_share) * table(errors) if has_own else np.zeros((horizon, len(quantile_levels)))
    scores = (y[..., None] - median - own_share * (quantiles - median)) / unit - shared  # (R, H, Q)
    missing = table(mirrored(scores, quantile_levels) if few else scores)
    if few:
        missing = _outwards(missing, quantile_levels)
    elif has_own and steps is not None:
        parts = [table(scores[rows]) for rows in _stretches(steps, horizon)]
        missing = np.zeros_like(missing) if _is_chance(missing, parts) else missing
    low, high = supported
    return Calibration(
        quantile_levels=tuple(quantile_levels),
        corrections=(shared + missing).astype(np.float32),
        num_windows=num_windows,
        growth=growth_of(spread),
        parametric=np.array([not low <= level <= high for level in quantile_levels]),
        own_share=own_share,
    )


def _table(
    scores: NDArray[np.float64],
    *,
    spread: NDArray[np.float64],
    quantile_levels: tuple[float, ...],
    supported: tuple[float, float],
    num_windows: int,
) -> NDArray[np.float64]:
    """The correction of each step and level, (H, Q), from scores (R, H, Q) or (R, H, 1) for all levels."""
    horizon, centre = len(spread), median_index(quantile_levels)
    relative = np.broadcast_to(scores / spread[:, None], (*scores.shape[:2], len(quantile_levels)))
    corrections = np.zeros((horizon, len(quantile_levels)))
    for step in range(horizon):
        pool = relative[:, _neighbours(step, horizon, num_windows)].reshape(-1, len(quantile_levels))
        pool = pool[np.isfinite(pool).all(axis=1)]
        for index in range(len(quantile_levels)):
            if index != centre and len(pool):
                corrections[step, index] = spread[step] * level_correction(
                    pool[:, index], quantile_levels[index], supported=supported, num_windows=num_windows
                )
    return corrections


def _outwards(corrections: NDArray[np.float64], quantile_levels: tuple[float, ...]) -> NDArray[np.float64]:
    """Those corrections (H, Q) that widen, the others set to nothing."""
    side = np.sign(np.array(quantile_levels) - 0.5)
    return np.where(corrections * side > 0, corrections, 0.0)


def _stretches(steps: NDArray[np.int64], horizon: int) -> list[NDArray[np.intp]]:
    """The rows of eight stretches of time of equal length; none where a horizon is longer."""
    span = int(steps.max() - steps.min()) + 1
    if span < MIN_STRETCHES * horizon:
        return []
    places = (steps - steps.min()) * MIN_STRETCHES // span
    return [rows for place in range(MIN_STRETCHES) if len(rows := np.flatnonzero(places == place))]


def _is_chance(corrections: NDArray[np.float64], parts: list[NDArray[np.float64]]) -> bool:
    """Whether corrections (H, Q) are small beside what those of separate stretches of time differ by."""
    if len(parts) < MIN_STRETCHES:
        return False
    error = np.var(parts, axis=0, ddof=1).sum() / len(parts)
    return bool(np.square(corrections).sum() < SURE * error)


def mirrored(scores: NDArray[np.float64], quantile_levels: tuple[float, ...]) -> NDArray[np.float64]:
    """Scores (R, H, Q) with those of the opposite levels, negated, below them: (2R, H, Q).

    A level without an opposite keeps its own scores twice.
    """
    places = {round(level, 9): index for index, level in enumerate(quantile_levels)}
    opposite = [places.get(round(1 - level, 9)) for level in quantile_levels]
    columns = [
        scores[..., own] if other is None else -scores[..., other] for own, other in enumerate(opposite)
    ]
    return np.concatenate([scores, np.stack(columns, axis=-1)])


def supported_levels(quantile_levels: tuple[float, ...], num_windows: int) -> tuple[float, float]:
    """The outermost levels that `num_windows` scores can tell: at least one score is expected beyond each."""
    edge = 1 / (num_windows + 1)
    inside = [level for level in quantile_levels if edge <= min(level, 1 - level) + 1e-12 and level != 0.5]
    return (min(inside), max(inside)) if inside else (0.5, 0.5)


def level_correction(
    scores: NDArray[np.float64], level: float, *, supported: tuple[float, float], num_windows: int
) -> float:
    """The quantile of the scores (n,) of one level; beyond the supported levels by a normal tail."""
    low, high = supported
    if low == high:
        return _normal(level) * float(np.sqrt(np.mean(np.square(scores))))
    anchor = min(max(level, low), high)
    value = conformal_quantile(scores, anchor, num_windows=num_windows)
    if anchor == level:
        return value
    slope = (value - float(np.median(scores))) / _normal(anchor)
    return value + (_normal(level) - _normal(anchor)) * max(slope, 0.0)


def conformal_quantile(scores: NDArray[np.float64], level: float, *, num_windows: int) -> float:
    """The empirical quantile of the scores, one window further out than the level says.

    The rank among n exchangeable scores is ceil((n + 1) level); here n is the number of windows, since the
    scores of one window are not exchangeable with each other.
    """
    shifted = (
        level * (num_windows + 1) / num_windows
        if level > 0.5
        else 1 - (1 - level) * (num_windows + 1) / num_windows
    )
    return float(np.quantile(scores, min(max(shifted, 0.0), 1.0)))


def smooth_spread(errors: NDArray[np.float64], *, monotone: bool) -> NDArray[np.float64]:
    """Typical size of the scaled errors (R, H) of the median per step ahead, (H,), above 0.

    Root mean square; with `monotone` the closest sequence that never falls (pool adjacent violators).
    """
    observed = np.isfinite(errors)
    squares = np.where(observed, np.square(np.nan_to_num(errors)), 0.0).sum(axis=0)
    counts = observed.sum(axis=0)
    mean = np.where(counts > 0, squares / np.maximum(counts, 1), np.nan)
    mean = np.where(np.isfinite(mean), mean, np.nanmean(mean))
    spread = np.sqrt(isotonic(mean, np.maximum(counts, 1)) if monotone else mean)
    largest = float(spread.max())
    return np.asarray(np.maximum(spread, 1e-6 * largest if largest > 0 else 1.0))


def isotonic(values: NDArray[np.float64], weights: NDArray) -> NDArray[np.float64]:
    """The non-decreasing sequence closest to `values` in weighted least squares.

    Source: Ayer et al., "An empirical distribution function for sampling with incomplete information", 1955.
    """
    blocks: list[list[float]] = []  # mean, weight, length
    for value, weight in zip(values, weights, strict=True):
        blocks.append([float(value), float(weight), 1])
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            mean, mass, length = blocks.pop()
            before = blocks[-1]
            total = before[1] + mass
            blocks[-1] = [(before[0] * before[1] + mean * mass) / total, total, before[2] + length]
    return np.concatenate([np.full(int(length), mean) for mean, _, length in blocks])


def growth_of(spread: NDArray[np.float64]) -> float:
    """The power with which spread grows with the step ahead, from 0 to 1; 0.5 where one step says nothing."""
    if len(spread) < 2:
        return 0.5
    steps = np.log(np.arange(1, len(spread) + 1))
    slope = np.polyfit(steps, np.log(spread), 1)[0]
    return float(min(max(slope, 0.0), 1.0))


def _neighbours(step: int, horizon: int, num_windows: int) -> slice:
    """The steps ahead whose scores are pooled for `step`."""
    wanted = math.ceil(POOL / max(num_windows, 1))
    reach = wanted // 2
    return slice(max(0, step - reach), min(horizon, step + reach + 1))


def _normal(level: float) -> float:
    return NormalDist().inv_cdf(level)
