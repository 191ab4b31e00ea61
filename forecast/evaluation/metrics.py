"""How good forecasts were, from a frame of them: errors, quantile loss and coverage.

A forecast frame has one row per series, cutoff and step: unique_id, cutoff, ds, step, y, median, lo-80,
hi-80, ..., mase_scale and in_sample. Rows without an observed y, and those in sample, do not count.
"""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from utilsforecast import losses

from forecast.evaluation.uncertainty import Estimate, clustered_mean
from forecast.series.forecast import between_levels, level_quantiles, number

METRICS = (
    "mae",
    "rmse",
    "smape",
    "mase",
    "wql",
    "coverage_80",
    "coverage_95",
    "width_80",
    "width_95",
)
"""What every backtest reports; lower is better except for coverage, which should be its level."""

COVERAGES = (80, 95)


def quantile_columns(frame: pd.DataFrame) -> dict[float, str]:
    """The quantiles of a forecast frame by level, ascending: lo-80 is 0.1, median 0.5, hi-80 0.9."""
    found = {0.5: "median"}
    for column in map(str, frame.columns):
        side, _, level = column.partition("-")
        if side in ("lo", "hi"):
            tail = round((100 - float(level)) / 200, 9)
            found[tail if side == "lo" else round(1 - tail, 9)] = column
    return dict(sorted(found.items()))


def column_names(quantile_levels: tuple[float, ...]) -> list[str]:
    """The inverse of `quantile_columns`: what each level is called in a forecast frame."""
    return [_column(level) for level in quantile_levels]


def _column(level: float) -> str:
    if level == 0.5:
        return "median"
    percent = number(round(100 * abs(1 - 2 * level), 9))
    return f"lo-{percent}" if level < 0.5 else f"hi-{percent}"


def countable(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows that metrics are made of: observed, and after the forecaster's training data."""
    rows = frame[np.isfinite(frame["y"].to_numpy(dtype=np.float64))]
    unseen: pd.DataFrame = rows[~rows["in_sample"].to_numpy(dtype=bool)] if "in_sample" in rows else rows
    return unseen


def score(frame: pd.DataFrame) -> dict[str, float]:
    """Every metric over the whole frame; NaN where nothing can be scored.

    mae, rmse in units; smape in percent, 0 to 200 as in the M4 competition; mase over the windows whose
    history moves (mean absolute seasonal difference up to the cutoff); wql = twice the mean quantile loss
    over the frame's levels divided by the mean of |y|; coverage_80 and coverage_95 are shares of targets
    inside; width_80 and width_95 the mean width of the intervals in units.
    """
    table = score_by(frame, None)
    return {name: float(table[name].iloc[0]) for name in METRICS}


def score_by(frame: pd.DataFrame, by: str | None) -> pd.DataFrame:
    """Every metric per value of the column `by` (the index of the answer), or over all for None."""
    rows = countable(frame)
    groups = rows[by].to_numpy() if by else np.zeros(len(rows), dtype=np.int64)
    if not len(rows):
        return pd.DataFrame(np.nan, index=[0], columns=list(METRICS)).iloc[: 0 if by else 1]
    names = ["y", "median", "mase_scale", *(f"{s}-{c}" for c in COVERAGES for s in ("lo", "hi"))]
    table = rows[[name for name in names if name in rows]].assign(group=groups)
    parts = {
        "mae": _loss(losses.mae, table),
        "rmse": _loss(losses.rmse, table),
        "smape": 200 * _loss(losses.smape, table),
        "mase": _mase(table),
        "wql": _wql(rows, groups),
        **{f"coverage_{level}": _coverage(table, level) for level in COVERAGES},
        **{f"width_{level}": _width(table, level) for level in COVERAGES},
    }
    return pd.DataFrame(parts)[list(METRICS)]


def _loss(function, table: pd.DataFrame) -> pd.Series:  # type: ignore[no-untyped-def]
    answer: pd.Series = function(table, models=["median"], id_col="group").set_index("group")["median"]
    return answer


def _mase(table: pd.DataFrame) -> pd.Series:
    """Mean absolute error in units of `mase_scale`, over the windows that have one."""
    scaled = table[table["mase_scale"].to_numpy(dtype=np.float64) > 0]
    everywhere = pd.Index(table["group"].unique(), name="group")
    if not len(scaled):
        return pd.Series(np.nan, index=everywhere)
    relative = scaled.assign(
        y=scaled["y"] / scaled["mase_scale"], median=scaled["median"] / scaled["mase_scale"]
    )
    return _loss(losses.mae, relative).reindex(everywhere)


def _wql(rows: pd.DataFrame, groups: NDArray) -> pd.Series:
    """Twice the mean quantile loss over the levels, summed and divided by the sum of |y|.

    Source: utilsforecast's `scaled_crps`, in one pass over all levels instead of one table operation for
    each.
    """
    y = rows["y"].to_numpy(dtype=np.float64)
    sums = pd.DataFrame({"loss": _pinball(rows, y), "size": np.abs(y)}).groupby(groups).sum()
    return sums["loss"] / sums["size"].where(sums["size"] > 0)


def _coverage(table: pd.DataFrame, level: int) -> pd.Series:
    if f"lo-{level}" not in table:
        return pd.Series(np.nan, index=pd.Index(table["group"].unique(), name="group"))
    named = table.rename(columns={f"{side}-{level}": f"m-{side}-{level}" for side in ("lo", "hi")})
    return losses.coverage(named, models=["m"], level=level, id_col="group").set_index("group")["m"]


def _width(table: pd.DataFrame, level: int) -> pd.Series:
    if f"lo-{level}" not in table:
        return pd.Series(np.nan, index=pd.Index(table["group"].unique(), name="group"))
    width: pd.Series = (table[f"hi-{level}"] - table[f"lo-{level}"]).groupby(table["group"]).mean()
    return width


def unscaled(frame: pd.DataFrame) -> tuple[str, ...]:
    """Series left out of mase because their history up to a cutoff never moves by season."""
    still = ~(frame["mase_scale"].to_numpy(dtype=np.float64) > 0)
    return tuple(sorted({str(name) for name in frame["unique_id"][still]}))


def row_losses(frame: pd.DataFrame, metric: str) -> NDArray[np.float64]:
    """The loss of each row (R,), whose mean orders models as `metric` (wql, mae, rmse, smape, mase) does."""
    y, median = (frame[name].to_numpy(dtype=np.float64) for name in ("y", "median"))
    if metric == "wql":
        return _pinball(frame, y)
    if metric == "mae":
        return np.asarray(np.abs(y - median))
    if metric == "rmse":
        return np.asarray(np.square(y - median))
    if metric == "smape":
        size = np.abs(y) + np.abs(median)
        return np.asarray(200 * np.abs(y - median) / np.where(size > 0, size, 1.0))
    scale = frame["mase_scale"].to_numpy(dtype=np.float64)
    return np.where(scale > 0, np.abs(y - median) / np.where(scale > 0, scale, 1.0), np.nan)


def _pinball(frame: pd.DataFrame, y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Twice the quantile loss averaged over the frame's levels, (R,) in units."""
    columns = quantile_columns(frame)
    levels = np.array(list(columns))
    error = y[:, None] - frame[list(columns.values())].to_numpy(dtype=np.float64)  # (R, Q)
    return np.asarray(2 * np.maximum(levels * error, (levels - 1) * error).mean(axis=1))


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """How often targets fell into an interval, with the standard error that overlapping windows leave."""

    level: float
    """In percent."""
    estimate: Estimate
    width: float
    """Mean width of the interval, in units."""

    def excludes(self, nominal: float) -> bool:
        """Whether the 95 % range of the estimate excludes a share; never where its error is unknown."""
        return self.estimate.is_sure and abs(self.estimate.mean - nominal) > 1.96 * self.estimate.error


def coverage(frame: pd.DataFrame, level: float, *, horizon: int) -> Coverage:
    """Coverage of one central interval, in percent, with its standard error, by series and time.

    LevelError for a level outside (0, 100). Between the levels of the frame the interval is interpolated as
    in a forecast.
    """
    rows = countable(frame)
    low, high = _interval(rows, level)
    inside = rows["y"].between(low, high).astype(float)
    windows = inside.groupby([rows["unique_id"], rows["cutoff_step"]], sort=True).mean()
    shares = np.asarray(windows, dtype=np.float64)
    names = windows.index.get_level_values(0).to_numpy()
    steps = windows.index.get_level_values(1).to_numpy(dtype=np.int64)
    estimate = clustered_mean(shares, series=names, steps=steps, span=horizon)
    width = float(np.mean(high - low)) if len(rows) else math.nan
    return Coverage(level=level, estimate=estimate, width=width)


def _interval(rows: pd.DataFrame, level: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both ends (R,) of a central interval of a forecast frame."""
    low, high = level_quantiles(level)
    name = number(level)
    if f"lo-{name}" in rows:
        return rows[f"lo-{name}"].to_numpy(dtype=np.float64), rows[f"hi-{name}"].to_numpy(dtype=np.float64)
    columns = quantile_columns(rows)
    values = rows[list(columns.values())].to_numpy(dtype=np.float64)
    grid = np.array(list(columns))
    return between_levels(grid, values, low), between_levels(grid, values, high)
