"""`forecast serve`: a socket, the watcher beside it, one HTTP server or several, and an orderly end."""

import contextlib
import logging
import signal
import socket
from types import FrameType

from forecast.errors import ForecastError
from service.security import Keyring, check_listening
from service.settings import Settings
from service.watching import Watching

log = logging.getLogger("service")

BACKLOG = 2048


def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; ForecastError when the address cannot be listened on."""
    from service.logs import set_up

    set_up(level=settings.log_level, style=settings.log_format)
    num_workers = settings.num_workers
    check_listening(settings.host, insecure=settings.insecure, keyring=Keyring())
    previous = signal.signal(signal.SIGTERM, _leave)
    listening = listen(settings.host, settings.port)
    try:
        with contextlib.closing(listening), Watching(settings):
            if num_workers == 1:
                from service.worker import serve

                serve(settings, listening, on_ready=lambda: announce(listening, settings))
            else:
                from service.supervisor import supervise

                supervise(settings, listening, num_workers, on_ready=lambda: announce(listening, settings))
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


def announce(listening: socket.socket, settings: Settings) -> None:
    """Say where the service answers: on standard output, or in the log where machines read it."""
    if settings.log_format == "json":
        log.info("serving on %s", address(listening))
    else:
        print(f"serving on {address(listening)}", flush=True)
