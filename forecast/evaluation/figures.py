"""What a backtest looks like: six figures, each answering one question.

matplotlib is imported when the first figure is drawn.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from forecast.errors import SpecError
from forecast.evaluation.metrics import countable, quantile_columns
from forecast.models.catalog import BASELINES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from forecast.evaluation.backtest import Backtest

OWN, OBSERVED = "#0b6bcb", "#222222"
BESIDE = ("#c2571a", "#5b8c3e", "#8a5aa8", "#b8860b", "#6b7280", "#2a9d9d")
MAX_FANS = 3
MAX_CUTOFFS = 4
MAX_WORST = 10
MAX_LAGS = 36


def figures(result: "Backtest") -> "dict[str, Figure]":
    """Every figure of a backtest by name, as matplotlib figures that belong to no window.

    SpecError where matplotlib is not installed.
    """
    drawn = {}
    for name, (draw, title) in FIGURES.items():
        num_rows = _num_fans(result) if name == "forecasts" else 1
        figure, axes = canvas(num_rows, title=title, height=2.4 if num_rows > 1 else 3.3)
        draw(result, axes if num_rows > 1 else axes[0])
        drawn[name] = figure
    return drawn


def canvas(
    num_rows: int, *, title: str, height: float = 2.5, width: float = 8.0
) -> "tuple[Figure, NDArray[Any]]":
    """A titled figure with so many rows of axes, `height` and `width` of a row in inches.

    SpecError where matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise SpecError(
            "figures need the package matplotlib; install it with: pip install matplotlib"
        ) from error
    figure = Figure(figsize=(width, height * max(num_rows, 1) + 0.5), dpi=110, layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    rows = figure.subplots(num_rows, 1, squeeze=False)[:, 0] if num_rows else np.array([])
    for axis in rows:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(axis="y", color="#e5e7eb", linewidth=0.8)
        axis.set_axisbelow(True)
    return figure, rows


def _num_fans(result: "Backtest") -> int:
    return min(MAX_FANS, result.forecasts["unique_id"].nunique())


def draw_forecasts(result: "Backtest", axes: Any) -> None:
    """Fans of the series with the best, the middle and the worst wql, from cutoffs that do not overlap."""
    ranked = result.by_series.sort_values("wql")["unique_id"].to_numpy()
    chosen = ranked[np.linspace(0, len(ranked) - 1, _num_fans(result)).round().astype(int)]
    for place, (axis, name) in enumerate(zip(np.atleast_1d(axes), chosen, strict=True)):
        rows = result.forecasts[result.forecasts["unique_id"] == name]
        cutoffs = latest_cutoffs(rows)
        shown = rows[rows["cutoff"] >= cutoffs[-1]]
        observed = shown.drop_duplicates("ds").sort_values("ds")
        for number, cutoff in enumerate(cutoffs):
            own = rows[rows["cutoff"] == cutoff].sort_values("step")
            label = number == 0 and place == 0
            for level, shade in ((95, 0.15), (80, 0.3)):
                axis.fill_between(
                    own["ds"], own[f"lo-{level}"], own[f"hi-{level}"], color=OWN, alpha=shade, linewidth=0,
                    label=f"{level} %" if label else None,
                )  # fmt: skip
            axis.plot(own["ds"], own["median"], color=OWN, linewidth=1.4, label="median" if label else None)
        axis.plot(
            observed["ds"], observed["y"], color=OBSERVED, linewidth=1.1, markersize=4,
            marker="." if len(observed) < 80 else None, label="observed" if place == 0 else None,
        )  # fmt: skip
        short_dates(axis, observed["ds"])
        axis.set_title(str(name), loc="left", fontsize=10)
        axis.margins(x=0.01)
        if place == 0:
            axis.legend(ncols=4, fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(0.4, 1.16))


def short_dates(axis: "Axes", stamps: "pd.Series") -> None:
    """Dates told as briefly as their range allows; integer steps stay numbers."""
    if not pd.api.types.is_datetime64_any_dtype(stamps):
        return
    from matplotlib import dates

    locator = dates.AutoDateLocator()  # type: ignore[no-untyped-call]  # matplotlib leaves it open
    axis.xaxis.set_major_locator(locator)
    axis.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]


def latest_cutoffs(rows: pd.DataFrame) -> list[Any]:
    """The last cutoffs of one series, newest first, whose targets do not overlap; at most MAX_CUTOFFS."""
    steps = rows.drop_duplicates("cutoff").sort_values("cutoff_step", ascending=False)
    chosen: list[Any] = []
    last = None
    for cutoff, step in zip(steps["cutoff"], steps["cutoff_step"], strict=True):
        if last is None or last - step >= rows["step"].max():
            chosen.append(cutoff)
            last = step
    return chosen[:MAX_CUTOFFS]


def draw_steps(result: "Backtest", axis: "Axes") -> None:
    """Mean absolute error by step ahead, the baselines beside."""
    for name, colour in _colours(result).items():
        values = result[name].by_step["mae"]
        axis.plot(
            np.arange(1, len(values) + 1), values, color=colour, label=name,
            linewidth=2.2 if name == result.name else 1.2, marker="." if len(values) < 40 else None,
        )  # fmt: skip
    axis.set_ylim(bottom=0)
    axis.set_xlabel("step ahead")
    axis.set_ylabel("mean absolute error, in units")
    axis.legend(fontsize=8, frameon=False)


def draw_calibration(result: "Backtest", axis: "Axes") -> None:
    """The share of targets below each quantile, which should be its level."""
    levels, shares = observed_shares(result.forecasts)
    axis.plot([0, 100], [0, 100], color="#9ca3af", linewidth=1, label="as it should be")
    axis.fill_between(
        [0, 100], [-3, 97], [3, 103], color="#9ca3af", alpha=0.2, linewidth=0, label="± 3 points"
    )
    axis.plot(100 * levels, 100 * shares, color=OWN, marker="o", markersize=4, label=result.name)
    axis.set_xlim(0, 100)
    axis.set_ylim(0, 100)
    axis.set_xlabel("level of the quantile, %")
    axis.set_ylabel("targets below it, %")
    told = [
        f"{level:g} % interval: {100 * each.estimate.mean:.1f} %"
        + (f" ± {100 * each.estimate.error:.1f}" if each.estimate.is_sure else "")
        for level, each in result.coverage.items()
    ]
    axis.text(0.98, 0.05, "\n".join(told), transform=axis.transAxes, ha="right", fontsize=9)
    axis.legend(fontsize=8, frameon=False, loc="upper left")


def observed_shares(frame: pd.DataFrame) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The levels (Q,) of a forecast frame and the share of targets at or below each quantile (Q,)."""
    rows = countable(frame)
    columns = quantile_columns(rows)
    y = rows["y"].to_numpy(dtype=np.float64)
    shares = [float(np.mean(y <= rows[column].to_numpy(dtype=np.float64))) for column in columns.values()]
    return np.array(list(columns)), np.array(shares)


def draw_autocorrelation(result: "Backtest", axis: "Axes") -> None:
    """What errors say about later errors, averaged over series: near zero where nothing is left to learn."""
    values, count = residual_autocorrelation(result.forecasts)
    if not len(values):
        axis.text(0.5, 0.5, "too few targets", transform=axis.transAxes, ha="center")
        return
    axis.bar(np.arange(1, len(values) + 1), values, color=OWN, width=0.6)
    bound = 1.96 / np.sqrt(count)
    axis.axhspan(
        -bound, bound, color="#9ca3af", alpha=0.25, linewidth=0, label="what chance gives one series"
    )
    axis.axhline(0, color=OBSERVED, linewidth=0.8)
    axis.set_ylim(-1, 1)
    axis.set_xlabel("targets apart")
    axis.set_ylabel("correlation of errors")
    axis.legend(fontsize=8, frameon=False)


def residual_autocorrelation(frame: pd.DataFrame) -> tuple[NDArray[np.float64], int]:
    """Autocorrelation of the median's errors by lag, averaged over series, and targets per series.

    Each target counts once, as it was forecast from the latest cutoff. Errors within one window share its
    cutoff, so that those of long horizons are correlated by nature.
    """
    rows = countable(frame).sort_values("step").drop_duplicates(["unique_id", "ds"]).sort_values("ds")
    errors = (rows["y"] - rows["median"]).groupby(rows["unique_id"]).apply(np.array)
    typical = int(np.median([len(each) for each in errors])) if len(errors) else 0
    most = min(MAX_LAGS, typical // 2)
    found = [
        _correlations(each - each.mean(), most) for each in errors if len(each) > most and np.ptp(each) > 0
    ]
    return (np.mean(found, axis=0), typical) if found and most else (np.zeros(0), typical)


def _correlations(centred: NDArray[np.float64], most: int) -> NDArray[np.float64]:
    whole = float(centred @ centred)
    return np.array([float(centred[lag:] @ centred[:-lag]) / whole for lag in range(1, most + 1)])


def draw_skill(result: "Backtest", axis: "Axes") -> None:
    """How much of the best baseline's quantile loss each model saves, by step."""
    simple = [name for name in result if name in BASELINES and name != result.name]
    best = min(simple or [result.name], key=lambda name: result[name].metrics["wql"])
    reference = result[best].by_step["wql"]
    for name, colour in _colours(result).items():
        if name == best and name != result.name:
            continue
        skill = 100 * (1 - result[name].by_step["wql"] / np.where(reference > 0, reference, np.nan))
        overall = 100 * (1 - result[name].metrics["wql"] / result[best].metrics["wql"])
        axis.plot(
            np.arange(1, len(skill) + 1), skill, color=colour, label=f"{name}: {overall:+.0f} % overall",
            linewidth=2.2 if name == result.name else 1.2,
        )  # fmt: skip
    axis.axhline(0, color=OBSERVED, linewidth=0.8)
    axis.set_ylim(bottom=max(axis.get_ylim()[0], -100))
    axis.set_xlabel("step ahead")
    axis.set_ylabel(f"quantile loss saved\nagainst {best}, %")
    axis.legend(fontsize=8, frameon=False)


def draw_worst(result: "Backtest", axis: "Axes") -> None:
    """The series with the largest errors for their movement."""
    column = "mase" if result.by_series["mase"].notna().any() else "mae"
    worst = result.by_series.dropna(subset=[column]).nlargest(MAX_WORST, column)[::-1]
    axis.barh(worst["unique_id"].astype(str), worst[column], color=OWN, height=0.6)
    axis.set_ylim(min(-0.7, len(worst) / 2 - 3), max(len(worst) - 0.3, len(worst) / 2 + 2))
    axis.grid(axis="y", visible=False)
    axis.grid(axis="x", color="#e5e7eb")
    if column == "mase":
        axis.axvline(1, color=BESIDE[0], linewidth=1.2)
        axis.set_xlabel("error in units of the history's mean seasonal change (MASE)")
    else:
        axis.set_xlabel("mean absolute error, in units")


def _colours(result: "Backtest") -> dict[str, str]:
    others = [name for name in result if name != result.name]
    return {name: BESIDE[place % len(BESIDE)] for place, name in enumerate(others)} | {result.name: OWN}


FIGURES: dict[str, tuple[Callable[[Any, Any], None], str]] = {
    "forecasts": (draw_forecasts, "What was forecast, and what came"),
    "error_by_step": (draw_steps, "How errors grow with the step ahead"),
    "calibration": (draw_calibration, "Are the intervals true?"),
    "autocorrelation": (draw_autocorrelation, "Is anything left to learn in the errors?"),
    "skill": (draw_skill, "What is gained over the best baseline"),
    "worst_series": (draw_worst, "Where it errs most"),
}
"""Each figure with the question that it answers."""
