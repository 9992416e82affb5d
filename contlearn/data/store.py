"""Records by their ids, from the segments that hold them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import orjson
import sqlalchemy as sa

from contlearn.catalog import Catalog
from contlearn.catalog.counting import counts
from contlearn.catalog.ids import in_rows
from contlearn.catalog.rows import chunks
from contlearn.catalog.schema import files, records
from contlearn.data.segments import read_rows
from contlearn.errors import RecordError, StorageError
from contlearn.types import LabelledRecord
from contlearn.workspace import Workspace, storage_border

__all__ = ["read_records"]

_READ_ROWS: Final = 10_000


def read_records(
    workspace: Workspace,
    catalog: Catalog,
    record_ids: Sequence[str],
    *,
    with_superseded: bool = False,
) -> list[LabelledRecord]:
    """Read records in the order asked for; those that count no longer are left out.

    Only the row groups that hold one of them are read.

    Args:
        workspace: Where the segments are.
        catalog: Knows the place of each record.
        record_ids: Which.
        with_superseded: Also those whose labels gave way to newer ones; forgotten ones are gone.
    Raises:
        RecordError: When an id was never taken in.
        StorageError: When a segment is missing or damaged.
    """
    places: dict[str, Any] = {}
    with catalog.read() as connection:
        rows = catalog.ids.find_ids(connection, record_ids)
        for some in chunks(list(rows.values()), _READ_ROWS):
            query = (
                sa.select(
                    records.c.record_id,
                    records.c.row,
                    records.c.split,
                    records.c.state,
                    counts().label("counts"),
                    records.c.received_at,
                    files.c.segment,
                    files.c.name,
                )
                .join(files, files.c.file_id == records.c.file_id)
                .where(in_rows(some))
            )
            places.update((row.record_id, row) for row in connection.execute(query))
    by_segment: dict[str, list[Any]] = defaultdict(list)
    for record_id in record_ids:
        place = places.get(record_id)
        if place is None:
            raise RecordError(
                f"There is no record {record_id!r}.",
                where="the catalog",
                hint="It was never taken in here; check that the catalog belongs to this "
                "workspace.",
            )
    for place in places.values():
        if place.counts or (with_superseded and place.state != "forgotten"):
            by_segment[place.segment].append(place)
    found: dict[str, LabelledRecord] = {}
    for segment, wanted in by_segment.items():
        wanted.sort(key=lambda place: place.row)
        found.update(_read_segment(workspace, segment, wanted))
    return [found[record_id] for record_id in record_ids if record_id in found]


def _read_segment(
    workspace: Workspace, segment: str, wanted: Sequence[Any]
) -> dict[str, LabelledRecord]:
    import pyarrow as pa

    path = workspace.records / segment
    found: dict[str, LabelledRecord] = {}
    try:
        with storage_border(f"read {segment}", path):
            rows = list(read_rows(path, [place.row for place in wanted]))
    except (pa.ArrowException, FileNotFoundError) as error:
        raise StorageError(
            f"The segment {segment} is missing or damaged: {error}.",
            where=str(path),
            hint="Restore it from a backup, or ingest the file again from state/archive.",
        ) from error
    for place, row in zip(wanted, rows, strict=True):
        record_id, inputs, target, group, weight, annotator, timestamp, _, slices = row
        if record_id != place.record_id:
            raise StorageError(
                f"The segment {segment} does not hold the record {place.record_id!r} in row "
                f"{place.row}.",
                where=str(path),
                hint="Restore the segment and the catalog from the same backup.",
            )
        if inputs is None or target is None:
            continue
        found[record_id] = LabelledRecord(
            record_id=record_id,
            inputs=inputs,
            target=target,
            split=place.split,
            source=place.name,
            received_at=datetime.fromisoformat(place.received_at),
            group=group,
            weight=weight,
            annotator=annotator,
            timestamp=timestamp,
            slices=orjson.loads(slices) if slices else {},
        )
    return found
