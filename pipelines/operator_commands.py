"""The commands promote, rollback, history and compare: what an operator types."""

import json
import sys
from contextlib import redirect_stdout
from typing import Annotated, Any

import typer

from pipelines.tables import number, print_table

Name = Annotated[str, typer.Argument(help="The registered model: the name of its recipe.")]
Reason = Annotated[str, typer.Option(help="Kept with the change.")]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on stdout and everything else on stderr.")
]

SHOWN = ("wql", "mase", "mae", "coverage_80")
"""The metrics of a version's line."""


def promote(
    name: Name,
    version: Annotated[str, typer.Argument(help="The version's number, or an alias such as challenger.")],
    reason: Reason = "promoted by hand",
    as_json: AsJson = False,
) -> None:
    """Make a version the champion, which the service answers with. The one before becomes `previous`."""
    with redirect_stdout(sys.stderr):
        from pipelines import operators

        chosen, before = operators.promote(name, version, reason=reason)
    _tell_move(name, origin=before.version if before else None, to=chosen.version, as_json=as_json)


def rollback(name: Name, reason: Reason = "rolled back by hand", as_json: AsJson = False) -> None:
    """Make the version that served before champion again. A second rollback takes the first one back."""
    with redirect_stdout(sys.stderr):
        from pipelines import registry

        origin, to = registry.rollback(name, reason=reason)
    _tell_move(name, origin=origin.version, to=to.version, as_json=as_json)


def history(name: Name, as_json: AsJson = False) -> None:
    """List the versions of a model, mark the champion, and tell who moved the alias when and why."""
    with redirect_stdout(sys.stderr):
        from pipelines import operators

        found = operators.history(name)
    if as_json:
        typer.echo(json.dumps(found, allow_nan=False))
    else:
        _print_history(found)


def compare(
    name: Name,
    first: Annotated[str, typer.Argument(metavar="A", help="A version's number or an alias.")],
    second: Annotated[str, typer.Argument(metavar="B", help="A version's number or an alias.")],
    metric: Annotated[str, typer.Option(help="wql, mae, rmse, smape or mase.")] = "wql",
    as_json: AsJson = False,
) -> None:
    """Compare two versions on the unseen windows that both of them have forecast."""
    with redirect_stdout(sys.stderr):
        from pipelines import operators

        found = operators.compare(name, first, second, metric=metric)
    if as_json:
        typer.echo(json.dumps(found, allow_nan=False))
    else:
        _print_comparison(found)


def _tell_move(name: str, *, origin: str | None, to: str, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"name": name, "from": origin, "to": to, "moved": origin != to}))
    elif origin == to:
        typer.echo(f"version {to} of {name} is the champion already; nothing was changed")
    else:
        typer.echo(f"champion of {name}: version {to} (was {origin or 'none'})")


def _print_history(found: dict[str, Any]) -> None:
    rows = [
        [
            "→" if "champion" in row["aliases"] else "",
            row["version"],
            ", ".join(row["aliases"]),
            row["kind"],
            str(row["trained_until"]).removesuffix("T00:00:00"),
            *(number(row["metrics"].get(name)) for name in SHOWN),
            row["verdict"],
            row["reason"],
        ]
        for row in found["versions"]
    ]
    titles = ["", "version", "aliases", "kind", "trained until", *SHOWN, "verdict", "why"]
    essential = ("", "version", "aliases", "kind", "verdict", "why")
    print_table(titles, rows, numbers=("version", *SHOWN), essential=essential)
    moves = [
        [each["at"], each["action"], each["from"], each["to"], each["by"], each["reason"]]
        for each in found["promotions"]
    ]
    if moves:
        titles = ["when (UTC)", "action", "from", "to", "who", "why"]
        print_table(titles, moves, numbers=("from", "to"), essential=("when (UTC)", "from", "to", "why"))
    if found["moved_elsewhere"]:
        typer.echo("the alias `champion` was last moved by something else, such as the pages of MLflow")


def _print_comparison(found: dict[str, Any]) -> None:
    from pipelines.commands import METRICS

    old, new = found["metrics"]
    first, second = (f"version {each}" for each in found["versions"])
    rows = [[METRICS[name], number(old.get(name)), number(new.get(name))] for name in METRICS if name in old]
    print_table(["metric", first, second], rows, numbers=(first, second))
    if found["reason"] is None:
        typer.echo("the two share no window, so these are figures of different dates: no verdict")
    else:
        typer.echo(f"on {found['num_windows']} shared windows: {found['reason']}")
