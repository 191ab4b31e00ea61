"""What was answered is kept in files for the monitor: in batches, within a limit, and without a cost."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from forecast import answered, home
from forecast.answered import Answered
from forecast.errors import DataError, SpecError
from service import recorder as recording
from service.recorder import Recorder
from service.settings import Settings
from tests.service.builders import Client, Registry, baseline, panel, request_body, serving, with_series

LEVELS = np.array([0.1, 0.5, 0.9])


def settings(**changes: Any) -> Settings:
    return Settings(**{"record": True, "record_seconds": 0.05, **changes})


def answer(*, model: str = "air", series: int = 2, horizon: int = 3, version: str = "1") -> Answered:
    values = np.arange(series * horizon * 3, dtype=np.float64).reshape(series, horizon, 3)
    ds = np.datetime64("2026-01-02", "us") + np.arange(horizon) * np.timedelta64(1, "D")
    return Answered(
        model=model,
        version=version,
        freq="D",
        recorded_at=time.time(),
        unique_ids=[f"s{place}" for place in range(series)],
        cutoffs=np.full(series, np.datetime64("2026-01-01", "us")),
        ds=[ds] * series,
        tails=np.ones((series, 2)),
        quantile_levels=LEVELS,
        values=values,
    )


def recorded(model: str = "air", *, rows: int) -> pd.DataFrame:
    """The recorded rows, once there are so many."""
    deadline = time.monotonic() + 20
    while True:
        frames = list(answered.read(model))
        found = pd.concat(frames) if frames else pd.DataFrame()
        if len(found) >= rows:
            assert len(found) == rows
            return found.reset_index(drop=True)
        assert time.monotonic() < deadline, f"{len(found)} rows of {rows}"
        time.sleep(0.05)


def us(text: str) -> int:
    return int(np.datetime64(text, "us").astype(np.int64))


def test_nothing_is_recorded_unless_it_is_asked_for(registry: Registry) -> None:
    registry.add("air", "1", baseline(), "champion")
    with serving() as client:
        assert client.post(request_body()).status_code == 200
    assert not (home.home() / "answers").exists()


def test_every_way_of_asking_is_recorded_as_it_was_answered(registry: Registry) -> None:
    registry.add("air", "1", baseline(), "champion")
    body = request_body(levels=[80])
    own = body["series"][0]
    stamps = [f"{2020 + step // 12}-{step % 12 + 1:02}-01" for step in range(48)]
    with serving(settings()) as client:
        plain = client.post(body).json()
        client.post(with_series(start=None, ds=stamps, unique_id="with ds"))
        many = request_body(series=[{**own, "unique_id": f"m{place}"} for place in range(70)])
        assert client.post(many).status_code == 200
        assert nixtla(client, own["y"]) == 200
        found = recorded(rows=73)
        text = client.get("/metrics").text
    row = found[found["unique_id"] == "AP"].iloc[0]
    grid = np.asarray(row["levels"])
    values = np.asarray(row["values"]).reshape(3, len(grid))
    at = {round(float(level), 6): place for place, level in enumerate(grid)}
    assert values[:, at[0.1]].tolist() == plain["forecasts"][0]["lo-80"]
    assert values[:, at[0.5]].tolist() == plain["forecasts"][0]["median"]
    assert (row["model"], row["version"], row["freq"]) == ("air", "1", "MS")
    assert row["cutoff"] == us("2023-12-01")
    assert row["ds"].tolist() == [us("2024-01-01"), us("2024-02-01"), us("2024-03-01")]
    assert row["tail"].tolist() == own["y"][-8:]
    for other in (found["unique_id"] == "with ds", found["unique_id"] == "m69", found["unique_id"].isna()):
        (twin,) = found[other].to_dict("records")
        assert (twin["cutoff"], twin["ds"].tolist()) == (row["cutoff"], row["ds"].tolist())
        np.testing.assert_allclose(twin["values"], row["values"], rtol=1e-5)
        np.testing.assert_allclose(twin["tail"], row["tail"], rtol=1e-5)
    assert "forecast_recorded_series_total 73.0" in text
    assert "forecast_unrecorded_series_total 0.0" in text


def nixtla(client: Client, y: list[float]) -> int:
    """Ask as the nixtla client does, which sends no names."""
    series = {"y": y, "sizes": [len(y)], "start_datetime": ["2020-01-01"]}
    body = {"series": series, "freq": "MS", "h": 3, "model": "air"}
    content = json.dumps(body).encode()
    answer = client.request(
        "POST", "/v2/forecast", content=content, headers={"content-type": "application/json"}
    )
    return answer.status_code


def test_what_was_answered_before_a_stop_is_written(registry: Registry) -> None:
    registry.add("air", "1", baseline(), "champion")
    with serving(settings(record_seconds=3600)) as client:
        client.post(request_body())
    assert len(recorded(rows=1)) == 1


def test_a_folder_that_cannot_be_written_fails_no_answer(
    registry: Registry, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    registry.add("air", "1", baseline(), "champion")
    (tmp_path / "file").write_text("in the way")
    with serving(settings(record_folder=str(tmp_path / "file"))) as client:
        for _ in range(3):
            assert client.post(request_body()).status_code == 200
            time.sleep(0.1)
        text = client.get("/metrics").text
    assert "forecast_recorded_series_total 0.0" in text
    assert "forecast_unrecorded_series_total 3.0" in text
    assert sum("cannot be recorded" in line for line in caplog.messages) == 1


def test_what_waits_is_bounded(monkeypatch: pytest.MonkeyPatch, registry: Registry) -> None:
    monkeypatch.setattr(recording, "MAX_PENDING", 200)
    registry.add("air", "1", baseline(), "champion")
    with serving(settings(record_seconds=3600)) as client:
        for _ in range(30):
            client.post(request_body())
        kept = client.app.state.parts.recorder
        assert sum(each.size for each in kept._pending) <= 200
        assert kept.dropped == 30 - len(kept._pending) > 0


def test_noting_an_answer_costs_microseconds(registry: Registry) -> None:
    registry.add("air", "1", baseline(), "champion")
    with serving() as client:
        client.post(request_body())
        served = client.app.state.store.snapshot.champions["air"]
    asked = panel()
    forecast = served.forecaster.predict(asked)
    kept, times = Recorder(settings()), []
    for _ in range(200):
        began = time.perf_counter()
        kept.note_panel(served, asked, [forecast])
        times.append(time.perf_counter() - began)
    assert sorted(times)[100] < 0.001


def test_many_small_files_become_one_and_hold_the_same(tmp_path: Path) -> None:
    for number in range(answered.MERGE_AT):
        answered.write([answer(version=str(number))], tmp_path, name=answered.file_name("me", number))
    before = pd.concat(answered.read("air", tmp_path))
    assert answered.merge(tmp_path / "air", owner="me")
    assert not answered.merge(tmp_path / "air", owner="me")
    (file,) = (tmp_path / "air").iterdir()
    assert file.stem.endswith("merged")
    after = pd.read_parquet(file)
    assert after["version"].tolist() == before["version"].tolist()
    assert len(after) == 2 * answered.MERGE_AT


def test_beyond_its_limit_a_folder_loses_its_oldest_files(tmp_path: Path) -> None:
    for number in range(10):
        answered.write([answer()], tmp_path, name=f"2026010{number}T000000-me-000001")
    size = next((tmp_path / "air").iterdir()).stat().st_size
    assert answered.limit(tmp_path, max_bytes=int(3.5 * size)) == 7
    assert sorted(file.name[:8] for file in (tmp_path / "air").iterdir()) == [
        "20260107", "20260108", "20260109",
    ]  # fmt: skip


def test_a_name_of_a_model_is_a_name_of_a_folder(tmp_path: Path) -> None:
    answered.write([answer(model="../a/b")], tmp_path, name="x")
    assert [path.name for path in tmp_path.iterdir()] == ["..%2Fa%2Fb"]
    assert len(next(answered.read("../a/b", tmp_path))) == 2


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "air").mkdir()
    (tmp_path / "air" / "x.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"x\.parquet cannot be read"):
        list(answered.read("air", tmp_path))


def test_limits_are_checked() -> None:
    with pytest.raises(SpecError, match="FORECAST_RECORD_SECONDS"):
        Settings(record_seconds=0)
    with pytest.raises(SpecError, match="FORECAST_RECORD_BYTES"):
        Settings(record_bytes=0)
