from __future__ import annotations

import csv

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contlearn.data.quarantine.corrected import (
    discard_quarantine,
    ingest_corrected,
    retry_quarantine,
)
from contlearn.data.quarantine.looking import (
    export_quarantine,
    guard_cell,
    read_quarantine,
    unguard_cell,
)
from contlearn.errors import UsageError
from tests.unit.data.taking import make_config, taker

ROWS = [
    {"text": "a fine text", "label": "billing"},
    {"text": "=1+1 never came", "label": "biling"},
    {"text": "no label at all"},
    {"text": 5, "label": "billing"},
]


@pytest.fixture
def closed(tmp_path):
    with taker(tmp_path / "ws", make_config(labels=("billing", "returns"))) as taking:
        taking.ingest(taking.write("rows.jsonl", ROWS))
        yield taking


@given(st.text())
def test_guarded_cell_comes_back_and_begins_no_formula(value):
    guarded = guard_cell(value)
    assert not guarded.startswith(("=", "+", "-", "@", "\t", "\r"))
    assert unguard_cell(guarded) == value


def test_rows_of_one_reason_are_given(closed):
    (row,) = read_quarantine(closed.workspace, reason="unknown-label")
    assert (row.line_number, row.fields()) == (2, ROWS[1])


def test_sheet_is_corrected_and_taken_back_in(closed, tmp_path):
    sheet = tmp_path / "sheet.csv"
    assert export_quarantine(closed.workspace, sheet) == 3
    with sheet.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["text"] == "'=1+1 never came"
    rows[0]["label"] = "billing"
    rows[1]["label"] = "returns"
    rows[2]["label"] = "no such class"
    with sheet.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    report = ingest_corrected(closed.intake(), sheet).to_json()
    assert (report["accepted"], report["rejected"]) == (2, 1)
    texts = {str(r.inputs["text"]): r.target for r in closed.records()}
    assert texts == {
        "a fine text": "billing",
        "=1+1 never came": "billing",
        "no label at all": "returns",
    }
    # The row that is still wrong stands there once, where it first came from.
    assert [(row["source"], row["line_number"]) for row in closed.quarantine()] == [
        ("rows.jsonl", 4)
    ]


def test_sheet_without_the_fields_is_a_usage_error(closed, tmp_path):
    sheet = tmp_path / "sheet.csv"
    sheet.write_text("text,label\na,b\n")
    with pytest.raises(UsageError, match="quarantine_file"):
        ingest_corrected(closed.intake(), sheet)


def taken_back(taking, sheet, config=None, **options):
    return ingest_corrected(taking.intake(config, **options), sheet).to_json()


def exported(taking, tmp_path):
    """Export the quarantine and give the sheet with its cells."""
    sheet = tmp_path / "sheet.csv"
    export_quarantine(taking.workspace, sheet)
    with sheet.open(newline="") as file:
        return sheet, list(csv.DictReader(file))


def save(sheet, rows, **options):
    with sheet.open("w", newline="", encoding=options.pop("encoding", "utf-8")) as file:
        writer = csv.DictWriter(file, list(rows[0]), **options)
        writer.writeheader()
        writer.writerows(rows)


def test_rows_that_nobody_changed_stay(closed, tmp_path):
    sheet, _ = exported(closed, tmp_path)
    report = taken_back(closed, sheet)
    assert (report["accepted"], report["rejected"]) == (0, 0)
    assert report["files"][0]["warnings"][0]["code"] == "unchanged"
    # A number is a number still: the sheet shows 5 as it would show "5".
    assert len(closed.quarantine()) == 3


@pytest.mark.parametrize(
    "options",
    [
        {"delimiter": ";"},
        {"delimiter": "\t", "encoding": "utf-16"},
        {"encoding": "utf-8-sig", "quoting": csv.QUOTE_ALL},
    ],
)
def test_sheet_may_be_saved_as_spreadsheets_do(closed, tmp_path, options):
    sheet, rows = exported(closed, tmp_path)
    rows[0]["label"] = "billing"
    rows[0]["line_number"] += ".0"
    save(sheet, rows, **options)
    assert taken_back(closed, sheet)["accepted"] == 1
    assert len(closed.quarantine()) == 2


def test_sheet_may_come_back_as_excel(closed, tmp_path):
    import openpyxl

    _, rows = exported(closed, tmp_path)
    rows[0]["label"] = "billing"
    book = openpyxl.Workbook()
    book.active.append(list(rows[0]))
    for row in rows:
        values = [int(v) if k == "line_number" else v for k, v in row.items()]
        book.active.append(values)
    book.save(tmp_path / "sheet.xlsx")
    assert taken_back(closed, tmp_path / "sheet.xlsx")["accepted"] == 1


def test_sheet_that_is_taken_back_twice_changes_nothing_more(closed, tmp_path):
    sheet, rows = exported(closed, tmp_path)
    rows[0]["label"] = "billing"
    rows[1]["label"] = "wrong again"
    save(sheet, rows)
    taken_back(closed, sheet)
    before = closed.quarantine()
    again = taken_back(closed, sheet)
    assert again["accepted"] == 0
    assert closed.quarantine() == before


@pytest.mark.parametrize("broken", ["line_number,text\n", "quarantine_file,line_number\nx,abc\n"])
def test_sheet_that_is_none_is_a_usage_error(closed, tmp_path, broken):
    sheet = tmp_path / "sheet.csv"
    sheet.write_text(broken)
    with pytest.raises(UsageError, match="sheet"):
        taken_back(closed, sheet)


def test_sheet_in_another_encoding_names_it(closed, tmp_path):
    sheet, rows = exported(closed, tmp_path)
    rows[0]["text"] = "nie bekommen für März"
    save(sheet, rows, encoding="cp1252")
    with pytest.raises(UsageError, match="not UTF-8"):
        taken_back(closed, sheet)
    assert len(closed.quarantine()) == 3


def test_fields_that_were_left_alone_keep_their_types(tmp_path):
    config = make_config(labels=("billing",), weight="weight", timestamp="at", group="customer")
    row = {"text": "late", "label": "biling", "weight": 0.5, "at": 1714564800, "customer": 7}
    with taker(tmp_path / "ws", config) as taking:
        taking.ingest(taking.write("rows.jsonl", [row]))
        sheet, rows = exported(taking, tmp_path)
        rows[0]["label"] = "billing"
        save(sheet, rows)
        assert taken_back(taking, sheet)["accepted"] == 1
        (record,) = taking.records()
    assert (record.weight, record.group) == (0.5, "7")
    assert record.timestamp.year == 2024


def test_row_that_was_no_json_is_corrected_as_a_whole(closed, tmp_path):
    path = closed.workspace.root / "cut.jsonl"
    path.write_text('{"text": "cut off", "label": "billing"\n')
    closed.ingest(path)
    sheet, rows = exported(closed, tmp_path)
    (row,) = [row for row in rows if row["source"] == "cut.jsonl"]
    row["row"] += "}"
    save(sheet, rows)
    assert taken_back(closed, sheet)["accepted"] == 1


def test_conflict_is_settled_by_taking_the_wrong_row_out_of_the_sheet(tmp_path):
    with taker(tmp_path / "ws") as taking:
        rows = [{"text": "same", "label": "a"}, {"text": "same", "label": "b"}]
        taking.ingest(taking.write("rows.jsonl", rows))
        sheet, cells = exported(taking, tmp_path)
        assert taken_back(taking, sheet)["conflicts"] == 2
        save(sheet, cells[1:])
        assert taken_back(taking, sheet)["accepted"] == 1
        assert [row.key for row in taking.rows()] == ["b"]


def test_correction_of_a_label_that_was_taken_in_wins_where_asked(tmp_path):
    with taker(tmp_path / "ws") as taking:
        taking.ingest(taking.write("one.jsonl", [{"text": "same", "label": "wrong"}]))
        taking.ingest(taking.write("two.jsonl", [{"text": "same", "label": "right"}]))
        sheet, _ = exported(taking, tmp_path)
        assert taken_back(taking, sheet)["conflicts"] == 1
        newest = make_config(on_conflict="newest")
        assert taken_back(taking, sheet, newest)["accepted"] == 1
        assert {row.key: row.state for row in taking.rows()} == {
            "wrong": "superseded",
            "right": "pending",
        }
        assert taking.quarantine() == []


def test_retry_takes_what_is_fine_under_the_configuration_of_now(closed):
    wider = make_config(labels=("billing", "returns", "biling"))
    report = retry_quarantine(closed.intake(wider)).to_json()
    assert (report["accepted"], report["rejected"]) == (1, 2)
    assert [row["reason"] for row in closed.quarantine()] == ["missing-field", "wrong-type"]


def test_discarded_rows_are_gone(closed):
    assert discard_quarantine(closed.workspace, reason="wrong-type") == 1
    assert discard_quarantine(closed.workspace, source="other.jsonl") == 0
    assert len(closed.quarantine()) == 2
