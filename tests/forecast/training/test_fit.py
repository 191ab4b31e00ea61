"""Fitting networks and baselines, from a panel to a forecaster."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import forecast as fc
from forecast.errors import ArtifactError, DataError, SpecError, TrainingError, ValueRangeError
from forecast.models.catalog import BACKBONES
from forecast.series.panel import Panel
from forecast.training import loop
from forecast.training.events import EpochEvent

TINY: dict[str, Any] = {"context_length": 24, "hidden_size": 8, "num_layers": 1, "num_heads": 2}


def panel(num_series: int = 3, length: int = 96, seed: int = 0, level: float = 50.0) -> Panel:
    """Monthly series with a trend, a season and noise; the first begins late and has a gap."""
    generator = np.random.default_rng(seed)
    steps = np.arange(length)
    ys = [
        level + 0.2 * steps + 5 * np.sin(2 * np.pi * steps / 12 + series) + generator.normal(size=length)
        for series in range(num_series)
    ]
    ys[0][40:43] = np.nan
    names = [f"s{series}" for series in range(num_series)]
    return Panel.from_arrays(names, ys, freq="MS", starts=["2001-01-01"] * num_series)


def quick(**changes: object) -> fc.TrainConfig:
    return fc.TrainConfig(**{"max_steps": 10, **changes})  # type: ignore[arg-type]


def spec(backbone: str = "gru", **changes: Any) -> fc.ModelSpec:
    return fc.ModelSpec(backbone=backbone, horizon=6, **{**TINY, **changes})


@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_backbone_is_fitted_and_forecasts(backbone: str) -> None:
    forecast = fc.fit(panel(), spec(backbone), quick()).predict(panel())
    assert forecast.values.shape == (3, 6, 17)
    assert np.isfinite(forecast.values).all()
    assert (np.diff(forecast.values, axis=2) >= 0).all()


@pytest.mark.parametrize("name", ["naive", "seasonal_naive", "drift"])
def test_a_baseline_is_fitted_without_a_step(name: str) -> None:
    forecaster = fc.fit(panel(), fc.ModelSpec(backbone=name, horizon=6))
    assert forecaster.info.kind == "baseline"
    assert np.isfinite(forecaster.predict(panel()).median).all()


@pytest.mark.parametrize("backbone", ["gru", "transformer"])
def test_the_same_seed_gives_the_same_tensors_bit_for_bit(backbone: str) -> None:
    first, second = (fc.fit(panel(), spec(backbone, dropout=0.2), quick(seed=3)) for _ in range(2))
    other = fc.fit(panel(), spec(backbone, dropout=0.2), quick(seed=4))
    tensors = first.backend.tensors()
    assert all(np.array_equal(tensors[name], value) for name, value in second.backend.tensors().items())
    assert any(not np.array_equal(tensors[name], value) for name, value in other.backend.tensors().items())


def test_fitting_leaves_the_callers_random_numbers_alone() -> None:
    import torch

    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    fc.fit(panel(), spec(), quick(seed=9))
    assert torch.equal(torch.rand(3), expected)


def test_training_beats_the_naive_forecast_on_a_plain_season() -> None:
    past, truth = panel(8, 120), panel(8, 126)
    forecaster = fc.fit(past, spec(residual="last"), fc.TrainConfig(max_steps=150))
    future = np.stack([truth.y(series)[-6:] for series in range(8)])
    last = np.stack([past.y(series)[-1:] for series in range(8)])
    assert np.abs(forecaster.predict(past).median - future).mean() < 0.7 * np.abs(last - future).mean()


def test_the_spec_alone_is_enough_and_the_reasons_are_kept() -> None:
    forecaster = fc.fit(panel(1, 144), fc.ModelSpec(horizon=24), quick())
    assert forecaster.info.spec.context_length
    assert {"context_length", "hidden_size", "transform"} <= set(forecaster.info.reasons)
    assert forecaster.info.num_steps == 10


def test_what_is_no_panel_no_spec_and_no_config_is_refused_by_name() -> None:
    with pytest.raises(DataError, match="got DataFrame; make one with"):
        fc.fit(panel().to_frame(), fc.ModelSpec(horizon=3))  # type: ignore[arg-type]
    with pytest.raises(SpecError, match=r"spec is an fc\.ModelSpec\(\.\.\.\); got dict"):
        fc.fit(panel(), {"horizon": 3})  # type: ignore[arg-type]
    with pytest.raises(SpecError, match=r"config is an fc\.TrainConfig\(\.\.\.\); got dict"):
        fc.fit(panel(), fc.ModelSpec(horizon=3), {"seed": 1})  # type: ignore[arg-type]


def test_later_values_change_nothing() -> None:
    whole = panel()
    cut = whole.drop_last(12)
    ys = [np.concatenate([cut.y(series), np.full(12, 1e9)]) for series in range(3)]
    changed = Panel.from_arrays(list(whole.unique_ids), ys, freq="MS", starts=["2001-01-01"] * 3).drop_last(
        12
    )
    one, other = (fc.fit(each, spec(), quick()).predict(each).values for each in (cut, changed))
    np.testing.assert_array_equal(one, other)


def test_listeners_hear_of_every_epoch() -> None:
    events: list[EpochEvent] = []
    fc.fit(panel(), spec(), fc.TrainConfig(max_epochs=3), on_epoch=events.append, validation=6)
    assert [event.epoch for event in events] == [1, 2, 3]
    assert all(np.isfinite(event.train_loss) and event.validation_loss for event in events)


def test_held_out_windows_choose_the_weights_and_step_zero_is_a_candidate() -> None:
    generator = np.random.default_rng(0)
    walk = Panel.from_arrays(["w"], [generator.normal(size=120).cumsum()], freq="D", starts=["2001-01-01"])
    config = quick(learning_rate=5.0, max_steps=30)
    forecaster = fc.fit(walk, spec(residual="last", transform="none"), config, validation=12)
    assert forecaster.info.num_steps == 0
    np.testing.assert_allclose(forecaster.predict(walk).median, np.full((1, 6), walk.y(0)[-1]), rtol=1e-6)


def test_a_check_reads_a_bounded_number_of_held_out_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "MAX_VALIDATION_WINDOWS", 5)
    losses: list[float | None] = []
    fc.fit(
        panel(3, 200), fc.ModelSpec(horizon=4), quick(), on_epoch=lambda e: losses.append(e.validation_loss)
    )
    assert losses
    assert all(loss is not None and loss > 0 for loss in losses)


def test_patience_ends_a_training_early() -> None:
    events: list[EpochEvent] = []
    config = quick(learning_rate=5.0, max_steps=400, patience=2)
    fc.fit(panel(), spec(), config, validation=6, on_epoch=events.append)
    assert events[-1].step < 400


def test_a_limit_of_seconds_is_kept() -> None:
    events: list[EpochEvent] = []
    config = fc.TrainConfig(max_steps=100_000, max_seconds=1.0)
    fc.fit(panel(), spec(), config, on_epoch=events.append)
    assert events[-1].seconds < 3
    assert events[-1].step < 100_000


def test_a_loss_that_is_no_number_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from forecast.training import step

    monkeypatch.setattr(step, "forecast_loss", lambda quantiles, *_, **__: quantiles.sum() * torch.nan)
    with pytest.raises(TrainingError, match="the loss is nan at step 1; lower learning_rate"):
        fc.fit(panel(), spec(), quick())


@pytest.mark.parametrize("transform", ["log", "relative"])
def test_values_at_or_below_zero_are_refused_by_name(transform: str) -> None:
    values = [np.arange(1.0, 61.0), np.arange(60.0)]
    data = Panel.from_arrays(["fine", "zero"], values, freq="D", starts=["2001-01-01"] * 2)
    with pytest.raises(ValueRangeError, match=r"needs values above zero and the lowest is 0, in 'zero'"):
        fc.fit(data, spec(transform=transform), quick())


def test_a_constant_series_gives_the_constant() -> None:
    data = Panel.from_arrays(["c"], [np.full(80, 7.5)], freq="D", starts=["2001-01-01"])
    np.testing.assert_allclose(fc.fit(data, spec(), quick()).predict(data).median, 7.5)


def test_a_high_level_with_unit_noise_is_forecast_at_its_own_scale() -> None:
    data = panel(2, 120, level=1e9)
    forecast = fc.fit(data, spec(), quick(max_steps=60)).predict(data)
    spread = forecast.values[:, :, -1] - forecast.values[:, :, 0]
    assert (spread < 100).all()
    assert (np.abs(forecast.median - 1e9) < 100).all()


def test_one_outlier_does_not_spoil_the_other_series() -> None:
    data = panel(3)
    ys = [data.y(series) for series in range(3)]
    ys[2][50] = 1e12
    spoilt = Panel.from_arrays(["s0", "s1", "s2"], ys, freq="MS", starts=["2001-01-01"] * 3)
    values = fc.fit(spoilt, spec(), quick(max_steps=60)).predict(spoilt).values
    assert np.isfinite(values).all()
    assert (np.abs(values[:2]) < 1e3).all()


def test_series_too_short_to_learn_from_are_listed() -> None:
    ys = [np.arange(80.0) + 1, np.arange(5.0) + 1]
    data = Panel.from_arrays(["long", "short"], ys, freq="MS", starts=["2001-01-01"] * 2)
    forecaster = fc.fit(data, spec(min_context=12), quick())
    assert "1 series without a step after min_context=12: short" in forecaster.info.reasons["left_out"]


def test_a_context_longer_than_any_series_is_padded() -> None:
    data = panel(2, 40)
    forecaster = fc.fit(data, spec(context_length=60, min_context=12), quick())
    assert np.isfinite(forecaster.predict(data).values).all()


def test_too_little_to_learn_from_is_an_error() -> None:
    data = Panel.from_arrays(["a"], [[1.0, 2.0, 3.0]], freq="MS", starts=["2001-01-01"])
    with pytest.raises(DataError, match="nothing to learn"):
        fc.fit(data, spec(min_context=12), quick())


def test_a_gpu_that_is_not_there_is_an_error() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(SpecError, match="torch finds no GPU here"):
        fc.fit(panel(), spec(), quick(device="cuda"))


def test_a_training_resumes_exactly_where_it_was_interrupted(tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def stop(event: EpochEvent) -> None:
        if event.step >= 12:
            raise Stop

    own: dict[str, Any] = {"dropout": 0.2, "members": 2}
    config = quick(max_steps=20, checkpoint=tmp_path, checkpoint_seconds=0)
    whole = fc.fit(panel(), spec(**own), quick(max_steps=20)).backend.tensors()
    with pytest.raises(Stop):
        fc.fit(panel(), spec(**own), config, on_epoch=stop)
    resumed = fc.fit(panel(), spec(**own), config, resume_from=tmp_path).backend.tensors()
    assert all(np.array_equal(whole[name], resumed[name]) for name in whole)


def test_a_training_goes_on_where_no_checkpoint_can_be_written(tmp_path: Path) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_text("no folder")
    expected = fc.fit(panel(), spec(), quick())
    with pytest.warns(RuntimeWarning, match="no checkpoint could be written into"):
        found = fc.fit(panel(), spec(), quick(checkpoint=in_the_way, checkpoint_seconds=0))
    np.testing.assert_array_equal(found.predict(panel()).values, expected.predict(panel()).values)


def test_a_checkpoint_of_another_training_is_refused(tmp_path: Path) -> None:
    fc.fit(panel(), spec(), quick(checkpoint=tmp_path, checkpoint_seconds=0))
    with pytest.raises(ArtifactError, match="belongs to other data, another spec or another plan"):
        fc.fit(panel(seed=1), spec(), quick(), resume_from=tmp_path)
    with pytest.raises(ArtifactError, match=r"holds no checkpoint\.safetensors"):
        fc.fit(panel(), spec(), quick(), resume_from=tmp_path / "elsewhere")


def test_what_was_saved_predicts_the_same_in_both_runtimes(tmp_path: Path) -> None:
    forecaster = fc.fit(panel(), spec(), quick(max_steps=40))
    expected = forecaster.predict(panel()).values
    fc.save(forecaster, tmp_path / "model")
    for runtime in ("torch", "onnx"):
        from forecast.models.artifact import load

        loaded = load(tmp_path / "model", runtime=runtime).predict(panel()).values
        np.testing.assert_allclose(loaded, expected, rtol=1e-4)


def test_an_epoch_is_every_training_window_once() -> None:
    events: list[EpochEvent] = []
    held_out = fc.TrainConfig(max_epochs=2, batch_size=8)
    forecaster = fc.fit(panel(), spec(min_context=12), held_out, on_epoch=events.append, validation=30)
    windows = sum(max(int(n) - 30 - 12, 0) for n in panel().lengths)
    assert forecaster.info.min_context == 12
    assert [(event.epoch, event.step) for event in events] == [(n, n * -(-windows // 8)) for n in (1, 2)]


@pytest.mark.parametrize("weights", [[1, 2], [1, -1, 1], [0, 0, 0], [1, np.nan, 1]])
def test_weights_that_weigh_nothing_are_refused(weights: list[float]) -> None:
    with pytest.raises(DataError, match="weights are 3 numbers, one per series"):
        fc.fit(panel(), spec(), quick(), weights=np.array(weights, dtype=np.float32))


def test_a_zero_is_no_positive_value_however_large_its_neighbours() -> None:
    y = np.array([1234.567, 0.0, *np.linspace(900.3, 1500.7, 70)])
    data = Panel.from_arrays(["a"], [y], freq="MS", starts=["2001-01-01"])
    with pytest.raises(ValueRangeError, match="needs values above zero"):
        fc.fit(data, spec(transform="log"), quick())


def test_what_a_short_limit_of_seconds_allowed_is_kept() -> None:
    events: list[EpochEvent] = []
    config = fc.TrainConfig(max_seconds=0.05, max_steps=100_000)
    forecaster = fc.fit(panel(), spec(), config, on_epoch=events.append, validation=6)
    assert len(events) == 1
    assert events[0].step < 1000
    assert forecaster.info.num_steps == events[0].step


@pytest.mark.parametrize("before", [True, False])
def test_deterministic_mode_ends_with_the_training(before: bool) -> None:
    torch.use_deterministic_algorithms(before)
    try:
        fc.fit(panel(), spec(), quick(deterministic=True))
        assert torch.are_deterministic_algorithms_enabled() is before
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("limit", [{"max_epochs": 0}, {"max_steps": 0, "max_epochs": None}])
def test_no_step_leaves_the_naive_forecast(backbone: str, limit: dict[str, Any]) -> None:
    whole = panel(length=97)
    for residual, lag in (("last", 1), ("season", 12)):
        asked = spec(backbone, residual=residual, members=2)
        forecaster = fc.fit(whole, asked, fc.TrainConfig(progress="quiet", **limit))
        expected = np.stack(
            [y[-lag:][np.arange(6) % lag] for y in whole.to_frame().y.to_numpy().reshape(3, -1)]
        )
        assert np.allclose(forecaster.predict(whole).median, expected, rtol=1e-5)
        assert forecaster.info.num_steps == 0


@pytest.mark.parametrize("validation", [-1, 1.5, "x", True])
def test_what_is_no_number_of_held_out_steps_is_refused(validation: Any) -> None:
    with pytest.raises(DataError, match="validation is a whole number of steps from 0 on"):
        fc.fit(panel(), spec(), quick(), validation=validation)


def test_weights_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(DataError, match="weights are 3 numbers, one per series; got 'abc'"):
        fc.fit(panel(), spec(), quick(), weights="abc")  # type: ignore[arg-type]
