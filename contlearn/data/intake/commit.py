"""Keeping a file's records: the segment first, then everything else in one transaction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import sqlalchemy as sa

from contlearn.catalog.counting import supersede
from contlearn.catalog.schema import files as file_table
from contlearn.catalog.schema import records
from contlearn.data.intake.collected import Collected
from contlearn.data.intake.known import add_labels, insert_rows
from contlearn.data.intake.place import IntakePlace, OneFile
from contlearn.data.intake.report import FileReport
from contlearn.data.intake.resolve import ACCEPT, Resolution
from contlearn.data.segments import copy_rows
from contlearn.workspace import narrow

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["commit_records", "insert_file", "publish_segment"]

_INSERT_ROWS: Final = 10_000
_COLUMNS: Final = (
    "seq",
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
    narrow(whole, file.mode | 0o200, files=place.intake.files)
    place.intake.files.fsync_file(whole)
    place.intake.files.rename(whole, place.intake.workspace.records / f"{stem}.parquet")
    place.intake.files.fsync_folder(place.intake.workspace.records)
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
    accepted = _in_order_of_ids(collected, result)
    digests = collected.digests()[accepted]
    with place.intake.catalog.write() as connection:
        if connection.dialect.name == "sqlite":
            # The log is carried over into the database every 160 MB, not at once.
            connection.exec_driver_sql("PRAGMA wal_autocheckpoint = 40000")
        file_id = insert_file(connection, place, file, report, segment)
        superseded = place.intake.catalog.ids.find_ids(connection, result.superseded)
        newest = connection.execute(sa.select(sa.func.max(records.c.seq))).scalar() or 0
        for some in _record_rows(place, collected, result, held_out, accepted, file_id, newest + 1):
            insert_rows(connection, records, _COLUMNS, some)
        add_labels(connection, labels, file_id)
        supersede(connection, list(superseded.values()), by=file.name)
    if len(digests):
        place.intake.catalog.ids.add(
            newest + 1, digests["high"].astype(np.uint64), digests[-1].tobytes().hex()
        )


def _in_order_of_ids(collected: Collected, result: Resolution) -> NDArray[np.int64]:
    """Give the accepted rows in the order of their ids, which is that of their numbers too."""
    accepted, digests = result.accepted(), collected.digests()
    high = digests["high"].astype(np.uint64)[accepted]
    rest = (digests["low"].astype(np.uint64) << np.uint64(32)) | digests["target"]
    return accepted[np.lexsort((rest[accepted], high))]


def _record_rows(
    place: IntakePlace,
    collected: Collected,
    result: Resolution,
    held_out: NDArray[np.bool_],
    accepted: NDArray[np.int64],
    file_id: int,
    first: int,
) -> Iterator[list[tuple[Any, ...]]]:
    """Give the records as tuples of `_COLUMNS`, numbered from `first`."""
    place_of = np.cumsum(result.action == ACCEPT) - 1
    digests = collected.digests()
    keys, groups = collected.key_names(), collected.group_names()
    received = place.received_at.isoformat()
    for start in range(0, len(accepted), _INSERT_ROWS):
        rows = accepted[start : start + _INSERT_ROWS]
        ids = digests[rows].tobytes().hex()
        yield [
            (
                first + start + i,
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
