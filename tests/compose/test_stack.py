"""The box without containers: everything comes up, a champion is trained and served, and all of it stops."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest

from tests import servers
from tests.contract.test_imports import ROOT
from tests.pipelines.conftest import write_recipe

pytestmark = [pytest.mark.slow, pytest.mark.postgres]


@contextmanager
def stack(folder: Path, recipe: Path) -> Iterator[dict[str, str]]:
    """`make stack` until the block ends; afterwards nothing of it may be left."""
    servers.postgres_programs()
    process = subprocess.Popen(
        [sys.executable, ROOT / "scripts/stack.py", recipe, "--folder", folder, "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        line = process.stdout.readline()
        assert line, process.stderr.read()
        urls = json.loads(line)
        running = psutil.Process(process.pid).children(recursive=True)
        yield urls
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, (out, err)
        assert psutil.wait_procs(running, timeout=5)[1] == []
        assert not any(listens(url) for name, url in urls.items() if name != "folder")
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=60)


def listens(url: str) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", urlsplit(url).port or 0)) == 0


def get(url: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def until(found: Callable[[], Any], seconds: float = 120) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if result := found():
            return result
        time.sleep(0.2)
    raise AssertionError("it did not happen in time")


def forecast(urls: dict[str, str]) -> Any:
    series = {"unique_id": "north", "start": "2026-01-01", "y": [float(10 * (i % 7)) for i in range(56)]}
    return get(f"{urls['service']}/v1/forecasts", {"model": "shop", "horizon": 7, "series": [series]})


@pytest.fixture
def folder() -> Iterator[Path]:
    with servers.reachable_folder() as made:
        yield made


@pytest.mark.timeout(600)
def test_the_stack_trains_and_serves_stops_and_has_kept_everything(folder: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path / "data")
    with stack(folder, recipe) as urls:
        until(lambda: get(f"{urls['service']}/v1/models")["models"])
        first = forecast(urls)
        assert first["model"]["version"] == "1"
        status = until(lambda: finished(urls))
        assert (status["last_verdict"], status["model_version"]) == ("promoted", "1")
        assert champion_by_command(urls) == "1"
    with stack(folder, recipe) as urls:
        until(lambda: get(f"{urls['service']}/v1/models")["models"])
        assert forecast(urls)["forecasts"] == first["forecasts"]
        time.sleep(3)  # long enough for a retrain to be noticed that should not begin
        assert (finished(urls) or {}).get("last_run") == status["last_run"]


def finished(urls: dict[str, str]) -> dict[str, Any] | None:
    """What the scheduler says of its recipe; None while a run goes on."""
    (row,) = get(f"{urls['scheduler']}/status")["recipes"]
    return None if row["running_since"] or not row["last_verdict"] else row


def champion_by_command(urls: dict[str, str]) -> str:
    """The champion as a developer asks for it beside the stack."""
    done = subprocess.run(
        [Path(sys.executable).with_name("forecast"), "history", "shop", "--json"],
        env={**os.environ, "MLFLOW_TRACKING_URI": urls["mlflow"], "FORECAST_HOME": f"{urls['folder']}/home"},
        capture_output=True,
        text=True,
        check=True,
    )
    return str(json.loads(done.stdout)["champion"])


def test_a_folder_that_cannot_be_used_is_told_in_one_line(tmp_path: Path) -> None:
    servers.postgres_programs()
    (tmp_path / "file").write_text("")
    done = subprocess.run(
        [sys.executable, ROOT / "scripts/stack.py", "--folder", tmp_path / "file"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1
