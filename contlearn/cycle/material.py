"""What a cycle learns from: the records that count, and those that count no longer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from contlearn.catalog import Catalog
from contlearn.catalog.counting import count_planned, withdrawn_from
from contlearn.catalog.records import experience_records
from contlearn.catalog.rows import chunks
from contlearn.training.state import left_out_rows
from contlearn.training.withdrawn import Withdrawn
from contlearn.types import LabelledRecord
from contlearn.workspace import Workspace

__all__ = ["Material", "read_material"]

# So many records are read at once where all of them are gone through.
_AT_ONCE: Final = 5_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """What one cycle may use.

    Args:
        new: The records it was planned with, as far as they count.
        history: All that the champion has learnt and that counts; empty where nobody reads it.
        withdrawn: What the champion's sums hold and what counts no longer.
        left_out: The rows of the new lineage that are in no sum of the challenger.
    """

    new: tuple[LabelledRecord, ...]
    history: tuple[LabelledRecord, ...]
    withdrawn: Withdrawn
    left_out: tuple[int, ...]


def read_material(
    workspace: Workspace,
    catalog: Catalog,
    *,
    cycle_id: str,
    lineage: Sequence[str],
    champion: Path | None,
    reads_history: bool,
) -> Material:
    """Read what a cycle learns from, as the catalog stands at one moment.

    Args:
        workspace: Where the texts are.
        catalog: Knows which records count.
        cycle_id: The cycle.
        lineage: The cycles whose experiences the champion has learnt, oldest first.
        champion: Its version folder; None before the first.
        reads_history: Whether the strategy reads all records ever learnt.
    """
    from contlearn.data.store import read_records

    with catalog.read() as connection:
        new_ids = experience_records(connection, cycle_id, "train")
        old_ids = [i for cycle in lineage for i in experience_records(connection, cycle, "train")]
        gone = withdrawn_from(connection, lineage)
        unread = withdrawn_from(connection, [cycle_id])
        planned = count_planned(connection, lineage)
    out = frozenset() if champion is None else left_out_rows(champion / "state")
    taken = {row: record_id for row, record_id in gone if row not in out}
    new = read_records(workspace, catalog, new_ids)
    named = {record.record_id for record in new}
    old_ids = [record_id for record_id in old_ids if record_id not in named]

    def remaining() -> Iterator[Sequence[LabelledRecord]]:
        for some in chunks(old_ids, _AT_ONCE):
            yield read_records(workspace, catalog, some)

    readable = read_records(workspace, catalog, list(taken.values()), with_superseded=True)
    return Material(
        new=tuple(new),
        history=tuple(read_records(workspace, catalog, old_ids)) if reads_history else (),
        withdrawn=Withdrawn(
            record_ids=frozenset(taken.values()),
            records=tuple(readable),
            summed=planned - len(out),
            remaining=remaining,
        ),
        left_out=tuple(row for row, _ in (*gone, *unread)),
    )
