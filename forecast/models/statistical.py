"""AutoETS and AutoTheta: models without weights, fitted to each history when it is forecast.

B windows, L context_length, H horizon, Q quantile levels

statsforecast is imported when such a model is built or loaded, never before.
"""

import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forecast.errors import SpecError
from forecast.models.ridge import filled
from forecast.series.batch import ContextBatch, saturated

PROCEDURES = {"auto_ets": "AutoETS", "auto_theta": "AutoTheta"}
"""Names of the catalogue, and of the classes in statsforecast."""

MIN_OBSERVED = 5
"""Shorter histories, which the procedures refuse, repeat their last value."""


class StatisticalBackend:
    """A procedure of statsforecast in the place of a network: a point forecast per window.

    Gaps are filled as one season before. A history without movement, one of fewer than five values, and one
    to which no model can be fitted repeat their last value; one shorter than two seasons is read without a
    season. Width comes from calibration. SpecError where statsforecast is not installed.

    Source: Hyndman et al., "A state space framework for automatic forecasting using exponential smoothing
    methods", 2002; Fiorucci et al., "Models for optimising the theta method", 2016; both as in statsforecast.
    """

    def __init__(self, name: str, *, horizon: int, season_length: int, num_quantiles: int) -> None:
        self.horizon = horizon
        self.season_length = season_length
        self.num_quantiles = num_quantiles
        self._procedure = _imported(name)

    def __call__(self, batch: ContextBatch) -> NDArray[np.float32]:
        histories = filled(batch.raw(), season_length=self.season_length)
        points = np.stack([self._points(row[np.isfinite(row)]) for row in histories])
        return np.repeat(saturated(points - batch.level[:, None])[:, :, None], self.num_quantiles, axis=2)

    def tensors(self) -> dict[str, NDArray]:
        return {}

    def export_onnx(self, path: Path) -> bool:
        return False

    def _points(self, history: NDArray[np.float64]) -> NDArray[np.float64]:
        """The forecast (H,) of one history without gaps, in units."""
        last = np.full(self.horizon, history[-1])
        if len(history) < MIN_OBSERVED or np.ptp(history) == 0:
            return last
        season_length = self.season_length if len(history) >= 2 * self.season_length else 1
        size = np.abs(history).mean()
        try:
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                answer = self._procedure(season_length=season_length).forecast(
                    y=history / size, h=self.horizon
                )
        except Exception:  # statsforecast says "no model fits" with errors of many types
            return last
        points = np.asarray(answer["mean"], dtype=np.float64) * size
        return np.where(np.isfinite(points), points, last)


def _imported(name: str) -> Any:
    """The class of statsforecast."""
    try:
        return getattr(import_module("statsforecast.models"), PROCEDURES[name])
    except ImportError as error:
        raise SpecError(
            f"the model {name!r} needs the package statsforecast, which is not installed here; install it "
            "with: pip install statsforecast"
        ) from error
