"""Raw connections to the real server: clients that are slow, gone, half-closed, or talk nonsense."""

import contextlib
import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from service.settings import Settings
from tests.service.builders import Registry, baseline, request_body
from tests.service.live import listening

BODY = json.dumps(request_body()).encode()
HEAD = b"POST /v1/forecasts HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(BODY)


@pytest.fixture
def settings() -> Settings:
    """Deadlines that a test can wait for."""
    return Settings(body_seconds=0.4, open_requests=4, request_seconds=5)


@pytest.fixture
def address(registry: Registry, settings: Settings) -> Iterator[tuple[str, int]]:
    """Where the real application listens."""
    registry.add("air", "1", baseline(), "champion")
    with listening(settings) as found:
        yield found


def said(connection: socket.socket) -> bytes:
    """Everything until the server closes or falls silent."""
    connection.settimeout(3)
    parts = []
    try:
        while part := connection.recv(65536):
            parts.append(part)
    except TimeoutError:
        pass
    return b"".join(parts)


def one_answer(connection: socket.socket) -> tuple[int, dict[str, Any]]:
    """The next whole answer."""
    connection.settimeout(5)
    stream = connection.makefile("rb")
    status = int(stream.readline().split()[1])
    length = 0
    while (line := stream.readline()) != b"\r\n":
        if line.lower().startswith(b"content-length:"):
            length = int(line.split(b":")[1])
    content: dict[str, Any] = json.loads(stream.read(length) or b"null")
    return status, content


def test_a_request_in_one_piece_and_its_successors_on_one_connection(address: tuple[str, int]) -> None:
    with socket.create_connection(address) as connection:
        for _ in range(3):
            connection.sendall(HEAD + BODY)
            status, content = one_answer(connection)
            assert (status, content["model"]["version"]) == (200, "1")


def test_pipelined_requests_are_answered_in_order(address: tuple[str, int]) -> None:
    with socket.create_connection(address) as connection:
        connection.sendall((HEAD + BODY) * 3 + b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = said(connection)
    assert answer.count(b"HTTP/1.1 200 OK") == 4
    assert answer.endswith(b'{"status":"alive"}')


def test_a_body_in_small_pieces_is_answered_when_it_comes_in_time(address: tuple[str, int]) -> None:
    with socket.create_connection(address) as connection:
        for start in range(0, len(HEAD + BODY), 100):
            connection.sendall((HEAD + BODY)[start : start + 100])
            time.sleep(0.005)
        assert one_answer(connection)[0] == 200


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"POST /v1/fore",
        b"POST /v1/forecasts HTTP/1.1\r\nHost: x\r\nX-Slow: ",
        HEAD,
        HEAD + BODY[:50],
        HEAD + BODY + b"POST /v1/forecasts HT",
    ],
    ids=["nothing", "line", "headers", "no body", "half a body", "a second one"],
)
def test_who_is_too_slow_is_hung_up_on(address: tuple[str, int], sent: bytes) -> None:
    begun = time.monotonic()
    with socket.create_connection(address) as connection:
        if sent:
            connection.sendall(sent)
        answer = said(connection)
    assert 0.2 < time.monotonic() - begun < 3
    assert b" 408 " in answer
    assert b"urn:forecast:problem:request-timeout" in answer


def test_drops_do_not_extend_the_deadline(address: tuple[str, int]) -> None:
    begun = time.monotonic()
    with socket.create_connection(address) as connection:
        connection.sendall(HEAD)
        with contextlib.suppress(OSError):
            for place in range(len(BODY)):
                connection.sendall(BODY[place : place + 1])
                time.sleep(0.05)
    assert time.monotonic() - begun < 4


def test_who_stops_sending_but_listens_is_answered(address: tuple[str, int]) -> None:
    with socket.create_connection(address) as connection:
        connection.sendall(HEAD + BODY)
        connection.shutdown(socket.SHUT_WR)
        assert said(connection).startswith(b"HTTP/1.1 200 OK")
    still_serves(address)


@pytest.mark.parametrize("sent", [HEAD[:20], HEAD, HEAD + BODY[:10], HEAD + BODY])
def test_clients_that_go_away_at_any_moment_harm_nobody(address: tuple[str, int], sent: bytes) -> None:
    for _ in range(10):
        with socket.create_connection(address) as connection:
            connection.sendall(sent)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset
    still_serves(address)


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\0" * 1000,
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /v1/forecasts HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n",
        b"POST /v1/forecasts HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n{}",
        HEAD[:-2] + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /v1/forecasts HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        b"X" * 200_000,
        b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 20_000,
    ],
    ids=range(10),
)
def test_what_is_no_http_ends_the_connection(address: tuple[str, int], sent: bytes) -> None:
    with socket.create_connection(address) as connection:
        try:
            connection.sendall(sent)
            answer = said(connection)
        except OSError:
            answer = b""
    assert b" 500 " not in answer
    still_serves(address)


def test_more_than_may_be_open_are_refused_and_health_is_told(
    address: tuple[str, int], settings: Settings
) -> None:
    hanging = [socket.create_connection(address) for _ in range(settings.open_requests)]
    for connection in hanging:
        connection.sendall(HEAD)
    time.sleep(0.1)
    with socket.create_connection(address) as connection:
        connection.sendall(HEAD + BODY)
        status, content = one_answer(connection)
        assert (status, content["type"]) == (503, "urn:forecast:problem:overloaded")
    with socket.create_connection(address) as connection:
        connection.sendall(HEAD.replace(b"/v1/forecasts", b"/v2/forecast/async") + BODY)
        assert one_answer(connection)[0] == 429, "the nixtla client submits again after 429 alone"
    with socket.create_connection(address) as connection:
        connection.sendall(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert one_answer(connection)[0] == 200
    for connection in hanging:
        connection.sendall(BODY)
        assert one_answer(connection)[0] == 200
        connection.close()
    still_serves(address)
    assert 'route="/v1/forecasts",status="503"' in httpx.get(f"http://{address[0]}:{address[1]}/metrics").text


@pytest.mark.parametrize("line", [b"a: b\r\n", b"cookie: " + b"x" * 10_000 + b"\r\n"])
def test_headers_without_end_are_refused_and_long_ones_are_read(
    address: tuple[str, int], line: bytes
) -> None:
    with socket.create_connection(address) as connection:
        with contextlib.suppress(OSError):
            connection.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n")
            for _ in range(2000):
                connection.sendall(line * (1 + 20_000 // len(line)))
        with contextlib.suppress(OSError):
            assert said(connection)[:12] in (b"HTTP/1.1 431", b"")
    with socket.create_connection(address) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n" + line * (30_000 // len(line)))
        time.sleep(0.05)
        connection.sendall(line + b"\r\n")
        assert one_answer(connection)[0] == 200
    still_serves(address)


def test_headers_behind_a_large_body_are_no_long_headers(address: tuple[str, int]) -> None:
    large = BODY[:-1] + b" " * 200_000 + b"}"
    post = b"POST /v1/forecasts HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(large)
    with socket.create_connection(address) as connection:
        for _ in range(3):
            connection.sendall(post + large + b"GET /li")
            time.sleep(0.05)
            connection.sendall(b"vez HTTP/1.1\r\nHost: x\r\n\r\n")
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert said(connection).count(b"HTTP/1.1 200 OK") == 7


def test_too_long_headers_are_told(address: tuple[str, int]) -> None:
    with socket.create_connection(address) as connection:
        for piece in (b"GET /livez HTTP/1.1\r\nHost: x\r\ncookie: x", b"x" * 40_000, b"x" * 30_000):
            connection.sendall(piece)
            time.sleep(0.1)
        status, problem = one_answer(connection)
    assert (status, problem["type"]) == (431, "urn:forecast:problem:headers-too-large")


def still_serves(address: tuple[str, int]) -> None:
    """The next one is answered, once those before it are forgotten."""
    deadline = time.monotonic() + 5
    status = 0
    while status != 200 and time.monotonic() < deadline:
        with socket.create_connection(address) as connection:
            connection.sendall(HEAD + BODY)
            status = one_answer(connection)[0]
        assert status in (200, 503)
    assert status == 200
