"""Tell somebody that a retrain failed or promoted: a command is run, or an address gets a POST."""

import json
import os
import shlex
import socket
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from forecast import placeholders
from forecast.errors import ForecastError

if TYPE_CHECKING:
    from pipelines.sections import Hook, HooksSection

BY_CALLER = "FORECAST_HOOKS_BY_CALLER"
"""Set for the children of the scheduler, which sees ends that a child cannot tell of, and calls the hooks."""

FAILURE, PROMOTION = "failure", "promotion"

FIRST_PAUSE_SECONDS = 1.0
"""Before the second attempt; four times as long before each further one."""


@dataclass(frozen=True, kw_only=True)
class Event:
    """What a hook is told: as JSON on a command's stdin, or as the body of a POST."""

    event: str
    """failure or promotion."""
    recipe: str
    verdict: str
    reason: str
    exit_code: int
    model_version: str | None = None
    run_id: str | None = None
    duration_seconds: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        here = {"host": socket.gethostname(), "at": datetime.now(UTC).isoformat(timespec="seconds")}
        return {**vars(self), **here}


def event_of(
    recipe: str,
    *,
    exit_code: int,
    outcome: Mapping[str, Any] | None = None,
    verdict: str = "failed",
    reason: str = "",
    seconds: float | None = None,
) -> Event | None:
    """The event that an end of a retrain is; None where nobody wants to hear of it.

    A held lock (75) is no failure: another run of the recipe is doing the work.
    """
    found = dict(outcome or {})
    is_promotion = exit_code == 0 and found.get("verdict") == "promoted"
    if not is_promotion and exit_code in (0, 75):
        return None
    return Event(
        event=PROMOTION if is_promotion else FAILURE,
        recipe=recipe,
        verdict=str(found.get("verdict", verdict)) if is_promotion else verdict,
        reason=str(found.get("reason", reason)) if is_promotion else reason,
        exit_code=exit_code,
        model_version=found.get("model_version"),
        run_id=found.get("run_id"),
        duration_seconds=None if seconds is None else round(seconds, 1),
    )


def call(
    section: "HooksSection", event: Event, *, say: Callable[[str], None], stop: threading.Event | None = None
) -> bool:
    """Call the hook of an event, again where it fails; whether it went well. `stop` ends the trying."""
    hook = section.on_failure if event.event == FAILURE else section.on_promotion
    if hook is None:
        return True
    stop, pause = stop or threading.Event(), FIRST_PAUSE_SECONDS
    for attempt in range(1, section.attempts + 1):
        try:
            _once(hook, event, timeout_seconds=section.timeout_seconds)
            return True
        except _Failed as error:
            again = error.may_pass and attempt < section.attempts and not stop.is_set()
            then = f"trying again in {pause:g} s" if again else "given up"
            say(f"{event.recipe}: the hook on {event.event} failed ({error}); {then}")
            if not again or stop.wait(pause):
                return False
            pause *= 4
    return False


@contextmanager
def told(
    recipe: str, section: "HooksSection", *, say: Callable[[str], None], silent: bool = False
) -> Iterator[dict[str, Any]]:
    """Call the hooks for what happens in the block, which puts its outcome into the dictionary that it gets.

    Nobody is told where `silent`, and where the caller of this process does it.
    """
    outcome: dict[str, Any] = {}
    silent = silent or bool(os.environ.get(BY_CALLER))
    try:
        yield outcome
    except Exception as error:
        code = error.exit_code if isinstance(error, ForecastError) else 1
        event = event_of(recipe, exit_code=code, reason=str(error))
        if event is not None and not silent:
            call(section, event, say=say)
        raise
    event = event_of(recipe, exit_code=0, outcome=outcome)
    if event is not None and not silent:
        call(section, event, say=say)


class _Failed(Exception):
    """One attempt failed."""

    def __init__(self, message: str, *, may_pass: bool = True) -> None:
        super().__init__(message)
        self.may_pass = may_pass


def _once(hook: "Hook", event: Event, *, timeout_seconds: float) -> None:
    try:
        if hook.url:
            _post(
                placeholders.expand(hook.url),
                {key: placeholders.expand(value) for key, value in hook.headers.items()},
                event,
                timeout_seconds,
            )
        else:
            parts = shlex.split(hook.command) if isinstance(hook.command, str) else hook.command or ()
            _run([placeholders.expand(part) for part in parts], event, timeout_seconds)
    except ForecastError as error:  # a variable that is not set stays so
        raise _Failed(str(error), may_pass=False) from error


def _post(url: str, headers: Mapping[str, str], event: Event, timeout_seconds: float) -> None:
    """Status codes and kinds of errors are told; the address is not, since it may be a secret."""
    body = json.dumps(event.to_dict()).encode()
    own = {"content-type": "application/json", "user-agent": "forecast", **headers}
    try:
        request = urllib.request.Request(url, body, own, method="POST")
        urllib.request.urlopen(request, timeout=timeout_seconds).close()
    except urllib.error.HTTPError as error:
        error.close()
        may_pass = error.code >= 500 or error.code in (408, 425, 429)
        raise _Failed(f"HTTP status {error.code}", may_pass=may_pass) from None
    except (OSError, ValueError) as error:
        told = getattr(error, "reason", None)
        raise _Failed(f"{type(error).__name__} {told if isinstance(told, OSError) else ''}".strip()) from None


def _run(command: list[str], event: Event, timeout_seconds: float) -> None:
    values = event.to_dict()
    named = {f"FORECAST_{key.upper()}": str(value) for key, value in vars(event).items() if value is not None}
    try:
        done = subprocess.run(
            command,
            input=json.dumps(values),
            text=True,
            errors="replace",
            capture_output=True,
            timeout=timeout_seconds,
            check=False,
            env={**os.environ, **named},
        )
    except subprocess.TimeoutExpired:
        raise _Failed(f"no end after {timeout_seconds:g} s") from None
    except (OSError, ValueError) as error:
        raise _Failed(f"it cannot be started: {error}", may_pass=False) from error
    if done.returncode:
        told = (done.stderr.strip().splitlines() or [""])[-1]
        raise _Failed(f"exit code {done.returncode}{f': {told}' if told else ''}")
