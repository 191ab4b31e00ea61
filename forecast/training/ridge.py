"""Ridge autoregression: one linear map from the last changes to the next steps, learned over all series.

R windows, H horizon, K lags
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import RidgeCV

from forecast.errors import DataError, SpecError, ValueRangeError
from forecast.models.baselines import default_context_length
from forecast.models.calibration import Calibration
from forecast.models.forecaster import Forecaster, ForecasterInfo, named
from forecast.models.identity import Identity
from forecast.models.ridge import TRANSFORMS, RidgeBackend, filled, read
from forecast.models.spec import ModelSpec
from forecast.series.panel import Panel

MAX_WINDOWS = 40_000
"""Windows learned from, spread evenly over all series: more change the weights little."""

MAX_SERIES = 5_000
"""Series learned from, spread evenly."""

MAX_LAGS = 512

PENALTIES = np.logspace(-5, 1, 13)
"""Strengths tried, as shares of the sum of squares of a feature; leave-one-out error chooses."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Windows:
    """Histories and what followed, in units."""

    history: NDArray[np.float64]
    """(R, K + 1), NaN only before the start of a series."""
    target: NDArray[np.float64]
    """(R, H)."""

    def __len__(self) -> int:
        return len(self.history)


def fit_ridge(panel: Panel, spec: ModelSpec, *, held_out: int = 0) -> Forecaster:
    """A ridge autoregression on every series of `panel`; not calibrated yet.

    It reads differences or log differences (`transform` none or log); what a spec leaves open is chosen by
    the error on the last `held_out` steps of each series, which teach no weights. Without them the last tenth
    (at least one horizon) chooses and teaches afterwards. Raises DataError where no series is long enough,
    SpecError for another transform, ValueRangeError for values without a logarithm where that was asked for.
    """
    season_length = spec.season_length or panel.season_length
    num_lags, why = _num_lags(panel, spec, season_length)
    places = _spread(len(panel), MAX_SERIES)
    lines = [_line(panel, place, season_length) for place in places]
    _check_domain(lines, panel.unique_ids[places], spec)
    transform, reason = _transform(lines, spec, num_lags=num_lags, held_out=held_out)
    training = _windows(lines, num_lags=num_lags, horizon=spec.horizon, leave=held_out)
    if not len(training):
        raise DataError(
            f"a ridge learns from at least {spec.horizon + 2} observed steps of one series "
            f"(horizon={spec.horizon}) and the longest has {int(panel.lengths.max(initial=0))}; "
            "send longer series, or lower the horizon"
        )
    resolved = spec.with_(
        season_length=season_length,
        context_length=spec.context_length
        or max(num_lags + 1, default_context_length(season_length=season_length)),
        transform=transform,
    )
    info = ForecasterInfo.of(panel, resolved, reasons={"context_length": why, "transform": reason})
    return Forecaster(
        info=info,
        backend=_learn(training, transform, season_length=season_length, num_quantiles=spec.num_quantiles),
        calibration=Calibration.none(spec.horizon, tuple(spec.quantile_levels)),
        identity=Identity.of(panel),
    )


def _num_lags(panel: Panel, spec: ModelSpec, season_length: int) -> tuple[int, str]:
    """How many changes are read: two seasons or four horizons, as far as the series are long enough."""
    if spec.context_length is not None:
        return max(spec.context_length - 1, 1), "as asked for"
    wanted = max(2 * season_length, 4 * spec.horizon)
    room = 3 * int(np.median(panel.lengths)) // 8
    return max(1, min(wanted, room, MAX_LAGS)), (
        f"two seasons or four horizons of changes ({wanted}), at most three eighths of a typical series and "
        f"{MAX_LAGS}"
    )


def _spread(count: int, most: int) -> NDArray[np.int64]:
    """At most so many places of `count`, spread evenly."""
    return np.asarray(np.linspace(0, count - 1, min(count, most)).round(), dtype=np.int64)


def _line(panel: Panel, place: int, season_length: int) -> NDArray[np.float64]:
    """One series from its first observed value on, gaps filled."""
    y = panel.y(place)
    observed = np.flatnonzero(np.isfinite(y))
    if not len(observed):
        return np.zeros(0)
    line: NDArray[np.float64] = filled(y[None, observed[0] :], season_length=season_length)[0]
    return line


def _check_domain(lines: list[NDArray[np.float64]], names: NDArray, spec: ModelSpec) -> None:
    if spec.transform not in (None, *TRANSFORMS):
        raise SpecError(f"a ridge reads transform none or log; got {spec.transform!r}")
    wrong = np.array([(line <= 0).any() for line in lines])
    if spec.transform == "log" and wrong.any():
        raise ValueRangeError(
            f"transform='log' needs values above zero, and {named(names[wrong])} goes down to "
            f"{min(float(line.min()) for line in lines if len(line)):g}; choose transform='none', or leave "
            "these series out"
        )


def _transform(
    lines: list[NDArray[np.float64]], spec: ModelSpec, *, num_lags: int, held_out: int
) -> tuple[str, str]:
    """What the ridge reads, and why."""
    if spec.transform is not None:
        return spec.transform, "as asked for"
    if any((line <= 0).any() for line in lines):
        return "none", "values at or below zero have no logarithm"
    typical = int(np.median([len(line) for line in lines]))
    held_out = held_out or max(spec.horizon, typical // 10)
    training = _windows(lines, num_lags=num_lags, horizon=spec.horizon, leave=held_out)
    judge = _windows(lines, num_lags=num_lags, horizon=spec.horizon, only_last=held_out)
    if not len(training) or not len(judge):
        return "log", "all values are positive, and there are too few to choose by"
    errors = {name: _error(_learn(training, name), judge) for name in TRANSFORMS}
    best = min(TRANSFORMS, key=lambda name: errors[name])
    shown = ", ".join(f"{name} {error:.3g}" for name, error in errors.items())
    return best, f"the smaller error in units of the window's changes on held-out steps: {shown}"


def _windows(
    lines: list[NDArray[np.float64]], *, num_lags: int, horizon: int, leave: int = 0, only_last: int = 0
) -> Windows:
    """At most 40,000 windows of all series: targets before the last `leave`, or in the `only_last` steps.

    A series too short for a full history gives windows that begin before it does.
    """
    ends = [np.arange(*_ends(len(line), num_lags, horizon, leave, only_last)) for line in lines]
    counts = np.array([len(each) for each in ends])
    chosen = _spread(int(counts.sum()), MAX_WINDOWS) if counts.sum() else np.zeros(0, dtype=np.int64)
    owner = np.searchsorted(np.cumsum(counts), chosen, side="right")
    within = chosen - (np.cumsum(counts) - counts)[owner]
    history = np.full((len(chosen), num_lags + 1), np.nan)
    target = np.empty((len(chosen), horizon))
    for place in np.unique(owner):
        rows = np.flatnonzero(owner == place)
        padded = np.concatenate([np.full(num_lags, np.nan), lines[place]])
        whole = np.lib.stride_tricks.sliding_window_view(padded, num_lags + 1 + horizon)
        cut = whole[ends[place][within[rows]] - 1]
        history[rows], target[rows] = cut[:, : num_lags + 1], cut[:, num_lags + 1 :]
    return Windows(history=history, target=target)


def _ends(length: int, num_lags: int, horizon: int, leave: int, only_last: int) -> tuple[int, int]:
    """From and up to which number of steps seen the windows of a series of `length` steps go."""
    last = length - leave - horizon
    first = num_lags + 1 if last > num_lags else 2
    if only_last:
        first = max(first, length - only_last)
    return first, max(last + 1, first)


def _learn(
    training: Windows, transform: str, *, season_length: int = 1, num_quantiles: int = 1
) -> RidgeBackend:
    changes, size = read(training.history, transform)
    moves = size[:, 0] > 0
    if not moves.any():
        moves, size = np.ones(len(size), dtype=bool), np.ones_like(size)
    last = training.history[:, -1:]
    ahead = np.log(training.target / last) if transform == "log" else training.target - last
    features, answers = changes[moves], (ahead / np.where(size > 0, size, 1.0))[moves]
    total = float(np.square(features).sum() / features.shape[1]) or 1.0
    model = RidgeCV(alphas=PENALTIES * total).fit(features, answers)
    return RidgeBackend(
        np.atleast_2d(model.coef_).astype(np.float32),
        np.atleast_1d(model.intercept_).astype(np.float32),
        transform=transform,
        season_length=season_length,
        num_quantiles=num_quantiles,
    )


def _error(model: RidgeBackend, judge: Windows) -> float:
    """Mean absolute error in units of each window's mean change; infinite where it is no number."""
    with np.errstate(over="ignore", invalid="ignore"):
        misses = np.abs(model.points(judge.history) - judge.target).mean(axis=1)
        moves = np.nanmean(np.abs(np.diff(judge.history, axis=1)), axis=1)
    error = float(np.mean(misses[moves > 0] / moves[moves > 0])) if (moves > 0).any() else math.inf
    return error if math.isfinite(error) else math.inf
