"""Blocks of time: no target serves two purposes, and short panels say what they need."""

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from forecast.errors import DataError, HorizonError, SpecError
from forecast.evaluation.blocks import Blocks, spread_out
from forecast.series.panel import Panel


def panel(*lengths: int, freq: str = "MS") -> Panel:
    names = [f"s{place}" for place in range(len(lengths))]
    ys = [np.arange(length, dtype=float) for length in lengths]
    return Panel.from_arrays(names, ys, freq=freq, starts=["2000-01-01"] * len(names))


def targets(cutoffs: tuple[int, ...], horizon: int) -> set[int]:
    """Steps from the end, the last one being 1, that are forecast from these cutoffs."""
    return {step for cutoff in cutoffs for step in range(cutoff - horizon + 1, cutoff + 1)}


@pytest.mark.parametrize(
    ("length", "share"),
    [(1310, 0.25), (1090, 0.15)],  # 0.65 of 1,300 steps are 65 horizons of 13, 0.65 of 1,077 are 54
)
def test_calibrate_takes_a_quarter_of_the_time_where_fit_keeps_sixty_horizons_and_seasons(
    length: int, share: float
) -> None:
    blocks = Blocks.cut(panel(length), horizon=13, num_windows=1)
    seasons = Blocks.cut(panel(length, freq="h"), horizon=1, num_windows=1)
    assert max(seasons.calibrate) - 1 == pytest.approx(0.15 * (length - 1), abs=4)
    assert not blocks.rolling_refits
    assert max(blocks.calibrate) - 13 == pytest.approx(share * (length - 13), abs=4)


@given(
    length=st.integers(30, 3000),
    num_series=st.integers(1, 5),
    horizon=st.integers(1, 40),
    num_windows=st.integers(1, 6),
    stride=st.integers(1, 50),
)
def test_no_target_lies_in_two_blocks(
    length: int, num_series: int, horizon: int, num_windows: int, stride: int
) -> None:
    try:
        blocks = Blocks.cut(
            panel(*[length] * num_series), horizon=horizon, num_windows=num_windows, stride=stride
        )
    except DataError:
        assume(False)
    judge, calibrate, select = (
        targets(own, horizon) for own in (blocks.judge, blocks.calibrate, blocks.select)
    )
    assert max(judge) < min(calibrate)
    assert max(calibrate) < min(select)
    assert max(select) == blocks.fit_until < length
    assert len(blocks.judge) == num_windows
    assert min(judge) == 1


def test_a_long_panel_is_fitted_once_and_a_short_one_again() -> None:
    assert not Blocks.cut(panel(3000, freq="h"), horizon=24).rolling_refits
    assert Blocks.cut(panel(144), horizon=12).rolling_refits
    assert not Blocks.cut(
        panel(*[144] * 60), horizon=12
    ).rolling_refits  # many short series make many windows
    assert Blocks.cut(panel(3000, freq="h"), horizon=24, refit=True).rolling_refits


def test_twelve_years_of_months_leave_four_years_to_judge() -> None:
    blocks = Blocks.cut(panel(144), horizon=12, num_windows=4, stride=12)
    assert blocks.judge == (48, 36, 24, 12)
    assert blocks.calibrate == tuple(range(72, 59, -1))
    assert blocks.select == tuple(range(96, 83, -1))


def test_cutoffs_of_long_blocks_meet_every_phase_of_the_season() -> None:
    blocks = Blocks.cut(panel(20_000, freq="h"), horizon=24)
    assert len({cutoff % 24 for cutoff in blocks.calibrate}) == 24
    assert len(blocks.calibrate) <= 250


def test_too_short_a_panel_says_how_many_steps_it_needs() -> None:
    with pytest.raises(DataError, match=r"at least 96 steps .* has 50"):
        Blocks.cut(panel(50, 20), horizon=12)
    assert Blocks.cut(panel(96), horizon=12).rolling_refits
    with pytest.raises(DataError, match="has 95"):
        Blocks.cut(panel(95), horizon=12)


def test_series_too_short_to_be_judged_are_named() -> None:
    assert Blocks.cut(panel(144, 20, 24), horizon=12).skipped == ("s1",)


@pytest.mark.parametrize(
    ("wrong", "error"),
    [({"horizon": 0}, HorizonError), ({"num_windows": 0}, SpecError), ({"stride": 0}, SpecError)],
)
def test_impossible_settings_are_refused(wrong: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error, match="at least 1"):
        Blocks.cut(panel(144), **{"horizon": 12} | wrong)


@pytest.mark.parametrize(
    ("most", "expected"),
    [
        (1, [(4, 3, 2, 1)]),
        (2, [(4, 3), (2, 1)]),
        (9, [(4,), (3,), (2,), (1,)]),
        (None, [(4,), (3,), (2,), (1,)]),
    ],
)
def test_refits_are_spread_over_the_cutoffs(most: int | None, expected: list[tuple[int, ...]]) -> None:
    assert spread_out((4, 3, 2, 1), most) == expected
