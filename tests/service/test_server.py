"""The real process: `forecast serve` over a real socket, beside a real registry, until it is told to stop."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from forecast import home
from forecast.errors import ForecastError
from service.server import address, listen
from tests.service.builders import Registered, baseline, request_body


@pytest.fixture(scope="session")
def command() -> list[str]:
    """The console script beside the interpreter that runs the tests."""
    return [str(Path(sys.executable).with_name("forecast"))]


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine may need long to import MLflow."""
    monkeypatch.setenv("FORECAST_LOOKUP_SECONDS", "90")


class Service:
    """A running `forecast serve`."""

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self.process = process
        self.client = httpx.Client(base_url=url, timeout=100)

    def children(self) -> list[psutil.Process]:
        """The processes it started."""
        found: list[psutil.Process] = psutil.Process(self.process.pid).children(recursive=True)
        return found

    def until(self, what: Any, *, seconds: float = 100) -> Any:
        """The first true answer of `what()`."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if found := what():
                return found
            time.sleep(0.05)
        raise AssertionError("it did not happen in time")

    def version(self) -> str | None:
        """The version that answers for `air`, or None."""
        response = self.client.post("/v1/forecasts", json=request_body())
        return str(response.json()["model"]["version"]) if response.status_code == 200 else None


@contextmanager
def started(command: list[str], *flags: str) -> Iterator[Service]:
    """`forecast serve` on a free port; killed at the end if it still runs."""
    process = subprocess.Popen(
        [*command, "serve", "--port", "0", "--poll-seconds", "0.2", *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("serving on http://127.0.0.1:"), process.stderr and process.stderr.read()
        service = Service(process, line.split()[-1])
        with service.client:
            yield service
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=20)


def gone(processes: list[psutil.Process]) -> bool:
    """Whether none of them runs any more."""
    return not psutil.wait_procs(processes, timeout=10)[1]


def test_it_serves_a_champion_follows_the_alias_and_stops_cleanly(
    registered: Registered, command: list[str]
) -> None:
    registered.version("air", baseline("naive"), "champion")
    with started(command) as service:
        assert service.client.get("/livez").status_code == 200
        assert service.version() == "1"  # the request waits for the watcher's first look
        assert service.client.get("/readyz").json()["models"] == [{"name": "air", "version": "1"}]
        registered.version("air", baseline(), "champion")
        service.until(lambda: service.version() == "2")
        registered.version("air", baseline("drift"))
        asked = service.client.post("/v1/forecasts", json=request_body(model="air/3")).json()
        assert asked["model"]["version"] == "3"
        missing = service.client.post("/v1/forecasts", json=request_body(model="air/4"))
        assert missing.status_code == 404
        children = service.children()
        assert len(children) == 1
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(20) == 0
        assert gone(children)
        registered.client.set_registered_model_alias("air", "champion", "3")
    with started(command) as service:
        assert service.version() == "3"  # and not what the cache still says
    home.database_file().unlink()
    with started(command) as service:  # a cold start from the last good copies
        assert service.version() == "3"


def test_an_empty_home_is_served_without_making_a_database(command: list[str]) -> None:
    with started(command) as service:
        assert service.client.get("/readyz").json() == {"status": "no model"}
        assert service.client.post("/v1/forecasts", json=request_body()).status_code == 404
        (watcher,) = service.children()
        watcher.kill()  # the service starts another
        service.until(lambda: [child for child in service.children() if child != watcher])
        children = service.children()
        service.process.send_signal(signal.SIGINT)
        assert service.process.wait(20) == 0
        assert gone(children)
    assert not home.database_file().exists()


def test_bodies_over_the_limit_are_413_and_a_killed_service_leaves_no_watcher(
    command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORECAST_MAX_BODY", "100k")
    with started(command) as service:
        plain = service.client.post("/v1/forecasts", content=b" " * 2**21)
        assert (plain.status_code, plain.json()["status"]) == (413, 413)
        chunked = service.client.post("/v1/forecasts", content=iter([b" " * 2**16] * 32))
        assert chunked.status_code == 413
        assert service.client.post("/v1/forecasts", content=iter([b"{", b"}"])).status_code == 422
        host, port = service.client.base_url.host, service.client.base_url.port
        assert port
        head = b"POST /v1/forecasts HTTP/1.1\r\nHost: x\r\n"
        expecting = head + b"Content-Length: 9999999\r\nExpect: 100-continue\r\n\r\n"
        assert b" 413 " in spoken(host, port, expecting)
        lying = head + b"Content-Length: 5\r\n\r\n" + b" " * 20
        assert b" 400 " in spoken(host, port, lying)
        hanging = head + b"Content-Length: 50\r\n\r\n{"
        spoken(host, port, hanging, close=True)
        assert service.client.get("/livez").status_code == 200
        children = service.children()
        service.process.kill()
        service.process.wait(10)
        assert gone(children)


def spoken(host: str, port: int, request: bytes, *, close: bool = False) -> bytes:
    """What comes back first for raw bytes."""
    with socket.create_connection((host, port), timeout=20) as connection:
        connection.sendall(request)
        return b"" if close else connection.recv(4096)


def test_several_workers_share_the_port_are_started_again_and_stop_cleanly(
    registered: Registered, command: list[str]
) -> None:
    registered.version("air", baseline("naive"), "champion")
    with started(command, "--workers", "2") as service:
        assert len(workers_of(service)) == 2
        assert all(asked_anew(service) == 200 for _ in range(20))
        counted = 'forecast_requests_total{model="air",route="/v1/forecasts",status="200",version="1"} 20.0'
        assert counted in service.client.get("/metrics").text
        assert "forecast_workers 2.0" in service.client.get("/metrics").text
        killed = workers_of(service)[0]
        killed.kill()
        service.until(lambda: killed not in workers_of(service) and len(workers_of(service)) == 2)
        assert all(asked_anew(service) == 200 for _ in range(20))
        assert counted.replace("20.0", "40.0") in httpx.get(service.client.base_url.join("/metrics")).text
        registered.version("air", baseline(), "champion")
        service.until(lambda: service.version() == "2")
        children = service.children()
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(30) == 0
        assert gone(children)


def test_a_killed_supervisor_leaves_no_worker(command: list[str]) -> None:
    with started(command, "--workers", "2") as service:
        children = service.children()
        assert len(children) == 3
        service.process.kill()
        assert gone(children)


def test_a_stop_says_that_it_is_not_ready_and_still_answers_for_a_while(
    registered: Registered, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORECAST_DRAIN_SECONDS", "1.5")
    registered.version("air", baseline("naive"), "champion")
    with started(command) as service:
        assert service.version() == "1"
        service.process.send_signal(signal.SIGTERM)
        service.until(lambda: service.client.get("/readyz").status_code == 503)
        assert service.client.get("/readyz").json() == {"status": "stopping"}
        assert asked_anew(service) == 200
        assert service.process.wait(20) == 0


@pytest.mark.slow
def test_promotions_under_load_lose_no_request_and_mix_no_versions(
    registered: Registered, command: list[str]
) -> None:
    for backbone in ("naive", "drift"):
        registered.version("air", baseline(backbone), "champion")
    asked = request_body(series=[{**request_body()["series"][0], "unique_id": str(i)} for i in range(5)])
    with started(command, "--workers", "2") as service:
        service.until(lambda: service.version() == "2")
        url = service.client.base_url.join("/v1/forecasts")
        expected = {
            version: service.client.post("/v1/forecasts", json={**asked, "model": f"air/{version}"}).json()
            for version in ("1", "2")
        }
        stopping = threading.Event()
        seen: Counter[str] = Counter()
        failures: list[str] = []

        def ask() -> None:
            with httpx.Client(timeout=60) as client:
                while not stopping.is_set():
                    answer = client.post(url, json=asked)
                    if answer.status_code != 200:
                        failures.append(answer.text)
                        continue
                    version = answer.json()["model"]["version"]
                    seen[version] += 1
                    if answer.json()["forecasts"] != expected[version]["forecasts"]:
                        failures.append(f"numbers of another version in an answer of {version}")

        threads = [threading.Thread(target=ask) for _ in range(6)]
        for thread in threads:
            thread.start()
        for turn in range(8):
            registered.client.set_registered_model_alias("air", "champion", str(turn % 2 + 1))
            time.sleep(1)
        stopping.set()
        for thread in threads:
            thread.join()
    assert failures == []
    assert seen["1"] > 10
    assert seen["2"] > 10


def workers_of(service: Service) -> list[psutil.Process]:
    """The processes that answer."""
    found = []
    for child in service.children():
        with contextlib.suppress(psutil.Error):
            if child.status() != psutil.STATUS_ZOMBIE and "service.worker" in child.cmdline():
                found.append(child)
    return found


def asked_anew(service: Service) -> int:
    """The status of a forecast over a connection of its own."""
    url = service.client.base_url.join("/v1/forecasts")
    return httpx.post(url, json=request_body(), timeout=100).status_code


def test_a_port_in_use_is_one_line_and_exit_1(command: list[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        ended = subprocess.run(
            [*command, "serve", "--port", port], capture_output=True, text=True, timeout=60
        )
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert ended.stderr.count("\n") == 1
    assert f"port {port}" in ended.stderr
    assert "--port 0" in ended.stderr


def test_a_setting_that_makes_no_sense_is_one_line_and_exit_2(command: list[str]) -> None:
    environment = {**os.environ, "FORECAST_POLL_SECONDS": "soon"}
    ended = subprocess.run([*command, "serve"], capture_output=True, text=True, timeout=60, env=environment)
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert "FORECAST_POLL_SECONDS" in ended.stderr


def test_a_host_that_is_none_is_refused() -> None:
    with pytest.raises(ForecastError, match="--host"):
        listen("no.such.host.invalid", 0)


def test_the_address_is_a_url() -> None:
    with listen("127.0.0.1", 0) as listening:
        assert address(listening) == f"http://127.0.0.1:{listening.getsockname()[1]}"


def test_every_line_is_json_where_machines_read_them(command: list[str]) -> None:
    environment = {**os.environ, "FORECAST_LOG_FORMAT": "json", "FORECAST_LOG_LEVEL": "debug"}
    process = subprocess.Popen(
        [*command, "serve", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    try:
        assert process.stderr is not None
        lines = []
        for line in process.stderr:
            lines.append(json.loads(line))
            if "serving on" in lines[-1]["message"]:
                break
        assert httpx.get(f"{lines[-1]['message'].split()[-1]}/livez").status_code == 200
        process.terminate()
        out, rest = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, out) == (0, "")
    lines += [json.loads(line) for line in rest.splitlines()]
    probes = [line for line in lines if line.get("route") == "/livez"]
    assert [line["level"] for line in probes] == ["debug"]
