"""The watcher process, kept running beside the service."""

import contextlib
import logging
import os
import subprocess
import sys
import threading
import time

from service.settings import Settings

log = logging.getLogger("service")

LONGEST_PAUSE_SECONDS = 30.0


class Watching:
    """Keeps a watcher process running while the block runs; none is left behind after it.

    The watcher ends by itself when its standard input closes, that is also when this process is killed.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._stopping = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._keeper = threading.Thread(target=self._keep, name="watcher", daemon=True)

    def __enter__(self) -> "Watching":
        self._process = self._start()
        self._keeper.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stopping.set()
        self._end()
        self._keeper.join(timeout=10)
        self._end()  # one that the keeper may have started in between

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "service.watcher", "--poll-seconds", str(self.settings.poll_seconds)]
        for name in self.settings.models:
            command += ["--model", name]
        command += ["--log-level", self.settings.log_level]
        command += ["--measure"] if self.settings.runtime == "auto" else []
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env=os.environ.copy()
        )

    def _keep(self) -> None:
        pause = 1.0
        while self._process is not None and not self._stopping.is_set():
            started = time.monotonic()
            code = self._process.wait()
            if self._stopping.is_set():
                return
            pause = 1.0 if time.monotonic() - started > 60 else min(2 * pause, LONGEST_PAUSE_SECONDS)
            log.warning("the watcher ended with %s; a new one starts in %.0f s", code, pause)
            if self._stopping.wait(pause):
                return
            self._process = self._start()

    def _end(self) -> None:
        process = self._process
        if process is None:
            return
        if process.stdin is not None:
            with contextlib.suppress(OSError):
                process.stdin.close()
        process.terminate()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
