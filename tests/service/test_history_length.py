"""The error of the service against the history it is given: never worse than the last season again."""

from typing import Any

import numpy as np
import pytest

import forecast as fc
from forecast.series import datasets
from tests.service.builders import Registry, serving

SEASON, HORIZON = 12, 12
CUTOFFS = range(96, 133, 3)
"""Months after which forecasts are made; the model is trained on the first 96."""


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["lstm", "transformer"])
def test_a_short_history_is_forecast_no_worse_than_seasonal_naive(registry: Registry, backbone: str) -> None:
    y = datasets.load("air_passengers")["y"].to_numpy(dtype=float)
    panel = fc.from_frame(datasets.load("air_passengers"), freq="MS")
    spec = fc.ModelSpec(backbone=backbone, horizon=HORIZON)
    forecaster = fc.fit(panel.until("1956-12-01"), spec, fc.TrainConfig(seed=0))
    registry.add("air", "1", forecaster, "champion")
    lengths = sorted({forecaster.min_context, 18, 24, 30, forecaster.context_length, 96})
    with serving() as client:
        curve = {
            length: error_at(client, y, length) for length in lengths if length >= forecaster.min_context
        }
    naive = float(np.mean([np.abs(y[c : c + HORIZON] - y[c - SEASON : c]).mean() for c in CUTOFFS]))
    assert curve[forecaster.min_context] <= naive, f"{curve}, seasonal naive {naive:.1f}"
    assert curve[96] <= naive, f"{curve}, seasonal naive {naive:.1f}"
    assert curve[96] == pytest.approx(curve[forecaster.context_length], rel=1e-3)


def error_at(client: Any, y: Any, length: int) -> float:
    """The mean absolute error over the cutoffs when `length` months are sent."""
    errors = []
    for cutoff in CUTOFFS:
        start = np.datetime64("1949-01", "M") + (cutoff - length)
        series = {"unique_id": "AP", "start": f"{start}-01", "y": y[cutoff - length : cutoff].tolist()}
        answer = client.post({"model": "air", "horizon": HORIZON, "series": [series]})
        assert answer.status_code == 200, answer.text
        median = np.array(answer.json()["forecasts"][0]["median"])
        errors.append(np.abs(median - y[cutoff : cutoff + HORIZON]).mean())
    return float(np.mean(errors))
