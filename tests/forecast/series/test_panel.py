"""Panels: values at any level, cuts that never look ahead, contexts, fingerprints."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import forecast as fc
from forecast.errors import CovariateError, DataError, EmptyDataError
from forecast.series import datasets, synthetic
from forecast.series.batch import ContextBatch
from forecast.series.panel import Panel


def air() -> Panel:
    return fc.from_frame(datasets.load("air_passengers"), freq="MS")


def ragged(**options: Any) -> Panel:
    ys = [[1.0, 2.0, None, 4.0], [10.0] * 6, [None, None, 5.0, 6.0, 7.0]]
    starts = ["2024-01-03", "2024-01-01", "2024-01-05"]
    return Panel.from_arrays(["a", "b", "c"], ys, freq="D", starts=starts, **options)


def test_the_panel_is_flat_arrays() -> None:
    panel = ragged()
    assert (len(panel), panel.num_series, panel.season_length) == (3, 3, 7)
    np.testing.assert_array_equal(panel.lengths, [4, 6, 5])
    np.testing.assert_array_equal(panel.indptr, [0, 4, 10, 15])
    assert panel.values.dtype == np.float32
    np.testing.assert_array_equal(panel.y(2), [np.nan, np.nan, 5, 6, 7])
    assert panel.ds(0)[0] == np.datetime64("2024-01-03")
    np.testing.assert_array_equal(
        panel.last_stamps().astype("datetime64[D]").astype(str)[:2], ["2024-01-06"] * 2
    )
    np.testing.assert_array_equal(panel.num_observed(), [3, 6, 3])
    np.testing.assert_array_equal(panel.is_constant(), [False, True, False])


@settings(max_examples=60, deadline=None)
@given(
    level=st.sampled_from([0.0, 1.0, -7e4, 1e9, 3e18, -3e38]),
    noise=hnp.arrays(np.float64, st.integers(2, 40), elements=st.floats(-1, 1, width=32)),
    missing=st.sets(st.integers(0, 39)),
)
def test_values_come_back_within_a_millionth_of_their_range(
    level: float, noise: np.ndarray, missing: set[int]
) -> None:
    y = level + noise * max(1.0, abs(level) * 1e-8)
    y[[place for place in missing if place < len(y)]] = np.nan
    if np.isnan(y).all():
        y[0] = level
    frame = pd.DataFrame({"unique_id": "meter", "ds": pd.date_range("2024", periods=len(y)), "y": y})
    back = fc.from_frame(frame, freq="D").to_frame()
    assert list(back) == ["unique_id", "ds", "y"]
    np.testing.assert_array_equal(back["ds"], frame["ds"])
    np.testing.assert_allclose(back["y"], y, rtol=1e-15, atol=1e-6 * (np.nanmax(y) - np.nanmin(y)))


def test_a_meter_at_a_billion_keeps_its_unit_noise() -> None:
    y = 1e9 + np.random.default_rng(0).normal(size=500)
    panel = Panel.from_arrays(["meter"], [y], freq="h", starts=["2024-01-01"])
    np.testing.assert_allclose(panel.y(0), y, rtol=0, atol=1e-6 * np.ptp(y))
    batch = panel.contexts(100)
    np.testing.assert_allclose(batch.raw()[0], y[-100:], rtol=0, atol=2e-6 * np.ptp(y))


@settings(max_examples=40, deadline=None)
@given(
    values=hnp.arrays(np.float64, (3, 12), elements=st.floats(-1e6, 1e6, width=32) | st.just(np.nan)),
    later=hnp.arrays(np.float64, (3, 12), elements=st.floats(-1e30, 1e30) | st.just(np.nan)),
    cut=st.integers(1, 11),
)
def test_values_after_the_cutoff_leave_until_bit_identical(
    values: np.ndarray, later: np.ndarray, cut: int
) -> None:
    other = values.copy()
    other[:, cut:] = later[:, cut:]
    values[:, -1], other[:, -1] = 1.0, 2.0  # never all missing
    one, two = (
        Panel.from_arrays(
            ["a", "b", "c"],
            list(array),
            freq="D",
            starts=["2024-01-01"] * 3,
            past=[{"price": row * 2} for row in array],
        ).until(np.datetime64("2024-01-01") + cut - 1)
        for array in (values, other)
    )
    for name in ("values", "offsets", "scales", "starts", "lengths", "indptr", "first_observed"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    np.testing.assert_array_equal(one.past.compact().values, two.past.compact().values)
    np.testing.assert_array_equal(one.past.offsets, two.past.offsets)
    assert one.fingerprint() == two.fingerprint()
    assert one.contexts(5).context.tobytes() == two.contexts(5).context.tobytes()


def test_until_is_inclusive_and_shares_the_values() -> None:
    panel = air()
    cut = panel.until("1959-12-01")
    assert cut.lengths[0] == 132
    assert panel.until("1959-12-31").lengths[0] == 132
    assert np.shares_memory(cut.base, panel.base)
    np.testing.assert_array_equal(cut.y(0), panel.y(0)[:132])
    np.testing.assert_array_equal(cut.values, panel.values[:132])


@pytest.mark.parametrize(
    "stamp",
    [
        "1959-12-01",
        pd.Timestamp("1959-12-01"),
        np.datetime64("1959-12-01"),
        pd.Timestamp("1959-12-01").to_pydatetime(),
    ],
)
def test_a_cutoff_may_be_any_kind_of_stamp(stamp: Any) -> None:
    assert air().until(stamp).lengths[0] == 132


def test_an_unreadable_cutoff_is_refused() -> None:
    with pytest.raises(DataError, match="'soon' cannot be read"):
        air().until("soon")


def test_series_that_start_after_the_cutoff_are_dropped_and_reported() -> None:
    cut = ragged().until("2024-01-04")
    assert cut.unique_ids.tolist() == ["a", "b"]
    assert cut.report.codes[-1] == "dropped"
    assert cut.report.findings[-1].unique_ids == ("c",)
    np.testing.assert_array_equal(cut.indptr, [0, 2, 6])
    np.testing.assert_array_equal(cut.values, np.concatenate([ragged().values[:2], ragged().values[4:8]]))


def test_nothing_before_the_cutoff_is_an_error() -> None:
    with pytest.raises(EmptyDataError, match="2024-01-01"):
        ragged().until("2023-01-01")


def test_heads_and_tails_may_differ_by_series() -> None:
    panel = ragged()
    np.testing.assert_array_equal(panel.head([1, 6, 99]).lengths, [1, 6, 5])
    np.testing.assert_array_equal(panel.drop_last(4).lengths, [2, 1])
    np.testing.assert_array_equal(panel.drop_last(2).y(1), [10.0] * 4)


def test_series_are_selected_by_place_mask_or_name() -> None:
    panel = ragged()
    for chosen in ([2, 0], ["c", "a"]):
        picked = panel.select(chosen)
        assert picked.unique_ids.tolist() == ["c", "a"]
        np.testing.assert_array_equal(picked.y(0), panel.y(2))
        np.testing.assert_array_equal(picked.values[:5], panel.values[10:])
    assert panel.select(np.array([False, True, False])).unique_ids.tolist() == ["b"]
    with pytest.raises(DataError, match="no series 'z'"):
        panel.select(["a", "z"])


def test_cuts_of_cuts_agree_with_a_panel_read_anew() -> None:
    panel = ragged()
    cut = panel.drop_last(1).select(["c", "a"])
    anew = fc.from_frame(cut.to_frame(), freq="D")
    for series in range(2):
        np.testing.assert_array_equal(anew.y(series), cut.y(series))
    assert anew.fingerprint() == cut.fingerprint()


def test_contexts_end_with_the_series_and_are_padded_on_the_left() -> None:
    batch = ragged().contexts(5)
    np.testing.assert_array_equal(batch.level, [4, 10, 7])
    np.testing.assert_array_equal(batch.num_observed, [3, 5, 3])
    np.testing.assert_array_equal(
        batch.raw(), [[np.nan, 1, 2, np.nan, 4], [10] * 5, [np.nan, np.nan, 5, 6, 7]]
    )
    assert batch.context.dtype == np.float32
    assert batch.rows(slice(1, 3)).level.tolist() == [10, 7]


def test_contexts_of_a_panel_are_those_of_its_raw_values() -> None:
    values = synthetic.seasonal(num_series=4, num_steps=50, level=1e6)
    panel = synthetic.as_panel(values)
    own, raw = panel.contexts(20), ContextBatch.from_raw(values[:, -20:])
    np.testing.assert_allclose(own.context, raw.context, atol=1e-4)
    np.testing.assert_allclose(own.level, raw.level)


def test_a_context_without_any_value_has_level_zero() -> None:
    panel = Panel.from_arrays(["a"], [[5.0, None, None]], freq="D", starts=["2024-01-01"])
    batch = panel.contexts(2)
    assert (batch.level[0], batch.num_observed[0]) == (0.0, 0)
    assert np.isnan(batch.context).all()


def test_the_largest_values_never_overflow() -> None:
    y = [3.3e38, -3.3e38, 0.0, 1e-30]
    for values in (y, y[::-1]):
        panel = Panel.from_arrays(["a"], [values], freq="D", starts=["2024-01-01"])
        np.testing.assert_allclose(panel.y(0), values, rtol=1e-6, atol=1e32)
        assert np.isfinite(panel.contexts(4).context).all()


def test_the_fingerprint_ignores_the_order_of_rows_and_series() -> None:
    frame = synthetic.as_frame(synthetic.random_walk(num_series=5, num_steps=30))
    prints = {
        fc.from_frame(frame.sample(frac=1, random_state=seed), freq="D").fingerprint() for seed in range(4)
    }
    assert prints == {fc.from_frame(frame, freq="D").fingerprint()}


@pytest.mark.parametrize(
    "change",
    [
        lambda frame: frame.assign(y=frame["y"].where(frame.index != 7, 0.0)),
        lambda frame: frame.assign(ds=frame["ds"] + pd.Timedelta(days=1)),
        lambda frame: frame.assign(unique_id=frame["unique_id"] + "x"),
        lambda frame: frame.iloc[:-1],
    ],
)
def test_the_fingerprint_changes_with_what_matters(change: Any) -> None:
    frame = synthetic.as_frame(synthetic.random_walk(num_series=2, num_steps=30))
    assert (
        fc.from_frame(change(frame), freq="D").fingerprint() != fc.from_frame(frame, freq="D").fingerprint()
    )


def test_the_fingerprint_is_the_same_in_every_process() -> None:
    assert air().fingerprint() == "a4c6f97239c366d951a7139084865e93f1b7e6a4f5c4cfbab1c47733edf96d50"


def test_trading_panels_count_observations_and_know_their_holidays() -> None:
    days = pd.bdate_range("2024-03-18", "2024-04-04").drop("2024-03-29")
    frame = pd.DataFrame({"ds": days, "close": np.arange(len(days), dtype=float)})
    panel = fc.from_frame(frame, freq="trading", holidays=["2024-04-05"])
    assert panel.unique_ids.tolist() == ["close"]
    assert panel.num_gaps.sum() == 0
    assert panel.lengths[0] == len(days)
    np.testing.assert_array_equal(
        panel.future_stamps(2)[0].astype("datetime64[D]").astype(str), ["2024-04-08", "2024-04-09"]
    )
    cut = panel.until("2024-03-30")
    assert cut.last_stamps()[0] == np.datetime64("2024-03-28")
    np.testing.assert_array_equal(cut.ds(0), days[:9])
    assert cut.contexts(4, horizon=2, calendar=True).calendar is not None


def test_a_caller_may_give_the_future_stamps() -> None:
    panel = Panel.from_arrays(["a"], [[1.0, 2.0]], freq="trading", starts=["2024-01-04"])
    given_days = ["2024-01-08", "2024-01-10"]
    assert panel.with_future(pd.to_datetime(given_days)).future_stamps(2)[0][1] == np.datetime64("2024-01-10")
    with pytest.raises(DataError, match="do not rise"):
        panel.with_future(pd.to_datetime(given_days[::-1]))
    with pytest.raises(DataError, match="2 future stamps were given and 3"):
        panel.with_future(pd.to_datetime(given_days)).future_stamps(3)


def test_known_covariates_reach_into_the_future() -> None:
    panel = Panel.from_arrays(
        ["a", "b"],
        [[1.0, 2.0, 3.0], [4.0, 5.0]],
        freq="D",
        starts=["2024-01-02", "2024-01-03"],
        past=[{"sold": [7, None, 9]}, {"sold": [1, 2]}],
        known=[{"price": [1, 2, 3, 4, 5]}, {"price": [6, 7, 8, 9]}],
        static=[{"shop": "x", "area": 50}, {"shop": "y", "area": 70.5}],
    )
    batch = panel.contexts(3, horizon=2)
    assert batch.past is not None
    assert batch.known is not None
    np.testing.assert_array_equal(batch.past[:, 0], [[7, np.nan, 9], [np.nan, 1, 2]])
    np.testing.assert_array_equal(batch.known[:, 0], [[1, 2, 3, 4, 5], [np.nan, 6, 7, 8, 9]])
    np.testing.assert_array_equal(batch.static_numeric, [[50], [70.5]])
    np.testing.assert_array_equal(batch.static_categorical, [[0], [1]])
    with pytest.raises(CovariateError, match="reach 2 steps into the future and 3 are needed"):
        panel.contexts(3, horizon=3)
    cut = panel.drop_last(1)
    assert cut.contexts(3, horizon=3).known is not None
    np.testing.assert_array_equal(cut.past.row("sold", 0), [7, np.nan])
    np.testing.assert_array_equal(cut.known.row("price", 0), [1, 2, 3, 4, 5])
    with pytest.raises(CovariateError, match="no covariate 'rain'"):
        panel.past.row("rain", 0)


def test_categories_are_recoded_to_those_of_the_training() -> None:
    panel = Panel.from_arrays(
        ["a", "b"], [[1.0], [2.0]], freq="D", starts=["2024-01-01"] * 2, static=[{"shop": "y"}, {"shop": "z"}]
    )
    np.testing.assert_array_equal(panel.static.recoded({"shop": ["x", "y"]}).codes, [[1], [-1]])


def test_covariates_are_chosen_by_name() -> None:
    panel = Panel.from_arrays(
        ["a"],
        [[1.0, 2.0]],
        freq="D",
        starts=["2024-01-01"],
        past=[{"p": [1, 2], "q": [3, 4]}],
        static=[{"n": 1, "m": 2, "shop": "y"}],
    )
    chosen = panel.with_covariates(
        past=["q"], static_numeric=["m", "n"], static_categories={"shop": ["x", "y"]}
    )
    assert chosen.past.names == ("q",)
    np.testing.assert_array_equal(chosen.past.row("q", 0), [3, 4])
    np.testing.assert_array_equal(chosen.static.numeric, [[2, 1]])
    np.testing.assert_array_equal(chosen.static.codes, [[1]])
    assert not len(panel.with_covariates().past)
    for wanted, message in (
        ({"past": ["q", "r"]}, "past covariates 'r', which are missing here \\(there are 'p', 'q'\\)"),
        ({"known": ["k"]}, "known covariates 'k', which are missing here \\(there are none\\)"),
        ({"static_categories": {"town": ["x"]}}, "categorical static covariates 'town'"),
    ):
        with pytest.raises(CovariateError, match=message):
            panel.with_covariates(**wanted)


def test_the_lowest_value_is_zero_where_float32_cannot_tell() -> None:
    ys = [[1234.567, 0.0, 5.0], [0.1, 0.2, 0.3], [3.0, -1.0, np.nan], [np.nan, np.nan, 7.0]]
    panel = Panel.from_arrays(list("abcd"), ys, freq="D", starts=["2024-01-01"] * 4)
    assert panel.lowest()[0] == 0.0
    np.testing.assert_allclose(panel.lowest()[1:], [0.1, -1.0, 7.0])


@pytest.mark.parametrize("stamp", [None, pd.NaT, 5, "soon", float("nan")])
def test_what_is_no_stamp_is_no_cutoff(stamp: Any) -> None:
    panel = Panel.from_arrays(["a"], [[1.0, 2.0]], freq="D", starts=["2024-01-01"])
    with pytest.raises(DataError, match="stamp"):
        panel.until(stamp)


@pytest.mark.parametrize("freq", ["D", "MS", "W-WED", "QE-OCT", "h", "trading", 1])
def test_series_without_stamps_have_a_place_on_any_grid(freq: str | int) -> None:
    panel = Panel.from_arrays(["a"], [[1.0, 2.0, 4.0]], freq=freq)
    assert not panel.has_stamps
    assert not panel.drop_last(1).has_stamps
    assert len(panel.to_frame()) == 3
