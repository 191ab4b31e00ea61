"""One candidate through the four blocks: fitted, selected, calibrated and judged."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from forecast.evaluation.blocks import Blocks, spread_out
from forecast.evaluation.conformal import fit_calibration
from forecast.evaluation.metrics import METRICS, Coverage, coverage, score, score_by
from forecast.evaluation.replay import Replay, join, replay, uncalibrated
from forecast.models.baselines import BASELINES, baseline_forecaster
from forecast.models.calibration import Calibration, median_index, ordered
from forecast.models.forecaster import Forecaster
from forecast.models.spec import ModelSpec
from forecast.series.panel import Panel
from forecast.training.config import TrainConfig

MAX_REFITS = 4
"""Refits within the judge block of a short panel, unless a backtest asks for one per cutoff."""

OnEpoch = Callable[[Any], None]


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluated:
    """What is known about a candidate once it went through all blocks."""

    name: str
    spec: ModelSpec
    """As resolved on the fit block."""
    reasons: dict[str, str]
    calibration: Calibration
    select_metrics: dict[str, float]
    """On the select block: what candidates are chosen by."""
    metrics: dict[str, float]
    """On the judge block: what is published."""
    coverage: dict[int, Coverage]
    """Coverage on the judge block with its standard error, by level."""
    by_step: dict[str, NDArray[np.float64]]
    """Each metric (H,) by step ahead."""
    by_series: pd.DataFrame
    """One row per series: unique_id and each metric."""
    forecasts: pd.DataFrame
    """The judge block: unique_id, cutoff, ds, step, y, median, lo-80, hi-80, ..."""
    num_steps: int | None
    """Optimiser steps found on the select block; None for a baseline."""
    seconds: float
    rolling_refits: bool
    skipped: tuple[str, ...] = ()
    """Series that could not be scored at one judge cutoff or more: too short."""
    notes: tuple[str, ...] = field(default=())
    """few_windows where fewer than 100 windows calibrated it."""


def evaluate(
    spec: ModelSpec,
    panel: Panel,
    blocks: Blocks,
    config: TrainConfig | None = None,
    *,
    on_epoch: OnEpoch | None = None,
    max_refits: int | None = MAX_REFITS,
) -> Evaluated:
    """Fit, select, calibrate and judge one candidate.

    A long panel is fitted once, on the fit block, with early stopping on select. A short one is fitted again
    with the step count found, before calibrate and before up to `max_refits` groups of judge cutoffs (None:
    each).
    Baselines go the same way in milliseconds.
    """
    begun = time.perf_counter()
    config = config or TrainConfig()
    first = _first_fit(spec, panel, blocks, config, on_epoch)
    again = _refitter(first, panel, config, frozen=not blocks.rolling_refits)
    selected = replay(uncalibrated(first), panel, blocks.select, horizon=blocks.horizon, unseen=True)
    at_calibrate = uncalibrated(again(blocks.calibrate[0]))
    scores = replay(at_calibrate, panel, blocks.calibrate, horizon=blocks.horizon, unseen=True)
    calibration = calibrate(scores)
    groups = spread_out(blocks.judge, max_refits if blocks.rolling_refits else 1)
    judged = join([_judge(again(group[0]), calibration, panel, group, blocks.horizon) for group in groups])
    frame = judged.frame(panel.timezone)
    return Evaluated(
        name=first.info.spec.backbone,
        spec=first.info.spec,
        reasons=first.info.reasons,
        calibration=calibration,
        select_metrics=score(_self_calibrated(selected).frame(panel.timezone)),
        metrics=score(frame),
        coverage={level: coverage(frame, level, horizon=blocks.horizon) for level in (80, 95)},
        by_step=metrics_by_step(frame),
        by_series=score_by(frame, "unique_id").rename_axis("unique_id").reset_index(),
        forecasts=frame,
        num_steps=first.info.num_steps,
        seconds=time.perf_counter() - begun,
        rolling_refits=blocks.rolling_refits,
        skipped=judged.skipped,
    )


def _judge(
    fitted: Forecaster, calibration: Calibration, panel: Panel, cutoffs: tuple[int, ...], horizon: int
) -> Replay:
    return replay(replace(fitted, calibration=calibration), panel, cutoffs, horizon=horizon, unseen=True)


def choose(candidates: list[Evaluated], *, metric: str = "wql") -> Evaluated:
    """The candidate with the lowest loss on the select block; the earlier of two that are equal."""
    return min(candidates, key=lambda each: _comparable(each.select_metrics[metric]))


def refit_full(evaluated: Evaluated, panel: Panel, config: TrainConfig | None = None) -> Forecaster:
    """The candidate fitted on all data, with the step count found and the calibration carried over."""
    config = config or TrainConfig()
    full = _refit(evaluated.spec, panel, config, evaluated.num_steps)
    calibration = {"rolling_refits": evaluated.rolling_refits}
    info = replace(full.info, reasons=evaluated.reasons, calibration=calibration)
    return replace(full, info=info, calibration=evaluated.calibration)


def calibrate(scores: Replay) -> Calibration:
    """The conformal table of a replay of the calibrate block."""
    return fit_calibration(scores.values, scores.y, scores.scale, quantile_levels=scores.quantile_levels)


def metrics_by_step(frame: pd.DataFrame) -> dict[str, NDArray[np.float64]]:
    """Each metric by step ahead, (H,)."""
    table = score_by(frame, "step").sort_index()
    return {name: table[name].to_numpy(dtype=np.float64) for name in METRICS}


def _comparable(loss: float) -> float:
    return loss if np.isfinite(loss) else np.inf


def _self_calibrated(selected: Replay) -> Replay:
    """The select block calibrated on itself, so that baselines without width compete on equal terms.

    The same mild optimism for every candidate; the calibrate block stays unseen.
    """
    table = calibrate(selected)
    corrections = table.corrections.astype(np.float64) * selected.scale[:, None, None]
    values = ordered(selected.values + corrections, median_index(selected.quantile_levels))
    return replace(selected, values=values)


def _first_fit(
    spec: ModelSpec, panel: Panel, blocks: Blocks, config: TrainConfig, on_epoch: OnEpoch | None
) -> Forecaster:
    """The fit that finds the step count: weights from the fit block, early stopping on select."""
    known = panel.drop_last(blocks.fit_until)
    if spec.backbone in BASELINES:
        return baseline_forecaster(known, spec)
    from forecast.training.fit import fit

    validation = panel.drop_last(blocks.calibrate[0])
    return fit(known, spec, config, on_epoch=on_epoch, validation=validation)


def _refit(spec: ModelSpec, panel: Panel, config: TrainConfig, num_steps: int | None) -> Forecaster:
    """The same model fitted on more data, for as many steps as were found."""
    if spec.backbone in BASELINES:
        return baseline_forecaster(panel, spec)
    from forecast.training.fit import fit

    return fit(panel, spec, replace(config, max_steps=num_steps, max_epochs=None))


def _refitter(
    first: Forecaster, panel: Panel, config: TrainConfig, *, frozen: bool
) -> Callable[[int], Forecaster]:
    """The model as it stands at a cutoff: always the first one, or fitted again on all data before."""

    def at(cutoff: int) -> Forecaster:
        if frozen:
            return first
        return _refit(first.info.spec, panel.drop_last(cutoff), config, first.info.num_steps)

    return at
