"""The idle daemon: start-up, hand-over, processor and memory, with the default settings.

    python -m tests.benchmarks.daemon_idle [starts] [idle] [--loaded]

The workspaces hold 300,000 learnt records each, so that a daemon that counted them at every look would
show it. Start-up is from the start of the process to READY=1 on a real notification socket.
"""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from contlearn.catalog import Catalog
from contlearn.workspace import Workspace
from tests.benchmarks.common import append_row

RECORDS = 300_000
IDLE_SECONDS = 60.0
STARTS = 7
HANDOVERS = 5


def make(root: Path, name: str) -> Workspace:
    workspace = Workspace(root / name)
    workspace.make_folders()
    workspace.config_file.write_text(f'[model]\nname = "{name}"\n')
    path = workspace.state / "catalog.sqlite"
    Catalog(f"sqlite:///{path}").close()
    with sqlite3.connect(path) as catalog:
        catalog.execute(
            "insert into files (file_id, content_hash, name, held_out, settings, received_at, verdict, rows,"
            " accepted, duplicates, conflicts, rejected) values (1, 'h', 'f', 0, 's', '2030', 'ok', 0, 0, 0, 0, 0)"
        )
        catalog.executemany(
            "insert into records (seq, record_id, file_id, row, split, state, attempts, key, size_bytes, received_at)"
            " values (?, ?, 1, ?, 'train', 'learnt', 0, ?, 40, '2030-01-01T00:00:00+00:00')",
            ((n, f"{n:032x}", n, f"label-{n % 50}") for n in range(1, RECORDS + 1)),
        )
    return workspace


class Started:
    """A daemon, and when it said that it is ready."""

    def __init__(self, folder: Path, *workspaces: Workspace) -> None:
        path = folder / f"notify-{time.monotonic_ns()}"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
            systemd.bind(str(path))
            systemd.settimeout(60)
            began = time.perf_counter()
            self.process = subprocess.Popen(
                [sys.executable, "-m", "contlearn", "daemon", "--port", "0",
                 *(str(workspace.root) for workspace in workspaces)],
                env={**os.environ, "NOTIFY_SOCKET": str(path)},
                stderr=subprocess.PIPE,
            )  # fmt: skip
            while b"READY=1" not in systemd.recv(4096):
                pass
            self.seconds = time.perf_counter() - began

    def wait_for(self, word: bytes) -> float:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if word in line:
                return time.perf_counter()
        raise RuntimeError("the daemon ended")

    def end(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=60)


def idle(folder: Path, *workspaces: Workspace) -> tuple[float, float]:
    """Give the share of one core in percent and the largest resident memory in MB, start excluded."""
    daemon = Started(folder, *workspaces)
    process = psutil.Process(daemon.process.pid)
    time.sleep(10.0)
    before, began, peak = process.cpu_times(), time.monotonic(), 0
    while time.monotonic() - began < IDLE_SECONDS:
        time.sleep(2.0)
        peak = max(peak, process.memory_info().rss)
    after = process.cpu_times()
    elapsed = time.monotonic() - began
    daemon.end()
    spent = after.user + after.system - before.user - before.system
    return 100 * spent / elapsed, peak / 1e6


def row(measure: str, value: float, unit: str, beside: str) -> None:
    if "--loaded" in sys.argv:
        load = os.getloadavg()[0]
        beside = f"{beside}; loaded machine (load {load:.0f} on {os.cpu_count()} cores)"
    append_row("daemon", {"measure": measure, "value": value, "unit": unit, "beside": beside})


def measure_starts(folder: Path, workspace: Workspace) -> None:
    """Start-up and hand-over."""
    starts = []
    for _ in range(STARTS):
        daemon = Started(folder, workspace)
        starts.append(daemon.seconds)
        daemon.end()
    row(
        f"start-up, median of {STARTS}", round(statistics.median(starts), 2), "s",
        f"process start to READY=1; largest {max(starts):.2f} s",
    )  # fmt: skip
    for how, number in (("SIGKILL", signal.SIGKILL), ("SIGTERM", signal.SIGTERM)):
        times = []
        for _ in range(HANDOVERS):
            first = Started(folder, workspace)
            first.wait_for(b"daemon started")
            second = Started(folder, workspace)
            second.wait_for(b"standing by")
            time.sleep(0.7 * len(times))  # at another moment of the second one's interval
            began = time.perf_counter()
            first.process.send_signal(number)
            times.append(second.wait_for(b"daemon started") - began)
            first.process.wait(timeout=60)
            assert first.process.stderr is not None
            first.process.stderr.close()
            second.end()
        row(
            f"hand-over after {how}, median of {HANDOVERS}",
            round(statistics.median(times), 2), "s",
            f"largest {max(times):.2f} s; the second looks every 5 s (update.heartbeat_seconds)",
        )  # fmt: skip


def measure_idle(folder: Path, spaces: list[Workspace]) -> None:
    """Processor and memory of a daemon with nothing to do."""
    for count in (1, 5):
        share, memory = idle(folder, *spaces[:count])
        beside = f"over {IDLE_SECONDS:.0f} s, {RECORDS:,} records in each catalog, start excluded"
        row(
            f"idle, {count} workspace{'s' if count > 1 else ''}: share of one core",
            round(share, 2),
            "%",
            f"limit 0.5; {beside}",
        )
        row(
            f"idle, {count} workspace{'s' if count > 1 else ''}: resident memory",
            round(memory, 1),
            "MB",
            f"limit 80; {beside}",
        )


def main() -> None:
    wanted = [word for word in sys.argv[1:] if word != "--loaded"] or ["starts", "idle"]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        spaces = [make(folder, f"m{n}") for n in range(5 if "idle" in wanted else 1)]
        if "starts" in wanted:
            measure_starts(folder, spaces[0])
        if "idle" in wanted:
            measure_idle(folder, spaces)


if __name__ == "__main__":
    main()
