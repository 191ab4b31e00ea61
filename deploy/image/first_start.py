"""What the first start needs: secrets as files, an API key, and recipes to edit. What is there is kept.

`fill` fills /secrets and /recipes, `key NAME [SCOPE...]` makes one more API key and prints it, `revoke ID`
takes one away. Whoever owns the folders on the host owns what is made in them.
"""

import os
import secrets
import shutil
import sys
from importlib import resources
from pathlib import Path

from forecast.errors import ForecastError
from service.keys import SCOPES, create_key, read_keys, revoke_key

SECRETS = Path(os.environ.get("SECRETS_FOLDER", "/secrets"))
RECIPES = Path(os.environ.get("RECIPES_FOLDER", "/recipes"))

PASSWORDS = (
    "database/password",
    "mlflow-trainer/password",
    "mlflow-service/password",
    "mlflow-session/key",
    "grafana/password",
    "s3/user",
    "s3/password",
)
"""One folder for each, so that a container sees only what it is given."""


def main(arguments: list[str]) -> None:
    """Make what is missing, or one more key, or take one away."""
    match arguments:
        case ["fill"]:
            fill_secrets()
            fill_recipes()
        case ["key", name, *scopes] if name:
            print(new_key(name, tuple(scopes) or SCOPES))
        case ["revoke", key_id]:
            revoke_key(key_id, path=keys_file())
            hand_over(SECRETS / "keys")
            print(f"{key_id} opens nothing any more")
        case _:
            sys.exit("usage: fill | key NAME [SCOPE...] | revoke ID")


def fill_secrets() -> None:
    """Passwords nobody has to think of, the first API key, and the key that Prometheus reads with."""
    SECRETS.mkdir(exist_ok=True)
    for name in PASSWORDS:
        write_once(SECRETS / name, secrets.token_urlsafe(24))
    fresh = not read_keys(keys_file())
    if fresh or not (SECRETS / "api_key").exists():
        replace(SECRETS / "api_key", new_key("first"))
        print("made an API key: secrets/api_key", flush=True)
    if fresh or not (SECRETS / "metrics" / "key").exists():
        replace(SECRETS / "metrics" / "key", new_key("prometheus", ("metrics",)))
    hand_over(SECRETS)
    SECRETS.chmod(0o700)  # on the host; containers are given the folders inside it


def fill_recipes() -> None:
    """The built-in recipes, to be edited; one that is there stays as it is."""
    RECIPES.mkdir(exist_ok=True)
    for recipe in (resources.files("pipelines") / "recipes").iterdir():
        target = RECIPES / recipe.name
        if recipe.name.endswith(".toml") and not target.exists():
            target.write_bytes(recipe.read_bytes())
            print(f"copied the recipe {recipe.name}", flush=True)
    hand_over(RECIPES)


def keys_file() -> Path:
    """The hashes of the API keys, which the service reads."""
    return SECRETS / "keys" / "keys.json"


def new_key(name: str, scopes: tuple[str, ...] = SCOPES) -> str:
    """A new API key; running services take it within a second."""
    secret, _ = create_key(name, scopes=scopes, path=keys_file())
    hand_over(SECRETS / "keys")
    return secret


def write_once(path: Path, content: str) -> None:
    """Write a file where there is none, or an empty one."""
    if not path.exists() or not path.stat().st_size:
        replace(path, content)


def replace(path: Path, content: str) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(exist_ok=True)
    draft = path.with_name(f".{path.name}")
    draft.write_text(content)
    draft.replace(path)


def hand_over(folder: Path) -> None:
    """Let the host's user own all in a folder, and the containers' users read it."""
    owner = SECRETS.stat() if folder.is_relative_to(SECRETS) else folder.stat()
    for path in [folder, *folder.rglob("*")]:
        if path.name == ".gitignore":
            continue
        if os.geteuid() == 0:
            shutil.chown(path, owner.st_uid, owner.st_gid)
        path.chmod(0o755 if path.is_dir() else 0o644)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except ForecastError as error:
        sys.exit(f"error: {error}")
