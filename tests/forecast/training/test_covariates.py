"""Covariates on their way from a panel to the network and back into messages."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import forecast as fc
from forecast.errors import CovariateError
from forecast.models.artifact import load
from forecast.models.catalog import BACKBONES
from forecast.series.panel import Panel

H = 4
SMALL: dict[str, Any] = {"horizon": H, "context_length": 16, "hidden_size": 8, "num_heads": 2, "members": 1}


def panel(length: int = 120, *, seed: int = 0, num_series: int = 4) -> Panel:
    """Noise, plus three times a switch that is known ahead; categories and numbers that say nothing."""
    generator = np.random.default_rng(seed)
    switches = [(generator.random(length + H) < 0.5).astype(float) for _ in range(num_series)]
    ys = [20 + 3 * switch[:length] + 0.1 * generator.normal(size=length) for switch in switches]
    return Panel.from_arrays(
        [f"s{series}" for series in range(num_series)],
        ys,
        freq="D",
        starts=["2001-01-01"] * num_series,
        past=[{"wind": generator.normal(size=length) * 100} for _ in range(num_series)],
        known=[{"switch": switch} for switch in switches],
        static=[{"size": float(series), "kind": "ab"[series % 2]} for series in range(num_series)],
    )


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("decoder", ["direct", "parallel"])
def test_every_kind_of_covariate_reaches_every_backbone(backbone: str, decoder: str, tmp_path: Path) -> None:
    data = panel()
    spec = fc.ModelSpec(backbone=backbone, decoder=decoder, calendar=True, patch_length=4, **SMALL)
    forecaster = fc.fit(data, spec, fc.TrainConfig(max_steps=5))
    assert forecaster.info.covariates == {"past": ["wind"], "known": ["switch"], "static": ["size", "kind"]}
    expected = forecaster.predict(data).values
    assert np.isfinite(expected).all()
    fc.save(forecaster, tmp_path / "model")
    for runtime in ("torch", "onnx"):
        values = load(tmp_path / "model", runtime=runtime).predict(data).values
        np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("backbone", ["gru", "transformer"])
def test_a_switch_known_ahead_is_used(backbone: str) -> None:
    data, truth = panel(200), panel(200)
    spec = fc.ModelSpec(backbone=backbone, transform="none", residual="last", dropout=0.0, **SMALL)
    forecaster = fc.fit(data, spec, fc.TrainConfig(max_steps=250, learning_rate=5e-3))
    forecast = forecaster.predict(data)
    switch = np.stack([truth.known.row("switch", series)[-H:] for series in range(4)])
    expected = 20 + 3 * switch
    assert np.abs(forecast.median - expected).mean() < 0.6


def test_a_covariate_that_is_missing_is_named() -> None:
    data = panel()
    forecaster = fc.fit(data, fc.ModelSpec(**SMALL), fc.TrainConfig(max_steps=2))
    bare = Panel.from_arrays(
        list(data.unique_ids), [data.y(i) for i in range(4)], freq="D", starts=["2001-01-01"] * 4
    )
    with pytest.raises(CovariateError, match=r"wind|switch|size"):
        forecaster.predict(bare)


def test_a_known_covariate_has_to_reach_over_the_horizon() -> None:
    data = panel()
    forecaster = fc.fit(data, fc.ModelSpec(**SMALL), fc.TrainConfig(max_steps=2))
    short = Panel.from_arrays(
        ["a"],
        [data.y(0)],
        freq="D",
        starts=["2001-01-01"],
        past=[{"wind": data.past.row("wind", 0)}],
        known=[{"switch": np.ones(120)}],
        static=[{"size": 1.0, "kind": "a"}],
    )
    with pytest.raises(CovariateError, match="switch"):
        forecaster.predict(short)


def test_past_covariates_end_what_can_be_forecast_at_the_horizon() -> None:
    forecaster = fc.fit(panel(), fc.ModelSpec(**SMALL), fc.TrainConfig(max_steps=2))
    assert forecaster.max_horizon == H


def test_calendar_features_are_optional_at_request_time() -> None:
    data = panel(60)
    ys = [data.y(series) for series in range(4)]
    bare = Panel.from_arrays(list(data.unique_ids), ys, freq="D", starts=["2001-01-01"] * 4)
    forecaster = fc.fit(bare, fc.ModelSpec(calendar=True, **SMALL), fc.TrainConfig(max_steps=5))
    with_stamps = forecaster.predict(bare).values
    without = forecaster.predict_windows(np.stack([y[-16:] for y in ys]))
    assert np.isfinite(without).all()
    assert not np.allclose(with_stamps, without)


def test_what_is_known_beyond_the_training_data_scales_nothing() -> None:
    data = panel()
    cut = data.drop_last(20)
    known = [
        {"switch": np.concatenate([cut.known.row("switch", i)[:100], np.full(24, 1e6)])} for i in range(4)
    ]
    changed = Panel.from_arrays(
        list(cut.unique_ids),
        [cut.y(i) for i in range(4)],
        freq="D",
        starts=["2001-01-01"] * 4,
        past=[{"wind": cut.past.row("wind", i)} for i in range(4)],
        known=known,
        static=[{"size": float(i), "kind": "ab"[i % 2]} for i in range(4)],
    )
    one, other = (
        fc.fit(each, fc.ModelSpec(**SMALL), fc.TrainConfig(max_steps=5)).backend.tensors()
        for each in (cut, changed)
    )
    for name in ("members.0.known_center", "members.0.known_size"):
        np.testing.assert_array_equal(one[name], other[name])


def test_a_shorter_horizon_needs_no_more_of_the_future_than_it_asks_for() -> None:
    data = panel()
    forecaster = fc.fit(data, fc.ModelSpec(**SMALL), fc.TrainConfig(max_steps=2))
    assert forecaster.predict(data, horizon=2).values.shape == (4, 2, 17)
