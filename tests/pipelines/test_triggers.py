"""When a recipe is due: crontab words, intervals, two clock changes a year, and what was missed."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from pydantic import ValidationError

from pipelines import triggers
from pipelines.sections import ScheduleSection

BERLIN = ZoneInfo("Europe/Berlin")


def at(text: str, zone: ZoneInfo | None = None) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=zone or UTC).timestamp()


def starts(section: ScheduleSection, begin: float, count: int) -> list[str]:
    """The next starts as local times, one after the other as APScheduler asks for them."""
    trigger = triggers.trigger(section, started=None, now=begin)
    found: list[str] = []
    previous, now = None, datetime.fromtimestamp(begin, UTC)
    for _ in range(count):
        previous = trigger.get_next_fire_time(previous, now)
        now = previous
        found.append(previous.astimezone(ZoneInfo(section.timezone)).strftime("%m-%d %H:%M%z"))
    return found


@pytest.mark.parametrize(
    ("cron", "begin", "expected"),
    [
        # 2026-03-29 has no 02:30: it runs when the clock would have shown it, which is 03:30
        ("30 2 * * *", "2026-03-28T12:00", ["03-29 03:30+0200", "03-30 02:30+0200"]),
        # 2026-10-25 has 02:30 twice: the first counts
        ("30 2 * * *", "2026-10-24T12:00", ["10-25 02:30+0200", "10-26 02:30+0100"]),
        ("30 2 * * *", "2026-10-25T02:45", ["10-26 02:30+0100", "10-27 02:30+0100"]),
        # what runs every hour runs in both
        ("0 * * * *", "2026-10-25T01:30", ["10-25 02:00+0200", "10-25 02:00+0100", "10-25 03:00+0100"]),
        ("0 * * * *", "2026-03-29T01:30", ["03-29 03:00+0200", "03-29 04:00+0200"]),
        ("0 3 * * *", "2026-10-24T12:00", ["10-25 03:00+0100", "10-26 03:00+0100"]),
    ],
)
def test_a_clock_change_neither_loses_a_run_nor_doubles_it(
    cron: str, begin: str, expected: list[str]
) -> None:
    section = ScheduleSection(cron=cron, timezone="Europe/Berlin")
    assert starts(section, at(begin, BERLIN), len(expected)) == expected


@pytest.mark.parametrize(
    ("cron", "days"),
    [
        ("0 0 * * 0", ["11-22", "11-29"]),  # Sunday is 0, as in a crontab
        ("0 0 * * 7", ["11-22", "11-29"]),
        ("0 0 * * mon-fri", ["11-23", "11-24"]),
        ("0 0 * * 5-7", ["11-22", "11-27"]),
        ("0 0 * * sat-mon", ["11-22", "11-23"]),
        ("0 0 * * */3", ["11-22", "11-25"]),
        ("0 0 1 * *", ["12-01", "01-01"]),
        ("0 0 1 * 1", ["11-23", "11-30", "12-01"]),  # either day is enough, as in a crontab
        ("@weekly", ["11-22", "11-29"]),
    ],
)
def test_a_cron_line_means_what_it_means_in_a_crontab(cron: str, days: list[str]) -> None:
    found = starts(ScheduleSection(cron=cron), at("2026-11-21T12:00"), len(days))
    assert [each.split()[0] for each in found] == days


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"cron": "0 3 * *"}, "a cron line has five fields"),
        ({"cron": "0 25 * * *"}, "cannot be read"),
        ({"cron": "0 0 * * 8"}, "'8' is no weekday"),
        ({"cron": "0 0 31 2 *"}, "names a day that never comes"),
        ({"cron": "@noon"}, "a cron line has five fields"),
        ({"every": "soon"}, "a duration is a number with s, min, h, d or w, such as 6h, and not 'soon'"),
        ({"every": "0s"}, "a duration is a number"),
        ({"every": "1h", "cron": "@daily"}, "set `cron` or `every`, not both"),
        ({"timezone": "Europe/Berlinn"}, "there is no time zone 'Europe/Berlinn'"),
    ],
)
def test_a_schedule_that_cannot_be_kept_is_refused_in_words(values: dict[str, str], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ScheduleSection.model_validate(values)


@pytest.mark.parametrize(
    ("values", "hours"),
    [
        ({"every": "6h"}, 6),
        ({"cron": "0 3 * * *"}, 24),
        ({"cron": "*/30 * * * *"}, 0.5),
        ({"cron": "0 3 * * mon-fri", "jitter_seconds": "600"}, 72),
        ({"cron": "0 3 1 * *"}, 31 * 24),
    ],
)
def test_the_period_is_the_longest_time_between_starts(values: dict[str, str], hours: float) -> None:
    section = ScheduleSection.model_validate(values)
    assert triggers.period_seconds(section, now=at("2026-01-07T12:00")) == hours * 3600


def test_an_interval_counts_from_the_last_start() -> None:
    section, now = ScheduleSection(every="6h"), at("2026-11-21T12:00")
    due = triggers.next_start(section, started=now - 3600, now=now)
    assert due == datetime(2026, 11, 21, 17, tzinfo=UTC)
    late = triggers.next_start(section, started=now - 20 * 3600, now=now)
    assert late == datetime(2026, 11, 21, 16, tzinfo=UTC)


def test_a_last_start_in_the_future_is_a_clock_that_was_wrong() -> None:
    section, now = ScheduleSection(every="6h"), at("2026-11-21T12:00")
    assert triggers.next_start(section, started=at("2031-01-01"), now=now) == datetime(
        2026, 11, 21, 18, tzinfo=UTC
    )
    assert not triggers.missed(section, handled=at("2031-01-01"), started=at("2031-01-01"), now=now)


@pytest.mark.parametrize(
    ("values", "handled", "is_missed"),
    [
        ({"cron": "0 3 * * *"}, "2026-11-21T03:00:30", False),
        ({"cron": "0 3 * * *"}, "2026-11-21T02:59", True),
        ({"cron": "0 3 * * *"}, "2026-11-01T03:00:30", True),
        ({"every": "6h"}, "2026-11-21T07:00", False),
        ({"every": "6h"}, "2026-11-21T05:59", True),
    ],
)
def test_a_start_that_came_while_nothing_ran_was_missed(
    values: dict[str, str], handled: str, is_missed: bool
) -> None:
    section, moment = ScheduleSection.model_validate(values), at(handled)
    now = at("2026-11-21T12:00")
    assert triggers.missed(section, handled=moment, started=moment, now=now) is is_missed
    assert not triggers.missed(section, handled=None, started=None, now=now)


def test_jitter_puts_a_start_off_and_never_before_its_time() -> None:
    section = ScheduleSection(cron="0 3 * * *", jitter_seconds=600)
    found = {start for _ in range(20) for start in starts(section, at("2026-11-21T12:00"), 1)}
    assert len(found) > 3
    assert all("03:00" <= each.split()[1][:5] <= "03:10" for each in found)
