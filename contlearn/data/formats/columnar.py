"""Parquet and Arrow files, read batch by batch."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

import orjson

from contlearn.config import LimitsConfig
from contlearn.data.formats.arrow_messages import asked_bytes
from contlearn.data.formats.arrow_sizes import row_bytes
from contlearn.data.formats.parquet_footer import value_count
from contlearn.data.formats.streams import refuse_file, unpacked_file
from contlearn.data.sources.mapped import name_label
from contlearn.errors import RecordError
from contlearn.interfaces import ParsedRow, RowProblem
from contlearn.wording import first_line

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["ArrowRows", "ParquetRows"]

_BATCH_ROWS: Final = 2048
# So many bytes of texts become Python texts at once.
_PIECE_BYTES: Final = 8_000_000


class ParquetRows:
    """Rows of a Parquet file; columns that are not needed are not read."""

    name: ClassVar[str] = "parquet"
    summary: ClassVar[str] = "Apache Parquet"
    suffixes: ClassVar[tuple[str, ...]] = (".parquet", ".pq")

    def rows(
        self, path: Path, limits: LimitsConfig, needed: Sequence[str] = ()
    ) -> Iterator[ParsedRow]:
        """Yield the rows, numbered from 1."""
        import pyarrow.parquet as parquet

        with (
            unpacked_file(path, limits) as plain,
            _border(plain, "Parquet"),
            plain.open("rb") as source,
        ):
            metadata = parquet.read_metadata(source)
            source.seek(0)
            file = parquet.ParquetFile(source, read_dictionary=_texts_of(metadata))
            _check_names(file.schema_arrow.names, needed)
            unpacked = sum(
                metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups)
            )
            # Each value has a place of four bytes in memory, however well the file packs them.
            values = value_count(plain)
            most = _text_limit(plain, limits)
            _check_size(unpacked, metadata.num_rows, limits, most)
            _check_size(4 * values, metadata.num_rows, limits)
            classes = _class_names(file.schema_arrow.metadata)
            a_row = max(1, values // max(1, metadata.num_rows * metadata.num_columns))
            batches = file.iter_batches(batch_size=max(1, _BATCH_ROWS // max(1, a_row // 100)))
            yield from _batches(batches, limits, classes, needed, most)


class ArrowRows:
    """Rows of an Arrow IPC file, a Feather file or an Arrow stream."""

    name: ClassVar[str] = "arrow"
    summary: ClassVar[str] = "Apache Arrow (IPC file or stream) and Feather"
    suffixes: ClassVar[tuple[str, ...]] = (".arrow", ".feather", ".ipc")

    def rows(
        self, path: Path, limits: LimitsConfig, needed: Sequence[str] = ()
    ) -> Iterator[ParsedRow]:
        """Yield the rows, numbered from 1."""
        import pyarrow as pa

        with (
            unpacked_file(path, limits) as plain,
            _border(plain, "Arrow"),
            plain.open("rb") as source,
        ):
            magic = source.read(6)
            is_file = magic == b"ARROW1"
            source.seek(0)
            if magic.startswith(b"FEA1"):
                raise refuse_file(
                    "binary",
                    "The file is Feather of version 1, which is given up.",
                    "Write it again: pyarrow.feather.write_feather(table, path, version=2).",
                )
            most = _text_limit(plain, limits)
            _check_size(asked_bytes(plain, is_file=is_file, most=most), 0, limits, most)
            opener = pa.ipc.open_file if is_file else pa.ipc.open_stream
            reader = opener(source)
            _check_names(reader.schema.names, needed)
            batches: Iterable[Any] = (
                (reader.get_batch(i) for i in range(reader.num_record_batches))
                if is_file
                else reader
            )
            classes = _class_names(reader.schema.metadata)
            yield from _batches(batches, limits, classes, needed, most)


def _texts_of(metadata: Any) -> list[str]:
    """Name the columns of texts, those within lists too.

    A value that stands in a thousand places is then kept once, as it is in the file.
    """
    columns = [metadata.schema.column(i) for i in range(metadata.num_columns)]
    return [
        column.path
        for column in columns
        if column.physical_type == "BYTE_ARRAY" and column.logical_type.type in ("STRING", "NONE")
    ]


def _text_limit(path: Path, limits: LimitsConfig) -> int:
    """Say how many bytes the texts of a file may have in all, each counted where it stands."""
    by_ratio = int(max(path.stat().st_size, 1024) * limits.unpacked_ratio)
    return min(limits.unpacked_bytes, by_ratio)


def _class_names(metadata: Mapping[bytes, bytes] | None) -> dict[str, tuple[str, ...]]:
    """Give the names behind numbered labels, by column, where the file states them.

    Source: the library `datasets` writes its features into the schema, under "huggingface"; a
    ClassLabel has its names, a list of them is a Sequence, a List, or a list with one feature.
    """
    try:
        about = orjson.loads((metadata or {})[b"huggingface"])
        features = dict(about["info"]["features"])
    except (KeyError, TypeError, ValueError):
        return {}
    found = {}
    for column, feature in features.items():
        inner = feature[0] if isinstance(feature, list) and feature else feature
        if isinstance(inner, dict) and isinstance(inner.get("feature"), dict):
            inner = inner["feature"]
        if isinstance(inner, dict) and inner.get("_type") == "ClassLabel":
            names = inner.get("names")
            if isinstance(names, list) and all(isinstance(name, str) for name in names):
                found[str(column)] = tuple(names)
    return found


@contextlib.contextmanager
def _border(path: Path, kind: str) -> Iterator[None]:
    """Translate what pyarrow says of a damaged file."""
    import pyarrow as pa

    if path.stat().st_size == 0:
        raise refuse_file("empty-file", "The file is empty.", "Put rows into it.")
    try:
        yield
    except RecordError:
        raise
    except MemoryError as error:
        raise refuse_file(
            "binary", f"The {kind} file asks for more memory than there is.", "Write it again."
        ) from error
    except (pa.ArrowException, OSError, ValueError, KeyError, OverflowError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        text = first_line(error)[:200]
        text = text.rstrip(".")
        raise refuse_file(
            "binary",
            f"The file cannot be read as {kind}: {text}.",
            "Write the file again; nothing of it was used.",
        ) from error


def _check_names(names: Sequence[str], needed: Sequence[str]) -> None:
    missing = [name for name in needed if name not in names]
    if missing:
        there = ", ".join(repr(str(name)[:40]) for name in list(names)[:8]) or "no columns"
        raise refuse_file(
            "no-header",
            f"There is no column {missing[0]!r}; the file has {there}.",
            "Name the columns so, or set the names of the fields under [data].",
        )
    if len(set(names)) != len(names):
        raise refuse_file(
            "duplicate-key", "Two columns have one name.", "Give each column a name of its own."
        )


def _check_size(size: int, rows: int, limits: LimitsConfig, most: int | None = None) -> None:
    if size > (limits.unpacked_bytes if most is None else most) or rows > limits.rows:
        raise refuse_file(
            "too-long",
            (f"The file holds {rows:,} rows and" if rows else "The file")
            + f" unpacks to {size:,} bytes or more.",
            "Split it, or raise rows, unpacked_bytes or unpacked_ratio under [data.limits].",
        )


def _batches(
    batches: Iterable[Any],
    limits: LimitsConfig,
    classes: Mapping[str, tuple[str, ...]],
    needed: Sequence[str],
    text_limit: int,
) -> Iterator[ParsedRow]:
    number, given, texts = 0, 0, 0
    for batch in batches:
        # A damaged file can have offsets that point anywhere; pyarrow trusts them if we do.
        batch.validate(full=True)
        given += batch.nbytes
        _check_size(given, number + batch.num_rows, limits)
        sizes = row_bytes(batch)
        # Rows that are too long are refused one by one, and never become Python texts.
        texts += int(sizes[sizes <= limits.line_bytes].sum())
        _check_size(texts, number + batch.num_rows, limits, text_limit)
        names = batch.schema.names
        for start, rows, is_long in _pieces(sizes, limits.line_bytes):
            if is_long:
                number += 1
                yield ParsedRow(number, problem=_too_long(limits))
                continue
            columns = [_values(column) for column in batch.slice(start, rows).columns]
            for cells in zip(*columns, strict=True):
                number += 1
                row = dict(zip(names, cells, strict=True))
                for name, labels in classes.items():
                    if name in row:
                        row[name] = name_label(row[name], labels)
                yield _row(number, row, limits, needed)


def _values(column: Any) -> list[object]:
    import pyarrow as pa

    if pa.types.is_timestamp(column.type) and column.type.unit == "ns":
        # Python's times end at microseconds.
        column = column.cast(pa.timestamp("us", column.type.tz), safe=False)
    try:
        return list(column.to_pylist())
    except (UnicodeDecodeError, ValueError, OverflowError):
        # One value is bad; find out which.
        values: list[object] = []
        for item in column:
            try:
                values.append(item.as_py())
            except (UnicodeDecodeError, ValueError, OverflowError) as error:
                values.append(error)
        return values


def _row(
    number: int, row: Mapping[str, object], limits: LimitsConfig, needed: Sequence[str]
) -> ParsedRow:
    size = 0
    plain: dict[str, object] = {}
    for name, found in row.items():
        value = _text_of(found)
        if isinstance(value, Exception) and needed and name not in needed:
            # A column that nobody asks for stands in no row's way.
            value = None
        if isinstance(value, UnicodeDecodeError):
            problem = RowProblem(
                "bad-encoding", f"The column {name!r} is not UTF-8.", "Write it as UTF-8."
            )
            return ParsedRow(number, problem=problem)
        if isinstance(value, Exception):
            problem = RowProblem("wrong-type", f"The column {name!r}: {value}.", "Correct it.")
            return ParsedRow(number, problem=problem)
        if isinstance(value, str | bytes):
            size += len(value)
        elif isinstance(value, list):
            size += sum(len(item) for item in value if isinstance(item, str))
        plain[name] = value.isoformat() if isinstance(value, datetime | date) else value
    if size > limits.line_bytes:
        return ParsedRow(number, problem=_too_long(limits))
    return ParsedRow(number, plain)


def _too_long(limits: LimitsConfig) -> RowProblem:
    return RowProblem(
        "too-long",
        f"The row is longer than {limits.line_bytes:,} bytes.",
        "Shorten it, or raise data.limits.line_bytes in contlearn.toml.",
    )


def _pieces(sizes: NDArray[np.int64], limit: int) -> Iterator[tuple[int, int, bool]]:
    """Cut a batch into runs of rows that are short together, and rows that are too long alone.

    Yields:
        The first row, how many, and whether it is one that is too long.
    """
    start, taken = 0, 0
    for row, size in enumerate(sizes.tolist()):
        if size > limit or taken + size > _PIECE_BYTES or row - start >= _BATCH_ROWS:
            if row > start:
                yield start, row - start, False
            start, taken = row, 0
        if size > limit:
            yield row, 1, True
            start = row + 1
        else:
            taken += size
    if len(sizes) > start:
        yield start, len(sizes) - start, False


def _text_of(value: object) -> object:
    """Give bytes as the text that they are mostly meant to be; other values as they are."""
    if not isinstance(value, bytes):
        return value
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError as error:
        return error
