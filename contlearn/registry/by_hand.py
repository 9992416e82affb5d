"""Who changed the champion: a cycle with its own challenger, or somebody by hand."""

from __future__ import annotations

import re
from typing import Final

from contlearn.papers.journal import JournalRecord

__all__ = ["cycle_reason", "is_by_hand"]

_CYCLE: Final = re.compile(r"cycle \d{8}-\d{6}-\d{5,}")


def cycle_reason(cycle_id: str) -> str:
    """Give the reason that stands in the journal when a cycle promotes what it made.

    Example:
        >>> cycle_reason("20300101-000000-00001")
        'cycle 20300101-000000-00001'
    """
    return f"cycle {cycle_id}"


def is_by_hand(record: JournalRecord) -> bool:
    """Say whether a promotion in the journal was no cycle's own; a rollback never is one's own.

    Example:
        >>> from dataclasses import replace
        >>> record = JournalRecord(number=9, at="2030-01-01T00:00:00+00:00", event="promote")
        >>> is_by_hand(replace(record, reason="cycle 20300101-000000-00001"))
        False
        >>> is_by_hand(replace(record, reason="approved"))
        True
    """
    if record.event == "rollback":
        return True
    return record.event == "promote" and not _CYCLE.fullmatch(record.reason or "")
