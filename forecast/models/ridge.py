"""Ridge autoregression at work: the next steps as linear maps of the last changes.

B windows, L context_length, H horizon, K lags, Q quantile levels

Changes are log differences, or differences in units of their own mean size in the window, so that one table
of weights serves series of any level.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from forecast.errors import ArtifactError
from forecast.series.batch import ContextBatch, saturated

TRANSFORMS = ("none", "log")
"""What a ridge may read: differences, or log differences of positive values."""

LARGEST_LOG = 10.0
"""No forecast is further than this from the last value in logs: a factor of 22,000."""


class RidgeBackend:
    """A ridge autoregression in the place of a network: a point forecast, whose width comes from calibration.

    coefficients (H, K) and intercepts (H,): the change from the last value to each step ahead, from the last
    K changes. A window without movement repeats its last value.
    """

    def __init__(
        self,
        coefficients: NDArray[np.float32],
        intercepts: NDArray[np.float32],
        *,
        transform: str,
        season_length: int,
        num_quantiles: int,
    ) -> None:
        if coefficients.ndim != 2 or intercepts.shape != coefficients.shape[:1]:
            raise ArtifactError(
                f"a ridge needs coefficients (H, K) and intercepts (H,), and got {coefficients.shape} and "
                f"{intercepts.shape}"
            )
        self.coefficients = coefficients
        self.intercepts = intercepts
        self.transform = transform
        self.season_length = season_length
        self.num_quantiles = num_quantiles

    @classmethod
    def from_tensors(
        cls, tensors: dict[str, NDArray], *, transform: str, season_length: int, num_quantiles: int
    ) -> "RidgeBackend":
        """The inverse of `tensors`; ArtifactError where one is missing."""
        if missing := {"coefficients", "intercepts"} - set(tensors):
            raise ArtifactError(f"the ridge lacks {sorted(missing)}")
        return cls(
            tensors["coefficients"],
            tensors["intercepts"],
            transform=transform,
            season_length=season_length,
            num_quantiles=num_quantiles,
        )

    def __call__(self, batch: ContextBatch) -> NDArray[np.float32]:
        history = filled(batch.raw(), season_length=self.season_length, positive=self.transform == "log")
        points = self.points(history) - batch.level[:, None]
        return np.repeat(saturated(points)[:, :, None], self.num_quantiles, axis=2)

    def points(self, history: NDArray[np.float64]) -> NDArray[np.float64]:
        """Forecasts (B, H) in units for histories (B, L) as `filled` leaves them."""
        num_lags = self.coefficients.shape[1]
        changes, size = read(history[:, -num_lags - 1 :], self.transform)
        padded = np.zeros((len(history), num_lags))
        padded[:, num_lags - changes.shape[1] :] = changes
        ahead = (padded @ self.coefficients.T.astype(np.float64) + self.intercepts) * size
        last = history[:, -1:]
        if self.transform == "log":
            return np.asarray(last + last * np.expm1(np.clip(ahead, -LARGEST_LOG, LARGEST_LOG)))
        return np.asarray(last + ahead)

    def tensors(self) -> dict[str, NDArray]:
        return {"coefficients": self.coefficients, "intercepts": self.intercepts}

    def export_onnx(self, path: Path) -> bool:
        return False


def read(history: NDArray[np.float64], transform: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The changes (B, L - 1) of histories (B, L) in their size, and that size (B, 1).

    Changes before the start of a series, where the history is NaN, are 0. For logs the size is 1; it is 0
    where a window does not move, and then no forecast does.
    """
    changes = np.diff(np.log(history) if transform == "log" else history, axis=1)
    observed = np.isfinite(changes)
    changes = np.where(observed, changes, 0.0)
    moves = np.abs(changes).sum(axis=1, keepdims=True)
    if transform == "log":
        return changes, (moves > 0).astype(np.float64)
    size = moves / np.maximum(observed.sum(axis=1, keepdims=True), 1)
    return changes / np.where(size > 0, size, 1.0), size


def filled(values: NDArray[np.float64], *, season_length: int, positive: bool = False) -> NDArray[np.float64]:
    """Rows (B, L) whose gaps after the first observed value go on as one season before.

    A missing value is the one before it plus the change of the same step one season earlier, or the one
    before it where that is not known. With `positive`, values at or below zero count as missing; what is
    filled in stays above zero, and a row without a positive value becomes all ones. NaN before the start
    remains.
    """
    values = np.where(values > 0, values, np.nan) if positive else values.copy()
    missing = np.isnan(values)
    if positive:
        values[missing.all(axis=1), -1] = 1.0
    lowest = np.nanmin(values, axis=1) if positive else np.full(len(values), -np.inf)
    begun = np.logical_or.accumulate(~np.isnan(values), axis=1)
    for step in np.flatnonzero((np.isnan(values) & begun).any(axis=0)):
        rows = np.isnan(values[:, step]) & begun[:, step]
        before = values[rows, step - 1]
        change = np.zeros(len(before))
        if step > season_length:
            change = values[rows, step - season_length] - values[rows, step - season_length - 1]
        values[rows, step] = np.maximum(before + np.nan_to_num(change), lowest[rows])
    return values
