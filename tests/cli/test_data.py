from __future__ import annotations

import csv
import json

import pytest

ROWS = [
    {"text": "a fine text", "label": "billing"},
    {"text": "another one", "label": "returns"},
    {"text": "no label at all"},
]


def ingest(in_workspace, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    assert in_workspace("ingest", path).code == 0
    return path


def test_check_shows_problems_and_writes_nothing(in_workspace, workspace, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    ran = in_workspace("data", "check", path)
    assert ran.code == 0
    assert "partial; 3 rows, 2 would be accepted, 0 are known, 0 in conflict, 1 refused" in ran.out
    assert "missing-field (1)\n    line 3: The field 'label' is missing." in ran.out
    assert list(workspace.records.iterdir()) == []


def test_check_of_a_file_refused_whole_ends_with_1(in_workspace, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("")
    ran = in_workspace("data", "check", path, "--json")
    assert ran.code == 1
    assert json.loads(ran.out)["files"][0]["reason"] == "empty-file"


def test_sheet_goes_out_and_comes_back(in_workspace, tmp_path):
    ingest(in_workspace, tmp_path)
    sheet = tmp_path / "sheet.csv"
    assert in_workspace("data", "quarantine", "--export", sheet).out.startswith("1 rows are in")
    with sheet.open(newline="") as file:
        header, row = csv.reader(file)
    with sheet.open("w", newline="") as file:
        csv.writer(file).writerows([[*header, "label"], [*row, "billing"]])
    ran = in_workspace("data", "quarantine", "--take-back", sheet)
    assert ran.out == "Accepted 1 rows; 0 were known, 0 are still refused.\n"
    assert in_workspace("data", "quarantine").out == "The quarantine is empty.\n"


def test_forget_takes_the_text_away_and_leaves_a_note(in_workspace, workspace, tmp_path):
    ingest(in_workspace, tmp_path)
    value = json.loads(in_workspace("data", "list", "--label", "billing", "--json").out)
    (record,) = value["records"]
    dry = in_workspace("data", "forget", record["record_id"], "--dry-run")
    assert dry.out == "1 records would be forgotten.\n"
    ran = in_workspace("data", "forget", record["record_id"], "--reason", "the customer asked")
    assert ran.out == "1 records forgotten.\n"
    assert in_workspace("data", "show", record["record_id"]).code == 2
    assert not [
        p for p in workspace.state.rglob("*") if p.is_file() and b"a fine" in p.read_bytes()
    ]
    assert "the customer asked" in (workspace.versions / "events.jsonl").read_text()


def test_forget_without_a_choice_is_wrong_usage(in_workspace):
    ran = in_workspace("data", "forget")
    assert ran.code == 2
    assert "No record is named." in ran.err


def test_records_of_a_file_are_held_and_released(in_workspace, tmp_path):
    ingest(in_workspace, tmp_path)
    assert in_workspace("data", "hold", "--file", "rows.jsonl").out == "2 records held.\n"
    dry = in_workspace("data", "release", "--label", "billing", "--dry-run")
    assert dry.out == "1 records would be released.\n"
    assert in_workspace("data", "release").out == "2 records released.\n"


@pytest.mark.parametrize(
    ("verb", "done", "first", "left"),
    [
        ("hold", "held", [("hold", "--label", "billing")], 1),
        ("hold", "held", [("forget", "--label", "billing")], 1),
        ("hold", "held", [], 2),
        ("release", "released", [], 0),
        ("release", "released", [("hold", "--label", "billing")], 1),
        ("forget", "forgotten", [], 2),
        ("forget", "forgotten", [("forget", "--label", "billing")], 1),
    ],
)
def test_a_dry_run_counts_what_would_change(in_workspace, tmp_path, verb, done, first, left):
    """Text and JSON say one number, the one of doing it."""
    ingest(in_workspace, tmp_path)
    for command in first:
        assert in_workspace("data", *command).code == 0
    asked = ("data", verb, "--file", "rows.jsonl")
    assert in_workspace(*asked, "--dry-run").out == f"{left} records would be {done}.\n"
    value = json.loads(in_workspace(*asked, "--dry-run", "--json").out)
    assert (value[done], value["dry_run"]) == (left, True)
    assert json.loads(in_workspace(*asked, "--json").out)[done] == left


def test_suspects_need_a_champion(in_workspace, tmp_path):
    ingest(in_workspace, tmp_path)
    ran = in_workspace("data", "suspects")
    assert ran.code == 1
    assert "No version was promoted yet." in ran.err


def test_list_shows_a_long_reason_on_one_line_and_json_all_of_it(in_workspace, tmp_path):
    ingest(in_workspace, tmp_path)
    reason = "checked by hand:\n" + "the labels of this file are in doubt\n" * 5
    assert in_workspace("data", "hold", "--file", "rows.jsonl", "--reason", reason).code == 0
    lines = in_workspace("data", "list").out.splitlines()
    assert len(lines) == 4  # counts, headers, two records
    assert all("checked by hand" in line and line.rstrip().endswith("…") for line in lines[2:])
    value = json.loads(in_workspace("data", "list", "--json").out)
    assert {record["reason"] for record in value["records"]} == {reason}


def test_names_and_labels_cannot_command_the_terminal(in_workspace, tmp_path):
    path = tmp_path / "a[b] \x1b[31m.jsonl"
    path.write_text('{"text": "a text", "label": "x[/y]"}\n{"text": "other", "label": "z"}\n{}\n')
    for command in (("data", "check", path), ("ingest", path), ("data", "list")):
        ran = in_workspace(*command)
        assert ran.code == 0
        assert "\x1b" not in ran.out + ran.err
    assert "x[/y]" in ran.out


@pytest.mark.parametrize("name", ["no-folder/sheet.csv", "file/sheet.csv", "WS/state/sheet.csv"])
@pytest.mark.parametrize(
    "command", [("data", "quarantine", "--export"), ("report", "--all", "--output")]
)
def test_a_path_that_cannot_be_written_to_is_wrong_usage(
    in_workspace, workspace, tmp_path, command, name
):
    (tmp_path / "file").write_text("x")
    path = tmp_path / name.replace("WS", str(workspace.root))
    ran = in_workspace(*command, path)
    assert ran.code == 2
    assert "written there" in ran.err
    assert f"where: {path}" in ran.err
    assert "to do: Name a path" in ran.err
