"""sd_notify against a real datagram socket."""

import os
import re
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from contlearn.daemon.service_manager import ServiceManager

UNITS = Path(__file__).parents[3] / "deploy" / "systemd"


@pytest.fixture(params=["path", "abstract"])
def systemd(request, tmp_path):
    name = str(tmp_path / "notify") if request.param == "path" else f"@contlearn-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind("\0" + name[1:] if name[0] == "@" else name)
        listener.settimeout(10)
        yield name, lambda: listener.recv(4096).decode().splitlines()


def test_readiness_status_and_watchdog_are_told(systemd):
    name, heard = systemd
    environ = {"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}
    manager = ServiceManager(environ)
    assert manager.watchdog_seconds == 30.0
    manager.ready("watching")
    assert heard() == ["READY=1", "STATUS=watching"]
    manager.alive("learning")
    assert heard() == ["WATCHDOG=1", "STATUS=learning"]
    manager.reloading()
    assert re.fullmatch(r"MONOTONIC_USEC=\d+", heard()[1])
    manager.stopping("bye")
    assert heard()[0] == "STOPPING=1"


def test_watchdog_of_another_process_is_not_ours():
    environ = {"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"}
    assert ServiceManager(environ).watchdog_seconds == 0.0


def test_nobody_listens_and_nothing_happens(tmp_path):
    assert ServiceManager({}).tell(READY="1") is False
    assert ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "gone")}).tell(READY="1") is False


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze")
@pytest.mark.parametrize("unit", sorted(UNITS.glob("*.service")), ids=lambda p: p.name)
def test_units_are_what_systemd_takes(unit):
    text = unit.read_text(encoding="utf-8")
    assert "NoNewPrivileges=true" in text
    done = subprocess.run(
        ["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False
    )
    # Only the program itself is missing here.
    complaints = [line for line in done.stderr.splitlines() if "is not executable" not in line]
    assert complaints == []
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=20", str(unit)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-300:]
