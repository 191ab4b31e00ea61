"""Who may ask: API keys at the door, headers that browsers heed, and no open door beyond this machine."""

import ipaddress
import logging
import time
from datetime import UTC, datetime
from pathlib import Path

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from forecast.errors import SpecError
from service.errors import Problem, problem, respond
from service.keys import SCOPES, Key, find_key, keys_file, read_keys

log = logging.getLogger("service")

OPEN = frozenset({"/livez", "/readyz", "/startupz"})
"""Answered to anybody: they tell an orchestrator about the process."""
OPEN_TO_KEYS = frozenset({"/validate_api_key", "/validate_token"})
"""Answered to every good key: whether it is one is what they are asked."""
ASKED_BEFORE = frozenset({"/model_params", "/v2/models", "/usage"})
"""What the nixtla client asks before or beside its forecasts."""
LOOK_SECONDS = 1.0
"""How often the file of keys is looked at."""

HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
]
_PAGE = b"default-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'"
_OF_PAGE = [*HEADERS[:-1], (b"content-security-policy", _PAGE)]


class Keyring:
    """The keys of a file, read again when it changes."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or keys_file()
        self._stamp: tuple[int, int] | None = None
        self._looked = 0.0
        self._keys: tuple[Key, ...] = ()

    def keys(self) -> tuple[Key, ...]:
        """The keys now; those read last while the file cannot be read."""
        if time.monotonic() - self._looked >= LOOK_SECONDS:
            self._look()
            self._looked = time.monotonic()
        return self._keys

    def _look(self) -> None:
        try:
            found = self.path.stat()
            stamp = (found.st_ino, found.st_mtime_ns)
        except FileNotFoundError:
            return  # keys that were there stay in force: a lost file opens nothing
        except OSError as error:
            log.error("the file of API keys cannot be read: %s", error.strerror)
            return
        if stamp != self._stamp:
            try:
                self._keys = read_keys(self.path)
                self._stamp = stamp
            except SpecError as error:
                log.error("%s; the keys read last stay in force", error)
                if self._stamp is None:
                    raise


class SecurityMiddleware:
    """Lets in who has a key that opens the path, once there is any key; and adds security headers."""

    def __init__(self, app: ASGIApp, keyring: Keyring) -> None:
        self.app = app
        self.keyring = keyring

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        added = _OF_PAGE if scope["path"] == "/docs" else HEADERS

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *added]
            await send(message)

        keys = self.keyring.keys()
        if keys and scope["path"] not in OPEN and (refused := refusal(scope, keys)):
            await respond(Request(scope), refused)(scope, receive, send_with_headers)
            return
        await self.app(scope, receive, send_with_headers)


def refusal(scope: Scope, keys: tuple[Key, ...]) -> Problem | None:
    """Why a request may not go on; None when its key opens the path."""
    secret = sent_key(scope)
    if secret is None:
        detail = "send an API key as `Authorization: Bearer KEY`; `forecast keys create` makes one"
        return problem("unauthorized", detail, headers={"WWW-Authenticate": "Bearer"})
    key = find_key(keys, secret, datetime.now(UTC))
    if key is None:
        detail = "the API key is unknown, expired or revoked"
        return problem("unauthorized", detail, headers={"WWW-Authenticate": "Bearer"})
    needed = scopes_of(scope["method"], scope["path"])
    if not needed & set(key.scopes):
        names = " or ".join(map(repr, sorted(needed)))
        return problem("forbidden", f"the API key has not the scope {names} that this path needs")
    return None


def scopes_of(method: str, path: str) -> frozenset[str]:
    """The scopes of which a path needs one."""
    if path in OPEN_TO_KEYS:
        return frozenset(SCOPES)
    if path == "/metrics":
        return frozenset({"metrics"})
    if path in ASKED_BEFORE:
        return frozenset({"read", "forecast"})
    if "/jobs/" in path:
        return frozenset({"forecast"})
    return frozenset({"read"} if method in ("GET", "HEAD", "OPTIONS") else {"forecast"})


def sent_key(scope: Scope) -> str | None:
    """The key in `Authorization: Bearer` or `X-API-Key`."""
    for name, value in scope["headers"]:
        if name == b"authorization":
            kind, _, secret = value.decode("latin-1").partition(" ")
            return secret.strip() if kind.lower() == "bearer" else None
        if name == b"x-api-key":
            return str(value.decode("latin-1").strip())
    return None


def check_listening(host: str, *, insecure: bool, keyring: Keyring) -> None:
    """SpecError for an address that others reach while there is no key."""
    if insecure or is_loopback(host) or keyring.keys():
        return
    raise SpecError(
        f"{host} is reached from other machines and there is no API key; make one with `forecast keys "
        "create NAME`, listen on 127.0.0.1, or pass --insecure where something in front asks who it is"
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
