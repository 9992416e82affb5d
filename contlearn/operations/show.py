"""Everything that is written about a version."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from contlearn.catalog.counting import counts
from contlearn.catalog.cycles import get_cycle
from contlearn.catalog.schema import cycle_records, records
from contlearn.context import Context
from contlearn.cycle.same_model import base_inside
from contlearn.operations.chosen import chosen_version
from contlearn.papers.decision import read_decision
from contlearn.papers.report import measured_by
from contlearn.redaction import redact, redact_config
from contlearn.registry.aliases import aliases

__all__ = ["describe_version"]


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
