"""API keys: made, listed and revoked by `forecast keys`, of which only a SHA-256 is kept."""

import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from filelock import FileLock

from forecast import home
from forecast.errors import NotFoundError, SpecError

PREFIX = "fk_"
SCOPES = ("forecast", "read", "metrics")
"""forecast: everything that is posted; read: what is served and the docs; metrics: /metrics."""


@dataclass(frozen=True, kw_only=True)
class Key:
    """What is kept of a key."""

    id: str
    name: str
    sha256: str
    scopes: tuple[str, ...]
    created: str
    expires: str | None = None
    revoked: str | None = None

    def is_valid(self, now: datetime) -> bool:
        """Whether it opens anything at this moment."""
        return self.revoked is None and (self.expires is None or now < datetime.fromisoformat(self.expires))


def keys_file() -> Path:
    """Where keys are kept: FORECAST_KEYS_FILE, or keys.json in FORECAST_HOME."""
    return Path(os.environ.get("FORECAST_KEYS_FILE") or home.home() / "keys.json")


def read_keys(path: Path) -> tuple[Key, ...]:
    """The keys in a file; none where there is no file. SpecError when it cannot be read."""
    try:
        content = json.loads(path.read_bytes())
        return tuple(Key(**{**key, "scopes": tuple(key["scopes"])}) for key in content["keys"])
    except FileNotFoundError:
        return ()
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise SpecError(f"the file of API keys {path} cannot be read ({type(error).__name__})") from error


def create_key(
    name: str, *, scopes: Iterable[str] = SCOPES, days: float | None = None, path: Path | None = None
) -> tuple[str, Key]:
    """A new key: the secret, which is kept nowhere, and what is kept of it."""
    chosen = tuple(dict.fromkeys(scopes))
    if unknown := [scope for scope in chosen if scope not in SCOPES]:
        raise SpecError(f"there is no scope {unknown[0]!r}; there are {', '.join(SCOPES)}")
    if not name or len(name) > 100:
        raise SpecError("a key needs a name of 1 to 100 characters, for the list")
    if days is not None and not 0 < days <= 36_500:
        raise SpecError(f"a key expires after more than 0 and at most 36500 days; got {days}")
    now = datetime.now(UTC)
    secret = PREFIX + secrets.token_urlsafe(32)
    key = Key(
        id=secrets.token_hex(4),
        name=name,
        sha256=digest(secret),
        scopes=chosen,
        created=now.isoformat(timespec="seconds"),
        expires=None if days is None else (now + timedelta(days=days)).isoformat(timespec="seconds"),
    )
    _change(path or keys_file(), lambda keys: (*keys, key))
    return secret, key


def revoke_key(wanted: str, *, path: Path | None = None) -> Key:
    """The key of an id, or of a name that only one valid key has: it opens nothing from now on.

    NotFoundError where there is none, SpecError where several have the name.
    """
    path = path or keys_file()
    key_id = _id_of(wanted, read_keys(path))
    now = datetime.now(UTC).isoformat(timespec="seconds")
    changed = _change(
        path,
        lambda keys: tuple(
            Key(**{**asdict(key), "revoked": key.revoked or now}) if key.id == key_id else key for key in keys
        ),
    )
    return next(key for key in changed if key.id == key_id)


def _id_of(wanted: str, keys: tuple[Key, ...]) -> str:
    found = [key.id for key in keys if key.id == wanted]
    found = found or [key.id for key in keys if key.name == wanted and not key.revoked]
    if not found:
        raise NotFoundError(f"there is no key {wanted!r}; `forecast keys list` shows their ids and names")
    if len(found) > 1:
        raise SpecError(f"{len(found)} keys are named {wanted!r}; name one by its id: {', '.join(found)}")
    return found[0]


def digest(secret: str) -> str:
    """What is kept of a secret. It is 256 random bits, so that nothing slower than SHA-256 is needed."""
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()


def find_key(keys: Iterable[Key], secret: str, now: datetime) -> Key | None:
    """The valid key of a secret; every key is compared, in constant time."""
    sent = digest(secret)
    found = None
    for key in keys:
        if hmac.compare_digest(key.sha256, sent) and key.is_valid(now):
            found = key
    return found


def _change(path: Path, change: Callable[[tuple[Key, ...]], tuple[Key, ...]]) -> tuple[Key, ...]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(path.name + ".lock")):
        keys = change(read_keys(path))
        draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
            json.dump({"keys": [asdict(key) for key in keys]}, stream, indent=1)
        os.replace(draft, path)
    return keys
