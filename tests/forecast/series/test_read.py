"""Frames, tables and files: each finding is an error or a recorded repair."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import forecast as fc
from forecast.errors import (
    ColumnsError,
    CovariateError,
    DataError,
    DuplicateStampsError,
    EmptyDataError,
    FrequencyError,
    OffGridError,
    SpecError,
    TimeZoneError,
    ValueRangeError,
)
from forecast.series import synthetic
from tests.builders import shared_data

NAN = float("nan")


def frame(num_days: int = 10, **columns: Any) -> pd.DataFrame:
    days = pd.date_range("2024-01-01", periods=num_days, freq="D")
    return pd.DataFrame({"unique_id": "a", "ds": days, "y": np.arange(float(num_days))} | columns)


def two_series() -> pd.DataFrame:
    return pd.concat([frame(), frame(unique_id="b", y=np.arange(10.0) * 2)], ignore_index=True)


@pytest.mark.parametrize(("policy", "value"), [("first", 2.0), ("last", 8.0), ("mean", 5.0), ("sum", 10.0)])
def test_repeated_stamps_are_resolved_as_declared(policy: str, value: float) -> None:
    data = pd.concat([frame(), frame().iloc[[2]].assign(y=8.0)], ignore_index=True)
    panel = fc.from_frame(data, freq="D", duplicates=policy)
    assert panel.y(0)[2] == value
    assert panel.report.codes == ("sorted", "duplicates_resolved")


def test_repeated_stamps_are_an_error() -> None:
    data = pd.concat([frame(), frame().iloc[[2]]], ignore_index=True)
    with pytest.raises(
        DuplicateStampsError, match=r"series 'a' has the stamp 2024-01-03.*duplicates='first'"
    ):
        fc.from_frame(data, freq="D")


@pytest.mark.parametrize(
    ("policy", "filled"), [("nan", [NAN, NAN]), ("zero", [0.0, 0.0]), ("forward", [2.0, 2.0])]
)
def test_gaps_are_filled_as_declared(policy: str, filled: list[float]) -> None:
    panel = fc.from_frame(frame().drop(index=[3, 4]), freq="D", gaps=policy)
    np.testing.assert_array_equal(panel.y(0)[3:5], filled)
    assert panel.num_gaps.tolist() == [2]
    assert panel.report.codes == ("gaps_filled",)
    assert panel.report.findings[0].count == 2


def test_rows_in_any_order_are_sorted_and_reported() -> None:
    data = two_series()
    shuffled = data.sample(frac=1, random_state=1)
    panel = fc.from_frame(shuffled, freq="D")
    assert panel.report.codes == ("sorted",)
    assert set(panel.unique_ids) == {"a", "b"}
    assert panel.unique_ids[0] == shuffled["unique_id"].iloc[0]
    assert panel.fingerprint() == fc.from_frame(data, freq="D").fingerprint()


def test_infinite_values_are_an_error_or_missing() -> None:
    data = frame()
    data.loc[4, "y"] = np.inf
    with pytest.raises(ValueRangeError, match="series 'a' holds an infinite value"):
        fc.from_frame(data, freq="D")
    panel = fc.from_frame(data, freq="D", infinite="nan")
    assert np.isnan(panel.y(0)[4])
    assert panel.report.codes == ("infinite_as_nan",)


def test_values_too_large_for_float32_are_refused() -> None:
    with pytest.raises(ValueRangeError, match=r"3\.4e\+38"):
        fc.from_frame(frame(y=[1e39] * 10), freq="D")


def test_constant_and_silent_series_stay_and_are_reported() -> None:
    data = pd.concat([frame(y=3.0), frame(unique_id="b", y=NAN)])
    panel = fc.from_frame(data, freq="D")
    assert panel.report.codes == ("all_missing", "constant")
    assert [f.unique_ids for f in panel.report] == [("b",), ("a",)]


def test_nothing_observed_at_all_is_an_error() -> None:
    with pytest.raises(EmptyDataError, match="all values of series 'a'"):
        fc.from_frame(frame(y=NAN), freq="D")
    with pytest.raises(EmptyDataError, match="no rows"):
        fc.from_frame(frame().iloc[:0], freq="D")


def test_a_stamp_off_the_grid_is_named() -> None:
    data = frame()
    data.loc[4, "ds"] = pd.Timestamp("2024-01-05T05:00")
    with pytest.raises(OffGridError, match=r"series 'a': the stamp 2024-01-05T05.*grid="):
        fc.from_frame(data, freq="D")


def test_a_frequency_that_cannot_be_inferred_names_the_flag() -> None:
    jitter = pd.to_timedelta(np.random.default_rng(0).integers(0, 50_000, 10), unit="s")
    data = frame()
    data["ds"] = data["ds"] + jitter
    with pytest.raises(FrequencyError, match="--freq"):
        fc.from_frame(data)


def test_a_declared_frequency_wins_over_inference() -> None:
    assert fc.from_frame(frame()).freq.alias == "D"
    assert fc.from_frame(frame().drop(index=[5, 6]), freq="B").freq.alias == "B"
    assert fc.from_frame(frame(num_days=4), freq="h").lengths[0] == 73


@pytest.mark.parametrize("declared", ["h", None])
def test_mixed_frequencies_are_refused(declared: str | None) -> None:
    hours = pd.date_range("2024-01-01", periods=100, freq="h")
    hourly = pd.DataFrame({"unique_id": "h", "ds": hours, "y": 1.0})
    with pytest.raises(FrequencyError, match="series 'a' has a stamp every 24 steps of h"):
        fc.from_frame(pd.concat([hourly, frame()]), freq=declared)


@pytest.mark.parametrize(
    ("step", "declared", "grid"),
    [("MS", "D", None), ("QS", "D", None), ("W-MON", "D", None), ("30min", "5min", "5min")],
)
def test_a_frequency_finer_than_the_data_is_refused(step: str, declared: str, grid: str | None) -> None:
    stamps = pd.date_range("2024-01-01", periods=30, freq=step)
    slow = pd.DataFrame({"unique_id": "slow", "ds": stamps, "y": 1.0})
    with pytest.raises(FrequencyError, match="too fine: series 'slow' has a stamp every"):
        fc.from_frame(slow, freq=declared, grid=grid)


def test_sparse_and_slow_series_are_no_wrong_frequency() -> None:
    days = pd.to_datetime(["2024-01-01", "2024-01-03", "2024-01-08", "2024-01-15", "2024-01-20"])
    sparse = pd.DataFrame({"unique_id": "sparse", "ds": days, "y": 1.0})
    assert fc.from_frame(sparse, freq="D").lengths[0] == 20
    fast = pd.DataFrame(
        {"unique_id": "fast", "ds": pd.date_range("2024-01-01", periods=30, freq="5min"), "y": 1.0}
    )
    slow = pd.DataFrame(
        {"unique_id": "slow", "ds": pd.date_range("2024-01-01", periods=9, freq="30min"), "y": 1.0}
    )
    assert len(fc.from_frame(pd.concat([fast, slow]), freq="5min", grid="5min")) == 2


def test_a_wrong_year_is_refused_before_memory_is_filled() -> None:
    data = frame()
    data["ds"] = data["ds"].astype("datetime64[us]")
    data.loc[9, "ds"] = pd.Timestamp("2924-01-01T00:01")
    with pytest.raises(FrequencyError, match="nearly everything would be missing"):
        fc.from_frame(data, freq="min")


def test_sensors_are_put_on_a_grid() -> None:
    stamps = pd.to_datetime(["2024-01-01 00:00:03", "2024-01-01 00:04:58", "2024-01-01 00:11:00"])
    data = pd.DataFrame({"ds": stamps, "y": [1.0, 3.0, 5.0]})
    floor = fc.from_frame(data, grid="5min")
    np.testing.assert_array_equal(floor.y(0), [2.0, NAN, 5.0])
    assert floor.report.codes == ("regridded", "duplicates_resolved", "gaps_filled")
    near = fc.from_frame(data, grid="5min", align="nearest", aggregate="sum")
    np.testing.assert_array_equal(near.y(0), [1.0, 3.0, 5.0])
    ceil = fc.from_frame(data, grid="5min", align="ceil", aggregate="max")
    np.testing.assert_array_equal(ceil.y(0), [3.0, NAN, 5.0])
    assert ceil.ds(0)[0] == np.datetime64("2024-01-01T00:05")


@pytest.mark.parametrize(
    ("aggregate", "value"),
    [("mean", 3.0), ("sum", 9.0), ("first", 4.0), ("last", NAN), ("min", 1.0), ("max", 4.0), ("median", 4.0)],
)
def test_readings_of_one_step_are_aggregated(aggregate: str, value: float) -> None:
    stamps = pd.to_datetime(
        ["2024-01-01", "2024-01-02", "2024-01-02", "2024-01-02", "2024-01-02", "2024-01-03"]
    )
    data = pd.DataFrame({"ds": stamps, "y": [0.0, 4.0, 1.0, 4.0, NAN, 7.0]})
    panel = fc.from_frame(data, grid="D", aggregate=aggregate)
    np.testing.assert_array_equal(panel.y(0), [0.0, value, 7.0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"duplicates": "drop"}, "duplicates='drop' is none of error"),
        ({"gaps": "linear"}, "gaps='linear'"),
        ({"infinite": "zero"}, "infinite='zero'"),
        ({"align": "up", "grid": "h"}, "align='up'"),
        ({"aggregate": "mode", "grid": "h"}, "aggregate='mode'"),
        ({"grid": "MS"}, "grid='MS' is no grid"),
        ({"grid": "h", "freq": "D"}, "disagree"),
    ],
)
def test_policies_that_do_not_exist_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        fc.from_frame(frame(), **options)


@pytest.mark.parametrize(
    "rename",
    [
        {"unique_id": "item_id", "ds": "timestamp", "y": "target"},
        {"unique_id": "Symbol", "ds": "Date", "y": "Close"},
        {"unique_id": "series id", "ds": "DateTime", "y": "Value"},
    ],
)
def test_usual_names_are_understood(rename: dict[str, str]) -> None:
    want = fc.from_frame(two_series(), freq="D")
    rename = {ours: theirs.replace("series id", "series_id") for ours, theirs in rename.items()}
    assert fc.from_frame(two_series().rename(columns=rename), freq="D").fingerprint() == want.fingerprint()


def test_declared_names_win() -> None:
    data = two_series().rename(columns={"unique_id": "shop", "ds": "day", "y": "units"}).assign(y=0.0)
    panel = fc.from_frame(data, freq="D", unique_id="shop", ds="day", y="units")
    assert panel.fingerprint() == fc.from_frame(two_series(), freq="D").fingerprint()
    assert panel.report.codes == ("columns_left_out",)


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (two_series(), {"y": "sales"}, "no column 'sales'; the table has 'unique_id', 'ds', 'y'"),
        (two_series().drop(columns="ds"), {}, "no column 'ds'"),
        (two_series().drop(columns="y"), {}, "no column 'y'"),
        (two_series().rename(columns={"unique_id": "shop"}), {}, "unique_id='shop'"),
        (two_series().assign(y="x"), {}, "'y' does not hold numbers"),
        (two_series().assign(y=1j), {}, "'y' does not hold numbers"),
        (two_series().set_axis(["ds", "ds", "y"], axis=1), {}, "more than once"),
        (two_series().assign(ds=True), {}, "'ds' holds bool"),
        (two_series().assign(ds=1.5), {}, "'ds' holds float64"),
        (two_series(), {"past": "y2"}, "has to be a list"),
        ({"y": [1]}, {}, "type dict cannot be read"),
    ],
)
def test_wrong_columns_are_refused_with_what_was_found(data: Any, options: Any, message: str) -> None:
    with pytest.raises(ColumnsError, match=message):
        fc.from_frame(data, freq="D", **options)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (frame(ds=["2024-01-01"] * 9 + [None]), "'ds' is missing in 1 rows, first in row 10"),
        (frame(unique_id=["a"] * 9 + [None]), "'unique_id' is empty in 1 rows, first in row 10"),
        (frame(ds=["2024-01-01"] * 9 + ["never"]), "'never' in 'ds' cannot be read"),
    ],
)
def test_missing_and_unreadable_cells_are_named(data: pd.DataFrame, message: str) -> None:
    with pytest.raises(DataError, match=message):
        fc.from_frame(data, freq="D")


def test_a_table_without_ids_is_one_series() -> None:
    data = frame().drop(columns="unique_id")
    assert fc.from_frame(data, freq="D").unique_ids.tolist() == ["series"]
    assert fc.from_frame(data.rename(columns={"y": "sales"}), freq="D").unique_ids.tolist() == ["sales"]


def test_stamps_and_ids_may_be_the_index() -> None:
    want = fc.from_frame(two_series(), freq="D").fingerprint()
    assert fc.from_frame(two_series().set_index(["unique_id", "ds"]), freq="D").fingerprint() == want
    single = frame().set_index("ds")["y"]
    single.index.name = None
    assert fc.from_frame(single, freq="D").lengths.tolist() == [10]


@pytest.mark.parametrize(
    "ids",
    [
        lambda ids: ids.astype("category"),
        lambda ids: ids.astype("string"),
        lambda ids: ids.astype(pd.CategoricalDtype(["unused", "b", "a"])),
        lambda ids: ids.astype(pd.ArrowDtype(pa.string())),
        lambda ids: ids.astype(object),
    ],
)
@pytest.mark.parametrize(
    "stamps",
    [
        lambda ds: ds.astype("datetime64[s]"),
        lambda ds: ds.astype("datetime64[ns]"),
        lambda ds: ds.dt.strftime("%Y-%m-%d"),
        lambda ds: ds.dt.date,
        lambda ds: ds.dt.to_period("D"),
        lambda ds: ds.astype(pd.ArrowDtype(pa.timestamp("ms"))),
        lambda ds: ds.astype(object),
    ],
)
@pytest.mark.parametrize(
    "values",
    [
        lambda y: y,
        lambda y: y.astype("float32"),
        lambda y: y.astype("int64"),
        lambda y: y.astype("Int64"),
        lambda y: y.astype(object),
        lambda y: y.astype(pd.ArrowDtype(pa.float64())),
    ],
)
def test_columns_of_any_type_give_the_same_panel(ids: Any, stamps: Any, values: Any) -> None:
    data = two_series()
    other = pd.DataFrame(
        {"unique_id": ids(data["unique_id"]), "ds": stamps(data["ds"]), "y": values(data["y"])}
    )
    assert fc.from_frame(other, freq="D").fingerprint() == fc.from_frame(data, freq="D").fingerprint()


@pytest.mark.parametrize("chunks", [1, 3])
@pytest.mark.parametrize("dictionary", [True, False])
def test_arrow_tables_are_read_like_frames(chunks: int, dictionary: bool) -> None:
    data = two_series()
    data.loc[4, "y"] = NAN
    table = pa.Table.from_pandas(data, preserve_index=False)
    if dictionary:
        table = table.set_column(
            0, "unique_id", table.column("unique_id").combine_chunks().dictionary_encode()
        )
    size = -(-len(data) // chunks)
    table = pa.concat_tables([table.slice(low, size) for low in range(0, len(data), size)])
    want = fc.from_frame(data, freq="D")
    assert fc.from_frame(table, freq="D").fingerprint() == want.fingerprint()
    if chunks == 1:
        assert (
            fc.from_frame(table.combine_chunks().to_batches()[0], freq="D").fingerprint()
            == want.fingerprint()
        )


@pytest.mark.parametrize("rows_per_group", [7, 1000])
def test_parquet_files_are_read_like_frames(tmp_path: Path, rows_per_group: int) -> None:
    data = synthetic.as_frame(synthetic.random_walk(num_series=5, num_steps=30))
    data.loc[3, "y"] = NAN
    pq.write_table(
        pa.Table.from_pandas(data, preserve_index=False),
        tmp_path / "p.parquet",
        row_group_size=rows_per_group,
    )
    panel = fc.read_parquet(tmp_path / "p.parquet", freq="D")
    assert panel.fingerprint() == fc.from_frame(data, freq="D").fingerprint()


def test_a_missing_or_broken_parquet_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no file"):
        fc.read_parquet(tmp_path / "none.parquet")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 but not really")
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        fc.read_parquet(tmp_path / "broken.parquet")


def test_wide_tables_have_a_series_per_column() -> None:
    wide = two_series().pivot(index="ds", columns="unique_id", values="y")
    wide.columns.name = None
    wide.loc[wide.index[2], "b"] = NAN
    for data in (wide, wide.reset_index(), pa.Table.from_pandas(wide.reset_index(), preserve_index=False)):
        panel = fc.from_frame(data, freq="D", wide=True)
        assert panel.unique_ids.tolist() == ["a", "b"]
        np.testing.assert_array_equal(panel.y(1), [0, 2, NAN, 6, 8, 10, 12, 14, 16, 18])


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (frame(), {"y": "y"}, "leave unique_id, y"),
        (frame()[["ds"]], {}, "no column of the wide table holds numbers"),
        (frame()[["y"]], {}, "no column of stamps"),
        (frame(), {"ds": "day"}, "no column 'day'"),
    ],
)
def test_wide_tables_are_checked_too(data: pd.DataFrame, options: Any, message: str) -> None:
    with pytest.raises(ColumnsError, match=message):
        fc.from_frame(data, freq="D", wide=True, **options)


def test_integers_are_names_and_stamps() -> None:
    data = pd.DataFrame({"unique_id": [7, 7, 8, 8], "ds": [1, 2, 5, 7], "y": [1, 2, 3, 4]})
    panel = fc.from_frame(data, freq=1)
    assert panel.unique_ids.tolist() == ["7", "8"]
    np.testing.assert_array_equal(panel.ds(1), [5, 6, 7])
    np.testing.assert_array_equal(panel.future_stamps(2), [[3, 4], [8, 9]])
    assert panel.until(5).lengths.tolist() == [2, 1]


def test_zones_are_converted_to_utc_and_come_back() -> None:
    hours = pd.date_range("2024-10-26", periods=72, freq="h", tz="Europe/Berlin")
    data = pd.DataFrame({"ds": hours, "y": np.arange(72.0)})
    panel = fc.from_frame(data, freq="h")
    assert panel.timezone == "Europe/Berlin"
    assert panel.num_gaps.tolist() == [0]
    assert panel.report.codes == ("timezone_converted",)
    assert panel.starts[0] == np.datetime64("2024-10-25T22:00")
    back = panel.to_frame()["ds"]
    assert (back.to_numpy() == data["ds"].to_numpy()).all()
    assert str(back.dt.tz) == "Europe/Berlin"
    assert panel.until("2024-10-27 23:00").lengths[0] == 49  # a day of 25 hours


def test_days_of_a_zone_are_days_across_the_change_of_clocks() -> None:
    days = pd.date_range("2024-03-25", periods=14, freq="D", tz="Europe/Berlin")
    panel = fc.from_frame(pd.DataFrame({"ds": days, "y": 1.0}))
    assert panel.freq.alias == "D"
    assert panel.num_gaps.tolist() == [0]
    assert panel.to_frame()["ds"].dt.hour.eq(0).all()


def test_wall_clock_stamps_of_a_zone_keep_the_hour_that_comes_twice() -> None:
    hours = pd.date_range("2024-10-26", periods=72, freq="h", tz="Europe/Berlin")
    wall = pd.DataFrame({"ds": hours.tz_localize(None), "y": np.arange(72.0)})
    panel = fc.from_frame(wall, freq="h", timezone="Europe/Berlin")
    assert panel.num_gaps.tolist() == [0]
    np.testing.assert_array_equal(panel.y(0), np.arange(72.0))


def test_a_wall_clock_stamp_that_never_was_is_refused() -> None:
    data = pd.DataFrame({"ds": pd.date_range("2024-03-31", periods=5, freq="h"), "y": 1.0})
    with pytest.raises(TimeZoneError, match="does not exist in Europe/Berlin"):
        fc.from_frame(data, freq="h", timezone="Europe/Berlin")


@pytest.mark.parametrize(
    "stamps",
    [
        ["2024-01-01T00:00+01:00", "2024-01-01T01:00+02:00", "2024-01-01T02:00+01:00"],
        [
            pd.Timestamp("2024-01-01", tz="UTC"),
            pd.Timestamp("2024-01-02", tz="Europe/Berlin"),
            pd.Timestamp("2024-01-03", tz="UTC"),
        ],
        ["2024-01-01T00:00Z", "2024-01-01T01:00", "2024-01-01T02:00"],
    ],
)
def test_mixed_zones_are_refused(stamps: Any) -> None:
    with pytest.raises(TimeZoneError, match="zone"):
        fc.from_frame(pd.DataFrame({"ds": pd.Series(stamps, dtype=object), "y": 1.0}), freq="h")


def test_covariates_are_rows_of_the_same_layout() -> None:
    data = two_series().assign(
        sold=np.arange(20), price=lambda d: d["y"] * 3, shop=lambda d: "shop " + d["unique_id"], area=12.5
    )
    panel = fc.from_frame(data, freq="D", past=["sold"], known=["price"], static=["shop", "area"])
    np.testing.assert_array_equal(panel.past.row("sold", 1), np.arange(10, 20))
    np.testing.assert_array_equal(panel.known.row("price", 1), panel.y(1) * 3)
    assert panel.static.names == ("area", "shop")
    assert panel.static.categories == (("shop a", "shop b"),)
    shuffled = fc.from_frame(
        data.sample(frac=1, random_state=0), freq="D", past=["sold"], known=["price"], static=["shop", "area"]
    )
    assert shuffled.fingerprint() == panel.fingerprint()


def test_rows_with_known_covariates_and_no_value_lie_in_the_future() -> None:
    data = two_series().assign(price=1.0)
    data.loc[[8, 9, 19, 14], "y"] = NAN
    panel = fc.from_frame(data, freq="D", known=["price"])
    np.testing.assert_array_equal(panel.lengths, [8, 9])
    np.testing.assert_array_equal(panel.known.lengths, [10, 10])
    assert panel.report.codes == ("future_rows",)
    assert panel.last_stamps()[0] == np.datetime64("2024-01-08")
    assert fc.from_frame(data, freq="D").lengths.tolist() == [10, 10]


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        ({"shop": list("xxxxxxxxxy")}, {"static": ["shop"]}, "'shop' changes within series 'a'"),
        ({"area": [1.0] * 9 + [2.0]}, {"static": ["area"]}, "'area' changes within series 'a'"),
        ({"kind": "x"}, {"past": ["kind"]}, "'kind' does not hold numbers"),
        ({"kind": "x"}, {"known": ["kind"]}, "'kind' does not hold numbers"),
    ],
)
def test_covariates_that_cannot_be_used_are_refused(columns: Any, options: Any, message: str) -> None:
    with pytest.raises(CovariateError, match=message):
        fc.from_frame(frame(**columns), freq="D", **options)


def test_a_missing_covariate_column_is_refused() -> None:
    with pytest.raises(ColumnsError, match="no column 'price'"):
        fc.from_frame(frame(), freq="D", known=["price"])


def test_the_report_reads_like_sentences() -> None:
    panel = fc.from_frame(frame().drop(index=3))
    assert "inferred_freq: no freq was declared; the stamps are daily (D)" in str(panel.report)
    found = panel.report.to_dict()["findings"][1]
    assert (found["code"], found["unique_ids"], found["count"]) == ("gaps_filled", ["a"], 1)
    assert str(fc.from_frame(frame(), freq="D").report) == "nothing found"


# Real data


@pytest.mark.parametrize(
    ("name", "options", "alias", "num_series"),
    [
        ("air_passengers", {}, "MS", 1),
        ("co2_weekly", {}, "W-SAT", 1),
        ("etth1_wide", {"wide": True}, "h", 7),
        ("gafa_stock_close", {"freq": "trading"}, "trading", 4),
        ("m4_hourly_train", {}, 1, 414),
        ("stocks_monthly_2000_2010", {}, "MS", 5),
        ("sp500_index_ohlcv_2000_2020", {"freq": "trading", "past": ["volume"]}, "trading", 1),
    ],
)
def test_real_files_load_as_they_are(name: str, options: Any, alias: Any, num_series: int) -> None:
    panel = fc.read_parquet(shared_data(f"{name}.parquet"), **options)
    assert (panel.freq.alias, len(panel)) == (alias, num_series)
    assert panel.num_gaps.sum() == 0


def test_daily_stocks_need_a_declared_frequency() -> None:
    with pytest.raises(FrequencyError, match="freq='trading'"):
        fc.read_parquet(shared_data("gafa_stock_close.parquet"))


def test_the_hour_that_machine_temperature_repeats_is_resolved() -> None:
    data = pd.read_parquet(shared_data("nab_known_cause.parquet"))
    data = data[data["unique_id"].astype(str).str.contains("machine_temperature")]
    with pytest.raises(DuplicateStampsError, match="12 repeated rows"):
        fc.from_frame(data, freq="5min")
    panel = fc.from_frame(data, grid="5min", duplicates="mean")
    assert panel.report.codes == ("sorted", "duplicates_resolved")
    assert panel.lengths[0] == 22683
    assert panel.num_gaps.tolist() == [0]


def test_repeated_stamps_are_resolved_before_readings_are_put_on_a_grid() -> None:
    stamps = pd.to_datetime(["2024-01-01T00:01", "2024-01-01T00:01", "2024-01-01T00:03", "2024-01-01T00:06"])
    data = pd.DataFrame({"ds": stamps, "y": [1.0, 9.0, 2.0, 4.0], "kind": "x"})
    panel = fc.from_frame(data, grid="5min", duplicates="last", aggregate="sum", y="y", static=["kind"])
    np.testing.assert_array_equal(panel.y(0), [11.0, 4.0])
    assert panel.static.categories == (("x",),)
    assert [found.code for found in panel.report].count("duplicates_resolved") == 2
    np.testing.assert_array_equal(
        fc.from_frame(data[["ds", "y"]], grid="5min", aggregate="sum").y(0), [12.0, 4.0]
    )


@pytest.mark.parametrize("kind", ["pandas", "categories", "arrow", "parquet"])
def test_a_series_may_lack_a_category(kind: str, tmp_path: Path) -> None:
    data = pd.concat([frame(shop="x"), frame(unique_id="b", shop=None), frame(unique_id="c", shop="y")])
    if kind == "categories":
        data["shop"] = pd.Categorical(data["shop"], categories=["unused", "y", "x"])
    if kind == "arrow":
        data = pa.Table.from_pandas(data, preserve_index=False)
    if kind == "parquet":
        data.to_parquet(tmp_path / "data.parquet")
        panel = fc.read_parquet(tmp_path / "data.parquet", static=["shop"])
    else:
        panel = fc.from_frame(data, static=["shop"])
    assert panel.static.categories == (("x", "y"),)
    np.testing.assert_array_equal(panel.static.codes[:, 0], [0, -1, 1])


def test_python_dates_of_one_zone_are_not_mixed_in_summer() -> None:
    days = pd.date_range("2024-03-25", periods=10, freq="D", tz="Europe/Berlin")
    data = frame(ds=pd.Series(list(days.to_pydatetime()), dtype=object))
    panel = fc.from_frame(data, freq="D")
    assert panel.timezone == "Europe/Berlin"
    assert (panel.to_frame()["ds"].to_numpy() == days.to_numpy()).all()


@pytest.mark.parametrize("hole", [7, 8, 9])
def test_the_future_begins_after_the_last_value_whatever_is_known_there(hole: int) -> None:
    data = frame(price=1.0)
    data.loc[7:, "y"] = NAN
    data.loc[hole, "price"] = NAN
    panel = fc.from_frame(data, freq="D", known=["price"])
    assert panel.lengths[0] == 7
    assert panel.known.lengths[0] == 10
    data["price"] = data["price"].where(data.index < 7)
    assert fc.from_frame(data, freq="D", known=["price"]).lengths[0] == 10


@pytest.mark.parametrize("delimiter", ["", ";;", "é", '"', "\n"])
def test_a_delimiter_that_is_no_single_character_is_refused(tmp_path: Path, delimiter: str) -> None:
    (tmp_path / "a.csv").write_text("unique_id,ds,y\na,2026-01-01,1\na,2026-01-02,2\n")
    with pytest.raises(DataError, match="is no single character"):
        fc.read_csv(tmp_path / "a.csv", freq="D", delimiter=delimiter)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"encoding": "utf-16"}, "cannot be read"), ({"date_format": "%Q"}, "date_format='%Q' cannot be used")],
)
def test_what_is_said_wrongly_of_a_file_is_named(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    (tmp_path / "a.csv").write_text("unique_id,ds,y\na,2026-01-01,1\na,2026-01-02,2\n")
    with pytest.raises(DataError, match=message):
        fc.read_csv(tmp_path / "a.csv", freq="D", **options)
