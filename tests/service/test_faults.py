"""MLflow slow, silent, dead, cut off or talking nonsense: what serves goes on, what is new comes later."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.manifest import Cache
from service.watcher import _SETTINGS, Watcher
from tests import servers
from tests.service.builders import Registered, baseline, request_body, serving
from tests.service.proxy import MODES, Proxy, proxy


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Iterator[servers.Mlflow]:
    """A real MLflow server."""
    folder = tmp_path_factory.mktemp("mlflow")
    shutil.copy(empty_database, folder / "server.db")
    with servers.mlflow_server(folder / "server", backend=f"sqlite:///{folder / 'server.db'}") as running:
        yield running


@pytest.fixture
def between(mlflow: servers.Mlflow, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """The proxy in front of it, which the watcher takes for MLflow."""
    for name, value in {**_SETTINGS, "MLFLOW_HTTP_REQUEST_TIMEOUT": "2"}.items():
        monkeypatch.setenv(name, value)
    host, port = mlflow.url.removeprefix("http://").split(":")
    with proxy((host, int(port))) as made:
        yield made


@pytest.mark.slow
@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "pass"])
def test_the_last_good_version_serves_through_a_fault_and_the_next_one_after_it(
    mlflow: servers.Mlflow, between: Proxy, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"air-{mode}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow.url)
    direct = Registered(location=None)
    direct.version(name, baseline("naive"), "champion")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", between.url)
    cache = Cache.of()
    cache.wanted.mkdir(parents=True)
    watcher = Watcher(cache)
    watcher.poll()
    before = cache.read()
    assert before.find(name, "1") is not None
    with serving() as client:
        assert client.post(request_body(model=name)).json()["model"]["version"] == "1"
        direct.version(name, baseline(), "champion")
        between.mode = mode
        begun = time.monotonic()
        watcher.poll()
        assert time.monotonic() - begun < 60
        assert client.post(request_body(model=name)).status_code == 200
        assert client.get("/readyz").status_code == 200
        if mode != "slow":
            assert cache.read().aliases == before.aliases
        between.mode = "pass"
        watcher.poll()
        client.portal.call(client.app.state.store.refresh)
        assert client.post(request_body(model=name)).json()["model"]["version"] == "2"


@pytest.mark.slow
def test_a_copy_that_breaks_off_is_not_served_and_is_made_later(
    mlflow: servers.Mlflow, between: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The aliases are seen, the files are not: the fault begins between the two."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow.url)
    direct = Registered(location=None)
    direct.version("broken-off", baseline("naive"), "champion")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", between.url)
    cache = Cache.of()
    cache.wanted.mkdir(parents=True)
    watcher = Watcher(cache)
    watcher.poll()
    direct.version("broken-off", baseline(), "champion")
    copy = Watcher._copy

    def cut_off(self: Watcher, name: str, version: str, created: int) -> object:
        between.mode = "cut"
        return copy(self, name, version, created)

    monkeypatch.setattr(Watcher, "_copy", cut_off)
    watcher.poll()
    assert "version 2 cannot be copied" in cache.read().problems["broken-off"]
    assert cache.read().find("broken-off", "2") is None
    assert not [path for path in cache.artifacts.iterdir() if path.name.startswith(".copying-")]
    with serving() as client:
        answer = client.post(request_body(model="broken-off"))
        assert answer.json()["model"]["version"] == "1"
        assert "cannot be copied" in client.get("/readyz").json()["problems"]["broken-off"]
    monkeypatch.setattr(Watcher, "_copy", copy)
    monkeypatch.setattr("service.watcher.RETRY_SECONDS", 0.0)
    between.mode = "pass"
    watcher._failed.clear()
    watcher.poll()
    assert cache.read().find("broken-off", "2") is not None
    assert cache.read().problems == {}
