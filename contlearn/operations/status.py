"""What is served, what waits, what runs: one dictionary for `status`, the daemon and metrics."""

from __future__ import annotations

import contextlib
import json
from typing import Any, Final

import sqlalchemy as sa

from contlearn.catalog.cycles import (
    last_cycle,
    last_ended,
    last_success,
    list_cycles,
    unfinished_cycle,
    waiting_cycle,
)
from contlearn.catalog.leases import CYCLE_LEASE, DAEMON_LEASE, holder_of
from contlearn.catalog.records import count_records
from contlearn.catalog.schema import cycles, files
from contlearn.context import Context
from contlearn.cycle.doubting import doubts_of_cycle, last_doubts
from contlearn.cycle.job import CycleFolder
from contlearn.monitoring.signals import read_signals
from contlearn.papers.report import measured_by
from contlearn.registry.anchors import anchor_of
from contlearn.registry.past import promoted_at

__all__ = ["best_facts", "champion_facts", "read_status"]

_RECENT: Final = 6


def champion_facts(context: Context) -> dict[str, Any] | None:
    """Give the served version, when it was promoted, and its measures; None before the first."""
    number = context.registry.champion()
    if number is None:
        return None
    version = context.registry.get(number)
    facts = version.manifest
    return {
        "version": number,
        "promoted_at": promoted_at(context.registry, number),
        "metrics": facts.metrics,
        "labels": len(facts.model.labels),
        "precision": facts.model.precision,
        "strategy": facts.lineage.strategy,
        "experiences": len(facts.lineage.experiences),
        "best": best_facts(context, number),
    }


def best_facts(context: Context, version: int) -> dict[str, Any]:
    """Give the best proven version of a version's lineage, and how far above it that version is.

    `difference` is in the unit of the gate's metric and below 0 where the best is better; it is
    None where the two were never compared.
    """
    best = anchor_of(context.registry, version)
    if best == version:
        return {"version": best, "difference": 0.0, "rows": None, "metric": None}
    lineage = context.registry.get(version).manifest.lineage
    seen = lineage.against_anchor or {}
    return {
        "version": best,
        "difference": seen.get("difference"),
        "rows": seen.get("rows"),
        "metric": seen.get("metric"),
    }


def read_status(context: Context) -> dict[str, Any]:
    """Give everything that `status --json` prints."""
    with context.catalog.read() as connection:
        counts = count_records(connection)
        last, running = last_cycle(connection), unfinished_cycle(connection)
        ended, success = last_ended(connection), last_success(connection)
        recent = list_cycles(connection, _RECENT)
        waiting = waiting_cycle(connection)
        outcome_rows = connection.execute(
            sa.select(cycles.c.outcome, sa.func.count())
            .where(cycles.c.outcome.is_not(None))
            .group_by(cycles.c.outcome)
        ).all()
        causes = connection.execute(
            sa.select(cycles.c.trigger, sa.func.count()).group_by(cycles.c.trigger)
        ).all()
        intake = connection.execute(
            sa.select(
                sa.func.coalesce(sa.func.sum(files.c.accepted), 0),
                sa.func.coalesce(sa.func.sum(files.c.duplicates), 0),
                sa.func.coalesce(sa.func.sum(files.c.conflicts), 0),
                sa.func.coalesce(sa.func.sum(files.c.rejected), 0),
            )
        ).one()
    champion = champion_facts(context)
    holder = holder_of(context.catalog, CYCLE_LEASE)
    return {
        "workspace": str(context.workspace.root),
        "model": context.config.model.name,
        "task": context.config.model.task,
        **measured_by(context.task.metrics, context.task.primary_metric),
        "champion": champion,
        "pending_records": counts.pending,
        "never_tried_records": counts.never_tried,
        "suspected_records": counts.suspected,
        "kept_records": counts.kept,
        "oldest_pending": counts.oldest_pending,
        "held_records": counts.held,
        "superseded_records": counts.superseded,
        "forgotten_records": counts.forgotten,
        "learnt_records": counts.learnt,
        "held_out_records": counts.held_out + counts.held_out_pending,
        "experiences": champion["experiences"] if champion else 0,
        "versions": len(context.registry.numbers()),
        "last_cycle": last.to_json() if last else None,
        "last_ended": ended.to_json() if ended else None,
        "last_success": success.to_json() if success else None,
        "running_cycle": None
        if running is None
        else {
            "cycle": running.cycle_id,
            "state": running.state,
            "trigger": running.trigger,
            "started_at": running.started_at,
            "progress": _progress(context, running.cycle_id),
            "interrupted": holder is None,
            "owner": holder.owner if holder else None,
        },
        "awaiting_approval": waiting.version if waiting else None,
        "outcomes": {str(row[0]): int(row[1]) for row in outcome_rows},
        "ingested": dict(
            zip(("accepted", "duplicates", "conflicts", "rejected"), map(int, intake), strict=True)
        ),
        "triggers": {str(row[0]): int(row[1]) for row in causes},
        "recent": [
            {
                "cycle": row.cycle_id,
                "trigger": row.trigger,
                "outcome": row.outcome or row.state,
                "version": row.version,
                "ended_at": row.ended_at,
                "why": row.why,
            }
            for row in recent
        ],
        "doubted": {
            "ingest": last_doubts(context),
            "update": doubts_of_cycle(last.numbers) if last else None,
        },
        "looks": _looks(context, champion["version"] if champion else None),
        "broken_plugins": [failure.to_json() for failure in context.manager.failures],
        "notifications_waiting": sum(1 for _ in context.workspace.outbox.glob("*.json")),
        "daemon": daemon_state(context),
    }


def _progress(context: Context, cycle_id: str) -> dict[str, Any] | None:
    """Give how far a cycle is: stage, done, total, message."""
    path = CycleFolder(context.workspace.cycles / cycle_id).progress
    with contextlib.suppress(OSError, ValueError):
        value = json.loads(path.read_bytes())
        return value if isinstance(value, dict) else None
    return None


def _looks(context: Context, champion: int | None) -> dict[str, Any] | None:
    """Give what monitoring said last about the champion; None when it said nothing yet."""
    signals = read_signals(context.workspace.state)
    if signals is None or signals.version != champion:
        return None
    return {
        "at": signals.written_at,
        "drift": signals.drift.detected,
        "severity": signals.drift.severity,
        "explanation": list(signals.drift.explanation),
        "estimated_accuracy": signals.estimated.value,
        "measured_accuracy": signals.measured.value,
        "reference_accuracy": signals.estimated.reference or signals.measured.reference,
    }


def daemon_state(context: Context) -> dict[str, Any] | None:
    """Give what the daemon wrote down last, and whether it still holds its lease."""
    holder = holder_of(context.catalog, DAEMON_LEASE)
    try:
        value = json.loads((context.workspace.state / "daemon.json").read_bytes())
    except (OSError, ValueError):
        value = {}
    if holder is None and not value:
        return None
    return {**value, "running": holder is not None}
