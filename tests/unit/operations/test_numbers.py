"""Numbers and words that people are told are those of catalog, journal and disk."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
import structlog
from prometheus_client.parser import text_string_to_metric_families

from contlearn.catalog.cycles import change_cycle, create_cycle
from contlearn.catalog.schema import records
from contlearn.cli import main
from contlearn.cycle.changes import promote_version, roll_back
from contlearn.cycle.scanning import scan_in_child
from contlearn.operations.diff import compare_versions
from contlearn.operations.history import read_history
from contlearn.operations.ingest import ingest_files
from contlearn.operations.metrics import Measuring
from contlearn.operations.overview import read_overview
from contlearn.operations.records import hold, release
from contlearn.operations.status import read_status
from contlearn.pages.overview import render_overview
from contlearn.testing import FakeClock
from tests.scripted import drop, make_workspace, open_watch

OBSERVER = """
import json
from contlearn.plugins.hookspecs import hookimpl

@hookimpl
def contlearn_on_event(event):
    with open({path!r}, "a") as file:
        file.write(json.dumps([event.kind, dict(event.fields)]) + "\\n")
"""


class Made:
    """A scripted workspace, its daemon, and what observers were told."""

    def __init__(self, root: Path, more: str) -> None:
        self.workspace = make_workspace(root / "ws", more)
        self.plugins, self.heard = root / "plugins", root / "heard.jsonl"
        self.plugins.mkdir()
        text = OBSERVER.format(path=str(self.heard))
        (self.plugins / "observer.py").write_text(text, encoding="utf-8")
        self.watch = open_watch(self.workspace, FakeClock(), plugins_dir=self.plugins)
        self.context = self.watch.context
        self.watch.begin()

    def step(self, label=None, count=20):
        if label is not None:
            drop(self.workspace, label, count)
        self.context.clock.sleep(100.0)
        return self.watch.step()

    def events(self, kind):
        if not self.heard.exists():
            return []
        lines = [json.loads(line) for line in self.heard.read_text().splitlines()]
        return [fields for name, fields in lines if name == kind]

    def count(self, *which):
        with self.context.catalog.read() as connection:
            return connection.execute(sa.select(sa.func.count()).where(*which)).scalar_one()


@pytest.fixture
def make(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    opened = []

    def call(more=""):
        opened.append(Made(tmp_path, more))
        return opened[-1]

    yield call
    for made in opened:
        made.context.close()


def run(made, capsys, *arguments):
    capsys.readouterr()  # what the daemon logged
    with pytest.raises(SystemExit) as ended:
        main(["--workspace", str(made.workspace.root), *arguments])
    out = capsys.readouterr().out
    assert ended.value.code == 0, out
    return out


def metrics(made, capsys):
    return {
        (sample.name, *sorted(v for k, v in sample.labels.items() if k != "model")): sample.value
        for family in text_string_to_metric_families(run(made, capsys, "metrics"))
        for sample in family.samples
    }


HALF = "[data]\nheld_out_ratio = 0.5\n"


def test_rollback_counts_as_pending_again_what_status_counts(make, capsys):
    made = make(HALF)
    assert made.step("calm", 40).outcome == "promoted"
    assert made.step("loud", 60).outcome == "promoted"
    change = roll_back(made.context, actor="ada", reason="look")
    pending = made.count(records.c.state == "pending", records.c.split == "train")
    assert 0 < pending < 60
    assert change.records_released == pending
    assert change.to_json()["records_released"] == pending
    assert json.loads(run(made, capsys, "status", "--json"))["pending_records"] == pending
    assert metrics(made, capsys)[("contlearn_ingest_pending_records",)] == pending
    (told,) = made.events("rolled-back")
    assert told["records_released"] == pending


def test_rollback_that_holds_counts_what_status_counts_as_held(make):
    made = make(HALF)
    made.step("calm", 40)
    made.step("loud", 60)
    change = roll_back(made.context, actor="ada", reason="look", hold=True)
    assert change.records_held == read_status(made.context)["held_records"] == 60
    assert change.records_released == 0


def running(made):
    """Let an update run, as far as the catalog knows."""
    with made.context.catalog.write() as connection:
        cycle = create_cycle(
            connection, trigger="count", run_key=None, strategy="replay", champion=1, experience=1,
            promote=True, now=made.context.clock.now(),
        )  # fmt: skip
        change_cycle(connection, cycle, state="training")
    return cycle


LAST = ("completion_timestamp_seconds", "success_timestamp_seconds", "duration_seconds")


def test_measures_of_the_last_update_stay_while_one_runs_and_after_one_failed(make, capsys):
    made = make("[daemon]\npoison_failures = 9\n")
    made.step("calm")
    before = metrics(made, capsys)
    kept = [(f"contlearn_run_last_{name}",) for name in LAST]
    kept += [("contlearn_gate_last_passed", "gain"), ("contlearn_gate_last_margin_ratio", "gain")]
    kept.append(("contlearn_eval_score_ratio", "accuracy", "challenger"))
    assert all(key in before for key in kept)
    cycle = running(made)
    during = metrics(made, capsys)
    assert {key: during.get(key) for key in kept} == {key: before[key] for key in kept}
    assert during[("contlearn_run_in_progress",)] == 1
    with made.context.catalog.write() as connection:
        ended = made.context.clock.now() + timedelta(seconds=40)
        change_cycle(
            connection, cycle, state="failed", outcome="failed", error="it broke",
            ended_at=ended.isoformat(), numbers={"error_kind": "TrainingError"},
        )  # fmt: skip
    after = metrics(made, capsys)
    success = kept[1]
    assert after[success] == before[success]
    assert after[kept[0]] == ended.timestamp()
    assert after[kept[2]] == 40
    assert {key: after.get(key) for key in kept[3:]} == {key: before[key] for key in kept[3:]}


def test_update_that_awaits_approval_has_ended_and_its_seconds_are_not_those_of_the_waiting(
    make, capsys
):
    made = make('[gate]\napproval = "manual"\n')
    result = made.step("calm")
    assert result.outcome == "awaiting-approval"
    ended = metrics(made, capsys)[("contlearn_run_last_completion_timestamp_seconds",)]
    made.context.clock.sleep(86400.0)
    promote_version(made.context, result.version, actor="ada", reason="looked at")
    after = metrics(made, capsys)
    assert after[("contlearn_run_last_completion_timestamp_seconds",)] == ended
    assert after[("contlearn_run_last_duration_seconds",)] < 3600


def test_reasons_do_not_stand_in_a_field_named_error(make, capsys):
    made = make()
    made.step("calm")
    refused = made.step("bad")
    promote_version(made.context, refused.version, actor="ada", reason="I know why", force=True)
    failed = made.step("crash")
    assert failed.outcome == "failed"
    cycles = json.loads(run(made, capsys, "history", "--json"))["cycles"]
    assert [c["outcome"] for c in cycles] == ["failed", "promoted", "promoted"]
    assert cycles[0]["error"].startswith("a record cannot be learnt")
    assert [c["error"] for c in cycles[1:]] == [None, None]
    assert cycles[1]["why"] == "promoted by hand: I know why"
    assert cycles[2]["why"] is None
    # What the runbook of failing updates promises.
    assert "a record cannot be learnt" in run(made, capsys, "history")


def test_superseded_challenger_has_ended(make):
    made = make('[gate]\napproval = "manual"\n')
    made.step("calm")
    made.step("loud")
    newest, first = read_history(made.context)["cycles"]
    assert (first["outcome"], newest["outcome"]) == ("not-promoted", "awaiting-approval")
    assert first["ended_at"] is not None
    assert first["error"] is None
    assert "Superseded" in first["why"]


def test_pages_show_what_was_promoted_by_hand_and_taken_back(make):
    made = make()
    made.step("calm")
    made.step("loud")
    refused = made.step("bad").version
    promote_version(made.context, refused, actor="ada", reason="labels <were> wrong", force=True)
    roll_back(made.context, actor="bob", reason="it was worse")
    page = render_overview(read_overview(made.context))
    assert f"version {refused} promoted by hand, past the gate" in page
    assert "ada: labels &lt;were&gt; wrong" in page
    # What the gate said when it was made stays to be seen.
    assert f"version {refused} refused" in page
    assert "back to version 2" in page
    assert "bob: it was worse" in page
    # Cycles that promoted their own challenger are told once, by their version.
    assert page.count("promoted by hand") == 1
    assert "version 1 promoted<" in page
    # Whatever the reason is called.
    promote_version(made.context, 1, actor="ada", reason="cycle 20300101-000000-00001")
    page = render_overview(read_overview(made.context))
    assert page.count("promoted by hand") == 2


def test_page_of_a_version_says_what_became_of_it(make):
    made = make()
    made.step("calm")
    made.step("loud")
    made.workspace.reports.mkdir(exist_ok=True)
    from tests.unit.evaluation.test_papers import DECISION, FACTS, REPORT, report_page

    page = report_page(name="x", facts=FACTS, report=REPORT, decision=DECISION, version="2")
    path = made.workspace.reports / "2.html"
    path.write_text(page, encoding="utf-8")
    roll_back(made.context, actor="bob", reason="it was <worse>")
    text = path.read_text(encoding="utf-8")
    assert "by hand by bob: it was &lt;worse&gt;" in text
    assert "Gave way: back to version 1" in text
    promote_version(made.context, 2, actor="ada", reason="after all")
    text = path.read_text(encoding="utf-8")
    assert text.count("by hand by bob") == 1
    assert "by hand by ada: after all" in text
    # A person may be called so.
    roll_back(made.context, actor="daemon", reason="no")
    assert "by hand by daemon: no" in path.read_text(encoding="utf-8")


def test_page_in_a_version_names_its_number(make, monkeypatch):
    made = make()
    monkeypatch.setenv("SCRIPTED_PAGE", "1")
    made.step("calm")
    made.step("loud")
    for number in (1, 2):
        page = (made.workspace.versions / str(number) / "report.html").read_text()
        assert f"<h1>test, version {number}</h1>" in page
        assert f"<title>test, version {number}</title>" in page
        assert made.context.registry.verify(number) == []


def test_sizes_are_those_of_all_files(make):
    made = make()
    made.step("calm")
    made.step("loud")
    folder = made.workspace.versions
    blocks = [path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file()]
    copies = made.workspace.serving(made.context.config)
    served = [path.lstat().st_blocks * 512 for path in copies.rglob("*")
              if path.is_file() and not any(p.is_symlink() for p in (path, *path.parents))]  # fmt: skip
    # Large enough to be seen in megabytes.
    (folder / "2" / "checkpoint").chmod(0o755)
    (folder / "2" / "checkpoint" / "weights.bin").write_bytes(b"x" * 7_000_000)
    value = read_overview(made.context)
    value["cycles"][0]["numbers"]["seconds"] = {"training": 40.0}
    page = render_overview(value)
    assert f"take {(sum(blocks) + 7_000_000) / 1e6:.0f} MB" in page.replace("\n", " ")
    assert value["serving_bytes"] == sum(served)
    assert "1 updates that came to an end took 40 s" in page


def test_axes_are_written_for_people(make):
    made = make()
    made.step("calm")
    value = read_overview(made.context)
    value["days"] = [{"day": f"2030-01-{n:02d}", "learnt": 4800 * n} for n in range(1, 11)]
    page = render_overview(value)
    assert "e+" not in page
    assert ">40,000</text>" in page
    assert "48,000 records" in page  # what a column says when it is pointed at


def test_daemon_logs_each_file_it_refused_whole(make):
    made = make()
    with structlog.testing.capture_logs() as logs:
        (made.workspace.inbox / "notes.pdf").write_bytes(b"%PDF-1.4 \x00\x01")
        made.step("calm")
    (line,) = [entry for entry in logs if entry["event"] == "file refused"]
    assert line["path"] == "notes.pdf"
    assert line["reason"]
    assert line["message"]
    assert line["log_level"] == "warning"
    assert line["model"] == "test"


def test_file_that_stays_unreadable_is_logged_once(make):
    made = make()
    (made.workspace.inbox / "link.csv").symlink_to("/etc/hostname")
    with structlog.testing.capture_logs() as logs:
        for _ in range(4):
            made.step()
    assert [e["path"] for e in logs if e["event"] == "file refused"] == ["link.csv"]


@pytest.mark.parametrize("way", ["named", "inbox", "child"])
def test_ingested_is_told_whoever_took_the_files_in(make, way):
    made = make()
    name = drop(made.workspace, "calm", 12)
    bad = made.workspace.inbox / "bad.csv"
    bad.write_text("nothing,that\nwe,know\n", encoding="utf-8")
    if way == "child":
        scan_in_child(made.context)
    elif way == "inbox":
        ingest_files(made.context)
    else:
        ingest_files(made.context, [made.workspace.inbox / name, bad])
    (told,) = made.events("ingested")
    assert told["accepted"] == 12
    assert (told["files"], told["files_refused"]) == (2, 1)


def test_a_dry_run_tells_nobody(make):
    made = make()
    drop(made.workspace, "calm", 12)
    ingest_files(made.context, dry_run=True)
    assert made.events("ingested") == []


def test_hold_release_and_forget_are_told(make):
    from contlearn.operations.records import forget

    made = make()
    drop(made.workspace, "calm", 5)
    ingest_files(made.context)
    with made.context.catalog.read() as connection:
        ids = list(connection.execute(sa.select(records.c.record_id)).scalars())
    hold(made.context, ids[:3], reason="why")
    release(made.context, ids[:2], reason="because")
    forget(made.context, ids[:1], reason="asked to")
    assert [e["records"] for e in made.events("records-held")] == [3]
    assert [e["records"] for e in made.events("records-released")] == [2]
    assert [e["records"] for e in made.events("records-forgotten")] == [1]


def test_records_held_by_the_gate_are_told(make):
    made = make("[update]\nmin_new_records = 5\n")
    made.step("calm")
    made.step("bad", 8)
    made.step("loud", 8)
    told = made.events("records-held")
    assert read_status(made.context)["held_records"] == sum(e["records"] for e in told) > 0


def test_update_says_which_files_of_the_inbox_it_refused(make):
    made = make()
    (made.workspace.inbox / "notes.pdf").write_bytes(b"%PDF-1.4 \x00\x01")
    from contlearn.cycle.update_cycle import UpdateCycle
    from tests.scripted import scan_here

    value = UpdateCycle(made.context, scan=scan_here).run_once().to_json()
    (file,) = value["refused_files"]
    assert file["path"] == "notes.pdf"
    assert file["message"]


def test_difference_says_in_numbers_what_one_version_has_learnt_more(make):
    made = make()
    made.step("calm", 20)
    made.step("loud", 30)
    made.step("bad", 12)
    forward = compare_versions(made.context, 1, 2)
    assert forward["relation"] == (
        "version 2 comes after version 1: 1 experience (20 records) of both, "
        "and 1 experience (30 records) more"
    )
    assert compare_versions(made.context, 2, 1)["relation"] == forward["relation"]
    with made.context.catalog.write() as connection:
        loud = sa.and_(records.c.key == "loud", records.c.seq > 0)
        connection.execute(records.update().where(loud).values(state="forgotten"))
    assert compare_versions(made.context, 1, 2)["relation"].endswith(
        "and 1 experience (0 records) more"
    )


def test_status_says_what_is_due_what_it_waits_for_and_when_the_daemon_was_alive(make, capsys):
    made = make("[update]\ncooldown = 1000000\n")
    made.step("calm")
    made.step("loud")
    made.watch.write_state(running=True)
    from contlearn.catalog.leases import hold_lease

    with hold_lease(made.context.catalog, "daemon", purpose="watching", seconds=60.0):
        text = run(made, capsys, "status")
    assert "count: cool-down" in text
    assert "seen" in text
    assert "not running; last seen" in run(made, capsys, "status")


@pytest.mark.parametrize(("unit", "shown"), [("", {"00": 0.3, "01": -0.2}), ("points", {})])
def test_forgetting_of_a_measure_of_which_less_is_better_is_what_rose(make, unit, shown):
    made = make()
    version = made.step("calm").version
    folder = made.context.registry.get(version).path
    report = {
        "primary_metric": "wrong",
        "measures": {"wrong": {"unit": unit, "higher_is_better": False}},
        "accuracy_matrix": [[0.5], [0.6, 0.4], [0.8, 0.2, 0.1]],
    }
    folder.chmod(0o755)
    (folder / "report.json").write_text(json.dumps(report))
    snapshot = Measuring(made.context).snapshot()
    found = {f"{index:02d}": value for index, value in enumerate(snapshot.forgettings)}
    assert found == pytest.approx(shown)
    assert len(snapshot.accuracies) == (3 if shown else 0)
