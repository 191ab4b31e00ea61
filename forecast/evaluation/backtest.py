"""Rolling-origin backtest: history replayed over several cutoffs, with the baselines beside."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from forecast.errors import DataError, NotFoundError, SpecError
from forecast.evaluation.blocks import Blocks, check_windows
from forecast.evaluation.candidates import Evaluated, choose, evaluate, metrics_by_step
from forecast.evaluation.metrics import Coverage, coverage, score, score_by, unscaled
from forecast.evaluation.replay import replay
from forecast.models.catalog import BASELINES
from forecast.models.forecaster import Forecaster, named
from forecast.models.spec import ModelSpec
from forecast.series.forecast import level_quantiles
from forecast.series.panel import Panel
from forecast.training.config import TrainConfig

if TYPE_CHECKING:
    from forecast.evaluation.report import Report


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
    coverage: dict[float, Coverage]
    """With standard error and width, by level."""
    skipped: tuple[str, ...] = ()
    """Series too short for one cutoff or more."""
    unscaled: tuple[str, ...] = ()
    """Series without mase at one cutoff or more: their history never moves, or is shorter than a season."""
    seconds: float = 0.0
    """What fitting, calibrating and judging it took, members included."""
    baselines: "dict[str, Backtest]" = field(default_factory=dict)

    def __getitem__(self, name: str) -> "Backtest":
        """The model's own result, or a baseline's; NotFoundError for any other name."""
        if name == self.name:
            return self
        if name not in self.baselines:
            raise NotFoundError(f"the backtest has no result for {name!r}; it has {', '.join(self)}")
        return self.baselines[name]

    def __iter__(self) -> Iterator[str]:
        yield from dict.fromkeys([self.name, *self.baselines])

    def report(self, title: str = "Backtest") -> "Report":
        """Figures and a page for people; needs matplotlib."""
        from forecast.evaluation.report import Report

        return Report(result=self, title=title)

    def table(self) -> pd.DataFrame:
        """One row per model with every metric and the seconds it took, the best wql first."""
        rows = {name: self[name].metrics | {"seconds": self[name].seconds} for name in self}
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
    baselines: Sequence[str] = ("naive", "seasonal_naive", "drift"),
    levels: Sequence[float] = (80, 95),
) -> Backtest:
    """Forecast from `num_windows` cutoffs, the last of them one horizon before the end.

    stride: steps between cutoffs, by default the horizon. A spec is fitted, and its intervals calibrated, on
    the data before the first cutoff; with `refit` again before each. A forecaster is used as it is: stamps up
    to its `trained_until` are marked `in_sample` and left out of the metrics, for the `baselines` beside it
    too; these are themselves fitted and calibrated before the first cutoff, and left out where the panel is
    too short for that. `levels`: intervals, in percent, whose coverage is asked for.

    Raises DataError where the panel is too short, naming what is needed, LevelError for a level outside
    (0, 100), SpecError for an unknown baseline.
    """
    for level in levels:
        level_quantiles(level)
    if unknown := [name for name in baselines if name not in BASELINES]:
        raise SpecError(f"there is no baseline {', '.join(unknown)}; there are: {', '.join(BASELINES)}")
    if isinstance(spec_or_forecaster, Forecaster):
        if refit:
            raise SpecError("a finished forecaster cannot be fitted again; give its spec, or refit=False")
        steps = spec_or_forecaster.horizon if horizon is None else horizon
        check_windows(horizon=steps, num_windows=num_windows, stride=stride)
        own = _replayed(spec_or_forecaster, panel, steps, num_windows, stride or steps, levels)
        spec = spec_or_forecaster.info.spec.with_(horizon=steps, max_horizon=None)
        beside = _beside_forecaster(own, spec, panel, baselines, num_windows, stride, levels)
        return replace(own, baselines=beside)
    spec = spec_or_forecaster if horizon is None else spec_or_forecaster.with_(horizon=horizon)
    blocks = Blocks.cut(panel, horizon=spec.horizon, num_windows=num_windows, stride=stride, refit=refit)
    most = None if refit else 1
    beside = {
        name: _evaluated(_baseline(spec, name), panel, blocks, levels, max_refits=most)
        for name in baselines
        if name != spec.backbone
    }
    own = _evaluated(spec, panel, blocks, levels, config=config, max_refits=most)
    return replace(own, baselines=beside)


def side_by_side(candidates: Sequence[Evaluated], *, levels: Sequence[float] = (80, 95)) -> Backtest:
    """Candidates of the same blocks as one backtest: the best on select, with the others beside."""
    best = choose(list(candidates))
    results = {each.name: _of(each, levels) for each in candidates}
    beside = {name: result for name, result in results.items() if name != best.name}
    return replace(results[best.name], baselines=beside)


def _evaluated(
    spec: ModelSpec,
    panel: Panel,
    blocks: Blocks,
    levels: Sequence[float],
    *,
    config: TrainConfig | None = None,
    max_refits: int | None = 1,
) -> Backtest:
    """A spec through all blocks, with so many fits for the judge block (None: one per cutoff)."""
    return _of(evaluate(spec, panel, blocks, config, max_refits=max_refits), levels)


def _of(own: Evaluated, levels: Sequence[float]) -> Backtest:
    return _result(
        own.name,
        own.forecasts,
        horizon=own.spec.horizon,
        levels=levels,
        skipped=own.skipped,
        seconds=own.seconds,
    )


def _replayed(
    forecaster: Forecaster,
    panel: Panel,
    steps: int,
    num_windows: int,
    stride: int,
    levels: Sequence[float],
) -> Backtest:
    """A frozen forecaster over the last cutoffs."""
    first = steps + stride * (num_windows - 1)
    windows = replay(forecaster, panel, range(first, steps - 1, -stride), horizon=steps)
    if not len(windows):
        raise DataError(
            f"no series has the {steps + forecaster.min_context} steps that one window needs (min_context="
            f"{forecaster.min_context}, horizon={steps}): the longest of {named(panel.unique_ids)} has "
            f"{int(panel.lengths.max(initial=0))}; send longer series, or lower the horizon"
        )
    name = str(forecaster.info.model["backbone"])
    frame = windows.frame(panel.timezone)
    return _result(name, frame, horizon=steps, levels=levels, skipped=windows.skipped)


def _beside_forecaster(
    own: Backtest,
    spec: ModelSpec,
    panel: Panel,
    baselines: Sequence[str],
    num_windows: int,
    stride: int | None,
    levels: Sequence[float],
) -> dict[str, Backtest]:
    """Baselines over the windows of a forecaster, scored on the rows that count for it."""
    try:
        blocks = Blocks.cut(panel, horizon=spec.horizon, num_windows=num_windows, stride=stride)
    except DataError:
        return {}
    seen = own.forecasts.loc[own.forecasts["in_sample"], ["unique_id", "ds"]].drop_duplicates()
    results = {}
    for name in baselines:
        if name == own.name:
            continue
        found = _evaluated(_baseline(spec, name), panel, blocks, levels)
        frame = found.forecasts.drop(columns="in_sample").merge(
            seen.assign(in_sample=True), on=["unique_id", "ds"], how="left"
        )
        frame["in_sample"] = frame["in_sample"].notna()
        results[name] = _result(
            name, frame, horizon=spec.horizon, levels=levels, skipped=found.skipped, seconds=found.seconds
        )
    return results


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


def _result(
    name: str,
    frame: pd.DataFrame,
    *,
    horizon: int,
    levels: Sequence[float],
    skipped: tuple[str, ...],
    seconds: float = 0.0,
) -> Backtest:
    """Every metric of a forecast frame."""
    return Backtest(
        name=name,
        forecasts=frame,
        metrics=score(frame),
        by_step=metrics_by_step(frame),
        by_series=score_by(frame, "unique_id").rename_axis("unique_id").reset_index(),
        coverage={level: coverage(frame, level, horizon=horizon) for level in levels},
        skipped=skipped,
        unscaled=unscaled(frame),
        seconds=seconds,
    )
