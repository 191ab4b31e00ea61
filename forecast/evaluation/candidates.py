"""One candidate through the four blocks: fitted, selected, calibrated and judged."""

import hashlib
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from forecast.errors import ArtifactError
from forecast.evaluation.blocks import Blocks, spread_out
from forecast.evaluation.conformal import fit_calibration
from forecast.evaluation.metrics import METRICS, Coverage, coverage, score, score_by
from forecast.evaluation.replay import Replay, join, replay, uncalibrated
from forecast.models.calibration import FEW_WINDOWS, Calibration
from forecast.models.forecaster import Forecaster
from forecast.models.spec import ModelSpec
from forecast.models.statistical import PROCEDURES
from forecast.series.panel import Panel
from forecast.training.baselines import fit_baseline
from forecast.training.config import TrainConfig

MAX_REFITS = 4
"""Refits within the judge block of a short panel, unless a backtest asks for one per cutoff."""

MAX_FITS = 200
"""Windows in select and in calibrate for a procedure that is fitted to each."""

SETTLED = ("median", "season_map")
"""Fields of a spec that held-out steps settle: a refit, which holds nothing back, takes them over."""

CHOSEN_BY_VALUE = ("transform", "scaling", "residual", *SETTLED)
"""Fields of a spec that are resolved by looking at values, not only at lengths."""

OnEpoch = Callable[[Any], None]


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluated:
    """What is known about a candidate once it went through all blocks."""

    name: str
    spec: ModelSpec
    """As resolved on the data before the judge block."""
    reasons: dict[str, str]
    refit_spec: ModelSpec
    """What `refit_full` fits: in a short panel sizes are left open, to be resolved on all data."""
    calibration: Calibration
    select_metrics: dict[str, float]
    """On the select block: what candidates are chosen by."""
    metrics: dict[str, float]
    """On the judge block: what is published."""
    coverage: dict[float, Coverage]
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
    Baselines go the same way in milliseconds; those that are fitted to each history (AutoETS, AutoTheta) are
    selected and calibrated on at most about 200 windows.

    With a `checkpoint` folder in `config` each fit keeps its own in it, and goes on from it: the same call
    after a kill repeats nothing that was finished.
    """
    begun = time.perf_counter()
    blocks = _affordable(blocks, spec, num_series=len(panel))
    procedure = Procedure(spec=spec, panel=panel, blocks=blocks, config=config or TrainConfig())
    first = procedure.first(on_epoch)
    selected = replay(uncalibrated(first), panel, blocks.select, horizon=blocks.horizon, unseen=True)
    again = procedure.at(blocks.calibrate[0], first)
    scores = replay(uncalibrated(again), panel, blocks.calibrate, horizon=blocks.horizon, unseen=True)
    calibration = calibrate(scores)
    groups = spread_out(blocks.judge, max_refits if blocks.rolling_refits else 1)
    judges = procedure.judges(groups, first)
    judged = join(
        [
            _judge(judge, calibration, panel, group, blocks.horizon)
            for judge, group in zip(judges, groups, strict=True)
        ]
    )
    frame = judged.frame(panel.timezone)
    return Evaluated(
        name=spec.backbone,
        spec=judges[0].info.spec,
        reasons=first.info.reasons | judges[0].info.reasons,
        refit_spec=procedure.refit_spec(judges[0]),
        calibration=calibration,
        select_metrics=score(_self_calibrated(selected).frame(panel.timezone)),
        metrics=score(frame),
        coverage={level: coverage(frame, level, horizon=blocks.horizon) for level in (80, 95)},
        by_step=metrics_by_step(frame),
        by_series=score_by(frame, "unique_id").rename_axis("unique_id").reset_index(),
        forecasts=frame,
        num_steps=judges[0].info.num_steps,
        seconds=time.perf_counter() - begun,
        rolling_refits=blocks.rolling_refits,
        skipped=judged.skipped,
        notes=("few_windows",) if 0 < calibration.num_windows < FEW_WINDOWS else (),
    )


def select_only(
    spec: ModelSpec, panel: Panel, blocks: Blocks, config: TrainConfig, *, on_epoch: OnEpoch | None = None
) -> dict[str, float]:
    """The metrics of one candidate on the select block: what a search may look at, and nothing later."""
    blocks = _affordable(blocks, spec, num_series=len(panel))
    first = Procedure(spec=spec, panel=panel, blocks=blocks, config=config).first(on_epoch)
    selected = replay(uncalibrated(first), panel, blocks.select, horizon=blocks.horizon, unseen=True)
    return score(_self_calibrated(selected).frame(panel.timezone))


def _affordable(blocks: Blocks, spec: ModelSpec, *, num_series: int) -> Blocks:
    """The blocks, with select and calibrate cutoffs thinned out where each window costs a fit."""
    if spec.backbone not in PROCEDURES:
        return blocks
    most = max(1, MAX_FITS // num_series)
    return replace(blocks, select=_thinned(blocks.select, most), calibrate=_thinned(blocks.calibrate, most))


def _thinned(cutoffs: tuple[int, ...], most: int) -> tuple[int, ...]:
    """At most so many cutoffs, the first among them, spread evenly."""
    places = np.unique(np.linspace(0, len(cutoffs) - 1, min(most, len(cutoffs))).round().astype(int))
    return tuple(cutoffs[place] for place in places)


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
    full = _fit(evaluated.refit_spec, panel, config, num_steps=evaluated.num_steps)
    calibration = {"rolling_refits": evaluated.rolling_refits}
    reasons = {**evaluated.reasons, **full.info.reasons}
    info = replace(full.info, calibration=calibration, reasons=reasons)
    return replace(full, info=info, calibration=evaluated.calibration)


def calibrate(scores: Replay) -> Calibration:
    """The conformal table of a replay of the calibrate block; windows of a stuck sensor do not count."""
    rows = scores.moving
    return fit_calibration(
        scores.values[rows],
        scores.y[rows],
        scores.scale[rows],
        quantile_levels=scores.quantile_levels,
        steps=scores.cutoff_steps[rows],
    )


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
    return replace(selected, values=calibrate(selected).apply(selected.values, selected.scale))


@dataclass(frozen=True, kw_only=True)
class Procedure:
    """How a candidate is fitted again and again: a spec, the data, the blocks and the training."""

    spec: ModelSpec
    panel: Panel
    blocks: Blocks
    config: TrainConfig

    def first(self, on_epoch: OnEpoch | None) -> Forecaster:
        """The fit before everything: early stopping on select, or by schedule where the panel is short."""
        blocks = self.blocks
        if blocks.rolling_refits:
            known = self.panel.drop_last(blocks.fit_until)
            return _fit(self.spec, known, self.config, on_epoch=on_epoch, held_out=None)
        known = self.panel.drop_last(blocks.calibrate[0])
        held_out = blocks.fit_until - blocks.calibrate[0]
        return _fit(self.spec, known, self.config, on_epoch=on_epoch, held_out=held_out)

    def at(self, cutoff: int, first: Forecaster, spec: ModelSpec | None = None) -> Forecaster:
        """The model as it stands at a cutoff: the first one, or fitted again on all data before."""
        if not self.blocks.rolling_refits:
            return first
        settled = {name: getattr(first.info.spec, name) for name in SETTLED}
        spec = spec or (self.spec if self.spec.is_baseline else self.spec.with_(**settled))
        return _fit(spec, self.panel.drop_last(cutoff), self.config, num_steps=first.info.num_steps)

    def judges(self, groups: list[tuple[int, ...]], first: Forecaster) -> list[Forecaster]:
        """One model per group of judge cutoffs; choices by value are made before the first of them."""
        earliest = self.at(groups[0][0], first)
        spec = self.refit_spec(earliest)
        return [earliest, *(self.at(group[0], first, spec) for group in groups[1:])]

    def refit_spec(self, judge: Forecaster) -> ModelSpec:
        """The spec with its choices by value fixed, and its sizes too where the panel is long."""
        resolved = judge.info.spec
        if not self.blocks.rolling_refits:
            return resolved
        return self.spec.with_(**{name: getattr(resolved, name) for name in CHOSEN_BY_VALUE})


def _fit(
    spec: ModelSpec,
    panel: Panel,
    config: TrainConfig,
    *,
    num_steps: int | None = None,
    held_out: int | None = 0,
    on_epoch: OnEpoch | None = None,
) -> Forecaster:
    """A fitted model without calibration: `num_steps` long or by schedule, `held_out` last steps unseen.

    None: as many as the rule holds out, which are none of few windows.
    """
    if spec.is_baseline:
        return fit_baseline(panel, spec, held_out=held_out or 0)
    from forecast.training.fit import fit  # torch only where it is needed

    if num_steps is not None:
        config = replace(config, max_steps=max(num_steps, 1), max_epochs=None, max_seconds=None)
    if config.checkpoint is None:
        return fit(panel, spec, config, on_epoch=on_epoch, validation=held_out)
    folder = config.checkpoint / _fit_key(spec, panel, config, held_out)
    config = replace(config, checkpoint=folder)
    try:
        resume_from = folder if folder.is_dir() else None
        return fit(panel, spec, config, on_epoch=on_epoch, validation=held_out, resume_from=resume_from)
    except ArtifactError:  # damaged, or of other data: begin anew
        shutil.rmtree(folder)
        return fit(panel, spec, config, on_epoch=on_epoch, validation=held_out)


def _fit_key(spec: ModelSpec, panel: Panel, config: TrainConfig, held_out: int | None) -> str:
    """Tells one fit of a candidate from the others, the same in every process."""
    told = [spec.to_dict(), {**config.to_dict(), "checkpoint": None}, held_out, panel.lengths.sum().item()]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]
