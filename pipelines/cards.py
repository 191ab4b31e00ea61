"""The description of a registered version: what it is, how good it was, and where its limits are."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from forecast.models.forecaster import ForecasterInfo
    from pipelines.gate import Decision
    from pipelines.recipe import Recipe

_TITLES = {
    "mae": "mean absolute error",
    "rmse": "root mean squared error",
    "smape": "symmetric percentage error",
    "mase": "error against the seasonal naive forecast's (MASE)",
    "wql": "weighted quantile loss",
    "coverage_80": "share of values inside the 80 % interval",
    "coverage_95": "share of values inside the 95 % interval",
}


def model_card(recipe: "Recipe", info: "ForecasterInfo", decision: "Decision", *, num_windows: int) -> str:
    """Markdown for the registry's page of a version."""
    scores = [
        f"| {_TITLES[name]} | {value:.4g} |"
        for name, value in decision.winner.metrics.items()
        if name in _TITLES and value == value
    ]
    lines = [
        f"**{decision.winner.name}** for `{recipe.name}`: {info.horizon} steps ahead ({info.freq}), from "
        f"at least {info.min_context} and up to {info.context_length} observed steps.",
        "",
        f"Trained on {info.num_series} series until {info.trained_until}.",
        "",
        f"Decision: {'promoted' if decision.promote else 'challenger'}; {decision.reason}.",
        "",
        f"On {recipe.backtest.num_windows} unseen windows per series:",
        "",
        "| metric | value |",
        "| --- | --- |",
        *scores,
        "",
        f"Intervals were calibrated on {num_windows} windows kept for that. Longer "
        f"horizons are answered by blocks up to {info.max_horizon} steps.",
    ]
    return "\n".join(lines)
