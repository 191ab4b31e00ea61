"""Rolling-origin backtest: history replayed over several cutoffs, with the baselines beside."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from forecast.errors import DataError
from forecast.evaluation.blocks import Blocks, check_windows
from forecast.evaluation.candidates import Evaluated, evaluate, metrics_by_step
from forecast.evaluation.metrics import Coverage, coverage, score, score_by, unscaled
from forecast.evaluation.replay import replay
from forecast.models.baselines import BASELINES
from forecast.models.forecaster import Forecaster
from forecast.models.spec import ModelSpec
from forecast.series.panel import Panel
from forecast.training.config import TrainConfig


@dataclass(frozen=True, kw_only=True, eq=False)
class Backtest:
    """How one model forecast at each cutoff; `backtest["naive"]` is the same for a baseline beside it."""

    name: str
    forecasts: pd.DataFrame
    """One row per series, cutoff and step: unique_id, cutoff, ds, step, y, median, lo-80, ..., in_sample."""
    metrics: dict[str, float]
    """Overall; rows in sample or without an observed y do not count."""
    by_step: dict[str, NDArray[np.float64]]
    """Each metric (H,) by step ahead."""
    by_series: pd.DataFrame
    """One row per series."""
    coverage: dict[int, Coverage]
    """With standard error, by level."""
    skipped: tuple[str, ...] = ()
    """Series too short for one cutoff or more."""
    unscaled: tuple[str, ...] = ()
    """Series without mase at one cutoff or more, because their history never moves."""
    baselines: "dict[str, Backtest]" = field(default_factory=dict)

    def __getitem__(self, name: str) -> "Backtest":
        """The model's own result, or a baseline's."""
        return self if name == self.name else self.baselines[name]

    def __iter__(self) -> Iterator[str]:
        yield from dict.fromkeys([self.name, *self.baselines])

    def table(self) -> pd.DataFrame:
        """One row per model with every metric, the best wql first."""
        rows = {name: self[name].metrics for name in self}
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("model").sort_values("wql")


def backtest(
    spec_or_forecaster: ModelSpec | Forecaster,
    panel: Panel,
    *,
    horizon: int | None = None,
    num_windows: int = 4,
    stride: int | None = None,
    refit: bool = False,
    config: TrainConfig | None = None,
) -> Backtest:
    """Forecast from `num_windows` cutoffs, the last of them one horizon before the end.

    stride: steps between cutoffs, by default the horizon. A spec is fitted, and its intervals calibrated, on
    the data before the first cutoff; with `refit` again before each. A forecaster is used as it is: stamps up
    to its `trained_until` are marked `in_sample` and left out of the metrics. Raises DataError where the
    panel is too short, naming what is needed.
    """
    if isinstance(spec_or_forecaster, Forecaster):
        steps = spec_or_forecaster.horizon if horizon is None else horizon
        check_windows(horizon=steps, num_windows=num_windows, stride=stride)
        return _replayed(spec_or_forecaster, panel, steps, num_windows, stride or steps)
    spec = spec_or_forecaster if horizon is None else spec_or_forecaster.with_(horizon=horizon)
    blocks = Blocks.cut(panel, horizon=spec.horizon, num_windows=num_windows, stride=stride, refit=refit)
    most = None if refit else 1
    names = [name for name in BASELINES if name != spec.backbone]
    beside = {name: evaluate(_baseline(spec, name), panel, blocks, max_refits=most) for name in names}
    own = evaluate(spec, panel, blocks, config, max_refits=most)
    return _result(own, {name: _result(each) for name, each in beside.items()})


def _replayed(forecaster: Forecaster, panel: Panel, steps: int, num_windows: int, stride: int) -> Backtest:
    """A frozen forecaster over the last cutoffs."""
    first = steps + stride * (num_windows - 1)
    windows = replay(forecaster, panel, range(first, steps - 1, -stride), horizon=steps)
    if not len(windows):
        raise DataError(
            f"no series has the {first + forecaster.min_context} steps that {num_windows} windows need; "
            f"the longest has {int(panel.lengths.max(initial=0))}. Send longer series or lower num_windows"
        )
    frame = windows.frame(panel.timezone)
    return Backtest(
        name=str(forecaster.info.model["backbone"]),
        forecasts=frame,
        metrics=score(frame),
        by_step=metrics_by_step(frame),
        by_series=score_by(frame, "unique_id").rename_axis("unique_id").reset_index(),
        coverage={level: coverage(frame, level, horizon=steps) for level in (80, 95)},
        skipped=windows.skipped,
        unscaled=unscaled(frame),
    )


def _baseline(spec: ModelSpec, name: str) -> ModelSpec:
    return ModelSpec(
        backbone=name,
        horizon=spec.horizon,
        season_length=spec.season_length,
        quantile_levels=spec.quantile_levels,
        max_horizon=spec.max_horizon,
        lower_bound=spec.lower_bound,
        upper_bound=spec.upper_bound,
        integer=spec.integer,
    )


def _result(own: Evaluated, baselines: dict[str, Backtest] | None = None) -> Backtest:
    return Backtest(
        name=own.name,
        forecasts=own.forecasts,
        metrics=own.metrics,
        by_step=own.by_step,
        by_series=own.by_series,
        coverage=own.coverage,
        skipped=own.skipped,
        unscaled=unscaled(own.forecasts),
        baselines=baselines or {},
    )
