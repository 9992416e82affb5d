from __future__ import annotations

import gzip
import json

import pytest

from contlearn.cards import FORGOTTEN, record_card
from contlearn.data.forgetting import forget_records
from contlearn.data.selection import Selection, select_records
from contlearn.data.store import read_records
from contlearn.errors import UsageError
from contlearn.plugins.manager import PluginManager
from contlearn.workspace import FileOperations
from tests.unit.data.taking import make_config, taker

SECRET = "my card number is four four two one"
ROWS = [{"text": f"text number {i}", "label": "ab"[i % 2]} for i in range(30)]


def forget(taking, ids, **options):
    return forget_records(
        taking.workspace,
        taking.config,
        taking.catalog,
        taking.manager,
        ids,
        reason="asked",
        **options,
    )


def everything_kept(workspace):
    """All bytes below the workspace, compressed files unpacked and segments read."""
    import pyarrow.parquet as parquet

    for path in workspace.root.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            if path.suffix == ".gz":
                data = gzip.decompress(data)
            if path.suffix == ".parquet":
                data = json.dumps(parquet.read_table(path).to_pylist(), default=str).encode()
            yield path, data


def holding(taking):
    """Give the files that hold the text."""
    return [path for path, data in everything_kept(taking.workspace) if SECRET.encode() in data]


@pytest.fixture
def with_secret(taking, tmp_path):
    rows = [*ROWS[:10], {"text": SECRET, "label": "a"}, *ROWS[10:]]
    first = tmp_path / "first.jsonl.gz"
    first.write_bytes(gzip.compress("".join(json.dumps(r) + "\n" for r in rows).encode()))
    taking.ingest(first)
    # The same text in other places: a duplicate, a contradiction, a logged prediction.
    taking.ingest(
        taking.write("again.jsonl", [{"text": f" {SECRET}", "label": "a"}, ROWS[0]], tmp_path)
    )
    taking.ingest(taking.write("other.jsonl", [{"text": SECRET, "label": "b"}], tmp_path))
    log = [{"request_id": "1", "text": SECRET}, {"request_id": "2", "text": "fine"}]
    taking.write("1.jsonl", log, taking.workspace.predictions)
    (row,) = [r for r in taking.records() if r.inputs["text"] == SECRET]
    return taking, row.record_id


def test_forgotten_text_is_nowhere_any_more(with_secret):
    taking, record_id = with_secret
    assert sum(SECRET.encode() in data for _, data in everything_kept(taking.workspace)) == 6
    report = forget(taking, [record_id])
    assert report.to_json() | {"notes": []} == {
        "forgotten": 1,
        "segments": 1,
        "archived": 3,
        "quarantined_rows": 1,
        "predictions": 1,
        "reports": 0,
        "notes": [],
    }
    assert holding(taking) == []


def test_forgotten_text_leaves_the_reports_too(with_secret):
    """Also the one of a cycle under way, and of a record with the same text and another label."""
    taking, record_id = with_secret
    same_text = record_id[:24] + "00000000"
    cards = [
        record_card(record_id, f"<p>{SECRET}</p>"),
        record_card(same_text, f"<p>{SECRET}</p>"),
        record_card("ff" * 16, "<p>another text</p>"),
    ]
    paths = [taking.workspace.reports / "3.html", taking.workspace.cycles / "c" / "report.html"]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("<html>" + "".join(cards) + "</html>", encoding="utf-8")
    assert forget(taking, [record_id]).reports == 2
    for path in paths:
        page = path.read_text(encoding="utf-8")
        assert SECRET not in page
        assert page.count(FORGOTTEN) == 2
        assert "another text" in page


def _own(name, text):
    """A row of a task's own, whose inputs read as this text."""
    if name == "token-classification":
        words = text.split(" ")
        return {"tokens": words, "tags": ["O"] * len(words)}, {"tokens": tuple(words)}
    return {"text": text, "label": "a"}, {"text": text}


@pytest.mark.parametrize("name", sorted(PluginManager(discover=False).table("task")))
@pytest.mark.parametrize("text", ["fly to Rome", "to U.S.", "fly to the U.S. to-day", "so!"])
def test_logged_text_is_forgotten_in_every_task(tmp_path, name, text):
    """The server logs what `text_of` gives, of words or of the text that they stand in."""
    with taker(tmp_path / "ws", make_config(task=name)) as taking:
        row, inputs = _own(name, text)
        others = [_own(name, f"another {n}")[0] for n in range(3)]
        taking.ingest(taking.write("rows.jsonl", [row, *others], tmp_path))
        task = taking.manager.task(name, where="here")
        (record,) = [r for r in taking.records() if r.inputs == inputs]
        asked = {task.text_of(inputs), task.text_of(task.probe(text)), f" {text} "}
        log = [{"request_id": str(n), "text": t} for n, t in enumerate((*asked, "another 1"))]
        path = taking.write("1.jsonl", log, taking.workspace.predictions)
        assert forget(taking, [record.record_id]).predictions == len(asked)
        left = [json.loads(line).get("text") for line in path.read_text().splitlines()]
        assert left == [None] * len(asked) + ["another 1"]


def test_other_records_stay_as_they_were(with_secret):
    taking, record_id = with_secret
    before = [r for r in taking.records() if r.record_id != record_id]
    forget(taking, [record_id])
    assert taking.records() == before
    assert read_records(taking.workspace, taking.catalog, [record_id]) == []
    (row,) = [r for r in taking.rows() if r.record_id == record_id]
    assert (row.state, row.reason) == ("forgotten", "asked")


def test_forgotten_text_does_not_come_back(with_secret, tmp_path):
    taking, record_id = with_secret
    forget(taking, [record_id])
    report = taking.ingest(taking.write("new.jsonl", [{"text": SECRET, "label": "a"}], tmp_path))
    assert (report["accepted"], report["duplicates"]) == (0, 1)
    assert report["files"][0]["warnings"][0]["code"] == "forgotten"
    assert holding(taking) == []


def test_file_that_is_dropped_once_more_brings_nothing_back(with_secret, tmp_path):
    taking, record_id = with_secret
    forget(taking, [record_id])
    for name in ("first.jsonl.gz", "again.jsonl", "other.jsonl"):
        assert taking.ingest(tmp_path / name)["accepted"] == 0
    assert holding(taking) == []


def test_rows_and_files_that_could_not_be_read_lose_the_text_too(with_secret, tmp_path):
    taking, record_id = with_secret
    broken = tmp_path / "broken.jsonl"
    broken.write_text(json.dumps({"text": SECRET, "label": "a"})[:-1] + "\n" + json.dumps(ROWS[1]))
    taking.ingest(broken)
    cut = tmp_path / "cut.json"
    cut.write_text(json.dumps([{"text": SECRET, "label": "a"}])[:-1])
    taking.ingest(cut)
    forget(taking, [record_id])
    assert holding(taking) == []


def test_forgetting_twice_changes_nothing(with_secret):
    taking, record_id = with_secret
    forget(taking, [record_id])
    assert forget(taking, [record_id]).records == 0


class Interrupted(FileOperations):
    """Fails at one of its renames."""

    def __init__(self, at):
        self.at = at

    def rename(self, source, target):
        self.at -= 1
        if self.at < 0:
            raise KeyboardInterrupt
        super().rename(source, target)


@pytest.mark.parametrize("at", range(6))
def test_interrupted_forgetting_is_finished_by_the_next_ingest(with_secret, tmp_path, at):
    taking, record_id = with_secret
    with pytest.raises(KeyboardInterrupt):
        forget(taking, [record_id], files=Interrupted(at))
    taking.ingest(taking.write("next.jsonl", [{"text": "another", "label": "a"}], tmp_path))
    left = [path for path, data in everything_kept(taking.workspace) if SECRET.encode() in data]
    assert left == []
    assert len(taking.records()) == 31


def test_records_are_chosen_by_file_label_and_time(taking):
    taking.ingest(taking.write("one.jsonl", ROWS[:10]))
    taking.clock.sleep(3600)
    later = taking.clock.now()
    taking.ingest(taking.write("two.jsonl", ROWS[10:]))
    assert len(select_records(taking.catalog, Selection(files=["one.jsonl"]))) == 10
    assert len(select_records(taking.catalog, Selection(labels=["a"]))) == 15
    assert len(select_records(taking.catalog, Selection(since=later, labels=["b"]))) == 10
    assert len(select_records(taking.catalog, Selection(until=later))) == 10
    assert len(select_records(taking.catalog, Selection(states=["held"]))) == 0


def test_unknown_id_and_empty_selection_are_usage_errors(taking):
    with pytest.raises(UsageError, match="No record is named"):
        select_records(taking.catalog, Selection())
    with pytest.raises(UsageError, match="nor 1 more"):
        select_records(taking.catalog, Selection(record_ids=["a" * 32, "b" * 32]))


def test_records_of_a_customer_are_chosen(tmp_path):
    from tests.unit.data.taking import make_config, taker

    with taker(tmp_path / "ws", make_config(group="customer")) as taking:
        rows = [{"text": f"text {n}", "label": "a", "customer": f"c{n % 3}"} for n in range(9)]
        taking.ingest(taking.write("rows.jsonl", rows))
        chosen = select_records(taking.catalog, Selection(groups=["c1"]))
        forget(taking, chosen)
        assert {record.group for record in taking.records()} == {"c0", "c2"}
