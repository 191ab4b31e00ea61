"""What operators and clients see beside forecasts: figures, health, one model in full."""

import asyncio
import json
import logging
import threading
from typing import Any

import pytest

from service.batching import Batcher
from service.errors import Problem
from service.keys import create_key
from service.logs import JsonFormatter
from service.metrics import route_of
from service.settings import Settings
from service.watcher import read_metrics
from tests.service.builders import Client, Registry, baseline, request_body, serving


def test_the_figures_count_requests_batches_and_models(registry: Registry) -> None:
    registry.add("air", "1", baseline(), "champion")
    with serving() as client:
        for _ in range(3):
            client.post(request_body())
        client.post(b"{")
        text = client.get("/metrics").text
    labels = 'model="air",route="/v1/forecasts",status="200",version="1"'
    assert f"forecast_requests_total{{{labels}}} 3.0" in text
    assert 'forecast_requests_total{model="",route="/v1/forecasts",status="400",version=""} 1.0' in text
    assert 'forecast_request_seconds_count{model="air",route="/v1/forecasts",version="1"} 3.0' in text
    assert "forecast_model_loads_total 1.0" in text
    assert 'forecast_model_info{model="air",version="1"} 1.0' in text
    assert "forecast_batch_rows_sum 3.0" in text
    assert 'forecast_queue_rows{lane="small"} 0.0' in text


def test_callers_cannot_make_labels() -> None:
    assert route_of("/v1/models/anything/at/all") == "/v1/models/{name}"
    assert route_of("/secret") == "other"


def test_an_answer_says_how_long_it_took(client: Client) -> None:
    assert client.post(request_body()).headers["server-timing"].startswith("total;dur=")


def test_the_process_says_that_it_has_looked(client: Client) -> None:
    assert client.get("/startupz").json() == {"status": "started"}


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/v1/models", "/docs"])
def test_head_is_answered_like_get_without_a_body(client: Client, path: str) -> None:
    got, head = client.get(path), client.request("HEAD", path)
    assert (head.status_code, head.content) == (got.status_code, b"")
    assert head.headers["content-length"] == got.headers["content-length"]


def test_one_model_is_shown_in_full(client: Client) -> None:
    found = client.get("/v1/models/air").json()
    assert (found["version"], found["min_context"], found["context_length"]) == ("2", 12, 36)
    assert found["all_aliases"] == {"challenger": "1", "champion": "2"}
    assert found["versions"] == ["1", "2"]
    assert found["calibration"]["num_windows"] == 200
    assert client.get("/v1/models/air@challenger").json()["version"] == "1"
    assert client.get("/v1/models/air?version=1").json()["aliases"] == ["challenger"]
    assert client.get("/v1/models/nothing").status_code == 404


@pytest.mark.parametrize(
    ("tags", "metrics"),
    [
        ({"forecast.metrics": '{"mae": 1.5, "mase": null, "x": "y"}'}, {"mae": 1.5, "mase": None}),
        ({"forecast.metrics": "[1]"}, {}),
        ({"forecast.metrics": "{"}, {}),
        ({}, {}),
    ],
)
def test_the_accuracy_is_what_the_registry_keeps(tags: dict[str, str], metrics: dict[str, Any]) -> None:
    assert read_metrics(tags) == metrics


def test_a_full_queue_holds_and_refuses_and_then_takes_again() -> None:
    """Rows are bounded: who comes too much is told when to come again, who was taken is answered."""
    release = threading.Event()

    def work(many: Any) -> list[int]:
        release.wait(10)
        return [len(many)] * len(many)

    async def scenario() -> None:
        batcher = Batcher(Settings(queue_rows=4, hold_seconds=0.05))
        batcher.start()
        taken = [asyncio.create_task(batcher.submit(work, 0, rows=1, key="k")) for _ in range(4)]
        await asyncio.sleep(0.02)
        with pytest.raises(Problem) as refused:
            await batcher.submit(work, 0, rows=1, key="k")
        assert (refused.value.status, dict(refused.value.headers)) == (503, {"Retry-After": "1"})
        release.set()
        assert all(await asyncio.gather(*taken))
        assert await batcher.submit(work, 0, rows=1, key="k") == 1
        assert batcher.queued_rows == {"small": 0, "bulk": 0}
        batcher.stop()

    asyncio.run(scenario())


def test_who_waits_beyond_the_deadline_is_told_and_who_is_gone_is_forgotten() -> None:
    release = threading.Event()
    computed: list[Any] = []

    def work(many: Any) -> list[None]:
        release.wait(10)
        computed.extend(many)
        return [None] * len(many)

    async def is_gone() -> bool:
        return True

    async def is_there() -> bool:
        return False

    async def scenario() -> None:
        batcher = Batcher(Settings(request_seconds=0.3))
        batcher.start()
        first = asyncio.create_task(batcher.submit(work, "first", rows=1, key="a"))
        await asyncio.sleep(0.05)
        gone = asyncio.create_task(batcher.submit(work, "gone", rows=1, key="b", is_gone=is_gone))
        late = asyncio.create_task(batcher.submit(work, "late", rows=1, key="b", is_gone=is_there))
        with pytest.raises(Problem):
            await late
        assert isinstance(gone.exception(), Problem)
        release.set()
        await first
        batcher.stop()

    asyncio.run(scenario())
    assert computed == ["first"]


def test_large_bodies_have_their_own_places(registry: Registry) -> None:
    """While they are taken, a further one is told when to come again, and small requests are answered."""
    registry.add("air", "1", baseline(), "champion")
    series = request_body()["series"][0]
    many = request_body(series=[{**series, "unique_id": f"s{index}"} for index in range(400)])
    with serving(Settings(bulk_requests=1, hold_seconds=0.05)) as client:
        places = client.app.state.parts.bulk
        client.portal.call(places.acquire)
        refused = client.post(many)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert client.post(request_body()).status_code == 200
        client.portal.call(places.release)
        assert len(client.post(many).json()["forecasts"]) == 400


@pytest.mark.parametrize("path", ["/v1/forecasts", "/v2/forecast", "/v1/models"])
def test_who_is_not_let_in_is_counted_timed_and_logged_too(
    registry: Registry, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    create_key("somebody else")
    with caplog.at_level(logging.INFO, "service.requests"), serving(Settings(log_format="json")) as client:
        refused = client.request("GET" if path == "/v1/models" else "POST", path, json={})
        assert refused.status_code == 401
        figures = client.app.state.metrics.text().decode()
    assert refused.headers["server-timing"].startswith("total;")
    assert f'forecast_requests_total{{model="",route="{path}",status="401",version=""}} 1.0' in figures
    (line,) = [each for each in caplog.records if each.name == "service.requests"]
    assert (line.route, line.status) == (path, 401)  # type: ignore[attr-defined]


def test_a_machine_reads_one_json_object_for_each_request(
    registry: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    registry.add("air", "1", baseline(), "champion")
    with caplog.at_level(logging.INFO, "service.requests"), serving(Settings(log_format="json")) as client:
        client.post(request_body(), headers={"X-Request-ID": "mine"})
    record = next(each for each in caplog.records if each.name == "service.requests")
    line = json.loads(JsonFormatter().format(record))
    assert (line["request_id"], line["route"], line["status"]) == ("mine", "/v1/forecasts", 200)
    assert (line["model"], line["version"]) == ("air", "1")
