"""POST /v1/forecasts: what it answers, and every way in which it refuses."""

import json
from typing import Any

import numpy as np
import pytest

from forecast.series.panel import Panel
from service.settings import Settings
from tests.service.builders import (
    MONTHS,
    Client,
    Registry,
    baseline,
    monthly_values,
    request_body,
    serving,
    with_series,
)

PROBLEM_KEYS = {"type", "title", "status", "detail", "instance", "request_id", "errors"}


def answered(response: Any) -> dict[str, Any]:
    """The body of a 200."""
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


def refused(response: Any, *statuses: int, instance: str = "/v1/forecasts") -> dict[str, Any]:
    """The body of a problem of one of these statuses."""
    assert response.status_code in statuses, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert set(body) == PROBLEM_KEYS
    assert body["status"] == response.status_code
    assert body["instance"] == instance
    assert body["request_id"] == response.headers["x-request-id"]
    assert len(body["errors"]) <= 20
    assert all(set(error) == {"pointer", "detail"} for error in body["errors"])
    return body


def test_the_answer_has_the_documented_form(client: Client) -> None:
    body = answered(client.post(request_body(levels=[80, 95])))
    assert body["model"] == {
        "name": "air",
        "version": "2",
        "alias": "champion",
        "run_id": "run-air-2",
        "trained_until": "2023-12-01T00:00:00",
    }
    assert (body["freq"], body["horizon"]) == ("MS", 3)
    (forecast,) = body["forecasts"]
    assert list(forecast) == ["unique_id", "ds", "median", "lo-80", "hi-80", "lo-95", "hi-95", "notes"]
    assert forecast["ds"] == ["2024-01-01T00:00:00", "2024-02-01T00:00:00", "2024-03-01T00:00:00"]
    assert forecast["notes"] == ["baseline:seasonal_naive"]
    for lower, higher in [("lo-95", "lo-80"), ("lo-80", "median"), ("median", "hi-80"), ("hi-80", "hi-95")]:
        assert (np.array(forecast[lower]) <= np.array(forecast[higher])).all()


def test_the_numbers_are_those_of_the_library(client: Client) -> None:
    body = answered(client.post(request_body(horizon=6, levels=[80], output=["median", "mean"])))
    history = Panel.from_arrays(["AP"], [monthly_values()], starts=["2020-01-01"], freq="MS")
    expected = baseline().predict(history)
    forecast = body["forecasts"][0]
    np.testing.assert_allclose(forecast["median"], expected.median[0], rtol=1e-9)
    np.testing.assert_allclose(forecast["mean"], expected.mean[0], rtol=1e-9)
    np.testing.assert_allclose(forecast["hi-80"], expected.interval(80)[1][0], rtol=1e-9)


@pytest.mark.parametrize(
    ("model", "version", "alias"),
    [
        ("air", "2", "champion"),
        ("air@champion", "2", "champion"),
        ("air@challenger", "1", "challenger"),
        ("air/2", "2", None),
        ("air/1", "1", None),
    ],
)
def test_a_model_is_asked_for_by_name_alias_or_version(
    client: Client, model: str, version: str, alias: str | None
) -> None:
    used = answered(client.post(request_body(model=model)))["model"]
    assert (used["version"], used["alias"], used["run_id"]) == (version, alias, f"run-air-{version}")


@pytest.mark.parametrize("model", ["water", "@champion", "/1", "a\nb"])
def test_an_unknown_model_is_404_and_names_those_there_are(client: Client, model: str) -> None:
    body = refused(client.post(request_body(model=model)), 404)
    assert body["type"] == "urn:forecast:problem:unknown-model"
    assert body["detail"].endswith("there are: air")


@pytest.mark.parametrize("model", ["air@staging", "air/3", "air/01", "air/x", "air/", "air@"])
def test_an_unknown_version_is_404_and_names_the_aliases_and_versions_there_are(
    client: Client, model: str
) -> None:
    detail = refused(client.post(request_body(model=model)), 404)["detail"]
    assert "the aliases of air are: challenger (version 1), champion (version 2)" in detail
    assert detail.endswith("versions: 2, 1")


@pytest.mark.parametrize(
    ("written", "keys"),
    [
        ("[80]", ["lo-80", "hi-80"]),
        ("[95.5]", ["lo-95.5", "hi-95.5"]),
        ("[80.0]", ["lo-80.0", "hi-80.0"]),
        ("[95.50, 8e1]", ["lo-95.50", "hi-95.50", "lo-8e1", "hi-8e1"]),
        ("[0.5]", ["lo-0.5", "hi-0.5"]),
        ("[80, 80]", ["lo-80", "hi-80"]),
        ("[95, 80]", ["lo-95", "hi-95", "lo-80", "hi-80"]),
    ],
)
def test_level_keys_repeat_the_number_as_sent(client: Client, written: str, keys: list[str]) -> None:
    body = json.dumps(request_body(levels="HERE")).replace('"HERE"', written)
    forecast = answered(client.post(body.encode()))["forecasts"][0]
    assert [key for key in forecast if key.startswith(("lo-", "hi-"))] == keys


def test_quantiles_answer_by_their_own_keys(client: Client) -> None:
    forecast = answered(client.post(request_body(quantiles=[0.1, 0.50, 0.9])))["forecasts"][0]
    assert list(forecast) == ["unique_id", "ds", "median", "q-0.1", "q-0.5", "q-0.9", "notes"]
    assert forecast["q-0.5"] == forecast["median"]


def test_a_quantile_beyond_the_grid_is_answered_and_noted(client: Client) -> None:
    forecast = answered(client.post(request_body(quantiles=[0.0001])))["forecasts"][0]
    assert "level_extrapolated" in forecast["notes"]


@pytest.mark.parametrize("output", [["median"], ["mean"], ["mean", "median"], ["median", "median"]])
def test_output_names_the_central_values(client: Client, output: list[str]) -> None:
    forecast = answered(client.post(request_body(output=output)))["forecasts"][0]
    assert [key for key in forecast if key in ("median", "mean")] == list(dict.fromkeys(output))


def test_without_a_horizon_the_trained_one_is_answered(client: Client) -> None:
    assert answered(client.post(request_body(horizon=None)))["horizon"] == 6


def test_a_horizon_beyond_the_trained_one_is_rolled_out_and_noted(client: Client) -> None:
    body = answered(client.post(request_body(horizon=24)))
    assert "rolled_out" in body["forecasts"][0]["notes"]
    assert len(body["forecasts"][0]["median"]) == 24


def test_series_are_answered_in_the_order_sent(client: Client) -> None:
    series = [
        {"unique_id": name, "start": "2020-01-01", "y": [v + shift for v in monthly_values()]}
        for shift, name in enumerate(["z", "a", "m"])
    ]
    forecasts = answered(client.post(request_body(series=series)))["forecasts"]
    assert [forecast["unique_id"] for forecast in forecasts] == ["z", "a", "m"]
    assert forecasts[1]["median"][0] == pytest.approx(forecasts[0]["median"][0] + 1)


def test_many_series_are_answered_in_parts_with_the_same_numbers(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    series = [
        {"unique_id": str(i), "start": "2020-01-01", "y": [v + i for v in monthly_values()]} for i in range(7)
    ]
    whole = client.post(request_body(series=series)).content
    monkeypatch.setattr("service.inference.CHUNK_VALUES", 100)
    assert client.post(request_body(series=series)).content == whole


def test_missing_values_are_null(client: Client) -> None:
    values: list[float | None] = list(monthly_values())
    values[5] = None
    answered(client.post(with_series(y=values)))


def test_all_stamps_instead_of_the_first_give_the_same_answer(client: Client) -> None:
    stamps = [f"{2020 + i // 12}-{i % 12 + 1:02}-01" for i in range(MONTHS)]
    by_stamps = answered(client.post(with_series(start=None, ds=stamps)))
    assert by_stamps == answered(client.post(request_body()))


def test_stamps_with_gaps_are_filled_and_noted(client: Client) -> None:
    stamps = [f"{2020 + i // 12}-{i % 12 + 1:02}-01" for i in range(MONTHS)]
    values: list[float | None] = list(monthly_values())
    gappy = with_series(start=None, ds=stamps[:20] + stamps[22:], y=values[:20] + values[22:])
    values[20:22] = [None, None]
    forecast = answered(client.post(gappy))["forecasts"][0]
    expected = answered(client.post(with_series(y=values)))["forecasts"][0]
    assert forecast["median"] == expected["median"]
    assert forecast["notes"] == [*expected["notes"], "gaps_filled"]


def test_one_request_may_mix_starts_and_stamps(client: Client) -> None:
    first = request_body()["series"][0]
    stamps = [f"{2020 + i // 12}-{i % 12 + 1:02}-01" for i in range(MONTHS)]
    second = {"unique_id": "B", "ds": stamps, "y": first["y"]}
    forecasts = answered(client.post(request_body(series=[first, second])))["forecasts"]
    assert forecasts[0]["median"] == forecasts[1]["median"]
    assert forecasts[0]["ds"] == forecasts[1]["ds"]


def test_a_constant_series_is_answered_and_noted(client: Client) -> None:
    forecast = answered(client.post(with_series(y=[7.0] * 30)))["forecasts"][0]
    assert forecast["median"] == [7.0, 7.0, 7.0]
    assert "constant" in forecast["notes"]


def test_a_short_history_is_answered_and_noted(client: Client) -> None:
    forecast = answered(client.post(with_series(y=monthly_values(12))))["forecasts"][0]
    assert "short_history" in forecast["notes"]


def test_dates_before_the_end_of_training_are_marked(client: Client) -> None:
    known = answered(client.post(with_series(y=monthly_values(40))))["forecasts"][0]
    assert "in_sample" in known["notes"]
    unknown = with_series(unique_id="other", y=[3.0, 5.0, 4.0] * 10)
    assert "may_be_in_sample" in answered(client.post(unknown))["forecasts"][0]["notes"]


@pytest.mark.parametrize(
    ("start", "first"),
    [
        ("2020-01-01", "2024-01-01T00:00:00"),
        ("2020-01-01T00:00:00", "2024-01-01T00:00:00"),
        ("2020-01-01T00:00:00Z", "2024-01-01T00:00:00+00:00"),
        ("2020-01-01T00:00:00+02:00", "2024-01-01T00:00:00+02:00"),
        ("2020-01-01T00:00:00-09:30", "2024-01-01T00:00:00-09:30"),
    ],
)
def test_stamps_are_answered_in_the_zone_they_came_in(client: Client, start: str, first: str) -> None:
    assert answered(client.post(with_series(start=start)))["forecasts"][0]["ds"][0] == first


@pytest.mark.parametrize("freq", ["MS", "M", "ME", "1mo", "monthly"])
def test_a_frequency_may_be_written_in_many_ways(client: Client, freq: str) -> None:
    start = "2020-01-31" if freq in ("M", "ME") else "2020-01-01"
    answered(client.post({**with_series(start=start), "freq": freq}))


def test_integer_time_is_answered_in_integers(registry: Registry) -> None:
    registry.add("steps", "1", baseline("naive", freq=1, start=0), "champion")
    series = [{"unique_id": "a", "start": 10, "y": [1, 2, 3, 4]}]
    with serving() as client:
        body = answered(client.post(request_body(model="steps", series=series)))
        assert body["forecasts"][0]["ds"] == [14, 15, 16]
        by_stamps = [{"unique_id": "a", "ds": [10, 11, 13], "y": [1, 2, 3]}]
        gappy = answered(client.post(request_body(model="steps", series=by_stamps)))["forecasts"][0]
        assert (gappy["ds"], gappy["notes"][-1]) == ([14, 15, 16], "gaps_filled")
        dated = request_body(model="steps")
        refused(client.post(dated), 422)
        far = [{"unique_id": "a", "start": 2**53 + 1, "y": [1, 2, 3]}]
        refused(client.post(request_body(model="steps", series=far)), 422)


def test_hours_and_days_keep_their_own_phase(registry: Registry) -> None:
    registry.add("hours", "1", baseline("naive", freq="h", start="2024-01-01"), "champion")
    series = [{"unique_id": "a", "start": "2024-05-01T03:30:00+01:00", "y": [1.0, 2.0, 3.0] * 10}]
    with serving() as client:
        body = answered(client.post(request_body(model="hours", series=series, horizon=1)))
        assert body["forecasts"][0]["ds"] == ["2024-05-02T09:30:00+01:00"]


GOOD = json.dumps(request_body())


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json",
        b"{",
        b"\xff\xfe",
        b'{"model":"air",}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        (GOOD + "x").encode(),
    ],
    ids=lambda body: body[:12].decode("ascii", "replace") + f"({len(body)})",
)
def test_what_is_not_json_is_refused(client: Client, body: bytes) -> None:
    refused(client.post(body), 400, 422)


@pytest.mark.parametrize(
    "literal", ["NaN", "-NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1" + "0" * 400]
)
def test_what_is_no_finite_number_is_refused_as_a_value(client: Client, literal: str) -> None:
    told = refused(client.post(GOOD.replace("100.0", literal, 1).encode()), 422)
    assert "NaN, Infinity and numbers that overflow are refused" in told["detail"]


REFUSED: dict[str, tuple[Any, str]] = {
    "no object": ([1], ""),
    "null": (None, ""),
    "empty object": ({}, "#/model"),
    "unknown field": ({**request_body(), "foo": 1}, "#/foo"),
    "unknown field of a series": (with_series(foo=1), "#/series/0/foo"),
    "model is a number": (request_body(model=3), "#/model"),
    "model is empty": (request_body(model=""), "#/model"),
    "no series": (request_body(series=[]), "#/series"),
    "series is an object": (request_body(series={}), "#/series"),
    "a series is a list": (request_body(series=[[1, 2]]), "#/series/0"),
    "too many series": (
        request_body(series=[{"unique_id": str(i), "start": "2020-01-01", "y": [1]} for i in range(10_001)]),
        "#/series",
    ),
    "duplicate ids": (request_body(series=request_body()["series"] * 2), "#/series/1/unique_id"),
    "id is a number": (with_series(unique_id=1), "#/series/0/unique_id"),
    "id is empty": (with_series(unique_id=""), "#/series/0/unique_id"),
    "id is endless": (with_series(unique_id="x" * 1000), "#/series/0/unique_id"),
    "no y": (with_series(y=None), "#/series/0/y"),
    "y is empty": (with_series(y=[]), "#/series/0/y"),
    "y is a text": (with_series(y="1,2,3"), "#/series/0/y"),
    "y holds a text": (with_series(y=[*monthly_values(), "1.5"]), "#/series/0/y/48"),
    "y holds true": (with_series(y=[True, *monthly_values()]), "#/series/0/y/0"),
    "y holds a list": (with_series(y=[[1], *monthly_values()]), "#/series/0/y/0"),
    "y is too large": (with_series(y=[*monthly_values(), 3.4e38]), "#/series/0/y/48"),
    "y is too small": (with_series(y=[-3.4028235e38, *monthly_values()]), "#/series/0/y/0"),
    "all values missing": (with_series(y=[None] * 30), "#/series/0/y"),
    "too few points": (with_series(y=monthly_values(11)), "#/series/0/y"),
    "too few observed points": (with_series(y=[1.0, 2.0] * 5 + [None] * 10), "#/series/0/y"),
    "start and ds": (with_series(ds=["2020-01-01"] * 48), "#/series/0"),
    "neither start nor ds": (with_series(start=None), "#/series/0"),
    "start cannot be read": (with_series(start="01/02/2020"), "#/series/0/start"),
    "start is no date": (with_series(start="2020-02-30"), "#/series/0/start"),
    "start is empty": (with_series(start=""), "#/series/0/start"),
    "start is true": (with_series(start=True), "#/series/0/start"),
    "start is a float": (with_series(start=1.5), "#/series/0/start"),
    "start is an integer for dates": (with_series(start=3), "#/series/0/start"),
    "start lies off the grid": (with_series(start="2020-01-02"), "#/series/0/start"),
    "start lies off the grid that was sent": ({**with_series(), "freq": "ME"}, "#/series/0/start"),
    "ds are integers for dates": (with_series(start=None, ds=list(range(48))), "#/series/0/ds/0"),
    "start is before all calendars": (with_series(start="0001-01-01"), "#/series/0/start"),
    "start is at the end of time": (with_series(start="9999-01-01"), "#/series/0/start"),
    "ds and y differ in length": (with_series(start=None, ds=["2020-01-01"]), "#/series/0/ds"),
    "ds is empty": (with_series(start=None, ds=[], y=[]), "#/series/0/ds"),
    "ds mixes texts and integers": (
        with_series(start=None, ds=["2020-01-01", 2], y=[1, 2]),
        "#/series/0/ds/1",
    ),
    "ds holds null": (with_series(start=None, ds=["2020-01-01", None], y=[1, 2]), "#/series/0/ds/1"),
    "ds mixes zones": (
        with_series(start=None, ds=["2020-01-01T00:00+01:00", "2020-02-01T00:00+02:00"], y=[1, 2]),
        "#/series/0/ds/1",
    ),
    "horizon is zero": (request_body(horizon=0), "#/horizon"),
    "horizon is negative": (request_body(horizon=-3), "#/horizon"),
    "horizon is over the limit": (request_body(horizon=25), "#/horizon"),
    "horizon is absurd": (request_body(horizon=10**9), "#/horizon"),
    "horizon is beyond 64 bits": (request_body(horizon=10**30), "#/horizon"),
    "horizon is a text": (request_body(horizon="3"), "#/horizon"),
    "horizon is true": (request_body(horizon=True), "#/horizon"),
    "horizon is a float": (request_body(horizon=3.5), "#/horizon"),
    "frequency is unknown": (request_body(freq="fortnight"), "#/freq"),
    "frequency is not the model's": (request_body(freq="h"), "#/freq"),
    "frequency is an integer": (request_body(freq=1), "#/freq"),
    "frequency is true": (request_body(freq=True), "#/freq"),
    "level is 0": (request_body(levels=[0]), "#/levels/0"),
    "level is 100": (request_body(levels=[80, 100]), "#/levels/1"),
    "level is negative": (request_body(levels=[-5]), "#/levels/0"),
    "level is a text": (request_body(levels=["80"]), "#/levels/0"),
    "level is true": (request_body(levels=[True]), "#/levels/0"),
    "levels is a number": (request_body(levels=80), "#/levels"),
    "levels is empty": (request_body(levels=[]), "#/levels"),
    "too many levels": (request_body(levels=[1 + i / 10 for i in range(101)]), "#/levels"),
    "quantile is 1": (request_body(quantiles=[1]), "#/quantiles/0"),
    "levels and quantiles": (request_body(levels=[80], quantiles=[0.1]), "#/quantiles"),
    "output is unknown": (request_body(output=["mode"]), "#/output/0"),
    "output is empty": (request_body(output=[]), "#/output"),
    "a covariate that the model does not use": (
        with_series(known={"price": [1.0] * 51}),
        "#/series/0/known",
    ),
    "a covariate with a text": (with_series(past={"a/b": [1, "2"]}), "#/series/0/past/a~1b/1"),
    "static with a list": (with_series(static={"size": [1]}), "#/series/0/static/size"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_bad_request_is_422_and_says_where(client: Client, case: str) -> None:
    sent, pointer = REFUSED[case]
    body = refused(client.post(sent if sent is not None else b"null"), 422)
    if pointer:
        assert pointer in [error["pointer"] for error in body["errors"]], body


def test_a_start_off_the_grid_is_refused_in_words_of_the_request(client: Client) -> None:
    body = refused(client.post(with_series(unique_id="secret", start="2020-01-02")), 422)
    assert body["detail"] == "series 0: the stamp lies beside the monthly (MS) grid; send one that is on it"


def test_too_few_points_name_the_need_and_what_was_got(client: Client) -> None:
    body = refused(client.post(with_series(y=monthly_values(7))), 422)
    assert "at least 12 observed values and got 7" in body["detail"]


@pytest.mark.parametrize(
    "stamps",
    [
        ["2020-02-01", "2020-01-01", "2020-03-01"],
        ["2020-01-01", "2020-01-01", "2020-02-01"],
        ["2020-01-01", "2020-01-15", "2020-02-01"],
    ],
    ids=["unsorted", "repeated", "off the grid"],
)
def test_stamps_have_to_rise_on_the_grid(client: Client, stamps: list[str]) -> None:
    first = [f"{2010 + i // 12}-{i % 12 + 1:02}-01" for i in range(MONTHS)]
    body = with_series(start=None, ds=first + stamps, y=[*monthly_values(), 1, 2, 3])
    found = refused(client.post(body), 422)
    assert found["errors"][0]["pointer"] == "#/series/0/ds/49" if stamps[0] < stamps[1] else True
    assert found["errors"][0]["pointer"].startswith("#/series/0/ds/")


def test_mixed_zones_between_series_are_refused(client: Client) -> None:
    first = request_body()["series"][0]
    for start in ("2020-01-01T00:00:00+02:00", "2020-01-01T00:00:00Z"):
        other = {**first, "unique_id": "B", "start": start}
        body = refused(client.post(request_body(series=[first, other])), 422)
        assert body["errors"][0]["pointer"] == "#/series/1/start"
        assert "mixed time zones" in body["detail"]


def test_stamps_across_centuries_do_not_fill_memory(registry: Registry) -> None:
    registry.add("seconds", "1", baseline("naive", freq="s", start="2024-01-01"), "champion")
    stamps = ["1000-01-01", *(f"2024-01-01T00:00:{second}" for second in range(10, 59)), "2900-01-01"]
    series = [{"unique_id": "a", "ds": stamps, "y": [1, 2, 3] * 17}]
    with serving() as client:
        body = refused(client.post(request_body(model="seconds", series=series)), 422)
        assert "left out" in body["detail"]


def test_an_answer_that_would_be_too_large_is_refused(registry: Registry) -> None:
    registry.add("air", "1", baseline(), "champion")
    with serving(Settings(max_values=10)) as client:
        answered(client.post(request_body(horizon=3, levels=[80])))
        assert (
            "would hold 12 numbers"
            in refused(client.post(request_body(horizon=4, levels=[80])), 422)["detail"]
        )


def test_errors_are_bounded_and_never_echo_the_payload(client: Client) -> None:
    secret = "s3cr3t"
    series = [{"unique_id": f"{secret}{i}", "start": secret, "y": [secret]} for i in range(500)]
    body = refused(client.post(request_body(series=series)), 422)
    assert len(body["errors"]) == 20
    assert secret not in json.dumps(body)
    for changes in ({"model": secret * 50}, {"freq": secret}, {"levels": [secret]}, {"horizon": secret}):
        response = client.post(request_body(**changes))
        assert response.status_code in (404, 422)
        assert secret * 10 not in response.text
    long_name = {**request_body(), "x" * 100_000: 1}
    assert len(client.post(long_name).content) < 2000


def test_a_body_over_the_limit_is_413(registry: Registry) -> None:
    registry.add("air", "1", baseline(), "champion")
    with serving(Settings(max_body=2000)) as client:
        answered(client.post(request_body()))
        assert "2,000 bytes" in refused(client.post(b" " * 2001), 413)["detail"]
