"""Columns whose values are few in the file and many, or huge, where they stand."""

from __future__ import annotations

import tracemalloc

import pyarrow as pa
import pytest
from pyarrow import parquet

from contlearn.config import LimitsConfig
from contlearn.data.formats.arrow_messages import asked_bytes
from contlearn.data.formats.arrow_sizes import row_bytes
from contlearn.errors import RecordError
from tests.unit.data.formats.test_parsers import parse


def columnar(path, table):
    if path.suffix == ".parquet":
        parquet.write_table(table, path, compression="zstd")
    else:
        with pa.ipc.new_file(path, table.schema) as writer:
            writer.write_table(table)
    return path


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
def test_columnar_list_of_few_huge_elements_is_refused_before_it_is_a_python_list(tmp_path, suffix):
    # Each element is kept once: a few kilobytes on disk, hundreds of megabytes as Python texts.
    words = pa.DictionaryArray.from_arrays(
        pa.array([0] * 2000, pa.int32()), pa.array(["x" * 90_000])
    )
    tokens = pa.ListArray.from_arrays(pa.array(range(0, 2001, 20), pa.int32()), words)
    tags = [["O"] * 20] * 100
    path = columnar(tmp_path / f"rows{suffix}", pa.table({"tokens": tokens, "tags": tags}))
    assert path.stat().st_size < 200_000
    tracemalloc.start()
    rows = parse(path, LimitsConfig(unpacked_ratio=1e6), ("tokens", "tags"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [row.problem.reason for row in rows] == ["too-long"] * 100
    assert peak < 20_000_000
    limits = LimitsConfig(unpacked_ratio=50.0, line_bytes=5_000_000)
    with pytest.raises(RecordError) as caught:
        parse(path, limits, ("tokens", "tags"))
    assert caught.value.where == "too-long"
    assert "unpacked_ratio" in (caught.value.hint or "")


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
def test_columnar_row_of_very_many_small_elements_is_too_long(tmp_path, suffix):
    table = pa.table({"text": ["one", "two"], "label": ["a", "b"], "n": [[0] * 2_000_000, [1]]})
    rows = parse(columnar(tmp_path / f"rows{suffix}", table))
    assert rows[0].problem.reason == "too-long"
    assert rows[1].row["text"] == "two"


def test_nested_texts_count_where_they_stand():
    struct = pa.array([{"a": "xyz", "b": ["xy", None]}, None, {"a": None, "b": []}])
    maps = pa.array([[("k", "vv")], [], None], pa.map_(pa.string(), pa.string()))
    fixed = pa.array([["a", "bb"], ["", ""], None], pa.list_(pa.string(), 2))
    batch = pa.record_batch({"s": struct, "m": maps, "f": fixed, "n": [1, 2, 3]})
    assert row_bytes(batch).tolist() == [3 + 2 + 2 + 4 + 5, 2, 2]
    assert row_bytes(batch.slice(1)).tolist() == [2, 2]


def test_parquet_that_unpacks_to_more_than_the_ratio_is_refused_unread(tmp_path):
    table = pa.table({"text": ["x" * 900_000] * 8, "label": ["a"] * 8})
    path = tmp_path / "rows.parquet"
    parquet.write_table(table, path, compression="zstd", use_dictionary=False)
    with pytest.raises(RecordError) as caught:
        parse(path, LimitsConfig(unpacked_ratio=20.0))
    assert caught.value.where == "too-long"
    assert "7,2" in caught.value.what


@pytest.mark.parametrize("packing", ["zstd", "lz4"])
@pytest.mark.parametrize("opener", [pa.ipc.new_file, pa.ipc.new_stream])
def test_arrow_that_asks_for_more_memory_than_the_ratio_is_refused_unread(
    tmp_path, packing, opener
):
    words = pa.DictionaryArray.from_arrays(pa.array([0] * 3, pa.int32()), pa.array(["w" * 999]))
    table = pa.table({"text": ["x" * 900_000, "y", "z"], "label": words})
    path = tmp_path / "rows.arrow"
    with opener(path, table.schema, options=pa.ipc.IpcWriteOptions(compression=packing)) as writer:
        writer.write_table(table)
    with pytest.raises(RecordError) as caught:
        parse(path, LimitsConfig(unpacked_ratio=2.0))
    assert (caught.value.where, "unpacks to 90" in caught.value.what) == ("too-long", True)
    rows = parse(path, LimitsConfig(unpacked_ratio=1e4))
    assert [row.row["text"][:1] for row in rows] == ["x", "y", "z"]
    # What the messages say is what pyarrow takes.
    asked = asked_bytes(path, is_file=opener is pa.ipc.new_file, most=10**9)
    assert 900_000 + 999 < asked < 910_000
