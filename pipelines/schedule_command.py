"""The command schedule: start the embedded scheduler, or tell what it has planned."""

import json
import os
import signal
import sys
import threading
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from forecast.errors import SpecError

if TYPE_CHECKING:
    from http.server import ThreadingHTTPServer

    from pipelines.schedule import Scheduler, Task

DEFAULT_PORT = 8001


def schedule(
    recipes: Annotated[list[str], typer.Argument(metavar="RECIPE...", help="Names, or .toml files.")],
    list_only: Annotated[
        bool, typer.Option("--list", help="Print next and last runs, and start nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --list: one JSON object on stdout.")] = False,
    host: Annotated[str, typer.Option(help="Where health and metrics are answered.")] = "127.0.0.1",
    port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            help=f"Of health and metrics; 0 takes a free one. Default: {DEFAULT_PORT}, or a free one.",
        ),
    ] = None,
    parallel: Annotated[int, typer.Option(min=1, help="Runs of different recipes at a time.")] = 2,
) -> None:
    """Retrain recipes by their [schedule], each run in a child process, until SIGTERM or Ctrl-C."""
    from pipelines import recipe as recipe_files
    from pipelines import schedule as scheduling

    todo = scheduling.tasks({each: recipe_files.load(each) for each in dict.fromkeys(recipes)})
    if list_only:
        _list(todo, as_json=as_json)
        return
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    running = scheduling.Scheduler(todo, parallel=parallel, say=_say)
    server = _serve(running, host=host, port=port)
    running.start()
    _greet(running, server)
    while not stop.wait(1.0):
        pass
    _say("stopping")
    running.stop()
    server.shutdown()
    _say("stopped")


def _serve(running: "Scheduler", *, host: str, port: int | None) -> "ThreadingHTTPServer":
    """The HTTP server; where nobody chose a port and the usual one is taken, on a free one."""
    from pipelines import health

    try:
        return health.serve(running, host=host, port=DEFAULT_PORT if port is None else port)
    except OSError as error:
        if port is None:
            return health.serve(running, host=host, port=0)
        raise SpecError(
            f"health and metrics cannot be answered on {host}:{port}: {error.strerror}; choose another "
            "--port, or 0 for a free one"
        ) from error


def _greet(running: "Scheduler", server: "ThreadingHTTPServer") -> None:
    from pipelines import triggers

    for runner in running.runners:
        due = running.next_start(runner)
        runner.say(f"{triggers.words(runner.task.when)}, next {_shown(due.timestamp() if due else None)}")
    host, port = server.server_address[:2]
    name = f"[{host!s}]" if ":" in str(host) else host
    _say(f"health and metrics at http://{name!s}:{port}/livez, /readyz, /metrics")


def _list(todo: "list[Task]", *, as_json: bool) -> None:
    from pipelines import schedule_state, triggers
    from pipelines.health import text
    from pipelines.tables import print_table

    rows: list[dict[str, Any]] = []
    for task in todo:
        state = schedule_state.load(task.key)
        due = triggers.next_start(task.when, started=state.started, now=time.time())
        rows.append(
            {
                "recipe": task.key,
                "schedule": triggers.words(task.when),
                "next_run": text(due.timestamp()) if due else None,
                "last_run": text(state.started),
                "last_success": text(state.succeeded),
                "last_verdict": state.verdict,
                "last_reason": state.reason,
                "last_duration_seconds": state.duration_seconds,
            }
        )
    if as_json:
        typer.echo(json.dumps({"recipes": rows}))
        return
    keys = ("recipe", "schedule", "next_run", "last_run", "last_success", "last_verdict")
    titles = ["recipe", "schedule", "next run (UTC)", "last run", "last success", "last verdict"]
    print_table(
        titles, [[str(row[key] or "never").replace("+00:00", "") for key in keys] for row in rows], numbers=()
    )


def _shown(moment: float | None) -> str:
    if moment is None:
        return "never"
    return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _say(line: str) -> None:
    """One line on stderr: for people, or JSON where FORECAST_LOG_FORMAT says so."""
    now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    text = f"{now} {line}"
    if os.environ.get("FORECAST_LOG_FORMAT", "").strip() == "json":
        text = json.dumps({"time": now, "level": "info", "logger": "scheduler", "message": line})
    print(text, file=sys.stderr, flush=True)
