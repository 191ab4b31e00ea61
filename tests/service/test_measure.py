"""Which runtime serves: parity is a gate, time decides, and a worker follows what was measured."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from forecast.errors import SpecError
from forecast.models import artifact
from service.manifest import Cache
from service.measure import TOLERANCE, choose, is_measurable, measure
from service.settings import Settings
from service.watcher import Watcher, measure_apart
from tests.service.builders import Registered, Registry, baseline, network, panel, request_body, serving


@pytest.mark.parametrize("backbone", ["lstm", "gru", "transformer"])
def test_both_runtimes_agree_and_are_timed(tmp_path: Path, backbone: str) -> None:
    folder = artifact.save(network(panel(), backbone=backbone), tmp_path / "model")
    assert is_measurable(folder)
    found = measure(folder)
    assert found["parity"] <= TOLERANCE
    assert found["runtime"] == choose(found["parity"], found["milliseconds"])
    assert all(found["milliseconds"][name][rows] > 0 for name in ("onnx", "torch") for rows in ("1", "32"))


def test_a_baseline_has_no_choice(tmp_path: Path) -> None:
    assert not is_measurable(artifact.save(baseline(), tmp_path / "model"))


@pytest.mark.parametrize(
    ("parity", "torch", "chosen"),
    [
        (1e-6, 1.0, "onnx"),
        (1e-6, 0.85, "onnx"),
        (1e-6, 0.5, "torch"),
        (2e-4, 3.0, "torch"),
        (float("inf"), 3.0, "torch"),
        (float("nan"), 3.0, "torch"),
    ],
)
def test_parity_is_a_gate_and_time_decides(parity: float, torch: float, chosen: str) -> None:
    taken = {"onnx": {"1": 1.0, "32": 4.0}, "torch": {"1": torch, "32": 4 * torch}}
    assert choose(parity, taken) == chosen


def test_the_watcher_measures_a_network_apart_and_says_what_it_found(
    registered: Registered, monkeypatch: pytest.MonkeyPatch
) -> None:
    registered.version("air", network(panel(), backbone="lstm"), "champion")
    cache = Cache.of()
    cache.wanted.mkdir(parents=True)
    begun: list[str] = []
    monkeypatch.setattr("service.watcher.measure_apart", lambda cache, digest: begun.append(digest))
    watcher = Watcher(cache, measures=True)
    watcher.poll()
    copy = cache.read().versions[0]
    assert copy.runtime == {}
    assert begun == [copy.digest]
    measure_apart(cache, copy.digest)
    watcher.poll()
    found = cache.read().versions[0].runtime
    assert found["runtime"] in ("onnx", "torch")
    assert begun == [copy.digest]
    with serving() as client:
        shown = client.get("/v1/models/air").json()["runtime"]
        assert shown["name"] == found["runtime"]
        assert shown["parity"] == found["parity"] <= TOLERANCE


def test_a_measurement_that_fails_leaves_things_as_they_are(
    registry: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    (registry.cache.artifacts / "broken").mkdir(parents=True)
    measure_apart(registry.cache, "broken")
    assert "could not be measured" in caplog.text
    assert not registry.cache.measured_file("broken").exists()


@pytest.mark.parametrize("runtime", ["onnx", "torch"])
def test_a_worker_takes_the_runtime_that_was_measured(registry: Registry, runtime: str) -> None:
    registry.add("air", "1", network(panel(), backbone="lstm"), "champion")
    with serving() as client:
        before = client.post(request_body()).json()["forecasts"]
        assert client.get("/v1/models/air").json()["runtime"] == {
            **{"name": "onnx", "parity": None, "milliseconds": None}
        }
        measured: dict[str, Any] = {"runtime": runtime, "parity": 1e-7, "milliseconds": {}}
        registry.write(versions=(replace(registry.manifest.versions[0], runtime=measured),))
        client.portal.call(client.app.state.store.refresh)
        assert client.get("/v1/models/air").json()["runtime"]["name"] == runtime
        after = client.post(request_body()).json()["forecasts"]
        assert after[0]["median"] == pytest.approx(before[0]["median"], rel=1e-4)


def test_a_runtime_that_is_set_wins(registry: Registry) -> None:
    registry.add("air", "1", network(panel(), backbone="lstm"), "champion")
    with serving(Settings(runtime="torch")) as client:
        assert client.get("/v1/models/air").json()["runtime"]["name"] == "torch"
    with pytest.raises(SpecError, match="FORECAST_RUNTIME"):
        Settings(runtime="fast")
