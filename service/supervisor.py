"""Several workers that share one listening socket: started, started again when one dies, stopped in order."""

import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from types import FrameType

from service.settings import Settings

log = logging.getLogger("service")

LOOK_SECONDS = 0.05
SHORT_LIFE_SECONDS = 10.0
"""A worker that ends sooner is started again after a pause that doubles."""
LONGEST_PAUSE_SECONDS = 30.0
PATIENCE_SECONDS = 5.0
"""How much longer than FORECAST_STOP_SECONDS a worker may take to stop before it is killed."""


class Worker:
    """One place for a worker process."""

    def __init__(
        self, number: int, command: list[str], listening: socket.socket, environment: dict[str, str]
    ) -> None:
        self.number = number
        self.command = command
        self.listening = listening
        self.environment = environment
        self.is_ready = threading.Event()
        self.process: subprocess.Popen[bytes] | None = None
        self.starts_at = 0.0
        self._started = 0.0
        self._pause = 0.5

    def start(self) -> None:
        """Start the process; a thread reads that it is ready."""
        self._started = time.monotonic()
        self.is_ready.clear()
        self.process = subprocess.Popen(
            self.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=[self.listening.fileno()],
            env=self.environment,
        )
        threading.Thread(target=self._read, args=[self.process], daemon=True).start()

    def _read(self, process: "subprocess.Popen[bytes]") -> None:
        assert process.stdout is not None
        if process.stdout.readline():
            self.is_ready.set()

    def look(self) -> None:
        """Start the process again where it has ended, after a pause where it did not live long."""
        now = time.monotonic()
        if self.process is not None and (code := self.process.poll()) is not None:
            self._pause = (
                0.5
                if now - self._started > SHORT_LIFE_SECONDS
                else min(2 * self._pause, LONGEST_PAUSE_SECONDS)
            )
            self.starts_at = now + self._pause
            log.warning("worker %d ended with %s; it starts again", self.number, code)
            _forget(self.process.pid, self.environment)
            self.process = None
        if self.process is None and now >= self.starts_at:
            self.start()

    def stop(self) -> None:
        """Tell the process to stop in order."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()

    def wait(self, deadline: float) -> bool:
        """Whether the process ended in order by then, or before it served; it is killed where it did not."""
        if self.process is None:
            return True
        try:
            code = self.process.wait(max(0.0, deadline - time.monotonic()))
            return code == 0 or not self.is_ready.is_set()
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return False


def supervise(
    settings: Settings, listening: socket.socket, num_workers: int, *, on_ready: Callable[[], None]
) -> None:
    """Keep `num_workers` running until SIGTERM or SIGINT, then stop them; `on_ready` once all answer."""
    stopping = threading.Event()

    def stop(signum: int, frame: FrameType | None) -> None:
        stopping.set()

    previous = {each: signal.signal(each, stop) for each in (signal.SIGTERM, signal.SIGINT)}
    figures = tempfile.mkdtemp(prefix="forecast-metrics-")
    environment = {**os.environ, **settings.to_environment(), "PROMETHEUS_MULTIPROC_DIR": figures}
    command = [sys.executable, "-m", "service.worker", "--socket", str(listening.fileno())]
    workers = [Worker(number, command, listening, environment) for number in range(num_workers)]
    is_announced = False
    try:
        while not stopping.is_set():
            for worker in workers:
                worker.look()
            if not is_announced and all(worker.is_ready.is_set() for worker in workers):
                is_announced = True
                on_ready()
            stopping.wait(LOOK_SECONDS)
    finally:
        _stop(workers, settings, listening)
        shutil.rmtree(figures, ignore_errors=True)
        for each, handler in previous.items():
            signal.signal(each, handler)


def _stop(workers: list[Worker], settings: Settings, listening: socket.socket) -> None:
    """Stop all of them; nobody waits in a queue that nobody empties once they have left."""
    for worker in workers:
        worker.stop()
    deadline = time.monotonic() + settings.drain_seconds + settings.stop_seconds + PATIENCE_SECONDS
    time.sleep(settings.drain_seconds)
    listening.close()
    for worker in workers:
        if not worker.wait(deadline):
            log.warning("worker %d did not stop in order", worker.number)


def _forget(pid: int, environment: dict[str, str]) -> None:
    """Leave the gauges of a dead worker out of the figures; what it counted stays counted."""
    from prometheus_client import multiprocess

    folder = environment["PROMETHEUS_MULTIPROC_DIR"]
    multiprocess.mark_process_dead(pid, folder)  # type: ignore[no-untyped-call]
