"""Does the challenger forecast better than the incumbent? Decided on windows that neither has seen."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from forecast.errors import DataError, SpecError
from forecast.evaluation.metrics import countable, row_losses, score
from forecast.evaluation.uncertainty import Estimate, clustered_mean

COMPARABLE = ("wql", "mae", "rmse", "smape", "mase")
CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Whether to promote, and why in one line."""

    promote: bool
    reason: str
    metric: str
    incumbent: float
    challenger: float
    improvement: float
    """Share of the incumbent's loss that the challenger saves; negative where it loses more."""
    margin: float
    p_value: float | None
    """One-sided: how likely such a difference is between equal models; None with too few windows to say."""
    num_windows: int

    @property
    def is_significant(self) -> bool:
        """Whether the difference could be told from chance."""
        return self.p_value is not None and self.p_value < 1 - CONFIDENCE


def compare(
    incumbent: Any,
    challenger: Any,
    *,
    metric: str = "wql",
    margin: float = 0.0,
    tolerance: float | None = None,
) -> Verdict:
    """Judge two backtests over the windows that both have.

    incumbent, challenger: results of `backtest` or `evaluate`, or their forecast frames. A different model
    has to be better by more than `margin` (a share: 0.02 is 2 %) and, where there are enough windows to tell,
    better than chance. With `tolerance` the challenger is a refresh of the same model and has to be not worse
    by more than that share. The test allows for overlapping windows and for series that move together; with
    few windows the margin decides, and the reason says "not significant".
    """
    if metric not in COMPARABLE:
        raise SpecError(f"no metric to compare by is called {metric!r}; there are: {', '.join(COMPARABLE)}")
    old, new = _paired(_frame(incumbent), _frame(challenger))
    before, after = score(old)[metric], score(new)[metric]
    improvement = _improvement(before, after)
    difference = _difference(old, new, metric)
    p_value = _p_value(difference) if difference.is_sure else None
    unsure = p_value is None or p_value >= 1 - CONFIDENCE
    if tolerance is not None:
        promote = improvement >= -tolerance
    else:
        promote = improvement > margin and (p_value is None or not unsure)
    limit = f"margin {100 * margin:.3g} %" if tolerance is None else f"tolerance {100 * tolerance:.3g} %"
    doubt = ", not significant" if unsure else ""
    return Verdict(
        promote=promote,
        reason=f"{metric} {before:.3g} -> {after:.3g} ({100 * improvement:+.1f} %, {limit}{doubt})",
        metric=metric,
        incumbent=before,
        challenger=after,
        improvement=improvement,
        margin=margin,
        p_value=p_value,
        num_windows=len(old.groupby(["unique_id", "cutoff"])),
    )


def _frame(result: Any) -> pd.DataFrame:
    frame: pd.DataFrame = result if isinstance(result, pd.DataFrame) else result.forecasts
    return frame


def _paired(old: pd.DataFrame, new: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of both that forecast the same step of a series from the same cutoff, in the same order."""
    keys = ["unique_id", "cutoff", "step"]
    old, new = (countable(each).set_index(keys).sort_index() for each in (old, new))
    shared = old.index.intersection(new.index)
    if not len(shared):
        raise DataError("the two backtests share no window; run both with the same panel, horizon and stride")
    return old.loc[shared].reset_index(), new.loc[shared].reset_index()


def _improvement(before: float, after: float) -> float:
    if not (math.isfinite(before) and math.isfinite(after)):
        return -math.inf
    return 1 - after / before if before > 0 else 0.0 if after == before else -math.inf


def _difference(old: pd.DataFrame, new: pd.DataFrame, metric: str) -> Estimate:
    """How much more the incumbent loses per window, with its standard error.

    wql, mae and rmse weigh series by their size, as the metric does; smape and mase weigh windows alike.
    """
    gap = pd.Series(row_losses(old, metric) - row_losses(new, metric))
    windows = gap.groupby([old["unique_id"], old["cutoff_step"]], sort=True).mean().dropna()
    return clustered_mean(
        np.asarray(windows, dtype=np.float64),
        series=windows.index.get_level_values(0).to_numpy(),
        steps=windows.index.get_level_values(1).to_numpy(dtype=np.int64),
        span=int(old["step"].max()),
    )


def _p_value(difference: Estimate) -> float:
    """One-sided p-value of a mean difference above 0 by Student's t."""
    from scipy.stats import t  # type: ignore[import-untyped]  # publishes no types

    if difference.error == 0:
        return 0.0 if difference.mean > 0 else 1.0
    return float(t.sf(difference.mean / difference.error, difference.degrees))
