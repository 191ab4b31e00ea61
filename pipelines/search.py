"""Search specs and trainings with Optuna, by the select block alone; the best one competes in the gate."""

import json
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from forecast import home, placeholders
from forecast.errors import DataError, SpecError, TrackingError, TrainingError
from forecast.models.catalog import BACKBONES
from forecast.models.spec import ModelSpec
from pipelines import provenance, tracking
from pipelines.sections import SearchSection

if TYPE_CHECKING:
    import optuna

    from forecast.evaluation.blocks import Blocks
    from forecast.training.events import EpochEvent
    from pipelines.retrain import Job

OF_TRAINING = ("learning_rate", "batch_size", "weight_decay", "max_steps")
"""What is searched and belongs to the training; everything else is a field of the spec."""

SEASONS = (1, 2, 3, 4, 6)
"""Context lengths that are tried, in seasons (or, without a season, in horizons)."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """The best trial: what is asked for, and how it is trained."""

    spec: ModelSpec
    training: dict[str, Any]
    number: int


def search(job: "Job", parent: tracking.OpenRun, blocks: "Blocks") -> Found | None:
    """The best trial of the recipe's [search]; None where none could be trained.

    What was tried before a kill is kept in Optuna's storage and not tried again.
    """
    import optuna

    section = job.recipe.search
    assert section is not None
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    study = optuna.create_study(
        storage=_storage(job),
        study_name=f"{job.recipe.name}-{job.identity[:16]}",
        sampler=optuna.samplers.TPESampler(seed=section.seed),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=4),
        load_if_exists=True,
    )
    ended = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
    over = [trial for trial in study.trials if trial.state in ended]
    left = None if section.trials is None else max(section.trials - len(over), 0)
    if left != 0:
        study.optimize(
            lambda trial: _objective(trial, job, parent, blocks), n_trials=left, timeout=section.seconds
        )
    done = [trial for trial in study.trials if trial.state == optuna.trial.TrialState.COMPLETE]
    if not done:
        job.say("search: no trial could be trained to its end")
        return None
    best = study.best_trial
    job.say(
        f"search: trial {best.number} of {len(study.trials)} is the best, {job.recipe.gate.metric} "
        f"{best.value:.4g} in selection: {_words(best.params)}"
    )
    parent.tags({"forecast.search.trials": len(study.trials), "forecast.search.best": best.number})
    spec, training = _asked(best.params, job)
    return Found(spec=spec, training=training, number=best.number)


def _objective(trial: "optuna.Trial", job: "Job", parent: tracking.OpenRun, blocks: "Blocks") -> float:
    """One trial as a child run; its value is the metric on the select block."""
    import optuna

    from forecast.evaluation.candidates import select_only

    params = _suggested(trial, job)
    metric = job.recipe.gate.metric
    tags = {"forecast.role": "trial", "forecast.trial": trial.number, **provenance.code()}
    name = f"trial {trial.number}"
    with tracking.run(parent.experiment_id, name=name, tags=tags, parent=parent) as run:
        run.params(params)
        try:
            spec, training = _asked(params, job)
            config = replace(job.config, **training, checkpoint=None)
            metrics = select_only(spec, job.panel, blocks, config, on_epoch=_Pruner(trial))
        except (SpecError, DataError, TrainingError) as error:
            run.tags({"forecast.state": "impossible", "forecast.reason": str(error)})
            raise optuna.TrialPruned from error
        except optuna.TrialPruned:
            run.tags({"forecast.state": "pruned"})
            job.say(f"search: trial {trial.number} was stopped early ({_words(params)})")
            raise
        run.metrics({f"select_{key}": value for key, value in metrics.items()})
        run.tags({"forecast.state": "complete"})
    value = metrics[metric]
    if not math.isfinite(value):
        raise optuna.TrialPruned
    job.say(f"search: trial {trial.number}, {metric} {value:.4g} in selection ({_words(params)})")
    return float(value)


class _Pruner:
    """Tells Optuna how a training goes, and ends one that falls behind the others."""

    def __init__(self, trial: "optuna.Trial") -> None:
        self._trial = trial
        self._checks = 0

    def __call__(self, event: "EpochEvent") -> None:
        import optuna

        if event.validation_loss is None or event.member:
            return
        self._checks += 1
        self._trial.report(event.validation_loss, self._checks)
        if self._trial.should_prune():
            raise optuna.TrialPruned


def _suggested(trial: "optuna.Trial", job: "Job") -> dict[str, Any]:
    section = job.recipe.search
    assert section is not None
    networks = section.backbones or tuple(name for name in job.recipe.candidates if name in BACKBONES)
    space = {"backbone": list(networks or ("gru",)), **_usual(job), **section.space}
    return {name: _suggest(trial, name, values) for name, values in space.items()}


def _usual(job: "Job") -> dict[str, Any]:
    """Where a recipe does not say what to search."""
    unit = job.panel.season_length if job.panel.season_length > 1 else job.recipe.horizon
    longest = int(job.panel.lengths.max()) // 2
    contexts = [unit * times for times in SEASONS if unit * times <= longest] or [unit]
    return {
        "context_length": contexts,
        "hidden_size": [16, 32, 64, 128],
        "num_layers": [1, 2],
        "dropout": [0.0, 0.1, 0.2],
        "learning_rate": {"low": 3e-4, "high": 1e-2, "log": True},
    }


def _suggest(trial: "optuna.Trial", name: str, values: Any) -> Any:
    if isinstance(values, Mapping):
        low, high, log = values["low"], values["high"], bool(values.get("log"))
        if isinstance(low, int) and isinstance(high, int):
            return trial.suggest_int(name, low, high, log=log)
        return trial.suggest_float(name, low, high, log=log)
    return trial.suggest_categorical(name, list(values))


def _asked(params: Mapping[str, Any], job: "Job") -> tuple[ModelSpec, dict[str, Any]]:
    """Parameters as a spec and the settings of a training."""
    recipe = job.recipe
    of_spec = {name: value for name, value in params.items() if name not in OF_TRAINING}
    own = {"horizon": recipe.horizon, "season_length": recipe.season_length}
    own |= {"context_length": recipe.context_length, **recipe.model}
    return ModelSpec.from_dict({**own, **of_spec}), {
        name: value for name, value in params.items() if name in OF_TRAINING
    }


def _storage(job: "Job") -> Any:
    """Optuna's own database: it cannot share MLflow's."""
    import optuna

    section = job.recipe.search
    assert section is not None
    folder = home.home() / "search"
    folder.mkdir(parents=True, exist_ok=True)
    address = placeholders.expand(section.storage or f"sqlite:///{folder / job.recipe.name}.db")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return optuna.storages.RDBStorage(address)
    except Exception as error:  # whatever its driver says, with the password that drivers like to repeat
        shown = placeholders.masked_url(section.storage or "")
        raise TrackingError(
            f"the storage of the search {shown} cannot be used ({type(error).__name__}); start it, or "
            "correct `storage` under [search]"
        ) from None


def _words(params: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in params.items()
    )


def check(section: SearchSection) -> None:
    """ValueError, in words, for a space that names what does not exist."""
    known = [field.name for field in fields(ModelSpec)] + list(OF_TRAINING)
    for name, values in section.space.items():
        if name not in known or name in ("backbone", "horizon", "season_length"):
            raise ValueError(
                f"there is nothing to search by the name {name!r}; try hidden_size, dropout, "
                "context_length or learning_rate"
            )
        if not isinstance(values, Mapping):
            continue
        if not {"low", "high"} <= set(values) <= {"low", "high", "log"} or not values["low"] < values["high"]:
            raise ValueError(
                f"a range is {{low = ..., high = ...}}, low below high; got {json.dumps(values)}"
            )
