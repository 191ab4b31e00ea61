"""The forecasts that were stored, over HTTP."""

from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from forecast import stored
from tests.service.builders import Client


def rows(unique_id: str, *, stored_at: str, median: float = 2.5) -> pd.DataFrame:
    """A forecast of two steps as pipelines store it."""
    return pd.DataFrame(
        {
            "model": "air",
            "version": "2",
            "unique_id": unique_id,
            "cutoff": "2026-01-01T00:00:00",
            "step": [1, 2],
            "ds": ["2026-02-01T00:00:00", "2026-03-01T00:00:00"],
            "median": median,
            "lo-80": [1.0, float("nan")],
            "hi-80": 4.0,
            "stored_at": stored_at,
        }
    )


@pytest.mark.parametrize("place", ["folder", "table"])
def test_the_latest_forecast_of_a_series_is_returned_with_its_age(
    client: Client, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    folder = tmp_path_factory.mktemp("stored")
    monkeypatch.setenv("FORECAST_HOME", str(folder))
    output = str(folder / "out") if place == "folder" else f"sqlite:///{folder}/out.db"
    kept = stored.open_store(output, model="air")
    now = datetime.now(UTC)
    hour_ago = (now - timedelta(hours=1)).isoformat(timespec="seconds")
    kept.write(rows("a/b c", stored_at=(now - timedelta(days=1)).isoformat(timespec="seconds"), median=9.0))
    kept.write(rows("a/b c", stored_at=hour_ago).assign(version="3"))
    stored.announce("air", output=output)
    answer = client.get("/v1/forecasts/air/a%2Fb%20c")
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert abs(found.pop("age_seconds") - 3600) < 60
    assert found == {
        "model": "air",
        "version": "3",
        "unique_id": "a/b c",
        "cutoff": "2026-01-01T00:00:00",
        "stored_at": hour_ago,
        "ds": ["2026-02-01T00:00:00", "2026-03-01T00:00:00"],
        "median": [2.5, 2.5],
        "lo-80": [1.0, None],
        "hi-80": [4.0, 4.0],
    }
    missing = client.get("/v1/forecasts/air/nobody")
    assert missing.status_code == 404
    assert missing.headers["content-type"] == "application/problem+json"
    assert "'nobody' is stored" in missing.json()["detail"]


def test_a_model_without_stored_forecasts_is_a_404_that_says_how_to_get_some(client: Client) -> None:
    answer = client.get("/v1/forecasts/air/AP")
    assert answer.status_code == 404
    assert "[forecast]" in answer.json()["detail"]
