"""Looking at records and changing what becomes of them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from contlearn.catalog.records import chunks, release_records
from contlearn.catalog.schema import files, records
from contlearn.errors import UsageError
from contlearn.pipeline.context import Context

__all__ = ["hold", "list_quarantine", "list_records", "release", "show_record"]


def list_records(
    context: Context,
    *,
    state: str | None = None,
    split: str | None = None,
    label: str | None = None,
    limit: int = 50,
) -> dict[str, Any]:
    """Give counts by state, and the newest records that fit, without their texts."""
    query = sa.select(records, files.c.name.label("source")).join(
        files, files.c.file_id == records.c.file_id
    )
    for column, value in (
        (records.c.state, state),
        (records.c.split, split),
        (records.c.key, label),
    ):
        if value is not None:
            query = query.where(column == value)
    with context.catalog.read() as connection:
        counts = connection.execute(
            sa.select(records.c.state, sa.func.count()).group_by(records.c.state)
        ).all()
        rows = connection.execute(query.order_by(records.c.seq.desc()).limit(limit)).all()
    return {
        "counts": {str(row[0]): int(row[1]) for row in counts},
        "records": [
            {
                "record_id": row.record_id,
                "label": row.key,
                "split": row.split,
                "state": row.state,
                "attempts": row.attempts,
                "reason": row.reason,
                "source": row.source,
                "received_at": row.received_at,
                "cycle": row.cycle_id,
            }
            for row in rows
        ],
    }


def show_record(context: Context, record_id: str) -> dict[str, Any]:
    """Give one record with its text.

    Raises:
        UsageError: When there is no such record.
    """
    from contlearn.data.store import read_records

    found = read_records(context.workspace, context.catalog, [record_id])
    if not found:
        raise UsageError(
            f"There is no record {record_id!r}, or it was forgotten.",
            where="data show",
            hint="`contlearn data list` shows record ids.",
        )
    record = found[0]
    with context.catalog.read() as connection:
        seq = context.catalog.ids.find_ids(connection, [record_id])[record_id]
        row = connection.execute(sa.select(records).where(records.c.seq == seq)).one()
    return {
        "record_id": record.record_id,
        "inputs": dict(record.inputs),
        "target": record.target,
        "split": record.split,
        "state": row.state,
        "attempts": row.attempts,
        "reason": row.reason,
        "group": record.group,
        "weight": record.weight,
        "annotator": record.annotator,
        "timestamp": record.timestamp,
        "source": record.source,
        "received_at": record.received_at,
        "cycle": row.cycle_id,
    }


def hold(context: Context, record_ids: Sequence[str], *, reason: str) -> int:
    """Keep records out of updates until they are released; learnt ones stay learnt.

    Returns:
        How many are held now.
    """
    changed = 0
    with context.catalog.write() as connection:
        rows = context.catalog.ids.find_ids(connection, record_ids)
        for some in chunks(list(rows.values())):
            changed += connection.execute(
                records.update()
                .where(records.c.seq.in_(some), records.c.state.in_(("pending", "refused")))
                .values(state="held", reason=reason)
            ).rowcount
    context.registry.note("hold", actor=context.actor, reason=reason, records=changed)
    return changed


def release(context: Context, record_ids: Sequence[str] | None, *, reason: str) -> int:
    """Let held records take part again: those named, or all.

    Returns:
        How many are pending now.
    """
    with context.catalog.write() as connection:
        rows = None
        if record_ids is not None:
            rows = list(context.catalog.ids.find_ids(connection, record_ids).values())
        changed = release_records(connection, rows)
    context.registry.note("release", actor=context.actor, reason=reason, records=changed)
    return changed


def list_quarantine(
    context: Context, *, reason: str | None = None, limit: int = 20
) -> dict[str, Any]:
    """Give refused rows by reason, with counts and the first rows."""
    counts: Counter[str] = Counter()
    rows: list[dict[str, Any]] = []
    for path in sorted(context.workspace.quarantine.glob("*.jsonl")):
        with path.open(encoding="utf-8") as file:
            for line in file:
                row = json.loads(line)
                counts[row["reason"]] += 1
                if len(rows) < limit and reason in (None, row["reason"]):
                    rows.append({**row, "file": path.name})
    return {"counts": dict(counts.most_common()), "rows": rows}
