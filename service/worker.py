"""One HTTP server over a listening socket, which other workers may share.

`python -m service.worker --socket FD` is what the supervisor starts; `forecast serve` with one worker calls
`serve` itself.
"""

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from types import FrameType

from service.manifest import Cache
from service.settings import Settings

log = logging.getLogger("service")

BACKLOG = 2048
AT_A_TIME = 8
"""Connections that are taken in each turn of the event loop."""


def serve(settings: Settings, listening: socket.socket, *, on_ready: Callable[[], None]) -> None:
    """Answer until SIGTERM or SIGINT; then say that it is not ready, finish what is open, and return."""
    import uvicorn

    from service.app import create_app
    from service.protocol import deadline_protocol

    cache = Cache.of(settings.models)
    app = create_app(settings)

    class Server(uvicorn.Server):
        """Tells when it answers, and takes its time to stop."""

        _leaves_at: float | None = None

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            await _watcher_at_work(cache)
            if not self.should_exit:
                on_ready()

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            again = self._leaves_at is not None
            self.force_exit = again and sig == signal.SIGINT
            app.state.is_stopping = True
            if not again:
                self._leaves_at = time.monotonic() + settings.drain_seconds
            self.should_exit = self.should_exit or again or not settings.drain_seconds

        async def on_tick(self, counter: int) -> bool:
            if self._leaves_at is not None and time.monotonic() >= self._leaves_at:
                self.should_exit = True
            return await super().on_tick(counter)

    config = uvicorn.Config(
        app,
        log_config=None,
        log_level=settings.log_level,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        http=deadline_protocol(
            settings.body_seconds, max_open=settings.open_requests, refuse=app.state.refuse
        ),
        loop="uvloop",
        ws="none",
        lifespan="on",
        backlog=BACKLOG,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=settings.stop_seconds,
    )
    Server(config).run(sockets=taken_together(listening))


def taken_together(listening: socket.socket) -> list[socket.socket]:
    """A listening socket several times over: uvloop takes one connection of each in a turn of its loop.

    While those that are connected keep the loop busy its turns are long, and new clients, among them who
    asks for the health, would wait for theirs.
    """
    return [listening, *(listening.dup() for _ in range(AT_A_TIME - 1))]


async def _watcher_at_work(cache: Cache) -> None:
    """Wait a little for the watcher, so that the first request finds somebody to ask."""
    for _ in range(60):
        if await asyncio.to_thread(cache.has_watcher):
            return
        await asyncio.sleep(0.05)


def _end_with_parent() -> None:
    """Stop in order when standard input closes: the supervisor has ended."""

    def wait() -> None:
        with contextlib.suppress(OSError):
            while os.read(0, 1024):
                pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


def main() -> None:
    """Serve on the socket that was handed over; one line on standard output says that it answers."""
    parser = argparse.ArgumentParser(prog="python -m service.worker", description=__doc__)
    parser.add_argument("--socket", type=int, required=True)
    listening = socket.socket(fileno=parser.parse_args().socket)
    settings = Settings.from_environment()
    from service.logs import set_up

    set_up(level=settings.log_level, style=settings.log_format)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the supervisor too, which stops us in order
    _end_with_parent()
    serve(settings, listening, on_ready=lambda: print("ready", flush=True))


if __name__ == "__main__":
    main()
