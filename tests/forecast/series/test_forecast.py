"""Forecasts: quantiles between and beyond the grid, intervals that nest, the mean, frames."""

from itertools import pairwise
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forecast.errors import LevelError
from forecast.series.calendar import Frequency
from forecast.series.forecast import Forecast, level_quantiles, number

LEVELS = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)


def forecast(values: Any, *, levels: Any = LEVELS, **parts: Any) -> Forecast:
    array = np.asarray(values, dtype=np.float64)
    num_series, horizon, _ = array.shape
    stamps = np.datetime64("2024-01-01", "us") + np.arange(horizon) * np.timedelta64(1, "D")
    return Forecast(
        unique_ids=np.array([f"s{place}" for place in range(num_series)], dtype=object),
        ds=np.tile(stamps, (num_series, 1)),
        quantile_levels=np.array(levels),
        values=array,
        notes=((),) * num_series,
        freq=Frequency.parse("D"),
        **parts,
    )


def normal(mean: float, deviation: float, **parts: Any) -> Forecast:
    law = NormalDist(mean, deviation)
    return forecast([[[law.inv_cdf(level) for level in LEVELS]]], **parts)


@pytest.mark.parametrize("q", [0.001, 0.02, 0.05, 0.3, 0.5, 0.77, 0.99])
def test_quantiles_of_a_normal_forecast_are_exact_between_and_beyond_the_grid(q: float) -> None:
    np.testing.assert_allclose(normal(5, 2).quantile(q), NormalDist(5, 2).inv_cdf(q), rtol=1e-9)


def test_the_mean_of_a_normal_forecast_is_its_median() -> None:
    np.testing.assert_allclose(normal(5, 2).mean, [[5.0]], rtol=1e-12)


def test_the_mean_is_the_integral_of_the_quantile_function() -> None:
    skewed = forecast([[[0.0, 0.1, 0.4, 1.0, 2.2, 4.5, 7.0]]])
    grid = (np.arange(200_000) + 0.5) / 200_000
    slow = np.mean([skewed.quantile(float(q))[0, 0] for q in grid[::40]])
    np.testing.assert_allclose(skewed.mean[0, 0], slow, rtol=2e-3)


@given(
    values=st.lists(st.floats(-1e9, 1e9), min_size=7, max_size=7).map(sorted),
    levels=st.lists(st.floats(0.1, 99.9), min_size=2, max_size=6, unique=True).map(sorted),
)
def test_wider_levels_hold_narrower_ones(values: list[float], levels: list[float]) -> None:
    answer = forecast([[values]])
    intervals = [answer.interval(level) for level in levels]
    for (low, high), (wider_low, wider_high) in pairwise(intervals):
        assert wider_low <= low <= answer.median <= high <= wider_high


def test_a_point_forecast_has_intervals_of_no_width() -> None:
    point = forecast([[[3.0]]], levels=[0.5])
    assert [float(end[0, 0]) for end in point.interval(95)] == [3.0, 3.0]
    assert point.mean == 3.0


def test_bounds_hold_for_extended_quantiles_and_the_mean() -> None:
    answer = normal(1, 2, lower_bound=0.0)
    assert answer.quantile(0.001) == 0.0
    assert (forecast([[[-1.0] * 7]], lower_bound=0.0).mean == 0.0).all()


def test_integer_forecasts_stay_whole_between_levels() -> None:
    answer = forecast([[[1.0, 2, 3, 4, 7, 9, 12]]], integer=True)
    assert (answer.quantile(0.6) % 1 == 0).all()


def test_levels_beyond_the_grid_are_noted_once() -> None:
    answer = normal(0, 1)
    assert answer.noted([80]).notes == ((),)
    assert answer.noted([80, 99]).noted([99]).notes == (("level_extrapolated",),)
    assert answer.noted([], [0.01]).notes == (("level_extrapolated",),)


@pytest.mark.parametrize("level", [0, 100, -5, 120, "80", True, float("nan"), None])
def test_a_level_outside_its_range_is_refused(level: Any) -> None:
    with pytest.raises(LevelError, match=r"\(0, 100\)"):
        level_quantiles(level)


@pytest.mark.parametrize("q", [0, 1, 1.5, "0.5", True])
def test_a_quantile_outside_its_range_is_refused(q: Any) -> None:
    with pytest.raises(LevelError, match=r"\(0, 1\)"):
        normal(0, 1).quantile(q)


@pytest.mark.parametrize(("level", "text"), [(80, "80"), (80.0, "80"), (95.5, "95.5"), (0.1, "0.1")])
def test_levels_print_as_given(level: float, text: str) -> None:
    assert number(level) == text


def test_a_frame_has_one_row_per_series_and_step() -> None:
    values = np.sort(np.random.default_rng(0).normal(size=(2, 3, 7)), axis=2)
    frame = forecast(values, timezone="Europe/Berlin").to_frame(levels=[80, 95.5], quantiles=[0.1])
    assert list(frame) == ["unique_id", "ds", "median", "lo-80", "hi-80", "lo-95.5", "hi-95.5", "q-0.1"]
    assert frame["unique_id"].tolist() == ["s0"] * 3 + ["s1"] * 3
    assert str(frame["ds"].dt.tz) == "Europe/Berlin"
    assert (frame["lo-80"] == frame["q-0.1"]).all()
    np.testing.assert_array_equal(frame["median"], values[:, :, 3].ravel())


def test_one_level_alone_is_a_list_of_it() -> None:
    values = np.zeros((1, 2, len(LEVELS)))
    assert list(forecast(values).to_frame(levels=80)) == ["unique_id", "ds", "median", "lo-80", "hi-80"]  # type: ignore[arg-type]
