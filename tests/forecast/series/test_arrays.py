"""The door for requests: one sequence per series, checked."""

from typing import Any

import numpy as np
import pytest

from forecast.errors import (
    CovariateError,
    DataError,
    DuplicateStampsError,
    EmptyDataError,
    FrequencyError,
    OffGridError,
    TimeZoneError,
    ValueRangeError,
)
from forecast.series.panel import Panel

Y = [1.0, 2.0, 3.0]
DAYS = ["2024-01-01", "2024-01-02", "2024-01-03"]


def panel(*, unique_ids: Any = ("a", "b"), ys: Any = (Y, Y), freq: Any = "D", **options: Any) -> Panel:
    if "starts" not in options and "ds" not in options:
        options["starts"] = ["2024-01-01"] * len(unique_ids)
    return Panel.from_arrays(list(unique_ids), list(ys), freq=freq, **options)


REFUSED: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"unique_ids": [], "ys": []}, EmptyDataError, "no series"),
    ({"unique_ids": ["a", "a"]}, DataError, "'a' are given more than once"),
    ({"unique_ids": ["a"]}, DataError, "1 ids and 2 sequences"),
    ({"ys": [Y, []]}, EmptyDataError, "series 'b' have no values"),
    ({"ys": [Y, [None, None]]}, EmptyDataError, "all values of series 'b' are missing"),
    ({"ys": [Y, [1, "2", 3]]}, DataError, "series 'b' holds a value of type str"),
    ({"ys": [Y, [1, True, 3]]}, DataError, "series 'b' holds a value of type bool"),
    ({"ys": [Y, [1, [2], 3]]}, DataError, "series 'b' holds a value of type list"),
    ({"ys": [Y, [1, float("inf"), 3]]}, ValueRangeError, "series 'b' holds an infinite value"),
    ({"ys": [Y, [1, 3.4e38, 3]]}, ValueRangeError, "series 'b' holds the value 3.4e\\+38"),
    ({"ys": [Y, [1, -3.5e38, 3]]}, ValueRangeError, "series 'b'"),
    ({"ys": [Y, [1, 10**400, 3]]}, ValueRangeError, "series 'b' holds a number too large"),
    ({"freq": "fortnight"}, FrequencyError, "'fortnight' is unknown"),
    (
        {"freq": "MS", "starts": ["2024-01-01", "2024-01-15"]},
        OffGridError,
        "series 'b': the stamp 2024-01-15",
    ),
    ({"freq": "B", "starts": ["2024-01-01", "2024-01-06"]}, OffGridError, "series 'b'"),
    ({"freq": "trading", "starts": ["2024-01-01", "2024-01-06"]}, OffGridError, "series 'b'"),
    ({"starts": ["2024-01-01", "yesterday"]}, DataError, "'yesterday' in 'start' cannot be read"),
    ({"starts": ["2024-01-01", None]}, DataError, "missing"),
    ({"starts": ["2024-01-01", {}]}, DataError, "no date"),
    ({"starts": ["2024-01-01", "20240-13-45"]}, DataError, "cannot be read"),
    ({"starts": ["2024-01-01", "0001-01-01"]}, DataError, "1000 to 2999"),
    ({"starts": ["2024-01-01"]}, DataError, "2 series and 1 starts"),
    ({"starts": [1, 2]}, FrequencyError, "whole numbers"),
    ({"freq": 1}, FrequencyError, "holds dates"),
    ({"starts": ["2024-01-01", "2024-01-01T00:00Z"]}, TimeZoneError, "others have none"),
    ({"starts": ["2024-01-01T00:00+01:00", "2024-01-01T00:00+02:00"]}, TimeZoneError, "mixed zones"),
    ({"timezone": "Mars/Olympus"}, TimeZoneError, "Mars/Olympus"),
    ({"starts": ["2024-01-01"] * 2, "ds": [DAYS, DAYS]}, DataError, "not both"),
    ({"ds": [DAYS]}, DataError, "1 lists of stamps"),
    ({"ds": [DAYS, DAYS[:2]]}, DataError, "series 'b' has 3 values and 2 stamps"),
    ({"ds": [DAYS, DAYS[::-1]]}, DataError, "series 'b' are not in time order"),
    (
        {"ds": [DAYS, [DAYS[0], DAYS[0], DAYS[2]]]},
        DuplicateStampsError,
        "series 'b' has the stamp 2024-01-01",
    ),
    ({"ds": [DAYS, [*DAYS[:2], "2024-01-03T05:00"]]}, OffGridError, "series 'b': the stamp 2024-01-03T05"),
    ({"ds": [DAYS, [*DAYS[:2], "2024-01-03T00:00Z"]]}, TimeZoneError, "zone"),
    (
        {"ds": [DAYS, [*DAYS[:2], "2999-01-03"]], "freq": "min"},
        FrequencyError,
        "nearly everything would be missing",
    ),
    ({"season_length": 0}, FrequencyError, "season_length=0"),
    ({"past": [{"p": Y}, {}]}, CovariateError, "'p' is missing in 1 series"),
    ({"past": [{"p": Y}, {"p": [1]}]}, CovariateError, "'p' of series 'b' has 1 values and y has 3"),
    ({"past": [{"p": Y}, {"p": [1, "x", 2]}]}, DataError, "covariate 'p'"),
    ({"past": [{"p": Y}, {"p": [1, float("inf"), 2]}]}, ValueRangeError, "column 'p'"),
    ({"known": [{"k": Y}, {"k": [1]}]}, CovariateError, "'k' of series 'b' has 1 values for 3 of y"),
    ({"known": [{"k": Y, "l": [*Y, 1]}] * 2}, CovariateError, "equally many"),
    ({"static": [{"s": 1}, {}]}, CovariateError, "static covariate 's' is missing"),
    ({"static": [{"s": float("inf")}, {"s": 1}]}, CovariateError, "infinite"),
]


@pytest.mark.parametrize(("options", "error", "message"), REFUSED, ids=[message for _, _, message in REFUSED])
def test_what_makes_no_sense_is_refused_by_name(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        panel(**options)


def test_refusals_stay_short_however_much_was_sent() -> None:
    with pytest.raises(EmptyDataError) as caught:
        panel(unique_ids=[f"series-{i}" for i in range(5000)], ys=[[None] * 50] * 5000)
    assert len(str(caught.value)) < 400


def test_stamps_with_gaps_are_filled_and_counted() -> None:
    got = panel(ds=[DAYS, ["2024-01-01", "2024-01-04", "2024-01-05"]])
    np.testing.assert_array_equal(got.num_gaps, [0, 2])
    np.testing.assert_array_equal(got.y(1), [1, np.nan, np.nan, 2, 3])
    assert got.report.codes == ("gaps_filled",)
    assert got.report.findings[0].unique_ids == ("b",)


def test_starts_and_stamps_give_the_same_panel() -> None:
    assert panel().fingerprint() == panel(ds=[DAYS, DAYS]).fingerprint()
    arrays = [np.array(DAYS, dtype="datetime64[ns]")] * 2
    assert panel().fingerprint() == panel(ds=arrays, ys=[np.array(Y)] * 2).fingerprint()


def test_series_keep_their_order_and_may_be_constant() -> None:
    got = panel(unique_ids=["z", "a"], ys=[Y, [5, 5, None]])
    assert got.unique_ids.tolist() == ["z", "a"]
    assert got.report.codes == ("constant",)


@pytest.mark.parametrize(
    ("start", "timezone"),
    [
        ("2024-01-01T00:00:00Z", "UTC"),
        ("2024-01-01T00:00:00+00:00", "UTC"),
        ("2024-01-01T00:00:00+05:30", "+05:30"),
        ("2024-01-01 00:00:00-0300", "-03:00"),
        ("2024-01-01T00:00:00", None),
    ],
)
def test_zones_are_kept_for_the_answer(start: str, timezone: str | None) -> None:
    got = panel(starts=[start, start])
    assert got.timezone == timezone
    frame = got.to_frame()
    assert frame["ds"].iloc[1].isoformat()[:19] == "2024-01-02T00:00:00"


def test_a_declared_zone_joins_offsets_that_change_in_summer() -> None:
    got = panel(
        unique_ids=["a"],
        ys=[Y],
        ds=[["2024-03-30T00:00+01:00", "2024-03-31T00:00+01:00", "2024-04-01T00:00+02:00"]],
        timezone="Europe/Berlin",
    )
    assert got.num_gaps[0] == 0
    assert got.lengths[0] == 3


def test_trading_starts_count_weekdays_without_holidays() -> None:
    got = panel(unique_ids=["a"], ys=[Y], freq="trading", starts=["2024-01-04"], holidays=["2024-01-08"])
    assert got.ds(0).astype("datetime64[D]").astype(str).tolist() == [
        "2024-01-04",
        "2024-01-05",
        "2024-01-09",
    ]


def test_integer_time_starts_anywhere() -> None:
    got = panel(freq=1, starts=[5, -3])
    np.testing.assert_array_equal(got.future_stamps(2), [[8, 9], [0, 1]])


def test_known_covariates_need_every_step() -> None:
    with pytest.raises(CovariateError, match="have gaps in ds"):
        panel(
            unique_ids=["a"], ys=[Y], ds=[["2024-01-01", "2024-01-02", "2024-01-05"]], known=[{"k": [1] * 6}]
        )


def test_ten_thousand_series_take_a_moment() -> None:
    ids = [f"s{i}" for i in range(10_000)]
    got = panel(unique_ids=ids, ys=[[1.0, None, 2.0] * 10] * 10_000, freq="h")
    assert got.lengths.sum() == 300_000
