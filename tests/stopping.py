"""Stopping a process at a chosen moment: while it writes to a SQLite file, or holds no lock."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

# SQLite's lock of whoever writes: one byte of the file of shared memory (walformat, WAL_WRITE_LOCK).
WRITE_BYTE = 120


def writes_now(pid: int, database: Path) -> bool:
    """Say whether a process is in a transaction that writes."""
    try:
        inode = database.with_name(f"{database.name}-shm").stat().st_ino
    except FileNotFoundError:
        return False
    for line in Path("/proc/locks").read_text().splitlines():
        fields = line.split()
        if (
            fields[1:2] == ["POSIX"]
            and fields[3] == "WRITE"
            and fields[4] == str(pid)
            and fields[5].endswith(f":{inode}")
            and int(fields[6]) <= WRITE_BYTE <= int(fields[7])
        ):
            return True
    return False


def stop_while_writing(pid: int, database: Path, seconds: float = 120.0) -> None:
    """Stop a process inside a transaction; it is let go on until that has happened."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not writes_now(pid, database):
            time.sleep(0.0002)
            continue
        _stop(pid)
        if writes_now(pid, database):
            return
        os.kill(pid, signal.SIGCONT)
    raise AssertionError("the process never stood still while it wrote")


def stop_without_lock(pid: int, seconds: float = 120.0) -> None:
    """Stop a process while it holds nobody up: one that does may be ended by those who wait."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        _stop(pid)
        lines = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
        if not any("WRITE" in fields and str(pid) in fields for fields in lines):
            return
        os.kill(pid, signal.SIGCONT)
        time.sleep(0.005)
    raise AssertionError("the process never stood still without a lock")


def _stop(pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)
    while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
        time.sleep(0.0002)
