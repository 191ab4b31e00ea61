"""What a trained network's median is settled to be: itself, a season map mixed in, or the base."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from torch import Tensor

import forecast as fc
from forecast.errors import SpecError
from forecast.evaluation.blocks import Blocks
from forecast.evaluation.candidates import evaluate, refit_full
from forecast.models.season_map import SeasonMap
from forecast.series.panel import Panel
from forecast.training.median import num_spans
from forecast.training.season_map import PENALTY, fit_season_map

TINY: dict[str, Any] = {"horizon": 12, "context_length": 48, "hidden_size": 8, "patch_length": 6}


def seasons(num_series: int = 4, length: int = 3_000, seed: int = 0) -> Panel:
    """Hourly series; every hour is 0.6 times what it was a day ago and 0.4 times two days ago, and noise."""
    generator = np.random.default_rng(seed)
    ys = generator.normal(size=(num_series, length))
    for step in range(48, length):
        ys[:, step] = 0.6 * ys[:, step - 24] + 0.4 * ys[:, step - 48] + 0.1 * ys[:, step]
    return as_panel(ys)


def walks(num_series: int = 4, length: int = 3_000, seed: int = 0) -> Panel:
    return as_panel(np.random.default_rng(seed).normal(size=(num_series, length)).cumsum(axis=1))


def as_panel(ys: np.ndarray) -> Panel:
    return Panel.from_arrays(
        [f"s{place}" for place in range(len(ys))], list(ys), freq="h", starts=["2020-01-01"] * len(ys)
    )


def quick(**changes: object) -> fc.TrainConfig:
    return fc.TrainConfig(**{"max_steps": 4, "progress": "quiet", **changes})  # type: ignore[arg-type]


def test_a_season_map_takes_over_what_a_hardly_trained_network_does_not_know() -> None:
    truth = seasons()
    past = truth.drop_last(12)
    forecaster = fc.fit(past, fc.ModelSpec(**TINY, residual="last"), quick(), validation=300)
    assert forecaster.info.spec.season_map == 0.5
    assert forecaster.info.spec.median == "learned"
    assert "on held-out steps" in forecaster.info.reasons["season_map"]
    alone = fc.fit(past, fc.ModelSpec(**TINY, residual="last", season_map=0), quick(), validation=300)
    future = np.stack([truth.y(series)[-12:] for series in range(4)])
    with_map, without = (np.abs(each.predict(past).median - future).mean() for each in (forecaster, alone))
    assert with_map < 0.6 * without


def test_its_weights_are_the_least_squares_of_the_training_part() -> None:
    spec = fc.ModelSpec(**TINY, season_map=1.0, residual="last")
    forecaster = fc.fit(seasons(), spec, quick(), validation=300)
    weights = forecaster.backend.tensors()["season_map.weights"][:, 0]
    np.testing.assert_allclose(weights[:2], [0.4, 0.6], atol=0.1)
    np.testing.assert_allclose(weights[-1], -1.0, atol=0.03, err_msg="from the last value to the phase")


def test_missing_targets_teach_nothing() -> None:
    whole = seasons()
    ys = [whole.y(series).copy() for series in range(4)]
    for y in ys:
        y[np.random.default_rng(1).random(len(y)) < 0.02] = np.nan
    spec = fc.ModelSpec(**TINY, season_map=1.0, residual="last")
    weights = fc.fit(as_panel(np.stack(ys)), spec, quick(), validation=300).backend.tensors()
    np.testing.assert_allclose(weights["season_map.weights"][:2, 0], [0.4, 0.6], atol=0.15)


def test_nothing_after_the_training_part_reaches_the_season_map() -> None:
    whole = seasons()
    ys = np.stack([whole.y(series) for series in range(4)])
    changed = ys.copy()
    changed[:, -300:] = np.random.default_rng(2).normal(size=(4, 300)) * 9
    spec = fc.ModelSpec(**TINY, season_map=0.5, residual="last")
    first, second = (
        fc.fit(as_panel(each), spec, quick(), validation=300).backend.tensors()["season_map.weights"]
        for each in (ys, changed)
    )
    assert first.any()
    assert np.array_equal(first, second)


def test_walks_keep_their_last_value_where_a_network_gains_no_more_than_chance() -> None:
    past = walks()
    forecaster = fc.fit(past, fc.ModelSpec(**TINY), fc.TrainConfig(max_steps=60), validation=300)
    assert forecaster.info.spec.median == "base"
    assert forecaster.info.spec.season_map == 0
    assert "may be chance" in forecaster.info.reasons["median"]
    forecast = forecaster.predict(past)
    last = np.stack([past.y(series)[-1:] for series in range(4)])
    np.testing.assert_allclose(forecast.median, np.repeat(last, 12, axis=1), atol=1e-3)
    width = forecast.values[..., -2] - forecast.values[..., 1]
    assert (width[:, -1] > 1.1 * width[:, 0]).all(), "the widths are learned all the same"


def test_what_the_spec_says_is_not_chosen() -> None:
    learned = fc.fit(walks(), fc.ModelSpec(**TINY, median="learned"), quick(), validation=300)
    assert learned.info.spec.median == "learned"
    base = fc.fit(seasons(), fc.ModelSpec(**TINY, median="base"), quick(), validation=300)
    assert (base.info.spec.median, base.info.spec.season_map) == ("base", 0)
    for data, held_out in ((seasons(), 0), (walks(), 300)):
        fixed = fc.fit(data, fc.ModelSpec(**TINY, season_map=0.25), quick(), validation=held_out)
        assert (fixed.info.spec.median, fixed.info.spec.season_map) == ("learned", 0.25)
        assert fixed.backend.tensors()["season_map.weights"].any()
    assert not {"median", "season_map"} & (set(fixed.info.reasons) | set(base.info.reasons))


def test_a_mixture_that_is_clearly_worse_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    data, config = seasons(), fc.TrainConfig(max_steps=4, progress="quiet")
    monkeypatch.setattr(
        SeasonMap, "forward", lambda self, scores, observed: torch.full((len(scores), 12), 9.0)
    )
    forecaster = fc.fit(data, fc.ModelSpec(**TINY, median="learned"), config, validation=300)
    assert forecaster.info.spec.season_map == 0
    assert "more than the network alone" in forecaster.info.reasons["season_map"]


@pytest.mark.parametrize("case", ["constant", "missing", "nothing"])
def test_without_held_out_targets_nothing_is_chosen(case: str) -> None:
    ys = np.stack([seasons().y(series) for series in range(4)])
    if case == "constant":
        ys[:, -400:] = 0.0
    if case == "missing":
        ys[:, -300:-1] = np.nan
    validation = 0 if case == "nothing" else 300
    forecaster = fc.fit(as_panel(ys), fc.ModelSpec(**TINY), quick(), validation=validation)
    assert (forecaster.info.spec.median, forecaster.info.spec.season_map) == ("learned", 0)
    assert forecaster.info.reasons["median"] == "no held-out target to choose by"


def test_an_untrained_network_says_that_it_is_the_base() -> None:
    forecaster = fc.fit(seasons(), fc.ModelSpec(**TINY), quick(max_steps=0))
    assert (forecaster.info.spec.median, forecaster.info.spec.season_map) == ("base", 0)
    assert forecaster.info.reasons["median"] == "was not trained"


def test_a_base_leaves_nothing_to_a_season_map() -> None:
    with pytest.raises(SpecError, match="median='base' leaves nothing to a season map"):
        fc.ModelSpec(horizon=3, median="base", season_map=0.5)


def test_many_series_need_a_smaller_gain_than_one() -> None:
    one, many = (num_spans(np.full(count, 24), horizon=12) for count in (1, 400))
    assert one == pytest.approx(2)
    assert many == pytest.approx(40)
    assert num_spans(np.array([0, 0, 12]), horizon=12) == 1
    assert num_spans(np.zeros(3, dtype=np.int64), horizon=12) == 0


def test_the_map_steps_back_where_a_history_is_short_or_gappy() -> None:
    data, short = seasons(), {**TINY, "min_context": 6, "residual": "last"}
    forecaster = fc.fit(data, fc.ModelSpec(**short, season_map=0.5), quick(), validation=300)
    alone = fc.fit(data, fc.ModelSpec(**short, season_map=0.0), quick(), validation=300)
    context = np.stack([data.y(series)[-48:] for series in range(4)])
    moved = []
    for missing in (0, 24, 42):
        seen = context.copy()
        seen[:, :missing] = np.nan
        moved.append(np.abs(forecaster.predict_windows(seen) - alone.predict_windows(seen)).mean())
    assert moved[2] < 0.5 * moved[0]


@pytest.mark.parametrize(("horizon", "share"), [(60, 0.3), (30, 0.1)])
def test_every_season_ahead_is_learned_from_the_targets_that_are_there(horizon: int, share: float) -> None:
    """A ridge regression of each column by scikit-learn, without the rows that lack it, is the yardstick."""
    torch.manual_seed(0)
    spec = fc.ModelSpec(horizon=horizon, context_length=72, season_length=24)
    season_map, num_rows = SeasonMap(spec), 40
    features = torch.randn(num_rows, 24, 7)
    target = torch.randn(num_rows, horizon)
    target[torch.rand(num_rows, horizon) < share] = torch.nan
    weight = torch.rand(num_rows) + 0.1
    fit_season_map(season_map, *stand_ins(season_map, features, target, weight))
    padded = torch.nn.functional.pad(target, (0, -horizon % 24), value=torch.nan)
    ahead = padded.reshape(num_rows, -1, 24).transpose(1, 2).flatten(0, 1).numpy()
    rows, weights = features.flatten(0, 1).double().numpy(), weight.repeat_interleave(24).double().numpy()
    for column in range(ahead.shape[1]):
        known = np.isfinite(ahead[:, column])
        penalty = PENALTY * np.mean((rows[known] ** 2 * weights[known, None]).sum(0))
        expected = Ridge(alpha=penalty, fit_intercept=False).fit(
            rows[known], ahead[known, column], sample_weight=weights[known]
        )
        np.testing.assert_allclose(season_map.weights[:, column], expected.coef_, atol=1e-4)


def stand_ins(season_map: SeasonMap, features: Tensor, target: Tensor, weight: Tensor) -> Any:
    """A step and a sampler that hand out given rows, every window once."""
    season_map.features = lambda scores, observed: features  # type: ignore[method-assign]
    count = len(features)
    window = SimpleNamespace(
        scores=None, observed=torch.ones(count, 72), scale=SimpleNamespace(size=torch.ones(count, 1))
    )
    batch = SimpleNamespace(weight=weight, usual_size=torch.ones(count))
    step = SimpleNamespace(seen=lambda batch: (window, target))
    sampler = SimpleNamespace(windows=lambda index, numbers: batch)
    return step, sampler, SimpleNamespace(spread=lambda most: torch.arange(1))


def test_a_map_of_a_season_needs_one_in_the_context() -> None:
    with pytest.raises(SpecError, match="needs a season within the context"):
        fc.fit(seasons(), fc.ModelSpec(horizon=12, context_length=20, season_map=0.5), quick())


@pytest.mark.slow
@pytest.mark.parametrize(("made", "median"), [(seasons, "learned"), (walks, "base")])
def test_a_backtest_with_refits_settles_as_one_without(made: Any, median: str) -> None:
    data, config = made(length=5_000), fc.TrainConfig(max_steps=20, progress="quiet")
    once, again = (
        evaluate(
            fc.ModelSpec(**TINY, residual="last"),
            data,
            Blocks.cut(data, horizon=12, num_windows=2, refit=refit),
            config,
        )
        for refit in (False, True)
    )
    assert once.spec.median == again.spec.median == median
    assert once.spec.season_map == again.spec.season_map
    assert again.refit_spec.median == median


@pytest.mark.parametrize(("made", "median"), [(seasons, "learned"), (walks, "base")])
def test_the_choice_is_carried_into_the_fit_on_all_data_and_saved(
    made: Any, median: str, tmp_path: Path
) -> None:
    data = made(length=4_000)  # of fewer the fit block would be little data
    evaluated = evaluate(
        fc.ModelSpec(**TINY), data, Blocks.cut(data, horizon=12), fc.TrainConfig(max_steps=20)
    )
    assert evaluated.spec.median == median
    full = refit_full(evaluated, data, fc.TrainConfig(max_steps=20))
    assert full.info.spec.median == median
    assert full.info.spec.season_map == evaluated.spec.season_map
    assert full.info.reasons["median"] == evaluated.reasons["median"]
    assert bool(full.info.spec.season_map) == (median == "learned")
    fc.save(full, tmp_path / "model")
    for runtime in ("torch", "onnx"):
        again = fc.load(tmp_path / "model", runtime=runtime)
        np.testing.assert_allclose(
            again.predict(data).values, full.predict(data).values, rtol=1e-4, atol=1e-4
        )
