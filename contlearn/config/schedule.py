"""Times: the schedule in its time zone, quiet hours, and the day a budget belongs to."""

from __future__ import annotations

import functools
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from contlearn.config import DAYS, UpdateConfig, read_quiet

__all__ = ["local_day", "next_scheduled", "quiet_until", "read_cron"]

_WEEK_MINUTES: Final = 7 * 24 * 60


_NAMED: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}


@functools.lru_cache(maxsize=32)
def read_cron(schedule: str, timezone: str) -> tuple[Any, ...]:
    """Read a line of crontab(5); what any of the triggers given fires at is scheduled.

    Days of the week count from Sunday, which is 0 and 7. Where both days of the month and of the
    week are given, either is enough.

    Raises:
        ValueError: When it cannot be read, or names no moment that ever comes.
        LookupError: When the time zone is not known.
    Source: crontab(5). APScheduler counts weekdays from Monday and asks for both days, so it is
        handed one kind of day at a time, and weekdays by name.
    """
    from apscheduler.triggers.cron import CronTrigger

    fields = _NAMED.get(schedule.strip().lower(), schedule).split()
    if len(fields) != 5:
        raise ValueError(f"it has {len(fields)} fields, not minute, hour, day, month, weekday")
    minute, hour, day, month, weekday = fields
    week = _weekdays(weekday)
    # As in Vixie's cron, a star at the beginning of either makes both conditions hold at once.
    by_either = not day.startswith("*") and not weekday.startswith("*")
    days = [(day, "*"), ("*", week)] if by_either else [(day, week)]
    triggers = tuple(
        CronTrigger(minute=minute, hour=hour, day=d, month=month, day_of_week=w, timezone=timezone)
        for d, w in days
    )
    if all(t.get_next_fire_time(None, datetime.now(UTC)) is None for t in triggers):
        raise ValueError("there is no such day in any year")
    return triggers


def _weekdays(text: str) -> str:
    """Turn the last field of a crontab line into names of days."""
    if text == "*":
        return text
    found: set[int] = set()
    for part in text.lower().split(","):
        days, slash, step = part.partition("/")
        first, dash, last = ("0", "-", "6") if days == "*" else days.partition("-")
        start = _weekday(first)
        end = _weekday(last) if dash else 6 if slash else start
        if end < start:  # sat-mon
            end += 7
        if slash and (not step.isdecimal() or int(step) < 1):
            raise ValueError(f"{step!r} is not a step of days")
        found.update(day % 7 for day in range(start, end + 1, int(step or 1)))
    return ",".join(DAYS[(day - 1) % 7] for day in sorted(found))


def _weekday(text: str) -> int:
    """Give the number of a day as cron counts: Sunday is 0, or 7."""
    if text in DAYS:
        return (DAYS.index(text) + 1) % 7
    if not text.isdecimal() or int(text) > 7:
        raise ValueError(f"{text!r} is not a day of the week: sun to sat, or 0 to 7")
    return int(text)


def next_scheduled(update: UpdateConfig, after: datetime) -> datetime | None:
    """Give the first moment of the schedule after `after`, in UTC; None without a schedule.

    As in Vixie's cron, a fixed hour that daylight saving skips is served when the clock has jumped,
    and one that comes twice is served the first time; schedules of every hour follow real time.
    """
    if not update.schedule:
        return None
    moments = (_next(trigger, after) for trigger in read_cron(update.schedule, update.timezone))
    return min((moment for moment in moments if moment is not None), default=None)


def _next(trigger: Any, after: datetime) -> datetime | None:
    has_fixed_hour = "*" not in str(trigger.fields[5])
    moment: datetime | None = trigger.get_next_fire_time(None, after + timedelta(seconds=1))
    while moment is not None and has_fixed_hour and moment.fold:
        moment = trigger.get_next_fire_time(None, moment.astimezone(UTC) + timedelta(seconds=1))
    return None if moment is None else moment.astimezone(UTC)


def quiet_until(update: UpdateConfig, now: datetime) -> datetime | None:
    """Give when the quiet hours end that hold now, in UTC; None when updates may start.

    Intervals that touch are one. A week without an end counts as quiet for a week.
    """
    if not update.quiet_hours:
        return None
    zone = ZoneInfo(update.timezone)
    intervals = [read_quiet(text) for text in update.quiet_hours]
    moment = now.astimezone(zone)
    if not _is_quiet(intervals, moment):
        return None
    # Minute by minute on the clock on the wall, so that a day of 23 or 25 hours is right.
    real = now.replace(second=0, microsecond=0)
    for _ in range(_WEEK_MINUTES):
        real += timedelta(minutes=1)
        if not _is_quiet(intervals, real.astimezone(zone)):
            break
    return real.astimezone(UTC)


def local_day(update: UpdateConfig, now: datetime) -> str:
    """Give the date in the schedule's time zone: the day that a budget of minutes belongs to."""
    return now.astimezone(ZoneInfo(update.timezone)).date().isoformat()


def _is_quiet(intervals: list[tuple[frozenset[int], int, int]], moment: datetime) -> bool:
    minute = moment.hour * 60 + moment.minute
    today, yesterday = moment.weekday(), (moment.weekday() - 1) % 7
    for days, start, end in intervals:
        if start < end:
            if today in days and start <= minute < end:
                return True
        elif (today in days and minute >= start) or (yesterday in days and minute < end):
            return True
    return False
