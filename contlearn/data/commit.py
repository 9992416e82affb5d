"""Keeping a file's records: the segment first, then everything else in one transaction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import sqlalchemy as sa

from contlearn.catalog.records import chunks
from contlearn.catalog.schema import files as file_table
from contlearn.catalog.schema import records
from contlearn.data.collected import Collected
from contlearn.data.known import add_labels, insert_rows
from contlearn.data.place import IntakePlace, OneFile
from contlearn.data.report import FileReport
from contlearn.data.resolve import ACCEPT, Resolution
from contlearn.data.segments import copy_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["commit_records", "insert_file", "prepare_connection", "publish_segment"]

_INSERT_ROWS: Final = 10_000
_FEW_ROWS: Final = 50_000
_COLUMNS: Final = (
    "record_id",
    "group_key",
    "file_id",
    "row",
    "split",
    "state",
    "attempts",
    "key",
    "size_bytes",
    "received_at",
)


def prepare_connection(connection: sa.Connection, *, rows: int) -> None:
    """Fit a SQLite connection to a file of so many rows.

    The index over ids is read and written at random places. What was read for a few rows is kept
    until they are written; a large file goes through the index once, in its order, and leaves the
    memory to other things. The log is carried over into the database every 160 MB, not at once.
    """
    if connection.dialect.name == "sqlite":
        kibibytes = 65_536 if rows <= _FEW_ROWS else 16_384
        connection.exec_driver_sql(f"PRAGMA cache_size = -{kibibytes}")
        connection.exec_driver_sql("PRAGMA wal_autocheckpoint = 40000")


def publish_segment(
    place: IntakePlace, file: OneFile, staged: Path, result: Resolution
) -> str | None:
    """Make the segment of the accepted rows real, and give its name; None when there are none."""
    keep = result.action == ACCEPT
    if not keep.any():
        return None
    stem = file.stem(place.settings)
    whole = staged
    if not keep.all():
        whole = place.staging / f"{stem}.kept.parquet"
        copy_rows(staged, whole, keep)
    place.files.fsync_file(whole)
    place.files.rename(whole, place.workspace.records / f"{stem}.parquet")
    place.files.fsync_folder(place.workspace.records)
    return f"{stem}.parquet"


def commit_records(
    place: IntakePlace,
    file: OneFile,
    collected: Collected,
    result: Resolution,
    held_out: NDArray[np.bool_],
    *,
    segment: str | None,
    labels: Sequence[str],
    report: FileReport,
) -> None:
    """Write the file, its records and its labels into the catalog, all or nothing."""
    with place.catalog.write() as connection:
        prepare_connection(connection, rows=len(result.action))
        file_id = insert_file(connection, place, file, report, segment)
        for some in _record_rows(place, collected, result, held_out, file_id):
            insert_rows(connection, records, _COLUMNS, some)
        add_labels(connection, labels, file_id)
        for ids in chunks(result.superseded):
            connection.execute(
                records.update()
                .where(records.c.record_id.in_(ids), records.c.state != "forgotten")
                .values(state="held", reason=f"superseded by a newer label in {file.name}")
            )


def _record_rows(
    place: IntakePlace,
    collected: Collected,
    result: Resolution,
    held_out: NDArray[np.bool_],
    file_id: int,
) -> Iterator[list[tuple[Any, ...]]]:
    """Give the records as tuples of `_COLUMNS`, in the order of their ids.

    So the index over ids, the one that grows at random places, is gone through once.
    """
    accepted = result.accepted()
    place_of = np.cumsum(result.action == ACCEPT) - 1
    digests = collected.digests()
    accepted = accepted[np.lexsort((digests["low"][accepted], digests["high"][accepted]))]
    keys, groups = collected.key_names(), collected.group_names()
    received = place.received_at.isoformat()
    for start in range(0, len(accepted), _INSERT_ROWS):
        rows = accepted[start : start + _INSERT_ROWS]
        ids = digests[rows].tobytes().hex()
        yield [
            (
                ids[32 * i : 32 * i + 32],
                groups[group] if (group := collected.group_of(row)) >= 0 else None,
                file_id,
                position,
                "held_out" if side else "train",
                "pending",
                0,
                keys[collected.keys[row]],
                collected.sizes[row],
                received,
            )
            for i, (row, position, side) in enumerate(
                zip(rows.tolist(), place_of[rows].tolist(), held_out[rows].tolist(), strict=True)
            )
        ]


def insert_file(
    connection: sa.Connection,
    place: IntakePlace,
    file: OneFile,
    report: FileReport,
    segment: str | None,
) -> int:
    """Write down what became of a file."""
    values = {
        "content_hash": file.content_hash,
        "name": file.name,
        "held_out": file.held_out,
        "settings": place.settings,
        "received_at": place.received_at.isoformat(),
        "verdict": report.verdict,
        "reason": report.reason,
        "message": report.message,
        "rows": report.rows,
        "accepted": report.accepted,
        "duplicates": report.duplicates,
        "conflicts": report.conflicts,
        "rejected": report.rejected,
        "segment": segment,
        "quarantine": None if report.quarantine is None else Path(report.quarantine).name,
    }
    result = connection.execute(file_table.insert().values(values))
    key = result.inserted_primary_key
    return int(key[0]) if key is not None else 0
