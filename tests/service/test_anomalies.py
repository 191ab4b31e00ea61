"""POST /v1/anomalies: values outside the model's calibrated intervals, each seen one step before."""

import json
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest

from forecast.series.forecast import between_levels
from service.anomalies import MAX_SCORE, normal_scores
from service.schemas import ANOMALY_EXAMPLE
from service.settings import Settings
from tests.service.builders import MONTHS, Client, Registry, baseline, serving
from tests.service.test_backtests import values
from tests.service.test_forecasts import refused as refused_at


def body(num_steps: int = MONTHS + 40, **changes: Any) -> dict[str, Any]:
    """A request for `air` with one value far off, after the training data."""
    y = values(num_steps)
    y[-5] += 300
    series = {"unique_id": "AP", "start": "2020-01-01", "y": y}
    return {"model": "air", "series": [series], **changes}


def ask(client: Client, sent: dict[str, Any]) -> dict[str, Any]:
    """The body of a 200."""
    response = client.request("POST", "/v1/anomalies", json=sent)
    assert response.status_code == 200, response.text
    content: dict[str, Any] = response.json()
    return content


def refused(client: Client, sent: dict[str, Any]) -> dict[str, Any]:
    """The body of a 422."""
    return refused_at(client.request("POST", "/v1/anomalies", json=sent), 422, instance="/v1/anomalies")


def test_a_value_far_off_is_found_and_scored(client: Client) -> None:
    (own,) = ask(client, body())["anomalies"]
    place = len(own["y"]) - 5
    assert own["anomaly"][place] is True
    assert own["score"][place] > 10
    assert max(range(len(own["score"])), key=lambda step: own["score"][step]) == place
    for step, flagged in enumerate(own["anomaly"]):
        assert flagged == (not own["lo-99"][step] <= own["y"][step] <= own["hi-99"][step])


def test_every_step_is_forecast_from_what_came_before_it(client: Client) -> None:
    sent = body(level=80)
    (own,) = ask(client, sent)["anomalies"]
    history = sent["series"][0]["y"]
    assert len(own["ds"]) == len(history) - 12
    for step in (0, 7, 40):
        alone = {"unique_id": "AP", "start": "2020-01-01", "y": history[: step + 12]}
        asked = {"model": "air", "horizon": 1, "levels": [80], "series": [alone]}
        forecast = client.post(asked).json()["forecasts"][0]
        assert own["ds"][step] == forecast["ds"][0]
        assert own["hi-80"][step] == pytest.approx(forecast["hi-80"][0], rel=1e-6)


def test_dates_of_the_training_are_marked_and_left_out_of_the_summary(client: Client) -> None:
    answer = ask(client, body())
    (own,) = answer["anomalies"]
    assert own["in_sample"] == [True] * (MONTHS - 12) + [False] * 40
    assert "in_sample" in own["notes"]
    summary = answer["summary"]
    assert (summary["num_values"], summary["num_in_sample"]) == (40, MONTHS - 12)
    assert summary["num_anomalies"] == sum(own["anomaly"][MONTHS - 12 :])
    assert summary["share"] == summary["num_anomalies"] / 40


def test_only_the_last_steps_are_judged_when_asked(client: Client) -> None:
    whole = ask(client, body())["anomalies"][0]
    (own,) = ask(client, body(last=10))["anomalies"]
    assert own["ds"] == whole["ds"][-10:]
    assert own["anomaly"] == whole["anomaly"][-10:]


@pytest.mark.parametrize(("written", "key"), [("99", "99"), ("95.50", "95.50"), ("8e1", "8e1")])
def test_the_keys_repeat_the_level_as_sent(client: Client, written: str, key: str) -> None:
    text = json.dumps(body(level="HERE")).replace('"HERE"', written)
    answer = client.request("POST", "/v1/anomalies", content=text.encode())
    assert {f"lo-{key}", f"hi-{key}"} < set(answer.json()["anomalies"][0])


def test_missing_values_are_not_judged(client: Client) -> None:
    sent = body()
    sent["series"][0]["y"][-3] = None
    answer = ask(client, sent)
    (own,) = answer["anomalies"]
    assert (own["y"][-3], own["anomaly"][-3], own["score"][-3]) == (None, None, None)
    assert answer["summary"]["num_values"] == 39


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"level": 0}, "#/level"),
        ({"level": 100}, "#/level"),
        ({"level": True}, "#/level"),
        ({"level": "99"}, "#/level"),
        ({"level": [99]}, "#/level"),
        ({"level": None}, "#/level"),
        ({"last": 0}, "#/last"),
        ({"horizon": 3}, "#/horizon"),
        ({"freq": "D"}, "#/freq"),
    ],
)
def test_what_makes_no_sense_is_refused_by_place(
    client: Client, changes: dict[str, Any], pointer: str
) -> None:
    assert refused(client, body(**changes))["errors"][0]["pointer"].startswith(pointer)


def test_more_steps_than_the_service_holds_are_refused(registry: Registry) -> None:
    registry.add("air", "1", baseline(), "champion")
    with serving(Settings(max_values=300)) as client:
        assert "may hold 300" in refused(client, body())["detail"]
        assert len(ask(client, body(last=5))["anomalies"][0]["ds"]) == 5


def test_the_documented_example_is_answered(client: Client) -> None:
    assert len(ask(client, {**ANOMALY_EXAMPLE, "model": "air"})["anomalies"][0]["ds"]) == 24


def test_scores_are_the_inverse_of_reading_quantiles() -> None:
    levels = np.array([0.05, 0.25, 0.5, 0.75, 0.95])
    values = np.array([[-3.0, -1.0, 0.0, 2.0, 7.0]])
    for q in (0.01, 0.1, 0.3, 0.5, 0.6, 0.9, 0.99):
        y = between_levels(levels, values, q)
        assert normal_scores(levels, values, y)[0] == pytest.approx(NormalDist().inv_cdf(q))


def test_a_forecast_without_width_is_scored_too() -> None:
    levels, values = np.array([0.1, 0.5, 0.9]), np.zeros((4, 3))
    scores = normal_scores(levels, values, np.array([0.0, 1.0, -1.0, np.nan]))
    assert abs(scores[0]) < 2
    assert scores[1:3].tolist() == [MAX_SCORE, -MAX_SCORE]
    assert np.isnan(scores[3])
