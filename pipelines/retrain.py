"""One retrain in the order it happens: load, evaluate, log, decide, refit, register, promote."""

import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forecast import __version__, home
from forecast.errors import BudgetError, ForecastError, TrackingError
from pipelines import cards, checkpoints, machine, provenance, registry, sources, tracking
from pipelines.budget import within
from pipelines.lock import recipe_lock
from pipelines.progress import Progress
from pipelines.recipe import Recipe
from pipelines.sections import BASELINES, SEARCHED
from pipelines.tracking import IDENTITY

if TYPE_CHECKING:
    import pandas as pd

    from forecast.evaluation.blocks import Blocks
    from forecast.evaluation.candidates import Evaluated
    from forecast.models.forecaster import ForecasterInfo
    from forecast.models.spec import ModelSpec
    from forecast.series.panel import Panel
    from forecast.training.config import TrainConfig
    from pipelines.checks import Problem, Profile
    from pipelines.gate import Decision, Frozen, Incumbent

Say = Callable[[str], None]

WHOLE = "forecast.files_end_with_a_line"
"""The tag of a retrain that says whether the last lines of its files had an end."""

ASKED = "asked.json"
"""The file of a search's best trial that holds its spec and training."""

CHECKPOINT_SECONDS = float(os.environ.get("FORECAST_CHECKPOINT_SECONDS", "15"))
"""Between two checkpoints of a training."""

FIGURES_FROM_SECONDS = 30.0
"""How long an evaluation takes whose pictures, half a second of drawing, are worth drawing before it wins."""

METRICS = ("mae", "rmse", "smape", "mase", "wql", "coverage_80", "coverage_95")
"""What the outcome and a version's tags tell of a candidate; its run has all metrics."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a retrain came to; the keys of `forecast retrain --json`."""

    recipe: str
    run_id: str
    """The parent run."""
    data_fingerprint: str
    candidates: tuple[dict[str, Any], ...]
    model_version: str | None
    """The version that this run registered; None for a dry run."""
    verdict: str
    """promoted, kept, unchanged or dry-run."""
    reason: str
    tracking_uri: str
    warnings: tuple[str, ...] = ()
    """What the checks of the data found and let pass."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "candidates": list(self.candidates), "warnings": list(self.warnings)}


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a retrain works on, once the data is read."""

    recipe: Recipe
    panel: "Panel"
    fingerprint: str
    say: Say
    unfinished: tuple[Path, ...] = ()
    """Files whose last line has no end."""
    looks: "Profile | None" = None
    """What the data looks like; kept for the checks of next time."""
    warnings: tuple[str, ...] = ()

    @property
    def config(self) -> "TrainConfig":
        """How networks are trained: with checkpoints, so that the same command after a kill goes on."""
        folder = checkpoints.folder(self.recipe.name, self.identity)
        return replace(_config(self.recipe), checkpoint=folder, checkpoint_seconds=CHECKPOINT_SECONDS)

    @property
    def identity(self) -> str:
        """A digest of the resolved recipe, the data and the package version."""
        parts = [self.recipe.digest(), self.fingerprint, __version__]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def retrain(recipe: Recipe, *, dry_run: bool = False, skip_checks: bool = False, say: Say = print) -> Outcome:
    """Bring the model of a recipe up to date with its data. `say` gets a line for every step.

    Raises LockedError when another retrain of the recipe is going on, SpecError and DataError for what cannot
    be used, TrackingError when MLflow fails. Nothing is registered, and no alias moves, unless everything
    before went well. CheckError, a DataError, where the data fails the recipe's checks, unless `skip_checks`;
    BudgetError where it needs more than the recipe's [budget]. The same call after a kill goes on where it
    stood.
    """
    with recipe_lock(recipe.name), within(recipe.budget):
        panel = sources.panel(recipe)
        job = Job(
            recipe=recipe,
            panel=panel,
            fingerprint=panel.fingerprint(),
            say=say,
            unfinished=sources.unfinished(recipe.data),
        )
        _describe_data(job)
        stale = [] if skip_checks else _stale(job)
        with tracking.answering():
            earlier = None if dry_run else _earlier(job)
            if earlier:
                registry.describe(recipe.name)
                return replace(earlier, warnings=tuple(each.message for each in stale))
            job = _checked(job, stale, skip=skip_checks)
            tracking.close_abandoned(recipe.name)
            outcome = _train(job, dry_run=dry_run)
            checkpoints.forget(recipe.name)
            return outcome


def _stale(job: Job) -> "list[Problem]":
    """The check against the clock: data that has not changed may be too old for it now."""
    if job.recipe.checks.freshness.max_age is None:
        return []
    from pipelines import checks

    return _told(job, checks.fresh(job.panel, job.recipe.checks))


def _checked(job: Job, stale: "Sequence[Problem]", *, skip: bool) -> Job:
    """The job, once its data was compared with that of the last retrain. Raises CheckError."""
    from pipelines import checks

    looks = checks.profile(job.panel)
    problems = list(stale)
    before = None if skip else tracking.newest_run(job.recipe.name, tags={"forecast.dry_run": "False"})
    if before is not None:
        if job.unfinished and before.data.tags.get(WHOLE) == "True":
            problems += _told(job, checks.ended(job.unfinished, job.recipe.checks))
        table = tracking.table_of(str(before.info.run_id), checks.TABLE)
        if table is not None:
            then = checks.Profile(table=table)
            problems += _told(job, checks.compared(job.panel, looks, then, job.recipe.checks))
    return replace(job, looks=looks, warnings=tuple(each.message for each in problems))


def _told(job: Job, problems: "list[Problem]") -> "list[Problem]":
    """Say the warnings, and raise what is to stop the retrain."""
    from pipelines import checks

    for each in problems:
        if each.action == "warn":
            job.say(f"  warning: [{each.check}] {each.message}")
    checks.raise_failed(problems)
    return problems


def _earlier(job: Job) -> Outcome | None:
    """The outcome of a finished retrain with the same identity; None where there is none."""
    run = tracking.newest_run(job.recipe.name, tags={IDENTITY: job.identity, "forecast.dry_run": "False"})
    if run is None:
        return None
    version = run.data.tags.get("forecast.model_version")
    if version not in [each.version for each in registry.versions(job.recipe.name)]:
        return None
    return _outcome(
        job,
        run_id=str(run.info.run_id),
        candidates=tuple(json.loads(run.data.tags["forecast.candidates"])),
        version=version,
        verdict="unchanged",
        reason=f"recipe, data and package are those of the run {run.info.run_id} (version {version})",
    )


def _train(job: Job, *, dry_run: bool) -> Outcome:
    """Everything that an unseen combination of recipe and data needs."""
    from forecast.evaluation.blocks import Blocks
    from forecast.series.report import name_series
    from pipelines import gate

    recipe = job.recipe
    backtest = recipe.backtest
    blocks = Blocks.cut(
        job.panel, horizon=recipe.horizon, num_windows=backtest.num_windows, stride=recipe.stride
    )
    if blocks.skipped:
        job.say(f"  {len(blocks.skipped)} series are too short to be judged: {name_series(blocks.skipped)}")
    experiment = tracking.experiment(recipe.name)
    tags = {IDENTITY: job.identity, "forecast.dry_run": dry_run, WHOLE: not job.unfinished}
    tags |= provenance.code()
    with tracking.run(experiment, name=_run_name(), tags=tags) as parent:
        _log_job(parent, job)
        trials = [_try(job, parent, spec, blocks) for spec in recipe.specs()]
        trials += _searched(job, parent, blocks)
        incumbent = _incumbent(job, parent, trials, blocks)
        candidates = [trial.evaluated for trial in trials]
        decision = gate.decide(candidates, recipe, incumbent=incumbent)
        version = None
        if not dry_run:
            version, decision = _publish(job, parent, trials, decision, incumbent)
        outcome = _outcome(
            job,
            run_id=parent.run_id,
            candidates=tuple(_scores(each) for each in candidates),
            version=version,
            verdict="dry-run" if dry_run else "promoted" if decision.promote else "kept",
            reason=_would(decision) if dry_run else decision.reason,
        )
        _log_outcome(parent, outcome, decision, cards.retrain_card(recipe, outcome))
        return outcome


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A candidate that was evaluated, and the child run that tells of it."""

    spec: "ModelSpec"
    """As asked, before the rules filled in what was left open."""
    evaluated: "Evaluated"
    run: tracking.OpenRun
    config: "TrainConfig"
    """How it is trained, and trained again on all data."""
    curves: Sequence[Mapping[str, float | None]] = ()
    """Its learning curves."""
    has_figures: bool = False


def _searched(job: Job, parent: tracking.OpenRun, blocks: "Blocks") -> list[Trial]:
    """The best trial of the recipe's [search] as one more candidate; none without a search."""
    if job.recipe.search is None:
        return []
    from pipelines.search import search

    found = search(job, parent, blocks)
    if found is None:
        return []
    return [_try(job, parent, found.spec, blocks, name=SEARCHED, training=found.training)]


def _try(
    job: Job,
    parent: tracking.OpenRun,
    spec: "ModelSpec",
    blocks: "Blocks",
    role: str = "",
    name: str = "",
    training: Mapping[str, Any] | None = None,
) -> Trial:
    """Evaluate one candidate and log it as a child run."""
    from forecast.evaluation.candidates import evaluate

    name, config = name or spec.backbone, replace(job.config, **(training or {}))
    progress = Progress(say=job.say, name=name)
    tags = {
        "forecast.candidate": spec.backbone,
        "forecast.role": role or _role(spec),
        **provenance.code(),
    }
    with tracking.run(parent.experiment_id, name=name, tags=tags, parent=parent) as run:
        _log_input(run, job)
        if name == SEARCHED:  # what the recipe does not say, for who repeats it
            run.json({"spec": spec.to_dict(), "training": dict(training or {})}, ASKED)
        with progress, machine.Sampler() as sampler:
            evaluated = replace(evaluate(spec, job.panel, blocks, config, on_epoch=progress), name=name)
        with run.together():
            _log_candidate(run, job, evaluated, progress, replace(config, checkpoint=None))
            run.curve(sampler.points())
        trial = Trial(spec=spec, evaluated=evaluated, run=run, config=config, curves=list(progress.curves()))
        if evaluated.seconds >= FIGURES_FROM_SECONDS and _role(spec) != "baseline":
            trial = _with_figures(job, trial)
    metric = job.recipe.gate.metric
    value = evaluated.metrics[metric]
    windows = f"{len(blocks.judge)} unseen windows per series"
    job.say(f"{name}: {metric} {value:.4g} on {windows}, {progress.took}")
    return trial


def _incumbent(
    job: Job, parent: tracking.OpenRun, trials: "list[Trial]", blocks: "Blocks"
) -> "Incumbent | None":
    """The champion's procedure at the same cutoffs: a candidate where the recipe has it, else one more."""
    from forecast.models.spec import ModelSpec
    from pipelines.gate import Incumbent

    champion = registry.champion(job.recipe.name)
    if champion is None:
        return None
    asked = champion.spec or registry.load(champion).info.model
    spec = ModelSpec.from_dict({**asked, "horizon": job.recipe.horizon})
    training: dict[str, Any] = json.loads(champion.tags.get("forecast.training", "{}"))
    asked_config = replace(job.config, **training)
    alike = (trial for trial in trials if trial.spec == spec and trial.config == asked_config)
    trial = next(alike, None)
    return Incumbent(
        version=champion.version,
        evaluated=(trial or _try(job, parent, spec, blocks, role="champion", training=training)).evaluated,
        is_candidate=trial is not None,
        has_same_data=champion.tags.get("forecast.data_fingerprint") == job.fingerprint,
        frozen=_frozen(job, champion, blocks),
    )


def _frozen(job: Job, champion: registry.Version, blocks: "Blocks") -> "Frozen | None":
    """The champion as it serves, on the judge windows after its training; None where it has none.

    A champion that cannot answer them (its files are gone, the frequency or the horizon has changed) is told
    of and blocks nothing.
    """
    from forecast.evaluation.replay import replay
    from pipelines.gate import Frozen

    try:
        forecaster = registry.load(champion)
        replayed = replay(forecaster, job.panel, blocks.judge, horizon=job.recipe.horizon)
    except ForecastError as error:
        job.say(f"version {champion.version} cannot be scored as it serves: {error}")
        return None
    frame = replayed.frame(job.panel.timezone)
    seen = frame.groupby(["unique_id", "cutoff"])["in_sample"].transform("any").to_numpy(dtype=bool)
    if seen.all():
        return None
    until, fitted_until = forecaster.trained_until, job.panel.last_stamps().max()
    if not blocks.rolling_refits:
        fitted_until = job.panel.drop_last(blocks.fit_until).last_stamps().max()
    return Frozen(forecasts=frame[~seen], is_fair=until is None or bool(fitted_until >= until))


def _publish(
    job: Job,
    parent: tracking.OpenRun,
    trials: Sequence[Trial],
    decision: "Decision",
    incumbent: "Incumbent | None",
) -> "tuple[str, Decision]":
    """Refit the winner on all data, register it, and only then move an alias.

    Returns the version and the decision that holds: where somebody moved the alias since the champion was
    looked at, nothing is promoted, and the same command decides anew.
    """
    from forecast.evaluation.candidates import refit_full

    trial = next(each for each in trials if each.evaluated is decision.winner)
    for run in (parent, trial.run):
        run.settle()
    job.say(f"{trial.evaluated.name}: trained again on all data")
    _with_figures(job, trial)
    forecaster = refit_full(decision.winner, job.panel, trial.config)
    card = partial(
        cards.model_card,
        job.recipe,
        forecaster.info,
        baselines=[each.evaluated for each in trials if _role(each.spec) == "baseline"],
        num_windows=forecaster.calibration.num_windows,
    )
    version = registry.register(
        job.recipe.name,
        forecaster,
        trial.run,
        levels=job.recipe.levels,
        description=card(decision),
        tags=_version_tags(job, parent, trial, forecaster.info),
        example=input_example(job.panel, forecaster.info),
    )
    if decision.promote:
        expected = incumbent.version if incumbent else None
        if registry.promote(version, reason=decision.reason, expected=expected, figures=decision.figures):
            return version.version, decision
        reason = (
            "another version became champion while this one was made, so nothing was promoted; run the same "
            f"command again to decide anew (it was to be promoted: {decision.reason})"
        )
        decision = replace(decision, promote=False, reason=reason)
        parent.tags({IDENTITY: "undecided"})
    registry.challenge(version, reason=decision.reason, description=card(decision))
    return version.version, decision


def _describe_data(job: Job) -> None:
    from forecast.models.forecaster import stamp_text

    panel = job.panel
    lengths = panel.lengths
    shortest, longest = int(lengths.min()), int(lengths.max())
    steps = f"{longest} steps" if shortest == longest else f"{shortest} to {longest} steps"
    until = f"until {stamp_text(panel.last_stamps().max())}"
    job.say(f"{job.recipe.name}: {len(panel)} series of {steps}, {panel.freq.words}, {until}")
    for finding in panel.report:
        job.say(f"  {finding.message}")


def _log_job(parent: tracking.OpenRun, job: Job) -> None:
    """What the parent run says about recipe and data."""
    from pipelines import checks

    panel, recipe = job.panel, job.recipe
    fields = recipe.public()
    parent.params({key: value for key, value in fields.items() if key not in ("name", "model")})
    parent.json(fields, "recipe.json")
    parent.json(panel.report.to_dict(), "data_report.json")
    if job.looks is not None:
        parent.table(job.looks.table, checks.TABLE)
    _log_input(parent, job)


def _log_input(run: tracking.OpenRun, job: Job) -> None:
    """Which data a run has read, by its digest; each candidate's run says so too: tables show it there."""
    from forecast.models.forecaster import stamp_text

    panel, recipe = job.panel, job.recipe
    cutoff = stamp_text(panel.last_stamps().max())
    profile = {"num_rows": int(panel.lengths.sum()), "num_series": len(panel), "freq": str(panel.freq)}
    profile["cutoff"] = cutoff
    columns = [
        ("unique_id", "string"),
        ("ds", "long" if panel.freq.is_integer else "datetime"),
        ("y", "double"),
    ]
    run.input(
        name=recipe.name,
        digest=job.fingerprint,
        source=json.dumps({"uri": sources.place(recipe.data)}),
        schema=json.dumps({"mlflow_colspec": [{"name": name, "type": kind} for name, kind in columns]}),
        profile=json.dumps(profile),
        context="training",
    )


def _log_candidate(
    run: tracking.OpenRun, job: Job, evaluated: "Evaluated", progress: Progress, config: "TrainConfig"
) -> None:
    """Resolved spec, learning curves, final metrics, error by step, and the backtest's tables."""
    run.params({**evaluated.spec.to_dict(), "training": config.to_dict()})
    run.json(dict(evaluated.reasons), "reasons.json")
    run.curve(progress.curves())
    run.metrics(evaluated.metrics)
    run.metrics({"seconds": evaluated.seconds, "num_steps": evaluated.num_steps})
    if progress.epochs:
        run.metrics({"windows_per_second": progress.epochs[-1].windows_per_second})
        run.tags({"forecast.device": provenance.device(job.recipe.training.device)})
    for metric, values in evaluated.by_step.items():
        run.metric_by_step(f"{metric.replace('coverage_', 'coverage')}_by_step", values.tolist())
    run.table(evaluated.by_series, "by_series.parquet")
    run.table(evaluated.forecasts, "backtest.parquet")


def _with_figures(job: Job, trial: Trial) -> Trial:
    """Pictures of a trial's backtest, once; one that cannot be drawn is told of and ends nothing."""
    from pipelines import figures

    if trial.has_figures:
        return trial
    evaluated = trial.evaluated
    try:
        for name, figure in figures.of_candidate(evaluated, trial.curves, metric=job.recipe.gate.metric):
            trial.run.figure(figure, f"figures/{name}")
    except (TrackingError, BudgetError):
        raise
    except Exception as error:  # whatever matplotlib makes of odd data, the model is what counts
        job.say(f"{evaluated.name}: a figure could not be drawn ({type(error).__name__}: {error})")
    return replace(trial, has_figures=True)


def _log_outcome(parent: tracking.OpenRun, outcome: Outcome, decision: "Decision", card: str) -> None:
    parent.metrics(decision.winner.metrics)
    parent.metrics({f"gate_{name}": value for name, value in decision.figures.items()})
    parent.json(outcome.to_dict(), "outcome.json")
    parent.tags(
        {
            "mlflow.note.content": card,
            "forecast.verdict": outcome.verdict,
            "forecast.reason": outcome.reason,
            "forecast.winner": decision.winner.name,
            "forecast.model_version": outcome.model_version or "",
            "forecast.candidates": json.dumps(outcome.candidates),
        }
    )


def _version_tags(
    job: Job, parent: tracking.OpenRun, trial: Trial, info: "ForecasterInfo"
) -> Mapping[str, object]:
    """What can be read off a version without opening its files."""
    return {
        "forecast.candidate": trial.spec.backbone,
        "forecast.freq": info.freq,
        "forecast.horizon": info.horizon,
        "forecast.levels": json.dumps(job.recipe.levels),
        "forecast.trained_until": info.trained_until,
        "forecast.data_fingerprint": job.fingerprint,
        "forecast.package_version": __version__,
        "forecast.git_revision": provenance.code().get("forecast.git_revision", ""),
        "forecast.seed": job.recipe.training.seed,
        "forecast.parent_run": parent.run_id,
        "forecast.metrics": json.dumps(_scores(trial.evaluated)["metrics"]),
        "forecast.spec": json.dumps(trial.spec.to_dict()),
        "forecast.training": json.dumps(_overrides(job, trial)),
        "forecast.data": json.dumps(sources.how_read(job.recipe.data)),
        IDENTITY: job.identity,
    }


def _overrides(job: Job, trial: Trial) -> dict[str, Any]:
    """What a search has set of the training, beside the recipe."""
    usual, own = job.config.to_dict(), trial.config.to_dict()
    return {name: value for name, value in own.items() if value != usual[name]}


def input_example(panel: "Panel", info: "ForecasterInfo") -> "pd.DataFrame":
    """An input example: real stamps with invented values, so that no data leaves with a model."""
    import numpy as np
    import pandas as pd

    stamps = panel.ds(int(panel.lengths.argmax()))[-max(info.min_context, min(info.context_length, 24)) :]
    values = 10.0 + np.arange(len(stamps)) % max(info.season_length, 2)
    return pd.DataFrame({"unique_id": "example", "ds": stamps, "y": values})


def _outcome(
    job: Job,
    *,
    run_id: str,
    candidates: tuple[dict[str, Any], ...],
    version: str | None,
    verdict: str,
    reason: str,
) -> Outcome:
    return Outcome(
        recipe=job.recipe.name,
        run_id=run_id,
        data_fingerprint=job.fingerprint,
        candidates=candidates,
        model_version=version,
        verdict=verdict,
        reason=reason,
        tracking_uri=tracking.masked(home.tracking_uri()),
        warnings=job.warnings,
    )


def _scores(evaluated: "Evaluated") -> dict[str, Any]:
    """Name and metrics, None for what is not finite."""
    values = {name: float(evaluated.metrics[name]) for name in METRICS}
    metrics = {name: value if math.isfinite(value) else None for name, value in values.items()}
    return {"name": evaluated.name, "metrics": metrics}


def _config(recipe: Recipe) -> "TrainConfig":
    from forecast.training.config import TrainConfig

    return TrainConfig(**recipe.training.model_dump(), progress="quiet")


def _role(spec: "ModelSpec") -> str:
    return "baseline" if spec.backbone in BASELINES else "candidate"


def _would(decision: "Decision") -> str:
    return f"would {'promote' if decision.promote else 'keep the champion'}: {decision.reason}"


def _run_name() -> str:
    return f"retrain {datetime.now(UTC):%Y-%m-%d %H:%M:%S}"
