"""Repeat a retrain from what MLflow knows of it: the same figures on the same data, or what differs."""

import json
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forecast.errors import NotFoundError, SpecError
from pipelines import provenance, sources, tracking
from pipelines import recipe as recipes
from pipelines.recipe import Recipe
from pipelines.sections import SEARCHED

if TYPE_CHECKING:
    from mlflow.entities import Run

    from forecast.models.spec import ModelSpec
    from forecast.series.panel import Panel
    from forecast.training.config import TrainConfig

TOLERANCE = 1e-6
"""Share by which two figures may differ and still be the same."""

Say = Callable[[str], None]


def replay(run_id: str, *, data: Path | None = None, say: Say = print) -> dict[str, Any]:
    """Evaluate the candidates of a run again and compare; nothing is logged or registered.

    A child run is repeated alone. Raises NotFoundError for a run that is not there or is no retrain, and
    SpecError where its recipe holds a password that was never logged.
    """
    with tracking.answering():
        run, only = _retrain_of(run_id)
        recipe = _recipe(run, data)
        told = json.loads(run.data.tags.get("forecast.candidates", "[]"))
        dataset = run.inputs.dataset_inputs[0].dataset if run.inputs else None
    then = {each["name"]: each["metrics"] for each in told if only in (None, each["name"])}
    if not then or dataset is None:
        raise NotFoundError(f"the run {run_id} did not end, so there are no figures to repeat")
    panel, differs = _panel(recipe, str(dataset.digest), json.loads(dataset.profile or "{}"), say)
    differs += list(_other_code(run))
    asked, lost = _asked(run, recipe, then)
    differs += lost
    rows = list(_compared(recipe, panel, asked, then, say))
    differs += [
        f"{row['candidate']}: {row['metric']} was {row['then']}, is {row['now']}"
        for row in rows
        if not row["same"]
    ]
    return {
        "run_id": str(run.info.run_id),
        "recipe": recipe.name,
        "same": not lost and all(row["same"] for row in rows),
        "differs": differs,
        "metrics": rows,
    }


def _retrain_of(run_id: str) -> "tuple[Run, str | None]":
    """The parent run, and the candidate where a child run was named."""
    from mlflow.exceptions import MlflowException

    try:
        run = tracking.client().get_run(run_id)
    except MlflowException as error:
        raise NotFoundError(f"there is no run {run_id!r}; `forecast history NAME` lists runs") from error
    parent = run.data.tags.get("mlflow.parentRunId")
    if parent:
        is_search = run.info.run_name == SEARCHED
        only = SEARCHED if is_search else str(run.data.tags.get("forecast.candidate"))
        return tracking.client().get_run(parent), only
    if tracking.IDENTITY not in run.data.tags:
        raise NotFoundError(f"the run {run_id} is no retrain; name the run of one, or of a candidate")
    return run, None


def _recipe(run: "Run", data: Path | None) -> Recipe:
    with tempfile.TemporaryDirectory(prefix="forecast-") as scratch:
        path = Path(tracking.client().download_artifacts(run.info.run_id, "recipe.json", scratch))
        values = json.loads(path.read_text(encoding="utf-8"))
    if data is None and "***" in json.dumps(values["data"]):
        raise SpecError(
            "the recipe names a password or a query value in its address, which was not logged; give the "
            "data by --data FILE, and write such values as ${NAME} from now on"
        )
    return recipes.with_data(Recipe.model_validate(values), path=data)


def _panel(recipe: Recipe, digest: str, profile: Mapping[str, Any], say: Say) -> "tuple[Panel, list[str]]":
    """The data as it was: where it has grown since, without what is new."""
    panel = sources.panel(recipe)
    if panel.fingerprint()[:36] == digest:
        return panel, []
    cutoff = profile.get("cutoff")
    if cutoff is not None:
        stamp = int(cutoff) if panel.freq.is_integer else cutoff
        earlier = panel.until(stamp)
        if earlier.fingerprint()[:36] == digest:
            say(f"the data has grown since; it is read until {cutoff}, as it was")
            return earlier, []
        panel = earlier
    return panel, [
        f"the data until {cutoff} is not what it was: {int(panel.lengths.sum()):,} rows of {len(panel):,} "
        f"series, and then {profile.get('num_rows', 0):,} of {profile.get('num_series', 0):,}"
    ]


def _other_code(run: "Run") -> Iterator[str]:
    """Packages whose version is not that of the run."""
    for key, value in provenance.code().items():
        then = run.data.tags.get(key)
        if then not in (None, value) and not key.startswith("mlflow."):
            yield f"{key.removeprefix('forecast.')} was {then}, is {value}"


def _asked(
    run: "Run", recipe: Recipe, then: Mapping[str, Any]
) -> "tuple[list[tuple[str, ModelSpec, TrainConfig]], list[str]]":
    """The candidates to repeat, by name; and which of them cannot be."""
    from forecast.models.spec import ModelSpec
    from pipelines.retrain import ASKED, _config

    config = _config(recipe)
    asked = [(spec.backbone, spec, config) for spec in recipe.specs() if spec.backbone in then]
    if SEARCHED not in then:
        return asked, []
    for child in tracking.children(run):
        if child.info.run_name == SEARCHED and (values := tracking.json_of(child.info.run_id, ASKED)):
            spec = ModelSpec.from_dict(values["spec"])
            return [*asked, (SEARCHED, spec, replace(config, **values["training"]))], []
    return asked, [f"{SEARCHED}: what it tried was not kept by the release that made this run"]


def _compared(
    recipe: Recipe,
    panel: "Panel",
    asked: "Sequence[tuple[str, ModelSpec, TrainConfig]]",
    then: Mapping[str, Mapping[str, float | None]],
    say: Say,
) -> Iterator[dict[str, Any]]:
    from forecast.evaluation.blocks import Blocks
    from forecast.evaluation.candidates import evaluate

    blocks = Blocks.cut(
        panel, horizon=recipe.horizon, num_windows=recipe.backtest.num_windows, stride=recipe.stride
    )
    for name, spec, config in asked:
        say(f"{name}: again")
        found = evaluate(spec, panel, blocks, config).metrics
        for metric, value in then[name].items():
            now = found[metric] if math.isfinite(found[metric]) else None
            yield {
                "candidate": name,
                "metric": metric,
                "then": value,
                "now": now,
                "same": value == now
                or (value is not None and now is not None and math.isclose(value, now, rel_tol=TOLERANCE)),
            }
