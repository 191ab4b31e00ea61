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


def test_a_category_means_the_same_to_a_part_of_the_series() -> None:
    data = panel()
    forecaster = fc.fit(data, fc.ModelSpec(**SMALL), fc.TrainConfig(max_steps=20))
    whole = forecaster.predict(data)
    alone = bare(data, 1, kind="b")
    np.testing.assert_allclose(forecaster.predict(alone).values[0], whole.values[1], rtol=1e-5)
    assert "unknown_category" not in forecaster.predict(alone).notes[0]
    assert "unknown_category" in forecaster.predict(bare(data, 1, kind="zebra")).notes[0]
    assert "unknown_category" in forecaster.predict(bare(data, 1, kind=None)).notes[0]


def test_covariates_are_told_apart_by_name_not_by_place() -> None:
    data = panel()
    switch, other = data.known.row("switch", 0), np.arange(120.0 + H)
    one, turned = (
        Panel.from_arrays(["a"], [data.y(0)], freq="D", starts=["2001-01-01"], known=[known])
        for known in ({"switch": switch, "other": other}, {"new": other, "other": other, "switch": switch})
    )
    forecaster = fc.fit(one, fc.ModelSpec(**SMALL), fc.TrainConfig(max_steps=5))
    np.testing.assert_array_equal(forecaster.predict(one).values, forecaster.predict(turned).values)
    renamed = Panel.from_arrays(
        ["a"], [data.y(0)], freq="D", starts=["2001-01-01"], known=[{"switch": switch, "wrong": other}]
    )
    with pytest.raises(CovariateError, match=r"known covariates 'other', which are missing here"):
        forecaster.predict(renamed)


def test_a_spec_may_leave_covariates_of_the_panel_out() -> None:
    spec = fc.ModelSpec(past=(), known=("switch",), static_numeric=(), static_categories={}, **SMALL)
    forecaster = fc.fit(panel(), spec, fc.TrainConfig(max_steps=2))
    assert forecaster.info.covariates == {"past": [], "known": ["switch"], "static": []}
    assert np.isfinite(forecaster.predict(panel()).values).all()
    with pytest.raises(CovariateError, match="'rain'"):
        fc.fit(panel(), fc.ModelSpec(known=("rain",), **SMALL))


def test_a_known_covariate_with_a_hole_in_the_future_is_noted() -> None:
    data = panel()
    forecaster = fc.fit(data, fc.ModelSpec(**SMALL), fc.TrainConfig(max_steps=2))
    switch = data.known.row("switch", 0)
    assert "known_missing" not in forecaster.predict(bare(data, 0)).notes[0]
    hole = [*switch[:-1], None]
    assert "known_missing" in forecaster.predict(bare(data, 0, switch=hole)).notes[0]


def test_series_without_stamps_are_forecast_and_say_so() -> None:
    ys = [panel(60).y(series) for series in range(2)]
    dated = Panel.from_arrays(["a", "b"], ys, freq="D", starts=["2001-01-01"] * 2)
    forecaster = fc.fit(dated, fc.ModelSpec(calendar=True, **SMALL), fc.TrainConfig(max_steps=5))
    answer = forecaster.predict(Panel.from_arrays(["a", "b"], ys, freq="D"), 2 * H)
    assert all("no_calendar" in notes for notes in answer.notes)
    assert "no_calendar" not in forecaster.predict(dated).notes[0]
    np.testing.assert_array_equal(answer.ds[1], np.arange(60, 60 + 2 * H))
    windows = forecaster.predict_windows(np.stack([y[-16:] for y in ys]))
    np.testing.assert_allclose(answer.values[:, :H], windows, rtol=1e-5)


def bare(data: Panel, series: int, **changed: Any) -> Panel:
    """One series of `panel` as it would come in a request of its own."""
    return Panel.from_arrays(
        [str(data.unique_ids[series])],
        [data.y(series)],
        freq="D",
        starts=["2001-01-01"],
        past=[{"wind": data.past.row("wind", series)}],
        known=[{"switch": changed.get("switch", data.known.row("switch", series))}],
        static=[{"size": float(series), "kind": changed.get("kind", "ab"[series % 2])}],
    )
