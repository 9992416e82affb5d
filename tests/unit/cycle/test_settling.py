"""What becomes of a cycle whose child has ended, called directly; every step may come again."""

from __future__ import annotations

import pytest

from contlearn.catalog.cycles import change_cycle, create_cycle, get_cycle
from contlearn.catalog.records import plan_records
from contlearn.cycle.job import CycleFolder
from contlearn.cycle.settling import Settlement
from contlearn.errors import TrainingError
from contlearn.registry.promotion import promote
from contlearn.registry.versions import Registry
from contlearn.workspace import write_json_atomic
from tests.scripted import ScriptedContext, drop, make_workspace, scan_here
from tests.unit.registry.staged import facts, register, stage

ROWS = 12


@pytest.fixture
def context(tmp_path, clock):
    workspace = make_workspace(tmp_path / "ws")
    drop(workspace, "calm", count=ROWS)
    with ScriptedContext.open(workspace.root, clock=clock) as opened:
        scan_here(opened)
        yield opened


def settlement(context, *, passed=True, promoted=True, keeps=False):
    """Give the settlement of a cycle whose child left its result."""
    with context.catalog.write() as connection:
        cycle_id = create_cycle(
            connection,
            trigger="manual",
            run_key=None,
            strategy="replay",
            champion=context.registry.champion(),
            experience=0,
            promote=promoted,
            now=context.clock.now(),
        )
        plan_records(connection, cycle_id)
        change_cycle(connection, cycle_id, state="deciding")
        cycle = get_cycle(connection, cycle_id)
    folder = CycleFolder(context.workspace.cycles / cycle_id)
    stage(context.workspace.root, cycle_id, promoted=passed, keeps=keeps)
    outcome = {
        "rule": "gain", "passed": passed, "measured": 1, "required": 0.5, "message": "So it is.",
    }  # fmt: skip
    if keeps:
        outcome["keeps"] = True
    decision = {"promoted": passed, "outcomes": [outcome]}
    result = {"facts": facts(), "decision": decision, "numbers": {"steps": 3}}
    write_json_atomic(folder.result, result)
    return Settlement(context, cycle), folder


def counted(context):
    from contlearn.catalog.records import count_records

    with context.catalog.read() as connection:
        found = count_records(connection)
    return {"pending": found.pending, "learnt": found.learnt, "held": found.held}


def test_challenger_that_passed_is_promoted_and_its_records_are_learnt(context):
    settle, folder = settlement(context)
    result = settle.decide(folder)
    assert (result.outcome, result.version, context.registry.champion()) == ("promoted", 1, 1)
    assert result.metrics == {"accuracy": 0.9}
    assert [reason["message"] for reason in result.reasons] == ["So it is."]
    assert counted(context) == {"pending": 0, "learnt": ROWS, "held": 0}


def test_refused_twice_the_records_are_held(context):
    settle, folder = settlement(context, passed=False)
    result = settle.decide(folder)
    assert (result.outcome, context.registry.champion()) == ("refused", None)
    assert "once more" in result.message
    assert counted(context) == {"pending": ROWS, "learnt": 0, "held": 0}
    settle, folder = settlement(context, passed=False)
    assert f"{ROWS} records were refused twice" in settle.decide(folder).message
    assert counted(context) == {"pending": 0, "learnt": 0, "held": ROWS}


@pytest.mark.parametrize("promoted", [True, False])
def test_what_is_not_worth_the_change_is_kept_and_nothing_is_counted(context, promoted):
    settle, folder = settlement(context, passed=False, keeps=True, promoted=promoted)
    result = settle.decide(folder)
    assert (result.outcome, result.version, result.exit_code) == ("kept", 1, 0)
    assert context.registry.champion() is None
    assert result.message == (
        f"So it is. The {ROWS} records stay and are learnt with what comes next; nothing is "
        "counted against them."
    )
    assert (result.to_json()["reasons"][0]["keeps"], result.refusals) == (True, ())
    assert counted(context) == {"pending": ROWS, "learnt": 0, "held": 0}
    with context.catalog.read() as connection:
        row = get_cycle(connection, settle.cycle.cycle_id)
    assert (row.state, row.outcome, row.why) == ("kept", "kept", "So it is.")
    assert row.numbers == {"looks": 1, "steps": 3}


def test_keeping_again_after_a_kill_counts_one_look(context):
    settle, folder = settlement(context, passed=False, keeps=True)
    context.registry.register(
        folder.version, cycle_id=settle.cycle.cycle_id, parent=None, facts=facts()
    )
    first, again = settle.decide(folder), settle.decide(folder)
    assert (first.outcome, first.version, first.message) == ("kept", 1, again.message)
    with context.catalog.read() as connection:
        assert get_cycle(connection, settle.cycle.cycle_id).numbers["looks"] == 1
    assert context.registry.numbers() == (1,)


def test_what_is_not_to_be_promoted_is_registered_and_the_records_wait(context):
    settle, folder = settlement(context, promoted=False)
    result = settle.decide(folder)
    assert (result.outcome, result.version, context.registry.champion()) == (
        "not-promoted",
        1,
        None,
    )
    assert counted(context)["pending"] == ROWS


def test_deciding_again_after_a_kill_gives_the_same_version(context):
    settle, folder = settlement(context)
    registered = context.registry.register(
        folder.version, cycle_id=settle.cycle.cycle_id, parent=None, facts=facts()
    )
    result = settle.decide(folder)
    assert (result.outcome, result.version) == ("promoted", registered.version)
    again = settle.decide(folder)
    assert (again.outcome, again.version, context.registry.numbers()) == ("promoted", 1, (1,))
    assert counted(context)["learnt"] == ROWS


def test_champion_that_was_changed_meanwhile_stays(context):
    settle, folder = settlement(context)
    other = register(context.registry, "by-hand")
    promote(context.registry, other.version, actor="ada", reason="by hand")
    result = settle.decide(folder)
    assert (result.outcome, context.registry.champion()) == ("not-promoted", other.version)
    assert "changed by hand" in result.message


@pytest.mark.parametrize(("by_hand", "outcome"), [("another", "not-promoted"), ("it", "promoted")])
def test_promotion_by_hand_at_the_same_moment_is_not_undone(context, by_hand, outcome):
    """Between the look at the champion and the promotion another process promotes."""
    settle, folder = settlement(context)
    other = register(context.registry, "by-hand")

    class Overtaken(Registry):
        overtaken = False

        def champion(self):
            seen = super().champion()
            if not self.overtaken:
                self.overtaken = True
                chosen = other.version if by_hand == "another" else max(self.numbers())
                promote(self, chosen, actor="ada", reason="by hand")
            return seen

    registry = context.registry
    context.registry = Overtaken(
        context.workspace, context.config, clock=context.clock, preflight=registry.preflight
    )
    result = settle.decide(folder)
    assert (result.outcome, result.error) == (outcome, None)
    changes = [record.actor for record in registry.changes_back()]
    assert changes == ["ada"]


def test_failure_leaves_records_and_champion_as_they_are(context):
    settle, _ = settlement(context)
    result = settle.fail(TrainingError("Nothing can be learnt."))
    assert (result.outcome, result.error.what) == ("failed", "Nothing can be learnt.")
    assert counted(context) == {"pending": ROWS, "learnt": 0, "held": 0}
    with context.catalog.read() as connection:
        row = get_cycle(connection, settle.cycle.cycle_id)
    assert (row.state, row.error) == ("failed", "Nothing can be learnt.")
    assert row.numbers["error_kind"] == "TrainingError"


def test_cleaning_keeps_what_was_found_and_drops_the_rest(context):
    settle, folder = settlement(context)
    settle.decide(folder)
    folder.work.mkdir()
    settle.clean(folder)
    assert not folder.work.exists()
    assert not folder.version.exists()
    assert folder.result.exists()
