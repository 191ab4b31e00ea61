"""Frequencies: names, grids, zones, futures, inference."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from forecast.errors import FrequencyError, OffGridError, TimeZoneError
from forecast.series.calendar import (
    Frequency,
    calendar_features,
    check_timezone,
    feature_names,
    infer_frequency,
    to_local,
    to_utc,
    weekday_steps,
)


def us(*stamps: str) -> Any:
    return np.array(stamps, dtype="datetime64[us]")


@pytest.mark.parametrize(
    ("given", "alias", "kind", "season_length"),
    [
        ("MS", "MS", "calendar", 12),
        ("M", "ME", "calendar", 12),
        ("1mo", "MS", "calendar", 12),
        ("monthly", "MS", "calendar", 12),
        ("3MS", "3MS", "calendar", 4),
        ("QS-OCT", "QS-OCT", "calendar", 4),
        ("Q", "QE-DEC", "calendar", 4),
        ("A-JUN", "YE-JUN", "calendar", 1),
        ("W", "W-SUN", "calendar", 52),
        ("1w", "W-SUN", "calendar", 52),
        ("2W-mon", "2W-MON", "calendar", 26),
        ("D", "D", "fixed", 7),
        ("1d", "D", "fixed", 7),
        ("7D", "7D", "fixed", 52),
        ("2D", "2D", "fixed", 1),
        ("B", "B", "calendar", 5),
        ("H", "h", "fixed", 24),
        ("1h", "h", "fixed", 24),
        ("60min", "h", "fixed", 24),
        ("T", "min", "fixed", 1440),
        ("5T", "5min", "fixed", 288),
        ("15min", "15min", "fixed", 96),
        ("30min", "30min", "fixed", 48),
        ("90s", "90s", "fixed", 1),
        ("S", "s", "fixed", 60),
        ("trading", "trading", "trading", 5),
        ("Trading", "trading", "trading", 5),
        (1, 1, "integer", 1),
        ("1", 1, "integer", 1),
        (pd.offsets.MonthBegin(), "MS", "calendar", 12),
    ],
)
def test_a_frequency_has_one_canonical_name(given: Any, alias: Any, kind: str, season_length: int) -> None:
    freq = Frequency.parse(given)
    assert (freq.alias, freq.kind, freq.season_length) == (alias, kind, season_length)
    assert Frequency.parse(freq) is freq
    assert Frequency.parse(freq.alias) == freq


@pytest.mark.parametrize(
    "given", ["", "fortnight", "m", "0h", 0, -1, None, True, "W-FOO", "h-MON", "MS-JAN", 1.5]
)
def test_an_unknown_frequency_is_refused_by_name(given: Any) -> None:
    with pytest.raises(FrequencyError, match=r"frequency|freq"):
        Frequency.parse(given)


@pytest.mark.parametrize(
    "alias",
    [
        "MS",
        "ME",
        "BMS",
        "BME",
        "QS-JAN",
        "QS-FEB",
        "QE-NOV",
        "QE-DEC",
        "YS-JAN",
        "YS-APR",
        "YE-DEC",
        "YE-JUN",
        "W-SUN",
        "W-WED",
        "B",
        "D",
        "h",
        "15min",
        "2MS",
        "3h",
        "s",
    ],
)
def test_grids_agree_with_pandas(alias: str) -> None:
    index = pd.date_range("2019-12-29", periods=60, freq=alias)
    stamps = index.to_numpy().astype("datetime64[us]")
    freq = Frequency.parse(alias)
    np.testing.assert_array_equal(freq.stamps(stamps[0], 60), stamps)
    np.testing.assert_array_equal(freq.positions(stamps), np.arange(60))
    np.testing.assert_array_equal(freq.advance(stamps[59], -59), stamps[0])
    np.testing.assert_array_equal(freq.future(stamps[:2], 3), [stamps[1:4], stamps[2:5]])


@pytest.mark.parametrize(
    ("alias", "start", "stamp"),
    [
        ("MS", "2024-01-01", "2024-02-02"),
        ("ME", "2024-01-31", "2024-02-28"),
        ("W-SUN", "2024-01-07", "2024-01-13"),
        ("B", "2024-01-05", "2024-01-06"),
        ("h", "2024-01-01T00:30", "2024-01-01T02:00"),
        ("15min", "2024-01-01", "2024-01-01T00:20"),
        ("2MS", "2024-01-01", "2024-02-01"),
        ("D", "2024-01-01T06:00", "2024-01-02T07:00"),
    ],
)
def test_a_stamp_beside_the_grid_is_named(alias: str, start: str, stamp: str) -> None:
    with pytest.raises(OffGridError, match=us(stamp)[0].astype(str)[:16]):
        Frequency.parse(alias).positions(us(start, stamp))


def test_fixed_grids_run_through_their_first_stamp() -> None:
    hours = us("2024-01-01T00:30", "2024-01-01T01:30", "2024-01-01T04:30")
    np.testing.assert_array_equal(Frequency.parse("h").positions(hours), [0, 1, 4])


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("MS", "ME", True),
        ("W-SUN", "W-MON", True),
        ("24h", "D", True),
        ("QS-JAN", "3MS", True),
        ("MS", "h", False),
        ("D", "B", False),
        ("D", "trading", False),
        (1, "D", False),
    ],
)
def test_frequencies_of_equal_spacing_are_compatible(one: Any, other: Any, same: bool) -> None:
    assert Frequency.parse(one).is_compatible(Frequency.parse(other)) is same


def test_trading_futures_leave_out_weekends_and_holidays_and_keep_the_hour() -> None:
    last = us("2024-03-28T21:00", "2024-04-05T21:00")
    future = Frequency.parse("trading").future(last, 2, holidays=["2024-03-29", "2024-04-08"])
    np.testing.assert_array_equal(
        future,
        [us("2024-04-01T21:00", "2024-04-02T21:00"), us("2024-04-09T21:00", "2024-04-10T21:00")],
    )


def test_a_trading_future_after_a_weekend_observation_starts_on_monday() -> None:
    np.testing.assert_array_equal(
        Frequency.parse("trading").future(us("2024-01-06")[0], 2), us("2024-01-08", "2024-01-09")
    )


def test_holidays_have_to_be_dates() -> None:
    with pytest.raises(FrequencyError, match="no date"):
        Frequency.parse("trading").future(us("2024-01-05")[0], 1, holidays=["easter"])


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "America/Sao_Paulo", "Asia/Beirut"])
def test_a_day_in_a_zone_is_one_step_however_many_hours_it_has(zone: str) -> None:
    local = np.arange("2017-01-01", "2018-01-01", dtype="datetime64[D]").astype("datetime64[us]")
    stamps = to_utc(local, zone)
    daily = Frequency.parse("D")
    np.testing.assert_array_equal(daily.positions(stamps, timezone=zone), np.arange(365))
    np.testing.assert_array_equal(daily.stamps(stamps[0], 365, timezone=zone), stamps)
    assert infer_frequency(stamps, timezone=zone) == daily


def test_an_hour_in_a_zone_is_an_hour_of_elapsed_time() -> None:
    stamps = us("2024-10-26T22:00") + np.arange(30) * np.timedelta64(1, "h")
    hourly = Frequency.parse("h")
    np.testing.assert_array_equal(hourly.positions(stamps, timezone="Europe/Berlin"), np.arange(30))
    assert len(np.unique(to_local(stamps, "Europe/Berlin"))) == 29


def test_months_in_a_zone_start_at_local_midnight() -> None:
    start = to_utc(us("2024-01-01"), "Europe/Berlin")[0]
    months = Frequency.parse("MS").stamps(start, 5, timezone="Europe/Berlin")
    np.testing.assert_array_equal(
        to_local(months, "Europe/Berlin"),
        us("2024-01-01", "2024-02-01", "2024-03-01", "2024-04-01", "2024-05-01"),
    )


def test_an_unknown_zone_is_refused() -> None:
    with pytest.raises(TimeZoneError, match="Europe/Atlantis"):
        check_timezone("Europe/Atlantis")


@pytest.mark.parametrize(
    "alias", ["MS", "ME", "BME", "QE-NOV", "YS-APR", "W-TUE", "B", "D", "7h", "h", "15min", "10s"]
)
def test_a_frequency_is_inferred_from_regular_stamps(alias: str) -> None:
    stamps = pd.date_range("2019-12-29", periods=40, freq=alias).to_numpy()
    assert infer_frequency(stamps) == Frequency.parse(alias)


@pytest.mark.parametrize("alias", ["MS", "W-TUE", "D", "h"])
def test_a_frequency_is_inferred_across_gaps(alias: str) -> None:
    stamps = pd.date_range("2019-12-29", periods=40, freq=alias).to_numpy()
    assert infer_frequency(np.delete(stamps, [3, 4, 17])) == Frequency.parse(alias)


@pytest.mark.parametrize(
    "stamps",
    [
        us("2024-01-01", "2024-01-02"),
        us("2024-01-01", "2024-01-02", "2024-01-09", "2024-01-30"),
        us("2024-01-01T00:00:01", "2024-01-01T00:05:02", "2024-01-01T00:10:00", "2024-01-01T00:15:03"),
    ],
)
def test_no_frequency_is_made_up(stamps: Any) -> None:
    assert infer_frequency(stamps) is None


def test_weekdays_with_holidays_have_no_frequency_but_look_like_trading_days() -> None:
    days = pd.bdate_range("2024-01-01", periods=60).delete([0, 14, 33]).to_numpy().astype("datetime64[us]")
    assert infer_frequency(days) is None
    assert weekday_steps(days) == 2


def test_integer_steps_are_inferred() -> None:
    assert infer_frequency(np.array([1, 2, 3, 5])) == Frequency.parse(1)
    assert infer_frequency(np.array([0, 10, 20])) == Frequency.parse(10)


@pytest.mark.parametrize(
    ("alias", "cycles"), [("MS", 1), ("W-SUN", 1), ("D", 3), ("h", 4), ("5min", 5), ("trading", 3), (1, 0)]
)
def test_calendar_features_are_a_sine_and_a_cosine_per_cycle(alias: Any, cycles: int) -> None:
    freq = Frequency.parse(alias)
    stamps = freq.stamps(0 if freq.is_integer else us("2024-01-01")[0], 7)[None, :]
    features = calendar_features(stamps, freq)
    assert features.shape == (1, 2 * cycles, 7)
    assert len(feature_names(freq)) == cycles
    assert (np.abs(features) <= 1).all()


def test_hours_are_those_of_the_wall_clock() -> None:
    freq = Frequency.parse("h")
    noon = to_utc(us("2024-07-01T12:00"), "Europe/Berlin")[None, :]
    place = 2 * feature_names(freq).index("hour")
    np.testing.assert_allclose(
        calendar_features(noon, freq, timezone="Europe/Berlin")[0, place : place + 2, 0], [0, -1], atol=1e-6
    )


def test_integer_and_dated_stamps_do_not_mix() -> None:
    with pytest.raises(FrequencyError, match="integer stamps"):
        Frequency.parse(1).positions(us("2024-01-01"))
    with pytest.raises(FrequencyError, match="freq=1"):
        Frequency.parse("D").positions(np.array([1, 2, 3]))
