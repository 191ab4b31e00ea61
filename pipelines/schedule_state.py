"""What the scheduler remembers of a recipe between two starts of its process: one small JSON file."""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from forecast import home
from forecast.replacing import replacing


@dataclass(frozen=True, kw_only=True)
class State:
    """How the last run of a task went; moments are seconds since 1970."""

    handled: float | None = None
    """Until when every start that was due had its run."""
    started: float | None = None
    ended: float | None = None
    succeeded: float | None = None
    """When the last successful run ended."""
    duration_seconds: float | None = None
    verdict: str | None = None
    """promoted, kept, unchanged; or failed, timeout, killed, stopped."""
    reason: str | None = None
    exit_code: int | None = None
    model_version: str | None = None
    run_id: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def load(task: str) -> State:
    """What is remembered of a task; nothing where the file is missing or was damaged."""
    try:
        values = json.loads(_file(task).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return State()
    known = {field.name for field in fields(State)}
    return State(**{key: value for key, value in values.items() if key in known})


def save(task: str, state: State) -> None:
    """Replace the file in one step. Raises OSError where the disk takes nothing."""
    with replacing(_file(task)) as draft:
        draft.write_text(json.dumps(state.to_dict(), indent=1), encoding="utf-8")


def _file(task: str) -> Path:
    return home.home() / "schedule" / f"{task}.json"
