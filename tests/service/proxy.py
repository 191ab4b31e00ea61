"""A TCP proxy of our own that misbehaves on request: between the watcher and MLflow, or a client and us."""

import contextlib
import random
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

MODES = ("pass", "slow", "stall", "dead", "cut", "garbage")


@dataclass
class Proxy:
    """Forwards connections to a target; `mode` says how, also for connections that are open."""

    target: tuple[str, int]
    mode: str = "pass"
    """pass: as it is; slow: a few bytes at a time; stall: takes everything and says nothing; dead: hangs up;
    cut: hangs up in the middle of an answer; garbage: answers noise."""
    address: tuple[str, int] = ("", 0)
    num_connections: int = 0
    _listening: socket.socket = field(default_factory=socket.socket)
    _is_closing: bool = False

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{self.address[0]}:{self.address[1]}"

    def start(self) -> None:
        """Listen."""
        self._listening.bind(("127.0.0.1", 0))
        self._listening.listen(64)
        self.address = self._listening.getsockname()
        threading.Thread(target=self._accept, daemon=True).start()

    def stop(self) -> None:
        """Take no more."""
        self._is_closing = True
        self._listening.close()

    def _accept(self) -> None:
        while not self._is_closing:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            self.num_connections += 1
            threading.Thread(target=self._serve, args=[connection], daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            if self.mode == "dead":
                return
            if self.mode == "garbage":
                client.recv(1024)
                client.sendall(random.Random(0).randbytes(4096))
                return
            if self.mode == "stall":
                while client.recv(65536) and not self._is_closing:
                    pass
                return
            with socket.create_connection(self.target) as server:
                back = threading.Thread(target=self._copy, args=[server, client, True], daemon=True)
                back.start()
                self._copy(client, server, False)
                back.join(60)

    def _copy(self, source: socket.socket, sink: socket.socket, is_answer: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if self.mode == "stall":
                    continue
                if is_answer and self.mode in ("dead", "cut", "garbage"):
                    noise = random.Random(0).randbytes(len(data))
                    said = {"dead": b"", "cut": data[: len(data) // 2], "garbage": noise}
                    sink.sendall(said[self.mode])
                    break
                if self.mode == "slow" and is_answer:
                    self._drip(data, sink)
                else:
                    sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)
        if self.mode in ("dead", "cut", "garbage"):
            sink.close()

    def _drip(self, data: bytes, sink: socket.socket) -> None:
        for start in range(0, len(data), 256):
            sink.sendall(data[start : start + 256])
            time.sleep(0.02)


@contextmanager
def proxy(target: tuple[str, int]) -> Iterator[Proxy]:
    """A proxy that forwards while the block runs."""
    made = Proxy(target)
    made.start()
    try:
        yield made
    finally:
        made.stop()
