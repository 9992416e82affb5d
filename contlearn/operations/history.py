"""What happened: cycles from the catalog, promotions and rollbacks from the journal."""

from __future__ import annotations

from datetime import datetime
from itertools import islice
from typing import Any

import sqlalchemy as sa

from contlearn.catalog.counting import counts
from contlearn.catalog.cycles import get_cycle, list_cycles
from contlearn.catalog.schema import cycle_records, records
from contlearn.context import Context
from contlearn.cycle.same_model import base_inside
from contlearn.errors import UsageError
from contlearn.operations.predict import chosen_version
from contlearn.papers.decision import read_decision
from contlearn.papers.report import measured_by
from contlearn.redaction import redact, redact_config
from contlearn.registry.aliases import aliases, resolve_version
from contlearn.registry.past import live_at
from contlearn.registry.serving_copy import verify_serving

__all__ = ["describe_version", "read_history", "verify_versions"]


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


def describe_version(context: Context, version: int | str | None) -> dict[str, Any]:
    """Give everything that is written about a version (number or alias), or about the champion.

    Raises:
        RegistryError: When it is not there, or nothing was promoted yet.
    """
    chosen = chosen_version(context, version)
    facts = chosen.manifest
    with context.catalog.read() as connection:
        gone = connection.execute(
            sa.select(records.c.state, sa.func.count())
            .select_from(cycle_records)
            .join(records, records.c.seq == cycle_records.c.seq)
            .where(cycle_records.c.cycle_id.in_(facts.lineage.experiences), ~counts())
            .group_by(records.c.state)
        ).all()
        cycle = get_cycle(connection, facts.lineage.cycle or "")
    numbers = {str(row[0]): int(row[1]) for row in gone}
    return {
        "version": chosen.version,
        "is_champion": chosen.version == context.registry.champion(),
        "aliases": [n for n, v in aliases(context.registry).items() if v == chosen.version],
        "created_at": chosen.created_at.isoformat(timespec="seconds"),
        "path": str(chosen.path),
        # Manifests of before may name a base model that was configured but is not inside.
        "model": {**facts.model.to_json(), "base": redact(base_inside(chosen))},
        # Versions of before may hold what is secret.
        "lineage": {
            **facts.lineage.to_json(),
            "config": redact_config(facts.lineage.config),
        },
        "training": facts.training.to_json(),
        "export": facts.export.to_json(),
        "metrics": facts.metrics,
        **measured_by(context.task.metrics, context.task.primary_metric),
        "decision": read_decision(chosen.path).to_json(),
        "outcome": cycle.outcome if cycle else None,
        # How often these records were looked at, this time included; None unless they were kept.
        "looks": (cycle.numbers or {}).get("looks") if cycle else None,
        "files": facts.files,
        "forgotten_records": numbers.get("forgotten", 0),
        "superseded_records": numbers.get("superseded", 0),
    }


def verify_versions(context: Context, version: int | str | None) -> dict[str, Any]:
    """Compare the files of one version, or of all and of what is served, with their SHA-256."""
    numbers = context.registry.numbers()
    if version is not None:
        numbers = (resolve_version(context.registry, version),)
        context.registry.require(numbers[0])
    checked = [
        {"version": number, "problems": [str(p) for p in context.registry.verify(number)]}
        for number in numbers
    ]
    serving = verify_serving(context.registry) if version is None else []
    journal = context.registry.journal.verify() if version is None else []
    ok = not (serving or journal or any(item["problems"] for item in checked))
    return {"ok": ok, "versions": checked, "serving": serving, "journal": journal}
