"""Each format: what is right comes out as it stands, what is wrong with its reason."""

from __future__ import annotations

import json
import math

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contlearn.config import LimitsConfig
from contlearn.data.formats.columnar import ArrowRows, ParquetRows
from contlearn.data.formats.conll import ConllColumns
from contlearn.data.formats.delimited import CsvRows, TsvRows
from contlearn.data.formats.excel import ExcelRows
from contlearn.data.formats.json_rows import JsonArray, JsonLines, parse_object
from contlearn.errors import RecordError
from contlearn.interfaces import RowProblem

LIMITS = LimitsConfig()
NEEDED = ("text", "label")
PARSERS = {
    ".jsonl": JsonLines,
    ".json": JsonArray,
    ".csv": CsvRows,
    ".tsv": TsvRows,
    ".parquet": ParquetRows,
    ".arrow": ArrowRows,
    ".conll": ConllColumns,
    ".xlsx": ExcelRows,
}


def parse(path, limits=LIMITS, needed=NEEDED):
    return list(PARSERS[path.suffix]().rows(path, limits, needed))


def parse_bytes(tmp_path, name, data, limits=LIMITS, needed=NEEDED):
    path = tmp_path / name
    path.write_bytes(data)
    return parse(path, limits, needed)


def refusal_of(action):
    """Run something and give the refusal it ends with, or None."""
    try:
        action()
    except (RecordError, RowProblem) as problem:
        return problem
    return None


def reasons(rows):
    return [(row.number, row.problem.reason) for row in rows if row.problem is not None]


def used(rows):
    return [row.row for row in rows if row.problem is None]


# -- JSON ----------------------------------------------------------------------------------------

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=6), PLAIN, max_size=5))
def test_json_object_comes_back_as_it_was_written(row):
    assert parse_object(json.dumps(row).encode(), LIMITS) == row
    assert parse_object(json.dumps(row, ensure_ascii=False).encode(), LIMITS) == row


@given(st.binary(max_size=200))
def test_any_line_is_an_object_or_a_problem(line):
    found = []
    problem = refusal_of(lambda: found.append(parse_object(line, LIMITS)))
    if problem is None:
        assert isinstance(found[0], dict)
    else:
        assert problem.message
        assert problem.reason in {
            "not-json",
            "not-object",
            "bad-encoding",
            "too-deep",
            "duplicate-key",
            "non-finite",
        }


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"a": 1, "a": 2}', "duplicate-key"),
        (b'{"a" : 1, "a" : 2}', "duplicate-key"),
        (b'{"a": {"b": 1, "b": 2}}', "duplicate-key"),
        (b'{"a": ":", "a": "::"}', "duplicate-key"),
        (b'{"a": NaN}', "non-finite"),
        (b'{"a": -Infinity}', "non-finite"),
        (b'{"a": 1e999}', "non-finite"),
        (b'{"a": ' + b"9" * 5000 + b"}", "non-finite"),
        (b'{"a": "\\ud800"}', "bad-encoding"),
        (b'{"a": "\xff"}', "bad-encoding"),
        (b'{"a": ' + b"[" * 40 + b"]" * 40 + b"}", "too-deep"),
        (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "too-deep"),
        (b"[" * 100_000, "not-json"),
        (b"{'a': 1}", "not-json"),
        (b'{"a": 1,}', "not-json"),
        (b'{"a": "\x00"}', "not-json"),
        (b"[1]", "not-object"),
        (b"null", "not-object"),
    ],
)
def test_wrong_json_line_gets_its_reason(line, reason):
    with pytest.raises(RowProblem) as caught:
        parse_object(line, LIMITS)
    assert caught.value.reason == reason


def test_text_with_colons_is_no_duplicate_key():
    assert parse_object(b'{"text": "at 10:30: a: b", "label": "x:y"}', LIMITS)["label"] == "x:y"


@pytest.mark.parametrize("size", [1, 7, 300_000])
def test_json_array_gives_its_elements_whatever_their_size(tmp_path, size):
    rows = [{"text": f'{i} \\ "quoted" [{{,' + "x" * size, "label": "a"} for i in range(5)]
    found = parse_bytes(tmp_path, "rows.json", json.dumps(rows, indent=2).encode())
    assert used(found) == rows
    assert [row.number for row in found] == [1, 2, 3, 4, 5]
    assert found[0].warnings[0][0] == "json-array"


@pytest.mark.parametrize(
    "data",
    [
        b'[{"a": 1}, {"a": 2},]',
        b'[{"a": 1}, {"a": 2}',
        b'[{"a": 1}] {"a": 2}',
        b'[{"a": 1},, {"a": 2}]',
        b'[{"a": 1} {"a": 2}]',
        b'[{"a": 1}}',
        b"[{'a': 1}]",
        b'[\n{"a": 1},\n{"a": 2',
    ],
)
def test_broken_json_array_is_refused_whole(tmp_path, data):
    with pytest.raises(RecordError) as caught:
        parse_bytes(tmp_path, "rows.json", data)
    assert caught.value.where == "not-json"


def test_json_array_with_a_long_element_refuses_that_one_only(tmp_path):
    rows = [{"text": "a"}, {"text": "b" * 5000}, {"text": "c"}]
    limits = LimitsConfig(line_bytes=1000)
    found = parse_bytes(tmp_path, "rows.json", json.dumps(rows).encode(), limits)
    assert reasons(found) == [(2, "too-long")]
    assert used(found) == [rows[0], rows[2]]


def test_objects_over_several_lines_are_refused_whole(tmp_path):
    data = json.dumps({"text": "a", "label": "b"}, indent=1).encode() + b"\n"
    with pytest.raises(RecordError) as caught:
        parse_bytes(tmp_path, "rows.jsonl", data * 3)
    assert caught.value.where == "not-json"
    assert "jq -c" in (caught.value.hint or "")


def test_cut_first_line_is_one_bad_row(tmp_path):
    data = b'{"text": "cut\n{"text": "fine", "label": "b"}\n'
    assert reasons(parse_bytes(tmp_path, "rows.jsonl", data)) == [(1, "not-json")]


# -- CSV and TSV ---------------------------------------------------------------------------------


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_csv_delimiter_is_found_by_the_header(tmp_path, delimiter):
    data = f"id{delimiter}text{delimiter}label\n1{delimiter}a; b, c{delimiter}x\n".replace(
        "a; b, c", '"a; b, c"'
    )
    found = parse_bytes(tmp_path, "rows.csv", data.encode())
    assert used(found) == [{"id": "1", "text": "a; b, c", "label": "x"}]
    assert bool(found[0].warnings) == (delimiter != ",")


def test_csv_without_the_needed_columns_is_refused(tmp_path):
    with pytest.raises(RecordError) as caught:
        parse_bytes(tmp_path, "rows.csv", b"a text,a label\nmore,x\n")
    assert caught.value.where == "no-header"


def test_csv_with_a_column_twice_is_refused(tmp_path):
    with pytest.raises(RecordError) as caught:
        parse_bytes(tmp_path, "rows.csv", b"text,label,text\na,b,c\n")
    assert caught.value.where == "duplicate-key"


def test_csv_record_that_quoting_makes_endless_is_refused(tmp_path):
    limits = LimitsConfig(line_bytes=1000)
    endless = b"".join(b'"cell\n",' for _ in range(1000))
    data = b"text,label\nfine,a\n" + endless + b"\n"
    found = parse_bytes(tmp_path, "rows.csv", data, limits)
    assert reasons(found)[0] == (3, "too-long")
    assert used(found)[0] == {"text": "fine", "label": "a"}


def test_csv_row_that_is_not_utf8_holds_no_replacement(tmp_path):
    found = parse_bytes(tmp_path, "rows.csv", b"text,label\ncaf\xe9,a\nfine,b\n")
    assert reasons(found) == [(2, "bad-encoding")]
    assert "0xE9 on line 2" in found[0].problem.message
    assert "iconv -f WINDOWS-1252" in found[0].problem.hint
    assert used(found) == [{"text": "fine", "label": "b"}]


def test_csv_empty_file_and_header_alone(tmp_path):
    with pytest.raises(RecordError) as caught:
        parse_bytes(tmp_path, "rows.csv", b"\n \n")
    assert caught.value.where == "empty-file"
    assert parse_bytes(tmp_path, "rows.csv", b"text,label\n") == []


# -- CoNLL ---------------------------------------------------------------------------------------


def test_conll_bioes_becomes_bio(tmp_path):
    data = b"Ann S-person\nsees O\nNew B-place\nYork I-place\nCity E-place\n"
    found = parse_bytes(tmp_path, "rows.conll", data, needed=("tokens", "tags"))
    assert used(found)[0]["tags"] == ["B-person", "O", "B-place", "I-place", "I-place"]
    assert found[0].warnings[0][0] == "bioes"


def test_conll_sentence_without_end_is_bounded(tmp_path):
    limits = LimitsConfig(line_bytes=1000)
    data = b"word O\n" * 1000 + b"\nAnn B-person\n"
    found = parse_bytes(tmp_path, "rows.conll", data, limits, ("tokens", "tags"))
    assert reasons(found) == [(1, "too-long")]
    assert used(found) == [{"tokens": ["Ann"], "tags": ["B-person"]}]


def test_conll_uses_the_configured_field_names(tmp_path):
    found = parse_bytes(tmp_path, "rows.conll", b"Ann B-person\n", needed=("words", "marks"))
    assert used(found) == [{"words": ["Ann"], "marks": ["B-person"]}]


# -- columns -------------------------------------------------------------------------------------

TABLE = pa.table({"text": ["a", None, "c"], "label": ["x", "y", "z"], "weight": [1.0, math.inf, 2]})


def write_parquet(path):
    pyarrow.parquet.write_table(TABLE, path)


def write_file(path):
    pyarrow.feather.write_feather(TABLE, path)


def write_stream(path):
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, TABLE.schema) as writer:
        writer.write_table(TABLE)


@pytest.mark.parametrize(
    ("write", "name"),
    [(write_parquet, "t.parquet"), (write_file, "t.arrow"), (write_stream, "t.arrow")],
)
def test_columnar_file_gives_its_rows(tmp_path, write, name):
    write(tmp_path / name)
    found = parse(tmp_path / name)
    assert [row["text"] for row in used(found)] == ["a", None, "c"]
    assert [row.number for row in found] == [1, 2, 3]


@pytest.mark.parametrize("name", ["t.parquet", "t.arrow"])
def test_columnar_file_without_the_needed_column_is_refused(tmp_path, name):
    (write_parquet if name.endswith("parquet") else write_file)(tmp_path / name)
    with pytest.raises(RecordError) as caught:
        parse(tmp_path / name, needed=("text", "class"))
    assert caught.value.where == "no-header"


@pytest.mark.parametrize("name", ["t.parquet", "t.arrow"])
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1), change=st.binary(min_size=1, max_size=16))
def test_damaged_columnar_file_is_refused_or_read(tmp_path, name, place, change):
    path = tmp_path / name
    (write_parquet if name.endswith("parquet") else write_file)(path)
    data = bytearray(path.read_bytes())
    at = int(place * (len(data) - 1))
    data[at : at + len(change)] = change
    path.write_bytes(data)
    refusal = refusal_of(lambda: parse(path))
    allowed = {"binary", "no-header", "duplicate-key", "too-long", "empty-file"}
    assert refusal is None or refusal.where in allowed


@pytest.mark.parametrize("name", ["t.parquet", "t.arrow"])
def test_columnar_file_with_a_wild_number_anywhere_ends_no_process(tmp_path, name):
    # Offsets that point outside once ended the process inside pyarrow.
    path = tmp_path / name
    (write_parquet if name.endswith("parquet") else write_file)(path)
    original = path.read_bytes()
    ended = 0
    for at in range(0, len(original) - 4, 4):
        path.write_bytes(original[:at] + b"\xff\xff\xff\x7f" + original[at + 4 :])
        ended += refusal_of(lambda: parse(path)) is not None
    assert ended > 0


def test_excel_sheet_gives_its_rows(tmp_path):
    path = tmp_path / "rows.xlsx"
    write_xlsx(path, [["text", "label"], ["a first text", "x"], ["", ""], ["another", "y"]])
    found = parse(path)
    assert used(found) == [
        {"text": "a first text", "label": "x"},
        {"text": "another", "label": "y"},
    ]
    assert [row.number for row in found] == [2, 4]


def test_excel_that_is_none_is_refused(tmp_path):
    with pytest.raises(RecordError) as caught:
        parse_bytes(tmp_path, "rows.xlsx", b"PK\x03\x04 no archive")
    assert caught.value.where == "binary"


def write_xlsx(path, rows):
    """Write the least that Excel and calamine take for a workbook."""
    import zipfile
    from xml.sax.saxutils import escape

    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    package = "http://schemas.openxmlformats.org/package/2006"
    cells = "".join(
        f'<row r="{r}">'
        + "".join(
            f'<c r="{chr(65 + c)}{r}" t="inlineStr"><is><t>{escape(v)}</t></is></c>'
            for c, v in enumerate(row)
            if v
        )
        + "</row>"
        for r, row in enumerate(rows, 1)
    )
    parts = {
        "[Content_Types].xml": f'<Types xmlns="{package}/content-types">'
        '<Default Extension="rels" ContentType='
        '"application/vnd.openxmlformats-package.relationships+xml"/>'
        '<Default Extension="xml" ContentType="application/vnd.openxmlformats-officedocument'
        '.spreadsheetml.sheet.main+xml"/></Types>',
        "_rels/.rels": f'<Relationships xmlns="{package}/relationships"><Relationship Id="r1" '
        f'Type="{office}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'<workbook xmlns="{main}" xmlns:r="{office}"><sheets>'
        '<sheet name="one" sheetId="1" r:id="r1"/></sheets></workbook>',
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{package}/relationships">'
        f'<Relationship Id="r1" Type="{office}/worksheet" Target="worksheets/sheet1.xml"/>'
        "</Relationships>",
        "xl/worksheets/sheet1.xml": f'<worksheet xmlns="{main}"><sheetData>{cells}</sheetData>'
        "</worksheet>",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in parts.items():
            archive.writestr(name, text)


# -- anything ------------------------------------------------------------------------------------

NOISE = st.one_of(
    st.binary(max_size=600),
    st.lists(
        st.sampled_from(
            [
                b'{"text": "a", "label": "b"}',
                b"text,label",
                b"[",
                b"{",
                b'"',
                b",",
                b"\n",
                b"\r",
                b"\x00",
                b"\xff",
                b"Ann B-person",
                b"-DOCSTART-",
                b"\xef\xbb\xbf",
                b"\xff\xfe",
                b"1e999",
                b"\\",
                b"]",
                b"}",
                b"PAR1",
                b"ARROW1",
                b"\x1f\x8b\x08",
                b"\t",
            ]
        ),
        max_size=40,
    ).map(b"".join),
)


@pytest.mark.parametrize("suffix", PARSERS)
@settings(
    max_examples=60, deadline=5000, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=NOISE)
def test_any_bytes_give_rows_problems_or_one_refusal(tmp_path, suffix, data):
    path = tmp_path / f"noise{suffix}"
    path.write_bytes(data)
    found = []
    refusal = refusal_of(lambda: found.extend(parse(path, LimitsConfig(line_bytes=1000))))
    if refusal is not None:
        assert refusal.where
        assert refusal.hint
    numbers = [row.number for row in found]
    assert numbers == sorted(numbers)
    assert all((row.row is None) != (row.problem is None) for row in found)


@pytest.mark.parametrize("packed", [".gz", ".bz2", ".xz", ".zst"])
@settings(
    max_examples=25, deadline=5000, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=NOISE, magic=st.booleans())
def test_any_bytes_named_as_packed_are_refused_or_read(tmp_path, packed, data, magic):
    from contlearn.data.formats.streams import COMPRESSIONS

    path = tmp_path / f"noise.jsonl{packed}"
    path.write_bytes((COMPRESSIONS[packed] if magic else b"") + data)
    refusal = refusal_of(lambda: list(JsonLines().rows(path, LIMITS)))
    allowed = {"bad-gzip", "empty-file", "too-long", "binary", "bad-encoding"}
    assert refusal is None or refusal.where in allowed


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".conll"])
@settings(
    max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(block=NOISE.filter(lambda block: len(block) > 2))
def test_long_noise_takes_no_more_memory_than_its_limits(tmp_path, suffix, block):
    import tracemalloc

    path = tmp_path / f"noise{suffix}"
    path.write_bytes(block * (1_000_000 // len(block)))
    limits = LimitsConfig(line_bytes=10_000)
    tracemalloc.start()
    try:
        rows = PARSERS[suffix]().rows(path, limits, NEEDED)
        refusal_of(lambda: sum(1 for _ in rows))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # Chunks of 256 kB in a few forms, a line, a row; the file is four times that.
    assert peak < 8_000_000
