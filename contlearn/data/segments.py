"""Parquet segments: the texts of the records that one file brought."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson

from contlearn.data.intake.checking import Checked
from contlearn.targets import target_from_json, target_to_json
from contlearn.types import Inputs, Target
from contlearn.workspace import foreign_name

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["FORMAT", "SegmentRow", "SegmentWriter", "copy_rows", "empty_rows", "read_rows"]

# Version of the layout, kept in the file's metadata.
FORMAT: Final = 1
GROUP_ROWS: Final = 8192
_PREFIX: Final = "input."
# In the metadata of a segment whose targets are values of JSON.
_VALUES: Final = "contlearn.target"
_COMPRESSION: Final = "zstd"


class SegmentRow(NamedTuple):
    """A row as it is kept; without inputs and target once it was forgotten."""

    record_id: str
    inputs: Inputs | None
    target: Target | None
    group: str | None
    weight: float
    annotator: str | None
    timestamp: datetime | None
    line_number: int
    slices: str | None = None


class SegmentWriter:
    """Writes checked rows, a row group at a time; what is in memory is one row group.

    Each named input is a column `input.<name>`; inputs that only later rows have go into the JSON
    column `more`. A target is a text or a list of texts; with `has_values` any value, as JSON.
    """

    def __init__(self, path: Path, *, has_values: bool = False) -> None:
        self.path = path
        self.has_values = has_values
        self._writer: Any = None
        self._schema: Any = None
        self._names: tuple[str, ...] = ()
        self.rows = 0

    def write(
        self, record_ids: Sequence[str], rows: Sequence[Checked], lines: Sequence[int]
    ) -> None:
        """Write one row group."""
        import pyarrow as pa

        if self._writer is None:
            self._open(rows[0])
        columns: dict[str, Any] = {"record_id": record_ids}
        names = self._names
        for name in names:
            columns[_PREFIX + name] = [row.inputs.get(name) for row in rows]
        if len(names) == 1:
            more = [len(row.inputs) - (names[0] in row.inputs) for row in rows]
        else:
            more = [len(row.inputs.keys() - names) for row in rows]
        columns["more"] = [
            _more(row.inputs, names) if extra else None
            for row, extra in zip(rows, more, strict=True)
        ]
        columns["target"] = [self._target(row.target) for row in rows]
        columns["group"] = [row.group for row in rows]
        columns["weight"] = [row.weight for row in rows]
        columns["annotator"] = [row.annotator for row in rows]
        columns["timestamp"] = [row.timestamp for row in rows]
        columns["line_number"] = lines
        columns["slices"] = [row.slices for row in rows]
        arrays = [pa.array(columns[field.name], field.type) for field in self._schema]
        self._writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=self._schema))
        self.rows += len(rows)

    def _open(self, first: Checked) -> None:
        import pyarrow as pa

        self._names = tuple(sorted(first.inputs))
        words = pa.list_(pa.string())
        is_text = self.has_values or isinstance(first.target, str)
        kind = {_VALUES: "json"} if self.has_values else {}
        self._schema = pa.schema(
            [
                ("record_id", pa.string()),
                *(
                    (_PREFIX + name, pa.string() if isinstance(value, str) else words)
                    for name, value in sorted(first.inputs.items())
                ),
                ("more", pa.string()),
                ("target", pa.string() if is_text else words),
                ("group", pa.string()),
                ("weight", pa.float64()),
                ("annotator", pa.string()),
                ("timestamp", pa.timestamp("us", tz="UTC")),
                ("line_number", pa.int64()),
                ("slices", pa.string()),
            ],
            metadata={"contlearn.format": str(FORMAT), **kind},
        )
        self._writer = open_writer(self.path, self._schema)

    def _target(self, target: Target) -> Any:
        return orjson.dumps(target_to_json(target)).decode() if self.has_values else target

    def close(self) -> None:
        """Finish the file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def __enter__(self) -> SegmentWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def open_writer(path: Path, schema: Any) -> Any:
    """Open a Parquet writer with the settings of a segment."""
    import pyarrow.parquet as parquet

    return parquet.ParquetWriter(
        foreign_name(path),
        schema,
        compression=_COMPRESSION,
        compression_level=1,
        use_dictionary=[
            name
            for name in ("target", "target.list.element", "group", "annotator", "slices")
            if name.split(".")[0] in schema.names
        ],
        write_statistics=False,
    )


def _more(inputs: Inputs, names: Sequence[str]) -> str:
    rest = {name: value for name, value in inputs.items() if name not in names}
    return orjson.dumps(rest).decode()


def copy_rows(source: Path, target: Path, keep: NDArray[np.bool_]) -> None:
    """Write the rows of a segment that are kept, in order, without reading them all at once."""
    import pyarrow as pa
    import pyarrow.parquet as parquet

    with parquet.ParquetFile(foreign_name(source)) as file:
        writer = open_writer(target, file.schema_arrow)
        start = 0
        pending: list[Any] = []
        waiting = 0
        for batch in file.iter_batches(batch_size=GROUP_ROWS):
            mask = pa.array(keep[start : start + batch.num_rows])
            start += batch.num_rows
            kept = batch.filter(mask)
            pending.append(kept)
            waiting += kept.num_rows
            if waiting >= GROUP_ROWS:
                writer.write_table(pa.Table.from_batches(pending))
                pending, waiting = [], 0
        if waiting:
            writer.write_table(pa.Table.from_batches(pending))
        writer.close()


def empty_rows(source: Path, target: Path, places: frozenset[int]) -> None:
    """Write a segment anew with some rows emptied; every row keeps its position and its id."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as parquet

    kept_columns = ("record_id", "weight", "line_number")
    with parquet.ParquetFile(foreign_name(source)) as file:
        writer = open_writer(target, file.schema_arrow)
        start = 0
        for batch in file.iter_batches(batch_size=GROUP_ROWS):
            mask = pa.array([start + i not in places for i in range(batch.num_rows)])
            start += batch.num_rows
            arrays = [
                column
                if name in kept_columns
                else pc.if_else(mask, column, pa.scalar(None, column.type))
                for name, column in zip(batch.schema.names, batch.columns, strict=True)
            ]
            writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=batch.schema))
        writer.close()


def read_rows(path: Path, positions: Sequence[int] | None = None) -> Iterator[SegmentRow]:
    """Give rows of a segment: those at the positions (ascending), or all.

    Only row groups that hold a wanted row are read. A row that was forgotten has no inputs.
    """
    import pyarrow.parquet as parquet

    with parquet.ParquetFile(foreign_name(path)) as file:
        start, taken = 0, 0
        for group in range(file.metadata.num_row_groups):
            size = file.metadata.row_group(group).num_rows
            wanted: list[int] | None = None
            if positions is not None:
                wanted = []
                while taken < len(positions) and positions[taken] < start + size:
                    wanted.append(positions[taken] - start)
                    taken += 1
            start += size
            if wanted is None or wanted:
                table = file.read_row_group(group)
                yield from _rows_of(table if wanted is None else table.take(wanted))
            if positions is not None and taken == len(positions):
                return


def _rows_of(table: Any) -> Iterator[SegmentRow]:
    names = [name for name in table.column_names if name.startswith(_PREFIX)]
    columns = {name: table.column(name).to_pylist() for name in table.column_names}
    has_values = _VALUES.encode() in (table.schema.metadata or {})
    for i in range(table.num_rows):
        inputs: dict[str, str | tuple[str, ...]] = {}
        for name in names:
            value = columns[name][i]
            if value is not None:
                inputs[name[len(_PREFIX) :]] = value if isinstance(value, str) else tuple(value)
        if columns["more"][i] is not None:
            for name, value in orjson.loads(columns["more"][i]).items():
                inputs[name] = value if isinstance(value, str) else tuple(value)
        target = columns["target"][i]
        if has_values and target is not None:
            target = orjson.loads(target)
        yield SegmentRow(
            columns["record_id"][i],
            inputs or None,
            None if target is None else target_from_json(target),
            columns["group"][i],
            columns["weight"][i],
            columns["annotator"][i],
            columns["timestamp"][i],
            columns["line_number"][i],
            columns["slices"][i] if "slices" in columns else None,
        )
