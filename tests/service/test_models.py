"""Which version serves: swaps, bad versions, cold starts, and questions to the watcher."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import httpx
import numpy as np
import pytest
from filelock import FileLock

from forecast.errors import ArtifactError, NotFoundError
from service.app import create_app
from service.manifest import Cache, Manifest, Reference
from service.models import ModelStore
from service.settings import Settings
from tests.service.builders import Registry, baseline, request_body, running, serving


def store_of(registry: Registry, **settings: Any) -> ModelStore:
    """A store over this test's cache."""
    return ModelStore(Settings(**settings), registry.cache)


def served(store: ModelStore) -> dict[str, str]:
    """The champions by name."""
    return {name: champion.version for name, champion in store.snapshot.champions.items()}


@pytest.mark.parametrize(
    ("asked", "reference"),
    [
        ("air", Reference("air", "champion", None)),
        ("air@challenger", Reference("air", "challenger", None)),
        ("air/3", Reference("air", None, "3")),
        ("a/b/3", Reference("a/b", None, "3")),
        ("a@b@c", Reference("a@b", "c", None)),
        ("air/3@x", Reference("air/3", "x", None)),
    ],
)
def test_references_are_taken_apart(asked: str, reference: Reference) -> None:
    assert Reference.parse(asked) == reference


def test_a_new_champion_is_swapped_in_by_itself(registry: Registry) -> None:
    registry.add("air", "1", baseline("naive"), "champion")
    with serving() as client:
        assert client.post(request_body()).json()["model"]["version"] == "1"
        registry.add("air", "2", baseline(), "champion")
        client.portal.call(asyncio.sleep, 0.8)
        assert client.post(request_body()).json()["model"]["version"] == "2"


def test_a_name_without_champion_is_not_served_but_its_versions_are(registry: Registry) -> None:
    registry.add("air", "1", baseline("naive"), "challenger")
    with serving() as client:
        assert client.get("/readyz").status_code == 503
        assert client.post(request_body()).status_code == 404
        assert client.post(request_body(model="air/1")).status_code == 200
        assert client.post(request_body(model="air@challenger")).status_code == 200


def test_a_champion_that_is_taken_back_no_longer_answers(registry: Registry) -> None:
    registry.add("air", "1", baseline("naive"), "champion")
    with serving() as client:
        registry.write(aliases={"air": {}})
        client.portal.call(client.app.state.store.refresh)
        assert client.post(request_body()).status_code == 404


def test_a_damaged_version_leaves_the_good_one_serving_and_says_so(registry: Registry) -> None:
    registry.add("air", "1", baseline("naive"), "champion")
    with serving() as client:
        registry.add("air", "2", baseline(), "champion")
        (registry.cache.folder(registry.manifest.versions[1]) / "spec.json").write_text("{}")
        client.portal.call(client.app.state.store.refresh)
        assert client.post(request_body()).json()["model"]["version"] == "1"
        ready = client.get("/readyz")
        assert ready.status_code == 200
        assert ready.json()["models"] == [{"name": "air", "version": "1"}]
        assert "version 2 cannot be used" in ready.json()["problems"]["air"]
        assert client.post(request_body(model="air/2")).status_code == 503


def test_a_cold_start_falls_back_to_the_champion_before(registry: Registry) -> None:
    registry.add("air", "1", baseline("naive"), "champion")
    damaged = registry.add("air", "2", baseline(), "champion")
    (damaged / "weights.safetensors").unlink()
    registry.write(previous={"air": "1"})
    store = store_of(registry)
    asyncio.run(store.refresh())
    assert served(store) == {"air": "1"}
    assert "version 2 cannot be used" in store.snapshot.problems["air"]


def test_a_version_whose_answers_are_not_finite_does_not_serve(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.add("air", "1", baseline("naive"), "champion")
    monkeypatch.setattr(
        "forecast.models.forecaster.Forecaster._values",
        lambda self, batch, num_steps, *_: np.full((1, num_steps, 17), np.nan),
    )
    store = store_of(registry)
    asyncio.run(store.refresh())
    assert served(store) == {}
    assert "not finite" in store.snapshot.problems["air"]


@pytest.mark.parametrize("content", ["", "[]", "{", '{"format": 1, "versions": [{"name": "x"}]}', "null"])
def test_a_manifest_that_cannot_be_read_leaves_what_serves(registry: Registry, content: str) -> None:
    registry.add("air", "1", baseline("naive"), "champion")
    store = store_of(registry)
    asyncio.run(store.refresh())
    registry.cache.manifest_file.write_text(content)
    asyncio.run(store.refresh())
    assert served(store) == {"air": "1"}


def test_a_manifest_of_another_format_counts_as_none(registry: Registry) -> None:
    registry.cache.registry.mkdir(parents=True)
    registry.cache.manifest_file.write_text('{"format": 99}')
    assert registry.cache.read() == Manifest()


def test_only_a_few_versions_beside_the_champions_stay_in_memory(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.models.MAX_OTHERS", 2)
    for version in range(1, 6):
        registry.add("air", str(version), baseline("naive", max_horizon=10 + version))
    store = store_of(registry)

    async def ask_all() -> list[str]:
        await store.refresh()
        return [(await store.resolve(f"air/{version}"))[0].version for version in range(1, 6)]

    assert asyncio.run(ask_all()) == ["1", "2", "3", "4", "5"]
    assert len(store._others) == 2


def test_without_a_watcher_an_unknown_model_is_refused_at_once(registry: Registry) -> None:
    store = store_of(registry, lookup_seconds=60)
    with pytest.raises(NotFoundError, match="forecast retrain"):
        asyncio.run(store.resolve("air"))


@contextmanager
def watcher(cache: Cache, answer: Any) -> Iterator[list[Reference]]:
    """Something that holds the watcher's lock and answers questions by `answer(reference)`."""
    asked: list[Reference] = []
    stop = threading.Event()

    def run() -> None:
        with FileLock(cache.lock_file):
            ready.set()
            while not stop.wait(0.01):
                for question in cache.questions():
                    if reference := Reference.read(question.path):  # else it was withdrawn
                        asked.append(reference)
                        answer(reference)
                    question.settle()

    ready = threading.Event()
    cache.wanted.mkdir(parents=True)
    thread = threading.Thread(target=run)
    thread.start()
    ready.wait(5)
    try:
        yield asked
    finally:
        stop.set()
        thread.join()


def test_a_version_that_is_not_cached_is_fetched_by_the_watcher(registry: Registry) -> None:
    registry.add("air", "2", baseline(), "champion")

    def fetch(reference: Reference) -> None:
        if reference.version is not None:
            registry.add("air", "1", baseline("naive"))

    store = store_of(registry)

    async def ask() -> list[str]:
        await store.refresh()
        found = await asyncio.gather(*[store.resolve("air/1") for _ in range(20)])
        return [served.version for served, _ in found]

    with watcher(registry.cache, fetch) as asked:
        assert asyncio.run(ask()) == ["1"] * 20
    assert asked == [Reference(""), Reference("air", None, "1")]
    assert list(registry.cache.wanted.iterdir()) == []


def test_nothing_is_left_of_a_question_however_asking_and_answering_meet(registry: Registry) -> None:
    cache = registry.cache
    withdrawn_first = cache.ask(Reference("air"))
    (listed,) = cache.questions()
    withdrawn_first.withdraw()
    listed.settle()
    assert list(cache.wanted.iterdir()) == []
    settled_first = cache.ask(Reference("air"))
    cache.questions()[0].settle()
    assert settled_first.is_answered()
    assert cache.questions() == []
    settled_first.withdraw()
    assert list(cache.wanted.iterdir()) == []


def test_a_model_promoted_a_moment_ago_is_found(registry: Registry) -> None:
    with watcher(registry.cache, lambda _: registry.add("new", "1", baseline("naive"), "champion")):
        found, alias = asyncio.run(store_of(registry).resolve("new"))
    assert (found.name, alias) == ("new", "champion")


def test_the_first_request_waits_for_a_look_at_the_registry(registry: Registry) -> None:
    registry.add("air", "1", baseline("naive"), "champion")
    store = store_of(registry)

    async def ask_twice() -> list[str]:
        await store.start()
        found = [(await store.resolve("air"))[0].version for _ in range(2)]
        await store.stop()
        return found

    with watcher(registry.cache, lambda _: registry.add("air", "2", baseline(), "champion")) as asked:
        assert asyncio.run(ask_twice()) == ["2", "2"]
    assert asked == [Reference("")]


def test_a_watcher_that_does_not_answer_costs_a_bounded_wait(registry: Registry) -> None:
    store = store_of(registry, lookup_seconds=0.1)
    registry.cache.wanted.mkdir(parents=True)
    with FileLock(registry.cache.lock_file), pytest.raises(NotFoundError):
        asyncio.run(store.resolve("air"))
    assert list(registry.cache.wanted.iterdir()) == []


def test_swaps_under_load_lose_no_request_and_mix_no_versions(registry: Registry) -> None:
    versions = {"1": baseline("naive"), "2": baseline("drift"), "3": baseline()}
    for version, forecaster in versions.items():
        registry.add("air", version, forecaster, *(["champion"] if version == "1" else []))
    series = [
        {"unique_id": str(i), "start": "2020-01-01", "y": [float(v) for v in range(i, i + 40)]}
        for i in range(5)
    ]
    body = request_body(series=series)
    app = create_app(Settings(threads=4))

    async def answer(client: httpx.AsyncClient, model: str = "air") -> dict[str, Any]:
        response = await client.post("/v1/forecasts", json={**body, "model": model})
        assert response.status_code == 200, response.text
        content: dict[str, Any] = response.json()
        return content

    async def swap() -> None:
        for turn in range(12):
            registry.write(aliases={"air": {"champion": str(turn % 3 + 1)}})
            await app.state.store.refresh()
            await asyncio.sleep(0.02)

    async def load() -> None:
        async with running(app) as client:
            expected = {v: (await answer(client, f"air/{v}"))["forecasts"] for v in versions}
            swapping = asyncio.create_task(swap())
            seen = set()
            while not swapping.done():
                for content in await asyncio.gather(*[answer(client) for _ in range(8)]):
                    seen.add(content["model"]["version"])
                    assert content["forecasts"] == expected[content["model"]["version"]]
                    assert content["model"]["run_id"] == f"run-air-{content['model']['version']}"
            await swapping
            assert seen == {"1", "2", "3"}

    asyncio.run(load())


def test_a_copy_that_is_missing_is_an_artifact_error(registry: Registry) -> None:
    registry.add("air", "1", baseline(), "champion")
    copy = replace(registry.manifest.versions[0], digest="0" * 64)
    with pytest.raises(ArtifactError, match="missing or damaged"):
        store_of(registry)._load(copy)
