"""The command monitor: look at what serves, and retrain where the world has moved."""

import json
import signal
import sys
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipelines.tables import number, print_table

if TYPE_CHECKING:
    from pipelines.monitor import Look
    from pipelines.recipe import Recipe

METRICS = ("mae", "rmse", "smape", "mase", "wql", "coverage_80", "coverage_95")


def monitor(
    recipe: Annotated[str, typer.Argument(help="A name, or a .toml file.")],
    retrain: Annotated[
        bool, typer.Option("--retrain", help="Retrain, too, where that is what it comes to.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object on stdout and everything else on stderr.")
    ] = False,
) -> None:
    """Compare what was answered with what came, log it, and say whether to retrain."""
    from pipelines import hooks
    from pipelines import recipe as recipes

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with redirect_stdout(sys.stderr):
        chosen = recipes.load(recipe)
        with hooks.told(chosen.name, chosen.hooks, say=_say, silent=not retrain) as told:
            from pipelines import monitor as monitoring

            seen = monitoring.look(chosen, say=_say)
            found: dict[str, Any] = {**seen.to_dict(), "retrained": None}
            if retrain and seen.retrain:
                _say(f"{chosen.name}: {seen.reason}")
                found["retrained"] = _retrained(chosen)
                told.update(found["retrained"])
    if as_json:
        typer.echo(json.dumps(found, allow_nan=False))
        return
    _print(seen)
    if found["retrained"]:
        typer.echo(f"{found['retrained']['verdict']}: {found['retrained']['reason']}")


def _retrained(recipe: "Recipe") -> dict[str, Any]:
    """A retrain's outcome, with the forecasts that it stores."""
    from pipelines.commands import retrained

    return retrained(recipe, say=_say)


def _print(seen: "Look") -> None:
    if seen.versions:
        rows = []
        for each in seen.versions:
            name = f"{each.version} (champion)" if each.version == seen.champion else each.version
            rows.append([name, "live", str(each.num_values), *_numbers(each.metrics)])
            if each.backtest:
                rows.append(["", "backtest", "", *_numbers(each.backtest)])
        typer.echo(f"answers of {seen.recipe} beside what came")
        print_table(["version", "", "values", *METRICS], rows, numbers=["values", *METRICS])
    else:
        typer.echo(f"no answer of {seen.recipe} was recorded or stored of which the value has come")
    for interval in seen.intervals:
        typer.echo(
            f"{interval.level:g} % intervals would cover as they say {interval.stretch:.2f} times as wide "
            f"({interval.num_stamps} stamps)"
        )
    if seen.recalibrated:
        typer.echo(f"version {seen.recalibrated} has corrected intervals, and is champion")
    typer.echo(f"{'retrain' if seen.retrain else 'do not retrain'}: {seen.reason}")


def _numbers(values: dict[str, float | None]) -> list[str]:
    return [number(values.get(name)) for name in METRICS]


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
