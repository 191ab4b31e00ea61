"""A `forecast` command as a child process: its output forwarded, its time limited, its family ended too."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

GRACE_SECONDS = 5.0
"""Between the request to end and the kill."""


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a child ended."""

    code: int
    """Its exit code; negative, the signal that ended it."""
    out: str
    """All of its stdout."""
    last_line: str
    """The last line of its stderr."""
    seconds: float
    timed_out: bool = False
    stopped: bool = False
    """Whether we were asked to end it."""


class Child:
    """A running command of our own, in a process group of its own."""

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        say: Callable[[str], None],
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._say = say
        self._out = tempfile.TemporaryFile()  # noqa: SIM115  # closed by `wait`
        self._begun = time.monotonic()
        self._last_line = ""
        self._stopped = False
        self._process = subprocess.Popen(
            [sys.executable, "-m", "forecast", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=self._out,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})},
        )
        self._reader = threading.Thread(target=self._forward, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """The process, which leads its group."""
        return self._process.pid

    def wait(self, timeout_seconds: float | None = None) -> Ended:
        """Wait for its end; after `timeout_seconds` bring it about."""
        timed_out = False
        try:
            self._process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            timed_out = True
            self._end()
        self._signal(signal.SIGKILL)  # whatever it has left behind
        self._reader.join(timeout=2.0)
        self._out.seek(0)
        out = self._out.read().decode(errors="replace")
        self._out.close()
        return Ended(
            code=self._process.returncode,
            out=out,
            last_line=self._last_line,
            seconds=time.monotonic() - self._begun,
            timed_out=timed_out,
            stopped=self._stopped,
        )

    def stop(self) -> None:
        """Ask it to end, and end it after a grace; `wait`, in its own thread, returns then."""
        self._stopped = True
        self._end()

    def _end(self) -> None:
        self._signal(signal.SIGTERM)
        try:
            self._process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)
            self._process.wait()

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)

    def _forward(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as lines:
            for line in lines:
                if text := line.rstrip():
                    self._last_line = text
                    self._say(text)
