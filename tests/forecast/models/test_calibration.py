"""What a calibration adds, and the scale it is measured in."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from forecast.errors import ArtifactError, LevelError
from forecast.models.calibration import Calibration, context_scale, look_back, ordered
from forecast.series.batch import ContextBatch

LEVELS = (0.1, 0.25, 0.5, 0.75, 0.9)


def calibration(corrections: list[float], **fields: object) -> Calibration:
    return Calibration(
        quantile_levels=LEVELS,
        corrections=np.array([corrections], dtype=np.float32),
        **fields,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    ("context", "season_length", "expected"),
    [
        ([0, 1, 0, 1], 1, 1.0),
        ([0, 1, 0, 1], 2, 0.5),  # steps of 1, seasons of 0
        ([0, 3, np.nan, 3, 4], 1, 2.0),  # pairs with a missing end drop out
        ([0, 2], 7, 2.0),  # no whole season: steps alone
    ],
)
def test_the_scale_is_the_mean_of_step_and_season_differences(
    context: list[float], season_length: int, expected: float
) -> None:
    batch = ContextBatch.from_raw(np.array([context], dtype=float))
    assert context_scale(batch, season_length) == pytest.approx([expected])


def test_a_sensor_that_is_stuck_for_the_near_look_back_has_the_scale_of_the_far_one() -> None:
    moving = np.tile([0.0, 1.0], 100)
    stuck = np.concatenate([moving, np.zeros(72)])  # three seasons of 24
    scale = context_scale(ContextBatch.from_raw(stuck[None]), 24)
    moved = 0.5 * (200 / 271 + 12 / 248)  # steps of 1, and the seasons that end in the stuck part
    assert scale == pytest.approx([moved / 2])


def test_the_far_look_back_is_left_out_where_fourteen_seasons_are_more_than_720_steps() -> None:
    assert [look_back(14, season) for season in (1, 7, 24, 48, 52, 288)] == [64, 98, 336, 672, 156, 864]
    assert [look_back(3, season) for season in (1, 7, 24, 48, 52, 288)] == [64, 64, 72, 144, 156, 864]


def test_the_scale_of_a_constant_is_small_and_above_zero() -> None:
    scale = context_scale(ContextBatch.from_raw(np.array([[5e8] * 9, [0.0] * 9])), 1)
    assert scale[0] == pytest.approx(0.5)
    assert 0 < scale[1] < 1e-30


def test_the_scale_keeps_unit_noise_on_a_level_of_a_billion() -> None:
    noise = np.random.default_rng(0).normal(size=(1, 200))
    small, large = (context_scale(ContextBatch.from_raw(level + noise), 1) for level in (0.0, 1e9))
    assert large == pytest.approx(small, rel=0.05)


def test_corrections_are_measured_in_the_scale_and_leave_the_median() -> None:
    table = calibration([-2, -1, 0, 1, 2])
    quantiles = np.zeros((2, 1, 5))
    applied = table.apply(quantiles, np.array([1.0, 10.0]))
    assert applied[:, 0].tolist() == [[-2, -1, 0, 1, 2], [-20, -10, 0, 10, 20]]


def test_a_correction_across_the_median_stops_at_it() -> None:
    applied = calibration([3, 1, 0, 1, -3]).apply(np.zeros((1, 1, 5)), np.ones(1))
    assert applied[0, 0].tolist() == [0, 0, 0, 0, 1]


@given(arrays(np.float64, (3, 2, 5), elements=st.floats(-1e6, 1e6)))
def test_ordered_quantiles_rise_and_keep_their_median(quantiles: np.ndarray) -> None:
    risen = ordered(quantiles, 2)
    assert (np.diff(risen, axis=-1) >= 0).all()
    assert (risen[..., 2] == quantiles[..., 2]).all()


def test_a_models_own_quantiles_count_by_their_share() -> None:
    table = calibration([-2, -1, 0, 1, 2], own_share=0.5)
    quantiles = np.array([[[1.0, 4, 5, 7, 9]]])
    assert table.apply(quantiles, np.ones(1))[0, 0].tolist() == [1, 3.5, 5, 7, 9]


def test_a_table_from_before_keeps_its_scale_and_a_models_own_quantiles() -> None:
    tensors = calibration([-2, -1, 0, 1, 2], own_share=0.5).tensors()
    again = Calibration.from_tensors(tensors, LEVELS)
    assert (again.scale_seasons, again.own_share) == ((3, 14), 0.5)
    del tensors["scale_seasons"], tensors["own_share"]
    before = Calibration.from_tensors(tensors, LEVELS)
    assert (before.scale_seasons, before.own_share) == ((3,), 1)


def test_tensors_come_back_as_the_same_calibration() -> None:
    table = calibration(
        [-2, -1, 0, 1, 2], num_windows=7, growth=0.25, parametric=np.array([1, 0, 0, 0, 1], bool)
    )
    again = Calibration.from_tensors(table.tensors(), LEVELS)
    assert (again.corrections == table.corrections).all()
    assert (again.parametric == table.parametric).all()
    assert (again.num_windows, again.growth) == (7, 0.25)


def test_a_table_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ArtifactError, match="lacks"):
        Calibration.from_tensors({}, LEVELS)
    with pytest.raises(ArtifactError, match="not finite"):
        calibration([np.nan, 0, 0, 0, 0])
    with pytest.raises(ArtifactError, match="shape"):
        calibration([0, 0])
    with pytest.raises(LevelError, match=r"lack 0\.5"):
        Calibration.none(1, (0.1, 0.9))
