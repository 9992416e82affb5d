"""Simulated months of a daemon's life, with everything that goes wrong: used by test and benchmark.

Real: the daemon's loop, lease, triggers, back-off, probation and outbox; catalog, inbox, claims, ingest,
registry, journal, serving pointer; processes, SIGKILL, the memory limit, a full file system. Injected: the
clock, which runs many thousand times as fast and is set forward and back. Scripted: the trainer
(`tests.scripted_child`, a real child process with the real protocol), what a loaded model answers, and
what probation measures, because real training of months would take months.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import mmap
import os
import random
import signal
import sqlite3
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from contlearn.workspace import Workspace
from tests.scripted import ScriptedContext, make_workspace, scan_here

START = datetime(2030, 3, 1, tzinfo=UTC)
ZONE = "Europe/Berlin"
SETTINGS = f"""
[update]
schedule = "0 3 * * *"
timezone = "{ZONE}"
min_new_records = 40
max_wait = "2d"
cooldown = "1h"
quiet_hours = ["sat 12:00-18:00"]
max_minutes_per_day = 1200
heartbeat_seconds = 0.2
lease_seconds = 2.0
[daemon]
scan_seconds = 0.02
retry_seconds = "10m"
max_retry_seconds = "2h"
memory_bytes = 60000000
grace_seconds = 0.2
[probation]
window = "6h"
check_interval = "1h"
min_labels = 5
[notifications]
channels = [{{name = "c", kind = "command", command = ["true"], events = ["nothing"]}}]
"""


class SimulatedClock:
    """Wall and running time of the simulation, shared by processes: real time, many times as fast.

    Args:
        path: A file of 16 bytes: seconds the wall clock was set by, and the speed.
    """

    def __init__(self, path: Path) -> None:
        with path.open("r+b") as file:
            self._shared = mmap.mmap(file.fileno(), 24)

    @classmethod
    def make(cls, path: Path, speed: float) -> SimulatedClock:
        path.write_bytes(struct.pack("ddd", 0.0, speed, time.monotonic()))
        return cls(path)

    def now(self) -> datetime:
        return START + timedelta(
            seconds=self.monotonic() + struct.unpack_from("d", self._shared, 0)[0]
        )

    def monotonic(self) -> float:
        speed, began = struct.unpack_from("dd", self._shared, 8)
        return (time.monotonic() - began) * speed

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds / struct.unpack_from("d", self._shared, 8)[0])

    def jump(self, seconds: float) -> None:
        (offset,) = struct.unpack_from("d", self._shared, 0)
        struct.pack_into("d", self._shared, 0, offset + seconds)


@dataclass
class Soak:
    """One simulated life. `run` gives what was seen, and fails on anything that must not be."""

    root: Path
    kills: int
    seed: int = 0
    speed: float = 43200.0
    pause: tuple[float, float] = (0.05, 1.0)
    seen: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    rows: int = 0

    def run(self) -> dict[str, Any]:
        self.chance = random.Random(self.seed)
        self.workspace = make_workspace(self.root / "ws", SETTINGS)
        self.clock = SimulatedClock.make(self.root / "clock", self.speed)
        self.stop = threading.Event()
        reader = threading.Thread(target=self._read_served)
        reader.start()
        began = time.monotonic()
        try:
            self._live()
            lived = self.clock.monotonic()
            memory = self._drain()
        finally:
            self.stop.set()
            reader.join()
        self._examine()
        return {
            **self.seen,
            "rows": self.rows,
            "days": round(lived / 86400),
            "seconds": round(time.monotonic() - began),
            "memory": memory,
            "problems": self.problems,
        }

    # -- life -----------------------------------------------------------------------------------

    def _live(self) -> None:
        daemons = [self._start()]
        next_drop = next_jump = next_fill = 0.0
        ballast = self.root / "ballast"
        while self.seen["kills"] < self.kills:
            now = time.monotonic()
            if now >= next_drop:
                next_drop = now + self.chance.uniform(0.2, 0.8)
                self._drop()
            if now >= next_jump:
                next_jump = now + self.chance.uniform(5.0, 20.0)
                self._jump()
            if now >= next_fill:
                next_fill = now + self.chance.uniform(10.0, 30.0)
                self._fill(ballast)
            time.sleep(self.chance.uniform(*self.pause))
            if len(daemons) == 1 and self.chance.random() < 0.2:
                daemons.append(self._start())  # one that stands by, and takes over
                self.seen["second_daemons"] += 1
            victim = daemons.pop(self.chance.randrange(len(daemons)))
            os.kill(victim, signal.SIGKILL)
            os.waitpid(victim, 0)
            self.seen["kills"] += 1
            if not daemons:
                daemons.append(self._start())
            if ballast.exists() and self.chance.random() < 0.5:
                ballast.unlink()
        ballast.unlink(missing_ok=True)
        for pid in daemons:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)

    def _drain(self) -> list[float]:
        """Let one daemon live in peace until nothing waits; give its memory at times, in MB."""
        pid = self._start()
        memory = []
        deadline = time.monotonic() + 900.0
        rounds = 0
        while rounds < 6:
            for _ in range(4):
                self._drop(label="calm")
            while self._open_records():
                if time.monotonic() > deadline:
                    self.problems.append(f"wedged with {self._open_records()} open records: "
                                         f"{self._state()}")  # fmt: skip
                    rounds = 99
                    break
                time.sleep(0.3)
            memory.append(_resident(pid))
            rounds += 1
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + 30.0
        while os.waitpid(pid, os.WNOHANG) == (0, 0):
            if time.monotonic() > deadline:
                self.problems.append("SIGTERM did not end the daemon")
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                break
            time.sleep(0.1)
        return memory

    def _start(self) -> int:
        pid = os.fork()
        if pid:
            return pid
        try:
            with (self.root / "daemon.log").open("a") as log:
                os.dup2(log.fileno(), 1)
                os.dup2(log.fileno(), 2)
            daemon_process(self.workspace, self.root / "clock")
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(0)

    def _drop(self, label: str | None = None) -> None:
        kinds = ("calm", "bad", "crash", "hog", "worse")
        label = label or self.chance.choices(kinds, (90, 3, 2, 2, 3))[0]
        count, number = self.chance.randint(3, 15), self.seen["files"]
        rows = "".join(
            json.dumps({"text": f"{label} file {number} row {n}", "label": label}) + "\n"
            for n in range(count)
        )
        hidden, target = (
            self.workspace.inbox / f".{number}",
            self.workspace.inbox / f"{number}.jsonl",
        )
        try:
            hidden.write_text(rows)
        except OSError:  # the disk is full: whoever writes here tries again later
            hidden.unlink(missing_ok=True)
            return
        hidden.rename(target)
        self.seen["files"] += 1
        self.rows += count

    def _jump(self) -> None:
        hours = self.chance.choice((-30, -3, -1, -0.02, 0.5, 2, 50, 120))
        self.clock.jump(3600 * hours)
        self.seen["jumps_back" if hours < 0 else "jumps_forward"] += 1

    def _fill(self, ballast: Path) -> None:
        facts = os.statvfs(self.root)
        if facts.f_blocks * facts.f_frsize > 1e9:
            return  # not a small file system of our own
        with contextlib.suppress(OSError), ballast.open("wb") as file:
            while True:
                file.write(b"x" * 1_000_000)
        self.seen["full_disks"] += 1

    def _open_records(self) -> int:
        # In the order of a file's way, so that none is passed by: inbox, claimed, catalog.
        waiting = sum(1 for p in self.workspace.inbox.iterdir() if not p.name.startswith("."))
        waiting += sum(1 for p in self.workspace.claimed.glob("*/*") if not p.name.startswith("."))
        with contextlib.suppress(sqlite3.Error), self._catalog() as catalog:
            query = "select count(*) from records where state in ('pending', 'refused')"
            return waiting + int(catalog.execute(query).fetchone()[0])
        return waiting + 1

    def _state(self) -> str:
        with contextlib.suppress(OSError):
            return (self.workspace.state / "daemon.json").read_text()[:800]
        return ""

    @contextlib.contextmanager
    def _catalog(self) -> Iterator[sqlite3.Connection]:
        path = f"{(self.workspace.state / 'catalog.sqlite').as_uri()}?mode=ro"
        with contextlib.closing(sqlite3.connect(path, uri=True, timeout=10)) as catalog:
            yield catalog

    # -- what must hold -------------------------------------------------------------------------

    def _read_served(self) -> None:
        """All the time: the pointer names a version that is there, whole, in the serving folder."""
        serving = self.workspace.root / "serving" / "test"
        served = False
        while not self.stop.wait(0.02):
            try:
                pointer = json.loads((serving / "current.json").read_bytes())
            except FileNotFoundError:
                if served:
                    self.problems.append("the pointer to the served version is gone")
                continue
            except ValueError as error:
                self.problems.append(f"the pointer is torn: {error}")
                continue
            served = True
            self.seen["pointer_reads"] += 1
            model = serving / str(pointer["version"]) / "model.onnx"
            manifest = serving / str(pointer["version"]) / "manifest.json"
            try:
                facts = json.loads(manifest.read_bytes())["files"]
                entry = facts["onnx/model.onnx"] if isinstance(facts, dict) else next(
                    f for f in facts if f["path"] == "onnx/model.onnx"
                )  # fmt: skip
                if hashlib.sha256(model.read_bytes()).hexdigest() != entry["sha256"]:
                    self.problems.append(f"version {pointer['version']} is served damaged")
            except FileNotFoundError:
                now = json.loads((serving / "current.json").read_bytes())
                if now == pointer:
                    self.problems.append(f"version {pointer['version']} is served and not there")

    def _examine(self) -> None:
        with self._catalog() as catalog:
            states = dict(catalog.execute("select state, count(*) from records group by state"))
            cycles = catalog.execute(
                "select cycle_id, run_key, trigger, outcome from cycles"
            ).fetchall()
            silent = catalog.execute(
                "select count(*) from records where state = 'held' and coalesce(reason, '') = ''"
            ).fetchone()[0]
            memberships = catalog.execute(
                "select record_id, cycle_id from cycle_records"
            ).fetchall()
            learnt = {
                r[0]
                for r in catalog.execute("select record_id from records where state = 'learnt'")
            }
        self.seen.update({f"records_{state}": number for state, number in states.items()})
        for _, _, trigger, outcome in cycles:
            self.seen[f"outcome_{outcome}"] += 1
            self.seen[f"trigger_{trigger}"] += 1
        if sum(states.values()) != self.rows:
            self.problems.append(
                f"{self.rows} rows were dropped, {sum(states.values())} records are known"
            )
        left = {state: n for state, n in states.items() if state not in ("learnt", "held")}
        if left:
            self.problems.append(f"records are left: {left}")
        if silent:
            self.problems.append(f"{silent} records are held without a reason")
        keys = [key for _, key, _, _ in cycles]
        if None in keys or len(set(keys)) != len(keys):
            self.problems.append("a cause started two cycles, or a cycle has no cause")
        moments = [key.removeprefix("cron-") for key in keys if (key or "").startswith("cron-")]
        for moment in moments:
            local = datetime.fromisoformat(moment).astimezone(ZoneInfo(ZONE))
            if (local.hour, local.minute) != (3, 0):
                self.problems.append(f"the schedule ran for {local}")
        pointer = json.loads((self.workspace.root / "serving/test/current.json").read_bytes())
        manifest = json.loads(
            (self.workspace.versions / str(pointer["version"]) / "manifest.json").read_bytes()
        )
        lineage = set(manifest["lineage"]["experiences"])
        times: Counter[str] = Counter(record for record, cycle in memberships if cycle in lineage)
        # What the champion stands on is what is called learnt: each record once, none besides.
        if set(times) != learnt or set(times.values()) - {1}:
            twice = sum(number > 1 for number in times.values())
            self.problems.append(
                f"{len(learnt)} records are called learnt, {len(times)} stand in the champion's "
                f"lineage, {twice} of them twice"
            )
        journal = (self.workspace.versions / "events.jsonl").read_text().splitlines()
        events = [json.loads(line) for line in journal]
        self.seen["rollbacks"] = sum(event["event"] == "rollback" for event in events)
        from contlearn.registry.journal import Journal
        from contlearn.workspace import FileOperations

        bad = Journal(
            self.workspace.versions / "events.jsonl", files=FileOperations(), clock=self.clock
        ).verify()
        self.problems += [f"journal: {problem}" for problem in bad]


def daemon_process(workspace: Workspace, clock: Path) -> None:
    """Be the daemon until killed or asked to end."""
    from contlearn.daemon import Watch
    from contlearn.daemon.probation import Probation
    from contlearn.daemon.slot import UpdateSlot

    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    context = ScriptedContext.open(workspace.root, clock=SimulatedClock(clock))

    def compare(version: int, former: int, after: int) -> dict[str, int]:
        """A version that learnt "worse" is worse on new labels; nothing else is."""
        cycle = context.registry.get(version).manifest.lineage.cycle
        path = f"{(workspace.state / 'catalog.sqlite').as_uri()}?mode=ro"
        with sqlite3.connect(path, uri=True) as catalog:
            worse = catalog.execute(
                "select count(*) from cycle_records join records using (record_id) "
                "where cycle_records.cycle_id = ? and key = 'worse'",
                (cycle,),
            ).fetchone()[0]
        lost = 30 if worse else 0
        return {
            "rows": 40,
            "right": 40 - lost,
            "former_right": 40,
            "lost": lost,
            "won": 0,
            "differing": lost,
        }

    watch = Watch(
        context,
        UpdateSlot(workspace.root / "slot"),
        stop,
        standby=True,
        child="tests.scripted_child",
        scan=scan_here,
    )
    watch.probation = Probation(context, compare)
    watch.run()


def _resident(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1)


@contextlib.contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """Give a small file system to fill; the folder itself where none may be mounted."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    try:
        yield folder
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], check=True)


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as temporary, small_disk(Path(temporary), 200) as root:
        soak = Soak(root, kills=int(sys.argv[1]), seed=int(sys.argv[2]) if len(sys.argv) > 2 else 0)
        found = soak.run()
        print(json.dumps(found, indent=1))
        if found["problems"]:
            print("".join((root / "daemon.log").read_text().splitlines(keepends=True)[-60:]))
    sys.exit(1 if found["problems"] else 0)
