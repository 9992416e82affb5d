from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contlearn.config import LimitsConfig
from contlearn.data.formats.streams import iter_lines, open_text
from contlearn.errors import RecordError

LIMITS = LimitsConfig()


def read_all(path, limits=LIMITS):
    with open_text(path, limits) as text:
        return b"".join(iter(lambda: text.read(1 << 16), b""))


def lines_of(data: bytes, limit: int, step: int):
    stream = io.BytesIO(data)
    return list(iter_lines(lambda size: stream.read(min(size, step)), limit))


@given(st.binary(max_size=400), st.integers(1, 50), st.integers(1, 60))
def test_lines_are_those_of_a_split_at_lf_whatever_the_chunks(data, limit, step):
    whole = data.split(b"\n")
    if not whole[-1]:
        whole.pop()
    found = lines_of(data, limit, step)
    assert [number for number, _, _ in found] == list(range(1, len(whole) + 1))
    for (_, line, too_long), expected in zip(found, whole, strict=True):
        assert too_long == (len(expected) > limit)
        assert expected.startswith(line)
        assert too_long or line == expected


def test_line_beyond_the_limit_keeps_its_beginning_only():
    data = b"a" * 3_000_000 + b"\nshort\n"
    (_, head, too_long), (number, line, _) = lines_of(data, 1000, 1 << 18)
    assert too_long
    assert len(head) == 2000
    assert (number, line) == (2, b"short")


PACKERS = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda data: pa.Codec("zstd").compress(data, asbytes=True),
}


@pytest.mark.parametrize("suffix", PACKERS)
def test_packed_file_is_read_as_what_was_packed(tmp_path, suffix):
    data = "".join(f'{{"text": "row {i} äöü"}}\n' for i in range(5000)).encode()
    path = tmp_path / f"rows.jsonl{suffix}"
    path.write_bytes(PACKERS[suffix](data))
    assert read_all(path) == data


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz"])
def test_packed_file_of_several_streams_is_read_whole(tmp_path, suffix):
    path = tmp_path / f"rows.jsonl{suffix}"
    path.write_bytes(PACKERS[suffix](b"one\n") + PACKERS[suffix](b"two\n"))
    assert read_all(path) == b"one\ntwo\n"


@pytest.mark.parametrize(
    ("suffix", "damage"),
    # A Zstandard frame need not carry a checksum: a changed one may unpack to other text.
    [(s, d) for s in PACKERS for d in ("cut", "changed", "plain") if (s, d) != (".zst", "changed")],
)
def test_damaged_packed_file_is_refused_as_bad_gzip(tmp_path, suffix, damage):
    words = random.Random(3).choices(("parcel", "invoice", "late", "two", "return"), k=30_000)
    data = bytes(PACKERS[suffix](" ".join(words).encode()))
    if damage == "cut":
        data = data[: len(data) * 6 // 10]
    elif damage == "changed":
        middle = len(data) // 2
        data = (
            data[:middle] + bytes(b ^ 0xFF for b in data[middle : middle + 8]) + data[middle + 8 :]
        )
    else:
        data = b'{"text": "plain"}\n'
    path = tmp_path / f"rows.jsonl{suffix}"
    path.write_bytes(data)
    with pytest.raises(RecordError) as caught:
        read_all(path)
    assert caught.value.where == "bad-gzip"


@pytest.mark.parametrize("suffix", PACKERS)
def test_packed_file_that_grows_beyond_the_ratio_is_refused(tmp_path, suffix):
    path = tmp_path / f"rows.jsonl{suffix}"
    path.write_bytes(PACKERS[suffix](b"x" * 3_000_000))
    with pytest.raises(RecordError) as caught:
        read_all(path, LimitsConfig(unpacked_ratio=100.0))
    assert caught.value.where == "too-long"
    assert "unpacked_ratio" in (caught.value.hint or "")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_text_with_a_mark_is_read_by_it(tmp_path, encoding):
    path = tmp_path / "rows.jsonl"
    path.write_bytes('{"text": "żółć 😀"}\n'.encode(encoding))
    assert read_all(path) == '{"text": "żółć 😀"}\n'.encode()


@pytest.mark.parametrize(
    ("encoding", "guess"),
    [
        ("utf-16-le", "UTF-16LE"),
        ("utf-16-be", "UTF-16BE"),
        ("utf-32-le", "UTF-32LE"),
        ("utf-32-be", "UTF-32BE"),
    ],
)
def test_wide_text_without_a_mark_is_refused_with_the_guess(tmp_path, encoding, guess):
    path = tmp_path / "rows.jsonl"
    path.write_bytes('{"text": "plain words"}\n'.encode(encoding) * 4)
    with pytest.raises(RecordError) as caught:
        read_all(path)
    assert caught.value.where == "bad-encoding"
    assert f"iconv -f {guess} -t UTF-8" in (caught.value.hint or "")


def test_cut_utf16_is_refused(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes('{"text": "words"}\n'.encode("utf-16")[:-1])
    with pytest.raises(RecordError) as caught:
        read_all(path)
    assert caught.value.where == "bad-encoding"


@pytest.mark.parametrize(
    "data",
    [b"\x89PNG\r\n\x1a\n" + bytes(range(256)), b"PK\x03\x04rest", b"%PDF-1.4 text", b"\x00" * 900],
)
def test_what_is_no_text_is_refused_as_binary(tmp_path, data):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(data)
    with pytest.raises(RecordError) as caught:
        read_all(path)
    assert caught.value.where == "binary"


PACKERS = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda data: pa.Codec("zstd").compress(data, asbytes=True),
}


@pytest.mark.parametrize("suffix", PACKERS)
def test_every_member_of_a_packed_file_is_read(tmp_path, suffix):
    pack = PACKERS[suffix]
    path = tmp_path / f"rows.jsonl{suffix}"
    path.write_bytes(pack(b"one\n" * 50_000) + pack(b"") + pack(b"two\n"))
    assert read_all(path) == b"one\n" * 50_000 + b"two\n"


@pytest.mark.parametrize("suffix", PACKERS)
def test_what_follows_a_packed_stream_and_is_none_is_told(tmp_path, suffix):
    path = tmp_path / f"rows.jsonl{suffix}"
    path.write_bytes(PACKERS[suffix](b"one\n" * 50_000) + b"and a note")
    with pytest.raises(RecordError) as caught:
        read_all(path)
    assert caught.value.where == "bad-gzip"
