"""Backtests: what is in the frames, what is left out, and that nothing after a cutoff is ever seen."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

import forecast as fc
from forecast.errors import DataError, LevelError, NotFoundError, SpecError
from forecast.evaluation.backtest import backtest
from forecast.evaluation.blocks import Blocks
from forecast.evaluation.candidates import Evaluated, choose, evaluate, refit_full
from forecast.evaluation.replay import SeasonalScales, replay
from forecast.models.baselines import BASELINES, baseline_forecaster
from forecast.models.spec import ModelSpec
from forecast.series.panel import Panel
from forecast.training.config import TrainConfig
from tests.builders import shared_data

H = 6


def panel(*series: NDArray[np.float64], freq: str = "D") -> Panel:
    names = [f"s{place}" for place in range(len(series))]
    return Panel.from_arrays(names, list(series), freq=freq, starts=["2020-01-01"] * len(names))


def wave(length: int = 200, seed: int = 0) -> NDArray[np.float64]:
    """A weekly wave with noise and trend."""
    steps = np.arange(length)
    noise = np.random.default_rng(seed).normal(size=length)
    return np.asarray(50 + 0.1 * steps + 10 * np.sin(2 * np.pi * steps / 7) + noise)


def spec(backbone: str = "seasonal_naive") -> ModelSpec:
    return ModelSpec(backbone=backbone, horizon=H)


def air_passengers() -> Panel:
    return fc.read_parquet(shared_data("air_passengers.parquet"), freq="MS")


def test_the_forecast_frame_has_one_row_per_series_cutoff_and_step() -> None:
    result = backtest(spec(), panel(wave(), wave(seed=1)), num_windows=3, stride=5)
    rows = result.forecasts
    assert len(rows) == 2 * 3 * H
    expected = ["unique_id", "cutoff", "ds", "step", "y", "median", "lo-80", "hi-80", "lo-95", "hi-95"]
    assert set(expected) <= set(rows.columns)
    assert ((rows["ds"] - rows["cutoff"]) == pd.to_timedelta(rows["step"], unit="D")).all()
    own = rows[rows["unique_id"] == "s1"]
    assert own["y"].iloc[-1] == pytest.approx(wave(seed=1)[-1], rel=1e-6)
    assert sorted(own["cutoff"].dt.date.unique())[-1] == (own["ds"].max() - pd.Timedelta(days=H)).date()


@pytest.mark.parametrize("stuck", [70, 110])  # beyond the near look-back of 64 steps, and the far one of 98
@pytest.mark.parametrize("backbone", ["seasonal_naive", "ridge"])
def test_a_sensor_that_was_stuck_while_calibrating_costs_nobody_the_intervals(
    backbone: str, stuck: int
) -> None:
    whole = wave(1500)
    broken = np.concatenate([whole[:1200], np.full(stuck, whole[1200]), whole[1200 + stuck :]])
    rows = backtest(spec(backbone), panel(broken), num_windows=10, baselines=()).forecasts
    assert (rows["hi-99"] - rows["lo-99"]).max() < 8 * np.ptp(whole - 0.1 * np.arange(1500))


def test_windows_of_a_sensor_that_only_jitters_do_not_calibrate() -> None:
    broken = wave(1500)
    broken[1150:1290] = 100 + 0.01 * np.random.default_rng(1).normal(size=140)
    data = panel(broken)
    blocks = Blocks.cut(data, horizon=H, num_windows=10)
    own = replay(baseline_forecaster(data, spec()), data, blocks.calibrate, horizon=H, unseen=True)
    ends = 1500 + own.cutoff_steps
    assert not own.still.any()
    assert not own.moving[(ends >= 1150 + 64) & (ends < 1290)].any()
    assert own.moving[(ends < 1150) | (ends >= 1290 + 64)].all()


def test_baselines_stand_beside_and_are_found_by_name() -> None:
    result = backtest(spec(), panel(wave()))
    assert list(result) == ["seasonal_naive", "naive", "drift"]
    assert result["seasonal_naive"] is result
    verdict = fc.compare(result["naive"], result["seasonal_naive"])
    assert verdict.promote
    assert result.table().index[0] == "seasonal_naive"
    assert result.by_step["mae"].shape == (H,)
    assert list(result.by_series["unique_id"]) == ["s0"]


def test_every_forecast_is_that_of_the_history_alone() -> None:
    data = panel(wave(), wave(150, seed=1))
    own = baseline_forecaster(data, spec("drift"))
    windows = replay(own, data, (30, 7), horizon=H)
    for row, cutoff in zip(range(4), (30, 30, 7, 7), strict=True):
        alone = own.predict(data.drop_last(cutoff)).values[row % 2]
        assert (windows.values[row] == alone).all()


def changed_after(data: list[NDArray[np.float64]], keep: int) -> Panel:
    """The series with everything after the first `keep` steps of each made absurd."""
    return panel(*(np.concatenate([y[:keep], 1e6 * (1 + np.arange(len(y) - keep))]) for y in data))


@pytest.mark.parametrize("backbone", list(BASELINES))
@pytest.mark.parametrize("lengths", [(120,), (400, 400)])  # rolling refits; one fit
def test_a_value_after_a_cutoff_changes_nothing_at_or_before_it(
    backbone: str, lengths: tuple[int, ...]
) -> None:
    data = [wave(length, seed=length + place) for place, length in enumerate(lengths)]
    blocks = Blocks.cut(panel(*data), horizon=H, num_windows=3)
    assert blocks.rolling_refits is (len(lengths) == 1)
    before = evaluate(spec(backbone), panel(*data), blocks)
    for cutoff in blocks.judge:
        after = evaluate(spec(backbone), changed_after(data, lengths[0] - cutoff), blocks)
        assert same(before.calibration.tensors(), after.calibration.tensors())
        assert before.select_metrics == after.select_metrics
        columns = [
            name for name in before.forecasts.columns if name.startswith(("lo-", "hi-", "median", "mase"))
        ]
        seen = before.forecasts["cutoff_step"] <= -cutoff
        pd.testing.assert_frame_equal(
            before.forecasts.loc[seen, columns], after.forecasts.loc[seen, columns], check_exact=True
        )


def same(left: dict[str, Any], right: dict[str, Any]) -> bool:
    return all(np.array_equal(left[name], right[name]) for name in left)


def test_a_network_sees_nothing_after_a_cutoff() -> None:
    data = [wave(120)]
    blocks = Blocks.cut(panel(*data), horizon=H, num_windows=2)
    tiny = ModelSpec(backbone="gru", horizon=H, hidden_size=8)
    before, after = (
        evaluate(tiny, each, blocks, TrainConfig(max_steps=8, progress="quiet"))
        for each in (panel(*data), changed_after(data, 120 - blocks.judge[0]))
    )
    assert before.spec == after.spec
    assert before.refit_spec == after.refit_spec
    assert same(before.calibration.tensors(), after.calibration.tensors())
    assert before.select_metrics == after.select_metrics
    first = before.forecasts["cutoff_step"] == -blocks.judge[0]
    assert (before.forecasts.loc[first, "median"] == after.forecasts.loc[first, "median"]).all()


def test_a_long_panel_trains_a_network_once_and_refits_it_with_the_steps_found() -> None:
    data = panel(*(wave(260, seed=seed) for seed in range(4)))
    blocks = Blocks.cut(data, horizon=H, num_windows=2)
    tiny = ModelSpec(backbone="lstm", horizon=H, context_length=21, hidden_size=8)
    config = TrainConfig(max_steps=12, progress="quiet")
    evaluated = evaluate(tiny, data, blocks, config)
    assert not evaluated.rolling_refits
    assert evaluated.num_steps is not None
    full = refit_full(evaluated, data, config)
    assert full.info.num_steps == max(evaluated.num_steps, 1)
    assert full.info.trained_until == "2020-09-16T00:00:00"
    assert full.predict(data).notes[0] == ()


def test_an_absurd_judge_block_lets_the_same_candidate_win() -> None:
    data = [wave(150), wave(150, seed=1)]
    blocks = Blocks.cut(panel(*data), horizon=H, num_windows=3)

    def winner(panel: Panel) -> Evaluated:
        return choose([evaluate(spec(name), panel, blocks) for name in BASELINES])

    absurd = changed_after(data, 150 - blocks.judge[0])
    assert winner(panel(*data)).name == winner(absurd).name == "seasonal_naive"
    assert winner(absurd).metrics["mae"] > 1e5


def test_a_forecaster_is_scored_only_after_its_training_data() -> None:
    data = panel(wave())
    trained = baseline_forecaster(data.drop_last(10), spec())
    rows = backtest(trained, data, num_windows=4).forecasts
    assert rows["in_sample"].tolist() == [True] * (2 * H) + [True] * 2 + [False] * (4 + H)
    result = backtest(trained, data, num_windows=4)
    unseen = rows[~rows["in_sample"]]
    assert result.metrics["mae"] == pytest.approx((unseen["y"] - unseen["median"]).abs().mean())


def test_a_series_that_ends_early_is_judged_like_the_others() -> None:
    data = panel(wave(400), wave(250, seed=1))
    result = backtest(spec(), data, num_windows=2)
    assert not result.forecasts["in_sample"].any()
    assert (result.forecasts.groupby("unique_id").size() == 2 * H).all()


def test_baselines_beside_a_forecaster_are_scored_on_the_rows_that_count_for_it() -> None:
    data = panel(wave(), wave(seed=1))
    trained = baseline_forecaster(data.drop_last(10), spec("drift"))
    result = backtest(trained, data, num_windows=4)
    assert list(result) == ["drift", "naive", "seasonal_naive"]
    keys = ["unique_id", "cutoff", "step", "in_sample"]
    pd.testing.assert_frame_equal(
        result["naive"].forecasts[keys].sort_values(keys, ignore_index=True),
        result.forecasts[keys].sort_values(keys, ignore_index=True),
    )
    assert set(result.table().index) == {"drift", "naive", "seasonal_naive"}


def test_a_history_too_short_to_calibrate_baselines_still_scores_a_forecaster() -> None:
    trained = baseline_forecaster(panel(wave(40)), spec())
    result = backtest(trained, panel(wave(13)), num_windows=1)
    assert list(result) == ["seasonal_naive"]
    assert len(result.forecasts) == H


def test_other_baselines_are_asked_for_by_name() -> None:
    result = backtest(spec("naive"), panel(wave()), baselines=["ridge"])
    assert list(result) == ["naive", "ridge"]
    assert result["ridge"].metrics["wql"] < result["naive"].metrics["wql"]
    assert result["ridge"].seconds > 0
    with pytest.raises(NotFoundError, match="no result for 'gru'; it has naive, ridge"):
        result["gru"]
    with pytest.raises(SpecError, match="no baseline oracle"):
        backtest(spec(), panel(wave()), baselines=["oracle"])


def test_a_finished_forecaster_is_never_fitted_again() -> None:
    with pytest.raises(SpecError, match="give its spec"):
        backtest(baseline_forecaster(panel(wave()), spec()), panel(wave()), refit=True)


def test_coverage_and_width_are_told_for_any_level_and_grow_with_it() -> None:
    found = backtest(spec(), panel(wave(400), wave(400, seed=1)), levels=(50, 70.5, 95)).coverage
    assert list(found) == [50, 70.5, 95]
    widths = [each.width for each in found.values()]
    assert widths == sorted(widths)
    shares = [each.estimate.mean for each in found.values()]
    assert shares == sorted(shares)


@pytest.mark.parametrize("level", [0, 100, -5, True])
def test_a_level_that_is_no_share_is_refused(level: float) -> None:
    with pytest.raises(LevelError, match=r"outside \(0, 100\)"):
        backtest(spec(), panel(wave()), levels=(80, level))


def test_width_is_in_units_overall_by_step_and_by_series() -> None:
    result = backtest(spec(), panel(wave(), 100 * wave(seed=1)))
    rows = result.forecasts
    assert result.metrics["width_80"] == pytest.approx((rows["hi-80"] - rows["lo-80"]).mean())
    assert result.coverage[80].width == pytest.approx(result.metrics["width_80"])
    assert result.by_step["width_95"].shape == (H,)
    small, large = result.by_series["width_80"]
    assert large > 50 * small


def test_series_too_short_for_a_cutoff_are_named_not_dropped() -> None:
    result = backtest(spec(), panel(wave(), wave(20, seed=1)), num_windows=3)
    assert result.skipped == ("s1",)
    assert set(result.forecasts["unique_id"]) == {"s0", "s1"}  # it is scored where its history suffices


def test_a_panel_too_short_for_any_window_is_refused() -> None:
    own = baseline_forecaster(panel(wave()), spec())
    with pytest.raises(DataError, match=r"the 13 steps that one window needs .* longest of 's0' has 12"):
        backtest(own, panel(wave(12)), num_windows=4)


def test_constant_series_are_named_where_mase_is_undefined() -> None:
    result = backtest(spec(), panel(wave(), np.full(200, 5.0)))
    assert result.unscaled == ("s1",)
    assert np.isfinite(result.metrics["mase"])


@pytest.mark.parametrize("missing", [0, 3])
def test_seasonal_scales_equal_the_obvious_mean(missing: int) -> None:
    y = wave(60)
    y[10 : 10 + missing] = np.nan
    data = panel(y)
    for seen in (5, 7, 8, 30, 60):
        gaps = np.abs(data.y(0)[7:seen] - data.y(0)[: max(seen - 7, 0)])
        expected = np.nanmean(gaps) if np.isfinite(gaps).any() else np.nan
        found = SeasonalScales(data).at(np.array([0]), np.array([seen]))
        assert found == pytest.approx([expected], nan_ok=True)


def test_a_full_refit_keeps_the_calibration_and_knows_how_far_it_was_trained() -> None:
    data = panel(wave(300))
    evaluated = evaluate(spec(), data, Blocks.cut(data, horizon=H))
    full = refit_full(evaluated, data)
    assert full.info.trained_until == "2020-10-26T00:00:00"
    assert full.info.data_fingerprint == data.fingerprint()
    assert same(full.calibration.tensors(), evaluated.calibration.tensors())
    assert "uncalibrated" not in full.predict(data).notes[0]


def test_a_candidate_with_no_score_is_never_chosen() -> None:
    data = panel(wave(300))
    good = evaluate(spec(), data, Blocks.cut(data, horizon=H))
    broken = replace(good, name="broken", select_metrics={"wql": float("nan")})
    assert choose([broken, good]) is good


def test_baselines_on_air_passengers_match_the_published_errors() -> None:
    result = backtest(
        ModelSpec(backbone="seasonal_naive", horizon=12), air_passengers(), num_windows=37, stride=1
    )
    assert result.metrics["mae"] == pytest.approx(35.5, abs=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("backbone", list(BASELINES))
def test_calibrated_baselines_cover_what_they_say_on_hourly_loads(backbone: str) -> None:
    data = fc.read_parquet(shared_data("etth1.parquet"), freq="h")
    blocks = Blocks.cut(data, horizon=24, num_windows=100, stride=24)
    found = evaluate(ModelSpec(backbone=backbone, horizon=24), data, blocks).coverage
    assert found[80].estimate.mean == pytest.approx(0.80, abs=0.03)
    assert found[95].estimate.mean == pytest.approx(0.95, abs=0.03)
    assert found[80].estimate.error < 0.015
