"""The real client, the real application on a real socket, and what they say to each other."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
from nixtla import NixtlaClient

from service.settings import Settings
from tests.service.live import listening


@contextmanager
def live(settings: Settings | None = None) -> Iterator[str]:
    """The URL of an application over this test's cache."""
    with listening(settings or Settings()) as (host, port):
        yield f"http://{host}:{port}"


def client_of(url: str, key: str = "none") -> NixtlaClient:
    """The real client, which gives up at once."""
    return NixtlaClient(api_key=key, base_url=url, max_retries=1, retry_interval=1)


def monthly(num_steps: int = 60, *, ids: tuple[str, ...] = ("a",), start: str = "2020-01-01") -> pd.DataFrame:
    """Trends with a yearly season, as the client wants them."""
    steps = np.arange(num_steps)
    frames = [
        pd.DataFrame(
            {
                "unique_id": name,
                "ds": pd.date_range(start, periods=num_steps, freq="MS"),
                "y": 100.0 * (place + 1) + steps + 10 * np.sin(2 * np.pi * steps / 12) + (steps * 7) % 5,
            }
        )
        for place, name in enumerate(ids)
    ]
    return pd.concat(frames, ignore_index=True)


def native(url: str, df: pd.DataFrame, *, model: str, horizon: int, **more: Any) -> dict[str, dict[str, Any]]:
    """What the native API answers to the same series, by id."""
    import httpx

    series = [
        {"unique_id": str(name), "start": own["ds"].iloc[0].isoformat(), "y": own["y"].tolist()}
        for name, own in df.groupby("unique_id")
    ]
    asked = {"model": model, "horizon": horizon, "series": series, **more}
    answer = httpx.post(f"{url}/v1/forecasts", json=asked, timeout=60).raise_for_status().json()
    return {each["unique_id"]: each for each in answer["forecasts"]}
