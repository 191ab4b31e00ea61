"""What a run could not tell the tracking server: kept on disk as JSON and files until it answers again."""

import json
import os
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forecast import home

HEADER, ENTRIES, FILES = "run.json", "entries.jsonl", "files"


@dataclass(frozen=True)
class Spool:
    """One run's undelivered entries, in their order."""

    folder: Path

    @classmethod
    def begin(cls, header: Mapping[str, Any]) -> "Spool":
        """A new spool; `header` says which run it belongs to, or how to create one."""
        folder = root() / f"{time.time_ns()}-{uuid.uuid4().hex[:8]}"
        (folder / FILES).mkdir(parents=True)
        made = cls(folder)
        made.write_header({**header, "pid": os.getpid(), "delivered": 0})
        return made

    @property
    def header(self) -> dict[str, Any]:
        """The run: `run_id` where it exists on the server, how many entries were delivered, who writes."""
        values: dict[str, Any] = json.loads((self.folder / HEADER).read_text(encoding="utf-8"))
        return values

    def write_header(self, values: Mapping[str, Any]) -> None:
        """Replace the header in one step."""
        draft = self.folder / f"{HEADER}.new"
        draft.write_text(json.dumps(values), encoding="utf-8")
        draft.replace(self.folder / HEADER)

    def append(self, entry: Mapping[str, Any], file: Path | None = None) -> None:
        """Keep one entry, and a copy of its file."""
        kept = dict(entry)
        if file is not None:
            kept["file"] = f"{uuid.uuid4().hex[:8]}/{file.name}"
            target = self.folder / FILES / kept["file"]
            target.parent.mkdir()
            shutil.copy(file, target)
        with (self.folder / ENTRIES).open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(kept) + "\n")

    def entries(self) -> Iterator[tuple[dict[str, Any], Path | None]]:
        """What is left to deliver, each with its file; a line that was cut off by a crash is left out."""
        path = self.folder / ENTRIES
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        for line in lines[self.header["delivered"] :]:
            with suppress(json.JSONDecodeError):
                entry = json.loads(line)
                yield entry, self.folder / FILES / entry["file"] if "file" in entry else None

    def count_delivered(self) -> None:
        """Remember that one more entry is where it belongs."""
        header = self.header
        self.write_header({**header, "delivered": header["delivered"] + 1})

    def is_being_written(self) -> bool:
        """Whether another process that is alive may still add to it."""
        pid = self.header["pid"]
        if pid == os.getpid() or any(entry["kind"] == "end" for entry, _ in self.entries()):
            return False
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True

    def remove(self) -> None:
        """Forget it: all was delivered."""
        shutil.rmtree(self.folder, ignore_errors=True)


def waiting() -> list[Spool]:
    """Every spool of this home folder, oldest first: a parent run before its children."""
    if not root().is_dir():
        return []
    return [Spool(path) for path in sorted(root().iterdir()) if (path / HEADER).is_file()]


def root() -> Path:
    """Where spools lie."""
    return home.home() / "spool"
