"""The commands prune and db: upkeep of the registry and its database."""

import json
import sys
from contextlib import redirect_stdout
from typing import Annotated

import typer

db = typer.Typer(help="Look after MLflow's database.", no_args_is_help=True)


@db.callback()
def _db() -> None:
    """Look after MLflow's database."""


@db.command("upgrade")
def upgrade() -> None:
    """Bring the database's tables to the installed MLflow; of several that ask, one works and others wait."""
    with redirect_stdout(sys.stderr):
        from pipelines import upkeep

        before, after = upkeep.upgrade()
    news = "the database is up to date" if before == after else f"upgraded from {before}"
    typer.echo(f"{news} (revision {after})")


@db.command("analyze")
def analyze() -> None:
    """Renew the database's statistics, so that many runs stay quick to sort and search."""
    with redirect_stdout(sys.stderr):
        from pipelines import upkeep

        seconds = upkeep.analyze()
    typer.echo(f"statistics renewed in {seconds:.1f} s")


def prune(
    recipe: Annotated[str, typer.Argument(help="A name, or a .toml file.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would be deleted.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """Delete old versions and runs by the recipe's [retention]; what has an alias is never touched."""
    with redirect_stdout(sys.stderr):
        from pipelines import recipe as recipes
        from pipelines import upkeep

        found = upkeep.prune(recipes.load(recipe), dry_run=dry_run)
    if as_json:
        typer.echo(json.dumps(found.to_dict()))
        return
    verb = "would be deleted" if dry_run else "deleted"
    gone, kept = _counted("version", found.versions), _counted("version", found.kept)
    typer.echo(f"{found.recipe}: {gone} and {_plural(found.num_runs, 'retrain')} {verb}; {kept} kept")


def _counted(noun: str, names: tuple[str, ...]) -> str:
    return _plural(len(names), noun) + (f" ({', '.join(names)})" if names else "")


def _plural(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
