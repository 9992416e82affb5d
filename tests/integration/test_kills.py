"""A SIGKILL in any state of a cycle, then the same command again: all ends well."""

from __future__ import annotations

import json
import signal
import sqlite3
import time

import psutil
import pytest

from tests.texts import classified

pytestmark = pytest.mark.slow

# A plugin file that kills its own process at an event: the real signal, at a known place.
KILLER = """
import os, pathlib, signal
from contlearn.plugins import hookimpl

HERE = pathlib.Path(__file__).parent


@hookimpl
def contlearn_on_event(event):
    wanted = (HERE / "kill-at.txt").read_text().strip()
    if wanted and wanted == f"{event.kind}:{event.fields.get('state', '')}":
        (HERE / "kill-at.txt").write_text("")
        if WHOM == "parent":
            os.kill(os.getpid(), signal.SIGKILL)
        else:
            import psutil
            for child in psutil.Process().children():
                child.kill()
"""

POINTS = [
    "cycle-started:",
    "cycle-state:training",
    "cycle-state:exporting",
    "cycle-state:evaluating",
    "cycle-state:deciding",
    "cycle-state:promoting",
    "promoted:",
]


def arm(program, tmp_path, point, whom="parent"):
    folder = tmp_path / "plugins"
    folder.mkdir(exist_ok=True)
    (folder / "killer.py").write_text(KILLER.replace("WHOM", repr(whom)))
    (folder / "kill-at.txt").write_text(point)
    return folder


def workers(program):
    """List the processes that work here: the workspace is in their command, or they write the log
    of a cycle in it, as every child of one does.
    """
    root = str(program.root)
    logs = {str(path) for path in program.root.glob("state/cycles/*/log.txt")}
    return [
        process.pid
        for process in psutil.process_iter(["cmdline", "open_files"])
        if any(root in word for word in process.info["cmdline"] or ())
        or logs & {file.path for file in process.info["open_files"] or ()}
    ]


def whole(program, versions):
    """The champion is whole, every record is learnt once, no cycle stands half done."""
    status = program.json("status")
    assert status["champion"] is not None
    assert status["running_cycle"] is None
    assert status["pending_records"] == 0
    assert status["versions"] == versions
    assert program.json("verify")["ok"]
    with sqlite3.connect(program.root / "state/catalog.sqlite") as database:
        states = dict(database.execute("select state, count(*) from records group by state"))
    assert set(states) == {"learnt"}
    leftovers = [
        p.name
        for p in (program.root / "versions").iterdir()
        if p.name.startswith(".") and p.name != ".lock"
    ]
    assert leftovers == []


@pytest.mark.parametrize("point", POINTS)
def test_update_after_a_kill_ends_well(program, tmp_path, point):
    folder = arm(program, tmp_path, point)
    program.drop("first.jsonl", classified(["billing", "shipping", "garden"], 30))
    program.run("--plugins-dir", folder, "update", code=-signal.SIGKILL)
    # The child of a killed parent does not stay behind.
    deadline = time.monotonic() + 20
    while workers(program):
        assert time.monotonic() < deadline, "the child outlived its parent"
        time.sleep(0.1)
    result = program.json("--plugins-dir", folder, "update")
    if point == "promoted:":
        # Everything was done but the last line of the catalog.
        assert result["outcome"] in ("promoted", "nothing-to-do")
    else:
        assert (result["outcome"], result["resumed"]) == ("promoted", True)
    whole(program, versions=1)
    assert program.json("update")["outcome"] == "nothing-to-do"


def test_killed_child_is_a_failed_cycle_and_the_next_one_works(program, tmp_path):
    folder = arm(program, tmp_path, "cycle-state:training", whom="child")
    program.drop("first.jsonl", classified(["billing", "shipping", "garden"], 30))
    failed = program.json("--plugins-dir", folder, "update", code=1)
    assert failed["outcome"] == "failed"
    assert "SIGKILL" in failed["error"]["error"]
    status = program.json("status")
    assert status["champion"] is None
    assert status["pending_records"] > 0
    assert program.json("update")["outcome"] == "promoted"


def test_interrupted_rollback_with_held_records_is_finished(promoted):
    program = promoted
    # The journal says the champion changed; the catalog was not told.
    with sqlite3.connect(program.root / "state/catalog.sqlite") as database:
        before = dict(database.execute("select record_id, state from records"))
    program.json("rollback", "--hold-records")
    with sqlite3.connect(program.root / "state/catalog.sqlite") as database:
        for record_id, state in before.items():
            database.execute("update records set state = ? where record_id = ?", (state, record_id))
        database.execute("update meta set value = '2' where key = 'champion'")
        database.execute("update meta set value = 'rolled back' where key = 'hold'")
    assert program.json("update")["outcome"] == "nothing-to-do"
    status = program.json("status")
    assert status["champion"]["version"] == 1
    assert status["held_records"] > 0
    assert status["pending_records"] == 0


def test_two_updates_at_once_one_is_told(program):
    program.drop("first.jsonl", classified(["billing", "shipping", "garden"], 30))
    with program.popen("update", "--json") as first:
        deadline = time.monotonic() + 200
        while program.json("status")["running_cycle"] is None:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        second = program.json("update", code=4)
        assert "is updating" in second["error"]
        assert second["hint"]
        out, _ = first.communicate(timeout=280)
    assert json.loads(out)["outcome"] == "promoted"


def test_parent_of_a_cycle_stays_small(program):
    program.drop("first.jsonl", classified(["billing", "shipping", "garden"], 30))
    peak = 0
    with program.popen("update", "--json") as parent:
        process = psutil.Process(parent.pid)
        while parent.poll() is None:
            try:
                peak = max(peak, process.memory_info().rss)
            except psutil.NoSuchProcess:
                break
            time.sleep(0.05)
        out, err = parent.communicate()
    assert json.loads(out)["outcome"] == "promoted", err
    assert 10e6 < peak <= 80e6, f"{peak / 1e6:.1f} MB"
