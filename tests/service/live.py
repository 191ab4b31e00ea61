"""The real application behind the real protocol on a real socket, in a thread of the test."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from service.app import create_app
from service.protocol import deadline_protocol
from service.settings import Settings
from service.worker import taken_together


@contextmanager
def listening(settings: Settings) -> Iterator[tuple[str, int]]:
    """Where the application answers while the block runs."""
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        made.listen(512)
        app = create_app(settings)
        config = uvicorn.Config(
            app,
            http=deadline_protocol(
                settings.body_seconds, max_open=settings.open_requests, refuse=app.state.refuse
            ),
            loop="uvloop",
            log_config=None,
            access_log=False,
            lifespan="on",
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": taken_together(made)})
        thread.start()
        try:
            while not server.started and thread.is_alive():
                time.sleep(0.01)
            yield made.getsockname()
        finally:
            server.should_exit = True
            thread.join(20)
