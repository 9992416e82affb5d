"""Updates that were not worth the change: what becomes of their records, and who tries them again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import sqlalchemy as sa

from contlearn.catalog.cycles import last_cycle
from contlearn.catalog.schema import cycle_records, records
from contlearn.cycle.changes import promote_version, roll_back
from contlearn.cycle.update_cycle import UpdateCycle
from contlearn.operations.history import read_history
from contlearn.operations.ingest import ingest_files
from contlearn.operations.records import forget, hold, list_records, release
from contlearn.operations.show import describe_version
from contlearn.operations.status import read_status
from contlearn.testing import FakeClock
from tests.scripted import ScriptedContext, drop, make_workspace, scan_here

AUTOMATIC = (
    "count",
    "wait",
    "schedule",
    "drift",
    "new-label",
    "measured-accuracy",
    "estimated-accuracy",
    "retry",
    "part",
)


@pytest.fixture
def context(tmp_path, monkeypatch):
    """Version 1 is served; twelve records were kept, of which version 2 was made."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    workspace = make_workspace(tmp_path / "ws", "[data]\nheld_out_ratio = 0.3\n")
    with ScriptedContext.open(workspace.root, clock=FakeClock()) as opened:
        drop(workspace, "calm", 20)
        assert update(opened).outcome == "promoted"
        drop(workspace, "meh", 12)
        assert update(opened).outcome == "kept"
        yield opened


def update(context, trigger="manual"):
    context.clock.sleep(10)
    cycle = UpdateCycle(context, child="tests.scripted_child", scan=scan_here)
    return cycle.run_once(trigger=trigger)


def fresh(context, count=12):
    drop(context.workspace, "calm", count)


def rows(context, label="meh"):
    """Give (state, attempts) and number of the records of a label."""
    query = (
        sa.select(records.c.state, records.c.attempts, sa.func.count())
        .where(records.c.key == label)
        .group_by(records.c.state, records.c.attempts)
    )
    with context.catalog.read() as connection:
        return {(row[0], row[1]): row[2] for row in connection.execute(query)}


def ids(context, label="meh", split=None):
    query = sa.select(records.c.record_id).where(records.c.key == label)
    query = query if split is None else query.where(records.c.split == split)
    with context.catalog.read() as connection:
        return sorted(connection.execute(query).scalars())


def planned(context, cycle, role):
    query = sa.select(cycle_records.c.record_id).where(
        cycle_records.c.cycle_id == cycle, cycle_records.c.role == role
    )
    with context.catalog.read() as connection:
        return sorted(connection.execute(query).scalars())


def looks(context):
    with context.catalog.read() as connection:
        return (last_cycle(connection).numbers or {}).get("looks")


def test_records_stay_and_no_try_is_counted(context):
    assert rows(context) == {("kept", 0): 12}
    status = read_status(context)
    train = len(ids(context, split="train"))
    assert (status["pending_records"], status["kept_records"]) == (train, train)
    assert (status["never_tried_records"], status["oldest_pending"]) == (0, None)
    assert (status["champion"]["version"], status["versions"]) == (1, 2)
    assert status["outcomes"] == {"promoted": 1, "kept": 1}
    assert status["last_success"]["outcome"] == "kept"
    listed = list_records(context, state="kept")
    assert listed["counts"] == {"learnt": 20, "kept": 12}
    assert {r["reason"] for r in listed["records"]} == {"It changes next to nothing."}


def test_what_comes_next_is_learnt_together_with_them(context):
    fresh(context)
    result = update(context, "count")
    assert (result.outcome, rows(context)) == ("promoted", {("learnt", 0): 12})
    for role in ("train", "held_out"):
        assert set(ids(context, split=role)) <= set(planned(context, result.cycle, role))
    assert looks(context) == 2
    status = read_status(context)
    assert (status["pending_records"], status["kept_records"]) == (0, 0)
    lineage = context.registry.get(result.version).manifest.lineage.experiences
    assert (len(lineage), lineage[-1]) == (2, result.cycle)


def test_held_out_rows_are_measured_as_new_once_with_those_that_come(context):
    from contlearn.cycle.held_out import read_held_out

    held_out = ids(context, split="held_out")
    assert held_out
    fresh(context)
    result = update(context)
    lineage = context.registry.get(result.version).manifest.lineage.experiences
    sets = read_held_out(
        context.workspace, context.catalog, lineage, capacity=1000, new=result.cycle
    )
    measured = [(r.record_id, one.is_new) for one in sets for r in one.records]
    assert sorted(one for one in measured if one[0] in held_out) == [(i, True) for i in held_out]
    assert len(dict(measured)) == len(measured)


@pytest.mark.parametrize("trigger", AUTOMATIC)
def test_no_trigger_begins_an_update_for_them_alone(context, trigger):
    result = update(context, trigger)
    assert (result.outcome, result.cycle, result.exit_code) == ("nothing-to-do", None, 0)
    assert "records are kept for the next update" in result.message
    assert len(context.registry.numbers()) == 2
    fresh(context)
    if trigger != "part":  # which takes nothing but parts
        assert update(context, trigger).outcome == "promoted"


@pytest.mark.parametrize("trigger", ["manual", "request"])
def test_who_asks_has_them_tried_again_and_each_look_is_counted(context, trigger):
    assert looks(context) == 1
    for number in (2, 3):
        result = update(context, trigger)
        assert (result.outcome, result.version, looks(context)) == ("kept", number + 1, number)
    assert rows(context) == {("kept", 0): 12}
    newest = read_history(context)["cycles"][0]
    assert (newest["outcome"], newest["numbers"]["looks"]) == ("kept", 3)
    assert newest["why"] == "It changes next to nothing."
    shown = describe_version(context, 4)
    assert (shown["outcome"], shown["looks"], shown["decision"]["verdict"]) == ("kept", 3, "kept")
    assert describe_version(context, 1)["looks"] is None


def test_promoting_by_hand_needs_no_force_and_a_rollback_makes_them_pending(context):
    assert promote_version(context, 2, actor="ada", reason="to me it is").champion == 2
    assert rows(context) == {("learnt", 0): 12}
    with context.catalog.read() as connection:
        row = last_cycle(connection)
    assert (row.outcome, row.why) == ("promoted", "promoted by hand: to me it is")
    train = len(ids(context, split="train"))
    assert roll_back(context, actor="ada", reason="or not").records_released == train
    assert rows(context) == {("pending", 0): 12}
    assert read_status(context)["never_tried_records"] == train
    assert update(context, "count").outcome == "kept"
    assert looks(context) == 1  # they were learnt in between, and begin anew


def test_rollback_of_the_champion_leaves_them_kept(context):
    fresh(context)
    hold(context, ids(context), reason="wait")
    assert update(context).outcome == "promoted"
    release(context, None)
    assert update(context).outcome == "kept"
    roll_back(context, actor="ada", reason="worse")
    assert rows(context) == {("kept", 0): 12}
    assert update(context, "count").outcome == "promoted"  # with what the rollback set free
    assert rows(context) == {("learnt", 0): 12}


def test_kept_records_are_forgotten_held_and_released_as_pending_ones(context):
    train = ids(context, split="train")
    assert forget(context, train[:1], reason="asked").records == 1
    assert hold(context, train[1:3], reason="odd") == 2
    assert rows(context) == {("kept", 0): 9, ("held", 0): 2, ("forgotten", 0): 1}
    assert read_status(context)["kept_records"] == len(train) - 3
    assert release(context, None) == 2
    assert rows(context) == {("kept", 0): 9, ("pending", 0): 2, ("forgotten", 0): 1}
    result = update(context, "count")  # two are a reason again
    assert set(planned(context, result.cycle, "train")) == set(train[1:])
    assert (result.outcome, looks(context)) == ("kept", 2)


def test_correction_takes_the_place_of_a_kept_record(context, tmp_path):
    from contlearn.data.store import read_records

    (one,) = read_records(context.workspace, context.catalog, ids(context, split="train")[:1])
    path = tmp_path / "correction.jsonl"
    path.write_text(json.dumps({"text": one.inputs["text"], "label": "calm"}) + "\n")
    ingest_files(context, [path], on_conflict="newest")
    assert rows(context) == {("kept", 0): 11, ("superseded", 0): 1}
    result = update(context, "wait")
    assert result.outcome == "promoted"
    assert one.record_id not in planned(context, result.cycle, "train")
    assert rows(context) == {("learnt", 0): 11, ("superseded", 0): 1}


def test_a_refusal_of_what_came_with_kept_records_counts_no_try_of_theirs(context):
    drop(context.workspace, "bad", 4)
    assert update(context, "count").outcome == "refused"
    assert rows(context) == {("kept", 0): 12}
    ((key, tried),) = rows(context, "bad").items()
    assert key == ("refused", 1)
    assert update(context, "count").outcome == "refused"
    assert rows(context) == {("kept", 0): 12}
    assert rows(context, "bad") == {("held", 2): tried}
