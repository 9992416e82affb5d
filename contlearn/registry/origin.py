"""Who changed the champion: a cycle with its own challenger, the daemon, or somebody by hand."""

from __future__ import annotations

import re
from typing import Final, Literal, TypeAlias, cast

from contlearn.papers.journal import JournalRecord

__all__ = ["Origin", "cycle_reason", "origin_of"]

Origin: TypeAlias = Literal["hand", "cycle", "daemon"]
# As earlier contlearns said it in words.
_CYCLE: Final = re.compile(r"cycle \d{8}-\d{6}-\d{5,}")
_DAEMON: Final = "daemon (probation)"


def cycle_reason(cycle_id: str) -> str:
    """Give the reason that stands in the journal when a cycle promotes what it made.

    Example:
        >>> cycle_reason("20300101-000000-00001")
        'cycle 20300101-000000-00001'
    """
    return f"cycle {cycle_id}"


def origin_of(change: JournalRecord) -> Origin:
    """Say who changed the champion.

    Example:
        >>> from dataclasses import replace
        >>> record = JournalRecord(number=9, at="2030-01-01T00:00:00+00:00", event="promote")
        >>> before = replace(record, reason="cycle 20300101-000000-00001")
        >>> origin_of(before), origin_of(replace(before, origin="hand")), origin_of(record)
        ('cycle', 'hand', 'hand')
    """
    if change.origin:
        return cast("Origin", change.origin)
    if change.event == "promote" and _CYCLE.fullmatch(change.reason or ""):
        return "cycle"
    return "daemon" if change.actor == _DAEMON else "hand"
