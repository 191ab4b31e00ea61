"""Forecasts that need no training, last value, last season, straight line; and every baseline by name.

B windows, L context_length, H horizon, Q quantile levels
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from forecast.errors import SpecError
from forecast.models.calibration import SCALE_SEASONS, Calibration, look_back
from forecast.models.forecaster import Backend, Forecaster, ForecasterInfo
from forecast.models.identity import Identity
from forecast.models.ridge import RidgeBackend
from forecast.models.spec import ModelSpec
from forecast.models.statistical import PROCEDURES, StatisticalBackend
from forecast.series.batch import ContextBatch, last_observed, saturated
from forecast.series.panel import Panel


def naive(context: NDArray[np.float64], horizon: int, season_length: int) -> NDArray[np.float64]:
    """The last observed value, (B, H); rows of `context` (B, L) may hold NaN."""
    return np.repeat(last_observed(context)[:, None], horizon, axis=1)


def seasonal_naive(context: NDArray[np.float64], horizon: int, season_length: int) -> NDArray[np.float64]:
    """The value of the same phase one season before, (B, H).

    A phase that is missing in the last season takes the newest season that has it; one that was never
    observed takes the last observed value.
    """
    num_windows, length = context.shape
    seasons = -(-length // season_length)
    padded = np.full((num_windows, seasons * season_length), np.nan)
    padded[:, padded.shape[1] - length :] = context
    by_phase = padded.reshape(num_windows, seasons, season_length).transpose(0, 2, 1)
    rows = by_phase.reshape(-1, seasons)
    last_season = last_observed(rows).reshape(num_windows, season_length)
    observed = np.isfinite(rows).any(axis=1).reshape(num_windows, season_length)
    filled = np.where(observed, last_season, last_observed(context)[:, None])
    return filled[:, np.arange(horizon) % season_length]


def drift(context: NDArray[np.float64], horizon: int, season_length: int) -> NDArray[np.float64]:
    """The line through the first and the last observed value, continued, (B, H).

    Source: Hyndman & Athanasopoulos, "Forecasting: Principles and Practice", section 5.2, over the context
    instead of the whole history.
    """
    rows = np.arange(len(context))
    observed = np.isfinite(context)
    first = observed.argmax(axis=1)
    last = context.shape[1] - 1 - observed[:, ::-1].argmax(axis=1)
    slope = (context[rows, last] - context[rows, first]) / np.maximum(last - first, 1)
    steps = np.arange(1, horizon + 1) + (context.shape[1] - 1 - last)[:, None]
    line: NDArray[np.float64] = context[rows, last][:, None] + slope[:, None] * steps
    return line


BASELINES: dict[str, Callable[[NDArray[np.float64], int, int], NDArray[np.float64]]] = {
    "naive": naive,
    "seasonal_naive": seasonal_naive,
    "drift": drift,
}


class BaselineBackend:
    """A baseline in the place of a network: a point forecast, whose width comes from calibration."""

    def __init__(self, name: str, *, horizon: int, season_length: int, num_quantiles: int) -> None:
        if name not in BASELINES:
            raise SpecError(f"no baseline is called {name!r}; there are: {', '.join(BASELINES)}")
        self.name = name
        self.horizon = horizon
        self.season_length = season_length
        self.num_quantiles = num_quantiles

    def __call__(self, batch: ContextBatch) -> NDArray[np.float32]:
        context = batch.context.astype(np.float64)
        points = BASELINES[self.name](context, self.horizon, self.season_length)
        return np.repeat(saturated(points)[:, :, None], self.num_quantiles, axis=2)

    def tensors(self) -> dict[str, NDArray]:
        return {}

    def export_onnx(self, path: Path) -> bool:
        return False


def default_context_length(backbone: str = "naive", *, season_length: int) -> int:
    """Steps a baseline looks back: what the near look-back of the in-context scale reads.

    A procedure that is fitted to each history looks back ten seasons, at least 200 steps.
    """
    if backbone in PROCEDURES:
        return max(10 * season_length, 200)
    return look_back(min(SCALE_SEASONS), season_length)


def baseline_forecaster(
    panel: Panel, spec: ModelSpec, *, reasons: dict[str, str] | None = None
) -> Forecaster:
    """The forecaster of a baseline spec without weights, as if trained on `panel`; not calibrated yet."""
    season_length = spec.season_length or panel.season_length
    resolved = spec.with_(
        season_length=season_length,
        context_length=spec.context_length
        or default_context_length(spec.backbone, season_length=season_length),
    )
    info = ForecasterInfo.of(panel, resolved, reasons=reasons)
    return Forecaster(
        info=info,
        backend=baseline_backend(info),
        calibration=Calibration.none(spec.horizon, tuple(spec.quantile_levels)),
        identity=Identity.of(panel),
    )


def baseline_backend(info: ForecasterInfo, tensors: dict[str, NDArray] | None = None) -> Backend:
    """The backend of any baseline; only a ridge has weights, in `tensors`."""
    name, num_quantiles = str(info.model["backbone"]), len(info.quantile_levels)
    if name == "ridge":
        return RidgeBackend.from_tensors(
            tensors or {},
            transform=str(info.model["transform"]),
            season_length=info.season_length,
            num_quantiles=num_quantiles,
        )
    kind = StatisticalBackend if name in PROCEDURES else BaselineBackend
    return kind(name, horizon=info.horizon, season_length=info.season_length, num_quantiles=num_quantiles)
