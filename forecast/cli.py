"""The command `forecast`: finds its sub-commands by entry point and imports each only when it is used."""

import difflib
import os
import re
import sys
from importlib.metadata import EntryPoint, entry_points
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

from forecast.errors import ForecastError

GROUP = "forecast.commands"

_OWN_PACKAGES = {"forecast", "pipelines", "service"}
_USAGE_ERROR: type[Any] = typer.BadParameter.__bases__[0]
"""Options and arguments that cannot be used; typer gives it no public name."""
_BRACKET = re.compile(r"(?<!\\)\[(?=[a-z@/])")
"""Where rich would see a style begin."""
_INSTALL_HINT = 'install the extras with: pip install "forecast[pipelines,service]"'


def _entry_points() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


def _command(point: EntryPoint) -> Any:
    """The sub-command of an entry point, which names a function or a typer application."""
    target: Any = point.load()
    if not isinstance(target, typer.Typer):
        function, target = target, typer.Typer(add_completion=False)
        target.command(point.name)(function)
    command = typer.main.get_command(target)
    command.name = point.name
    if typer.core.HAS_RICH:
        _take_literally(command)
    return command


def _take_literally(command: Any) -> None:
    """Let help texts say `[schedule]`: rich would read a word in brackets as a style, and leave it out."""
    for each in [command, *command.params]:
        for name in ("help", "short_help"):
            if text := getattr(each, name, None):
                setattr(each, name, _BRACKET.sub(r"\\[", text))
    for each in getattr(command, "commands", {}).values():
        _take_literally(each)


class CommandGroup(TyperGroup):
    """The sub-commands that the installed packages contribute, in alphabetical order."""

    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(_entry_points())

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        point = _entry_points().get(cmd_name)
        return _command(point) if point else None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        try:
            return super().resolve_command(ctx, args)
        except _USAGE_ERROR as error:
            if found := difflib.get_close_matches(args[0], self.list_commands(ctx), n=1):
                error.message = f"{error.message.rstrip('.')} (did you mean {found[0]!r}?)"
            raise


app = typer.Typer(
    cls=CommandGroup, add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from forecast import __version__

        typer.echo(f"forecast {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: bool = typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
    ),
) -> None:
    """Train, track, retrain and serve time-series forecasters."""


def _refuse_usage(error: Any) -> NoReturn:
    """One line in place of typer's box; a command without its arguments has printed its help already."""
    if type(error).__name__ != "NoArgsIsHelpError":
        text = " ".join(error.format_message().split()).rstrip(".")
        where = error.ctx.command_path if error.ctx else "forecast"
        print(f"error: {text[0].lower()}{text[1:]}; `{where} --help` lists what there is", file=sys.stderr)
    sys.exit(error.exit_code)


def _home() -> str:
    from forecast.home import home

    return f"FORECAST_HOME is {home()}"


def main() -> None:
    """Run the command line: an error raised on purpose ends in one line on stderr and its exit code."""
    try:
        code = app(prog_name="forecast", standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except _USAGE_ERROR as error:
        _refuse_usage(error)
    except ForecastError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except ModuleNotFoundError as error:
        if not error.name or error.name.split(".")[0] in _OWN_PACKAGES:
            raise
        print(f"error: this command needs the package {error.name}; {_INSTALL_HINT}", file=sys.stderr)
        sys.exit(1)
    except BrokenPipeError:  # the reader of our output, such as `head`, has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:  # a full disk, a folder that cannot be written, a home that is none
        print(f"error: {error}; check that it can be read or written ({_home()})", file=sys.stderr)
        sys.exit(1)
