"""What triggers remember: moments served, requests that wait, minutes used."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from contlearn.catalog import Catalog
from contlearn.catalog.rows import get, put
from contlearn.catalog.schema import triggers

__all__ = [
    "Request",
    "add_seconds_today",
    "note_fired",
    "read_fired",
    "read_request",
    "request_update",
    "seconds_today",
]


@dataclass(frozen=True, slots=True)
class Request:
    """Somebody asked the daemon for an update."""

    request_id: str
    at: datetime
    by: str
    reason: str


def request_update(
    catalog: Catalog, *, at: datetime, by: str, reason: str, dry_run: bool = False
) -> Request:
    """Ask the daemon for an update; a request that waits already is the same request.

    With `dry_run` nothing is asked, and a request that would be made has no id.
    """
    waiting = read_request(catalog)
    if waiting is not None:
        return waiting
    if dry_run:
        return Request("", at, by, reason)
    request = Request(uuid.uuid4().hex[:16], at, by, reason)
    detail = {"id": request.request_id, "by": by, "reason": reason}
    note_fired(catalog, "request", at, detail)
    return request


def read_request(catalog: Catalog) -> Request | None:
    """Give the request that waits, or None."""
    found = _read(catalog, "request")
    if found is None or "id" not in found[1]:
        return None
    at, detail = found
    return Request(str(detail["id"]), at, str(detail.get("by", "")), str(detail.get("reason", "")))


def seconds_today(catalog: Catalog, day: str) -> float:
    """Give how long updates ran on a day."""
    found = _read(catalog, "budget")
    return float(found[1]["seconds"]) if found is not None and found[1].get("day") == day else 0.0


def add_seconds_today(catalog: Catalog, day: str, seconds: float, *, now: datetime) -> None:
    """Count the time of an update against the budget of its day."""
    total = seconds_today(catalog, day) + seconds
    note_fired(catalog, "budget", now, {"day": day, "seconds": round(total, 3)})


def read_fired(catalog: Catalog, name: str) -> datetime | None:
    """Give the last moment of a trigger that was served."""
    found = _read(catalog, name)
    return None if found is None else found[0]


def note_fired(catalog: Catalog, name: str, at: datetime, detail: dict[str, Any]) -> None:
    """Remember that a trigger was served, so that a restart does not serve it again."""
    with catalog.write() as connection:
        put(connection, triggers, {"name": name, "fired_at": at.isoformat(), "detail": detail})


def _read(catalog: Catalog, name: str) -> tuple[datetime, dict[str, Any]] | None:
    with catalog.read() as connection:
        row = get(connection, triggers, name)
    if row is None or not row.fired_at:
        return None
    return datetime.fromisoformat(row.fired_at), dict(row.detail or {})
