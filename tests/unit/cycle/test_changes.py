"""A process killed between pointer and catalog: whoever comes next mends it, whichever way."""

from __future__ import annotations

import os
import signal
from functools import cached_property
from pathlib import Path

import pytest
import sqlalchemy as sa

import contlearn
from contlearn.catalog.schema import cycle_records, cycles, records
from contlearn.cli import main
from contlearn.cycle.update_cycle import UpdateCycle
from contlearn.errors import UsageError
from contlearn.papers.pointer import POINTER
from contlearn.registry.versions import Registry
from contlearn.workspace import FileOperations
from tests.scripted import (
    ScriptedContext,
    drop,
    make_workspace,
    open_watch,
    scan_here,
    states,
    well,
)

ROWS = 12


class KilledAtPointer(FileOperations):
    """Ends the process for good right before or right after the pointer is renamed."""

    def __init__(self, when: str) -> None:
        self.when = when

    def rename(self, source: Path, target: Path) -> None:
        ours = target.name == POINTER
        if ours and self.when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        super().rename(source, target)
        if ours and self.when == "after":
            os.kill(os.getpid(), signal.SIGKILL)


class DoomedContext(ScriptedContext):
    """A context in which the next change of the champion is cut short."""

    when = "after"

    @cached_property
    def registry(self) -> Registry:
        files = KilledAtPointer(self.when)
        return Registry(self.workspace, self.config, files=files, clock=self.clock, preflight=well)


def killed(root: Path, act, when: str = "after") -> None:
    """Let another process do something, and be killed at the pointer."""
    child = os.fork()
    if child == 0:
        try:
            context = DoomedContext.open(root)
            context.when = when
            act(context)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)


def update(context):
    cycle = UpdateCycle(context, child="tests.scripted_child", scan=scan_here)
    return cycle.run_once()


@pytest.fixture
def broken(tmp_path):
    """Version 1 was promoted; the promotion of version 2 was killed after its pointer."""
    workspace = make_workspace(tmp_path / "ws")
    drop(workspace, "calm", count=ROWS)
    with ScriptedContext.open(workspace.root) as context:
        assert update(context).outcome == "promoted"
    drop(workspace, "storm", count=ROWS)
    killed(workspace.root, update)
    return workspace


def look(workspace):
    with ScriptedContext.open(workspace.root) as context, context.catalog.read() as connection:
        learnt_by = connection.execute(
            sa.select(cycle_records.c.record_id, sa.func.count())
            .join(cycles, cycles.c.cycle_id == cycle_records.c.cycle_id)
            .where(cycle_records.c.role == "train", cycles.c.outcome == "promoted")
            .group_by(cycle_records.c.record_id)
        ).all()
        found = dict(
            connection.execute(
                sa.select(records.c.state, sa.func.count()).group_by(records.c.state)
            ).all()
        )
        changes = [
            (record.event, record.version)
            for record in context.registry.journal.records()
            if record.event in ("promote", "rollback")
        ]
        return {
            "champion": context.registry.champion(),
            "states": found,
            "times learnt": sorted({number for _, number in learnt_by}),
            "changes": changes,
            "journal": context.registry.journal.verify(),
        }


def by_library_promotion(workspace):
    with ScriptedContext.open(workspace.root) as context:
        change = contlearn.promote_version(context, 2, actor="ada", reason="once more")
        assert change.champion == 2


def by_library_update(workspace):
    with ScriptedContext.open(workspace.root) as context:
        update(context)


def by_command_line(workspace):
    with pytest.raises(SystemExit) as ended:
        main(["--workspace", str(workspace.root), "promote", "2"])
    assert not ended.value.code


def by_daemon(workspace):
    open_watch(workspace).step()


@pytest.mark.parametrize(
    "recover", [by_library_promotion, by_library_update, by_command_line, by_daemon]
)
def test_kill_between_pointer_and_catalog_is_mended_whoever_comes_next(broken, recover):
    recover(broken)
    mended = look(broken)
    assert mended["states"] == {"learnt": 2 * ROWS}
    with ScriptedContext.open(broken.root) as context:
        update(context)
        assert update(context).outcome == "nothing-to-do"
    assert look(broken) == {
        "champion": 2,
        "states": {"learnt": 2 * ROWS},
        "times learnt": [1],
        "changes": [("promote", 1), ("promote", 2)],
        "journal": [],
    }


@pytest.mark.parametrize(("hold", "state"), [(True, "held"), (False, "pending")])
def test_library_rollback_after_the_kill_takes_the_records_back(broken, hold, state):
    with ScriptedContext.open(broken.root) as context:
        change = contlearn.roll_back(context, hold=hold, actor="ada", reason="worse")
    assert (change.champion, change.previous) == (1, 2)
    assert change.records_held + change.records_released == ROWS
    assert look(broken)["states"] == {"learnt": ROWS, state: ROWS}
    # The interrupted cycle has had its promotion: it is not promoted again over the rollback.
    with ScriptedContext.open(broken.root) as context:
        result = update(context)
    assert (result.outcome, result.resumed) == ("promoted", True)
    after = look(broken)
    assert after["champion"] == 1
    assert after["changes"] == [("promote", 1), ("promote", 2), ("rollback", 1)]
    assert after["states"] == {"learnt": ROWS, state: ROWS}


def test_rollback_killed_after_the_pointer_holds_its_records_all_the_same(broken):
    with ScriptedContext.open(broken.root) as context:
        update(context)
    killed(
        broken.root,
        lambda context: contlearn.roll_back(context, hold=True, actor="ada", reason="worse"),
    )
    with ScriptedContext.open(broken.root) as context:
        contlearn.promote_version(context, 1, actor="bob", reason="to be sure")
    assert look(broken)["states"] == {"learnt": ROWS, "held": ROWS}


def test_rollback_killed_before_the_pointer_leaves_no_hold_behind(broken):
    with ScriptedContext.open(broken.root) as context:
        update(context)
    killed(
        broken.root,
        lambda context: contlearn.roll_back(context, hold=True, actor="ada", reason="worse"),
        when="before",
    )
    killed(broken.root, lambda context: contlearn.roll_back(context, actor="bob", reason="slow"))
    with ScriptedContext.open(broken.root) as context:
        contlearn.promote_version(context, 1, actor="bob", reason="to be sure")
    assert look(broken)["states"] == {"learnt": ROWS, "pending": ROWS}


def test_promotion_past_the_gate_asks_for_a_reason_in_the_library_too(broken):
    with (
        ScriptedContext.open(broken.root) as context,
        pytest.raises(UsageError, match="needs a reason"),
    ):
        contlearn.promote_version(context, 1, actor="ada", reason="  ", force=True)


def test_forgetting_and_discarding_are_in_the_journal_whoever_asks(tmp_path):
    from contlearn.operations.records import forget
    from contlearn.operations.refused import discard_refused

    workspace = make_workspace(tmp_path / "ws")
    drop(workspace, "calm", count=ROWS)
    (workspace.inbox / "bad.jsonl").write_text('{"text": "no label"}\n' * 2, encoding="utf-8")
    watch = open_watch(workspace)
    scan_here(watch.context)
    with watch.context.catalog.read() as connection:
        ids = list(connection.execute(sa.select(records.c.record_id)).scalars())[:3]
    assert forget(watch.context, ids, reason="asked to").records == 3
    assert states(watch)["forgotten"] == 3
    assert discard_refused(watch.context) == 2
    events = {r.event: r.source for r in watch.context.registry.journal.records()}
    assert events["forget"]["record_ids"] == ids
    assert (events["forget"]["reason"], events["discard"]["records"]) == ("asked to", 2)
