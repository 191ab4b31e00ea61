"""Conformal calibration: true levels where there is data, sane widths where there is little."""

from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from forecast.evaluation.conformal import (
    conformal_quantile,
    fit_calibration,
    growth_of,
    isotonic,
    mirrored,
    smooth_spread,
    supported_levels,
)
from forecast.models.spec import QUANTILE_LEVELS

Q = len(QUANTILE_LEVELS)


def points(num_windows: int, horizon: int, *, seed: int, scale: float = 1.0) -> tuple[NDArray, NDArray]:
    """A point forecast of 0 for walks: the error grows with the root of the step."""
    steps = np.random.default_rng(seed).normal(size=(num_windows, horizon)) * scale
    return np.zeros((num_windows, horizon, Q)), np.cumsum(steps, axis=1)


def test_point_forecasts_get_quantiles_that_are_true_on_new_windows() -> None:
    quantiles, y = points(2000, 6, seed=0, scale=3.0)
    table = fit_calibration(quantiles, y, np.full(2000, 3.0), quantile_levels=QUANTILE_LEVELS)
    fresh, new = points(20_000, 6, seed=1, scale=30.0)  # another scale: the table carries over
    answer = table.apply(fresh, np.full(20_000, 30.0))
    for index, level in enumerate(QUANTILE_LEVELS):
        if level != 0.5:
            below = (new <= answer[:, :, index]).mean(axis=0)
            assert below == pytest.approx(np.full(6, level), abs=0.03)
    assert table.growth == pytest.approx(0.5, abs=0.05)
    assert not table.parametric.any()


def test_a_network_that_is_too_sure_or_not_sure_enough_is_corrected() -> None:
    rng = np.random.default_rng(0)
    y = rng.normal(size=(3000, 2))
    z = np.array([NormalDist().inv_cdf(level) for level in QUANTILE_LEVELS])
    for width in (0.3, 3.0):
        quantiles = np.broadcast_to(width * z, (3000, 2, Q))
        table = fit_calibration(quantiles, y, np.ones(3000), quantile_levels=QUANTILE_LEVELS)
        answer = table.apply(quantiles.copy(), np.ones(3000))
        inside = (answer[:, :, 4] <= y) & (y <= answer[:, :, 12])
        assert inside.mean() == pytest.approx(0.8, abs=0.02)


def by_stretch(sizes: list[float]) -> tuple[NDArray, NDArray, NDArray]:
    """A model that is sure of unit errors, errors whose size differs by stretch of time, and the cutoffs."""
    z = np.array([NormalDist().inv_cdf(level) for level in QUANTILE_LEVELS])
    steps = np.arange(100 * len(sizes))
    y = np.random.default_rng(0).normal(size=(len(steps), 3)) * np.repeat(sizes, 100)[:, None]
    return np.broadcast_to(z, (len(steps), 3, Q)), y, steps


def halfway(quantiles: NDArray, y: NDArray) -> NDArray:
    """The mean of a model's own quantiles and of those that the errors of its median give."""
    median = np.repeat(quantiles[..., Q // 2, None], Q, axis=2)
    ones = np.ones(len(y))
    by_error = fit_calibration(median, y, ones, quantile_levels=QUANTILE_LEVELS).apply(median, ones)
    return (quantiles + by_error) / 2


@pytest.mark.parametrize(("num_windows", "share"), [(99, 1.0), (100, 0.5)])
def test_a_networks_own_intervals_count_as_a_whole_beside_few_windows(num_windows: int, share: float) -> None:
    quantiles, y, _ = by_stretch([1.0])
    table = fit_calibration(
        quantiles[:num_windows], y[:num_windows], np.ones(num_windows), quantile_levels=QUANTILE_LEVELS
    )
    assert table.own_share == share


def test_a_window_without_width_leaves_a_network_a_network() -> None:
    quantiles, y, _ = by_stretch([1.0, 1.0])
    quantiles = quantiles.copy()
    quantiles[3] = 0  # a constant context
    assert fit_calibration(quantiles, y, np.ones(200), quantile_levels=QUANTILE_LEVELS).own_share == 0.5


CONTRADICTING = [0.6, 1.7, 0.5, 1.6, 0.6, 1.5, 0.7, 1.4]


def test_a_network_is_halfway_to_its_errors_where_stretches_of_time_contradict_each_other() -> None:
    quantiles, y, steps = by_stretch(CONTRADICTING)
    ones = np.ones(800)
    table = fit_calibration(quantiles, y, ones, quantile_levels=QUANTILE_LEVELS, steps=steps)
    assert table.is_fitted
    assert table.apply(quantiles, ones) == pytest.approx(halfway(quantiles, y), abs=1e-5)
    without = fit_calibration(quantiles, y, ones, quantile_levels=QUANTILE_LEVELS)
    assert np.abs(without.corrections - table.corrections).max() > 0.1


def test_a_network_is_corrected_where_all_stretches_of_time_agree() -> None:
    quantiles, y, steps = by_stretch([1.6, 1.7, 1.5, 1.6, 1.6, 1.5, 1.7, 1.4])
    table = fit_calibration(quantiles, y, np.ones(800), quantile_levels=QUANTILE_LEVELS, steps=steps)
    without = fit_calibration(quantiles, y, np.ones(800), quantile_levels=QUANTILE_LEVELS)
    assert np.array_equal(table.corrections, without.corrections)
    ones = np.ones(800)
    assert table.apply(quantiles, ones) != pytest.approx(halfway(quantiles, y), abs=0.02)


@pytest.mark.parametrize("case", ["no widths of its own", "too little time", "one cutoff"])
def test_corrections_are_never_called_chance_without_evidence(case: str) -> None:
    quantiles, y, steps = by_stretch(CONTRADICTING)
    if case == "no widths of its own":
        quantiles = np.zeros_like(quantiles)
    steps = steps // 50 if case == "too little time" else steps * 0 if case == "one cutoff" else steps
    table, without = (
        fit_calibration(quantiles, y, np.ones(800), quantile_levels=QUANTILE_LEVELS, steps=given_steps)
        for given_steps in (steps, None)
    )
    assert np.array_equal(table.corrections, without.corrections)
    assert table.corrections.any()


def test_few_lucky_windows_never_make_a_model_surer_than_it_is() -> None:
    z = np.array([NormalDist().inv_cdf(level) for level in QUANTILE_LEVELS])
    quantiles = np.broadcast_to(z, (13, 4, Q))
    table = fit_calibration(quantiles, np.zeros((13, 4)), np.ones(13), quantile_levels=QUANTILE_LEVELS)
    assert (table.corrections == 0).all()


@given(
    num_windows=st.integers(1, 30),
    horizon=st.integers(1, 8),
    seed=st.integers(0, 1000),
    bias=st.floats(-5, 5),
)
@settings(max_examples=40, deadline=None)
def test_few_windows_give_finite_rising_quantiles_and_widths_that_never_shrink(
    num_windows: int, horizon: int, seed: int, bias: float
) -> None:
    quantiles, y = points(num_windows, horizon, seed=seed)
    table = fit_calibration(quantiles, y + bias, np.ones(num_windows), quantile_levels=QUANTILE_LEVELS)
    answer = table.apply(np.zeros((1, horizon, Q)), np.ones(1))[0]
    assert np.isfinite(answer).all()
    assert (np.diff(answer, axis=1) >= -1e-6).all()
    assert answer[:, 0].max() < 0 < answer[:, -1].min()
    if num_windows * 8 < 1000:  # every step is pooled with every other
        width = answer[:, -1] - answer[:, 0]
        assert (np.diff(width) >= -1e-5 * width.max()).all()


def test_levels_beyond_the_sample_are_marked_and_wider_than_those_within() -> None:
    quantiles, y = points(13, 12, seed=0)
    table = fit_calibration(quantiles, y, np.ones(13), quantile_levels=QUANTILE_LEVELS)
    assert table.parametric.tolist() == [True] * 4 + [False] * 9 + [True] * 4
    assert (np.diff(table.corrections, axis=1) >= 0).all()
    assert (table.corrections[:, 0] < table.corrections[:, 4]).all()


@pytest.mark.parametrize(
    ("num_windows", "expected"), [(1, (0.5, 0.5)), (9, (0.1, 0.9)), (13, (0.1, 0.9)), (199, (0.005, 0.995))]
)
def test_a_level_is_supported_when_a_score_is_expected_beyond_it(
    num_windows: int, expected: tuple[float, float]
) -> None:
    assert supported_levels(QUANTILE_LEVELS, num_windows) == expected


def test_the_conformal_quantile_is_one_window_further_out() -> None:
    scores = np.arange(1, 10, dtype=float)  # nine scores: the 0.9 quantile is the largest of them
    assert conformal_quantile(scores, 0.9, num_windows=9) == 9
    assert conformal_quantile(scores, 0.1, num_windows=9) == 1
    assert conformal_quantile(scores, 0.8, num_windows=10**9) == pytest.approx(np.quantile(scores, 0.8))


def test_mirrored_scores_make_both_sides_alike() -> None:
    levels = (0.1, 0.5, 0.9)
    both = mirrored(np.array([[[1.0, 2.0, 5.0]]]), levels)
    assert both.tolist() == [[[1.0, 2.0, 5.0]], [[-5.0, -2.0, -1.0]]]


def test_a_level_without_its_opposite_keeps_its_own_scores() -> None:
    assert mirrored(np.array([[[1.0, 2.0]]]), (0.1, 0.5)).tolist() == [[[1.0, 2.0]], [[1.0, -2.0]]]


def test_missing_targets_drop_out() -> None:
    quantiles, y = points(500, 3, seed=0)
    gappy = y.copy()
    gappy[::2, 1] = np.nan
    gappy[:100] = np.nan
    table = fit_calibration(quantiles, gappy, np.ones(500), quantile_levels=QUANTILE_LEVELS)
    assert table.num_windows == 400
    assert np.isfinite(table.corrections).all()


def test_nothing_observed_gives_no_calibration() -> None:
    quantiles, y = points(5, 2, seed=0)
    table = fit_calibration(quantiles, y * np.nan, np.ones(5), quantile_levels=QUANTILE_LEVELS)
    assert not table.is_fitted
    assert (table.corrections == 0).all()


def test_a_perfect_forecast_keeps_a_finite_width() -> None:
    quantiles, _ = points(50, 3, seed=0)
    table = fit_calibration(quantiles, np.zeros((50, 3)), np.ones(50), quantile_levels=QUANTILE_LEVELS)
    assert np.isfinite(table.corrections).all()


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=12))
def test_isotonic_never_falls_and_keeps_the_mean(values: list[float]) -> None:
    risen = isotonic(np.array(values), np.ones(len(values)))
    assert (np.diff(risen) >= -1e-9).all()
    assert risen.mean() == pytest.approx(np.mean(values), abs=1e-9)


def test_isotonic_pools_neighbours_that_fall() -> None:
    assert isotonic(np.array([1.0, 3.0, 2.0, 4.0]), np.ones(4)).tolist() == [1, 2.5, 2.5, 4]


def test_spread_and_its_growth() -> None:
    errors = np.random.default_rng(0).normal(size=(4000, 9)) * np.arange(1, 10) ** 0.7
    spread = smooth_spread(errors, monotone=True)
    assert spread == pytest.approx(np.arange(1, 10) ** 0.7, rel=0.05)
    assert growth_of(spread) == pytest.approx(0.7, abs=0.05)
    assert growth_of(np.ones(5)) == 0
    assert growth_of(np.ones(1)) == 0.5
