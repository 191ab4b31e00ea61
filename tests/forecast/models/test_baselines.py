"""Baselines against cases solved by hand."""

import numpy as np
import pytest

from forecast.errors import SpecError
from forecast.models.baselines import BaselineBackend, drift, naive, seasonal_naive
from forecast.series.batch import ContextBatch

NAN = np.nan


@pytest.mark.parametrize(
    ("context", "expected"),
    [
        ([1, 2, 3], [3, 3]),
        ([1, 2, NAN], [2, 2]),
        ([NAN, NAN, 5], [5, 5]),
        ([7], [7, 7]),
    ],
)
def test_naive_repeats_the_last_observed_value(context: list[float], expected: list[float]) -> None:
    assert naive(np.array([context], dtype=float), 2, 1).tolist() == [expected]


@pytest.mark.parametrize(
    ("context", "season_length", "expected"),
    [
        ([1, 2, 3, 4, 5, 6], 3, [4, 5, 6, 4, 5]),
        ([9, 1, 2, 3], 3, [1, 2, 3, 1, 2]),
        ([1, 2, 3, 4, NAN, 6], 3, [4, 2, 6, 4, 2]),  # missing in the last season: the season before
        ([NAN, NAN, 3, 4, NAN, 6], 3, [4, 6, 6, 4, 6]),  # never observed: the last value
        ([1, 2], 5, [2, 2, 2, 1, 2]),  # a history shorter than the season
        ([4, 5], 1, [5, 5, 5, 5, 5]),
    ],
)
def test_seasonal_naive_repeats_the_last_season(
    context: list[float], season_length: int, expected: list[float]
) -> None:
    assert seasonal_naive(np.array([context], dtype=float), 5, season_length).tolist() == [expected]


@pytest.mark.parametrize(
    ("context", "expected"),
    [
        ([1, 2, 3], [4, 5]),
        ([0, 9, 4], [6, 8]),
        ([NAN, 1, NAN, 3, NAN], [5, 6]),  # the line goes on through the missing end
        ([NAN, NAN, 5], [5, 5]),
    ],
)
def test_drift_continues_the_line_through_first_and_last(context: list[float], expected: list[float]) -> None:
    assert drift(np.array([context], dtype=float), 2, 1).tolist() == [expected]


def test_a_backend_answers_every_quantile_with_the_point() -> None:
    backend = BaselineBackend("naive", horizon=3, season_length=1, num_quantiles=5)
    batch = ContextBatch.from_raw(np.array([[1.0, 4.0], [1e9, 1e9 + 1]]))
    quantiles = backend(batch)
    assert quantiles.shape == (2, 3, 5)
    assert quantiles.dtype == np.float32
    assert (quantiles == 0).all()  # relative to the last value


def test_an_unknown_baseline_is_refused_by_name() -> None:
    with pytest.raises(SpecError, match="there are: naive, seasonal_naive, drift"):
        BaselineBackend("oracle", horizon=1, season_length=1, num_quantiles=1)
