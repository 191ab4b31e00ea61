"""History replayed: what a forecaster would have said at each cutoff, beside what came.

R windows (series times cutoffs), H horizon, Q quantile levels
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from forecast.evaluation.metrics import column_names
from forecast.models.calibration import Calibration, context_scale, scale_floor
from forecast.models.forecaster import Forecaster
from forecast.series.calendar import zoned
from forecast.series.panel import Panel

STUCK = 0.1
"""A context that moves less than this share of what is usual for its series is taken for a stuck sensor's."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Replay:
    """Forecasts at cutoffs, one row per window."""

    unique_ids: NDArray[Any]
    """(R,)."""
    cutoffs: NDArray[Any]
    """(R,) the last stamp that the forecaster saw."""
    cutoff_steps: NDArray[np.int64]
    """(R,) the cutoff in steps from the end of the series, negative: larger is later."""
    ds: NDArray[Any]
    """(R, H)."""
    y: NDArray[np.float64]
    """(R, H) in units, NaN where missing."""
    values: NDArray[np.float64]
    """(R, H, Q) quantiles in units."""
    scale: NDArray[np.float64]
    """(R,) the in-context scale in units."""
    still: NDArray[np.bool_]
    """(R,) windows whose context holds one value as far as the scale looks back: it says nothing there."""
    mase_scale: NDArray[np.float64]
    """(R,) mean absolute seasonal difference of the history up to the cutoff; NaN where it has none."""
    in_sample: NDArray[np.bool_]
    """(R, H) targets on stamps that the forecaster was trained on."""
    quantile_levels: tuple[float, ...]
    skipped: tuple[str, ...] = ()
    """Series that had too little history at one cutoff or more and have no forecast there."""

    def __len__(self) -> int:
        return len(self.unique_ids)

    @property
    def moving(self) -> NDArray[np.bool_]:
        """(R,) windows whose context moves at least a tenth as much as those of its series usually do.

        A miss after a history that stood still is a thousand times what moved there: a few windows of a stuck
        sensor would widen all intervals. Where every context is constant, all windows count.
        """
        if self.still.all():
            return self.still
        scale = pd.Series(np.where(self.still, np.nan, self.scale))
        usual = scale.groupby(self.unique_ids).transform("median")
        return np.asarray(scale >= STUCK * usual)

    def frame(self, timezone: str | None = None) -> pd.DataFrame:
        """The windows as rows: unique_id, cutoff, ds, step, y, median, lo-80, ... and what metrics need."""
        horizon = self.y.shape[1]
        columns: dict[str, Any] = {
            "unique_id": np.repeat(self.unique_ids, horizon),
            "cutoff": zoned(np.repeat(self.cutoffs, horizon), timezone),
            "ds": zoned(self.ds.ravel(), timezone),
            "step": np.tile(np.arange(1, horizon + 1), len(self)),
            "y": self.y.ravel(),
        }
        for index, name in enumerate(column_names(self.quantile_levels)):
            columns[name] = self.values[:, :, index].ravel()
        columns["mase_scale"] = np.repeat(self.mase_scale, horizon)
        columns["cutoff_step"] = np.repeat(self.cutoff_steps, horizon)
        columns["in_sample"] = self.in_sample.ravel()
        return pd.DataFrame(columns)


def replay(
    forecaster: Forecaster, panel: Panel, cutoffs: Iterable[int], *, horizon: int, unseen: bool = False
) -> Replay:
    """Forecast `horizon` steps at each cutoff, given in steps from the end of each series.

    Nothing after a cutoff is shown to the forecaster. A series with less than `min_context` observed values
    before a cutoff has no window there and is named in `skipped`. `unseen` says that the forecaster was
    fitted on data before the cutoffs of each series, so that nothing is in sample although another series may
    end later; without it the stamps up to `trained_until` are.
    """
    scales = SeasonalScales(panel)
    joined = join([_at(forecaster, panel, cutoff, horizon, scales) for cutoff in cutoffs])
    return replace(joined, in_sample=np.zeros_like(joined.in_sample)) if unseen else joined


def uncalibrated(forecaster: Forecaster) -> Forecaster:
    """The forecaster with the quantiles that its model gives."""
    return replace(forecaster, calibration=Calibration.none(forecaster.horizon, forecaster.quantile_levels))


def join(parts: list[Replay]) -> Replay:
    """Several replays of the same panel as one."""
    arrays = (
        "unique_ids",
        "cutoffs",
        "cutoff_steps",
        "ds",
        "y",
        "values",
        "scale",
        "still",
        "mase_scale",
        "in_sample",
    )
    joined = {name: np.concatenate([getattr(part, name) for part in parts]) for name in arrays}
    skipped = sorted({name for part in parts for name in part.skipped})
    return Replay(**joined, quantile_levels=parts[0].quantile_levels, skipped=tuple(skipped))


def _at(forecaster: Forecaster, panel: Panel, cutoff: int, horizon: int, scales: "SeasonalScales") -> Replay:
    """The windows of one cutoff."""
    places, history = _histories(forecaster, panel, cutoff)
    seen = panel.lengths[places] - cutoff
    steps = seen[:, None] + np.arange(horizon)  # (R, H)
    shown = panel.select(places)
    ds = shown.stamps_at(steps)
    skipped = np.setdiff1d(np.arange(len(panel)), places)
    if history is None:
        forecast_values = np.zeros((0, horizon, len(forecaster.quantile_levels)))
        scale, still = np.zeros(0), np.zeros(0, dtype=bool)
    else:
        forecast_values = forecaster.predict(history, horizon).values
        contexts = history.contexts(forecaster.context_length)
        scale = context_scale(contexts, forecaster.info.season_length)
        still = scale <= scale_floor(contexts)
    return Replay(
        unique_ids=panel.unique_ids[places],
        cutoffs=shown.stamps_at(seen[:, None] - 1)[:, 0],
        cutoff_steps=np.full(len(places), -cutoff, dtype=np.int64),
        ds=ds,
        y=_targets(shown, steps),
        values=forecast_values,
        scale=scale,
        still=still,
        mase_scale=scales.at(places, seen),
        in_sample=_in_sample(forecaster, ds),
        quantile_levels=forecaster.quantile_levels,
        skipped=tuple(str(name) for name in panel.unique_ids[skipped]),
    )


def _histories(forecaster: Forecaster, panel: Panel, cutoff: int) -> tuple[NDArray[np.int64], Panel | None]:
    """The places of series with enough history before a cutoff, and these histories; None for none."""
    places = np.flatnonzero(panel.lengths > cutoff)
    if not len(places):
        return places, None
    history = panel.select(places).drop_last(cutoff)
    enough = forecaster.can_predict(history)
    return places[enough], history.select(np.flatnonzero(enough)) if enough.any() else None


def _targets(panel: Panel, steps: NDArray[np.int64]) -> NDArray[np.float64]:
    """Values (R, H) in units at `steps` of each series; NaN where missing or after its end."""
    inside = steps < panel.lengths[:, None]
    flat = panel.begins[:, None] + np.where(inside, steps, 0)
    values = panel.base[flat].astype(np.float64)
    y = panel.offsets[:, None] + panel.scales[:, None] * values
    return np.where(inside, y, np.nan)


def _in_sample(forecaster: Forecaster, ds: NDArray[Any]) -> NDArray[np.bool_]:
    if forecaster.trained_until is None:
        return np.zeros(ds.shape, dtype=bool)
    return np.asarray(ds <= forecaster.trained_until)


class SeasonalScales:
    """The denominator of MASE for every series and any cutoff, from running sums within each series."""

    def __init__(self, panel: Panel) -> None:
        self._panel = panel
        self._sums: dict[int, tuple[NDArray[np.float64], NDArray[np.int64]]] = {}

    def at(self, places: NDArray[np.int64], seen: NDArray[np.int64]) -> NDArray[np.float64]:
        """Mean absolute seasonal difference (R,) of the first `seen` steps; NaN where it is none or 0."""
        scales = np.full(len(places), np.nan)
        for row, (place, steps) in enumerate(zip(places, seen, strict=True)):
            totals, counts = self._running(int(place))
            pairs = steps - self._panel.season_length
            if pairs > 0 and totals[pairs - 1] > 0:
                scales[row] = totals[pairs - 1] / counts[pairs - 1]
        return scales

    def _running(self, place: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Running sums of |y_t - y_(t-m)| of one series, and of how many are observed."""
        if place not in self._sums:
            y, lag = self._panel.y(place), self._panel.season_length
            difference = np.abs(y[lag:] - y[:-lag])
            observed = np.isfinite(difference)
            self._sums[place] = (np.cumsum(np.where(observed, difference, 0.0)), np.cumsum(observed))
        return self._sums[place]
