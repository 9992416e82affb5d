from __future__ import annotations

import csv

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contlearn.data.quarantined import (
    count_quarantine,
    export_quarantine,
    guard_cell,
    ingest_corrected,
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


def test_reasons_are_counted_with_their_files(closed):
    assert count_quarantine(closed.workspace) == [
        {"reason": "missing-field", "rows": 1, "files": {"rows.jsonl": 1}},
        {"reason": "unknown-label", "rows": 1, "files": {"rows.jsonl": 1}},
        {"reason": "wrong-type", "rows": 1, "files": {"rows.jsonl": 1}},
    ]


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
    report = ingest_corrected(
        closed.workspace, closed.config, closed.catalog, closed.manager, sheet, clock=closed.clock
    ).to_json()
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
        ingest_corrected(
            closed.workspace,
            closed.config,
            closed.catalog,
            closed.manager,
            sheet,
            clock=closed.clock,
        )
