"""The dashboard and the alerts ask for figures that the service and the scheduler really have."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.contract.test_imports import ROOT
from tests.service.builders import Registry, baseline, request_body, serving

DASHBOARD = json.loads((ROOT / "deploy/grafana/dashboards/forecast.json").read_text())
ALERTS = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text())
LIVE: dict[str, float | None] = {"wql": 0.2, "coverage_80": 0.7, "num_values": 120}
OF_PROMETHEUS = {"up": {"job", "instance"}}


def panels() -> list[dict[str, Any]]:
    return [each for each in DASHBOARD["panels"] if each["type"] != "row"]


def expressions() -> Iterator[str]:
    """Every question that is asked of Prometheus."""
    yield from (target["expr"] for panel in panels() for target in panel["targets"])
    yield from (rule["expr"] for group in ALERTS["groups"] for rule in group["rules"])


def samples(text: str) -> dict[str, set[str]]:
    """The names of the samples in an answer of /metrics, with their labels."""
    found: dict[str, set[str]] = {}
    for kind, name in re.findall(r"^# TYPE (\w+) (\w+)$", text, re.MULTILINE):
        endings = ("_bucket", "_sum", "_count") if name == "histogram" else ("",)
        found |= {kind + ending: set() for ending in endings}
    for name, labels in re.findall(r"^(\w+)(?:\{(.*)\})? \S+$", text, re.MULTILINE):
        found.setdefault(name, set()).update(re.findall(r'(\w+)="', labels))
    return found


@pytest.fixture
def known(tmp_path: Path) -> dict[str, set[str]]:
    """What the service and the scheduler say after an answer and a retrain."""
    return {**OF_PROMETHEUS, **samples(of_service()), **samples(of_scheduler())}


def of_service() -> str:
    registry = Registry()
    registry.add("air", "1", baseline(), "champion")
    (copy,) = registry.manifest.versions
    registry.write(versions=(replace(copy, metrics={"wql": 0.1, "mase": None}, live=LIVE),))
    with serving() as client:
        assert client.post(request_body(model="air")).status_code == 200
        return str(client.get("/metrics").text)


def of_scheduler() -> str:
    from pipelines import health, recipe, schedule
    from pipelines.schedule_state import State

    scheduler = schedule.Scheduler(
        schedule.tasks({"air_passengers": recipe.load("air_passengers")}), parallel=1, say=print
    )
    (runner,) = scheduler.runners
    runner.counts["promoted"] += 1
    runner.state = State(started=1.0, succeeded=2.0, duration_seconds=1.0, verdict="promoted")
    scheduler._plan(runner)
    return health._answer(scheduler, "/metrics")[2].decode()


def test_every_figure_that_is_asked_for_is_there(known: dict[str, set[str]]) -> None:
    asked = [name for each in expressions() for name in re.findall(r"\b(?:forecast_\w+|up)\b", each)]
    assert len(set(asked)) > 15
    assert set(asked) - set(known) == set()


def test_labels_that_are_asked_for_are_those_of_the_figures(known: dict[str, set[str]]) -> None:
    num_checked = 0
    for expression in expressions():
        for name, selector in re.findall(r"\b(forecast_\w+|up)\{([^}]*)\}", expression):
            labels = set(re.findall(r'(\w+)\s*(?:=~|!~|!=|=)\s*"', selector))
            assert labels <= known[name], f"{name} has the labels {known[name]}: {expression}"
            num_checked += len(labels)
    assert num_checked > 8


def test_the_accuracy_of_what_serves_is_a_figure(known: dict[str, set[str]]) -> None:
    text = of_service()
    assert 'forecast_model_accuracy{metric="wql",model="air",version="1"} 0.1' in text
    assert 'forecast_model_accuracy{metric="live_coverage_80",model="air",version="1"} 0.7' in text
    assert 'metric="mase"' not in text


def test_the_dashboard_shows_what_an_operator_asks_for() -> None:
    rows = {each["title"] for each in DASHBOARD["panels"] if each["type"] == "row"}
    assert rows >= {"Traffic and latency", "Queue", "Versions", "Accuracy", "Retraining"}
    for panel in panels():
        assert panel["targets"], panel["title"]
        assert panel["description"], panel["title"]
        assert panel["datasource"]["uid"] == "prometheus"
    ids = [each["id"] for each in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)


def test_grafana_is_given_the_data_source_that_the_dashboard_names() -> None:
    text = (ROOT / "deploy/grafana/provisioning/datasources/prometheus.yml").read_text()
    (source,) = yaml.safe_load(text)["datasources"]
    assert (source["uid"], source["type"]) == ("prometheus", "prometheus")


def test_what_somebody_should_know_of_raises_an_alert() -> None:
    rules = {rule["alert"]: rule for group in ALERTS["groups"] for rule in group["rules"]}
    assert rules.keys() >= {"NoSuccessfulRetrain", "ErrorRate", "CoverageOff", "QueueFull"}
    for rule in rules.values():
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"].keys() >= {"summary", "description"}
