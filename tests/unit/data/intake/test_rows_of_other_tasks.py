"""One answer to rows of other tasks, and one reading of labels, whatever format they come in."""

from __future__ import annotations

import csv
import io
import json

import openpyxl
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest

from contlearn.config import Config
from tests.unit.data.taking import make_config, taker


def as_lines(path, rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def as_array(path, rows):
    path.write_text(json.dumps(rows))


def as_cells(path, rows, delimiter=","):
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, rows[0].keys(), delimiter=delimiter)
    writer.writeheader()
    writer.writerows([{name: as_cell(value) for name, value in row.items()} for row in rows])
    path.write_bytes(out.getvalue().encode())


def as_cell(value):
    return json.dumps(value) if isinstance(value, list) else value


def as_sheet(path, rows):
    book = openpyxl.Workbook()
    book.active.append(list(rows[0]))
    for row in rows:
        book.active.append([as_cell(value) for value in row.values()])
    book.save(path)


def as_parquet(path, rows):
    pyarrow.parquet.write_table(pa.Table.from_pylist(rows), path)


def as_arrow(path, rows):
    pyarrow.feather.write_feather(pa.Table.from_pylist(rows), path)


FORMATS = {
    "jsonl": as_lines,
    "json": as_array,
    "csv": as_cells,
    "tsv": lambda path, rows: as_cells(path, rows, "\t"),
    "xlsx": as_sheet,
    "parquet": as_parquet,
    "arrow": as_arrow,
}
OTHERS = {
    "pair": ({"text": "he naps", "text_b": "he sleeps", "label": "same"}, "pair-classification"),
    "list": ({"text": "a", "label": ["late", "broken"]}, "multi-label-classification"),
    "bars": ({"text": "a", "label": "late|broken"}, "multi-label-classification"),
    "whole": ({"text": "a", "label": 3}, "regression"),
    "number": ({"text": "a", "label": 4.7}, "regression"),
}


def taken(tmp_path, suffix, rows, **data):
    folder = tmp_path / f"{suffix}-{len(list(tmp_path.iterdir()))}"
    with taker(folder / "ws", make_config(**data)) as taking:
        path = folder / f"rows.{suffix}"
        FORMATS[suffix](path, rows)
        file = taking.ingest(path)["files"][0]
        labels = [record.target for record in taking.records()]
        refused = [(row["reason"], row["message"], row["hint"]) for row in taking.quarantine()]
    return file, labels, refused


@pytest.mark.parametrize("kind", OTHERS)
def test_row_of_another_task_has_one_answer_in_every_format(tmp_path, kind):
    row, task = OTHERS[kind]
    answers = {}
    for suffix in FORMATS:
        file, labels, answers[suffix] = taken(tmp_path, suffix, [row])
        assert (file["verdict"], labels) == ("reject", []), suffix
    assert len({json.dumps(answer) for answer in answers.values()}) == 1, answers
    ((reason, message, hint),) = answers["jsonl"]
    assert reason == ("other-task" if kind == "pair" else "wrong-type")
    assert f"belong to the task {task}" in message
    assert "this workspace's task is text-classification" in message
    assert hint


@pytest.mark.parametrize(
    ("label", "name"), [(0, "0"), (1.0, "1"), ("late|broken", "late|broken"), ("4.7", "4.7")]
)
def test_label_that_is_named_is_taken_in_every_format(tmp_path, label, name):
    for suffix in FORMATS:
        rows = [{"text": "a text", "label": label}]
        file, labels, _ = taken(tmp_path, suffix, rows, labels=(name, "other"))
        assert (file["verdict"], labels) == ("ok", [name]), suffix


def test_number_with_an_alias_gets_its_name(tmp_path):
    for suffix in FORMATS:
        rows = [{"text": "a text", "label": 1}]
        file, labels, _ = taken(tmp_path, suffix, rows, label_aliases={"1": "positive"})
        assert (file["verdict"], labels) == ("ok", ["positive"]), suffix


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("text", "text_b"),
        ("text1", "text2"),
        ("sentence1", "sentence2"),
        ("premise", "hypothesis"),
        ("question1", "question2"),
    ],
)
def test_pair_is_told_by_its_names_and_by_the_configured_field(tmp_path, first, second):
    row = {first: "he naps", second: "he sleeps", "label": "same"}
    file, _, ((_, message, _),) = taken(tmp_path, "jsonl", [row])
    assert "pair-classification" in message
    assert file["accepted"] == 0
    _, labels, ((reason, _, _),) = taken(tmp_path, "jsonl", [row], text=first)
    assert (labels, reason) == ([], "other-task")
    # An empty second text is none.
    _, labels, _ = taken(tmp_path, "jsonl", [row | {second: ""}], text=first)
    assert labels == ["same"]


def test_several_known_labels_in_one_are_no_label(tmp_path):
    rows = [
        {"text": "a", "label": "food"},
        {"text": "b", "label": "drink"},
        {"text": "c", "label": "food, drink"},
        {"text": "d", "label": "food, and more"},
        {"text": "e", "label": '{"choices": ["food", "drink"]}'},
        {"text": "f", "label": {"choices": ["food", "drink"]}},
    ]
    _, labels, refused = taken(tmp_path, "jsonl", rows)
    assert labels == ["food", "drink", "food, and more"]
    assert [reason for reason, _, _ in refused] == ["wrong-type"] * 3
    assert all("multi-label-classification" in message for _, message, _ in refused)


def test_two_tags_on_one_word_are_refused(tmp_path):
    rows = [{"tokens": ["Bonn"], "tags": ["B-org|B-place"]}, {"tokens": ["a"], "tags": ["B-a|b"]}]
    _, labels, ((reason, message, _),) = taken(tmp_path, "jsonl", rows, task="token-classification")
    assert labels == [("B-a|b",)]
    assert (reason, "token-classification" in message) == ("bad-tag", True)


# -- blanks around labels --------------------------------------------------------------------------

EDGES = ["complaint ", " complaint", "complaint\u00a0", "\ufeffcomplaint", "\u3000complaint\u2009"]


@pytest.mark.parametrize("label", EDGES)
def test_blanks_around_a_label_are_left_out_with_a_warning_in_every_format(tmp_path, label):
    rows = [{"text": f"text {i}", "label": name} for i, name in enumerate((label, "complaint"))]
    for suffix in FORMATS:
        file, labels, refused = taken(tmp_path, suffix, rows)
        assert (labels, refused) == (["complaint", "complaint"], []), suffix
        (warning,) = [w for w in file["warnings"] if w["code"] == "blanks"]
        assert warning["count"] == 1
        assert "complaint" in warning["examples"][0]["message"]


def test_blanks_around_tags_are_left_out_with_a_warning(tmp_path):
    rows = [
        {"tokens": ["to", "Rome"], "tags": ["O ", "B-place\u00a0"]},
        {"tokens": ["to", "Bonn"], "tags": ["O", "B-place"]},
    ]
    file, labels, _ = taken(tmp_path, "jsonl", rows, task="token-classification")
    assert labels == [("O", "B-place")] * 2
    assert [w["code"] for w in file["warnings"]].count("blanks") == 1


def test_invisible_character_at_the_edge_founds_no_class(tmp_path):
    rows = [{"text": "a", "label": "complaint\u200b"}, {"text": "b", "label": "complaint"}]
    _, labels, ((reason, message, _),) = taken(tmp_path, "jsonl", rows)
    assert labels == ["complaint"]
    assert (reason, "U+200B" in message) == ("unknown-label", True)


def test_one_label_in_two_unicode_forms_is_one(tmp_path):
    names = ("cafe\u0301", "caf\u00e9")
    rows = [{"text": f"t {i}", "label": name} for i, name in enumerate(names)]
    for more in ({}, {"labels": ("cafe\u0301 ", "bar")}, {"label_aliases": {"cafe\u0301": "bar"}}):
        _, labels, refused = taken(tmp_path, "jsonl", rows, **more)
        assert refused == []
        assert labels == ["bar" if "label_aliases" in more else "caf\u00e9"] * 2


def test_labels_of_the_configuration_are_read_as_those_of_rows():
    data = {"labels": [" a", "cafe\u0301"], "label_aliases": {"b ": " a"}}
    config = Config.model_validate({"data": data})
    assert config.data.labels == ("a", "caf\u00e9")
    assert dict(config.data.label_aliases) == {"b": "a"}


def test_label_that_a_workspace_has_with_a_blank_keeps_its_name():
    from contlearn.data.intake.checking import RowChecker
    from contlearn.tasks.text_classification import TextClassification

    checker = RowChecker(TextClassification(), make_config(), ["complaint "])
    for label in ("complaint ", "complaint"):
        assert checker.check({"text": "a", "label": label}).target == "complaint "


# -- a blank behind each comma ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        'text, label\n"kettle leaks", "complaint"\n"tea, cold", "complaint"\n',
        'text,label\n"kettle leaks", "complaint"\n"tea, cold", "complaint"\n',
        '"text"; "label"\n"kettle leaks"; "complaint"\n"tea, cold"; "complaint"\n',
    ],
)
def test_blank_after_the_delimiter_is_no_part_of_a_cell(tmp_path, content):
    with taker(tmp_path / "ws") as taking:
        path = tmp_path / "rows.csv"
        path.write_text(content)
        file = taking.ingest(path)["files"][0]
        found = [(record.inputs["text"], record.target) for record in taking.records()]
    assert found == [("kettle leaks", "complaint"), ("tea, cold", "complaint")]
    assert "blanks" in [warning["code"] for warning in file["warnings"]]


def test_quote_behind_a_blank_late_in_a_file_is_refused_and_not_learnt(tmp_path):
    content = "text,label\n" + "".join(f"text {i},a\n" for i in range(300)) + 'last, "b"\n'
    with taker(tmp_path / "ws") as taking:
        path = tmp_path / "rows.csv"
        path.write_text(content)
        taking.ingest(path)
        assert {record.target for record in taking.records()} == {"a"}
        (row,) = taking.quarantine()
    assert (row["line_number"], row["reason"]) == (302, "bad-columns")


def test_blank_within_quotes_stays(tmp_path):
    with taker(tmp_path / "ws") as taking:
        path = tmp_path / "rows.csv"
        path.write_text('text,label\n" ""led"" by",a\n  far,a\n')
        taking.ingest(path)
        assert [r.inputs["text"] for r in taking.records()] == [' "led" by', "  far"]
