"""From what happened to messages: read from catalog and journal, so that nothing is missed.

Whoever ended a cycle or changed the champion, by hand or not, killed right after it or not: the
next look here finds it, and the message's id says whether it was found before.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence
from datetime import datetime
from itertools import takewhile
from typing import Any, Final

import sqlalchemy as sa

from contlearn.catalog.cycles import ENDED, CycleRow, list_cycles
from contlearn.catalog.rows import get
from contlearn.catalog.schema import triggers
from contlearn.config import ChannelConfig
from contlearn.context import Context
from contlearn.cycle.causes import note_fired
from contlearn.notifications.channels import Delivery, deliver
from contlearn.notifications.messages import Message
from contlearn.notifications.outbox import Outbox
from contlearn.papers.journal import CHANGES, JournalRecord

__all__ = ["collect", "open_outbox", "post", "tell", "try_channels"]

# Outcomes of cycles that are told by themselves; a promotion is told from the journal.
_TOLD: Final = ("refused", "kept", "failed", "not-promoted", "awaiting-approval")
_MARK: Final = "notifications"
_LOOK_BACK: Final = 200


def open_outbox(context: Context) -> Outbox:
    """Open the outbox of a workspace."""
    return Outbox(context.workspace.outbox, root=context.workspace.root, clock=context.clock)


def tell(context: Context, kind: str, message_id: str, **data: object) -> bool:
    """Put a message of one's own into the outbox; False when it is there, or nobody listens.

    Raises:
        StorageError: When the disk refuses.
    """
    if not context.config.notifications.channels:
        return False
    return open_outbox(context).add(_message(context, kind, message_id, context.clock.now(), data))


def collect(context: Context) -> int:
    """Put what happened since the last time into the outbox.

    The first time, nothing is told of what was before.

    Returns:
        How many messages are new.
    Raises:
        StorageError: When the disk refuses: the next call finds the same again.
    """
    if not context.config.notifications.channels:
        return 0
    with context.catalog.read() as connection:
        mark = _read_mark(connection)
        recent = list_cycles(connection, _LOOK_BACK)
    last_change = context.registry.last_change()
    number = last_change.number if last_change is not None else 0
    newest = recent[0].seq if recent else 0
    if mark is None:
        _write_mark(context, newest, number)
        return 0
    outbox, added = open_outbox(context), 0
    settled = int(mark["cycle"])
    # Oldest first, so that they are told in their order.
    for row in sorted((r for r in recent if r.seq > settled), key=lambda r: r.seq):
        if row.outcome in _TOLD:
            added += outbox.add(_of_cycle(context, row))
    for change in _changes(context, int(mark["change"])):
        added += outbox.add(_of_change(context, change))
    # Cycles that have not ended, or wait for somebody, are looked at again.
    open_ones = [r.seq for r in recent if r.state not in ENDED and r.seq > settled]
    upto = min(open_ones) - 1 if open_ones else max(newest, settled)
    if (upto, number) != (settled, int(mark["change"])):
        _write_mark(context, upto, max(number, int(mark["change"])))
    return added


def post(context: Context, *, at_once: bool = False) -> list[tuple[str, str, Delivery]]:
    """Tell what waits in the outbox."""
    settings = context.config.notifications
    if not settings.channels:
        return []
    return open_outbox(context).post(
        settings.channels, max_age_seconds=settings.max_age, at_once=at_once
    )


def _read_mark(connection: sa.engine.Connection) -> dict[str, Any] | None:
    row = get(connection, triggers, _MARK)
    return dict(row.detail) if row is not None and row.detail else None


def _write_mark(context: Context, cycle: int, change: int) -> None:
    detail = {"cycle": cycle, "change": change}
    note_fired(context.catalog, _MARK, context.clock.now(), detail)


def _changes(context: Context, after: int) -> list[JournalRecord]:
    """Give the changes of the champion after a record of the journal, oldest first."""
    back = context.registry.journal.back(*CHANGES)
    return list(takewhile(lambda record: record.number > after, back))[::-1]


def _of_cycle(context: Context, row: CycleRow) -> Message:
    at = datetime.fromisoformat(row.ended_at or row.started_at)
    data = {
        "cycle": row.cycle_id,
        "trigger": row.trigger,
        "version": row.version,
        "previous": row.champion,
        "outcome": row.outcome,
        "reason": row.why or "",
    }
    return _message(context, str(row.outcome), f"cycle-{row.cycle_id}-{row.outcome}", at, data)


def _of_change(context: Context, change: JournalRecord) -> Message:
    kind = "promoted" if change.event == "promote" else "rolled-back"
    data = {
        "version": change.version,
        "previous": change.previous,
        "actor": change.actor,
        "reason": change.reason or "",
    }
    at = datetime.fromisoformat(change.at)
    return _message(context, kind, f"{kind}-{change.number}-{change.version}", at, data)


def _message(
    context: Context, kind: str, message_id: str, at: datetime, data: dict[str, Any]
) -> Message:
    name = re.sub(r"[^A-Za-z0-9._-]", "-", context.config.model.name)
    return Message(
        message_id=f"{name}-{message_id}"[:150],
        kind=kind,
        at=at,
        model=context.config.model.name,
        workspace=str(context.workspace.root),
        data=data,
    )


def try_channels(context: Context, channels: Sequence[ChannelConfig]) -> list[tuple[str, Delivery]]:
    """Tell channels at once that this is a test; nothing is kept and nothing repeated."""
    now = context.clock.now()
    message = _message(context, "test", f"test-{uuid.uuid4().hex[:12]}", now, {})
    root = context.workspace.root
    return [
        (channel.name, deliver(channel, message, root=root, now=now.timestamp()))
        for channel in channels
    ]
