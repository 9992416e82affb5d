"""Files as people really make them: each is read as far as it can be, and says what was wrong."""

from __future__ import annotations

import json

import pytest

from contlearn.config import LimitsConfig
from contlearn.data.intake.checking import RowChecker
from contlearn.errors import RecordError
from contlearn.tasks.text_classification import TextClassification
from tests.unit.data.formats.test_parsers import parse_bytes, reasons, used
from tests.unit.data.taking import make_config

ROW = {"text": "a parcel", "label": "shipping"}
LINE = json.dumps(ROW).encode() + b"\n"
MARK = b"\xef\xbb\xbf"


def warnings(rows):
    return [code for row in rows for code, _ in row.warnings]


def test_json_lines_put_together_with_their_marks_are_read(tmp_path):
    rows = parse_bytes(tmp_path, "rows.jsonl", (MARK + LINE) * 3)
    assert used(rows) == [ROW] * 3
    assert set(warnings(rows)) == {"byte-order-mark"}


def test_json_text_sequence_is_read(tmp_path):
    rows = parse_bytes(tmp_path, "rows.jsonl", (b"\x1e" + LINE) * 2)
    assert used(rows) == [ROW] * 2


def test_csv_files_put_together_lose_no_row_and_learn_no_header(tmp_path):
    one = MARK + b"text,label\na parcel,shipping\n"
    rows = parse_bytes(tmp_path, "rows.csv", one * 2)
    assert used(rows) == [ROW] * 2
    assert reasons(rows) == [(3, "bad-columns")]
    assert "header once more" in rows[1].problem.message
    assert "byte-order-mark" in warnings(rows)


def test_conll_files_put_together_keep_their_words_clean(tmp_path):
    data = (MARK + b"Rome B-city\n\n") * 2
    rows = parse_bytes(tmp_path, "rows.conll", data, needed=("tokens", "tags"))
    assert [row["tokens"] for row in used(rows)] == [["Rome"], ["Rome"]]


def test_no_break_space_is_part_of_a_conll_word(tmp_path):
    data = "New\u00a0York  B-city\nrocks O\n".encode()
    rows = parse_bytes(tmp_path, "rows.conll", data, needed=("tokens", "tags"))
    assert used(rows) == [{"tokens": ["New\u00a0York", "rocks"], "tags": ["B-city", "O"]}]


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        (b'{"text": "tab\there", "label": "x"}', r"a tab as \t"),
        (b'{"text": "C:\\dir", "label": "x"}', "a backslash twice"),
        (b'{"text": "\\u00zz", "label": "x"}', "a backslash twice"),
    ],
)
def test_wrong_character_in_json_is_told_from_a_wrong_layout(tmp_path, line, hint):
    (row,) = parse_bytes(tmp_path, "rows.jsonl", line + b"\n")
    assert hint in row.problem.hint


def test_rows_wrapped_in_an_object_are_refused_with_the_command_that_unwraps_them(tmp_path):
    data = json.dumps({"data": [ROW, ROW], "version": 1}, indent=1).encode()
    with pytest.raises(RecordError) as caught:
        parse_bytes(tmp_path, "rows.json", data)
    assert """jq -c '.["data"][]' OLD > NEW""" in (caught.value.hint or "")


def test_lone_cr_in_a_csv_row_is_said_in_plain_words(tmp_path):
    data = b"text,label\r\none,a\ntwo,b\rthree,c\nfour,d\n"
    rows = parse_bytes(tmp_path, "rows.csv", data)
    assert [row["text"] for row in used(rows)] == ["one", "four"]
    (bad,) = [row for row in rows if row.problem is not None]
    assert "a lone CR" in bad.problem.message
    assert "End all lines alike" in bad.problem.hint
    assert "three" in bad.raw


@pytest.mark.parametrize("label", ["nan", "NULL", "None", "N/A"])
def test_label_that_is_a_missing_value_as_text_is_pointed_out(label):
    checker = RowChecker(TextClassification(), make_config(), ["billing"])
    checked = checker.check({"text": "a", "label": label})
    assert (checked.target, [code for code, _ in checked.warnings]) == (label, ["null-label"])
    assert checker.check({"text": "b", "label": label}).warnings == ()


def test_limits_of_a_line_hold_for_rows_behind_a_mark(tmp_path):
    data = MARK + LINE + MARK + b'{"text": "' + b"x" * 5000 + b'", "label": "a"}\n' + LINE
    rows = parse_bytes(tmp_path, "rows.jsonl", data, LimitsConfig(line_bytes=1000))
    assert reasons(rows) == [(2, "too-long")]
    assert len(used(rows)) == 2
