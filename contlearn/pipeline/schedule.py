"""Times: the schedule in its time zone, quiet hours, and the day a budget belongs to."""

from __future__ import annotations

import functools
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from contlearn.config import UpdateConfig
from contlearn.sections import read_quiet

__all__ = ["local_day", "next_scheduled", "quiet_until"]

_WEEK_MINUTES: Final = 7 * 24 * 60


@functools.lru_cache(maxsize=32)
def _cron(schedule: str, timezone: str) -> Any:
    from apscheduler.triggers.cron import CronTrigger

    return CronTrigger.from_crontab(schedule, timezone=timezone)


def next_scheduled(update: UpdateConfig, after: datetime) -> datetime | None:
    """Give the first moment of the schedule after `after`, in UTC; None without a schedule.

    As in Vixie's cron, a fixed hour that daylight saving skips is served when the clock has jumped,
    and one that comes twice is served the first time; schedules of every hour follow real time.
    """
    if not update.schedule:
        return None
    trigger = _cron(update.schedule, update.timezone)
    has_fixed_hour = "*" not in update.schedule.split()[1]
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
