"""What happened: cycles from the catalog, promotions and rollbacks from the journal."""

from __future__ import annotations

from datetime import datetime
from itertools import islice
from typing import Any

from contlearn.catalog.cycles import list_cycles
from contlearn.context import Context
from contlearn.errors import UsageError
from contlearn.registry.past import live_at

__all__ = ["read_history"]


def read_history(
    context: Context, *, at: datetime | None = None, limit: int = 50
) -> dict[str, Any]:
    """Give the newest cycles and journal entries; with `at`, also what was live then.

    Args:
        context: The opened workspace.
        at: A moment of the past: then `live` is the version served, with `since`, `until`, who
            promoted it and why, and the `aliases` of that moment.
        limit: At most so many cycles and so many entries.
    Raises:
        RegistryError: When the journal is damaged.
        UsageError: When `at` is still to come.
    """
    if at is not None and at > context.clock.now():
        raise UsageError(
            f"{at.isoformat(timespec='seconds')} is still to come.",
            where="--at",
            hint="Name a moment of the past; times without an offset are UTC.",
        )
    with context.catalog.read() as connection:
        cycles = [cycle.to_json() for cycle in list_cycles(connection, limit)]
    events = islice(context.registry.journal.back(), limit)
    value: dict[str, Any] = {"cycles": cycles, "events": [one.to_json() for one in events]}
    if at is not None:
        value["at"] = at.isoformat()
        live = live_at(context.registry, at)
        value["live"] = live.pop("version")
        value.update(live)
    return value
