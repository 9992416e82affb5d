"""Which records make updates fail: suspected ones are tried by themselves, in ever smaller parts.

A batch that failed often is set apart, so that what comes after it is learnt meanwhile. Then one
cycle at a time learns one part of it and nothing else. A part that does not fail is free again; one
that fails is halved, between files first. Two halves of one file that both fail are held together.

A part has a number: the batch in its upper digits, and below them its place in the tree of halves
(the whole is 1, the halves of n are 2n and 2n + 1). So the lowest number is always the next to try,
and a half is tried before the quarters of its twin.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from contlearn.catalog.counting import OPEN_STATES
from contlearn.catalog.records import RELEASED, of_cycle
from contlearn.catalog.rows import get, put
from contlearn.catalog.schema import cycle_records, cycles, meta, records

__all__ = ["Apart", "free_part", "next_part", "part_of", "settle_failed"]

# Failures that may lie in the records; the others (a full disk, a wrong key) lie elsewhere.
POISON_KINDS: Final = ("TrainingError", "EvaluationError", "ExportError", "RecordError")
_OPEN: Final = records.c.state.in_(OPEN_STATES)
_BATCH_BITS: Final = 40
_KEY: Final = "parts"
# The parts of three levels (2 + 4 + 8) failed and none passed: it does not lie in a few records.
_HOPELESS: Final = 14


@dataclass(frozen=True, slots=True)
class Apart:
    """What a failure made of its records: how many are held, how many are tried in parts now."""

    held: int = 0
    suspected: int = 0

    def __bool__(self) -> bool:
        return bool(self.held or self.suspected)


@dataclass(slots=True)
class _Batch:
    """How often a batch was divided, how many of its parts failed, and whether one passed."""

    divisions: int = 0
    failed: int = 0
    has_passed: bool = False


def settle_failed(
    connection: Connection, cycle_id: str, *, failures: int, divisions: int, kind: str, why: str
) -> Apart:
    """A cycle failed: set its records apart that took part in `failures` failed cycles.

    Cycles that failed for a reason outside their records (a full disk) do not count, nor those
    before the last release: who releases records gives them all their tries again.

    Args:
        connection: To the catalog.
        cycle_id: The cycle, written down as failed.
        failures: How many failures make a record suspect.
        divisions: How often a batch may be divided; 0 holds it at once.
        kind: The class of its error.
        why: What it failed of, in words.
    """
    if kind not in POISON_KINDS:
        return Apart()
    part = part_of(connection, cycle_id)
    if part is not None:
        return _part_failed(connection, cycle_id, part, divisions=divisions, why=why)
    often = sa.and_(of_cycle(cycle_id), records.c.seq.in_(_often_failed(connection, failures)))
    batches = _read(connection)
    batch = max(batches, default=0) + 1
    batches[batch], whole = _Batch(), _number(batch, 1)
    changed = connection.execute(
        records.update().where(_OPEN, records.c.part.is_(None), often).values(part=whole)
    ).rowcount
    if changed == 0:
        return Apart()
    if divisions and _divide(connection, whole, batches[batch]):
        _write(connection, batches)
        return Apart(suspected=changed)
    reason = f"{failures} updates with these records failed, the last one {cycle_id}: {why}"
    return Apart(held=_hold(connection, records.c.part == whole, reason))


def next_part(connection: Connection) -> int | None:
    """Give the part that is to be tried next; None when none waits."""
    query = sa.select(sa.func.min(records.c.part)).where(
        _OPEN, records.c.part.is_not(None), records.c.split == "train"
    )
    return connection.execute(query).scalar()


def part_of(connection: Connection, cycle_id: str) -> int | None:
    """Give the part that a cycle tries; None for one that learns as usual."""
    query = sa.select(records.c.part).where(_OPEN, records.c.part.is_not(None), of_cycle(cycle_id))
    return connection.execute(query.limit(1)).scalar()


def free_part(connection: Connection, cycle_id: str) -> None:
    """A cycle did not fail with the part it tried: its records are like all others again."""
    part = part_of(connection, cycle_id)
    if part is None:
        return
    batches = _read(connection)
    batches[part >> _BATCH_BITS].has_passed = True
    _write(connection, batches)
    connection.execute(records.update().where(_OPEN, records.c.part == part).values(part=None))
    _free_leftovers(connection)


# -- inside -------------------------------------------------------------------------------------


def _part_failed(
    connection: Connection, cycle_id: str, part: int, *, divisions: int, why: str
) -> Apart:
    """A cycle failed with one part alone: halve it, or hold it where that leads no further."""
    batches, number = _read(connection), part >> _BATCH_BITS
    batch = batches[number]
    batch.failed += 1
    all_parts = records.c.part.between(_number(number, 0), _number(number + 1, 0) - 1)
    lost, said = records.c.part == part, f"Update {cycle_id} failed with these records alone"
    halves = _halves_of_one_file(connection, part)
    if not batch.has_passed and batch.failed >= _HOPELESS:
        lost, said = all_parts, f"Each part of these records failed alone, the last in {cycle_id}"
    elif halves is not None:
        lost, said = halves, f"Both halves of these records failed alone, the last in {cycle_id}"
    elif batch.divisions < divisions and _divide(connection, part, batch):
        lost = sa.false()
    held = _hold(connection, lost, f"{said}: {why}")
    _free_leftovers(connection)
    _write(connection, batches)
    query = sa.select(sa.func.count()).select_from(records).where(_OPEN, all_parts)
    return Apart(held, int(connection.execute(query).scalar_one()))


def _number(batch: int, place: int) -> int:
    return (batch << _BATCH_BITS) + place


def _often_failed(connection: Connection, failures: int) -> sa.Select[tuple[int]]:
    released = get(connection, meta, RELEASED)
    failed = connection.execute(
        sa.select(cycles.c.cycle_id)
        .where(
            cycles.c.outcome == "failed",
            cycles.c.seq > (0 if released is None else int(released.value)),
            cycles.c.numbers["error_kind"].as_string().in_(POISON_KINDS),
        )
        .order_by(cycles.c.seq.desc())
        .limit(20 * failures)
    ).scalars()
    return (
        sa.select(cycle_records.c.seq)
        .where(cycle_records.c.cycle_id.in_(list(failed)))
        .group_by(cycle_records.c.seq)
        .having(sa.func.count() >= failures)
    )


def _divide(connection: Connection, part: int, batch: _Batch) -> bool:
    """Halve a part; False when it has no two records to learn."""
    query = (
        sa.select(records.c.seq, records.c.file_id)
        .where(_OPEN, records.c.part == part, records.c.split == "train")
        .order_by(records.c.seq)
    )
    rows = connection.execute(query).all()
    if len(rows) < 2:
        return False
    # Between files if there are several, as near the middle as can be.
    borders = [n for n in range(1, len(rows)) if rows[n - 1].file_id != rows[n].file_id]
    middle = len(rows) // 2
    cut = rows[min(borders, key=lambda n: abs(n - middle)) if borders else middle].seq
    left = _halves(part)[0]
    half = sa.case((records.c.seq < cut, left), else_=left + 1)
    connection.execute(records.update().where(_OPEN, records.c.part == part).values(part=half))
    batch.divisions += 1
    return True


def _halves(part: int) -> tuple[int, int]:
    """Give the numbers of a part's halves."""
    place = part & ((1 << _BATCH_BITS) - 1)
    left = part - place + 2 * place
    return left, left + 1


def _halves_of_one_file(connection: Connection, part: int) -> sa.ColumnElement[bool] | None:
    """Give both halves of a file, when the twin of this one has failed before.

    Then the twin's halves are there; they have not been tried yet.
    """
    both = records.c.part.in_((part, *_halves(part ^ 1)))
    query = sa.select(records.c.file_id, records.c.part).where(_OPEN, both).distinct()
    rows = connection.execute(query).all()
    has_twin = any(row.part != part for row in rows)
    return both if has_twin and len({row.file_id for row in rows}) == 1 else None


def _hold(connection: Connection, which: sa.ColumnElement[bool], reason: str) -> int:
    return connection.execute(
        records.update().where(_OPEN, which).values(state="held", reason=reason, part=None)
    ).rowcount


def _free_leftovers(connection: Connection) -> None:
    """Free parts whose training records count no longer: nothing is left to try them with."""
    if next_part(connection) is None:
        left = sa.and_(_OPEN, records.c.part.is_not(None))
        connection.execute(records.update().where(left).values(part=None))


def _read(connection: Connection) -> dict[int, _Batch]:
    """Read what is known of the batches that still have parts; others are forgotten."""
    row = get(connection, meta, _KEY)
    query = sa.select(records.c.part).where(_OPEN, records.c.part.is_not(None)).distinct()
    there = {int(part) >> _BATCH_BITS for part in connection.execute(query).scalars()}
    written = {} if row is None else json.loads(row.value)
    known = {int(key): _Batch(**value) for key, value in written.items()}
    return {batch: known.get(batch, _Batch()) for batch in there}


def _write(connection: Connection, batches: dict[int, _Batch]) -> None:
    text = json.dumps({str(key): asdict(batch) for key, batch in batches.items()})
    put(connection, meta, {"key": _KEY, "value": text})
