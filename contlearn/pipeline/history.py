"""What happened: cycles from the catalog, promotions and rollbacks from the journal."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from contlearn.catalog.cycles import list_cycles
from contlearn.catalog.schema import cycle_records, records
from contlearn.pipeline.answers import chosen_version
from contlearn.pipeline.context import Context
from contlearn.workspace import read_json

__all__ = ["describe_version", "read_history", "verify_versions"]


def read_history(
    context: Context, *, at: datetime | None = None, limit: int = 50
) -> dict[str, Any]:
    """Give the newest cycles and journal entries; with `at`, also what was live then.

    Raises:
        RegistryError: When the journal is damaged.
    """
    with context.catalog.read() as connection:
        cycles = [cycle.to_json() for cycle in list_cycles(connection, limit)]
    events = context.registry.events()
    value: dict[str, Any] = {"cycles": cycles, "events": list(reversed(events))[:limit]}
    if at is not None:
        value["at"] = at.isoformat()
        value["live"] = context.registry.champion_at(at)
    return value


def describe_version(context: Context, version: int | None) -> dict[str, Any]:
    """Give everything that is written about a version, or about the champion.

    Raises:
        RegistryError: When it is not there, or nothing was promoted yet.
    """
    chosen = chosen_version(context, version)
    facts = chosen.manifest
    lineage = facts["lineage"]
    with context.catalog.read() as connection:
        forgotten = connection.execute(
            sa.select(sa.func.count())
            .select_from(cycle_records)
            .join(records, records.c.record_id == cycle_records.c.record_id)
            .where(
                cycle_records.c.cycle_id.in_(lineage["experiences"]),
                records.c.state == "forgotten",
            )
        ).scalar_one()
    return {
        "version": chosen.version,
        "is_champion": chosen.version == context.registry.champion(),
        "created_at": chosen.created_at.isoformat(timespec="seconds"),
        "path": str(chosen.path),
        "model": facts["model"],
        "lineage": lineage,
        "training": facts["training"],
        "export": facts["export"],
        "metrics": facts["metrics"],
        "decision": read_json(chosen.path / "decision.json"),
        "files": facts["files"],
        "forgotten_records": forgotten,
    }


def verify_versions(context: Context, version: int | None) -> dict[str, Any]:
    """Compare the files of one version, or of all, with their SHA-256."""
    numbers = context.registry.numbers() if version is None else (version,)
    if version is not None:
        context.registry.get(version)
    checked = [
        {"version": number, "problems": [str(p) for p in context.registry.verify(number)]}
        for number in numbers
    ]
    return {"ok": not any(item["problems"] for item in checked), "versions": checked}
