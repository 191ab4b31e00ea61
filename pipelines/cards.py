"""What people read in MLflow: the description of a version, of a retrain, and of a registered model."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from forecast.evaluation.candidates import Evaluated
    from forecast.models.forecaster import ForecasterInfo
    from pipelines.gate import Decision
    from pipelines.recipe import Recipe
    from pipelines.registry import Version
    from pipelines.retrain import Outcome

_TITLES = {
    "mae": "mean absolute error",
    "rmse": "root mean squared error",
    "smape": "symmetric percentage error",
    "mase": "error against the seasonal naive forecast's (MASE)",
    "wql": "weighted quantile loss",
    "coverage_80": "share of values inside the 80 % interval",
    "coverage_95": "share of values inside the 95 % interval",
}


def model_card(
    recipe: "Recipe",
    info: "ForecasterInfo",
    decision: "Decision",
    *,
    baselines: "Sequence[Evaluated]",
    num_windows: int,
) -> str:
    """Markdown for the registry's page of a version."""
    from forecast.series.calendar import Frequency

    winner = decision.winner
    others = [each for each in baselines if each is not winner]
    lines = [
        f"{winner.name} for `{recipe.name}`: {info.horizon} steps ahead, {Frequency.parse(info.freq).words}.",
        "",
        f"**Data.** Trained on {info.num_series} series until {_day(info.trained_until)}; fingerprint "
        f"`{info.data_fingerprint[:12]}`.",
        "",
        f"**Decision.** {'promoted' if decision.promote else 'challenger'}: {decision.reason}.",
        "",
        f"**Accuracy** on {recipe.backtest.num_windows} unseen windows per series:",
        "",
        *_table(["metric", winner.name, *(each.name for each in others)], _rows([winner, *others])),
        "",
        *median_lines(info),
        f"**Calibration.** The intervals were calibrated on {num_windows} windows kept for that"
        f"{'; so few that the outer ones are extended by a normal tail' if num_windows < 100 else ''}.",
        "",
        f"**Limits.** It needs {info.min_context} observed steps and reads the last {info.context_length}. "
        f"Beyond {info.horizon} steps it answers by blocks, up to {info.max_horizon} steps. Its intervals "
        "hold while the series go on as they did; nothing is promised when they change.",
    ]
    return "\n".join(lines)


def median_lines(info: "ForecasterInfo") -> list[str]:
    """What the median is made of, where it is not the network's alone."""
    spec = info.spec
    if spec.median == "base":
        base = "last season" if spec.residual == "season" else "last value"
        return [f"**Median.** The {base}: the network {info.reasons.get('median', 'was not asked')}.", ""]
    if spec.season_map:
        return [
            f"**Median.** The network's, mixed with a linear map of the season ({spec.season_map:.0%}).",
            "",
        ]
    return []


def retrain_card(recipe: "Recipe", outcome: "Outcome") -> str:
    """Markdown for the page of a retrain's run: the candidates, best first, and what was decided."""
    metric = recipe.gate.metric

    def rank(values: dict[str, float | None]) -> float:
        value = values.get(metric)
        return math.inf if value is None else value

    ranked = sorted(outcome.candidates, key=lambda each: rank(each["metrics"]))
    rows = [
        [f"**{each['name']}**" if place == 0 else each["name"], *map(_number, each["metrics"].values())]
        for place, each in enumerate(ranked)
    ]
    version = f" (version {outcome.model_version})" if outcome.model_version else ""
    lines = [
        f"{outcome.verdict}{version}: {outcome.reason}",
        "",
        f"The candidates on the same unseen windows, best {metric} first:",
        "",
        *_table(["model", *ranked[0]["metrics"]], rows),
    ]
    return "\n".join(lines)


def registered(name: str, versions: "Sequence[Version]") -> str:
    """Markdown for the page of a registered model: the champion's card, and what was decided last."""
    lines = [
        f"Forecasts of the recipe `{name}`. The version with the alias `champion` serves, `previous` served "
        "before it, and `challenger` was the best candidate of a retrain but not good enough to serve. A "
        f"version's page tells what it is and why; `forecast history {name}` tells who moved the alias when."
    ]
    for each in versions:
        if "champion" in each.aliases:
            lines += ["", f"## Champion: version {each.version}", "", each.description]
    decided = [each for each in versions if "forecast.decided_at" in each.tags]
    if decided:
        lines += ["", _last_decision(max(decided, key=lambda each: each.tags["forecast.decided_at"]))]
    return "\n".join(lines)


def _last_decision(version: "Version") -> str:
    tags = version.tags
    return (
        f"**Decided last.** {tags['forecast.decided_at']}, version {version.version}: "
        f"{tags.get('forecast.verdict', '')}, {tags.get('forecast.reason', '')}"
    )


def _rows(evaluated: "Sequence[Evaluated]") -> list[list[str]]:
    return [
        [title, *(_shown(name, each.metrics[name]) for each in evaluated)]
        for name, title in _TITLES.items()
        if name in evaluated[0].metrics
    ]


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    head = [titles, ["---", *("---:" for _ in titles[1:])]]
    return [f"| {' | '.join(cells)} |" for cells in [*head, *rows]]


def _number(value: float | None) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{value:.4g}"


def _shown(name: str, value: float) -> str:
    if name.startswith("coverage") and math.isfinite(value):
        return f"{100 * value:.0f} %"
    return _number(value)


def _day(stamp: object) -> str:
    return str(stamp).removesuffix("T00:00:00")
