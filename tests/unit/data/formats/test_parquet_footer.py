"""The number of values in a Parquet file, against pyarrow's own, and in files that are damaged."""

from __future__ import annotations

import contextlib

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from contlearn.data.formats.parquet_footer import value_count
from contlearn.errors import RecordError
from tests.unit.data.formats.test_parsers import parse

TABLE = pa.table(
    {
        "text": ["a", None, "c"],
        "label": ["x", "y", "z"],
        "tokens": [["a", "b"], [], None],
        "entities": [[{"start": 0, "label": "x"}] * 3, None, []],
        "weights": pa.array([[("k", 1.0)], [], None], pa.map_(pa.string(), pa.float64())),
    }
)


def counted(path):
    metadata = parquet.read_metadata(path)
    return sum(
        metadata.row_group(i).column(j).num_values
        for i in range(metadata.num_row_groups)
        for j in range(metadata.num_columns)
    )


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"row_group_size": 1},
        {"version": "1.0", "write_statistics": False, "use_dictionary": False},
        {"write_page_index": True, "store_schema": False, "compression": "zstd"},
        {"use_byte_stream_split": ["wide"], "use_dictionary": False, "sorting_columns": ()},
    ],
)
@pytest.mark.parametrize("columns", [1, 40])
def test_values_are_those_that_pyarrow_counts(tmp_path, options, columns):
    # From 15 columns on, a list's length no longer fits into its first byte.
    wide = {f"wide {i}" if i else "wide": [0.5, 1.5, None] for i in range(columns)}
    table = pa.table({**dict(zip(TABLE.column_names, TABLE.columns, strict=True)), **wide})
    path = tmp_path / "t.parquet"
    parquet.write_table(pa.concat_tables([table] * 20), path, **options)
    assert value_count(path) == counted(path) > 0


def test_column_that_contradicts_itself_is_refused_and_ends_nothing(tmp_path):
    """pyarrow 26 ends the process when it is asked how many values such a column has."""
    path = tmp_path / "t.parquet"
    parquet.write_table(TABLE.select(["text", "label"]), path)
    data = path.read_bytes()
    # Field 3 of the column's SchemaElement: optional becomes required; field 4 is its name.
    before, after = b"\x25\x02\x18\x04text", b"\x25\x00\x18\x04text"
    assert data.count(before) == 1
    path.write_bytes(data.replace(before, after))
    with pytest.raises(RecordError) as caught:
        parse(path, needed=("text", "label"))
    assert caught.value.where == "binary"
    assert value_count(path) == 6


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(footer=st.binary(max_size=200))
def test_footer_of_any_bytes_is_counted_or_refused(tmp_path, footer):
    path = tmp_path / "t.parquet"
    path.write_bytes(b"PAR1" + footer + len(footer).to_bytes(4, "little") + b"PAR1")
    with contextlib.suppress(ValueError):
        assert value_count(path) >= 0


@pytest.mark.parametrize(
    ("footer", "words"),
    [
        (b"", "too early"),
        (b"\x15", "too early"),
        (b"\x15" + b"\xff" * 12, "no end"),
        (b"\x18\x7f", "too early"),
        (b"\x1f\x00", "unknown type"),
        (b"\x1c" * 200, "too deep"),
        (b"\x19\xf3" + b"\xff" * 8 + b"\x01", "too early"),
    ],
)
def test_damage_is_named(tmp_path, footer, words):
    path = tmp_path / "t.parquet"
    path.write_bytes(footer + len(footer).to_bytes(4, "little") + b"PAR1")
    with pytest.raises(ValueError, match=words):
        value_count(path)


def test_footer_longer_than_its_file_is_refused(tmp_path):
    path = tmp_path / "t.parquet"
    path.write_bytes(b"PAR1" + (99).to_bytes(4, "little") + b"PAR1")
    with pytest.raises(ValueError, match="longer than the file"):
        value_count(path)
