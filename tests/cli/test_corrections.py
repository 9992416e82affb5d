"""A corrected label stays corrected; a forgotten text comes back when a person says so, not before."""

from __future__ import annotations

import itertools
import json

import pytest
import sqlalchemy as sa

from contlearn.catalog import Catalog
from contlearn.catalog.schema import meta, records

TEXT = "the kettle leaks at the spout"
SPOON = "one spoon is missing in the box"


@pytest.fixture
def call(in_workspace):
    def json_of(*arguments, code=0):
        ran = in_workspace(*arguments, "--json")
        assert ran.code == code, ran.out + ran.err
        return json.loads(ran.out)

    return json_of


@pytest.fixture
def ingest(in_workspace, call, tmp_path):
    numbers = itertools.count()

    def take(rows, *options, human=False):
        path = tmp_path / f"{next(numbers)}.jsonl"
        # The same content would be known as a file: each is another one.
        lines = [{"text": text, "label": label, "file": path.stem} for text, label in rows]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        if human:
            return in_workspace("ingest", path, *options).out
        return call("ingest", path, *options)

    return take


@pytest.fixture
def states(workspace):
    """Give the labels of the records, with what became of each, in the order of arrival."""

    def read():
        with (
            Catalog(f"sqlite:///{workspace.state}/catalog.sqlite") as catalog,
            catalog.read() as connection,
        ):
            rows = connection.execute(
                sa.select(records.c.key, records.c.state).order_by(records.c.seq)
            )
            return [(row.key, row.state) for row in rows]

    return read


def test_release_brings_no_superseded_label_back(ingest, call, states):
    ingest([(TEXT, "praise")])
    corrected = ingest([(TEXT, "complaint")], "--on-conflict", "newest")
    call("data", "hold", "--label", "complaint")
    assert call("data", "release")["released"] == 1
    assert call("data", "release", "--label", "praise")["released"] == 0
    assert states() == [("praise", "superseded"), ("complaint", "pending")]
    assert (corrected["accepted"], corrected["superseded"]) == (1, 1)


def test_status_and_labels_count_a_corrected_text_once(ingest, call):
    ingest([(TEXT, "praise"), (SPOON, "complaint")])
    ingest([(TEXT, "complaint")], "--on-conflict", "newest")
    labels = {row["label"]: row for row in call("data", "labels")["labels"]}
    assert labels["praise"]["train"] + labels["praise"]["held_out"] == 0
    assert labels["complaint"]["train"] + labels["complaint"]["held_out"] == 2
    status = call("status")
    assert (status["held_records"], status["superseded_records"]) == (0, 1)
    assert call("data", "list", "--state", "superseded")["records"][0]["label"] == "praise"


def test_correction_can_be_taken_back(ingest, states):
    for label in ("praise", "complaint", "praise"):
        assert ingest([(TEXT, label)], "--on-conflict", "newest")["accepted"] == 1
    assert states() == [
        ("praise", "superseded"),
        ("complaint", "superseded"),
        ("praise", "pending"),
    ]


def test_older_label_that_comes_again_is_no_conflict_and_is_said(ingest, states):
    ingest([(TEXT, "praise")])
    ingest([(TEXT, "complaint")], "--on-conflict", "newest")
    again = ingest([(TEXT, "praise"), (SPOON, "praise")])
    assert (again["accepted"], again["duplicates"], again["conflicts"]) == (1, 1, 0)
    (warning,) = again["files"][0]["warnings"]
    assert warning["code"] == "superseded"
    assert "--on-conflict newest" in warning["examples"][0]["hint"]
    assert states()[:2] == [("praise", "superseded"), ("complaint", "pending")]


def test_text_with_a_held_correction_has_no_label_that_counts(ingest, call, states):
    ingest([(TEXT, "praise")])
    ingest([(TEXT, "complaint")], "--on-conflict", "newest")
    call("data", "hold", "--label", "complaint")
    assert states() == [("praise", "superseded"), ("complaint", "held")]
    status = call("status")
    assert (status["pending_records"], status["held_records"]) == (0, 1)


def test_forgetting_a_correction_forgets_what_it_superseded(ingest, call, states, workspace):
    import pyarrow.parquet as parquet

    ingest([(TEXT, "praise")])
    ingest([(TEXT, "complaint")], "--on-conflict", "newest")
    value = call("data", "forget", "--label", "complaint")
    assert states() == [("praise", "forgotten"), ("complaint", "forgotten")]
    kept = [parquet.read_table(path).to_pylist() for path in workspace.records.glob("*.parquet")]
    assert TEXT not in json.dumps(kept, default=str)
    assert value["forgotten"] == 1
    assert any("earlier labels of the same texts" in note for note in value["notes"])


def test_forgotten_rows_are_counted_apart_and_named(ingest, call):
    ingest([(TEXT, "praise"), (SPOON, "complaint")])
    call("data", "forget", "--label", "praise")
    again = ingest([(TEXT, "complaint"), (SPOON, "complaint")])
    assert (again["accepted"], again["duplicates"], again["forgotten"]) == (0, 2, 1)
    said = ingest([(TEXT, "complaint"), (SPOON, "complaint"), ("new", "praise")], human=True)
    assert "Accepted 1 records; 1 known already, 0 in conflict, 0 refused." in said
    assert "1 rows were forgotten by `data forget`; `contlearn ingest --bring-back-fo" in said


def test_forgotten_rows_come_back_when_a_person_says_so(ingest, call, states):
    rows = [(TEXT, "praise"), (SPOON, "praise")]
    ingest(rows)
    call("data", "forget", "--label", "praise")
    back = ingest([(TEXT, "complaint"), (SPOON, "praise")], "--bring-back-forgotten")
    assert (back["accepted"], back["forgotten"]) == (2, 0)
    assert sorted(states()) == [
        ("complaint", "pending"),
        ("praise", "forgotten"),
        ("praise", "forgotten"),
        ("praise", "pending"),
    ]
    (record,) = call("data", "list", "--label", "complaint")["records"]
    assert call("data", "show", record["record_id"])["inputs"] == {"text": TEXT}
    # A record that came again is forgotten like any other, and stays out as before.
    assert call("data", "forget", record["record_id"])["forgotten"] == 1
    assert ingest([(TEXT, "complaint"), (SPOON, "praise")])["forgotten"] == 1


def test_the_very_same_file_brings_its_forgotten_rows_back(in_workspace, call, tmp_path, states):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"text": TEXT, "label": "praise"}) + "\n")
    for _ in range(2):
        call("ingest", path, "--bring-back-forgotten")
        assert states()[-1] == ("praise", "pending")
        call("data", "forget", "--file", "rows.jsonl")
        known = call("ingest", path)
        assert (known["accepted"], known["forgotten"]) == (0, 1)
        assert "--bring-back-forgotten" in json.dumps(known["files"][0]["warnings"])


def test_what_is_brought_back_must_be_named(call):
    error = call("ingest", "--bring-back-forgotten", code=2)["error"]
    assert "comes back with the files that are named" in error


def test_row_that_is_refused_after_all_supersedes_nothing(call, workspace, tmp_path, states):
    """Its text stands on one side, its group on the other: it is a conflict, whatever wins."""
    with workspace.config_file.open("a") as config:
        config.write('[data]\ngroup = "customer"\nheld_out_ratio = 0.5\n')
    first = tmp_path / "first.jsonl"
    rows = [{"text": f"text {n}", "label": "praise", "customer": f"c{n}"} for n in range(20)]
    first.write_text("".join(json.dumps(row) + "\n" for row in rows))
    call("ingest", first)
    listed = call("data", "list", "--limit", 50)["records"]
    sides = {call("data", "show", r["record_id"])["inputs"]["text"]: r["split"] for r in listed}
    train = next(row for row in rows if sides[row["text"]] == "train")
    other = next(row for row in rows if sides[row["text"]] == "held_out")
    second = tmp_path / "second.jsonl"
    second.write_text(json.dumps({**train, "label": "complaint", "customer": other["customer"]}))
    assert call("ingest", second, "--on-conflict", "newest", code=1)["conflicts"] == 1
    assert ("praise", "pending") in states()
    assert {state for _, state in states()} == {"pending"}


def test_catalog_of_before_knows_its_superseded_records_when_it_is_opened(
    ingest, states, workspace
):
    ingest([(TEXT, "praise"), (SPOON, "praise")])
    ingest([(TEXT, "complaint")], "--on-conflict", "newest")
    url = f"sqlite:///{workspace.state}/catalog.sqlite"
    with Catalog(url) as catalog, catalog.write() as connection:
        connection.execute(records.update().where(records.c.key == "praise").values(state="held"))
        connection.execute(
            records.update()
            .where(records.c.key == "praise", records.c.reason.is_(None))
            .values(reason="by hand")
        )
        connection.execute(meta.update().where(meta.c.key == "schema_version").values(value="3"))
    found = sorted(states())
    assert found == [("complaint", "pending"), ("praise", "held"), ("praise", "superseded")]
