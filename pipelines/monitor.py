"""A look at what serves: its accuracy on what came, whether the world has moved, and what to do about it."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from forecast.evaluation.adaptive import Adapted, adapt, stretches, unstretched
from forecast.evaluation.drift import Drift, error_drift, input_drift
from forecast.evaluation.metrics import METRICS, countable, coverage, score
from forecast.series.forecast import number
from pipelines import answers, registry, sources, tracking
from pipelines.lock import monitor_lock
from pipelines.recipe import Recipe
from pipelines.registry import Version
from pipelines.sections import MonitorSection

if TYPE_CHECKING:
    from forecast.series.panel import Panel

Say = Callable[[str], None]

MONITORING = "monitoring"
"""The role of the run that a version's live figures are logged to."""

RECALIBRATION = "forecast.recalibration"
"""The tag of a version that another one was recalibrated to: whose model it is, and by how much."""

LIVE = "forecast.live"
"""The tag of a version that holds its newest live figures, which the service shows."""

MATERIAL = math.log(1.15)
"""Intervals are corrected where one has to be wider or narrower by more than this, in logarithms."""

RETRAIN, WAIT = "retrain", "wait"


@dataclass(frozen=True, kw_only=True)
class Live:
    """How good the answers of a version were."""

    version: str
    num_values: int
    """Answers that count: steps of series whose value has come, after the version's training data."""
    num_series: int
    num_cutoffs: int
    in_sample: int
    """Answers about stamps that the version was trained on; they do not count."""
    metrics: dict[str, float | None]
    """Over the recipe's levels."""
    backtest: dict[str, float | None]
    """The same figures of the version's backtest, where its run has it."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """What a look came to; the keys of `forecast monitor --json`."""

    recipe: str
    verdict: str
    """retrain or wait."""
    reason: str
    champion: str | None
    answers: dict[str, int]
    versions: tuple[Live, ...] = ()
    drift: tuple[Drift, ...] = ()
    intervals: tuple[Adapted, ...] = ()
    """Where the correction of each level stands."""
    recalibrated: str | None = None
    """The version with corrected intervals that this look made champion."""
    run_id: str | None = None
    """The monitoring run of the champion in MLflow."""

    @property
    def retrain(self) -> bool:
        """Whether the model should be trained again."""
        return self.verdict == RETRAIN

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        values = {**asdict(self), "retrain": self.retrain, "drift": [each.to_dict() for each in self.drift]}
        return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}


def look(recipe: Recipe, *, say: Say = print) -> Look:
    """Join answers with what came, log live figures to MLflow, and say whether to retrain.

    With `recalibrate` in the recipe's [monitor], intervals that cover too little or too much are corrected by
    a new version of the same model. Raises LockedError where another look is going on, SourceError and
    DataError where the data cannot be had, TrackingError where MLflow fails.
    """
    with monitor_lock(recipe.name), tracking.answering():
        champion = registry.champion(recipe.name)
        if champion is None:
            reason = "the model has no champion yet"
            return Look(recipe=recipe.name, verdict=RETRAIN, reason=reason, champion=None, answers={})
        panel = sources.panel(recipe)
        return _look(recipe, panel, champion, say=say)


def _look(recipe: Recipe, panel: "Panel", champion: Version, *, say: Say) -> Look:
    asked = recipe.monitor or MonitorSection()
    versions = {each.version: each for each in registry.versions(recipe.name)}
    joined = answers.join(recipe, panel, versions)
    lives = tuple(
        live(version, rows, _backtest(_base(version, versions)))
        for name, rows in joined.frame.groupby("version")
        if (version := versions.get(str(name))) is not None
    )
    base = _base(champion, versions)
    family = _family(joined.frame, champion, versions)
    reference = _backtest(base)
    drifts = _drifts(recipe, asked, panel, champion, reference, family)
    intervals = _adapted(recipe, asked, reference, family)
    verdict, reason = decide(recipe, drifts, lives, champion.version)
    run_ids = {each.version: _log(recipe, each, versions[each.version]) for each in lives}
    if champion.version not in run_ids:
        nothing = live(champion, joined.frame.iloc[:0], reference)
        run_ids[champion.version] = _log(recipe, nothing, champion)
    found = Look(
        recipe=recipe.name,
        verdict=verdict,
        reason=reason,
        champion=champion.version,
        answers=joined.counts,
        versions=lives,
        drift=tuple(drifts),
        intervals=intervals,
        run_id=run_ids[champion.version],
    )
    _log_look(found)
    if asked.recalibrate:
        made = _recalibrate(recipe, panel, champion, base, intervals, asked, say=say)
        found = replace(found, recalibrated=made)
    return found


def live(version: Version, rows: pd.DataFrame, backtest: pd.DataFrame | None) -> Live:
    """The figures of one version's answers."""
    counted = countable(rows)
    return Live(
        version=version.version,
        num_values=len(counted),
        num_series=int(counted["unique_id"].nunique()),
        num_cutoffs=int(counted["cutoff"].nunique()),
        in_sample=int(rows["in_sample"].sum()),
        metrics=_figures(counted),
        backtest={} if backtest is None else _figures(_same_columns(backtest, rows)),
    )


def decide(recipe: Recipe, drifts: Sequence[Drift], lives: Sequence[Live], champion: str) -> tuple[str, str]:
    """`retrain` or `wait`, and why in one line."""
    found = [each for each in drifts if each.found]
    if found:
        return RETRAIN, "; ".join(_words(each) for each in found)
    tested = [each for each in drifts if each.p_value is not None]
    own = next((each for each in lives if each.version == champion), None)
    answered = f"{own.num_values if own else 0} answered values of version {champion} have come"
    if not tested:
        return WAIT, f"too little is known to tell: {answered}, and hardly any new data"
    told = "; ".join(f"{each.kind} {_size(each)} (p = {each.p_value:.2g})" for each in tested)
    return WAIT, f"no drift: {told}; {answered}"


def _words(drift: Drift) -> str:
    size = _size(drift)
    chance = "" if drift.p_value is None else f" (p = {drift.p_value:.1g})"
    return {
        "error": f"forecasts are {size} the error of the backtest{chance}",
        "level": f"the level of the series moved by {size}{chance}",
        "spread": f"the series move {size} as much as before the training{chance}",
        "coverage": f"{size} of the values lie inside the 80 % intervals, beyond gate.coverage_80",
    }[drift.kind]


def _size(drift: Drift) -> str:
    size = drift.size if drift.size is not None else math.nan
    if drift.kind == "level":
        return f"{size:.3g} usual seasonal changes"
    return f"{100 * size:.0f} %" if drift.kind == "coverage" else f"{size:.3g} times"


def _drifts(
    recipe: Recipe,
    asked: MonitorSection,
    panel: "Panel",
    champion: Version,
    reference: pd.DataFrame | None,
    family: pd.DataFrame,
) -> list[Drift]:
    """Error, coverage and input; the chance of a false alarm is shared by the three tests."""
    alpha = asked.alpha / 3
    found = []
    if reference is not None:
        found.append(
            error_drift(reference, family, horizon=recipe.horizon, alpha=alpha, least_ratio=asked.least_ratio)
        )
    found.append(_coverage(recipe, family))
    until = answers.trained_until(champion)
    if math.isfinite(until):
        found += input_drift(panel, int(until), horizon=recipe.horizon, alpha=alpha)
    return found


def _coverage(recipe: Recipe, family: pd.DataFrame) -> Drift:
    """Whether the whole 95 % range of the live coverage lies outside the gate's bounds."""
    told = coverage(family, 80, horizon=recipe.horizon)
    low, high = recipe.gate.coverage_80
    reach = 1.96 * told.estimate.error
    off = told.estimate.is_sure and (told.estimate.mean + reach < low or told.estimate.mean - reach > high)
    size = told.estimate.mean if math.isfinite(told.estimate.mean) else None
    return Drift(
        kind="coverage",
        p_value=None,
        size=size,
        num_reference=0,
        num_live=told.estimate.degrees + 1 if told.estimate.is_sure else 0,
        found=bool(off),
    )


def _backtest(version: Version) -> pd.DataFrame | None:
    """What a version's candidate forecast on windows it had not seen; None where its run is gone."""
    frame = tracking.table_of(version.run_id, "backtest.parquet")
    if frame is None or "mase_scale" not in frame:
        return None
    return frame.assign(unique_id=frame["unique_id"].astype(str))


def _same_columns(backtest: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """Figures compare where they are over the same levels."""
    extra = [
        name for name in backtest.columns if str(name).startswith(("lo-", "hi-")) and name not in rows.columns
    ]
    return backtest.drop(columns=extra)


def _figures(frame: pd.DataFrame) -> dict[str, float | None]:
    found = score(frame) if len(frame) else dict.fromkeys(METRICS, math.nan)
    return {name: value if math.isfinite(value) else None for name, value in found.items()}


def _recalibration(version: Version) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(version.tags.get(RECALIBRATION, "{}"))
    return found


def _base(version: Version, versions: Mapping[str, Version]) -> Version:
    """The version whose model it is: its own, or that which was recalibrated."""
    return versions.get(str(_recalibration(version).get("base")), version)


def _stretch(version: Version) -> dict[float, float]:
    return {float(level): float(by) for level, by in _recalibration(version).get("stretch", {}).items()}


def _family(frame: pd.DataFrame, champion: Version, versions: Mapping[str, Version]) -> pd.DataFrame:
    """The answers of the champion's model, whichever version of it gave them."""
    base = _base(champion, versions)
    own = [name for name, each in versions.items() if _base(each, versions).version == base.version]
    rows = frame[frame["version"].isin(own)]
    keep = rows.drop_duplicates(["unique_id", "cutoff", "ds"], keep="last")
    return keep.reset_index(drop=True)


def _plain(frame: pd.DataFrame, versions: Mapping[str, Version]) -> pd.DataFrame:
    """The answers with the intervals that the model had before it was recalibrated."""
    parts = [
        unstretched(rows, _stretch(versions[str(name)]))
        for name, rows in frame.groupby("version", sort=False)
    ]
    return pd.concat(parts, ignore_index=True) if parts else frame


def _adapted(
    recipe: Recipe, asked: MonitorSection, reference: pd.DataFrame | None, family: pd.DataFrame
) -> tuple[Adapted, ...]:
    """Where the correction of each of the recipe's levels stands; nothing before anything has come."""
    if not len(family):
        return ()
    versions = {each.version: each for each in registry.versions(recipe.name)}
    plain = _plain(family, versions)
    before = plain.iloc[:0] if reference is None else reference
    levels = [each for each in recipe.levels if f"lo-{number(each)}" in before]
    found = (adapt(before, plain, level, gamma=asked.gamma) for level in sorted(levels))
    return tuple(each for each in found if each is not None)


def _log(recipe: Recipe, found: Live, version: Version) -> str:
    """One more point of each live curve on the version's monitoring run; returns the run."""
    run = tracking.continued(
        tracking.experiment(recipe.name),
        name=f"monitor version {version.version}",
        tags={"forecast.role": MONITORING, "forecast.model_version": version.version},
    )
    step = run.next_step()
    figures = {"num_values": found.num_values, "num_series": found.num_series, **found.metrics}
    run.metrics({f"live_{name}": value for name, value in figures.items()}, step=step)
    told = {"num_values": found.num_values, **found.metrics}
    registry.tell(version, {LIVE: json.dumps(told)})
    return run.run_id


def _log_look(found: Look) -> None:
    """What was decided, on the champion's monitoring run."""
    run = tracking.OpenRun(str(found.run_id), "")
    step = run.next_step() - 1
    figures: dict[str, float | None] = {"retrain": float(found.retrain)}
    for drift in found.drift:
        figures |= {f"drift_{drift.kind}": drift.size, f"drift_{drift.kind}_p_value": drift.p_value}
    for each in found.intervals:
        name = number(each.level)
        figures |= {f"adaptive_alpha_{name}": each.alpha, f"adaptive_stretch_{name}": each.stretch}
    run.metrics(figures, step=step)
    run.json(found.to_dict(), "monitor.json")
    run.tags({"forecast.verdict": found.verdict, "forecast.reason": found.reason})


def _recalibrate(
    recipe: Recipe,
    panel: "Panel",
    champion: Version,
    base: Version,
    intervals: Sequence[Adapted],
    asked: MonitorSection,
    *,
    say: Say,
) -> str | None:
    """Make a version of the champion's model with corrected intervals champion; None where it need not be."""
    now = _stretch(champion)
    wanted = {each.level: each.stretch for each in intervals if each.num_stamps >= asked.min_stamps}
    moved = [abs(math.log(by / now.get(level, 1.0))) for level, by in wanted.items()]
    if not moved or max(moved) < MATERIAL:
        return None
    told = ", ".join(f"{number(level)} % times {by:.2f}" for level, by in sorted(wanted.items()))
    reason = f"intervals recalibrated on {intervals[0].num_stamps} stamps that came: {told}"
    tags = {key: value for key, value in champion.tags.items() if key not in registry.AUDIT | {LIVE}}
    tags[RECALIBRATION] = json.dumps({"base": base.version, "stretch": wanted})
    run = tracking.continued(
        tracking.experiment(recipe.name),
        name=f"monitor version {champion.version}",
        tags={"forecast.role": MONITORING, "forecast.model_version": champion.version},
    )
    described = f"Version {base.version}, {reason}."
    made = _register(recipe, panel, champion, wanted, run, description=described, tags=tags)
    if not registry.promote(made, reason=reason, expected=champion.version, action="recalibrate"):
        say(f"{recipe.name}: another version became champion meanwhile; nothing was recalibrated")
        return None
    say(f"{recipe.name}: version {made.version} is champion: {reason}")
    return made.version


def _register(
    recipe: Recipe,
    panel: "Panel",
    champion: Version,
    wanted: Mapping[float, float],
    run: tracking.OpenRun,
    *,
    description: str,
    tags: Mapping[str, object],
) -> Version:
    from forecast.models import artifact
    from pipelines.retrain import input_example

    with registry.downloaded(champion) as folder:
        forecaster = artifact.load(folder)
        calibration = replace(
            forecaster.calibration, stretch=np.asarray(stretches(forecaster.quantile_levels, wanted))
        )
        return registry.register(
            recipe.name,
            replace(forecaster, calibration=calibration),
            run,
            levels=recipe.levels,
            description=description,
            tags=tags,
            example=input_example(panel, forecaster.info),
        )
