"""A ridge at work: gaps, short histories, and weights whose answer is known."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from forecast.errors import ArtifactError
from forecast.models.ridge import RidgeBackend, filled, read
from forecast.series.batch import ContextBatch

NAN = np.nan


def ridge(coefficients: Any, intercepts: Any = None, *, transform: str = "none") -> RidgeBackend:
    table = np.array(coefficients, dtype=np.float32)
    shift = np.zeros(len(table)) if intercepts is None else np.array(intercepts)
    return RidgeBackend(
        table, shift.astype(np.float32), transform=transform, season_length=3, num_quantiles=2
    )


def forecast(model: RidgeBackend, *windows: list[float]) -> NDArray[np.float64]:
    """The point forecasts in units, (B, H)."""
    batch = ContextBatch.from_raw(np.array(windows, dtype=float))
    quantiles = model(batch)
    assert (quantiles[..., 0] == quantiles[..., 1]).all()
    return np.asarray(quantiles[..., 0] + batch.level[:, None])


REPEAT_LAST_CHANGE = [[0.0, 1.0], [0.0, 2.0]]


def test_weights_on_the_last_change_continue_it() -> None:
    assert forecast(ridge(REPEAT_LAST_CHANGE), [1, 2, 4])[0] == pytest.approx([6, 8])
    assert forecast(ridge(REPEAT_LAST_CHANGE, transform="log"), [1, 2, 4])[0] == pytest.approx([8, 16])


def test_forecasts_follow_the_units_of_the_history() -> None:
    model = ridge([[0.3, -0.4], [0.2, 0.9]], [0.1, 0.2])
    window = np.array([3.0, 5.0, 4.0])
    base = forecast(model, list(window))
    assert forecast(model, list(1000 * window)) == pytest.approx(1000 * base, rel=1e-6)
    assert forecast(model, list(1e9 + window)) == pytest.approx(1e9 + base, abs=1e-3)


@pytest.mark.parametrize("transform", ["none", "log"])
def test_a_history_without_movement_stays_where_it_is(transform: str) -> None:
    model = ridge([[0.3, -0.4], [0.2, 0.9]], [0.1, 0.2], transform=transform)
    assert forecast(model, [7, 7, 7], [NAN, NAN, 5]).tolist() == [[7, 7], [5, 5]]


def test_a_history_shorter_than_the_lags_is_read_as_without_movement_before() -> None:
    model = ridge([[5.0, 1.0]])
    assert forecast(model, [NAN, 2, 4]) == pytest.approx(np.array([[6]]))
    assert forecast(model, [2, 4]) == pytest.approx(np.array([[6]]))


def test_values_without_a_logarithm_count_as_missing() -> None:
    model = ridge(REPEAT_LAST_CHANGE, transform="log")
    assert np.isfinite(forecast(model, [4, 2, 0], [-1, -2, -3], [1, 0, 5])).all()


def test_no_forecast_in_logs_leaves_the_range_of_floats() -> None:
    model = ridge([[0.0, 1e6]], transform="log")
    assert np.isfinite(forecast(model, [1, 2, 4])).all()


def test_gaps_go_on_as_one_season_before() -> None:
    rows = np.array([[1, 5, 2, 3, NAN, NAN, NAN], [NAN, NAN, 4, NAN, 6, 7, 8]])
    expected = [[1, 5, 2, 3, 7, 4, 5], [NAN, NAN, 4, 4, 6, 7, 8]]
    np.testing.assert_array_equal(filled(rows, season_length=3), expected)


def test_a_fill_never_reads_a_later_value() -> None:
    rows = np.random.default_rng(0).normal(size=(20, 30))
    rows[np.random.default_rng(1).random(rows.shape) < 0.3] = NAN
    for cut in (5, 17):
        whole, part = filled(rows, season_length=4), filled(rows[:, :cut], season_length=4)
        np.testing.assert_array_equal(whole[:, :cut], part)


def test_changes_are_in_units_of_their_size_in_the_window() -> None:
    changes, size = read(np.array([[NAN, 1.0, 3.0, 2.0]]), "none")
    assert size[0, 0] == pytest.approx(1.5)
    assert changes[0] == pytest.approx([0, 2 / 1.5, -1 / 1.5])


def test_weights_come_back_from_their_tensors_and_wrong_ones_are_refused() -> None:
    model = ridge(REPEAT_LAST_CHANGE, [1.0, 2.0])
    again = RidgeBackend.from_tensors(model.tensors(), transform="none", season_length=3, num_quantiles=2)
    assert (forecast(again, [1, 2, 4]) == forecast(model, [1, 2, 4])).all()
    with pytest.raises(ArtifactError, match="lacks"):
        RidgeBackend.from_tensors({}, transform="none", season_length=3, num_quantiles=2)
    with pytest.raises(ArtifactError, match="coefficients"):
        ridge(REPEAT_LAST_CHANGE, [1.0])
