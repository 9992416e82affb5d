from __future__ import annotations

import errno
import gzip
import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contlearn.errors import StorageError, UsageError
from contlearn.plugins import hookimpl
from contlearn.tasks.text_classification import TextClassification
from contlearn.workspace import FileOperations
from tests.unit.data.formats.test_parsers import NOISE
from tests.unit.data.taking import make_config, taker

ROWS = [{"text": f"text number {i}", "label": "ab"[i % 2]} for i in range(200)]


def counts(report):
    return tuple(report[k] for k in ("accepted", "duplicates", "conflicts", "rejected", "rows"))


def test_rows_come_back_as_they_went_in(taking):
    path = taking.write("rows.jsonl", ROWS)
    report = taking.ingest(path)
    assert counts(report) == (200, 0, 0, 0, 200)
    assert [dict(r.inputs) | {"label": r.target} for r in taking.records()] == ROWS
    assert {r.source for r in taking.records()} == {"rows.jsonl"}
    assert 5 < report["held_out"] < 40
    assert path.exists()


def test_records_are_read_in_the_order_asked_for(taking):
    from contlearn.data.store import read_records

    taking.ingest(taking.write("one.jsonl", ROWS[:50]), taking.write("two.jsonl", ROWS[50:]))
    ids = [row.record_id for row in taking.rows()][::-7]
    found = read_records(taking.workspace, taking.catalog, ids)
    assert [record.record_id for record in found] == ids


def test_same_file_twice_changes_nothing(taking):
    path = taking.write("rows.jsonl", ROWS)
    taking.ingest(path)
    before = taking.rows()
    again = taking.ingest(path)
    assert counts(again) == (0, 200, 0, 0, 200)
    assert again["files"][0]["known"]
    assert taking.rows() == before
    assert len(taking.files()) == 1


def test_file_that_grew_adds_only_its_new_rows(taking):
    taking.ingest(taking.write("rows.jsonl", ROWS[:150]))
    sides = {row.record_id: row.split for row in taking.rows()}
    report = taking.ingest(taking.write("rows.jsonl", ROWS))
    assert counts(report) == (50, 150, 0, 0, 200)
    after = {row.record_id: row.split for row in taking.rows()}
    assert len(after) == 200
    assert after.items() >= sides.items()


def test_order_of_keys_white_space_and_unicode_form_make_no_new_record(taking):
    taking.ingest(taking.write("one.jsonl", [{"text": "café au lait", "label": "a"}]))
    report = taking.ingest(
        taking.write("two.jsonl", [{"label": "a", "text": "  cafe\u0301 au  lait\n"}])
    )
    assert counts(report) == (0, 1, 0, 0, 1)


def test_conflict_with_an_earlier_file_is_quarantined(taking):
    taking.ingest(taking.write("one.jsonl", [{"text": "same", "label": "a"}]))
    report = taking.ingest(
        taking.write("two.jsonl", [{"text": "same", "label": "b"}, {"text": "x", "label": "b"}])
    )
    assert counts(report) == (1, 0, 1, 0, 2)
    (row,) = taking.quarantine()
    assert row["reason"] == "conflict"
    assert "'a'" in row["message"]
    assert json.loads(row["row"]) == {"text": "same", "label": "b"}


def test_newest_label_wins_where_the_configuration_says_so(tmp_path):
    with taker(tmp_path / "ws", make_config(on_conflict="newest")) as taking:
        taking.ingest(taking.write("one.jsonl", [{"text": "same", "label": "a"}]))
        taking.ingest(taking.write("two.jsonl", [{"text": "same", "label": "b"}]))
        states = {row.key: (row.state, row.split) for row in taking.rows()}
    assert states["a"][0] == "superseded"
    assert states["b"] == ("pending", states["a"][1])


def test_all_labels_of_a_text_stand_on_one_side(tmp_path):
    with taker(tmp_path / "ws", make_config(on_conflict="all", held_out_ratio=0.5)) as taking:
        for label in ("a", "b"):
            taking.ingest(
                taking.write(f"{label}.jsonl", [{"text": r["text"], "label": label} for r in ROWS])
            )
        sides = {}
        for row in taking.rows():
            sides.setdefault(row.record_id[:24], set()).add(row.split)
    assert len(sides) == 200
    assert all(len(side) == 1 for side in sides.values())


def test_customer_never_stands_on_both_sides_across_files(tmp_path):
    config = make_config(group="customer", held_out_ratio=0.4)
    with taker(tmp_path / "ws", config) as taking:
        for part in range(4):
            rows = [r | {"customer": f"c{i % 20}"} for i, r in enumerate(ROWS)][part::4]
            taking.ingest(taking.write(f"{part}.jsonl", rows))
        sides = {}
        for record in taking.records():
            sides.setdefault(record.group, set()).add(record.split)
    assert len(sides) == 20
    assert all(len(side) == 1 for side in sides.values())
    assert {"train"} in sides.values()
    assert {"held_out"} in sides.values()


def test_held_out_file_is_held_out_whole_and_moves_nothing(taking):
    taking.ingest(taking.write("rows.jsonl", ROWS[:100]))
    trained = {row.record_id for row in taking.rows() if row.split == "train"}
    report = taking.ingest(taking.write("own.jsonl", ROWS[50:150]), held_out=True)
    assert report["accepted"] == 50
    assert report["held_out"] == 50
    assert report["conflicts"] + report["duplicates"] == 50
    assert {row.record_id for row in taking.rows() if row.split == "train"} == trained


def test_file_named_in_the_configuration_is_held_out(tmp_path):
    with taker(tmp_path / "ws", make_config(held_out_files=("eval-*.jsonl",))) as taking:
        taking.ingest(taking.write("eval-1.jsonl", ROWS[:20]), taking.write("b.jsonl", ROWS[20:40]))
        sides = {r.source: set() for r in taking.records()}
        for record in taking.records():
            sides[record.source].add(record.split)
    assert sides["eval-1.jsonl"] == {"held_out"}


def test_near_duplicates_stand_on_one_side_within_and_across_files(tmp_path):
    config = make_config(near_duplicates=True, held_out_ratio=0.5)
    long = [
        {"text": f"customer {i * 7919} asks where the blue parcel with the lamp is", "label": "a"}
        for i in range(0, 4000, 100)
    ]
    changed = [row | {"text": row["text"].upper() + "!"} for row in long]
    with taker(tmp_path / "ws", config) as taking:
        taking.ingest(taking.write("one.jsonl", long))
        taking.ingest(taking.write("two.jsonl", changed))
        side = {str(r.inputs["text"]): r.split for r in taking.records()}
    leaked = [
        row["text"]
        for row in long
        if side[row["text"]] == "held_out" and side[row["text"].upper() + "!"] == "train"
    ]
    assert leaked == []


def test_dry_run_says_the_same_and_writes_nothing(taking):
    path = taking.write("rows.jsonl", [*ROWS[:10], {"text": "no label"}])
    before = sorted(p for p in taking.workspace.root.rglob("*") if "catalog" not in p.name)
    dry = taking.ingest(path, dry_run=True)
    after = sorted(p for p in taking.workspace.root.rglob("*") if "catalog" not in p.name)
    assert after == before
    assert taking.rows() == []
    real = taking.ingest(path)
    assert counts(dry) == counts(real)
    assert dry["files"][0]["problems"] == real["files"][0]["problems"]
    (problem,) = dry["files"][0]["problems"]
    assert (problem["code"], problem["count"]) == ("missing-field", 1)
    assert problem["examples"][0]["line_number"] == 11


def test_refused_rows_stand_in_the_quarantine_with_all_their_fields(taking):
    path = taking.write("rows.jsonl", [*ROWS[:3], {"text": 5, "label": "a"}])
    report = taking.ingest(path)
    (row,) = taking.quarantine()
    assert list(row) == ["source", "line_number", "reason", "message", "hint", "row"]
    assert (row["source"], row["line_number"], row["reason"]) == ("rows.jsonl", 4, "wrong-type")
    assert json.loads(row["row"]) == {"text": 5, "label": "a"}
    assert Path(report["quarantine"]).read_text().count("\n") == 1


def test_file_is_read_again_once_the_configuration_takes_its_rows(tmp_path):
    closed, wider = make_config(labels=("a",)), make_config(labels=("a", "b"))
    with taker(tmp_path / "ws", closed) as taking:
        path = taking.write("rows.jsonl", ROWS)
        assert counts(taking.ingest(path)) == (100, 0, 0, 100, 200)
        assert counts(taking.ingest(path)) == (0, 100, 0, 100, 200)
        assert counts(taking.ingest(path, config=wider)) == (100, 100, 0, 0, 200)
        assert taking.quarantine() == []
        assert len(taking.rows()) == 200


def test_exit_code_tells_a_file_refused_whole(taking):
    from contlearn.data.intake.ingest import ingest_paths

    good = taking.write("good.jsonl", ROWS[:5])
    empty = taking.write("empty.jsonl", [])
    assert ingest_paths(taking.intake(), [good]).exit_code == 0
    assert ingest_paths(taking.intake(), [good, empty]).exit_code == 1


def test_file_that_is_not_there_is_a_usage_error(taking):
    with pytest.raises(UsageError, match="nowhere"):
        taking.ingest(taking.workspace.root / "nowhere.jsonl")


def test_format_can_be_named(taking):
    path = taking.workspace.root / "rows.data"
    path.write_text("text;label\na;x\n")
    assert taking.ingest(path)["files"][0]["reason"] == "unknown-format"
    assert taking.ingest(path, format="csv")["accepted"] == 1


def test_original_is_archived_by_its_content(taking):
    path = taking.workspace.root / "rows.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"text": "a", "label": "b"}\n'))
    taking.ingest(path)
    (row,) = taking.files()
    kept = taking.workspace.archive / row.content_hash[:2] / f"{row.content_hash}.jsonl.gz"
    assert kept.read_bytes() == path.read_bytes()


def test_tagged_words_are_taken_in(tmp_path):
    config = make_config(task="token-classification")
    with taker(tmp_path / "ws", config) as taking:
        path = taking.workspace.root / "rows.conll"
        path.write_text("Ann S-person\nsings O\n\nin O\nNew B-place\nYork E-place\n")
        assert taking.ingest(path)["accepted"] == 2
        assert [r.target for r in taking.records()] == [
            ("B-person", "O"),
            ("O", "B-place", "I-place"),
        ]
        assert [r.key for r in sorted(taking.rows(), key=lambda r: r.row)] == ["person", "place"]


class FullDisk(FileOperations):
    """Fails at one of its operations, as a full disk does."""

    def __init__(self, at: int) -> None:
        self.at, self.count = at, 0

    def _step(self) -> None:
        self.count += 1
        if self.count == self.at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def write(self, path, data):
        self._step()
        super().write(path, data)

    def fsync_file(self, path):
        self._step()
        super().fsync_file(path)

    def fsync_folder(self, folder):
        self._step()
        super().fsync_folder(folder)

    def rename(self, source, target):
        self._step()
        super().rename(source, target)


def test_full_disk_at_any_operation_loses_nothing(tmp_path):
    total = FullDisk(at=-1)
    config = make_config(near_duplicates=True)
    rows = [*ROWS[:20], {"text": "no label"}]
    with taker(tmp_path / "count", config) as taking:
        taking.ingest(taking.write("rows.jsonl", rows), files=total)
    assert total.count >= 8
    for at in range(1, total.count + 1):
        with taker(tmp_path / f"at-{at}", config) as taking:
            path = taking.write("rows.jsonl", rows)
            with pytest.raises(StorageError, match="disk is full"):
                taking.ingest(path, files=FullDisk(at))
            taking.ingest(path)
            assert len(taking.records()) == 20
            assert len(taking.quarantine()) == 1
            assert len(taking.files()) == 1


def test_parser_that_fails_refuses_its_file_and_no_other(taking):
    class Faulty:
        name, summary, suffixes = "faulty", "fails", (".bad",)

        def rows(self, path, limits, needed=()):
            yield from ()
            raise ZeroDivisionError("in the parser")

    class Plugin:
        from contlearn.plugins import hookimpl

        @hookimpl
        def contlearn_register_parsers(self):
            return [Faulty]

    taking.manager.register(Plugin(), name="faulty", distribution="a-test")
    bad = taking.workspace.root / "rows.bad"
    bad.write_text("anything")
    report = taking.ingest(bad, taking.write("good.jsonl", ROWS[:5]))
    assert [f["verdict"] for f in report["files"]] == ["reject", "ok"]
    assert "ZeroDivisionError" in report["files"][0]["message"]


def test_fields_named_as_slices_stay_with_the_record(tmp_path):
    with taker(tmp_path / "ws", make_config(slices=("domain", "tier"))) as taking:
        rows = [
            {"text": "one", "label": "a", "domain": "bank", "tier": 2},
            {"text": "two", "label": "b", "domain": None, "tier": ["x"]},
            {"text": "three", "label": "a"},
        ]
        taking.ingest(taking.write("a.jsonl", rows, tmp_path))
        found = {record.inputs["text"]: dict(record.slices) for record in taking.records()}
    assert found == {"one": {"domain": "bank", "tier": "2"}, "two": {}, "three": {}}


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=NOISE, suffix=st.sampled_from([".jsonl", ".json", ".csv", ".conll", ".jsonl.gz"]))
def test_any_bytes_as_a_file_are_counted_and_kept_once(taking, data, suffix):
    path = taking.workspace.root / f"noise{suffix}"
    path.write_bytes(data)
    before, refused_before = len(taking.rows()), len(taking.quarantine())
    (file,) = taking.ingest(path)["files"]
    counts = file["accepted"] + file["duplicates"] + file["conflicts"] + file["rejected"]
    assert file["rows"] == counts
    if not file["known"]:
        assert len(taking.rows()) == before + file["accepted"]
        refused = len(taking.quarantine()) - refused_before
        assert refused == file["rejected"] + file["conflicts"]
    assert file["verdict"] == "ok" or (file["reason"] and file["problems"]) or file["known"]
    assert path.read_bytes() == data
    again = taking.ingest(path)["files"][0]
    assert again["known"]
    assert again["accepted"] == 0


def test_what_a_killed_run_was_writing_is_cleared_away(taking):
    ids = Path(f"{taking.catalog.url.database}.ids")
    ids.mkdir(exist_ok=True)
    left = [
        ids / ".1-20.ids.0123abcd.tmp",
        taking.workspace.records / ".reserve.bin.0123abcd.tmp",
        taking.workspace.archive / "ab" / ".0123abcd.tmp",
        taking.workspace.quarantine / ".rows.jsonl.tmp",
    ]
    (taking.workspace.records / ".staging").mkdir()
    for path in left:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"half")
    taking.ingest(taking.write("rows.jsonl", ROWS))
    assert [path for path in left if path.exists()] == []


class Paraphrases(TextClassification):
    """A task whose text may have several right answers."""

    name = "paraphrases"
    relation = "reference"


class _Registers:
    @hookimpl
    def contlearn_register_tasks(self):
        return [Paraphrases]


def test_several_right_answers_of_a_text_are_no_conflict(tmp_path):
    config = make_config(task="paraphrases", on_conflict="quarantine")
    with taker(tmp_path / "ws", config) as taking:
        taking.manager.register(_Registers(), name="paraphrases", distribution="a test")
        rows = [{"text": "good day", "label": answer} for answer in ("hello", "hi", "hello")]
        report = taking.ingest(taking.write("one.jsonl", rows))
        assert [report[name] for name in ("accepted", "duplicates", "conflicts")] == [2, 1, 0]
        again = taking.ingest(taking.write("two.jsonl", [{"text": "good day", "label": "hey"}]))
        assert (again["accepted"], again["conflicts"]) == (1, 0)
        assert {row.state for row in taking.rows()} == {"pending"}
        assert len({row.split for row in taking.rows()}) == 1
