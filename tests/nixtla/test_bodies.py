"""Bodies that the client never sends: refused with a reason, and cheaply."""

import json
import time
from typing import Any

import httpx
import numpy as np
import orjson
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.nixtla.live import monthly

PATHS = (
    "/v2/forecast",
    "/v2/cross_validation",
    "/v2/historic_forecast",
    "/v2/anomaly_detection",
    "/v2/online_anomaly_detection",
    "/v2/forecast/async",
)


def good(**more: Any) -> dict[str, Any]:
    """A body that every path takes."""
    y = monthly(48)["y"].tolist()
    series = {"y": y, "sizes": [48], "X": None, "X_future": None, "start_datetime": ["2020-01-01"]}
    return {"series": series, "model": "air", "freq": "MS", "h": 3, "detection_size": 4, **more}


def with_series(**more: Any) -> dict[str, Any]:
    """The same with other series; what is None is taken away."""
    body = good()
    body["series"] = {key: value for key, value in {**body["series"], **more}.items() if value is not None}
    return body


BAD: list[tuple[Any, int, str]] = [
    (b"", 400, "JSON"),
    (b"[1, 2", 400, "JSON"),
    (b"[" * 3000, 400, "JSON"),
    (b'{"series": {"y": [NaN], "sizes": [1]}}', 400, "JSON"),
    (b'{"series": {"y": [1e999], "sizes": [1]}}', 400, "JSON"),
    ([], 422, "object"),
    ({}, 422, "series"),
    (good(series=[1]), 422, "series"),
    (good(model=None), 422, "model"),
    (good(model=7), 422, "model"),
    (good(model="x" * 600), 422, "model"),
    (good(freq="nonsense"), 422, "frequency"),
    (good(freq="x" * 60), 422, "frequency"),
    (good(freq="D"), 422, "monthly"),
    (good(level="80"), 422, "level"),
    (good(level=[80, "90"]), 422, "level"),
    (good(level=[True]), 422, "level"),
    (good(level=[1e300]), 422, "level"),
    (good(level=list(range(99)) * 3), 422, "level"),
    (with_series(y=None), 422, "y"),
    (with_series(y=[]), 422, "sizes"),
    (with_series(y=["1"] * 48), 422, "number"),
    (with_series(y=[True] * 48), 422, "number"),
    (with_series(y=[3.4028235e38] + [1.0] * 47), 422, "3.4e38"),
    (with_series(y=[None] * 48), 422, "missing"),
    (with_series(sizes=[]), 422, "series"),
    (with_series(sizes=[47]), 422, "add up to 47"),
    (with_series(sizes=[0, 48]), 422, "whole number"),
    (with_series(sizes=[-1, 49]), 422, "whole number"),
    (with_series(sizes=[10**30]), 422, "whole number"),
    (with_series(sizes=["48"]), 422, "whole number"),
    (with_series(start_datetime=["yesterday"]), 422, "ISO 8601"),
    (with_series(start_datetime=["2020-01-01", "2020-01-01"]), 422, "one first stamp"),
    (with_series(start_datetime=["9999-01-01"]), 422, "9999"),
    (with_series(X=[[1.0]]), 422, "48"),
    (with_series(X=[1.0]), 422, "X"),
    (with_series(X=[[[1]] * 48]), 422, "X"),
    (with_series(X=[[1.0] * 48] * 200), 422, "100"),
    (with_series(X=[[1.0] * 48], categorical_exog=[5]), 422, "beyond X"),
    (with_series(X=[[1.0] * 48], categorical_exog=["a"]), 422, "row numbers"),
]


@pytest.mark.parametrize("path", PATHS)
def test_every_path_refuses_what_it_cannot_read(url: str, path: str) -> None:
    for body, status, words in BAD:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        found = httpx.post(f"{url}{path}", content=content)
        if path.endswith("/async") and found.status_code == 202:
            continue  # what only the model can say is said by the job
        assert found.status_code == status, (path, body, found.text)
        problem = found.json()
        assert words.lower() in (problem["detail"] + str(problem["errors"])).lower(), (path, body, found.text)
        assert len(found.content) < 5000
        assert len(problem["errors"]) <= 20


@pytest.mark.parametrize(
    ("path", "more"),
    [
        ("/v2/forecast", {"h": 10**9}),
        ("/v2/forecast", {"h": 0}),
        ("/v2/forecast", {"h": -3}),
        ("/v2/forecast", {"h": 2.5}),
        ("/v2/forecast", {"h": "3"}),
        ("/v2/forecast", {"h": True}),
        ("/v2/forecast", {"h": 10**40}),
        ("/v2/forecast", {"h": None}),
        ("/v2/cross_validation", {"n_windows": 10**9}),
        ("/v2/cross_validation", {"n_windows": 0}),
        ("/v2/cross_validation", {"step_size": 10**9, "n_windows": 2}),
        ("/v2/online_anomaly_detection", {"detection_size": 10**9}),
        ("/v2/online_anomaly_detection", {"detection_size": 0}),
        ("/v2/online_anomaly_detection", {"threshold_method": "other"}),
    ],
)
def test_counts_beyond_reason_cost_nothing(url: str, path: str, more: dict[str, Any]) -> None:
    started = time.monotonic()
    found = httpx.post(f"{url}{path}", json=good(**more))
    assert found.status_code == 422
    assert isinstance(found.json()["detail"], str)
    assert time.monotonic() - started < 2


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        (good(h=10**6), "#/h"),
        (good(level=[100]), "#/level/0"),
        (with_series(X=[[1.0] * 48, [1.0] * 47 + [3.4e38]]), "#/series/X/1/47"),
        (with_series(y=[1.0] * 47 + [None, "a"]), "#/series/y/48"),
    ],
)
def test_a_refusal_points_at_the_place_in_the_words_of_the_client(
    url: str, body: dict[str, Any], pointer: str
) -> None:
    for path in ("/v2/forecast", "/v2/forecast/async"):
        found = httpx.post(f"{url}{path}", json=body)
        assert found.status_code == 422
        assert found.json()["errors"][0]["pointer"] == pointer
    none = httpx.post(f"{url}/v2/anomaly_detection", json=good(level=0))
    assert none.json()["errors"][0]["pointer"] == "#/level"


def test_a_future_of_the_wrong_length_is_refused(url: str) -> None:
    body = with_series(X=[[1.0] * 48], X_future=[[1.0] * 2])
    found = httpx.post(f"{url}/v2/forecast", json=body)
    assert found.status_code == 422
    assert "3 (series x h) are needed" in found.json()["detail"]


def test_unknown_keys_numbers_of_r_and_one_number_as_a_list_are_let_pass(url: str) -> None:
    body = good(h=3.0, level=80, something={"new": [1]}, job_options=None)
    body["series"] |= {"sizes": 48, "start_datetime": "2020-01-01", "more": 1}
    found = httpx.post(f"{url}/v2/forecast", json=body)
    assert found.status_code == 200, found.text
    assert set(found.json()["intervals"]) == {"lo-80", "hi-80"}
    assert "data" not in found.json()


def test_levels_are_answered_as_they_were_written(url: str) -> None:
    body = orjson.dumps(good()).replace(b'"h":3', b'"h":3,"level":[80,0,80,95.5,90.0]')
    found = httpx.post(f"{url}/v2/forecast", content=body).json()
    names = [f"{end}-{level}" for level in ("80", "0", "95.5", "90.0") for end in ("lo", "hi")]
    assert list(found["intervals"]) == names
    assert found["intervals"]["lo-0"] == found["intervals"]["hi-0"] == found["mean"]


def test_a_body_that_unpacks_to_too_much_is_refused_with_the_clients_word_for_less(url: str) -> None:
    bomb = zstandard.ZstdCompressor(level=19).compress(b" " * (80 * 2**20))
    found = httpx.post(f"{url}/v2/forecast", content=bomb, headers={"content-encoding": "zstd"})
    assert found.status_code == 413
    assert "num_partitions" in found.json()["detail"]


@pytest.mark.parametrize("path", ["/v2/nothing/async", "/v2/forecast/jobs/x/y", "/v3/forecast"])
def test_paths_that_are_not_there_have_a_detail_too(url: str, path: str) -> None:
    found = httpx.post(f"{url}{path}", json={})
    assert found.status_code in (404, 405)
    assert found.json()["detail"]


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**62), 2**62)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    path=st.sampled_from(PATHS),
    place=st.sampled_from([*good(), *good()["series"], "hist_exog", "step_size"]),
    value=json_values,
)
def test_no_value_anywhere_is_a_fault_of_the_service(url: str, path: str, place: str, value: Any) -> None:
    body = good()
    (body["series"] if place in body["series"] else body)[place] = value
    found = httpx.post(f"{url}{path}", content=orjson.dumps(body))
    assert found.status_code < 500 or found.status_code == 501, (path, place, value, found.text)
    if found.status_code >= 400:
        assert isinstance(found.json()["detail"], str)


def test_a_hundred_thousand_values_in_a_thousand_series_take_seconds(url: str) -> None:
    y = (np.arange(100_000) % 100).tolist()
    body = {"series": {"y": y, "sizes": [100] * 1000}, "model": "air/1", "freq": "MS", "h": 6}
    started = time.monotonic()
    found = httpx.post(f"{url}/v2/forecast", json=body, timeout=60)
    assert found.status_code == 200
    assert len(found.json()["mean"]) == 6000
    assert time.monotonic() - started < 20
