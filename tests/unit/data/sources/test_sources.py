from __future__ import annotations

import json
import sqlite3
from datetime import date, datetime

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from pydantic import ValidationError

from contlearn.config import Config, SourceConfig
from contlearn.data.intake.ingest import ingest_sources
from contlearn.data.sources.remote_files import split_files
from contlearn.data.sources.sql_rows import fetch_query
from contlearn.errors import RecordError, UsageError
from tests.unit.data.taking import taker

QUERY = "SELECT id, body AS text, topic AS label FROM tickets"


def configured(*sources, **data):
    data = {"near_duplicates": False, "rest_seconds": 0, **data}
    return Config.model_validate({"data": data, "sources": list(sources)})


def fetch(taking, *names, again=False, **rules):
    return ingest_sources(taking.intake(**rules), list(names), again=again).to_json()


def texts(taking):
    return sorted(record.inputs["text"] for record in taking.records())


class Tickets:
    """A SQLite database of another program."""

    def __init__(self, folder):
        self.path = folder / "tickets.db"
        self._database = sqlite3.connect(self.path)
        self._database.execute(
            "CREATE TABLE tickets (id INTEGER PRIMARY KEY, body TEXT, topic INT)"
        )

    def insert(self, *bodies):
        rows = [(body, len(body) % 2) for body in bodies]
        self._database.executemany("INSERT INTO tickets (body, topic) VALUES (?, ?)", rows)
        self._database.commit()

    def source(self, query=QUERY, **options):
        url = f"sqlite:///{self.path}"
        return {"name": "tickets", "kind": "sql", "url": url, "query": query, **options}


@pytest.fixture
def tickets(tmp_path):
    return Tickets(tmp_path)


NUMBERED = {"label_names": ["even", "odd"]}
AFTER = {"query": QUERY + " WHERE id > :cursor ORDER BY id", "cursor": "id", "start": 0}


def test_query_is_taken_in_and_only_new_rows_the_next_time(tmp_path, tickets):
    tickets.insert("one", "three", "seven!")
    with taker(tmp_path / "ws", configured(tickets.source(**AFTER, **NUMBERED))) as taking:
        assert fetch(taking)["accepted"] == 3
        assert fetch(taking)["files"] == []
        tickets.insert("later")
        again = fetch(taking)
        assert (again["rows"], again["accepted"]) == (1, 1)
        assert {row.key for row in taking.rows()} == {"even", "odd"}
        assert texts(taking) == ["later", "one", "seven!", "three"]


def test_query_without_a_cursor_is_read_whole_and_known_rows_change_nothing(tmp_path, tickets):
    tickets.insert("one", "three")
    with taker(tmp_path / "ws", configured(tickets.source(**NUMBERED))) as taking:
        fetch(taking)
        tickets.insert("later")
        again = fetch(taking)
        assert (again["rows"], again["accepted"], again["duplicates"]) == (3, 1, 2)


def test_long_query_goes_on_where_it_was_cut(tmp_path, tickets):
    tickets.insert(*(f"body number {n}" for n in range(25)))
    source = tickets.source(**AFTER, **NUMBERED, max_rows=10)
    with taker(tmp_path / "ws", configured(source)) as taking:
        assert [fetch(taking)["accepted"] for _ in range(4)] == [10, 10, 5, 0]


def test_long_query_without_a_cursor_is_refused(tmp_path, tickets):
    tickets.insert(*"abc")
    with taker(tmp_path / "ws", configured(tickets.source(max_rows=2))) as taking:
        file = fetch(taking)["files"][0]
        assert file["reason"] == "source-failed"
        assert "more than 2 rows" in file["message"]
        assert taking.rows() == []


def test_another_query_begins_at_the_start(tmp_path, tickets):
    tickets.insert("one", "three")
    root = tmp_path / "ws"
    with taker(root, configured(tickets.source(**AFTER, **NUMBERED))) as taking:
        fetch(taking)
    changed = AFTER | {"query": AFTER["query"].replace("body", "body || '!'")}
    with taker(root, configured(tickets.source(**changed, **NUMBERED))) as taking:
        assert fetch(taking)["accepted"] == 2


def test_again_fetches_everything_once_more(tmp_path, tickets):
    tickets.insert("one", "three")
    with taker(tmp_path / "ws", configured(tickets.source(**AFTER, **NUMBERED))) as taking:
        fetch(taking)
        assert fetch(taking, again=True)["files"][0]["known"] is True


def test_dry_run_fetches_but_remembers_nothing(tmp_path, tickets):
    tickets.insert("one", "three")
    with taker(tmp_path / "ws", configured(tickets.source(**AFTER, **NUMBERED))) as taking:
        assert fetch(taking, dry_run=True)["accepted"] == 2
        assert taking.rows() == []
        assert fetch(taking)["accepted"] == 2


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("SELECT absent WHERE :cursor", "no such column"),
        (QUERY + " WHERE id > :cursor ORDER BY id DESC", "goes back from 3 to 2"),
        ("SELECT body AS text, topic AS label, :cursor AS c FROM tickets", "does not give"),
        ("SELECT NULL AS id, :cursor AS c", "is None after 0"),
        ("SELECT id, id, :cursor AS c FROM tickets", "two columns named 'id'"),
    ],
)
def test_query_that_cannot_be_is_explained(tmp_path, tickets, query, says):
    tickets.insert("a", "b", "c")
    source = tickets.source(query=query, cursor="id", start=0)
    with taker(tmp_path / "ws", configured(source)) as taking:
        file = fetch(taking)["files"][0]
        assert (file["verdict"], file["reason"]) == ("reject", "source-failed")
        assert says in file["message"]


def test_mistyped_path_leaves_no_database_behind(tmp_path):
    source = {"name": "s", "kind": "sql", "url": "sqlite:///wrong.db", "query": "SELECT 1"}
    with taker(tmp_path / "ws", configured(source)) as taking:
        assert fetch(taking)["files"][0]["reason"] == "source-failed"
        assert not (taking.workspace.root / "wrong.db").exists()


def test_password_comes_from_the_environment_and_is_not_shown(tmp_path, monkeypatch):
    url = "postgresql+psycopg://me:${TICKETS_PASSWORD}@127.0.0.1:1/x"
    source = {"name": "s", "kind": "sql", "url": url, "query": "SELECT 1"}
    with taker(tmp_path / "ws", configured(source)) as taking:
        assert "TICKETS_PASSWORD is not set" in fetch(taking)["files"][0]["message"]
        monkeypatch.setenv("TICKETS_PASSWORD", "topsecret")
        report = json.dumps(fetch(taking))
        assert "***" in report
        assert "topsecret" not in report


@pytest.mark.parametrize(
    "value", [3, 2.5, "abc", date(2025, 3, 1), datetime(2025, 3, 1, 10, 0)], ids=str
)
def test_cursor_keeps_its_type(tmp_path, value):
    database = sqlite3.connect(tmp_path / "t.db")
    database.execute("CREATE TABLE t (c)")
    database.execute(
        "INSERT INTO t VALUES (?)", (str(value) if isinstance(value, date) else value,)
    )
    database.commit()
    start = value if not isinstance(value, date) else str(value)
    source = SourceConfig(
        name="s",
        kind="sql",
        url=f"sqlite:///{tmp_path}/t.db",
        query="SELECT c FROM t WHERE c >= :cursor",
        cursor="c",
        start=start,
    )
    rows, cursor = fetch_query(source, None, tmp_path, tmp_path / "out")
    assert rows == 1
    assert fetch_query(source, cursor, tmp_path, tmp_path / "out") == (1, cursor)


# -- files ------------------------------------------------------------------------------------------


def test_files_are_fetched_once_and_changed_ones_again(tmp_path):
    source = {"name": "shared", "kind": "files", "url": "drops/**/*.jsonl"}
    with taker(tmp_path / "ws", configured(source)) as taking:
        drops = taking.workspace.root / "drops"
        (drops / "inner").mkdir(parents=True)
        taking.write("a.jsonl", [{"text": "first", "label": "x"}], drops)
        taking.write("a.jsonl", [{"text": "second", "label": "y"}], drops / "inner")
        (drops / "notes.txt").write_text("not for us")
        assert fetch(taking)["accepted"] == 2
        assert fetch(taking)["files"] == []
        rows = [{"text": "second", "label": "y"}, {"text": "third", "label": "x"}]
        taking.write("a.jsonl", rows, drops / "inner")
        again = fetch(taking)
        assert [file["path"] for file in again["files"]] == ["shared:a.jsonl"]
        assert again["accepted"] == 1


def test_what_is_fetched_is_no_wider_than_where_it_stood(tmp_path, tickets):
    tickets.insert("one", "three")
    tickets.path.chmod(0o600)
    sources = [
        tickets.source(**NUMBERED),
        {"name": "shared", "kind": "files", "url": "drops/*.jsonl"},
        {"name": "open", "kind": "files", "url": "open/*.jsonl"},
    ]
    with taker(tmp_path / "ws", configured(*sources)) as taking:
        for name, mode in (("drops", 0o600), ("open", 0o644)):
            folder = taking.workspace.root / name
            folder.mkdir()
            row = {"text": f"from {name}", "label": "x"}
            taking.write("a.jsonl", [row], folder).chmod(mode)
        assert fetch(taking)["accepted"] == 4
        for folder in (taking.workspace.records, taking.workspace.archive):
            files = [path for path in folder.rglob("*") if path.is_file()]
            assert sorted(path.stat().st_mode & 0o044 for path in files) == [0, 0, 0o044]


def test_folder_is_read_without_what_is_hidden_or_has_no_format(tmp_path):
    source = {"name": "shared", "kind": "files", "url": "drops"}
    with taker(tmp_path / "ws", configured(source)) as taking:
        drops = taking.workspace.root / "drops"
        drops.mkdir()
        for name in ("a.jsonl", ".hidden.jsonl", "_old.jsonl", "read.me"):
            taking.write(name, [{"text": f"in {name}", "label": "x"}], drops)
        assert fetch(taking)["accepted"] == 1


def test_files_of_any_file_system_are_read(tmp_path):
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.pipe("/bucket/part-1.csv", b"body;class\nhello there;0\nbye;1\n")
    source = {
        "name": "bucket",
        "kind": "files",
        "url": "memory://bucket/*.csv",
        "columns": {"body": "text", "class": "label"},
        "label_names": ["greeting", "parting"],
    }
    try:
        with taker(tmp_path / "ws", configured(source)) as taking:
            assert fetch(taking)["accepted"] == 2
            assert {row.key for row in taking.rows()} == {"greeting", "parting"}
    finally:
        memory.rm("/bucket", recursive=True)


def test_scan_takes_sources_when_they_are_due(tmp_path, tickets):
    tickets.insert("one", "three")
    source = tickets.source(**AFTER, **NUMBERED, every="1h")
    with taker(tmp_path / "ws", configured(source)) as taking:
        assert taking.scan()["accepted"] == 2
        tickets.insert("later")
        assert taking.scan()["files"] == []
        taking.clock.sleep(3700)
        assert taking.scan()["accepted"] == 1


def test_broken_source_stands_in_no_other_way(tmp_path, tickets):
    tickets.insert("one", "three")
    bad = {"name": "gone", "kind": "files", "url": "nowhere/*.jsonl"}
    with taker(tmp_path / "ws", configured(bad, tickets.source(**NUMBERED))) as taking:
        taking.write("a.jsonl", [{"text": "dropped", "label": "x"}], taking.workspace.inbox)
        report = taking.scan()
        assert report["accepted"] == 3
        assert [f["reason"] for f in report["files"]] == [None, "source-failed", None]


# -- hub data sets ----------------------------------------------------------------------------------


FEATURES = {
    "text": {"dtype": "string", "_type": "Value"},
    "label": {"names": ["negative", "positive"], "_type": "ClassLabel"},
}


def hub_folder(root):
    """A data set as the library `datasets` pushes it to a hub."""
    folder = root / "reviews"
    (folder / "data").mkdir(parents=True)
    (folder / ".git").mkdir()
    about = {b"huggingface": json.dumps({"info": {"features": FEATURES}}).encode()}
    for split, number in (("train", 12), ("validation", 3), ("test", 5)):
        columns = {
            "text": [f"{split} review {n}" for n in range(number)],
            "label": [n % 2 for n in range(number)],
        }
        table = pa.table(columns).replace_schema_metadata(about)
        parquet.write_table(table, folder / "data" / f"{split}-00000-of-00001.parquet")
    return folder


def test_splits_of_a_hub_data_set_keep_their_sides_and_their_labels(tmp_path):
    hub_folder(tmp_path / "ws")
    train = {"name": "train", "kind": "hub", "dataset": "reviews"}
    test = train | {"name": "test", "split": "test", "held_out": True}
    with taker(tmp_path / "ws", configured(train, test)) as taking:
        report = fetch(taking)
        assert [file["accepted"] for file in report["files"]] == [12, 5]
        rows = taking.rows()
        assert {row.key for row in rows} == {"negative", "positive"}
        assert {row.split for row in rows if row.file_id == 2} == {"held_out"}


def test_tags_by_number_are_read_by_name(tmp_path):
    tags = {"feature": {"names": ["O", "B-city"], "_type": "ClassLabel"}, "_type": "Sequence"}
    info = {"info": {"features": {"tokens": {}, "ner_tags": tags}}}
    table = pa.table({"tokens": [["to", "Rome"]], "ner_tags": [[0, 1]]})
    table = table.replace_schema_metadata({b"huggingface": json.dumps(info).encode()})
    root = tmp_path / "ws"
    (root / "ner").mkdir(parents=True)
    parquet.write_table(table, root / "ner" / "train.parquet")
    value = {
        "model": {"task": "token-classification"},
        "data": {"tags": "ner_tags"},
        "sources": [{"name": "ner", "kind": "hub", "dataset": "ner"}],
    }
    with taker(root, Config.model_validate(value)) as taking:
        assert fetch(taking)["accepted"] == 1
        assert taking.records()[0].target == ("O", "B-city")


def test_missing_split_is_explained(tmp_path):
    hub_folder(tmp_path / "ws")
    source = {"name": "s", "kind": "hub", "dataset": "reviews", "split": "extra"}
    with taker(tmp_path / "ws", configured(source)) as taking:
        message = fetch(taking)["files"][0]["message"]
        assert "no files of the split 'extra'" in message
        assert "data/train-00000-of-00001.parquet" in message


def hub(**options):
    return SourceConfig(name="s", kind="hub", dataset="d", **options)


CARD = {
    "configs": [
        {"config_name": "en", "data_files": [{"split": "train", "path": ["en/part-*.csv"]}]},
        {"config_name": "de", "data_files": {"train": "de/**"}, "default": True},
    ]
}


@pytest.mark.parametrize(
    ("source", "names", "card", "chosen"),
    [
        (hub(), ["train.csv", "test.csv"], {}, ["train.csv"]),
        (hub(split="validation"), ["dev.jsonl", "devil.jsonl"], {}, ["dev.jsonl"]),
        (hub(split="test"), ["a/test/1.csv", "a/train/1.csv"], {}, ["a/test/1.csv"]),
        (hub(), ["one.csv", "two.csv"], {}, ["one.csv", "two.csv"]),
        (hub(), ["test.csv", "one.csv"], {}, []),
        (hub(subset="de"), ["de/train.csv", "en/train.csv"], {}, ["de/train.csv"]),
        (hub(subset="en"), ["en/part-1.csv", "en/x.csv", "de/a/b.csv"], CARD, ["en/part-1.csv"]),
        (hub(), ["en/part-1.csv", "de/a/b.csv"], CARD, ["de/a/b.csv"]),
        (hub(split="test"), ["en/part-1.csv", "de/a/b.csv"], CARD, []),
    ],
)
def test_files_of_a_split_are_chosen(source, names, card, chosen):
    assert split_files(source, names, card) == chosen


def test_unknown_subset_names_those_there_are():
    with pytest.raises(RecordError, match="there are en, de"):
        split_files(hub(subset="fr"), ["en/part-1.csv"], CARD)


# -- configuration ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"kind": "sql", "url": "sqlite://"}, "needs query"),
        ({"kind": "files"}, "needs url"),
        ({"kind": "hub"}, "needs dataset"),
        ({"kind": "hub", "dataset": "d", "query": "q"}, "query does not belong"),
        ({"kind": "sql", "url": "u", "query": "q", "cursor": "id"}, "needs start"),
        ({"kind": "ftp"}, "files"),
        ({"kind": "files", "url": "u", "columns": {"a": "text", "b": "text"}}, "one name"),
        ({"kind": "files", "url": "u", "evry": "1h"}, "Extra inputs"),
    ],
)
def test_configuration_that_cannot_be_is_explained(value, says):
    with pytest.raises(ValidationError, match=says):
        SourceConfig.model_validate({"name": "s", **value})


def test_source_that_is_not_configured_is_named(tmp_path):
    with taker(tmp_path / "ws", configured()) as taking, pytest.raises(UsageError, match="'nope'"):
        fetch(taking, "nope")
