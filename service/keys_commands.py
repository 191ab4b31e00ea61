"""The commands `forecast keys create|list|revoke`."""

import json
from typing import Annotated

import typer

keys = typer.Typer(help="Make, list and revoke the API keys of the service.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@keys.command()
def create(
    name: Annotated[str, typer.Argument(help="Who or what uses it.")],
    scope: Annotated[
        list[str] | None, typer.Option(help="forecast, read or metrics; repeatable. [default: all]")
    ] = None,
    expires_days: Annotated[
        float | None, typer.Option(help="Days until it expires. [default: never]")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a key and print it once: only its SHA-256 is kept. To rotate, create another and revoke this."""
    from service.keys import SCOPES, create_key

    secret, key = create_key(name, scopes=scope or SCOPES, days=expires_days)
    if as_json:
        typer.echo(json.dumps({"key": secret, "id": key.id, "scopes": key.scopes, "expires": key.expires}))
        return
    typer.echo(secret)
    typer.echo(f"id {key.id}; send it as `Authorization: Bearer KEY`; it is not shown again", err=True)


@keys.command("list")
def list_(as_json: AsJson = False) -> None:
    """The keys: id, name, scopes, state. Never their secrets."""
    from datetime import UTC, datetime

    from service.keys import keys_file, read_keys

    now = datetime.now(UTC)
    found = read_keys(keys_file())
    states = ["revoked" if key.revoked else "valid" if key.is_valid(now) else "expired" for key in found]
    if as_json:
        rows = [
            {
                "id": key.id,
                "name": key.name,
                "scopes": key.scopes,
                "created": key.created,
                "expires": key.expires,
                "state": state,
            }
            for key, state in zip(found, states, strict=True)
        ]
        typer.echo(json.dumps({"keys": rows}))
        return
    for key, state in zip(found, states, strict=True):
        until = f" until {key.expires}" if key.expires else ""
        typer.echo(f"{key.id}  {state}{until}  {','.join(key.scopes)}  {key.name}")


@keys.command()
def revoke(
    key: Annotated[
        str,
        typer.Argument(metavar="ID", help="As `forecast keys list` shows it; or a name that one key has."),
    ],
) -> None:
    """Make a key open nothing any more; running services see it within a second."""
    from service.keys import revoke_key

    revoked = revoke_key(key)
    typer.echo(f"{revoked.id} ({revoked.name}) is revoked")
