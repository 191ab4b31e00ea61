"""Arrow streams in and out: the same numbers as JSON, and nothing that a stranger sends breaks the reader."""

import json
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pytest

from service.arrow import MEDIA_TYPE
from tests.service.builders import MONTHS, Client, monthly_values, request_body

START = np.datetime64("2020-01-01", "us")


def stream(table: pa.Table, **options: Any) -> bytes:
    """A table as an IPC stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def wide(num_series: int = 1, **columns: Any) -> pa.Table:
    """One row per series; a change to None takes the column away."""
    parts = {
        "unique_id": [f"s{index}" for index in range(num_series)],
        "start": pa.array([START] * num_series),
        "y": [monthly_values()] * num_series,
        **columns,
    }
    return pa.table({name: part for name, part in parts.items() if part is not None})


def ask(client: Client, body: bytes, query: str = "model=air&horizon=3&levels=80", **more: str) -> Any:
    """POST an Arrow body."""
    headers = {"Content-Type": MEDIA_TYPE, **more}
    return client.request("POST", f"/v1/forecasts?{query}", content=body, headers=headers)


def table_of(response: httpx.Response) -> pa.Table:
    """The table of an Arrow answer."""
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == MEDIA_TYPE
    return pa.ipc.open_stream(response.content).read_all()


def test_arrow_in_is_answered_like_json(client: Client) -> None:
    expected = client.post(request_body(levels=[80])).json()
    answer = ask(client, stream(wide(unique_id=["AP"]))).json()
    assert answer == expected


def test_arrow_out_is_a_long_table_with_what_belongs_to_the_whole_beside(client: Client) -> None:
    table = table_of(ask(client, stream(wide(40)), Accept=MEDIA_TYPE))
    expected = client.post(request_body(levels=[80])).json()["forecasts"][0]
    assert table.schema.names == ["unique_id", "ds", "median", "lo-80", "hi-80"]
    assert table.num_rows == 120
    frame = table.slice(117)
    np.testing.assert_allclose(frame["median"].to_numpy(), expected["median"])
    assert [str(each.as_py().date()) for each in frame["ds"]] == ["2024-01-01", "2024-02-01", "2024-03-01"]
    head = json.loads(table.schema.metadata[b"forecast"])
    assert head["model"]["version"] == "2"
    assert head["notes"] == [["baseline:seasonal_naive"]] * 40


def test_json_in_may_be_answered_as_arrow(client: Client) -> None:
    response = client.post(request_body(levels=[80.0]), headers={"Accept": MEDIA_TYPE})
    assert "lo-80.0" in table_of(response).schema.names


def test_a_long_table_is_read_by_its_runs(client: Client) -> None:
    stamps = START.astype("datetime64[M]") + np.arange(MONTHS)
    long = pa.table(
        {
            "unique_id": pa.array(["a"] * MONTHS + ["b"] * MONTHS).dictionary_encode(),
            "ds": pa.array(np.tile(stamps.astype("datetime64[us]"), 2)),
            "y": np.tile(monthly_values(), 2).astype(np.float32),
        }
    )
    answer = ask(client, stream(long)).json()
    expected = client.post(request_body()).json()["forecasts"][0]
    assert [each["unique_id"] for each in answer["forecasts"]] == ["a", "b"]
    assert answer["forecasts"][1]["ds"] == expected["ds"]
    np.testing.assert_allclose(answer["forecasts"][1]["median"], expected["median"], rtol=1e-6)


def test_stamps_with_a_fixed_zone_are_answered_in_it(client: Client) -> None:
    utc = int((START - np.timedelta64(2, "h")).astype(np.int64))
    zoned = pa.array([utc], pa.timestamp("us", tz="+02:00"))
    answer = ask(client, stream(wide(start=zoned))).json()
    assert answer["forecasts"][0]["ds"][0] == "2024-01-01T00:00:00+02:00"


BAD: dict[str, tuple[bytes, str, int]] = {
    "no stream": (b"ARROW1 no", "not-arrow", 400),
    "empty": (b"", "not-arrow", 400),
    "cut": (stream(wide(3))[:-60], "not-arrow", 400),
    "zeros": (bytes(1000), "not-arrow", 400),
    "compressed": (stream(wide(), compression="zstd"), "unsupported-encoding", 415),
    "no rows": (stream(wide().slice(0, 0)), "invalid-request", 422),
    "a column too many": (stream(wide(price=[1.0])), "invalid-request", 422),
    "a column too few": (stream(wide(start=None)), "invalid-request", 422),
    "y is texts": (stream(wide(y=[["1", "2"]])), "invalid-request", 422),
    "y is no list": (stream(wide(y=[1.0])), "invalid-request", 422),
    "y is infinite": (stream(wide(y=[[*monthly_values(47), np.inf]])), "invalid-request", 422),
    "y is empty": (stream(wide(y=pa.array([[]], pa.list_(pa.float64())))), "invalid-request", 422),
    "y is all missing": (stream(wide(y=pa.array([[None] * 48], pa.list_(pa.float64())))), "context", 422),
    "y is short": (stream(wide(y=[monthly_values(5)])), "context", 422),
    "ids twice": (stream(wide(2, unique_id=["a", "a"])), "invalid-request", 422),
    "an id is missing": (stream(wide(2, unique_id=["a", None])), "invalid-request", 422),
    "a start is missing": (stream(wide(start=pa.array([None], pa.timestamp("us")))), "invalid-request", 422),
    "start off the grid": (stream(wide(start=pa.array([START + 1]))), "off-grid", 422),
    "a named zone": (
        stream(wide(start=pa.array([0], pa.timestamp("us", tz="Europe/Berlin")))),
        "invalid-request",
        422,
    ),
    "integers for dates": (stream(wide(start=[3])), "frequency", 422),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_table_is_refused_and_not_repeated(client: Client, case: str) -> None:
    body, kind, status = BAD[case]
    response = ask(client, body)
    assert response.status_code == status, response.text
    assert response.json()["type"] == f"urn:forecast:problem:{kind}"


@pytest.mark.parametrize(
    "query",
    [
        "horizon=3",
        "model=air&horizon=three",
        "model=air&horizon=0",
        "model=air&levels=80,x",
        "model=air&levels=80&quantiles=0.1",
        "model=air&colour=red",
        "model=air&model=air",
        "model=air&output=mode",
        "model=air&freq=potato",
    ],
)
def test_a_query_that_does_not_fit_is_refused(client: Client, query: str) -> None:
    assert ask(client, stream(wide()), query).status_code == 422


def test_more_than_ten_thousand_series_are_refused(client: Client) -> None:
    many = wide(10_001, y=[[1.0]] * 10_001)
    assert ask(client, stream(many)).status_code == 422


def test_no_damage_to_a_stream_is_a_fault_of_the_service(client: Client) -> None:
    """Bytes changed at random: refused or read, but never 500 and never a crash."""
    whole = stream(wide(2))
    noise = np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(whole)
        for place in noise.integers(0, len(whole), 3):
            damaged[place] = noise.integers(0, 256)
        assert ask(client, bytes(damaged)).status_code in (200, 400, 415, 422)
