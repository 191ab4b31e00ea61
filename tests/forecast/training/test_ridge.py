"""Learning a ridge: what it recovers, chooses and refuses, and that it sees no held-out step."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import forecast as fc
from forecast.errors import DataError, SpecError, ValueRangeError
from forecast.evaluation.blocks import Blocks
from forecast.evaluation.candidates import Evaluated, evaluate, refit_full
from forecast.models.artifact import load, save
from forecast.models.baselines import BASELINES, baseline_forecaster
from forecast.models.forecaster import Forecaster
from forecast.models.spec import ModelSpec
from forecast.series.panel import Panel
from forecast.training.baselines import fit_baseline
from tests.builders import shared_data

H = 6


def panel(*series: NDArray[np.float64], freq: str = "MS") -> Panel:
    names = [f"s{place}" for place in range(len(series))]
    return Panel.from_arrays(names, list(series), freq=freq, starts=["2000-01-01"] * len(names))


def grown(length: int = 144, seed: int = 0) -> NDArray[np.float64]:
    """A yearly wave that grows with its level."""
    steps = np.arange(length)
    noise = np.random.default_rng(seed).normal(scale=0.02, size=length)
    return np.asarray(np.exp(4 + 0.01 * steps + 0.3 * np.sin(2 * np.pi * steps / 12) + noise))


def ridge(**fields: object) -> ModelSpec:
    return ModelSpec(backbone="ridge", horizon=H, **fields)  # type: ignore[arg-type]


def tensors_equal(left: Forecaster, right: Forecaster) -> bool:
    ours, theirs = left.backend.tensors(), right.backend.tensors()
    return all(np.array_equal(ours[name], theirs[name]) for name in ours)


def test_it_recovers_a_linear_recursion() -> None:
    rng = np.random.default_rng(0)
    changes = np.zeros(3000)
    for step in range(1, len(changes)):
        changes[step] = 0.6 * changes[step - 1] + rng.normal()
    model = fit_baseline(panel(np.cumsum(changes)), ridge(context_length=4, transform="none"))
    first = model.backend.tensors()["coefficients"][:, -1]
    assert first == pytest.approx(np.cumsum(0.6 ** np.arange(1, H + 1)), abs=0.15)


def test_growth_is_read_in_logs_and_values_below_zero_are_not() -> None:
    rates = [np.exp(rate * np.arange(144)) * grown() for rate in (0.0, 0.03, 0.06)]  # the same in logs only
    assert fc.fit(panel(*rates), ridge()).info.model["transform"] == "log"
    lowered = grown() - grown().mean()
    found = fc.fit(panel(lowered), ridge()).info
    assert found.model["transform"] == "none"
    assert "no logarithm" in found.reasons["transform"]


def test_steady_waves_around_a_high_level_are_chosen_by_their_errors() -> None:
    reasons = fc.fit(panel(1000 + np.diff(grown(145))), ridge()).info.reasons
    assert "held-out" in reasons["transform"]


@pytest.mark.parametrize("transform", ["none", "log"])
def test_held_out_steps_teach_no_weights(transform: str) -> None:
    changed = grown()
    changed[-20:] *= 1.01
    ours, theirs = (
        fit_baseline(panel(y), ridge(transform=transform), held_out=20) for y in (grown(), changed)
    )
    assert ours.info.model == theirs.info.model
    assert tensors_equal(ours, theirs)
    assert not tensors_equal(ours, fit_baseline(panel(grown()), ridge(transform=transform)))


@pytest.mark.parametrize("lengths", [(120,), (400, 400)])  # rolling refits; one fit
def test_a_value_after_a_cutoff_changes_nothing_before_it(lengths: tuple[int, ...]) -> None:
    data = [grown(length, seed=place) for place, length in enumerate(lengths)]
    blocks = Blocks.cut(panel(*data), horizon=H, num_windows=2)
    keep = lengths[0] - blocks.judge[0]
    absurd = [np.concatenate([y[:keep], 1e6 * (1 + np.arange(len(y) - keep))]) for y in data]
    before, after = (evaluate(ridge(), panel(*each), blocks) for each in (data, absurd))
    assert before.spec == after.spec
    assert before.select_metrics == after.select_metrics
    assert medians(before, blocks).tolist() == medians(after, blocks).tolist()


def medians(result: Evaluated, blocks: Blocks) -> NDArray[np.float64]:
    """Those of the first judge cutoff."""
    rows = result.forecasts
    return rows.loc[rows["cutoff_step"] == -blocks.judge[0], "median"].to_numpy()


def test_it_is_pooled_over_series_of_any_size() -> None:
    whole = fit_baseline(panel(*(grown(seed=seed) for seed in range(4))), ridge(transform="none"))
    scaled = fit_baseline(
        panel(*(10.0**seed * grown(seed=seed) for seed in range(4))), ridge(transform="none")
    )
    ours, theirs = whole.backend.tensors(), scaled.backend.tensors()
    assert ours["coefficients"] == pytest.approx(theirs["coefficients"], abs=1e-3)


def test_the_order_of_series_changes_no_forecast() -> None:
    data = panel(grown(seed=0), grown(seed=1))
    ours, theirs = (fit_baseline(each, ridge()) for each in (data, data.select(np.array([1, 0]))))
    one, other = ours.predict(data).values, theirs.predict(data).values
    assert one == pytest.approx(other, rel=1e-5)


def test_gaps_short_and_constant_series_are_learned_around() -> None:
    holes = grown()
    holes[[5, 30, 31, 32, 143]] = np.nan
    data = panel(holes, grown(20), np.full(100, 3.0), grown(3))
    model = fit_baseline(data, ridge())
    answer = model.predict(data.select(np.array([0, 1, 2])))
    assert np.isfinite(answer.values).all()
    assert (answer.values[2] == 3.0).all()
    assert abs(answer.median[0, 0] / grown(145)[-1] - 1) < 0.3


def test_it_is_saved_without_a_graph_and_forecasts_the_same(tmp_path: Path) -> None:
    data = panel(grown(), grown(seed=1))
    evaluated = evaluate(ridge(), data, Blocks.cut(data, horizon=H, num_windows=2))
    full = refit_full(evaluated, data)
    folder = save(full, tmp_path / "model")
    assert sorted(path.name for path in folder.iterdir()) == ["spec.json", "weights.safetensors"]
    again = load(folder)
    assert (again.predict(data, 3 * H).values == full.predict(data, 3 * H).values).all()
    assert again.predict(data).notes[0][0] == "baseline:ridge"
    assert again.info.reasons["context_length"]


def test_another_transform_or_a_logarithm_of_zero_is_refused() -> None:
    with pytest.raises(SpecError, match="none or log"):
        fc.fit(panel(grown()), ridge(transform="asinh"))
    with pytest.raises(ValueRangeError, match="'s1' goes down to -5"):
        fc.fit(panel(grown(), np.array([1.0, 2.0, -5.0])), ridge(transform="log"))


def test_too_little_to_learn_from_is_said() -> None:
    with pytest.raises(DataError, match=r"at least 8 observed steps of one series .* the longest has 7"):
        fc.fit(panel(grown(7)), ridge())


@pytest.mark.parametrize("name", list(BASELINES))
def test_fit_gives_a_baseline_the_context_that_a_backtest_gives_it(name: str) -> None:
    data = panel(grown(300))
    spec = ModelSpec(backbone=name, horizon=H)
    evaluated = evaluate(spec, data, Blocks.cut(data, horizon=H))
    fitted = fc.fit(data, spec)
    assert fitted.context_length == evaluated.spec.context_length
    assert fitted.info.model == baseline_forecaster(data, spec).info.model


def test_air_passengers_are_forecast_as_well_as_published() -> None:
    data = fc.read_parquet(shared_data("air_passengers.parquet"), freq="MS")
    spec = ModelSpec(backbone="ridge", horizon=12, context_length=25)
    result = fc.backtest(spec, data, num_windows=37, stride=1, refit=True)
    assert result.metrics["mae"] < 18.5
