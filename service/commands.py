"""The command `forecast serve`."""

from typing import Annotated

import typer


def serve(
    host: Annotated[
        str | None, typer.Option(help="Address to listen on (FORECAST_HOST). [default: 127.0.0.1]")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(help="Port; 0 takes a free one and prints it (FORECAST_PORT). [default: 8000]"),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            help="Processes that answer, sharing the port; 0: one per core (FORECAST_WORKERS). [default: 1]"
        ),
    ] = None,
    poll_seconds: Annotated[
        float | None, typer.Option(help="How often the registry is asked for news (FORECAST_POLL_SECONDS).")
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(help="Serve only this model; repeatable (FORECAST_MODELS). [default: all]"),
    ] = None,
    insecure: Annotated[
        bool,
        typer.Option("--insecure", help="Listen beyond this machine without API keys (FORECAST_INSECURE)."),
    ] = False,
    log_level: Annotated[
        str | None, typer.Option(help="debug, info, warning or error (FORECAST_LOG_LEVEL). [default: info]")
    ] = None,
) -> None:
    """Answer forecasts over HTTP with every model that has a champion, and follow the registry."""
    from service.server import run
    from service.settings import Settings

    settings = Settings.from_environment(
        host=host,
        port=port,
        workers=workers,
        poll_seconds=poll_seconds,
        models=tuple(model) if model else None,
        log_level=log_level,
        insecure=insecure or None,
    )
    run(settings)
