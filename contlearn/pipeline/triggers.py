"""When an update starts: enough new records, the oldest waiting too long, the schedule."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from contlearn.catalog import Catalog
from contlearn.catalog.records import RecordCounts
from contlearn.catalog.schema import triggers
from contlearn.config import UpdateConfig

__all__ = ["Trigger", "due_trigger", "next_scheduled", "note_fired", "read_fired"]


@dataclass(frozen=True, slots=True)
class Trigger:
    """A reason to update. `run_key` names the cause: one cause starts one cycle."""

    name: str
    reason: str
    run_key: str


def next_scheduled(update: UpdateConfig, after: datetime) -> datetime | None:
    """Give the first moment of the schedule after `after`, in UTC; None without a schedule.

    As in Vixie's cron, a fixed hour that daylight saving skips is served when the clock has jumped,
    and one that comes twice is served the first time; schedules of every hour follow real time.
    """
    if not update.schedule:
        return None
    from apscheduler.triggers.cron import CronTrigger

    trigger = CronTrigger.from_crontab(update.schedule, timezone=update.timezone)
    has_fixed_hour = "*" not in update.schedule.split()[1]
    moment: datetime | None = trigger.get_next_fire_time(None, after + timedelta(seconds=1))
    while moment is not None and has_fixed_hour and moment.fold:
        moment = trigger.get_next_fire_time(None, moment.astimezone(UTC) + timedelta(seconds=1))
    return None if moment is None else moment.astimezone(UTC)


def due_trigger(
    update: UpdateConfig,
    counts: RecordCounts,
    *,
    now: datetime,
    last_ended: datetime | None,
    schedule_since: datetime,
) -> Trigger | None:
    """Say whether an update is due, and why.

    Args:
        update: The configuration.
        counts: The records as they stand.
        now: The present moment.
        last_ended: When the last cycle ended; the cool-down counts from there.
        schedule_since: The last scheduled moment that was served. However many were missed since,
            one cycle starts.
    """
    cooling = last_ended is not None and now < last_ended + timedelta(seconds=update.cooldown)
    scheduled = next_scheduled(update, schedule_since)
    if scheduled is not None and scheduled <= now:
        # The schedule is the user's own word; the cool-down is for what starts by itself.
        return Trigger(
            "schedule", f"scheduled for {scheduled.isoformat()}", f"cron-{scheduled.isoformat()}"
        )
    if cooling or counts.pending == 0:
        return None
    if counts.never_tried >= update.min_new_records:
        return Trigger(
            "count",
            f"{counts.never_tried} new records (at least {update.min_new_records})",
            f"count-{now.isoformat()}",
        )
    if counts.oldest_pending is not None:
        waited = now - datetime.fromisoformat(counts.oldest_pending)
        if waited >= timedelta(seconds=update.max_wait):
            return Trigger(
                "wait",
                f"the oldest record has waited {waited.total_seconds() / 3600:.1f} hours",
                f"wait-{counts.oldest_pending}-{now.isoformat()}",
            )
    return None


def read_fired(catalog: Catalog, name: str) -> datetime | None:
    """Give the last moment of a trigger that was served."""
    with catalog.read() as connection:
        value = connection.execute(
            sa.select(triggers.c.fired_at).where(triggers.c.name == name)
        ).scalar()
    return datetime.fromisoformat(value) if value else None


def note_fired(catalog: Catalog, name: str, at: datetime, detail: dict[str, Any]) -> None:
    """Remember that a trigger was served, so that a restart does not serve it again."""
    values = {"fired_at": at.isoformat(), "detail": detail}
    with catalog.write() as connection:
        done = connection.execute(triggers.update().where(triggers.c.name == name).values(values))
        if done.rowcount == 0:
            connection.execute(triggers.insert().values(name=name, **values))
