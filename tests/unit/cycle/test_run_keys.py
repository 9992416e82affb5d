"""One run key counts once: an orchestrator that asks again hears the same answer."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from contlearn.catalog.cycles import PROMOTED_BY_HAND, change_cycle, find_cycle
from contlearn.catalog.leases import CYCLE_LEASE, hold_lease
from contlearn.cli import main
from contlearn.cycle.changes import promote_version
from contlearn.cycle.update_cycle import UpdateCycle
from contlearn.errors import UsageError, WorkspaceLocked
from contlearn.processes.children import ChildStopped
from tests.scripted import ScriptedContext, drop, make_workspace, scan_here


@pytest.fixture
def workspace(tmp_path):
    made = make_workspace(tmp_path / "ws")
    drop(made, "calm")
    assert run(made)["outcome"] == "promoted"
    return made


def run(workspace, key=None, **options):
    with ScriptedContext.open(workspace.root) as context:
        cycle = UpdateCycle(context, child="tests.scripted_child", scan=scan_here)
        result = cycle.run_once(run_key=key, **options)
        return {**result.to_json(), "exit": result.exit_code}


def stop_in_training(workspace, **options):
    """Begin a cycle and stop it as Ctrl-C does."""
    begun = threading.Event()
    with ScriptedContext.open(workspace.root) as context, pytest.raises(ChildStopped):
        UpdateCycle(
            context,
            lambda stage, *_: begun.set() if stage == "training" else None,
            must_stop=begun.is_set,
            child="tests.scripted_child",
            scan=scan_here,
        ).run_once(**options)


def champion(workspace):
    with ScriptedContext.open(workspace.root) as context:
        return context.registry.champion()


def cycles(workspace):
    from contlearn.catalog.cycles import list_cycles

    with ScriptedContext.open(workspace.root) as context, context.catalog.read() as connection:
        return list_cycles(connection, 100)


def test_refusal_asked_for_three_times_is_refused_three_times(workspace):
    """Before, the second try was refused again, its records were held, and the third said 0."""
    drop(workspace, "bad")
    answers = [run(workspace, "run-1") for _ in range(3)]
    assert [(a["outcome"], a["exit"], a.get("repeated")) for a in answers] == [
        ("refused", 3, False),
        ("refused", 3, True),
        ("refused", 3, True),
    ]
    assert {a["cycle"] for a in answers} == {answers[0]["cycle"]}
    assert {a["version"] for a in answers} == {2}
    assert answers[0]["reasons"] == answers[2]["reasons"]
    assert len(cycles(workspace)) == 2
    # Another run is another try.
    assert run(workspace, "run-2")["outcome"] == "refused"
    assert len(cycles(workspace)) == 3


def test_what_was_kept_is_answered_again_with_0_and_looked_at_once(workspace):
    drop(workspace, "meh")
    answers = [run(workspace, "run-1") for _ in range(2)]
    assert [(a["outcome"], a["exit"], a["version"]) for a in answers] == [("kept", 0, 2)] * 2
    assert answers[0]["reasons"] == answers[1]["reasons"]
    assert [a["repeated"] for a in answers] == [False, True]
    assert len(cycles(workspace)) == 2
    with ScriptedContext.open(workspace.root) as context:
        promote_version(context, 2, reason="it is worth it to me")
    assert run(workspace, "run-1")["outcome"] == "kept"


def test_promotion_failure_and_nothing_to_do_are_answered_again(workspace):
    first = run(workspace, "idle")
    assert (first["outcome"], first["exit"], first["cycle"]) == ("nothing-to-do", 0, None)
    drop(workspace, "storm")
    again = run(workspace, "idle")
    assert (again["outcome"], again["repeated"]) == ("nothing-to-do", True)
    assert [run(workspace, "storm")["outcome"] for _ in range(2)] == ["promoted", "promoted"]
    drop(workspace, "crash")
    answers = [run(workspace, "crash") for _ in range(2)]
    assert [(a["outcome"], a["exit"], a.get("repeated")) for a in answers] == [
        ("failed", 1, False),
        ("failed", 1, True),
    ]
    assert "cannot be learnt" in answers[1]["error"]["error"]
    assert len(cycles(workspace)) == 3


def test_promotion_by_hand_does_not_change_how_the_run_ended(workspace):
    drop(workspace, "bad")
    assert run(workspace, "run-1")["exit"] == 3
    with ScriptedContext.open(workspace.root) as context:
        promote_version(context, 2, actor="ada", reason="wanted", force=True)
    answer = run(workspace, "run-1")
    assert (answer["outcome"], answer["exit"]) == ("refused", 3)
    # It is a fact of the cycle, not a way to begin a sentence.
    with ScriptedContext.open(workspace.root) as context, context.catalog.write() as connection:
        row = find_cycle(connection, "run-1")
        assert row.numbers[PROMOTED_BY_HAND] is True
        change_cycle(connection, row.cycle_id, error="said in another way")
    assert run(workspace, "run-1")["outcome"] == "refused"


def test_killed_run_is_taken_up_under_its_key(workspace, monkeypatch):
    drop(workspace, "storm")
    child = os.fork()
    if child == 0:
        try:
            with ScriptedContext.open(workspace.root) as context:
                UpdateCycle(
                    context,
                    lambda stage, *_: stage == "training" and os.kill(os.getpid(), signal.SIGKILL),
                    child="tests.scripted_child",
                    scan=scan_here,
                ).run_once(run_key="run-1")
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)
    answer = run(workspace, "run-1")
    assert (answer["outcome"], answer["resumed"], answer["repeated"]) == ("promoted", True, False)
    assert run(workspace, "run-1")["repeated"]
    assert len(cycles(workspace)) == 2


@pytest.fixture
def interrupted(workspace):
    """A cycle that was stopped while it learnt, planned to promote, under the key run-1."""
    drop(workspace, "storm")
    stop_in_training(workspace, run_key="run-1")
    return workspace


@pytest.mark.parametrize("options", [{}, {"dry_run": True}])
@pytest.mark.parametrize("key", [None, "run-1"])
def test_interrupted_cycle_that_was_planned_otherwise_stands_in_the_way(interrupted, key, options):
    with pytest.raises(UsageError) as caught:
        run(interrupted, key, strategy="naive", promote=False, **options)
    assert "was interrupted and comes first: it learns with 'replay', not with 'naive' and promotes its challenger" in caught.value.what  # fmt: skip
    assert caught.value.where == "--strategy, --no-promote"
    assert "`contlearn update` finishes it" in caught.value.hint
    assert champion(interrupted) == 1
    assert run(interrupted)["outcome"] == "promoted"


def test_run_of_another_key_promotes_nothing_if_nothing_is_to_be_promoted(interrupted):
    with pytest.raises(UsageError, match="comes first: it promotes its challenger"):
        run(interrupted, "run-2", promote=False)
    assert champion(interrupted) == 1


def test_run_of_another_key_learns_with_its_own_strategy(interrupted):
    drop(interrupted, "gale")
    assert run(interrupted, "run-2", strategy="naive")["version"] == 3
    assert [cycle.strategy for cycle in cycles(interrupted)] == ["naive", "replay", "replay"]


def test_interrupted_cycle_goes_on_when_what_is_asked_for_is_what_was_planned(workspace):
    drop(workspace, "storm")
    stop_in_training(workspace, strategy="naive", promote=False)
    answer = run(workspace, strategy="naive", promote=False)
    assert (answer["outcome"], answer["resumed"]) == ("not-promoted", True)


def test_run_of_another_key_is_finished_first_and_does_not_answer_for_this_one(interrupted):
    drop(interrupted, "bad")
    answer = run(interrupted, "run-2")
    assert (answer["outcome"], answer["exit"], answer["version"]) == ("refused", 3, 3)
    first = run(interrupted, "run-1")
    assert (first["outcome"], first["version"], first["repeated"]) == ("promoted", 2, True)


def test_run_that_goes_on_elsewhere_is_locked_and_one_that_ended_is_answered(workspace):
    drop(workspace, "storm")
    run(workspace, "done")
    with (
        ScriptedContext.open(workspace.root) as other,
        hold_lease(
            other.catalog, CYCLE_LEASE, purpose="updating", seconds=60.0, heartbeat_seconds=5.0
        ),
    ):
        with pytest.raises(WorkspaceLocked):
            run(workspace, "running")
        with pytest.raises(SystemExit) as ended:
            main(["--workspace", str(workspace.root), "update", "--run-key", "running"])
        assert ended.value.code == 4
        assert run(workspace, "done")["repeated"]


def test_dry_run_says_that_the_key_was_used(workspace):
    drop(workspace, "bad")
    run(workspace, "run-1")
    answer = run(workspace, "run-1", dry_run=True)
    assert "has had its cycle (refused)" in answer["message"]
    assert "repeated" in answer


@pytest.mark.parametrize("key", ["", "  ", "x" * 101])
def test_key_that_is_none_is_refused(workspace, key):
    with pytest.raises(UsageError, match="run key"):
        run(workspace, key)


def test_command_answers_again_in_json_and_does_not_go_with_a_request(workspace, capsys):
    import json

    drop(workspace, "bad")
    run(workspace, "run-1")
    command = ["--workspace", str(workspace.root), "-q", "update", "--run-key", "run-1"]
    with pytest.raises(SystemExit) as ended:
        main([*command, "--json"])
    told = capsys.readouterr()
    answer = json.loads(told.out)
    assert (ended.value.code, answer.get("run_key"), answer.get("repeated")) == (3, "run-1", True)
    assert told.err == "The challenger was refused: no better than guesses\n"
    with pytest.raises(SystemExit) as ended:
        main([*command, "--request"])
    assert ended.value.code == 2
