"""Whatever a client sends: an answer or a problem, never a 500, never a number that JSON does not know."""

import gzip
import json
from typing import Any

import numpy as np
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.service.builders import Client, monthly_values, request_body

SLOW = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))

anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(
        ["MS", "2020-01-01", "2020-01-01T00:00:00+14:00", "9999-12-31", "0001-01-01", 1e308, 10**40]
    ),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
number = st.floats(allow_nan=True, allow_infinity=True) | st.integers() | st.none()
stamp = st.datetimes().map(lambda moment: moment.isoformat()) | st.sampled_from(
    ["2020-01-01", "1000-01-01", "2999-12-01", "2020-01-01T00:00:00Z", "2020-01-01T00:00:00-12:00"]
)
series = st.fixed_dictionaries(
    {"unique_id": st.text(max_size=5) | anything, "y": st.lists(number, min_size=10, max_size=40) | anything},
    optional={"start": stamp | anything, "ds": st.lists(stamp, max_size=40) | anything, "known": anything},
)
request = st.fixed_dictionaries(
    {
        "model": st.sampled_from(["air", "air@challenger", "air/1", "air/0", "x"]),
        "series": st.lists(series, max_size=3),
    },
    optional={
        "horizon": st.integers(-2, 30) | anything,
        "freq": st.sampled_from(["MS", "ME", "h", 1]) | anything,
        "levels": st.lists(st.floats(0, 100) | st.integers(0, 100), max_size=4) | anything,
        "quantiles": st.lists(st.floats(0, 1), max_size=4) | anything,
        "output": st.lists(st.sampled_from(["median", "mean", "mode"]), max_size=3) | anything,
    },
)
good_values = st.lists(
    st.floats(-3.3e38, 3.3e38) | st.floats(-1e6, 1e6) | st.none(), min_size=12, max_size=60
)


def check(client: Client, body: bytes) -> int:
    """The status of an answer that is well formed."""
    response = client.post(body)
    content: dict[str, Any] = json.loads(response.content, parse_constant=lambda name: 1 / 0)
    if response.status_code == 200:
        for forecast in content["forecasts"]:
            columns = {key: values for key, values in forecast.items() if key not in ("unique_id", "notes")}
            assert all(len(values) == content["horizon"] for values in columns.values())
            assert not any(None in values for values in columns.values())
        return 200
    assert response.status_code in (400, 404, 422), response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert content["status"] == response.status_code
    assert len(response.content) < 20_000
    return response.status_code


@SLOW
@given(st.binary(max_size=200))
def test_any_bytes(client: Client, body: bytes) -> None:
    check(client, body)


@SLOW
@given(anything)
def test_any_json(client: Client, content: Any) -> None:
    check(client, json.dumps(content).encode())


@SLOW
@given(request)
def test_nearly_right_requests(client: Client, content: Any) -> None:
    check(client, json.dumps(content).encode())


@SLOW
@given(st.sampled_from(list(request_body())), anything)
def test_one_field_replaced_by_anything(client: Client, field: str, value: Any) -> None:
    check(client, json.dumps({**request_body(), field: value}).encode())


@SLOW
@given(st.sampled_from(["unique_id", "start", "ds", "y", "past", "known", "static"]), anything)
def test_one_field_of_a_series_replaced_by_anything(client: Client, field: str, value: Any) -> None:
    content = request_body()
    content["series"][0][field] = value
    check(client, json.dumps(content).encode())


@SLOW
@given(good_values, stamp, st.integers(1, 24), st.lists(st.floats(0.001, 99.999), min_size=1, max_size=3))
def test_any_values_and_any_start(
    client: Client, values: list[float | None], start: str, horizon: int, levels: list[float]
) -> None:
    one = {"unique_id": "a", "start": start[:8] + "01" + start[10:], "y": values}
    check(client, json.dumps(request_body(series=[one], horizon=horizon, levels=levels)).encode())


@SLOW
@given(st.binary(max_size=3), st.integers(0, 400), st.integers(0, 5))
def test_a_good_body_with_some_bytes_changed(client: Client, some: bytes, place: int, length: int) -> None:
    body = json.dumps(request_body(levels=[80])).encode()
    check(client, body[:place] + some + body[place + length :])


@SLOW
@given(st.lists(st.integers(0, 200), min_size=12, max_size=60))
def test_any_monthly_stamps(client: Client, months: list[int]) -> None:
    stamps = [f"{2000 + month // 12}-{month % 12 + 1:02}-01" for month in months]
    one = {"unique_id": "a", "ds": stamps, "y": monthly_values(len(stamps))}
    rises = months == sorted(set(months))
    status = check(client, json.dumps(request_body(series=[one])).encode())
    assert (status == 200) == rises or (status == 422 and max(months) - min(months) >= 36)


def arrow_body(**changes: Any) -> bytes:
    """A good Arrow request, or one with other columns."""
    import pyarrow as pa

    columns = {
        "unique_id": ["AP"],
        "start": pa.array([np.datetime64("2020-01-01", "us")]),
        "y": pa.array([monthly_values()], pa.list_(pa.float64())),
    }
    table = pa.table({**columns, **changes})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    content: bytes = sink.getvalue().to_pybytes()
    return content


GOOD_ARROW = arrow_body()
ARROW = {"content-type": "application/vnd.apache.arrow.stream"}


def check_coded(client: Client, body: bytes, headers: dict[str, str], path: str = "/v1/forecasts") -> int:
    """The status of a well-formed answer to a body that is not plain JSON."""
    response = client.request("POST", path, content=body, headers=headers)
    assert response.status_code in (200, 400, 404, 413, 415, 422), response.text
    json.loads(response.content, parse_constant=lambda name: 1 / 0)
    assert len(response.content) < 20_000
    return response.status_code


@SLOW
@given(st.binary(max_size=300))
def test_any_bytes_as_arrow(client: Client, body: bytes) -> None:
    assert check_coded(client, body, ARROW, "/v1/forecasts?model=air") in (400, 415, 422)


@settings(SLOW, max_examples=300)
@given(
    st.integers(0, len(GOOD_ARROW) - 1),
    st.binary(min_size=1, max_size=4),
    st.sampled_from(["change", "cut", "insert"]),
)
def test_a_good_arrow_stream_that_was_damaged(client: Client, place: int, some: bytes, how: str) -> None:
    tail = {"change": GOOD_ARROW[place + len(some) :], "cut": b"", "insert": GOOD_ARROW[place:]}[how]
    check_coded(client, GOOD_ARROW[:place] + some + tail, ARROW, "/v1/forecasts?model=air")


@SLOW
@given(
    st.lists(st.floats() | st.none(), max_size=40),
    st.sampled_from(["float32", "float64", "int64", "int8"]),
    st.integers(-(2**62), 2**62),
)
def test_any_arrow_values_and_starts(client: Client, values: list[Any], kind: str, start: int) -> None:
    import pyarrow as pa

    try:
        y = pa.array([values], pa.list_(pa.type_for_alias(kind)))
    except pa.ArrowException:
        return
    body = arrow_body(y=y, start=pa.array([start], pa.timestamp("us")))
    check_coded(client, body, ARROW, "/v1/forecasts?model=air&levels=80")


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
@settings(SLOW, max_examples=200)
@given(st.integers(0, 10_000), st.binary(max_size=4), st.booleans())
def test_a_packed_body_that_was_damaged(
    client: Client, encoding: str, place: int, some: bytes, is_cut: bool
) -> None:
    plain = json.dumps(request_body(levels=[80])).encode()
    packed = gzip.compress(plain) if encoding == "gzip" else zstandard.compress(plain)
    place %= len(packed)
    body = packed[:place] + some + (b"" if is_cut else packed[place + len(some) :])
    check_coded(client, body, {"content-encoding": encoding})


@SLOW
@given(st.binary(max_size=100), st.sampled_from(["gzip", "zstd"]))
def test_any_bytes_as_packed(client: Client, body: bytes, encoding: str) -> None:
    assert check_coded(client, body, {"content-encoding": encoding}) in (400, 413)


@SLOW
@given(
    request,
    st.sampled_from(["/v1/backtests", "/v1/anomalies"]),
    st.dictionaries(
        st.sampled_from(["num_windows", "stride", "level", "last", "horizon", "levels"]), anything, max_size=3
    ),
)
def test_nearly_right_requests_for_the_past(
    client: Client, content: Any, path: str, more: dict[str, Any]
) -> None:
    wanted = {key: value for key, value in content.items() if key in ("model", "series", "freq")}
    check_coded(client, json.dumps({**wanted, **more}).encode(), {}, path)


@SLOW
@given(good_values, stamp, st.integers(1, 24), st.integers(1, 8), st.integers(1, 8), st.integers(1, 50))
def test_any_history_is_replayed_and_judged(
    client: Client, values: list[float | None], start: str, horizon: int, windows: int, stride: int, last: int
) -> None:
    series = [{"unique_id": "a", "start": start[:8] + "01" + start[10:], "y": values}]
    whole = {"model": "air", "series": series}
    asked = {**whole, "horizon": horizon, "num_windows": windows, "stride": stride}
    for path, sent in (("/v1/backtests", asked), ("/v1/anomalies", {**whole, "last": last})):
        response = client.request("POST", path, json=sent)
        assert response.status_code in (200, 422), response.text
        json.loads(response.content, parse_constant=lambda name: 1 / 0)
