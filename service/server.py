"""The process of `forecast serve`: a socket, the watcher beside it, the HTTP server, and an orderly end."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from types import FrameType

from forecast.errors import ForecastError
from service.manifest import Cache
from service.security import Keyring, check_listening
from service.settings import Settings

log = logging.getLogger("service")

BACKLOG = 2048
LONGEST_PAUSE_SECONDS = 30.0


def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; ForecastError when the address cannot be listened on."""
    from service.logs import set_up

    set_up(level=settings.log_level, style=settings.log_format)
    check_listening(settings.host, insecure=settings.insecure, keyring=Keyring())
    previous = signal.signal(signal.SIGTERM, _leave)
    listening = listen(settings.host, settings.port)
    try:
        with contextlib.closing(listening), Watching(settings):
            _serve(settings, listening)
    except (KeyboardInterrupt, _Leaving):
        log.info("stopped before the service was up")
    finally:
        signal.signal(signal.SIGTERM, previous)


class _Leaving(BaseException):
    """SIGTERM came before the server could handle it."""


def _leave(signum: int, frame: FrameType | None) -> None:
    raise _Leaving


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; ForecastError that says what to do when the port is taken."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        made = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise ForecastError(
            f"the address {host!r} cannot be used ({error}); choose another with --host"
        ) from error
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((host, port))
        made.listen(BACKLOG)
        return made
    except OSError as error:
        made.close()
        advice = "choose another with --port, or --port 0 for a free one"
        raise ForecastError(f"cannot listen on {host} port {port} ({error.strerror}); {advice}") from error


def address(listening: socket.socket) -> str:
    """The URL of a listening socket."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _serve(settings: Settings, listening: socket.socket) -> None:
    import uvicorn

    from service.app import create_app
    from service.protocol import deadline_protocol

    cache = Cache.of(settings.models)

    class Server(uvicorn.Server):
        """Prints its address once it answers, and ends with exit code 0 when it is told to stop."""

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            await _watcher_at_work(cache)
            print(f"serving on {address(listening)}", flush=True)

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            self.force_exit = self.should_exit and sig == signal.SIGINT
            self.should_exit = True

    config = uvicorn.Config(
        create_app(settings),
        log_config=None,
        log_level=settings.log_level,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        http=deadline_protocol(settings.body_seconds),
        loop="uvloop",
        ws="none",
        lifespan="on",
        backlog=BACKLOG,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=settings.stop_seconds,
    )
    Server(config).run(sockets=[listening])


async def _watcher_at_work(cache: Cache) -> None:
    """Wait a little for the watcher, so that the first request finds somebody to ask."""
    for _ in range(60):
        if await asyncio.to_thread(cache.has_watcher):
            return
        await asyncio.sleep(0.05)


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
