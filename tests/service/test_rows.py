"""The way of plain requests answers what the library answers."""

from typing import Any

import numpy as np
import pytest

from forecast.series.forecast import Forecast
from service.columns import Columns, reading
from tests.service.builders import Client, Registry, baseline, monthly_values, request_body, serving


@pytest.mark.parametrize(
    ("freq", "start"),
    [
        ("MS", "2020-01-01"),
        ("MS", "2020-01-01T00:00:00+02:00"),
        ("ME", "2020-01-31"),
        ("QS", "2020-04-01"),
        ("YS", "2020-01-01"),
        ("W-MON", "2024-01-01"),
        ("D", "2024-02-28T06:30:00Z"),
        ("B", "2024-03-01"),
        ("h", "2024-03-30T23:00:00-05:30"),
        ("15min", "2024-12-31T23:45:00"),
        (1, 7),
        (5, -10),
    ],
)
def test_a_start_and_all_stamps_are_answered_alike(registry: Registry, freq: str | int, start: Any) -> None:
    """One has no panel, the other has: stamps, numbers and notes are the same."""
    trained_from = 0 if isinstance(freq, int) else "2010-01-01" if freq != "ME" else "2010-01-31"
    if freq == "W-MON":
        trained_from = "2010-01-04"
    model = baseline("drift", freq=freq, start=trained_from)
    registry.add("air", "1", model, "champion")
    from service.rows import ahead
    from service.stamps import read_stamp

    history = ahead(freq, read_stamp(start), 1, 39).texts[:39]
    values = monthly_values(40)
    series = {"unique_id": "x", "y": values}
    with serving() as client:
        plain = client.post(
            request_body(freq=freq, levels=[80, 99.9], series=[{**series, "start": start}])
        ).json()
        stamps = client.post(
            request_body(freq=freq, levels=[80, 99.9], series=[{**series, "ds": [start, *history]}])
        ).json()
    first, second = plain["forecasts"][0], stamps["forecasts"][0]
    assert first["ds"] == second["ds"]
    assert first["notes"] == second["notes"]
    for key in ("median", "lo-80", "hi-80", "lo-99.9", "hi-99.9"):
        np.testing.assert_allclose(first[key], second[key], rtol=1e-6)


@pytest.mark.parametrize(
    "columns",
    [
        Columns.of(["median"], [80, 95], None),
        Columns.of(["median"], [1, 99.99], None),
        Columns.of(["mean"], None, [0.001, 0.5, 0.33, 0.999]),
        Columns.of(["mean", "median"], None, None),
    ],
)
def test_columns_read_at_once_are_those_of_the_forecast(columns: Columns) -> None:
    grid = (0.05, 0.1, 0.5, 0.75, 0.9)
    values = np.sort(np.random.default_rng(0).normal(size=(3, 4, 5)), axis=-1)
    model = baseline()
    forecast = Forecast(
        unique_ids=np.array(["a", "b", "c"], dtype=object),
        ds=np.zeros((3, 4), dtype=np.int64),
        quantile_levels=np.array(grid),
        values=values,
        notes=((), (), ()),
        freq=model.freq,
    )
    arrays = columns.arrays(forecast)
    assert tuple(arrays) == columns.names
    for key, level in columns.levels:
        np.testing.assert_allclose(arrays[f"lo-{key}"], forecast.interval(level)[0], rtol=1e-12)
        np.testing.assert_allclose(arrays[f"hi-{key}"], forecast.interval(level)[1], rtol=1e-12)
    for key, q in columns.quantiles:
        np.testing.assert_allclose(arrays[f"q-{key}"], forecast.quantile(q), rtol=1e-12)
    for name in columns.output:
        np.testing.assert_allclose(arrays[name], getattr(forecast, name), rtol=1e-12)
    assert reading(grid, columns).is_extrapolated == any(map(forecast.is_extrapolated, columns.asked))


def test_one_bad_request_in_a_batch_fails_alone(client: Client) -> None:
    """Requests that are computed together are answered, or refused, each for itself."""
    import asyncio

    good, bad = request_body(), request_body(series=[{"unique_id": "x", "start": "2020-01-01", "y": [1.0]}])

    async def all_at_once() -> list[int]:
        sent = [
            client.asynchronous.post("/v1/forecasts", json=bad if i % 3 == 0 else good) for i in range(30)
        ]
        return [response.status_code for response in await asyncio.gather(*sent)]

    assert client.portal.call(all_at_once) == [422 if i % 3 == 0 else 200 for i in range(30)]
