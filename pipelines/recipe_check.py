"""Everything that can be wrong with a recipe, found before the night it is needed."""

import os
from typing import Any

from forecast.errors import SpecError
from pipelines import recipe as recipes
from pipelines import sources, triggers
from pipelines.recipe import Recipe


def check(reference: str, *, with_data: bool = True) -> dict[str, Any]:
    """What a recipe means, in sentences. Raises what a retrain would raise before it trains."""
    recipe = recipes.load(reference)
    if missing := [name for name in recipe.variables() if name not in os.environ]:
        raise SpecError(f"the environment variable {missing[0]} is not set, and the recipe uses it; set it")
    lines = [
        f"{recipe.name}: {recipe.horizon} steps ahead, candidates {', '.join(recipe.all_candidates)}",
        f"judged on {recipe.backtest.num_windows} windows by {recipe.gate.metric}",
        *_about_times(reference, recipe),
    ]
    if with_data:
        lines += _about_data(recipe)
    return {"recipe": recipe.name, "lines": lines}


def _about_times(reference: str, recipe: Recipe) -> list[str]:
    """What `forecast schedule` starts, and when."""
    from pipelines import schedule

    done = {"retrain": "retrained", "store": "forecasts stored", "monitor": "looked at what serves"}
    return [
        f"{done[each.command[0]]}{', and retrained on a drift,' if '--retrain' in each.command else ''} "
        f"{triggers.words(each.when)}"
        for each in schedule.tasks({reference: recipe})
    ]


def _about_data(recipe: Recipe) -> list[str]:
    from forecast.evaluation.blocks import Blocks
    from forecast.models.forecaster import stamp_text

    panel = sources.panel(recipe)
    Blocks.cut(panel, horizon=recipe.horizon, num_windows=recipe.backtest.num_windows, stride=recipe.stride)
    until = stamp_text(panel.last_stamps().max())
    first = f"{len(panel)} series, {panel.freq.words}, until {until}, from {sources.place(recipe.data)}"
    return [first, *(finding.message for finding in panel.report)]
