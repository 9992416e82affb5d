"""Looking at records and changing what becomes of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from contlearn.arguments import require_several
from contlearn.catalog.counting import counts
from contlearn.catalog.records import hold_records, release_records
from contlearn.catalog.schema import files, labels, records
from contlearn.context import Context
from contlearn.data.intake.known import chosen_labels
from contlearn.data.selection import Selection, conditions
from contlearn.errors import UsageError

if TYPE_CHECKING:
    from contlearn.data.forgetting import ForgetReport

__all__ = [
    "forget",
    "hold",
    "list_labels",
    "list_quarantine",
    "list_records",
    "release",
    "show_record",
]

# A journal's line stays short, whatever was forgotten.
_AUDITED_IDS: Final = 1000
# Beyond this many labels the near name is not looked for.
_MAX_NEAR: Final = 500


def list_records(
    context: Context,
    *,
    state: str | None = None,
    split: str | None = None,
    label: str | None = None,
    file: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    limit: int = 50,
) -> dict[str, Any]:
    """Give counts by state, and the newest records that fit, without their texts.

    Raises:
        UsageError: When there is no such label.
    """
    with context.catalog.read() as connection:
        names = chosen_labels(connection, context.config.data, [label] if label is not None else [])
    chosen = Selection(
        files=_given(file),
        labels=names,
        states=_given(state),
        since=since,
        until=until,
        separator=context.task.key_separator,
    )
    query = (
        sa.select(records, files.c.name.label("source"))
        .join(files, files.c.file_id == records.c.file_id)
        .where(*conditions(chosen))
    )
    if split is not None:
        query = query.where(records.c.split == split)
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


def _given(value: str | None) -> tuple[str, ...]:
    return () if value is None else (value,)


def show_record(context: Context, record_id: str) -> dict[str, Any]:
    """Give one record with its text.

    Raises:
        UsageError: When there is no such record.
    """
    from contlearn.data.store import read_records

    found = read_records(context.workspace, context.catalog, [record_id], with_superseded=True)
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


def hold(
    context: Context, record_ids: Sequence[str], *, reason: str = "", dry_run: bool = False
) -> int:
    """Keep records out of updates until they are released; learnt ones stay learnt.

    Returns:
        How many are held now; with `dry_run`, how many would be.
    """
    require_several(record_ids, what="record", where="hold")
    reason = reason or "held by hand"
    with context.catalog.read() if dry_run else context.catalog.write() as connection:
        rows = list(context.catalog.ids.find_ids(connection, record_ids).values())
        changed = hold_records(connection, rows, reason=reason, dry_run=dry_run)
    if not dry_run:
        context.registry.note("hold", actor=context.actor, reason=reason, records=changed)
        context.emit("records-held", records=changed, reason=reason, actor=context.actor)
    return changed


def release(
    context: Context,
    record_ids: Sequence[str] | None,
    *,
    reason: str = "",
    dry_run: bool = False,
) -> int:
    """Let held records take part again: those named, or all. Superseded ones stay so.

    Returns:
        How many are pending now; with `dry_run`, how many would be.
    """
    require_several(record_ids, what="record", where="release")
    reason = reason or "released by hand"
    with context.catalog.read() if dry_run else context.catalog.write() as connection:
        rows = None
        if record_ids is not None:
            rows = list(context.catalog.ids.find_ids(connection, record_ids).values())
        changed = release_records(connection, rows, dry_run=dry_run)
    if not dry_run:
        context.registry.note("release", actor=context.actor, reason=reason, records=changed)
        context.emit("records-released", records=changed, reason=reason, actor=context.actor)
    return changed


def forget(
    context: Context, record_ids: Sequence[str], *, reason: str = "", dry_run: bool = False
) -> ForgetReport:
    """Forget records for good: their texts leave all that is kept, and the journal says so.

    Returns:
        How many were forgotten, with what they superseded, and notes on what that means; with
        `dry_run`, how many would be.
    Raises:
        StorageError: When something could not be written; run it again, or any ingest, to go on.
        WorkspaceLocked: When another process is taking files in for very long.
    """
    from contlearn.data.forgetting import forget_records

    parts = (context.workspace, context.config, context.catalog, context.manager)
    reason = reason or "forgotten by hand"
    require_several(record_ids, what="record", where="forget")
    report = forget_records(*parts, record_ids, reason=reason, dry_run=dry_run)
    if dry_run:
        return report
    context.registry.note(
        "forget",
        actor=context.actor,
        reason=reason,
        records=report.records,
        # Hashes of texts and labels; enough to prove that these were forgotten.
        record_ids=list(record_ids[:_AUDITED_IDS]),
    )
    context.emit("records-forgotten", records=report.records, reason=reason, actor=context.actor)
    return report


def list_quarantine(
    context: Context, *, reason: str | None = None, source: str | None = None, limit: int = 20
) -> dict[str, Any]:
    """Give refused rows by reason, with counts and the first rows, and files refused whole."""
    from contlearn.data.quarantine.looking import read_quarantine

    counts: Counter[str] = Counter()
    rows: list[dict[str, Any]] = []
    for row in read_quarantine(context.workspace, source=source):
        counts[row.reason] += 1
        if len(rows) < limit and reason in (None, row.reason):
            rows.append({**row.to_json(), "file": row.file})
    query = (
        sa.select(files)
        .where(files.c.verdict == "reject", files.c.quarantine.is_(None))
        .order_by(files.c.file_id.desc())
        .limit(limit)
    )
    with context.catalog.read() as connection:
        whole = connection.execute(query).all()
    return {
        "counts": dict(counts.most_common()),
        "rows": rows,
        "files": [
            {
                "name": file.name,
                "reason": file.reason,
                "message": file.message,
                "received_at": file.received_at,
                "content_hash": file.content_hash,
            }
            for file in whole
            if reason in (None, file.reason) and source in (None, file.name)
        ],
    }


def list_labels(context: Context) -> dict[str, Any]:
    """Give every label: what it means, its other names, how many records it has, who looks alike.

    For entities a label is a type, and a record counts for each type in it.
    """
    from contlearn.tasks.rows import near_label

    data = context.config.data
    numbers: dict[str, dict[str, int]] = {}
    query = (
        sa.select(records.c.key, records.c.split, sa.func.count())
        .where(counts())
        .group_by(records.c.key, records.c.split)
    )
    with context.catalog.read() as connection:
        known = list(connection.execute(sa.select(labels.c.name)).scalars())
        for key, split, number in connection.execute(query):
            for name in context.task.labels_of_key(str(key)):
                side = numbers.setdefault(str(name), {"train": 0, "held_out": 0})
                side[str(split)] += int(number)
    names = sorted({*known, *data.labels, *data.label_descriptions, *data.label_aliases.values()})
    others: dict[str, list[str]] = {}
    for alias, name in data.label_aliases.items():
        others.setdefault(name, []).append(alias)
    return {
        "labels": [
            {
                "label": name,
                "train": numbers.get(name, {}).get("train", 0),
                "held_out": numbers.get(name, {}).get("held_out", 0),
                "description": data.label_descriptions.get(name),
                "aliases": others.get(name, []),
                "looks_like": near_label(name, [other for other in names if other != name])
                if len(names) <= _MAX_NEAR
                else None,
            }
            for name in names
        ]
    }
