"""The command `forecast`: finds its sub-commands by entry point and imports each only when it is used."""

import sys
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import click
import typer
from typer.core import TyperGroup

from forecast.errors import ForecastError

GROUP = "forecast.commands"


def _entry_points() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


def _command(point: EntryPoint) -> click.Command:
    """The sub-command of an entry point, which names a function or a typer application."""
    target: Any = point.load()
    if isinstance(target, typer.Typer):
        command: click.Command = typer.main.get_command(target)
    else:
        single = typer.Typer(add_completion=False)
        single.command(point.name)(target)
        command = typer.main.get_command(single)
    command.name = point.name
    return command


class CommandGroup(TyperGroup):
    """The sub-commands that the installed packages contribute, in alphabetical order."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_entry_points())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        point = _entry_points().get(cmd_name)
        return _command(point) if point else None


app = typer.Typer(cls=CommandGroup, add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)


def _version(wanted: bool) -> None:
    if wanted:
        from forecast import __version__

        typer.echo(f"forecast {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    """Train, track, retrain and serve time-series forecasters."""


def main() -> None:
    """Run the command line: users' mistakes end in one line on stderr and the error's exit code."""
    try:
        app()
    except ForecastError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
