"""What people look at: a candidate's backtest and training as pictures.

Every function takes plain tables and returns a matplotlib figure that belongs to no window.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from forecast.evaluation.figures import OBSERVED, OWN, canvas, latest_cutoffs, short_dates
from forecast.evaluation.metrics import countable, quantile_columns

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from forecast.evaluation.candidates import Evaluated

PALE = "#9cc5ee"


def of_candidate(
    evaluated: "Evaluated", curves: Sequence[Mapping[str, float | None]], *, metric: str
) -> "Iterator[tuple[str, Figure]]":
    """(file name, figure) one after the other; learning curves only where something was learned."""
    title = evaluated.name
    yield "fan_charts.png", fan_charts(evaluated.forecasts, evaluated.by_series, metric=metric, title=title)
    yield "error_by_step.png", error_by_step(evaluated.by_step, title=title)
    yield "calibration.png", calibration(evaluated.forecasts, title=title)
    yield "residuals.png", residuals(evaluated.forecasts, title=title)
    if curves:
        yield "loss_curves.png", loss_curves(curves, title=title)


def fan_charts(frame: pd.DataFrame, by_series: pd.DataFrame, *, metric: str, title: str) -> "Figure":
    """The best, the median and the worst series by `metric`: what came, and what was forecast."""
    chosen = extremes(by_series, metric)
    figure, rows = canvas(len(chosen), title=f"{title}: forecasts of unseen windows", height=2.6)
    for axis, (label, name, value) in zip(rows, chosen, strict=True):
        windows = frame[frame["unique_id"].astype(str) == name].sort_values(["cutoff", "step"])
        for cutoff in latest_cutoffs(windows):
            fan = windows[windows["cutoff"] == cutoff]
            for level, alpha in ((95, 0.18), (80, 0.32)):
                if f"lo-{level}" in fan:
                    axis.fill_between(
                        fan["ds"], fan[f"lo-{level}"], fan[f"hi-{level}"], color=OWN, alpha=alpha, linewidth=0
                    )
            axis.plot(fan["ds"], fan["median"], color=OWN, linewidth=1.6)
        seen = windows.drop_duplicates("ds").sort_values("ds")
        axis.plot(seen["ds"], seen["y"], color=OBSERVED, linewidth=1.1, marker=".", markersize=3)
        axis.set_title(f"{label}: {name} ({metric} {value:.3g})", loc="left", fontsize=9)
        axis.tick_params(labelsize=8)
        short_dates(axis, seen["ds"])
    return figure


def extremes(by_series: pd.DataFrame, metric: str) -> list[tuple[str, str, float]]:
    """(label, unique_id, value) of the best, the median and the worst series; fewer where there are fewer."""
    ranked = by_series[np.isfinite(by_series[metric].to_numpy(dtype=np.float64))].sort_values(metric)
    if not len(ranked):
        return []
    places = {0: "best", len(ranked) // 2: "median", len(ranked) - 1: "worst"}
    if len(ranked) == 1:
        places = {0: "the only series"}
    elif len(ranked) == 2:
        places = {0: "best", 1: "worst"}
    rows = [(label, ranked.iloc[place]) for place, label in sorted(places.items())]
    return [(label, str(row["unique_id"]), float(row[metric])) for label, row in rows]


def error_by_step(by_step: Mapping[str, NDArray[np.float64]], *, title: str) -> "Figure":
    """The mean absolute error, and the coverage of the intervals, by steps ahead."""
    figure, (errors, shares) = canvas(2, title=f"{title}: by steps ahead")
    steps = np.arange(1, len(by_step["mae"]) + 1)
    errors.plot(steps, by_step["mae"], color=OWN, marker="o", markersize=3)
    errors.set_ylim(bottom=0)
    errors.set_title("mean absolute error, in units", loc="left", fontsize=9)
    for level, colour in ((80, OWN), (95, "#c2571a")):
        if f"coverage_{level}" in by_step:
            shares.plot(steps, 100 * by_step[f"coverage_{level}"], color=colour, label=f"{level} % interval")
            shares.axhline(level, color=colour, linewidth=0.8, linestyle="--")
    shares.set_ylim(0, 103)
    shares.set_title("values inside the intervals, in percent (dashed: aimed at)", loc="left", fontsize=9)
    shares.set_xlabel("steps ahead")
    shares.legend(frameon=False, fontsize=8, loc="lower left")
    for axis in (errors, shares):
        axis.xaxis.get_major_locator().set_params(integer=True)
    return figure


def calibration(frame: pd.DataFrame, *, title: str) -> "Figure":
    """The share of values below each quantile, against the quantile's level."""
    rows = countable(frame)
    columns = quantile_columns(rows)
    levels = np.array(list(columns))
    below = np.array([(rows["y"] <= rows[column]).mean() for column in columns.values()])
    figure, (axis,) = canvas(1, title=f"{title}: calibration of the quantiles", height=4.2, width=4.8)
    axis.plot([0, 1], [0, 1], color="#9ca3af", linewidth=0.9, linestyle="--")
    axis.plot(levels, below, color=OWN, marker="o", markersize=4)
    axis.set_xlabel("quantile level")
    axis.set_ylabel(f"share of {len(rows)} values below")
    axis.set_xlim(0, 1)
    axis.set_ylim(0, 1)
    return figure


def residuals(frame: pd.DataFrame, *, title: str) -> "Figure":
    """Errors of the median over time, and how they are distributed."""
    rows = countable(frame)
    errors = rows["y"].to_numpy(dtype=np.float64) - rows["median"].to_numpy(dtype=np.float64)
    figure, (over_time, spread) = canvas(2, title=f"{title}: observed less median, in units")
    over_time.plot(rows["ds"], errors, ".", color=OWN, markersize=3, alpha=0.6)
    over_time.axhline(0, color="#9ca3af", linewidth=0.8)
    over_time.set_title("over time", loc="left", fontsize=9)
    short_dates(over_time, rows["ds"])
    if len(errors):
        spread.hist(errors, bins=min(40, max(5, len(errors) // 5)), color=PALE, edgecolor="white")
    spread.axvline(0, color="#9ca3af", linewidth=0.8)
    bias = f", mean {errors.mean():.3g}" if len(errors) else ""
    spread.set_title(f"how often{bias}", loc="left", fontsize=9)
    return figure


def loss_curves(curves: Sequence[Mapping[str, float | None]], *, title: str) -> "Figure":
    """Training and validation loss over the optimiser's steps."""
    figure, (axis,) = canvas(1, title=f"{title}: loss over steps", height=3.6)
    names = sorted({name for point in curves for name in point if name.partition("/")[0].endswith("_loss")})
    for name in names:
        points = [(point["step"], point[name]) for point in curves if point.get(name) is not None]
        if points:
            own = name.startswith("validation")
            steps, losses = zip(*points, strict=True)
            axis.plot(
                steps,
                losses,
                label=name.replace("_", " ").replace("/", ", "),
                color=OWN if own else OBSERVED,
                alpha=0.9 if "/" not in name else 0.35,
                marker="." if len(points) < 30 else None,
            )
    axis.set_xlabel("steps")
    if len(axis.lines) <= 6:
        axis.legend(frameon=False, fontsize=8)
    return figure
