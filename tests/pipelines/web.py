"""A web server of the tests' own: files by path, with what real servers do and what goes wrong with them."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Web:
    """Files in memory; `cut` bytes are missing at the end of every answer."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[tuple[str, int]] = field(default_factory=list)
    """Path and status of every answer."""
    headers: list[dict[str, str]] = field(default_factory=list)
    cut: int = 0
    status: int = 200


@contextmanager
def web() -> Iterator[Web]:
    """The server, for as long as the block runs."""
    made = Web()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            body = made.files.get(path)
            etag = hashlib.sha256(body or b"").hexdigest()[:16]
            status = made.status if body is not None else 404
            if status == 200 and self.headers.get("if-none-match") == etag:
                status = 304
            made.asked.append((self.path, status))
            made.headers.append({key.lower(): value for key, value in self.headers.items()})
            self.send_response(status)
            if status == 200:
                self.send_header("etag", etag)
                self.send_header("content-length", str(len(body or b"")))
            self.end_headers()
            if status == 200:
                self.wfile.write((body or b"")[: len(body or b"") - made.cut])

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    made.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
