"""The application around the forecasts: health, the list of models, problems of every route, the document."""

import asyncio
import json
from typing import Any

import pytest

from service.app import create_app
from service.errors import pointer
from service.manifest import Cache
from service.request_id import accepted_or_new
from service.settings import Settings
from tests.service.builders import Client, Registry, request_body, serving


def test_a_service_without_models_lives_and_says_that_it_is_not_ready() -> None:
    with serving() as client:
        assert client.get("/livez").status_code == 200
        ready = client.get("/readyz")
        assert (ready.status_code, ready.json()) == (503, {"status": "no model"})
        assert client.get("/v1/models").json() == {"models": []}
        missing = client.post(request_body())
        assert missing.status_code == 404
        assert "none is served yet" in missing.json()["detail"]
        assert not Cache.of().root.exists()


def test_a_service_with_models_is_ready_and_lists_them(client: Client) -> None:
    ready = client.get("/readyz")
    assert (ready.status_code, ready.json()) == (
        200,
        {"status": "ready", "models": [{"name": "air", "version": "2"}]},
    )
    assert client.get("/v1/models").json() == {
        "models": [
            {
                "name": "air",
                "version": "2",
                "aliases": ["champion"],
                "run_id": "run-air-2",
                "kind": "baseline",
                "freq": "MS",
                "season_length": 12,
                "horizon": 6,
                "max_horizon": 24,
                "min_context": 12,
                "context_length": 36,
                "trained_until": "2023-12-01T00:00:00",
                "accuracy": {},
                "calibration": {"num_windows": 200, "parametric_quantiles": []},
                "all_aliases": {"challenger": "1", "champion": "2"},
                "versions": ["1", "2"],
            }
        ]
    }


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/nothing", 404),
        ("GET", "/v1/forecasts/", 404),
        ("GET", "/docs/x", 404),
        ("GET", "/%ff%00", 404),
        ("GET", "/v1/forecasts", 405),
        ("PUT", "/v1/forecasts", 405),
        ("DELETE", "/v1/models", 405),
        ("POST", "/livez", 405),
    ],
)
def test_unknown_paths_and_methods_are_problems_too(
    client: Client, method: str, path: str, status: int
) -> None:
    response = client.request(method, path)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["instance"] == path
    assert ("allow" in response.headers) == (status == 405)


def test_what_nobody_expected_is_a_500_problem_without_details(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any) -> None:
        raise RuntimeError("secret of the implementation")

    monkeypatch.setattr("service.quick.answer", fail)
    response = client.post(request_body())
    assert response.status_code == 500
    assert response.headers["content-type"] == "application/problem+json"
    assert "secret" not in response.text
    assert response.json()["request_id"] == response.headers["x-request-id"]


def test_a_request_id_is_taken_over_when_it_is_plain(client: Client) -> None:
    assert client.get("/livez", headers={"x-request-id": "abc-1.2"}).headers["x-request-id"] == "abc-1.2"
    response = client.request("GET", "/nothing", headers={"x-request-id": "abc"})
    assert response.json()["request_id"] == "abc"


@pytest.mark.parametrize("sent", ["", "a b", "a\nb", "x" * 101, "<script>", "ä", 'a"b'])
def test_any_other_request_id_is_replaced(sent: str) -> None:
    assert accepted_or_new(sent) != sent
    assert len(accepted_or_new(sent)) == 32


def test_two_requests_have_two_ids(client: Client) -> None:
    first, second = (client.get("/livez").headers["x-request-id"] for _ in range(2))
    assert first != second


def test_pointers_are_escaped_and_bounded() -> None:
    assert pointer("series", 0, "a/b~c") == "/series/0/a~1b~0c"
    assert pointer("ä b") == "/%C3%A4%20b"
    assert len(pointer("x" * 1000)) < 100


def test_the_event_loop_is_free_while_numbers_are_made(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    import threading

    release = threading.Event()

    def slow(*arguments: Any) -> bytes:
        assert release.wait(10)
        return b"{}"

    monkeypatch.setattr("service.quick.answer", slow)

    async def ask() -> int:
        asking = asyncio.create_task(client.asynchronous.post("/v1/forecasts", json=request_body()))
        await asyncio.sleep(0.05)
        live = await client.asynchronous.get("/livez")
        release.set()
        await asking
        return live.status_code

    assert client.portal.call(ask) == 200


def test_the_document_names_what_each_route_takes_and_answers(client: Client) -> None:
    document = client.get("/openapi.json").json()
    post = document["paths"]["/v1/forecasts"]["post"]
    reference = post["requestBody"]["content"]["application/json"]["schema"]["$ref"]
    assert reference == "#/components/schemas/ForecastRequest"
    schemas = document["components"]["schemas"]
    request = schemas["ForecastRequest"]
    assert set(request["required"]) == {"model", "series"}
    assert request["additionalProperties"] is False
    assert request["properties"]["series"]["maxItems"] == 10_000
    assert schemas["SeriesIn"]["additionalProperties"] is False
    assert set(post["responses"]) == {
        *("200", "400", "401", "403", "404", "408", "413", "415", "422", "500", "503")
    }
    for status, response in post["responses"].items():
        assert ("application/problem+json" in response["content"]) == (status != "200")


def test_every_reference_of_the_document_leads_somewhere(client: Client) -> None:
    text = client.get("/openapi.json").text
    schemas = json.loads(text)["components"]["schemas"]
    for part in text.split('"$ref":"')[1:]:
        assert part.split('"')[0].rpartition("/")[2] in schemas


def test_the_documented_example_is_answered(client: Client) -> None:
    example = client.get("/openapi.json").json()["components"]["schemas"]["ForecastRequest"]["examples"][0]
    assert client.post({**example, "model": "air"}).status_code == 200


def test_the_docs_need_nothing_from_elsewhere(client: Client) -> None:
    page = client.get("/docs")
    assert page.status_code == 200
    assert "http://" not in page.text
    assert "https://" not in page.text
    assert "src=" not in page.text


def test_settings_come_from_the_environment_when_none_are_given(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORECAST_MAX_BODY", "1KiB")
    settings: Settings = create_app().state.settings
    assert settings.max_body == 1024
