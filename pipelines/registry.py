"""The only writer of model versions and aliases; looks versions up by name@alias or name/version.

A version is complete before any alias points to it, and moving the alias `champion` is one call, so whenever
a run is interrupted the champion is a whole version: the old one or the new one.
"""

import getpass
import json
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forecast import __version__
from forecast.errors import ArtifactError, LockedError, NotFoundError
from pipelines import cards, tracking
from pipelines.lock import promotion_lock

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.models import ModelSignature

    from forecast.models.forecaster import Forecaster

CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"

FORECASTER_FOLDER = "artifacts/forecaster"
"""Where the artifact folder lies inside a logged model."""

AUDIT = frozenset(
    f"forecast.{name}"
    for name in ("verdict", "reason", "decided_by", "decided_at", "champion_before", "figures")
)
"""The tags of a version that tell of the decision about it."""

DESCRIPTION_CHARACTERS = 5000
"""What MLflow's database has room for."""

_FIGURE = "gate_"
"""Begins the metrics of a decision, so that charts do not mix them with those of candidates."""

_MODEL_CODE = Path(__file__).with_name("model_code.py")


@dataclass(frozen=True, kw_only=True)
class Version:
    """A registered version: what MLflow knows about it, with plain types."""

    name: str
    version: str
    """The number as text, whatever the store gives."""
    run_id: str
    """The child run of its candidate."""
    aliases: tuple[str, ...]
    tags: Mapping[str, str]
    source: str
    created_at: float
    """Seconds since 1970."""
    description: str = ""
    """Its model card."""

    @property
    def metrics(self) -> dict[str, float | None]:
        """What it scored on windows it had not seen."""
        values: dict[str, float | None] = self._json("forecast.metrics")
        return values

    @property
    def spec(self) -> dict[str, Any]:
        """The spec that was asked for, before the rules filled in what it left open."""
        return self._json("forecast.spec")

    @property
    def data(self) -> dict[str, Any]:
        """How its training data was read: the recipe's `[data]` without where it lay."""
        return self._json("forecast.data")

    @property
    def levels(self) -> tuple[float, ...]:
        """The recipe's levels in percent."""
        return tuple(json.loads(self.tags.get("forecast.levels", "[]")))

    def _json(self, tag: str) -> dict[str, Any]:
        values: dict[str, Any] = json.loads(self.tags.get(tag, "{}"))
        return values


def parse_reference(reference: str) -> tuple[str, str | None, str | None]:
    """`name`, `name@alias` or `name/version` as (name, alias, version); a bare name means its champion."""
    name, at, alias = reference.partition("@")
    if at:
        return name, alias, None
    name, slash, version = reference.partition("/")
    return (name, None, version) if slash else (name, CHAMPION, None)


def find(reference: str) -> Version:
    """The version that `name`, `name@alias` or `name/version` means; NotFoundError naming what there is."""
    name, alias, version = parse_reference(reference)
    known = versions(name)
    for each in known:
        if version == each.version or (alias and alias in each.aliases):
            return each
    if not known:
        raise NotFoundError(
            f"there is no model {name!r}; registered are: {', '.join(names()) or 'none'}. A model is "
            "registered by `forecast retrain` under the name of its recipe"
        )
    raise NotFoundError(
        f"the model {name!r} has no {f'alias {alias!r}' if alias else f'version {version!r}'}; ask for "
        f"one of the versions {', '.join(each.version for each in known)} or the aliases "
        f"{', '.join(alias for each in known for alias in each.aliases) or '(none)'}"
    )


def champion(name: str) -> Version | None:
    """The version that serves; None where the model has none yet."""
    return next((each for each in versions(name) if CHAMPION in each.aliases), None)


def names() -> list[str]:
    """The registered models, sorted."""
    with tracking.answering():
        return sorted(str(each.name) for each in _all_models())


def versions(name: str) -> list[Version]:
    """The versions of a model that are ready, oldest first; empty where there is no such model."""
    with tracking.answering():
        found = tracking.client().search_model_versions(f"name = '{_quoted(name)}'", max_results=1000)
        aliases = _aliases(name) if found else {}
    ready = [each for each in found if str(each.status) == "READY"]
    return sorted((_version(each, aliases) for each in ready), key=lambda each: int(each.version))


def register(
    name: str,
    forecaster: "Forecaster",
    run: tracking.OpenRun,
    *,
    levels: Sequence[float],
    description: str,
    tags: Mapping[str, object],
    example: "pd.DataFrame",
) -> Version:
    """Log a forecaster as an MLflow model of `run` and make it a version of `name`, without an alias."""
    from mlflow.exceptions import MlflowException

    source = _log_model(forecaster, run, levels=levels, example=example)
    try:
        tracking.client().create_registered_model(name, description=cards.registered(name, []))
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    texts = {key: str(value) for key, value in tags.items()}
    with tracking.addressed():
        made = tracking.client().create_model_version(
            name,
            source,
            run_id=run.run_id,
            tags=texts,
            description=description[:DESCRIPTION_CHARACTERS],
            model_id=_model_id(source),
        )
    return _version(made, {})


class Anybody:
    """Stands for whichever version is champion."""


def promote(
    version: Version,
    *,
    reason: str,
    expected: str | type[Anybody] | None = Anybody,
    figures: Mapping[str, float] | None = None,
    action: str = "promote",
) -> bool:
    """Make a version champion and the one before `previous`; who, when, from, to and why are kept.

    `expected` is the champion that the decision was made against (None: there was none). Where another
    version has become champion meanwhile, nothing is moved and the answer is False. LockedError when another
    promotion holds the lock.
    """
    with promotion_lock(version.name):
        before = champion(version.name)
        origin = before.version if before else None
        if expected is not Anybody and origin != expected:
            return False
        verdict = "rolled back to" if action == "rollback" else "promoted"
        _audit(version, verdict=verdict, reason=reason, before=origin or "none", figures=figures)
        experiment = tracking.experiment(version.name)
        aliases = tracking.client()
        if before and before.version != version.version:
            aliases.set_registered_model_alias(version.name, PREVIOUS, before.version)
        for alias in set(_aliases(version.name).get(version.version, ())) & {CHALLENGER, PREVIOUS}:
            aliases.delete_registered_model_alias(version.name, alias)
        aliases.set_registered_model_alias(version.name, CHAMPION, version.version)
        _log_promotion(
            version, experiment, action=action, origin=origin, reason=reason, figures=figures or {}
        )
    describe(version.name)
    return True


def rollback(name: str, *, reason: str) -> tuple[Version, Version]:
    """Make `previous` champion again, and the champion `previous`; returns (from, to).

    Raises NotFoundError where the model has no champion or nothing served before it.
    """
    current, before = find(f"{name}@{CHAMPION}"), find(f"{name}@{PREVIOUS}")
    load(before)
    if not promote(before, reason=reason, expected=current.version, action="rollback"):
        raise LockedError(
            f"the champion of {name!r} was changed by somebody else just now; look at `forecast history "
            f"{name}` and try again"
        )
    return current, before


def challenge(version: Version, *, reason: str, description: str) -> None:
    """Make a version challenger: it was not good enough to serve, and its tags and its card say why."""
    with promotion_lock(version.name):
        before = champion(version.name)
        _audit(version, verdict="kept", reason=reason, before=before.version if before else "none")
        card = description[:DESCRIPTION_CHARACTERS]
        if card != version.description:
            tracking.client().update_model_version(version.name, version.version, card)
        tracking.client().set_registered_model_alias(version.name, CHALLENGER, version.version)
    describe(version.name)


def describe(name: str) -> None:
    """Write on the model's page which version serves and what it is, and what was decided last.

    A page that cannot be written now is written by the next retrain.
    """
    with suppress(*tracking.lost()):
        text = cards.registered(name, versions(name))[:DESCRIPTION_CHARACTERS]
        if tracking.client().get_registered_model(name).description != text:
            tracking.client().update_registered_model(name, text)


def tell(version: Version, tags: Mapping[str, str]) -> None:
    """Set tags of a version."""
    for key, value in tags.items():
        tracking.client().set_model_version_tag(version.name, version.version, key, value)


def delete(version: Version) -> bool:
    """Delete a version and its logged model, unless an alias points to it by now; whether it was deleted.

    The promotion's lock has to be held.
    """
    if _aliases(version.name).get(version.version):
        return False
    tracking.client().delete_model_version(version.name, version.version)
    if (model_id := _model_id(version.source)).startswith("m-"):
        tracking.client().delete_logged_model(model_id)
    return True


def promotions(name: str) -> list[dict[str, Any]]:
    """Every move of the alias `champion` that was made by us, newest first: when, who, from, to, why."""
    with tracking.answering():
        runs = tracking.runs(name, tags={"forecast.role": "promotion"})
    keys = ("action", "from", "to", "by", "at", "reason")
    return [
        {key: run.data.tags.get(f"forecast.{key}", "") for key in keys}
        | {"figures": _without_prefix(run.data.metrics), "run_id": str(run.info.run_id)}
        for run in runs
    ]


def load(version: Version) -> "Forecaster":
    """The forecaster of a version."""
    from forecast.models import artifact

    with downloaded(version) as folder:
        return artifact.load(folder)


@contextmanager
def downloaded(version: Version) -> Iterator[Path]:
    """The artifact folder of a version, fetched where it lies on a server, for as long as the block runs."""
    from mlflow.artifacts import download_artifacts

    with tempfile.TemporaryDirectory(prefix="forecast-") as scratch, tracking.answering():
        with tracking.addressed():
            model = Path(download_artifacts(artifact_uri=version.source, dst_path=scratch))
        folder = model / FORECASTER_FOLDER
        if not folder.is_dir():
            raise ArtifactError(
                f"version {version.version} of {version.name!r} holds no {FORECASTER_FOLDER}; it was "
                f"not made by `forecast retrain`, or lost its files: run `forecast retrain {version.name}`"
            )
        yield folder


def _log_model(
    forecaster: "Forecaster", run: tracking.OpenRun, *, levels: Sequence[float], example: "pd.DataFrame"
) -> str:
    """Log the artifact folder with the code that runs it; returns the model's address."""
    import mlflow

    from forecast.models import artifact

    asked = {"horizon": forecaster.horizon, "levels": [float(level) for level in levels]}
    with tempfile.TemporaryDirectory(prefix="forecast-") as scratch, tracking.addressed():
        folder = artifact.save(forecaster, Path(scratch) / "forecaster")
        example = _with_covariates(example, forecaster)
        answer = _answer(forecaster, example, levels=levels)
        with mlflow.start_run(run_id=run.run_id, nested=True):
            info = mlflow.pyfunc.log_model(
                name="forecaster",
                python_model=str(_MODEL_CODE),
                artifacts={"forecaster": str(folder)},
                signature=_signature(example, answer, asked),
                input_example=example,
                pip_requirements=[f"forecast[pipelines]=={__version__}"],
            )
    return str(info.model_uri)


def _with_covariates(example: "pd.DataFrame", forecaster: "Forecaster") -> "pd.DataFrame":
    """The example with the model's covariates, known ones over the horizon too; invented like its values."""
    import pandas as pd

    from forecast.series.read import from_frame

    covariates = forecaster.info.covariates
    if covariates.get("known"):
        ahead = from_frame(example, freq=forecaster.info.freq).future_stamps(forecaster.horizon)[0]
        future = pd.DataFrame({"unique_id": example["unique_id"].iloc[0], "ds": ahead})
        example = pd.concat([example, future], ignore_index=True)
    categories = forecaster.info.model.get("static_categories") or {}
    numbers = [1.0 + step % 2 for step in range(len(example))]
    rows = {name: numbers for kind in ("past", "known") for name in covariates.get(kind, [])}
    names = covariates.get("static", [])
    single = {name: categories[name][0] if name in categories else 1.0 for name in names}
    return example.assign(**rows, **single)


def _covariates(forecaster: "Forecaster") -> dict[str, Any]:
    """The covariate columns that the readers are to take from a frame."""
    return dict(forecaster.info.covariates)


def _signature(
    example: "pd.DataFrame", answer: "pd.DataFrame", asked: Mapping[str, object]
) -> "ModelSignature":
    """What the model takes and answers.

    Columns are of any type that the library reads: MLflow's own types would refuse whole numbers as values,
    and stamps that name a zone.
    """
    from mlflow.models import infer_signature
    from mlflow.types.schema import AnyType, ColSpec, Schema

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "(?s).*integer column", UserWarning)
        signature = infer_signature(None, answer, dict(asked))
    anything = AnyType()  # type: ignore[no-untyped-call]
    types = {name: "string" if name == "unique_id" else anything for name in example.columns}
    signature.inputs = Schema([ColSpec(kind, name) for name, kind in types.items()])
    return signature


def _answer(forecaster: "Forecaster", frame: "pd.DataFrame", *, levels: Sequence[float]) -> "pd.DataFrame":
    """What the registered model answers to `frame`."""
    from forecast.series.read import from_frame

    panel = from_frame(frame, freq=forecaster.info.freq, **_covariates(forecaster))
    return forecaster.predict(panel).to_frame(levels=levels)


def _audit(
    version: Version, *, verdict: str, reason: str, before: str, figures: Mapping[str, float] | None = None
) -> None:
    """Who decided what about a version, when, against which champion, why, and by which numbers."""
    tags = {
        "forecast.verdict": verdict,
        "forecast.reason": reason,
        "forecast.decided_by": _user(),
        "forecast.decided_at": _now(),
        "forecast.champion_before": before,
        "forecast.figures": json.dumps(dict(figures or {})),
    }
    tell(version, tags)


def _log_promotion(
    version: Version,
    experiment: str,
    *,
    action: str,
    origin: str | None,
    reason: str,
    figures: Mapping[str, float],
) -> None:
    """A run that tells of one move of the alias: aliases themselves have no history.

    The alias has moved by now, so that a server which goes away at this moment gets the run later.
    """
    tags = {
        "forecast.role": "promotion",
        "forecast.action": action,
        "forecast.from": origin or "none",
        "forecast.to": version.version,
        "forecast.by": _user(),
        "forecast.at": _now(),
        "forecast.reason": reason,
    }
    name = f"{action} {origin or 'none'} -> {version.version}"
    with tracking.run(experiment, name=name, tags=tags, may_wait=True) as run:
        run.metrics({f"{_FIGURE}{key}": value for key, value in figures.items()})


def _without_prefix(metrics: Mapping[str, float]) -> dict[str, float]:
    return {key.removeprefix(_FIGURE): value for key, value in metrics.items()}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _model_id(source: str) -> str:
    """`m-...` of `models:/m-...`."""
    return source.rpartition("/")[2]


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def _all_models() -> Iterator[Any]:
    token = None
    while True:
        page = tracking.client().search_registered_models(page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _aliases(name: str) -> dict[str, tuple[str, ...]]:
    """The aliases by version, as text; searching versions does not bring them."""
    found: dict[str, tuple[str, ...]] = {}
    for alias, version in sorted(tracking.client().get_registered_model(name).aliases.items()):
        found[str(version)] = (*found.get(str(version), ()), alias)
    return found


def _version(each: "ModelVersion", aliases: Mapping[str, tuple[str, ...]]) -> Version:
    number = str(each.version)
    return Version(
        name=str(each.name),
        version=number,
        run_id=str(each.run_id),
        aliases=aliases.get(number, ()),
        tags=dict(each.tags),
        source=str(each.source),
        created_at=float(each.creation_timestamp or 0) / 1000,
        description=str(each.description or ""),
    )


def _quoted(name: str) -> str:
    return name.replace("'", "")
