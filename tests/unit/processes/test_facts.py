import fcntl
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time

import pytest

from contlearn.processes.facts import (
    current_owner,
    end_process,
    file_locks,
    is_or_descends_from,
    is_stopped,
    life_of,
    pid_of,
    progress_of,
    start_time,
)


@pytest.fixture
def sleeper():
    with subprocess.Popen(["sleep", "600"]) as child:
        yield child
        child.kill()


def test_owner_names_this_very_process():
    owner = current_owner()
    assert pid_of(owner) == os.getpid()
    assert life_of(owner) == "runs"
    assert len(owner) <= 120


def test_process_that_has_ended_is_gone_and_so_is_one_that_has_its_number_now(sleeper):
    head, _, _ = current_owner().rsplit(":", 2)
    owner = f"{head}:{sleeper.pid}:{start_time(sleeper.pid)}"
    assert life_of(owner) == "runs"
    assert life_of(f"{head}:{sleeper.pid}:1") == "gone"
    sleeper.kill()
    deadline = time.monotonic() + 30
    while life_of(owner) != "gone":  # a zombie, as nobody has asked for its end
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert sleeper.returncode is None


@pytest.mark.parametrize("part", [0, 1, 2])
def test_process_of_another_host_boot_or_namespace_cannot_be_judged(part):
    parts = current_owner().rsplit(":", 4)
    parts[part] = "another"
    parts[3] = str(2**22)  # no process has that number
    assert life_of(":".join(parts)) == "unknown"


def test_owner_as_earlier_versions_wrote_it_cannot_be_judged():
    assert life_of(f"{socket.gethostname()}:f4398834:{2**22}:1") == "unknown"
    assert life_of("") == "unknown"


def test_stopped_process_makes_no_progress(sleeper):
    code = "import time\nwhile True: time.sleep(0.001)"
    with subprocess.Popen([sys.executable, "-c", code]) as busy:
        try:
            before = progress_of(busy.pid)
            deadline = time.monotonic() + 30
            while progress_of(busy.pid) == before:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            assert not is_stopped(busy.pid)
            busy.send_signal(signal.SIGSTOP)
            while not is_stopped(busy.pid):
                assert time.monotonic() < deadline
                time.sleep(0.01)
            still = progress_of(busy.pid)
            time.sleep(0.2)
            assert progress_of(busy.pid) == still is not None
        finally:
            busy.kill()


def test_children_of_children_descend_from_a_process(sleeper):
    assert is_or_descends_from(sleeper.pid, os.getpid())
    assert is_or_descends_from(sleeper.pid, os.getppid())
    assert is_or_descends_from(os.getpid(), os.getpid())
    assert not is_or_descends_from(os.getpid(), sleeper.pid)


def test_only_the_process_that_was_meant_is_ended(sleeper):
    started = start_time(sleeper.pid)
    assert not end_process(sleeper.pid, str(int(started) + 1))
    assert not end_process(sleeper.pid, "")
    assert sleeper.poll() is None
    assert end_process(sleeper.pid, started)
    assert sleeper.wait(timeout=30) == -signal.SIGKILL
    assert not end_process(sleeper.pid, started)


@pytest.mark.parametrize("kind", ["FLOCK", "POSIX"])
def test_locks_of_others_are_seen_without_a_handle_on_the_file(tmp_path, kind):
    path = tmp_path / "file"
    path.touch()
    call = "flock" if kind == "FLOCK" else "lockf"
    code = (
        f"import fcntl, sys; file = open({str(path)!r}, 'r+'); fcntl.{call}(file, fcntl.LOCK_EX)\n"
        "print('in', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout.readline() == b"in\n"
        (lock,) = file_locks(path)
        assert (lock.pid, lock.kind, lock.is_write) == (other.pid, kind, True)
        other.stdin.close()
    assert file_locks(path) == ()
    assert file_locks(tmp_path / "none") == ()
    with path.open("r+") as file:  # one's own are no hindrance
        fcntl.flock(file, fcntl.LOCK_EX)
        assert file_locks(path) == ()


def test_looking_at_the_locks_of_a_database_lets_go_of_none(tmp_path):
    path = tmp_path / "c.sqlite"
    with sqlite3.connect(path) as mine:
        mine.execute("CREATE TABLE t (a)")
        mine.commit()
        mine.execute("BEGIN IMMEDIATE")
        assert file_locks(path) == ()
        code = (
            f"import sqlite3; c = sqlite3.connect({str(path)!r}, timeout=0)\n"
            "try: c.execute('BEGIN IMMEDIATE')\nexcept sqlite3.OperationalError as e: print(e)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert "locked" in done.stdout
    mine.close()
