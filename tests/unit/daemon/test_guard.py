"""Whom a daemon names and ends when locks are held by a process that stands still."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import structlog

from contlearn.context import Context
from contlearn.daemon.alerts import Alerts
from contlearn.daemon.guard import Guard
from contlearn.errors import StorageError
from contlearn.processes.facts import is_stopped
from contlearn.workspace import SystemClock
from tests.scripted import make_workspace

HERE = Path(__file__).parents[3]
# Holds the lease of an update; the transaction is its own or that of a child that it starts.
HOLDER = """
import subprocess, sys
from contlearn.catalog import Catalog
from contlearn.catalog.leases import hold_lease
whose, file = sys.argv[1:]
write = '''
import sys
from contlearn.catalog import Catalog
with Catalog("sqlite:///" + sys.argv[1]) as catalog, catalog.write():
    print("in", flush=True); sys.stdin.read()
'''
with Catalog("sqlite:///" + file) as catalog:
    if whose == "nobody":
        exec(write.replace("sys.argv[1]", "file"))
    with hold_lease(catalog, "update", purpose="updating", seconds=1.5, heartbeat_seconds=0.1):
        if whose == "own":
            exec(write.replace("sys.argv[1]", "file"))
        child = subprocess.Popen([sys.executable, "-c", write, file], stdin=subprocess.PIPE)
        print(child.pid, flush=True)
        sys.stdin.read()
        child.stdin.close()
"""


@pytest.fixture
def made(tmp_path):
    """A workspace, and a guard of it that is asked by hand."""

    def make(more="", lease_seconds=1.5):
        settings = f"[update]\nlease_seconds = {lease_seconds}\nheartbeat_seconds = 0.1\n"
        workspace = make_workspace(tmp_path / "ws", settings + more)
        context = Context.open(workspace.root, clock=SystemClock())
        opened.append(context)
        _ = context.catalog
        log = structlog.get_logger()
        files = [workspace.state / "ingest.lock"]
        return workspace, Guard(context, Alerts(context, log), log, files)

    opened = []
    yield make
    for context in opened:
        context.close()


@pytest.fixture
def holder():
    """A process that holds the lock of a catalog's file for writing."""
    running = []

    def start(whose, workspace):
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, whose, str(workspace.state / "catalog.sqlite")],
            cwd=HERE,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        lines = {process.stdout.readline().strip()}
        if whose == "child":
            lines.add(process.stdout.readline().strip())
        writer = int((lines - {"in"} or {str(process.pid)}).pop())
        return process, writer

    yield start
    for process in running:
        process.kill()
        process.communicate()


def look_until(guard, what, seconds=60):
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, guard.problem
        guard.look()
        time.sleep(0.05)


def stop(pid):
    import os

    os.kill(pid, signal.SIGSTOP)
    while not is_stopped(pid):
        time.sleep(0.01)


def test_process_that_stands_still_in_its_own_lease_is_named_and_ended(made, holder):
    workspace, guard = made()
    process, pid = holder("own", workspace)
    stop(pid)
    look_until(guard, lambda: guard.problem)
    assert guard.problem.startswith(f"process {pid} (")
    assert f"was stopped and holds {workspace.state}/catalog.sqlite" in guard.problem
    assert process.poll() is None  # its lease has not run out
    look_until(guard, lambda: process.poll() is not None)
    assert process.returncode == -signal.SIGKILL
    look_until(guard, lambda: guard.problem is None)


def test_process_is_ended_also_where_it_left_a_catalog_that_cannot_be_read(
    made, holder, monkeypatch
):
    def unreadable(_catalog):
        raise StorageError("The catalog cannot be read: locking protocol.")

    workspace, guard = made()
    process, pid = holder("own", workspace)
    guard.look()
    stop(pid)
    monkeypatch.setattr("contlearn.daemon.guard.read_leases", unreadable)
    look_until(guard, lambda: process.poll() is not None)
    assert process.returncode == -signal.SIGKILL


def test_child_that_stands_still_is_ended_and_its_parent_goes_on(made, holder):
    workspace, guard = made()
    process, pid = holder("child", workspace)
    stop(pid)
    look_until(guard, lambda: not Path(f"/proc/{pid}/cmdline").exists() or _is_zombie(pid))
    look_until(guard, lambda: guard.problem is None)
    assert process.poll() is None


def _is_zombie(pid):
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


@pytest.mark.parametrize(
    ("whose", "more"), [("nobody", ""), ("own", "[daemon]\nend_stalled = false\n")]
)
def test_process_without_a_lease_or_where_it_is_not_wanted_is_named_only(made, holder, whose, more):
    workspace, guard = made(more)
    process, pid = holder(whose, workspace)
    stop(pid)
    look_until(guard, lambda: guard.problem)
    until = time.monotonic() + 4.0
    look_until(guard, lambda: time.monotonic() > until)
    assert process.poll() is None
    process.send_signal(signal.SIGCONT)
    look_until(guard, lambda: guard.problem is None)


@pytest.mark.slow
def test_process_that_moves_in_a_long_transaction_is_left_alone(made):
    workspace, guard = made("", lease_seconds=5.0)
    code = (
        "import time; from contlearn.catalog import Catalog\n"
        f"with Catalog('sqlite:///{workspace.state}/catalog.sqlite') as c, c.write():\n"
        "    print('in', flush=True)\n"
        "    while True: time.sleep(0.01)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=HERE, stdout=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout.readline() == b"in\n"
            until = time.monotonic() + 7.0
            look_until(guard, lambda: guard.problem or time.monotonic() > until)
            assert guard.problem is None
        finally:
            process.kill()


def test_lock_on_a_file_that_a_stopped_process_holds_is_named(made):
    workspace, guard = made()
    path = workspace.state / "ingest.lock"
    code = (
        f"import fcntl, sys; file = open({str(path)!r}, 'w'); fcntl.flock(file, fcntl.LOCK_EX)\n"
        "print('in', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout.readline() == b"in\n"
            stop(process.pid)
            look_until(guard, lambda: guard.problem)
            assert f"holds {path}" in guard.problem
        finally:
            process.kill()
            process.stdin.close()
