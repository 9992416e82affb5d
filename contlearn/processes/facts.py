"""What this machine says about processes: who they are, whether they live and move, what they lock.

A process id means something inside its PID namespace only, and only until it is used again. So a
process is named by host, boot, namespace, id and start time together, and is called gone only by
somebody who shares the first three with it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias

__all__ = [
    "FileLock",
    "Life",
    "command_of",
    "current_owner",
    "end_process",
    "file_locks",
    "is_or_descends_from",
    "is_stopped",
    "life_of",
    "pid_of",
    "progress_of",
    "start_time",
]

Life: TypeAlias = Literal["runs", "gone", "unknown"]

_PROC: Final = Path("/proc")
_HOST_LETTERS: Final = 60
_BOOT_LETTERS: Final = 13
_STATE, _PARENT, _USER_TICKS, _SYSTEM_TICKS, _START = 0, 1, 11, 12, 19


@dataclass(frozen=True, slots=True)
class FileLock:
    """A lock on a file: POSIX (with a range of bytes) or FLOCK (of the whole file)."""

    path: Path
    pid: int
    kind: str
    is_write: bool


def current_owner() -> str:
    """Name this process: host, boot, PID namespace, pid and start time."""
    pid = os.getpid()
    return f"{_host()}:{_boot()}:{_namespace()}:{pid}:{start_time(pid)}"


def pid_of(owner: str) -> int | None:
    """Give the process id in an owner's name, whatever namespace it belongs to."""
    number = owner.rsplit(":", 2)[-2:-1]
    return int(number[0]) if number and number[0].isdigit() else None


def life_of(owner: str) -> Life:
    """Say whether the process of that name runs, is gone, or cannot be judged from here."""
    parts = owner.rsplit(":", 4)
    if len(parts) != 5 or "" in parts or parts[:3] != [_host(), _boot(), _namespace()]:
        return "unknown"
    pid = int(parts[3])
    facts = _stat(pid)
    if facts is not None:
        # A zombie works no more: it only waits for its parent to ask how it ended.
        same = facts[_START] == parts[4] and facts[_STATE] not in "ZX"
        return "runs" if same else "gone"
    # Where /proc hides the processes of other users, the kernel still says whether there is one.
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return "gone"
    except PermissionError:
        return "unknown"
    return "unknown"


def start_time(pid: int) -> str:
    """Give when a process started, in clock ticks since boot; empty when it does not run."""
    facts = _stat(pid)
    return "" if facts is None or facts[_STATE] in "ZX" else facts[_START]


def is_stopped(pid: int) -> bool:
    """Say whether a process was stopped by a signal (SIGSTOP, Ctrl-Z)."""
    facts = _stat(pid)
    return facts is not None and facts[_STATE] == "T"


def progress_of(pid: int) -> tuple[int, ...] | None:
    """Give numbers that grow whenever any thread of a process runs; None when they are hidden.

    A process in a frozen container is in no state that says so, but nothing of this grows.
    """
    total, threads = 0, 0
    try:
        tasks = list((_PROC / str(pid) / "task").iterdir())
    except OSError:
        return None
    for task in tasks:
        with contextlib.suppress(OSError, ValueError):
            for line in (task / "status").read_text(encoding="utf-8", errors="replace").split("\n"):
                name, _, value = line.partition(":")
                if name.endswith("voluntary_ctxt_switches"):
                    total += int(value)
            threads += 1
    facts = _stat(pid)
    if not threads or facts is None:
        return None
    return threads, total, int(facts[_USER_TICKS]), int(facts[_SYSTEM_TICKS])


def command_of(pid: int) -> str:
    """Give a process's command line, shortened; empty when it cannot be seen."""
    try:
        words = (_PROC / str(pid) / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return ""
    return b" ".join(words).decode("utf-8", "replace").strip()[:200]


def is_or_descends_from(pid: int, ancestor: int) -> bool:
    """Say whether a process is another, its child, or a child of that and so on."""
    seen: set[int] = set()
    while pid > 0 and pid not in seen:
        if pid == ancestor:
            return True
        seen.add(pid)
        facts = _stat(pid)
        pid = int(facts[_PARENT]) if facts is not None else 0
    return False


def end_process(pid: int, started: str) -> bool:
    """End a process at once, if it is still the one that started then.

    Returns:
        Whether it was ended; False when it is gone, or another has its number now.
    """
    try:
        handle = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        # The handle stays with this very process; only then is it compared.
        if not started or start_time(pid) != started:
            return False
        signal.pidfd_send_signal(handle, signal.SIGKILL)
    except OSError:
        return False
    finally:
        os.close(handle)
    return True


def file_locks(*paths: Path) -> tuple[FileLock, ...]:
    """List the locks that other processes hold on files, without opening them.

    Opening one would not do: closing any handle of a file drops all POSIX locks that this process
    has on it, SQLite's own among them. Processes of other PID namespaces cannot be seen.

    Source: Linux proc_locks(5), fcntl_locking(2).
    """
    wanted: dict[int, tuple[Path, os.stat_result]] = {}
    for path in paths:
        with contextlib.suppress(OSError):
            facts = path.stat()
            wanted[facts.st_ino] = path, facts
    try:
        text = (_PROC / "locks").read_text(encoding="ascii", errors="replace") if wanted else ""
    except OSError:
        return ()
    found = []
    for kind, is_write, pid, device, inode in _parsed(text):
        if inode not in wanted or pid in (os.getpid(), -1, 0):
            continue
        path, facts = wanted[inode]
        here = f"{os.major(facts.st_dev):02x}:{os.minor(facts.st_dev):02x}"
        # Some file systems (btrfs, overlayfs) have another device there than in stat.
        if device == here or _has_open(pid, facts):
            found.append(FileLock(path, pid, kind, is_write))
    return tuple(found)


def _parsed(text: str) -> Iterator[tuple[str, bool, int, str, int]]:
    for line in text.splitlines():
        fields = line.split()
        # "12: -> POSIX …" waits for a lock and has none.
        if len(fields) < 8 or fields[1] == "->":
            continue
        major, _, rest = fields[5].partition(":")
        minor, _, inode = rest.partition(":")
        with contextlib.suppress(ValueError):
            yield (
                fields[1],
                fields[3] == "WRITE",
                int(fields[4]),
                f"{major}:{minor}",
                int(inode),
            )


def _has_open(pid: int, facts: os.stat_result) -> bool:
    try:
        handles = list((_PROC / str(pid) / "fd").iterdir())
    except OSError:
        return False
    for handle in handles:
        with contextlib.suppress(OSError):
            there = handle.stat()
            if (there.st_dev, there.st_ino) == (facts.st_dev, facts.st_ino):
                return True
    return False


def _stat(pid: int) -> list[str] | None:
    """Give the fields of /proc/PID/stat from the state on; None where there are none to see."""
    try:
        stat = (_PROC / str(pid) / "stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return fields if len(fields) > _START else None


def _host() -> str:
    return socket.gethostname()[:_HOST_LETTERS]


def _boot() -> str:
    try:
        text = (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii")
    except OSError:
        return ""
    return text.strip()[:_BOOT_LETTERS]


def _namespace() -> str:
    """Name this process's PID namespace; empty where the system does not say."""
    try:
        return str((_PROC / "self/ns/pid").readlink()).partition("[")[2].rstrip("]")
    except OSError:
        return ""
