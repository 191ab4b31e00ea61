"""A retrain is repeated from MLflow: the same figures on the same data, or what differs."""

import json
from pathlib import Path

import pytest

from pipelines import provenance, registry, tracking
from tests.pipelines.conftest import Command, Trained, sales


def test_a_retrain_and_a_candidate_come_to_the_same_figures(trained: Trained, forecast: Command) -> None:
    ended = forecast("replay", trained.outcome["run_id"], "--json")
    assert ended.code == 0, ended.err
    found = json.loads(ended.out)
    assert (found["same"], found["differs"]) == (True, [])
    assert {row["candidate"] for row in found["metrics"]} == {"seasonal_naive", "naive", "drift"}
    child = forecast("replay", registry.find("shop").run_id, "--json")
    assert {row["candidate"] for row in json.loads(child.out)["metrics"]} == {"seasonal_naive"}
    assert len(tracking.retrains("shop")) == 1, "nothing is logged"


def test_data_that_has_grown_is_read_as_it_was(trained: Trained, forecast: Command, tmp_path: Path) -> None:
    sales(150).to_parquet(tmp_path / "grown.parquet")
    ended = forecast("replay", trained.outcome["run_id"], "--data", tmp_path / "grown.parquet")
    assert ended.code == 0, ended.err
    assert "the data has grown since; it is read until 2026-04-30" in ended.err
    assert "the same figures for all of 3 candidates" in ended.out


def test_other_data_and_other_code_are_named(
    trained: Trained, forecast: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = sales()
    frame.assign(units=frame["units"].where(frame["day"] != "2026-04-28", 5.0)).to_parquet(
        tmp_path / "other.parquet"
    )
    code = {**provenance.code(), "forecast.packages.numpy": "9.9.9"}
    monkeypatch.setattr(provenance, "code", lambda: code)
    ended = forecast("replay", trained.outcome["run_id"], "--data", tmp_path / "other.parquet", "--json")
    assert ended.code == 1
    found = json.loads(ended.out)
    assert not found["same"]
    assert found["differs"][0].startswith("the data until 2026-04-30T00:00:00 is not what it was: 240 rows")
    assert any(line.startswith("packages.numpy was") for line in found["differs"])
    assert any(line.startswith("naive: mae was") for line in found["differs"])


def test_what_is_no_retrain_is_refused(trained: Trained, forecast: Command) -> None:
    ended = forecast("replay", "0" * 32)
    assert (ended.code, "there is no run" in ended.err) == (2, True)
    promotion = registry.promotions("shop")[0]["run_id"]
    ended = forecast("replay", promotion)
    assert (ended.code, "is no retrain" in ended.err) == (2, True)
