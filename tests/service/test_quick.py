"""The short way of the usual request says what the long way says."""

import gzip
import json
import time
from typing import Any

import pytest

from service.admission import ARRIVED, is_stale
from service.quick import is_usual
from service.settings import Settings
from tests.service.builders import Client, Registry, baseline, request_body, serving, with_series


def the_long_way(client: Client, body: bytes) -> Any:
    """The same request in a form that the short way leaves alone."""
    return client.post(gzip.compress(body), headers={"content-encoding": "gzip"})


@pytest.mark.parametrize(
    "body",
    [
        request_body(),
        request_body(levels=[80, 95.5]),
        request_body(quantiles=[0.1, 0.0001], output=["mean", "median"]),
        request_body(model="air@challenger"),
        request_body(model="air/1", horizon=None),
        with_series(y=[7.0] * 30),
        with_series(start="2020-01-01T00:00:00+02:00"),
        with_series(unique_id='a"b\\ü'),
        request_body(series=[{**request_body()["series"][0], "unique_id": str(i)} for i in range(5)]),
        request_body(horizon=10**9),
        request_body(model="nothing"),
        with_series(y=["x"]),
        [],
    ],
    ids=range(13),
)
def test_both_ways_give_the_same_answer(client: Client, body: Any) -> None:
    written = json.dumps(body).encode()
    short, long = client.post(written), the_long_way(client, written)
    assert short.status_code == long.status_code
    found, expected = short.json(), long.json()
    for answer in (found, expected):
        answer.pop("request_id", None)
    assert found == expected
    assert set(short.headers) - set(long.headers) == set()
    for name in ("content-type", "x-content-type-options", "content-security-policy", "cache-control"):
        assert short.headers[name] == long.headers[name]


@pytest.mark.parametrize(
    "headers",
    [
        {b"content-length": b"70000"},
        {b"content-length": b"-1"},
        {b"content-length": b"1e3"},
        {b"content-encoding": b"gzip"},
        {b"transfer-encoding": b"chunked"},
        {b"expect": b"100-continue"},
        {b"content-type": b"application/vnd.apache.arrow.stream"},
        {b"accept": b"application/vnd.apache.arrow.stream"},
    ],
)
def test_what_is_unusual_goes_the_long_way(headers: dict[bytes, bytes]) -> None:
    usual = {b"content-length": b"10", b"content-type": b"application/json"}
    assert is_usual({"method": "POST", "headers": list(usual.items())}, usual)
    changed = {**usual, **headers}
    assert not is_usual({"method": "POST", "headers": list(changed.items())}, changed)
    assert not is_usual({"method": "POST", "headers": [*usual.items(), *usual.items()]}, usual)
    assert not is_usual({"method": "PUT", "headers": list(usual.items())}, usual)


def test_the_phases_of_an_answer_are_said_and_counted(registry: Registry) -> None:
    registry.add("air", "1", baseline(), "champion")
    with serving() as client:
        said = client.post(request_body()).headers["server-timing"]
        assert [part.split(";")[0] for part in said.split(", ")] == [
            *("total", "read", "parse", "wait", "compute", "write")
        ]
        text = client.get("/metrics").text
    for phase in ("read", "parse", "wait", "compute", "write"):
        assert f'forecast_phase_seconds_total{{phase="{phase}"}}' in text


def test_who_waited_for_too_long_since_arriving_is_refused_at_once() -> None:
    assert not is_stale({}, 0.1)
    assert not is_stale({ARRIVED: time.monotonic()}, 0.1)
    assert is_stale({ARRIVED: time.monotonic() - 0.2}, 0.1)


@pytest.mark.parametrize(
    ("path", "seconds", "status"),
    [
        ("/v1/forecasts", 1, 503),
        ("/v1/backtests", 1, 503),
        ("/v1/anomalies", 1, 503),
        ("/v2/forecast", 1, 422),
        ("/v2/forecast", 100, 503),
        ("/v2/forecast/async", 1, 422),
        ("/v2/forecast/async", 100, 429),
    ],
)
def test_a_stale_request_is_told_when_to_come_again(
    registry: Registry, path: str, seconds: float, status: int
) -> None:
    """As the protocol hands it over after the process was busy for a while."""
    registry.add("air", "1", baseline(), "champion")
    with serving(Settings(queue_seconds=0.1)) as client:
        transport = client.asynchronous._transport
        app: Any = client.app

        async def late(scope: Any, receive: Any, send: Any) -> None:
            scope.setdefault("state", {})[ARRIVED] = time.monotonic() - seconds
            await app(scope, receive, send)

        transport.app = late  # type: ignore[attr-defined]
        answer = client.request("POST", path, json=request_body())
        assert answer.status_code == status
        if status != 422:  # that is let in, and says something else
            kind, again = ("overloaded", "1") if status == 503 else ("too-many-jobs", "5")
            assert answer.json()["type"] == f"urn:forecast:problem:{kind}"
            assert answer.headers["retry-after"] == again
        assert client.get("/readyz").status_code == 200
