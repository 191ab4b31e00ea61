"""What an operator asks of the registry: what served when, and how two versions differ."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forecast.errors import DataError, NotFoundError
from pipelines import registry, tracking

if TYPE_CHECKING:
    import pandas as pd

BACKTEST = "backtest.parquet"
"""The table of a version's run that holds its forecasts of the judge windows."""


def promote(name: str, version: str, *, reason: str) -> tuple[registry.Version, registry.Version | None]:
    """Make a version champion after it was seen to load; returns it and the champion before.

    Raises NotFoundError for an unknown model or version and ArtifactError for one that cannot be loaded.
    Nothing is moved where it is champion already.
    """
    chosen = find(name, version)
    before = registry.champion(name)
    if before is None or before.version != chosen.version:
        registry.load(chosen)
        figures = {key: value for key, value in chosen.metrics.items() if value is not None}
        registry.promote(chosen, reason=reason, figures=figures)
    return chosen, before


def find(name: str, which: str) -> registry.Version:
    """A version of `name` by its number or by an alias."""
    return registry.find(f"{name}/{which}" if which.isdecimal() else f"{name}@{which}")


def history(name: str) -> dict[str, Any]:
    """The versions of a model, newest first, and every move of its alias `champion`.

    Raises NotFoundError where there is no such model.
    """
    versions = registry.versions(name)
    if not versions:
        registry.find(name)  # says which models there are
    promotions = registry.promotions(name)
    champion = next((each.version for each in versions if registry.CHAMPION in each.aliases), None)
    return {
        "name": name,
        "champion": champion,
        "moved_elsewhere": bool(promotions) and promotions[0]["to"] != champion,
        "versions": [_row(each) for each in reversed(versions)],
        "promotions": promotions,
    }


def compare(name: str, first: str, second: str, *, metric: str = "wql") -> dict[str, Any]:
    """Two versions on the judge windows that both forecast: metrics, and the verdict of the gate's test.

    Where they share no window each keeps the metrics of its own, and `num_windows` is 0.
    """
    from forecast.evaluation.compare import compare as judge
    from forecast.evaluation.metrics import score

    old, new = find(name, first), find(name, second)
    answer: dict[str, Any] = {"name": name, "versions": [old.version, new.version], "metric": metric}
    frames = _shared(_backtest(old), _backtest(new))
    if not len(frames[0]):
        return answer | {"num_windows": 0, "metrics": [old.metrics, new.metrics], "reason": None}
    try:
        verdict = judge(*frames, metric=metric)
    except DataError:  # what both forecast was never observed
        return answer | {"num_windows": 0, "metrics": [old.metrics, new.metrics], "reason": None}
    metrics = [_finite(score(frame)) for frame in frames]
    return answer | {
        "num_windows": verdict.num_windows,
        "metrics": metrics,
        "reason": verdict.reason,
        "p_value": verdict.p_value,
    }


def _row(version: registry.Version) -> dict[str, Any]:
    tag = version.tags.get
    return {
        "version": version.version,
        "aliases": list(version.aliases),
        "kind": tag("forecast.candidate", ""),
        "trained_until": tag("forecast.trained_until", ""),
        "metrics": version.metrics,
        "verdict": tag("forecast.verdict", ""),
        "decided_at": tag("forecast.decided_at", ""),
        "decided_by": tag("forecast.decided_by", ""),
        "champion_before": tag("forecast.champion_before", ""),
        "reason": tag("forecast.reason", ""),
        "run_id": version.run_id,
    }


def _backtest(version: registry.Version) -> "pd.DataFrame":
    import pandas as pd
    from mlflow.exceptions import MlflowException

    with tempfile.TemporaryDirectory(prefix="forecast-") as scratch, tracking.answering():
        try:
            path = tracking.client().download_artifacts(version.run_id, BACKTEST, scratch)
        except (MlflowException, OSError) as error:
            raise NotFoundError(
                f"version {version.version} of {version.name!r} has no {BACKTEST} in its run "
                f"{version.run_id}: it was not made by `forecast retrain`, or its run was "
                "deleted; compare another version"
            ) from error
        return pd.read_parquet(Path(path))


def _shared(old: "pd.DataFrame", new: "pd.DataFrame") -> "tuple[pd.DataFrame, pd.DataFrame]":
    """The rows of both that forecast the same step of a series from the same cutoff."""
    keys = ["unique_id", "cutoff", "step"]
    both = old[keys].merge(new[keys], on=keys)
    return old.merge(both, on=keys), new.merge(both, on=keys)


def _finite(metrics: dict[str, float]) -> dict[str, float | None]:
    return {
        name: value if value == value and abs(value) < float("inf") else None
        for name, value in metrics.items()
    }
