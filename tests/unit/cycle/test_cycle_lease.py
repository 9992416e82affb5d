"""An update whose lease was taken over: it ends with a proper error, and the other's cycle stays."""

from __future__ import annotations

import threading
import time

import pytest

from contlearn.catalog.cycles import list_cycles
from contlearn.catalog.schema import leases
from contlearn.cycle.update_cycle import UpdateCycle
from contlearn.errors import WorkspaceLocked
from contlearn.workspace import SystemClock
from tests.scripted import ScriptedContext, drop, make_workspace, scan_here


@pytest.fixture
def context(tmp_path):
    workspace = make_workspace(tmp_path / "ws")
    with ScriptedContext.open(workspace.root, clock=SystemClock()) as opened:
        yield opened


def take_over(context):
    """Do what another does after this process stood still for longer than a lease."""
    with context.catalog.write() as connection:
        mine = leases.update().where(leases.c.name == "update")
        connection.execute(mine.values(token=99, owner="elsewhere:boot:ns:1:2", purpose="updating"))


def cycles(context):
    with context.catalog.read() as connection:
        return [(row.state, row.outcome) for row in list_cycles(connection)]


def told(cycle):
    with pytest.raises(WorkspaceLocked) as error:
        cycle.run_once()
    assert "ran out, and its work stopped" in error.value.what
    assert "pid 1 on elsewhere has taken over" in error.value.what
    assert error.value.where.startswith("lease 'update' in ")
    assert "the same command takes the work up again" in error.value.hint
    assert error.value.exit_code == 4


def test_update_that_loses_its_lease_while_the_child_works_says_so(context):
    drop(context.workspace, "hang", 12)
    cycle = UpdateCycle(context, child="tests.scripted_child", scan=scan_here)

    def later():
        deadline = time.monotonic() + 60
        while not cycles(context) or cycles(context)[0][0] == "planned":
            assert time.monotonic() < deadline
            time.sleep(0.05)
        take_over(context)

    thread = threading.Thread(target=later)
    thread.start()
    told(cycle)
    thread.join()
    assert [outcome for _, outcome in cycles(context)] == [None]  # whoever has it now goes on


def test_update_that_lost_its_lease_before_it_planned_plans_nothing(context):
    drop(context.workspace, "calm", 12)

    def scan(opened, **options):
        report = scan_here(opened, **options)
        take_over(opened)
        return report

    told(UpdateCycle(context, child="tests.scripted_child", scan=scan))
    assert cycles(context) == []


def test_update_that_fails_after_it_lost_its_lease_calls_nothing_failed(context):
    drop(context.workspace, "crash", 12)

    class Taken:
        """Told of the child's end by its progress: the other is faster than the failure."""

        def __call__(self, stage, done, total, message):
            if stage == "training":
                take_over(context)

    told(UpdateCycle(context, Taken(), child="tests.scripted_child", scan=scan_here))
    assert [outcome for _, outcome in cycles(context)] == [None]


def test_cycle_that_another_finished_meanwhile_is_not_begun_again(context):
    drop(context.workspace, "calm", 12)
    scan_here(context)
    cycle = UpdateCycle(context, child="tests.scripted_child", scan=scan_here)
    assert cycle.run_once(trigger="resume").outcome == "nothing-to-do"
    assert cycles(context) == []
