"""What became of each record: counts, planning, and the changes of state."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from contlearn.catalog.counting import GONE_STATES, KEPT, OPEN_STATES, counts
from contlearn.catalog.rows import chunks, put
from contlearn.catalog.schema import cycle_records, cycles, meta, records

if TYPE_CHECKING:
    from contlearn.catalog.ids import IdIndex

__all__ = [
    "RecordCounts",
    "count_experience",
    "count_learnable",
    "count_looks",
    "count_records",
    "counting_ids",
    "experience_records",
    "experience_sample",
    "hold_records",
    "kept_ids",
    "of_cycle",
    "plan_records",
    "release_records",
    "settle_kept",
    "settle_learnt",
    "settle_refused",
    "take_back",
]

MAX_ATTEMPTS: Final = 2
RELEASED: Final = "released_after_cycle"


@dataclass(frozen=True, slots=True)
class RecordCounts:
    """How many records stand where. `never_tried` is what the count trigger counts.

    `awaiting` of the pending ones are in a challenger that waits for approval: they are open
    until it is approved, but no reason to train again. `suspected` ones are tried in parts.
    `kept` are the others of which a challenger was not worth the change: they are learnt with what
    comes next.
    """

    pending: int = 0
    never_tried: int = 0
    held: int = 0
    learnt: int = 0
    held_out: int = 0
    held_out_pending: int = 0
    forgotten: int = 0
    oldest_pending: str | None = None
    awaiting: int = 0
    suspected: int = 0
    superseded: int = 0
    kept: int = 0

    @property
    def to_learn(self) -> int:
        """Pending records that no waiting challenger has learnt and nobody suspects."""
        return self.pending - self.awaiting - self.suspected

    @property
    def fresh(self) -> int:
        """Those of them that are a reason to learn by themselves: kept ones alone are none."""
        return self.to_learn - self.kept


def count_records(connection: Connection, *, only_open: bool = False) -> RecordCounts:
    """Count records by what became of them.

    Settled ones, of which there may be millions, are counted in an index alone; the rows of open
    ones are looked at, which are those of one update.

    Args:
        connection: To the catalog.
        only_open: Look at the records that wait only, so that the cost does not grow with history.
    """
    waiting = connection.execute(
        sa.select(cycles.c.cycle_id).where(cycles.c.state == "awaiting-approval")
    ).scalar()
    awaits: sa.ColumnElement[Any] = sa.false()
    if waiting is not None:
        awaits = sa.func.coalesce(records.c.cycle_id == waiting, sa.false())
    held = learnt = held_out = forgotten = superseded = 0
    settled = (
        sa.select(records.c.state, records.c.split, sa.func.count().label("number"))
        .where(records.c.state.in_(("learnt", "held", *GONE_STATES)))
        .group_by(records.c.state, records.c.split)
    )
    for row in () if only_open else connection.execute(settled):
        if row.state == "forgotten":
            forgotten += row.number
        elif row.state == "superseded":
            superseded += row.number
        elif row.state == "held":
            held += row.number
        elif row.split == "held_out":
            held_out += row.number
        else:
            learnt += row.number
    pending = never = held_out_pending = awaiting = suspected = kept = 0
    oldest: str | None = None
    columns = (
        records.c.split,
        (records.c.attempts > 0).label("tried"),
        records.c.part.is_not(None).label("suspected"),
        (records.c.state == KEPT).label("kept"),
    )
    query = (
        sa.select(
            *columns,
            awaits.label("awaits"),
            sa.func.count().label("number"),
            sa.func.min(records.c.received_at).label("oldest"),
        )
        .where(records.c.state.in_(OPEN_STATES))
        .group_by(*columns, *(() if waiting is None else (awaits,)))
    )
    for row in connection.execute(query):
        if row.split == "held_out":
            held_out_pending += row.number
            continue
        pending += row.number
        if row.suspected:
            suspected += row.number
        elif row.awaits:
            awaiting += row.number
        elif row.kept:
            kept += row.number
        elif not row.tried:
            never += row.number
            oldest = row.oldest
    return RecordCounts(
        pending,
        never,
        held,
        learnt,
        held_out,
        held_out_pending,
        forgotten,
        oldest,
        awaiting,
        suspected,
        superseded,
        kept,
    )


def plan_records(connection: Connection, cycle_id: str, *, part: int | None = None) -> None:
    """Give a cycle every open record that nobody suspects, or one part of those; it has them
    until it ends.
    """
    open_ones = sa.and_(records.c.state.in_(OPEN_STATES), records.c.part.is_not_distinct_from(part))
    connection.execute(
        cycle_records.insert().from_select(
            ["cycle_id", "record_id", "role", "seq"],
            sa.select(
                sa.literal(cycle_id),
                records.c.record_id,
                records.c.split,
                records.c.seq,
            ).where(open_ones),
        )
    )
    connection.execute(records.update().where(open_ones).values(cycle_id=cycle_id))


def of_cycle(cycle_id: str) -> sa.ColumnElement[bool]:
    """Say of a row of `records` whether a cycle was planned with it."""
    return records.c.seq.in_(
        sa.select(cycle_records.c.seq).where(cycle_records.c.cycle_id == cycle_id)
    )


def settle_learnt(connection: Connection, cycle_id: str) -> None:
    """A cycle was promoted: its records are learnt, its held-out rows join the reserve."""
    connection.execute(
        records.update()
        .where(of_cycle(cycle_id), counts())
        .values(state="learnt", reason=None, cycle_id=cycle_id)
    )


def settle_refused(connection: Connection, cycle_id: str, reason: str) -> int:
    """A cycle was refused: its records are tried once more, then held with the reason.

    Those that an earlier cycle kept stay so, and no try is counted against them, where others came
    with them: nothing had spoken against them alone.

    Returns:
        How many records are held now.
    """
    mine = of_cycle(cycle_id)
    tried = sa.and_(mine, records.c.state.in_(OPEN_STATES))
    others = sa.and_(tried, records.c.state != KEPT)
    if connection.execute(sa.select(records.c.seq).where(others).limit(1)).first() is not None:
        tried = others
    connection.execute(
        records.update()
        .where(tried)
        .values(state="refused", attempts=records.c.attempts + 1, reason=reason)
    )
    held = connection.execute(
        records.update()
        .where(mine, records.c.state == "refused", records.c.attempts >= MAX_ATTEMPTS)
        .values(state="held", part=None)
    )
    return held.rowcount


def settle_kept(connection: Connection, cycle_id: str, reason: str) -> int:
    """A cycle was not worth the change: its records wait for what comes, and no try is counted.

    Returns:
        How many records to learn are kept; rows to measure on are not among those.
    """
    mine = (of_cycle(cycle_id), records.c.state.in_(OPEN_STATES))
    connection.execute(records.update().where(*mine).values(state=KEPT, reason=reason))
    return _count_to_learn(connection, *mine)


def count_looks(connection: Connection, *, part: int | None = None) -> int:
    """Say how often the kept records that the next cycle takes were looked at and kept.

    Each cycle takes all that is kept, so the newest one that kept some of them has counted on
    from those before it.

    Args:
        connection: To the catalog.
        part: The part that the next cycle tries; None for one that learns as usual.
    """
    mine = (records.c.state == KEPT, records.c.part.is_not_distinct_from(part))
    if connection.execute(sa.select(records.c.seq).where(*mine).limit(1)).first() is None:
        return 0
    query = (
        sa.select(cycles.c.cycle_id, cycles.c.numbers)
        .where(cycles.c.outcome == "kept")
        .order_by(cycles.c.seq.desc())
    )
    for cycle in connection.execute(query).all():
        shared = (
            sa.select(records.c.seq)
            .join(
                cycle_records,
                sa.and_(
                    cycle_records.c.record_id == records.c.record_id,
                    cycle_records.c.seq == records.c.seq,
                ),
            )
            .where(*mine, cycle_records.c.cycle_id == cycle.cycle_id)
        )
        if connection.execute(shared.limit(1)).first() is not None:
            return int((cycle.numbers or {}).get("looks", 1))
    return 0


def take_back(connection: Connection, cycle_ids: Iterable[str], *, hold: bool, reason: str) -> int:
    """What these cycles learnt is no longer in the champion: pending again, or held.

    Returns:
        How many are held now, or how many wait to be learnt again: rows to measure on are not
        among those, as in `RecordCounts.pending`.
    """
    changed = 0
    for cycle_id in cycle_ids:
        mine = (records.c.cycle_id == cycle_id, records.c.state == "learnt")
        if not hold:
            changed += _count_to_learn(connection, *mine)
        result = connection.execute(
            records.update()
            .where(*mine)
            .values(
                state="held" if hold else "pending", attempts=0, reason=reason if hold else None
            )
        )
        changed += result.rowcount if hold else 0
    return changed


def _count_to_learn(connection: Connection, *which: sa.ColumnElement[bool]) -> int:
    """Count the records among these that are learnt, not measured on."""
    query = sa.select(sa.func.count()).where(*which, records.c.split == "train")
    return int(connection.execute(query).scalar_one())


def hold_records(
    connection: Connection, rows: Sequence[int], *, reason: str, dry_run: bool = False
) -> int:
    """Keep open records of these rows out of updates; suspected ones are so no longer.

    Returns:
        How many are held now, or would be.
    """
    values = {"state": "held", "reason": reason, "part": None}
    which = records.c.state.in_(OPEN_STATES)
    return _change(connection, which, rows, values, dry_run=dry_run)


def release_records(
    connection: Connection, rows: Sequence[int] | None = None, *, dry_run: bool = False
) -> int:
    """Let held records (all, or those of these rows) take part again, with all their tries.

    Returns:
        How many are pending now, or would be.
    """
    values = {"state": "pending", "attempts": 0, "reason": None, "part": None}
    changed = _change(connection, records.c.state == "held", rows, values, dry_run=dry_run)
    if changed and not dry_run:
        newest = connection.execute(sa.select(sa.func.max(cycles.c.seq))).scalar() or 0
        put(connection, meta, {"key": RELEASED, "value": str(newest)})
    return changed


def _change(
    connection: Connection,
    which: sa.ColumnElement[bool],
    rows: Sequence[int] | None,
    values: Mapping[str, object],
    *,
    dry_run: bool,
) -> int:
    """Change the records for which this holds, of these rows or of all; say how many."""
    changed = 0
    for some in (None,) if rows is None else chunks(rows):
        mine = which if some is None else sa.and_(which, records.c.seq.in_(some))
        if dry_run:
            query = sa.select(sa.func.count()).select_from(records).where(mine)
            changed += int(connection.execute(query).scalar_one())
        else:
            changed += connection.execute(records.update().where(mine).values(values)).rowcount
    return changed


def counting_ids(connection: Connection, ids: IdIndex, record_ids: Iterable[str]) -> frozenset[str]:
    """Give those of some ids whose records count."""
    by_row = {row: record_id for record_id, row in ids.find_ids(connection, record_ids).items()}
    found: set[str] = set()
    for some in chunks(list(by_row)):
        query = sa.select(records.c.seq).where(records.c.seq.in_(some), counts())
        found.update(by_row[int(row)] for row in connection.execute(query).scalars())
    return frozenset(found)


def experience_records(connection: Connection, cycle_id: str, role: str) -> list[str]:
    """Give the ids of the records that a cycle learns (train) or measures on (held_out).

    Those that count no longer are left out.
    """
    query = _experience(cycle_id, role).order_by(records.c.seq)
    return list(connection.execute(query).scalars())


def experience_sample(connection: Connection, cycle_id: str, role: str, limit: int) -> list[str]:
    """Give the records of a cycle with the lowest ids: a random choice, as ids are hashes."""
    query = _experience(cycle_id, role).order_by(cycle_records.c.record_id).limit(limit)
    return list(connection.execute(query).scalars())


def kept_ids(connection: Connection, cycle_id: str) -> frozenset[str]:
    """Give the records of a cycle that an earlier one looked at and kept."""
    query = sa.select(records.c.record_id).where(of_cycle(cycle_id), records.c.state == KEPT)
    return frozenset(connection.execute(query).scalars())


def count_experience(connection: Connection, cycle_id: str, role: str, *, at_most: int) -> int:
    """Count the records of a cycle, looking no further than `at_most`."""
    some = _experience(cycle_id, role).limit(at_most).subquery()
    return int(connection.execute(sa.select(sa.func.count()).select_from(some)).scalar_one())


def count_learnable(connection: Connection, cycle_ids: Iterable[str]) -> int:
    """Count the records that these cycles learnt and that are still there, each once."""
    query = (
        sa.select(sa.func.count(sa.distinct(cycle_records.c.seq)))
        .join(records, records.c.seq == cycle_records.c.seq)
        .where(
            cycle_records.c.cycle_id.in_(list(cycle_ids)),
            cycle_records.c.role == "train",
            records.c.state != "forgotten",
        )
    )
    return int(connection.execute(query).scalar_one())


def _experience(cycle_id: str, role: str) -> sa.Select[Any]:
    return (
        sa.select(cycle_records.c.record_id)
        .join(records, records.c.seq == cycle_records.c.seq)
        .where(
            cycle_records.c.cycle_id == cycle_id,
            cycle_records.c.role == role,
            counts(),
        )
    )
