"""The same retrain through a real MLflow server, over HTTP and with its own artifact store."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import requests

from pipelines import recipe as recipes
from pipelines import registry
from pipelines.retrain import retrain
from tests.pipelines.conftest import write_recipe

pytestmark = pytest.mark.slow


def free_port() -> int:
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture
def server(tmp_path: Path, empty_database: Path) -> Iterator[str]:
    """A server on a copy of the empty database that keeps artifacts itself."""
    port = free_port()
    (tmp_path / "server.db").write_bytes(empty_database.read_bytes())
    command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--port", str(port)]
    store = ["--backend-store-uri", f"sqlite:///{tmp_path / 'server.db'}"]
    artifacts = ["--artifacts-destination", str(tmp_path / "store")]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (tmp_path / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, *store, *artifacts], stdout=log, stderr=log, cwd=tmp_path, env=environment
        )
    try:
        yield wait_for(f"http://127.0.0.1:{port}", process, tmp_path / "server.log")
    finally:
        process.terminate()
        process.wait(timeout=20)


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> str:
    for _ in range(600):
        try:
            if requests.get(f"{url}/health", timeout=1).ok:
                return url
        except requests.RequestException:
            assert process.poll() is None, log.read_text()
            time.sleep(0.1)
    raise AssertionError(log.read_text())


def test_a_retrain_through_a_server_promotes_and_the_model_comes_back(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    recipe = recipes.load(str(write_recipe(tmp_path / "data")))
    first = retrain(recipe, say=lambda line: None)
    assert (first.verdict, first.model_version, first.tracking_uri) == ("promoted", "1", server)
    assert retrain(recipe, say=lambda line: None).run_id == first.run_id
    write_recipe(tmp_path / "data", num_days=130)
    assert retrain(recipe, say=lambda line: None).model_version == "2"
    assert {each.version: each.aliases for each in registry.versions("shop")} == {
        "1": ("previous",),
        "2": ("champion",),
    }
    assert registry.load(registry.find("shop")).info.trained_until == "2026-05-10T00:00:00"
    assert not (tmp_path / "home" / "mlflow.db").exists()
    assert any((tmp_path / "store").rglob("spec.json"))
