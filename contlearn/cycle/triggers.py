"""When an update starts, why, and what holds it back. Every reason names the cause it comes from.

A cause has a run key, and the catalog starts one cycle for a key: what was served is not served
again, whatever is killed in between.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from contlearn.catalog.counting import KEPT, OPEN_STATES
from contlearn.catalog.cycles import CycleRow
from contlearn.catalog.records import RecordCounts
from contlearn.catalog.schema import cycles, records
from contlearn.config import UpdateConfig
from contlearn.config.schedule import local_day, next_scheduled, quiet_until
from contlearn.cycle.causes import Request, note_fired, read_fired
from contlearn.monitoring.signals import Signals

__all__ = [
    "ASKED",
    "BY_HAND",
    "PART",
    "RESUME",
    "Trigger",
    "TriggerFacts",
    "due_triggers",
    "holds_back",
    "new_labels",
    "next_scheduled",
    "note_fired",
    "read_fired",
    "unused",
]

# Triggers behind which a person stands and waits.
BY_HAND: Final = ("manual", "demo")
# Somebody asked for these: only they try kept records again where no others have come.
ASKED: Final = (*BY_HAND, "request")
# Tries one part of the records that made updates fail.
PART: Final = "part"
# Takes up what was interrupted, and begins nothing.
RESUME: Final = "resume"
# What waits for nothing, and what does not wait for the cool-down.
_AT_ONCE: Final = ("request", RESUME)
_NOT_COOLED: Final = ("request", RESUME, "schedule", "retry", PART)


@dataclass(frozen=True, slots=True)
class Trigger:
    """A reason to update. `run_key` names the cause: one cause starts one cycle."""

    name: str
    reason: str
    run_key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerFacts:
    """What is known when the question is asked.

    Args:
        counts: The records as they stand.
        now: The present moment.
        schedule_since: The last scheduled moment that was served.
        last: The newest cycle.
        champion: The version served.
        new_labels: Open training records, without kept ones, of each label that the champion
            does not know.
        signals: What monitoring found.
        request: What somebody asked for.
        seconds_today: How long updates ran on this day.
    """

    counts: RecordCounts
    now: datetime
    schedule_since: datetime
    last: CycleRow | None = None
    champion: int | None = None
    new_labels: Mapping[str, int] = field(default_factory=dict)
    signals: Signals | None = None
    request: Request | None = None
    seconds_today: float = 0.0


def due_triggers(update: UpdateConfig, facts: TriggerFacts) -> list[Trigger]:
    """Give every reason to update that holds now, the most urgent first.

    Nothing here asks whether one is held back (`holds_back`) or was served (`unused`).
    """
    found: list[Trigger] = []
    counts, now = facts.counts, facts.now
    if facts.request is not None:
        said = f": {facts.request.reason}" if facts.request.reason else ""
        key = f"request-{facts.request.request_id}"
        found.append(Trigger("request", f"asked for by {facts.request.by}{said}", key))
    scheduled = next_scheduled(update, facts.schedule_since)
    if scheduled is not None and scheduled <= now:
        moment = scheduled.isoformat()
        found.append(Trigger("schedule", f"scheduled for {moment}", f"cron-{moment}"))
    last = facts.last
    has_failed = last is not None and last.outcome == "failed"
    part = _of_parts(facts)
    # By turns: the rest goes first after a failure or a part, else the next part does.
    if part is not None and not has_failed and last is not None and last.trigger != PART:
        found.append(part)
    if counts.fresh:
        found += _of_records(update, facts)
    if part is not None and part not in found:
        found.append(part)
    return found


def _of_parts(facts: TriggerFacts) -> Trigger | None:
    """Give the reason to try the next part; none while a challenger awaits approval."""
    counts = facts.counts
    if not counts.suspected or counts.awaiting:
        return None
    after = facts.last.cycle_id if facts.last is not None else "start"
    reason = f"{counts.suspected} records made updates fail and are tried part by part"
    return Trigger(PART, reason, f"part-after-{after}")


def _of_records(update: UpdateConfig, facts: TriggerFacts) -> Iterable[Trigger]:
    found: list[Trigger] = []
    counts, now, last = facts.counts, facts.now, facts.last
    if last is not None and last.outcome == "failed" and last.trigger not in (*BY_HAND, PART):
        reason = f"the cycle {last.cycle_id} failed and is tried again"
        found.append(Trigger("retry", reason, f"retry-{last.cycle_id}"))
    found += _of_labels(update, facts)
    found += _of_signals(update, facts)
    after = last.cycle_id if last is not None else "start"
    if counts.never_tried >= update.min_new_records:
        reason = f"{counts.never_tried} new records (at least {update.min_new_records})"
        found.append(Trigger("count", reason, f"count-after-{after}"))
    if counts.oldest_pending is not None:
        # A record from the future came before the clock was set back: its age is not known.
        waited = abs((now - datetime.fromisoformat(counts.oldest_pending)).total_seconds())
        if waited >= update.max_wait:
            reason = f"the oldest record has waited {waited / 3600:.1f} hours"
            found.append(Trigger("wait", reason, f"wait-after-{after}"))
    return found


def _of_labels(update: UpdateConfig, facts: TriggerFacts) -> Iterable[Trigger]:
    least = update.min_new_label_records
    enough = {name: n for name, n in facts.new_labels.items() if n >= least}
    if not least or not enough or facts.champion is None:
        return
    names = sorted(enough)
    shown = ", ".join(f"{name!r} ({enough[name]})" for name in names[:5])
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    digest = hashlib.sha256("\n".join(names).encode("utf-8", "replace")).hexdigest()[:16]
    yield Trigger(
        "new-label",
        f"labels the champion does not know have at least {least} records: {shown}{more}",
        f"new-label-{facts.champion}-{digest}",
    )


def _of_signals(update: UpdateConfig, facts: TriggerFacts) -> Iterable[Trigger]:
    signals = facts.signals
    if signals is None or signals.version is None or signals.version != facts.champion:
        return  # about a version that is no longer served
    version = signals.version
    drift = signals.drift
    if update.on_drift and drift.detected and drift.consecutive >= update.drift_looks:
        why = drift.explanation[0] if drift.explanation else ", ".join(drift.detectors)
        yield Trigger(
            "drift",
            f"{drift.severity} drift in {drift.consecutive} looks in a row: {why}",
            f"drift-{version}-{drift.since or ''}",
        )
    for name, wanted, found in (
        ("measured-accuracy", update.on_measured_drop, signals.measured),
        ("estimated-accuracy", update.on_estimated_drop, signals.estimated),
    ):
        if wanted and found.dropped:
            between = (
                f" ({found.low:.3f} to {found.high:.3f})"
                if found.low is not None and found.high is not None
                else ""
            )
            value = "–" if found.value is None else f"{found.value:.3f}"
            before = "–" if found.reference is None else f"{found.reference:.3f}"
            # A version's accuracy falls once; however it moves below, it is one cause.
            yield Trigger(
                name,
                f"{name.replace('-', ' ')} {value}{between} on {found.records} records has "
                f"fallen below the {before} it was promoted with",
                f"{name}-{version}",
            )


def holds_back(
    update: UpdateConfig, facts: TriggerFacts, trigger: Trigger, *, part_seconds: float = 0.0
) -> str | None:
    """Say why a trigger must wait; None when it may start.

    Args:
        update: The settings.
        facts: What is known.
        trigger: What is due.
        part_seconds: How long to wait after a part that failed before the next one.
    """
    if trigger.name in _AT_ONCE:
        return None
    now, last = facts.now, facts.last
    quiet = quiet_until(update, now)
    if quiet is not None:
        return f"quiet hours until {quiet.isoformat()}"
    if update.max_minutes_per_day and facts.seconds_today >= 60 * update.max_minutes_per_day:
        return (
            f"the budget of {update.max_minutes_per_day:g} minutes for {local_day(update, now)} "
            "is used up"
        )
    if last is None or last.ended_at is None:
        return None
    since = (now - datetime.fromisoformat(last.ended_at)).total_seconds()
    if trigger.name == PART and last.outcome == "failed" and abs(since) < part_seconds:
        return f"waiting {part_seconds - abs(since):.0f} s after a failure"
    # An end in the future: the clock was set back, and how long ago it was is not known.
    if trigger.name not in _NOT_COOLED and -update.cooldown < since < update.cooldown:
        end = now + timedelta(seconds=update.cooldown - since)
        return f"cool-down until {end.isoformat(timespec='seconds')}"
    return None


def unused(connection: Connection, found: Sequence[Trigger]) -> list[Trigger]:
    """Leave out the triggers whose cause has had its cycle."""
    keys = [trigger.run_key for trigger in found]
    query = sa.select(cycles.c.run_key).where(cycles.c.run_key.in_(keys))
    used = set(connection.execute(query).scalars()) if keys else set()
    return [trigger for trigger in found if trigger.run_key not in used]


def new_labels(
    connection: Connection,
    known: Iterable[str],
    *,
    labels_of_key: Callable[[str], Sequence[str]],
    without_cycle: str | None = None,
) -> dict[str, int]:
    """Count the open training records of each label that is not known; kept ones are no cause.

    Args:
        connection: To the catalog.
        known: The labels of the champion, as people know them.
        labels_of_key: Gives the labels in a record's key, as the task says.
        without_cycle: Leave out what this cycle has.
    """
    query = (
        sa.select(records.c.key, sa.func.count())
        .where(
            records.c.state.in_(OPEN_STATES),
            records.c.state != KEPT,
            records.c.split == "train",
            records.c.part.is_(None),
        )
        .group_by(records.c.key)
    )
    if without_cycle is not None:
        query = query.where(records.c.cycle_id.is_distinct_from(without_cycle))
    names = set(known)
    found: dict[str, int] = {}
    for key, number in connection.execute(query):
        for label in labels_of_key(str(key)):
            if label not in names:
                found[label] = found.get(label, 0) + int(number)
    return found
