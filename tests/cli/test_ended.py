"""Signals that end the program, also where it is process 1, as in a container."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from contlearn.cli.terminal import Terminated, ended_by_sigterm
from tests.races import may_unshare


def _first_child(pid):
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(found[0]) if found else None


@pytest.mark.parametrize("arguments", [("update",), ("status", "--watch", "--json")])
def test_sigterm_ends_a_command_that_is_process_1(workspace, arguments):
    with workspace.config_file.open("a") as file:
        file.write("[data]\nrest_seconds = 500.0\n")  # an update gives a fresh file its time
    row = json.dumps({"text": "a fresh text", "label": "a"})
    (workspace.inbox / "fresh.jsonl").write_text(row)
    program = [sys.executable, "-m", "contlearn", "--workspace", str(workspace.root), *arguments]
    alone = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"] if may_unshare() else []
    with subprocess.Popen(
        [*alone, *program], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            deadline = time.monotonic() + 60
            while process.poll() is None and time.monotonic() < deadline:
                # The first ones may come before Python can hear them.
                time.sleep(1.0)
                pid = _first_child(process.pid) if alone else process.pid
                if pid is not None and (workspace.state / "catalog.sqlite").exists():
                    os.kill(pid, signal.SIGTERM)
            assert process.wait(1) == 128 + signal.SIGTERM
            said = process.stderr.read()
        finally:
            process.kill()
    assert said.endswith("Ended by SIGTERM. The same command takes the work up again.\n"), said


def test_handler_is_there_for_the_block_alone_and_gives_way_to_another():
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    with pytest.raises(Terminated), ended_by_sigterm():
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    try:
        with ended_by_sigterm():
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # as a server does at its end
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
        with ended_by_sigterm():
            os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def test_handler_is_left_alone_outside_the_main_thread():
    seen = []

    def look():
        with ended_by_sigterm():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [signal.SIG_DFL]
