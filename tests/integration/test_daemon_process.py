"""The daemon's process with real signals: no update is made here, so each test takes seconds."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import psutil
import pytest

from contlearn.workspace import file_lock
from tests.scripted import drop, make_workspace
from tests.stopping import stop_while_writing, stop_without_lock

pytestmark = pytest.mark.slow


def wait_for(what, seconds=60):
    deadline = time.monotonic() + seconds
    while not (value := what()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)
    return value


class Running:
    def __init__(self, log, *arguments, **environ):
        self.log = log
        with log.open("w") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "contlearn", "daemon", "--port", "0", *map(str, arguments)],
                stderr=file,
                env={**os.environ, **environ},
                # Else the kernel wakes what is stopped (SIGHUP, SIGCONT) once the shell that
                # started the tests has gone and left their group of processes an orphan.
                start_new_session=True,
            )

    def address(self):
        wait_for(lambda: "/metrics" in self.log.read_text() or self.process.poll() is not None)
        found = re.search(r"(http://[\d.]+:\d+)/metrics", self.log.read_text())
        assert found, self.log.read_text()
        return found[1]

    def events(self, name):
        lines = [line for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [event for line in lines if (event := json.loads(line)).get("event") == name]

    def end(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)


@pytest.fixture
def start(tmp_path):
    running = []

    def start(*arguments, **environ):
        made = Running(tmp_path / f"daemon-{len(running)}.log", *arguments, **environ)
        running.append(made)
        return made

    yield start
    for made in running:
        if made.process.poll() is None:
            made.process.kill()
            made.process.wait()


@pytest.fixture
def disk(tmp_path):
    """A small file system of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=50m", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("nothing may be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def ask(url):
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def state(workspace):
    try:
        return json.loads((workspace.state / "daemon.json").read_bytes())
    except (OSError, ValueError):
        return {}


def test_several_workspaces_health_metrics_and_a_clean_end(tmp_path, start):
    names = ("a", "b", "c")
    for name in names:
        workspace = make_workspace(tmp_path / name)
        text = workspace.config_file.read_text().replace('"test"', f'"model-{name}"')
        workspace.config_file.write_text(text)
    daemon = start(*(tmp_path / name for name in names))
    address = daemon.address()
    wait_for(lambda: ask(f"{address}/health/ready")[0] == 200)
    status, body = ask(f"{address}/health/live")
    assert status == 200
    value = json.loads(body)
    assert [w["model"] for w in value["workspaces"]] == ["model-a", "model-b", "model-c"]
    _, metrics = ask(f"{address}/metrics")
    for name in names:
        assert f'contlearn_ingest_pending_records{{model="model-{name}"}} 0.0' in metrics
    assert ask(f"{address}/nothing")[0] == 404
    memory = psutil.Process(daemon.process.pid).memory_info().rss
    assert memory <= 80e6, f"{memory / 1e6:.1f} MB"
    assert daemon.end() == 0
    assert len(daemon.events("daemon stopped")) == 3


def test_reload_dump_and_bad_configuration(tmp_path, start):
    workspace = make_workspace(tmp_path / "ws")
    daemon = start(workspace.root)
    daemon.address()
    wait_for(lambda: state(workspace).get("pid") == daemon.process.pid)
    text = workspace.config_file.read_text()
    workspace.config_file.write_text(text.replace("cooldown = 0", "cooldwon = 0"))
    daemon.process.send_signal(signal.SIGHUP)
    refused = wait_for(lambda: daemon.events("configuration refused, the old one is kept"))
    assert "Did you mean update.cooldown" in refused[0]["error"]
    workspace.config_file.write_text(text)
    daemon.process.send_signal(signal.SIGHUP)
    wait_for(lambda: daemon.events("configuration read again"))
    daemon.process.send_signal(signal.SIGUSR1)
    dump = workspace.state / "daemon-dump.json"
    wait_for(dump.exists)
    value = json.loads(dump.read_bytes())
    assert value["health"]["ok"] is True
    assert value["watches"][str(workspace.root)]["failures"] == 0
    assert "watch.py" in (workspace.state / "daemon-stacks.txt").read_text()
    assert daemon.end() == 0


def test_a_broken_or_missing_configuration_keeps_the_inbox_going(tmp_path, start):
    workspace = make_workspace(tmp_path / "ws", "[update]\nmin_new_records = 1000\n")
    daemon = start(workspace.root)
    daemon.address()
    wait_for(lambda: daemon.events("daemon started"))
    text = workspace.config_file.read_text()
    for number, change in enumerate(("broken", "gone", "mended"), 1):
        if change == "broken":
            workspace.config_file.write_text(text + "\n[nonsense\n")
        elif change == "gone":
            workspace.config_file.unlink()
        else:
            workspace.config_file.write_text(text)
        daemon.process.send_signal(signal.SIGHUP)
        said, times = ("configuration refused, the old one is kept", number)
        if change == "mended":
            said, times = ("configuration read again", 1)
        wait_for(lambda s=said, t=times: len(daemon.events(s)) == t)
        drop(workspace, "calm", 3)
        wait_for(lambda n=number: len(daemon.events("files taken in")) == n)
    assert not daemon.events("inbox could not be taken in")
    assert daemon.end() == 0


def test_a_workspace_that_cannot_be_written_is_said_once_and_waited_for(tmp_path, start, disk):
    workspace = make_workspace(disk / "ws")
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    daemon = start(workspace.root)
    address = daemon.address()
    (said,) = wait_for(lambda: daemon.events("the workspace cannot be watched"))
    assert "cannot be written (read-only" in said["error"]
    time.sleep(1.5)
    assert len(daemon.events("the workspace cannot be watched")) == 1
    status, body = ask(f"{address}/health/live")
    assert status == 200  # a restart would not help
    assert "cannot be written (read-only" in json.loads(body)["workspaces"][0]["problem"]
    assert ask(f"{address}/health/ready")[0] == 503
    subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
    wait_for(lambda: daemon.events("daemon started"))
    wait_for(lambda: ask(f"{address}/health/ready")[0] == 200)
    assert json.loads(ask(f"{address}/health/live")[1])["workspaces"][0]["problem"] is None
    assert daemon.end() == 0


def test_somebody_who_takes_files_in_by_hand_raises_no_alarm(tmp_path, start):
    workspace = make_workspace(tmp_path / "ws", "[update]\nmin_new_records = 1000\n")
    with file_lock(workspace.state / "ingest.lock", what="taking files in"):
        daemon = start(workspace.root)
        daemon.address()
        drop(workspace, "calm", 3)
        wait_for(lambda: (workspace.state / "ingest.log").exists())
        time.sleep(1.0)
    wait_for(lambda: daemon.events("files taken in"))
    assert not daemon.events("inbox could not be taken in")
    assert daemon.end() == 0


def test_killed_daemon_is_followed_by_the_one_that_stands_by(tmp_path, start):
    workspace = make_workspace(tmp_path / "ws")
    first = start(workspace.root)
    first.address()
    wait_for(lambda: first.events("daemon started"))
    second = start(workspace.root)
    address = second.address()
    wait_for(lambda: second.events("standing by"))
    assert ask(f"{address}/health/live")[0] == 200
    assert ask(f"{address}/health/ready")[0] == 503
    first.process.kill()
    first.process.wait()
    wait_for(lambda: second.events("daemon started"))
    assert second.end() == 0


def test_daemon_that_stands_still_is_followed_and_notices_when_it_wakes(tmp_path, start):
    workspace = make_workspace(tmp_path / "ws")
    first = start(workspace.root)
    first.address()
    wait_for(lambda: first.events("daemon started"))
    second = start(workspace.root)
    second.address()
    wait_for(lambda: second.events("standing by"))
    stop_without_lock(first.process.pid)
    try:
        wait_for(lambda: second.events("daemon started"))
    finally:
        first.process.send_signal(signal.SIGCONT)
    wait_for(lambda: first.events("lease lost: another daemon took over"))
    wait_for(lambda: first.events("standing by"))
    # A write may have been under way when it was stopped; the other's next one sets that right.
    wait_for(lambda: state(workspace)["pid"] == second.process.pid)
    assert second.end() == 0
    wait_for(lambda: len(first.events("daemon started")) == 2)
    assert first.end() == 0


@pytest.fixture
def pair(tmp_path, start):
    """A daemon that works and one that stands by, with what more the configuration says."""

    def make(more=""):
        workspace = make_workspace(tmp_path / "ws", "[update]\nlease_seconds = 5.0\n" + more)
        first = start(workspace.root)
        first.address()
        wait_for(lambda: first.events("daemon started"))
        second = start(workspace.root)
        second.address()
        wait_for(lambda: second.events("standing by"))
        return workspace, first, second

    return make


def test_daemon_that_stands_still_while_it_writes_is_named_ended_and_followed(pair):
    workspace, first, second = pair()
    stop_while_writing(first.process.pid, workspace.state / "catalog.sqlite")
    (said,) = wait_for(lambda: second.events("a process stands still and holds a lock"))
    assert f"process {first.process.pid} (" in said["error"]
    assert "was stopped and holds" in said["error"]
    assert "it is ended when its lease has run out" in said["error"]
    (ended,) = wait_for(lambda: second.events("a process that stood still was ended"))
    assert ended["pid"] == first.process.pid
    assert first.process.wait(timeout=60) == -signal.SIGKILL
    wait_for(lambda: second.events("daemon started"))
    wait_for(
        lambda: (
            'contlearn_workspace_blocked{model="test"} 0.0' in ask(f"{second.address()}/metrics")[1]
        )
    )
    assert second.end() == 0


def test_daemon_that_stands_still_while_it_writes_is_shown_where_none_may_be_ended(pair):
    workspace, first, second = pair("[daemon]\nend_stalled = false\n")
    stop_while_writing(first.process.pid, workspace.state / "catalog.sqlite")
    try:
        (said,) = wait_for(lambda: second.events("a process stands still and holds a lock"))
        assert "it is ended" not in said["error"]
        assert f"kill -CONT {first.process.pid}" in said["hint"]
        address = second.address()
        (shown,) = json.loads(ask(f"{address}/health/live")[1])["workspaces"]
        assert f"process {first.process.pid} (" in shown["problem"]
        assert ask(f"{address}/health/live")[0] == 200  # a restart of this one would not help
        assert 'contlearn_workspace_blocked{model="test"} 1.0' in ask(f"{address}/metrics")[1]
        time.sleep(11.0)  # twice the lease
        assert first.process.poll() is None
        assert not second.events("daemon started")
    finally:
        first.process.send_signal(signal.SIGCONT)
    wait_for(
        lambda: json.loads(ask(f"{address}/health/live")[1])["workspaces"][0]["problem"] is None
    )
    assert first.end() == 0
    wait_for(lambda: second.events("daemon started"))
    assert second.end() == 0


def test_systemd_hears_of_readiness_life_and_the_end(tmp_path, start):
    workspace = make_workspace(tmp_path / "ws")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(60)
        daemon = start(
            workspace.root, NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="1000000"
        )
        heard = []
        while not any("WATCHDOG=1" in line for line in heard):
            heard.append(systemd.recv(4096).decode())
        assert "READY=1" in heard[0]
        daemon.process.send_signal(signal.SIGTERM)
        while not any("STOPPING=1" in line for line in heard):
            heard.append(systemd.recv(4096).decode())
        assert daemon.process.wait(timeout=60) == 0


def test_log_file_is_written_and_rotated(tmp_path, start):
    workspace = make_workspace(
        tmp_path / "ws",
        '[daemon]\nlog_file = "state/logs/daemon.log"\nlog_bytes = 400\nlog_files = 2\n',
    )
    logs = workspace.state / "logs"
    daemon = start(workspace.root)
    wait_for(
        lambda: logs.exists() and "daemon started" in "".join(p.read_text() for p in logs.iterdir())
    )
    for _ in range(6):
        before = len(list(logs.glob("*"))), sum(p.stat().st_mtime_ns for p in logs.iterdir())
        daemon.process.send_signal(signal.SIGHUP)
        wait_for(
            lambda b=before: (
                (len(list(logs.glob("*"))), sum(p.stat().st_mtime_ns for p in logs.iterdir())) != b
            )
        )
    assert daemon.end() == 0
    assert {p.name for p in logs.iterdir()} <= {"daemon.log", "daemon.log.1", "daemon.log.2"}
    assert all(p.stat().st_size <= 800 for p in logs.iterdir())


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["/no/such/workspace"], 2, "contlearn init"),
        (["{ws}", "{ws}"], 2, "named twice"),
    ],
)
def test_wrong_arguments_are_said(tmp_path, start, arguments, code, words):
    workspace = make_workspace(tmp_path / "ws")
    daemon = start(*(argument.format(ws=workspace.root) for argument in arguments))
    assert daemon.process.wait(timeout=60) == code
    assert words in daemon.log.read_text()
