"""POST /v1/backtests: rolling origins over posted histories, judged on what the model did not see."""

import json
from typing import Any

import numpy as np
import pytest

from forecast.evaluation.backtest import backtest
from forecast.models.forecaster import Forecaster
from forecast.series.panel import Panel
from service.schemas import BACKTEST_EXAMPLE
from service.settings import Settings
from tests.service.builders import MONTHS, Client, Registry, baseline, network, panel, serving
from tests.service.test_forecasts import refused as refused_at


def values(num_steps: int) -> list[float]:
    """A trend with a season and a little noise that never repeats."""
    steps = np.arange(num_steps)
    season = 10 * np.sin(2 * np.pi * steps / 12)
    return [
        round(float(v), 3) for v in 100 + steps + season + np.random.default_rng(0).normal(size=num_steps)
    ]


def body(num_steps: int = MONTHS + 40, **changes: Any) -> dict[str, Any]:
    """A request for `air` whose history goes on after the training data."""
    series = {"unique_id": "AP", "start": "2020-01-01", "y": values(num_steps)}
    return {"model": "air", "horizon": 6, "num_windows": 3, "series": [series], **changes}


def ask(client: Client, sent: dict[str, Any]) -> dict[str, Any]:
    """The body of a 200."""
    response = client.request("POST", "/v1/backtests", json=sent)
    assert response.status_code == 200, response.text
    content: dict[str, Any] = response.json()
    return content


def refused(client: Client, sent: dict[str, Any]) -> dict[str, Any]:
    """The body of a 422."""
    response = client.request("POST", "/v1/backtests", json=sent)
    assert response.json()["instance"] == "/v1/backtests"
    return refused_at(response, 422, instance="/v1/backtests")


def test_windows_are_the_forecasts_of_their_cutoffs(client: Client) -> None:
    sent = body(stride=4, levels=[80])
    answer = ask(client, sent)
    (own,) = answer["backtests"]
    history = sent["series"][0]["y"]
    assert (answer["horizon"], answer["stride"], answer["num_windows"]) == (6, 4, 3)
    assert [len(window["ds"]) for window in own["windows"]] == [6, 6, 6]
    for window, seen in zip(own["windows"], (74, 78, 82), strict=True):
        alone = {"model": "air", "horizon": 6, "levels": [80]}
        alone["series"] = [{"unique_id": "AP", "start": "2020-01-01", "y": history[:seen]}]
        forecast = client.post(alone).json()["forecasts"][0]
        assert window["ds"] == forecast["ds"]
        assert window["y"] == history[seen : seen + 6]
        for key in ("median", "lo-80", "hi-80"):
            assert window[key] == pytest.approx(forecast[key], rel=1e-6)


def test_the_metrics_are_those_of_the_library(client: Client) -> None:
    sent = body(levels=[80, 95])
    answer = ask(client, sent)
    history = Panel.from_arrays(["AP"], [sent["series"][0]["y"]], starts=["2020-01-01"], freq="MS")
    expected = backtest(baseline(), history, num_windows=3, baselines=()).metrics
    for name in ("mae", "rmse", "smape", "mase", "wql"):
        assert answer["metrics"][name] == pytest.approx(expected[name], rel=1e-6), name
    assert answer["metrics"]["coverage"]["80"] == pytest.approx(expected["coverage_80"])
    assert answer["metrics"]["num_values"] == 18
    assert answer["backtests"][0]["metrics"] == answer["metrics"]


def test_dates_of_the_training_are_marked_and_count_in_no_metric(client: Client) -> None:
    answer = ask(client, body(MONTHS + 3, num_windows=2, horizon=6))
    (own,) = answer["backtests"]
    assert own["windows"][0]["in_sample"] == [True] * 6
    assert own["windows"][1]["in_sample"] == [True] * 3 + [False] * 3
    assert answer["metrics"]["num_values"] == 3
    last = own["windows"][1]
    errors = np.abs(np.array(last["y"]) - np.array(last["median"]))[3:]
    assert answer["metrics"]["mae"] == pytest.approx(errors.mean(), rel=1e-6)
    assert "in_sample" in own["notes"]


def test_where_nothing_counts_metrics_are_null(client: Client) -> None:
    answer = ask(client, body(MONTHS, num_windows=2))
    metrics = answer["metrics"]
    assert metrics["num_values"] == 0
    assert [metrics[name] for name in ("mae", "mase", "wql")] == [None] * 3
    assert metrics["coverage"] == {"80": None, "95": None}


def test_a_series_that_may_have_been_trained_on_says_so(client: Client) -> None:
    sent = body(MONTHS)
    sent["series"][0] |= {"unique_id": "another", "y": [v**1.5 for v in values(MONTHS)]}
    (own,) = ask(client, sent)["backtests"]
    assert "may_be_in_sample" in own["notes"]
    assert "in_sample" not in own["notes"]


def test_a_series_after_the_training_has_no_such_note(client: Client) -> None:
    (own,) = ask(client, body())["backtests"]
    assert own["notes"] == ["baseline:seasonal_naive"]


def test_missing_values_are_null_and_do_not_count(client: Client) -> None:
    sent = body(num_windows=1)
    sent["series"][0]["y"][-2] = None
    answer = ask(client, sent)
    assert answer["backtests"][0]["windows"][0]["y"][-2] is None
    assert answer["metrics"]["num_values"] == 5


def test_cutoffs_with_too_little_history_are_left_out_and_noted(client: Client) -> None:
    sent = body(num_windows=100, stride=1)
    short = {"unique_id": "short", "start": "2024-06-01", "y": values(19)}
    sent["series"].append(short)
    own = ask(client, sent)["backtests"]
    assert [len(each["windows"]) for each in own] == [MONTHS + 40 - 6 - 12 + 1, 2]
    assert all("fewer_windows" in each["notes"] for each in own)
    assert own[1]["windows"][0]["cutoff"] == "2025-05-01T00:00:00"


def test_a_later_value_changes_no_earlier_window(client: Client) -> None:
    sent = body()
    before = ask(client, sent)["backtests"][0]["windows"]
    sent["series"][0]["y"][-7:] = [10_000.0] * 7
    after = ask(client, sent)["backtests"][0]["windows"]
    assert [each["median"] for each in before[:2]] == [each["median"] for each in after[:2]]
    assert before[2]["median"] != after[2]["median"]


def test_known_covariates_of_the_history_are_used_beyond_the_cutoff(registry: Registry) -> None:
    forecaster = with_price()
    registry.add("air", "1", forecaster, "champion")
    price = [float(step % 7) for step in range(MONTHS + 40)]
    sent = body(num_windows=1)
    sent["series"][0]["known"] = {"price": price}
    with serving() as client:
        window = ask(client, sent)["backtests"][0]["windows"][0]
        alone = {"unique_id": "AP", "start": "2020-01-01", "y": values(MONTHS + 40)[:-6]}
        asked = {"model": "air", "horizon": 6, "series": [{**alone, "known": {"price": price}}]}
        assert window["median"] == pytest.approx(client.post(asked).json()["forecasts"][0]["median"])
        sent["series"][0]["known"] = {"price": price[:-1]}
        assert refused(client, sent)["errors"][0]["pointer"] == "#/series/0/known/price"


def with_price() -> Forecaster:
    """A tiny network that reads a known covariate."""
    prices = [{"price": [float(step % 7) for step in range(MONTHS + 6)]}]
    y = panel().y(0)
    trained_on = Panel.from_arrays(["AP"], [y], starts=["2020-01-01"], freq="MS", known=prices)
    return network(trained_on, known=("price",))


def test_integer_time_and_zones_are_answered_as_they_came(registry: Registry) -> None:
    registry.add("steps", "1", baseline("naive", freq=1, start=0), "champion")
    registry.add("air", "1", baseline(), "champion")
    with serving() as client:
        series = [{"unique_id": "a", "start": 100, "y": values(40)}]
        window = ask(client, body(model="steps", series=series, num_windows=1))["backtests"][0]["windows"][0]
        assert (window["cutoff"], window["ds"][0]) == (133, 134)
        series = [{"unique_id": "a", "start": "2024-01-01T00:00:00+02:00", "y": values(40)}]
        window = ask(client, body(series=series, num_windows=1))["backtests"][0]["windows"][0]
        assert window["cutoff"] == "2026-10-01T00:00:00+02:00"


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"num_windows": 0}, "#/num_windows"),
        ({"num_windows": 10**9}, "#/num_windows"),
        ({"num_windows": 1.5}, "#/num_windows"),
        ({"num_windows": True}, "#/num_windows"),
        ({"stride": 0}, "#/stride"),
        ({"stride": 10**30}, "#/stride"),
        ({"horizon": 25}, "#/horizon"),
        ({"horizon": 10**9}, "#/horizon"),
        ({"levels": []}, "#/levels"),
        ({"levels": [100]}, "#/levels/0"),
        ({"levels": None}, "#/levels"),
        ({"freq": "h"}, "#/freq"),
        ({"quantiles": [0.5]}, "#/quantiles"),
        ({"series": []}, "#/series"),
    ],
)
def test_what_makes_no_sense_is_refused_by_place(
    client: Client, changes: dict[str, Any], pointer: str
) -> None:
    problem = refused(client, body(**changes))
    assert problem["errors"][0]["pointer"] == pointer


def test_histories_too_short_for_one_window_name_the_need(client: Client) -> None:
    assert "12 observed values" in refused(client, body(17))["detail"]
    missing = body()
    missing["series"][0]["y"] = [None] * 50
    assert "missing" in refused(client, missing)["detail"]


def test_more_windows_than_the_service_holds_are_refused(registry: Registry) -> None:
    registry.add("air", "1", baseline(), "champion")
    with serving(Settings(max_values=300)) as client:
        assert "may hold 300" in refused(client, body())["detail"]
        assert ask(client, body(num_windows=1))["metrics"]["num_values"] == 6


def test_the_documented_example_is_answered(client: Client) -> None:
    document = client.get("/openapi.json").json()
    assert document["components"]["schemas"]["BacktestRequest"]["examples"] == [BACKTEST_EXAMPLE]
    assert ask(client, json.loads(json.dumps({**BACKTEST_EXAMPLE, "model": "air"})))["horizon"] == 6
