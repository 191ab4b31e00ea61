"""When a recipe is due: cron lines as crontabs write them, intervals, clock changes, and what was missed."""

from datetime import UTC, datetime, timedelta, tzinfo
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.combining import OrTrigger
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.interval import IntervalTrigger

from pipelines.sections import duration_seconds

if TYPE_CHECKING:
    from pipelines.sections import ScheduleSection

DEFAULT_CRON = "0 3 * * *"
"""Of a recipe that names no time."""

MACROS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}

WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
"""In a crontab's order: 0 and 7 are Sunday."""

PERIODS = 9
"""Starts that are looked at to tell the period: a line for weekdays has its weekend among them."""


def check(section: "ScheduleSection") -> None:
    """ValueError, in words, for a schedule that cannot be kept."""
    zone = _zone(section.timezone)
    if section.every is not None:
        duration_seconds(section.every)
    elif _cron(section.cron or DEFAULT_CRON, zone).get_next_fire_time(None, datetime.now(UTC)) is None:
        raise ValueError(f"the cron line {section.cron!r} names a day that never comes; correct it")


def trigger(section: "ScheduleSection", *, started: float | None, now: float) -> BaseTrigger:
    """What APScheduler asks for the next start.

    `started` is the last start (seconds since 1970), from which an interval counts.
    """
    jitter = section.jitter_seconds or None
    if section.every is None:
        return _Cron(_cron(section.cron or DEFAULT_CRON, _zone(section.timezone)), jitter)
    step = duration_seconds(section.every)
    # a start in the future is left over from a clock that was wrong
    first = min(now if started is None else started, now) + step
    while first <= now:
        first += step * max(1, (now - first) // step)
    return IntervalTrigger(seconds=step, start_date=_at(first), timezone=UTC, jitter=jitter)


def next_start(section: "ScheduleSection", *, started: float | None, now: float) -> datetime | None:
    """The next start after now, without jitter, in the schedule's time zone."""
    exact = section.model_copy(update={"jitter_seconds": 0.0})
    found = trigger(exact, started=started, now=now).get_next_fire_time(None, _at(now + 1e-3))
    return found.astimezone(_zone(section.timezone)) if found else None


def period_seconds(section: "ScheduleSection", *, now: float) -> float | None:
    """The longest time between the next starts, without jitter; None where there is only one."""
    if section.every is not None:
        return duration_seconds(section.every)
    moments: list[float] = []
    while len(moments) < PERIODS and (
        found := next_start(section, started=None, now=moments[-1] if moments else now)
    ):
        moments.append(found.timestamp())
    return max((after - before for before, after in pairwise(moments)), default=None)


def missed(section: "ScheduleSection", *, handled: float | None, started: float | None, now: float) -> bool:
    """Whether a start was due since `handled`, until when every start had its run."""
    if handled is None or handled >= now:
        return False
    if section.every is not None:
        return (started or handled) + duration_seconds(section.every) <= now
    found = trigger(section.model_copy(update={"jitter_seconds": 0.0}), started=started, now=now)
    due = found.get_next_fire_time(None, _at(handled + 1e-3))
    return due is not None and due.timestamp() <= now


def words(section: "ScheduleSection") -> str:
    """The schedule as a table shows it."""
    if section.every is not None:
        return f"every {section.every}"
    return f"{section.cron or DEFAULT_CRON} {section.timezone}"


_A_MOMENT = timedelta(milliseconds=1)


class _Cron(BaseTrigger):  # type: ignore[misc]  # APScheduler publishes no types
    """A cron line under a clock that changes twice a year.

    What falls into the hour that a change skips runs right after it. In the hour that comes twice, a line
    that names its hour runs once, one for every hour (or minute) runs in both.
    """

    def __init__(self, lines: BaseTrigger, jitter: float | None) -> None:
        self.inner = lines
        self.jitter = jitter

    def get_next_fire_time(self, previous: datetime | None, now: datetime) -> datetime | None:
        # in UTC, because a local time plus a moment forgets which of two equal hours it was in
        after = now.astimezone(UTC) if previous is None else previous.astimezone(UTC) + _A_MOMENT
        found: datetime | None = self.inner.get_next_fire_time(None, after)
        while found is not None and _is_second(found) and _names_its_hour(self.inner):
            found = self.inner.get_next_fire_time(None, found.astimezone(UTC) + _A_MOMENT)
        if found is None:
            return None
        zone = found.tzinfo or UTC
        start: datetime = self._apply_jitter(found.astimezone(UTC), self.jitter, now)
        return start.astimezone(zone)


def _is_second(moment: datetime) -> bool:
    """Whether the clock shows this time for the second time."""
    if not moment.fold:
        return False
    return moment.replace(fold=0).utcoffset() != moment.utcoffset()


def _names_its_hour(lines: Any) -> bool:
    """Whether every line is for certain hours, as a crontab distinguishes `3` from `*` and `*/2`."""
    if isinstance(lines, OrTrigger):
        return all(_names_its_hour(each) for each in lines.triggers)
    hour = next(field for field in lines.fields if field.name == "hour")
    return not str(hour).startswith("*")


def _cron(line: str, zone: tzinfo) -> BaseTrigger:
    """A crontab line; like cron, either of two restricted day fields is enough."""
    text = MACROS.get(line.strip().lower(), line)
    parts = text.split()
    if len(parts) != 5:
        raise ValueError(
            f"a cron line has five fields, minute hour day month weekday, such as '0 3 * * 1'; got {line!r}"
        )
    minute, hour, day, month, weekday = parts
    own = {"minute": minute, "hour": hour, "month": month.lower()}
    try:
        days = [] if day == "*" else [{"day": day}]
        weekdays = [] if weekday == "*" else [{"day_of_week": _weekdays(weekday)}]
        lines = [CronTrigger(**own, **each, timezone=zone) for each in [*days, *weekdays] or [{}]]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"the cron line {line!r} cannot be read: {error}; correct it") from error
    return lines[0] if len(lines) == 1 else OrTrigger(lines)


def _weekdays(field: str) -> str:
    """A crontab's weekdays, in which 0 and 7 are Sunday, by name."""
    found: set[int] = set()
    for part in field.lower().split(","):
        span, _, step = part.partition("/")
        first, _, last = ("0-6" if span == "*" else span).partition("-")
        begin = _weekday(first)
        end = _weekday(last) if last else (6 if step else begin)
        if end < begin:
            end += 7
        found |= {each % 7 for each in range(begin, end + 1, int(step or 1))}
    return ",".join(WEEKDAYS[each] for each in sorted(found))


def _weekday(text: str) -> int:
    if text in WEEKDAYS:
        return WEEKDAYS.index(text)
    if not text.isdecimal() or int(text) > 7:
        raise ValueError(f"{text!r} is no weekday: 0 to 7, or sun to sat")
    return int(text)


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:  # ZoneInfoNotFoundError is a KeyError
        raise ValueError(f"there is no time zone {name!r}; write one like Europe/Berlin or UTC") from error


def _at(moment: float) -> datetime:
    return datetime.fromtimestamp(moment, UTC)
