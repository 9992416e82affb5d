"""Files as people have them: packed, from spreadsheets, from other systems, half right."""

from __future__ import annotations

import datetime as dt
import gzip
import json
import zipfile

import openpyxl
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest

from contlearn.data.formats.encodings import EncodingGuess
from contlearn.errors import RecordError
from tests.unit.data.formats.test_parsers import parse, parse_bytes, reasons, used
from tests.unit.data.taking import make_config, taker

ROWS = [{"text": f"sample text {n}", "label": "ab"[n % 2]} for n in range(4)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


@pytest.fixture
def taking(tmp_path):
    with taker(tmp_path / "ws") as made:
        yield made


def take(taking, name, data):
    path = taking.workspace.root / name
    path.write_bytes(data)
    return taking.ingest(path)["files"][0]


@pytest.mark.parametrize(
    ("encoding", "text", "guess"),
    [
        ("cp1252", "grüße aus köln, déjà vu", "WINDOWS-1252"),
        ("cp1250", "příliš žluťoučký kůň", "WINDOWS-1250"),
        ("cp1254", "siparişim hâlâ gelmedi, lütfen", "WINDOWS-1254"),
        ("cp1251", "мой заказ не пришёл, помогите", "WINDOWS-1251"),
        ("koi8_r", "мой заказ не пришёл, помогите", "KOI8-R"),
        ("cp1253", "η παραγγελία μου δεν έφτασε", "WINDOWS-1253"),
        ("shift_jis", "注文が届きません、助けてください", "SHIFT-JIS"),
        ("gb18030", "我的订单还没有到，请帮忙看一下", "GB18030"),
    ],
)
@pytest.mark.parametrize("ending", ["jsonl", "csv"])
def test_other_encodings_are_guessed_and_the_command_names_the_file(
    taking, encoding, text, guess, ending
):
    rows = [f"{text} {n}" for n in range(4)]
    content = "".join(f'{{"text": "{row}", "label": "a"}}\n' for row in rows)
    if ending == "csv":
        content = "text,label\n" + "".join(f'"{row}",a\n' for row in rows)
    file = take(taking, f"my rows.{ending}", content.encode(encoding))
    assert (file["verdict"], file["reason"]) == ("reject", "bad-encoding")
    assert f"iconv -f {guess} -t UTF-8 'my rows.{ending}' > NEW" in file["hint"]


def test_guess_is_made_once_a_file():
    guess = EncodingGuess("grüße aus köln\n".encode("cp1252"))
    first = guess.hint(b"\xfc")
    assert "WINDOWS-1252" in first
    assert guess.hint("мой заказ".encode("koi8_r")) == first


@pytest.mark.parametrize("ending", ["utf_16_le", "utf_32_be"])
def test_unicode_without_its_mark_is_refused_with_the_command(taking, ending):
    file = take(taking, "rows.jsonl", LINES.decode().encode(ending))
    assert file["reason"] == "bad-encoding"
    assert "-t UTF-8 rows.jsonl > NEW" in file["hint"]


@pytest.mark.parametrize("mark", ["utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("ending", ["csv", "tsv"])
def test_text_tables_with_a_mark_are_read(tmp_path, mark, ending):
    sign = "," if ending == "csv" else "\t"
    data = f"text{sign}label\ngrüße{sign}a\n".encode(mark)
    assert used(parse_bytes(tmp_path, f"rows.{ending}", data)) == [{"text": "grüße", "label": "a"}]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("rows.jsonl", LINES.replace(b"\n", b"\r")),
        ("rows.csv", b"text,label\rsample text 0,a\rsample text 1,b\r"),
    ],
)
def test_lines_that_end_in_cr_alone_are_lines(tmp_path, name, data):
    found = parse_bytes(tmp_path, name, data)
    assert [row["text"] for row in used(found)][:2] == ["sample text 0", "sample text 1"]
    assert found[0].warnings[0][0] == "newlines"


# -- tables -----------------------------------------------------------------------------------------


def test_csv_may_name_its_delimiter_as_excel_does(tmp_path):
    data = b"sep=;\ntext;label\nhello, you;a\n"
    assert used(parse_bytes(tmp_path, "rows.csv", data)) == [{"text": "hello, you", "label": "a"}]


def test_csv_without_a_header_is_read_with_the_configured_columns(tmp_path):
    config = make_config(columns=("text", "label"))
    with taker(tmp_path / "ws", config) as taking:
        file = take(taking, "rows.csv", b'"first, with a comma";x\nsecond;y\n')
        assert (file["verdict"], file["accepted"]) == ("ok", 2)
        assert "no-header" in [warning["code"] for warning in file["warnings"]]
        # A file that has its header is read by that.
        assert take(taking, "other.csv", b"label,text\nx,third\n")["accepted"] == 1
        assert take(taking, "wrong.csv", b"a,b,c\n1,2,3\n")["reason"] == "no-header"
        assert {row.key for row in taking.rows()} == {"x", "y"}


@pytest.mark.parametrize("line", ["x\n" * 2000, "y" * 5000])
def test_csv_record_over_the_limit_ends_where_its_quote_does(tmp_path, line):
    from contlearn.config import LimitsConfig

    data = f'text,label\n"{line}",a\nstill,b\n"here, too",a\n'.encode()
    found = parse_bytes(tmp_path, "rows.csv", data, LimitsConfig(line_bytes=1000))
    assert reasons(found) == [(2, "too-long")]
    assert [row["text"] for row in used(found)] == ["still", "here, too"]


def test_csv_quote_that_is_never_closed_says_how_far_it_reaches(tmp_path):
    from contlearn.config import LimitsConfig

    data = b'text,label\nfine,a\n"open,b\n' + b"swallowed,a\n" * 500
    (good, bad) = parse_bytes(tmp_path, "rows.csv", data, LimitsConfig(line_bytes=1000))
    assert good.problem is None
    assert bad.problem.reason == "too-long"
    assert "begins on line 3 and ends on line 503" in bad.problem.message


# -- columns and sheets -----------------------------------------------------------------------------


@pytest.mark.parametrize("codec", ["gzip", "bz2", "zstd"])
@pytest.mark.parametrize("kind", ["parquet", "arrow", "feather"])
def test_packed_columns_are_read(taking, codec, kind):
    table = pa.table({name: [row[name] for row in ROWS] for name in ("text", "label")})
    path = taking.workspace.root / f"plain.{kind}"
    if kind == "parquet":
        pyarrow.parquet.write_table(table, path)
    else:
        pyarrow.feather.write_feather(table, path)
    packed = pa.BufferOutputStream()
    with pa.CompressedOutputStream(packed, codec) as stream:
        stream.write(path.read_bytes())
    suffix = {"gzip": "gz", "bz2": "bz2", "zstd": "zst"}[codec]
    file = take(taking, f"rows.{kind}.{suffix}", packed.getvalue().to_pybytes())
    assert (file["verdict"], file["accepted"]) == ("ok", 4)


def test_packed_columns_that_are_cut_or_too_large_are_refused(tmp_path):
    table = pa.table({"text": ["x" * 200_000], "label": ["a"]})
    path = tmp_path / "rows.parquet"
    pyarrow.parquet.write_table(table, path, compression="none", use_dictionary=False)
    packed = gzip.compress(path.read_bytes())
    with taker(tmp_path / "ws", make_config(limits={"unpacked_bytes": 50_000})) as taking:
        assert take(taking, "large.parquet.gz", packed)["reason"] == "too-long"
        assert take(taking, "cut.parquet.gz", packed[:-20])["reason"] == "bad-gzip"


def test_columns_that_nobody_asks_for_stand_in_no_row_s_way(tmp_path):
    path = tmp_path / "rows.parquet"
    columns = {
        "text": pa.array([b"as bytes", b"caf\xe9"]),
        "label": pa.array(["a", "b"]).dictionary_encode(),
        "at": pa.array([1, 2], pa.timestamp("ns")),
        "far": pa.array([2**52, 1], pa.timestamp("ms")),
    }
    pyarrow.parquet.write_table(pa.table(columns), path)
    found = parse(path)
    assert reasons(found) == [(2, "bad-encoding")]
    assert used(found)[0]["text"] == "as bytes"


def test_text_repeated_in_every_row_is_held_once(tmp_path):
    """A few kilobytes of Parquet can stand for gigabytes of rows."""
    repeated = pa.DictionaryArray.from_arrays(pa.array([0] * 400, pa.int32()), ["y" * 5_000_000])
    path = tmp_path / "rows.parquet"
    pyarrow.parquet.write_table(pa.table({"text": repeated, "label": ["a"] * 400}), path)
    assert path.stat().st_size < 500_000
    pool = pa.default_memory_pool()
    before = pool.max_memory()
    found = parse(path)
    assert {row.problem.reason for row in found} == {"too-long"}
    assert [row.number for row in found] == list(range(1, 401))
    assert pool.max_memory() - before < 100_000_000


def test_long_and_short_rows_of_columns_keep_their_order(tmp_path):
    from contlearn.config import LimitsConfig

    texts = ["short", "x" * 2000, "short again", None, "y" * 1500]
    path = tmp_path / "rows.parquet"
    pyarrow.parquet.write_table(pa.table({"text": texts, "label": ["a"] * 5}), path)
    found = parse(path, LimitsConfig(line_bytes=1000))
    assert reasons(found) == [(2, "too-long"), (5, "too-long")]
    assert [row["text"] for row in used(found)] == ["short", "short again", None]


def test_feather_of_the_first_version_is_refused_with_the_way_out(tmp_path):
    with pytest.raises(RecordError, match="version 1") as caught:
        parse_bytes(tmp_path, "rows.arrow", b"FEA1" + bytes(100))
    assert "version=2" in caught.value.hint


def sheet(path, *rows):
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    book.create_sheet("notes").append(["not", "read"])
    book.save(path)
    return path.read_bytes()


def test_sheet_cells_become_what_they_show(taking, tmp_path):
    data = sheet(
        tmp_path / "x.xlsx",
        ["text", "label", "when"],
        ["plain", "a", dt.datetime(2025, 1, 2, 3)],
        [4711, "b", None],
        [2.5, "a", None],
        [dt.date(2025, 1, 1), "a", None],
        ["=1+1", "a", None],
        [True, "a", None],
        [None, "a", None],
    )
    for name, content in (("x.xlsx", data), ("x.xlsx.gz", gzip.compress(data))):
        file = take(taking, name, content)
        assert (file["verdict"], file["rows"]) == ("partial", 7)
    texts = [record.inputs["text"] for record in taking.records()]
    assert texts == ["plain", "4711", "2.5", "2025-01-01"]
    assert {row.key for row in taking.rows()} == {"a", "b"}
    reasons = sorted((row["line_number"], row["reason"]) for row in taking.quarantine()[:3])
    # openpyxl writes no value for a formula, as a sheet does that was never calculated.
    assert reasons == [(6, "empty-text"), (7, "wrong-type"), (8, "empty-text")]


def test_sheet_with_one_cell_far_from_the_others_is_refused_and_stops_no_other_file(
    taking, tmp_path
):
    book = openpyxl.Workbook()
    for row in (["text", "label"], ["a text", "a"]):
        book.active.append(row)
    book.active.cell(1_048_576, 16_384, "stray")
    far = taking.workspace.inbox / "far.xlsx"
    book.save(far)
    assert far.stat().st_size < 10_000
    sheet(taking.workspace.inbox / "good.xlsx", ["text", "label"], ["another", "b"])
    report = taking.scan()
    files = {file["path"]: file for file in report["files"]}
    assert (files["far.xlsx"]["verdict"], files["far.xlsx"]["reason"]) == ("reject", "too-long")
    assert "one cell stands far from the others" in files["far.xlsx"]["message"]
    assert "Ctrl+End" in files["far.xlsx"]["hint"]
    assert files["good.xlsx"]["accepted"] == 1


def open_document(path, table):
    main = "urn:oasis:names:tc:opendocument:xmlns"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        archive.writestr(
            "META-INF/manifest.xml", f'<manifest xmlns="{main}:manifest:1.0"></manifest>'
        )
        archive.writestr(
            "content.xml",
            f'<office:document-content xmlns:office="{main}:office:1.0" '
            f'xmlns:table="{main}:table:1.0" xmlns:text="{main}:text:1.0"><office:body>'
            f'<office:spreadsheet><table:table table:name="one">{table}</table:table>'
            "</office:spreadsheet></office:body></office:document-content>",
        )
    return path.read_bytes()


def cell(text, repeated=1):
    return (
        f'<table:table-cell table:number-columns-repeated="{repeated}" office:value-type="string">'
        f"<text:p>{text}</text:p></table:table-cell>"
    )


def test_open_document_that_repeats_its_cells_beyond_memory_is_refused(taking, tmp_path):
    head = f"<table:table-row>{cell('text')}{cell('label')}</table:table-row>"
    row = f"<table:table-row>{cell('good')}{cell('a')}</table:table-row>"
    small = open_document(tmp_path / "x.ods", head + row)
    assert take(taking, "small.ods", small)["accepted"] == 1
    many = f'<table:table-row table:number-rows-repeated="1048576">{cell("x", 16_000)}'
    bomb = open_document(tmp_path / "x.ods", f"{head}{many}</table:table-row>")
    assert len(bomb) < 2_000
    # calamine itself, or the bound on memory, whichever is the narrower.
    assert take(taking, "bomb.ods", bomb)["reason"] in ("binary", "too-long")


def test_sheet_that_unpacks_to_more_than_it_may_or_has_odd_members_is_refused(taking, tmp_path):
    path = tmp_path / "x.xlsx"
    sheet(path, ["text", "label"], ["a text", "a"])
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/media/zeros.bin", bytes(3_000_000))
    config = make_config(limits={"unpacked_bytes": 2_000_000})
    (file,) = taking.ingest(path, config=config)["files"]
    assert (file["reason"], "unpacks to 3," in file["message"]) == ("too-long", True)
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(10_000):
            archive.writestr(f"{number}", b"")
    assert take(taking, "members.xlsx", path.read_bytes())["verdict"] == "reject"


def test_sheet_without_a_header_says_what_it_has(taking, tmp_path):
    file = take(taking, "x.xlsx", sheet(tmp_path / "x.xlsx", ["Report 2025"], ["text", "label"]))
    assert file["reason"] == "no-header"
    assert "'Report 2025'" in file["message"]


# -- CoNLL ------------------------------------------------------------------------------------------


def conll(tmp_path, text):
    return parse_bytes(tmp_path, "rows.conll", text.encode(), needed=("tokens", "tags"))


def test_conll_comments_and_blanks_at_the_end_of_a_line_are_no_words(tmp_path):
    found = conll(tmp_path, "# id = 1\n# text = to Rome\nto O\t\nRome B-city  \n\n# O\nis O\n")
    assert [row["tokens"] for row in used(found)] == [["to", "Rome"], ["#", "is"]]


def test_conll_in_another_encoding_is_refused_with_the_command(tmp_path):
    data = "Köln B-city\nist O\n\nja O\n".encode("cp1252")
    found = parse_bytes(tmp_path, "rows.conll", data, needed=("tokens", "tags"))
    assert reasons(found) == [(1, "bad-encoding")]
    assert "iconv -f WINDOWS-1252" in found[0].problem.hint
    assert len(used(found)) == 1


# -- names and places -------------------------------------------------------------------------------


def test_the_ending_decides_how_a_content_is_read(taking):
    assert take(taking, "rows.txt", LINES)["reason"] == "unknown-format"
    assert take(taking, "rows.jsonl", LINES)["accepted"] == 4
    assert take(taking, "again.ndjson", LINES)["known"] is True


@pytest.mark.parametrize("name", ["two\nlines.jsonl", "x" * 240 + ".jsonl", "$(touch x);`.jsonl"])
def test_any_name_is_taken(taking, name):
    file = take(taking, name, LINES + b"broken\n")
    assert (file["verdict"], file["accepted"], file["rejected"]) == ("partial", 4, 1)
    assert len(taking.quarantine()) == 1


def test_appended_file_takes_in_only_what_is_new(taking):
    path = taking.workspace.root / "log.jsonl"
    path.write_bytes(LINES + b"broken\n")
    taking.ingest(path)
    with path.open("ab") as file:
        file.write(b'{"text": "new", "label": "a"}\n{"text": 5, "label": "a"}\n')
    report = taking.ingest(path)["files"][0]
    counts = {name: report[name] for name in ("rows", "accepted", "duplicates", "rejected")}
    assert counts == {"rows": 7, "accepted": 1, "duplicates": 5, "rejected": 1}
    assert report["warnings"][0]["code"] == "appended"
    # The row that was refused before is in the quarantine once.
    assert [row["line_number"] for row in taking.quarantine()] == [5, 7]


def test_line_that_was_cut_by_a_writer_is_completed_later(taking):
    path = taking.workspace.root / "log.jsonl"
    path.write_bytes(LINES + b'{"text": "not yet')
    assert taking.ingest(path)["rejected"] == 1
    with path.open("ab") as file:
        file.write(b' whole", "label": "a"}\n')
    report = taking.ingest(path)
    assert (report["rows"], report["accepted"], report["duplicates"]) == (5, 1, 4)


def test_long_row_that_is_refused_can_be_corrected(taking):
    long = "word " * 3000
    file = take(taking, "rows.jsonl", json.dumps({"text": long, "label": 5}).encode())
    assert file["rejected"] == 1
    assert json.loads(taking.quarantine()[0]["row"])["text"] == long
