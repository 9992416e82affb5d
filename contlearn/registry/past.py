"""What was live in the past, from the journal."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from contlearn.papers.journal import CHANGES
from contlearn.registry.versions import Registry

__all__ = ["live_at", "promoted_at"]


def live_at(registry: Registry, moment: datetime) -> dict[str, Any]:
    """Say what was served at a moment of the past, and what was known of it.

    The journal is read from its end, and no further than needed.

    Returns:
        `version` (None before the first promotion), `since`, `until` (None when it still is),
        `event`, `actor` and `reason` of the change, and the `aliases` of that moment.
    """
    live: dict[str, Any] = dict.fromkeys(("version", "since", "event", "actor", "reason"))
    until: str | None = None
    for record in registry.journal.back(*CHANGES):
        if datetime.fromisoformat(record.since) <= moment:
            live = {name: getattr(record, name) for name in live}
            break
        until = record.since
    names: Mapping[str, int] = {}
    for record in registry.journal.linked("alias"):
        if datetime.fromisoformat(record.at) <= moment:
            names = record.aliases
            break
    return {**live, "until": until, "aliases": dict(names)}


def promoted_at(registry: Registry, number: int) -> str | None:
    """Say when a version became champion last; None when it never did."""
    pointer = registry.serving.read_pointer()
    if pointer is not None and pointer.version == number and pointer.at is not None:
        return pointer.at
    found = [registry.journal.find_last(event, version=number) for event in CHANGES]
    return max((record.at for record in found if record is not None), default=None)
