"""The command `forecast backtest`: the candidates of a recipe judged, and a page to look at."""

import json
import math
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from forecast.evaluation.backtest import Backtest
    from pipelines.recipe import Recipe


def backtest(
    recipe: Annotated[
        str, typer.Argument(help="A built-in name, a name made by `recipe new`, a .toml file.")
    ],
    data: Annotated[Path | None, typer.Option(help="Read this file in place of the recipe's.")] = None,
    output: Annotated[
        Path | None, typer.Option(help="The page to write; default: NAME-backtest.html.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
) -> None:
    """Judge the candidates of a recipe over past cutoffs and write a report; registers nothing."""
    from pipelines import recipe as recipes

    with redirect_stdout(sys.stderr):
        chosen = recipes.with_data(recipes.load(recipe), path=data, columns={})
        result = _judged(chosen)
        page = output or Path(f"{chosen.name}-backtest.html")
        report = result.report(title=f"Backtest of {chosen.name}")
        page.write_text(report.to_html(), encoding="utf-8")
    if as_json:
        typer.echo(json.dumps(_plain(result, page), allow_nan=False))
        return
    typer.echo(
        result.table()[["wql", "mae", "mase", "coverage_80", "coverage_95", "seconds"]].round(4).to_string()
    )
    typer.echo(report.summary())
    for line in report.left_out():
        typer.echo(line)
    typer.echo(f"wrote {page}")


def _judged(recipe: "Recipe") -> "Backtest":
    """All candidates through the blocks that a retrain of the recipe would cut."""
    from forecast.evaluation.backtest import side_by_side
    from forecast.evaluation.blocks import Blocks
    from forecast.evaluation.candidates import evaluate
    from forecast.training.config import TrainConfig
    from pipelines import sources

    panel = sources.panel(recipe)
    blocks = Blocks.cut(
        panel, horizon=recipe.horizon, num_windows=recipe.backtest.num_windows, stride=recipe.stride
    )
    config = TrainConfig(**recipe.training.model_dump(), progress="quiet")
    found = []
    for spec in recipe.specs():
        typer.echo(f"  {spec.backbone}", err=True)
        found.append(evaluate(spec, panel, blocks, config))
    return side_by_side(found, levels=recipe.levels)


def _plain(result: "Backtest", page: Path) -> dict[str, Any]:
    """What the command prints as JSON: None for what is not finite."""
    return {
        "chosen": result.name,
        "report": str(page),
        "skipped": list(result.skipped),
        "candidates": [
            {
                "name": name,
                "seconds": round(result[name].seconds, 3),
                "metrics": {
                    metric: value if math.isfinite(value) else None
                    for metric, value in result[name].metrics.items()
                },
            }
            for name in result
        ],
    }
