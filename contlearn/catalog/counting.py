"""Which records count: the one place that says whose labels are learnt and measured by.

A record counts until its text is given another label that takes its place (`superseded`), or until
it is forgotten. Both are final for that record, whatever is promoted, released or rolled back: the
same label that comes again is a record of its own, with a row of its own. A held record counts for
nothing new: no update plans it. What a version had learnt before somebody held it stays learnt.

    counts()   reserve, buffer, sums, history, counts, forecast, drift, doubts and reports ask this

A text whose newest label is held has no label that counts: that the earlier ones are wrong was
said already. Forgetting a record takes what it superseded with it; see `data.forgetting`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from contlearn.catalog.rows import chunks
from contlearn.catalog.schema import cycle_records, records

__all__ = [
    "GONE_STATES",
    "KEPT",
    "OPEN_STATES",
    "count_planned",
    "counts",
    "supersede",
    "unlearnt",
    "withdrawn_from",
]

# Nothing speaks against these records; the challenger that learnt them was not worth the change.
# The next cycle takes them, but none begins for them alone.
KEPT: Final = "kept"
# Records of these states take part in the next cycle.
OPEN_STATES: Final = ("pending", "refused", KEPT)
# Records of these states count no longer, and nothing makes them count again.
GONE_STATES: Final = ("forgotten", "superseded")


def counts() -> sa.ColumnElement[bool]:
    """Say of a row of `records` whether it counts."""
    return records.c.state.not_in(GONE_STATES)


def unlearnt() -> sa.ColumnElement[bool]:
    """Say of a row of `records` whether no champion learnt it and nothing speaks against it."""
    return sa.and_(records.c.state.in_(("pending", KEPT)), records.c.attempts == 0)


def supersede(connection: Connection, rows: Sequence[int], *, by: str) -> None:
    """Another label takes the place of these rows' labels, for good.

    Args:
        connection: In a transaction that writes.
        rows: Their numbers.
        by: The name of the file that brought the other label.
    """
    for some in chunks(rows):
        connection.execute(
            records.update()
            .where(records.c.seq.in_(some), counts())
            .values(state="superseded", reason=f"superseded by a newer label in {by}", part=None)
        )


def withdrawn_from(connection: Connection, cycle_ids: Sequence[str]) -> list[tuple[int, str]]:
    """Give the training records that these cycles planned and that count no longer: row and id."""
    query = (
        sa.select(cycle_records.c.seq, cycle_records.c.record_id)
        .join(records, records.c.seq == cycle_records.c.seq)
        .where(
            cycle_records.c.cycle_id.in_(list(cycle_ids)),
            cycle_records.c.role == "train",
            ~counts(),
        )
        .order_by(cycle_records.c.seq)
    )
    return [(int(row[0]), str(row[1])) for row in connection.execute(query)]


def count_planned(connection: Connection, cycle_ids: Sequence[str]) -> int:
    """Count the training records that these cycles planned, whatever became of them."""
    query = sa.select(sa.func.count()).where(
        cycle_records.c.cycle_id.in_(list(cycle_ids)), cycle_records.c.role == "train"
    )
    return int(connection.execute(query).scalar_one())
