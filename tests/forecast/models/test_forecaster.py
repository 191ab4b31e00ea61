"""A forecaster on series: horizons, notes, bounds, and what it refuses."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from forecast.errors import (
    ContextError,
    CovariateError,
    DataError,
    EmptyDataError,
    FrequencyError,
    HorizonError,
    ValueRangeError,
)
from forecast.models import forecaster as module
from forecast.models.baselines import baseline_forecaster
from forecast.models.calibration import SCALE_SEASONS, Calibration, context_scale
from forecast.models.forecaster import Forecaster, ForecasterInfo, default_min_context
from forecast.models.spec import ModelSpec
from forecast.series.batch import ContextBatch
from forecast.series.panel import Panel

H = 4


def panel(*series: Any, freq: str | int = "MS", start: Any = "2020-01-01", names: str = "abcdefgh") -> Panel:
    """Series that all start at the same stamp, named a, b, c, ..."""
    ys = [np.asarray(each, dtype=float) for each in series]
    return Panel.from_arrays(list(names[: len(ys)]), ys, freq=freq, starts=[start] * len(ys))


def walk(length: int = 48, seed: int = 0) -> NDArray[np.float64]:
    return 100 + np.cumsum(np.random.default_rng(seed).normal(size=length))


def forecaster(backbone: str = "naive", trained_on: Panel | None = None, **fields: Any) -> Forecaster:
    """A calibrated baseline trained on series a: a random walk of 48 months."""
    spec = ModelSpec(backbone=backbone, horizon=H, quantile_levels=(0.05, 0.1, 0.5, 0.9, 0.95), **fields)
    fitted = baseline_forecaster(trained_on or panel(walk()), spec)
    grid = np.sqrt(np.arange(1, H + 1))[:, None] * np.array([-1.6, -1.3, 0, 1.3, 1.6])
    table = Calibration(
        quantile_levels=spec.quantile_levels, corrections=grid.astype(np.float32), num_windows=500
    )
    return replace(fitted, calibration=table)


class Fixed:
    """A backend that answers the same quantiles for every window."""

    def __init__(self, quantiles: Any) -> None:
        self.quantiles = np.asarray(quantiles, dtype=np.float32)

    def __call__(self, batch: ContextBatch) -> NDArray[np.float32]:
        return np.repeat(self.quantiles[None], len(batch.level), axis=0)

    def tensors(self) -> dict[str, NDArray]:
        return {}

    def export_onnx(self, path: Path) -> bool:
        return False


def test_a_forecast_starts_after_the_last_stamp_and_centres_on_the_model() -> None:
    answer = forecaster().predict(panel(walk()))
    assert answer.values.shape == (1, H, 5)
    assert str(answer.ds[0, 0])[:10] == "2024-01-01"
    assert answer.median[0] == pytest.approx([walk()[-1]] * H, abs=1e-5)
    assert (np.diff(answer.values, axis=-1) > 0).all()


@pytest.mark.parametrize("horizon", [1, 3, 4])
def test_a_shorter_horizon_gives_the_first_steps(horizon: int) -> None:
    whole, part = (forecaster().predict(panel(walk()), steps) for steps in (None, horizon))
    assert (part.values == whole.values[:, :horizon]).all()
    assert part.notes == whole.notes


def test_a_longer_horizon_is_rolled_out_by_blocks_and_noted() -> None:
    answer = forecaster("seasonal_naive").predict(panel(walk()), 16)
    assert "rolled_out" in answer.notes[0]
    assert answer.median[0] == pytest.approx([*walk()[-12:], *walk()[-12:-8]], abs=1e-5)


@pytest.mark.parametrize("backbone", ["naive", "seasonal_naive", "drift"])
def test_width_never_shrinks_from_one_block_to_the_next(backbone: str) -> None:
    values = forecaster(backbone).predict(panel(walk()), 16).values
    width = (values[:, :, -1] - values[:, :, 0]).reshape(-1, 4, H)
    assert (np.diff(width, axis=1) >= -1e-9).all()
    assert (width[:, 1:].min(axis=2) >= width[:, :-1, -1] - 1e-9).all()


def test_a_random_walk_rolled_out_is_as_wide_as_the_square_root_of_time() -> None:
    values = forecaster().predict(panel(walk()), 16).values[0]
    width = values[:, -1] - values[:, 0]
    assert width == pytest.approx(width[0] * np.sqrt(np.arange(1, 17)), rel=1e-5)


def test_a_horizon_beyond_the_limit_or_below_one_is_refused() -> None:
    with pytest.raises(HorizonError, match="beyond the model's max_horizon 16"):
        forecaster().predict(panel(walk()), 17)
    with pytest.raises(HorizonError, match="at least 1"):
        forecaster().predict(panel(walk()), 0)


def test_another_frequency_is_refused_by_both_names() -> None:
    hourly = panel(walk(), freq="h")
    with pytest.raises(FrequencyError, match=r"forecasts monthly series \(MS\) and got hourly stamps \(h\)"):
        forecaster().predict(hourly)


def test_a_calibration_is_served_in_the_scale_that_it_was_fitted_in() -> None:
    stuck = np.concatenate([walk(140), np.full(60, 100.0)])
    model = forecaster(context_length=168)
    before = replace(model, calibration=replace(model.calibration, scale_seasons=(3,)))
    widths = [np.ptp(each.predict(panel(stuck)).values, axis=-1) for each in (model, before)]
    scales = [
        context_scale(panel(stuck).contexts(168), 12, seasons)
        for seasons in (SCALE_SEASONS, SCALE_SEASONS[:1])
    ]
    assert scales[0] > 2 * scales[1]
    assert (widths[0] / widths[1]).ravel() == pytest.approx(np.full(H, scales[0] / scales[1]), rel=1e-4)


def test_a_models_own_quantiles_are_held_to_the_bounds_before_they_are_calibrated() -> None:
    model = forecaster(lower_bound=100.0)
    table = replace(model.calibration, corrections=0 * model.calibration.corrections, own_share=0.5)
    below = replace(model, calibration=table, backend=Fixed([-40, -30, -20, 2, 6]))
    answer = below.predict(panel([*walk(40), 110.0])).values[0, 0]
    assert answer == pytest.approx([100, 100, 100, 106, 108])  # of 100, 100, 100, 112, 116


def test_a_short_history_is_refused_naming_series_need_and_got() -> None:
    with pytest.raises(ContextError, match=r"at least 12 observed values and got 5 for 'b'"):
        forecaster().predict(panel(walk(), walk(5)))
    with pytest.raises(DataError):
        forecaster().predict(panel(walk(), [np.nan] * 40))


def test_a_history_that_is_missing_in_the_whole_context_is_refused() -> None:
    gone = np.concatenate([walk(40), np.full(70, np.nan)])
    with pytest.raises(EmptyDataError, match="all values are missing in the last 64 steps of 'a'"):
        forecaster().predict(panel(gone))


@pytest.mark.parametrize("transform", ["log", "relative"])
@pytest.mark.parametrize("value", [0.0, -3.0])
@pytest.mark.parametrize("level", [0.7, 1.0, 1e6])
def test_a_history_that_a_transform_cannot_read_is_moved_up_and_its_forecast_down(
    transform: str, value: float, level: float
) -> None:
    model = forecaster(transform=transform)
    good = level * np.linspace(0.5, 1.5, 48)
    bad = np.where(np.arange(48) == 40, value, good)
    both = model.predict(panel(good, bad))
    assert [("shifted" in notes) for notes in both.notes] == [False, True]
    moved = model.predict(panel(bad + np.ptp(bad) - bad.min())).values - (np.ptp(bad) - bad.min())
    assert both.values[1] == pytest.approx(moved[0], rel=1e-3, abs=1e-5 * level)
    assert both.values[0] == pytest.approx(model.predict(panel(good)).values[0])
    rows = model.predict_windows(np.stack([good, bad]))
    assert rows == pytest.approx(both.values[:, : model.horizon], rel=1e-5, abs=1e-6 * level)


@pytest.mark.parametrize("transform", ["log", "relative"])
@pytest.mark.parametrize("level", [0.0, -7.0, -3.3e38])
def test_a_constant_that_a_transform_cannot_read_is_answered_by_itself(transform: str, level: float) -> None:
    found = forecaster(transform=transform).predict(panel(np.full(48, level)))
    assert found.median[0] == pytest.approx(level)
    assert {"constant", "shifted"} <= set(found.notes[0])


@pytest.mark.parametrize("transform", ["log", "relative"])
@pytest.mark.parametrize("huge", [1e30, -1e30, 3.39e38, -3.39e38])
@pytest.mark.parametrize("place", [0, 20, 47])
def test_a_value_that_dwarfs_all_others_is_answered_in_numbers(
    transform: str, huge: float, place: int
) -> None:
    model = forecaster(transform=transform)
    values = np.where(np.arange(48) == place, huge, np.linspace(100, 200, 48))
    found = model.predict(panel(values))
    assert np.isfinite(found.values).all()
    assert (np.diff(found.values[0], axis=-1) >= 0).all()
    assert {"outlier", "shifted"} <= set(found.notes[0])


def test_a_value_outside_the_context_is_no_matter() -> None:
    model = forecaster(transform="log")
    early = np.concatenate([[0.0], walk(model.context_length)])
    assert np.isfinite(model.predict(panel(early)).values).all()
    assert np.isfinite(forecaster(transform="none").predict(panel(-walk())).values).all()


@pytest.mark.parametrize(
    ("season_length", "context_length", "expected"), [(12, 48, 12), (1, 48, 3), (24, 10, 10), (7, 7, 7)]
)
def test_min_context_is_three_or_a_season_within_the_context(
    season_length: int, context_length: int, expected: int
) -> None:
    assert default_min_context(season_length=season_length, context_length=context_length) == expected


def test_notes_stand_in_their_fixed_order() -> None:
    trained = panel(walk(90))
    own = forecaster(trained_on=trained)
    flat = panel([5.0] * 20, names="a")
    assert own.predict(flat, 9).notes == (
        ("short_history", "baseline:naive", "rolled_out", "constant", "in_sample"),
    )
    assert own.predict(trained).notes == (("baseline:naive",),)


@pytest.mark.parametrize(("windows", "note"), [(0, "uncalibrated"), (99, "few_windows"), (100, None)])
def test_a_weak_calibration_is_noted(windows: int, note: str | None) -> None:
    own = forecaster()
    own = replace(own, calibration=replace(own.calibration, num_windows=windows))
    assert set(own.predict(panel(walk(70))).notes[0]) - {"baseline:naive"} == ({note} if note else set())


@pytest.mark.parametrize(
    ("names", "length", "note"),
    [
        ("a", 40, "in_sample"),  # known by its id
        ("z", 40, "in_sample"),  # renamed: known by its values
        ("a", 48, None),  # ends where the training data ended
        ("z", 60, None),  # ends later
    ],
)
def test_a_history_inside_the_training_data_is_noted(names: str, length: int, note: str | None) -> None:
    notes = forecaster().predict(panel(walk(60)[:length], names=names)).notes[0]
    assert set(notes) & {"in_sample", "may_be_in_sample"} == ({note} if note else set())


def test_an_unknown_series_inside_the_training_time_may_be_in_sample() -> None:
    assert "may_be_in_sample" in forecaster().predict(panel(walk(40, seed=9), names="z")).notes[0]


@pytest.mark.parametrize("backbone", ["naive", "seasonal_naive", "drift"])
def test_a_constant_history_gives_the_constant(backbone: str) -> None:
    answer = forecaster(backbone).predict(panel([7.25] * 30), 12)
    assert (answer.median == 7.25).all()
    assert "constant" in answer.notes[0]


def test_one_value_as_far_away_as_all_others_together_is_noted() -> None:
    values = walk(40)
    assert "outlier" not in forecaster().predict(panel(values)).notes[0]
    values[20] = 1e12
    assert "outlier" in forecaster().predict(panel(values)).notes[0]
    assert "outlier" not in forecaster().predict(panel([7.25] * 30)).notes[0]


def test_a_frame_in_place_of_a_panel_is_refused_with_the_way_to_one() -> None:
    with pytest.raises(DataError, match=r"got DataFrame; make one with fc\.from_frame"):
        forecaster().predict(panel(walk(40)).to_frame())  # type: ignore[arg-type]


def test_bounds_and_whole_numbers_hold_for_every_quantile() -> None:
    own = forecaster(lower_bound=0.0, upper_bound=3.0, integer=True)
    counts = np.random.default_rng(0).integers(0, 4, size=60).astype(float)
    values = own.predict(panel(counts), 16).values
    assert values.min() >= 0
    assert values.max() <= 3
    assert (values == np.rint(values)).all()
    assert (np.diff(values, axis=-1) >= 0).all()


def test_no_answer_is_ever_nan_or_crossing() -> None:
    own = forecaster()
    broken = np.full((H, 5), np.nan)
    broken[1] = [np.inf, 3, 2, 1, -np.inf]
    values = replace(own, backend=Fixed(broken)).predict(panel(walk()), 16).values
    assert np.isfinite(values).all()
    assert (np.diff(values, axis=-1) >= 0).all()


@pytest.mark.parametrize("level", [1e9, -3e38])
def test_precision_survives_a_high_level(level: float) -> None:
    y = level + (np.arange(48) % 12 if abs(level) < 1e30 else 0 * np.arange(48.0))
    answer = forecaster("seasonal_naive").predict(panel(y))
    assert answer.median[0] == pytest.approx(y[-12:-8], rel=1e-12)
    assert np.isfinite(answer.values).all()


def test_a_large_panel_is_forecast_in_chunks_with_the_same_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    many = panel(*(walk(seed=seed) for seed in range(7)))
    whole = forecaster("drift").predict(many)
    monkeypatch.setattr(module, "MAX_CELLS", 3 * 64)
    chunked = forecaster("drift").predict(many)
    assert (chunked.values == whole.values).all()
    assert chunked.notes == whole.notes


def test_windows_are_forecast_as_series_are() -> None:
    own = forecaster("drift")
    windows = np.stack([walk(), walk(seed=1)])
    values = own.predict_windows(windows)
    assert values.dtype == np.float32
    assert values == pytest.approx(own.predict(panel(*windows)).values, rel=1e-6)
    with pytest.raises(ContextError, match="'row 1'"):
        own.predict_windows(np.array([[1.0] * 12, [np.nan] * 9 + [1.0, 2.0, 3.0]]))


def test_can_predict_says_which_series_are_long_enough() -> None:
    assert forecaster().can_predict(panel(walk(), walk(5), walk(12))).tolist() == [True, False, True]


def test_the_order_of_series_changes_no_forecast() -> None:
    forwards = forecaster("drift").predict(panel(walk(), walk(30, seed=1)))
    backwards = forecaster("drift").predict(panel(walk(30, seed=1), walk(), names="ba"))
    assert (forwards.values == backwards.values[::-1]).all()


def test_the_info_comes_back_from_its_dictionary() -> None:
    info = forecaster().info
    assert ForecasterInfo.from_dict(info.to_dict()) == info


def test_whole_numbers_hold_between_the_levels_of_the_grid_too() -> None:
    answer = forecaster(integer=True, lower_bound=0.0).predict(panel(np.arange(48) % 5))
    assert answer.integer
    for lower in answer.interval(70) + answer.interval(99.9):
        assert (lower == np.rint(lower)).all()
        assert (lower >= 0).all()


class Announced:
    """A backend that forecasts the known covariate itself, and keeps the batches it was shown."""

    def __init__(self) -> None:
        self.batches: list[ContextBatch] = []

    def __call__(self, batch: ContextBatch) -> NDArray[np.float32]:
        self.batches.append(batch)
        assert batch.known is not None
        ahead = batch.known[:, 0, batch.context_length :]
        assert ahead.shape[1] == H
        return np.repeat((ahead - batch.level[:, None])[:, :, None], 5, axis=2).astype(np.float32)

    def tensors(self) -> dict[str, NDArray]:
        return {}

    def export_onnx(self, path: Path) -> bool:
        return False


def announced(known_ahead: int) -> tuple[Forecaster, Panel, NDArray[np.float64]]:
    """A forecaster of what is announced, a history, and the announcements (known_ahead,)."""
    plan = 50 + np.random.default_rng(5).normal(size=48 + known_ahead)
    data = Panel.from_arrays(["a"], [walk()], freq="MS", starts=["2020-01-01"], known=[{"plan": plan}])
    own = forecaster()
    info = replace(own.info, covariates={"past": [], "known": ["plan"], "static": []})
    return replace(own, info=info, backend=Announced()), data, plan[48:]


@pytest.mark.parametrize("horizon", [1, H, H + 1, 2 * H, 3 * H - 1])
def test_each_block_of_a_roll_out_is_shown_its_own_part_of_what_is_known(horizon: int) -> None:
    own, data, plan = announced(horizon)
    answer = own.predict(data, horizon)
    assert answer.median[0] == pytest.approx(plan[:horizon], rel=1e-5)


def test_a_later_block_sees_the_medians_of_the_blocks_before() -> None:
    own, data, plan = announced(2 * H)
    own.predict(data, 2 * H)
    first, second = own.backend.batches  # type: ignore[attr-defined]
    assert second.raw()[0, -H:] == pytest.approx(plan[:H], rel=1e-5)
    assert second.raw()[0, :-H] == pytest.approx(first.raw()[0, H:], rel=1e-5, nan_ok=True)
    assert second.known[0, 0, :-H] == pytest.approx(first.known[0, 0, H:], nan_ok=True)


def test_a_roll_out_beyond_what_is_known_is_refused() -> None:
    own, data, _ = announced(H)
    with pytest.raises(CovariateError, match=r"reach 4 steps into the future and 5 are needed"):
        own.predict(data, H + 1)


def test_past_covariates_end_the_roll_out_at_the_horizon() -> None:
    own = forecaster()
    own = replace(own, info=replace(own.info, covariates={"past": ["wind"], "known": [], "static": []}))
    with pytest.raises(CovariateError, match="wind"):
        own.predict(panel(walk()), H + 1)


@pytest.mark.parametrize("value", [np.inf, -np.inf, 1e39])
def test_windows_with_infinite_values_are_refused_by_row(value: float) -> None:
    windows = np.stack([walk(), np.where(np.arange(48) == 47, value, walk())])
    with pytest.raises(ValueRangeError, match="row 1 holds an infinite value or one beyond"):
        forecaster().predict_windows(windows)


def test_windows_are_rows() -> None:
    with pytest.raises(DataError, match=r"rows of values \(B, L\); got an array of shape \(48,\)"):
        forecaster().predict_windows(walk())


@pytest.mark.parametrize("windows", [[["a"] * 12], [[1.0, 2.0], [3.0]]])
def test_windows_that_are_no_numbers_are_refused(windows: Any) -> None:
    with pytest.raises(DataError, match="rows of numbers, all of one length"):
        forecaster().predict_windows(windows)
